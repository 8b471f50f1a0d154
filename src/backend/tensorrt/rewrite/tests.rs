use super::*;
use crate::frontend::onnx;
use crate::model::{Attribute, DataType, ValueInfo, ValueType};
use std::path::Path;

/// A node of an operator that the 8.5 parser does not know is gone, and the rest is as it was.
#[test]
fn the_table_is_sorted_and_names_each_operator_once() {
    assert!(TABLE.windows(2).all(|w| w[0].0 < w[1].0));
}

#[test]
fn a_model_that_needs_nothing_stays_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/digits/digits.onnx");
    let model = onnx::load_file(&path, &onnx::LoadOptions::default()).unwrap();
    let new = for_parser(&model, Family::V8_5).unwrap();
    assert_eq!(new.graph.nodes.len(), model.graph.nodes.len());
    assert!(new.opset("").unwrap() <= NEWEST);
    assert!(!needed(Family::V10) && !needed(Family::Rtx1_5));
}

/// A model whose If has that many outputs, each the Relu of x.
fn with_branches(outputs: &[&str]) -> Model {
    let node = |op: &str, inputs: &[&str], outputs: &[&str]| Node {
        name: format!("the_{op}").into(),
        op_type: op.into(),
        inputs: inputs.iter().map(|n| (*n).into()).collect(),
        outputs: outputs.iter().map(|n| (*n).into()).collect(),
        ..Node::default()
    };
    let value = |name: &str, dtype| ValueInfo::new(name, ValueType::tensor(dtype, None));
    let branch = |op: &str, attribute: &str| {
        let graph = Graph {
            nodes: outputs.iter().map(|o| node(op, &["x"], &[&format!("{attribute}_{o}")])).collect(),
            outputs: outputs.iter().map(|o| value(&format!("{attribute}_{o}"), DataType::Float32)).collect(),
            ..Graph::default()
        };
        Attribute { name: attribute.into(), value: AttributeValue::Graph(Box::new(graph)), doc_string: None }
    };
    let mut choice = node("If", &["c"], outputs);
    choice.attributes = vec![branch("Relu", "then_branch"), branch("Neg", "else_branch")];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/digits/digits.onnx");
    let mut model = onnx::load_file(&path, &onnx::LoadOptions::default()).unwrap();
    model.graph = Graph {
        nodes: vec![choice],
        inputs: vec![value("c", DataType::Bool), value("x", DataType::Float32)],
        outputs: outputs.iter().map(|o| value(o, DataType::Float32)).collect(),
        ..Graph::default()
    };
    model
}

#[test]
fn an_if_with_several_outputs_is_refused() {
    for family in [Family::V8_5, Family::V8_6] {
        for_parser(&with_branches(&["one"]), family).unwrap();
        let error = for_parser(&with_branches(&["one", "two"]), family).unwrap_err();
        for part in ["the_If", "exchange the outputs of an If", "TensorRT 10 or newer"] {
            assert!(error.message().contains(part), "{part}: {error}");
        }
    }
    for_parser(&with_branches(&["one", "two"]), Family::V10).unwrap();
}
