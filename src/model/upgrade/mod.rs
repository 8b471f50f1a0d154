//! Models brought to a newer version of the ai.onnx operator set, step by step (docs/opset.md).
//!
//! Between two adjacent versions most operators only take more types; those whose form or meaning changes have an adapter
//! (`adapters.rs` lists them), which replaces one node by nodes that do in the new version what it did in the old one.
//! Graphs, their subgraphs and local functions are walked alike; a function has its own imports and is brought to the same
//! version.

mod adapters;
mod axes;
mod context;
mod inputs;
mod misc;
mod norm;
mod ranks;
mod resize;
mod scan;
mod scope;
mod softmax;
mod step;

#[cfg(test)]
mod tests;

use super::graph::norm_domain;
use super::{Model, Name};
use crate::hash::HashSet;
use crate::{Result, bail};
use step::Step;

/// The oldest and the newest version of ai.onnx that are known.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;
/// How many nodes a message lists.
const SHOWN: usize = 32;

/// The model in version `to` of ai.onnx: same inputs and outputs, same results. Weights are shared with `model`.
///
/// What cannot be expressed in the new version is an error that names every such node.
pub fn upgrade(model: &Model, to: i64) -> Result<Model> {
    if !OPSETS.contains(&to) {
        bail!(
            InvalidArgument,
            "version {to} of ai.onnx is not known: choose one from {} to {}",
            OPSETS.start(),
            OPSETS.end()
        );
    }
    let versions = || model.opset("").into_iter().chain(model.functions.iter().filter_map(|f| f.opset()));
    if let Some(newest) = versions().max().filter(|v| *v > to) {
        bail!(
            InvalidArgument,
            "the model uses version {newest} of ai.onnx and cannot go down to {to}: choose {newest} or newer, or export it \
             again with the older version"
        );
    }
    let Some(oldest) = versions().min() else { return Ok(model.clone()) };
    if oldest < *OPSETS.start() {
        bail!(
            Unsupported,
            "the model uses version {oldest} of ai.onnx; the oldest that is understood is {}: export it again",
            OPSETS.start()
        );
    }
    let mut new = model.clone();
    raise_ir_version(&mut new, least_ir_version(to));
    let mut problems = Vec::new();
    for from in oldest..to {
        // A node that has no form in the next version is kept as it is, so that what comes later is reported too.
        match (Step { model: &new, from, last: to, problems: &mut problems }).apply() {
            Ok(next) => new = next.unwrap_or(new),
            Err(e) if problems.is_empty() => return Err(e),
            // What was kept may be what is wrong.
            Err(_) => break,
        }
        advance(&mut new, from);
    }
    refuse(&problems, to)?;
    super::infer::check_known(&new).map_err(|e| e.context(format!("after the upgrade to version {to} of ai.onnx")))?;
    Ok(new)
}

impl super::Function {
    fn opset(&self) -> Option<i64> {
        super::graph::find_opset(&self.opset_imports, "")
    }
}

/// Raises the IR version to at least `least`.
///
/// Before version 4 every initializer had to be an input too, which did not mean that callers may replace it; from then on
/// it does. So that constants stay constants, those inputs go.
fn raise_ir_version(model: &mut Model, least: i64) {
    if model.ir_version >= least {
        return;
    }
    if model.ir_version < 4 && least >= 4 {
        let constants: HashSet<Name> = model.graph.initializers.iter().map(|i| i.name.clone()).collect();
        model.graph.inputs.retain(|v| !constants.contains(&v.name));
    }
    model.ir_version = least;
}

/// Raises every import of version `from` of ai.onnx by one.
fn advance(model: &mut Model, from: i64) {
    let functions = model.functions.iter_mut().map(|f| &mut f.opset_imports);
    for import in functions.chain([&mut model.opset_imports]).flatten() {
        if norm_domain(&import.domain).is_empty() && import.version == from {
            import.version += 1;
        }
    }
}

fn refuse(problems: &[String], to: i64) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let mut shown: Vec<&str> = problems.iter().take(SHOWN).map(String::as_str).collect();
    if problems.len() > SHOWN {
        shown.push("...");
    }
    bail!(
        Unsupported,
        "the model cannot be brought to version {to} of ai.onnx, because of {} nodes: {}",
        problems.len(),
        shown.join("; ")
    )
}

/// The oldest IR version that a model of that version of ai.onnx may have.
pub fn least_ir_version(opset: i64) -> i64 {
    match opset {
        ..=8 => 3,
        9 => 4,
        10 => 5,
        11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        24 => 12,
        25..=27 => 13,
        _ => 14,
    }
}
