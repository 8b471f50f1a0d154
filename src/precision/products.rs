//! Products of matrices: which of them sum, and which only multiply each by each.

use super::facts::{Facts, NodeId, ValueId};
use crate::model::{AttributeValue, ValueType};

/// True for the operators that multiply matrices.
pub(super) fn is_product(op: &str) -> bool {
    matches!(op, "MatMul" | "Gemm" | "Einsum")
}

/// True for a product of matrices that sums over a dimension, or may: an outer product (positions by frequencies) does not,
/// for its inner dimension is 1.
pub(super) fn sums(facts: &Facts, node: NodeId) -> bool {
    let dims = |i: usize| facts.input(node, i).and_then(|v| dims(facts, v));
    let flag = |name: &str| facts.int(node, name) == Some(1);
    match facts.op(node) {
        "MatMul" => {
            let left = dims(0).is_some_and(|d| d.len() > 1 && d.last() == Some(&Some(1)));
            let right = dims(1).is_some_and(|d| d.len() > 1 && d[d.len() - 2] == Some(1));
            !left && !right
        }
        "Gemm" => {
            let left = dims(0).and_then(|d| d.get(usize::from(!flag("transA"))).copied().flatten());
            let right = dims(1).and_then(|d| d.get(usize::from(flag("transB"))).copied().flatten());
            left != Some(1) && right != Some(1)
        }
        "Einsum" => einsum_sums(facts, node),
        _ => false,
    }
}

/// True if a letter of the operands is not in the result, other than for a dimension of 1.
fn einsum_sums(facts: &Facts, node: NodeId) -> bool {
    let equation = match facts.attribute(node, "equation") {
        Some(AttributeValue::String(text)) => std::str::from_utf8(text).unwrap_or_default(),
        _ => return true,
    };
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, result) = match equation.split_once("->") {
        Some((operands, result)) => (operands, result.to_string()),
        // Without a result, it has the letters that stand once.
        None => {
            let once = |c: &char| c.is_alphabetic() && equation.matches(*c).count() == 1;
            (&*equation, equation.chars().filter(once).collect())
        }
    };
    operands.split(',').enumerate().any(|(i, operand)| {
        let sizes = facts.input(node, i).and_then(|v| dims(facts, v));
        // Behind an ellipsis the places are not known.
        let known = sizes.filter(|d| d.len() == operand.chars().count());
        operand
            .chars()
            .filter(|c| c.is_alphabetic())
            .enumerate()
            .any(|(at, c)| !result.contains(c) && known.as_ref().and_then(|d| d.get(at).copied().flatten()) != Some(1))
    })
}

fn dims(facts: &Facts, v: ValueId) -> Option<Vec<Option<i64>>> {
    let value = &facts.values[v];
    if let Some(t) = &value.constant {
        return Some(t.dims().iter().copied().map(Some).collect());
    }
    let shape = value.ty.as_ref().and_then(ValueType::tensor_shape)?;
    Some(shape.iter().map(|d| d.size()).collect())
}
