//! Rewrites models into what the ONNX parser of TensorRT 8.5 or 8.6 understands: lines of IN, OUT and VERSION, separated by
//! tabs, on standard input; prints `ok` or the error, one line a model. tests/python/tensorrt_rewrite.py reads that.

use mezzo::backend::tensorrt::for_parser;
use mezzo::frontend::onnx::{LoadOptions, SaveExternal, load_file, save_file};
use mezzo::sys::tensorrt::Family;
use std::io::BufRead;
use std::path::Path;

fn run(from: &str, to: &str, version: &str) -> Result<(), String> {
    let family = match version {
        "8.5" => Family::V8_5,
        "8.6" => Family::V8_6,
        other => return Err(format!("'{other}' is no version whose parser needs rewriting: give 8.5 or 8.6")),
    };
    let model = load_file(Path::new(from), &LoadOptions::default()).map_err(|e| format!("load: {e}"))?;
    let new = for_parser(&model, family).map_err(|e| e.to_string())?;
    save_file(&new, Path::new(to), SaveExternal::Auto).map_err(|e| format!("save: {e}"))
}

fn main() {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let result = match line.split('\t').collect::<Vec<_>>()[..] {
            [from, to, version] => run(from, to, version),
            _ => Err("a line is IN, OUT and VERSION, separated by tabs".into()),
        };
        println!("{}", result.err().unwrap_or_else(|| "ok".into()).replace('\n', " "));
    }
}
