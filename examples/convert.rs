//! Converts a model to FP16 with the Rust API: `convert IN OUT [--keep-io] [--policy pure] [--bf16] [--quiet]`. The command
//! `mezzo convert` does more.

use mezzo::frontend::onnx::{LoadOptions, SaveExternal, load_file, save_file};
use mezzo::model::DataType;
use mezzo::precision::{ConvertOptions, Policy, convert};
use std::path::Path;
use std::process::ExitCode;

fn run(arguments: &[String]) -> mezzo::Result<bool> {
    let [source, target, rest @ ..] = arguments else {
        eprintln!("usage: convert IN OUT [--keep-io] [--policy pure] [--bf16] [--quiet]");
        return Ok(false);
    };
    let asked = |flag: &str| rest.iter().any(|a| a == flag);
    let model = load_file(Path::new(source), &LoadOptions::default())?;
    let mut options = ConvertOptions { keep_io: asked("--keep-io"), ..ConvertOptions::default() };
    if rest.windows(2).any(|w| w == ["--policy", "pure"]) {
        options.policy = Policy::Pure;
    }
    if asked("--bf16") {
        options.precision = DataType::Bfloat16;
    }
    let converted = convert(&model, &options)?;
    if !asked("--quiet") {
        println!("{}", converted.report.to_text());
    }
    save_file(&converted.model, Path::new(target), SaveExternal::Auto)?;
    Ok(true)
}

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
