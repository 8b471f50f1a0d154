//! What a float value is computed from: constants, counts, or activations. A flow through the whole model, bodies of control
//! flow and functions included; each value rises at most twice, so it is linear.

use super::facts::{Facts, NodeId, Origin, ValueId};
use crate::model::{DataType, ValueType};

/// What a float value is computed from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Kind {
    /// Nothing is known yet; in the end, only what no run reaches.
    Nothing,
    /// Constants and flags alone.
    Constant,
    /// Integers (shapes, positions, indices), perhaps with constants.
    Counted,
    /// Counts summed with weights: a layer over integer features, or the angles of positions. Only a sine tells which.
    Weighed,
    /// Weights and activations.
    Activation,
}

/// The kinds of all values; those that are no FP32 tensors have none.
pub(super) fn kinds(facts: &Facts) -> Vec<Kind> {
    let mut flow = Flow { facts, kinds: vec![Kind::Nothing; facts.values.len()], onward: onward(facts), queue: vec![] };
    for (v, value) in facts.values.iter().enumerate() {
        if value.constant.is_some() || matches!(value.origin, Origin::Initializer(_)) {
            flow.raise(v, Kind::Constant);
        } else if value.origin == Origin::Input && value.graph == 0 {
            flow.raise(v, Kind::Activation);
        }
    }
    // From the last to the first, so that the first is taken from the queue first.
    flow.queue = (0..facts.nodes.len()).rev().collect();
    while let Some(node) = flow.queue.pop() {
        flow.node(node);
    }
    flow.kinds
}

struct Flow<'a, 'm> {
    facts: &'a Facts<'m>,
    kinds: Vec<Kind>,
    /// Values that are other values handed on, into bodies and out of them.
    onward: Vec<Vec<(ValueId, Handed)>>,
    queue: Vec<NodeId>,
}

/// How a value is handed on.
#[derive(Clone, Copy, PartialEq)]
enum Handed {
    Over,
    /// To the next round of a loop, changed.
    Round,
}

impl Flow<'_, '_> {
    fn raise(&mut self, v: ValueId, kind: Kind) {
        let mut stack = vec![(v, kind)];
        while let Some((v, kind)) = stack.pop() {
            if !self.facts.values[v].is_f32() || self.kinds[v] >= kind {
                continue;
            }
            self.kinds[v] = kind;
            self.queue.extend(&self.facts.values[v].consumers);
            // What a loop computes from constants, round after round, is a count.
            let later = |handed| if handed == Handed::Round { kind.max(Kind::Counted) } else { kind };
            stack.extend(self.onward[v].iter().map(|(to, handed)| (*to, later(*handed))));
        }
    }

    fn node(&mut self, node: NodeId) {
        if self.facts.has_linked_bodies(node) {
            return;
        }
        let kind = result(self.facts, node, &self.kinds);
        for v in self.facts.nodes[node].outputs.iter().flatten() {
            if self.facts.values[*v].constant.is_none() {
                self.raise(*v, kind);
            }
        }
    }
}

/// Where values are handed into bodies, out of them, and from round to round.
fn onward(facts: &Facts) -> Vec<Vec<(ValueId, Handed)>> {
    let mut onward = vec![Vec::new(); facts.values.len()];
    for n in 0..facts.nodes.len() {
        if !facts.has_linked_bodies(n) {
            continue;
        }
        let node = &facts.nodes[n];
        for (_, g) in &node.bodies {
            let (inputs, outputs) = (&facts.graphs[*g].inputs, &facts.graphs[*g].outputs);
            let way = facts.way(n);
            for (i, &v) in inputs.iter().enumerate() {
                if let Some(from) = facts.input(n, i + way.first_input) {
                    onward[from].push((v, Handed::Over));
                }
            }
            for (k, v) in node.outputs.iter().enumerate() {
                if let (Some(v), Some(&from)) = (v, outputs.get(k + way.first_output)) {
                    onward[from].push((*v, Handed::Over));
                }
            }
            for j in 0..way.carried {
                if let (Some(&to), Some(&from)) = (inputs.get(j + way.carried_from), outputs.get(j + way.first_output))
                    && from != to
                {
                    onward[from].push((to, Handed::Round));
                }
            }
        }
    }
    onward
}

fn result(facts: &Facts, node: NodeId, kinds: &[Kind]) -> Kind {
    let op = facts.op(node);
    match op {
        "Cast" if facts.f32_inputs(node).next().is_none() => return cast_from(facts, node),
        "Range" => return Kind::Counted,
        "ConstantOfShape" | "EyeLike" => return Kind::Constant,
        // A table of weights looked up by integers gives weights.
        "Gather" | "GatherND" | "GatherElements" => {
            let table = facts.input(node, 0).map_or(Kind::Nothing, |v| kinds[v]);
            return if table == Kind::Constant { Kind::Activation } else { table };
        }
        _ if !keeps_counts(op) => return Kind::Activation,
        _ => {}
    }
    let joined = facts.f32_inputs(node).map(|v| kinds[v]).max().unwrap_or(Kind::Nothing);
    if super::products::sums(facts, node) {
        return if joined == Kind::Constant { Kind::Activation } else { joined.max(Kind::Weighed) };
    }
    // Sums over flags count them.
    if joined == Kind::Constant && matches!(op, "CumSum" | "ReduceSum") { Kind::Counted } else { joined }
}

fn cast_from(facts: &Facts, node: NodeId) -> Kind {
    let dtype = facts.input(node, 0).and_then(|v| facts.values[v].ty.as_ref()).and_then(ValueType::tensor_dtype);
    match dtype {
        // A flag is 0 or 1, which half holds.
        Some(DataType::Bool) => Kind::Constant,
        Some(t) if t.is_float() => Kind::Activation,
        _ => Kind::Counted,
    }
}

/// Operators whose result counts if what they read counts.
fn keeps_counts(op: &str) -> bool {
    super::meaning::is_arithmetic(op)
        || matches!(
            op,
            "MatMul"
                | "CumSum"
                | "ReduceSum"
                | "ReduceMax"
                | "ReduceMin"
                | "ReduceProd"
                | "ReduceMean"
                | "Exp"
                | "Log"
                | "Reciprocal"
                | "Where"
                | "Mod"
                | "Sum"
                | "Mean"
                | "Expand"
                | "Tile"
                | "Split"
                | "Flatten"
                | "Pad"
                | "Cast"
                | "CastLike"
                | "Einsum"
                | "Gemm"
                | "TopK"
                | "ScatterND"
                | "ScatterElements"
                | "Scatter"
                | "Trilu"
                | "Size"
                | "Dropout"
        )
}
