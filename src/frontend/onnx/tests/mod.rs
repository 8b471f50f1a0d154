//! Tests that need the messages themselves; those of the public functions are tests/onnx_*.rs.

mod fields_kept;
mod hostile;
mod reading;
mod tensors;

use super::proto::*;
use super::{External, LoadOptions, load_bytes};
use crate::Result;
use crate::model::Model;
use prost::Message;

pub fn load(p: &ModelProto) -> Result<Model> {
    load_bytes(p.encode_to_vec().into(), External::None, &LoadOptions::default())
}

pub fn text(s: &str) -> Option<String> {
    Some(s.to_owned())
}

pub fn tensor_type(dtype: i32) -> Option<Box<TypeProto>> {
    let tensor = TypeProtoTensor { elem_type: Some(dtype), shape: None };
    Some(Box::new(TypeProto { denotation: None, value: Some(TypeProtoValue::TensorType(Box::new(tensor))) }))
}

pub fn value(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: text(name), r#type: tensor_type(1), ..ValueInfoProto::default() }
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let names = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
    NodeProto { op_type: text(op), input: names(inputs), output: names(outputs), ..NodeProto::default() }
}

pub fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: text(domain), version: Some(version) }
}

/// x -> Relu -> y
pub fn small() -> ModelProto {
    let graph = GraphProto {
        name: text("small"),
        node: vec![node("Relu", &["x"], &["y"])],
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset("", 17)],
        graph: Some(Box::new(graph)),
        ..ModelProto::default()
    }
}

/// [`small`] with its graph changed.
pub fn with_graph(change: impl FnOnce(&mut GraphProto)) -> ModelProto {
    let mut p = small();
    change(p.graph.as_mut().unwrap());
    p
}

/// Loading fails with that code, and the message has the words.
#[track_caller]
pub fn refused(p: &ModelProto, code: crate::ErrorCode, words: &[&str]) {
    let e = load(p).expect_err("the model is to be refused");
    assert_eq!(e.code(), code, "{e}");
    words.iter().for_each(|w| assert!(e.message().contains(w), "'{w}' is missing in: {e}"));
}
