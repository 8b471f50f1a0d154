//! Runs models on the CPU backend for judges in other languages. Each line of standard input is a JSON object:
//!
//! `{"model": "m.onnx", "inputs": {"x": VALUE, ...}, "output_folder": "out", "threads": 1, "repeat": 0}`
//!
//! VALUE is `{"dtype": 1, "dims": [2, 3], "file": "x.bin"}` (ONNX's type number, little-endian elements as ONNX packs
//! them), `{"dims": [2], "strings": ["a", "b"]}`, `{"sequence": [VALUE, ...]}` or `{"optional": VALUE or null}`. Each line of
//! the answer is `{"outputs": {name: VALUE}, "ms": [...]}`, or `{"error": ..., "code": ...}`. With `repeat`, the run is
//! repeated that often and the milliseconds of each are told.

use mezzo::backend::{self, BuildOptions, Progress, RunControl, TensorValue, Value};
use mezzo::frontend::onnx;
use mezzo::model::DataType;
use mezzo::{Error, ErrorCode, Result};
use serde_json::{Value as Json, json};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

fn bad(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::InvalidArgument, what.to_string())
}

fn dims(v: &Json) -> Vec<usize> {
    v["dims"].as_array().into_iter().flatten().filter_map(|d| d.as_u64()).map(|d| d as usize).collect()
}

fn read(v: &Json) -> Result<Value> {
    if let Some(file) = v["file"].as_str() {
        let code = v["dtype"].as_i64().unwrap_or(0) as i32;
        let dtype = DataType::from_onnx(code).ok_or_else(|| bad("unknown dtype"))?;
        let bytes = std::fs::read(file).map_err(|e| Error::io(file, &e))?;
        return Ok(Value::Tensor(TensorValue::copy_of(dtype, dims(v), &bytes)?));
    }
    if let Some(list) = v["strings"].as_array() {
        let elements = list.iter().map(|s| s.as_str().unwrap_or_default().as_bytes().to_vec()).collect::<Vec<_>>();
        return Ok(Value::Strings { dims: dims(v), elements: elements.into() });
    }
    if let Some(list) = v["sequence"].as_array() {
        return Ok(Value::Sequence(list.iter().map(read).collect::<Result<_>>()?));
    }
    match v.get("optional") {
        Some(Json::Null) => Ok(Value::Optional(None)),
        Some(inner) => Ok(Value::Optional(Some(Box::new(read(inner)?)))),
        None => Err(bad(format!("not a value: {v}"))),
    }
}

fn write(v: &Value, path: &Path) -> Result<Json> {
    Ok(match v {
        Value::Tensor(t) => {
            std::fs::write(path, t.to_bytes()?).map_err(|e| Error::io(path.display(), &e))?;
            json!({"dtype": t.dtype().to_onnx(), "dims": t.dims(), "file": path})
        }
        Value::Strings { dims, elements } => {
            let list: Vec<_> = elements.iter().map(|e| String::from_utf8_lossy(e).into_owned()).collect();
            json!({"dims": dims, "strings": list})
        }
        Value::Sequence(items) => {
            let list = items
                .iter()
                .enumerate()
                .map(|(i, item)| write(item, &path.with_extension(format!("{i}.bin"))))
                .collect::<Result<Vec<_>>>()?;
            json!({"sequence": list})
        }
        Value::Optional(None) => json!({"optional": null}),
        Value::Optional(Some(inner)) => json!({"optional": write(inner, path)?}),
    })
}

fn run(case: &Json) -> Result<Json> {
    let path = case["model"].as_str().ok_or_else(|| bad("no model"))?;
    let model = onnx::load_file(Path::new(path), &onnx::LoadOptions::default())?;
    let options = BuildOptions { threads: case["threads"].as_u64().unwrap_or(1) as usize, ..BuildOptions::default() };
    let start = Instant::now();
    let engine = backend::find("cpu")?.build(&model, &options, &Progress::default())?;
    let build_ms = start.elapsed().as_secs_f64() * 1e3;
    let mut context = engine.clone().open_context()?;
    let info = engine.info();
    let inputs = info
        .inputs
        .iter()
        .map(|io| read(&case["inputs"][&io.name]).map_err(|e| e.context(format!("input '{}'", io.name))))
        .collect::<Result<Vec<_>>>()?;
    let mut outputs: Vec<Option<Value>> = info.outputs.iter().map(|_| None).collect();
    let mut times = Vec::new();
    for _ in 0..=case["repeat"].as_u64().unwrap_or(0) {
        outputs.iter_mut().for_each(|o| *o = None);
        let start = Instant::now();
        context.run(&inputs, &mut outputs, &RunControl::default())?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let folder = Path::new(case["output_folder"].as_str().unwrap_or("."));
    let mut written = serde_json::Map::new();
    for (i, (io, value)) in info.outputs.iter().zip(&outputs).enumerate() {
        let value = value.as_ref().ok_or_else(|| bad("an output has no value"))?;
        written.insert(io.name.clone(), write(value, &folder.join(format!("output{i}.bin")))?);
    }
    Ok(json!({"outputs": written, "ms": times, "build_ms": build_ms, "activation_bytes": context.activation_bytes()}))
}

fn main() {
    for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
        let answer = match serde_json::from_str::<Json>(&line) {
            Err(e) => json!({"error": e.to_string(), "code": "InvalidArgument"}),
            Ok(case) => match std::panic::catch_unwind(|| run(&case)) {
                Ok(Ok(answer)) => answer,
                Ok(Err(e)) => json!({"error": e.message(), "code": format!("{:?}", e.code())}),
                Err(_) => json!({"error": "panic", "code": "Panic"}),
            },
        };
        println!("{answer}");
        let _ = std::io::stdout().flush();
    }
}
