//! Converts a model to FP16 with the Rust API: `convert IN OUT [--keep-io]`. The command `mezzo convert` does more.

use mezzo::frontend::onnx::{LoadOptions, SaveExternal, load_file, save_file};
use mezzo::precision::{ConvertOptions, convert};
use std::path::Path;
use std::process::ExitCode;

fn run(arguments: &[String]) -> mezzo::Result<()> {
    let [source, target, rest @ ..] = arguments else {
        eprintln!("usage: convert IN OUT [--keep-io]");
        return Ok(());
    };
    let model = load_file(Path::new(source), &LoadOptions::default())?;
    let options = ConvertOptions { keep_io: rest.iter().any(|a| a == "--keep-io"), ..ConvertOptions::default() };
    let converted = convert(&model, &options)?;
    print!("{}", converted.report.to_text());
    save_file(&converted.model, Path::new(target), SaveExternal::Auto)
}

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
