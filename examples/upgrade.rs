//! Brings a model to a newer version of ai.onnx: `upgrade IN OUT VERSION`, or without arguments such lines, separated by
//! tabs, on standard input; prints `ok` or the error, one line a model. tests/python/upgrade_suite.py reads that.

use mezzo::frontend::onnx::{LoadOptions, SaveExternal, load_file, save_file};
use mezzo::model::upgrade::upgrade;
use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;

fn run(from: &str, to: &str, version: &str) -> Result<(), String> {
    let version = version.parse().map_err(|_| format!("'{version}' is no version of ai.onnx: give a number"))?;
    let model = load_file(Path::new(from), &LoadOptions::default()).map_err(|e| format!("load: {e}"))?;
    let new = upgrade(&model, version).map_err(|e| e.to_string())?;
    save_file(&new, Path::new(to), SaveExternal::Auto).map_err(|e| format!("save: {e}"))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                let result = match line.split('\t').collect::<Vec<_>>()[..] {
                    [from, to, version] => run(from, to, version),
                    _ => Err("a line is IN, OUT and VERSION, separated by tabs".into()),
                };
                println!("{}", result.err().unwrap_or_else(|| "ok".into()).replace('\n', " "));
            }
            ExitCode::SUCCESS
        }
        [from, to, version] => match run(from, to, version) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("error: {e}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: upgrade IN OUT VERSION");
            ExitCode::FAILURE
        }
    }
}
