//! The progress monitor: TensorRT tells how far a build is, and asks whether to go on.

use super::client::{InterfaceInfo, Table, api_language, guard, keep};
use super::lookup::Slots;
use super::tables::Method;
use crate::Result;
use crate::hash::HashMap;
use parking_lot::Mutex;
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

/// Called with a phase's name and how much of it is done; false cancels. From any thread.
pub type Callback<'a> = &'a (dyn Fn(&str, f32) -> bool + Sync);

/// What TensorRT sees: an object that begins with a virtual table.
#[repr(C)]
pub struct Monitor<'a> {
    table: *const *const c_void,
    callback: Callback<'a>,
    steps: Mutex<HashMap<String, i32>>,
    cancelled: AtomicBool,
    panicked: AtomicBool,
}

/// The monitor's virtual table, if the version has progress monitors.
pub fn table(slots: &Slots) -> Result<Option<Table>> {
    if slots.get(Method::ProgressMonitorStepComplete).is_none() {
        return Ok(None);
    }
    let functions = [
        (Method::ProgressMonitorGetAPILanguage, api_language as *const c_void),
        (Method::ProgressMonitorGetInterfaceInfo, interface_info as *const c_void),
        (Method::ProgressMonitorDestroy, keep as *const c_void),
        (Method::ProgressMonitorDelete, keep as *const c_void),
        (Method::ProgressMonitorPhaseStart, phase_start as *const c_void),
        (Method::ProgressMonitorStepComplete, step_complete as *const c_void),
        (Method::ProgressMonitorPhaseFinish, phase_finish as *const c_void),
    ];
    Table::new(slots, &functions).map(Some)
}

impl<'a> Monitor<'a> {
    /// A monitor.
    pub fn new(table: Table, callback: Callback<'a>) -> Monitor<'a> {
        Monitor {
            table: table.pointer(),
            callback,
            steps: Mutex::default(),
            cancelled: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        }
    }

    /// The address for TensorRT.
    pub fn as_ptr(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// True once the callback has asked to stop.
    pub fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// True if the callback has panicked, which stops the build too.
    pub fn panicked(&self) -> bool {
        self.panicked.load(Ordering::Relaxed)
    }

    /// Reports, and says whether to go on. A callback that has asked to stop is not called again.
    fn report(&self, phase: &str, fraction: f32) -> bool {
        if self.cancelled() || self.panicked() {
            return false;
        }
        match guard(|| (self.callback)(phase, fraction)) {
            Some(true) => return true,
            Some(false) => self.cancelled.store(true, Ordering::Relaxed),
            None => self.panicked.store(true, Ordering::Relaxed),
        }
        false
    }
}

extern "C" fn interface_info(_: *const c_void) -> InterfaceInfo {
    InterfaceInfo { kind: c"IProgressMonitor".as_ptr(), major: 1, minor: 0 }
}

/// The monitor and the phase of a callback.
///
/// # Safety
/// `this` is the monitor that the configuration was given and outlives it; `phase` is a C string.
unsafe fn of<'m>(this: *const c_void, phase: *const c_char) -> (&'m Monitor<'m>, String) {
    // SAFETY: by this function's contract.
    unsafe { (&*this.cast::<Monitor<'m>>(), super::abi::text(phase)) }
}

extern "C" fn phase_start(this: *const c_void, phase: *const c_char, _parent: *const c_char, steps: i32) {
    guard(|| {
        // SAFETY: TensorRT calls with the monitor it was given, during the build.
        let (monitor, phase) = unsafe { of(this, phase) };
        // There is nothing to answer here: the next step asks.
        monitor.report(&phase, 0.0);
        monitor.steps.lock().insert(phase, steps);
    });
}

extern "C" fn step_complete(this: *const c_void, phase: *const c_char, step: i32) -> bool {
    guard(|| {
        // SAFETY: as above.
        let (monitor, phase) = unsafe { of(this, phase) };
        let steps = monitor.steps.lock().get(&phase).copied().unwrap_or(0).max(1);
        monitor.report(&phase, ((step as f32 + 1.0) / steps as f32).clamp(0.0, 1.0))
    })
    .unwrap_or(false)
}

extern "C" fn phase_finish(this: *const c_void, phase: *const c_char) {
    guard(|| {
        // SAFETY: as above.
        let (monitor, phase) = unsafe { of(this, phase) };
        monitor.report(&phase, 1.0);
        monitor.steps.lock().remove(&phase);
    });
}

#[cfg(test)]
mod tests {
    use super::super::abi::call;
    use super::super::version::Version;
    use super::*;

    fn slots(native: i32) -> Slots {
        let version = Version::from_native(native).unwrap();
        Slots::new(version.family(false).unwrap().0, &version)
    }

    /// Plays a build of one phase of four steps; how many steps were answered with "go on".
    fn play(slots: &Slots, monitor: &Monitor) -> usize {
        let slot = |m| slots.get(m).unwrap();
        let (this, phase) = (monitor.as_ptr(), c"Fusing".as_ptr());
        // SAFETY: a monitor of this version's shape, called as TensorRT does.
        unsafe {
            call!(
                this,
                slot(Method::ProgressMonitorPhaseStart),
                fn(*const c_char, *const c_char, i32),
                phase,
                std::ptr::null(),
                4
            );
            let step = slot(Method::ProgressMonitorStepComplete);
            let went_on = (0..4).filter(|n| call!(this, step, fn(*const c_char, i32) -> bool, phase, *n)).count();
            call!(this, slot(Method::ProgressMonitorPhaseFinish), fn(*const c_char), phase);
            went_on
        }
    }

    #[test]
    fn progress_is_reported_and_a_refusal_stops() {
        for native in [101_600, 110_400, 10_400, 10_701] {
            let slots = slots(native);
            let seen = Mutex::new(Vec::new());
            let report = |phase: &str, fraction: f32| {
                seen.lock().push((phase.to_string(), fraction));
                true
            };
            let monitor = Monitor::new(table(&slots).unwrap().unwrap(), &report);
            assert_eq!(play(&slots, &monitor), 4);
            assert!(!monitor.cancelled());
            let fractions: Vec<f32> = seen.lock().iter().map(|(_, f)| *f).collect();
            assert_eq!(fractions, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]);

            let stop = |_: &str, fraction: f32| fraction < 0.5;
            let monitor = Monitor::new(table(&slots).unwrap().unwrap(), &stop);
            assert_eq!(play(&slots, &monitor), 1);
            assert!(monitor.cancelled());
        }
        assert!(table(&slots(8503)).unwrap().is_none());
    }

    #[test]
    fn a_panic_in_the_callback_stops_the_build_and_goes_no_further() {
        let slots = slots(10_701);
        let calls = Mutex::new(0);
        let panics = |_: &str, fraction: f32| {
            *calls.lock() += 1;
            assert!(fraction == 0.0, "the test's own panic");
            true
        };
        let monitor = Monitor::new(table(&slots).unwrap().unwrap(), &panics);
        assert_eq!(play(&slots, &monitor), 0);
        assert!(monitor.panicked() && !monitor.cancelled());
        assert_eq!(*calls.lock(), 2);
    }
}
