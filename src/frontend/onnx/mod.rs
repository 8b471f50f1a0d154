//! ONNX read and written.

use crate::Result;
use crate::model::{Model, Tensor};
use bytes::Bytes;
use std::collections::HashMap;
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

/// Loads a model file with the external data beside it.
pub fn load_file(_path: &Path, _options: &LoadOptions) -> Result<Model> {
    todo!()
}

/// Loads a model from memory; its weights stay views of `bytes`.
pub fn load_bytes(_bytes: Bytes, _external: External<'_>, _options: &LoadOptions) -> Result<Model> {
    todo!()
}

/// Writes a model file, whole or not at all (temporary file, sync, rename); the path it was read from is allowed.
pub fn save_file(_model: &Model, _path: &Path, _external: SaveExternal) -> Result<()> {
    todo!()
}

/// The model as one protobuf message; an error above 2 GB.
pub fn to_bytes(_model: &Model) -> Result<Vec<u8>> {
    todo!()
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
pub fn split(_model: &Model, _location: &str, _alignment: u64, _min_bytes: usize) -> Result<Split> {
    todo!()
}
