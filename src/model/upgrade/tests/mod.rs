//! What the tests share.

mod families;
mod whole;

use super::*;
use crate::ErrorCode;
use crate::model::infer::check_types;
use crate::model::schema;
use crate::model::{
    Attribute, AttributeValue, DataType, Dim, Function, Graph, Initializer, Name, Node, OpsetId, Tensor, ValueInfo,
    ValueType,
};
use DataType::{Bool, Float16, Float32, Float64, Int64};

fn info(name: &str, dtype: DataType, dims: &[i64]) -> ValueInfo {
    ValueInfo::new(name, ValueType::tensor(dtype, Some(dims.iter().map(|d| Dim::known(*d)).collect())))
}

fn open(name: &str, dtype: DataType) -> ValueInfo {
    ValueInfo::new(name, ValueType::tensor(dtype, None))
}

fn names(list: &[&str]) -> Vec<Name> {
    list.iter().map(|n| Name::from(*n)).collect()
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Node {
    Node {
        op_type: op.into(),
        name: format!("the_{op}").into(),
        inputs: names(inputs),
        outputs: names(outputs),
        ..Node::default()
    }
}

trait With {
    fn with(self, name: &str, value: AttributeValue) -> Self;
    fn with_ints(self, name: &str, values: &[i64]) -> Self;
}

impl With for Node {
    fn with(mut self, name: &str, value: AttributeValue) -> Self {
        self.attributes.push(Attribute { name: name.into(), value, doc_string: None });
        self
    }

    fn with_ints(self, name: &str, values: &[i64]) -> Self {
        self.with(name, AttributeValue::Ints(values.to_vec()))
    }
}

fn text(value: &'static str) -> AttributeValue {
    super::context::text(value)
}

fn model(opset: i64, inputs: &[ValueInfo], nodes: Vec<Node>, outputs: &[ValueInfo]) -> Model {
    Model {
        ir_version: least_ir_version(opset),
        opset_imports: vec![OpsetId { domain: "".into(), version: opset }],
        graph: Graph { inputs: inputs.into(), outputs: outputs.into(), nodes, ..Graph::default() },
        ..Model::default()
    }
}

fn constant(name: &str, tensor: Tensor) -> Initializer {
    Initializer { name: name.into(), tensor, doc_string: None, metadata: Vec::new() }
}

fn floats(values: &[f32]) -> Tensor {
    Tensor::from_vec(Float32, vec![values.len() as i64], values.to_vec())
}

/// The upgraded model, which the type checker takes.
fn up(old: &Model, to: i64) -> Model {
    let new = upgrade(old, to).unwrap();
    check_types(&new).unwrap();
    assert_eq!(new.opset(""), Some(to));
    new
}

fn one(opset: i64, dtype: DataType, n: Node) -> Model {
    model(opset, &[info("x", dtype, &[2, 3, 4])], vec![n], &[open("y", dtype)])
}

fn refusal(old: &Model, to: i64) -> String {
    let e = upgrade(old, to).unwrap_err();
    assert_eq!(e.code(), ErrorCode::Unsupported);
    e.message().into()
}

fn ops(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|n| &*n.op_type).collect()
}

/// The value of a node's input, which is an initializer.
fn value(m: &Model, node: usize, input: usize) -> Vec<f64> {
    let name = &m.graph.nodes[node].inputs[input];
    m.graph.initializer(name).unwrap().tensor.to_f64().unwrap()
}

fn body(old: Graph) -> AttributeValue {
    AttributeValue::Graph(Box::new(old))
}
