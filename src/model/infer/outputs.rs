//! Output types of ordinary operators: by type variable, by a fixed type, or by an attribute.

use super::walk::{Scope, strip_shape};
use crate::Result;
use crate::model::schema::{ParamType, Schema};
use crate::model::{AttributeValue, DataType, Node, TypeKind, ValueType};

type Ty = Option<ValueType>;

/// The types of all outputs; `None` where the schema leaves one open.
pub(super) fn types(node: &Node, schema: &Schema, scope: &Scope, inputs: &[Ty], bound: &[Ty]) -> Result<Vec<Ty>> {
    let mut types = Vec::with_capacity(node.outputs.len());
    for i in 0..node.outputs.len() {
        let ty = match special(node, scope, inputs, i)? {
            Some(ty) => Some(ty),
            None => schema.output(i).and_then(|param| match param.ty {
                ParamType::Var(v) => bound[v].as_ref().map(strip_shape).or_else(|| schema.type_vars[v].allowed.only()),
                ParamType::Fixed(set) => set.only(),
            }),
        };
        types.push(ty);
    }
    Ok(types)
}

fn tensor(dtype: DataType) -> Ty {
    Some(ValueType::tensor(dtype, None))
}

fn sequence(element: Ty) -> Ty {
    element.map(|e| ValueType::new(TypeKind::Sequence(Box::new(e))))
}

/// Operators whose schema alone does not say the type of output `i`.
fn special(node: &Node, scope: &Scope, inputs: &[Ty], i: usize) -> Result<Ty> {
    let dtype = |name: &str| scope.dtype_attribute(node, name);
    let input = |k: usize| inputs.get(k).cloned().flatten().map(|t| strip_shape(&t));
    if node.domain() == "ai.onnx.ml" {
        return Ok(machine_learning(node, scope, inputs, i));
    }
    if node.domain() == "ai.onnx.preview.training" {
        return Ok(training(node, inputs, i));
    }
    if !node.domain().is_empty() {
        return Ok(None);
    }
    let or = |found: Option<DataType>, otherwise: Ty| found.and_then(tensor).or(otherwise);
    Ok(match &*node.op_type {
        "Cast" | "BitCast" => dtype("to")?.and_then(tensor),
        "Constant" => constant(node, scope),
        "ConstantOfShape" => match scope.attribute(node, "value") {
            Some(AttributeValue::Tensor(t)) => tensor(t.tensor.dtype()),
            _ => tensor(DataType::Float32),
        },
        "RandomNormal" | "RandomUniform" => or(dtype("dtype")?, tensor(DataType::Float32)),
        "EyeLike" | "RandomNormalLike" | "RandomUniformLike" | "Bernoulli" => or(dtype("dtype")?, input(0)),
        "Multinomial" => or(dtype("dtype")?, tensor(DataType::Int32)),
        "HannWindow" | "HammingWindow" | "BlackmanWindow" | "MelWeightMatrix" => {
            or(dtype("output_datatype")?, tensor(DataType::Float32))
        }
        "QuantizeLinear" => input(2).or(or(dtype("output_dtype")?, tensor(DataType::Uint8))),
        "DequantizeLinear" => or(dtype("output_dtype")?, input(1)),
        // Without a state to go on from, the new one has the type of the query.
        "LinearAttention" if i == 1 => input(3).or(input(0)),
        "LayerNormalization" if i > 0 => or(dtype("stash_type")?, tensor(DataType::Float32)),
        "SequenceEmpty" => sequence(or(dtype("dtype")?, tensor(DataType::Float32))),
        "SequenceConstruct" | "SplitToSequence" => sequence(input(0)),
        "SequenceAt" | "ConcatFromSequence" => match input(0).map(|t| t.kind) {
            Some(TypeKind::Sequence(e)) => Some(*e),
            _ => None,
        },
        "Optional" => match (scope.attribute(node, "type"), input(0)) {
            (_, Some(t)) => Some(ValueType::new(TypeKind::Optional(Box::new(t)))),
            (Some(AttributeValue::Type(t)), None) => Some(ValueType::new(TypeKind::Optional(Box::new(strip_shape(t))))),
            _ => None,
        },
        "OptionalGetElement" => match input(0).map(|t| (t.clone(), t.kind)) {
            Some((_, TypeKind::Optional(e))) => Some(*e),
            Some((t, _)) => Some(t),
            None => None,
        },
        _ => None,
    })
}

fn constant(node: &Node, scope: &Scope) -> Ty {
    let first = node.attributes.first()?;
    match scope.attribute(node, &first.name)? {
        AttributeValue::Tensor(t) => tensor(t.tensor.dtype()),
        AttributeValue::SparseTensor(s) => tensor(s.values.tensor.dtype()),
        AttributeValue::Int(_) | AttributeValue::Ints(_) => tensor(DataType::Int64),
        AttributeValue::Float(_) | AttributeValue::Floats(_) => tensor(DataType::Float32),
        AttributeValue::String(_) | AttributeValue::Strings(_) => tensor(DataType::String),
        _ => None,
    }
}

/// Optimizers take R, T, then groups of as many tensors each: X, the gradients, and the states. They give the new X and
/// the new states, so only the gradients are left out.
fn training(node: &Node, inputs: &[Ty], i: usize) -> Ty {
    let groups = match &*node.op_type {
        "Momentum" | "Adagrad" => 3,
        "Adam" => 4,
        _ => return None,
    };
    let size = inputs.len().checked_sub(2)? / groups;
    let from = if i < size { 2 + i } else { 2 + size.checked_add(i)? };
    inputs.get(from)?.as_ref().map(strip_shape)
}

/// The domain ai.onnx.ml types results by which attribute is filled.
fn machine_learning(node: &Node, scope: &Scope, inputs: &[Ty], i: usize) -> Ty {
    let filled = |name: &str| match scope.attribute(node, name) {
        Some(AttributeValue::Strings(v)) => !v.is_empty(),
        Some(AttributeValue::Ints(v)) => !v.is_empty(),
        Some(AttributeValue::Floats(v)) => !v.is_empty(),
        other => other.is_some(),
    };
    match &*node.op_type {
        "LabelEncoder" => {
            if let Some(AttributeValue::Tensor(t)) = scope.attribute(node, "values_tensor") {
                return tensor(t.tensor.dtype());
            }
            // Version 1 maps strings and integers to each other.
            if filled("classes_strings") {
                let from = inputs.first()?.as_ref()?.tensor_dtype()?;
                return tensor(if from == DataType::String { DataType::Int64 } else { DataType::String });
            }
            let kinds = [
                ("values_strings", DataType::String),
                ("values_int64s", DataType::Int64),
                ("values_floats", DataType::Float32),
            ];
            kinds.iter().find(|(name, _)| filled(name)).and_then(|(_, d)| tensor(*d))
        }
        "CategoryMapper" => {
            let from = inputs.first()?.as_ref()?.tensor_dtype()?;
            tensor(if from == DataType::String { DataType::Int64 } else { DataType::String })
        }
        "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier" if i == 0 => {
            let strings = filled("classlabels_strings");
            tensor(if strings { DataType::String } else { DataType::Int64 })
        }
        "ZipMap" => {
            let key = if filled("classlabels_strings") { DataType::String } else { DataType::Int64 };
            let map = TypeKind::Map(key, Box::new(ValueType::tensor(DataType::Float32, None)));
            sequence(Some(ValueType::new(map)))
        }
        "DictVectorizer" => match inputs.first()?.as_ref().map(|t| &t.kind) {
            Some(TypeKind::Map(_, value)) => value.tensor_dtype().and_then(tensor),
            _ => None,
        },
        "CastMap" => match scope.attribute(node, "cast_to") {
            Some(AttributeValue::String(s)) if &**s == b"TO_STRING" => tensor(DataType::String),
            Some(AttributeValue::String(s)) if &**s == b"TO_INT64" => tensor(DataType::Int64),
            _ => tensor(DataType::Float32),
        },
        _ => None,
    }
}
