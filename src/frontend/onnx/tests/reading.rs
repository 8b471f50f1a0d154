//! What is refused, by name, and what old or sloppy writers are granted.

use super::*;
use crate::ErrorCode::{InvalidFile, InvalidModel, Unsupported};
use crate::model::{AttributeValue, DimValue};

#[test]
fn versions() {
    load(&small()).unwrap();
    let with = |ir: Option<i64>, opsets: &[i64]| ModelProto {
        ir_version: ir,
        opset_import: opsets.iter().map(|&v| opset("", v)).collect(),
        ..small()
    };
    load(&with(Some(3), &[7])).unwrap();
    load(&with(Some(14), &[28])).unwrap();
    load(&with(Some(8), &[17, 17])).unwrap();
    refused(&with(Some(15), &[28]), Unsupported, &["IR version 15", "14"]);
    refused(&with(None, &[17]), InvalidFile, &["no IR version"]);
    refused(&with(Some(8), &[29]), Unsupported, &["29", "28", "ai.onnx"]);
    refused(&with(Some(8), &[6]), Unsupported, &["opset 6", "version_converter"]);
    refused(&with(Some(8), &[13, 17]), InvalidModel, &["13 and 17"]);
    refused(&with(Some(8), &[]), InvalidModel, &["no operator set"]);
    refused(&with(Some(2), &[]), Unsupported, &["opset 1"]);
    let mut p = small();
    p.opset_import = vec![opset("ai.onnx", 17), opset("com.acme", 900)];
    load(&p).unwrap();
    p.opset_import.push(opset("ai.onnx.ml", 6));
    refused(&p, Unsupported, &["ai.onnx.ml", "6"]);
}

#[test]
fn what_has_no_place_is_refused() {
    let training = ModelProto { training_info: vec![TrainingInfoProto::default()], ..small() };
    refused(&training, Unsupported, &["training_info", "inference"]);
    let opaque = TypeProtoOpaque { domain: text("d"), name: text("Thing") };
    let ty = TypeProto { value: Some(TypeProtoValue::OpaqueType(Box::new(opaque))), denotation: None };
    let p = with_graph(|g| g.input[0].r#type = Some(Box::new(ty)));
    refused(&p, Unsupported, &["input 'x'", "opaque", "'Thing'"]);
    refused(&ModelProto { graph: None, ..small() }, InvalidFile, &["no graph"]);
    let p = with_graph(|g| g.input[0].r#type = tensor_type(77));
    refused(&p, Unsupported, &["input 'x'", "77"]);
}

#[test]
fn attributes_of_old_and_sloppy_writers() {
    let load_one = |a: AttributeProto| {
        let p = with_graph(|g| g.node[0].attribute = vec![AttributeProto { name: text("k"), ..a }]);
        load(&p).map(|m| m.graph.nodes[0].attributes[0].value.clone())
    };
    let plain = AttributeProto::default;
    // No type: it follows from the value.
    assert!(matches!(load_one(AttributeProto { i: Some(4), ..plain() }), Ok(AttributeValue::Int(4))));
    // proto3 writers leave out zeros and empty strings.
    let typed = |kind| AttributeProto { r#type: Some(kind), ..plain() };
    assert!(matches!(load_one(typed(1)), Ok(AttributeValue::Float(0.0))));
    assert!(matches!(load_one(typed(2)), Ok(AttributeValue::Int(0))));
    assert!(matches!(load_one(typed(3)), Ok(AttributeValue::String(s)) if s.is_empty()));
    assert!(matches!(load_one(typed(7)), Ok(AttributeValue::Ints(v)) if v.is_empty()));
    for (a, words) in [
        (typed(4), ["TENSOR", "no value"]),
        (typed(5), ["GRAPH", "no value"]),
        (plain(), ["neither a type nor a value", "'k'"]),
        (AttributeProto { f: Some(1.0), ..typed(2) }, ["INT", "FLOAT"]),
        (AttributeProto { f: Some(1.0), i: Some(1), ..typed(2) }, ["two types", "(Relu)"]),
        (AttributeProto { i: Some(1), ref_attr_name: text("r"), ..plain() }, ["refers", "'r'"]),
    ] {
        let e = load_one(a).unwrap_err();
        assert_eq!(e.code(), InvalidModel);
        words.iter().for_each(|w| assert!(e.message().contains(w), "'{w}' is missing in: {e}"));
    }
    assert_eq!(load_one(typed(50)).unwrap_err().code(), Unsupported);
}

#[test]
fn open_types_and_sizes() {
    let dim = |value| TensorShapeProtoDimension { value, denotation: None };
    let shape = TensorShapeProto {
        dim: vec![
            dim(Some(TensorShapeProtoDimensionValue::DimValue(-1))),
            dim(Some(TensorShapeProtoDimensionValue::DimParam(String::new()))),
            dim(Some(TensorShapeProtoDimensionValue::DimValue(0))),
        ],
    };
    let tensor = TypeProtoTensor { elem_type: Some(1), shape: Some(Box::new(shape)) };
    let ty = TypeProto { value: Some(TypeProtoValue::TensorType(Box::new(tensor))), denotation: None };
    let p = with_graph(|g| {
        g.input[0].r#type = Some(Box::new(ty));
        g.value_info = vec![value("a"), value("b")];
        g.value_info[0].r#type = tensor_type(0);
        g.value_info[1].r#type = Some(Box::default());
    });
    let m = load(&p).unwrap();
    let shape = m.graph.inputs[0].ty.as_ref().unwrap().tensor_shape().unwrap().clone();
    let sizes: Vec<DimValue> = shape.into_iter().map(|d| d.value).collect();
    assert_eq!(sizes, [DimValue::Unknown, DimValue::Unknown, DimValue::Known(0)]);
    assert!(m.graph.value_info.iter().all(|v| v.ty.is_none()));
}

#[test]
fn initializers_among_the_inputs_are_no_inputs() {
    let w = TensorProto {
        name: text("w"),
        data_type: Some(1),
        dims: vec![1],
        float_data: vec![2.0],
        ..TensorProto::default()
    };
    let mut p = with_graph(|g| {
        g.input.push(value("w"));
        g.initializer = vec![w];
    });
    p.ir_version = Some(3);
    let m = load(&p).unwrap();
    assert_eq!(m.graph.inputs.len(), 2);
    let real: Vec<&str> = m.graph.real_inputs().map(|v| &*v.name).collect();
    assert_eq!(real, ["x"]);
}

#[test]
fn unsorted_nodes_are_sorted() {
    let p = with_graph(|g| g.node = vec![node("Neg", &["a"], &["y"]), node("Abs", &["x"], &["a"])]);
    let m = load(&p).unwrap();
    assert_eq!(&*m.graph.nodes[0].op_type, "Abs");
}
