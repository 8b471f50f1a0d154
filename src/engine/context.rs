//! An execution context: what is bound, checked, run, and what came out.

use super::check::{Symbols, check_dims, check_dtype, check_value};
use super::engine::Engine;
use crate::backend::{BackendContext, IoInfo, RunControl, TensorValue, Value, byte_size};
use crate::device::{Buffer, SharedMemory, Stream};
use crate::{Result, bail, err};
use std::sync::Arc;

/// One execution state of an engine. Exclusive: one thread at a time. It keeps its engine alive, and what is bound to
/// it until it is rebound.
pub struct Context {
    engine: Arc<Engine>,
    backend: Box<dyn BackendContext>,
    inputs: Vec<InputSlot>,
    outputs: Vec<OutputSlot>,
    /// What the last enqueue was given, while nothing has been bound anew.
    prepared: Option<Prepared>,
}

/// Values that were checked.
struct Prepared {
    inputs: Vec<Value>,
    outputs: Vec<Option<Value>>,
}

#[derive(Default)]
struct InputSlot {
    shape: Option<Vec<usize>>,
    bound: Option<Bound>,
}

#[derive(Default)]
struct OutputSlot {
    bound: Option<Bound>,
    result: Option<Value>,
}

enum Bound {
    Value(Value),
    /// Bytes whose shape is known when the context runs.
    Buffer(Buffer, usize),
}

enum Slot {
    Input(usize),
    Output(usize),
}

impl Context {
    /// Opens a context.
    pub fn new(engine: &Arc<Engine>) -> Result<Context> {
        Context::open(engine, None)
    }

    /// Opens a context whose activations lie in memory that other contexts use too, of this engine or of others. They take
    /// turns on the device.
    pub fn sharing(engine: &Arc<Engine>, memory: &Arc<SharedMemory>) -> Result<Context> {
        Context::open(engine, Some(memory))
    }

    fn open(engine: &Arc<Engine>, memory: Option<&Arc<SharedMemory>>) -> Result<Context> {
        let backend = engine.open_backend_context(memory)?;
        let info = engine.info();
        Ok(Context {
            inputs: info.inputs.iter().map(|_| InputSlot::default()).collect(),
            outputs: info.outputs.iter().map(|_| OutputSlot::default()).collect(),
            backend,
            engine: engine.clone(),
            prepared: None,
        })
    }

    /// Its engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Sets the shape of an input that a buffer is bound to. A bound value brings its own shape.
    pub fn set_input_shape(&mut self, name: &str, dims: &[usize]) -> Result<()> {
        self.prepared = None;
        let index = match self.slot(name)? {
            Slot::Input(i) => i,
            Slot::Output(_) => {
                bail!(InvalidArgument, "'{name}' is an output: its shape follows from the inputs and cannot be set")
            }
        };
        let io = &self.engine.info().inputs[index];
        check_dims("input", io, dims)?;
        if let Some(Bound::Value(Value::Tensor(t))) = &self.inputs[index].bound
            && t.dims() != dims
        {
            bail!(
                ShapeMismatch,
                "input '{name}' has a value of shape {:?} bound, which {dims:?} contradicts: bind another value, or \
                 unbind it first",
                t.dims()
            );
        }
        self.inputs[index].shape = Some(dims.to_vec());
        Ok(())
    }

    /// Binds a value to an input, or memory for an output. The value's memory is read, or written, when the context
    /// runs. An output's value must be a tensor of the output's type that is large enough.
    pub fn bind(&mut self, name: &str, value: Value) -> Result<()> {
        self.prepared = None;
        match self.slot(name)? {
            Slot::Input(i) => {
                check_value("input", &self.engine.info().inputs[i], &value)?;
                self.inputs[i].shape = None;
                self.inputs[i].bound = Some(Bound::Value(value));
            }
            Slot::Output(i) => {
                let io = &self.engine.info().outputs[i];
                let Value::Tensor(t) = &value else {
                    bail!(
                        TypeMismatch,
                        "output '{name}' can be bound to the memory of a dense tensor only, not to {}: leave it unbound \
                         and the run makes the value",
                        value.kind()
                    );
                };
                check_dtype("output", io, t.dtype(), t.dims())?;
                check_dims("output", io, t.dims())?;
                self.outputs[i].bound = Some(Bound::Value(value));
                self.outputs[i].result = None;
            }
        }
        Ok(())
    }

    /// Binds the bytes of `buffer` from `offset` on. An input's shape must be fixed or set before the run.
    pub fn bind_buffer(&mut self, name: &str, buffer: Buffer, offset: usize) -> Result<()> {
        buffer.check_range(offset, 0)?;
        self.prepared = None;
        let (what, io) = match self.slot(name)? {
            Slot::Input(i) => ("input", &self.engine.info().inputs[i]),
            Slot::Output(i) => ("output", &self.engine.info().outputs[i]),
        };
        let Some(dtype) = io.data_type() else {
            bail!(TypeMismatch, "{what} '{name}' is {}, which a buffer cannot hold: bind a value", io.text);
        };
        if let Some(dims) = Symbols::default().resolve(io) {
            check_buffer(what, io, &buffer, offset, byte_size(dtype, &dims)?)?;
        }
        let bound = Some(Bound::Buffer(buffer, offset));
        match self.slot(name)? {
            Slot::Input(i) => self.inputs[i].bound = bound,
            Slot::Output(i) => {
                self.outputs[i].bound = bound;
                self.outputs[i].result = None;
            }
        }
        Ok(())
    }

    /// Forgets what is bound to an input or output, and an input's shape.
    pub fn unbind(&mut self, name: &str) -> Result<()> {
        self.prepared = None;
        match self.slot(name)? {
            Slot::Input(i) => self.inputs[i] = InputSlot::default(),
            Slot::Output(i) => self.outputs[i] = OutputSlot::default(),
        }
        Ok(())
    }

    /// Forgets everything that is bound, all results and all shapes.
    pub fn unbind_all(&mut self) {
        self.prepared = None;
        self.inputs.iter_mut().for_each(|slot| *slot = InputSlot::default());
        self.outputs.iter_mut().for_each(|slot| *slot = OutputSlot::default());
    }

    /// Checks everything that is bound, then runs. On failure the results of the last run stay.
    pub fn run(&mut self, control: &RunControl) -> Result<()> {
        self.prepared = None;
        let Prepared { inputs, mut outputs } = self.prepare()?;
        let control = RunControl {
            allocator: control.allocator.or_else(|| self.engine.env().allocator()),
            cancel: control.cancel,
            tap: control.tap,
        };
        self.backend.run(&inputs, &mut outputs, &control)?;
        for (slot, value) in self.outputs.iter_mut().zip(outputs) {
            slot.result = value;
        }
        Ok(())
    }

    /// Checks everything that is bound, enqueues an execution on the stream, and returns without waiting for it. While
    /// nothing is bound anew the checks are not repeated.
    pub fn enqueue(&mut self, stream: &Arc<Stream>) -> Result<()> {
        let changed = self.prepared.is_none();
        let mut prepared = match self.prepared.take() {
            Some(prepared) => prepared,
            None => self.prepare()?,
        };
        let all_bound = prepared.outputs.iter().all(Option::is_some);
        self.backend.enqueue(&prepared.inputs, &mut prepared.outputs, changed, stream)?;
        for (slot, value) in self.outputs.iter_mut().zip(&prepared.outputs) {
            // The data may have given another shape to memory that is bound as before.
            if changed || !all_bound || !same_shape(slot.result.as_ref(), value.as_ref()) {
                slot.result.clone_from(value);
            }
        }
        // Outputs that the backend made are made anew next time: the caller may still hold them.
        if all_bound {
            self.prepared = Some(prepared);
        }
        Ok(())
    }

    /// Turns the capture of enqueued executions as CUDA graphs on or off (off at first).
    pub fn set_graph(&mut self, on: bool) -> Result<()> {
        self.prepared = None;
        self.backend.set_graph(on)
    }

    /// How many enqueued executions were captured as CUDA graphs, and how many were replayed from one.
    pub fn graph_counts(&self) -> (u64, u64) {
        self.backend.graph_counts()
    }

    /// Turns the measurement of each layer on or off (off at first).
    pub fn set_profiling(&mut self, on: bool) -> Result<()> {
        self.prepared = None;
        self.backend.set_profiling(on)
    }

    /// Layers and their milliseconds of the executions since the last call.
    pub fn layer_times(&mut self) -> Vec<(String, f32)> {
        self.backend.layer_times()
    }

    /// Checks everything that is bound.
    fn prepare(&self) -> Result<Prepared> {
        let info = self.engine.info();
        let inputs = self.checked_inputs()?;
        let mut symbols = Symbols::default();
        for (io, value) in info.inputs.iter().zip(&inputs) {
            if let Value::Tensor(t) = value {
                symbols.add(io, t.dims())?;
            }
        }
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for (io, slot) in info.outputs.iter().zip(&self.outputs) {
            outputs.push(slot.bound.as_ref().map(|b| output_memory(io, b, &symbols)).transpose()?);
        }
        refuse_overlap(info.inputs.iter().zip(&inputs), info.outputs.iter().zip(&outputs))?;
        Ok(Prepared { inputs, outputs })
    }

    /// An output of the last run. It shares the bound memory, or the memory that the run allocated (the next run
    /// allocates anew).
    pub fn output(&self, name: &str) -> Result<Value> {
        let index = self.output_index(name)?;
        self.outputs[index].result.clone().ok_or_else(|| {
            err!(InvalidState, "output '{name}' has no value yet: run the context first (after binding the output)")
        })
    }

    /// The shape of an output: of the last result if there is one, else what declaration and input shapes say.
    pub fn output_shape(&self, name: &str) -> Result<Vec<usize>> {
        let index = self.output_index(name)?;
        let info = self.engine.info();
        let mut symbols = Symbols::default();
        for (io, slot) in info.inputs.iter().zip(&self.inputs) {
            if let Some(dims) = slot.dims() {
                symbols.add(io, dims)?;
            }
        }
        if let Some(dims) = symbols.resolve(&info.outputs[index]) {
            return Ok(dims);
        }
        match &self.outputs[index].result {
            Some(Value::Tensor(t)) => Ok(t.dims().to_vec()),
            Some(Value::Strings { dims, .. }) => Ok(dims.clone()),
            Some(other) => Err(err!(TypeMismatch, "output '{name}' is {}, which has no shape", other.kind())),
            None => Err(err!(
                InvalidState,
                "the shape of output '{name}' ({}) is not known yet: set the input shapes, or run the context if data \
                 decides it",
                info.outputs[index].text
            )),
        }
    }

    /// Peak bytes of activations of the last run.
    pub fn activation_bytes(&self) -> Option<u64> {
        self.backend.activation_bytes()
    }

    fn slot(&self, name: &str) -> Result<Slot> {
        let info = self.engine.info();
        if let Some(i) = info.inputs.iter().position(|io| io.name == name) {
            return Ok(Slot::Input(i));
        }
        if let Some(i) = info.outputs.iter().position(|io| io.name == name) {
            return Ok(Slot::Output(i));
        }
        bail!(
            NotFound,
            "the engine has no input or output '{name}': inputs are {}; outputs are {}",
            names(&info.inputs),
            names(&info.outputs)
        )
    }

    fn output_index(&self, name: &str) -> Result<usize> {
        match self.slot(name)? {
            Slot::Output(i) => Ok(i),
            Slot::Input(_) => {
                Err(err!(InvalidArgument, "'{name}' is an input: outputs are {}", names(&self.engine.info().outputs)))
            }
        }
    }

    fn checked_inputs(&self) -> Result<Vec<Value>> {
        let info = self.engine.info();
        let unbound: Vec<IoInfo> =
            info.inputs.iter().zip(&self.inputs).filter(|(_, s)| s.bound.is_none()).map(|(io, _)| io.clone()).collect();
        if !unbound.is_empty() {
            bail!(InvalidState, "inputs without a value: {}: bind a value or a buffer to each", names(&unbound));
        }
        info.inputs.iter().zip(&self.inputs).map(|(io, slot)| slot.value(io)).collect()
    }
}

impl InputSlot {
    fn dims(&self) -> Option<&[usize]> {
        match &self.bound {
            Some(Bound::Value(Value::Tensor(t))) => Some(t.dims()),
            _ => self.shape.as_deref(),
        }
    }

    fn value(&self, io: &IoInfo) -> Result<Value> {
        match self.bound.as_ref().expect("checked by the caller") {
            Bound::Value(v) => Ok(v.clone()),
            Bound::Buffer(buffer, offset) => {
                let dims = self.shape.clone().or_else(|| Symbols::default().resolve(io)).ok_or_else(|| {
                    err!(
                        ShapeMismatch,
                        "the shape of input '{}' ({}) is dynamic and was not set: call mezzo_context_set_input_shape",
                        io.name,
                        io.text
                    )
                })?;
                let dtype = io.data_type().expect("bind_buffer takes dense tensors only");
                check_buffer("input", io, buffer, *offset, byte_size(dtype, &dims)?)?;
                Ok(Value::Tensor(TensorValue::new(dtype, dims, buffer.clone(), *offset)?))
            }
        }
    }
}

/// The memory an output is written to: where the shape is known already, exactly that; else all the buffer has.
fn output_memory(io: &IoInfo, bound: &Bound, symbols: &Symbols) -> Result<Value> {
    let (buffer, offset, given) = match bound {
        Bound::Value(Value::Tensor(t)) => (t.buffer(), t.offset(), Some(t)),
        Bound::Value(other) => bail!(Internal, "output '{}' is bound to {}", io.name, other.kind()),
        Bound::Buffer(b, offset) => (b, *offset, None),
    };
    let dtype = io.data_type().ok_or_else(|| err!(Internal, "output '{}' is no dense tensor", io.name))?;
    if let Some(dims) = symbols.resolve(io) {
        if let Some(t) = given
            && t.dims() != dims
        {
            bail!(
                ShapeMismatch,
                "output '{}' will have the shape {dims:?}, but a value of shape {:?} is bound: bind one of that shape, \
                 or a buffer of at least {} bytes",
                io.name,
                t.dims(),
                byte_size(dtype, &dims)?
            );
        }
        check_buffer("output", io, buffer, offset, byte_size(dtype, &dims)?)?;
        return Ok(Value::Tensor(TensorValue::new(dtype, dims, buffer.clone(), offset)?));
    }
    let elements = match given {
        Some(t) => t.len(),
        None => (buffer.len() - offset) * 8 / dtype.bits().max(1),
    };
    Ok(Value::Tensor(TensorValue::new(dtype, vec![elements], buffer.clone(), offset)?))
}

fn same_shape(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(Value::Tensor(a)), Some(Value::Tensor(b))) => a.dims() == b.dims(),
        _ => false,
    }
}

fn check_buffer(what: &str, io: &IoInfo, buffer: &Buffer, offset: usize, need: usize) -> Result<()> {
    let have = buffer.len().saturating_sub(offset);
    if have < need {
        bail!(
            SizeMismatch,
            "{what} '{}' expects {}, {need} bytes; the buffer has {have} bytes from offset {offset} on: bind a buffer of \
             at least {need} bytes",
            io.name,
            io.text
        );
    }
    Ok(())
}

/// One buffer may not be read and written in the same run.
fn refuse_overlap<'a>(
    inputs: impl Iterator<Item = (&'a IoInfo, &'a Value)>,
    outputs: impl Iterator<Item = (&'a IoInfo, &'a Option<Value>)>,
) -> Result<()> {
    let mut used: Vec<(&IoInfo, &Buffer)> =
        inputs.filter_map(|(io, v)| v.as_tensor().ok().map(|t| (io, t.buffer()))).collect();
    for (io, value) in outputs {
        let Some(Value::Tensor(t)) = value else { continue };
        if let Some((other, _)) = used.iter().find(|(_, b)| b.same(t.buffer())) {
            bail!(
                InvalidArgument,
                "output '{}' is bound to the same buffer as '{}': give each output a buffer of its own",
                io.name,
                other.name
            );
        }
        used.push((io, t.buffer()));
    }
    Ok(())
}

fn names(ios: &[IoInfo]) -> String {
    let list: Vec<String> = ios.iter().map(|io| format!("'{}' ({})", io.name, io.text)).collect();
    if list.is_empty() { "none".into() } else { list.join(", ") }
}
