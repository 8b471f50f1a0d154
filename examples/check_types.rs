//! Type inference and type checker over many models: paths on standard input, one a line; prints `PATH: ok` or the error.
//! With `--types` each line is a JSON object instead: `path`, `error` (null if there is none) and `graphs`, the inferred
//! types of each graph's values. tests/python/type_check.py reads it.

use mezzo::frontend::onnx::{LoadOptions, load_file};
use mezzo::model::infer::{Declarations, Typing, check_types, infer};
use mezzo::model::{TypeKind, ValueType};
use serde_json::{Map, Value, json};
use std::io::BufRead;
use std::path::Path;

fn check(path: &str) -> Result<Typing, String> {
    let model = load_file(Path::new(path), &LoadOptions::default()).map_err(|e| format!("load: {e}"))?;
    let typing = infer(&model, &Declarations::default()).map_err(|e| format!("infer: {e}"))?;
    check_types(&model).map_err(|e| format!("check: {e}"))?;
    Ok(typing)
}

/// A type by ONNX's numbers, without shapes: `1`, `seq(1)`, `optional(seq(1))`, `map(7,1)`, `sparse(1)`.
fn short(ty: &ValueType) -> String {
    match &ty.kind {
        TypeKind::Tensor { dtype, .. } => dtype.to_onnx().to_string(),
        TypeKind::SparseTensor { dtype, .. } => format!("sparse({})", dtype.to_onnx()),
        TypeKind::Sequence(t) => format!("seq({})", short(t)),
        TypeKind::Optional(t) => format!("optional({})", short(t)),
        TypeKind::Map(key, t) => format!("map({},{})", key.to_onnx(), short(t)),
    }
}

/// The types of a graph under `place` ("" for the main graph), and those of its subgraphs under `place/NODE.ATTRIBUTE.I`.
fn collect(typing: &Typing, place: &str, graphs: &mut Map<String, Value>) {
    let values: Map<String, Value> = typing.values.iter().map(|(n, t)| (n.to_string(), short(t).into())).collect();
    graphs.insert(place.to_string(), values.into());
    for ((node, attribute, i), inner) in &typing.subgraphs {
        collect(inner, &format!("{place}/{node}.{attribute}.{i}"), graphs);
    }
}

fn main() {
    let with_types = std::env::args().skip(1).any(|a| a == "--types");
    for path in std::io::stdin().lock().lines().map_while(Result::ok) {
        let result = check(&path);
        if with_types {
            let mut graphs = Map::new();
            if let Ok(typing) = &result {
                collect(typing, "", &mut graphs);
            }
            println!("{}", json!({ "path": path, "error": result.err(), "graphs": graphs }));
        } else {
            println!("{path}: {}", result.err().unwrap_or_else(|| "ok".into()));
        }
    }
}
