//! Takes models through all that Mezzo does with one, for `tests/python/soak_models.py`. Each line of standard input is
//! a JSON object, of which only the first two entries are needed:
//!
//! `{"model": "m.onnx", "inputs": {"x": VALUE, ...}, "half": false, "bf16": false, "pure": false, "opset": 22,
//! "engine": "m.engine", "threads": 1, "whole": false, "memory_limit": 67108864, "cancel_ms": 3000}`
//!
//! `shared/values.rs` says what a VALUE is. The model is loaded, with `half` converted (to FP16, or as `bf16`, `pure` and
//! `opset` say), written to memory and read again, built for the CPU backend, with `engine` saved there and loaded, and
//! run on the inputs; a run that takes longer than `cancel_ms` is cancelled. Each line of the answer is
//! `{"stage": "load"}` (or "convert", "save", "build", "run", "done": where it ended) with `"error"` and `"code"` unless
//! it is done, and with `"panics"`: the messages of all panics, caught ones too.

#[path = "shared/values.rs"]
mod values;

use bytes::Bytes;
use mezzo::backend::{self, BuildOptions, Progress, RunControl};
use mezzo::engine::{Context, Engine, Env};
use mezzo::frontend::onnx::{self, External};
use mezzo::hash::HashMap;
use mezzo::model::DataType;
use mezzo::precision::{self, ConvertOptions, Policy};
use mezzo::{Error, Result};
use serde_json::{Value as Json, json};
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;
use values::{bad, read};

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn panics() -> std::sync::MutexGuard<'static, Vec<String>> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(case: &Json, stage: &mut &'static str) -> Result<()> {
    let path = case["model"].as_str().ok_or_else(|| bad("no model"))?;
    let options = onnx::LoadOptions::default();
    let mut model = onnx::load_file(Path::new(path), &options)?;
    if case["half"].as_bool().unwrap_or(false) {
        *stage = "convert";
        let mut options = ConvertOptions { keep_io: true, opset: case["opset"].as_i64(), ..ConvertOptions::default() };
        if case["pure"].as_bool().unwrap_or(false) {
            options.policy = Policy::Pure;
        }
        if case["bf16"].as_bool().unwrap_or(false) {
            options.precision = DataType::Bfloat16;
        }
        let converted = precision::convert(&model, &options)?;
        let _ = (converted.report.to_text(), converted.report.to_json());
        model = converted.model;
    }
    *stage = "save";
    let bytes = onnx::to_bytes(&model)?;
    let nothing = HashMap::default();
    let model = onnx::load_bytes(Bytes::from(bytes), External::Memory(&nothing), &options)?;
    *stage = "build";
    let memory_limit = case["memory_limit"].as_u64().unwrap_or(0) as usize;
    let threads = case["threads"].as_u64().unwrap_or(1) as usize;
    let whole = case["whole"].as_bool().unwrap_or(false);
    let build = BuildOptions { threads, whole, memory_limit, ..BuildOptions::default() };
    let engine = Engine::build(&Env::default_env(), &model, "cpu", &build, &Progress::default())?;
    let engine = match case["engine"].as_str().map(Path::new) {
        Some(file) => {
            engine.save(file)?;
            Engine::load(
                &Env::default_env(),
                file,
                &backend::LoadOptions { threads, memory_limit, ..backend::LoadOptions::default() },
            )?
        }
        None => engine,
    };
    let _ = (engine.inspect_json(), serde_json::to_string(engine.info()));
    *stage = "run";
    let mut context = Context::new(&engine)?;
    for io in &engine.info().inputs {
        let value = read(&case["inputs"][&io.name]).map_err(|e| e.context(format!("input '{}'", io.name)))?;
        context.bind(&io.name, value)?;
    }
    let cancel = AtomicBool::new(false);
    let (done, wait) = mpsc::channel::<()>();
    let limit = Duration::from_millis(case["cancel_ms"].as_u64().unwrap_or(3000));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let wait = wait;
            if wait.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                cancel.store(true, Ordering::Relaxed);
            }
        });
        // Moved in, so that a panic ends the wait too.
        let _done = done;
        context.run(&RunControl { cancel: Some(&cancel), ..RunControl::default() })
    })?;
    for io in &engine.info().outputs {
        context.output(&io.name)?;
    }
    *stage = "done";
    Ok(())
}

fn main() {
    std::panic::set_hook(Box::new(|info| panics().push(info.to_string())));
    for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
        let mut stage = "load";
        let result = serde_json::from_str::<Json>(&line).map_err(bad).and_then(|case| {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&case, &mut stage)));
            caught.unwrap_or_else(|_| Err(Error::new(mezzo::ErrorCode::Internal, "panic")))
        });
        let mut answer = json!({"stage": stage, "panics": std::mem::take(&mut *panics())});
        if let Err(e) = result {
            answer["error"] = json!(e.message());
            answer["code"] = json!(format!("{:?}", e.code()));
        }
        println!("{answer}");
        let _ = std::io::stdout().flush();
    }
}
