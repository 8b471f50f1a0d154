//! Outputs whose size only the data decides: TensorRT asks for their memory while it executes.

use super::abi::{Dims32, Dims64, text};
use super::api::Api;
use super::client::{InterfaceInfo, Table, api_language, guard, keep};
use super::lookup::Slots;
use super::tables::Method;
use super::version::Family;
use crate::Result;
use std::ffi::{c_char, c_void};
use std::ptr;

/// Who gives memory and hears shapes. Called from the thread that enqueues.
pub trait OutputSink: Send + Sync {
    /// The address of at least `size` bytes in device memory, or `None`, which makes the enqueue fail.
    fn allocate(&self, output: &str, size: u64) -> Option<u64>;
    /// The shape of what was written.
    fn shape(&self, output: &str, shape: Vec<i64>);
}

#[repr(C)]
struct Object {
    table: *const *const c_void,
    old_dims: bool,
    sink: Box<dyn OutputSink>,
}

/// An allocator that TensorRT calls.
pub struct OutputAllocator(Box<Object>);

// SAFETY: the table is never written, and the sink is thread-safe.
unsafe impl Send for OutputAllocator {}

impl OutputAllocator {
    /// An allocator of the library's shape.
    pub fn new(api: &Api, sink: Box<dyn OutputSink>) -> Result<OutputAllocator> {
        let table = api.output_allocators().pointer();
        let old_dims = matches!(api.family(), Family::V8_5 | Family::V8_6);
        Ok(OutputAllocator(Box::new(Object { table, old_dims, sink })))
    }

    /// The address for TensorRT.
    pub fn as_ptr(&self) -> *mut c_void {
        ptr::from_ref::<Object>(&self.0).cast_mut().cast()
    }
}

/// The allocator's virtual table in a version.
pub(super) fn table(slots: &Slots) -> Result<Table> {
    Table::new(
        slots,
        &[
            (Method::OutputAllocatorGetInterfaceVersion, interface_version as *const c_void),
            (Method::OutputAllocatorGetAPILanguage, api_language as *const c_void),
            (Method::OutputAllocatorGetInterfaceInfo, interface_info as *const c_void),
            (Method::OutputAllocatorReallocateOutput, reallocate as *const c_void),
            (Method::OutputAllocatorReallocateOutputAsync, reallocate_async as *const c_void),
            (Method::OutputAllocatorNotifyShape, notify as *const c_void),
            (Method::OutputAllocatorDestroy, keep as *const c_void),
            (Method::OutputAllocatorDelete, keep as *const c_void),
        ],
    )
}

extern "C" fn interface_version(_: *const c_void) -> i32 {
    1
}

extern "C" fn interface_info(_: *const c_void) -> InterfaceInfo {
    InterfaceInfo { kind: c"IOutputAllocator".as_ptr(), major: 1, minor: 0 }
}

extern "C" fn reallocate(this: *mut c_void, name: *const c_char, _: *mut c_void, size: u64, _: u64) -> *mut c_void {
    let address = guard(|| {
        // SAFETY: TensorRT passes the object that it was given, which lives as long as its context, and a C string.
        let (object, name) = unsafe { (&*this.cast::<Object>(), text(name)) };
        object.sink.allocate(&name, size)
    });
    ptr::without_provenance_mut(address.flatten().unwrap_or(0) as usize)
}

extern "C" fn reallocate_async(
    this: *mut c_void,
    name: *const c_char,
    current: *mut c_void,
    size: u64,
    alignment: u64,
    _: *mut c_void,
) -> *mut c_void {
    reallocate(this, name, current, size, alignment)
}

extern "C" fn notify(this: *mut c_void, name: *const c_char, dims: *const c_void) {
    guard(|| {
        // SAFETY: as above; the dimensions have the version's own structure.
        unsafe {
            let object = &*this.cast::<Object>();
            let dims = if object.old_dims { (*dims.cast::<Dims32>()).widen() } else { *dims.cast::<Dims64>() };
            object.sink.shape(&text(name), dims.shape().unwrap_or_default());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::abi::call;
    use super::super::version::Version;
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    struct Notes(Arc<Mutex<Vec<String>>>);

    impl OutputSink for Notes {
        fn allocate(&self, output: &str, size: u64) -> Option<u64> {
            assert!(size != 13, "the test's own panic");
            self.0.lock().push(format!("{output} {size}"));
            (size > 0).then_some(0x7000)
        }
        fn shape(&self, output: &str, shape: Vec<i64>) {
            self.0.lock().push(format!("{output} {shape:?}"));
        }
    }

    /// The allocator called as TensorRT calls it, in the shape of each family.
    #[test]
    fn every_family_finds_its_functions() {
        for native in [8501, 8503, 8601, 101_600, 110_400, 10_400, 10_701] {
            let version = Version::from_native(native).unwrap();
            let family = version.family(false).unwrap().0;
            let slots = Slots::new(family, &version);
            let notes = Arc::new(Mutex::new(Vec::new()));
            let old_dims = matches!(family, Family::V8_5 | Family::V8_6);
            let table = table(&slots).unwrap().pointer();
            let object = OutputAllocator(Box::new(Object { table, old_dims, sink: Box::new(Notes(notes.clone())) }));
            let dims = Dims64::new(&[3, 4]).unwrap();
            let narrow = dims.narrow().unwrap();
            let dims = if old_dims { (&raw const narrow).cast() } else { (&raw const dims).cast::<c_void>() };
            // SAFETY: the object has this version's shape, and the calls its signatures.
            unsafe {
                let this = object.as_ptr();
                for size in [0u64, 13, 64] {
                    let (name, none) = (c"found".as_ptr(), ptr::null_mut());
                    let address = if let Some(slot) = slots.get(Method::OutputAllocatorReallocateOutput) {
                        call!(
                            this,
                            slot,
                            fn(*const c_char, *mut c_void, u64, u64) -> *mut c_void,
                            name,
                            none,
                            size,
                            256
                        )
                    } else {
                        let slot = slots.get(Method::OutputAllocatorReallocateOutputAsync).unwrap();
                        call!(
                            this,
                            slot,
                            fn(*const c_char, *mut c_void, u64, u64, *mut c_void) -> *mut c_void,
                            name,
                            none,
                            size,
                            256,
                            none
                        )
                    };
                    assert_eq!(address.addr(), if size == 64 { 0x7000 } else { 0 }, "{version}");
                }
                let slot = slots.get(Method::OutputAllocatorNotifyShape).unwrap();
                call!(this, slot, fn(*const c_char, *const c_void), c"found".as_ptr(), dims);
            }
            assert_eq!(*notes.lock(), ["found 0", "found 64", "found [3, 4]"], "{version}");
        }
    }
}
