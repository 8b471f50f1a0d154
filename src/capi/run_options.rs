//! What a caller watches and steers during a run.

use super::boundary::{call, read};
use super::callback::{Callback, mezzo_release_callback_t};
use super::error::mezzo_error_t;
use super::handle::{free_owned, free_shared, handle, owned, retain_shared, shared};
use super::strings::Text;
use super::value::{self, mezzo_value_t};
use crate::backend::Value;
use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that stops runs. Shared and counted: one thread runs with it, another requests.
pub struct mezzo_cancel_t {
    _opaque: [u8; 0],
}

/// How a context runs. Exclusive: one thread at a time.
pub struct mezzo_run_options_t {
    _opaque: [u8; 0],
}

/// Sees an intermediate tensor of a run.
///
/// name: the tensor's name in the model, valid during the call.
/// value: the tensor, valid during the call; mezzo_value_clone() keeps it longer. It must not be changed.
pub type mezzo_tap_callback_t =
    Option<unsafe extern "C" fn(user: *mut c_void, name: *const c_char, value: *const mezzo_value_t)>;

type TapCallback = Callback<unsafe extern "C" fn(*mut c_void, *const c_char, *const mezzo_value_t)>;

#[derive(Default)]
pub(super) struct RunOptionsBody {
    pub(super) cancel: Option<Arc<AtomicBool>>,
    tap: Option<Arc<TapCallback>>,
}

handle!(mezzo_cancel_t, Arc<AtomicBool>, "a cancel flag", b"cncl");
handle!(mezzo_run_options_t, RunOptionsBody, "a run options", b"runo");

impl RunOptionsBody {
    /// The tap as a function of Rust's.
    pub(super) fn tap(&self) -> Option<impl Fn(&str, &Value) + Sync + use<>> {
        let callback = self.tap.clone()?;
        let one_at_a_time = parking_lot::Mutex::new(());
        Some(move |name: &str, value: &Value| {
            let name = Text::from(name);
            let handle = value::boxed(value.clone());
            let _guard = one_at_a_time.lock();
            // SAFETY: the caller's function with the caller's argument; name and value live during the call, and the
            // handle is freed here only.
            unsafe {
                (callback.function)(callback.user(), name.as_ptr(), handle);
                free_owned(handle);
            }
        })
    }
}

/// A new flag that is not set. Give it back with mezzo_cancel_free().
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_cancel_new() -> *mut mezzo_cancel_t {
    shared(Arc::new(AtomicBool::new(false)))
}

/// Sets the flag: runs that use it stop before their next node with MEZZO_ERROR_CANCELLED. Safe from any thread and from
/// signal handlers. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_cancel_request(cancel: *const mezzo_cancel_t) {
    // SAFETY: the header's contract.
    unsafe { read(cancel, (), |flag| flag.store(true, Ordering::Relaxed)) }
}

/// Takes the flag back, so that it can be used for another run. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_cancel_reset(cancel: *const mezzo_cancel_t) {
    // SAFETY: the header's contract.
    unsafe { read(cancel, (), |flag| flag.store(false, Ordering::Relaxed)) }
}

/// Whether the flag is set; false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_cancel_is_requested(cancel: *const mezzo_cancel_t) -> bool {
    // SAFETY: the header's contract.
    unsafe { read(cancel, false, |flag| flag.load(Ordering::Relaxed)) }
}

/// One more reference to the same flag, to be given back with mezzo_cancel_free(). NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_cancel_retain(cancel: *const mezzo_cancel_t) -> *mut mezzo_cancel_t {
    // SAFETY: the header's contract.
    unsafe { retain_shared(cancel) }
}

/// Gives a reference back. NULL is allowed. Options and runs that use the flag are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_cancel_free(cancel: *mut mezzo_cancel_t) {
    // SAFETY: the header's contract.
    unsafe { free_shared(cancel) }
}

/// New options: no cancel flag, no tap. Free them with mezzo_run_options_free().
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_run_options_new() -> *mut mezzo_run_options_t {
    owned(RunOptionsBody::default())
}

/// Frees options. NULL is allowed. Not while a run uses them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_run_options_free(options: *mut mezzo_run_options_t) {
    // SAFETY: the header's contract.
    unsafe { free_owned(options) }
}

/// Sets the flag that stops runs. NULL takes it away again.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_run_options_set_cancel(
    options: *mut mezzo_run_options_t,
    cancel: *const mezzo_cancel_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_run_options_set_cancel", |c| {
            let cancel = c.optional("cancel", cancel)?.cloned();
            c.get_mut("options", options)?.cancel = cancel;
            Ok(())
        })
    }
}

/// Sets a callback that sees every intermediate tensor. `callback` NULL takes it away again. A run with a tap is slower:
/// it computes what is otherwise fused.
///
/// `release(user)` is called once, when the options are freed or another callback is set, and not if this call fails.
/// The callback is called from one thread at a time; it must not use the context that runs, nor throw.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_run_options_set_tap(
    options: *mut mezzo_run_options_t,
    callback: mezzo_tap_callback_t,
    user: *mut c_void,
    release: mezzo_release_callback_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_run_options_set_tap", |c| {
            let options = c.get_mut("options", options)?;
            options.tap = callback.map(|f| Arc::new(Callback::new(f, user, release)));
            Ok(())
        })
    }
}
