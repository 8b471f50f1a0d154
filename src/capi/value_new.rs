//! Values made by the caller.

use super::boundary::call;
use super::buffer::{borrow, copy_in, mezzo_buffer_t};
use super::callback::mezzo_release_callback_t;
use super::dtype::mezzo_dtype_t;
use super::env::mezzo_env_t;
use super::error::mezzo_error_t;
use super::value::{boxed, mezzo_value_t};
use crate::backend::{TensorValue, Value, byte_size};
use crate::bail;
use crate::device::Buffer;
use crate::model::DataType;
use std::ffi::{CStr, c_char, c_void};

/// Makes a tensor in newly allocated memory, all zero.
///
/// env: whose allocator is used; NULL for the default environment.
/// dtype: any type but MEZZO_DTYPE_STRING.
/// dims, rank: the shape; a rank of 0 is a scalar, and `dims` may then be NULL.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT, MEZZO_ERROR_OUT_OF_MEMORY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_new_tensor(
    env: *const mezzo_env_t,
    dtype: mezzo_dtype_t,
    dims: *const i64,
    rank: usize,
    value: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_new_tensor", |c| {
            let env = c.env(env)?;
            let (dtype, dims) = (c.dtype("dtype", dtype)?, c.dims("dims", dims, rank)?);
            let out = c.out("value", value)?;
            let buffer = Buffer::allocate(byte_size(dtype, &dims)?, env.allocator())?;
            out.set(boxed(Value::Tensor(TensorValue::new(dtype, dims, buffer, 0)?)));
            Ok(())
        })
    }
}

/// Makes a tensor in newly allocated memory with a copy of the caller's elements.
///
/// env: whose allocator is used; NULL for the default environment.
/// data, size: the elements, row-major without gaps; `size` is in bytes and must be what type and shape need.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH, MEZZO_ERROR_INVALID_ARGUMENT, MEZZO_ERROR_OUT_OF_MEMORY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_new_copy(
    env: *const mezzo_env_t,
    dtype: mezzo_dtype_t,
    dims: *const i64,
    rank: usize,
    data: *const c_void,
    size: usize,
    value: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_new_copy", |c| {
            let env = c.env(env)?;
            let (dtype, dims) = (c.dtype("dtype", dtype)?, c.dims("dims", dims, rank)?);
            c.bytes_given("data", data, size)?;
            let out = c.out("value", value)?;
            check_size(dtype, &dims, size, "mezzo_value_new_copy")?;
            let buffer = Buffer::allocate(size, env.allocator())?;
            copy_in(&buffer, 0, data, size)?;
            out.set(boxed(Value::Tensor(TensorValue::new(dtype, dims, buffer, 0)?)));
            Ok(())
        })
    }
}

/// Makes a tensor over memory of the caller's, without a copy.
///
/// data, size: the elements, row-major without gaps, aligned to the element size (8 at most); `size` is in bytes and
///   must be what type and shape need. The library writes them if the value is bound to an output or copied into.
/// release: called once with `user` when the value, its clones and everything bound to them are gone; NULL if the
///   memory outlives them all. Not called if this call fails.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH, MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_from_memory(
    dtype: mezzo_dtype_t,
    dims: *const i64,
    rank: usize,
    data: *mut c_void,
    size: usize,
    release: mezzo_release_callback_t,
    user: *mut c_void,
    value: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_from_memory", |c| {
            let (dtype, dims) = (c.dtype("dtype", dtype)?, c.dims("dims", dims, rank)?);
            c.bytes_given("data", data, size)?;
            let out = c.out("value", value)?;
            check_size(dtype, &dims, size, "mezzo_value_from_memory")?;
            // Checked without the release function first: a failed call must not call it.
            TensorValue::new(dtype, dims.clone(), borrow(c, data, size, None, std::ptr::null_mut())?, 0)?;
            let buffer = borrow(c, data, size, release, user)?;
            out.set(boxed(Value::Tensor(TensorValue::new(dtype, dims, buffer, 0)?)));
            Ok(())
        })
    }
}

/// Makes a tensor over a part of a buffer, which it keeps alive.
///
/// offset: where the tensor starts, in bytes; a multiple of the element size (8 at most).
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if the buffer is too small, MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_from_buffer(
    buffer: *const mezzo_buffer_t,
    offset: usize,
    dtype: mezzo_dtype_t,
    dims: *const i64,
    rank: usize,
    value: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_from_buffer", |c| {
            let buffer = c.get("buffer", buffer)?;
            let (dtype, dims) = (c.dtype("dtype", dtype)?, c.dims("dims", dims, rank)?);
            let out = c.out("value", value)?;
            out.set(boxed(Value::Tensor(TensorValue::new(dtype, dims, buffer.clone(), offset)?)));
            Ok(())
        })
    }
}

/// Makes a string tensor with copies of the caller's strings.
///
/// strings, count: as many as the shape has elements, row-major.
/// lengths: their lengths in bytes; NULL if each string ends with a zero.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if `count` is not what the shape needs, MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_new_strings(
    dims: *const i64,
    rank: usize,
    strings: *const *const c_char,
    lengths: *const usize,
    count: usize,
    value: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_new_strings", |c| {
            let dims = c.dims("dims", dims, rank)?;
            let need = byte_size(DataType::Uint8, &dims)?;
            if count != need {
                bail!(
                    SizeMismatch,
                    "a string tensor {dims:?} needs {need} strings, but argument 'count' of mezzo_value_new_strings is \
                     {count}"
                );
            }
            let strings = c.slice("strings", strings, count)?;
            let lengths = if lengths.is_null() { None } else { Some(c.slice("lengths", lengths, count)?) };
            let out = c.out("value", value)?;
            let mut elements = Vec::new();
            for (i, &string) in strings.iter().enumerate() {
                let argument = format!("strings[{i}]");
                let bytes = match lengths {
                    Some(lengths) => c.slice(&argument, string.cast::<u8>(), lengths[i])?,
                    None if string.is_null() => return Err(c.null(&argument, "give a string")),
                    // SAFETY: the header's contract: it ends with a zero.
                    None => CStr::from_ptr(string).to_bytes(),
                };
                elements.push(bytes.to_vec());
            }
            out.set(boxed(Value::Strings { dims, elements: elements.into() }));
            Ok(())
        })
    }
}

/// Makes a sequence. The members share their elements with the values given, which stay the caller's.
///
/// members, count: may be NULL and 0.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_new_sequence(
    members: *const *const mezzo_value_t,
    count: usize,
    value: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_new_sequence", |c| {
            let members = c.slice("members", members, count)?;
            let out = c.out("value", value)?;
            let mut sequence = Vec::new();
            for (i, &member) in members.iter().enumerate() {
                sequence.push(c.get(&format!("members[{i}]"), member)?.value.clone());
            }
            out.set(boxed(Value::Sequence(sequence)));
            Ok(())
        })
    }
}

/// Makes an optional. Its content shares its elements with the value given, which stays the caller's.
///
/// content: NULL makes an optional without content.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_new_optional(
    content: *const mezzo_value_t,
    value: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_new_optional", |c| {
            let content = c.optional("content", content)?;
            let out = c.out("value", value)?;
            out.set(boxed(Value::Optional(content.map(|v| Box::new(v.value.clone())))));
            Ok(())
        })
    }
}

fn check_size(dtype: DataType, dims: &[usize], size: usize, function: &str) -> crate::Result<()> {
    let need = byte_size(dtype, dims)?;
    if size != need {
        bail!(
            SizeMismatch,
            "a tensor {dtype} {dims:?} needs {need} bytes, but argument 'size' of {function} is {size}: sizes are in \
             bytes"
        );
    }
    Ok(())
}
