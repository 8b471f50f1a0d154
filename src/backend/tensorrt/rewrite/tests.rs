use super::*;
use crate::frontend::onnx;
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

#[test]
fn an_if_with_several_outputs_is_refused() {
    use crate::model::Node;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/digits/digits.onnx");
    let mut model = onnx::load_file(&path, &onnx::LoadOptions::default()).unwrap();
    let branch = |outputs: &[&str]| Node {
        name: "branch".into(),
        op_type: "If".into(),
        inputs: vec!["condition".into()],
        outputs: outputs.iter().map(|o| (*o).into()).collect(),
        ..Node::default()
    };
    model.graph.nodes.push(branch(&["one", ""]));
    for_parser(&model, Family::V8_6).unwrap();
    model.graph.nodes.push(branch(&["two", "three"]));
    let error = for_parser(&model, Family::V8_5).unwrap_err();
    assert!(error.message().contains("exchange the outputs of an If"), "{error}");
    for_parser(&model, Family::V10).unwrap();
}
