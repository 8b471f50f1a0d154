//! A plan with its description. It can be described, saved and loaded without any library of NVIDIA's.

use super::super::{BackendContext, EngineInfo, LoadedEngine, PartSource, Section, SectionReader};
use super::build::damaged;
use crate::{Result, bail, err};
use bytes::Bytes;
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
    /// The network's layers, before TensorRT fused and replaced them.
    pub layers: Vec<NetworkLayer>,
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
}

impl PlanEngine {
    pub(super) fn new(info: EngineInfo, plan: Bytes, network: NetworkReport) -> PlanEngine {
        PlanEngine { info, plan, network }
    }

    /// Reads what [`LoadedEngine::sections`] wrote.
    pub(super) fn load(sections: &SectionReader) -> Result<PlanEngine> {
        let info = serde_json::from_slice(sections.get("info")?).map_err(|e| damaged(format_args!("info: {e}")))?;
        let network =
            serde_json::from_slice(sections.get(NETWORK)?).map_err(|e| damaged(format_args!("network: {e}")))?;
        let plan = sections.get(PLAN)?.clone();
        if plan.is_empty() {
            return Err(damaged("the plan is empty"));
        }
        Ok(PlanEngine { info, plan, network })
    }
}

impl LoadedEngine for PlanEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn inspect(&self) -> serde_json::Value {
        serde_json::json!({
            "library": self.network.library,
            "plan_bytes": self.plan.len(),
            "warnings": self.network.warnings,
            "network_layers": self.network.layers,
        })
    }

    fn sections(&self) -> Result<Vec<Section>> {
        let network = serde_json::to_vec(&self.network).map_err(|e| err!(Internal, "network report: {e}"))?;
        Ok(vec![
            Section { name: NETWORK, parts: vec![PartSource::Bytes(network.into())] },
            Section { name: PLAN, parts: vec![PartSource::Bytes(self.plan.clone())] },
        ])
    }

    fn open_context(self: Arc<Self>) -> Result<Box<dyn BackendContext>> {
        bail!(
            Unsupported,
            "executing engines of the backend '{}' is not in this version of Mezzo, which builds, saves and describes them: \
             take the plan to TensorRT itself, or build for the backend 'cpu'",
            self.info.backend
        )
    }
}
