//! The environment and its options.

use super::boundary::{Call, call};
use super::callback::{Callback, mezzo_release_callback_t};
use super::error::mezzo_error_t;
use super::handle::{free_owned, free_shared, handle, owned, retain_shared, shared};
use super::keys::{self, Key};
use super::strings::Text;
use crate::Result;
use crate::engine::{Env, EnvOptions, LogLevel};
use crate::sys::memory::ForeignAllocator;
use std::ffi::{c_char, c_void};
use std::path::PathBuf;
use std::sync::Arc;

/// How important a log line is, one of mezzo_log_level_e.
pub type mezzo_log_level_t = i32;

/// Values of mezzo_log_level_t.
#[repr(C)]
pub enum mezzo_log_level_e {
    /// Something failed.
    MEZZO_LOG_ERROR = 1,
    /// Something to look at.
    MEZZO_LOG_WARNING = 2,
    /// What was done.
    MEZZO_LOG_INFO = 3,
    /// Details for developers.
    MEZZO_LOG_DEBUG = 4,
}

/// Receives a log line (UTF-8, without a newline, valid during the call). Called from any thread.
pub type mezzo_log_callback_t =
    Option<unsafe extern "C" fn(user: *mut c_void, level: mezzo_log_level_t, message: *const c_char)>;

/// Returns `size` bytes aligned to `alignment` (a power of two), or NULL. Called from any thread.
pub type mezzo_allocate_callback_t =
    Option<unsafe extern "C" fn(user: *mut c_void, size: usize, alignment: usize) -> *mut c_void>;

/// Takes back what the allocate callback returned, with the same size and alignment. Called from any thread.
pub type mezzo_deallocate_callback_t =
    Option<unsafe extern "C" fn(user: *mut c_void, pointer: *mut c_void, size: usize, alignment: usize)>;

/// What an environment is made of. Exclusive: one thread at a time.
pub struct mezzo_env_options_t {
    _opaque: [u8; 0],
}

/// Owns log, allocator, threads and paths; there are no other globals. Shared and counted.
///
/// Wherever a call takes an environment, NULL stands for the default one: no log, the process's own allocator, one
/// thread per core. What is made in an environment keeps it alive.
pub struct mezzo_env_t {
    _opaque: [u8; 0],
}

type LogCallback = Callback<unsafe extern "C" fn(*mut c_void, mezzo_log_level_t, *const c_char)>;

#[derive(Default)]
pub(super) struct EnvOptionsBody {
    log: Option<Arc<LogCallback>>,
    log_level: LogLevel,
    allocator: Option<Arc<ForeignAllocator>>,
    threads: usize,
    cache_dir: Option<PathBuf>,
    library_paths: Vec<PathBuf>,
}

handle!(mezzo_env_options_t, EnvOptionsBody, "an environment options", b"envo");
handle!(mezzo_env_t, Arc<Env>, "an environment", b"envi");

const KEYS: &[Key<EnvOptionsBody>] = &[
    Key {
        name: "log_level",
        values: "error, warning, info or debug",
        set: |o, v| {
            o.log_level = match v {
                "error" => LogLevel::Error,
                "warning" => LogLevel::Warning,
                "info" => LogLevel::Info,
                "debug" => LogLevel::Debug,
                _ => return None,
            };
            Some(())
        },
    },
    Key {
        name: "threads",
        values: "a whole number, 0 for one per core",
        set: |o, v| {
            o.threads = v.parse().ok()?;
            Some(())
        },
    },
    Key {
        name: "cache_dir",
        values: "a folder",
        set: |o, v| {
            o.cache_dir = Some(non_empty(v)?);
            Some(())
        },
    },
    Key {
        name: "library_path",
        values: "a folder, added to those given before",
        set: |o, v| {
            o.library_paths.push(non_empty(v)?);
            Some(())
        },
    },
];

fn non_empty(path: &str) -> Option<PathBuf> {
    (!path.is_empty()).then(|| path.into())
}

fn log_level(c: &Call, level: mezzo_log_level_t) -> Result<LogLevel> {
    Ok(match level {
        1 => LogLevel::Error,
        2 => LogLevel::Warning,
        3 => LogLevel::Info,
        4 => LogLevel::Debug,
        _ => return Err(c.invalid("level", format_args!("is {level}, which is none of MEZZO_LOG_*"))),
    })
}

impl Call {
    /// An environment; NULL is the default one.
    pub(super) fn env(&self, env: *const mezzo_env_t) -> Result<Arc<Env>> {
        Ok(self.optional("env", env)?.cloned().unwrap_or_else(Env::default_env))
    }
}

/// New options with the defaults. Free them with mezzo_env_options_free().
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_env_options_new() -> *mut mezzo_env_options_t {
    owned(EnvOptionsBody::default())
}

/// Frees options. NULL is allowed. Environments made from them are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_env_options_free(options: *mut mezzo_env_options_t) {
    // SAFETY: the header's contract.
    unsafe { free_owned(options) }
}

/// Sets where log lines go (nowhere, by default). `callback` NULL takes a callback away again.
///
/// `release(user)` is called once, when the options and all environments made from them are gone or another callback
/// was set, and not if this call fails. The callback must not call the library with the same handles, nor throw.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_env_options_set_log(
    options: *mut mezzo_env_options_t,
    callback: mezzo_log_callback_t,
    user: *mut c_void,
    release: mezzo_release_callback_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_env_options_set_log", |c| {
            let options = c.get_mut("options", options)?;
            options.log = callback.map(|f| Arc::new(Callback::new(f, user, release)));
            Ok(())
        })
    }
}

/// Sets the least important level that is passed to the log callback; MEZZO_LOG_WARNING by default.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `level` is none of MEZZO_LOG_*.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_env_options_set_log_level(
    options: *mut mezzo_env_options_t,
    level: mezzo_log_level_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_env_options_set_log_level", |c| {
            let options = c.get_mut("options", options)?;
            options.log_level = log_level(c, level)?;
            Ok(())
        })
    }
}

/// Sets where the memory of buffers, values and outputs comes from (the process's own allocator, by default).
///
/// Both callbacks are needed, and both NULL takes an allocator away again. `release(user)` is called once, when the
/// options, all environments made from them and all memory from the allocator are gone, and not if this call fails.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_env_options_set_allocator(
    options: *mut mezzo_env_options_t,
    allocate: mezzo_allocate_callback_t,
    deallocate: mezzo_deallocate_callback_t,
    user: *mut c_void,
    release: mezzo_release_callback_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_env_options_set_allocator", |c| {
            let options = c.get_mut("options", options)?;
            options.allocator = match (allocate, deallocate) {
                (None, None) => None,
                (allocate, deallocate) => {
                    let allocate = c.given("allocate", allocate, "give both callbacks of an allocator")?;
                    let deallocate = c.given("deallocate", deallocate, "give both callbacks of an allocator")?;
                    Some(Arc::new(ForeignAllocator { allocate, deallocate, user, finalize: release }))
                }
            };
            Ok(())
        })
    }
}

/// Sets the number of threads that an engine uses (the calling one included) if its own options do not say; 0, the
/// default, is one per core.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_env_options_set_threads(
    options: *mut mezzo_env_options_t,
    threads: usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_env_options_set_threads", |c| {
            c.get_mut("options", options)?.threads = threads;
            Ok(())
        })
    }
}

/// Sets the folder where built engines may be cached; without one nothing is cached.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_env_options_set_cache_dir(
    options: *mut mezzo_env_options_t,
    path: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_env_options_set_cache_dir", |c| {
            let options = c.get_mut("options", options)?;
            options.cache_dir = Some(c.path("path", path)?.to_path_buf());
            Ok(())
        })
    }
}

/// Adds a folder where the libraries of backends are looked for first, in the order given.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_env_options_add_library_path(
    options: *mut mezzo_env_options_t,
    path: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_env_options_add_library_path", |c| {
            let options = c.get_mut("options", options)?;
            options.library_paths.push(c.path("path", path)?.to_path_buf());
            Ok(())
        })
    }
}

/// Sets an option by name: log_level (error, warning, info, debug), threads, cache_dir, library_path (adds).
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such option (the message lists all), MEZZO_ERROR_INVALID_ARGUMENT if it
/// does not take that value.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_env_options_set(
    options: *mut mezzo_env_options_t,
    key: *const c_char,
    value: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_env_options_set", |c| {
            keys::set(KEYS, c.get_mut("options", options)?, c.text("key", key)?, c.text("value", value)?)
        })
    }
}

/// Makes an environment. `options` may be NULL for the defaults, and can be changed and used again afterwards.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_env_new(
    options: *const mezzo_env_options_t,
    env: *mut *mut mezzo_env_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_env_new", |c| {
            let options = c.optional("options", options)?;
            let out = c.out("env", env)?;
            out.set(shared(Env::new(options.map(env_options).unwrap_or_default())));
            Ok(())
        })
    }
}

fn env_options(body: &EnvOptionsBody) -> EnvOptions {
    let mut options = EnvOptions {
        log: None,
        log_level: body.log_level,
        allocator: body.allocator.clone(),
        threads: body.threads,
        cache_dir: body.cache_dir.clone(),
        library_paths: body.library_paths.clone(),
    };
    if let Some(callback) = body.log.clone() {
        options.log = Some(Box::new(move |level, line| {
            let line = Text::from(line);
            // SAFETY: the caller's function with the caller's argument; the string lives during the call.
            unsafe { (callback.function)(callback.user(), level as i32, line.as_ptr()) }
        }));
    }
    options
}

/// Passes a line to the environment's log callback, as the library does.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `level` is none of MEZZO_LOG_*, or `message` is not UTF-8.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_env_log(
    env: *const mezzo_env_t,
    level: mezzo_log_level_t,
    message: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_env_log", |c| {
            let level = log_level(c, level)?;
            c.env(env)?.log(level, c.text("message", message)?);
            Ok(())
        })
    }
}

/// One more reference to the same environment, to be given back with mezzo_env_free(). NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_env_retain(env: *const mezzo_env_t) -> *mut mezzo_env_t {
    // SAFETY: the header's contract.
    unsafe { retain_shared(env) }
}

/// Gives a reference back. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_env_free(env: *mut mezzo_env_t) {
    // SAFETY: the header's contract.
    unsafe { free_shared(env) }
}
