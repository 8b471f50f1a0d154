//! Each family of adapters: the form of the new nodes.

use super::*;

#[test]
fn axes_and_splits_become_inputs() {
    for (op, to) in [("Squeeze", 13), ("Unsqueeze", 13), ("ReduceSum", 13), ("ReduceMean", 18), ("ReduceL1", 18)] {
        let axes: &[i64] = if op == "Squeeze" { &[-1] } else { &[0, 1] };
        let old = model(
            11,
            &[info("x", Float32, &[2, 3, 1])],
            vec![node(op, &["x"], &["y"]).with_ints("axes", axes)],
            &[open("y", Float32)],
        );
        assert_eq!(up(&old, to - 1).graph.nodes[0].ints("axes"), Some(axes), "{op}");
        let new = up(&old, to);
        assert!(new.graph.nodes[0].attributes.is_empty(), "{op}");
        assert_eq!(value(&new, 0, 1), axes.iter().map(|v| *v as f64).collect::<Vec<_>>());
        // An empty list is no list, except to Unsqueeze.
        let mut empty = old.clone();
        empty.graph.nodes[0].attributes[0].value = AttributeValue::Ints(vec![]);
        assert_eq!(up(&empty, to).graph.nodes[0].inputs.len(), if op == "Unsqueeze" { 2 } else { 1 }, "{op}");
    }
    let split = || node("Split", &["x"], &["y", "z"]);
    let new = up(&one(11, Float32, split().with_ints("split", &[1, 1])), 18);
    assert_eq!((value(&new, 0, 1), new.graph.nodes[0].int("num_outputs")), (vec![1.0, 1.0], None));
    assert_eq!(up(&one(11, Float32, split()), 18).graph.nodes[0].int("num_outputs"), Some(2));
    let dft = model(17, &[info("x", Float32, &[2, 8, 1])], vec![node("DFT", &["x"], &["y"])], &[open("y", Float32)]);
    let new = up(&dft, 20);
    assert_eq!((&*new.graph.nodes[0].inputs[1], value(&new, 0, 2)), ("", vec![1.0]), "the old default");
}

#[test]
fn clip_bounds_take_the_type_of_the_data() {
    let clip = || node("Clip", &["x"], &["y"]);
    let new = up(&one(7, Float16, clip().with("max", AttributeValue::Float(6.0))), 11);
    let clipped = &new.graph.nodes[0];
    assert_eq!((&*clipped.inputs[1], clipped.attributes.len()), ("", 0));
    assert_eq!((value(&new, 0, 2), new.graph.initializers[0].tensor.dtype()), (vec![6.0], Float16));
    // The default bounds are no bounds, but of doubles.
    let old = clip().with("min", AttributeValue::Float(f32::MIN));
    assert_eq!(up(&one(7, Float32, old.clone()), 13).graph.nodes[0].inputs.len(), 1);
    let new = up(&one(7, Float64, old), 13);
    assert_eq!((value(&new, 0, 1), value(&new, 0, 2)), (vec![f32::MIN.into()], vec![f32::MAX.into()]));
}

#[test]
fn pad_slice_top_k_dropout() {
    let pad = node("Pad", &["x"], &["y"]).with_ints("pads", &[0, 0, 1, 0, 0, 1]);
    let new = up(&one(9, Float16, pad.clone().with("value", AttributeValue::Float(2.0))), 22);
    assert_eq!((value(&new, 0, 1).len(), value(&new, 0, 2)), (6, vec![2.0]));
    let new = up(&one(9, Float16, pad.with("value", AttributeValue::Float(2.0)).with("mode", text("edge"))), 22);
    assert_eq!(new.graph.nodes[0].inputs.len(), 2, "only the constant mode has a value");
    let slice =
        node("Slice", &["x"], &["y"]).with_ints("starts", &[0]).with_ints("ends", &[2]).with_ints("axes", &[-1]);
    let new = up(&one(7, Float32, slice), 10);
    assert_eq!((value(&new, 0, 1), value(&new, 0, 2), value(&new, 0, 3)), (vec![0.0], vec![2.0], vec![-1.0]));
    let top = node("TopK", &["x"], &["y", "i"]).with("k", AttributeValue::Int(2));
    assert_eq!(value(&up(&one(7, Float32, top), 22), 0, 1), [2.0]);
    let dropout = || node("Dropout", &["x"], &["y", "mask"]).with("ratio", AttributeValue::Float(0.25));
    let new = up(&one(7, Float32, dropout()), 12);
    assert_eq!((new.graph.nodes[0].outputs.len(), value(&new, 0, 1)), (1, vec![0.25]));
    let mut read = one(7, Float32, dropout());
    read.graph.outputs.push(open("mask", Float32));
    let new = up(&read, 12);
    assert_eq!((ops(&new.graph), &*new.graph.nodes[1].outputs[0]), (vec!["Dropout", "Cast"], "mask"));
    // Between 10 and 12 the mask was bool already.
    let mut read = one(10, Float32, dropout());
    read.graph.outputs.push(open("mask", Bool));
    assert_eq!(ops(&up(&read, 22).graph), ["Dropout"]);
}

#[test]
fn softmax_over_several_axes() {
    let softmax = |axis: Option<i64>, dims: &[i64]| {
        let n = node("Softmax", &["x"], &["y"]);
        let n = match axis {
            Some(axis) => n.with("axis", AttributeValue::Int(axis)),
            None => n,
        };
        up(&model(11, &[info("x", Float32, dims)], vec![n], &[open("y", Float32)]), 13)
    };
    let axis = |m: &Model| m.graph.nodes.iter().find(|n| n.is("Softmax")).and_then(|n| n.int("axis"));
    for (given, dims, wanted) in [
        (None, &[2, 3][..], 1),
        (Some(-1), &[2, 3, 4], -1),
        (Some(2), &[2, 3, 4], 2),
        (None, &[2, 3, 1, 1], 1),
        (None, &[2, 1, 1, 3], 3),
        (Some(0), &[1, 5], 1),
    ] {
        let new = softmax(given, dims);
        assert_eq!((ops(&new.graph), axis(&new)), (vec!["Softmax"], Some(wanted)), "{given:?} {dims:?}");
    }
    let new = softmax(None, &[2, 3, 4]);
    assert_eq!(ops(&new.graph), ["Shape", "Flatten", "Softmax", "Reshape"]);
    assert_eq!((axis(&new), new.graph.nodes[1].int("axis")), (Some(-1), Some(1)));
    assert_eq!(&*new.graph.nodes[3].outputs[0], "y");
    // Unknown rank, and a rank that follows from other nodes.
    let hidden = |rank: &[i64]| {
        let n = vec![node("Reshape", &["x", "shape"], &["h"]), node("Softmax", &["h"], &["y"])];
        up(&model(11, &[info("x", Float32, &[6]), info("shape", Int64, rank)], n, &[open("y", Float32)]), 13)
    };
    assert_eq!(hidden(&[2]).graph.nodes.len(), 2);
    assert_eq!(hidden(&[3]).graph.nodes.len(), 5);
}

fn resized(opset: i64, op: &str, mode: &'static str, scales: Option<&[f32]>, to: i64) -> Model {
    let n = node(op, &["x", "scales"], &["y"]).with("mode", text(mode));
    let mut old = one(opset, Float32, n);
    match scales {
        Some(values) => old.graph.initializers.push(constant("scales", floats(values))),
        None => old.graph.inputs.push(info("scales", Float32, &[3])),
    }
    up(&old, to)
}

#[test]
fn upsample_and_resize_keep_their_coordinates() {
    let n = node("Upsample", &["x"], &["y"]).with("scales", AttributeValue::Floats(vec![1.0, 1.0, 2.0]));
    let old = one(7, Float32, n);
    assert_eq!((ops(&up(&old, 9).graph), value(&up(&old, 9), 0, 1)), (vec!["Upsample"], vec![1.0, 1.0, 2.0]));
    let ten = up(&old, 10);
    assert_eq!((ops(&ten.graph), ten.graph.nodes[0].inputs.len()), (vec!["Resize"], 2));
    let modes = |m: &Model| -> Vec<(Option<String>, Option<String>)> {
        let of = |n: &Node, a: &str| n.string(a).map(String::from);
        let resizes = m.graph.nodes.iter().filter(|n| n.is("Resize"));
        resizes.map(|n| (of(n, "coordinate_transformation_mode"), of(n, "nearest_mode"))).collect()
    };
    let as_old = |rounding: Option<&str>| (Some("asymmetric".to_string()), rounding.map(String::from));
    assert_eq!(modes(&up(&old, 22)), [as_old(Some("floor"))]);
    assert_eq!(modes(&resized(9, "Upsample", "nearest", None, 22)), [as_old(Some("floor"))], "it never shrinks");
    assert_eq!(modes(&resized(10, "Resize", "linear", None, 22)), [as_old(None)]);
    assert_eq!(modes(&resized(10, "Resize", "nearest", Some(&[1.0, 1.0, 2.0]), 11)), [as_old(Some("floor"))]);
    assert_eq!(modes(&resized(10, "Resize", "nearest", Some(&[1.0, 1.0, 0.5]), 11)), [as_old(Some("ceil"))]);
    for scales in [Some(&[1.0, 2.0, 0.5][..]), None] {
        let new = resized(10, "Resize", "nearest", scales, 22);
        assert_eq!(modes(&new), [as_old(Some("floor")), as_old(Some("ceil"))]);
        assert_eq!(ops(&new.graph), ["Max", "Min", "Resize", "Resize"]);
    }
}

#[test]
fn resize_11_to_13() {
    let sizes = |mode: &'static str, nearest: &'static str| {
        let n = node("Resize", &["x", "roi", "scales", "sizes"], &["y"])
            .with("coordinate_transformation_mode", text(mode))
            .with("nearest_mode", text(nearest));
        let mut old = one(11, Float32, n);
        old.graph.initializers.extend(["roi", "scales"].map(|n| constant(n, floats(&[]))));
        old.graph.inputs.push(info("sizes", Int64, &[3]));
        old
    };
    let new = up(&sizes("tf_half_pixel_for_nn", "floor"), 13);
    let n = &new.graph.nodes[0];
    assert_eq!((&*n.inputs[2], n.string("nearest_mode")), ("", Some("round_prefer_ceil")));
    assert_eq!(n.string("coordinate_transformation_mode"), Some("half_pixel"));
    let message = refusal(&sizes("tf_half_pixel_for_nn", "ceil"), 13);
    for part in ["'the_Resize' (Resize)", "from version 12 to 13", "'half_pixel'"] {
        assert!(message.contains(part), "{message}");
    }
}

fn statistics(old: &mut Model, dims: &[i64]) {
    let names = ["scale", "bias", "mean", "var"];
    old.graph.inputs.extend(names.map(|n| info(n, Float32, dims)));
}

#[test]
fn batch_normalization() {
    let inputs = ["x", "scale", "bias", "mean", "var"];
    let mut old = one(7, Float32, node("BatchNormalization", &inputs, &["y"]).with("spatial", AttributeValue::Int(1)));
    statistics(&mut old, &[3]);
    let new = up(&old, 22);
    assert_eq!((ops(&new.graph), new.graph.nodes[0].attributes.len()), (vec!["BatchNormalization"], 0));
    old.graph.nodes[0].attributes[0].value = AttributeValue::Int(0);
    assert_eq!(ops(&up(&old, 22).graph), ["Sub", "Add", "Sqrt", "Div", "Mul", "Add"]);
    old.graph.nodes[0].outputs.extend(names(&["m", "v", "sm", "sv"]));
    assert!(refusal(&old, 22).contains("eval"));
    old.graph.nodes[0].attributes.clear();
    let new = up(&old, 22);
    assert_eq!((new.graph.nodes[0].outputs.len(), new.graph.nodes[0].int("training_mode")), (3, Some(1)));
    old.graph.outputs.push(open("sv", Float32));
    assert!(refusal(&old, 22).contains("'sv'"));
}

#[test]
fn group_normalization() {
    let n = node("GroupNormalization", &["x", "scale", "bias"], &["y"]).with("num_groups", AttributeValue::Int(2));
    let mut old = model(18, &[info("x", Float32, &[1, 6, 5])], vec![n], &[open("y", Float32)]);
    old.graph.initializers.push(constant("scale", floats(&[1.0, 2.0])));
    old.graph.inputs.push(info("bias", Float32, &[2]));
    let new = up(&old, 21);
    let last = new.graph.nodes.len() - 1;
    assert_eq!(value(&new, last, 1), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0], "a constant is repeated");
    assert_eq!(ops(&new.graph), ["Reshape", "Expand", "Reshape", "GroupNormalization"]);
    old.graph.inputs[0] = open("x", Float32);
    let new = up(&old, 21);
    assert_eq!(new.graph.nodes.iter().filter(|n| n.is("Shape")).count(), 1, "both parameters share the shape");
    assert_eq!(new.graph.nodes.iter().filter(|n| n.is("Expand")).count(), 2);
}

#[test]
fn names_and_modes() {
    let n = node("Scatter", &["x", "i", "u"], &["y"]);
    let inputs = [info("x", Float32, &[3]), info("i", Int64, &[1]), info("u", Float32, &[1])];
    assert_eq!(ops(&up(&model(9, &inputs, vec![n], &[open("y", Float32)]), 11).graph), ["ScatterElements"]);
    let inputs = [info("x", Float32, &[1, 1, 3, 3]), info("g", Float32, &[1, 2, 2, 2])];
    let grid = |mode| node("GridSample", &["x", "g"], &["y"]).with("mode", text(mode));
    for (old, new) in [("bilinear", "linear"), ("bicubic", "cubic"), ("nearest", "nearest")] {
        let m = up(&model(16, &inputs, vec![grid(old)], &[open("y", Float32)]), 20);
        assert_eq!(m.graph.nodes[0].string("mode"), Some(new));
    }
    let inputs = [info("x", Float32, &[1, 1, 3, 3]), info("r", Float32, &[2, 4]), info("b", Int64, &[2])];
    let m = up(&model(10, &inputs, vec![node("RoiAlign", &["x", "r", "b"], &["y"])], &[open("y", Float32)]), 16);
    assert_eq!(m.graph.nodes[0].string("coordinate_transformation_mode"), Some("output_half_pixel"));
}

#[test]
fn scan_with_a_batch() {
    let inside = Graph {
        inputs: vec![info("sum", Float32, &[3]), info("next", Float32, &[3])],
        outputs: vec![info("new", Float32, &[3]), info("copy", Float32, &[3])],
        nodes: vec![node("Add", &["sum", "next"], &["new"]), node("Identity", &["new"], &["copy"])],
        ..Graph::default()
    };
    let scan = |lengths| {
        let n = node("Scan", &[lengths, "start", "x"], &["last", "all"])
            .with("body", body(inside.clone()))
            .with("num_scan_inputs", AttributeValue::Int(1))
            .with_ints("directions", &[1]);
        let inputs = [info("start", Float32, &[2, 3]), info("x", Float32, &[2, 5, 3]), info("lengths", Int64, &[2])];
        model(8, &inputs, vec![n], &[open("last", Float32), open("all", Float32)])
    };
    let new = up(&scan(""), 22);
    let outer = &new.graph.nodes[0];
    assert_eq!((outer.inputs.len(), outer.int("num_scan_inputs")), (2, Some(2)));
    let inner = outer.subgraphs().next().unwrap().1;
    assert_eq!(inner.nodes[0].ints("scan_input_directions"), Some(&[1][..]));
    assert_eq!(inner.inputs[1].ty.as_ref().unwrap().tensor_shape().unwrap().len(), 2);
    assert!(refusal(&scan("lengths"), 22).contains("sequence_lens"));
}
