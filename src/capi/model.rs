//! Models: loaded, described, saved.

use super::boundary::{call, read};
use super::buffer::mezzo_buffer_t;
use super::callback::{caller_bytes, mezzo_release_callback_t};
use super::env::mezzo_env_t;
use super::error::mezzo_error_t;
use super::handle::{free_shared, handle, retain_shared, shared};
use super::io::{IoList, mezzo_io_t};
use super::model_options::{mezzo_load_options_t, mezzo_save_options_t};
use super::strings::{EMPTY, Text};
use crate::backend::IoInfo;
use crate::device::Buffer;
use crate::engine::LogLevel;
use crate::frontend::{self, onnx};
use crate::model::graph::norm_domain;
use crate::model::{Model, Name};
use crate::sys::memory::Block;
use crate::{Result, bail};
use std::ffi::{c_char, c_void};

/// A model: a graph with its weights. Immutable, shared and counted.
///
/// Its weights are views of the file or memory it was loaded from, and a converted model shares them.
pub struct mezzo_model_t {
    _opaque: [u8; 0],
}

pub(super) struct ModelBody {
    pub(super) model: Model,
    inputs: IoList,
    outputs: IoList,
    producer_name: Text,
    producer_version: Text,
    opsets: Vec<Text>,
    metadata: Vec<(Text, Text)>,
    weight_bytes: u64,
}

handle!(mezzo_model_t, ModelBody, "a model", b"modl");

impl From<Model> for ModelBody {
    fn from(model: Model) -> Self {
        let text = |t: &Option<Name>| Text::from(t.as_deref().unwrap_or(""));
        let inputs: Vec<IoInfo> = model.graph.real_inputs().map(IoInfo::of).collect();
        let outputs: Vec<IoInfo> = model.graph.outputs.iter().map(IoInfo::of).collect();
        ModelBody {
            inputs: IoList::of(inputs.iter()),
            outputs: IoList::of(outputs.iter()),
            producer_name: text(&model.producer_name),
            producer_version: text(&model.producer_version),
            opsets: model.opset_imports.iter().map(|o| Text::from(&*o.domain)).collect(),
            metadata: model.metadata.iter().map(|(k, v)| (Text::from(&**k), Text::from(&**v))).collect(),
            weight_bytes: model.weight_bytes(),
            model,
        }
    }
}

/// A handle over a model.
pub(super) fn boxed(model: Model) -> *mut mezzo_model_t {
    shared(model.into())
}

/// Loads a model from a file: ONNX with the external data beside it, a .pt2 file of torch.export, or a TorchScript archive
/// with the shapes of mezzo_load_options_add_input().
///
/// env: receives log lines; NULL for the default environment.
/// path: of a regular file. Large files are mapped and must not be changed in place, see mezzo_map_t.
/// options: NULL for the defaults.
/// model: receives the model; give it back with mezzo_model_free().
///
/// Errors: MEZZO_ERROR_NOT_FOUND or MEZZO_ERROR_IO if the file, or a file with external data, cannot be read;
/// MEZZO_ERROR_INVALID_FILE if it is damaged, truncated or no ONNX file; MEZZO_ERROR_INVALID_MODEL if it breaks the
/// rules of ONNX; MEZZO_ERROR_UNSUPPORTED if it uses what this version does not know.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_load_file(
    env: *const mezzo_env_t,
    path: *const c_char,
    options: *const mezzo_load_options_t,
    model: *mut *mut mezzo_model_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_model_load_file", |c| {
            let env = c.env(env)?;
            let path = c.path("path", path)?;
            let options = c.optional("options", options)?.map(|o| o.options()).unwrap_or_default();
            let out = c.out("model", model)?;
            let loaded = frontend::load_file(path, &options)?;
            let nodes = loaded.graph.nodes.len();
            env.log(LogLevel::Info, &format!("loaded '{}': {nodes} nodes in the main graph", path.display()));
            out.set(boxed(loaded));
            Ok(())
        })
    }
}

/// Loads a model from memory; formats as for mezzo_model_load_file().
///
/// env: receives log lines; NULL for the default environment.
/// data, size: the content of a model file.
/// release: NULL makes the call copy the data. Otherwise the data is borrowed, must not change, and `release(user)` is
///   called once when the model and everything made from it are gone; not if this call fails.
/// options: NULL for the defaults. External data comes from mezzo_load_options_add_external() or from the folder of
///   mezzo_load_options_set_external_folder().
/// model: receives the model; give it back with mezzo_model_free().
///
/// Errors: as mezzo_model_load_file(); MEZZO_ERROR_NOT_FOUND if external data is missing.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_load_memory(
    env: *const mezzo_env_t,
    data: *const c_void,
    size: usize,
    release: mezzo_release_callback_t,
    user: *mut c_void,
    options: *const mezzo_load_options_t,
    model: *mut *mut mezzo_model_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_model_load_memory", |c| {
            let env = c.env(env)?;
            let options = c.optional("options", options)?;
            let out = c.out("model", model)?;
            let (bytes, loan) = caller_bytes(c, data, size, release, user)?;
            let external = options.map_or(onnx::External::None, |o| o.external());
            let load_options = options.map(|o| o.options()).unwrap_or_default();
            let loaded = frontend::load_bytes(bytes, external, &load_options)?;
            loan.accept();
            let nodes = loaded.graph.nodes.len();
            env.log(LogLevel::Info, &format!("loaded a model of {size} bytes: {nodes} nodes in the main graph"));
            out.set(boxed(loaded));
            Ok(())
        })
    }
}

/// Writes the model to an ONNX file, whole or not at all. The file it was loaded from is allowed.
///
/// options: NULL for the defaults.
///
/// Errors: MEZZO_ERROR_IO or MEZZO_ERROR_NOT_FOUND if the place cannot be written, MEZZO_ERROR_INVALID_ARGUMENT if it is
/// a directory.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_save_file(
    model: *const mezzo_model_t,
    path: *const c_char,
    options: *const mezzo_save_options_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_model_save_file", |c| {
            let model = c.get("model", model)?;
            let path = c.path("path", path)?;
            let external = c.optional("options", options)?.map(|o| o.external).unwrap_or_default();
            onnx::save_file(&model.model, path, external)
        })
    }
}

/// Writes the model to memory, as one ONNX message with its weights inside.
///
/// buffer: receives a buffer with the content of a model file; give it back with mezzo_buffer_free().
///
/// Errors: MEZZO_ERROR_UNSUPPORTED above the 2 GB that the format allows, MEZZO_ERROR_OUT_OF_MEMORY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_save_memory(
    model: *const mezzo_model_t,
    buffer: *mut *mut mezzo_buffer_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_model_save_memory", |c| {
            let model = c.get("model", model)?;
            let out = c.out("buffer", buffer)?;
            out.set(shared(Buffer::from_block(Block::from_vec(onnx::to_bytes(&model.model)?)?)));
            Ok(())
        })
    }
}

/// Number of inputs that a run needs (weights that a file lists as inputs do not count); 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_input_count(model: *const mezzo_model_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(model, 0, |m| m.inputs.len()) }
}

/// Describes an input by its place; NULL if there is no such input. Borrowed from the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_input(model: *const mezzo_model_t, index: usize) -> *const mezzo_io_t {
    // SAFETY: the header's contract.
    unsafe { read(model, std::ptr::null(), |m| m.inputs.at(index)) }
}

/// Describes an input by its name.
///
/// input: receives the description, borrowed from the model.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such input; the message lists those there are.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_find_input(
    model: *const mezzo_model_t,
    name: *const c_char,
    input: *mut *const mezzo_io_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_model_find_input", |c| {
            let model = c.get("model", model)?;
            let name = c.text("name", name)?;
            let out = c.out("input", input)?;
            out.set(model.inputs.named(name, "input")?);
            Ok(())
        })
    }
}

/// Number of outputs; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_output_count(model: *const mezzo_model_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(model, 0, |m| m.outputs.len()) }
}

/// Describes an output by its place; NULL if there is no such output. Borrowed from the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_output(model: *const mezzo_model_t, index: usize) -> *const mezzo_io_t {
    // SAFETY: the header's contract.
    unsafe { read(model, std::ptr::null(), |m| m.outputs.at(index)) }
}

/// Describes an output by its name.
///
/// output: receives the description, borrowed from the model.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such output; the message lists those there are.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_find_output(
    model: *const mezzo_model_t,
    name: *const c_char,
    output: *mut *const mezzo_io_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_model_find_output", |c| {
            let model = c.get("model", model)?;
            let name = c.text("name", name)?;
            let out = c.out("output", output)?;
            out.set(model.outputs.named(name, "output")?);
            Ok(())
        })
    }
}

/// Name of the tool that made the model; empty if the model does not say, and for NULL. Borrowed from the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_producer_name(model: *const mezzo_model_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(model, EMPTY, |m| m.producer_name.as_ptr()) }
}

/// Version of the tool that made the model; empty if the model does not say, and for NULL. Borrowed from the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_producer_version(model: *const mezzo_model_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(model, EMPTY, |m| m.producer_version.as_ptr()) }
}

/// Version of the ONNX format (IR version); 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_ir_version(model: *const mezzo_model_t) -> i64 {
    // SAFETY: the header's contract.
    unsafe { read(model, 0, |m| m.model.ir_version) }
}

/// Version of the operator set of a domain; 0 if the model does not import it, and for NULL.
///
/// domain: "" or "ai.onnx" is the standard one; NULL stands for it too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_opset(model: *const mezzo_model_t, domain: *const c_char) -> i64 {
    // SAFETY: the header's contract.
    unsafe {
        read(model, 0, |m| {
            // SAFETY: the header's contract.
            let domain = if domain.is_null() { c"" } else { std::ffi::CStr::from_ptr(domain) };
            domain.to_str().ok().and_then(|d| m.model.opset(norm_domain(d))).unwrap_or(0)
        })
    }
}

/// Number of operator sets that the model imports; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_opset_count(model: *const mezzo_model_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(model, 0, |m| m.opsets.len()) }
}

/// Domain of an imported operator set, as the file spells it; NULL if there is no such set. Borrowed from the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_opset_domain(model: *const mezzo_model_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(model, std::ptr::null(), |m| m.opsets.get(index).map_or(std::ptr::null(), Text::as_ptr)) }
}

/// Number of metadata entries; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_metadata_count(model: *const mezzo_model_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(model, 0, |m| m.metadata.len()) }
}

/// Key of a metadata entry; NULL if there is no such entry. Borrowed from the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_metadata_key(model: *const mezzo_model_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(model, std::ptr::null(), |m| m.metadata.get(index).map_or(std::ptr::null(), |e| e.0.as_ptr())) }
}

/// Value of a metadata entry; NULL if there is no such entry. Borrowed from the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_metadata_value(model: *const mezzo_model_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(model, std::ptr::null(), |m| m.metadata.get(index).map_or(std::ptr::null(), |e| e.1.as_ptr())) }
}

/// Value of the metadata entry with that key.
///
/// value: receives the string, borrowed from the model.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such key; the message lists those there are.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_find_metadata(
    model: *const mezzo_model_t,
    key: *const c_char,
    value: *mut *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_model_find_metadata", |c| {
            let model = c.get("model", model)?;
            let key = c.text("key", key)?;
            let out = c.out("value", value)?;
            out.set(model.metadata_value(key)?);
            Ok(())
        })
    }
}

impl ModelBody {
    fn metadata_value(&self, key: &str) -> Result<*const c_char> {
        let entries = &self.model.metadata;
        let Some(index) = entries.iter().position(|(k, _)| &**k == key) else {
            let keys: Vec<String> = entries.iter().take(20).map(|(k, _)| format!("'{k}'")).collect();
            let keys = if keys.is_empty() { "none".to_string() } else { keys.join(", ") };
            bail!(NotFound, "the model has no metadata '{key}': its keys are {keys}");
        };
        Ok(self.metadata[index].1.as_ptr())
    }
}

/// Number of nodes in the main graph; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_node_count(model: *const mezzo_model_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(model, 0, |m| m.model.graph.nodes.len()) }
}

/// Bytes of all constants of the model, in their declared types; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_weight_bytes(model: *const mezzo_model_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(model, 0, |m| m.weight_bytes) }
}

/// One more reference to the same model, to be given back with mezzo_model_free(). NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_retain(model: *const mezzo_model_t) -> *mut mezzo_model_t {
    // SAFETY: the header's contract.
    unsafe { retain_shared(model) }
}

/// Gives a reference back. NULL is allowed. Models and engines made from it are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_free(model: *mut mezzo_model_t) {
    // SAFETY: the header's contract.
    unsafe { free_shared(model) }
}
