//! A constant tensor: a stored source plus, perhaps, a conversion that is still pending.
//!
//! Converting a model to FP16 only marks its initializers; the bytes are converted chunk by chunk when they are saved,
//! packed or uploaded, so that a conversion needs no second copy of the weights.

use super::graph::NamedTensor;
use super::{DataType, Storage};
use crate::sys::map;
use crate::{Result, bail, err};
use bytes::Bytes;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::borrow::Cow;

/// What a pending conversion does with a finite value that the target type would round to infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutOfRange {
    /// The value becomes an infinity, as IEEE 754 says (used where the caller has checked that none is out of range).
    Infinity,
    /// The value becomes the largest finite value of its sign.
    Clamp,
}

/// A constant tensor. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct Tensor {
    dtype: DataType,
    dims: Vec<i64>,
    source: Storage,
    /// The type of `source`, where a float conversion to `dtype` is pending.
    pending: Option<(DataType, OutOfRange)>,
}

/// Identifies the bytes a tensor hands out: equal keys, equal bytes (the converse need not hold). Valid while the tensor
/// is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceKey {
    address: usize,
    len: usize,
    dtype: DataType,
    pending: Option<(DataType, OutOfRange)>,
}

/// A sparse tensor constant, kept as read.
#[derive(Debug, Clone)]
pub struct SparseTensor {
    /// The non-zero values; their name is the sparse tensor's.
    pub values: NamedTensor,
    /// The positions of those values.
    pub indices: NamedTensor,
    /// The dense shape.
    pub dims: Vec<i64>,
}

/// Elements converted at a time: 256 Ki elements keep a chunk inside the second-level cache.
const CHUNK: usize = 1 << 18;
/// Smaller pieces are not worth a call to give their pages back.
const RELEASE: usize = 64 << 10;

impl Tensor {
    /// A tensor over `source`; its length must be what `dtype` and `dims` say.
    pub fn new(dtype: DataType, dims: Vec<i64>, source: Storage) -> Result<Self> {
        let count = element_count(&dims).ok_or_else(|| err!(InvalidModel, "tensor shape {dims:?} is not valid"))?;
        match &source {
            Storage::Bytes(b) => {
                let want = dtype.byte_size(count).ok_or_else(|| {
                    err!(InvalidModel, "a tensor of type {dtype} and shape {dims:?} cannot hold bytes")
                })?;
                if b.len() != want {
                    bail!(
                        InvalidModel,
                        "a tensor of type {dtype} and shape {dims:?} needs {want} bytes, but {} are given",
                        b.len()
                    );
                }
            }
            Storage::Strings(s) => {
                if dtype != DataType::String || s.len() != count {
                    bail!(InvalidModel, "a tensor of type {dtype} and shape {dims:?} cannot hold {} strings", s.len());
                }
            }
        }
        Ok(Tensor { dtype, dims, source, pending: None })
    }

    /// A tensor that takes over a vector; panics if the length does not fit the shape (a bug in the caller).
    pub fn from_vec<T: bytemuck::NoUninit + Send + Sync + 'static>(
        dtype: DataType,
        dims: Vec<i64>,
        values: Vec<T>,
    ) -> Self {
        Tensor::new(dtype, dims, Storage::from_vec(values)).expect("the vector's length fits the shape")
    }

    /// The element type, after any pending conversion.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// The shape.
    pub fn dims(&self) -> &[i64] {
        &self.dims
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        element_count(&self.dims).unwrap_or(0)
    }

    /// True when a dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the tensor in its declared type (for strings, the sum of their lengths).
    pub fn byte_len(&self) -> usize {
        self.dtype.byte_size(self.len()).unwrap_or_else(|| self.source.byte_len())
    }

    /// The stored source and its type, before any pending conversion.
    pub fn source(&self) -> (&Storage, DataType) {
        (&self.source, self.pending.map_or(self.dtype, |(from, _)| from))
    }

    /// What identifies the tensor's bytes in memory; `None` for strings and empty tensors.
    pub fn source_key(&self) -> Option<SourceKey> {
        match &self.source {
            Storage::Bytes(b) if !b.is_empty() => {
                Some(SourceKey { address: b.as_ptr() as usize, len: b.len(), dtype: self.dtype, pending: self.pending })
            }
            _ => None,
        }
    }

    /// True when reading the tensor converts it.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The strings of a string tensor.
    pub fn strings(&self) -> Option<&[Bytes]> {
        match &self.source {
            Storage::Strings(s) => Some(s),
            Storage::Bytes(_) => None,
        }
    }

    /// The same tensor in another float type. Nothing is converted yet. Both types must be float16, bfloat16, float32
    /// or float64.
    pub fn converted(&self, to: DataType, out_of_range: OutOfRange) -> Result<Tensor> {
        if to == self.dtype {
            return Ok(self.clone());
        }
        if !to.is_float() || !self.dtype.is_float() {
            bail!(Internal, "a pending conversion from {} to {to} is not a float conversion", self.dtype);
        }
        let base = if self.is_pending() { self.materialize()? } else { self.clone() };
        Ok(Tensor { dtype: to, dims: base.dims, pending: Some((base.dtype, out_of_range)), source: base.source })
    }

    /// The same bytes under another shape of as many elements.
    pub fn reshaped(&self, dims: Vec<i64>) -> Result<Tensor> {
        if element_count(&dims) != Some(self.len()) {
            bail!(ShapeMismatch, "{} elements cannot take the shape {dims:?}", self.len());
        }
        Ok(Tensor { dims, ..self.clone() })
    }

    /// Hands out the tensor's bytes in its declared type, in order, in pieces of bounded size. Strings are an error.
    ///
    /// Pages of a mapped file are given back behind the reader, so that models of any size stream through little memory.
    pub fn for_each_chunk(&self, mut f: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Storage::Bytes(bytes) = &self.source else {
            bail!(Internal, "a string tensor has no bytes to hand out");
        };
        let (from, convert) = match self.pending {
            Some((from, out_of_range)) => (from, Some(out_of_range)),
            None => (self.dtype, None),
        };
        let step = CHUNK * from.element_size().unwrap_or(1);
        let mut wide = Vec::new();
        for piece in bytes.chunks(step) {
            match convert {
                Some(out_of_range) => f(&convert_chunk(piece, from, self.dtype, out_of_range, &mut wide))?,
                None => f(piece)?,
            }
            if piece.len() >= RELEASE {
                map::release(piece);
            }
        }
        Ok(())
    }

    /// The tensor's bytes in its declared type; borrowed where nothing is pending.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match (&self.source, self.pending) {
            (Storage::Bytes(b), None) => Ok(Cow::Borrowed(b)),
            _ => {
                let mut out = Vec::with_capacity(self.byte_len());
                self.for_each_chunk(|c| {
                    out.extend_from_slice(c);
                    Ok(())
                })?;
                Ok(Cow::Owned(out))
            }
        }
    }

    /// The tensor with nothing pending.
    pub fn materialize(&self) -> Result<Tensor> {
        if !self.is_pending() {
            return Ok(self.clone());
        }
        let bytes = self.bytes()?.into_owned();
        Tensor::new(self.dtype, self.dims.clone(), Storage::Bytes(bytes.into()))
    }

    /// All elements as `f64` (exact for every float type and integers up to 2^53); `None` for strings, complex and
    /// sub-byte types. Meant for small constants.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        let bytes = self.bytes().ok()?;
        macro_rules! read {
            ($t:ty, $n:literal) => {
                bytes.as_chunks::<$n>().0.iter().map(|c| <$t>::from_le_bytes(*c) as f64).collect()
            };
        }
        Some(match self.dtype {
            DataType::Float32 => read!(f32, 4),
            DataType::Float64 => read!(f64, 8),
            DataType::Float16 => bytes.as_chunks::<2>().0.iter().map(|c| f16::from_le_bytes(*c).to_f64()).collect(),
            DataType::Bfloat16 => bytes.as_chunks::<2>().0.iter().map(|c| bf16::from_le_bytes(*c).to_f64()).collect(),
            DataType::Uint8 | DataType::Bool => read!(u8, 1),
            DataType::Int8 => read!(i8, 1),
            DataType::Uint16 => read!(u16, 2),
            DataType::Int16 => read!(i16, 2),
            DataType::Uint32 => read!(u32, 4),
            DataType::Int32 => read!(i32, 4),
            DataType::Uint64 => read!(u64, 8),
            DataType::Int64 => read!(i64, 8),
            _ => return None,
        })
    }

    /// All elements of an integer or bool tensor as `i64`; `None` for other types.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match self.dtype {
            DataType::Int64 => {
                let bytes = self.bytes().ok()?;
                Some(bytes.as_chunks::<8>().0.iter().map(|c| i64::from_le_bytes(*c)).collect())
            }
            t if t.is_integer() || t == DataType::Bool => Some(self.to_f64()?.into_iter().map(|v| v as i64).collect()),
            _ => None,
        }
    }
}

/// The product of `dims`; `None` if one is negative or the product overflows.
pub fn element_count(dims: &[i64]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
}

/// Converts one chunk of little-endian floats. `wide` is scratch space for the FP32 form.
fn convert_chunk<'a>(
    piece: &'a [u8],
    from: DataType,
    to: DataType,
    out_of_range: OutOfRange,
    wide: &mut Vec<f32>,
) -> Cow<'a, [u8]> {
    if to == DataType::Float64 || from == DataType::Float64 {
        return Cow::Owned(convert_chunk_f64(piece, from, to, out_of_range));
    }
    wide.clear();
    match from {
        DataType::Float32 => wide.extend(piece.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c))),
        DataType::Float16 => {
            let halves: Vec<f16> = piece.as_chunks::<2>().0.iter().map(|c| f16::from_le_bytes(*c)).collect();
            wide.resize(halves.len(), 0.0);
            halves.convert_to_f32_slice(wide);
        }
        _ => wide.extend(piece.as_chunks::<2>().0.iter().map(|c| bf16::from_le_bytes(*c).to_f32())),
    }
    if out_of_range == OutOfRange::Clamp {
        let max = max_finite(to) as f32;
        for v in wide.iter_mut().filter(|v| v.is_finite()) {
            *v = v.clamp(-max, max);
        }
    }
    match to {
        DataType::Float16 => {
            let mut out = vec![f16::ZERO; wide.len()];
            out.convert_from_f32_slice(wide);
            Cow::Owned(into_bytes(&out))
        }
        DataType::Bfloat16 => {
            let mut out = vec![bf16::ZERO; wide.len()];
            out.convert_from_f32_slice(wide);
            Cow::Owned(into_bytes(&out))
        }
        _ => Cow::Owned(bytemuck::cast_slice(wide).to_vec()),
    }
}

fn convert_chunk_f64(piece: &[u8], from: DataType, to: DataType, out_of_range: OutOfRange) -> Vec<u8> {
    let max = max_finite(to);
    let one = |v: f64, out: &mut Vec<u8>| {
        let v = if out_of_range == OutOfRange::Clamp && v.is_finite() { v.clamp(-max, max) } else { v };
        match to {
            DataType::Float16 => out.extend(f16::from_f32(round_to_odd(v)).to_le_bytes()),
            DataType::Bfloat16 => out.extend(bf16::from_f32(round_to_odd(v)).to_le_bytes()),
            DataType::Float32 => out.extend((v as f32).to_le_bytes()),
            _ => out.extend(v.to_le_bytes()),
        }
    };
    let mut out = Vec::with_capacity(piece.len());
    match from {
        DataType::Float64 => piece.as_chunks::<8>().0.iter().for_each(|c| one(f64::from_le_bytes(*c), &mut out)),
        DataType::Float32 => piece.as_chunks::<4>().0.iter().for_each(|c| one(f32::from_le_bytes(*c).into(), &mut out)),
        DataType::Float16 => {
            piece.as_chunks::<2>().0.iter().for_each(|c| one(f16::from_le_bytes(*c).to_f64(), &mut out));
        }
        _ => piece.as_chunks::<2>().0.iter().for_each(|c| one(bf16::from_le_bytes(*c).to_f64(), &mut out)),
    }
    out
}

/// Narrows a double so that a second rounding, to 16 bits, gives what one rounding of the double would: an inexact
/// result is truncated and its last bit set, so that it never looks like the middle of two halves. (The `half` crate's
/// own `from_f64` rounds twice where the processor converts through float32.)
fn round_to_odd(v: f64) -> f32 {
    let near = v as f32;
    if f64::from(near) == v || v.is_nan() {
        return near;
    }
    let truncated = match (f64::from(near).abs() > v.abs(), v > 0.0) {
        (false, _) => near,
        (true, true) => near.next_down(),
        (true, false) => near.next_up(),
    };
    f32::from_bits(truncated.to_bits() | 1)
}

/// The largest finite value of a float type (65504 for float16).
pub fn max_finite(dtype: DataType) -> f64 {
    match dtype {
        DataType::Float16 => f16::MAX.to_f64(),
        DataType::Bfloat16 => bf16::MAX.to_f64(),
        DataType::Float32 => f32::MAX.into(),
        _ => f64::MAX,
    }
}

fn into_bytes<T: bytemuck::NoUninit>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}
