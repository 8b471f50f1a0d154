//! Attributes that say the type of what an operator makes.

use super::constants;
use super::decide::attribute_constant;
use super::facts::NodeId;
use super::types::{Chosen, Types, Wide};
use super::{ConstantPolicy, ConvertOptions};
use crate::Result;
use crate::model::{Attribute, AttributeValue, DataType, Initializer, Node, OutOfRange, Tensor};

/// Operators whose output has the type of their input, where no `dtype` says otherwise.
const LIKE: [&str; 4] = ["EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli"];

/// Sets them for a node that computes in half.
pub(super) fn attributes(chosen: &Chosen, types: &Types, id: NodeId, node: &mut Node) -> Result<()> {
    let facts = chosen.facts;
    let made = facts.nodes[id].outputs.iter().flatten().find_map(|v| types.values[*v].as_ref()).map(|a| a.native);
    let Some(made) = made else { return Ok(()) };
    let float = i64::from(DataType::Float32.to_onnx());
    let op = facts.op(id);
    if made == Wide::Float {
        // The input may be half now, but what is made of it stays FP32.
        if LIKE.contains(&op) && facts.int(id, "dtype").is_none() {
            set_attribute(node, "dtype", AttributeValue::Int(float));
        }
        return Ok(());
    }
    let target = i64::from(chosen.options.precision.to_onnx());
    match op {
        "ConstantOfShape" => {
            let wide = attribute_constant(facts, id)
                .unwrap_or_else(|| Tensor::from_vec(DataType::Float32, vec![1], vec![0f32]));
            let tensor = limited_fill(&wide, chosen.options)?;
            node.attributes = vec![tensor_attribute(&node.attributes, tensor)];
        }
        "RandomNormal" | "RandomUniform" | "SequenceEmpty" => {
            set_attribute(node, "dtype", AttributeValue::Int(target));
        }
        "HannWindow" | "HammingWindow" | "BlackmanWindow" | "MelWeightMatrix" => {
            set_attribute(node, "output_datatype", AttributeValue::Int(target));
        }
        "Optional" => {
            if let Some(AttributeValue::Type(ty)) = facts.attribute(id, "type") {
                let ty = super::decide::in_half(ty, chosen.options.precision);
                set_attribute(node, "type", AttributeValue::Type(ty));
            }
        }
        _ => {
            for name in ["dtype", "output_dtype"] {
                if facts.int(id, name) == Some(float) {
                    set_attribute(node, name, AttributeValue::Int(target));
                }
            }
        }
    }
    Ok(())
}

fn limited_fill(wide: &Tensor, options: &ConvertOptions) -> Result<Tensor> {
    let clamped = match options.constants {
        ConstantPolicy::Clamp => constants::limited(wide, super::types::MASK)?,
        _ => wide.clone(),
    };
    clamped.converted(options.precision, OutOfRange::Infinity)
}

/// Sets or adds an attribute.
pub(super) fn set_attribute(node: &mut Node, name: &str, value: AttributeValue) {
    match node.attributes.iter_mut().find(|a| &*a.name == name) {
        Some(a) => a.value = value,
        None => node.attributes.push(Attribute { name: name.into(), value, doc_string: None }),
    }
}

/// The attribute `value` with a new tensor; a tensor's own name is kept.
pub(super) fn tensor_attribute(old: &[Attribute], tensor: Tensor) -> Attribute {
    let named = match old.first().map(|a| &a.value) {
        Some(AttributeValue::Tensor(t)) => Initializer { tensor, ..t.clone() },
        _ => Initializer { name: "".into(), tensor, doc_string: None, metadata: Vec::new() },
    };
    Attribute { name: "value".into(), value: AttributeValue::Tensor(named), doc_string: None }
}
