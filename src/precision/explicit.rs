//! FP32 that a half model asks for itself: what follows a Cast from half to FP32 was put there on purpose, by its author or by
//! an earlier conversion, and stays as it is. So a converted model converts to itself.
//!
//! It ends at operators that do the heavy work: a model that is half only at its entrance is still converted.

use super::decide::Decisions;
use super::facts::{Facts, NodeId, ValueId};
use crate::model::ValueType;

/// Keeps what follows such Casts in FP32.
pub(super) fn keep(facts: &Facts, d: &mut Decisions) {
    let mut explicit = vec![false; facts.values.len()];
    for node in 0..facts.nodes.len() {
        if facts.op(node) == "Cast" {
            let widens = facts.input(node, 0).is_some_and(|v| is_computed_half(facts, v));
            mark(facts, node, &mut explicit, widens);
            continue;
        }
        if is_heavy(facts.op(node)) || facts.has_linked_bodies(node) {
            continue;
        }
        let Some(v) = facts.f32_inputs(node).find(|v| explicit[*v]) else { continue };
        let name = facts.values[v].name.to_string();
        let text = format!("the model itself widens half to FP32 before it, for '{name}'");
        d.keep(node, "explicit_fp32", &name, None, text);
        mark(facts, node, &mut explicit, true);
    }
}

fn mark(facts: &Facts, node: NodeId, explicit: &mut [bool], on: bool) {
    for v in facts.nodes[node].outputs.iter().flatten().filter(|v| facts.values[**v].is_f32()) {
        explicit[*v] = on;
    }
}

/// A half value that the model computes. Two things are no sign of intent: half inputs that are widened at once, and the way
/// from FP32 to half and back with nothing between, for nothing is computed in half there.
fn is_computed_half(facts: &Facts, mut v: ValueId) -> bool {
    let is_half = |v: ValueId| {
        let dtype = facts.values[v].ty.as_ref().and_then(ValueType::tensor_dtype);
        dtype.is_some_and(|t| t.is_half()) && facts.values[v].constant.is_none()
    };
    if !is_half(v) {
        return false;
    }
    while let Some(maker) = facts.producer(v) {
        if facts.op(maker) != "Cast" {
            return is_half(v);
        }
        let Some(input) = facts.input(maker, 0) else { return false };
        v = input;
    }
    false
}

fn is_heavy(op: &str) -> bool {
    matches!(
        op,
        "Conv" | "ConvTranspose" | "MatMul" | "Gemm" | "Einsum" | "LSTM" | "GRU" | "RNN" | "Attention" | "DeformConv"
    )
}
