//! Rules of the conversion in both directions: what they keep in FP32, and what looks alike and must not be kept.

mod onnx_builder;

use mezzo::frontend::onnx::to_bytes;
use mezzo::model::{AttributeValue, DataType, Graph, Initializer, Model, Node, Tensor, ValueInfo, ValueType};
use mezzo::precision::{ConvertOptions, convert};
use onnx_builder::{WEIGHTS, half, init, model, node, ops, rule_of, value, with};

fn cast(from: &str, to: &str, dtype: i64) -> Node {
    with(node("Cast", &[from], &[to]), "to", AttributeValue::Int(dtype))
}

const F32: i64 = 1;
const F16: i64 = 10;

/// The model reads integers too.
fn with_ids(mut m: Model) -> Model {
    m.graph.inputs.push(value("ids", DataType::Int64));
    m
}

fn einsum(equation: &str, inputs: &[&str], output: &str) -> Node {
    with(node("Einsum", inputs, &[output]), "equation", AttributeValue::String(equation.as_bytes().to_vec().into()))
}

#[test]
fn the_sine_of_a_position_is_kept_whatever_product_makes_its_angle() {
    let products = [
        node("MatMul", &["position", "w"], &["angle"]),
        node("Gemm", &["position", "w"], &["angle"]),
        node("Mul", &["position", "b"], &["angle"]),
        einsum("ij, jk -> ik", &["position", "w"], "angle"),
        einsum("ij,jk", &["position", "w"], "angle"),
        einsum("ij,j->ij", &["position", "b"], "angle"),
    ];
    for product in products {
        for op in ["Sin", "Cos"] {
            let label = format!("{op} of {} {:?}", product.op_type, product.attributes);
            let m = with_ids(model(
                vec![
                    cast("ids", "position", F32),
                    product.clone(),
                    node("Add", &["angle", "b"], &["shifted"]),
                    node(op, &["shifted"], &["wave"]),
                    node("Mul", &["x", "wave"], &["y"]),
                ],
                vec![init("w", &[4, 4], &WEIGHTS), init("b", &[4], &WEIGHTS[..4])],
            ));
            let done = half(&m);
            for kept in ["angle", "shifted", "wave"] {
                assert_eq!(rule_of(&done, kept), "meaning", "{label}: '{kept}'");
            }
            assert_eq!(rule_of(&done, "y"), "", "{label}");
            assert_eq!(done.model.graph.nodes[0].int("to"), Some(F32), "{label}");
        }
    }
}

#[test]
fn a_layer_over_integers_is_half() {
    let m = with_ids(model(
        vec![
            cast("ids", "feature", F32),
            node("MatMul", &["feature", "w"], &["hidden"]),
            node("Relu", &["hidden"], &["active"]),
            node("MatMul", &["active", "w"], &["angle"]),
            node("Sin", &["angle"], &["wave"]),
            node("Mul", &["x", "wave"], &["y"]),
        ],
        vec![init("w", &[4, 4], &WEIGHTS)],
    ));
    let done = half(&m);
    assert_eq!(done.report.float_nodes, 0, "{}", done.report.to_text());
}

#[test]
fn a_sum_of_squares_is_kept_where_half_holds_the_result_alone() {
    let reduce = |op: &str| with(node(op, &["square"], &["sum"]), "keepdims", AttributeValue::Int(1));
    let cases: [(&str, &[&str], &str); 4] = [
        ("ReduceSum", &["Sqrt"], "normalisation"),
        ("ReduceMean", &["Identity"], "normalisation"),
        ("ReduceSum", &["Relu"], ""),
        ("ReduceSum", &["Tanh", "Sqrt"], ""),
    ];
    for (op, after, rule) in cases {
        let mut nodes = vec![node("Mul", &["x", "x"], &["square"]), reduce(op)];
        let mut last = "sum".to_string();
        for (i, op) in after.iter().enumerate() {
            let next = if i + 1 == after.len() { "y".to_string() } else { format!("after{i}") };
            nodes.push(node(op, &[&last], &[&next]));
            last = next;
        }
        let mut m = model(nodes, vec![]);
        m.graph.outputs[0] = ValueInfo::new("y", ValueType::tensor(DataType::Float32, None));
        let done = half(&m);
        assert_eq!(rule_of(&done, "square"), rule, "{op} then {after:?}");
        assert_eq!(rule_of(&done, "sum"), rule, "{op} then {after:?}");
    }
}

#[test]
fn fp32_in_a_half_model_stays_and_a_round_trip_does_not() {
    // The author's own half computes `a`; what is widened behind it stays FP32.
    let island = model(
        vec![
            cast("x", "h", F16),
            node("Relu", &["h"], &["a"]),
            cast("a", "wide", F32),
            node("Exp", &["wide"], &["e"]),
            node("MatMul", &["e", "w"], &["y"]),
        ],
        vec![init("w", &[4, 4], &WEIGHTS)],
    );
    let done = half(&island);
    assert_eq!(rule_of(&done, "e"), "explicit_fp32");
    assert_eq!(rule_of(&done, "y"), "", "heavy work is half again");
    // The same without the author's Relu is a round trip, through any number of Casts.
    let trip = |between: Vec<Node>| {
        let mut nodes = vec![node("Tanh", &["x"], &["t"]), cast("t", "h", F16)];
        nodes.extend(between);
        nodes.extend([cast("h", "wide", F32), node("Exp", &["wide"], &["y"])]);
        half(&model(nodes, vec![]))
    };
    assert_eq!(ops(&trip(vec![]).model), ["Tanh", "Exp"]);
    let m = model(
        vec![
            cast("x", "a", F16),
            cast("a", "b", F32),
            cast("b", "c", F16),
            cast("c", "d", F32),
            node("Relu", &["d"], &["y"]),
        ],
        vec![],
    );
    assert_eq!(ops(&half(&m).model), ["Relu"]);
}

#[test]
fn no_cast_undoes_another() {
    // `wide` is read as FP32 by the Exp that its author wanted so, and as half by the MatMul: that one reads `a` itself.
    let m = model(
        vec![
            cast("x", "h", F16),
            node("Relu", &["h"], &["a"]),
            cast("a", "wide", F32),
            node("Exp", &["wide"], &["e"]),
            node("MatMul", &["wide", "w"], &["product"]),
            node("MatMul", &["e", "w"], &["other"]),
            node("Add", &["product", "other"], &["y"]),
        ],
        vec![init("w", &[4, 4], &WEIGHTS)],
    );
    for keep_io in [false, true] {
        let options = ConvertOptions { keep_io, ..ConvertOptions::default() };
        let done = convert(&m, &options).unwrap();
        let product = done.model.graph.nodes.iter().find(|n| *n.outputs[0] == *"product").unwrap();
        assert_eq!(&*product.inputs[0], "a");
        let twice = convert(&done.model, &options).unwrap();
        assert_eq!(to_bytes(&done.model).unwrap(), to_bytes(&twice.model).unwrap());
    }
}

fn reduced(op: &str, how: &str) -> Model {
    let mut m = model(
        vec![with(
            node(op, &["x", "at", "u"], &["y"]),
            "reduction",
            AttributeValue::String(how.as_bytes().to_vec().into()),
        )],
        vec![init("u", &[4], &WEIGHTS[..4])],
    );
    m.opset_imports[0].version = 18;
    m.graph.inputs.push(value("at", DataType::Int64));
    m.graph.outputs[0] = ValueInfo::new("y", ValueType::tensor(DataType::Float32, None));
    m
}

#[test]
fn what_accumulates_in_its_own_type_is_kept() {
    for (how, rule) in [("add", "meaning"), ("mul", "meaning"), ("max", ""), ("min", ""), ("none", "")] {
        assert_eq!(rule_of(&half(&reduced("ScatterElements", how)), "y"), rule, "{how}");
    }
}

#[test]
fn integers_finer_than_half_are_quantised_in_fp32() {
    for (zero, rule) in
        [(DataType::Int8, ""), (DataType::Uint8, ""), (DataType::Int16, "meaning"), (DataType::Uint16, "meaning")]
    {
        let mut m = model(vec![node("Relu", &["x"], &["r"]), node("QuantizeLinear", &["r", "s", "z"], &["y"])], vec![]);
        m.opset_imports[0].version = 21;
        m.graph.initializers.push(init("s", &[], &[0.1]));
        m.graph.inputs.push(ValueInfo::new("z", ValueType::tensor(zero, Some(vec![]))));
        m.graph.outputs[0] = value("y", zero);
        let done = half(&m);
        assert_eq!(rule_of(&done, "y"), rule, "{zero}");
        assert_eq!(rule_of(&done, "r"), "");
    }
}

fn body(nodes: Vec<Node>, inputs: Vec<ValueInfo>, outputs: Vec<ValueInfo>) -> AttributeValue {
    AttributeValue::Graph(Box::new(Graph { name: Some("body".into()), nodes, inputs, outputs, ..Graph::default() }))
}

#[test]
fn counts_are_kept_on_their_way_into_a_loop() {
    let flag = |name: &str| ValueInfo::new(name, ValueType::tensor(DataType::Bool, Some(vec![])));
    let float = |name: &str| value(name, DataType::Float32);
    let choose = |source: &str| {
        let branch = |op: &str, out: &str| body(vec![node(op, &[source], &[out])], vec![], vec![float(out)]);
        let then = with(node("If", &["c"], &["chosen"]), "then_branch", branch("Identity", "same"));
        with(then, "else_branch", branch("Neg", "negative"))
    };
    let round = body(
        vec![node("Add", &["state", "one"], &["next"]), node("Identity", &["go"], &["on"])],
        vec![ValueInfo::new("round", ValueType::tensor(DataType::Int64, Some(vec![]))), flag("go"), float("state")],
        vec![flag("on"), float("next")],
    );
    let start = |source: &str| {
        let first = vec![cast("ids", "position", F32), choose(source)];
        let last = [with(node("Loop", &["", "c", "chosen"], &["rounds"]), "body", round.clone())];
        let nodes = first.into_iter().chain(last).chain([node("Mul", &["x", "rounds"], &["y"])]).collect();
        let mut m = with_ids(model(nodes, vec![init("one", &[1], &[1.0])]));
        m.graph.inputs.push(flag("c"));
        half(&m)
    };
    let done = start("position");
    for kept in ["same", "negative", "next"] {
        assert_eq!(rule_of(&done, kept), "meaning", "'{kept}'");
    }
    assert_eq!(rule_of(&done, "y"), "");
    assert_eq!(done.model.graph.nodes[0].int("to"), Some(F32));
    // An activation that a loop adds up is no count.
    assert_eq!(start("x").report.float_nodes, 0);
}

#[test]
fn a_divisor_that_a_tiny_constant_bounds_is_kept_to_its_division() {
    let divided = |bound: Node, smallest: f32, end: &[Node]| {
        let mut nodes = vec![with(node("ReduceL2", &["x"], &["norm"]), "keepdims", AttributeValue::Int(1)), bound];
        nodes.push(node("Expand", &["bounded", "shape"], &["wide"]));
        nodes.extend_from_slice(end);
        let tensor = Tensor::from_vec(DataType::Int64, vec![2], vec![1i64, 4]);
        let shape = Initializer { name: "shape".into(), tensor, doc_string: None, metadata: vec![] };
        half(&model(nodes, vec![init("smallest", &[], &[smallest]), shape]))
    };
    let clip = node("Clip", &["norm", "smallest"], &["bounded"]);
    let end = [node("Div", &["x", "wide"], &["y"])];
    for bound in [
        clip.clone(),
        node("Max", &["norm", "smallest"], &["bounded"]),
        node("Add", &["norm", "smallest"], &["bounded"]),
    ] {
        let label = bound.op_type.clone();
        let done = divided(bound, 1e-12, &end);
        assert_eq!(rule_of(&done, "bounded"), "constant_flushed", "{label}");
        for kept in ["wide", "y"] {
            assert_eq!(rule_of(&done, kept), "normalisation", "{label}: '{kept}'");
        }
        assert_eq!(rule_of(&done, "norm"), "", "{label}: what is bounded may be half");
    }
    let inverse = [node("Reciprocal", &["wide"], &["inverse"]), node("Mul", &["x", "inverse"], &["y"])];
    assert_eq!(rule_of(&divided(clip.clone(), 1e-12, &inverse), "inverse"), "normalisation");
    // What half holds bounds as well in half, and what divides nothing may become zero.
    assert_eq!(divided(clip.clone(), 1e-3, &end).report.float_nodes, 0);
    let product = divided(clip, 1e-12, &[node("Mul", &["x", "wide"], &["y"])]);
    assert_eq!(rule_of(&product, "wide") + &rule_of(&product, "y"), "");
}
