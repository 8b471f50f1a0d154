use super::*;
use crate::frontend::torch::archive::Archive;
use bytes::Bytes;

macro_rules! fixture {
    ($name:literal) => {
        Archive::read(Bytes::from_static(include_bytes!(concat!("../../../../tests/data/torch/", $name)))).unwrap()
    };
}

fn outputs(m: &Model) -> Vec<&str> {
    m.graph.outputs.iter().map(|o| &*o.name).collect()
}

#[test]
fn a_condition_becomes_an_if_and_a_range_a_named_dimension() {
    let m = read(&fixture!("condition.pt2"), &Options::default()).unwrap();
    assert!(m.graph.nodes.iter().any(|n| n.is("If")));
    assert_eq!(outputs(&m), ["output_0", "output_1"]);
    let shape = m.graph.inputs[0].ty.as_ref().and_then(|t| t.tensor_shape()).unwrap();
    let name = shape[0].to_string();
    assert!(shape[0].size().is_none());
    let range = m.metadata.iter().find(|(k, _)| **k == *format!("dimension.{name}")).map(|(_, v)| v.to_string());
    assert_eq!(range.as_deref(), Some("2..16"));
}

#[test]
fn tied_weights_are_one_and_outputs_have_their_keys() {
    let m = read(&fixture!("tied.pt2"), &Options::default()).unwrap();
    assert_eq!(m.graph.initializers.len(), 1);
    assert_eq!(outputs(&m), ["logits", "hidden.0"]);
}

#[test]
fn a_changed_buffer_is_refused_or_an_output() {
    let archive = fixture!("counter.pt2");
    let e = read(&archive, &Options::default()).unwrap_err();
    assert!(e.message().contains("'count'"), "{e}");
    let m = read(&archive, &Options { mutations: Mutations::Outputs }).unwrap();
    assert_eq!(outputs(&m), ["output", "count.new"]);
}
