//! Values beyond half's range that come from constants: attention masks of -1e9 or the smallest float, and what they are
//! added to, until an operator brings them back into range (Softmax, Clip, a comparison...).

use super::ConvertOptions;
use super::constants::fits;
use super::decide::{Decisions, attribute_constant, is_bound, number};
use super::facts::{Facts, NodeId, ValueId};
use super::{ConstantPolicy, constants};
use crate::Result;

/// Constants from here on count as wide where they are added or blended in: two of them and a score still fit half
/// below it (2 * 16384 + 32736 is 65504, the largest half).
const LARGE: f64 = 16384.0;

/// Where wide values come from: the constant's name and number.
type Source = Option<(String, f64)>;

/// Keeps what reads wide values in FP32.
pub(super) fn keep(facts: &Facts, options: &ConvertOptions, d: &mut Decisions) -> Result<()> {
    if options.constants == ConstantPolicy::Clamp {
        // Clamped masks are chosen so that they stay in range; see `rewrite`.
        return Ok(());
    }
    let mut wide: Vec<Source> = vec![None; facts.values.len()];
    for node in 0..facts.nodes.len() {
        let Some((name, value)) = source_of(facts, d, node, &wide)? else { continue };
        let text = format!("it carries values beyond half's range, from {} in '{name}'", number(value));
        d.keep(node, "wide_values", &name, Some(value), text);
        if !brings_back(facts, options, node) {
            for v in facts.nodes[node].outputs.iter().flatten() {
                wide[*v] = Some((name.clone(), value));
            }
        }
    }
    Ok(())
}

/// The wide value that a node reads or makes.
fn source_of(facts: &Facts, d: &mut Decisions, node: NodeId, wide: &[Source]) -> Result<Source> {
    let op = facts.op(node);
    if let Some(tensor) = attribute_constant(facts, node) {
        let s = constants::stats(&tensor, crate::model::DataType::Float16)?;
        let name = || facts.nodes[node].node.outputs.first().map_or_else(String::new, |o| o.to_string());
        return Ok((s.overflows > 0).then(|| (name(), s.worst)));
    }
    for i in 0..facts.nodes[node].inputs.len() {
        let Some(v) = facts.input(node, i) else { continue };
        if !facts.values[v].is_f32() || is_bound(facts, node, i) && facts.values[v].constant.is_some() {
            continue;
        }
        if let Some(found) = &wide[v] {
            return Ok(Some(found.clone()));
        }
        if facts.values[v].constant.is_some() && spreads(op) {
            let large = large_constant(facts, d, v)?;
            if large.is_some() {
                return Ok(large);
            }
        }
    }
    Ok(None)
}

fn large_constant(facts: &Facts, d: &mut Decisions, v: ValueId) -> Result<Source> {
    let s = d.stats(facts, v)?;
    let worst = if s.overflows > 0 { s.worst } else { s.max_abs };
    Ok((s.max_abs >= LARGE).then(|| (facts.values[v].name.to_string(), worst)))
}

/// Operators through which a wide constant becomes a wide result.
fn spreads(op: &str) -> bool {
    matches!(
        op,
        "Add"
            | "Sub"
            | "Mul"
            | "Where"
            | "Sum"
            | "Neg"
            | "Abs"
            | "Concat"
            | "Reshape"
            | "Expand"
            | "Unsqueeze"
            | "Squeeze"
            | "Flatten"
            | "Slice"
            | "Transpose"
            | "Gather"
            | "Identity"
            | "Tile"
            | "Split"
            | "Pad"
            | "Max"
            | "Min"
            | "ReduceMax"
            | "ReduceMin"
            | "ReduceMean"
            | "ReduceSum"
            | "Div"
            | "Cast"
            | "ScatterND"
            | "ScatterElements"
            | "GatherND"
            | "GatherElements"
            | "Trilu"
    )
}

/// True if the results of the operator are in range whatever it reads.
fn brings_back(facts: &Facts, options: &ConvertOptions, node: NodeId) -> bool {
    let op = facts.op(node);
    match op {
        "Clip" => [1, 2]
            .iter()
            .all(|&i| facts.input(node, i).and_then(|v| facts.scalar(v)).is_some_and(|b| fits(b, options.precision))),
        "Cast" => facts.nodes[node].outputs.iter().flatten().all(|v| !facts.values[*v].is_f32()),
        // A divisor beyond half's range makes small quotients.
        "Div" => {
            facts.input(node, 0).is_some_and(|v| facts.values[v].constant.is_none()) && {
                let divisor = facts.input(node, 1).and_then(|v| facts.scalar(v));
                divisor.is_some_and(|b| b.abs() >= LARGE)
            }
        }
        _ => !spreads(op),
    }
}
