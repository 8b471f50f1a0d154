//! Device memory that contexts share for their activations.

use super::boundary::{call, read};
use super::context::mezzo_context_t;
use super::engine::mezzo_engine_t;
use super::error::mezzo_error_t;
use super::handle::{free_shared, handle, shared};
use crate::device::{Device, SharedMemory};
use crate::engine::Context;
use parking_lot::Mutex;
use std::sync::Arc;

/// Device memory that several contexts use for their activations, in turns: as much as the largest of them needs, instead of the
/// sum. Safe to use from several threads.
///
/// The contexts may be of different engines and used by different threads; their executions follow one another on the device,
/// whatever their streams. What should overlap on the device needs contexts with memory of their own.
pub struct mezzo_context_memory_t {
    _opaque: [u8; 0],
}

handle!(mezzo_context_memory_t, Arc<SharedMemory>, "a context memory", b"cmem");

/// Makes empty memory, which grows when contexts are opened on it. Give it back with mezzo_context_memory_free().
///
/// device: the device's number, from 0.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_memory_new(
    device: usize,
    memory: *mut *mut mezzo_context_memory_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_memory_new", |c| {
            let out = c.out("memory", memory)?;
            out.set(shared(Arc::new(SharedMemory::new(Device::get(device)?))));
            Ok(())
        })
    }
}

/// How many bytes of device memory it has by now; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_memory_byte_size(memory: *const mezzo_context_memory_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(memory, 0, |memory| memory.byte_size()) }
}

/// Opens a context whose activations lie in shared memory, which grows if the engine needs more than it has. For engines of
/// "tensorrt" and "tensorrt-rtx". Such a context cannot be captured into a graph of the caller's; its own option
/// (mezzo_context_set_cuda_graph()) works.
///
/// memory: of the engine's device; the context keeps it alive.
/// context: receives the context; free it with mezzo_context_free().
///
/// Errors: those of mezzo_context_new(); MEZZO_ERROR_UNSUPPORTED for engines of the backend "cpu" and for TensorRT 10.0;
/// MEZZO_ERROR_INVALID_ARGUMENT if the engine runs on another device.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_new_sharing(
    engine: *const mezzo_engine_t,
    memory: *const mezzo_context_memory_t,
    context: *mut *mut mezzo_context_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_new_sharing", |c| {
            let engine = c.get("engine", engine)?;
            let memory = c.get("memory", memory)?;
            let out = c.out("context", context)?;
            out.set(shared(Mutex::new(Context::sharing(&engine.engine, memory)?)));
            Ok(())
        })
    }
}

/// Gives it back; NULL does nothing. The memory lives as long as a context uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_memory_free(memory: *mut mezzo_context_memory_t) {
    // SAFETY: the header's contract.
    unsafe { free_shared(memory) }
}
