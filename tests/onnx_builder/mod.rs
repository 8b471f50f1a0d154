//! Small models built in code, and what tests ask of them.
#![allow(dead_code, reason = "each test file uses some of it")]

use mezzo::model::infer::check_types;
use mezzo::model::{
    Attribute, AttributeValue, DataType, Dim, Graph, Initializer, Model, Node, OpsetId, Tensor, ValueInfo, ValueType,
};
use mezzo::precision::{ConvertOptions, Converted, convert};

pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Node {
    Node {
        name: format!("node_{}", outputs[0]).into(),
        op_type: op.into(),
        inputs: inputs.iter().map(|s| (*s).into()).collect(),
        outputs: outputs.iter().map(|s| (*s).into()).collect(),
        ..Node::default()
    }
}

pub fn with(mut node: Node, name: &str, value: AttributeValue) -> Node {
    node.attributes.push(Attribute { name: name.into(), value, doc_string: None });
    node
}

pub fn value(name: &str, dtype: DataType) -> ValueInfo {
    ValueInfo::new(name, ValueType::tensor(dtype, Some(vec![Dim::symbol("N"), Dim::known(4)])))
}

pub fn init(name: &str, dims: &[i64], values: &[f32]) -> Initializer {
    let tensor = Tensor::from_vec(DataType::Float32, dims.to_vec(), values.to_vec());
    Initializer { name: name.into(), tensor, doc_string: None, metadata: vec![] }
}

/// A model from `x` to `y`, both FP32 [N,4].
pub fn model(nodes: Vec<Node>, initializers: Vec<Initializer>) -> Model {
    Model {
        ir_version: 8,
        opset_imports: vec![OpsetId { domain: "".into(), version: 17 }],
        graph: Graph {
            name: Some("g".into()),
            nodes,
            initializers,
            inputs: vec![value("x", DataType::Float32)],
            outputs: vec![value("y", DataType::Float32)],
            ..Graph::default()
        },
        ..Model::default()
    }
}

pub fn half(model: &Model) -> Converted {
    let done = convert(model, &ConvertOptions::default()).unwrap();
    check_types(&done.model).unwrap();
    done
}

pub fn ops(model: &Model) -> Vec<String> {
    model.graph.nodes.iter().map(|n| n.op_type.to_string()).collect()
}

pub fn dtype_of(model: &Model, name: &str) -> DataType {
    let found: Vec<DataType> =
        model.graph.initializers.iter().filter(|i| &*i.name == name).map(|i| i.tensor.dtype()).collect();
    assert_eq!(found.len(), 1, "'{name}' is stored {} times", found.len());
    found[0]
}

pub fn rule_of(done: &Converted, output: &str) -> String {
    done.report.nodes.iter().find(|n| n.output == output).map_or_else(String::new, |n| n.rule.clone())
}

pub const WEIGHTS: [f32; 16] = [0.5, -1.25, 0.1, 2.0, 0.3, -0.7, 1.1, 0.9, -2.0, 0.25, 0.6, -0.4, 1.5, 0.8, -0.9, 0.2];
