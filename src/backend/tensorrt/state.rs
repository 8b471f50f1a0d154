//! What an execution context has, and in what order its work runs: everything that TensorRT may still use after a call has
//! returned stays here until the device is done with it.
#![allow(unsafe_code)] // addresses are handed to TensorRT; every size is checked and every buffer kept

use super::super::{TensorValue, byte_size};
use super::decided::Decided;
use super::graph::Replay;
use super::plan::{Lease, Plan, Tensor};
use crate::device::{Buffer, Device, Event, SharedMemory, Stream, Turn, deferred};
use crate::sys::tensorrt::{ExecutionContext, Profiler};
use crate::{Result, bail, err};
use std::sync::Arc;

/// What TensorRT asks of addresses.
const ALIGNMENT: u64 = 256;

/// The state of one execution context.
pub struct State {
    // Dropped in this order: what uses addresses first.
    pub replay: Replay,
    pub context: ExecutionContext,
    _lease: Lease,
    /// The piece of shared memory that the context has by now.
    memory: Option<Buffer>,
    /// The outputs whose size is told by an execution.
    decided: Vec<Option<Decided>>,
    /// The first output whose size the data decides, once it is known that there is one.
    by_data: Option<usize>,
    pub profiler: Option<Profiler>,
    /// Host memory of inputs that are read there.
    host: Vec<Vec<u64>>,
    /// Keeps everything that was bound for the work that `done` follows.
    pub bound: Vec<Buffer>,
    /// What the caller captured into a graph, whose launches nobody tells of: kept as long as the context.
    captured: Vec<Buffer>,
    /// Follows the last work. Whoever waits for it holds it too, and then later work gets another.
    pub done: Arc<Event>,
    /// The stream of the last work.
    pub last: Option<Arc<Stream>>,
    /// The optimization profile; `None` until one was chosen.
    profile: Option<usize>,
    /// The shapes that the context has.
    shapes: Vec<Option<Vec<usize>>>,
}

/// Where an output goes.
pub enum Target {
    /// To memory of known place and size.
    Memory { buffer: Buffer, offset: usize, capacity: usize },
    /// To memory that is made when the size is known.
    Made,
}

impl State {
    /// The state of a context that was just opened.
    pub fn new(plan: &Plan, lease: Lease, context: ExecutionContext) -> Result<State> {
        Ok(State {
            replay: Replay::default(),
            context,
            _lease: lease,
            memory: None,
            decided: plan.outputs.iter().map(|_| None).collect(),
            by_data: None,
            profiler: None,
            host: plan.inputs.iter().map(|_| Vec::new()).collect(),
            bound: Vec::new(),
            captured: Vec::new(),
            done: Arc::new(Event::new(plan.device, false)?),
            last: None,
            profile: None,
            shapes: plan.inputs.iter().map(|_| None).collect(),
        })
    }

    /// Before anything is bound anew: what was bound stays until the device is done with it, and the graph, whose
    /// addresses are the old ones, goes.
    pub fn let_go(&mut self) {
        let graph = self.replay.let_go();
        let old = std::mem::take(&mut self.bound);
        if self.replay.captured_by_caller {
            self.captured.extend(old);
        } else if graph.is_some() || !old.is_empty() {
            deferred::until(self.done.clone(), (graph, old));
        }
    }

    /// An error while a stream that the context was enqueued on is being captured by the caller.
    pub fn refuse_while_captured(&self) -> Result<()> {
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

    /// The reason why an execution was not enqueued: no memory for an output whose size it tells, or TensorRT's own.
    pub fn explain(&self, plan: &Plan, error: crate::Error) -> crate::Error {
        let outputs = plan.outputs.iter().zip(&self.decided);
        let failed = outputs.filter_map(|(tensor, d)| Some((tensor, d.as_ref()?.failure()?))).next();
        failed.map_or(error, |(tensor, why)| {
            why.context(format_args!("output '{}', whose size the execution tells", tensor.name))
        })
    }

    /// An error if an output's size is the data's to decide: the host must learn it in each execution, which a graph has not.
    pub fn refuse_in_graph(&self, plan: &Plan) -> Result<()> {
        if let Some(tensor) = self.by_data.and_then(|index| plan.outputs.get(index)) {
            bail!(
                Unsupported,
                "the execution cannot be captured as a CUDA graph, because the data decides the size of output '{}': turn the \
                 option off, or enqueue outside of the capture",
                tensor.name
            );
        }
        Ok(())
    }

    /// After an execution was enqueued: brings the outputs whose size it told to where they are to go.
    pub fn deliver(&mut self, plan: &Plan, stream: &Stream) -> Result<()> {
        let mut delivered = Ok(());
        for (tensor, decided) in plan.outputs.iter().zip(&mut self.decided) {
            if let Some(decided) = decided {
                // The others too, though one failed.
                delivered = delivered.and(decided.deliver(plan, tensor, stream, &mut self.bound));
            }
        }
        delivered
    }

    /// Once the event follows the last work: lets go what that work alone still uses.
    pub fn shed(&mut self) {
        let outgrown: Vec<Buffer> = self.decided.iter().flatten().flat_map(Decided::outgrown).collect();
        if !outgrown.is_empty() {
            deferred::until(self.done.clone(), outgrown);
        }
    }

    /// Begins a use of shared memory, which the work to come needs.
    pub fn take_turn<'m>(
        &mut self,
        shared: &'m SharedMemory,
        stream: &Arc<Stream>,
        capturing: bool,
    ) -> Result<Turn<'m>> {
        if capturing {
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

    /// Lets a stream wait for the context's work on another one. `capturing` says whether the stream is being captured.
    pub fn follow(&mut self, stream: &Arc<Stream>, capturing: bool) -> Result<()> {
        // Streams are told apart by their handles: CUDA may give a new stream the address of one that is gone.
        match &self.last {
            Some(last) if !Arc::ptr_eq(last, stream) && !self.replay.captured_by_caller => {}
            _ => return Ok(()),
        }
        if !capturing {
            return stream.wait(&self.done);
        }
        if !self.done.is_done()? {
            bail!(
                InvalidState,
                "the context still works on another stream, which a capture cannot wait for: synchronize that stream \
                 before the capture begins"
            );
        }
        Ok(())
    }

    /// Makes ready for work that is about to be enqueued (after [`State::follow`]): an event that nobody else waits for.
    pub fn before(&mut self, device: &'static Device) -> Result<()> {
        if Arc::strong_count(&self.done) > 1 {
            self.done = Arc::new(Event::new(device, false)?);
        }
        Ok(())
    }

    /// Notes that the stream has the context's work.
    pub fn after(&mut self, stream: &Arc<Stream>, capturing: bool) -> Result<()> {
        self.replay.captured_by_caller = capturing;
        if self.last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, stream)) {
            self.last = Some(stream.clone());
        }
        if capturing {
            return Ok(());
        }
        self.done.record(stream).inspect_err(|_| {
            // Without the event nothing would tell when the memory is free again.
            let _ = stream.synchronize();
        })
    }

    /// The first optimization profile that all inputs fit; the present one if it does.
    pub fn choose_profile(&mut self, plan: &Plan, inputs: &[&TensorValue], stream: &Arc<Stream>) -> Result<()> {
        let fits =
            |index: usize| plan.profiles.get(index).is_some_and(|p| p.first_misfit(&plan.inputs, inputs).is_none());
        if plan.inputs.iter().all(|i| i.is_fixed && !i.on_host) || self.profile.is_some_and(fits) {
            return Ok(());
        }
        let Some(index) = (0..plan.profiles.len()).find(|i| fits(*i)) else {
            let reasons: Vec<String> = plan
                .profiles
                .iter()
                .enumerate()
                .filter_map(|(i, p)| {
                    p.first_misfit(&plan.inputs, inputs).map(|m| format!("profile {i}: {}", m.describe(plan)))
                })
                .collect();
            bail!(
                ShapeMismatch,
                "no optimization profile of the engine fits the inputs ({}): give shapes inside a profile, or build the \
                 engine with a profile for them",
                reasons.join("; ")
            );
        };
        if stream.is_capturing()? {
            bail!(
                InvalidState,
                "these shapes need another optimization profile, which cannot be chosen during a capture: execute once with \
                 them before the capture begins"
            );
        }
        // The change copies on the device: after the work before it, and before the work after it.
        self.follow(stream, false)?;
        self.before(plan.device)?;
        let set = self.context.set_profile(index, stream);
        self.after(stream, false)?;
        set?;
        self.profile = Some(index);
        self.shapes.iter_mut().for_each(|s| *s = None);
        self.decided.iter_mut().flatten().for_each(Decided::tell_again);
        Ok(())
    }

    /// Tells the shape of an input, if it is another one.
    pub fn set_shape(&mut self, index: usize, tensor: &Tensor, dims: &[usize]) -> Result<()> {
        let Some(known) = self.shapes.get_mut(index) else { return Err(gone()) };
        if tensor.is_fixed || known.as_deref() == Some(dims) {
            return Ok(());
        }
        let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        self.context.set_input_shape(&tensor.c_name, &shape)?;
        *known = Some(dims.to_vec());
        Ok(())
    }

    /// Tells an input's shape and where it is, or its values if they are a shape.
    pub fn bind_input(&mut self, index: usize, tensor: &Tensor, value: &TensorValue) -> Result<()> {
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

    /// The shape of an output as far as the inputs' shapes decide it; `None` where the execution tells it.
    ///
    /// Where the data decides an output, TensorRT 8.5 was seen to execute once more for the old shapes when it was asked about
    /// outputs after an input's shape was set (docs/tensorrt.md); the first execution of a context is right. So it is asked until
    /// one such output is found, and never again: from then on an execution tells the size of every output that is not fixed.
    pub fn output_shape(&mut self, index: usize, tensor: &Tensor) -> Result<Option<Vec<usize>>> {
        if let Some(dims) = &tensor.fixed_dims {
            return Ok(Some(dims.clone()));
        }
        if self.by_data.is_some() {
            return Ok(None);
        }
        let shape = known(self.context.shape(&tensor.c_name)?);
        if shape.is_none() {
            self.by_data = Some(index);
        }
        Ok(shape)
    }

    /// The shapes of all outputs.
    pub fn output_shapes(&mut self, plan: &Plan) -> Result<Vec<Option<Vec<usize>>>> {
        let mut once = || -> Result<Vec<_>> {
            plan.outputs.iter().enumerate().map(|(i, tensor)| self.output_shape(i, tensor)).collect()
        };
        let shapes = once()?;
        // Outputs before the first that the data decides were answered for.
        if shapes.contains(&None) { once() } else { Ok(shapes) }
    }

    /// Tells where an output goes. `shape` is its shape, if it is known by now.
    pub fn bind_output(&mut self, plan: &Plan, index: usize, target: &Target, shape: Option<&[usize]>) -> Result<()> {
        let tensor = plan.outputs.get(index).ok_or_else(gone)?;
        let Some(dims) = shape else {
            if let Target::Memory { buffer, offset, .. } = target {
                // Asked for as of other outputs, so that no caller depends on how this one is brought there.
                aligned("output", tensor, buffer, *offset)?;
                self.bound.push(buffer.clone());
            }
            let slot = self.decided.get_mut(index).ok_or_else(gone)?;
            let decided = match slot {
                Some(decided) => decided,
                None => slot.insert(Decided::new(plan)?),
            };
            // SAFETY: it stays in the state, behind the context.
            unsafe { decided.bind(&mut self.context, tensor, target)? };
            return Ok(());
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
        unsafe { self.context.set_address(&tensor.c_name, address) }
    }

    /// An output whose size an execution told; `None` where shapes alone do.
    pub fn decided(&mut self, index: usize) -> Option<&mut Decided> {
        self.decided.get_mut(index)?.as_mut()
    }
}

impl Target {
    /// The memory of a tensor.
    pub fn of(value: &TensorValue) -> Target {
        let (buffer, offset) = (value.buffer().clone(), value.offset());
        Target::Memory { capacity: value.byte_len(), buffer, offset }
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
pub fn known(shape: Option<Vec<i64>>) -> Option<Vec<usize>> {
    shape?.into_iter().map(|d| usize::try_from(d).ok()).collect()
}

/// A context is used while it is dropped.
pub fn gone() -> crate::Error {
    err!(Internal, "an execution context of TensorRT was used while it was dropped")
}
