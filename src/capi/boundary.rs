//! The one place where C enters: panics end here, NULL and wrong handles are named, outputs stay untouched on failure.

use super::error::mezzo_error_t;
use super::handle::{Handle, Head, Held, Object};
use crate::sys::float_state::FloatState;
use crate::{Error, Result, bail, err};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Handles that one call can mark unusable; no call takes more.
const MAX_HANDLES: usize = 4;
/// No tensor has more dimensions; a larger rank is a mistake in the call.
const MAX_RANK: usize = 64;

/// One call from C. Its methods turn C arguments into Rust ones.
///
/// Having a `Call` means that [`call`] was entered, whose caller promised what the methods need: every pointer argument
/// is what the header says it is. That is why they are safe functions.
pub(super) struct Call {
    name: &'static str,
    handles: [Cell<*const Head>; MAX_HANDLES],
    held: Cell<Option<Held>>,
}

/// Runs the body of an entry point that can fail. A panic becomes `MEZZO_ERROR_INTERNAL` and poisons the handles that
/// the call was using. The caller's floating-point state (flush-to-zero, rounding) is set aside while the body runs.
///
/// # Safety
/// The pointers that `f` gives to the methods of its [`Call`] are what the header's contract says.
pub(super) unsafe fn call(name: &'static str, f: impl FnOnce(&Call) -> Result<()>) -> *mut mezzo_error_t {
    let call = Call { name, handles: std::array::from_fn(|_| Cell::new(std::ptr::null())), held: Cell::new(None) };
    let _state = FloatState::standard();
    match catch_unwind(AssertUnwindSafe(|| f(&call))) {
        Ok(Ok(())) => std::ptr::null_mut(),
        Ok(Err(e)) => mezzo_error_t::boxed(&e),
        Err(payload) => {
            let what = panic_message(payload);
            call.poison();
            mezzo_error_t::boxed(&err!(
                Internal,
                "{name} failed by a bug in Mezzo ({what}): free the handles it was given, which refuse further use, and \
                 report it with the model if you can"
            ))
        }
    }
}

/// Runs an accessor that cannot fail: it answers `default` for NULL, for a handle of another kind, and should it panic.
///
/// # Safety
/// `handle` is NULL or a live handle.
pub(super) unsafe fn read<H: Handle, T: Copy>(handle: *const H, default: T, f: impl FnOnce(&H::Body) -> T) -> T {
    // SAFETY: the caller's promise; the tag is checked before the body is used.
    let object = match unsafe { handle.cast::<Head>().as_ref() } {
        Some(head) if head.is::<H>() => unsafe { &*handle.cast::<Object<H::Body>>() },
        _ => return default,
    };
    guard(default, || f(&object.body))
}

/// The same for a borrowed part of a handle (a description, a row), which has no head of its own.
///
/// # Safety
/// `part` is NULL or points to a part of a live handle.
pub(super) unsafe fn read_part<P, T: Copy>(part: *const P, default: T, f: impl FnOnce(&P) -> T) -> T {
    // SAFETY: the caller's promise.
    match unsafe { part.as_ref() } {
        Some(part) => guard(default, || f(part)),
        None => default,
    }
}

/// Runs `f`; `default` should it panic.
pub(super) fn guard<T>(default: T, f: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => value,
        Err(payload) => {
            std::mem::forget(payload);
            default
        }
    }
}

/// An output argument that was checked; written only at the end of a successful call.
pub(super) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Writes the result.
    pub(super) fn set(self, value: T) {
        // SAFETY: `Call::out` checked the pointer; that it may be written is the contract of the call.
        unsafe { self.0.write(value) }
    }
}

impl Call {
    /// The function that was called.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The error for an argument that is NULL and may not be.
    pub(super) fn null(&self, argument: &str, remedy: &str) -> Error {
        err!(InvalidArgument, "argument '{argument}' of {} is NULL: {remedy}", self.name)
    }

    fn note(&self, head: *const Head) {
        if let Some(free) = self.handles.iter().find(|h| h.get().is_null()) {
            free.set(head);
        }
    }

    fn poison(&self) {
        for head in &self.handles {
            // SAFETY: only live heads are noted, and the caller keeps them alive during the call.
            if let Some(head) = unsafe { head.get().as_ref() } {
                head.poison();
            }
        }
    }

    fn check<H: Handle>(&self, argument: &str, handle: *const H) -> Result<()> {
        let noun = H::NOUN;
        // SAFETY: the promise of `call`: NULL or a pointer to an object, which starts with its head.
        let Some(head) = (unsafe { handle.cast::<Head>().as_ref() }) else {
            return Err(self.null(argument, &format!("give {noun} handle")));
        };
        if !head.is::<H>() {
            bail!(
                InvalidArgument,
                "argument '{argument}' of {} is not {noun} handle: it is a handle of another kind, or was freed",
                self.name
            );
        }
        if head.is_poisoned() {
            bail!(
                InvalidState,
                "argument '{argument}' of {} is {noun} that an internal error in an earlier call left unusable: free \
                 it and make a new one",
                self.name
            );
        }
        self.note(head);
        Ok(())
    }

    /// The body of a handle, to be read.
    pub(super) fn get<'a, H: Handle>(&'a self, argument: &str, handle: *const H) -> Result<&'a H::Body> {
        self.check(argument, handle)?;
        // SAFETY: the tag says what it is, and the caller keeps it alive during the call.
        Ok(unsafe { &(*handle.cast::<Object<H::Body>>()).body })
    }

    /// The body of an exclusive handle, to be changed.
    #[allow(clippy::mut_from_ref)] // the reference comes from the caller's pointer, not from `self`
    pub(super) fn get_mut<'a, H: Handle>(&'a self, argument: &str, handle: *mut H) -> Result<&'a mut H::Body> {
        self.check(argument, handle)?;
        // SAFETY: as above; `T *` is exclusive by the header's rules.
        Ok(unsafe { &mut (*handle.cast::<Object<H::Body>>()).body })
    }

    /// The body of a shared handle, kept alive until the call returns even if another thread frees the handle meanwhile.
    /// One handle per call.
    pub(super) fn get_held<'a, H: Handle>(&'a self, argument: &str, handle: *const H) -> Result<&'a H::Body>
    where
        H::Body: Send + Sync,
    {
        let body = self.get(argument, handle)?;
        // SAFETY: a live handle, by its tag.
        self.held.set(Some(unsafe { Held::new(handle) }));
        Ok(body)
    }

    /// The body of a handle that may be NULL.
    pub(super) fn optional<'a, H: Handle>(&'a self, argument: &str, handle: *const H) -> Result<Option<&'a H::Body>> {
        if handle.is_null() { Ok(None) } else { self.get(argument, handle).map(Some) }
    }

    /// A place for a result.
    pub(super) fn out<T>(&self, argument: &str, out: *mut T) -> Result<Out<T>> {
        self.optional_out(argument, out)?
            .ok_or_else(|| self.null(argument, "give the address of a variable for the result"))
    }

    /// A place for a result that the caller may not want.
    pub(super) fn optional_out<T>(&self, argument: &str, out: *mut T) -> Result<Option<Out<T>>> {
        self.check_aligned(argument, out)?;
        Ok((!out.is_null()).then_some(Out(out)))
    }

    /// A string.
    pub(super) fn text<'a>(&'a self, argument: &str, text: *const c_char) -> Result<&'a str> {
        if text.is_null() {
            return Err(self.null(argument, "give a string"));
        }
        // SAFETY: the promise of `call`: a string that ends with a zero.
        let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
        std::str::from_utf8(bytes).map_err(|e| {
            err!(
                InvalidArgument,
                "argument '{argument}' of {} is not UTF-8 (byte {:#04x} at {}): give strings as UTF-8",
                self.name,
                bytes[e.valid_up_to()],
                e.valid_up_to()
            )
        })
    }

    /// A file name. Where the system's names are bytes they are taken as they are, elsewhere as UTF-8.
    pub(super) fn path<'a>(&'a self, argument: &str, path: *const c_char) -> Result<&'a Path> {
        if path.is_null() {
            return Err(self.null(argument, "give a path"));
        }
        // SAFETY: the promise of `call`: a string that ends with a zero.
        if unsafe { *path } == 0 {
            bail!(InvalidArgument, "argument '{argument}' of {} is an empty string: give a path", self.name);
        }
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            // SAFETY: as above.
            let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
            Ok(Path::new(std::ffi::OsStr::from_bytes(bytes)))
        }
        #[cfg(not(unix))]
        self.text(argument, path).map(Path::new)
    }

    /// An array to be read; NULL is an array of nothing.
    pub(super) fn slice<'a, T>(&'a self, argument: &str, data: *const T, count: usize) -> Result<&'a [T]> {
        if count == 0 {
            return Ok(&[]);
        }
        self.check_array(argument, data, count)?;
        // SAFETY: the promise of `call`: `count` readable elements; alignment and size were checked.
        Ok(unsafe { std::slice::from_raw_parts(data, count) })
    }

    /// An array to be written; NULL is an array of nothing.
    #[allow(clippy::mut_from_ref)] // the reference comes from the caller's pointer, not from `self`
    pub(super) fn slice_mut<'a, T>(&'a self, argument: &str, data: *mut T, count: usize) -> Result<&'a mut [T]> {
        if count == 0 {
            return Ok(&mut []);
        }
        self.check_array(argument, data, count)?;
        // SAFETY: as above, and writable.
        Ok(unsafe { std::slice::from_raw_parts_mut(data, count) })
    }

    /// An error unless `data` can be the address of `size` bytes. (For copies that may overlap, where no slice may be
    /// made.)
    pub(super) fn bytes_given(&self, argument: &str, data: *const c_void, size: usize) -> Result<()> {
        if size == 0 { Ok(()) } else { self.check_array(argument, data.cast::<u8>(), size) }
    }

    /// Dimensions.
    pub(super) fn dims(&self, argument: &str, dims: *const i64, rank: usize) -> Result<Vec<usize>> {
        if rank > MAX_RANK {
            bail!(
                InvalidArgument,
                "argument 'rank' of {} is {rank}: tensors have at most {MAX_RANK} dimensions",
                self.name
            );
        }
        let dims = self.slice(argument, dims, rank)?;
        dims.iter()
            .enumerate()
            .map(|(i, &d)| {
                usize::try_from(d).map_err(|_| {
                    err!(
                        InvalidArgument,
                        "argument '{argument}' of {} has {d} at place {i}: a dimension is 0 or more",
                        self.name
                    )
                })
            })
            .collect()
    }

    /// An index below `count`; `what` is the plural of what is counted.
    pub(super) fn index(&self, argument: &str, index: usize, count: usize, what: &str) -> Result<usize> {
        if index < count {
            return Ok(index);
        }
        bail!(
            InvalidArgument,
            "argument '{argument}' of {} is {index}, but there are {count} {what}: count from 0",
            self.name
        )
    }

    /// A callback or another argument that must be given.
    pub(super) fn given<T>(&self, argument: &str, value: Option<T>, remedy: &str) -> Result<T> {
        value.ok_or_else(|| self.null(argument, remedy))
    }

    /// An error about one argument.
    pub(super) fn invalid(&self, argument: &str, problem: impl std::fmt::Display) -> Error {
        err!(InvalidArgument, "argument '{argument}' of {} {problem}", self.name)
    }

    fn check_array<T>(&self, argument: &str, data: *const T, count: usize) -> Result<()> {
        if data.is_null() {
            return Err(self.null(argument, &format!("give the {count} elements that the call announces")));
        }
        if count.checked_mul(size_of::<T>()).is_none_or(|bytes| isize::try_from(bytes).is_err()) {
            return Err(self.invalid(argument, format_args!("cannot have {count} elements: no memory is that large")));
        }
        self.check_aligned(argument, data)
    }

    fn check_aligned<T>(&self, argument: &str, data: *const T) -> Result<()> {
        if data.is_aligned() {
            return Ok(());
        }
        Err(self.invalid(argument, format_args!("is not aligned to {} bytes", align_of::<T>())))
    }
}

fn panic_message(payload: Box<dyn std::any::Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(s), _) => (*s).to_string(),
        (None, Some(s)) => s.clone(),
        _ => "a panic without a message".to_string(),
    };
    // A payload of unknown type may panic again when it is dropped.
    std::mem::forget(payload);
    text
}

#[cfg(test)]
mod tests {
    use super::super::error::{mezzo_error_code, mezzo_error_free, mezzo_error_message};
    use super::super::handle::{free_shared, handle, shared};
    use super::*;
    use crate::ErrorCode;

    struct Thing;
    handle!(Thing, u32, "a thing", b"thng");
    struct Other;
    handle!(Other, u32, "another thing", b"othr");

    fn outcome(e: *mut mezzo_error_t) -> (i32, String) {
        // SAFETY: a fresh error or NULL.
        unsafe {
            let result =
                (mezzo_error_code(e), CStr::from_ptr(mezzo_error_message(e)).to_str().unwrap_or("?").to_string());
            mezzo_error_free(e);
            result
        }
    }

    #[test]
    fn a_panic_becomes_an_error_and_poisons_the_handle() {
        let thing = shared::<Thing>(7);
        // SAFETY: a live handle.
        unsafe {
            let e = call("mezzo_test", |c| {
                let n = *c.get("thing", thing)?;
                assert_eq!(n, 8, "seven is not eight");
                Ok(())
            });
            let (code, message) = outcome(e);
            assert_eq!(code, ErrorCode::Internal as i32);
            assert!(message.contains("mezzo_test") && message.contains("seven is not eight"), "{message}");
            let (code, message) = outcome(call("mezzo_again", |c| c.get("thing", thing).map(drop)));
            assert_eq!(code, ErrorCode::InvalidState as i32);
            assert!(message.contains("mezzo_again") && message.contains("free it"), "{message}");
            free_shared(thing);
        }
    }

    #[test]
    fn wrong_arguments_are_named() {
        let thing = shared::<Thing>(7);
        let refused = |f: &dyn Fn(&Call) -> Result<()>, words: &[&str]| {
            // SAFETY: the pointers below are what they claim to be.
            let (code, message) = outcome(unsafe { call("mezzo_test", |c| f(c)) });
            assert_eq!(code, ErrorCode::InvalidArgument as i32, "{message}");
            words.iter().for_each(|w| assert!(message.contains(w), "'{w}' is not in: {message}"));
        };
        refused(&|c| c.get::<Thing>("thing", std::ptr::null()).map(drop), &["'thing'", "mezzo_test", "NULL"]);
        refused(&|c| c.get::<Other>("other", thing.cast()).map(drop), &["'other'", "not another thing handle"]);
        refused(&|c| c.text("name", std::ptr::null()).map(drop), &["'name'", "NULL"]);
        refused(&|c| c.text("name", c"caf\xe9".as_ptr()).map(drop), &["'name'", "UTF-8", "0xe9 at 3"]);
        refused(&|c| c.path("path", c"".as_ptr()).map(drop), &["'path'", "empty"]);
        refused(&|c| c.slice::<u32>("data", std::ptr::null(), 3).map(drop), &["'data'", "NULL", "3"]);
        refused(&|c| c.slice("data", [0u32].as_ptr(), usize::MAX).map(drop), &["'data'", "no memory"]);
        let crooked = [0u32; 2].as_ptr().wrapping_byte_add(2);
        refused(&|c| c.slice("data", crooked, 1).map(drop), &["'data'", "aligned to 4"]);
        refused(&|c| c.dims("dims", [2, -3].as_ptr(), 2).map(drop), &["'dims'", "-3", "place 1"]);
        refused(&|c| c.dims("dims", [2].as_ptr(), 65).map(drop), &["'rank'", "65"]);
        refused(&|c| c.out::<u32>("out", std::ptr::null_mut()).map(drop), &["'out'", "NULL"]);
        refused(&|c| c.index("index", 3, 3, "inputs").map(drop), &["'index'", "3 inputs"]);
        // SAFETY: a live handle, not used again.
        unsafe { free_shared(thing) };
    }

    #[test]
    fn every_entry_names_itself() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/capi");
        let mut entries = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for function in source.split("pub unsafe extern \"C\" fn ").skip(1) {
                let name = &function[..function.find('(').unwrap()];
                let body = &function[..function.find("\n}").unwrap_or(function.len())];
                if let Some(at) = body.find("call(\"") {
                    assert!(body[at + 6..].starts_with(&format!("{name}\"")), "{name} announces another name");
                    entries += 1;
                }
            }
        }
        assert!(entries > 10);
    }
}
