//! Readers and writers of model files. Every frontend ends in [`crate::model::Model`].

pub mod onnx;
pub mod torch;

use crate::Result;
use crate::model::Model;
use crate::sys::map;
use std::path::Path;

/// How a model file of any kind is loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// When files are mapped.
    pub map: onnx::MapMode,
    /// For PyTorch archives.
    pub torch: torch::Options,
}

/// Loads a model file, told by its content: ONNX with the external data beside it, a `.pt2` of torch.export or a
/// TorchScript archive.
pub fn load_file(path: &Path, options: &LoadOptions) -> Result<Model> {
    let bytes = map::read(path, options.map.map_from())?;
    let folder = path.parent().unwrap_or(Path::new("."));
    load_bytes(bytes, onnx::External::Folder(folder), options)
        .map_err(|e| e.context(format_args!("'{}'", path.display())))
}

/// Loads a model of any kind from memory; its weights stay views of `bytes`.
pub fn load_bytes(bytes: bytes::Bytes, external: onnx::External<'_>, options: &LoadOptions) -> Result<Model> {
    if torch::looks_like_torch(&bytes) {
        return torch::load_bytes(bytes, &options.torch);
    }
    onnx::load_bytes(bytes, external, &onnx::LoadOptions { map: options.map })
}
