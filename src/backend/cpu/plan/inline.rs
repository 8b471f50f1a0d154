//! Calls of a model's own functions: the body's nodes take the call's place.

use super::build::{Binding, Builder, MAX_DEPTH};
use crate::hash::HashMap;
use crate::model::{Attribute, AttributeValue, Function, Graph, Name, Node};
use crate::{Result, bail, err};

/// Values of a function's attributes in one call.
pub type Attributes = HashMap<Name, AttributeValue>;

/// Puts a function's body in place of a call.
pub(super) fn call(b: &mut Builder, node: &Node, function: &Function, inputs: &[Binding]) -> Result<()> {
    let at = |e: crate::Error| e.context(format_args!("function '{}' called by node {}", function.name, node.label()));
    let id = (function.domain.clone(), function.name.clone());
    if b.functions.contains(&id) && b.functions.len() >= MAX_DEPTH {
        bail!(InvalidModel, "function '{}' calls itself", function.name);
    }
    if b.functions.len() >= MAX_DEPTH * 4 {
        bail!(Unsupported, "functions nested deeper than {}", MAX_DEPTH * 4);
    }
    if inputs.len() > function.inputs.len() || node.outputs.len() > function.outputs.len() {
        bail!(
            InvalidModel,
            "node {} gives {} inputs and takes {} outputs, but function '{}' has {} and {}",
            node.label(),
            inputs.len(),
            node.outputs.len(),
            function.name,
            function.inputs.len(),
            function.outputs.len()
        );
    }
    let attributes = attributes(node, function);
    let level = b.top();
    let mut inner = HashMap::default();
    for (i, name) in function.inputs.iter().enumerate() {
        inner.insert(name.clone(), inputs.get(i).copied().unwrap_or(Binding::Absent));
    }
    let outer_names = std::mem::replace(&mut level.names, inner);
    let outer_declared = std::mem::take(&mut level.declared);
    let outer_sees = std::mem::replace(&mut level.sees_outer, false);
    b.functions.push(id);
    let built = function
        .nodes
        .iter()
        .try_for_each(|n| b.node(&substitute(n, &attributes)?, &function.opset_imports))
        .map_err(at);
    b.functions.pop();
    let level = b.top();
    let inner = std::mem::replace(&mut level.names, outer_names);
    level.declared = outer_declared;
    level.sees_outer = outer_sees;
    built?;
    for (formal, actual) in function.outputs.iter().zip(&node.outputs) {
        if actual.is_empty() {
            continue;
        }
        let binding = inner
            .get(formal)
            .copied()
            .ok_or_else(|| at(err!(InvalidModel, "its output '{formal}' is not defined by any node")))?;
        b.top().define(actual, binding)?;
    }
    Ok(())
}

fn attributes(node: &Node, function: &Function) -> Attributes {
    let mut values: Attributes =
        function.attribute_defaults.iter().map(|a| (a.name.clone(), a.value.clone())).collect();
    values.extend(node.attributes.iter().map(|a| (a.name.clone(), a.value.clone())));
    values
}

/// The node with references to the function's attributes replaced by their values; a reference to an attribute that
/// the call does not give leaves the operator's default.
pub(super) fn substitute(node: &Node, values: &Attributes) -> Result<Node> {
    substitute_at(node, values, 0)
}

fn substitute_at(node: &Node, values: &Attributes, depth: usize) -> Result<Node> {
    if depth > MAX_DEPTH {
        bail!(Unsupported, "graphs nested deeper than {MAX_DEPTH}");
    }
    let mut attributes = Vec::with_capacity(node.attributes.len());
    for a in &node.attributes {
        let value = match &a.value {
            AttributeValue::Reference { attribute, .. } => match values.get(attribute) {
                Some(v) => v.clone(),
                None => continue,
            },
            AttributeValue::Graph(g) => AttributeValue::Graph(Box::new(substitute_graph(g, values, depth)?)),
            AttributeValue::Graphs(gs) => {
                AttributeValue::Graphs(gs.iter().map(|g| substitute_graph(g, values, depth)).collect::<Result<_>>()?)
            }
            other => other.clone(),
        };
        attributes.push(Attribute { name: a.name.clone(), value, doc_string: None });
    }
    Ok(Node { attributes, ..node.clone() })
}

fn substitute_graph(graph: &Graph, values: &Attributes, depth: usize) -> Result<Graph> {
    let nodes = graph.nodes.iter().map(|n| substitute_at(n, values, depth + 1)).collect::<Result<_>>()?;
    Ok(Graph { nodes, ..graph.clone() })
}
