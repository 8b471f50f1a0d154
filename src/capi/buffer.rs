//! Buffers: host memory that tensors are bound to.

use super::boundary::{Call, call, read};
use super::callback::mezzo_release_callback_t;
use super::env::mezzo_env_t;
use super::error::mezzo_error_t;
use super::handle::{free_shared, handle, retain_shared, shared};
use crate::Result;
use crate::device::Buffer;
use crate::sys::memory::{Block, Release};
use std::ffi::c_void;
use std::ptr::NonNull;

/// A block of host memory. Shared and counted: bound contexts and values made over it keep it alive.
///
/// Calls of the library that meet in one buffer never race: reading shares, writing is exclusive, and a conflict is
/// MEZZO_ERROR_BUSY. What the caller does through mezzo_buffer_data() is the caller's to order against such calls.
pub struct mezzo_buffer_t {
    _opaque: [u8; 0],
}

handle!(mezzo_buffer_t, Buffer, "a buffer", b"buff");

/// Allocates a buffer of `size` bytes, all zero, aligned to 64 bytes.
///
/// env: whose allocator is used; NULL for the default environment.
/// size: may be 0.
///
/// Errors: MEZZO_ERROR_OUT_OF_MEMORY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_new(
    env: *const mezzo_env_t,
    size: usize,
    buffer: *mut *mut mezzo_buffer_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_buffer_new", |c| {
            let env = c.env(env)?;
            let out = c.out("buffer", buffer)?;
            out.set(shared(Buffer::allocate(size, env.allocator())?));
            Ok(())
        })
    }
}

/// Makes a buffer over memory of the caller's, without a copy.
///
/// data: `size` bytes that stay valid until `release` is called; NULL only if `size` is 0. The library writes them if
///   the buffer is bound to an output or copied into.
/// release: called once with `user` when the buffer, everything bound to it and all values over it are gone; NULL if
///   the memory outlives them all. Not called if this call fails.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_from_memory(
    data: *mut c_void,
    size: usize,
    release: mezzo_release_callback_t,
    user: *mut c_void,
    buffer: *mut *mut mezzo_buffer_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_buffer_from_memory", |c| {
            let out = c.out("buffer", buffer)?;
            out.set(shared(borrow(c, data, size, release, user)?));
            Ok(())
        })
    }
}

/// A buffer over checked memory of the caller's.
pub(super) fn borrow(
    c: &Call,
    data: *mut c_void,
    size: usize,
    release: mezzo_release_callback_t,
    user: *mut c_void,
) -> Result<Buffer> {
    c.slice("data", data.cast::<u8>(), size)?;
    let pointer =
        if size == 0 { NonNull::dangling() } else { NonNull::new(data.cast()).unwrap_or(NonNull::dangling()) };
    let release = release.map(|function| Release { function, user });
    // SAFETY: the header's contract: the memory stays until it is released, and conflicting access is the caller's care.
    Ok(Buffer::from_block(unsafe { Block::borrow(pointer, size, release) }))
}

/// Size in bytes; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_size(buffer: *const mezzo_buffer_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(buffer, 0, Buffer::len) }
}

/// Address of the first byte, valid as long as the buffer; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_data(buffer: *const mezzo_buffer_t) -> *mut c_void {
    // SAFETY: the header's contract.
    unsafe { read(buffer, std::ptr::null_mut(), |b| b.as_ptr().cast()) }
}

/// Copies `size` bytes from `data` into the buffer at `offset`. The two may overlap.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if they do not fit, MEZZO_ERROR_BUSY if the buffer is in use.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_copy_in(
    buffer: *mut mezzo_buffer_t,
    offset: usize,
    data: *const c_void,
    size: usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_buffer_copy_in", |c| {
            let buffer = c.get("buffer", buffer)?;
            c.bytes_given("data", data, size)?;
            copy_in(buffer, offset, data, size)
        })
    }
}

/// Copies `size` bytes from the buffer at `offset` to `data`. The two may overlap.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if the buffer has not that many, MEZZO_ERROR_BUSY if the buffer is being written.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_copy_out(
    buffer: *const mezzo_buffer_t,
    offset: usize,
    data: *mut c_void,
    size: usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_buffer_copy_out", |c| {
            let buffer = c.get("buffer", buffer)?;
            c.bytes_given("data", data, size)?;
            copy_out(buffer, offset, data, size)
        })
    }
}

/// One more reference to the same buffer, to be given back with mezzo_buffer_free(). NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_retain(buffer: *const mezzo_buffer_t) -> *mut mezzo_buffer_t {
    // SAFETY: the header's contract.
    unsafe { retain_shared(buffer) }
}

/// Gives a reference back; the memory goes with the last one. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_buffer_free(buffer: *mut mezzo_buffer_t) {
    // SAFETY: the header's contract.
    unsafe { free_shared(buffer) }
}

/// Copies caller memory, which may overlap the buffer, into it.
pub(super) fn copy_in(buffer: &Buffer, offset: usize, data: *const c_void, size: usize) -> Result<()> {
    buffer.check_range(offset, size)?;
    if size == 0 {
        return Ok(());
    }
    if let Some(memory) = buffer.device_memory() {
        // SAFETY: the range was checked, and `data` has `size` bytes by the header's contract.
        return unsafe { memory.write(offset, data.cast(), size) };
    }
    let block = buffer.lock_mut()?;
    // SAFETY: the range was checked, the block is locked, and `data` has `size` bytes by the header's contract.
    unsafe { std::ptr::copy(data.cast::<u8>(), block.as_ptr().add(offset), size) };
    Ok(())
}

/// Copies out of a buffer to caller memory, which may overlap it.
pub(super) fn copy_out(buffer: &Buffer, offset: usize, data: *mut c_void, size: usize) -> Result<()> {
    buffer.check_range(offset, size)?;
    if size == 0 {
        return Ok(());
    }
    if let Some(memory) = buffer.device_memory() {
        // SAFETY: the range was checked, and `data` has room for `size` bytes by the header's contract.
        return unsafe { memory.read(offset, data.cast(), size) };
    }
    let block = buffer.read()?;
    // SAFETY: as above. The address is taken from the block itself, not from a shared slice of it, so that an
    // overlapping destination is no write through a shared reference.
    unsafe { std::ptr::copy(block.as_ptr().add(offset), data.cast::<u8>(), size) };
    Ok(())
}
