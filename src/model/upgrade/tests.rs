use super::super::names::Taken;
use super::*;
use crate::ErrorCode;
use crate::model::infer::check_types;
use crate::model::schema;
use crate::model::{
    Attribute, AttributeValue, DataType, Dim, Function, Graph, Initializer, Name, Node, Tensor, ValueInfo, ValueType,
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

fn body(old: Graph) -> AttributeValue {
    AttributeValue::Graph(Box::new(old))
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

#[test]
fn subgraphs_get_constants_of_their_own_under_new_names() {
    let branch = |out: &str| {
        let n = node("Squeeze", &["x"], &[out]).with_ints("axes", &[0]);
        body(Graph { outputs: vec![open(out, Float32)], nodes: vec![n], ..Graph::default() })
    };
    let n = node("If", &["c"], &["y"]).with("then_branch", branch("the_Squeeze_axes")).with("else_branch", branch("e"));
    let new = up(&model(9, &[info("x", Float32, &[1, 3]), info("c", Bool, &[])], vec![n], &[open("y", Float32)]), 22);
    assert!(new.graph.initializers.is_empty());
    let inside: Vec<&str> =
        new.graph.nodes[0].subgraphs().flat_map(|(_, g)| g.initializers.iter().map(|i| &*i.name)).collect();
    assert_eq!(inside, ["the_Squeeze_axes_2", "the_Squeeze_axes_3"]);
    assert_eq!(&*Taken::of_graph(&new.graph).unique("the_Squeeze", "_axes"), "the_Squeeze_axes_4");
}

fn with_function(nodes: Vec<Node>, attributes: &[&str], calls: Vec<Node>, inputs: &[ValueInfo]) -> Model {
    let outputs: Vec<ValueInfo> = calls
        .iter()
        .zip(inputs)
        .map(|(c, i)| ValueInfo {
            name: c.outputs[0].clone(),
            ..open("", i.ty.as_ref().unwrap().tensor_dtype().unwrap())
        })
        .collect();
    let calls = calls.into_iter().map(|c| Node { domain: "my".into(), ..c }).collect();
    let mut m = model(10, inputs, calls, &outputs);
    m.ir_version = 8;
    m.opset_imports.push(OpsetId { domain: "my".into(), version: 1 });
    m.functions.push(Function {
        name: "F".into(),
        domain: "my".into(),
        inputs: names(&["x"]),
        outputs: names(&["y"]),
        attributes: names(attributes),
        nodes,
        opset_imports: vec![OpsetId { domain: "".into(), version: 10 }],
        ..Function::default()
    });
    m
}

#[test]
fn functions_are_upgraded_too() {
    let refer = |attribute: &str, kind| AttributeValue::Reference { attribute: attribute.into(), kind };
    let nodes = || {
        vec![
            node("Squeeze", &["x"], &["s"]).with("axes", refer("axes", 7)),
            node("Clip", &["s"], &["y"]).with("min", AttributeValue::Float(0.5)),
        ]
    };
    let call = |x: &str, y: &str| node("F", &[x], &[y]).with_ints("axes", &[0]);
    let x = info("x", Float32, &[1, 3]);
    let new = up(&with_function(nodes(), &["axes"], vec![call("x", "y")], &[x.clone()]), 22);
    let f = &new.functions[0];
    assert_eq!(f.opset_imports[0].version, 22);
    let ops: Vec<&str> = f.nodes.iter().map(|n| &*n.op_type).collect();
    assert_eq!(ops, ["Constant", "Squeeze", "Constant", "Clip"]);
    assert!(matches!(f.nodes[0].attribute("value_ints"), Some(AttributeValue::Reference { kind: 7, .. })));
    // Calls with different types: the bound follows the data.
    let two = [x.clone(), info("h", Float16, &[1, 3])];
    let both = with_function(nodes(), &["axes"], vec![call("x", "y"), call("h", "z")], &two);
    assert_eq!(up(&both, 22).functions[0].nodes.iter().filter(|n| n.is("CastLike")).count(), 1);
    assert!(refusal(&both, 13).contains("the type of 's' is not known"));
    // A call without the attribute would leave a constant without value.
    let bare = with_function(nodes(), &["axes"], vec![call("x", "y"), node("F", &["x"], &["z"])], &[x.clone(), x]);
    assert!(refusal(&bare, 22).contains("does not give"));
}

#[test]
fn all_that_has_no_newer_form_is_named_and_the_model_stays() {
    let nodes = vec![
        node("Erf", &["x"], &["a"]),
        Node { name: "second".into(), ..node("Erf", &["x"], &["b"]) },
        node("ReduceLogSum", &["x"], &["y"]),
    ];
    let old = model(10, &[info("x", Int64, &[3])], nodes, &[open("y", Int64)]);
    let before = format!("{old:?}");
    let message = refusal(&old, 28);
    for part in ["3 nodes", "'the_Erf' (Erf) from version 12 to 13", "'second'", "27 to 28", "put a Cast"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(format!("{old:?}"), before);
    assert!(refusal(&old, 13).contains("2 nodes"));
    assert!(upgrade(&old, 12).is_ok());
}

#[test]
fn versions() {
    let old = one(13, Float32, node("Relu", &["x"], &["y"]));
    assert_eq!(upgrade(&old, 12).unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(upgrade(&old, 29).unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!((up(&old, 13).ir_version, up(&old, 22).ir_version, up(&old, 28).ir_version), (7, 10, 14));
    let newer = Model { ir_version: 13, ..old };
    assert_eq!(up(&newer, 22).ir_version, 13);
}

#[test]
fn constants_of_old_files_stay_constants() {
    let mut old = model(
        7,
        &[info("x", Float32, &[2]), info("w", Float32, &[2])],
        vec![node("Add", &["x", "w"], &["y"])],
        &[open("y", Float32)],
    );
    old.graph.initializers.push(constant("w", floats(&[1.0, 2.0])));
    assert_eq!(up(&old, 8).graph.inputs.len(), 2);
    let new = up(&old, 22);
    assert_eq!(new.graph.inputs.len(), 1);
    let key = |m: &Model| m.graph.initializers[0].tensor.source_key();
    assert!(key(&new).is_some() && key(&new) == key(&old), "weights are shared");
}

/// Where a newer version of an operator takes fewer types or other inputs, or is withdrawn, an adapter must exist.
#[test]
fn every_narrowing_has_an_adapter() {
    let mut seen = 0;
    for name in schema::names("") {
        for from in *OPSETS.start()..*OPSETS.end() {
            let (Some(old), Some(new)) = (schema::lookup("", name, from), schema::find("", name, from + 1)) else {
                continue;
            };
            if old.since_version == new.since_version {
                continue;
            }
            let narrower = |olds: &[schema::Param], news: &[schema::Param]| {
                let pairs = olds.iter().enumerate().map(|(i, a)| (a, news.get(i).or(news.last())));
                pairs.into_iter().any(|(a, b)| b.is_none_or(|b| !new.allowed(b).includes(old.allowed(a))))
            };
            let narrower = narrower(&old.inputs, &new.inputs) || narrower(&old.outputs, &new.outputs);
            let needed =
                |s: &schema::Schema| s.inputs.iter().filter(|p| p.option == schema::ParamOption::Single).count();
            if new.deprecated || narrower || needed(new) > needed(old) || new.outputs.len() < old.outputs.len() {
                seen += 1;
                assert!(adapters::find(name, from + 1).is_some(), "{name} to {}", from + 1);
            }
        }
    }
    assert!(seen > 10, "{seen}");
}
