//! Subgraphs of control flow: each becomes a plan of its own, whose captures are further inputs.

use super::build::{Binding, Builder, Level, MAX_DEPTH};
use super::{Plan, Source};
use crate::model::{Graph, Name, Node, OpsetId};
use crate::{Result, bail};
use std::sync::Arc;

/// A built subgraph.
pub struct Body {
    /// The attribute that holds it ("then_branch").
    pub attribute: Name,
    /// Its plan; the last `captured.len()` inputs are captures.
    pub plan: Arc<Plan>,
    /// What it captures.
    pub(super) captured: Vec<Binding>,
}

impl Body {
    /// How many values it captures.
    pub fn captures(&self) -> usize {
        self.captured.len()
    }
}

/// Builds all subgraphs of a node.
pub(super) fn build_all(b: &mut Builder, node: &Node, opsets: &[OpsetId]) -> Result<Vec<Body>> {
    node.subgraphs().map(|(name, graph)| build(b, name, graph, opsets)).collect()
}

fn build(b: &mut Builder, attribute: &Name, graph: &Graph, opsets: &[OpsetId]) -> Result<Body> {
    if b.levels.len() >= MAX_DEPTH {
        bail!(Unsupported, "graphs nested deeper than {MAX_DEPTH}");
    }
    b.levels.push(Level { sees_outer: true, ..Level::default() });
    let built = b.inputs(graph.inputs.iter()).and_then(|()| b.graph(graph, opsets, None, None));
    let mut level = b.levels.pop().unwrap_or_default();
    built.map_err(|e| e.context(format_args!("subgraph '{attribute}'")))?;
    level.plan.input_names = graph.inputs.iter().map(|i| i.name.clone()).collect();
    level.plan.inputs.extend(level.capture_slots);
    // A body that hands a capture or an input straight through must not take it away from the caller.
    for output in &mut level.plan.outputs {
        if let Source::Slot { last, .. } = output {
            *last = false;
        }
    }
    Ok(Body { attribute: attribute.clone(), plan: Arc::new(level.plan), captured: level.captured })
}
