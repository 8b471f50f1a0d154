//! The end of a caught exception: what it was, and its memory given back.

use super::frame::Exception;
use crate::error::{Error, ErrorCode, ErrorDomain};
use crate::sys::dl;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

/// What is told of an exception.
pub struct Thrown {
    /// The C++ type, if it can be told.
    kind: Option<String>,
}

impl Thrown {
    pub fn into_error(self, what: &str) -> Error {
        let (code, meaning) = match self.kind.as_deref() {
            Some("std::bad_alloc") => (ErrorCode::OutOfMemory, "there is too little memory. Free some"),
            _ => (
                ErrorCode::Unsupported,
                "the library failed at something in the model. Try a newer TensorRT, or the CPU backend",
            ),
        };
        let kind = self.kind.map_or("an exception of unknown type".into(), |k| format!("the C++ exception {k}"));
        Error::foreign(code, ErrorDomain::TensorRt, 0, format!("{what} threw {kind}: {meaning}"))
    }
}

unsafe extern "C" {
    fn _Unwind_DeleteException(exception: *mut Exception);
}

/// Ends an exception that the frame caught.
pub fn end(exception: NonNull<Exception>) -> Thrown {
    let exception = exception.as_ptr();
    // SAFETY: a caught exception, which is ours to end, once: by the C++ library that threw it, or by the unwinder.
    unsafe {
        if let Some(library) = Library::that_threw(exception) {
            return Thrown { kind: library.end(exception) };
        }
        _Unwind_DeleteException(exception);
    }
    Thrown { kind: None }
}

type BeginCatch = unsafe extern "C" fn(exception: *mut c_void) -> *mut c_void;
type EndCatch = unsafe extern "C" fn();
type CurrentType = unsafe extern "C" fn() -> *const c_void;
type Demangle = unsafe extern "C" fn(*const c_char, *mut c_char, *mut usize, *mut c_int) -> *mut c_char;

/// What the C++ library has for those who catch, in the Itanium C++ ABI.
struct Library {
    begin_catch: BeginCatch,
    end_catch: EndCatch,
    current_type: CurrentType,
    demangle: Demangle,
}

impl Library {
    /// The GNU C++ library, if it is in the process and this very copy threw the exception. Another copy, linked into
    /// TensorRT, counts what is thrown on its own.
    ///
    /// # Safety
    /// A live exception.
    unsafe fn that_threw(exception: *mut Exception) -> Option<Library> {
        // SAFETY: by this function's contract.
        let (class, cleanup) = unsafe { ((*exception).class, (*exception).cleanup?) };
        // The last letter tells exceptions from those that std::rethrow_exception throws again.
        if class >> 8 != u64::from_be_bytes(*b"\0GNUCC++") {
            return None;
        }
        let library = dl::Library::loaded(c"libstdc++.so.6")?;
        let begin_catch = library.symbol("__cxa_begin_catch")?;
        if dl::file_of(begin_catch)? != dl::file_of(NonNull::new(cleanup as *mut c_void)?)? {
            return None;
        }
        // SAFETY: the functions have these signatures in every version.
        unsafe {
            Some(Library {
                begin_catch: std::mem::transmute::<*mut c_void, BeginCatch>(begin_catch.as_ptr()),
                end_catch: std::mem::transmute::<*mut c_void, EndCatch>(library.symbol("__cxa_end_catch")?.as_ptr()),
                current_type: std::mem::transmute::<*mut c_void, CurrentType>(
                    library.symbol("__cxa_current_exception_type")?.as_ptr(),
                ),
                demangle: std::mem::transmute::<*mut c_void, Demangle>(library.symbol("__cxa_demangle")?.as_ptr()),
            })
        }
    }

    /// Catches and ends the exception as C++ does; its type's name.
    ///
    /// # Safety
    /// A live exception of this library's, which is gone afterwards.
    unsafe fn end(&self, exception: *mut Exception) -> Option<String> {
        // SAFETY: between begin and end the exception is the current one. Type information holds, behind its virtual
        // table, the address of a C string that lives as long as the library that has the type.
        unsafe {
            (self.begin_catch)(exception.cast());
            let info = (self.current_type)().cast::<*const c_char>();
            let name = if info.is_null() { None } else { self.name(*info.add(1)) };
            (self.end_catch)();
            name
        }
    }

    /// A type's name as C++ programmers write it.
    ///
    /// # Safety
    /// NULL or a C string.
    unsafe fn name(&self, mangled: *const c_char) -> Option<String> {
        if mangled.is_null() {
            return None;
        }
        let mut status = 0;
        // SAFETY: a C string, which has a star before it where the type is of one file only; with no buffer given the
        // result is one that malloc made, or NULL.
        unsafe {
            let mangled = if *mangled == b'*' as c_char { mangled.add(1) } else { mangled };
            let plain = (self.demangle)(mangled, ptr::null_mut(), ptr::null_mut(), &raw mut status);
            let name = CStr::from_ptr(if plain.is_null() { mangled } else { plain }).to_string_lossy().into_owned();
            libc::free(plain.cast());
            Some(name)
        }
    }
}
