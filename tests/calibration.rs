//! Conversion that goes by the ranges of samples: `mezzo convert --samples`, `--input` and `--random-inputs`.

mod cli_common;

use cli_common::{Folder, constant, f32s, float, json, node, npy, refused, save, succeeds};
use mezzo::backend::{TensorValue, Value};
use mezzo::engine::Env;
use mezzo::frontend::onnx;
use mezzo::model::{DataType, Dim, Graph};
use mezzo::precision::{Calibrator, ConvertOptions, convert};
use serde_json::json as value;
use std::io::Write;

/// y = Relu(x * 1000 * 0.001): the products may leave half's range, what comes behind does not.
fn products(path: &str) {
    save(
        path,
        Graph {
            inputs: vec![float("x", vec![Dim::symbol("N"), Dim::known(4)])],
            outputs: vec![float("y", vec![Dim::symbol("N"), Dim::known(4)])],
            initializers: vec![constant("k", &[1000.0]), constant("small", &[0.001])],
            nodes: vec![
                node("Mul", &["x", "k"], &["products"]),
                node("Mul", &["products", "small"], &["scaled"]),
                node("Relu", &["scaled"], &["y"]),
            ],
            ..Graph::default()
        },
    );
}

fn precisions(report: &serde_json::Value) -> Vec<(String, String)> {
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_string();
    report["nodes"].as_array().unwrap().iter().map(|n| (text(&n["output"]), text(&n["rule"]))).collect()
}

#[test]
fn what_leaves_the_range_on_a_sample_stays_fp32() {
    let folder = Folder::new("samples");
    let (file, out, sample) = (folder.file("m.onnx"), folder.file("out.onnx"), folder.file("x.npy"));
    products(&file);
    let given = format!("x={sample}");
    let convert = |values: &[f32]| {
        npy(&sample, "<f4", "(1, 4)", false, &f32s(values));
        json(&["convert", &file, &out, "--input", &given])
    };
    let report = convert(&[1.0, -2.0, 3.0, 4.0]);
    assert!(precisions(&report).iter().all(|(_, rule)| rule.is_empty()), "{report}");
    assert_eq!(
        (&report["ranges"]["samples"], &report["ranges"]["tensors"]["products"]["min"]),
        (&value!(1), &value!(-2000.0))
    );

    let report = convert(&[1.0, -2.0, 3.0, 400.0]);
    let rules = precisions(&report);
    let rule = |output: &str| rules.iter().find(|(o, _)| o == output).map(|(_, r)| r.as_str()).unwrap();
    assert_eq!((rule("products"), rule("scaled"), rule("y")), ("range", "range", ""));
    assert_eq!(report["nodes"][0]["value"], value!(400_000.0));
    let text = succeeds(&["convert", &file, &out, "--input", &given]).out;
    assert!(text.contains("400000") && text.contains("1 sample"), "{text}");
}

#[test]
fn archives_and_random_samples() {
    let folder = Folder::new("archives");
    let (file, out, sample) = (folder.file("m.onnx"), folder.file("out.onnx"), folder.file("samples.npz"));
    products(&file);
    let archive = |name: &str, values: &[f32]| {
        let array = folder.file("array.npy");
        npy(&array, "<f4", "(1, 4)", false, &f32s(values));
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&sample).unwrap());
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&std::fs::read(&array).unwrap()).unwrap();
        zip.finish().unwrap();
    };
    archive("x", &[0.0, 0.0, 0.0, 99.0]);
    let report = json(&[
        "convert",
        &file,
        &out,
        "--samples",
        &sample,
        "--samples",
        &sample,
        "--random-inputs",
        "3",
        "--random-samples",
        "2",
    ]);
    assert_eq!(report["ranges"]["samples"], value!(4));
    assert_eq!(report["nodes"][0]["value"], value!(99_000.0));
    archive("picture", &[0.0; 4]);
    refused(&["convert", &file, &out, "--samples", &sample], 1, &["'picture'", "samples.npz", "x"]);
    std::fs::write(&sample, b"PK").unwrap();
    refused(&["convert", &file, &out, "--samples", &sample], 1, &["samples.npz", "numpy.savez"]);
    refused(&["convert", &file, &out, "--input-shape", "x=1x4"], 1, &["'x'", "--random-inputs"]);
}

#[test]
fn inputs_beyond_the_range_keep_fp32_unless_asked() {
    let folder = Folder::new("io-range");
    let file = folder.file("m.onnx");
    products(&file);
    let model = onnx::load_file(std::path::Path::new(&file), &onnx::LoadOptions::default()).unwrap();
    let mut calibrator = Calibrator::new(&Env::default_env(), &model, 1, &Default::default()).unwrap();
    let x = TensorValue::copy_of(DataType::Float32, vec![1, 4], &f32s(&[1e6, 0.0, 0.0, 0.0])).unwrap();
    calibrator.run(&[("x".into(), Value::Tensor(x))]).unwrap();
    let mut options =
        ConvertOptions { ranges: Some(std::sync::Arc::new(calibrator.ranges().clone())), ..ConvertOptions::default() };
    let done = convert(&model, &options).unwrap();
    let input = |m: &mezzo::model::Model| m.graph.inputs[0].ty.as_ref().and_then(|t| t.tensor_dtype());
    assert_eq!(input(&done.model), Some(DataType::Float32));
    assert!(done.report.notes.iter().any(|n| n.contains("'x'") && n.contains("stays fp32")), "{:?}", done.report.notes);
    options.keep_io_named.push(("x".into(), false));
    let done = convert(&model, &options).unwrap();
    assert_eq!(input(&done.model), Some(DataType::Float16));
    assert!(done.report.notes.iter().any(|n| n.contains("on request")), "{:?}", done.report.notes);
}

#[test]
fn values_in_bodies_and_constants_have_ranges() {
    // The products are made of constants, and would be folded in an ordinary engine.
    let folder = Folder::new("whole");
    let file = folder.file("m.onnx");
    save(
        &file,
        Graph {
            inputs: vec![float("x", vec![Dim::known(1)])],
            outputs: vec![float("y", vec![Dim::known(1)])],
            initializers: vec![constant("a", &[300.0])],
            nodes: vec![
                node("Mul", &["a", "a"], &["square"]),
                node("Mul", &["square", "x"], &["t"]),
                node("Tanh", &["t"], &["y"]),
            ],
            ..Graph::default()
        },
    );
    let model = onnx::load_file(std::path::Path::new(&file), &onnx::LoadOptions::default()).unwrap();
    let mut calibrator = Calibrator::new(&Env::default_env(), &model, 1, &Default::default()).unwrap();
    let x = TensorValue::copy_of(DataType::Float32, vec![1], &f32s(&[0.5])).unwrap();
    calibrator.run(&[("x".into(), Value::Tensor(x))]).unwrap();
    assert!(calibrator.run(&[]).unwrap_err().message().contains("'x'"), "each sample brings all inputs");
    let range = |name: &str| calibrator.ranges().get(name).map(|r| r.max);
    assert_eq!((range("x"), range("square"), range("t")), (Some(0.5), Some(90_000.0), Some(45_000.0)));
}
