//! Buffers on devices, and the copies between them in the order of a stream.

use super::boundary::{call, read};
use super::buffer::mezzo_buffer_t;
use super::callback::mezzo_release_callback_t;
use super::dtype::mezzo_dtype_t;
use super::error::mezzo_error_t;
use super::handle::shared;
use super::stream::mezzo_stream_t;
use crate::bail;
use crate::device::{self, Buffer, Device};
use crate::sys::memory::Release;
use std::ffi::c_void;

/// Allocates memory on a device, aligned to 256 bytes. Its content is not defined.
///
/// A buffer may be freed right after work that uses it was enqueued by this library: the memory goes when that work is done.
///
/// device: the device's number, from 0.
/// size: may be 0.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver; MEZZO_ERROR_OUT_OF_MEMORY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_new_device(
    device: usize,
    size: usize,
    buffer: *mut *mut mezzo_buffer_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_buffer_new_device", |c| {
            let out = c.out("buffer", buffer)?;
            out.set(shared(Buffer::on_device(Device::get(device)?, size)?));
            Ok(())
        })
    }
}

/// Allocates device memory in the order of a stream: it exists for work that follows, on that stream or ordered after it, and
/// is given back in the stream's order when the buffer is freed. Cheap: it does not wait for the device.
///
/// Errors: MEZZO_ERROR_OUT_OF_MEMORY; MEZZO_ERROR_UNSUPPORTED if the device has no memory pools.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_new_async(
    stream: *const mezzo_stream_t,
    size: usize,
    buffer: *mut *mut mezzo_buffer_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_buffer_new_async", |c| {
            let out = c.out("buffer", buffer)?;
            out.set(shared(Buffer::on_stream(c.get("stream", stream)?, size)?));
            Ok(())
        })
    }
}

/// Allocates pinned host memory, all zero, from and to which devices copy without a detour and without making the caller wait.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver; MEZZO_ERROR_OUT_OF_MEMORY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_new_pinned(
    device: usize,
    size: usize,
    buffer: *mut *mut mezzo_buffer_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_buffer_new_pinned", |c| {
            let out = c.out("buffer", buffer)?;
            out.set(shared(Buffer::pinned(Device::get(device)?, size)?));
            Ok(())
        })
    }
}

/// Makes a buffer over device memory of the caller's (`CUdeviceptr`, or what cudaMalloc gave), without a copy.
///
/// device: the number of the device in whose memory it lies.
/// address: `size` bytes that stay valid until `release` is called.
/// release: called once with `user` when the buffer, everything bound to it and the work that uses it are gone; NULL if the
///   memory outlives them all. Not called if this call fails.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver; MEZZO_ERROR_INVALID_ARGUMENT if the address is not in that
/// device's memory.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_from_device_memory(
    device: usize,
    address: *mut c_void,
    size: usize,
    release: mezzo_release_callback_t,
    user: *mut c_void,
    buffer: *mut *mut mezzo_buffer_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_buffer_from_device_memory", |c| {
            let out = c.out("buffer", buffer)?;
            let target = Device::get(device)?;
            let number = address.addr() as u64;
            if size > 0 && device::device_of(number)? != Some(device) {
                bail!(
                    InvalidArgument,
                    "argument 'address' of mezzo_buffer_from_device_memory ({address:p}) is not memory of device {device}: for host \
                     memory call mezzo_buffer_from_memory"
                );
            }
            let release = release.map(|function| Release { function, user });
            out.set(shared(Buffer::borrow_device(target, number, size, release)));
            Ok(())
        })
    }
}

/// The number of the device in whose memory the buffer lies; -1 for host memory, pinned memory and NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_device(buffer: *const mezzo_buffer_t) -> i32 {
    // SAFETY: the header's contract.
    unsafe { read(buffer, -1, |b| b.device().and_then(|d| i32::try_from(d.ordinal()).ok()).unwrap_or(-1)) }
}

/// Copies `size` bytes from one buffer to another, of any kind, in the order of a stream, and returns without waiting (for host
/// memory that is not pinned the driver may wait). Both buffers may be freed right away: their memory stays until the copy is
/// done. Pinned memory is the caller's to order, by the stream, as device memory is.
///
/// While the caller captures the stream into a graph the buffers must outlive the graph.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if the ranges do not fit; MEZZO_ERROR_BUSY if a host buffer is in use.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_copy_async(
    to: *mut mezzo_buffer_t,
    to_offset: usize,
    from: *const mezzo_buffer_t,
    from_offset: usize,
    size: usize,
    stream: *const mezzo_stream_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_buffer_copy_async", |c| {
            let (to, from) = (c.get("to", to)?, c.get("from", from)?);
            device::copy(c.get("stream", stream)?, to, to_offset, from, from_offset, size)
        })
    }
}

/// Sets `size` bytes of a device buffer to one value, in the order of a stream.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if the range does not fit; MEZZO_ERROR_INVALID_ARGUMENT if it is no memory of the stream's device.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_fill_async(
    buffer: *mut mezzo_buffer_t,
    offset: usize,
    value: u8,
    size: usize,
    stream: *const mezzo_stream_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_buffer_fill_async", |c| {
            let buffer = c.get("buffer", buffer)?;
            device::fill(c.get("stream", stream)?, buffer, offset, value, size)
        })
    }
}

/// Converts floats on the device, in the order of a stream, for callers who hold FP32 and an engine that takes FP16: between
/// MEZZO_DTYPE_FP32 and MEZZO_DTYPE_FP16 or MEZZO_DTYPE_BF16. To the narrow type values are rounded to nearest even; those beyond its range
/// become infinities.
///
/// to, from: two buffers of the stream's device, with room for `count` elements from `to_offset` and `from_offset` (bytes) on.
///
/// Errors: MEZZO_ERROR_UNSUPPORTED for other types; MEZZO_ERROR_SIZE_MISMATCH, MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_convert_async(
    to: *mut mezzo_buffer_t,
    to_offset: usize,
    to_dtype: mezzo_dtype_t,
    from: *const mezzo_buffer_t,
    from_offset: usize,
    from_dtype: mezzo_dtype_t,
    count: usize,
    stream: *const mezzo_stream_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_buffer_convert_async", |c| {
            let (to, from) = (c.get("to", to)?, c.get("from", from)?);
            let (to_dtype, from_dtype) = (c.dtype("to_dtype", to_dtype)?, c.dtype("from_dtype", from_dtype)?);
            let stream = c.get("stream", stream)?;
            device::convert(stream, (to, to_offset, to_dtype), (from, from_offset, from_dtype), count)
        })
    }
}

/// Lets go of what was freed while devices still used it and is not used any more, and gives the number of things that are still
/// in use. The library does this by itself when it allocates; call it before measuring memory.
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_device_collect() -> usize {
    super::boundary::guard(0, || {
        device::deferred::reap();
        device::deferred::waiting()
    })
}
