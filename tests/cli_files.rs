//! The `mezzo` command on files alone: inspect, convert, help, and errors of one line.
#![cfg(feature = "cli")]

mod cli_common;

use cli_common::*;
use mezzo::model::{AttributeValue, DataType, Dim, Graph, ValueInfo, ValueType};
use serde_json::json as value;
use std::io::Read;
use std::process::{Command, Stdio};

#[test]
fn help_and_version_are_results() {
    let all = succeeds(&["--help"]).out;
    for command in ["inspect", "convert", "build", "run", "compare", "bench"] {
        assert!(all.contains(command), "{command}");
        assert!(succeeds(&[command, "--help"]).out.contains("Usage: mezzo "), "{command}");
    }
    assert_eq!(succeeds(&["--version"]).out, format!("mezzo {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_is_not_understood_is_one_line() {
    refused(&[], 2, &["command", "mezzo --help"]);
    refused(&["polish"], 2, &["'polish'", "mezzo --help"]);
    refused(&["convert"], 2, &["<IN>, <OUT>", "mezzo convert --help"]);
    refused(&["convert", "a", "b", "--policy", "lax"], 2, &["'lax'", "safe, pure", "mezzo convert --help"]);
    refused(&["bench", "m", "--iteration", "3"], 2, &["'--iteration'", "'--iterations'"]);
    refused(&["run", "m", "--threads", "70000"], 2, &["70000"]);
    refused(&["compare", "a", "b", "--max-rel", "nan"], 2, &["--max-rel", "0.02"]);
}

#[test]
fn a_model_is_described() {
    let got = json(&["inspect", &digits()]);
    assert_eq!(got["inputs"], value!([{"name": "image", "dtype": "fp32", "shape": ["batch", 1, 8, 8]}]));
    assert_eq!(got["outputs"], value!([{"name": "logits", "dtype": "fp32", "shape": ["batch", 10]}]));
    assert_eq!(got["opsets"], value!({"ai.onnx": 17}));
    assert_eq!((&got["nodes"]["by_type"]["Conv"], &got["nodes"]["by_type"]["Relu"]), (&value!(3), &value!(4)));
    assert_eq!(got["initializers"]["by_dtype"]["fp32"], value!({"count": 19, "bytes": 227048}));
    let text = succeeds(&["inspect", &digits()]).out;
    assert!(
        text.contains("image") && text.contains("fp32 [batch,1,8,8]") && text.contains("BatchNormalization"),
        "{text}"
    );
}

#[test]
fn unknown_sizes_are_null_and_names_stay() {
    let folder = Folder::new("shapes");
    let file = folder.file("m.onnx");
    let dims = vec![Dim::known(-1), Dim::unknown(), Dim::symbol("?"), Dim::symbol("N"), Dim::known(0)];
    let flag = ValueInfo::new("flag", ValueType::tensor(DataType::Bool, Some(vec![])));
    let mut choose = node("If", &["flag"], &["z"]);
    let branch = |op: &str| Graph {
        name: Some(op.into()),
        nodes: vec![node(op, &["x"], &["inner"])],
        outputs: vec![float("inner", dims_of_any())],
        ..Graph::default()
    };
    fn dims_of_any() -> Vec<Dim> {
        vec![Dim::unknown(); 5]
    }
    let graph = |name: &str, g: Graph| mezzo::model::Attribute {
        name: name.into(),
        value: AttributeValue::Graph(Box::new(g)),
        doc_string: None,
    };
    choose.attributes = vec![graph("then_branch", branch("Relu")), graph("else_branch", branch("Neg"))];
    let any_rank = ValueInfo::new("z", ValueType::tensor(DataType::Float32, None));
    save(
        &file,
        Graph {
            inputs: vec![float("x", dims), flag, float("w", vec![Dim::known(1)])],
            outputs: vec![any_rank],
            nodes: vec![choose],
            // An input that an initializer shadows is none of the caller's.
            initializers: vec![constant("w", &[1.0])],
            ..Graph::default()
        },
    );
    let got = json(&["inspect", &file]);
    assert_eq!(
        got["inputs"],
        value!([
            {"name": "x", "dtype": "fp32", "shape": [null, null, "?", "N", 0]},
            {"name": "flag", "dtype": "bool", "shape": []}
        ])
    );
    assert_eq!(got["outputs"], value!([{"name": "z", "dtype": "fp32", "shape": null}]));
    assert_eq!(got["nodes"], value!({"count": 3, "by_type": {"If": 1, "Neg": 1, "Relu": 1}}));
    assert_eq!(got["subgraphs"], value!(2));
}

#[test]
fn a_model_is_converted() {
    let folder = Folder::new("convert");
    let (half, kept, report) = (folder.file("half.onnx"), folder.file("kept.onnx"), folder.file("report.json"));
    let text = succeeds(&["convert", &digits(), &half, "--report", &report]).out;
    assert!(text.contains("compute in fp16") && text.contains(&format!("wrote '{half}'")), "{text}");
    let got = json(&["inspect", &half]);
    assert_eq!((&got["inputs"][0]["dtype"], &got["outputs"][0]["dtype"]), (&value!("fp16"), &value!("fp16")));
    assert_eq!(got["initializers"]["by_dtype"]["fp16"]["count"], value!(19));
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(report["float_nodes"], value!(0));

    let printed = json(&["convert", &digits(), &kept, "--keep-io", "--keep-op", "Gemm"]);
    assert!(printed["nodes"].as_array().unwrap().iter().any(|n| n["op_type"] == "Gemm" && n["precision"] == "fp32"));
    let got = json(&["inspect", &kept]);
    assert_eq!((&got["inputs"][0]["dtype"], &got["outputs"][0]["dtype"]), (&value!("fp32"), &value!("fp32")));

    let text = succeeds(&["convert", &digits(), &kept, "--keep-op", "Gem", "--keep-node", "nobody*"]).out;
    assert!(text.contains("note: no node has the operator type 'Gem'") && text.contains("'nobody*'"), "{text}");

    let newer = folder.file("newer.onnx");
    let text = succeeds(&["convert", &digits(), &newer, "--precision", "bf16", "--opset", "22"]).out;
    assert!(text.contains("from version 17 of ai.onnx to version 22"), "{text}");
    assert_eq!(json(&["inspect", &newer])["opsets"]["ai.onnx"], value!(22));

    let by_name = folder.file("names.onnx");
    succeeds(&["convert", &digits(), &by_name, "--keep-io-name", "logits", "--precision", "bf16", "--policy", "pure"]);
    let got = json(&["inspect", &by_name]);
    assert_eq!((&got["inputs"][0]["dtype"], &got["outputs"][0]["dtype"]), (&value!("bf16"), &value!("fp32")));
}

#[test]
fn unknown_operators_need_a_declared_type() {
    let folder = Folder::new("declared");
    let (file, out) = (folder.file("m.onnx"), folder.file("out.onnx"));
    let mut ours = node("Frobnicate", &["x"], &["a"]);
    ours.domain = "com.example".into();
    save(
        &file,
        Graph {
            inputs: vec![float("x", vec![])],
            outputs: vec![float("y", vec![])],
            nodes: vec![ours, node("Relu", &["a"], &["y"])],
            ..Graph::default()
        },
    );
    let text = succeeds(&["inspect", &file]).out;
    assert!(text.contains("backend 'cpu': lacks com.example::Frobnicate"), "{text}");
    assert_eq!(json(&["inspect", &file])["cpu_lacks"], value!(["com.example::Frobnicate"]));
    refused(&["convert", &file, &out], 1, &["Frobnicate", "'a'"]);
    refused(&["convert", &file, &out, "--declare", "a"], 1, &["'a'", "NAME=TYPE"]);
    refused(&["convert", &file, &out, "--declare", "a=fp33"], 1, &["'fp33'"]);
    let text = succeeds(&["convert", &file, &out, "--declare", "a=fp32"]).out;
    assert!(text.contains("Frobnicate"), "{text}");
}

#[test]
fn input_may_be_output() {
    let folder = Folder::new("in-place");
    let file = folder.file("m.onnx");
    std::fs::copy(digits(), &file).unwrap();
    succeeds(&["convert", &file, &file]);
    assert_eq!(json(&["inspect", &file])["inputs"][0]["dtype"], value!("fp16"));
    let once = std::fs::read(&file).unwrap();
    succeeds(&["convert", &file, &file]);
    assert_eq!(std::fs::read(&file).unwrap(), once, "converting twice changes nothing");
    assert_eq!(folder.names(), ["m.onnx"], "nothing else is left");
}

#[test]
fn failures_of_convert_leave_nothing() {
    let folder = Folder::new("failures");
    let out = folder.file("out.onnx");
    let convert = |more: &[&str], words: &[&str]| {
        refused(&[&["convert", &digits(), &out], more].concat(), 1, words);
        assert_eq!(folder.names(), [""; 0], "after {more:?}");
    };
    convert(&["--keep-io-name", "nobody"], &["'nobody'"]);
    convert(&["--keep-io-name", "logits", "--convert-io-name", "logits"], &["'logits'", "one of the two"]);
    convert(&["--min-half-share", "1.5"], &["1.5"]);
    convert(&["--opset", "12"], &["17", "12"]);
    convert(&["--opset", "99"], &["99", "7 to 28"]);
    convert(&["--keep-op", "Conv", "--min-half-share", "0.99"], &["78.6 %", "99.0 %"]);
    convert(&["--report", &out], &["--report", "overwrite"]);
    // The same file by another path, before it exists; and the file for large weights beside it.
    let other = format!("{}/./out.onnx", out.strip_suffix("/out.onnx").unwrap());
    convert(&["--report", &other], &["--report", "overwrite"]);
    convert(&["--report", &format!("{other}.data")], &["--report", "overwrite"]);
    convert(&["--report", &folder.file("no/such/report.json")], &["no/such/report.json"]);
    refused(&["convert", &digits(), &folder.file("no/such/out.onnx")], 1, &["no/such/out.onnx"]);
    refused(&["convert", &digits(), &folder.file("")], 1, &["directory"]);
}

#[test]
fn files_that_are_no_models_are_refused() {
    let folder = Folder::new("bad");
    refused(&["inspect", &folder.file("none.onnx")], 1, &["none.onnx", "No such file"]);
    refused(&["inspect", &folder.file("")], 1, &["directory"]);
    let whole = std::fs::read(digits()).unwrap();
    for (name, bytes) in
        [("empty", &b""[..]), ("text", b"hello there"), ("cut", &whole[..whole.len() / 2]), ("engine", b"MEZZOENG")]
    {
        let file = folder.file(name);
        std::fs::write(&file, bytes).unwrap();
        refused(&["inspect", &file], 1, &[name]);
        refused(&["inspect", &file, "--json"], 1, &[name]);
    }
    refused(&["convert", &folder.file("engine"), &folder.file("x")], 1, &["engine", "model"]);
    refused(&["inspect", &digits(), "--layers"], 1, &["mezzo build"]);
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    let folder = Folder::new("names");
    let file = folder.file("m.onnx");
    let name = "a\u{1b}[31mb\nc";
    save(
        &file,
        Graph {
            inputs: vec![float(name, vec![])],
            outputs: vec![float("y", vec![])],
            nodes: vec![node("Neg", &[name], &["y"])],
            ..Graph::default()
        },
    );
    let text = succeeds(&["inspect", &file]).out;
    assert!(!text.contains('\u{1b}') && text.contains("a\\u{1b}[31mb"), "{text}");
    assert_eq!(json(&["inspect", &file])["inputs"][0]["name"], value!(name));
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mezzo"))
        .args(["inspect", &digits(), "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_mezzo")).args(["inspect", &digits()]).stdout(full).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).starts_with("error: cannot write to standard output"));
}
