//! Tensors to and from other frameworks, without a copy.

use super::boundary::{Call, call};
use super::error::mezzo_error_t;
use super::stream::mezzo_stream_t;
use super::value::{boxed, mezzo_value_t};
use crate::backend::{TensorValue, Value, byte_size};
use crate::device::{Buffer, Device, Event};
use crate::model::DataType;
use crate::sys::dlpack::{self, Description, Element, Managed};
use crate::sys::memory::Block;
use crate::{Result, bail};
use std::ffi::c_void;
use std::ptr::NonNull;

/// Gives a tensor to another framework as a `DLManagedTensorVersioned` (DLPack 1), without a copy. That framework calls its
/// deleter when it is done; until then the memory stays, whatever is freed here.
///
/// ready_on: the stream on which the tensor is computed, NULL if it is ready.
/// used_on: the stream on which the other framework will use it: it waits, on the device, for what is on `ready_on` now. NULL if
///   the caller orders the two.
/// tensor: receives the tensor.
///
/// Errors: MEZZO_ERROR_TYPE_MISMATCH if the value is no tensor of numbers; MEZZO_ERROR_UNSUPPORTED if DLPack has no such type.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_to_dlpack(
    value: *const mezzo_value_t,
    ready_on: *const mezzo_stream_t,
    used_on: *const mezzo_stream_t,
    tensor: *mut *mut c_void,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_to_dlpack", |c| {
            let out = c.out("tensor", tensor)?;
            let tensor = c.get("value", value)?.value.as_tensor()?;
            let Some(element) = element_of(tensor.dtype()) else {
                bail!(Unsupported, "DLPack has no tensors of type {}: convert the value first", tensor.dtype());
            };
            let (kind, device) = match tensor.buffer().device() {
                Some(device) => (dlpack::CUDA, device.ordinal() as i32),
                None if tensor.buffer().is_pinned() => (dlpack::CUDA_HOST, 0),
                None => (dlpack::CPU, 0),
            };
            order(c, ready_on, used_on)?;
            let description = Description {
                address: tensor.buffer().address() + tensor.offset() as u64,
                kind,
                device,
                element,
                dims: tensor.dims().iter().map(|&d| d as i64).collect(),
            };
            out.set(dlpack::export(description, Box::new(tensor.clone())).cast());
            Ok(())
        })
    }
}

/// Takes a tensor of another framework (a `DLManagedTensorVersioned`, DLPack 1) as a value, without a copy: host memory, pinned memory
/// or CUDA memory, contiguous and writable.
///
/// tensor: on success it belongs to the value, and its deleter is called when the value, its buffer and the work that uses it are
///   gone. If the call fails it stays the caller's.
/// ready_on: the stream on which the tensor is computed, NULL if it is ready.
/// used_on: the stream on which this library will use it: it waits, on the device, for what is on `ready_on` now. NULL if the caller
///   orders the two.
///
/// Errors: MEZZO_ERROR_UNSUPPORTED for strides, types or memory that values do not have; MEZZO_ERROR_VERSION for another version of DLPack.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_value_from_dlpack(
    tensor: *mut c_void,
    ready_on: *const mezzo_stream_t,
    used_on: *const mezzo_stream_t,
    value: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_value_from_dlpack", |c| {
            let out = c.out("value", value)?;
            if tensor.is_null() {
                return Err(c.null("tensor", "give a DLManagedTensorVersioned"));
            }
            let managed = tensor.cast::<Managed>();
            let found = dlpack::describe(managed)?;
            let Some(dtype) = dtype_of(found.element) else {
                let Element { code, bits, lanes } = found.element;
                bail!(
                    Unsupported,
                    "values have no elements of DLPack's code {code} with {bits} bits and {lanes} lanes"
                );
            };
            let dims = c.dims("shape of the DLPack tensor", found.dims.as_ptr(), found.dims.len())?;
            let len = byte_size(dtype, &dims)?;
            let size = dtype.element_size().unwrap_or(1).min(8) as u64;
            if !found.address.is_multiple_of(size) {
                bail!(
                    InvalidArgument,
                    "the DLPack tensor of type {dtype} does not start at a multiple of {size} bytes"
                );
            }
            let place = match found.kind {
                dlpack::CUDA => Some(Device::get(usize::try_from(found.device).unwrap_or(usize::MAX))?),
                dlpack::CPU | dlpack::CUDA_HOST => None,
                kind => bail!(
                    Unsupported,
                    "the DLPack tensor lies in memory of DLPack's kind {kind}: copy it to the host or to CUDA"
                ),
            };
            order(c, ready_on, used_on)?;
            // Nothing fails from here on: the tensor is ours.
            let release = Some(dlpack::release(managed));
            let buffer = match place {
                Some(device) => Buffer::borrow_device(device, found.address, len, release),
                None => {
                    let pointer = std::ptr::with_exposed_provenance_mut::<u8>(found.address as usize);
                    let pointer = NonNull::new(pointer).unwrap_or(NonNull::dangling());
                    Buffer::from_block(Block::borrow(pointer, len, release))
                }
            };
            out.set(boxed(Value::Tensor(TensorValue::new(dtype, dims, buffer, 0)?)));
            Ok(())
        })
    }
}

/// Lets one stream wait for another.
fn order(c: &Call, ready_on: *const mezzo_stream_t, used_on: *const mezzo_stream_t) -> Result<()> {
    let (ready_on, used_on) = (c.optional("ready_on", ready_on)?, c.optional("used_on", used_on)?);
    if let (Some(ready_on), Some(used_on)) = (ready_on, used_on)
        && ready_on.as_ptr() != used_on.as_ptr()
    {
        let event = Event::new(ready_on.device(), false)?;
        event.record(ready_on)?;
        used_on.wait(&event)?;
    }
    Ok(())
}

fn element_of(dtype: DataType) -> Option<Element> {
    use DataType::*;
    let (code, bits) = match dtype {
        Int8 => (0, 8),
        Int16 => (0, 16),
        Int32 => (0, 32),
        Int64 => (0, 64),
        Uint8 => (1, 8),
        Uint16 => (1, 16),
        Uint32 => (1, 32),
        Uint64 => (1, 64),
        Float16 => (2, 16),
        Float32 => (2, 32),
        Float64 => (2, 64),
        Bfloat16 => (4, 16),
        Complex64 => (5, 64),
        Complex128 => (5, 128),
        Bool => (6, 8),
        _ => return None,
    };
    Some(Element { code, bits, lanes: 1 })
}

fn dtype_of(element: Element) -> Option<DataType> {
    use DataType::*;
    let all = [
        Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Float16, Float32, Float64, Bfloat16, Complex64,
        Complex128, Bool,
    ];
    all.into_iter().find(|t| element_of(*t) == Some(element))
}
