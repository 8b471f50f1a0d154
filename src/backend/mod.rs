//! Backends: what builds and executes engines. Each is a folder behind the traits of this file.

pub mod cpu;
mod io;
mod profile;
pub mod tensorrt;
mod value;

pub use io::{IoDim, IoInfo, IoKind, LoadOptions, PartSource, Progress, Section, SectionReader};
pub use profile::{ShapeProfile, ShapeRange, parse_profile};
pub use tensorrt::TensorRtOptions;
pub use value::{TensorValue, Value, byte_size};

use crate::Result;
use crate::device::{SharedMemory, Stream};
use crate::model::Model;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// What builds and loads engines of one kind.
pub trait Backend: Send + Sync {
    /// Its name, as in `mezzo build --backend NAME`.
    fn name(&self) -> &'static str;

    /// The version of what executes; engines remember it.
    fn version(&self) -> String;

    /// Says whether an engine that `built` (a [`Backend::version`]) made can be loaded; the error names both.
    fn accepts(&self, built: &str) -> Result<()> {
        let own = self.version();
        if built != own {
            crate::bail!(
                Version,
                "the engine was built by version {built} of the backend '{}', and this is version {own}: build it again \
                 from its model",
                self.name()
            );
        }
        Ok(())
    }

    /// What an engine depends on beside its model and options: the version of what builds, and the device. `None` for a
    /// backend that builds so quickly that its engines are not cached.
    fn machine(&self, options: &BuildOptions) -> Result<Option<String>> {
        let _ = options;
        Ok(None)
    }

    /// Builds an engine. All unsupported operators are reported at once.
    fn build(&self, model: &Model, options: &BuildOptions, progress: &Progress) -> Result<Arc<dyn LoadedEngine>>;

    /// Loads an engine from a plan as the backend's own library writes it, without Mezzo's container.
    fn load_plan(&self, plan: Bytes, options: &LoadOptions) -> Result<Arc<dyn LoadedEngine>> {
        let _ = (plan, options);
        crate::bail!(Unsupported, "the backend '{}' has no plans: give an engine file", self.name())
    }

    /// Loads an engine from the sections that [`LoadedEngine::sections`] wrote.
    fn load(&self, sections: &SectionReader, options: &LoadOptions) -> Result<Arc<dyn LoadedEngine>>;
}

/// How an engine is built.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Threads an execution uses, the calling one included; 0 is one per core.
    pub threads: usize,
    /// Bytes that the activations of one execution on the CPU backend may take; 0 is the machine's memory. An execution
    /// that needs more ends with `OutOfMemory`.
    pub memory_limit: usize,
    /// The CPU backend computes every node in every run, constant ones too, so that a tap sees every value. For
    /// calibration and debugging.
    pub whole: bool,
    /// Ranges of the shapes of dynamic inputs, for backends that make an engine for ranges (TensorRT); the CPU backend
    /// takes any shape.
    pub profiles: Vec<ShapeProfile>,
    /// Where a backend's libraries are looked for before the system's own search.
    pub library_paths: Vec<PathBuf>,
    /// The device to build for, numbered from 0, for backends that have devices.
    pub device: usize,
    /// TensorRT's own options.
    pub tensorrt: TensorRtOptions,
}

/// An engine that is ready to open contexts. Immutable and shared.
pub trait LoadedEngine: Send + Sync {
    /// What it is.
    fn info(&self) -> &EngineInfo;

    /// Peak bytes of activations of one execution, where shapes are fixed. May take as long as an execution the first time.
    fn activation_bytes(&self) -> Option<u64> {
        self.info().activation_bytes
    }

    /// The engine's own layers, as JSON for people and tools.
    fn inspect(&self) -> serde_json::Value;

    /// The parts that an engine file stores.
    fn sections(&self) -> Result<Vec<Section>>;

    /// The plan as the backend's own library writes it, if it has such a thing.
    fn plan(&self) -> Option<Bytes> {
        None
    }

    /// Opens a context, which keeps the engine alive. Its activations lie in shared memory if that is given.
    fn open_context(self: Arc<Self>, memory: Option<&Arc<SharedMemory>>) -> Result<Box<dyn BackendContext>>;
}

/// What an engine tells of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EngineInfo {
    /// Name of its backend.
    pub backend: String,
    /// Version of its backend when it was built.
    pub backend_version: String,
    /// Inputs, in the model's order.
    pub inputs: Vec<IoInfo>,
    /// Outputs, in the model's order.
    pub outputs: Vec<IoInfo>,
    /// Bytes of constants, in their declared types.
    pub weight_bytes: u64,
    /// Peak bytes of activations of one execution, where the backend knows them beforehand;
    /// [`LoadedEngine::activation_bytes`] finds them out.
    pub activation_bytes: Option<u64>,
    /// Nodes (layers) that compute on FP16 or BF16 tensors.
    pub half_nodes: u64,
    /// Nodes (layers) that compute on FP32 or FP64 tensors.
    pub float_nodes: u64,
    /// All nodes (layers).
    pub nodes: u64,
}

/// One execution state. Exclusive: one call at a time.
pub trait BackendContext: Send {
    /// Runs. The inputs have been checked against [`EngineInfo::inputs`] (dtype, rank, fixed and symbolic dimensions,
    /// byte size) and stand in its order. `outputs` stand in the order of [`EngineInfo::outputs`]; where one is given its
    /// buffer is written in place if the result fits it (else an error that names the output and both sizes), where none
    /// is given the backend allocates. On failure no output value is replaced.
    fn run(&mut self, inputs: &[Value], outputs: &mut [Option<Value>], control: &RunControl) -> Result<()>;

    /// Enqueues an execution on a stream and returns without waiting. The values were checked as for [`run`]; `changed` is
    /// false if they are those of the last enqueue, which had outputs for all. Where no output is given the backend
    /// allocates device memory. Outputs whose shape only the data decides may make the call wait.
    ///
    /// [`run`]: BackendContext::run
    fn enqueue(
        &mut self,
        inputs: &[Value],
        outputs: &mut [Option<Value>],
        changed: bool,
        stream: &Arc<Stream>,
    ) -> Result<()> {
        let _ = (inputs, outputs, changed);
        crate::bail!(
            Unsupported,
            "the engine executes on the host, and {stream:?} cannot order that: call mezzo_context_run, or build the engine \
             for the backend 'tensorrt'"
        )
    }

    /// Turns the capture and replay of enqueued executions as CUDA graphs on or off.
    fn set_graph(&mut self, on: bool) -> Result<()> {
        if on {
            crate::bail!(
                Unsupported,
                "the engine executes on the host, where there are no CUDA graphs: leave the option off"
            );
        }
        Ok(())
    }

    /// How many enqueued executions were captured as CUDA graphs, and how many were replayed from one.
    fn graph_counts(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Turns the measurement of each layer on or off; executions wait for the device meanwhile.
    fn set_profiling(&mut self, on: bool) -> Result<()> {
        if on {
            crate::bail!(Unsupported, "the backend measures no layers: engines of 'tensorrt' and 'tensorrt-rtx' do");
        }
        Ok(())
    }

    /// Layers and their milliseconds, in order, of the executions since the last call.
    fn layer_times(&mut self) -> Vec<(String, f32)> {
        Vec::new()
    }

    /// Peak bytes of activations of the last run.
    fn activation_bytes(&self) -> Option<u64>;
}

/// What a caller watches and steers during a run.
#[derive(Default)]
pub struct RunControl<'a> {
    /// Allocates the outputs that the caller did not bind; `None` is the process's own allocator.
    pub allocator: Option<&'a Arc<crate::sys::memory::ForeignAllocator>>,
    /// Looked at between nodes; true stops the run with `Cancelled`.
    pub cancel: Option<&'a std::sync::atomic::AtomicBool>,
    /// Sees every intermediate tensor: name, then value.
    #[allow(clippy::type_complexity)]
    pub tap: Option<&'a (dyn Fn(&str, &Value) + Sync)>,
}

/// The backend of that name.
pub fn find(name: &str) -> Result<&'static dyn Backend> {
    match name {
        "cpu" => Ok(&cpu::CpuBackend),
        "tensorrt" => Ok(&tensorrt::TENSORRT),
        "tensorrt-rtx" => Ok(&tensorrt::TENSORRT_RTX),
        _ => Err(crate::err!(
            NotFound,
            "there is no backend '{name}': this build has 'cpu', 'tensorrt' and 'tensorrt-rtx'"
        )),
    }
}
