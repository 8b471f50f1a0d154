//! Callbacks: a function of the caller's, its argument, and what releases the argument.

use super::boundary::Call;
use crate::{Result, err};
use bytes::Bytes;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Called once, from any thread, when what `user` stands for is no longer needed by the library. May be NULL.
pub type mezzo_release_callback_t = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// A callback that was taken over: its release function runs when it is dropped.
pub(super) struct Callback<F> {
    pub(super) function: F,
    user: *mut c_void,
    release: mezzo_release_callback_t,
}

impl<F> Callback<F> {
    pub(super) fn new(function: F, user: *mut c_void, release: mezzo_release_callback_t) -> Self {
        Callback { function, user, release }
    }

    /// The argument. (A method, so that closures capture the whole callback and not the bare pointer.)
    pub(super) fn user(&self) -> *mut c_void {
        self.user
    }
}

// SAFETY: the header's contract is that callbacks may be called from any thread.
unsafe impl<F: Send> Send for Callback<F> {}
// SAFETY: as above.
unsafe impl<F: Sync> Sync for Callback<F> {}

impl<F> Drop for Callback<F> {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the caller gave the function for exactly this one call.
            unsafe { release(self.user) }
        }
    }
}

/// Memory of the caller's that tensors of a model or an engine view.
struct Borrowed {
    data: *const u8,
    len: usize,
    /// Dropped with the memory.
    _lent: Arc<Lent>,
}

// SAFETY: the header's contract is that the memory does not change and may be read from any thread until it is released.
unsafe impl Send for Borrowed {}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: as above; pointer and length were checked when it was made.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

/// Calls the release function when it is dropped, once the call that borrowed the memory has succeeded.
struct Lent {
    accepted: AtomicBool,
    function: unsafe extern "C" fn(*mut c_void),
    user: *mut c_void,
}

// SAFETY: the header's contract is that a release function may be called from any thread.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Drop for Lent {
    fn drop(&mut self) {
        if *self.accepted.get_mut() {
            // SAFETY: the caller gave the function for exactly this one call.
            unsafe { (self.function)(self.user) }
        }
    }
}

/// The open end of borrowing: unless it is accepted, the memory stays the caller's and is not released.
#[must_use]
pub(super) struct Loan(Option<Arc<Lent>>);

impl Loan {
    /// The call has succeeded: from now on the release function is the library's to call.
    pub(super) fn accept(self) {
        if let Some(lent) = self.0 {
            lent.accepted.store(true, Ordering::Relaxed);
        }
    }
}

/// Bytes of the caller's: copied where there is no release function, borrowed where there is one.
pub(super) fn caller_bytes(
    c: &Call,
    data: *const c_void,
    size: usize,
    release: mezzo_release_callback_t,
    user: *mut c_void,
) -> Result<(Bytes, Loan)> {
    let bytes = c.slice("data", data.cast::<u8>(), size)?;
    let Some(function) = release else {
        let mut copy = Vec::new();
        copy.try_reserve_exact(size).map_err(|_| err!(OutOfMemory, "{size} bytes of memory could not be allocated"))?;
        copy.extend_from_slice(bytes);
        return Ok((copy.into(), Loan(None)));
    };
    let lent = Arc::new(Lent { accepted: AtomicBool::new(false), function, user });
    let borrowed = Borrowed { data: data.cast(), len: size, _lent: lent.clone() };
    Ok((Bytes::from_owner(borrowed), Loan(Some(lent))))
}
