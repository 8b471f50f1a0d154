//! One test for each pain that users of other FP16 converters report. Numbers are judged elsewhere (tests/python, tests/cpu_*);
//! here it is the form of the result: types, names, casts, what is stored, what is refused.

mod onnx_builder;

use mezzo::ErrorCode;
use mezzo::frontend::onnx::{External, LoadOptions, load_bytes, to_bytes};
use mezzo::model::infer::check_types;
use mezzo::model::{AttributeValue, DataType, Graph, Initializer, Model, Storage, Tensor, ValueInfo, ValueType};
use mezzo::precision::{ConstantPolicy, ConvertOptions, Policy, convert};
use onnx_builder::{WEIGHTS, dtype_of, half, init, model, node, ops, rule_of, value, with};

#[test]
fn flag_set_but_weights_stay_fp32() {
    let m = model(
        vec![node("MatMul", &["x", "w"], &["h"]), node("Add", &["h", "b"], &["y"])],
        vec![init("w", &[4, 4], &WEIGHTS), init("b", &[4], &WEIGHTS[..4])],
    );
    let done = half(&m);
    assert_eq!(dtype_of(&done.model, "w"), DataType::Float16);
    assert_eq!(dtype_of(&done.model, "b"), DataType::Float16);
    assert_eq!(ops(&done.model), ["MatMul", "Add"], "no cast is needed when inputs and outputs are half too");
    assert_eq!(done.model.graph.inputs[0].ty.as_ref().unwrap().tensor_dtype(), Some(DataType::Float16));
    assert_eq!(done.model.weight_bytes() * 2, m.weight_bytes());
    // The checker is what finds the opposite: half bias, float weights.
    let mut broken = done.model.clone();
    broken.graph.initializers[0] = init("w", &[4, 4], &WEIGHTS);
    let e = check_types(&broken).unwrap_err();
    for word in ["node_h", "'w'", "fp32", "fp16"] {
        assert!(e.message().contains(word), "{e}");
    }
}

#[test]
fn existing_cast_is_retargeted() {
    let m = model(
        vec![
            with(node("Cast", &["x"], &["i"]), "to", AttributeValue::Int(9)),
            with(node("Cast", &["i"], &["f"]), "to", AttributeValue::Int(1)),
            node("Mul", &["x", "f"], &["y"]),
        ],
        vec![],
    );
    let done = half(&m);
    assert_eq!(ops(&done.model), ["Cast", "Cast", "Mul"]);
    assert_eq!(done.model.graph.nodes[1].int("to"), Some(10));
}

#[test]
fn redundant_casts_are_not_made_and_not_kept() {
    let m = model(
        vec![
            with(node("Cast", &["x"], &["a"]), "to", AttributeValue::Int(10)),
            with(node("Cast", &["a"], &["b"]), "to", AttributeValue::Int(1)),
            node("Relu", &["b"], &["y"]),
        ],
        vec![],
    );
    let done = half(&m);
    assert_eq!(ops(&done.model), ["Relu"]);
    // One cast serves two readers.
    let kept = ConvertOptions { keep_op_types: vec!["Exp".into()], ..ConvertOptions::default() };
    let m = model(
        vec![
            node("Relu", &["x"], &["r"]),
            node("Exp", &["r"], &["a"]),
            node("Exp", &["r"], &["b"]),
            node("Add", &["a", "b"], &["s"]),
            node("MatMul", &["s", "w"], &["y"]),
        ],
        vec![init("w", &[4, 4], &WEIGHTS)],
    );
    let done = convert(&m, &kept).unwrap();
    assert_eq!(ops(&done.model).iter().filter(|o| *o == "Cast").count(), 3, "{:?}", ops(&done.model));
}

#[test]
fn resize_scales_stay_fp32() {
    let mut m = model(
        vec![node("Resize", &["x", "", "scales"], &["r"]), node("Mul", &["r", "scales2"], &["y"])],
        vec![init("scales", &[2], &[1.0, 2.0]), init("scales2", &[1], &[0.5])],
    );
    m.graph.outputs[0] = ValueInfo::new("y", ValueType::tensor(DataType::Float32, None));
    let done = half(&m);
    assert_eq!(dtype_of(&done.model, "scales"), DataType::Float32);
    assert_eq!(dtype_of(&done.model, "scales2"), DataType::Float16);
    assert_eq!(ops(&done.model), ["Resize", "Mul"]);
}

#[test]
fn shared_initializer_is_stored_once() {
    let m = model(
        vec![node("Mul", &["x", "w"], &["a"]), node("Add", &["a", "w"], &["y"])],
        vec![init("w", &[4], &WEIGHTS[..4])],
    );
    let done = half(&m);
    assert_eq!(done.model.graph.initializers.len(), 1);
    assert_eq!(dtype_of(&done.model, "w"), DataType::Float16);
}

#[test]
fn name_collisions_are_avoided() {
    let m = model(
        vec![
            node("Relu", &["x"], &["x_fp16"]),
            node("Sigmoid", &["x_fp16"], &["y_fp16"]),
            node("Add", &["y_fp16", "x"], &["y"]),
        ],
        vec![],
    );
    let done = convert(&m, &ConvertOptions { keep_io: true, ..ConvertOptions::default() }).unwrap();
    let mut names: Vec<&str> = done.model.graph.nodes.iter().flat_map(|n| &n.outputs).map(|n| &**n).collect();
    names.extend(["x"]);
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name is defined twice: {names:?}");
    assert_eq!(&*done.model.graph.outputs[0].name, "y");
    for old in ["node_x_fp16", "node_y_fp16", "node_y"] {
        assert!(done.model.graph.nodes.iter().any(|n| &*n.name == old), "node name {old} is lost");
    }
}

#[test]
fn unnamed_nodes_are_handled() {
    let mut m = model(vec![node("Relu", &["x"], &["a"]), node("Tanh", &["a"], &["y"])], vec![]);
    m.graph.nodes.iter_mut().for_each(|n| n.name = "".into());
    let done = convert(&m, &ConvertOptions { keep_io: true, ..ConvertOptions::default() }).unwrap();
    assert_eq!(ops(&done.model), ["Cast", "Relu", "Tanh", "Cast"]);
}

#[test]
fn masks_of_minus_1e9_stay_finite() {
    for (constant, rule) in
        [(-1e9f32, "constant_out_of_range"), (f32::MIN, "constant_out_of_range"), (-40000.0, "wide_values")]
    {
        let m = model(
            vec![
                node("Sub", &["one", "x"], &["inverted"]),
                node("Mul", &["inverted", "big"], &["mask"]),
                node("MatMul", &["x", "w"], &["scores"]),
                node("Add", &["scores", "mask"], &["masked"]),
                node("Softmax", &["masked"], &["p"]),
                node("MatMul", &["p", "w"], &["y"]),
            ],
            vec![init("one", &[], &[1.0]), init("big", &[], &[constant]), init("w", &[4, 4], &WEIGHTS)],
        );
        let done = half(&m);
        assert_eq!(rule_of(&done, "mask"), rule);
        assert_eq!(rule_of(&done, "masked"), "wide_values");
        assert_eq!(rule_of(&done, "p"), "wide_values", "the softmax reads what half cannot hold");
        assert_eq!(rule_of(&done, "y"), "", "behind the softmax everything is half again");
        assert_eq!(dtype_of(&done.model, "big"), DataType::Float32);
        let row = done.report.nodes.iter().find(|n| n.output == "mask").unwrap();
        assert_eq!((row.tensor.as_str(), row.value.map(f64::abs)), ("big", Some(f64::from(constant.abs()))));
    }
}

#[test]
fn infinities_are_exact_in_half_and_move_nothing() {
    let m = model(
        vec![node("Add", &["x", "mask"], &["s"]), node("Softmax", &["s"], &["y"])],
        vec![init("mask", &[4], &[0.0, f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY])],
    );
    let done = half(&m);
    assert_eq!(ops(&done.model), ["Add", "Softmax"]);
    let mask = &done.model.graph.initializers[0].tensor;
    assert_eq!(mask.to_f64().unwrap(), [0.0, f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY]);
}

#[test]
fn clamped_masks_leave_room_for_scores() {
    let m = model(
        vec![node("Add", &["x", "mask"], &["s"]), node("Softmax", &["s"], &["y"])],
        vec![init("mask", &[4], &[0.0, -1e9, f32::MIN, 0.0])],
    );
    let options = ConvertOptions { constants: ConstantPolicy::Clamp, ..ConvertOptions::default() };
    let done = convert(&m, &options).unwrap();
    assert_eq!(done.model.graph.initializers[0].tensor.to_f64().unwrap(), [0.0, -16384.0, -16384.0, 0.0]);
    let error = ConvertOptions { constants: ConstantPolicy::Error, ..ConvertOptions::default() };
    let e = convert(&m, &error).unwrap_err();
    assert_eq!(e.code(), ErrorCode::Precision);
    assert!(e.message().contains("'mask'") && e.message().contains("node_s"), "{e}");
}

#[test]
fn clip_bounds_beyond_half_become_infinite() {
    let m = model(
        vec![node("Clip", &["x", "zero", "max"], &["y"])],
        vec![init("zero", &[], &[0.0]), init("max", &[], &[f32::MAX])],
    );
    let done = half(&m);
    assert_eq!(ops(&done.model), ["Clip"]);
    assert_eq!(done.model.graph.initializers[1].tensor.to_f64().unwrap(), [f64::INFINITY]);
}

fn layer_norm(eps: f32) -> Model {
    let mean = |i: &str, o: &str| with(node("ReduceMean", &[i], &[o]), "axes", AttributeValue::Ints(vec![-1]));
    model(
        vec![
            node("MatMul", &["x", "w"], &["h"]),
            mean("h", "mean"),
            node("Sub", &["h", "mean"], &["centered"]),
            node("Pow", &["centered", "two"], &["squared"]),
            mean("squared", "variance"),
            node("Add", &["variance", "eps"], &["shifted"]),
            node("Sqrt", &["shifted"], &["deviation"]),
            node("Div", &["centered", "deviation"], &["normal"]),
            node("Mul", &["normal", "gamma"], &["scaled"]),
            node("MatMul", &["scaled", "w"], &["y"]),
        ],
        vec![
            init("w", &[4, 4], &WEIGHTS),
            init("two", &[], &[2.0]),
            init("eps", &[], &[eps]),
            init("gamma", &[4], &WEIGHTS[..4]),
        ],
    )
}

#[test]
fn layer_norm_overflow() {
    for eps in [1e-5, 1e-12] {
        let done = half(&layer_norm(eps));
        for inner in ["mean", "centered", "squared", "variance", "shifted", "deviation", "normal"] {
            assert_ne!(rule_of(&done, inner), "", "'{inner}' of a decomposed LayerNorm is half");
        }
        for outer in ["h", "scaled", "y"] {
            assert_eq!(rule_of(&done, outer), "", "'{outer}' is kept in FP32");
        }
        assert_eq!(done.report.casts_added, 2, "one cast in, one out: {:?}", ops(&done.model));
        assert_eq!(dtype_of(&done.model, "eps"), DataType::Float32);
    }
}

#[test]
fn pure_converts_what_is_legal() {
    let options = ConvertOptions { policy: Policy::Pure, ..ConvertOptions::default() };
    let done = convert(&layer_norm(1e-5), &options).unwrap();
    assert_eq!(done.report.float_nodes, 0);
    assert_eq!(done.report.casts_added, 0);
}

#[test]
fn positions_stay_fp32_back_to_their_source() {
    let mut m = model(
        vec![
            with(node("Cast", &["ids"], &["position"]), "to", AttributeValue::Int(1)),
            node("MatMul", &["position", "frequencies"], &["angle"]),
            node("Sin", &["angle"], &["sine"]),
            node("Mul", &["x", "sine"], &["y"]),
        ],
        vec![init("frequencies", &[4, 4], &WEIGHTS)],
    );
    m.graph.inputs.push(value("ids", DataType::Int64));
    let done = half(&m);
    assert_eq!(rule_of(&done, "angle"), "meaning");
    assert_eq!(rule_of(&done, "sine"), "meaning");
    assert_eq!(rule_of(&done, "y"), "");
    assert_eq!(done.model.graph.nodes[0].int("to"), Some(1), "the positions are FP32");
}

fn branch(op: &str) -> AttributeValue {
    AttributeValue::Graph(Box::new(Graph {
        name: Some(op.into()),
        nodes: vec![node(op, &["h", "w"], &[&format!("{op}_out")])],
        outputs: vec![value(&format!("{op}_out"), DataType::Float32)],
        ..Graph::default()
    }))
}

#[test]
fn if_bodies_are_converted_with_their_captures() {
    let choose = with(node("If", &["c"], &["y"]), "then_branch", branch("Mul"));
    let mut m = model(
        vec![node("Relu", &["x"], &["h"]), with(choose, "else_branch", branch("Add"))],
        vec![init("w", &[4], &WEIGHTS[..4])],
    );
    m.graph.inputs.push(ValueInfo::new("c", ValueType::tensor(DataType::Bool, Some(vec![]))));
    let done = half(&m);
    assert_eq!(done.report.casts_added, 0);
    assert_eq!(done.report.half_nodes, 4);
    // One branch kept in FP32: its own result is cast inside, so that both branches give the same type.
    let kept = ConvertOptions { keep_outputs: vec!["Mul_out".into()], ..ConvertOptions::default() };
    let done = convert(&m, &kept).unwrap();
    check_types(&done.model).unwrap();
    let (_, then) = done.model.graph.nodes.iter().find(|n| &*n.op_type == "If").unwrap().subgraphs().next().unwrap();
    assert_eq!(&*then.nodes.last().unwrap().op_type, "Cast");
    let stored: Vec<&str> = done.model.graph.initializers.iter().map(|i| &*i.name).collect();
    assert_eq!(stored, ["w", "w_fp16"], "both types are truly needed");
}

#[test]
fn repeated_conversion_changes_nothing() {
    for keep_io in [false, true] {
        for m in [layer_norm(1e-12), layer_norm(1e-5)] {
            let options = ConvertOptions { keep_io, ..ConvertOptions::default() };
            let once = convert(&m, &options).unwrap();
            let twice = convert(&once.model, &options).unwrap();
            assert_eq!(to_bytes(&once.model).unwrap(), to_bytes(&twice.model).unwrap(), "keep_io {keep_io}");
        }
    }
}

#[test]
fn all_nodes_kept_is_the_fp32_model() {
    let m = layer_norm(1e-5);
    let options = ConvertOptions { keep_io: true, keep_node_names: vec!["*".into()], ..ConvertOptions::default() };
    let done = convert(&m, &options).unwrap();
    assert_eq!(to_bytes(&done.model).unwrap(), to_bytes(&m).unwrap());
}

#[test]
fn training_form_is_refused_and_dropout_removed() {
    let m = model(vec![node("Dropout", &["x"], &["d"]), node("Relu", &["d"], &["y"])], vec![]);
    assert_eq!(ops(&half(&m).model), ["Relu"]);
    let m = model(vec![node("Relu", &["x"], &["r"]), node("Dropout", &["r"], &["y"])], vec![]);
    assert_eq!(ops(&half(&m).model), ["Relu", "Identity"], "the model's output keeps its name");
    let on = Initializer {
        name: "on".into(),
        tensor: Tensor::from_vec(DataType::Bool, vec![], vec![1u8]),
        doc_string: None,
        metadata: vec![],
    };
    let m = model(vec![node("Dropout", &["x", "", "on"], &["y"])], vec![on]);
    let e = convert(&m, &ConvertOptions::default()).unwrap_err();
    assert!(e.message().contains("node_y") && e.message().contains("training"), "{e}");
}

#[test]
fn silent_fp32_is_an_error_when_asked() {
    let options =
        ConvertOptions { min_half_share: 0.9, keep_op_types: vec!["MatMul".into()], ..ConvertOptions::default() };
    let e = convert(&layer_norm(1e-5), &options).unwrap_err();
    assert_eq!(e.code(), ErrorCode::Precision);
    assert!(e.message().contains("kept_by_user"), "{e}");
    let missing = ConvertOptions { keep_outputs: vec!["nowhere".into()], ..ConvertOptions::default() };
    assert!(convert(&layer_norm(1e-5), &missing).unwrap_err().message().contains("'nowhere'"));
}

#[test]
fn io_can_be_kept_by_name() {
    let m = model(vec![node("Relu", &["x"], &["y"])], vec![]);
    let options = ConvertOptions { keep_io_named: vec![("x".into(), true)], ..ConvertOptions::default() };
    let done = convert(&m, &options).unwrap();
    let dtype = |v: &ValueInfo| v.ty.as_ref().unwrap().tensor_dtype().unwrap();
    assert_eq!(dtype(&done.model.graph.inputs[0]), DataType::Float32);
    assert_eq!(dtype(&done.model.graph.outputs[0]), DataType::Float16);
    let unknown = ConvertOptions { keep_io_named: vec![("z".into(), true)], ..ConvertOptions::default() };
    assert!(convert(&m, &unknown).unwrap_err().message().contains("'z'"));
}

#[test]
fn slowness_twenty_thousand_nodes_in_linear_time() {
    let chain = |n: usize| {
        let nodes = (0..n)
            .map(|i| {
                let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
                let from = if i == 0 { "x" } else { &from };
                let to = if i == n - 1 { "y" } else { &to };
                if i % 4 == 0 { node("Max", &[from, "c"], &[to]) } else { node("Relu", &[from], &[to]) }
            })
            .collect();
        model(nodes, vec![init("c", &[1], &[0.5])])
    };
    let time = |n| {
        let m = chain(n);
        let start = std::time::Instant::now();
        half(&m);
        start.elapsed().as_secs_f64()
    };
    let (short, long) = (time(2_000), time(20_000));
    // Ten times the nodes; forty times the time would be no noise any more.
    assert!(long < 40.0 * short.max(0.002), "2,000 nodes take {short} s, 20,000 take {long} s");
}

#[test]
fn unsorted_graph() {
    let mut m = model(
        vec![node("MatMul", &["x", "w"], &["h"]), node("Relu", &["h"], &["r"]), node("Add", &["r", "x"], &["y"])],
        vec![init("w", &[4, 4], &WEIGHTS)],
    );
    let want = half(&m);
    m.graph.nodes.reverse();
    let file = to_bytes(&m).unwrap();
    let sorted = load_bytes(file.into(), External::None, &LoadOptions::default()).unwrap();
    let done = half(&sorted);
    assert_eq!(ops(&done.model), ["MatMul", "Relu", "Add"]);
    assert_eq!(to_bytes(&done.model).unwrap(), to_bytes(&want.model).unwrap());
}

#[test]
fn loop_bodies_are_converted_with_what_they_carry() {
    let scalar = |name: &str, dtype| ValueInfo::new(name, ValueType::tensor(dtype, Some(vec![])));
    let body = Graph {
        name: Some("body".into()),
        inputs: vec![scalar("i", DataType::Int64), scalar("go", DataType::Bool), value("carried", DataType::Float32)],
        outputs: vec![scalar("on", DataType::Bool), value("next", DataType::Float32), value("seen", DataType::Float32)],
        nodes: vec![
            node("Identity", &["go"], &["on"]),
            node("Mul", &["carried", "w"], &["next"]),
            node("Tanh", &["next"], &["seen"]),
        ],
        ..Graph::default()
    };
    let loops = with(node("Loop", &["rounds", "", "x"], &["y", "all"]), "body", AttributeValue::Graph(Box::new(body)));
    let rounds = Tensor::from_vec(DataType::Int64, vec![], vec![3i64]);
    let mut m = model(vec![loops], vec![init("w", &[4], &WEIGHTS[..4])]);
    m.graph.initializers.push(Initializer {
        name: "rounds".into(),
        tensor: rounds,
        doc_string: None,
        metadata: vec![],
    });
    let done = half(&m);
    assert_eq!((done.report.casts_added, done.report.float_nodes), (0, 0));
    let (_, body) = done.model.graph.nodes[0].subgraphs().next().unwrap();
    for v in [&body.inputs[2], &body.outputs[1], &body.outputs[2]] {
        assert_eq!(v.ty.as_ref().unwrap().tensor_dtype(), Some(DataType::Float16), "{}", v.name);
    }
    // A body node kept in FP32 is cast inside, and what is carried stays half.
    let kept = ConvertOptions { keep_outputs: vec!["seen".into()], ..ConvertOptions::default() };
    let done = convert(&m, &kept).unwrap();
    check_types(&done.model).unwrap();
    let (_, body) = done.model.graph.nodes[0].subgraphs().next().unwrap();
    assert_eq!(body.outputs[1].ty.as_ref().unwrap().tensor_dtype(), Some(DataType::Float16));
}

#[test]
#[ignore = "looks at 4.8 GB of weights: half a minute unoptimised"]
fn above_2_gb() {
    // 4.8 GB of FP32 that one block of 600 MB of untouched zeros stands for; the result is above 2 GB too.
    const LEN: usize = 600_000_000;
    let zeros = bytes::Bytes::from(vec![0u8; LEN]);
    let weight = |i: usize| {
        let tensor = Tensor::new(DataType::Float32, vec![4, (LEN / 16) as i64], Storage::Bytes(zeros.clone())).unwrap();
        Initializer { name: format!("w{i}").into(), tensor, doc_string: None, metadata: vec![] }
    };
    let products = (0..8).map(|i| node("MatMul", &["x", &format!("w{i}")], &[&format!("p{i}")]));
    let sums = (1..8).map(|i| {
        let before = if i == 1 { "p0".to_string() } else { format!("s{}", i - 1) };
        node("Add", &[&before, &format!("p{i}")], &[&if i == 7 { "y".to_string() } else { format!("s{i}") }])
    });
    let m = model(products.chain(sums).collect(), (0..8).map(weight).collect());
    let done = half(&m);
    assert_eq!((done.report.bytes_before, done.report.bytes_after), (8 * LEN as u64, 4 * LEN as u64));
    let e = to_bytes(&done.model).unwrap_err();
    assert!(e.message().contains("external") || e.message().contains("file"), "{e}");
}

#[test]
fn reduce_mean_zeros() {
    // Squares of small numbers are zero in half: the mean of squares of an RMS norm stays FP32.
    let mut nodes = vec![
        node("Mul", &["x", "x"], &["square"]),
        node("ReduceMean", &["square"], &["mean"]),
        node("Add", &["mean", "eps"], &["safe"]),
        node("Sqrt", &["safe"], &["root"]),
        node("Div", &["x", "root"], &["y"]),
    ];
    nodes[1] = with(nodes[1].clone(), "axes", AttributeValue::Ints(vec![-1]));
    let done = half(&model(nodes, vec![init("eps", &[], &[1e-6])]));
    for output in ["square", "mean", "safe", "root"] {
        assert_ne!(rule_of(&done, output), "", "{output} has to stay FP32");
    }
}
