//! An execution state of the CPU backend: its pool of activation memory.

use super::engine::CpuEngine;
use super::exec::{self, Cx};
use super::memory::Pool;
use super::tensor::Tensor;
use super::value::Val;
use crate::backend::{BackendContext, IoInfo, LoadedEngine, RunControl, TensorValue, Value};
use crate::model::DataType;
use crate::sys::memory::ForeignAllocator;
use crate::{Result, bail, err};
use std::sync::Arc;

/// A context of a CPU engine.
pub struct CpuContext {
    engine: Arc<CpuEngine>,
    pool: Arc<Pool>,
    activation_bytes: Option<u64>,
}

impl CpuContext {
    /// Opens a context.
    pub fn new(engine: Arc<CpuEngine>) -> Self {
        let pool = Pool::new(engine.memory_limit());
        CpuContext { engine, pool, activation_bytes: None }
    }
}

impl BackendContext for CpuContext {
    fn run(&mut self, inputs: &[Value], outputs: &mut [Option<Value>], control: &RunControl) -> Result<()> {
        self.pool.begin_run();
        let result = self.compute(inputs, outputs, control);
        let peak = self.pool.end_run();
        for (slot, value) in outputs.iter_mut().zip(result?) {
            *slot = Some(value);
        }
        self.activation_bytes = Some(peak as u64);
        Ok(())
    }

    fn activation_bytes(&self) -> Option<u64> {
        self.activation_bytes
    }
}

impl CpuContext {
    fn compute(&self, inputs: &[Value], outputs: &[Option<Value>], control: &RunControl) -> Result<Vec<Value>> {
        let info = self.engine.info();
        if inputs.len() != info.inputs.len() || outputs.len() != info.outputs.len() {
            bail!(Internal, "the engine has {} inputs and {} outputs", info.inputs.len(), info.outputs.len());
        }
        let values = inputs
            .iter()
            .zip(&info.inputs)
            .map(|(v, io)| Val::from_value(&self.pool, v).map_err(|e| e.context(format_args!("input '{}'", io.name))))
            .collect::<Result<Vec<_>>>()?;
        let cx = Cx { pool: &self.pool, threads: self.engine.threads(), cancel: control.cancel, tap: control.tap };
        let results = exec::run(self.engine.plan(), &cx, values)?;
        // Every result is checked against its memory before the first is written.
        for ((result, bound), io) in results.iter().zip(outputs).zip(&info.outputs) {
            check(result, bound.as_ref(), io)?;
        }
        results
            .iter()
            .zip(outputs)
            .zip(&info.outputs)
            .map(|((result, bound), io)| {
                hand_out(result, bound.as_ref(), control.allocator)
                    .map_err(|e| e.context(format_args!("output '{}'", io.name)))
            })
            .collect()
    }
}

/// An error unless the result is of the output's declared type and fits the memory that is bound to it.
fn check(result: &Val, bound: Option<&Value>, io: &IoInfo) -> Result<()> {
    if let (Val::Tensor(t), Some(declared)) = (result, io.data_type())
        && t.dtype() != declared
    {
        bail!(InvalidModel, "output '{}' is declared as {}, but the model computes {t:?}", io.name, io.text);
    }
    let Some(bound) = bound else { return Ok(()) };
    let t = tensor_for(result, io)?;
    let memory = bound.as_tensor()?;
    let need = t.packed_len()?;
    let have = memory.byte_len();
    if memory.dtype() != t.dtype() || need > have {
        bail!(
            SizeMismatch,
            "output '{}' is {t:?}, {need} bytes, but the memory bound to it has {have} bytes of type {}: bind at least \
             {need} bytes, or leave the output unbound",
            io.name,
            memory.dtype()
        );
    }
    Ok(())
}

fn tensor_for<'a>(result: &'a Val, io: &IoInfo) -> Result<&'a Tensor> {
    let t = result.tensor().map_err(|e| e.context(format_args!("output '{}'", io.name)))?;
    if t.dtype() == DataType::String {
        bail!(TypeMismatch, "output '{}' holds strings, which a buffer cannot hold: leave it unbound", io.name);
    }
    Ok(t)
}

fn hand_out(result: &Val, bound: Option<&Value>, allocator: Option<&Arc<ForeignAllocator>>) -> Result<Value> {
    let Some(bound) = bound else { return result.to_value(allocator) };
    let (t, memory) = (result.tensor()?, bound.as_tensor()?);
    memory.buffer().write(memory.offset(), &t.packed_bytes())?;
    let value = TensorValue::new(t.dtype(), t.dims().to_vec(), memory.buffer().clone(), memory.offset());
    value.map(Value::Tensor).map_err(|e| err!(Internal, "{e}"))
}
