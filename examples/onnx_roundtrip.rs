//! Loads and saves ONNX models: `onnx_roundtrip IN OUT [--external]`, or without arguments pairs of paths, separated by
//! a tab, one a line on standard input. Prints `ok` or the error, one line a model. tests/python/onnx_roundtrip.py
//! compares the results.

use mezzo::frontend::onnx::{LoadOptions, SaveExternal, load_file, save_file};
use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

fn round_trip(from: &str, to: &str, external: SaveExternal) -> mezzo::Result<()> {
    let start = Instant::now();
    let model = load_file(Path::new(from), &LoadOptions::default())?;
    let loaded = start.elapsed();
    save_file(&model, Path::new(to), external)?;
    eprintln!("{from}: load {loaded:?}, save {:?}", start.elapsed() - loaded);
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let external = if arguments.iter().any(|a| a == "--external") { SaveExternal::Always } else { SaveExternal::Auto };
    let report = |result: mezzo::Result<()>| match result {
        Ok(()) => println!("ok"),
        Err(e) => println!("{:?}: {e}", e.code()),
    };
    if let [from, to, ..] = arguments.as_slice() {
        return report(round_trip(from, to, external));
    }
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_once('\t') {
            Some((from, to)) => report(round_trip(from, to, external)),
            None => println!("each line needs two paths, separated by a tab"),
        }
    }
}
