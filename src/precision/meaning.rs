//! Floats that mean positions, sizes or indices. Half counts exactly only to 2048, so what is computed from integers and
//! ends in an index, a rounding, a comparison, or the sine of a position stays FP32 back to its source.
//!
//! Of activations, which are half where they come from, only the arithmetic right before such a place joins it.

use super::decide::Decisions;
use super::facts::{Facts, GraphId, NodeId, Origin, ValueId};
use super::kinds::{Kind, kinds};
use super::links::Links;
use super::products;
use crate::hash::HashSet;
use crate::model::{AttributeValue, DataType};

/// Keeps such values and what makes them in FP32.
pub(super) fn keep(facts: &Facts, d: &mut Decisions, links: &mut Links) {
    let kinds = kinds(facts);
    let mut kept = Kept::default();
    keep_rounds(facts, d, links, &kinds, &mut kept);
    for node in 0..facts.nodes.len() {
        let Some(sink) = sink(facts, node, &kinds) else { continue };
        if sink.values.is_empty() && !sink.itself {
            continue;
        }
        let named = sink.values.first().copied().or_else(|| facts.nodes[node].outputs.iter().flatten().next().copied());
        let name = named.map(|v| facts.values[v].name.to_string()).unwrap_or_default();
        if sink.itself {
            d.keep(node, "meaning", &name, None, format!("{}, and half counts exactly only to 2048", sink.what));
        }
        let text = format!("it leads to '{name}', where {}", sink.what);
        // The angles of positions may be a sum of products: below a sine, it is what counts were made to be.
        let counts = if matches!(facts.op(node), "Sin" | "Cos") { Kind::Weighed } else { Kind::Counted };
        let way = Back { facts, kinds: &kinds, counts, name: &name, text: &text };
        for v in sink.values {
            way.keep(d, links, &mut kept, v);
        }
    }
}

/// The values whose makers are kept already, for counts of which kind.
type Kept = HashSet<(ValueId, Kind)>;

/// The values that a value is, before it was handed into a body or out of one; empty for what an operator makes.
fn handed_from(facts: &Facts, v: ValueId) -> Vec<ValueId> {
    let value = &facts.values[v];
    let graph = &facts.graphs[value.graph];
    match (value.origin, graph.owner) {
        (Origin::Node(n), _) if facts.has_linked_bodies(n) => {
            let way = facts.way(n);
            let Some(k) = facts.nodes[n].outputs.iter().position(|o| *o == Some(v)) else { return Vec::new() };
            let made = |g: GraphId| facts.graphs[g].outputs.get(k + way.first_output).copied();
            facts.nodes[n].bodies.iter().filter_map(|(_, g)| made(*g)).collect()
        }
        (Origin::Input, Some(n)) if facts.has_linked_bodies(n) => {
            let way = facts.way(n);
            let Some(i) = graph.inputs.iter().position(|input| *input == v) else { return Vec::new() };
            let round = i.checked_sub(way.carried_from).filter(|j| *j < way.carried);
            let round = round.and_then(|j| graph.outputs.get(j + way.first_output).copied());
            facts.input(n, i + way.first_input).into_iter().chain(round).collect()
        }
        _ => Vec::new(),
    }
}

/// The way back from a place where exact counting matters.
struct Back<'a, 'm> {
    facts: &'a Facts<'m>,
    kinds: &'a [Kind],
    /// The last kind that is a count here.
    counts: Kind,
    name: &'a str,
    text: &'a str,
}

impl Back<'_, '_> {
    /// Keeps what makes a value: of counts everything back to the source, of activations the arithmetic right before.
    fn keep(&self, d: &mut Decisions, links: &mut Links, kept: &mut Kept, v: ValueId) {
        let mut stack = vec![v];
        while let Some(v) = stack.pop() {
            if !self.facts.values[v].is_f32() || !kept.insert((v, self.counts)) {
                continue;
            }
            let handed = handed_from(self.facts, v);
            if !handed.is_empty() {
                // Counts stay FP32 on their way into bodies and out of them.
                if self.is_count(v) {
                    links.keep_value(v);
                    stack.extend(handed);
                }
                continue;
            }
            let Some(maker) = self.facts.producer(v) else { continue };
            if !self.is_count(v) && !is_elementwise(self.facts, maker) {
                continue;
            }
            d.keep(maker, "meaning", self.name, None, self.text.to_string());
            let inputs: Vec<ValueId> = self.facts.f32_inputs(maker).collect();
            // Where two activations meet, the way back ends: it could go through the whole model.
            let activations = inputs.iter().filter(|v| !self.is_count(**v)).count();
            stack.extend(inputs.into_iter().filter(|v| activations <= 1 || self.is_count(*v)));
        }
    }

    fn is_count(&self, v: ValueId) -> bool {
        self.kinds[v] <= self.counts
    }
}

/// Counts that a loop carries from round to round stay FP32: in half, 2048 + 1 is 2048.
fn keep_rounds(facts: &Facts, d: &mut Decisions, links: &mut Links, kinds: &[Kind], kept: &mut Kept) {
    for n in 0..facts.nodes.len() {
        if !facts.has_linked_bodies(n) {
            continue;
        }
        let way = facts.way(n);
        for (_, g) in facts.nodes[n].bodies.clone() {
            for j in 0..way.carried {
                let Some(&v) = facts.graphs[g].inputs.get(j + way.carried_from) else { continue };
                if !facts.values[v].is_f32() || kinds[v] != Kind::Counted {
                    continue;
                }
                let name = facts.values[v].name.to_string();
                let text = format!("it counts '{name}' round by round, and half counts exactly only to 2048");
                let way = Back { facts, kinds, counts: Kind::Counted, name: &name, text: &text };
                way.keep(d, links, kept, v);
            }
        }
    }
}

/// A place where exact counting matters.
struct Sink {
    what: String,
    /// The node itself stays FP32.
    itself: bool,
    /// Inputs whose makers stay FP32.
    values: Vec<ValueId>,
}

fn sink(facts: &Facts, node: NodeId, kinds: &[Kind]) -> Option<Sink> {
    let op = facts.op(node);
    let inputs = || facts.f32_inputs(node).collect::<Vec<_>>();
    let counted = || facts.f32_inputs(node).any(|v| kinds[v] == Kind::Counted);
    let weighed = || facts.f32_inputs(node).any(|v| kinds[v] == Kind::Weighed);
    let all = |what: &str| Some(Sink { what: what.into(), itself: true, values: inputs() });
    let itself = |what: &str| Some(Sink { what: what.into(), itself: true, values: Vec::new() });
    let only = |what: &str, i: usize| {
        let values = facts.input(node, i).filter(|v| facts.values[*v].is_f32()).into_iter().collect();
        Some(Sink { what: what.into(), itself: false, values })
    };
    match op {
        "Cast" => {
            let to = facts.nodes[node].outputs.first().copied().flatten()?;
            let integer = facts.values[to].ty.as_ref()?.tensor_dtype()?.is_integer();
            if integer { only("a float becomes an integer", 0) } else { None }
        }
        // The rounding of a half is exact in half: where the operand is half already, nothing is gained by FP32.
        "Floor" | "Ceil" | "Round" | "Mod" | "QuantizeLinear" if counted() || is_computed(facts, node) => {
            all(&format!("{op} makes whole numbers"))
        }
        "QuantizeLinear" if is_finer_than_half(facts, node) => {
            itself("the integers are finer than half, and so is their scale")
        }
        "Range" => all("Range counts"),
        "MelWeightMatrix" => all("MelWeightMatrix counts frequencies"),
        "ScatterElements" | "ScatterND" if accumulates(facts, node) => itself("repeated indices accumulate one by one"),
        "Sin" | "Cos" if counted() || weighed() || is_computed(facts, node) => {
            all(&format!("{op} is taken of a position"))
        }
        "CumSum" if counted() => all("CumSum counts"),
        "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" if counted() => {
            all(&format!("{op} compares counted numbers"))
        }
        // These inputs are FP32 by the operator's schema; what computes them is so too.
        "Resize" => only("scales of a Resize are computed", if facts.nodes[node].inputs.len() > 2 { 2 } else { 1 }),
        "Upsample" => only("scales of an Upsample are computed", 1),
        "NonMaxSuppression" => only("boxes are compared", 0),
        _ => None,
    }
}

/// Scatter operators that add up or multiply round every time in the type of their data. The largest and the least are taken
/// without rounding; but of a ScatterND that does, ONNX Runtime's CPU provider has no half form.
fn accumulates(facts: &Facts, node: NodeId) -> bool {
    let exact: &[&str] = if facts.op(node) == "ScatterND" { &["none"] } else { &["none", "max", "min"] };
    match facts.attribute(node, "reduction") {
        Some(AttributeValue::String(how)) => !exact.iter().any(|e| e.as_bytes() == &**how),
        _ => false,
    }
}

/// True if a QuantizeLinear makes integers of more than 8 bits: half has 11 bits, and its numbers end where those of 16 do.
fn is_finer_than_half(facts: &Facts, node: NodeId) -> bool {
    let made = facts.nodes[node].outputs.first().copied().flatten();
    let dtype = made.and_then(|v| facts.values[v].ty.as_ref()?.tensor_dtype());
    matches!(dtype, Some(DataType::Int16 | DataType::Uint16 | DataType::Int32))
}

/// True if an operand is the result of arithmetic, whose rounding to half would come before.
fn is_computed(facts: &Facts, node: NodeId) -> bool {
    facts.f32_inputs(node).filter(|v| facts.values[*v].constant.is_none()).any(|v| match facts.values[v].origin {
        Origin::Node(maker) => is_elementwise(facts, maker),
        _ => false,
    })
}

/// Arithmetic without sums: a product of matrices with an inner dimension of 1 is such too.
fn is_elementwise(facts: &Facts, node: NodeId) -> bool {
    let op = facts.op(node);
    is_arithmetic(op) || products::is_product(op) && !products::sums(facts, node)
}

/// Operators that compute element by element or move elements.
pub(super) fn is_arithmetic(op: &str) -> bool {
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
