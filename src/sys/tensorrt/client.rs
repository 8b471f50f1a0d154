//! Virtual tables of objects that Mezzo implements and TensorRT calls.

use super::lookup::Slots;
use super::tables::Method;
use crate::{Result, err};
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a versioned interface says of itself (16 bytes, returned in two registers).
#[repr(C)]
pub struct InterfaceInfo {
    /// Its name.
    pub kind: *const c_char,
    /// Its version.
    pub major: i32,
    /// Its version.
    pub minor: i32,
}

/// A virtual table, made once per loaded library and kept for the rest of the process.
#[derive(Clone, Copy)]
pub struct Table(*const *const c_void);

// SAFETY: the table is never written after it was made, and never freed.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    /// Puts each function into its slot. Functions whose method the version does not have are left out; a hole is an
    /// error, because TensorRT would jump to nowhere.
    pub fn new(slots: &Slots, functions: &[(Method, *const c_void)]) -> Result<Table> {
        let placed: Vec<(usize, *const c_void)> =
            functions.iter().filter_map(|(method, f)| Some((slots.get(*method)?.into(), *f))).collect();
        // The two words before the first slot are the offset to the whole object and its type information.
        let mut table: Vec<*const c_void> = vec![std::ptr::null(); 2 + placed.len()];
        for (slot, function) in placed {
            let place = table.get_mut(2 + slot).filter(|p| p.is_null());
            *place.ok_or_else(|| {
                err!(Internal, "a client interface of TensorRT has no or two functions in slot {slot}")
            })? = function;
        }
        Ok(Table(Vec::leak(table)[2..].as_ptr()))
    }

    /// What an object begins with.
    pub fn pointer(self) -> *const *const c_void {
        self.0
    }
}

/// `getAPILanguage` of every client interface: C++ (0), whose calling convention this is.
pub extern "C" fn api_language(_: *const c_void) -> i32 {
    0
}

/// Destructors of client interfaces: TensorRT never owns them, so there is nothing to do.
pub extern "C" fn keep(_: *mut c_void) {}

/// Runs Rust code that foreign code called; a panic ends here and becomes `None`.
pub fn guard<T>(f: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(f)).ok()
}

#[cfg(test)]
mod tests {
    use super::super::version::Version;
    use super::*;

    #[test]
    fn a_hole_in_a_table_is_an_error() {
        let version = Version::from_native(10_701).unwrap();
        let slots = Slots::new(version.family(false).unwrap().0, &version);
        let f = keep as *const c_void;
        let error = Table::new(&slots, &[(Method::LoggerLog, f)]).map(|_| ()).unwrap_err();
        assert!(error.message().contains("slot 4"), "{error}");
        assert!(Table::new(&slots, &[(Method::LoggerLog, f), (Method::LoggerLog, f)]).is_err());
    }
}
