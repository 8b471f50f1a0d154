//! What goes into an execution and comes out of it.

use crate::device::Buffer;
use crate::model::{DataType, OutOfRange, Storage, Tensor};
use crate::{Result, bail, err};
use std::sync::Arc;

/// A value at run time. Cloning shares the memory.
#[derive(Debug, Clone)]
pub enum Value {
    /// A dense tensor of fixed-size elements.
    Tensor(TensorValue),
    /// A dense tensor of strings (UTF-8 as ONNX asks, but any bytes are kept).
    Strings {
        /// Dimensions.
        dims: Vec<usize>,
        /// Elements in row-major order.
        elements: Arc<[Vec<u8>]>,
    },
    /// A sequence.
    Sequence(Vec<Value>),
    /// An optional.
    Optional(Option<Box<Value>>),
}

/// A dense tensor in a buffer, row-major, without gaps.
#[derive(Debug, Clone)]
pub struct TensorValue {
    dtype: DataType,
    dims: Vec<usize>,
    buffer: Buffer,
    offset: usize,
}

impl TensorValue {
    /// A tensor over `buffer` from `offset` on; the buffer must reach far enough.
    pub fn new(dtype: DataType, dims: Vec<usize>, buffer: Buffer, offset: usize) -> Result<Self> {
        let need = byte_size(dtype, &dims)?;
        // Eight bytes at most: a complex128 element is two doubles. The address counts too, for memory may be borrowed.
        let size = dtype.element_size().unwrap_or(1).min(8);
        if !offset.is_multiple_of(size) || need > 0 && !buffer.as_ptr().addr().is_multiple_of(size) {
            bail!(
                InvalidArgument,
                "a tensor {dtype} {dims:?} must start at a multiple of {size} bytes, but offset {offset} in a buffer at \
                 {:p} does not",
                buffer.as_ptr()
            );
        }
        if offset.checked_add(need).is_none_or(|end| end > buffer.len()) {
            bail!(
                SizeMismatch,
                "a tensor {dtype} {dims:?} needs {need} bytes from offset {offset} on, but the buffer has {}",
                buffer.len()
            );
        }
        Ok(TensorValue { dtype, dims, buffer, offset })
    }

    /// A tensor in newly allocated memory with a copy of `bytes`.
    pub fn copy_of(dtype: DataType, dims: Vec<usize>, bytes: &[u8]) -> Result<Self> {
        let need = byte_size(dtype, &dims)?;
        if bytes.len() != need {
            bail!(SizeMismatch, "a tensor {dtype} {dims:?} needs {need} bytes, but {} are given", bytes.len());
        }
        TensorValue::new(dtype, dims, Buffer::copy_of(bytes)?, 0)
    }

    /// Element type.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// Dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// True when a dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the elements.
    pub fn byte_len(&self) -> usize {
        byte_size(self.dtype, &self.dims).expect("checked when it was made")
    }

    /// The memory.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Where in the buffer the tensor starts, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Gives `f` the tensor's bytes (a copy of what lies on a device); `Busy` while somebody writes the buffer.
    pub fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if self.buffer.device().is_some() {
            return Ok(f(&self.to_bytes()?));
        }
        let guard = self.buffer.read()?;
        Ok(f(&guard.bytes()[self.offset..self.offset + self.byte_len()]))
    }

    /// A copy of the tensor's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        if self.buffer.device().is_none() {
            return self.with_bytes(<[u8]>::to_vec);
        }
        let mut bytes = vec![0; self.byte_len()];
        self.buffer.read_into(self.offset, &mut bytes)?;
        Ok(bytes)
    }
}

impl TensorValue {
    /// The same numbers in another float type, rounded to nearest even, in newly allocated memory; a clone where the
    /// type is the same already.
    pub fn to_float(&self, to: DataType) -> Result<TensorValue> {
        if to == self.dtype {
            return Ok(self.clone());
        }
        if !to.is_float() || !self.dtype.is_float() {
            bail!(TypeMismatch, "a tensor of type {} has no conversion to {to}: only float types convert", self.dtype);
        }
        let dims = self.dims.iter().map(|&d| d as i64).collect();
        let source = Tensor::new(self.dtype, dims, Storage::Bytes(self.to_bytes()?.into()))?;
        let converted = source.converted(to, OutOfRange::Infinity)?;
        TensorValue::copy_of(to, self.dims.clone(), &converted.bytes()?)
    }

    /// The elements as `f64`; an error for types that are not real numbers.
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        let dims = self.dims.iter().map(|&d| d as i64).collect();
        Tensor::new(self.dtype, dims, Storage::Bytes(self.to_bytes()?.into()))?
            .to_f64()
            .ok_or_else(|| err!(TypeMismatch, "elements of type {} are not real numbers", self.dtype))
    }
}

/// Bytes of a tensor; an error for strings and on overflow.
pub fn byte_size(dtype: DataType, dims: &[usize]) -> Result<usize> {
    dims.iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .and_then(|n| dtype.byte_size(n))
        .filter(|n| isize::try_from(*n).is_ok())
        .ok_or_else(|| err!(InvalidArgument, "a tensor {dtype} {dims:?} has no byte size that fits memory"))
}

impl Value {
    /// The dense tensor, or an error that says what it is instead.
    pub fn as_tensor(&self) -> Result<&TensorValue> {
        match self {
            Value::Tensor(t) => Ok(t),
            other => Err(err!(TypeMismatch, "the value is {}, not a dense tensor of numbers", other.kind())),
        }
    }

    /// What the value is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Tensor(_) => "a tensor",
            Value::Strings { .. } => "a string tensor",
            Value::Sequence(_) => "a sequence",
            Value::Optional(_) => "an optional",
        }
    }
}
