//! Tensors at run time: element type, shape, and memory that is shared, a view of a constant, or this tensor's own.
//!
//! Every tensor is dense and row-major. Types smaller than a byte are kept one element a byte (signed ones with their
//! sign), and packed as ONNX packs them only where a value enters or leaves.

use super::memory::{Charge, Memory, Pool};
use super::packed;
use crate::backend::{TensorValue, byte_size};
use crate::model::{self, DataType, Storage};
use crate::{Result, bail, err};
use bytemuck::{AnyBitPattern, NoUninit};
use bytes::Bytes;
use std::sync::Arc;

/// A tensor at run time. Cloning shares the memory.
#[derive(Clone)]
pub struct Tensor {
    dtype: DataType,
    dims: Vec<usize>,
    data: Data,
}

#[derive(Clone)]
enum Data {
    /// Memory of the context's pool; writable while only one tensor has it.
    Own(Arc<Memory>),
    /// A constant or an input, aligned for its elements.
    Shared(Bytes),
    /// Elements of a string tensor.
    Strings(Arc<Texts>),
}

/// One element of a string tensor.
pub type Text = Bytes;

/// Elements of a string tensor, and their share of the pool's limit if they were made in a run.
struct Texts {
    elements: Vec<Text>,
    _charge: Option<Charge>,
}

impl Clone for Texts {
    /// A copy of the list shares the strings; it is short-lived, and not counted again.
    fn clone(&self) -> Self {
        Texts { elements: self.elements.clone(), _charge: None }
    }
}

fn strings(elements: Vec<Text>, charge: Option<Charge>) -> Data {
    Data::Strings(Arc::new(Texts { elements, _charge: charge }))
}

/// Bytes that one element takes at run time; 0 for strings.
pub fn element_bytes(dtype: DataType) -> usize {
    match dtype.bits() {
        0 => 0,
        bits => bits.div_ceil(8),
    }
}

/// The number of elements, or an error that names the shape. A product of some of the dimensions never overflows, even if
/// another one is 0: kernels multiply them.
pub fn count(dims: &[usize]) -> Result<usize> {
    dims.iter()
        .filter(|d| **d != 0)
        .try_fold(1usize, |n, &d| n.checked_mul(d).filter(|n| *n <= isize::MAX as usize))
        .map(|n| if dims.contains(&0) { 0 } else { n })
        .ok_or_else(|| err!(ShapeMismatch, "a tensor of shape {dims:?} has more elements than memory can hold"))
}

impl Tensor {
    /// A tensor in memory of its own; the elements are whatever was there, so the caller writes all of them.
    pub fn new(pool: &Arc<Pool>, dtype: DataType, dims: Vec<usize>) -> Result<Tensor> {
        let n = count(&dims)?;
        if dtype == DataType::String {
            let (elements, charge) =
                pool.vector(n, Text::new()).map_err(|e| e.context(format!("output string {dims:?}")))?;
            return Ok(Tensor { dtype, dims, data: strings(elements, Some(charge)) });
        }
        let bytes = n.checked_mul(element_bytes(dtype)).filter(|n| isize::try_from(*n).is_ok()).ok_or_else(|| {
            err!(ShapeMismatch, "a tensor of type {dtype} and shape {dims:?} is larger than memory can hold")
        })?;
        let memory = pool.allocate(bytes).map_err(|e| e.context(format!("output {dtype} {dims:?}")))?;
        Ok(Tensor { dtype, dims, data: Data::Own(Arc::new(memory)) })
    }

    /// Work memory that a kernel can do without ([`Pool::spare`]); the elements are whatever was there.
    pub fn spare(pool: &Arc<Pool>, dtype: DataType, n: usize) -> Option<Tensor> {
        let memory = pool.spare(n.checked_mul(element_bytes(dtype))?)?;
        Some(Tensor { dtype, dims: vec![n], data: Data::Own(Arc::new(memory)) })
    }

    /// A tensor with these elements.
    pub fn from_slice<T: NoUninit>(
        pool: &Arc<Pool>,
        dtype: DataType,
        dims: Vec<usize>,
        values: &[T],
    ) -> Result<Tensor> {
        let mut t = Tensor::new(pool, dtype, dims)?;
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let target = t.bytes_mut()?;
        if target.len() != bytes.len() {
            bail!(Internal, "{} bytes are given for {} of a tensor", bytes.len(), target.len());
        }
        target.copy_from_slice(bytes);
        Ok(t)
    }

    /// A string tensor with these elements.
    pub fn from_strings(dims: Vec<usize>, elements: Vec<Text>) -> Result<Tensor> {
        Tensor::of_texts(dims, elements, None)
    }

    /// A string tensor with these elements, made in a run: `charge` is their share of the pool's limit.
    pub fn from_charged(dims: Vec<usize>, elements: Vec<Text>, charge: Charge) -> Result<Tensor> {
        Tensor::of_texts(dims, elements, Some(charge))
    }

    fn of_texts(dims: Vec<usize>, elements: Vec<Text>, charge: Option<Charge>) -> Result<Tensor> {
        if count(&dims)? != elements.len() {
            bail!(Internal, "{} strings are given for shape {dims:?}", elements.len());
        }
        Ok(Tensor { dtype: DataType::String, dims, data: strings(elements, charge) })
    }

    /// A constant of the model; its bytes are used in place where they are aligned.
    pub fn from_model(pool: &Arc<Pool>, tensor: &model::Tensor) -> Result<Tensor> {
        let dims = tensor
            .dims()
            .iter()
            .map(|&d| {
                usize::try_from(d).map_err(|_| err!(InvalidModel, "a constant has the shape {:?}", tensor.dims()))
            })
            .collect::<Result<Vec<usize>>>()?;
        if let Some(strings) = tensor.strings() {
            return Tensor::from_strings(dims, strings.to_vec());
        }
        let tensor = tensor.materialize()?;
        match tensor.source().0 {
            Storage::Bytes(b) => Tensor::from_packed(pool, tensor.dtype(), dims, b.clone()),
            Storage::Strings(_) => Err(err!(Internal, "a constant of type {} holds strings", tensor.dtype())),
        }
    }

    /// The input tensor `value`, whose memory is read in place where it is aligned.
    pub fn from_value(pool: &Arc<Pool>, value: &TensorValue) -> Result<Tensor> {
        let bytes = value.buffer().view(value.offset(), value.byte_len())?;
        Tensor::from_packed(pool, value.dtype(), value.dims().to_vec(), bytes)
    }

    fn from_packed(pool: &Arc<Pool>, dtype: DataType, dims: Vec<usize>, bytes: Bytes) -> Result<Tensor> {
        let n = count(&dims)?;
        if dtype.byte_size(n) != Some(bytes.len()) {
            bail!(Internal, "{} bytes are given for a tensor {dtype} {dims:?}", bytes.len());
        }
        if dtype.bits() < 8 {
            let mut t = Tensor::new(pool, dtype, dims)?;
            packed::unpack(dtype, &bytes, t.bytes_mut()?);
            return Ok(t);
        }
        // Complex numbers are aligned as their parts.
        let alignment = element_bytes(dtype).min(8);
        if bytes.as_ptr().align_offset(alignment) == 0 {
            return Ok(Tensor { dtype, dims, data: Data::Shared(bytes) });
        }
        Tensor::from_slice(pool, dtype, dims, &bytes)
    }

    /// Element type.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// Shape.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// True when a dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the elements at run time.
    pub fn byte_len(&self) -> usize {
        match &self.data {
            Data::Own(m) => m.bytes().len(),
            Data::Shared(b) => b.len(),
            Data::Strings(s) => s.elements.iter().map(Bytes::len).sum(),
        }
    }

    /// The elements' bytes; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Own(m) => m.bytes(),
            Data::Shared(b) => b,
            Data::Strings(_) => &[],
        }
    }

    /// The elements' bytes, to be written; an error unless this tensor is the only one over its memory.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8]> {
        match &mut self.data {
            Data::Own(m) => match Arc::get_mut(m) {
                Some(m) => Ok(m.bytes_mut()),
                None => Err(err!(Internal, "shared memory was about to be written")),
            },
            _ => Err(err!(Internal, "a constant was about to be written")),
        }
    }

    /// True if the tensor may be overwritten: nobody else sees its memory.
    pub fn is_unique(&mut self) -> bool {
        match &mut self.data {
            Data::Own(m) => Arc::get_mut(m).is_some(),
            _ => false,
        }
    }

    /// The elements; an error if `T` is not of their size.
    pub fn slice<T: AnyBitPattern>(&self) -> Result<&[T]> {
        if size_of::<T>() != element_bytes(self.dtype) {
            return Err(wrong_view::<T>(self.dtype));
        }
        bytemuck::try_cast_slice(self.bytes()).map_err(|_| wrong_view::<T>(self.dtype))
    }

    /// The elements, to be written.
    pub fn slice_mut<T: AnyBitPattern + NoUninit>(&mut self) -> Result<&mut [T]> {
        let dtype = self.dtype;
        if size_of::<T>() != element_bytes(dtype) {
            return Err(wrong_view::<T>(dtype));
        }
        bytemuck::try_cast_slice_mut(self.bytes_mut()?).map_err(|_| wrong_view::<T>(dtype))
    }

    /// The elements of a string tensor.
    pub fn strings(&self) -> Result<&[Text]> {
        match &self.data {
            Data::Strings(s) => Ok(&s.elements),
            _ => Err(err!(TypeMismatch, "a string tensor is needed, but the type is {}", self.dtype)),
        }
    }

    /// The elements of a string tensor, to be written.
    pub fn strings_mut(&mut self) -> Result<&mut [Text]> {
        match &mut self.data {
            Data::Strings(s) => Ok(Arc::make_mut(s).elements.as_mut_slice()),
            _ => Err(err!(TypeMismatch, "a string tensor is needed, but the type is {}", self.dtype)),
        }
    }

    /// The same elements under another shape of as many elements.
    pub fn reshaped(mut self, dims: Vec<usize>) -> Result<Tensor> {
        if count(&dims)? != self.len() {
            bail!(ShapeMismatch, "a tensor of shape {:?} cannot take the shape {dims:?}", self.dims);
        }
        self.dims = dims;
        Ok(self)
    }

    /// The same bytes as another type of the same size.
    pub fn retyped(mut self, dtype: DataType) -> Result<Tensor> {
        if element_bytes(dtype) != element_bytes(self.dtype) || dtype == DataType::String {
            bail!(Internal, "a tensor of type {} cannot be seen as {dtype}", self.dtype);
        }
        self.dtype = dtype;
        Ok(self)
    }

    /// A tensor that keeps its content when the pool and the input it came from are gone.
    pub fn detached(&self) -> Tensor {
        match &self.data {
            Data::Own(m) => {
                // Bytes over a vector of 64-bit words stay aligned for every element type.
                let mut words = vec![0u64; m.bytes().len().div_ceil(8)];
                bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..m.bytes().len()].copy_from_slice(m.bytes());
                let Storage::Bytes(all) = Storage::from_vec(words) else { unreachable!("a vector is bytes") };
                Tensor { data: Data::Shared(all.slice(..m.bytes().len())), ..self.clone() }
            }
            // The copy does not hold a share of the pool's limit.
            Data::Strings(s) => Tensor { data: strings(s.elements.clone(), None), ..self.clone() },
            Data::Shared(_) => self.clone(),
        }
    }

    /// The bytes as ONNX packs them.
    pub fn packed_bytes(&self) -> std::borrow::Cow<'_, [u8]> {
        if self.dtype.bits() < 8 && self.dtype != DataType::String {
            return packed::pack(self.dtype, self.bytes()).into();
        }
        self.bytes().into()
    }

    /// Bytes that the tensor takes outside, packed as ONNX packs it.
    pub fn packed_len(&self) -> Result<usize> {
        byte_size(self.dtype, &self.dims)
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.dtype, self.dims)
    }
}

#[cold]
fn wrong_view<T>(dtype: DataType) -> crate::Error {
    err!(Internal, "elements of type {dtype} are read as {}", std::any::type_name::<T>())
}
