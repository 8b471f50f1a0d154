//! Small types between engine and backend: descriptions, file sections, progress.

use crate::model::{DataType, Dim, DimValue, Tensor, TypeKind, ValueInfo, ValueType};
use crate::{Result, bail, err};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An input or output of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoInfo {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: IoKind,
    /// Its type in full ("fp16 [N,3,224,224]"), for people; the other fields are for programs.
    pub text: String,
    /// Element type of a dense tensor (ONNX's number); `None` for sequences, optionals and maps.
    pub dtype: Option<i32>,
    /// Dimensions of a dense tensor: a size, a symbol, or null; `None` when the rank is not known.
    pub shape: Option<Vec<IoDim>>,
}

/// What an input or output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IoKind {
    /// The model does not say.
    Unknown,
    /// A dense tensor of numbers or strings.
    Tensor,
    /// A sparse tensor.
    SparseTensor,
    /// A sequence of values.
    Sequence,
    /// A map from keys to values.
    Map,
    /// A value that may be absent.
    Optional,
}

/// A dimension of an engine's input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IoDim {
    /// A fixed size.
    Size(i64),
    /// A named size, equal wherever the name stands.
    Symbol(String),
    /// Any size.
    Any,
}

impl IoInfo {
    /// The description of a model's input or output.
    pub fn of(value: &ValueInfo) -> Self {
        let ty = value.ty.as_ref();
        IoInfo {
            name: value.name.to_string(),
            kind: ty.map_or(IoKind::Unknown, |t| match t.kind {
                TypeKind::Tensor { .. } => IoKind::Tensor,
                TypeKind::SparseTensor { .. } => IoKind::SparseTensor,
                TypeKind::Sequence(_) => IoKind::Sequence,
                TypeKind::Map(..) => IoKind::Map,
                TypeKind::Optional(_) => IoKind::Optional,
            }),
            text: ty.map_or_else(|| "unknown type".into(), ValueType::to_string),
            dtype: ty.and_then(ValueType::tensor_dtype).map(DataType::to_onnx),
            shape: ty.and_then(ValueType::tensor_shape).map(|s| s.iter().map(IoDim::of).collect()),
        }
    }

    /// The element type of a dense tensor.
    pub fn data_type(&self) -> Option<DataType> {
        DataType::from_onnx(self.dtype?)
    }
}

impl IoDim {
    fn of(dim: &Dim) -> Self {
        match &dim.value {
            // Some exporters write -1 where they mean any size.
            DimValue::Known(n) if *n < 0 => IoDim::Any,
            DimValue::Known(n) => IoDim::Size(*n),
            DimValue::Symbol(s) => IoDim::Symbol(s.to_string()),
            DimValue::Unknown => IoDim::Any,
        }
    }
}

/// How an engine is loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Threads an execution uses, the calling one included; 0 is one per core.
    pub threads: usize,
    /// As [`BuildOptions::memory_limit`](super::BuildOptions::memory_limit).
    pub memory_limit: usize,
    /// The device to execute on, numbered from 0, for backends that have devices.
    pub device: usize,
    /// As [`BuildOptions::library_paths`](super::BuildOptions::library_paths).
    pub library_paths: Vec<PathBuf>,
    /// The library's file or folder for an engine of TensorRT's; nothing else is tried then.
    pub library: Option<PathBuf>,
    /// Lets versions of TensorRT pass that are newer than the tested ones, with a warning.
    pub allow_untested: bool,
    /// The caller trusts a plan that comes without Mezzo's container: it is code.
    pub trust_plan: bool,
}

/// One named part of an engine file, written piece by piece.
pub struct Section {
    /// Its name, at most 16 bytes of ASCII.
    pub name: &'static str,
    /// Its content, in order.
    pub parts: Vec<PartSource>,
}

/// A piece of a section.
pub enum PartSource {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A tensor's bytes in its declared type (a pending conversion happens while writing).
    Tensor(Tensor),
    /// Padding.
    Zeros(usize),
}

impl PartSource {
    /// Bytes it will write.
    pub fn len(&self) -> usize {
        match self {
            PartSource::Bytes(b) => b.len(),
            PartSource::Tensor(t) => t.byte_len(),
            PartSource::Zeros(n) => *n,
        }
    }

    /// True when it writes nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands its bytes to `f`.
    pub fn for_each_chunk(&self, mut f: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        match self {
            PartSource::Bytes(b) => f(b),
            PartSource::Tensor(t) => t.for_each_chunk(f),
            PartSource::Zeros(n) => {
                let mut left = *n;
                while left > 0 {
                    let step = left.min(ZEROS.len());
                    f(&ZEROS[..step])?;
                    left -= step;
                }
                Ok(())
            }
        }
    }
}

/// The sections of a loaded engine file, views of the mapped file.
#[derive(Debug, Default)]
pub struct SectionReader {
    sections: BTreeMap<String, Bytes>,
}

impl SectionReader {
    /// Adds a section; a second one of the same name is an error.
    pub fn add(&mut self, name: String, content: Bytes) -> Result<()> {
        if self.sections.contains_key(&name) {
            bail!(InvalidFile, "the engine file has two sections '{name}'");
        }
        self.sections.insert(name, content);
        Ok(())
    }

    /// The section of that name.
    pub fn get(&self, name: &str) -> Result<&Bytes> {
        self.sections
            .get(name)
            .ok_or_else(|| err!(InvalidFile, "the engine file has no section '{name}': build the engine again"))
    }
}

/// Reports progress of long work and learns whether to go on.
#[derive(Default)]
pub struct Progress<'a> {
    /// Called with a phase's name and how much of it is done (0 to 1); false cancels.
    #[allow(clippy::type_complexity)]
    pub callback: Option<&'a (dyn Fn(&str, f32) -> bool + Sync)>,
}

impl Progress<'_> {
    /// Reports; `Cancelled` if the caller wants to stop.
    pub fn step(&self, phase: &str, fraction: f32) -> Result<()> {
        match self.callback {
            Some(f) if !f(phase, fraction) => bail!(Cancelled, "cancelled by the progress callback during '{phase}'"),
            _ => Ok(()),
        }
    }
}
