//! TensorRT and TensorRT-RTX, loaded at run time (docs/tensorrt.md). An engine is a plan: TensorRT's own serialized form,
//! made by its ONNX parser and builder from the model that Mezzo converted.

mod build;
mod decided;
mod engine;
mod execute;
mod fp16;
mod graph;
mod inspect;
mod layers;
mod options;
mod plan;
mod ranges;
mod raw;
mod rewrite;
mod sink;
mod source;
mod state;
mod timing;
mod types;
mod weak;

pub use options::{ComputeCapability, HardwareCompatibility, TacticSource, TensorRtOptions, Verbosity};
pub use rewrite::for_parser;

use super::{Backend, BuildOptions, LoadOptions, LoadedEngine, Progress, SectionReader};
use crate::device::Device;
use crate::model::Model;
use crate::sys::tensorrt::{Api, Flavour, SearchPaths, catching};
use crate::{Result, bail};
use bytes::Bytes;
use std::sync::Arc;

/// TensorRT (`libnvinfer`).
pub static TENSORRT: TensorRtBackend = TensorRtBackend { flavour: Flavour::TensorRt };
/// TensorRT-RTX (`libtensorrt_rtx`).
pub static TENSORRT_RTX: TensorRtBackend = TensorRtBackend { flavour: Flavour::Rtx };

/// Where an engine executes.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    flavour: Flavour,
    search: SearchPaths,
    allow_untested: bool,
    device: usize,
}

impl Place {
    /// Where an engine that was just built executes: with the same library, on the device that it was built for.
    fn of_build(flavour: Flavour, options: &BuildOptions) -> Place {
        let search = SearchPaths::new(options.tensorrt.library.clone(), &options.library_paths);
        Place { flavour, search, allow_untested: options.tensorrt.allow_untested, device: options.device }
    }

    /// Where an engine that is loaded executes.
    fn of_load(flavour: Flavour, options: &LoadOptions) -> Place {
        let search = SearchPaths::new(options.library.clone(), &options.library_paths);
        Place { flavour, search, allow_untested: options.allow_untested, device: options.device }
    }

    fn api(&self) -> Result<&'static Api> {
        Api::load(self.flavour, &self.search, self.allow_untested)
    }
}

/// One of the two products.
pub struct TensorRtBackend {
    flavour: Flavour,
}

impl TensorRtBackend {
    fn api(&self, options: &BuildOptions) -> Result<&'static Api> {
        let search = SearchPaths::new(options.tensorrt.library.clone(), &options.library_paths);
        Api::load(self.flavour, &search, options.tensorrt.allow_untested)
    }
}

/// An error if a memory limit is asked for: TensorRT's activations are planned by TensorRT, and silence would promise much.
fn no_memory_limit(bytes: usize) -> Result<()> {
    if bytes != 0 {
        bail!(
            Unsupported,
            "the memory limit of {bytes} bytes is of the CPU backend: for TensorRT set 'tensorrt.workspace', or leave the \
             limit 0"
        );
    }
    Ok(())
}

impl Backend for TensorRtBackend {
    fn name(&self) -> &'static str {
        match self.flavour {
            Flavour::TensorRt => "tensorrt",
            Flavour::Rtx => "tensorrt-rtx",
        }
    }

    /// The version of the library that is found without options, or "none".
    fn version(&self) -> String {
        self.api(&BuildOptions::default()).map_or_else(|_| "none".into(), |api| api.version().number())
    }

    /// Every engine can be described; whether the library at hand can execute it is asked when a context is opened.
    fn accepts(&self, _built: &str) -> Result<()> {
        Ok(())
    }

    fn machine(&self, options: &BuildOptions) -> Result<Option<String>> {
        let version = self.api(options)?.version();
        let device = match Device::get(options.device) {
            Ok(device) => format!("{} (compute capability {})", device.name(), engine::compute_capability(device)),
            Err(_) => "no device".into(),
        };
        Ok(Some(format!("{version} on {device}")))
    }

    fn build(&self, model: &Model, options: &BuildOptions, progress: &Progress) -> Result<Arc<dyn LoadedEngine>> {
        no_memory_limit(options.memory_limit)?;
        options.tensorrt.check()?;
        let api = self.api(options)?;
        let place = Place::of_build(self.flavour, options);
        // Where an exception is likely the call is named; this is for the others, which would end the process.
        let call = format!("a call of {} while the engine was built", api.version());
        let engine = catching(&call, || build::build(self.name(), api, model, options, progress, place))??;
        Ok(Arc::new(engine))
    }

    fn load_plan(&self, plan: Bytes, options: &LoadOptions) -> Result<Arc<dyn LoadedEngine>> {
        no_memory_limit(options.memory_limit)?;
        Ok(Arc::new(raw::load(self.name(), plan, options, Place::of_load(self.flavour, options))?))
    }

    fn load(&self, sections: &SectionReader, options: &LoadOptions) -> Result<Arc<dyn LoadedEngine>> {
        no_memory_limit(options.memory_limit)?;
        Ok(Arc::new(engine::PlanEngine::load(sections, Place::of_load(self.flavour, options))?))
    }
}
