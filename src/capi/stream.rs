//! Streams and events: the order of work on devices.

use super::boundary::{call, read};
use super::error::mezzo_error_t;
use super::handle::{free_shared, handle, shared};
use crate::device::{Device, Event, Stream};
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

/// A CUDA stream: work enqueued on it runs in order, on the device. Safe to use from several threads.
///
/// Work of two streams is ordered by events (mezzo_stream_wait_event()). Two executions of one context are ordered by the
/// library, whatever their streams.
pub struct mezzo_stream_t {
    _opaque: [u8; 0],
}

/// A CUDA event: a place in a stream's work. Safe to use from several threads.
pub struct mezzo_event_t {
    _opaque: [u8; 0],
}

handle!(mezzo_stream_t, Arc<Stream>, "a stream", b"strm");
handle!(mezzo_event_t, Event, "an event", b"evnt");

/// Makes a stream, which is not ordered with CUDA's legacy default stream.
///
/// device: the device's number, from 0.
/// priority: 0, or a number within mezzo_device_stream_priorities(); a smaller one is more urgent.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver; those of the CUDA driver.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_stream_new(
    device: usize,
    priority: i32,
    stream: *mut *mut mezzo_stream_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_stream_new", |c| {
            let out = c.out("stream", stream)?;
            out.set(shared(Arc::new(Stream::new(Device::get(device)?, priority)?)));
            Ok(())
        })
    }
}

/// Borrows a stream of the caller's (`CUstream` and `cudaStream_t` are the same). It must live until the handle is freed and
/// the contexts that were enqueued on it are freed, or were enqueued on another stream.
///
/// device: the number of the device that the stream was made on; the stream is of the device's primary context, as all
///   streams of the CUDA runtime, of PyTorch and of TensorRT are.
/// cuda_stream: the stream; NULL is the legacy default stream.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver; MEZZO_ERROR_INVALID_ARGUMENT if the stream is not
/// of that device's primary context.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_stream_from_cuda(
    device: usize,
    cuda_stream: *mut c_void,
    stream: *mut *mut mezzo_stream_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_stream_from_cuda", |c| {
            let out = c.out("stream", stream)?;
            out.set(shared(Arc::new(Stream::borrow(Device::get(device)?, cuda_stream)?)));
            Ok(())
        })
    }
}

/// The stream as CUDA has it (`CUstream`, `cudaStream_t`), valid as long as the handle; NULL for NULL and for the legacy default
/// stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_stream_cuda(stream: *const mezzo_stream_t) -> *mut c_void {
    // SAFETY: the header's contract.
    unsafe { read(stream, ptr::null_mut(), |s| s.as_ptr()) }
}

/// Waits until all work enqueued on the stream so far is done.
///
/// Errors: those of the CUDA driver; an error of earlier work appears here.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_stream_synchronize(stream: *const mezzo_stream_t) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe { call("mezzo_stream_synchronize", |c| c.get("stream", stream)?.synchronize()) }
}

/// Asks, without waiting, whether all work enqueued on the stream so far is done.
///
/// Errors: those of the CUDA driver; an error of earlier work appears here.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_stream_is_done(stream: *const mezzo_stream_t, done: *mut bool) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_stream_is_done", |c| {
            let out = c.out("done", done)?;
            out.set(c.get("stream", stream)?.is_done()?);
            Ok(())
        })
    }
}

/// Lets work that is enqueued on the stream from now on wait, on the device, for a recorded event. The call does not wait.
///
/// Errors: those of the CUDA driver.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_stream_wait_event(
    stream: *const mezzo_stream_t,
    event: *const mezzo_event_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe { call("mezzo_stream_wait_event", |c| c.get("stream", stream)?.wait(c.get("event", event)?)) }
}

/// Frees a stream; its work goes on. NULL is allowed. A borrowed stream stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_stream_free(stream: *mut mezzo_stream_t) {
    // SAFETY: the header's contract.
    unsafe { free_shared(stream) }
}

/// Makes an event.
///
/// device: the device's number, from 0.
/// timing: whether the event takes the time; one without is cheaper.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver; those of the CUDA driver.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_event_new(
    device: usize,
    timing: bool,
    event: *mut *mut mezzo_event_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_event_new", |c| {
            let out = c.out("event", event)?;
            out.set(shared(Event::new(Device::get(device)?, timing)?));
            Ok(())
        })
    }
}

/// Records the place that the stream's work has reached. An event may be recorded again and again.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if they are of different devices; those of the CUDA driver.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_event_record(
    event: *const mezzo_event_t,
    stream: *const mezzo_stream_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe { call("mezzo_event_record", |c| c.get("event", event)?.record(c.get("stream", stream)?)) }
}

/// Waits until the recorded place was passed; at once if nothing was recorded.
///
/// Errors: those of the CUDA driver.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_event_synchronize(event: *const mezzo_event_t) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe { call("mezzo_event_synchronize", |c| c.get("event", event)?.synchronize()) }
}

/// Asks, without waiting, whether the recorded place was passed.
///
/// Errors: those of the CUDA driver.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_event_is_done(event: *const mezzo_event_t, done: *mut bool) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_event_is_done", |c| {
            let out = c.out("done", done)?;
            out.set(c.get("event", event)?.is_done()?);
            Ok(())
        })
    }
}

/// Gives the time from one event to another on the device, in milliseconds, resolved to about half a microsecond.
///
/// Errors: MEZZO_ERROR_INVALID_STATE if an event was made without timing or was not passed yet; those of the CUDA driver, as when
/// one was not recorded.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_event_elapsed(
    start: *const mezzo_event_t,
    end: *const mezzo_event_t,
    milliseconds: *mut f32,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_event_elapsed", |c| {
            let out = c.out("milliseconds", milliseconds)?;
            out.set(c.get("start", start)?.milliseconds_until(c.get("end", end)?)?);
            Ok(())
        })
    }
}

/// The event as CUDA has it (`CUevent`, `cudaEvent_t`), valid as long as the handle; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_event_cuda(event: *const mezzo_event_t) -> *mut c_void {
    // SAFETY: the header's contract.
    unsafe { read(event, ptr::null_mut(), Event::as_ptr) }
}

/// Frees an event. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_event_free(event: *mut mezzo_event_t) {
    // SAFETY: the header's contract.
    unsafe { free_shared(event) }
}
