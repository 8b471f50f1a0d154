//! Engines.

use super::boundary::{call, read};
use super::callback::{caller_bytes, mezzo_release_callback_t};
use super::engine_options::{EngineOptionsBody, mezzo_engine_options_t};
use super::env::mezzo_env_t;
use super::error::mezzo_error_t;
use super::handle::{free_shared, handle, retain_shared, shared};
use super::io::{IoList, mezzo_io_t};
use super::model::mezzo_model_t;
use super::strings::{EMPTY, Text};
use super::value::{self, mezzo_value_t};
use crate::backend::{BuildOptions, LoadOptions, Progress};
use crate::engine::{Engine, random_inputs};
use crate::hash::HashMap;
use crate::{Error, ErrorCode};
use std::ffi::{c_char, c_void};
use std::sync::{Arc, OnceLock};

/// What a backend made of a model: ready to open contexts, which execute it. Immutable, shared and counted.
pub struct mezzo_engine_t {
    _opaque: [u8; 0],
}

pub(super) struct EngineBody {
    pub(super) engine: Arc<Engine>,
    inputs: IoList,
    outputs: IoList,
    backend: Text,
    backend_version: Text,
    json: OnceLock<Text>,
}

handle!(mezzo_engine_t, EngineBody, "an engine", b"engi");

impl From<Arc<Engine>> for EngineBody {
    fn from(engine: Arc<Engine>) -> Self {
        let info = engine.info();
        EngineBody {
            inputs: IoList::of(info.inputs.iter()),
            outputs: IoList::of(info.outputs.iter()),
            backend: info.backend.as_str().into(),
            backend_version: info.backend_version.as_str().into(),
            json: OnceLock::new(),
            engine,
        }
    }
}

fn load_options(options: Option<&EngineOptionsBody>) -> LoadOptions {
    options.map_or_else(LoadOptions::default, |o| LoadOptions {
        threads: o.threads,
        memory_limit: o.build.memory_limit,
        device: o.build.device,
        library_paths: o.build.library_paths.clone(),
        library: o.build.tensorrt.library.clone(),
        allow_untested: o.build.tensorrt.allow_untested,
        trust_plan: o.trust_plan,
    })
}

/// Builds an engine. The model is not needed afterwards.
///
/// env: NULL for the default environment.
/// backend: "cpu", "tensorrt" or "tensorrt-rtx".
/// options: NULL for the defaults.
/// engine: receives the engine; give it back with mezzo_engine_free().
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such backend, or its library is not installed; MEZZO_ERROR_UNSUPPORTED if it lacks operators, listing all
/// of them; MEZZO_ERROR_CANCELLED by the progress callback; MEZZO_ERROR_INVALID_MODEL; MEZZO_ERROR_OUT_OF_MEMORY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_build(
    env: *const mezzo_env_t,
    model: *const mezzo_model_t,
    backend: *const c_char,
    options: *const mezzo_engine_options_t,
    engine: *mut *mut mezzo_engine_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_engine_build", |c| {
            let env = c.env(env)?;
            let model = c.get("model", model)?;
            let backend = c.text("backend", backend)?;
            let options = c.optional("options", options)?;
            let out = c.out("engine", engine)?;
            let callback = options.and_then(EngineOptionsBody::progress);
            let progress =
                Progress { callback: callback.as_ref().map(|f| -> &(dyn Fn(&str, f32) -> bool + Sync) { f }) };
            let build =
                options.map_or_else(BuildOptions::default, |o| BuildOptions { threads: o.threads, ..o.build.clone() });
            let built = Engine::build(&env, &model.model, backend, &build, &progress)?;
            out.set(shared(built.into()));
            Ok(())
        })
    }
}

/// Writes the engine to one file, whole or not at all.
///
/// Errors: MEZZO_ERROR_IO or MEZZO_ERROR_NOT_FOUND if the place cannot be written, MEZZO_ERROR_INVALID_ARGUMENT if it is
/// a directory.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_save_file(
    engine: *const mezzo_engine_t,
    path: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe { call("mezzo_engine_save_file", |c| c.get("engine", engine)?.engine.save(c.path("path", path)?)) }
}

/// Writes the plan of an engine of the TensorRT backends to a file, as TensorRT's own tools read it: without what an engine
/// file has beside it (description, checksums). Whole or not at all.
///
/// Errors: MEZZO_ERROR_UNSUPPORTED if the backend has no plans; else as mezzo_engine_save_file().
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_save_plan(
    engine: *const mezzo_engine_t,
    path: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe { call("mezzo_engine_save_plan", |c| c.get("engine", engine)?.engine.save_plan(c.path("path", path)?)) }
}

/// Loads a plan that TensorRT's own tools, or mezzo_engine_save_plan(), wrote.
///
/// A plan is code that runs in this process, and nothing guards it: the option trust_plan must be set. The library and a
/// device that can run it must be there, because nothing else knows its inputs and outputs.
///
/// env: NULL for the default environment.
/// backend: "tensorrt" or "tensorrt-rtx".
/// engine: receives the engine; give it back with mezzo_engine_free().
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if trust_plan is not set; MEZZO_ERROR_NOT_FOUND or MEZZO_ERROR_IO if the file cannot be
/// read or there is no library or device; MEZZO_ERROR_UNSUPPORTED if the backend has no plans or the library refuses this one.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_load_plan(
    env: *const mezzo_env_t,
    path: *const c_char,
    backend: *const c_char,
    options: *const mezzo_engine_options_t,
    engine: *mut *mut mezzo_engine_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_engine_load_plan", |c| {
            let env = c.env(env)?;
            let path = c.path("path", path)?;
            let backend = c.text("backend", backend)?;
            let options = load_options(c.optional("options", options)?);
            let out = c.out("engine", engine)?;
            out.set(shared(Engine::load_plan(&env, path, backend, &options)?.into()));
            Ok(())
        })
    }
}

/// Loads an engine that mezzo_engine_save_file() wrote. A large file is mapped and must not be changed in place while
/// the engine lives.
///
/// env: NULL for the default environment.
/// options: NULL for the defaults.
/// engine: receives the engine; give it back with mezzo_engine_free().
///
/// Errors: MEZZO_ERROR_NOT_FOUND or MEZZO_ERROR_IO if the file cannot be read; MEZZO_ERROR_INVALID_FILE if it is damaged,
/// truncated or no engine; MEZZO_ERROR_VERSION if another version wrote it.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_load_file(
    env: *const mezzo_env_t,
    path: *const c_char,
    options: *const mezzo_engine_options_t,
    engine: *mut *mut mezzo_engine_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_engine_load_file", |c| {
            let env = c.env(env)?;
            let path = c.path("path", path)?;
            let options = load_options(c.optional("options", options)?);
            let out = c.out("engine", engine)?;
            out.set(shared(Engine::load(&env, path, &options)?.into()));
            Ok(())
        })
    }
}

/// Loads an engine from memory.
///
/// env: NULL for the default environment.
/// data, size: the content of an engine file.
/// release: NULL makes the call copy the data. Otherwise the data is borrowed, must not change, and `release(user)` is
///   called once when the engine and its contexts are gone; not if this call fails.
/// options: NULL for the defaults.
/// engine: receives the engine; give it back with mezzo_engine_free().
///
/// Errors: as mezzo_engine_load_file().
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_load_memory(
    env: *const mezzo_env_t,
    data: *const c_void,
    size: usize,
    release: mezzo_release_callback_t,
    user: *mut c_void,
    options: *const mezzo_engine_options_t,
    engine: *mut *mut mezzo_engine_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_engine_load_memory", |c| {
            let env = c.env(env)?;
            let options = load_options(c.optional("options", options)?);
            let out = c.out("engine", engine)?;
            let (bytes, loan) = caller_bytes(c, data, size, release, user)?;
            let loaded = Engine::load_bytes(&env, bytes, &options)?;
            loan.accept();
            out.set(shared(loaded.into()));
            Ok(())
        })
    }
}

/// Number of inputs; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_input_count(engine: *const mezzo_engine_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(engine, 0, |e| e.inputs.len()) }
}

/// Describes an input by its place; NULL if there is no such input. Borrowed from the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_input(engine: *const mezzo_engine_t, index: usize) -> *const mezzo_io_t {
    // SAFETY: the header's contract.
    unsafe { read(engine, std::ptr::null(), |e| e.inputs.at(index)) }
}

/// Describes an input by its name.
///
/// input: receives the description, borrowed from the engine.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such input; the message lists those there are.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_find_input(
    engine: *const mezzo_engine_t,
    name: *const c_char,
    input: *mut *const mezzo_io_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_engine_find_input", |c| {
            let engine = c.get("engine", engine)?;
            let name = c.text("name", name)?;
            let out = c.out("input", input)?;
            out.set(engine.inputs.named(name, "input")?);
            Ok(())
        })
    }
}

/// Number of outputs; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_output_count(engine: *const mezzo_engine_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(engine, 0, |e| e.outputs.len()) }
}

/// Describes an output by its place; NULL if there is no such output. Borrowed from the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_output(engine: *const mezzo_engine_t, index: usize) -> *const mezzo_io_t {
    // SAFETY: the header's contract.
    unsafe { read(engine, std::ptr::null(), |e| e.outputs.at(index)) }
}

/// Describes an output by its name.
///
/// output: receives the description, borrowed from the engine.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such output; the message lists those there are.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_find_output(
    engine: *const mezzo_engine_t,
    name: *const c_char,
    output: *mut *const mezzo_io_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_engine_find_output", |c| {
            let engine = c.get("engine", engine)?;
            let name = c.text("name", name)?;
            let out = c.out("output", output)?;
            out.set(engine.outputs.named(name, "output")?);
            Ok(())
        })
    }
}

/// Name of the engine's backend ("cpu"); the empty string for NULL. Borrowed from the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_backend(engine: *const mezzo_engine_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(engine, EMPTY, |e| e.backend.as_ptr()) }
}

/// Version of the backend that built the engine; the empty string for NULL. Borrowed from the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_backend_version(engine: *const mezzo_engine_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(engine, EMPTY, |e| e.backend_version.as_ptr()) }
}

/// Bytes of the engine's constants, in their declared types; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_weight_bytes(engine: *const mezzo_engine_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(engine, 0, |e| e.engine.info().weight_bytes) }
}

/// Peak bytes of intermediate tensors of one execution, if all shapes are fixed; -1 if it is not known, and for NULL.
///
/// The CPU backend finds it out by an execution on zeros, when it is first asked: the call takes as long. For models with
/// loops it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_activation_bytes(engine: *const mezzo_engine_t) -> i64 {
    // SAFETY: the header's contract.
    unsafe { read(engine, -1, |e| signed(e.engine.activation_bytes())) }
}

/// A size that may not be known, as C gets it.
pub(super) fn signed(bytes: Option<u64>) -> i64 {
    bytes.and_then(|b| i64::try_from(b).ok()).unwrap_or(-1)
}

/// Number of nodes (layers) of the engine; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_node_count(engine: *const mezzo_engine_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(engine, 0, |e| e.engine.info().nodes) }
}

/// Nodes (layers) that compute on FP16 or BF16 tensors; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_half_nodes(engine: *const mezzo_engine_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(engine, 0, |e| e.engine.info().half_nodes) }
}

/// Nodes (layers) that compute on FP32 or FP64 tensors; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_float_nodes(engine: *const mezzo_engine_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(engine, 0, |e| e.engine.info().float_nodes) }
}

/// The engine's own layers as JSON, for people and tools; what is in it depends on the backend. Borrowed from the
/// engine; the empty string for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_inspect_json(engine: *const mezzo_engine_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(engine, EMPTY, |e| e.json.get_or_init(|| e.engine.inspect_json().into()).as_ptr()) }
}

/// Makes a random value for an input: floats from -1 to 1, integers 0 or 1. The same seed gives the same value.
///
/// name: of the input.
/// dims, rank: the shape; NULL and 0 take the declared one with 1 for every dynamic dimension.
/// value: receives the value; free it with mezzo_value_free().
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such input, MEZZO_ERROR_SHAPE_MISMATCH if its rank is not known and no
/// shape is given, MEZZO_ERROR_UNSUPPORTED if it is no tensor of numbers.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_random_input(
    engine: *const mezzo_engine_t,
    name: *const c_char,
    dims: *const i64,
    rank: usize,
    seed: u64,
    value: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_engine_random_input", |c| {
            let engine = c.get("engine", engine)?;
            let name = c.text("name", name)?;
            let shape = if dims.is_null() && rank == 0 { None } else { Some(c.dims("dims", dims, rank)?) };
            let out = c.out("value", value)?;
            engine.inputs.named(name, "input")?;
            let inputs = &engine.engine.info().inputs;
            let input = inputs.iter().find(|io| io.name == name);
            let shapes: HashMap<String, Vec<usize>> = shape.map(|s| (name.to_string(), s)).into_iter().collect();
            let mut values = random_inputs(input.map_or(&[], std::slice::from_ref), seed, &shapes)?;
            let made = values.pop().ok_or_else(|| Error::new(ErrorCode::Internal, "no value was made"))?;
            out.set(value::boxed(made.1));
            Ok(())
        })
    }
}

/// One more reference to the same engine, to be given back with mezzo_engine_free(). NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_retain(engine: *const mezzo_engine_t) -> *mut mezzo_engine_t {
    // SAFETY: the header's contract.
    unsafe { retain_shared(engine) }
}

/// Gives a reference back. NULL is allowed. Contexts keep their engine alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_engine_free(engine: *mut mezzo_engine_t) {
    // SAFETY: the header's contract.
    unsafe { free_shared(engine) }
}
