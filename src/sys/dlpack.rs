//! DLPack's versioned tensor, which frameworks pass between each other (dmlc/dlpack, version 1).

use super::memory::Release;
use crate::{Result, bail};
use std::any::Any;
use std::ffi::c_void;

/// The major version of the structure; a tensor of another must not be looked at further.
const MAJOR: u32 = 1;
/// Flag: the consumer must not write.
const READ_ONLY: u64 = 1;

/// Kinds of devices.
pub const CPU: i32 = 1;
/// CUDA device memory.
pub const CUDA: i32 = 2;
/// Pinned host memory.
pub const CUDA_HOST: i32 = 3;

#[repr(C)]
struct Version {
    major: u32,
    minor: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Place {
    kind: i32,
    id: i32,
}

/// An element type.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// 0 signed integer, 1 unsigned, 2 IEEE float, 4 bfloat, 5 complex, 6 bool.
    pub code: u8,
    /// Bits of an element.
    pub bits: u8,
    /// Elements of a vector; 1 for scalars.
    pub lanes: u16,
}

#[repr(C)]
struct Tensor {
    data: *mut c_void,
    place: Place,
    rank: i32,
    element: Element,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
pub struct Managed {
    version: Version,
    manager: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
    flags: u64,
    tensor: Tensor,
}

/// What an exported tensor owns.
struct Exported {
    managed: Managed,
    dims: Vec<i64>,
    strides: Vec<i64>,
    _keeper: Box<dyn Any + Send>,
}

/// A tensor as both sides understand it: row-major, without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its address, of the host or of a device.
    pub address: u64,
    /// The kind of memory.
    pub kind: i32,
    /// The device's number.
    pub device: i32,
    /// Its element type.
    pub element: Element,
    /// Its shape.
    pub dims: Vec<i64>,
}

/// Makes a tensor for another framework; what keeps its memory alive goes when that framework calls the deleter.
pub fn export(tensor: Description, keeper: Box<dyn Any + Send>) -> *mut Managed {
    let mut strides = vec![1i64; tensor.dims.len()];
    for i in (1..tensor.dims.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(tensor.dims[i].max(1));
    }
    let mut exported = Box::new(Exported {
        managed: Managed {
            version: Version { major: MAJOR, minor: 0 },
            manager: std::ptr::null_mut(),
            deleter: Some(delete_exported),
            flags: 0,
            tensor: Tensor {
                data: std::ptr::with_exposed_provenance_mut(tensor.address as usize),
                place: Place { kind: tensor.kind, id: tensor.device },
                rank: tensor.dims.len() as i32,
                element: tensor.element,
                shape: std::ptr::null_mut(),
                strides: std::ptr::null_mut(),
                byte_offset: 0,
            },
        },
        dims: tensor.dims,
        strides,
        _keeper: keeper,
    });
    exported.managed.tensor.shape = exported.dims.as_mut_ptr();
    exported.managed.tensor.strides = exported.strides.as_mut_ptr();
    let pointer = Box::into_raw(exported);
    // SAFETY: the box was just given up; the deleter takes it back through `manager`.
    unsafe {
        (*pointer).managed.manager = pointer.cast();
        &raw mut (*pointer).managed
    }
}

unsafe extern "C" fn delete_exported(managed: *mut Managed) {
    // SAFETY: DLPack's contract: called once, with the tensor that `export` made.
    unsafe { drop(Box::from_raw((*managed).manager.cast::<Exported>())) }
}

/// Looks at a tensor of another framework.
///
/// # Safety
/// `managed` points to a live `DLManagedTensorVersioned`.
pub unsafe fn describe(managed: *const Managed) -> Result<Description> {
    // SAFETY: by this function's contract; the version comes first in every version of the structure.
    let version = unsafe { &(*managed).version };
    if version.major != MAJOR {
        bail!(
            Version,
            "the DLPack tensor has version {}.{}, and this library knows version {MAJOR}: ask the other framework for that \
             version (in Python: __dlpack__(max_version=({MAJOR}, 0)))",
            version.major,
            version.minor
        );
    }
    // SAFETY: a tensor of this version has all these fields.
    let (tensor, flags) = unsafe { (&(*managed).tensor, (*managed).flags) };
    if flags & READ_ONLY != 0 {
        bail!(
            Unsupported,
            "the DLPack tensor is read-only, and values can be written: copy it in the other framework first"
        );
    }
    let Ok(rank) = usize::try_from(tensor.rank) else {
        bail!(InvalidArgument, "the DLPack tensor has rank {}", tensor.rank)
    };
    if rank > 64 || rank > 0 && tensor.shape.is_null() {
        bail!(InvalidArgument, "the DLPack tensor has rank {rank} and no usable shape");
    }
    // SAFETY: shape and strides have `rank` numbers each, where they are given.
    let read =
        |p: *mut i64| if rank == 0 { Vec::new() } else { unsafe { std::slice::from_raw_parts(p, rank) }.to_vec() };
    let dims = read(tensor.shape);
    if !tensor.strides.is_null() {
        let strides = read(tensor.strides);
        let mut expected = 1i64;
        for (&dim, &stride) in dims.iter().zip(&strides).rev() {
            if dim > 1 && stride != expected && !dims.contains(&0) {
                bail!(
                    Unsupported,
                    "the DLPack tensor {dims:?} has the strides {strides:?}: make it contiguous (row-major) in the other \
                     framework first"
                );
            }
            expected = expected.saturating_mul(dim.max(1));
        }
    }
    Ok(Description {
        address: (tensor.data.expose_provenance() as u64).wrapping_add(tensor.byte_offset),
        kind: tensor.place.kind,
        device: tensor.place.id,
        element: tensor.element,
        dims,
    })
}

/// What gives a tensor of another framework back.
///
/// # Safety
/// As for [`describe`]; the tensor is the caller's to give back, which happens once, by the result.
pub unsafe fn release(managed: *mut Managed) -> Release {
    unsafe extern "C" fn give_back(user: *mut c_void) {
        let managed = user.cast::<Managed>();
        // SAFETY: the tensor is alive until its own deleter is called, once.
        unsafe {
            if let Some(deleter) = (*managed).deleter {
                deleter(managed);
            }
        }
    }
    Release { function: give_back, user: managed.cast() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn description(dims: Vec<i64>) -> Description {
        Description { address: 0x7000, kind: CPU, device: 0, element: Element { code: 2, bits: 16, lanes: 1 }, dims }
    }

    #[test]
    fn a_tensor_survives_the_way_there_and_back() {
        let keeper = Arc::new(());
        for dims in [vec![], vec![3], vec![2, 0, 5], vec![2, 3, 4]] {
            let managed = export(description(dims.clone()), Box::new(keeper.clone()));
            // SAFETY: a live tensor, given back once.
            unsafe {
                assert_eq!(describe(managed).unwrap(), description(dims));
                let release = release(managed);
                assert_eq!(Arc::strong_count(&keeper), 2);
                (release.function)(release.user);
            }
            assert_eq!(Arc::strong_count(&keeper), 1);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let managed = export(description(vec![2, 3]), Box::new(()));
        // SAFETY: a live tensor whose fields are the test's to change, given back at the end.
        unsafe {
            *(*managed).tensor.strides = 4;
            assert!(describe(managed).unwrap_err().message().contains("contiguous"));
            *(*managed).tensor.strides = 3;
            (*managed).flags = READ_ONLY;
            assert!(describe(managed).unwrap_err().message().contains("read-only"));
            (*managed).flags = 0;
            (*managed).tensor.rank = -1;
            assert!(describe(managed).is_err());
            (*managed).tensor.rank = 2;
            (*managed).version.major = 2;
            assert!(describe(managed).unwrap_err().message().contains("version 2.0"));
            delete_exported(managed);
        }
    }
}
