//! Contexts of one engine, leased to threads.

use super::boundary::{call, read};
use super::context::mezzo_context_t;
use super::engine::mezzo_engine_t;
use super::error::mezzo_error_t;
use super::handle::{free_shared, handle, shared};
use crate::engine::{Context, Engine};
use crate::{bail, err};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Contexts of one engine, for threads that come and go: opening a context takes memory and time. Safe to use from several
/// threads.
pub struct mezzo_context_pool_t {
    _opaque: [u8; 0],
}

pub(super) struct Pool {
    engine: Arc<Engine>,
    most: usize,
    state: Mutex<State>,
    freed: Condvar,
}

/// Contexts as addresses of their handles, which the pool owns while they are free.
#[derive(Default)]
struct State {
    free: Vec<usize>,
    leased: Vec<usize>,
    /// Places of contexts that are being opened outside the lock.
    opening: usize,
}

handle!(mezzo_context_pool_t, Pool, "a context pool", b"pool");

impl Drop for Pool {
    fn drop(&mut self) {
        for context in self.state.get_mut().free.drain(..) {
            // SAFETY: a free context is the pool's alone.
            unsafe { free_shared(std::ptr::with_exposed_provenance_mut::<mezzo_context_t>(context)) }
        }
    }
}

/// Makes an empty pool; contexts are opened when they are needed. Give it back with mezzo_context_pool_free().
///
/// most: contexts that may be leased at once, at least 1.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_pool_new(
    engine: *const mezzo_engine_t,
    most: usize,
    pool: *mut *mut mezzo_context_pool_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_pool_new", |c| {
            let engine = c.get("engine", engine)?.engine.clone();
            let out = c.out("pool", pool)?;
            if most == 0 {
                bail!(
                    InvalidArgument,
                    "argument 'most' of mezzo_context_pool_new is 0: a pool needs room for one context"
                );
            }
            out.set(shared(Pool { engine, most, state: Mutex::default(), freed: Condvar::new() }));
            Ok(())
        })
    }
}

/// Leases a context that nobody else uses, with nothing bound to it. Waits while all are leased.
///
/// timeout_ms: how long to wait, in milliseconds; 0 does not wait, a negative number waits as long as it takes.
/// context: receives the context. Give it back with mezzo_context_pool_release(), or keep it and free it with mezzo_context_free() after
///   the pool was freed.
///
/// Errors: MEZZO_ERROR_BUSY if none came free in time; those of mezzo_context_new().
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_pool_acquire(
    pool: *const mezzo_context_pool_t,
    timeout_ms: i64,
    context: *mut *mut mezzo_context_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_pool_acquire", |c| {
            let pool = c.get("pool", pool)?;
            let out = c.out("context", context)?;
            let until =
                u64::try_from(timeout_ms).ok().and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
            let mut state = pool.state.lock();
            loop {
                if let Some(free) = state.free.pop() {
                    state.leased.push(free);
                    out.set(std::ptr::with_exposed_provenance_mut(free));
                    return Ok(());
                }
                if state.leased.len() + state.opening < pool.most {
                    break;
                }
                let late = match until {
                    Some(until) => pool.freed.wait_until(&mut state, until).timed_out(),
                    None => {
                        pool.freed.wait(&mut state);
                        false
                    }
                };
                if late && state.free.is_empty() {
                    bail!(
                        Busy,
                        "all {} contexts of the pool are leased: release one, wait longer, or make a larger pool",
                        pool.most
                    );
                }
            }
            state.opening += 1;
            drop(state);
            let opened = Context::new(&pool.engine);
            let mut state = pool.state.lock();
            state.opening -= 1;
            if opened.is_err() {
                pool.freed.notify_one();
            }
            let handle: *mut mezzo_context_t = shared(Mutex::new(opened?));
            state.leased.push(handle.expose_provenance());
            out.set(handle);
            Ok(())
        })
    }
}

/// Gives a leased context back, which must not be used afterwards. What is bound to it is unbound; work that it has enqueued goes on.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if it is not leased from this pool; MEZZO_ERROR_BUSY if another thread still uses it.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_pool_release(
    pool: *const mezzo_context_pool_t,
    context: *mut mezzo_context_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_pool_release", |c| {
            let pool = c.get("pool", pool)?;
            let address = context.expose_provenance();
            let mut state = pool.state.lock();
            let Some(place) = state.leased.iter().position(|l| *l == address) else {
                return Err(err!(
                    NotFound,
                    "the context given to mezzo_context_pool_release is not leased from this pool: give one from \
                     mezzo_context_pool_acquire, once"
                ));
            };
            c.context(context)?.unbind_all();
            state.leased.swap_remove(place);
            state.free.push(address);
            drop(state);
            pool.freed.notify_one();
            Ok(())
        })
    }
}

/// Contexts that are leased now; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_pool_leased(pool: *const mezzo_context_pool_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(pool, 0, |p| p.state.lock().leased.len()) }
}

/// Frees a pool and the contexts that are in it. Leased ones live on as the caller's. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_pool_free(pool: *mut mezzo_context_pool_t) {
    // SAFETY: the header's contract.
    unsafe { free_shared(pool) }
}
