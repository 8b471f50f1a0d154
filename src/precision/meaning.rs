//! Floats that mean positions, sizes or indices. Half counts exactly only to 2048, so what is computed from integers and
//! ends in an index, a rounding, a comparison, or the sine of a position stays FP32 back to its source.

use super::decide::Decisions;
use super::facts::{Facts, NodeId, Origin, ValueId};
use crate::model::{DataType, ValueType};
use std::collections::HashSet;

/// What a float value is computed from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Constants alone.
    Constant,
    /// Integers (shapes, positions, indices, masks), perhaps with constants.
    Counted,
    /// Weights and activations.
    Activation,
}

/// Keeps such values and what makes them in FP32.
pub(super) fn keep(facts: &Facts, d: &mut Decisions) {
    let kinds = kinds(facts);
    let mut kept: HashSet<NodeId> = HashSet::new();
    for node in 0..facts.nodes.len() {
        let Some(what) = sink(facts, node, &kinds) else { continue };
        let inputs: Vec<ValueId> = facts.f32_inputs(node).collect();
        let first = inputs.first().copied().or_else(|| facts.nodes[node].outputs.iter().flatten().next().copied());
        let Some(first) = first else { continue };
        let name = facts.values[first].name.to_string();
        let counted = inputs.iter().any(|v| kinds[*v] == Kind::Counted);
        d.keep(node, "meaning", &name, None, format!("{what}, and half counts exactly only to 2048"));
        // Activations are rounded to half where they come from; FP32 further back would only add casts, so only the
        // arithmetic right before the sink joins it.
        let mut stack = inputs;
        while let Some(v) = stack.pop() {
            let Some(maker) = facts.producer(v) else { continue };
            let joins = kinds[v] == Kind::Counted || !counted && is_arithmetic(facts.op(maker));
            if !joins || !kept.insert(maker) {
                continue;
            }
            d.keep(maker, "meaning", &name, None, format!("it leads to '{name}', where {what}"));
            stack.extend(facts.f32_inputs(maker));
        }
    }
}

fn kinds(facts: &Facts) -> Vec<Kind> {
    let mut kinds = vec![Kind::Activation; facts.values.len()];
    for (v, value) in facts.values.iter().enumerate() {
        if value.constant.is_some() || matches!(value.origin, Origin::Initializer(_)) {
            kinds[v] = Kind::Constant;
        }
    }
    for node in 0..facts.nodes.len() {
        let kind = result_kind(facts, node, &kinds);
        for v in facts.nodes[node].outputs.iter().flatten() {
            if facts.values[*v].constant.is_none() {
                kinds[*v] = kind;
            }
        }
    }
    kinds
}

fn result_kind(facts: &Facts, node: NodeId, kinds: &[Kind]) -> Kind {
    let op = facts.op(node);
    match op {
        "Cast" if facts.f32_inputs(node).next().is_none() && is_integer_input(facts, node) => return Kind::Counted,
        "Range" => return Kind::Counted,
        "ConstantOfShape" => return Kind::Constant,
        // A table of weights looked up by integers gives weights; so does whatever draws numbers or runs subgraphs.
        "Gather" | "GatherND" | "GatherElements" => {
            let from_table = facts.input(node, 0).is_some_and(|v| kinds[v] == Kind::Counted);
            return if from_table { Kind::Counted } else { Kind::Activation };
        }
        "If" | "Loop" | "Scan" | "" => return Kind::Activation,
        _ if op.starts_with("Random") => return Kind::Activation,
        _ => {}
    }
    let mut result = Kind::Constant;
    let mut any = false;
    for v in facts.f32_inputs(node) {
        any = true;
        match kinds[v] {
            Kind::Activation => return Kind::Activation,
            Kind::Counted => result = Kind::Counted,
            Kind::Constant => {}
        }
    }
    if any { result } else { Kind::Activation }
}

fn is_integer_input(facts: &Facts, node: NodeId) -> bool {
    let dtype = facts.input(node, 0).and_then(|v| facts.values[v].ty.as_ref()).and_then(ValueType::tensor_dtype);
    // A mask of bools has two values, which half holds.
    dtype.is_some_and(|t| t != DataType::Bool && !t.is_float())
}

/// Scatter operators that add up round every time in the type of their data.
fn accumulates(facts: &Facts, node: NodeId) -> bool {
    facts.nodes[node].node.string("reduction").is_some_and(|r| r != "none")
}

/// What makes a node a place where exact counting matters.
fn sink(facts: &Facts, node: NodeId, kinds: &[Kind]) -> Option<String> {
    let op = facts.op(node);
    let counted = || facts.f32_inputs(node).any(|v| kinds[v] == Kind::Counted);
    match op {
        "Cast" => {
            let to = facts.nodes[node].outputs.first().copied().flatten()?;
            let integer = facts.values[to].ty.as_ref()?.tensor_dtype()?.is_integer();
            (integer && facts.f32_inputs(node).next().is_some()).then(|| "a float becomes an integer".into())
        }
        "Floor" | "Ceil" | "Round" | "Mod" | "QuantizeLinear" => Some(format!("{op} makes whole numbers")),
        "Range" => Some("Range counts".into()),
        "MelWeightMatrix" => Some("MelWeightMatrix counts frequencies".into()),
        "ScatterElements" | "ScatterND" if accumulates(facts, node) => {
            Some("repeated indices accumulate one by one".into())
        }
        "Sin" | "Cos" if counted() => Some(format!("{op} is taken of a position")),
        "CumSum" if counted() => Some("CumSum counts".into()),
        "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" if counted() => {
            Some(format!("{op} compares counted numbers"))
        }
        "Resize" | "Upsample" => {
            // Scales are FP32 by the operator's rules; what computes them must be so too.
            let scales = if op == "Resize" && facts.nodes[node].inputs.len() > 2 { 2 } else { 1 };
            let v = facts.input(node, scales)?;
            (kinds[v] == Kind::Counted).then(|| "scales of a Resize are computed".into())
        }
        _ => None,
    }
    .filter(|_| op != "Resize" && op != "Upsample" || counted())
}

/// Operators that compute element by element or move elements.
fn is_arithmetic(op: &str) -> bool {
    matches!(
        op,
        "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Neg"
            | "Abs"
            | "Sqrt"
            | "Pow"
            | "Min"
            | "Max"
            | "Clip"
            | "Floor"
            | "Ceil"
            | "Round"
            | "Reshape"
            | "Squeeze"
            | "Unsqueeze"
            | "Concat"
            | "Slice"
            | "Identity"
            | "Transpose"
    )
}
