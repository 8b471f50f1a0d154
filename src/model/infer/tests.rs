use super::*;
use crate::ErrorCode;
use crate::model::{
    Attribute, AttributeValue, DataType, Function, Graph, Initializer, Node, OpsetId, Tensor, TypeKind, ValueInfo,
};
use DataType::{Bool, Float16, Float32, Float64, Int32, Int64, Uint8};

fn tensor(dtype: DataType) -> ValueType {
    ValueType::tensor(dtype, None)
}

fn sequence(of: ValueType) -> ValueType {
    ValueType::new(TypeKind::Sequence(Box::new(of)))
}

fn optional(of: ValueType) -> ValueType {
    ValueType::new(TypeKind::Optional(Box::new(of)))
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Node {
    let names = |list: &[&str]| list.iter().map(|&s| Name::from(s)).collect();
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
    fn of(self, domain: &str) -> Self;
}

impl With for Node {
    fn with(mut self, name: &str, value: AttributeValue) -> Self {
        self.attributes.push(Attribute { name: name.into(), value, doc_string: None });
        self
    }

    fn of(mut self, domain: &str) -> Self {
        self.domain = domain.into();
        self
    }
}

fn body(graph: Graph) -> AttributeValue {
    AttributeValue::Graph(Box::new(graph))
}

fn int(v: DataType) -> AttributeValue {
    AttributeValue::Int(v.to_onnx().into())
}

fn untyped(name: &str) -> ValueInfo {
    ValueInfo { name: name.into(), ty: None, doc_string: None, metadata: Vec::new() }
}

/// A graph whose outputs have no declared types.
fn graph(inputs: &[(&str, ValueType)], nodes: Vec<Node>, outputs: &[&str]) -> Graph {
    Graph {
        inputs: inputs.iter().map(|(n, t)| ValueInfo::new(*n, t.clone())).collect(),
        outputs: outputs.iter().map(|n| untyped(n)).collect(),
        nodes,
        ..Graph::default()
    }
}

fn imports() -> Vec<OpsetId> {
    [("", 18), ("my", 1), ("other", 1)].map(|(d, version)| OpsetId { domain: d.into(), version }).into()
}

fn model(graph: Graph) -> Model {
    Model { ir_version: 8, opset_imports: imports(), graph, ..Model::default() }
}

fn initializer(name: &str, dtype: DataType) -> Initializer {
    let tensor = match dtype {
        Float16 => Tensor::from_vec(dtype, vec![1], vec![0u16]),
        _ => Tensor::from_vec(dtype, vec![1], vec![0f32]),
    };
    Initializer { name: name.into(), tensor, doc_string: None, metadata: Vec::new() }
}

#[track_caller]
fn types(m: &Model) -> Typing {
    check_types(m).unwrap();
    infer(m, &Declarations::default()).unwrap()
}

#[track_caller]
fn is(typing: &Typing, name: &str, want: ValueType) {
    let got = typing.values.get(name);
    assert!(got.is_some_and(|t| same_type(t, &want)), "'{name}' is {got:?}, expected {want}");
}

#[track_caller]
fn refused(m: &Model, words: &[&str]) {
    let e = check_types(m).expect_err("the types do not fit");
    words.iter().for_each(|w| assert!(e.message().contains(w), "'{w}' is missing in: {e}"));
}

#[test]
fn a_half_bias_beside_float_weights_is_named_with_both_types() {
    let with_bias = |dtype| {
        let mut g = graph(&[("x", tensor(Float32))], vec![node("Conv", &["x", "w", "b"], &["y"])], &["y"]);
        g.initializers = vec![initializer("w", Float32), initializer("b", dtype)];
        model(g)
    };
    is(&types(&with_bias(Float32)), "y", tensor(Float32));
    refused(&with_bias(Float16), &["'the_Conv' (Conv)", "input 2 'B' ('b')", "fp16", "fp32", "same type"]);
    // Inference alone goes on: the converter types models that it has yet to repair.
    is(&infer(&with_bias(Float16), &Declarations::default()).unwrap(), "y", tensor(Float32));
}

#[test]
fn what_an_operator_does_not_take_is_refused() {
    let g = graph(&[("x", tensor(Int32))], vec![node("Conv", &["x", "x"], &["y"])], &["y"]);
    refused(&model(g), &["the_Conv", "input 0 'X' ('x')", "int32", "fp16, fp64"]);
    let g = graph(&[("x", tensor(Float32))], vec![node("Relu", &["x", "x"], &["y"])], &["y"]);
    refused(&model(g), &["the_Relu", "2 inputs", "takes 1"]);
    let g = graph(&[("x", sequence(tensor(Float32)))], vec![node("Relu", &["x"], &["y"])], &["y"]);
    refused(&model(g), &["the_Relu", "sequence of fp32"]);
    // Resize takes half images, but its scales are FP32 always.
    let ins = [("x", tensor(Float16)), ("s", tensor(Float16))];
    refused(&model(graph(&ins, vec![node("Resize", &["x", "", "s"], &["y"])], &["y"])), &["input 2 'scales'", "fp16"]);
}

#[test]
fn counts_and_outputs_are_held_against_the_schema_too() {
    let g = graph(&[("x", tensor(Float32))], vec![node("Conv", &["x"], &["y"])], &["y"]);
    refused(&model(g), &["the_Conv", "1 inputs", "at least 2", "'W' is missing"]);
    let g = graph(&[("x", tensor(Float32))], vec![node("Relu", &["x"], &["y", "z"])], &["y"]);
    refused(&model(g), &["the_Relu", "output 1 'z'", "gives 1"]);
    let g = graph(&[("x", tensor(Float32))], vec![node("Concat", &[], &["y"])], &["y"]);
    refused(&model(g), &["the_Concat", "at least 1"]);
    let cast = node("Cast", &["x"], &["y"]).with("to", int(DataType::Bfloat16));
    let mut m = model(graph(&[("x", tensor(Float32))], vec![cast], &["y"]));
    is(&types(&m), "y", tensor(DataType::Bfloat16));
    m.opset_imports[0].version = 9;
    refused(&m, &["the_Cast", "output 0 'output' ('y')", "bf16", "since version 9"]);
    let nodes = vec![node("SequenceConstruct", &["x"], &["s"]), node("SequenceInsert", &["s", "h"], &["t"])];
    let g = graph(&[("x", tensor(Float32)), ("h", tensor(Float16))], nodes, &["t"]);
    refused(&model(g), &["the_SequenceInsert", "('h') is fp16", "('s') is sequence of fp32"]);
}

#[test]
fn a_rank_beyond_measure_is_not_copied_at_every_use() {
    use crate::model::Dim;
    let endless = ValueType::tensor(Float32, Some(vec![Dim::known(1); 500_000]));
    let mut g = graph(&[("x", endless.clone())], vec![], &["x"]);
    g.value_info = vec![ValueInfo::new("y0", endless)];
    g.nodes = (0..50_000).map(|i| node("Relu", &["x"], &[&format!("y{i}")])).collect();
    let t = types(&model(g));
    assert_eq!((&t.values["x"], &t.values["y0"]), (&tensor(Float32), &tensor(Float32)));
}

#[test]
fn bodies_of_other_operators_are_typed() {
    let scores = |op: &str| body(graph(&[("s", tensor(Float32))], vec![node(op, &["s"], &["r"])], &["r"]));
    let flex = |op| {
        let n = node("FlexAttention", &["q", "q", "q"], &["y"]).of("ai.onnx.preview").with("score_mod", scores(op));
        let mut m = model(graph(&[("q", tensor(Float16))], vec![n], &["y"]));
        m.opset_imports.push(OpsetId { domain: "ai.onnx.preview".into(), version: 1 });
        m
    };
    let t = types(&flex("Relu"));
    is(&t, "y", tensor(Float16));
    is(&t.subgraphs[&(0, "score_mod".into(), 0)], "r", tensor(Float32));
    refused(&flex("Not"), &["the_Not", "fp32"]);
}

#[test]
fn declarations_that_are_wrong_are_refused() {
    let mut g = graph(&[("x", tensor(Float32))], vec![node("Relu", &["x"], &["y"])], &["y"]);
    g.outputs[0].ty = Some(tensor(Float16));
    refused(&model(g.clone()), &["output 'y'", "declared fp16", "is fp32"]);
    g.outputs[0].ty = None;
    g.value_info = vec![ValueInfo::new("y", tensor(Int64))];
    refused(&model(g), &["'y'", "int64", "fp32"]);
    let mut g = graph(&[("w", tensor(Float32))], vec![node("Relu", &["w"], &["y"])], &["y"]);
    g.initializers = vec![initializer("w", Float16)];
    refused(&model(g), &["'w'", "declared fp32", "fp16"]);
}

#[test]
fn attributes_decide_types() {
    let value = AttributeValue::Tensor(initializer("", Float16));
    let nodes = vec![
        node("Cast", &["x"], &["cast"]).with("to", int(Float16)),
        node("CastLike", &["x", "i"], &["like"]),
        node("Shape", &["x"], &["shape"]),
        node("ConstantOfShape", &["shape"], &["zeros"]),
        node("ConstantOfShape", &["shape"], &["filled"]).with("value", value.clone()),
        node("Constant", &[], &["c"]).with("value", value),
        node("Constant", &[], &["ints"]).with("value_ints", AttributeValue::Ints(vec![1])),
        node("RandomNormalLike", &["x"], &["r"]),
        node("RandomNormalLike", &["x"], &["r64"]).with("dtype", int(Float64)),
        node("QuantizeLinear", &["x", "x"], &["q"]),
        node("DequantizeLinear", &["q", "x"], &["dq"]),
        node("LayerNormalization", &["cast", "cast"], &["n", "mean"]),
        node("TopK", &["cast", "shape"], &["top", "at"]),
        node("Greater", &["x", "x"], &["more"]),
    ];
    let t = types(&model(graph(&[("x", tensor(Float32)), ("i", tensor(Int32))], nodes, &["c"])));
    let want = [
        ("cast", Float16),
        ("like", Int32),
        ("shape", Int64),
        ("zeros", Float32),
        ("filled", Float16),
        ("c", Float16),
        ("ints", Int64),
        ("r", Float32),
        ("r64", Float64),
        ("q", Uint8),
        ("dq", Float32),
        ("n", Float16),
        ("mean", Float32),
        ("top", Float16),
        ("at", Int64),
        ("more", Bool),
    ];
    want.iter().for_each(|(name, dtype)| is(&t, name, tensor(*dtype)));
    let g = graph(
        &[("x", tensor(Float32))],
        vec![node("Cast", &["x"], &["y"]).with("to", AttributeValue::Int(99))],
        &["y"],
    );
    refused(&model(g), &["the_Cast", "'to'", "99"]);
}

#[test]
fn optimizers_give_new_tensors_and_new_states() {
    let n = node(
        "Adam",
        &["r", "t", "x", "w", "gx", "gw", "vx", "vw", "hx", "hw"],
        &["x2", "w2", "vx2", "vw2", "hx2", "hw2"],
    );
    let inputs: Vec<(&str, ValueType)> = n
        .inputs
        .iter()
        .map(|i| {
            let name = &**i;
            let dtype = match name {
                "t" => Int64,
                "w" | "gw" | "vw" | "hw" => Float64,
                _ => Float32,
            };
            (name, tensor(dtype))
        })
        .collect();
    let mut m = model(graph(&inputs, vec![n.clone().of("ai.onnx.preview.training")], &["x2"]));
    m.opset_imports.push(OpsetId { domain: "ai.onnx.preview.training".into(), version: 1 });
    let t = types(&m);
    for name in ["x2", "vx2", "hx2"] {
        is(&t, name, tensor(Float32));
        is(&t, &name.replace('x', "w"), tensor(Float64));
    }
}

#[test]
fn sequences_and_optionals() {
    let nodes = vec![
        node("SequenceConstruct", &["x", "x"], &["s"]),
        node("SequenceEmpty", &[], &["empty"]).with("dtype", int(Float16)),
        node("SequenceAt", &["s", "i"], &["at"]),
        node("SequenceInsert", &["s", "x"], &["more"]),
        node("ConcatFromSequence", &["more"], &["joined"]).with("axis", AttributeValue::Int(0)),
        node("SplitToSequence", &["x"], &["split"]),
        node("SequenceLength", &["s"], &["n"]),
        node("Optional", &["s"], &["o"]),
        node("Optional", &[], &["none"]).with("type", AttributeValue::Type(tensor(Float16))),
        node("OptionalGetElement", &["o"], &["got"]),
        node("OptionalHasElement", &["o"], &["has"]),
        node("SequenceMap", &["s"], &["mapped"])
            .with("body", body(graph(&[("e", tensor(Float32))], vec![node("Shape", &["e"], &["d"])], &["d"]))),
    ];
    let m = model(graph(&[("x", tensor(Float32)), ("i", tensor(Int64))], nodes, &["n"]));
    let t = types(&m);
    is(&t, "s", sequence(tensor(Float32)));
    is(&t, "empty", sequence(tensor(Float16)));
    is(&t, "at", tensor(Float32));
    is(&t, "more", sequence(tensor(Float32)));
    is(&t, "joined", tensor(Float32));
    is(&t, "split", sequence(tensor(Float32)));
    is(&t, "n", tensor(Int64));
    is(&t, "o", optional(sequence(tensor(Float32))));
    is(&t, "none", optional(tensor(Float16)));
    is(&t, "got", sequence(tensor(Float32)));
    is(&t, "has", tensor(Bool));
    is(&t, "mapped", sequence(tensor(Int64)));
}

#[test]
fn branches_see_captures_and_must_agree() {
    let branch = |op: &str, captured: &str| body(graph(&[], vec![node(op, &[captured], &["t"])], &["t"]));
    let with = |then, other| {
        let n = node("If", &["c"], &["y"]).with("then_branch", then).with("else_branch", other);
        let nodes = vec![node("Shape", &["x"], &["shape"]), n];
        model(graph(&[("c", tensor(Bool)), ("x", tensor(Float16))], nodes, &["y"]))
    };
    let t = types(&with(branch("Relu", "x"), branch("Neg", "x")));
    is(&t, "y", tensor(Float16));
    is(&t.subgraphs[&(1, "else_branch".into(), 0)], "t", tensor(Float16));
    refused(&with(branch("Relu", "x"), branch("Neg", "shape")), &["the_If", "fp16", "int64"]);
    // The error in a branch says where the branch is.
    refused(
        &with(branch("Relu", "x"), branch("Conv", "shape")),
        &["else_branch of 'the_If' (If)", "the_Conv", "int64"],
    );
    let two = body(graph(&[], vec![node("Relu", &["x"], &["t"]), node("Neg", &["x"], &["u"])], &["t", "u"]));
    refused(&with(branch("Relu", "x"), two), &["the_If", "1 outputs", "2"]);
}

fn loop_model(carried: ValueType, keep: Node, scanned: &str) -> Model {
    let ins = ["i", "c", "s"].map(untyped).to_vec();
    let nodes = vec![node("Identity", &["c"], &["go"]), keep, node("Add", &["x", "x"], &["twice"])];
    let inner = Graph { inputs: ins, ..graph(&[], nodes, &["go", "s_out", scanned]) };
    let n = node("Loop", &["n", "", "start"], &["end", "all"]).with("body", body(inner));
    model(graph(&[("n", tensor(Int64)), ("start", carried), ("x", tensor(Float16))], vec![n], &["end", "all"]))
}

#[test]
fn loops_give_their_bodies_types_and_keep_what_they_carry() {
    // The body's inputs have no declared types: they get what the loop gives them.
    let t = types(&loop_model(tensor(Float64), node("Neg", &["s"], &["s_out"]), "twice"));
    is(&t, "end", tensor(Float64));
    is(&t, "all", tensor(Float16));
    let inside = &t.subgraphs[&(0, "body".into(), 0)];
    is(inside, "i", tensor(Int64));
    is(inside, "c", tensor(Bool));
    is(inside, "s_out", tensor(Float64));
    let changes = loop_model(tensor(Float32), node("Cast", &["s"], &["s_out"]).with("to", int(Float16)), "twice");
    refused(&changes, &["the_Loop", "carried value 0", "fp32", "fp16"]);
    // An empty optional goes in, its content comes out.
    let fills = loop_model(optional(tensor(Float32)), node("OptionalGetElement", &["s"], &["s_out"]), "twice");
    is(&types(&fills), "end", tensor(Float32));
}

#[test]
fn scans_carry_states_and_collect_the_rest() {
    let nodes = vec![node("Add", &["s", "e"], &["s_out"]), node("Shape", &["e"], &["d"])];
    let inner = Graph { inputs: ["s", "e"].map(untyped).to_vec(), ..graph(&[], nodes, &["s_out", "d"]) };
    let scan = |state| {
        let n = node("Scan", &["s0", "xs"], &["end", "dims"])
            .with("num_scan_inputs", AttributeValue::Int(1))
            .with("body", body(inner.clone()));
        model(graph(&[("s0", tensor(state)), ("xs", tensor(Float16))], vec![n], &["end"]))
    };
    let t = types(&scan(Float16));
    is(&t, "end", tensor(Float16));
    is(&t, "dims", tensor(Int64));
    refused(&scan(Float32), &["body of 'the_Scan' (Scan)", "the_Add", "fp16", "fp32"]);
}

fn function(name: &str, overload: &str, nodes: Vec<Node>, attributes: &[&str]) -> Function {
    Function {
        name: name.into(),
        domain: "my".into(),
        overload: overload.into(),
        inputs: vec!["a".into()],
        outputs: vec!["r".into()],
        attributes: attributes.iter().map(|&a| a.into()).collect(),
        nodes,
        opset_imports: imports(),
        ..Function::default()
    }
}

#[test]
fn functions_are_typed_for_each_call() {
    let reference = AttributeValue::Reference { attribute: "kind".into(), kind: 2 };
    let cast = vec![node("Cast", &["a"], &["r"]).with("to", reference.clone())];
    // A function that hands its attribute on to another.
    let through = vec![node("ToKind", &["a"], &["r"]).of("my").with("kind", reference)];
    let call = |f: &str, input: &str, output: &str| node(f, &[input], &[output]).of("my");
    let mut second = call("Same", "h", "shape");
    second.overload = "shape".into();
    let nodes = vec![
        call("Same", "x", "x2"),
        call("Same", "h", "h2"),
        second,
        call("ToKind", "x", "half").with("kind", int(Float16)),
        call("ToKind", "x", "long").with("kind", int(Int64)),
        call("Through", "x", "double").with("kind", int(Float64)),
    ];
    let mut m = model(graph(&[("x", tensor(Float32)), ("h", tensor(Float16))], nodes, &["x2"]));
    m.functions = vec![
        function("Same", "", vec![node("Relu", &["a"], &["r"])], &[]),
        function("Same", "shape", vec![node("Shape", &["a"], &["r"])], &[]),
        function("ToKind", "", cast, &["kind"]),
        function("Through", "", through, &["kind"]),
    ];
    let t = types(&m);
    let want =
        [("x2", Float32), ("h2", Float16), ("shape", Int64), ("half", Float16), ("long", Int64), ("double", Float64)];
    want.iter().for_each(|(name, dtype)| is(&t, name, tensor(*dtype)));

    let mut m = model(graph(&[("x", tensor(Int64))], vec![call("Half", "x", "y")], &["y"]));
    m.functions = vec![function("Half", "", vec![node("Conv", &["a", "a"], &["r"])], &[])];
    refused(&m, &["in function 'Half' called by 'the_Half'", "the_Conv", "int64"]);
}

#[test]
fn a_default_attribute_counts_until_the_call_gives_one() {
    let reference = AttributeValue::Reference { attribute: "kind".into(), kind: 2 };
    let mut f = function("To", "", vec![node("Cast", &["a"], &["r"]).with("to", reference)], &[]);
    f.attribute_defaults = vec![Attribute { name: "kind".into(), value: int(Float16), doc_string: None }];
    let plain = node("To", &["x"], &["y"]).of("my");
    let given = node("To", &["x"], &["z"]).of("my").with("kind", int(Int32));
    let mut m = model(graph(&[("x", tensor(Float32))], vec![plain, given], &["y"]));
    m.functions = vec![f];
    let t = types(&m);
    is(&t, "y", tensor(Float16));
    is(&t, "z", tensor(Int32));
}

#[test]
fn unknown_operators_need_declarations_and_are_named_together() {
    let nodes = vec![
        node("Mystery", &["x"], &["y"]).of("my"),
        node("Riddle", &["y"], &["z"]).of("other"),
        node("NoSuchOp", &["z"], &["w"]),
    ];
    let m = model(graph(&[("x", tensor(Float32))], nodes, &["z"]));
    let e = infer(&m, &Declarations::default()).unwrap_err();
    assert_eq!(e.code(), ErrorCode::Unsupported);
    for word in ["the_Mystery", "my::Mystery", "'y'", "the_Riddle", "'z'", "NoSuchOp", "3 nodes", "value_info"] {
        assert!(e.message().contains(word), "'{word}' is missing in: {e}");
    }
    let declared =
        |list: &[(&str, DataType)]| Declarations(list.iter().map(|(n, d)| (n.to_string(), tensor(*d))).collect());
    let some = infer(&m, &declared(&[("y", Float16), ("w", Int64)])).unwrap_err();
    assert!(some.message().contains("the_Riddle") && !some.message().contains("the_Mystery"), "{some}");
    let t = infer(&m, &declared(&[("y", Float16), ("z", Int64), ("w", Bool)])).unwrap();
    is(&t, "y", tensor(Float16));
    is(&t, "z", tensor(Int64));
    // value_info says the same.
    let mut m = m;
    m.graph.value_info = [("y", Float16), ("z", Int64), ("w", Bool)].map(|(n, d)| ValueInfo::new(n, tensor(d))).into();
    is(&types(&m), "y", tensor(Float16));
}

#[test]
fn nesting_is_walked_to_its_bound_and_refused_beyond() {
    let nested = |depth: usize| {
        let mut inner = graph(&[], vec![node("Neg", &["x"], &["t"])], &["t"]);
        for i in 0..depth {
            let out = format!("t{i}");
            let n = node("If", &["c"], &[&out]).with("then_branch", body(inner));
            let other = graph(&[], vec![node("Neg", &["x"], &["e"])], &["e"]);
            inner = graph(&[], vec![n.with("else_branch", body(other))], &[&out]);
        }
        inner.inputs = graph(&[("c", tensor(Bool)), ("x", tensor(Float16))], vec![], &[]).inputs;
        model(inner)
    };
    let deep = nested(crate::model::validate::MAX_DEPTH);
    is(&types(&deep), &format!("t{}", crate::model::validate::MAX_DEPTH - 1), tensor(Float16));
    refused(&nested(500), &["deep"]);
}

#[test]
fn chains_of_functions_end_and_do_not_multiply() {
    // Each function calls the next twice: 2^60 calls if every one were walked.
    let chain = |length: usize| {
        let mut m = model(graph(&[("x", tensor(Float16))], vec![node("F0", &["x"], &["y"]).of("my")], &["y"]));
        for i in 0..length {
            let next = format!("F{}", i + 1);
            let nodes = vec![node(&next, &["a"], &["t"]).of("my"), node(&next, &["t"], &["r"]).of("my")];
            m.functions.push(function(&format!("F{i}"), "", nodes, &[]));
        }
        m.functions.push(function(&format!("F{length}"), "", vec![node("Relu", &["a"], &["r"])], &[]));
        m
    };
    is(&types(&chain(60)), "y", tensor(Float16));
    refused(&chain(1000), &["deep"]);
}

#[test]
fn shapes_that_are_stated_are_carried_along() {
    use crate::model::Dim;
    let shaped = ValueType::tensor(Float32, Some(vec![Dim::symbol("n"), Dim::known(3)]));
    let nodes = vec![node("Relu", &["x"], &["t"]), node("Relu", &["t"], &["y"])];
    let mut g = graph(&[("x", shaped.clone())], nodes, &["y"]);
    g.value_info = vec![ValueInfo::new("t", shaped.clone())];
    let t = types(&model(g));
    assert_eq!(t.values["x"], shaped);
    assert_eq!(t.values["t"], shaped);
    assert_eq!(t.values["y"], tensor(Float32), "nothing is guessed");
}

#[test]
fn long_chains_take_linear_time() {
    let length = 100_000;
    let nodes = (0..length).map(|i| node("Relu", &[&format!("v{i}")], &[&format!("v{}", i + 1)])).collect();
    let t = types(&model(graph(&[("v0", tensor(Float16))], nodes, &[])));
    is(&t, &format!("v{length}"), tensor(Float16));
}
