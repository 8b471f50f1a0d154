//! Operators with subgraphs.

use super::walk::{Scope, Walk, strip_shape};
use super::{Typing, same_type};
use crate::model::{AttributeValue, DataType, Graph, Name, Node, TypeKind, ValueType};
use crate::{Result, bail, err};

type Types = Vec<Option<ValueType>>;

/// Output types of If, Loop, Scan and SequenceMap; `None` for other operators, whose subgraphs are typed all the same.
pub(super) fn outputs(
    walk: &mut Walk,
    node: &Node,
    scope: &Scope,
    inputs: &[Option<ValueType>],
    keep: &mut dyn FnMut(Name, usize, Typing),
) -> Result<Option<Types>> {
    if !node.domain().is_empty() {
        other_subgraphs(walk, node, scope, keep)?;
        return Ok(None);
    }
    match &*node.op_type {
        "If" => {
            let then = body(walk, node, scope, "then_branch", &[], keep)?;
            let other = body(walk, node, scope, "else_branch", &[], keep)?;
            for (a, b) in then.iter().zip(&other) {
                if let (Some(a), Some(b)) = (a, b)
                    && walk.is_strict()
                    && !same_type(a, b)
                {
                    bail!(InvalidModel, "node {}: one branch gives {a}, the other {b}", node.label());
                }
            }
            if then.len() != other.len() && walk.is_strict() {
                bail!(
                    InvalidModel,
                    "node {}: then_branch gives {} outputs, else_branch {}: both must give the same",
                    node.label(),
                    then.len(),
                    other.len()
                );
            }
            // What one branch leaves open, the other may tell.
            let either = |(i, t): (usize, &Option<ValueType>)| shapeless(t).or_else(|| shapeless(other.get(i)?));
            Ok(Some(then.iter().enumerate().map(either).collect()))
        }
        "Loop" => {
            let mut given =
                vec![Some(ValueType::tensor(DataType::Int64, None)), Some(ValueType::tensor(DataType::Bool, None))];
            given.extend(inputs.iter().skip(2).map(shapeless));
            let given_carried: Types = given[2..].to_vec();
            let results = body(walk, node, scope, "body", &given, keep)?;
            check_carried(walk, node, &given_carried, &results[1.min(results.len())..])?;
            // After the condition come the carried values, which keep their types, then the scanned ones.
            let results: Types = results.into_iter().skip(1).collect();
            let types = results.iter().enumerate().map(|(i, left)| match (given_carried.get(i), left) {
                // An empty optional that the body fills leaves the loop as what the body makes.
                (Some(Some(entered)), Some(left)) if is_filled_optional(entered, left) => Some(strip_shape(left)),
                (Some(Some(entered)), _) => Some(entered.clone()),
                _ => shapeless(left),
            });
            Ok(Some(types.collect()))
        }
        "Scan" => {
            // Version 8 has an input for sequence lengths first.
            let old = crate::model::graph::find_opset(scope.imports, "").is_some_and(|v| v < 9);
            let values: Types = inputs.iter().skip(usize::from(old)).map(shapeless).collect();
            let scanned = match scope.attribute(node, "num_scan_inputs") {
                Some(AttributeValue::Int(n)) => usize::try_from(*n).unwrap_or(0),
                _ => 0,
            };
            let results = body(walk, node, scope, "body", &values, keep)?;
            let states = values.len().saturating_sub(scanned);
            check_carried(walk, node, &values[..states], &results)?;
            Ok(Some(results.iter().map(shapeless).collect()))
        }
        "SequenceMap" => {
            let element = |t: &Option<ValueType>| match t.as_ref().map(|t| &t.kind) {
                Some(TypeKind::Sequence(e)) => Some((**e).clone()),
                _ => t.clone(),
            };
            let given: Types = inputs.iter().map(|t| element(t).as_ref().map(strip_shape)).collect();
            let results = body(walk, node, scope, "body", &given, keep)?;
            let sequence = |t: &Option<ValueType>| {
                t.as_ref().map(|t| ValueType::new(TypeKind::Sequence(Box::new(strip_shape(t)))))
            };
            Ok(Some(results.iter().map(sequence).collect()))
        }
        _ => {
            other_subgraphs(walk, node, scope, keep)?;
            Ok(None)
        }
    }
}

/// Subgraphs of other operators, such as FlexAttention: typed as far as their own declarations go.
pub(super) fn other_subgraphs(
    walk: &mut Walk,
    node: &Node,
    scope: &Scope,
    keep: &mut dyn FnMut(Name, usize, Typing),
) -> Result<()> {
    let mut last: Option<(&Name, usize)> = None;
    for (name, graph) in node.subgraphs() {
        let index = match last {
            Some((n, i)) if n == name => i + 1,
            _ => 0,
        };
        last = Some((name, index));
        let (typing, _) = walk.graph(graph, Some(scope), scope.imports, scope.attributes, &[])?;
        keep(name.clone(), index, typing);
    }
    Ok(())
}

fn body(
    walk: &mut Walk,
    node: &Node,
    scope: &Scope,
    attribute: &str,
    given: &[Option<ValueType>],
    keep: &mut dyn FnMut(Name, usize, Typing),
) -> Result<Types> {
    let graph: &Graph = match scope.attribute(node, attribute) {
        Some(AttributeValue::Graph(g)) => g,
        _ => return Err(err!(InvalidModel, "node {} has no graph '{attribute}'", node.label())),
    };
    let (typing, outputs) = walk
        .graph(graph, Some(scope), scope.imports, scope.attributes, given)
        .map_err(|e| e.context(format!("in {attribute} of {}", node.label())))?;
    keep(attribute.into(), 0, typing);
    Ok(outputs)
}

/// Carried values must leave a body in the type in which they entered it.
fn check_carried(walk: &Walk, node: &Node, entered: &[Option<ValueType>], left: &[Option<ValueType>]) -> Result<()> {
    for (i, pair) in entered.iter().zip(left).enumerate() {
        if let (Some(a), Some(b)) = pair
            && walk.is_strict()
            && !same_type(a, b)
            && !is_filled_optional(a, b)
        {
            bail!(InvalidModel, "node {}: carried value {i} enters the body as {a} and leaves it as {b}", node.label());
        }
    }
    Ok(())
}

/// ONNX lets a loop start with an empty optional and go on with its content.
fn is_filled_optional(entered: &ValueType, left: &ValueType) -> bool {
    matches!(&entered.kind, TypeKind::Optional(inner) if same_type(inner, left))
}

fn shapeless(ty: &Option<ValueType>) -> Option<ValueType> {
    ty.as_ref().map(strip_shape)
}
