//! Plans without Mezzo's container: what TensorRT's own tools write and read. A plan is code, and has no checksum: only one
//! that the caller trusts is loaded.

use super::super::{EngineInfo, IoDim, IoInfo, IoKind, LoadOptions};
use super::engine::{BuiltFor, NetworkReport, PlanEngine, compute_capability};
use super::{Place, inspect, layers, types};
use crate::device::Device;
use crate::sys::tensorrt::{EngineTensor, Flavour, PlanOnDevice};
use crate::{Result, bail, err};
use bytes::Bytes;
use std::sync::Arc;

/// An engine of a plan. The library and the device at hand describe it, so both must be able to run it.
pub fn load(backend: &'static str, plan: Bytes, options: &LoadOptions, place: Place) -> Result<PlanEngine> {
    if !options.trust_plan {
        bail!(
            InvalidArgument,
            "a plan is code that TensorRT executes, and nothing guards it: set the option 'trust_plan' if you trust where it \
             comes from, or give an engine file"
        );
    }
    if plan.is_empty() {
        bail!(InvalidFile, "the plan is empty");
    }
    let api = place.api()?;
    let device = Device::get(options.device)?;
    let loaded = Arc::new(PlanOnDevice::load(api, device, &plan)?);
    let tensors = loaded.tensors()?;
    let side = |is_input: bool| tensors.iter().filter(|t| t.is_input == is_input).map(describe).collect::<Result<_>>();
    let told = inspect::layers(&loaded, &[]).ok().and_then(|told| layers::precision(&told));
    let precision = told.clone().unwrap_or_default();
    let info = EngineInfo {
        backend: backend.into(),
        backend_version: api.version().number(),
        inputs: side(true)?,
        outputs: side(false)?,
        // How much of a plan is weights it does not say.
        weight_bytes: plan.len() as u64,
        activation_bytes: None,
        half_nodes: precision.half,
        float_nodes: precision.float,
        nodes: precision.layers,
    };
    let report = NetworkReport {
        library: api.version().to_string(),
        warnings: vec!["the engine came as a plan: what network it was built from is not known".into()],
        device: (place.flavour == Flavour::TensorRt)
            .then(|| BuiltFor { name: device.name().into(), compute_capability: compute_capability(device) }),
        profiles: Vec::new(),
        precision: told,
        layers: Vec::new(),
    };
    Ok(PlanEngine::new(info, plan, report, place))
}

fn describe(tensor: &EngineTensor) -> Result<IoInfo> {
    let dtype = types::data_type(&tensor.dtype).ok_or_else(|| {
        err!(Unsupported, "'{}' is of TensorRT's type {}, which Mezzo does not know", tensor.name, tensor.dtype)
    })?;
    let dim = |n: &i64| if *n < 0 { IoDim::Any } else { IoDim::Size(*n) };
    let words: Vec<String> = tensor.shape.iter().map(|n| if *n < 0 { "?".into() } else { n.to_string() }).collect();
    Ok(IoInfo {
        name: tensor.name.clone(),
        kind: IoKind::Tensor,
        text: format!("{dtype} [{}]", words.join(",")),
        dtype: Some(dtype.to_onnx()),
        shape: Some(tensor.shape.iter().map(dim).collect()),
    })
}
