//! Decomposed normalisations: their inner sums stay FP32, because squares overflow half at a magnitude (256)
//! that activations reach, sums of many terms do too, and an epsilon vanishes beside them.
//!
//! Recognised are variance and root mean square (a square that is averaged or summed), with what leads to it (x - mean)
//! and what follows (add epsilon, root, reciprocal, division), softmax (an exponential that is summed and divided by), and
//! a divisor whose smallest value is a constant that half would make zero.

use super::decide::Decisions;
use super::facts::{Facts, NodeId};
use crate::hash::HashSet;

/// Keeps the nodes of decomposed normalisations in FP32.
pub(super) fn keep(facts: &Facts, d: &mut Decisions) {
    for node in 0..facts.nodes.len() {
        match facts.op(node) {
            "ReduceMean" | "ReduceSum" => {
                let Some(inner) = facts.input_node(node, 0) else { continue };
                if is_square(facts, inner) {
                    let chain = denominator(facts, node);
                    // A sum is as large as its largest square: where it is the result, half holds all of them or not even
                    // the sum. A mean, or what a root brings back, half may hold where it does not hold the squares.
                    if facts.op(node) == "ReduceMean" || chain.len() > 1 {
                        keep_all(facts, d, variance(facts, inner, chain), "normalisation", "the mean of squares");
                    }
                } else if facts.op(inner) == "Exp" && facts.op(node) == "ReduceSum" {
                    // What the exponential reads and makes is between minus infinity and 1 where a softmax subtracts the
                    // maximum first, so only the sum and the division need more than half.
                    keep_all(facts, d, denominator(facts, node), "softmax", "the sum of exponentials");
                }
            }
            "ReduceSumSquare" => {
                let chain = denominator(facts, node);
                // Alone it is an operator like any other, which sums inside in FP32.
                if chain.len() > 1 {
                    keep_all(facts, d, chain, "normalisation", "a sum of squares that becomes a divisor");
                }
            }
            "Clip" | "Max" | "Add" if d.is_kept_by(node, "constant_flushed") => {
                // The smallest divisor there may be: as half it would be zero behind the node that stays FP32.
                let chain = denominator(facts, node);
                if chain.iter().any(|n| matches!(facts.op(*n), "Div" | "Reciprocal")) {
                    keep_all(facts, d, chain, "normalisation", "a divisor that a constant keeps from zero");
                }
            }
            _ => {}
        }
    }
}

fn keep_all(facts: &Facts, d: &mut Decisions, nodes: Vec<NodeId>, rule: &'static str, what: &str) {
    for node in nodes {
        let output = facts.nodes[node].node.outputs.first().map_or("", |o| o);
        d.keep(node, rule, output, None, format!("it belongs to {what}, which overflows or loses its epsilon in half"));
    }
}

/// x * x, or x to the power of two.
fn is_square(facts: &Facts, node: NodeId) -> bool {
    match facts.op(node) {
        "Mul" => facts.input(node, 0).is_some() && facts.input(node, 0) == facts.input(node, 1),
        "Pow" => facts.input(node, 1).and_then(|v| facts.scalar(v)) == Some(2.0),
        _ => false,
    }
}

fn variance(facts: &Facts, square: NodeId, chain: Vec<NodeId>) -> Vec<NodeId> {
    let mut found = vec![square];
    // The deviation from the mean, and the mean itself.
    if let Some(sub) = facts.input_node(square, 0).filter(|n| facts.op(*n) == "Sub") {
        found.push(sub);
        found.extend(facts.input_node(sub, 1).filter(|n| matches!(facts.op(*n), "ReduceMean" | "GlobalAveragePool")));
    }
    found.extend(chain);
    found
}

/// A sum, and what turns it into a divisor: epsilon, root, reciprocal, and the division or product that ends it.
fn denominator(facts: &Facts, sum: NodeId) -> Vec<NodeId> {
    let mut seen: HashSet<NodeId> = HashSet::from_iter([sum]);
    let mut found = vec![sum];
    let mut follow = vec![sum];
    while let Some(node) = follow.pop() {
        for next in facts.successors(node) {
            let Some(step) = step(facts, node, next) else { continue };
            if seen.insert(next) {
                found.push(next);
                if step == Step::Through {
                    follow.push(next);
                }
            }
        }
    }
    found
}

#[derive(PartialEq)]
enum Step {
    /// Still on the way to the divisor.
    Through,
    /// The quotient: an ordinary activation again.
    End,
}

fn step(facts: &Facts, from: NodeId, to: NodeId) -> Option<Step> {
    match facts.op(to) {
        "Add" | "Max" | "Clip" | "Mul" | "Sub" | "Pow" if has_constant(facts, to) => Some(Step::Through),
        "Sqrt" | "Reciprocal" | "Identity" | "Cast" | "Expand" | "Unsqueeze" | "Reshape" => Some(Step::Through),
        "Div" if is_reciprocal_division(facts, to) => Some(Step::Through),
        "Div" if facts.input_node(to, 1) == Some(from) => Some(Step::End),
        // The product with a reciprocal; a sum that is no divisor yet does not end in a product.
        "Mul" if matches!(facts.op(from), "Reciprocal" | "Pow" | "Div") => Some(Step::End),
        _ => None,
    }
}

/// 1 / x written as a division.
fn is_reciprocal_division(facts: &Facts, node: NodeId) -> bool {
    facts.op(node) == "Div" && facts.input(node, 0).and_then(|v| facts.scalar(v)).is_some()
}

fn has_constant(facts: &Facts, node: NodeId) -> bool {
    facts.nodes[node].inputs.iter().flatten().any(|v| facts.values[*v].constant.as_ref().is_some_and(|t| t.len() == 1))
}
