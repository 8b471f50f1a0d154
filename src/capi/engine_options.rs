//! How engines are built and loaded.

use super::boundary::call;
use super::callback::{Callback, mezzo_release_callback_t};
use super::error::mezzo_error_t;
use super::handle::{free_owned, handle, owned};
use super::keys::{self, Key};
use super::strings::Text;
use crate::backend::tensorrt::{ComputeCapability, HardwareCompatibility, TacticSource, Verbosity};
use crate::backend::{BuildOptions, parse_profile};
use std::ffi::{c_char, c_void};
use std::sync::Arc;

/// Watches long work. Returns whether to go on; false stops the call with MEZZO_ERROR_CANCELLED.
///
/// phase: what is being done, a string valid during the call.
/// fraction: how much of that phase is done, 0 to 1.
///
/// May be called from other threads than the one that made the call, but not from two at once.
pub type mezzo_progress_callback_t =
    Option<unsafe extern "C" fn(user: *mut c_void, phase: *const c_char, fraction: f32) -> bool>;

/// How an engine is built or loaded. Exclusive: one thread at a time.
pub struct mezzo_engine_options_t {
    _opaque: [u8; 0],
}

type ProgressCallback = Callback<unsafe extern "C" fn(*mut c_void, *const c_char, f32) -> bool>;

#[derive(Default)]
pub(super) struct EngineOptionsBody {
    pub(super) threads: usize,
    /// What only a build takes; its `threads` is not used.
    pub(super) build: BuildOptions,
    /// Only for plans without Mezzo's container.
    pub(super) trust_plan: bool,
    progress: Option<Arc<ProgressCallback>>,
}

handle!(mezzo_engine_options_t, EngineOptionsBody, "an engine options", b"enop");

impl EngineOptionsBody {
    /// The progress callback as a function of Rust's.
    pub(super) fn progress(&self) -> Option<impl Fn(&str, f32) -> bool + Sync + use<>> {
        let callback = self.progress.clone()?;
        let one_at_a_time = parking_lot::Mutex::new(());
        Some(move |phase: &str, fraction: f32| {
            let phase = Text::from(phase);
            let _guard = one_at_a_time.lock();
            // SAFETY: the caller's function with the caller's argument; the string lives during the call.
            unsafe { (callback.function)(callback.user(), phase.as_ptr(), fraction) }
        })
    }
}

const KEYS: &[Key<EngineOptionsBody>] = &[
    Key {
        name: "threads",
        values: "a whole number, 0 for the environment's",
        set: |o, v| {
            o.threads = v.parse().ok()?;
            Some(())
        },
    },
    Key {
        name: "memory_limit",
        values: "a number of bytes, 0 for the machine's memory",
        set: |o, v| {
            o.build.memory_limit = v.parse().ok()?;
            Some(())
        },
    },
    Key {
        name: "device",
        values: "a device's number, from 0",
        set: |o, v| {
            o.build.device = v.parse().ok()?;
            Some(())
        },
    },
    Key {
        name: "profile",
        values: "INPUT=MIN:OPT:MAX, several inputs separated by semicolons, as in image=1x3x224x224:8x3x224x224:32x3x224x224; \
                 values of an input that is a shape in brackets, as in size=[64,64]:[224,224]:[512,512]",
        set: |o, v| {
            o.build.profiles.push(parse_profile(v).ok()?);
            Some(())
        },
    },
    Key {
        name: "tensorrt.library",
        values: "a file or a folder",
        set: |o, v| {
            o.build.tensorrt.library = Some(Some(v).filter(|v| !v.is_empty())?.into());
            Some(())
        },
    },
    Key {
        name: "tensorrt.allow_untested",
        values: "true or false",
        set: |o, v| {
            o.build.tensorrt.allow_untested = keys::boolean(v)?;
            Some(())
        },
    },
    Key {
        name: "tensorrt.workspace",
        values: "a number of bytes",
        set: |o, v| {
            o.build.tensorrt.workspace = Some(v.parse().ok()?);
            Some(())
        },
    },
    Key {
        name: "tensorrt.optimization_level",
        values: "0 to 5",
        set: |o, v| {
            o.build.tensorrt.optimization_level = Some(v.parse().ok().filter(|level| (0..=5).contains(level))?);
            Some(())
        },
    },
    Key {
        name: "tensorrt.tf32",
        values: "true or false",
        set: |o, v| {
            o.build.tensorrt.tf32 = Some(keys::boolean(v)?);
            Some(())
        },
    },
    Key {
        name: "trust_plan",
        values: "true or false",
        set: |o, v| {
            o.trust_plan = keys::boolean(v)?;
            Some(())
        },
    },
    Key {
        name: "tensorrt.timing_cache",
        values: "a file",
        set: |o, v| {
            o.build.tensorrt.timing_cache = Some(Some(v).filter(|v| !v.is_empty())?.into());
            Some(())
        },
    },
    Key {
        name: "tensorrt.tactic_sources",
        values: "cublas, cublas_lt, cudnn, edge_mask_convolutions, jit_convolutions, separated by commas; or nothing",
        set: |o, v| {
            let names = v.split(',').map(str::trim).filter(|n| !n.is_empty());
            o.build.tensorrt.tactic_sources = Some(names.map(TacticSource::parse).collect::<crate::Result<_>>().ok()?);
            Some(())
        },
    },
    Key {
        name: "tensorrt.hardware_compatibility",
        values: "none, ampere_plus or same_compute_capability",
        set: |o, v| {
            o.build.tensorrt.hardware_compatibility = Some(HardwareCompatibility::parse(v).ok()?);
            Some(())
        },
    },
    Key {
        name: "tensorrt.version_compatible",
        values: "true or false",
        set: |o, v| {
            o.build.tensorrt.version_compatible = keys::boolean(v)?;
            Some(())
        },
    },
    Key {
        name: "tensorrt.compute_capabilities",
        values: "numbers as 8.6, or current, separated by commas",
        set: |o, v| {
            let found = v.split(',').map(str::trim).map(ComputeCapability::parse);
            o.build.tensorrt.compute_capabilities = found.collect::<crate::Result<_>>().ok()?;
            Some(())
        },
    },
    Key {
        name: "tensorrt.verbosity",
        values: "detailed, layer_names or none",
        set: |o, v| {
            o.build.tensorrt.verbosity = Verbosity::parse(v).ok()?;
            Some(())
        },
    },
    Key {
        name: "tensorrt.aux_streams",
        values: "0 to 64",
        set: |o, v| {
            o.build.tensorrt.aux_streams = Some(v.parse().ok().filter(|n| (0..=64).contains(n))?);
            Some(())
        },
    },
    Key {
        name: "tensorrt.scratch_folder",
        values: "a folder",
        set: |o, v| {
            o.build.tensorrt.scratch_folder = Some(Some(v).filter(|v| !v.is_empty())?.into());
            Some(())
        },
    },
    Key {
        name: "tensorrt.require_fp16",
        values: "true or false",
        set: |o, v| {
            o.build.tensorrt.require_fp16 = keys::boolean(v)?;
            Some(())
        },
    },
];

/// New options with the defaults. Free them with mezzo_engine_options_free().
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_engine_options_new() -> *mut mezzo_engine_options_t {
    owned(EngineOptionsBody::default())
}

/// Frees options. NULL is allowed. Engines made with them are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_options_free(options: *mut mezzo_engine_options_t) {
    // SAFETY: the header's contract.
    unsafe { free_owned(options) }
}

/// Sets the number of threads that an execution uses, the calling one included; 0, the default, leaves it to the
/// environment.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_options_set_threads(
    options: *mut mezzo_engine_options_t,
    threads: usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_engine_options_set_threads", |c| {
            c.get_mut("options", options)?.threads = threads;
            Ok(())
        })
    }
}

/// Sets the device that engines of "tensorrt" and "tensorrt-rtx" are built for and executed on, numbered from 0; 0 is the default.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_options_set_device(
    options: *mut mezzo_engine_options_t,
    device: usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_engine_options_set_device", |c| {
            c.get_mut("options", options)?.build.device = device;
            Ok(())
        })
    }
}

/// Sets how many bytes the intermediate values of one execution on the CPU backend may take; 0, the default, is the
/// machine's memory. An execution that needs more ends with MEZZO_ERROR_OUT_OF_MEMORY, and the message names the node, the
/// bytes it needs, the bytes in use and the limit. Constants and inputs do not count.
///
/// An engine file does not keep the limit: it is asked for again when the engine is loaded. The TensorRT backends refuse
/// it: they have tensorrt.workspace.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_options_set_memory_limit(
    options: *mut mezzo_engine_options_t,
    bytes: usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_engine_options_set_memory_limit", |c| {
            c.get_mut("options", options)?.build.memory_limit = bytes;
            Ok(())
        })
    }
}

/// Sets a callback that watches a build and can stop it. `callback` NULL takes it away again.
///
/// `release(user)` is called once, when the options are freed or another callback is set (after a build that is still
/// using it), and not if this call fails. The callback must not use the options, nor throw.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_options_set_progress(
    options: *mut mezzo_engine_options_t,
    callback: mezzo_progress_callback_t,
    user: *mut c_void,
    release: mezzo_release_callback_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_engine_options_set_progress", |c| {
            let options = c.get_mut("options", options)?;
            options.progress = callback.map(|f| Arc::new(Callback::new(f, user, release)));
            Ok(())
        })
    }
}

/// Sets an option by name.
///
/// - threads: see mezzo_engine_options_set_threads().
/// - memory_limit: see mezzo_engine_options_set_memory_limit().
/// - profile: adds a profile, the smallest, most frequent and largest shapes of dynamic inputs, as in
///   "image=1x3x224x224:8x3x224x224:32x3x224x224" (several inputs are separated by semicolons). For an input whose values
///   the model uses as a shape, the values stand in brackets: "size=[64,64]:[224,224]:[512,512]". The TensorRT backends
///   need a profile for a model with dynamic inputs; the CPU backend takes any shape.
/// - tensorrt.library: the file or folder of TensorRT, instead of the places it is looked for.
/// - tensorrt.allow_untested: true lets versions pass that are newer than the tested ones.
/// - tensorrt.workspace: the most scratch memory of an engine, in bytes.
/// - tensorrt.optimization_level: how long TensorRT's builder searches, 0 to 5.
/// - tensorrt.tf32: whether FP32 matrix products may run in TF32.
/// - trust_plan: true lets mezzo_engine_load_plan() load a plan, which is code.
/// - tensorrt.timing_cache: a file with the timings of earlier builds (the one that trtexec reads too), which makes builds
///   quicker. It is read, used, and written after the build; a file of another device or version is replaced.
/// - tensorrt.tactic_sources: where tactics may come from: cublas, cublas_lt, cudnn, edge_mask_convolutions,
///   jit_convolutions, separated by commas. What is not named is not used.
/// - tensorrt.hardware_compatibility: none, ampere_plus or same_compute_capability: where the engine runs beside the kind
///   of device it is built on.
/// - tensorrt.version_compatible: true makes an engine that other versions of the same major version run too.
/// - tensorrt.compute_capabilities: what a TensorRT-RTX engine is built for, as in "8.6,12.0", or current.
/// - tensorrt.verbosity: how much the engine tells of its layers: detailed (the default), layer_names or none.
/// - tensorrt.aux_streams: the most streams beside the main one that the engine uses, 0 to 64.
/// - tensorrt.scratch_folder: a folder through which the model goes to TensorRT's parser, as a model above 2 GB always does:
///   by default through the system's folder for temporary files.
/// - tensorrt.require_fp16: true makes it an error if layers of an FP16 model run in float.
///
/// What the version of TensorRT at hand does not have is an error of the build that names the option.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such option (the message lists all), MEZZO_ERROR_INVALID_ARGUMENT if it
/// does not take that value.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_options_set(
    options: *mut mezzo_engine_options_t,
    key: *const c_char,
    value: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_engine_options_set", |c| {
            keys::set(KEYS, c.get_mut("options", options)?, c.text("key", key)?, c.text("value", value)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_options_are_set_by_name() {
        let mut options = EngineOptionsBody::default();
        for (key, value) in [
            ("profile", "x=1:2:3"),
            ("profile", "x=4;y=1x2"),
            ("memory_limit", "123456"),
            ("tensorrt.library", "/opt/trt"),
            ("tensorrt.allow_untested", "true"),
            ("tensorrt.workspace", "1048576"),
            ("tensorrt.optimization_level", "3"),
            ("tensorrt.tf32", "false"),
            ("tensorrt.timing_cache", "/tmp/timings"),
            ("tensorrt.tactic_sources", "jit_convolutions, cublas"),
            ("tensorrt.hardware_compatibility", "ampere_plus"),
            ("tensorrt.version_compatible", "true"),
            ("tensorrt.compute_capabilities", "8.6,current"),
            ("tensorrt.verbosity", "none"),
            ("tensorrt.aux_streams", "2"),
            ("tensorrt.scratch_folder", "/tmp"),
            ("tensorrt.require_fp16", "true"),
        ] {
            keys::set(KEYS, &mut options, key, value).unwrap();
        }
        assert_eq!(options.build.profiles.len(), 2);
        assert_eq!(options.build.memory_limit, 123_456);
        assert_eq!(options.build.profiles[0]["x"].max, [3]);
        let trt = &options.build.tensorrt;
        assert_eq!(trt.library.as_deref(), Some(std::path::Path::new("/opt/trt")));
        assert_eq!((trt.allow_untested, trt.workspace, trt.tf32), (true, Some(1 << 20), Some(false)));
        assert_eq!(trt.optimization_level, Some(3));
        assert_eq!(trt.tactic_sources, Some(vec![TacticSource::JitConvolutions, TacticSource::Cublas]));
        assert_eq!(trt.hardware_compatibility, Some(HardwareCompatibility::AmperePlus));
        assert_eq!(trt.compute_capabilities, [ComputeCapability::Number(86), ComputeCapability::Current]);
        assert_eq!((trt.version_compatible, trt.verbosity, trt.aux_streams), (true, Verbosity::None, Some(2)));
        assert!(trt.require_fp16 && trt.timing_cache.is_some());
        for (key, value) in [
            ("profile", "x"),
            ("memory_limit", "1M"),
            ("tensorrt.library", ""),
            ("tensorrt.workspace", "-1"),
            ("tensorrt.optimization_level", "6"),
            ("tensorrt.tf32", "maybe"),
            ("tensorrt.tactic_sources", "cuda"),
            ("tensorrt.hardware_compatibility", "all"),
            ("tensorrt.compute_capabilities", "86"),
            ("tensorrt.verbosity", "loud"),
            ("tensorrt.aux_streams", "-1"),
        ] {
            assert!(keys::set(KEYS, &mut options, key, value).is_err(), "{key}={value}");
        }
    }
}
