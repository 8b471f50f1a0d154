//! Types for networks that are not strongly typed (TensorRT 8.5 and 8.6): every layer computes in the type that the
//! converted model gives its values, and TensorRT is held to it.
//!
//! The parser names tensors after the model's values. Tensors of layers that it inserts itself have names of their own; they
//! get the type of what they lead to, else of what they come from.

use crate::hash::HashMap;
use crate::model::infer::{self, Typing};
use crate::model::{DataType, Graph, Model};
use crate::sys::tensorrt::{Config, Network, TypedLayer};
use crate::{Result, bail};

/// Kinds of layers whose output type says all: a precision beside it would be a second constraint on a mere change of type,
/// or on data.
const NO_PRECISION: &[&str] = &["IDENTITY", "CAST", "CONSTANT", "QUANTIZE", "DEQUANTIZE"];
/// Kinds that take no types: the ends of loops and branches pass on what comes, and fills are made in FP32 or INT32 only.
const NO_TYPES: &[&str] = &[
    "TRIP_LIMIT",
    "RECURRENCE",
    "ITERATOR",
    "LOOP_OUTPUT",
    "CONDITION",
    "CONDITIONAL_INPUT",
    "CONDITIONAL_OUTPUT",
    "ASSERTION",
    "SHAPE",
    "FILL",
];

/// What is asked of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    layer: usize,
    precision: Option<&'static str>,
    /// Outputs with their types.
    outputs: Vec<(usize, &'static str)>,
}

/// Gives every layer the types of the model. A model without half tensors is left to TensorRT's defaults, which are FP32.
pub fn apply(model: &Model, network: &Network, config: &mut Config) -> Result<()> {
    let types = value_types(model)?;
    set_boundary(model, network)?;
    if !types.values().any(|t| *t == "HALF") {
        return Ok(());
    }
    for wish in wishes(&network.typed_layers()?, &types) {
        if let Some(precision) = wish.precision {
            network.set_precision(wish.layer, precision)?;
        }
        for (output, dtype) in wish.outputs {
            network.set_output_type(wish.layer, output, dtype)?;
        }
    }
    config.set_flag("FP16", true)?;
    config.set_flag("OBEY_PRECISION_CONSTRAINTS", true)
}

/// Gives the network's float inputs and outputs the model's types: without that, outputs are FP32.
fn set_boundary(model: &Model, network: &Network) -> Result<()> {
    let graph = &model.graph;
    let declared = |name: &str| {
        let mut all = graph.inputs.iter().chain(&graph.outputs);
        all.find(|v| *v.name == *name).and_then(|v| v.ty.as_ref()?.tensor_dtype()).and_then(float_name)
    };
    for (i, tensor) in network.inputs()?.iter().enumerate() {
        if let Some(dtype) = declared(&tensor.name).filter(|d| is_float(&tensor.dtype) && *d != tensor.dtype) {
            network.set_input_type(i, dtype)?;
        }
    }
    for (i, tensor) in network.outputs()?.iter().enumerate() {
        if let Some(dtype) = declared(&tensor.name).filter(|d| is_float(&tensor.dtype) && *d != tensor.dtype) {
            network.set_boundary_output_type(i, dtype)?;
        }
    }
    Ok(())
}

/// TensorRT's names of the float types of the model's values, of all scopes. Where scopes use a name with different types,
/// the name is left out.
pub(super) fn value_types(model: &Model) -> Result<HashMap<String, &'static str>> {
    let mut all = HashMap::default();
    collect(&infer::infer_known(model)?, &mut all);
    if let Some((name, _)) = all.iter().find(|(_, t)| **t == Some(DataType::Bfloat16)) {
        bail!(
            Unsupported,
            "value '{name}' is BF16, which TensorRT knows from version 10 on: convert to FP16, or use a newer TensorRT"
        );
    }
    add_constants(&model.graph, &mut all);
    let float = |(name, dtype): (String, Option<DataType>)| Some((name, float_name(dtype?)?));
    Ok(all.into_iter().filter_map(float).collect())
}

fn collect(typing: &Typing, all: &mut HashMap<String, Option<DataType>>) {
    for (name, ty) in &typing.values {
        add(name, ty.tensor_dtype(), all);
    }
    typing.subgraphs.values().for_each(|t| collect(t, all));
    typing.calls.values().for_each(|t| collect(t, all));
}

fn add_constants(graph: &Graph, all: &mut HashMap<String, Option<DataType>>) {
    graph.initializers.iter().for_each(|i| add(&i.name, Some(i.tensor.dtype()), all));
    graph.nodes.iter().flat_map(|n| n.subgraphs()).for_each(|(_, g)| add_constants(g, all));
}

fn add(name: &str, dtype: Option<DataType>, all: &mut HashMap<String, Option<DataType>>) {
    match all.get_mut(name) {
        Some(known) if *known != dtype => *known = None,
        Some(_) => {}
        None => {
            all.insert(name.to_string(), dtype);
        }
    }
}

fn float_name(dtype: DataType) -> Option<&'static str> {
    match dtype {
        DataType::Float32 | DataType::Float64 => Some("FLOAT"),
        DataType::Float16 => Some("HALF"),
        _ => None,
    }
}

fn is_float(name: &str) -> bool {
    matches!(name, "FLOAT" | "HALF")
}

/// What to ask of each layer.
fn wishes(layers: &[TypedLayer], types: &HashMap<String, &'static str>) -> Vec<Wish> {
    let known = tensor_types(layers, types);
    let mut wishes = Vec::new();
    for (place, layer) in layers.iter().enumerate() {
        // Shapes are computed on the host, in types of TensorRT's own.
        let on_host = layer.outputs.iter().any(|o| o.is_shape);
        if on_host || NO_TYPES.contains(&&*layer.kind) {
            continue;
        }
        let outputs: Vec<_> = (layer.outputs.iter().enumerate())
            .filter(|(_, edge)| is_float(&edge.dtype))
            .filter_map(|(i, edge)| Some((i, *known.get(&edge.id)?)))
            .collect();
        let Some((_, first)) = outputs.first() else { continue };
        let precision = (!NO_PRECISION.contains(&&*layer.kind)).then_some(*first);
        wishes.push(Wish { layer: place, precision, outputs });
    }
    wishes
}

/// The float type of every tensor, by its number.
fn tensor_types(layers: &[TypedLayer], types: &HashMap<String, &'static str>) -> HashMap<usize, &'static str> {
    let mut known: HashMap<usize, &'static str> = HashMap::default();
    for edge in layers.iter().flat_map(|l| l.inputs.iter().chain(&l.outputs)) {
        if let Some(dtype) = types.get(&edge.name) {
            known.insert(edge.id, dtype);
        }
    }
    // What a tensor leads to: layers stand in the order of their making, so one backward pass reaches far, and a few more
    // reach through what was inserted out of order.
    for _ in 0..4 {
        let before = known.len();
        for layer in layers.iter().rev() {
            let Some(dtype) = layer.outputs.iter().find_map(|o| known.get(&o.id).copied()) else { continue };
            // A change of type says nothing about what comes in.
            if layer.kind == "CAST" || (layer.kind == "IDENTITY" && types.contains_key(&layer.outputs[0].name)) {
                continue;
            }
            for input in layer.inputs.iter().filter(|i| is_float(&i.dtype)) {
                known.entry(input.id).or_insert(dtype);
            }
        }
        if known.len() == before {
            break;
        }
    }
    // What it comes from.
    for layer in layers {
        let Some(dtype) = layer.inputs.iter().find_map(|i| known.get(&i.id).copied()) else { continue };
        for output in layer.outputs.iter().filter(|o| is_float(&o.dtype)) {
            known.entry(output.id).or_insert(dtype);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::tensorrt::Edge;

    fn edge(id: usize, name: &str, dtype: &str) -> Edge {
        Edge { id, name: name.into(), dtype: dtype.into(), is_shape: false }
    }

    fn layer(kind: &str, inputs: Vec<Edge>, outputs: Vec<Edge>) -> TypedLayer {
        TypedLayer { name: kind.to_lowercase(), kind: kind.into(), inputs, outputs }
    }

    /// x (half) is convolved, shuffled by the parser, cast to float, and normalised in float with an unnamed constant.
    #[test]
    fn layers_get_the_types_of_the_values_they_lead_to() {
        let layers = [
            layer("CONVOLUTION", vec![edge(1, "x", "HALF")], vec![edge(2, "(Unnamed Layer* 0)", "FLOAT")]),
            layer("SHUFFLE", vec![edge(2, "(Unnamed Layer* 0)", "FLOAT")], vec![edge(3, "y", "FLOAT")]),
            layer("SHAPE", vec![edge(3, "y", "FLOAT")], vec![edge(9, "shape", "INT32")]),
            layer("IDENTITY", vec![edge(3, "y", "FLOAT")], vec![edge(4, "wide", "FLOAT")]),
            layer("CONSTANT", vec![], vec![edge(5, "(Unnamed Layer* 3)", "HALF")]),
            layer(
                "ELEMENTWISE",
                vec![edge(4, "wide", "FLOAT"), edge(5, "(Unnamed Layer* 3)", "HALF")],
                vec![edge(6, "z", "FLOAT")],
            ),
            layer("TOPK", vec![edge(6, "z", "FLOAT")], vec![edge(7, "v", "FLOAT"), edge(8, "i", "INT32")]),
            layer("ACTIVATION", vec![edge(3, "y", "FLOAT")], vec![edge(10, "(Unnamed Layer* 6)", "FLOAT")]),
        ];
        let types = [("x", "HALF"), ("y", "HALF"), ("wide", "FLOAT"), ("z", "FLOAT"), ("v", "FLOAT")];
        let types = types.map(|(n, t)| (n.to_string(), t)).into_iter().collect();
        let wish =
            |layer, precision, outputs: &[(usize, &'static str)]| Wish { layer, precision, outputs: outputs.into() };
        assert_eq!(
            wishes(&layers, &types),
            [
                wish(0, Some("HALF"), &[(0, "HALF")]),
                wish(1, Some("HALF"), &[(0, "HALF")]),
                wish(3, None, &[(0, "FLOAT")]),
                wish(4, None, &[(0, "FLOAT")]),
                wish(5, Some("FLOAT"), &[(0, "FLOAT")]),
                wish(6, Some("FLOAT"), &[(0, "FLOAT")]),
                wish(7, Some("HALF"), &[(0, "HALF")]),
            ]
        );
    }

    #[test]
    fn layers_whose_outputs_are_shapes_are_left_alone() {
        let shape = Edge { is_shape: true, ..edge(2, "scale", "FLOAT") };
        let layers = [layer("ELEMENTWISE", vec![edge(1, "x", "FLOAT")], vec![shape])];
        let types = [("scale".to_string(), "HALF")].into_iter().collect();
        assert_eq!(wishes(&layers, &types), []);
    }
}
