//! A plan with its description. It can be described, saved and loaded without any library of NVIDIA's.

use super::super::profile::ShapeProfile;
use super::super::{BackendContext, EngineInfo, LoadedEngine, PartSource, Section, SectionReader};
use super::Place;
use super::build::damaged;
use super::execute::PlanContext;
use super::layers::Precision;
use super::plan::Plan;
use super::{inspect, layers};
use crate::device::{Device, SharedMemory};
use crate::{Result, bail, err};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const PLAN: &str = "plan";
const NETWORK: &str = "network";

/// What is known of the network that the plan was built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkReport {
    /// The library that built the plan.
    pub library: String,
    /// What it warned of.
    pub warnings: Vec<String>,
    /// The device it was built for, for products whose plans run on one kind of device only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<BuiltFor>,
    /// The ranges of shapes that it was built for, where it was built here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<ShapeProfile>,
    /// How the engine's own layers compute, where a device was at hand to tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// The network's layers, before TensorRT fused and replaced them.
    pub layers: Vec<NetworkLayer>,
}

/// The device that an engine was built for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltFor {
    /// Its name.
    pub name: String,
    /// Its compute capability, as in "9.0".
    pub compute_capability: String,
}

/// A layer of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkLayer {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The element types of its outputs.
    pub outputs: Vec<String>,
}

/// An engine.
pub struct PlanEngine {
    info: EngineInfo,
    plan: Bytes,
    network: NetworkReport,
    place: Place,
    /// The plan on its device, loaded when the first context is opened: describing an engine needs no library.
    loaded: Mutex<Option<Arc<Plan>>>,
}

impl PlanEngine {
    pub(super) fn new(info: EngineInfo, plan: Bytes, network: NetworkReport, place: Place) -> PlanEngine {
        PlanEngine { info, plan, network, place, loaded: Mutex::new(None) }
    }

    /// The plan on its device; an error that names both sides where it cannot execute here.
    fn on_device(&self) -> Result<Arc<Plan>> {
        let mut loaded = self.loaded.lock();
        if let Some(plan) = &*loaded {
            return Ok(plan.clone());
        }
        let api = self.place.api()?;
        let version = api.version().number();
        if version != self.info.backend_version {
            bail!(
                Version,
                "the engine was built by {}, and the library at '{}' is {}: a plan runs on the version that built it, so \
                 build it again from its model, or give that library",
                self.network.library,
                api.path().display(),
                api.version()
            );
        }
        let device = Device::get(self.place.device)?;
        if let Some(built) = &self.network.device
            && built.compute_capability != compute_capability(device)
        {
            bail!(
                Version,
                "the engine was built for compute capability {} ({}), and device {} ({}) has {}: build it again on this device",
                built.compute_capability,
                built.name,
                device.ordinal(),
                device.name(),
                compute_capability(device)
            );
        }
        let plan = Arc::new(Plan::load(api, device, &self.info, &self.network.profiles, &self.plan)?);
        *loaded = Some(plan.clone());
        Ok(plan)
    }

    /// Reads what [`LoadedEngine::sections`] wrote.
    pub(super) fn load(sections: &SectionReader, place: Place) -> Result<PlanEngine> {
        let info = serde_json::from_slice(sections.get("info")?).map_err(|e| damaged(format_args!("info: {e}")))?;
        let network =
            serde_json::from_slice(sections.get(NETWORK)?).map_err(|e| damaged(format_args!("network: {e}")))?;
        let plan = sections.get(PLAN)?.clone();
        if plan.is_empty() {
            return Err(damaged("the plan is empty"));
        }
        Ok(PlanEngine::new(info, plan, network, place))
    }
}

impl PlanEngine {
    /// The engine's own layers, if it is loaded on a device or can be.
    fn engine_layers(&self) -> serde_json::Value {
        // An engine that no context uses: TensorRT 8 lends a profile to one at a time.
        let told = self.on_device().and_then(|plan| inspect::layers(&plan.lease()?.engine, &self.network.profiles));
        told.unwrap_or_else(|reason| serde_json::json!({ "not_inspected": reason.message() }))
    }
}

impl LoadedEngine for PlanEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn inspect(&self) -> serde_json::Value {
        let engine = self.engine_layers();
        let precision = layers::precision(&engine).or_else(|| self.network.precision.clone());
        serde_json::json!({
            "library": self.network.library,
            "plan_bytes": self.plan.len(),
            "warnings": self.network.warnings,
            "network_layers": self.network.layers,
            "built_for": self.network.device,
            "profiles": self.network.profiles,
            "precision": precision,
            "engine": engine,
        })
    }

    fn sections(&self) -> Result<Vec<Section>> {
        let network = serde_json::to_vec(&self.network).map_err(|e| err!(Internal, "network report: {e}"))?;
        Ok(vec![
            Section { name: NETWORK, parts: vec![PartSource::Bytes(network.into())] },
            Section { name: PLAN, parts: vec![PartSource::Bytes(self.plan.clone())] },
        ])
    }

    fn plan(&self) -> Option<Bytes> {
        Some(self.plan.clone())
    }

    fn open_context(self: Arc<Self>, memory: Option<&Arc<SharedMemory>>) -> Result<Box<dyn BackendContext>> {
        Ok(Box::new(PlanContext::open(&self.on_device()?, memory)?))
    }
}

/// A device's compute capability as NVIDIA writes it.
pub(super) fn compute_capability(device: &Device) -> String {
    let (major, minor) = device.compute_capability();
    format!("{major}.{minor}")
}
