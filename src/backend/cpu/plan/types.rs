//! Element types of values, as far as a node's operator and inputs tell them; used to describe plans and to choose
//! forms of packed weights, never to decide results.

use crate::model::{AttributeValue, DataType, Node};
use DataType::{Bool, Float32, Int32, Int64, String, Uint8};

/// The element types of a node's outputs.
pub fn outputs(node: &Node, inputs: &[Option<DataType>]) -> Vec<Option<DataType>> {
    let first = inputs.first().copied().flatten();
    let attribute = |name: &str| node.int(name).and_then(|v| DataType::from_onnx(i32::try_from(v).ok()?));
    let all = |t: Option<DataType>| vec![t; node.outputs.len()];
    if !node.domain().is_empty() {
        return all(None);
    }
    match &*node.op_type {
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" | "Xor" | "Not" | "IsNaN"
        | "IsInf" | "OptionalHasElement" | "RegexFullMatch" => all(Some(Bool)),
        "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" | "SequenceLength" | "NonMaxSuppression" => all(Some(Int64)),
        "TopK" => vec![first, Some(Int64)],
        "Unique" => vec![first, Some(Int64), Some(Int64), Some(Int64)],
        "MaxPool" => vec![first, Some(Int64)],
        "Dropout" => vec![first, Some(Bool)],
        "Cast" | "BitCast" => all(attribute("to")),
        "CastLike" => all(inputs.get(1).copied().flatten()),
        "RandomNormal" | "RandomUniform" | "HannWindow" | "HammingWindow" | "BlackmanWindow" => {
            all(attribute(if node.op_type.ends_with("Window") { "output_datatype" } else { "dtype" }).or(Some(Float32)))
        }
        "EyeLike" | "RandomNormalLike" | "RandomUniformLike" | "Bernoulli" => all(attribute("dtype").or(first)),
        "ConstantOfShape" | "Constant" => all(constant_type(node)),
        "MatMulInteger" | "ConvInteger" => all(Some(Int32)),
        "QuantizeLinear" => all(inputs.get(2).copied().flatten().or(attribute("output_dtype")).or(Some(Uint8))),
        "DequantizeLinear" => all(attribute("output_dtype").or(inputs.get(1).copied().flatten())),
        "DynamicQuantizeLinear" => vec![Some(Uint8), Some(Float32), Some(Uint8)],
        "QLinearConv" | "QLinearMatMul" => all(inputs.get(7).copied().flatten()),
        "Where" | "OneHot" => all(inputs.get(if node.is("Where") { 1 } else { 2 }).copied().flatten()),
        "Multinomial" => all(attribute("dtype").or(Some(Int32))),
        "StringConcat" | "StringNormalizer" | "ImageDecoder" => {
            all(if node.is("ImageDecoder") { Some(Uint8) } else { Some(String) })
        }
        "If" | "Loop" | "Scan" | "SequenceAt" | "OptionalGetElement" => all(None),
        _ => all(first),
    }
}

fn constant_type(node: &Node) -> Option<DataType> {
    Some(match &node.attributes.first()?.value {
        AttributeValue::Tensor(t) => t.tensor.dtype(),
        AttributeValue::Float(_) | AttributeValue::Floats(_) => Float32,
        AttributeValue::Int(_) | AttributeValue::Ints(_) => Int64,
        AttributeValue::String(_) | AttributeValue::Strings(_) => String,
        _ => return None,
    })
    .or(Some(Float32))
}
