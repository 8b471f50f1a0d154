//! Fewer casts: a light operator between FP32 neighbours stays FP32 with them instead of standing between two casts.

use super::ConvertOptions;
use super::decide::{Choice, Decisions, slot_gives, slot_takes};
use super::facts::{Facts, NodeId, Origin, ValueId};

/// Keeps light operators that read FP32 and whose results are read as FP32 only.
pub(super) fn keep(facts: &Facts, options: &ConvertOptions, d: &mut Decisions) {
    // From the end: which values all readers want in FP32. A light operator wants what its own readers want.
    let mut wanted = vec![false; facts.values.len()];
    for node in (0..facts.nodes.len()).rev() {
        for v in facts.nodes[node].outputs.iter().flatten() {
            wanted[*v] = wants_float(facts, options, d, *v, &wanted);
        }
    }
    // From the start: which of them read FP32 only.
    for node in 0..facts.nodes.len() {
        if !d.is_half(node) || !is_light(facts.op(node)) {
            continue;
        }
        let outputs = || facts.nodes[node].outputs.iter().flatten().filter(|v| facts.values[**v].is_f32());
        if outputs().next().is_none() || !outputs().all(|v| wanted[*v]) {
            continue;
        }
        let mut inputs = facts.f32_inputs(node).filter(|v| facts.values[*v].constant.is_none()).peekable();
        if inputs.peek().is_some() && inputs.all(|v| is_float(facts, options, d, v)) {
            let text = "its neighbours are FP32, and half would only add casts".to_string();
            d.keep(node, "between_fp32", "", None, text);
        }
    }
}

fn wants_float(facts: &Facts, options: &ConvertOptions, d: &Decisions, v: ValueId, wanted: &[bool]) -> bool {
    let value = &facts.values[v];
    // Inputs and outputs that stay FP32 are no neighbours in this sense: casts at the model's border are what was asked
    // for.
    if !value.is_f32() || value.is_output || value.consumers.is_empty() {
        return false;
    }
    value.consumers.iter().all(|&n| match d.choices[n] {
        Choice::Float(_) => true,
        Choice::Half if is_light(facts.op(n)) => {
            facts.nodes[n].outputs.iter().flatten().all(|o| !facts.values[*o].is_f32() || wanted[*o])
        }
        Choice::Half => !reads_half(facts, options, n, v),
        // A Cast reads any type.
        Choice::Free | Choice::Untouched => true,
    })
}

fn reads_half(facts: &Facts, options: &ConvertOptions, node: NodeId, v: ValueId) -> bool {
    (0..facts.nodes[node].inputs.len())
        .any(|i| facts.input(node, i) == Some(v) && slot_takes(facts, node, i, options.precision))
}

fn is_float(facts: &Facts, options: &ConvertOptions, d: &Decisions, v: ValueId) -> bool {
    match facts.values[v].origin {
        Origin::Input => false,
        Origin::Initializer(_) => true,
        Origin::Node(n) => match d.choices[n] {
            Choice::Float(_) => true,
            Choice::Half => {
                let i = facts.nodes[n].outputs.iter().position(|o| *o == Some(v));
                !i.is_some_and(|i| slot_gives(facts, n, i, options.precision))
            }
            Choice::Free | Choice::Untouched => false,
        },
    }
}

/// Operators whose cost is that of moving their data.
fn is_light(op: &str) -> bool {
    matches!(
        op,
        "Reshape"
            | "Transpose"
            | "Squeeze"
            | "Unsqueeze"
            | "Flatten"
            | "Identity"
            | "Slice"
            | "Gather"
            | "Split"
            | "Expand"
            | "Tile"
            | "Concat"
            | "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Neg"
            | "Abs"
            | "Relu"
            | "Sqrt"
            | "Reciprocal"
            | "Exp"
            | "Log"
            | "Sigmoid"
            | "Tanh"
            | "Clip"
            | "Min"
            | "Max"
            | "Pow"
            | "Where"
            | "LeakyRelu"
    )
}
