//! CUDA devices.

use super::boundary::{call, read_part};
use super::error::mezzo_error_t;
use super::strings::Text;
use crate::device::{self, Device};
use parking_lot::Mutex;
use std::ffi::c_char;

/// A CUDA device. It is the library's, lives until the process ends, and is never freed.
pub struct mezzo_device_t {
    device: &'static Device,
    name: Text,
}

/// Every device that was asked for.
static DEVICES: Mutex<Vec<&'static mezzo_device_t>> = Mutex::new(Vec::new());

/// Counts the CUDA devices. They are numbered from 0.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no CUDA driver; the message says what was tried.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_device_count(count: *mut usize) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_device_count", |c| {
            let out = c.out("count", count)?;
            out.set(device::count()?);
            Ok(())
        })
    }
}

/// Gives the version of CUDA that the driver has, as CUDA numbers it: 13000 is 13.0.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no CUDA driver.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_device_driver_version(version: *mut i32) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_device_driver_version", |c| {
            let out = c.out("version", version)?;
            out.set(device::driver_version()?);
            Ok(())
        })
    }
}

/// Gives a device. Its primary context is held from now on until the process ends.
///
/// index: from 0 to mezzo_device_count() - 1.
/// device: receives the device, which is not freed.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_device_get(index: usize, device: *mut *const mezzo_device_t) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_device_get", |c| {
            let out = c.out("device", device)?;
            let device = Device::get(index)?;
            let mut devices = DEVICES.lock();
            let known = devices.iter().copied().find(|d| d.device.ordinal() == index);
            let part = known.unwrap_or_else(|| {
                let part: &'static mezzo_device_t =
                    Box::leak(Box::new(mezzo_device_t { device, name: Text::from(device.name()) }));
                devices.push(part);
                part
            });
            out.set(part);
            Ok(())
        })
    }
}

/// The device's name, as in "NVIDIA H100 80GB HBM3"; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_device_name(device: *const mezzo_device_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read_part(device, std::ptr::null(), |d| d.name.as_ptr()) }
}

/// Bytes of memory the device has; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_device_memory(device: *const mezzo_device_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read_part(device, 0, |d| d.device.memory()) }
}

/// Compute capability as major * 10 + minor (90 is 9.0); 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_device_compute_capability(device: *const mezzo_device_t) -> u32 {
    // SAFETY: the header's contract.
    unsafe {
        read_part(device, 0, |d| {
            let (major, minor) = d.device.compute_capability();
            major * 10 + minor
        })
    }
}

/// Streaming multiprocessors; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_device_multiprocessors(device: *const mezzo_device_t) -> u32 {
    // SAFETY: the header's contract.
    unsafe { read_part(device, 0, |d| d.device.multiprocessors()) }
}

/// Gives the bytes of device memory that are free now.
///
/// Errors: those of the CUDA driver.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_device_free_memory(
    device: *const mezzo_device_t,
    bytes: *mut u64,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_device_free_memory", |c| {
            let out = c.out("bytes", bytes)?;
            let device = device.as_ref().ok_or_else(|| c.null("device", "give one from mezzo_device_get"))?;
            out.set(device.device.free_memory()?);
            Ok(())
        })
    }
}

/// Gives the range of stream priorities; a smaller number is a higher priority.
///
/// Errors: those of the CUDA driver.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_device_stream_priorities(
    device: *const mezzo_device_t,
    lowest: *mut i32,
    highest: *mut i32,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_device_stream_priorities", |c| {
            let (low, high) = (c.out("lowest", lowest)?, c.out("highest", highest)?);
            let device = device.as_ref().ok_or_else(|| c.null("device", "give one from mezzo_device_get"))?;
            let (least, greatest) = device.device.priorities()?;
            low.set(least);
            high.set(greatest);
            Ok(())
        })
    }
}
