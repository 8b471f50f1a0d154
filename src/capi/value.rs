//! Values: what goes into an execution and what comes out of it.

use super::boundary::{Call, call, read};
use super::buffer::{copy_in, copy_out, mezzo_buffer_t};
use super::dtype::mezzo_dtype_t;
use super::error::mezzo_error_t;
use super::handle::{free_owned, handle, owned, shared};
use super::io::mezzo_kind_t;
use crate::backend::Value;
use crate::model::DataType;
use crate::{ErrorCode, Result, bail};
use std::ffi::{c_char, c_void};

/// A tensor, a string tensor, a sequence or an optional. Data type and shape never change; the elements of a tensor lie
/// in a buffer and can. Exclusive, but for the calls that take it as const.
///
/// Clones, and values made over the same buffer, share the elements.
pub struct mezzo_value_t {
    _opaque: [u8; 0],
}

pub(super) struct ValueBody {
    pub(super) value: Value,
    dims: Vec<i64>,
}

handle!(mezzo_value_t, ValueBody, "a value", b"valu");

impl From<Value> for ValueBody {
    fn from(value: Value) -> Self {
        let dims: &[usize] = match &value {
            Value::Tensor(t) => t.dims(),
            Value::Strings { dims, .. } => dims,
            _ => &[],
        };
        ValueBody { dims: dims.iter().map(|&d| d as i64).collect(), value }
    }
}

/// A handle over a value.
pub(super) fn boxed(value: Value) -> *mut mezzo_value_t {
    owned(value.into())
}

/// Values with their names, out of two arrays.
pub(super) fn named(
    c: &Call,
    names: *const *const c_char,
    values: *const *const mezzo_value_t,
    count: usize,
) -> Result<Vec<(String, Value)>> {
    let (names, values) = (c.slice("names", names, count)?, c.slice("values", values, count)?);
    let named = |(i, (&name, &value)): (usize, (&*const c_char, &*const mezzo_value_t))| {
        let name = c.text(&format!("names[{i}]"), name)?.to_string();
        Ok((name, c.get(&format!("values[{i}]"), value)?.value.clone()))
    };
    names.iter().zip(values).enumerate().map(named).collect()
}

impl ValueBody {
    fn is_tensor(&self) -> bool {
        matches!(self.value, Value::Tensor(_) | Value::Strings { .. })
    }

    /// Elements of a tensor, members of a sequence, 1 or 0 for an optional.
    fn count(&self) -> usize {
        match &self.value {
            Value::Tensor(t) => t.len(),
            Value::Strings { elements, .. } => elements.len(),
            Value::Sequence(members) => members.len(),
            Value::Optional(member) => usize::from(member.is_some()),
        }
    }

    fn byte_size(&self) -> usize {
        match &self.value {
            Value::Tensor(t) => t.byte_len(),
            _ => 0,
        }
    }
}

/// What the value is: MEZZO_KIND_TENSOR, MEZZO_KIND_SEQUENCE or MEZZO_KIND_OPTIONAL; MEZZO_KIND_UNKNOWN for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_kind(value: *const mezzo_value_t) -> mezzo_kind_t {
    // SAFETY: the header's contract.
    unsafe {
        read(value, 0, |v| match v.value {
            Value::Tensor(_) | Value::Strings { .. } => 1,
            Value::Sequence(_) => 3,
            Value::Optional(_) => 5,
        })
    }
}

/// Element type of a tensor; MEZZO_DTYPE_NONE for sequences, optionals and NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_dtype(value: *const mezzo_value_t) -> mezzo_dtype_t {
    // SAFETY: the header's contract.
    unsafe {
        read(value, 0, |v| match &v.value {
            Value::Tensor(t) => t.dtype().to_onnx(),
            Value::Strings { .. } => DataType::String.to_onnx(),
            _ => 0,
        })
    }
}

/// Number of dimensions of a tensor; 0 for scalars, and for sequences, optionals and NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_rank(value: *const mezzo_value_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(value, 0, |v| v.dims.len()) }
}

/// The dimensions of a tensor, mezzo_value_rank() many, borrowed from the value; NULL for sequences, optionals and NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_dims(value: *const mezzo_value_t) -> *const i64 {
    // SAFETY: the header's contract.
    unsafe { read(value, std::ptr::null(), |v| if v.is_tensor() { v.dims.as_ptr() } else { std::ptr::null() }) }
}

/// Number of elements of a tensor, of members of a sequence; 1 or 0 for an optional with or without content; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_count(value: *const mezzo_value_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(value, 0, ValueBody::count) }
}

/// Bytes of a tensor's elements; 0 for string tensors, sequences, optionals and NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_byte_size(value: *const mezzo_value_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(value, 0, ValueBody::byte_size) }
}

/// Address of a tensor's first element, row-major without gaps; valid as long as the value or its buffer lives. NULL for
/// string tensors, sequences, optionals and NULL.
///
/// Reading and writing through it is the caller's to order against calls that use the value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_data(value: *const mezzo_value_t) -> *mut c_void {
    // SAFETY: the header's contract.
    unsafe {
        read(value, std::ptr::null_mut(), |v| match &v.value {
            Value::Tensor(t) => t.buffer().as_ptr().wrapping_add(t.offset()).cast(),
            _ => std::ptr::null_mut(),
        })
    }
}

/// Copies `size` bytes from `data` over the tensor's elements.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH unless `size` is mezzo_value_byte_size(), MEZZO_ERROR_TYPE_MISMATCH if the value is
/// no tensor of fixed-size elements, MEZZO_ERROR_BUSY if its buffer is in use.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_copy_in(
    value: *mut mezzo_value_t,
    data: *const c_void,
    size: usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_copy_in", |c| {
            let tensor = c.get("value", value)?.value.as_tensor()?;
            c.bytes_given("data", data, size)?;
            if size != tensor.byte_len() {
                bail!(
                    SizeMismatch,
                    "a tensor {} {:?} takes {} bytes, but argument 'size' of mezzo_value_copy_in is {size}",
                    tensor.dtype(),
                    tensor.dims(),
                    tensor.byte_len()
                );
            }
            copy_in(tensor.buffer(), tensor.offset(), data, size)
        })
    }
}

/// Copies all elements of the tensor to `data`, which has room for `size` bytes.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if `size` is below mezzo_value_byte_size(), MEZZO_ERROR_TYPE_MISMATCH if the value
/// is no tensor of fixed-size elements, MEZZO_ERROR_BUSY if its buffer is being written.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_copy_out(
    value: *const mezzo_value_t,
    data: *mut c_void,
    size: usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_copy_out", |c| {
            let tensor = c.get("value", value)?.value.as_tensor()?;
            c.bytes_given("data", data, size)?;
            let need = tensor.byte_len();
            if size < need {
                bail!(
                    SizeMismatch,
                    "a tensor {} {:?} has {need} bytes, but argument 'size' of mezzo_value_copy_out is {size}",
                    tensor.dtype(),
                    tensor.dims()
                );
            }
            copy_out(tensor.buffer(), tensor.offset(), data, need)
        })
    }
}

/// Gives a string of a string tensor.
///
/// index: of the element, row-major.
/// data: receives its address, borrowed from the value. UTF-8 as ONNX asks, but any bytes are passed on; not ended by a
///   zero.
/// size: receives its length in bytes.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if there is no such element, MEZZO_ERROR_TYPE_MISMATCH if it is no string tensor.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_string(
    value: *const mezzo_value_t,
    index: usize,
    data: *mut *const c_char,
    size: *mut usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_string", |c| {
            let value = c.get("value", value)?;
            let (data, size) = (c.out("data", data)?, c.out("size", size)?);
            let Value::Strings { elements, .. } = &value.value else {
                bail!(TypeMismatch, "the value is {}, not a string tensor", value.value.kind());
            };
            let element = &elements[c.index("index", index, elements.len(), "strings")?];
            data.set(element.as_ptr().cast());
            size.set(element.len());
            Ok(())
        })
    }
}

/// Gives a member of a sequence or the content of an optional, as a new value that shares its elements.
///
/// index: below mezzo_value_count().
/// member: receives the value; free it with mezzo_value_free().
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if there is no such member, MEZZO_ERROR_TYPE_MISMATCH if the value is a tensor.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_member(
    value: *const mezzo_value_t,
    index: usize,
    member: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_member", |c| {
            let value = c.get("value", value)?;
            let out = c.out("member", member)?;
            if value.is_tensor() {
                bail!(TypeMismatch, "the value is {}, which has elements and no members", value.value.kind());
            }
            let index = c.index("index", index, value.count(), "members")?;
            let found = match &value.value {
                Value::Sequence(members) => members.get(index),
                Value::Optional(content) => content.as_deref(),
                _ => None,
            };
            let found = found.ok_or_else(|| crate::Error::new(ErrorCode::Internal, "a member is missing"))?;
            out.set(boxed(found.clone()));
            Ok(())
        })
    }
}

/// Gives the buffer behind a tensor, and where in it the tensor starts.
///
/// buffer: receives a new reference; give it back with mezzo_buffer_free().
/// offset: receives the offset in bytes. May be NULL.
///
/// Errors: MEZZO_ERROR_TYPE_MISMATCH if the value is no tensor of fixed-size elements.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_buffer(
    value: *const mezzo_value_t,
    buffer: *mut *mut mezzo_buffer_t,
    offset: *mut usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_buffer", |c| {
            let value = c.get("value", value)?;
            let (buffer, offset) = (c.out("buffer", buffer)?, c.optional_out("offset", offset)?);
            let tensor = value.value.as_tensor()?;
            buffer.set(shared(tensor.buffer().clone()));
            if let Some(offset) = offset {
                offset.set(tensor.offset());
            }
            Ok(())
        })
    }
}

/// Makes a value of the same numbers in another float type (FP16, BF16, FP32, FP64), rounded to nearest even. With the
/// type it has already, the new value shares the elements.
///
/// Errors: MEZZO_ERROR_TYPE_MISMATCH if either type is no float type.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_to_float(
    value: *const mezzo_value_t,
    dtype: mezzo_dtype_t,
    converted: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_to_float", |c| {
            let value = c.get("value", value)?;
            let dtype = c.dtype("dtype", dtype)?;
            let out = c.out("converted", converted)?;
            out.set(boxed(Value::Tensor(value.value.as_tensor()?.to_float(dtype)?)));
            Ok(())
        })
    }
}

/// A second handle to the same value; the elements are shared.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_clone(
    value: *const mezzo_value_t,
    clone: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_clone", |c| {
            let value = c.get("value", value)?;
            c.out("clone", clone)?.set(boxed(value.value.clone()));
            Ok(())
        })
    }
}

/// Frees a value; its elements go with the last value, buffer or context that holds them. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_free(value: *mut mezzo_value_t) {
    // SAFETY: the header's contract.
    unsafe { free_owned(value) }
}
