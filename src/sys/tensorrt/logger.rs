//! The logger that every TensorRT object reports to.
//!
//! TensorRT remembers the first logger it gets for as long as any of its objects lives, so logger objects are never
//! freed: they are leased from a pool, each lease with a list of its own for the lines.

use super::client::{InterfaceInfo, Table, api_language, guard, keep};
use super::lookup::Slots;
use super::tables::Method;
use crate::Result;
use parking_lot::Mutex;
use std::ffi::{c_char, c_void};
use std::sync::Arc;

/// The most lines, and bytes of one line, that a lease keeps.
const MAX_LINES: usize = 64;
const MAX_LINE: usize = 4096;

/// How important a line is; the numbers are those of every version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The library's own bug.
    InternalError = 0,
    /// Something failed.
    Error = 1,
    /// Something a user should look at.
    Warning = 2,
}

/// A line of TensorRT's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How important it is.
    pub severity: Severity,
    /// What it says.
    pub text: String,
}

/// The lines of one lease.
type Lines = Arc<Mutex<Vec<Line>>>;

/// What TensorRT sees: an object that begins with a virtual table.
#[repr(C)]
struct LoggerObject {
    table: *const *const c_void,
    lines: Mutex<Option<Lines>>,
}

// SAFETY: the table is never written, and the rest is behind a lock.
unsafe impl Send for LoggerObject {}
// SAFETY: as above.
unsafe impl Sync for LoggerObject {}

/// The loggers of one loaded library.
pub struct LoggerPool {
    table: Table,
    free: Mutex<Vec<&'static LoggerObject>>,
}

/// A logger in use. Its lines are those that TensorRT wrote since it was leased.
pub struct Logger<'p> {
    pool: &'p LoggerPool,
    object: &'static LoggerObject,
    lines: Lines,
}

impl LoggerPool {
    /// An empty pool, with the logger's shape in that version.
    pub fn new(slots: &Slots) -> Result<LoggerPool> {
        let table = Table::new(
            slots,
            &[
                (Method::LoggerGetAPILanguage, api_language as *const c_void),
                (Method::LoggerGetInterfaceInfo, interface_info as *const c_void),
                (Method::LoggerDestroy, keep as *const c_void),
                (Method::LoggerDelete, keep as *const c_void),
                (Method::LoggerLog, log as *const c_void),
            ],
        )?;
        Ok(LoggerPool { table, free: Mutex::new(Vec::new()) })
    }

    /// A logger with no lines yet.
    pub fn lease(&self) -> Logger<'_> {
        let object = self.free.lock().pop().unwrap_or_else(|| {
            Box::leak(Box::new(LoggerObject { table: self.table.pointer(), lines: Mutex::new(None) }))
        });
        let lines = Lines::default();
        *object.lines.lock() = Some(lines.clone());
        Logger { pool: self, object, lines }
    }
}

impl Logger<'_> {
    /// The address for TensorRT.
    pub fn as_ptr(&self) -> *mut c_void {
        std::ptr::from_ref(self.object).cast_mut().cast()
    }

    /// The warnings and errors so far, which are then forgotten.
    pub fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.lines.lock())
    }
}

impl Drop for Logger<'_> {
    fn drop(&mut self) {
        *self.object.lines.lock() = None;
        self.pool.free.lock().push(self.object);
    }
}

extern "C" fn interface_info(_: *const c_void) -> InterfaceInfo {
    InterfaceInfo { kind: c"ILogger".as_ptr(), major: 1, minor: 0 }
}

/// Called by TensorRT, from any of its threads.
extern "C" fn log(this: *const c_void, severity: i32, message: *const c_char) {
    let severity = match severity {
        0 => Severity::InternalError,
        1 => Severity::Error,
        2 => Severity::Warning,
        _ => return,
    };
    guard(|| {
        // SAFETY: TensorRT passes the object it was given, which is never freed, and a C string.
        let (object, text) = unsafe { (&*this.cast::<LoggerObject>(), super::abi::text(message)) };
        let Some(lines) = object.lines.lock().clone() else { return };
        let mut lines = lines.lock();
        let text = shorten(text);
        if lines.len() < MAX_LINES && lines.last().is_none_or(|l| l.text != text) {
            lines.push(Line { severity, text });
        }
    });
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_LINE {
        text.truncate(text.floor_char_boundary(MAX_LINE));
        text.push_str(" ...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::abi::call;
    use super::super::version::Version;
    use super::*;

    /// The logger called as TensorRT calls it, in the shape of each family.
    #[test]
    fn every_family_finds_its_log_function() {
        for native in [8503, 8601, 101_600, 110_400, 10_400, 10_701] {
            let version = Version::from_native(native).unwrap();
            let slots = Slots::new(version.family(false).unwrap().0, &version);
            let pool = LoggerPool::new(&slots).unwrap();
            let logger = pool.lease();
            let slot = slots.get(Method::LoggerLog).unwrap();
            for (severity, text) in [(1, c"broken"), (1, c"broken"), (3, c"only information"), (2, c"odd")] {
                // SAFETY: the object is a logger of this version's shape.
                unsafe { call!(logger.as_ptr(), slot, fn(i32, *const c_char), severity, text.as_ptr()) };
            }
            let lines = logger.take();
            assert_eq!(lines.len(), 2, "{version}: {lines:?}");
            assert_eq!((lines[0].severity, lines[0].text.as_str()), (Severity::Error, "broken"));
            assert_eq!((lines[1].severity, lines[1].text.as_str()), (Severity::Warning, "odd"));
            if let Some(slot) = slots.get(Method::LoggerGetInterfaceInfo) {
                // SAFETY: as above.
                let info = unsafe { call!(logger.as_ptr(), slot, fn() -> InterfaceInfo) };
                // SAFETY: the interface's own C string.
                assert_eq!((unsafe { super::super::abi::text(info.kind) }, info.major), ("ILogger".into(), 1));
            }
        }
    }

    #[test]
    fn loggers_are_used_again_and_lines_do_not_mix() {
        let version = Version::from_native(10_701).unwrap();
        let slots = Slots::new(version.family(false).unwrap().0, &version);
        let pool = LoggerPool::new(&slots).unwrap();
        let (first, second) = (pool.lease(), pool.lease());
        assert_ne!(first.as_ptr(), second.as_ptr());
        let (address, slot) = (first.as_ptr(), slots.get(Method::LoggerLog).unwrap());
        // SAFETY: a logger of this version's shape.
        unsafe { call!(address, slot, fn(i32, *const c_char), 1, c"to the first".as_ptr()) };
        assert!(second.take().is_empty());
        drop(first);
        // SAFETY: as above; the object of a lease that has ended is still there.
        unsafe { call!(address, slot, fn(i32, *const c_char), 1, c"too late".as_ptr()) };
        let third = pool.lease();
        assert_eq!(third.as_ptr(), address);
        assert!(third.take().is_empty());
    }

    #[test]
    fn lines_are_bounded() {
        assert_eq!(shorten("é".repeat(4096)).len(), 4096 + 4);
        assert_eq!(shorten("short".into()), "short");
    }
}
