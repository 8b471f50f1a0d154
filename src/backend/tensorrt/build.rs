//! From a model to a plan.

use super::super::{BuildOptions, EngineInfo, Progress, ShapeProfile, profile};
use super::engine::{BuiltFor, NetworkLayer, NetworkReport, PlanEngine, compute_capability};
use super::source::Source;
use super::timing::Timing;
use super::{fp16, inspect, layers, rewrite, types, weak};
use crate::device::Device;
use crate::model::Model;

use crate::sys::tensorrt::{Api, Builder, Callback, Config, Flavour, LayerInfo, Logger, Monitor, Network, Selector};
use crate::{Result, bail, err};
use parking_lot::RwLock;

/// TensorRT-RTX 1.7.1 keeps the compute capabilities of the build in one place for the process, so a build that names some
/// runs alone: others beside it fail, or make it fail ("Target SM 80 is not found in the accelerator list").
static TARGETS: RwLock<()> = RwLock::new(());

/// Builds an engine with a loaded library.
pub fn build(
    backend: &'static str,
    api: &'static Api,
    model: &Model,
    options: &BuildOptions,
    progress: &Progress,
    place: super::Place,
) -> Result<PlanEngine> {
    let inputs: Vec<_> = model.graph.real_inputs().map(super::super::IoInfo::of).collect();
    profile::check(&options.profiles, &inputs)?;

    // What the parser is given, and what its errors and the types of its layers refer to.
    let model = &rewrite::for_parser(model, api.family())?;
    progress.step("writing the model", 0.0)?;
    let source = Source::of(model, options.tensorrt.scratch_folder.as_deref());
    let source = source.map_err(|e| e.context("TensorRT reads the model as ONNX"))?;

    progress.step("parsing the model", 0.0)?;
    let always = |_: &str, _: f32| true;
    let callback: Callback = match progress.callback {
        Some(f) => f,
        None => &always,
    };
    let monitor = api.monitor(callback);
    // TensorRT builds for the device whose context is current; TensorRT-RTX builds without one too.
    let device = match api.version().flavour() {
        Flavour::TensorRt => Some(Device::get(options.device)?),
        Flavour::Rtx => Device::get(options.device).ok(),
    };
    let _entered = device.map(Device::enter).transpose()?;
    let logger = api.logger();
    let builder = Builder::new(api, &logger)?;
    // Goes after the configuration, which uses it.
    let mut timing = None;
    let mut config = builder.config()?;
    let parsed = source.parse(builder.network()?);
    let parsed = parsed.map_err(|e| e.into_error(api, |place| model.graph.nodes.get(place).map(|n| n.label())))?;

    let network = parsed.network();
    check_network(network, &options.profiles)?;
    if !network.strongly_typed {
        weak::apply(model, network, &mut config)?;
    }
    if options.tensorrt.require_fp16 {
        fp16::require(model, network)?;
    }
    let layers = network.layers()?;
    let info = describe(backend, api, model, network, &layers)?;
    options.tensorrt.apply(&mut config)?;
    for shapes in &options.profiles {
        add_profile(&builder, &mut config, shapes)?;
    }
    if let Some(path) = &options.tensorrt.timing_cache {
        timing = Some(Timing::start(&mut config, path)?);
    }
    if let Some(monitor) = &monitor {
        config.set_monitor(monitor)?;
    }

    progress.step("building the engine", 0.0)?;
    let (_alone, _beside);
    if options.tensorrt.compute_capabilities.is_empty() {
        _beside = TARGETS.read();
    } else {
        _alone = TARGETS.write();
    }
    let plan = parsed.build(&config);
    stopped(monitor.as_ref())?;
    let plan = plan?;
    progress.step("building the engine", 1.0)?;

    let mut warnings = warnings(api, &logger);
    if let Some(timing) = &mut timing {
        warnings.extend(timing.warning.clone());
        timing.finish(&config)?;
    }
    // TensorRT-RTX would compile the plan for the device first, which only a build that requires it shall wait for.
    let is_rtx = api.version().flavour() == Flavour::Rtx;
    let told = device
        .filter(|_| !is_rtx || options.tensorrt.require_fp16)
        .and_then(|device| inspect::layers_of_plan(api, device, &plan, &options.profiles));
    if let Some(told) = told.as_ref().filter(|_| options.tensorrt.require_fp16) {
        fp16::require_of_engine(told, model)?;
    }
    let report = NetworkReport {
        library: api.version().to_string(),
        device: device
            .filter(|_| !is_rtx)
            .map(|d| BuiltFor { name: d.name().into(), compute_capability: compute_capability(d) }),
        warnings,
        profiles: options.profiles.clone(),
        precision: told.as_ref().and_then(layers::precision),
        layers: layers.into_iter().map(NetworkLayer::from).collect(),
    };
    Ok(PlanEngine::new(info, plan.into(), report, place))
}

/// The error of a callback that stopped the build, if it did.
fn stopped(monitor: Option<&Monitor>) -> Result<()> {
    match monitor {
        Some(m) if m.panicked() => bail!(Internal, "the progress callback panicked, so the build was stopped"),
        Some(m) if m.cancelled() => bail!(Cancelled, "cancelled by the progress callback while the engine was built"),
        _ => Ok(()),
    }
}

/// Inputs that are shapes need their values in every profile, and no others have any.
fn check_network(network: &Network, profiles: &[ShapeProfile]) -> Result<()> {
    for input in network.inputs()? {
        let name = &input.name;
        let by_values = |p: &ShapeProfile| p.get(name).map(|range| range.values);
        if input.is_shape && (profiles.is_empty() || profiles.iter().any(|p| by_values(p) != Some(true))) {
            bail!(
                InvalidArgument,
                "the values of input '{name}' are a shape: give them in every profile, in brackets, as in \
                 {name}=[1,64]:[1,64]:[8,64]; or compute the shape in the model"
            );
        }
        if !input.is_shape && profiles.iter().any(|p| by_values(p) == Some(true)) {
            bail!(
                InvalidArgument,
                "a profile has values for input '{name}', which the model does not use as a shape: give its dimensions, as \
                 in {name}=1x64:1x64:8x64"
            );
        }
    }
    Ok(())
}

fn add_profile<'b>(builder: &'b Builder<'b>, config: &mut Config<'b>, shapes: &ShapeProfile) -> Result<()> {
    let mut profile = builder.profile()?;
    for (name, range) in shapes {
        for (which, shape) in [(Selector::Min, &range.min), (Selector::Opt, &range.opt), (Selector::Max, &range.max)] {
            if range.values {
                profile.set_values(name, which, shape)?;
            } else {
                profile.set_shape(name, which, shape)?;
            }
        }
    }
    if !profile.is_valid()? {
        bail!(InvalidArgument, "TensorRT finds the profile {shapes:?} not valid");
    }
    config.add_profile(&profile)
}

fn describe(
    backend: &'static str,
    api: &Api,
    model: &Model,
    network: &Network,
    layers: &[LayerInfo],
) -> Result<EngineInfo> {
    let count = |f: fn(&str) -> bool| layers.iter().filter(|l| l.outputs.iter().any(|o| f(o))).count() as u64;
    Ok(EngineInfo {
        backend: backend.into(),
        backend_version: api.version().number(),
        inputs: types::describe("input", model.graph.real_inputs(), &network.inputs()?)?,
        outputs: types::describe("output", model.graph.outputs.iter(), &network.outputs()?)?,
        weight_bytes: model.weight_bytes(),
        activation_bytes: None,
        half_nodes: count(is_half),
        float_nodes: count(|name| name == "FLOAT"),
        nodes: layers.len() as u64,
    })
}

fn is_half(dtype: &str) -> bool {
    matches!(dtype, "HALF" | "BF16")
}

/// What TensorRT and Mezzo had to warn of.
fn warnings(api: &Api, logger: &Logger) -> Vec<String> {
    let mut lines: Vec<String> = logger.take().into_iter().map(|l| l.text).collect();
    if let Ok((_, false)) = api.version().family(true) {
        lines.insert(0, format!("{} is newer than the versions Mezzo was tested with", api.version()));
    }
    lines
}

impl From<LayerInfo> for NetworkLayer {
    fn from(layer: LayerInfo) -> Self {
        let name = |dtype: String| types::data_type(&dtype).map_or(dtype, |t| t.name().to_string());
        NetworkLayer {
            name: layer.name,
            kind: layer.kind.to_lowercase(),
            outputs: layer.outputs.into_iter().map(name).collect(),
        }
    }
}

/// The error of an engine whose parts are missing or damaged.
pub(super) fn damaged(what: impl std::fmt::Display) -> crate::Error {
    err!(InvalidFile, "the engine is damaged ({what}): build it again")
}
