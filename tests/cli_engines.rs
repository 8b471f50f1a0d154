//! The `mezzo` command where something is executed: build, run, compare, bench.
#![cfg(feature = "cli")]

mod cli_common;

use cli_common::*;
use mezzo::model::{DataType, Dim, Graph, ValueInfo, ValueType};
use serde_json::json as value;

#[test]
fn a_model_runs_on_files() {
    let folder = Folder::new("run");
    let (model, x, y, out) =
        (folder.file("m.onnx"), folder.file("x.npy"), folder.file("y.npy"), folder.file("new/out"));
    sum_and_scale(&model, 10.0);
    // x in Fortran's order, y as float64: [[1, 2, 3], [4, 5, 6]] and [[0.5] * 3, [1.5] * 3].
    npy(&x, "<f4", "(2, 3)", true, &f32s(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    let doubles = [0.5f64, 0.5, 0.5, 1.5, 1.5, 1.5];
    npy(&y, "<f8", "(2, 3)", false, &doubles.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    let (x, y) = (format!("x={x}"), format!("y={y}"));
    let args = ["run", &model, "--input", &x, "--input", &y, "--output-dir", &out];
    let done = succeeds(&args);
    assert_eq!(read_f32s(&format!("{out}/a_sum_0.npy")), [1.5, 2.5, 3.5, 5.5, 6.5, 7.5]);
    assert_eq!(read_f32s(&format!("{out}/scaled.npy")), [15.0, 5.0, 1.75, 55.0, 13.0, 3.75]);
    assert!(read_npy(&format!("{out}/scaled.npy")).0.contains("'shape': (2, 3)"));
    assert!(done.out.contains("a/sum:0") && done.out.contains("[2,3]") && done.out.contains("55.00"), "{}", done.out);
    assert!(done.err.starts_with("note: input 'y'") && done.err.contains("fp64, converted to fp32"), "{}", done.err);

    let got = json(&args);
    let sum = &got["outputs"][0];
    assert_eq!((&sum["name"], &sum["dtype"], &sum["shape"]), (&value!("a/sum:0"), &value!("fp32"), &value!([2, 3])));
    assert_eq!((&sum["min"], &sum["max"], &sum["mean"]), (&value!(1.5), &value!(7.5), &value!(4.5)));
    assert_eq!(sum["file"], value!(format!("{out}/a_sum_0.npy")));
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let folder = Folder::new("inputs");
    let (model, x, out) = (folder.file("m.onnx"), folder.file("x.npy"), folder.file("out"));
    sum_and_scale(&model, 10.0);
    npy(&x, "<f4", "(1, 3)", false, &f32s(&[1.0; 3]));
    let run = |more: &[&str], words: &[&str]| {
        refused(&[&["run", &model, "--output-dir", &out], more].concat(), 1, words);
    };
    let good = format!("x={x}");
    run(&[], &["'x' (fp32 [N,3])", "'y'", "--random-inputs"]);
    run(&["--input", &good], &["'y'", "--input"]);
    run(&["--input", &format!("z={x}")], &["'z'", "'x'", "'y'"]);
    run(&["--input", "x"], &["NAME=FILE.npy"]);
    run(&["--input", &good, "--input", &good], &["'x'", "two files"]);
    run(&["--input", &good, "--input-shape", "x=1x3"], &["'x'", "--input-shape"]);
    run(&["--input", "x=/no/such.npy"], &["/no/such.npy"]);
    run(&["--input", &format!("x={model}")], &["m.onnx", "numpy.save"]);
    run(&["--random-inputs", "1", "--input-shape", "x=2x4"], &["'x'", "[N,3]", "[2, 4]"]);
    run(&["--random-inputs", "1", "--input-shape", "x=2x3", "--input-shape", "y=1x3"], &["'N'", "'x'", "'y'"]);
    run(&["--random-inputs", "1", "--input-shape", "x=999999999999x3"], &["'x'", "999999999999"]);
    run(&["--random-inputs", "1", "--input-shape", "x=4294967296x4294967296x4294967296"], &["byte size"]);
    let ints = folder.file("i.npy");
    npy(&ints, "<i8", "(1, 3)", false, &[0; 24]);
    run(&["--input", &format!("x={ints}"), "--random-inputs", "1"], &["'x'", "fp32", "int64", "<f4"]);
    npy(&x, "<f4", "(3,)", false, &f32s(&[1.0; 3]));
    run(&["--input", &good, "--random-inputs", "1"], &["'x'", "[N,3]", "[3]"]);
    assert!(!folder.names().contains(&"out".to_string()), "a refused run writes nothing");
}

#[test]
fn random_inputs_follow_the_given_ones() {
    let folder = Folder::new("random");
    let (model, x) = (folder.file("m.onnx"), folder.file("x.npy"));
    sum_and_scale(&model, 1.0);
    npy(&x, "<f4", "(5, 3)", false, &f32s(&[0.0; 15]));
    let outputs = |seed: &str| {
        let out = folder.file(seed);
        succeeds(&["run", &model, "--input", &format!("x={x}"), "--random-inputs", seed, "--output-dir", &out]);
        read_f32s(&format!("{out}/a_sum_0.npy"))
    };
    let first = outputs("1");
    assert_eq!(first.len(), 15, "the other input has the same N");
    assert!(first.iter().all(|v| (-1.0..1.0).contains(v)) && first[0] != first[1]);
    assert_eq!(outputs("01"), first, "a seed gives the same values again");
    assert_ne!(outputs("2"), first);
}

#[test]
fn outputs_of_one_file_name_are_refused() {
    let folder = Folder::new("collision");
    let (model, out) = (folder.file("m.onnx"), folder.file("out"));
    let one = || vec![Dim::known(1)];
    save(
        &model,
        Graph {
            inputs: vec![float("x", one())],
            outputs: vec![float("a/b", one()), float("a:b", one())],
            nodes: vec![node("Neg", &["x"], &["a/b"]), node("Abs", &["x"], &["a:b"])],
            ..Graph::default()
        },
    );
    refused(&["run", &model, "--random-inputs", "0", "--output-dir", &out], 1, &["'a/b'", "'a:b'", "a_b.npy"]);
    let text = succeeds(&["run", &model, "--random-inputs", "0"]).out;
    assert!(text.contains("a/b") && text.contains("a:b") && !text.contains("wrote"), "{text}");
}

#[test]
fn other_types_go_in_and_out() {
    let folder = Folder::new("types");
    let (model, ids, out) = (folder.file("m.onnx"), folder.file("ids.npy"), folder.file("out"));
    let tensor = |name: &str, dtype| ValueInfo::new(name, ValueType::tensor(dtype, Some(vec![Dim::symbol("N")])));
    let cast = |output: &str, to: DataType| {
        let mut n = node("Cast", &["ids"], &[output]);
        n.attributes.push(int("to", to.to_onnx().into()));
        n
    };
    save(
        &model,
        Graph {
            inputs: vec![tensor("ids", DataType::Int64)],
            outputs: vec![
                tensor("same", DataType::Int64),
                tensor("flags", DataType::Bool),
                tensor("half", DataType::Float16),
            ],
            nodes: vec![
                node("Identity", &["ids"], &["same"]),
                cast("flags", DataType::Bool),
                cast("half", DataType::Float16),
            ],
            ..Graph::default()
        },
    );
    npy(&ids, "<i8", "(3,)", false, &[5i64, 0, -2].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    succeeds(&["run", &model, "--input", &format!("ids={ids}"), "--output-dir", &out]);
    let (header, data) = read_npy(&format!("{out}/same.npy"));
    assert!(header.contains("'<i8'") && data[..8] == 5i64.to_le_bytes() && data[16..] == (-2i64).to_le_bytes());
    let (header, data) = read_npy(&format!("{out}/flags.npy"));
    assert!(header.contains("'|b1'") && data == [1, 0, 1]);
    let (header, data) = read_npy(&format!("{out}/half.npy"));
    assert!(header.contains("'<f2'") && data == [0x00, 0x45, 0, 0, 0, 0xC0]);
}

#[test]
fn bfloat16_outputs_are_written_wider_and_said_so() {
    let folder = Folder::new("bf16");
    let (model, brain, out) = (folder.file("m.onnx"), folder.file("b.onnx"), folder.file("out"));
    sum_and_scale(&model, 10.0);
    succeeds(&["convert", &model, &brain, "--precision", "bf16"]);
    let done = succeeds(&["run", &brain, "--random-inputs", "0", "--output-dir", &out]);
    assert!(done.err.contains("note: output 'scaled' is bf16") && done.err.contains("float32"), "{}", done.err);
    let values = read_f32s(&format!("{out}/scaled.npy"));
    assert!(values.iter().all(|v| v.to_bits() & 0xffff == 0), "they are bfloat16 values");
}

#[test]
fn an_engine_gives_what_its_model_gives() {
    let folder = Folder::new("engine");
    let engine = folder.file("digits.engine");
    let text = succeeds(&["build", &digits(), &engine, "--backend", "cpu"]).out;
    assert!(text.contains("fp32 [batch,1,8,8]") && text.contains(&format!("wrote '{engine}'")), "{text}");

    let got = json(&["inspect", &engine]);
    assert_eq!((&got["kind"], &got["backend"]), (&value!("engine"), &value!("cpu")));
    assert_eq!(got["inputs"], value!([{"name": "image", "dtype": "fp32", "shape": ["batch", 1, 8, 8]}]));
    assert_eq!(got["outputs"], value!([{"name": "logits", "dtype": "fp32", "shape": ["batch", 10]}]));
    assert!(got["nodes"]["count"].as_u64() > Some(0) && got["weight_bytes"].as_u64() > Some(100_000));
    let layers: serde_json::Value = serde_json::from_str(&succeeds(&["inspect", &engine, "--layers"]).out).unwrap();
    assert!(layers.to_string().contains("Conv"), "{layers}");

    let outputs = |file: &str, name: &str| {
        let out = folder.file(name);
        let shape = "image=4x1x8x8";
        succeeds(&[
            "run",
            file,
            "--random-inputs",
            "3",
            "--input-shape",
            shape,
            "--output-dir",
            &out,
            "--threads",
            "1",
        ]);
        read_f32s(&format!("{out}/logits.npy"))
    };
    let by_model = outputs(&digits(), "a");
    assert_eq!(by_model.len(), 40);
    assert_eq!(outputs(&engine, "b"), by_model);
}

#[test]
fn a_memory_limit_holds_for_models_and_engines() {
    let folder = Folder::new("limit");
    let engine = folder.file("m.engine");
    succeeds(&["build", &digits(), &engine]);
    for file in [&digits(), &engine] {
        let run =
            |limit| ["run", file, "--random-inputs", "1", "--input-shape", "image=64x1x8x8", "--memory-limit", limit];
        refused(&run("4K"), 1, &["node", "bytes are needed", "the memory limit is 4096 bytes"]);
        succeeds(&run("100M"));
        refused(&run("much"), 2, &["'much'", "500M"]);
    }
}

#[test]
fn build_converts_first_where_asked() {
    let folder = Folder::new("build");
    let (model, engine) = (folder.file("m.onnx"), folder.file("m.engine"));
    sum_and_scale(&model, 10.0);
    let got = json(&["build", &model, &engine, "--precision", "fp16"]);
    assert_eq!(got["inputs"][0], value!({"name": "x", "dtype": "fp16", "shape": ["N", 3]}));
    assert!(got["build_ms"].as_f64() > Some(0.0) && got["nodes"]["half"].as_u64() >= Some(2), "{got}");
    let got = json(&["build", &model, &engine, "--precision", "fp16", "--keep-io"]);
    assert_eq!(got["inputs"][0]["dtype"], value!("fp32"));
    refused(&["build", &model, &engine, "--keep-io"], 1, &["--precision"]);
    refused(&["build", &model, &model], 1, &["overwrite", "m.onnx"]);
    refused(&["build", &engine, &folder.file("e")], 1, &["m.engine", "model"]);
    refused(&["build", &model, &folder.file("e"), "--backend", "abacus"], 1, &["'abacus'", "'cpu'"]);

    let strange = folder.file("strange.onnx");
    save(
        &strange,
        Graph {
            inputs: vec![float("x", vec![])],
            outputs: vec![float("y", vec![])],
            nodes: vec![mezzo::model::Node { domain: "my.own".into(), ..node("Frobnicate", &["x"], &["y"]) }],
            ..Graph::default()
        },
    );
    refused(&["build", &strange, &folder.file("e")], 1, &["strange.onnx", "Frobnicate"]);
    assert!(!folder.names().contains(&"e".to_string()), "a refused build writes nothing");
}

#[test]
fn a_damaged_engine_is_refused() {
    let folder = Folder::new("damaged");
    let engine = folder.file("m.engine");
    succeeds(&["build", &digits(), &engine]);
    let whole = std::fs::read(&engine).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bytes in [&whole[..whole.len() - 1], &whole[..40], &flipped] {
        std::fs::write(&engine, bytes).unwrap();
        for command in ["inspect", "bench"] {
            refused(&[command, &engine], 1, &["m.engine"]);
        }
    }
}

#[test]
fn comparison_counts_and_judges() {
    let folder = Folder::new("compare");
    let half = folder.file("half.onnx");
    succeeds(&["convert", &digits(), &half]);
    let shape = ["--input-shape", "image=8x1x8x8"];
    let got =
        json(&[&["compare", &digits(), &half, "--max-rel", "2e-2", "--min-cosine", "0.999"], &shape[..]].concat());
    let logits = &got["outputs"][0];
    assert_eq!((&got["passed"], &got["random_seed"]), (&value!(true), &value!(0)));
    assert_eq!(
        (&logits["dtype_a"], &logits["dtype_b"], &logits["elements"]),
        (&value!("fp32"), &value!("fp16"), &value!(80))
    );
    assert!(logits["max_abs"].as_f64() > Some(0.0), "half differs");

    // A bound that is passed: the table is printed all the same, and the last line says why it failed.
    for (option, bound) in [("--max-rel", "1e-9"), ("--min-cosine", "1.5")] {
        let done = mezzo(&["compare", &digits(), &half, option, bound]);
        assert_eq!(done.code, Some(1));
        assert!(done.out.contains("logits") && done.out.contains("fp32/fp16"), "{}", done.out);
        failed_in_one_line(&done, &["'logits'", option]);
    }
    let done = mezzo(&["compare", &digits(), &half, "--max-rel", "1e-9", "--json"]);
    assert!(done.code == Some(1) && done.out.contains("\"passed\": false"), "{}", done.out);
}

#[test]
fn infinities_on_one_side_fail_a_comparison() {
    let folder = Folder::new("infinite");
    let (a, b) = (folder.file("a.onnx"), folder.file("b.onnx"));
    sum_and_scale(&a, 10.0);
    sum_and_scale(&b, f32::INFINITY);
    let done = mezzo(&["compare", &a, &b]);
    assert_eq!(done.code, Some(1));
    failed_in_one_line(&done, &["'scaled'", "infinite"]);
    assert!(done.out.contains("scaled"), "{}", done.out);
    succeeds(&["compare", &b, &b]);
}

#[test]
fn a_benchmark_measures() {
    let got = json(&["bench", &digits(), "--iterations", "12", "--warmup", "1", "--threads", "1"]);
    let latency = |key: &str| got["latency_ms"][key].as_f64().unwrap();
    assert!(0.0 < latency("min") && latency("min") <= latency("p50") && latency("p50") <= latency("p90"));
    assert!(latency("p90") <= latency("p99") && latency("min") <= latency("mean"));
    assert_eq!((&got["iterations"], &got["threads"], &got["backend"]), (&value!(12), &value!(1), &value!("cpu")));
    assert!(got["build_ms"].as_f64() > Some(0.0) && got["activation_bytes"].as_u64() > Some(0), "{got}");
    #[cfg(target_os = "linux")]
    assert!(got["peak_rss_bytes"].as_u64() > Some(1 << 20), "{got}");
    let text = succeeds(&["bench", &digits(), "--iterations", "10", "--input-shape", "image=2x1x8x8"]).out;
    assert!(text.contains("latency (p99)") && text.contains("iterations"), "{text}");
    refused(&["bench", &digits(), "--input-shape", "picture=1x1x8x8"], 1, &["'picture'", "'image'"]);
}
