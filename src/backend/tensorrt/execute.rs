//! Executions of a plan: where every tensor's memory is, and in what order work runs.
#![allow(unsafe_code)] // addresses are handed to TensorRT; every size is checked and every buffer kept

use super::super::{BackendContext, IoInfo, RunControl, TensorValue, Value, byte_size};
use super::graph::Replay;
use super::plan::{Lease, Plan, Tensor};
use super::sink::Sink;
use crate::device::{Buffer, Event, SharedMemory, Stream, Turn, deferred};
use crate::model::DataType;
use crate::sys::tensorrt::{ExecutionContext, OutputAllocator, Profiler, Selector};
use crate::{Result, bail, err};
use std::sync::Arc;

/// What TensorRT asks of addresses.
const ALIGNMENT: u64 = 256;

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

/// What TensorRT may still use after a call has returned.
struct State {
    // Dropped in this order: what uses addresses first.
    replay: Replay,
    context: ExecutionContext,
    _lease: Lease,
    /// The piece of shared memory that the context has by now.
    memory: Option<Buffer>,
    allocators: Vec<Option<(OutputAllocator, Arc<Sink>)>>,
    profiler: Option<Profiler>,
    /// Host memory of inputs that are read there.
    host: Vec<Vec<u64>>,
    /// Keeps everything that was bound for the work that `done` follows.
    bound: Vec<Buffer>,
    /// What the caller captured into a graph, whose launches nobody tells of: kept as long as the context.
    captured: Vec<Buffer>,
    /// Follows the last work.
    done: Arc<Event>,
    /// The stream of the last work.
    last: Option<Arc<Stream>>,
    /// The optimization profile; `None` until one was chosen.
    profile: Option<usize>,
    /// The shapes that the context has.
    shapes: Vec<Option<Vec<usize>>>,
}

/// Where an output goes.
enum Target {
    /// To memory of known place and size.
    Memory { buffer: Buffer, offset: usize, capacity: usize },
    /// To memory that is made when the size is known.
    Made,
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
        let state = State {
            replay: Replay::default(),
            context,
            _lease: lease,
            memory: None,
            allocators: plan.outputs.iter().map(|_| None).collect(),
            profiler: None,
            host: plan.inputs.iter().map(|_| Vec::new()).collect(),
            bound: Vec::new(),
            captured: Vec::new(),
            done: Arc::new(Event::new(device, false)?),
            last: None,
            profile: None,
            shapes: plan.inputs.iter().map(|_| None).collect(),
        };
        Ok(PlanContext {
            own_stream: Arc::new(Stream::new(device, 0)?),
            state: Some(state),
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
        stream: &Stream,
    ) -> Result<Vec<Option<Vec<usize>>>> {
        let plan = self.plan.clone();
        let state = self.state.as_mut().ok_or_else(gone)?;
        state.let_go(&plan)?;
        state.choose_profile(&plan, inputs, stream)?;
        for (i, (tensor, value)) in plan.inputs.iter().zip(inputs).enumerate() {
            state.bind_input(i, tensor, value)?;
        }
        state.context.infer_shapes()?;
        let mut shapes = Vec::with_capacity(targets.len());
        for (i, (tensor, target)) in plan.outputs.iter().zip(targets).enumerate() {
            shapes.push(state.bind_output(&plan, i, tensor, target)?);
        }
        Ok(shapes)
    }

    /// Enqueues, after what the context did before, and notes what it uses.
    fn launch(&mut self, stream: &Arc<Stream>) -> Result<()> {
        let state = self.state.as_mut().ok_or_else(gone)?;
        let memory = self.memory.clone();
        let turn = memory.as_deref().map(|m| state.take_turn(m, stream)).transpose()?;
        state.follow(stream)?;
        // SAFETY: every address that `bind` set belongs to a buffer in `bound`, or to the state itself, which stay until
        // `done` has passed.
        let enqueued = unsafe { state.context.enqueue(stream.as_ptr()) };
        enqueued.map_err(|e| state.explain(&self.plan, e))?;
        state.after(stream)?;
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
        self.state.as_mut().ok_or_else(gone)?.follow(&stream)?;
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
            // until the driver has taken pageable bytes over; pinned ones are kept by `run` until the stream is done.
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
        let stream = self.own_stream.clone();
        let inputs = tensors(&plan.info.inputs, inputs)?;
        let staged = self.stage(&inputs)?;
        let mut targets = Vec::with_capacity(outputs.len());
        for (i, (tensor, output)) in plan.outputs.iter().zip(&*outputs).enumerate() {
            let bytes = self.output_bytes(&staged, tensor)?;
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
        let staged: Vec<&TensorValue> = staged.iter().collect();
        let shapes = self.bind(&staged, &targets, &stream)?;
        let launched = self.launch(&stream);
        // The caller's memory may be read until here whatever happened.
        let waited = stream.synchronize();
        launched.and(waited)?;
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
            return self.again(stream);
        }
        state.refuse_while_captured()?;
        let inputs = tensors(&plan.info.inputs, inputs)?;
        for (tensor, value) in plan.inputs.iter().zip(&inputs) {
            check_place(&plan, "input", &tensor.name, value, tensor.on_host)?;
        }
        let mut targets = Vec::with_capacity(outputs.len());
        for (tensor, output) in plan.outputs.iter().zip(&*outputs) {
            targets.push(match output {
                Some(Value::Tensor(t)) => {
                    check_place(&plan, "output", &tensor.name, t, tensor.on_host)?;
                    Target::of(t)
                }
                _ => match self.output_bytes_of(&inputs, tensor)? {
                    Some(bytes) => {
                        let buffer = Buffer::on_device(plan.device, bytes)?;
                        Target::Memory { capacity: buffer.len(), buffer, offset: 0 }
                    }
                    None => Target::Made,
                },
            });
        }
        let shapes = self.bind(&inputs, &targets, stream)?;
        self.launch(stream)?;
        for (i, (target, shape)) in targets.into_iter().zip(shapes).enumerate() {
            outputs[i] = Some(Value::Tensor(self.result(i, target, shape)?));
        }
        Ok(())
    }

    fn set_graph(&mut self, on: bool) -> Result<()> {
        let state = self.state.as_mut().ok_or_else(gone)?;
        state.let_go(&self.plan)?;
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
        state.let_go(&self.plan)?;
        state.replay.pause(on);
        match state.profiler {
            Some(_) => state.context.report_layers(on),
            None => Ok(()),
        }
    }

    fn layer_times(&mut self) -> Vec<(String, f32)> {
        self.state.as_ref().and_then(|s| s.profiler.as_ref()).map(Profiler::take).unwrap_or_default()
    }

    fn activation_bytes(&self) -> Option<u64> {
        self.plan.info.activation_bytes.or(self.plan.activation_bytes)
    }
}

impl PlanContext {
    /// The same work as last time.
    fn again(&mut self, stream: &Arc<Stream>) -> Result<()> {
        let state = self.state.as_mut().ok_or_else(gone)?;
        if !state.replay.is_on() || stream.is_capturing()? {
            return self.launch(stream);
        }
        let memory = self.memory.clone();
        let turn = memory.as_deref().map(|m| state.take_turn(m, stream)).transpose()?;
        if !state.replay.has_graph() {
            // Captured on the context's own stream: the caller's may be the default stream, which cannot be captured.
            state.follow(&self.own_stream)?;
            let context = &mut state.context;
            // SAFETY: as in `launch`; what is bound stays until the graph is let go.
            let graph = self.own_stream.capture(|| unsafe { context.enqueue(self.own_stream.as_ptr()) });
            let graph = graph.map_err(|e| {
                e.context("the execution cannot be captured as a CUDA graph (outputs whose size the data decides, say): turn the option off")
            })?;
            state.replay.keep(graph);
        }
        state.follow(stream)?;
        state.replay.launch(stream)?;
        state.after(stream)?;
        if let Some(turn) = turn {
            turn.end(&state.done, stream);
        }
        Ok(())
    }

    /// Bytes of an output for the shapes of the inputs; `None` if only the data decides them.
    fn output_bytes(&mut self, inputs: &[TensorValue], output: &Tensor) -> Result<Option<usize>> {
        let inputs: Vec<&TensorValue> = inputs.iter().collect();
        self.output_bytes_of(&inputs, output)
    }

    fn output_bytes_of(&mut self, inputs: &[&TensorValue], output: &Tensor) -> Result<Option<usize>> {
        if let Some(bytes) = output.fixed_bytes {
            return Ok(Some(bytes));
        }
        let plan = self.plan.clone();
        let stream = self.own_stream.clone();
        let state = self.state.as_mut().ok_or_else(gone)?;
        state.choose_profile(&plan, inputs, &stream)?;
        for (i, (tensor, value)) in plan.inputs.iter().zip(inputs).enumerate() {
            state.set_shape(i, tensor, value.dims())?;
            if tensor.on_host {
                state.bind_input(i, tensor, value)?;
            }
        }
        state.context.infer_shapes()?;
        let shape = known(state.context.shape(&output.c_name)?);
        shape.map(|dims| byte_size(output.dtype, &dims)).transpose()
    }

    /// The value of an output that was computed.
    fn result(&mut self, index: usize, target: Target, shape: Option<Vec<usize>>) -> Result<TensorValue> {
        let tensor = self.plan.outputs.get(index).ok_or_else(gone)?;
        let state = self.state.as_ref().ok_or_else(gone)?;
        let sink = state.allocators.get(index).and_then(Option::as_ref).map(|(_, sink)| sink);
        let dims = match shape {
            Some(dims) => dims,
            None => sink.and_then(|s| s.found()).ok_or_else(|| {
                err!(Execution, "TensorRT did not tell the shape of output '{}', which the data decides", tensor.name)
            })?,
        };
        match target {
            Target::Memory { buffer, offset, .. } => TensorValue::new(tensor.dtype, dims, buffer, offset),
            Target::Made => {
                let buffer = sink.and_then(|s| s.take()).map_or_else(|| Buffer::on_device(self.plan.device, 0), Ok)?;
                TensorValue::new(tensor.dtype, dims, buffer, 0)
            }
        }
    }
}

impl State {
    /// Before anything is bound anew: what was bound stays until the device is done with it, and the graph, whose
    /// addresses are the old ones, goes.
    fn let_go(&mut self, plan: &Plan) -> Result<()> {
        let graph = self.replay.let_go();
        let old = std::mem::take(&mut self.bound);
        if self.replay.captured_by_caller {
            self.captured.extend(old);
            return Ok(());
        }
        if (graph.is_some() || !old.is_empty()) && !self.done.is_done().unwrap_or(true) {
            let next = Arc::new(Event::new(plan.device, false)?);
            let before = std::mem::replace(&mut self.done, next);
            // Later work of another stream still has to follow this.
            if let Some(last) = &self.last {
                self.done.record(last)?;
            }
            deferred::until(before, (graph, old));
        }
        Ok(())
    }

    /// An error while a stream that the context was enqueued on is being captured by the caller.
    fn refuse_while_captured(&self) -> Result<()> {
        if let Some(last) = &self.last
            && self.replay.captured_by_caller
            && last.is_capturing().unwrap_or(false)
        {
            bail!(
                InvalidState,
                "the context is being captured into a CUDA graph, so what is bound cannot change: end the capture first, or \
                 use another context"
            );
        }
        Ok(())
    }

    /// The reason why an execution was not enqueued: memory for an output whose size only the data decides, or TensorRT's own.
    fn explain(&self, plan: &Plan, error: crate::Error) -> crate::Error {
        let sinks = plan.outputs.iter().zip(&self.allocators);
        let missing = sinks.filter_map(|(tensor, a)| Some((tensor, a.as_ref()?.1.missing()?))).next();
        missing.map_or(error, |(tensor, (needed, given))| {
            err!(
                SizeMismatch,
                "output '{}', whose size the data decides, needs {needed} bytes this time, but {given} bytes are bound: bind more, \
                 or nothing, and the library makes memory for it",
                tensor.name
            )
        })
    }

    /// Begins a use of shared memory, which the work to come needs.
    fn take_turn<'m>(&mut self, shared: &'m SharedMemory, stream: &Arc<Stream>) -> Result<Turn<'m>> {
        if stream.is_capturing()? {
            bail!(
                Unsupported,
                "the context shares the memory of its activations, so it cannot be captured into a graph, whose launches \
                 would not wait for their turn: capture a context with memory of its own"
            );
        }
        let turn = shared.turn(stream)?;
        if self.memory.as_ref().is_none_or(|m| !m.same(turn.memory())) {
            let memory = turn.memory().clone();
            // SAFETY: `open` reserved what the engine needs; the memory stays in the state until `done` has passed, and turns
            // keep others away from it until then.
            unsafe { self.context.set_memory(memory.address(), memory.len())? };
            // A graph holds the old address.
            deferred::until(self.done.clone(), (self.replay.let_go(), self.memory.replace(memory)));
        }
        Ok(turn)
    }

    /// Lets a stream wait for the context's work on another one.
    fn follow(&mut self, stream: &Arc<Stream>) -> Result<()> {
        match &self.last {
            Some(last) if last.as_ptr() != stream.as_ptr() && !self.replay.captured_by_caller => {}
            _ => return Ok(()),
        }
        if stream.is_capturing()? {
            if !self.done.is_done()? {
                bail!(
                    InvalidState,
                    "the context still works on another stream, which a capture cannot wait for: synchronize that stream \
                     before the capture begins"
                );
            }
            return Ok(());
        }
        stream.wait(&self.done)
    }

    /// Notes that the stream has the context's work.
    fn after(&mut self, stream: &Arc<Stream>) -> Result<()> {
        self.replay.captured_by_caller = stream.is_capturing()?;
        if !self.replay.captured_by_caller {
            self.done.record(stream)?;
        }
        if self.last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, stream)) {
            self.last = Some(stream.clone());
        }
        Ok(())
    }

    /// The first optimization profile that all inputs fit; the present one if it does.
    fn choose_profile(&mut self, plan: &Plan, inputs: &[&TensorValue], stream: &Stream) -> Result<()> {
        let fits = |index: usize| plan.profiles.get(index).is_some_and(|p| p.first_misfit(inputs).is_none());
        if plan.inputs.iter().all(|i| i.is_fixed) || self.profile.is_some_and(fits) {
            return Ok(());
        }
        let Some(index) = (0..plan.profiles.len()).find(|i| fits(*i)) else {
            let reasons: Vec<String> = plan
                .profiles
                .iter()
                .enumerate()
                .filter_map(|(i, p)| {
                    p.first_misfit(inputs).map(|m| format!("profile {i}: {}", m.describe(plan, inputs)))
                })
                .collect();
            bail!(
                ShapeMismatch,
                "no optimization profile of the engine fits the inputs ({}): give shapes inside a profile, or build the \
                 engine with a profile for them",
                reasons.join("; ")
            );
        };
        self.context.set_profile(index, stream)?;
        self.profile = Some(index);
        self.shapes.iter_mut().for_each(|s| *s = None);
        Ok(())
    }

    fn set_shape(&mut self, index: usize, tensor: &Tensor, dims: &[usize]) -> Result<()> {
        let Some(known) = self.shapes.get_mut(index) else { return Err(gone()) };
        if tensor.is_fixed || known.as_deref() == Some(dims) {
            return Ok(());
        }
        let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        self.context.set_input_shape(&tensor.c_name, &shape)?;
        *known = Some(dims.to_vec());
        Ok(())
    }

    fn bind_input(&mut self, index: usize, tensor: &Tensor, value: &TensorValue) -> Result<()> {
        self.set_shape(index, tensor, value.dims())?;
        let address = if tensor.on_host {
            let words = self.host.get_mut(index).ok_or_else(gone)?;
            let bytes = value.to_bytes()?;
            words.clear();
            words.resize(bytes.len().div_ceil(8).max(1), 0);
            bytemuck::cast_slice_mut::<u64, u8>(words)[..bytes.len()].copy_from_slice(&bytes);
            words.as_ptr().expose_provenance() as u64
        } else {
            self.bound.push(value.buffer().clone());
            aligned("input", tensor, value.buffer(), value.offset())?
        };
        // SAFETY: the memory holds the whole tensor, as TensorValue guarantees, on the side where TensorRT reads it, and
        // stays in `bound` or `host` until the work is done.
        unsafe { self.context.set_address(&tensor.c_name, address) }
    }

    fn bind_output(
        &mut self,
        plan: &Plan,
        index: usize,
        tensor: &Tensor,
        target: &Target,
    ) -> Result<Option<Vec<usize>>> {
        let shape = known(self.context.shape(&tensor.c_name)?);
        let Some(dims) = &shape else {
            let sink = Arc::new(Sink::new(plan.device, target.memory()));
            let allocator = OutputAllocator::new(plan.engine.api(), Box::new(sink.clone()))?;
            // SAFETY: the allocator is put into the state below, where it stays until another replaces it in the context.
            unsafe { self.context.set_output_allocator(&tensor.c_name, &allocator)? };
            if let Target::Memory { buffer, .. } = target {
                self.bound.push(buffer.clone());
            }
            *self.allocators.get_mut(index).ok_or_else(gone)? = Some((allocator, sink));
            return Ok(None);
        };
        let need = byte_size(tensor.dtype, dims)?;
        let Target::Memory { buffer, offset, capacity } = target else {
            bail!(Internal, "output '{}' has a shape, {dims:?}, but no memory", tensor.name);
        };
        if *capacity < need {
            bail!(
                SizeMismatch,
                "output '{}' is {} {dims:?}, {need} bytes, but {capacity} bytes are bound: bind a buffer of at least {need} bytes",
                tensor.name,
                tensor.dtype
            );
        }
        let address = aligned("output", tensor, buffer, *offset)?;
        self.bound.push(buffer.clone());
        // SAFETY: the memory is large enough and stays in `bound` until the work is done.
        unsafe { self.context.set_address(&tensor.c_name, address)? };
        Ok(shape)
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

impl Target {
    fn of(value: &TensorValue) -> Target {
        let (buffer, offset) = (value.buffer().clone(), value.offset());
        Target::Memory { capacity: value.byte_len(), buffer, offset }
    }

    fn memory(&self) -> Option<(u64, usize)> {
        match self {
            Target::Memory { buffer, offset, capacity } => Some((buffer.address() + *offset as u64, *capacity)),
            Target::Made => None,
        }
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
        Some(device) if !std::ptr::eq(device, plan.device) => {
            bail!(
                InvalidArgument,
                "{what} '{name}' is bound to memory of {device:?}, but the engine runs on {:?}",
                plan.device
            )
        }
        None if !on_host => bail!(
            InvalidArgument,
            "{what} '{name}' is bound to host memory, which an enqueue cannot use: bind memory of {:?}, or call \
             mezzo_context_run, which copies",
            plan.device
        ),
        _ => Ok(()),
    }
}

/// The address of a tensor, if it is one that TensorRT takes.
fn aligned(what: &str, tensor: &Tensor, buffer: &Buffer, offset: usize) -> Result<u64> {
    let address = buffer.address() + offset as u64;
    if !address.is_multiple_of(ALIGNMENT) {
        bail!(
            InvalidArgument,
            "{what} '{}' starts at the device address {address:#x}, which is not a multiple of the {ALIGNMENT} bytes that \
             TensorRT asks for: use an offset that is",
            tensor.name
        );
    }
    Ok(address)
}

/// A shape without open dimensions.
fn known(shape: Option<Vec<i64>>) -> Option<Vec<usize>> {
    shape?.into_iter().map(|d| usize::try_from(d).ok()).collect()
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

fn gone() -> crate::Error {
    err!(Internal, "an execution context of TensorRT was used while it was dropped")
}

/// Shapes between min and max of every input.
pub(super) struct Profile {
    /// Per input of the engine, min and max; `None` where the profile says nothing.
    pub ranges: Vec<Option<(Vec<i64>, Vec<i64>)>>,
}

/// An input that a profile does not fit.
pub(super) struct Misfit {
    input: usize,
    min: Vec<i64>,
    max: Vec<i64>,
}

impl Profile {
    /// The ranges that a loaded engine has for its inputs.
    pub fn read(engine: &crate::sys::tensorrt::PlanOnDevice, inputs: &[Tensor], index: usize) -> Result<Profile> {
        let range = |tensor: &Tensor| -> Result<_> {
            if tensor.is_fixed || tensor.on_host {
                return Ok(None);
            }
            let min = engine.profile_shape(&tensor.name, index, Selector::Min)?;
            let max = engine.profile_shape(&tensor.name, index, Selector::Max)?;
            Ok(min.zip(max))
        };
        Ok(Profile { ranges: inputs.iter().map(range).collect::<Result<_>>()? })
    }

    fn first_misfit(&self, inputs: &[&TensorValue]) -> Option<Misfit> {
        self.ranges.iter().zip(inputs).enumerate().find_map(|(input, (range, value))| {
            let (min, max) = range.as_ref()?;
            let inside = min.len() == value.dims().len()
                && value.dims().iter().zip(min.iter().zip(max)).all(|(&d, (&lo, &hi))| (lo..=hi).contains(&(d as i64)));
            (!inside).then(|| Misfit { input, min: min.clone(), max: max.clone() })
        })
    }
}

impl Misfit {
    fn describe(&self, plan: &Plan, inputs: &[&TensorValue]) -> String {
        let name = plan.inputs.get(self.input).map_or("?", |t| t.name.as_str());
        let given = inputs.get(self.input).map_or(&[][..], |v| v.dims());
        format!("input '{name}' is {given:?}, and it takes {:?} to {:?}", self.min, self.max)
    }
}

/// Bytes of a tensor whose shape is fixed.
pub(super) fn fixed_bytes(dtype: DataType, shape: &[i64]) -> Option<usize> {
    byte_size(dtype, &known(Some(shape.to_vec()))?).ok()
}
