//! What the checker asks of a node besides the types of its inputs.

use super::same_type;
use crate::model::schema::{Param, ParamOption, Schema};
use crate::model::{Node, TypeKind, ValueType};
use crate::{Result, bail};

/// Enough inputs, not too many outputs, outputs of types that the operator gives, and sequences of one element type.
pub(super) fn check(
    node: &Node,
    schema: &Schema,
    inputs: &[Option<ValueType>],
    outputs: &[Option<ValueType>],
) -> Result<()> {
    // An input that is left out by an empty name counts: runtimes take it where an old schema does not allow it.
    let least = least(&schema.inputs);
    if node.inputs.len() < least {
        let missing = schema.input(node.inputs.len()).map_or("", |p| p.name);
        bail!(
            InvalidModel,
            "node {} has {} inputs; the operator (since version {}) needs at least {least}: '{missing}' is missing",
            node.label(),
            node.inputs.len(),
            schema.since_version
        );
    }
    // The first one is what every operator works on: no runtime takes a node without it.
    if let (Some(first), Some(param)) = (node.inputs.first(), schema.input(0))
        && first.is_empty()
        && least > 0
        && matches!(param.option, ParamOption::Single)
    {
        bail!(
            InvalidModel,
            "node {} has an empty name for its input 0 '{}', which the operator (since version {}) needs",
            node.label(),
            param.name,
            schema.since_version
        );
    }
    for (i, name) in node.outputs.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let Some(param) = schema.output(i) else {
            bail!(
                InvalidModel,
                "node {} has the output {i} '{name}'; the operator (since version {}) gives {}",
                node.label(),
                schema.since_version,
                schema.outputs.len()
            );
        };
        if let Some(Some(ty)) = outputs.get(i)
            && !schema.allowed(param).has(ty)
        {
            bail!(
                InvalidModel,
                "node {}: output {i} '{}' ('{name}') would be {ty}, but the operator (since version {}) gives {}",
                node.label(),
                param.name,
                schema.since_version,
                schema.allowed(param).tensor_names()
            );
        }
    }
    if node.is("SequenceInsert")
        && let [Some(sequence), Some(tensor), ..] = inputs
        && let TypeKind::Sequence(element) = &sequence.kind
        && !same_type(element, tensor)
    {
        bail!(
            InvalidModel,
            "node {}: input 1 'tensor' ('{}') is {tensor}, but input 0 'input_sequence' ('{}') is {sequence}: the element \
             types must be the same",
            node.label(),
            node.inputs[1],
            node.inputs[0]
        );
    }
    Ok(())
}

/// The least number of inputs: up to the last that must be there.
fn least(params: &[Param]) -> usize {
    let needed = |(i, p): (usize, &Param)| match p.option {
        ParamOption::Single => i + 1,
        ParamOption::Optional => 0,
        ParamOption::Variadic { min: 0, .. } => 0,
        ParamOption::Variadic { min, .. } => i + min,
    };
    params.iter().enumerate().map(needed).max().unwrap_or(0)
}
