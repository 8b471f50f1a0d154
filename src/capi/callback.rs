//! Callbacks: a function of the caller's, its argument, and what releases the argument.

use std::ffi::c_void;

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

/// Memory of the caller's that tensors of a model or an engine view; released when the last view is gone.
pub(super) struct Borrowed {
    pub(super) data: *const u8,
    pub(super) len: usize,
    pub(super) release: Callback<()>,
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
