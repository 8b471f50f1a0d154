//! Type inference and type checker over many models: paths on standard input, one a line; prints `ok` or the error.

use mezzo::frontend::onnx::{LoadOptions, load_file};
use mezzo::model::infer::{Declarations, check_types, infer};
use std::io::BufRead;
use std::path::Path;

fn main() {
    for path in std::io::stdin().lock().lines().map_while(Result::ok) {
        let done =
            load_file(Path::new(&path), &LoadOptions::default()).map_err(|e| format!("load: {e}")).and_then(|m| {
                infer(&m, &Declarations::default()).map_err(|e| format!("infer: {e}"))?;
                check_types(&m).map_err(|e| format!("check: {e}"))
            });
        println!("{path}: {}", done.map_or_else(|e| e, |()| "ok".into()));
    }
}
