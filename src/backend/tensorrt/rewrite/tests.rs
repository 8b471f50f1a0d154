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
