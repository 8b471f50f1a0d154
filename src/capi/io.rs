//! Descriptions of inputs and outputs, borrowed from a model or an engine.

use super::boundary::read_part;
use super::dtype::mezzo_dtype_t;
use super::strings::{EMPTY, Text};
use crate::backend::{IoDim, IoInfo, IoKind};
use crate::{Result, err};
use std::ffi::c_char;

/// What a value is, one of mezzo_kind_e.
pub type mezzo_kind_t = i32;

/// Values of mezzo_kind_t.
#[repr(C)]
pub enum mezzo_kind_e {
    /// The model does not say.
    MEZZO_KIND_UNKNOWN = 0,
    /// A dense tensor; of strings, if its data type is MEZZO_DTYPE_STRING.
    MEZZO_KIND_TENSOR = 1,
    /// A sparse tensor.
    MEZZO_KIND_SPARSE_TENSOR = 2,
    /// A sequence of values.
    MEZZO_KIND_SEQUENCE = 3,
    /// A map from keys to values.
    MEZZO_KIND_MAP = 4,
    /// A value that may be absent.
    MEZZO_KIND_OPTIONAL = 5,
}

/// Description of one input or output. Borrowed from the model or engine it was asked of; valid as long as that lives.
pub struct mezzo_io_t {
    name: Text,
    text: Text,
    kind: mezzo_kind_t,
    dtype: mezzo_dtype_t,
    dims: Option<Vec<(i64, Option<Text>)>>,
}

/// The size that dynamic dimensions have.
const DYNAMIC: i64 = -1;

impl mezzo_io_t {
    pub(super) fn of(io: &IoInfo) -> Self {
        let dim = |d: &IoDim| match d {
            IoDim::Size(n) => (*n, None),
            IoDim::Symbol(s) => (DYNAMIC, Some(Text::from(s.as_str()))),
            IoDim::Any => (DYNAMIC, None),
        };
        mezzo_io_t {
            name: io.name.as_str().into(),
            text: io.text.as_str().into(),
            kind: match io.kind {
                IoKind::Unknown => 0,
                IoKind::Tensor => 1,
                IoKind::SparseTensor => 2,
                IoKind::Sequence => 3,
                IoKind::Map => 4,
                IoKind::Optional => 5,
            },
            dtype: io.dtype.unwrap_or(0),
            dims: io.shape.as_ref().map(|dims| dims.iter().map(dim).collect()),
        }
    }
}

/// Inputs or outputs, as a handle keeps them.
pub(super) struct IoList {
    names: Vec<String>,
    items: Vec<mezzo_io_t>,
}

impl IoList {
    pub(super) fn of<'a>(ios: impl Iterator<Item = &'a IoInfo>) -> Self {
        let (names, items) = ios.map(|io| (io.name.clone(), mezzo_io_t::of(io))).unzip();
        IoList { names, items }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The description at that place, or NULL.
    pub(super) fn at(&self, index: usize) -> *const mezzo_io_t {
        self.items.get(index).map_or(std::ptr::null(), std::ptr::from_ref)
    }

    /// The description of that name; `what` is "input" or "output".
    pub(super) fn named(&self, name: &str, what: &str) -> Result<*const mezzo_io_t> {
        let index = self.names.iter().position(|n| n == name).ok_or_else(|| {
            let names: Vec<String> = self.names.iter().map(|n| format!("'{n}'")).collect();
            let names = if names.is_empty() { "none".to_string() } else { names.join(", ") };
            err!(NotFound, "there is no {what} '{name}': the {what}s are {names}")
        })?;
        Ok(self.at(index))
    }
}

/// Its name; the empty string for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_io_name(io: *const mezzo_io_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read_part(io, EMPTY, |io| io.name.as_ptr()) }
}

/// Its type in full, for people ("fp16 [N,3,224,224]"); the empty string for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_io_text(io: *const mezzo_io_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read_part(io, EMPTY, |io| io.text.as_ptr()) }
}

/// What it is; MEZZO_KIND_UNKNOWN for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_io_kind(io: *const mezzo_io_t) -> mezzo_kind_t {
    // SAFETY: the header's contract.
    unsafe { read_part(io, 0, |io| io.kind) }
}

/// Element type of a dense tensor; MEZZO_DTYPE_NONE for everything else, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_io_dtype(io: *const mezzo_io_t) -> mezzo_dtype_t {
    // SAFETY: the header's contract.
    unsafe { read_part(io, 0, |io| io.dtype) }
}

/// Number of dimensions of a dense tensor; -1 if it is not known, for everything that is no dense tensor, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_io_rank(io: *const mezzo_io_t) -> i64 {
    // SAFETY: the header's contract.
    unsafe { read_part(io, -1, |io| io.dims.as_ref().map_or(-1, |d| d.len() as i64)) }
}

/// Size of the dimension `index`; -1 if it is dynamic, if there is no such dimension, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_io_dim(io: *const mezzo_io_t, index: usize) -> i64 {
    // SAFETY: the header's contract.
    unsafe { read_part(io, DYNAMIC, |io| io.dims.as_ref().and_then(|d| d.get(index)).map_or(DYNAMIC, |d| d.0)) }
}

/// Name of the dynamic dimension `index` ("batch"): equal names are equal sizes within one run. NULL if the dimension
/// has none, is fixed, or does not exist, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_io_dim_symbol(io: *const mezzo_io_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe {
        read_part(io, std::ptr::null(), |io| {
            let dim = io.dims.as_ref().and_then(|d| d.get(index));
            dim.and_then(|d| d.1.as_ref()).map_or(std::ptr::null(), Text::as_ptr)
        })
    }
}
