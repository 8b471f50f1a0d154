//! Executions of a plan: where every tensor's memory is, and in what order work runs.
#![allow(unsafe_code)] // work is enqueued on memory that the state keeps

use super::super::{BackendContext, IoInfo, RunControl, TensorValue, Value, byte_size};
use super::decided::Decided;
use super::plan::{Plan, Tensor};
use super::state::{State, Target, gone};
use crate::device::{Buffer, SharedMemory, Stream, deferred};
use crate::sys::tensorrt::Profiler;
use crate::{Result, bail};
use std::sync::Arc;

/// One execution context of a plan.
pub struct PlanContext {
    plan: Arc<Plan>,
    /// Where the activations lie, unless TensorRT made memory for them.
    memory: Option<Arc<SharedMemory>>,
    /// For runs without a stream of the caller's, and for captures.
    own_stream: Arc<Stream>,
    /// `None` only while it is dropped.
    state: Option<State>,
    /// Device memory for what callers hold on the host, per input and output of the engine.
    staged_inputs: Vec<Option<Buffer>>,
    staged_outputs: Vec<Option<Buffer>>,
}

impl PlanContext {
    /// Opens a context, whose activations lie in shared memory if that is given.
    pub fn open(plan: &Arc<Plan>, memory: Option<&Arc<SharedMemory>>) -> Result<PlanContext> {
        deferred::reap();
        let device = plan.device;
        let _entered = device.enter()?;
        let lease = plan.lease()?;
        if let Some(memory) = memory {
            if !std::ptr::eq(memory.device(), device) {
                bail!(InvalidArgument, "the memory is of {:?}, but the engine runs on {device:?}", memory.device());
            }
            memory.reserve(lease.engine.memory_bytes()?)?;
        }
        let context = lease.engine.open(memory.is_none())?;
        Ok(PlanContext {
            own_stream: Arc::new(Stream::new(device, 0)?),
            state: Some(State::new(plan, lease, context)?),
            staged_inputs: plan.inputs.iter().map(|_| None).collect(),
            staged_outputs: plan.outputs.iter().map(|_| None).collect(),
            plan: plan.clone(),
            memory: memory.cloned(),
        })
    }

    /// Tells TensorRT everything that is bound, and returns the shapes of the outputs as far as they are known.
    fn bind(
        &mut self,
        inputs: &[&TensorValue],
        targets: &[Target],
        stream: &Arc<Stream>,
    ) -> Result<Vec<Option<Vec<usize>>>> {
        let plan = self.plan.clone();
        let state = self.state.as_mut().ok_or_else(gone)?;
        state.let_go();
        state.choose_profile(&plan, inputs, stream)?;
        for (i, (tensor, value)) in plan.inputs.iter().zip(inputs).enumerate() {
            state.bind_input(i, tensor, value)?;
        }
        state.context.infer_shapes()?;
        let shapes = state.output_shapes(&plan)?;
        for (i, (target, shape)) in targets.iter().zip(&shapes).enumerate() {
            state.bind_output(&plan, i, target, shape.as_deref())?;
        }
        Ok(shapes)
    }

    /// Enqueues, after what the context did before, and notes what it uses.
    fn launch(&mut self, stream: &Arc<Stream>, capturing: bool) -> Result<()> {
        let state = self.state.as_mut().ok_or_else(gone)?;
        if capturing {
            state.refuse_in_graph(&self.plan)?;
        }
        let memory = self.memory.clone();
        let turn = memory.as_deref().map(|m| state.take_turn(m, stream, capturing)).transpose()?;
        state.follow(stream, capturing)?;
        state.before(self.plan.device)?;
        // SAFETY: every address that `bind` set belongs to a buffer in `bound`, or to the state itself, which stay until
        // `done` has passed.
        let enqueued = unsafe { state.context.enqueue(stream.as_ptr()) };
        // Before the event: what follows it may read the outputs, and write the memory that they came from.
        let delivered = match enqueued {
            Ok(()) => state.deliver(&self.plan, stream),
            Err(e) => Err(state.explain(&self.plan, e)),
        };
        // A part may be on the stream even if the whole was refused.
        let noted = state.after(stream, capturing);
        state.shed();
        delivered?;
        noted?;
        if let Some(turn) = turn {
            turn.end(&state.done, stream);
        }
        Ok(())
    }

    /// Memory on the device with room for that many bytes, used again from run to run.
    fn staged(slot: &mut Option<Buffer>, plan: &Plan, bytes: usize) -> Result<Buffer> {
        match slot {
            Some(buffer) if buffer.len() >= bytes => Ok(buffer.clone()),
            _ => {
                *slot = None;
                Ok(slot.insert(Buffer::on_device(plan.device, bytes)?).clone())
            }
        }
    }

    /// Inputs as TensorRT reads them: those that the caller holds on the host are copied to the device.
    fn stage(&mut self, inputs: &[&TensorValue]) -> Result<Vec<TensorValue>> {
        let stream = self.own_stream.clone();
        // What ran on another stream may still read the staged memory.
        self.state.as_mut().ok_or_else(gone)?.follow(&stream, false)?;
        let mut staged = Vec::with_capacity(inputs.len());
        for (i, (tensor, value)) in self.plan.inputs.iter().zip(inputs).enumerate() {
            if tensor.on_host || value.buffer().device().is_some() {
                staged.push((*value).clone());
                continue;
            }
            let slot = self.staged_inputs.get_mut(i).ok_or_else(gone)?;
            let buffer = PlanContext::staged(slot, &self.plan, value.byte_len())?;
            let lock = value.buffer().read()?;
            // SAFETY: a tensor lies inside its buffer, the staged memory is large enough, and the host memory is locked
            // until the driver has taken pageable bytes over; pinned ones are kept by `run`, which waits for the stream.
            unsafe {
                stream.copy(buffer.address(), value.buffer().address() + value.offset() as u64, value.byte_len())?;
            }
            drop(lock);
            staged.push(TensorValue::new(value.dtype(), value.dims().to_vec(), buffer, 0)?);
        }
        Ok(staged)
    }
}

impl BackendContext for PlanContext {
    fn run(&mut self, inputs: &[Value], outputs: &mut [Option<Value>], control: &RunControl) -> Result<()> {
        if control.tap.is_some() {
            bail!(
                Unsupported,
                "TensorRT shows no intermediate tensors: tap an engine of the backend 'cpu', which computes the same model"
            );
        }
        if control.cancel.is_some_and(|c| c.load(std::sync::atomic::Ordering::Relaxed)) {
            bail!(Cancelled, "cancelled by the caller's flag");
        }
        let plan = self.plan.clone();
        let _entered = plan.device.enter()?;
        self.state.as_mut().ok_or_else(gone)?.refuse_while_captured()?;
        let inputs = tensors(&plan.info.inputs, inputs)?;
        for (tensor, value) in plan.inputs.iter().zip(&inputs).filter(|(tensor, _)| !tensor.on_host) {
            check_device(&plan, "input", &tensor.name, value)?;
        }
        for (tensor, output) in plan.outputs.iter().zip(&*outputs) {
            if let Some(Value::Tensor(value)) = output {
                check_device(&plan, "output", &tensor.name, value)?;
            }
        }
        let worked = self.work(&inputs, outputs);
        // The caller's memory may be read until here, whatever happened.
        let waited = self.own_stream.synchronize();
        let (targets, shapes) = worked?;
        waited?;
        let mut made = Vec::with_capacity(outputs.len());
        for (i, (target, shape)) in targets.into_iter().zip(shapes).enumerate() {
            let on_device = self.result(i, target, shape)?;
            made.push(Some(Value::Tensor(bring_home(on_device, outputs[i].as_ref(), &plan.info.outputs[i], control)?)));
        }
        for (slot, value) in outputs.iter_mut().zip(made) {
            *slot = value;
        }
        Ok(())
    }

    fn enqueue(
        &mut self,
        inputs: &[Value],
        outputs: &mut [Option<Value>],
        changed: bool,
        stream: &Arc<Stream>,
    ) -> Result<()> {
        let plan = self.plan.clone();
        if !std::ptr::eq(stream.device(), plan.device) {
            bail!(InvalidArgument, "the engine runs on {:?}, but the stream is of {:?}", plan.device, stream.device());
        }
        let _entered = plan.device.enter()?;
        let state = self.state.as_mut().ok_or_else(gone)?;
        if !changed && outputs.iter().all(Option::is_some) && state.last.is_some() {
            self.again(stream)?;
            return self.reshape(outputs);
        }
        state.refuse_while_captured()?;
        let inputs = tensors(&plan.info.inputs, inputs)?;
        for (tensor, value) in plan.inputs.iter().zip(&inputs) {
            check_place(&plan, "input", &tensor.name, value, tensor.on_host)?;
        }
        let mut targets = Vec::with_capacity(outputs.len());
        for (i, (tensor, output)) in plan.outputs.iter().zip(&*outputs).enumerate() {
            targets.push(match output {
                Some(Value::Tensor(t)) => {
                    check_place(&plan, "output", &tensor.name, t, tensor.on_host)?;
                    Target::of(t)
                }
                _ => match self.output_bytes(&inputs, (i, tensor), stream)? {
                    Some(bytes) => {
                        let buffer = Buffer::on_device(plan.device, bytes)?;
                        Target::Memory { capacity: buffer.len(), buffer, offset: 0 }
                    }
                    None => Target::Made,
                },
            });
        }
        let shapes = self.bind(&inputs, &targets, stream)?;
        self.launch(stream, stream.is_capturing()?)?;
        for (i, (target, shape)) in targets.into_iter().zip(shapes).enumerate() {
            outputs[i] = Some(Value::Tensor(self.result(i, target, shape)?));
        }
        Ok(())
    }

    fn set_graph(&mut self, on: bool) -> Result<()> {
        let state = self.state.as_mut().ok_or_else(gone)?;
        state.let_go();
        state.replay.set(on);
        Ok(())
    }

    fn set_profiling(&mut self, on: bool) -> Result<()> {
        let _entered = self.plan.device.enter()?;
        let state = self.state.as_mut().ok_or_else(gone)?;
        if on && state.profiler.is_none() {
            let profiler = Profiler::new(self.plan.engine.api())?;
            // SAFETY: the profiler stays in the state, behind the context, until the context is gone: TensorRT keeps it even
            // if it is told to use none.
            unsafe { state.context.set_profiler(&profiler)? };
            state.profiler = Some(profiler);
        }
        // A graph has no layers to report.
        state.let_go();
        state.replay.pause(on);
        match state.profiler {
            Some(_) => state.context.report_layers(on),
            None => Ok(()),
        }
    }

    fn graph_counts(&self) -> (u64, u64) {
        self.state.as_ref().map_or((0, 0), |s| s.replay.counts())
    }

    fn layer_times(&mut self) -> Vec<(String, f32)> {
        self.state.as_ref().and_then(|s| s.profiler.as_ref()).map(Profiler::take).unwrap_or_default()
    }

    fn activation_bytes(&self) -> Option<u64> {
        self.plan.info.activation_bytes.or(self.plan.activation_bytes)
    }
}

impl PlanContext {
    /// An execution on the context's own stream, which is not waited for.
    #[allow(clippy::type_complexity)]
    fn work(
        &mut self,
        inputs: &[&TensorValue],
        outputs: &[Option<Value>],
    ) -> Result<(Vec<Target>, Vec<Option<Vec<usize>>>)> {
        let (plan, stream) = (self.plan.clone(), self.own_stream.clone());
        let staged = self.stage(inputs)?;
        let staged: Vec<&TensorValue> = staged.iter().collect();
        let mut targets = Vec::with_capacity(outputs.len());
        for (i, (tensor, output)) in plan.outputs.iter().zip(outputs).enumerate() {
            let bytes = self.output_bytes(&staged, (i, tensor), &stream)?;
            targets.push(match output {
                Some(Value::Tensor(t)) if t.buffer().device().is_some() => Target::of(t),
                _ => match bytes {
                    Some(bytes) => {
                        let slot = self.staged_outputs.get_mut(i).ok_or_else(gone)?;
                        let buffer = PlanContext::staged(slot, &plan, bytes)?;
                        Target::Memory { capacity: buffer.len(), buffer, offset: 0 }
                    }
                    None => Target::Made,
                },
            });
        }
        let shapes = self.bind(&staged, &targets, &stream)?;
        self.launch(&stream, false)?;
        Ok((targets, shapes))
    }

    /// The same work as last time.
    fn again(&mut self, stream: &Arc<Stream>) -> Result<()> {
        let capturing = stream.is_capturing()?;
        let state = self.state.as_mut().ok_or_else(gone)?;
        if capturing || !state.replay.is_on() {
            return self.launch(stream, capturing);
        }
        state.refuse_in_graph(&self.plan)?;
        let memory = self.memory.clone();
        let turn = memory.as_deref().map(|m| state.take_turn(m, stream, false)).transpose()?;
        if !state.replay.has_graph() {
            // Captured on the context's own stream: the caller's may be the default stream, which cannot be captured.
            state.follow(&self.own_stream, false)?;
            let context = &mut state.context;
            // SAFETY: as in `launch`; what is bound stays until the graph is let go.
            let graph = self.own_stream.capture(|| unsafe { context.enqueue(self.own_stream.as_ptr()) });
            let graph = graph
                .map_err(|e| e.context("the execution cannot be captured as a CUDA graph: turn the option off"))?;
            state.replay.keep(graph);
        }
        state.follow(stream, false)?;
        state.before(self.plan.device)?;
        let launched = state.replay.launch(stream);
        let noted = state.after(stream, false);
        launched?;
        noted?;
        if let Some(turn) = turn {
            turn.end(&state.done, stream);
        }
        Ok(())
    }

    /// Outputs whose shape an execution tells, in that of the last one.
    fn reshape(&mut self, outputs: &mut [Option<Value>]) -> Result<()> {
        let state = self.state.as_mut().ok_or_else(gone)?;
        for (i, output) in outputs.iter_mut().enumerate() {
            if let (Some(decided), Some(Value::Tensor(t))) = (state.decided(i), &*output)
                && let Some(result) = decided.result()
                && result.dims() != t.dims()
            {
                *output = Some(Value::Tensor(result.clone()));
            }
        }
        Ok(())
    }

    /// Bytes of an output for the shapes of the inputs; `None` if the execution tells them. The stream is the one that it will be
    /// enqueued on.
    fn output_bytes(
        &mut self,
        inputs: &[&TensorValue],
        (index, output): (usize, &Tensor),
        stream: &Arc<Stream>,
    ) -> Result<Option<usize>> {
        if let Some(dims) = &output.fixed_dims {
            return byte_size(output.dtype, dims).map(Some);
        }
        let plan = self.plan.clone();
        let state = self.state.as_mut().ok_or_else(gone)?;
        state.choose_profile(&plan, inputs, stream)?;
        for (i, (tensor, value)) in plan.inputs.iter().zip(inputs).enumerate() {
            state.set_shape(i, tensor, value.dims())?;
            if tensor.on_host {
                state.bind_input(i, tensor, value)?;
            }
        }
        state.context.infer_shapes()?;
        let shape = state.output_shape(index, output)?;
        shape.map(|dims| byte_size(output.dtype, &dims)).transpose()
    }

    /// The value of an output that was computed.
    fn result(&mut self, index: usize, target: Target, shape: Option<Vec<usize>>) -> Result<TensorValue> {
        let tensor = self.plan.outputs.get(index).ok_or_else(gone)?;
        let state = self.state.as_mut().ok_or_else(gone)?;
        match (shape, target) {
            (Some(dims), Target::Memory { buffer, offset, .. }) => TensorValue::new(tensor.dtype, dims, buffer, offset),
            _ => state.decided(index).and_then(Decided::take).ok_or_else(gone),
        }
    }
}

impl Drop for PlanContext {
    /// Work that is still on a stream goes on: what it uses is dropped when it is done.
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        let kept =
            (std::mem::take(&mut self.staged_inputs), std::mem::take(&mut self.staged_outputs), self.plan.clone());
        deferred::until(state.done.clone(), (state, kept));
    }
}

/// The tensors behind values.
fn tensors<'v>(infos: &[IoInfo], values: &'v [Value]) -> Result<Vec<&'v TensorValue>> {
    let named = infos.iter().zip(values);
    named.map(|(io, v)| v.as_tensor().map_err(|e| e.context(format_args!("input '{}'", io.name)))).collect()
}

/// An error unless a value lies where an enqueue needs it.
fn check_place(plan: &Plan, what: &str, name: &str, value: &TensorValue, on_host: bool) -> Result<()> {
    match value.buffer().device() {
        Some(device) if on_host => bail!(
            InvalidArgument,
            "{what} '{name}' is read on the host (its values are a shape), but memory of {device:?} is bound: bind host memory"
        ),
        None if !on_host => bail!(
            InvalidArgument,
            "{what} '{name}' is bound to host memory, which an enqueue cannot use: bind memory of {:?}, or call \
             mezzo_context_run, which copies",
            plan.device
        ),
        _ => check_device(plan, what, name, value),
    }
}

/// An error if a value lies in the memory of another device.
fn check_device(plan: &Plan, what: &str, name: &str, value: &TensorValue) -> Result<()> {
    match value.buffer().device() {
        Some(device) if !std::ptr::eq(device, plan.device) => bail!(
            InvalidArgument,
            "{what} '{name}' is bound to memory of {device:?}, but the engine runs on {:?}: bind memory of that device, and \
             copy with mezzo_buffer_copy_async",
            plan.device
        ),
        _ => Ok(()),
    }
}

/// The result where the caller wants it: where it is, or on the host.
fn bring_home(value: TensorValue, bound: Option<&Value>, io: &IoInfo, control: &RunControl) -> Result<TensorValue> {
    match bound {
        Some(Value::Tensor(t)) if t.buffer().device().is_some() => Ok(value),
        Some(Value::Tensor(t)) => {
            let bytes = value.to_bytes()?;
            if t.byte_len() < bytes.len() {
                bail!(
                    SizeMismatch,
                    "output '{}' is {} {:?}, {} bytes, but {} bytes are bound",
                    io.name,
                    value.dtype(),
                    value.dims(),
                    bytes.len(),
                    t.byte_len()
                );
            }
            t.buffer().write(t.offset(), &bytes)?;
            TensorValue::new(value.dtype(), value.dims().to_vec(), t.buffer().clone(), t.offset())
        }
        _ => {
            let bytes = value.byte_len();
            let buffer = Buffer::allocate(bytes, control.allocator)?;
            {
                let mut home = buffer.lock_mut()?;
                value.buffer().read_into(value.offset(), &mut home.bytes_mut()[..bytes])?;
            }
            TensorValue::new(value.dtype(), value.dims().to_vec(), buffer, 0)
        }
    }
}
