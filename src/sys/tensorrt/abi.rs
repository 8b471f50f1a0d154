//! How TensorRT's objects look in memory, and how a method is called.
//!
//! A public object (what factories return and other objects take) begins with its own virtual table and a pointer to its
//! implementation; methods stand in the implementation's virtual table, which takes the implementation as `this`. The
//! destructor stands in slot 1 of the public table. The ONNX parser's objects are plain: their own table holds all.

use crate::{Result, bail};
use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

/// Factories that fail may give a small number that is not zero instead of a pointer; no object lives there.
const LOWEST_ADDRESS: usize = 4096;
/// The most dimensions a tensor of TensorRT has.
pub const MAX_RANK: usize = 8;

/// A pointer to a foreign object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object(NonNull<c_void>);

impl Object {
    /// The object a call returned, if it returned one.
    pub fn returned(pointer: *mut c_void) -> Option<Object> {
        NonNull::new(pointer).filter(|p| p.addr().get() >= LOWEST_ADDRESS).map(Object)
    }

    /// The address, to be passed where the C++ signature has a pointer or a reference.
    pub fn as_ptr(self) -> *mut c_void {
        self.0.as_ptr()
    }

    /// The implementation behind a public object.
    ///
    /// # Safety
    /// The object is alive and has an implementation pointer behind its virtual table.
    pub unsafe fn implementation(self) -> *mut c_void {
        // SAFETY: by this function's contract the second word is the pointer.
        unsafe { *self.0.as_ptr().cast::<*mut c_void>().add(1) }
    }

    /// Calls the deleting destructor in `slot` of the object's own table.
    ///
    /// # Safety
    /// The object is alive, its own, not used afterwards, and the slot holds that destructor.
    pub unsafe fn delete(self, slot: u16) {
        // SAFETY: by this function's contract.
        unsafe {
            let delete = function(self.as_ptr(), slot);
            let delete: unsafe extern "C" fn(*mut c_void) = std::mem::transmute(delete);
            delete(self.as_ptr());
        }
    }
}

/// The function in a slot of the virtual table that an object begins with.
///
/// # Safety
/// `this` points to a live C++ object whose virtual table has that slot.
pub unsafe fn function(this: *mut c_void, slot: u16) -> *const c_void {
    // SAFETY: by this function's contract the first word points to the table.
    unsafe { *(*this.cast::<*const *const c_void>()).add(usize::from(slot)) }
}

/// `call!(this, slot, fn(i32) -> bool, 3)` calls the method in a slot with the C++ calling convention of Linux, which
/// is C's with `this` as the first argument. A method may throw: `foreign::catching` says what then. Unsafe: `this` must
/// be alive and the slot must hold a method of that signature.
macro_rules! call {
    ($this:expr, $slot:expr, fn($($type:ty),*) $(-> $result:ty)? $(, $argument:expr)* $(,)?) => {{
        let this: *mut std::ffi::c_void = $this;
        let method = $crate::sys::tensorrt::abi::function(this, $slot);
        let method: unsafe extern "C-unwind" fn(*mut std::ffi::c_void $(, $type)*) $(-> $result)? =
            std::mem::transmute(method);
        method(this $(, $argument)*)
    }};
}
pub(super) use call;

/// Dimensions up to TensorRT 9.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Dims32 {
    rank: i32,
    sizes: [i32; MAX_RANK],
}

/// Dimensions from TensorRT 10 on and in TensorRT-RTX.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Dims64 {
    rank: i32,
    sizes: [i64; MAX_RANK],
}

const _: () = assert!(size_of::<Dims32>() == 36 && size_of::<Dims64>() == 72);

impl Dims64 {
    /// The dimensions of a shape; an error if it has more than eight.
    pub fn new(shape: &[i64]) -> Result<Dims64> {
        let mut sizes = [0; MAX_RANK];
        let Some(used) = sizes.get_mut(..shape.len()) else {
            bail!(
                Unsupported,
                "TensorRT has at most {MAX_RANK} dimensions, and a shape has {}: {shape:?}",
                shape.len()
            );
        };
        used.copy_from_slice(shape);
        Ok(Dims64 { rank: shape.len() as i32, sizes })
    }

    /// As the older structure; an error if a size does not fit.
    pub fn narrow(&self) -> Result<Dims32> {
        let mut sizes = [0; MAX_RANK];
        for (narrow, wide) in sizes.iter_mut().zip(self.sizes) {
            let Ok(n) = i32::try_from(wide) else {
                bail!(Unsupported, "TensorRT 8 has dimensions up to {}, and one is {wide}", i32::MAX);
            };
            *narrow = n;
        }
        Ok(Dims32 { rank: self.rank, sizes })
    }

    /// The sizes, -1 where one is dynamic; `None` if not even the rank is known.
    pub fn shape(&self) -> Option<Vec<i64>> {
        self.sizes.get(..usize::try_from(self.rank).ok()?).map(<[i64]>::to_vec)
    }
}

impl Dims32 {
    /// As the newer structure.
    pub fn widen(&self) -> Dims64 {
        Dims64 { rank: self.rank, sizes: self.sizes.map(i64::from) }
    }
}

/// A copy of a C string of the library's; empty for NULL.
///
/// # Safety
/// NULL, or a C string that lives during the call.
pub unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_go_both_ways() {
        let dims = Dims64::new(&[-1, 3, 224]).unwrap();
        assert_eq!(dims.narrow().unwrap().widen().shape(), Some(vec![-1, 3, 224]));
        assert!(Dims64::new(&[1; 9]).unwrap_err().message().contains("at most 8"));
        assert!(Dims64::new(&[1 << 40]).unwrap().narrow().is_err());
        assert_eq!(Dims64 { rank: -1, sizes: [0; 8] }.shape(), None);
        assert_eq!(Dims64 { rank: 9, sizes: [0; 8] }.shape(), None);
    }

    #[test]
    fn small_numbers_are_no_objects() {
        assert_eq!(Object::returned(std::ptr::null_mut()), None);
        assert_eq!(Object::returned(std::ptr::without_provenance_mut(0x228)), None);
        assert!(Object::returned(std::ptr::without_provenance_mut(0x7f00_0000_1000)).is_some());
    }

    /// An object made by hand: the second entry of its table doubles.
    #[test]
    fn a_method_is_called_through_its_slot() {
        extern "C" fn unused(_: *mut c_void) {}
        extern "C" fn twice(this: *mut c_void, n: i32) -> i64 {
            // SAFETY: the test's object begins with its table and holds a number behind it.
            i64::from(n) * 2 + unsafe { *this.cast::<usize>().add(1) } as i64
        }
        let table = [unused as *const c_void, twice as *const c_void];
        let mut object = [table.as_ptr() as usize, 100];
        // SAFETY: the object is built as a C++ object is, and slot 1 has this signature.
        let result = unsafe { call!(object.as_mut_ptr().cast(), 1, fn(i32) -> i64, 21) };
        assert_eq!(result, 142);
    }
}
