//! Execution contexts.

use super::boundary::{Call, call};
use super::buffer::mezzo_buffer_t;
use super::engine::{mezzo_engine_t, signed};
use super::error::mezzo_error_t;
use super::handle::{free_shared, handle, shared};
use super::run_options::{RunOptionsBody, mezzo_run_options_t};
use super::stream::mezzo_stream_t;
use super::strings::Text;
use super::value::{self, mezzo_value_t};
use crate::backend::{RunControl, Value};
use crate::engine::Context;
use crate::{Result, bail, err};
use parking_lot::{Mutex, MutexGuard};
use std::ffi::{c_char, c_void};

/// One execution of an engine: what is bound to its inputs and outputs, and what came out. Keeps its engine alive.
///
/// Exclusive: one thread at a time. A call that meets another thread's call on the same context answers
/// MEZZO_ERROR_BUSY. For concurrent runs open one context per thread: they share the engine's weights.
pub struct mezzo_context_t {
    _opaque: [u8; 0],
}

handle!(mezzo_context_t, Mutex<Context>, "a context", b"cont");

impl Call {
    /// The context, locked for this call.
    pub(super) fn context(&self, context: *mut mezzo_context_t) -> Result<MutexGuard<'_, Context>> {
        self.get_held("context", context)?.try_lock().ok_or_else(|| {
            err!(
                Busy,
                "the context given to {} is in use by another call: open one context for each thread",
                self.name()
            )
        })
    }
}

/// Opens a context.
///
/// context: receives the context; free it with mezzo_context_free().
///
/// Errors: MEZZO_ERROR_OUT_OF_MEMORY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_new(
    engine: *const mezzo_engine_t,
    context: *mut *mut mezzo_context_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_new", |c| {
            let engine = c.get("engine", engine)?;
            let out = c.out("context", context)?;
            out.set(shared(Mutex::new(Context::new(&engine.engine)?)));
            Ok(())
        })
    }
}

/// Sets the shape of an input that a buffer is bound to. (A bound value brings its own shape.)
///
/// name: of the input.
/// dims, rank: the shape; it must fit what mezzo_engine_input() declares.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such input, MEZZO_ERROR_SHAPE_MISMATCH if the shape does not fit.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_set_input_shape(
    context: *mut mezzo_context_t,
    name: *const c_char,
    dims: *const i64,
    rank: usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_set_input_shape", |c| {
            let mut context = c.context(context)?;
            context.set_input_shape(c.text("name", name)?, &c.dims("dims", dims, rank)?)
        })
    }
}

/// Binds a value to an input, or memory for the result to an output. The context holds on to the value's memory, not to
/// the handle, which may be freed. The memory is read, or written, by each run until something else is bound.
///
/// An output needs no binding: a run allocates what is not bound.
///
/// name: of the input or output.
/// value: of the declared type and a fitting shape; for an output, a tensor.
///
/// Errors: MEZZO_ERROR_NOT_FOUND, MEZZO_ERROR_TYPE_MISMATCH, MEZZO_ERROR_SHAPE_MISMATCH.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_bind(
    context: *mut mezzo_context_t,
    name: *const c_char,
    value: *const mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_bind", |c| {
            let mut context = c.context(context)?;
            context.bind(c.text("name", name)?, c.get("value", value)?.value.clone())
        })
    }
}

/// Binds bytes of a buffer to an input or output, in the type that the engine declares. The context keeps the buffer
/// alive until something else is bound.
///
/// The shape of an input must be fixed, or set with mezzo_context_set_input_shape() before the run. A result that does
/// not fit an output's buffer makes the run fail.
///
/// name: of the input or output.
/// offset: where the tensor starts, in bytes.
///
/// Errors: MEZZO_ERROR_NOT_FOUND, MEZZO_ERROR_SIZE_MISMATCH, MEZZO_ERROR_TYPE_MISMATCH if it is no dense tensor.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_bind_buffer(
    context: *mut mezzo_context_t,
    name: *const c_char,
    buffer: *const mezzo_buffer_t,
    offset: usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_bind_buffer", |c| {
            let mut context = c.context(context)?;
            context.bind_buffer(c.text("name", name)?, c.get("buffer", buffer)?.clone(), offset)
        })
    }
}

/// Takes away what is bound to an input or output, and an input's shape.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such input or output.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_unbind(
    context: *mut mezzo_context_t,
    name: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe { call("mezzo_context_unbind", |c| c.context(context)?.unbind(c.text("name", name)?)) }
}

/// Checks what is bound (names, types, ranks, dimensions, sizes), runs, and returns when the outputs are there. If it
/// fails, the results of the run before stay, but memory bound to outputs may have been written.
///
/// options: NULL for the defaults.
///
/// Errors: MEZZO_ERROR_INVALID_STATE if an input is not bound; MEZZO_ERROR_SHAPE_MISMATCH if a dynamic shape is not set or
/// shapes contradict each other; MEZZO_ERROR_SIZE_MISMATCH if a buffer is too small; MEZZO_ERROR_EXECUTION if the data
/// makes an operator fail; MEZZO_ERROR_CANCELLED; MEZZO_ERROR_BUSY; MEZZO_ERROR_OUT_OF_MEMORY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_run(
    context: *mut mezzo_context_t,
    options: *const mezzo_run_options_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_run", |c| {
            let mut context = c.context(context)?;
            let options = c.optional("options", options)?;
            let tap = options.and_then(RunOptionsBody::tap);
            context.run(&RunControl {
                allocator: None,
                cancel: options.and_then(|o| o.cancel.as_deref()),
                tap: tap.as_ref().map(|f| -> &(dyn Fn(&str, &Value) + Sync) { f }),
            })
        })
    }
}

/// Checks what is bound, enqueues an execution on a stream, and returns without waiting for it. For engines of "tensorrt" and
/// "tensorrt-rtx".
///
/// Inputs, and outputs that are bound, lie in memory of the engine's device (mezzo_buffer_new_device(), or borrowed), except inputs
/// whose values are a shape, which lie on the host. An output that is not bound gets new device memory in each call. While
/// nothing is bound anew, later calls skip the checks.
///
/// What the work uses stays alive until it is done, whatever is freed or bound meanwhile; the memory of inputs must not be
/// written before. Executions of one context follow one another on the device, on whatever streams they are enqueued. Outputs
/// whose size only the data decides make the call wait for the device, and are copied to where they are bound; where too little
/// is bound, the call fails with MEZZO_ERROR_SIZE_MISMATCH after the execution. The stream may be captured into a graph by the
/// caller; the context and what is bound must then outlive the graph.
///
/// Errors: those of mezzo_context_run() before anything is enqueued; MEZZO_ERROR_UNSUPPORTED for engines of the backend "cpu", and
/// during a capture if the data decides the size of an output;
/// MEZZO_ERROR_INVALID_ARGUMENT for memory on the host or on another device.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_enqueue(
    context: *mut mezzo_context_t,
    stream: *const mezzo_stream_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_enqueue", |c| {
            let mut context = c.context(context)?;
            context.enqueue(c.get("stream", stream)?)
        })
    }
}

/// Turns the capture of enqueued executions as CUDA graphs on or off; it is off at first. With it, the second enqueue with the same
/// bindings captures the execution and later ones replay it, which costs the host less. Binding anew, or another shape, starts
/// over. Bind every output.
///
/// Errors: MEZZO_ERROR_UNSUPPORTED for engines of the backend "cpu".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_set_cuda_graph(context: *mut mezzo_context_t, on: bool) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe { call("mezzo_context_set_cuda_graph", |c| c.context(context)?.set_graph(on)) }
}

/// Counts what the option of mezzo_context_set_cuda_graph() did: whether executions really are replayed.
///
/// captured: receives how many executions were captured; may be NULL.
/// replayed: receives how many were launched from a capture; may be NULL.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT, MEZZO_ERROR_BUSY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_graph_counts(
    context: *mut mezzo_context_t,
    captured: *mut u64,
    replayed: *mut u64,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_graph_counts", |c| {
            let counts = c.context(context)?.graph_counts();
            for (out, count) in [(captured, counts.0), (replayed, counts.1)] {
                if !out.is_null() {
                    out.write(count);
                }
            }
            Ok(())
        })
    }
}

/// Turns the measurement of each layer on or off; it is off at first. Executions wait for the device while it is on.
///
/// Errors: MEZZO_ERROR_UNSUPPORTED for engines of the backend "cpu".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_set_profiling(context: *mut mezzo_context_t, on: bool) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe { call("mezzo_context_set_profiling", |c| c.context(context)?.set_profiling(on)) }
}

/// Sees the time of a layer.
///
/// layer: its name in the engine, valid during the call.
/// milliseconds: on the device.
pub type mezzo_layer_time_callback_t =
    Option<unsafe extern "C" fn(user: *mut c_void, layer: *const c_char, milliseconds: f32)>;

/// Calls back, from this thread, for each layer of the executions since the last call, in order. Profiling must be on, and the
/// executions done.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT, MEZZO_ERROR_BUSY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_layer_times(
    context: *mut mezzo_context_t,
    callback: mezzo_layer_time_callback_t,
    user: *mut c_void,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_layer_times", |c| {
            let callback = callback.ok_or_else(|| c.null("callback", "give a function"))?;
            let times = c.context(context)?.layer_times();
            for (layer, milliseconds) in times {
                let layer = Text::from(layer.as_str());
                callback(user, layer.as_ptr(), milliseconds);
            }
            Ok(())
        })
    }
}

/// Gives an output of the last run, as a new value. It shares the memory that was bound, or the memory that the run
/// allocated, which later runs leave alone.
///
/// name: of the output.
/// value: receives the value; free it with mezzo_value_free().
///
/// Errors: MEZZO_ERROR_NOT_FOUND, MEZZO_ERROR_INVALID_STATE if the context has not run.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_output(
    context: *mut mezzo_context_t,
    name: *const c_char,
    value: *mut *mut mezzo_value_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_output", |c| {
            let context = c.context(context)?;
            let name = c.text("name", name)?;
            let out = c.out("value", value)?;
            out.set(value::boxed(context.output(name)?));
            Ok(())
        })
    }
}

/// Gives the shape of an output: what the input shapes decide, or else that of the last run's result.
///
/// name: of the output.
/// dims, capacity: room for `capacity` dimensions; NULL and 0 ask for the rank only.
/// rank: receives the number of dimensions.
///
/// Errors: MEZZO_ERROR_NOT_FOUND; MEZZO_ERROR_INVALID_STATE if the shape is not known yet; MEZZO_ERROR_SIZE_MISMATCH if
/// there is not room enough.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_output_shape(
    context: *mut mezzo_context_t,
    name: *const c_char,
    dims: *mut i64,
    capacity: usize,
    rank: *mut usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_output_shape", |c| {
            let context = c.context(context)?;
            let name = c.text("name", name)?;
            let room = if dims.is_null() { None } else { Some(c.slice_mut("dims", dims, capacity)?) };
            let out = c.out("rank", rank)?;
            let shape = context.output_shape(name)?;
            if let Some(room) = room {
                if room.len() < shape.len() {
                    bail!(
                        SizeMismatch,
                        "output '{name}' has {} dimensions, but argument 'capacity' of mezzo_context_output_shape is \
                         {capacity}",
                        shape.len()
                    );
                }
                for (to, from) in room.iter_mut().zip(&shape) {
                    *to = *from as i64;
                }
            }
            out.set(shape.len());
            Ok(())
        })
    }
}

/// Gives the peak bytes of intermediate tensors of the last run; -1 if that is not known.
///
/// Errors: MEZZO_ERROR_BUSY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_activation_bytes(
    context: *mut mezzo_context_t,
    bytes: *mut i64,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_context_activation_bytes", |c| {
            let context = c.context(context)?;
            c.out("bytes", bytes)?.set(signed(context.activation_bytes()));
            Ok(())
        })
    }
}

/// Frees a context; what is bound to it is released. NULL is allowed. If another thread's run is under way, that run
/// ends first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_context_free(context: *mut mezzo_context_t) {
    // SAFETY: the header's contract.
    unsafe { free_shared(context) }
}
