//! Runs models on the CPU backend for judges in other languages. Each line of standard input is a JSON object:
//!
//! `{"model": "m.onnx", "inputs": {"x": VALUE, ...}, "output_folder": "out", "threads": 1, "repeat": 0}`
//!
//! `shared/values.rs` says what a VALUE is. Each line of the answer is `{"outputs": {name: VALUE}, "ms": [...]}`, or
//! `{"error": ..., "code": ...}`. With `repeat`, the run is repeated that often and the milliseconds of each are told.

#[path = "shared/values.rs"]
mod values;

use mezzo::backend::{self, BuildOptions, Progress, RunControl, Value};
use mezzo::frontend::onnx;
use mezzo::{Error, Result};
use serde_json::{Value as Json, json};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;
use values::{bad, read};

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
    let mut context = engine.clone().open_context(None)?;
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
