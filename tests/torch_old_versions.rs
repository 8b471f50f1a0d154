//! Archives of old versions mean what they meant: the outputs are those of torch's own upgraders, which
//! tests/torch/make_old.py asked, and the same code in a newer version means something else.

use bytes::Bytes;
use mezzo::backend::{BuildOptions, Progress, RunControl, TensorValue, Value};
use mezzo::engine::{Context, Engine, Env};
use mezzo::frontend::torch::{self, InputSpec, Options};
use mezzo::model::DataType;
use serde_json::Value as Json;
use std::path::Path;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/torch/old"))
}

fn numbers(values: &Json) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The type and the values of the output, or why there is no model.
fn output(file: &str, input: &Json) -> Result<(DataType, Vec<f64>), String> {
    let values = numbers(&input["values"]);
    let (dtype, word, bytes): (_, _, Vec<u8>) = match input["type"].as_str().unwrap() {
        "int64" => (DataType::Int64, "int64", values.iter().flat_map(|v| (*v as i64).to_le_bytes()).collect()),
        "float32" => (DataType::Float32, "fp32", values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()),
        other => panic!("{other}"),
    };
    let inputs = vec![InputSpec::parse(&format!("x={}:{word}", values.len())).unwrap()];
    let bytes_of_file = std::fs::read(folder().join(file)).unwrap();
    let model = torch::load_bytes(Bytes::from(bytes_of_file), &Options { inputs, ..Options::default() })
        .map_err(|e| e.message().to_owned())?;
    let options = BuildOptions::default();
    let engine = Engine::build(&Env::default_env(), &model, "cpu", &options, &Progress::default()).unwrap();
    let mut context = Context::new(&engine).unwrap();
    context.bind("x", Value::Tensor(TensorValue::copy_of(dtype, vec![values.len()], &bytes).unwrap())).unwrap();
    context.run(&RunControl::default()).unwrap();
    let Value::Tensor(tensor) = context.output("output").unwrap() else { panic!("{file}: no tensor") };
    Ok((tensor.dtype(), tensor.to_f64().unwrap()))
}

#[test]
fn old_archives_mean_what_they_meant() {
    let expected: Json = serde_json::from_slice(&std::fs::read(folder().join("expected.json")).unwrap()).unwrap();
    let (mut compared, mut refused) = (0, 0);
    for (file, case) in expected.as_object().unwrap() {
        let got = output(file, &case["input"]);
        let want = &case["output"];
        if want.get("refused").is_some() {
            assert!(got.is_err(), "{file}: torch refuses it, the result was {got:?}");
            refused += 1;
            continue;
        }
        let (dtype, got) = got.unwrap_or_else(|e| panic!("{file}: {e}"));
        let floats = want["type"] == "float32";
        assert_eq!(dtype, if floats { DataType::Float32 } else { DataType::Int64 }, "{file}");
        let want = numbers(&want["values"]);
        assert_eq!(got.len(), want.len(), "{file}");
        for (g, w) in got.iter().zip(&want) {
            let near = if floats { (g - w).abs() <= 1e-6 * w.abs().max(1.0) } else { g == w };
            assert!(near, "{file}: {got:?}, torch gave {want:?}");
        }
        compared += 1;
    }
    assert_eq!((compared, refused), (31, 5));
}
