//! Names of the outputs: what the program returns is a tree of tuples, lists and dicts, flattened.
//!
//! A single tensor is `output`; the members of a tuple or list are `output_0`, `output_1`; those of a dict or data class
//! have their keys as names; what lies deeper is joined with dots ("hidden_states.0").

use super::items;
use serde_json::Value as Json;

/// Deeper trees keep plain numbers.
const DEPTH: usize = 32;

/// One name for each output, in order; empty if the tree cannot be read.
pub fn names(call_graph: &Json) -> Vec<String> {
    let spec = items(call_graph).iter().find(|m| m["fqn"].as_str() == Some("")).map(|m| &m["signature"]["out_spec"]);
    let tree = spec.and_then(Json::as_str).and_then(|s| serde_json::from_str::<Json>(s).ok());
    let mut out = Vec::new();
    if let Some(tree) = tree.as_ref().and_then(|t| t.get(1)) {
        walk(tree, "", &mut out, 0);
    }
    out
}

fn walk(tree: &Json, path: &str, out: &mut Vec<String>, depth: usize) {
    if tree["type"].is_null() || depth > DEPTH {
        out.push(if path.is_empty() { "output".to_owned() } else { path.to_owned() });
        return;
    }
    let keys: Vec<Json> = match &tree["context"] {
        Json::String(s) => match serde_json::from_str::<Json>(s) {
            Ok(Json::Array(keys)) => keys,
            // Data classes keep their fields in a dict.
            Ok(other) => items(&other["keys"]).to_vec(),
            Err(_) => Vec::new(),
        },
        Json::Array(keys) => keys.clone(),
        _ => Vec::new(),
    };
    for (i, child) in items(&tree["children_spec"]).iter().enumerate() {
        let key = match keys.get(i) {
            Some(Json::String(s)) => s.clone(),
            Some(Json::Number(n)) => n.to_string(),
            _ if path.is_empty() => format!("output_{i}"),
            _ => i.to_string(),
        };
        let path = if path.is_empty() { key } else { format!("{path}.{key}") };
        walk(child, &path, out, depth + 1);
    }
}
