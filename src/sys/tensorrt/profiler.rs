//! The profiler that TensorRT reports each layer's time to.

use super::abi::text;
use super::api::Api;
use super::client::{InterfaceInfo, Table, api_language, guard, keep};
use super::lookup::Slots;
use super::tables::Method;
use crate::Result;
use parking_lot::Mutex;
use std::ffi::{c_char, c_void};
use std::ptr;

#[repr(C)]
struct Object {
    table: *const *const c_void,
    layers: Mutex<Vec<(String, f32)>>,
}

/// Collects the times of one execution.
pub struct Profiler(Box<Object>);

// SAFETY: the table is never written, and the rest is behind a lock.
unsafe impl Send for Profiler {}

impl Profiler {
    /// A profiler of the library's shape.
    pub fn new(api: &Api) -> Result<Profiler> {
        Ok(Profiler(Box::new(Object { table: api.profilers().pointer(), layers: Mutex::default() })))
    }

    /// The address for TensorRT.
    pub fn as_ptr(&self) -> *mut c_void {
        ptr::from_ref::<Object>(&self.0).cast_mut().cast()
    }

    /// Layers and their milliseconds since the last call, in order of execution.
    pub fn take(&self) -> Vec<(String, f32)> {
        std::mem::take(&mut self.0.layers.lock())
    }
}

/// The profiler's virtual table in a version.
pub(super) fn table(slots: &Slots) -> Result<Table> {
    Table::new(
        slots,
        &[
            (Method::ProfilerGetAPILanguage, api_language as *const c_void),
            (Method::ProfilerGetInterfaceInfo, interface_info as *const c_void),
            (Method::ProfilerReportLayerTime, report as *const c_void),
            (Method::ProfilerDestroy, keep as *const c_void),
            (Method::ProfilerDelete, keep as *const c_void),
        ],
    )
}

extern "C" fn interface_info(_: *const c_void) -> InterfaceInfo {
    InterfaceInfo { kind: c"IProfiler".as_ptr(), major: 1, minor: 0 }
}

extern "C" fn report(this: *mut c_void, name: *const c_char, milliseconds: f32) {
    guard(|| {
        // SAFETY: TensorRT passes the object that it was given, which lives as long as its context, and a C string.
        let (object, name) = unsafe { (&*this.cast::<Object>(), text(name)) };
        object.layers.lock().push((name, milliseconds));
    });
}

#[cfg(test)]
mod tests {
    use super::super::abi::call;
    use super::super::version::Version;
    use super::*;

    #[test]
    fn every_family_finds_its_report_function() {
        for native in [8503, 8601, 101_600, 110_400, 10_400, 10_701] {
            let version = Version::from_native(native).unwrap();
            let slots = Slots::new(version.family(false).unwrap().0, &version);
            let profiler =
                Profiler(Box::new(Object { table: table(&slots).unwrap().pointer(), layers: Mutex::default() }));
            let slot = slots.get(Method::ProfilerReportLayerTime).unwrap();
            // SAFETY: an object of this version's shape.
            unsafe { call!(profiler.as_ptr(), slot, fn(*const c_char, f32), c"conv1".as_ptr(), 0.5) };
            assert_eq!(profiler.take(), [("conv1".to_string(), 0.5)]);
            assert!(profiler.take().is_empty());
        }
    }
}
