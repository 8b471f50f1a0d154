//! Nodes whose values, or the sums behind them, have left half's safe range on samples stay FP32.

use super::decide::{Decisions, number};
use super::facts::{Facts, NodeId, ValueId};
use super::links::Links;
use super::ranges::{Range, Ranges};
use super::{ConvertOptions, io};

/// The largest magnitude that counts as safe: half of FP16's largest value (65504), because samples never show the
/// whole range.
pub const SAFE_MAX: f64 = 32752.0;

/// FP16's smallest normal value, 2^-14. A tensor that stays below it everywhere loses digits, or becomes zero.
pub const SAFE_MIN: f64 = 6.103_515_625e-5;

/// Keeps what the ranges say.
pub(super) fn keep(facts: &Facts, ranges: &Ranges, d: &mut Decisions, links: &mut Links) {
    let unsafe_values: Vec<Option<Finding>> = facts.values.iter().map(|v| find(ranges.get(&v.name)?)).collect();
    for (v, finding) in unsafe_values.iter().enumerate() {
        if finding.is_some() && facts.values[v].constant.is_none() {
            links.keep_value(v);
        }
    }
    for node in 0..facts.nodes.len() {
        if !d.is_half(node) || facts.has_linked_bodies(node) {
            continue;
        }
        let n = &facts.nodes[node];
        let floats = |v: &ValueId| {
            let value = &facts.values[*v];
            (value.is_f32() || value.is_container()) && value.constant.is_none()
        };
        let mut touched = n.inputs.iter().chain(&n.outputs).flatten().copied().filter(floats);
        if let Some((v, found)) = touched.find_map(|v| Some((v, unsafe_values[v]?))) {
            let name = facts.values[v].name.clone();
            let text = match found {
                Finding::Large(x) => {
                    format!("'{name}' reaches {} on the samples; half is safe to {}", number(x), number(SAFE_MAX))
                }
                Finding::Small(x) => format!(
                    "'{name}' stays below {} on the samples; half is exact down to {}",
                    number(x),
                    number(SAFE_MIN)
                ),
            };
            d.keep(node, "range", &name, Some(found.value()), text);
        } else if let Some((name, sum)) = sum_behind(facts, ranges, node) {
            let text = format!(
                "the sum behind '{name}' reaches {} on the samples; half is safe to {}",
                number(sum),
                number(SAFE_MAX)
            );
            d.keep(node, "range_of_sum", &name, Some(sum), text);
        }
    }
}

/// Inputs and outputs of the model that have left the range: they keep FP32 unless the caller has decided. Returns what
/// the options become, and notes.
pub(super) fn io_options(facts: &Facts, options: &ConvertOptions) -> Option<(ConvertOptions, Vec<String>)> {
    let ranges = options.ranges.as_ref()?;
    let mut changed = options.clone();
    let mut notes = Vec::new();
    let graph = &facts.model.graph;
    for v in graph.real_inputs().chain(&graph.outputs) {
        let Some(Finding::Large(x)) = ranges.get(&v.name).and_then(find) else { continue };
        if io::is_kept(options, &v.name) {
            continue;
        }
        let reach = format!("'{}' reaches {} on the samples", v.name, number(x));
        if options.keep_io_named.iter().any(|(n, _)| *n == *v.name) {
            notes.push(format!("{reach}, beyond half's safe range, but is converted on request"));
        } else {
            notes.push(format!("{reach}: it stays fp32"));
            changed.keep_io_named.push((v.name.to_string(), true));
        }
    }
    Some((changed, notes))
}

/// What is wrong with a range.
#[derive(Clone, Copy)]
enum Finding {
    Large(f64),
    Small(f64),
}

impl Finding {
    fn value(self) -> f64 {
        match self {
            Finding::Large(x) | Finding::Small(x) => x,
        }
    }
}

fn find(range: &Range) -> Option<Finding> {
    let max = range.max_abs();
    match max {
        _ if max > SAFE_MAX => Some(Finding::Large(max)),
        _ if max > 0.0 && max < SAFE_MIN => Some(Finding::Small(max)),
        _ => None,
    }
}

/// A sum that an operator forms on the way to a result which is in range itself: an engine may keep it in half.
fn sum_behind(facts: &Facts, ranges: &Ranges, node: NodeId) -> Option<(String, f64)> {
    let range = |v: Option<ValueId>| ranges.get(&facts.values[v?].name).map(|r| (v, r));
    let (_, from) = range(facts.input(node, 0))?;
    let (output, to) = range(facts.nodes[node].outputs.first().copied().flatten())?;
    let summed = from.elements as f64 / to.elements.max(1) as f64;
    let sum = match facts.op(node) {
        "ReduceMean" | "GlobalAveragePool" => to.max_abs() * summed,
        "ReduceL2" => to.max_abs() * to.max_abs(),
        "ReduceLogSumExp" | "ReduceLogSum" => to.max.exp(),
        _ => return None,
    };
    (sum > SAFE_MAX).then(|| (output.map(|v| facts.values[v].name.to_string()).unwrap_or_default(), sum))
}
