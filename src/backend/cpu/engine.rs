//! An engine of the CPU backend: the model in canonical form, and its plan.

use super::CpuBackend;
use super::context::CpuContext;
use super::exec::{self, Cx};
use super::memory::Pool;
use super::plan::{self, Plan, Step};
use super::tensor::Tensor;
use super::threads::Threads;
use super::value::Val;
use crate::backend::{
    Backend, BackendContext, EngineInfo, IoDim, IoInfo, LoadOptions, LoadedEngine, PartSource, Progress, Section,
    SectionReader,
};
use crate::device::SharedMemory;
use crate::frontend::onnx::{self, External};
use crate::hash::HashMap;
use crate::model::{DataType, Model};
use crate::sys::memory::physical_bytes;
use crate::{Result, bail, err};
use bytes::Bytes;
use serde_json::json;
use std::sync::{Arc, OnceLock};

/// Section with the graph, an ONNX message whose larger tensors lie in the other section.
const MODEL: &str = "model";
/// Section with the tensors.
const WEIGHTS: &str = "weights";
/// Name that the graph gives to the second section.
const LOCATION: &str = "weights";
/// Tensors start at multiples of this in their section.
const ALIGNMENT: u64 = 64;
/// Smaller tensors stay in the graph.
const MIN_BYTES: usize = 1024;

/// How a CPU engine is built.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuOptions {
    /// Threads of a run; 0 is one per core.
    pub threads: usize,
    /// Bytes that the activations of one execution may take; 0 is the machine's memory.
    pub memory_limit: usize,
    /// Every node is a step of each run.
    pub whole: bool,
}

/// A CPU engine. Immutable; contexts share it.
pub struct CpuEngine {
    model: Model,
    info: EngineInfo,
    plan: Plan,
    threads: Threads,
    /// Peak bytes of activations, once somebody asked.
    peak: OnceLock<Option<u64>>,
    memory_limit: usize,
}

impl CpuEngine {
    /// Builds an engine.
    pub fn build(model: &Model, options: &CpuOptions, progress: &Progress) -> Result<CpuEngine> {
        let model = model.materialized()?;
        let threads = Threads::new(options.threads)?;
        let memory_limit = if options.memory_limit == 0 { physical_bytes() } else { options.memory_limit };
        // Constants are the model's weights, not activations: their memory is the machine's.
        let plan = plan::build(&model, &Pool::new(physical_bytes()), options.whole, progress)?;
        progress.step("plan", 1.0)?;
        let (mut nodes, mut half_nodes, mut float_nodes) = (0, 0, 0);
        plan.visit(true, 0, &mut |_, step| {
            nodes += 1;
            match float_kind(step) {
                Some(true) => half_nodes += 1,
                Some(false) => float_nodes += 1,
                None => {}
            }
        });
        let info = EngineInfo {
            backend: CpuBackend.name().into(),
            backend_version: CpuBackend.version(),
            inputs: model.graph.real_inputs().map(IoInfo::of).collect(),
            outputs: model.graph.outputs.iter().map(IoInfo::of).collect(),
            weight_bytes: model.weight_bytes(),
            activation_bytes: None,
            half_nodes,
            float_nodes,
            nodes,
        };
        Ok(CpuEngine { model, info, plan, threads, memory_limit, peak: OnceLock::new() })
    }

    /// Loads what [`LoadedEngine::sections`] wrote.
    pub fn load(sections: &SectionReader, options: &LoadOptions) -> Result<CpuEngine> {
        let weights = HashMap::from_iter([(LOCATION.to_string(), sections.get(WEIGHTS)?.clone())]);
        let graph = sections.get(MODEL)?.clone();
        let model = onnx::load_bytes(graph, External::Memory(&weights), &onnx::LoadOptions::default())
            .map_err(|e| e.context("the engine's model"))?;
        let LoadOptions { threads, memory_limit, .. } = *options;
        CpuEngine::build(&model, &CpuOptions { threads, memory_limit, whole: false }, &Progress::default())
    }

    /// Bytes that an execution on zeros needs at its peak; `None` if a shape is open, or the model has loops, whose end may
    /// depend on what the zeros stand for.
    fn trial(&self) -> Option<u64> {
        let mut loops = false;
        self.plan.visit(false, 0, &mut |_, step| loops |= matches!(step.op.as_str(), "Loop" | "Scan"));
        if loops {
            return None;
        }
        let pool = Pool::new(self.memory_limit);
        pool.begin_run();
        let mut inputs = Vec::new();
        for input in &self.info.inputs {
            let dims = input.shape.as_ref()?.iter().map(|d| match d {
                IoDim::Size(n) => usize::try_from(*n).ok(),
                IoDim::Symbol(_) | IoDim::Any => None,
            });
            // What the caller hands in is not the context's memory.
            let bytes = Pool::new(physical_bytes());
            let mut zeros = Tensor::new(&bytes, input.data_type()?, dims.collect::<Option<Vec<_>>>()?).ok()?;
            if let Ok(bytes) = zeros.bytes_mut() {
                bytes.fill(0);
            }
            inputs.push(Val::Tensor(zeros).detached());
        }
        let cx = Cx { pool: &pool, threads: &self.threads, cancel: None, tap: None };
        exec::run(&self.plan, &cx, inputs).ok()?;
        Some(pool.end_run() as u64)
    }

    /// The plan.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes that the activations of one execution may take.
    pub(super) fn memory_limit(&self) -> usize {
        self.memory_limit
    }

    /// The threads.
    pub(super) fn threads(&self) -> &Threads {
        &self.threads
    }
}

/// True for a step on FP16 or BF16 tensors, false for one on FP32 or FP64, `None` for others.
fn float_kind(step: &Step) -> Option<bool> {
    let floats = || step.input_types.iter().chain(&step.output_types).flatten().filter(|t| t.is_float());
    let half = floats().any(|t: &DataType| t.is_half());
    floats().next().map(|_| half)
}

impl LoadedEngine for CpuEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn activation_bytes(&self) -> Option<u64> {
        *self.peak.get_or_init(|| self.trial())
    }

    fn inspect(&self) -> serde_json::Value {
        let types =
            |list: &[Option<DataType>]| -> Vec<Option<&str>> { list.iter().map(|t| t.map(DataType::name)).collect() };
        let mut steps = Vec::new();
        self.plan.visit(false, 0, &mut |depth, step| {
            let parts: Vec<&str> = step.parts.iter().map(|p| &**p).collect();
            steps.push(json!({
                "fused": parts,
                "name": &*step.name,
                "op": step.op,
                "inputs": types(&step.input_types),
                "outputs": types(&step.output_types),
                "depth": depth,
            }));
        });
        json!({ "backend": self.info.backend, "threads": self.threads.count(), "steps": steps })
    }

    fn sections(&self) -> Result<Vec<Section>> {
        let split = onnx::split(&self.model, LOCATION, ALIGNMENT, MIN_BYTES)?;
        let mut parts = Vec::new();
        let mut at = 0u64;
        let pad =
            |from: u64, to: u64| usize::try_from(to.checked_sub(from)?).ok().filter(|n| *n > 0).map(PartSource::Zeros);
        for (offset, tensor) in split.tensors {
            parts.extend(pad(at, offset));
            at = offset
                .checked_add(tensor.byte_len() as u64)
                .ok_or_else(|| err!(Internal, "weights larger than memory can be"))?;
            parts.push(PartSource::Tensor(tensor));
        }
        parts.extend(pad(at, split.weights_len));
        Ok(vec![
            Section { name: MODEL, parts: vec![PartSource::Bytes(Bytes::from(split.graph))] },
            Section { name: WEIGHTS, parts },
        ])
    }

    fn open_context(self: Arc<Self>, memory: Option<&Arc<SharedMemory>>) -> Result<Box<dyn BackendContext>> {
        if memory.is_some() {
            bail!(
                Unsupported,
                "engines of the backend 'cpu' use no device memory: open their contexts with mezzo_context_new"
            );
        }
        Ok(Box::new(CpuContext::new(self)))
    }
}
