//! ONNX read and written (docs/onnx.md).
//!
//! Reading: the file's bytes (read or mapped) are walked once by [`prescan`], which refuses what the decoder would lose;
//! decoded by prost into [`proto`]; turned into a [`Model`] whose weights are views of the bytes; and its structure is
//! checked. Writing streams: lengths are measured first, then everything is written in order, weights chunk by chunk.

mod external;
mod fields;
mod prescan;
#[allow(clippy::all)]
mod proto;
mod read;
mod read_tensor;
mod save;
mod sniff;
#[cfg(test)]
mod tests;
mod wire;
mod write;

use crate::hash::HashMap;
use crate::model::{Model, Tensor, order, validate};
use crate::sys::map;
use crate::{Result, err};
use bytes::Bytes;
use prost::Message;
use std::path::Path;

/// When files are memory-mapped instead of read. A mapped file must not be changed in place while a model, or anything
/// made from it, is alive: if it shrinks, the process is killed (SIGBUS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MapMode {
    /// Files above 64 MB are mapped.
    #[default]
    Auto,
    /// Always map.
    Always,
    /// Never map.
    Never,
}

/// How a model is loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// When files are mapped.
    pub map: MapMode,
}

/// Where tensors with `data_location = EXTERNAL` are found.
#[derive(Debug, Clone, Copy)]
pub enum External<'a> {
    /// Nowhere: such a tensor is an error that names it.
    None,
    /// In files of this folder; a path that climbs out of it is refused.
    Folder(&'a Path),
    /// In memory, by location.
    Memory(&'a HashMap<String, Bytes>),
}

/// Where weights go on saving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveExternal {
    /// Inside the file, unless it would pass protobuf's 2 GB.
    #[default]
    Auto,
    /// In `<file name>.data` beside it.
    Always,
    /// Inside the file; above 2 GB an error.
    Never,
}

/// The version of ONNX whose messages, types and operator sets are known.
pub const ONNX_VERSION: &str = "1.23.2";

impl MapMode {
    /// Files of this many bytes and more are mapped.
    pub(super) fn map_from(self) -> u64 {
        match self {
            MapMode::Auto => map::MAP_THRESHOLD,
            MapMode::Always => 0,
            MapMode::Never => u64::MAX,
        }
    }
}

/// Loads a model file with the external data beside it.
pub fn load_file(path: &Path, options: &LoadOptions) -> Result<Model> {
    let bytes = map::read(path, options.map.map_from())?;
    let folder = path.parent().unwrap_or(Path::new("."));
    load_bytes(bytes, External::Folder(folder), options).map_err(|e| e.context(format_args!("'{}'", path.display())))
}

/// Loads a model from memory; its weights stay views of `bytes`.
pub fn load_bytes(bytes: Bytes, external: External<'_>, options: &LoadOptions) -> Result<Model> {
    if bytes.is_empty() {
        return Err(err!(InvalidFile, "not an ONNX model: there are no bytes. Export or copy the model again"));
    }
    prescan::check(&bytes).map_err(|e| sniff::explain(&bytes).unwrap_or(e))?;
    let proto = proto::ModelProto::decode(map::Forward::new(bytes)).map_err(|e| {
        err!(InvalidFile, "the model is damaged ({e}): get the file again, it may be an incomplete copy")
    })?;
    let mut model = read::read(proto, external::Store::new(external, options.map.map_from()))?;
    order::sort(&mut model)?;
    validate::validate(&model)?;
    Ok(model)
}

/// Writes a model file, whole or not at all (temporary file, sync, rename); the path it was read from is allowed.
pub fn save_file(model: &Model, path: &Path, external: SaveExternal) -> Result<()> {
    save::save_file(model, path, external)
}

/// The model as one protobuf message; an error above 2 GB.
pub fn to_bytes(model: &Model) -> Result<Vec<u8>> {
    save::to_bytes(model)
}

/// A model split in its graph and its larger tensors, for containers that store weights on their own.
pub struct Split {
    /// The protobuf message, whose larger tensors refer to `location` with offset and length.
    pub graph: Vec<u8>,
    /// Those tensors with their offsets, ascending and without overlap.
    pub tensors: Vec<(u64, Tensor)>,
    /// Length of the weights with all padding.
    pub weights_len: u64,
}

/// Splits a model: tensors of at least `min_bytes` are stored at multiples of `alignment`, equal ones (the same bytes in
/// memory) once.
pub fn split(model: &Model, location: &str, alignment: u64, min_bytes: usize) -> Result<Split> {
    save::split(model, location, alignment, min_bytes)
}
