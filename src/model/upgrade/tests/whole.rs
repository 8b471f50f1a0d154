//! Whole models: scopes, functions, refusals, versions.

use super::*;
use crate::model::names::Taken;

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
    let new = up(&with_function(nodes(), &["axes"], vec![call("x", "y")], std::slice::from_ref(&x)), 22);
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

#[test]
fn damaged_nodes_are_refused() {
    let none = |op: &str| node(op, &[], &["y"]);
    let groups = none("GroupNormalization").with("num_groups", AttributeValue::Int(0));
    let cases = [
        (7, none("Slice").with_ints("starts", &[0])),
        (7, none("Slice").with("starts", AttributeValue::Int(0)).with_ints("ends", &[1])),
        (7, none("TopK")),
        (7, none("Upsample")),
        (8, none("Scan")),
        (8, none("Scan").with("body", body(Graph::default())).with("num_scan_inputs", AttributeValue::Int(-1))),
        (8, node("Scan", &["", "x"], &["y"]).with("num_scan_inputs", AttributeValue::Int(5))),
        (9, none("Clip")),
        (10, none("Pad")),
        (10, none("Resize")),
        (11, none("Softmax")),
        (17, none("DFT")),
        (18, groups),
    ];
    for (opset, n) in cases {
        let label = format!("{n:?}");
        let old = model(opset, &[info("x", Float32, &[2])], vec![n], &[open("y", Float32)]);
        let e = upgrade(&old, 28).unwrap_err();
        // Type inference refuses damaged bodies itself.
        assert!(e.code() == ErrorCode::InvalidModel || e.message().contains("correct the model"), "{label}: {e}");
    }
    // A dimension that no memory holds.
    let n = node("GroupNormalization", &["x", "scale", "scale"], &["y"]).with("num_groups", AttributeValue::Int(2));
    let mut old = model(18, &[info("x", Float32, &[1, 1 << 60, 5])], vec![n], &[open("y", Float32)]);
    old.graph.initializers.push(constant("scale", floats(&[1.0, 2.0])));
    assert!(up(&old, 21).graph.nodes.iter().any(|n| n.is("Expand")));
}
