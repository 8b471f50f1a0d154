//! What the engine's inspector says, read: which layers run in half, and which in float. Only an engine that was built with
//! the verbosity "detailed" says it.

use crate::hash::HashMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How many float layers a summary names.
const SHOWN: usize = 64;

/// How an engine's layers compute, by the types of their outputs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Precision {
    /// All layers.
    pub layers: u64,
    /// Those with a half output.
    pub half: u64,
    /// Those with float outputs and no half one.
    pub float: u64,
    /// Those of other types: indices, masks, shapes.
    pub other: u64,
    /// Those whose types the engine does not tell.
    pub unknown: u64,
    /// The names of float layers, at most 64.
    pub float_layers: Vec<String>,
}

/// The kinds of a tensor, as the inspector's words for format and type tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Half,
    Float,
    Other,
}

fn kind(words: &str) -> Kind {
    let lower = words.to_ascii_lowercase();
    // "BFloat16" and "Float16" hold "float" too.
    if ["fp16", "half", "bf16", "bfloat", "float16"].iter().any(|w| lower.contains(w)) {
        return Kind::Half;
    }
    // FP8 is neither: it is a quantised type with scales of its own.
    if lower.contains("fp32") || lower.contains("float") && !lower.contains("float8") {
        Kind::Float
    } else {
        Kind::Other
    }
}

/// A layer's outputs: name and kind. Those of which the engine tells no type are left out: TensorRT 8 has "N/A due to dynamic
/// shapes" in its place.
fn outputs(layer: &Value) -> Vec<(&str, Kind)> {
    let all = layer.get("Outputs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    all.iter()
        .filter_map(|o| {
            let words = o.get("Format/Datatype").or_else(|| o.get("Datatype"))?.as_str()?;
            let told = !words.is_empty() && !words.starts_with("N/A");
            told.then(|| (o.get("Name").and_then(Value::as_str).unwrap_or(""), kind(words)))
        })
        .collect()
}

fn name(layer: &Value) -> &str {
    layer.get("Name").and_then(Value::as_str).or(layer.as_str()).unwrap_or("")
}

fn layers(inspected: &Value) -> &[Value] {
    inspected.get("Layers").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Counts the layers of an engine; `None` if that is no inspector's answer.
pub fn precision(inspected: &Value) -> Option<Precision> {
    inspected.get("Layers")?.as_array()?;
    let mut found = Precision::default();
    for layer in layers(inspected) {
        found.layers += 1;
        let outputs = outputs(layer);
        let has = |kind| outputs.iter().any(|(_, k)| *k == kind);
        if outputs.is_empty() {
            found.unknown += 1;
        } else if has(Kind::Half) {
            found.half += 1;
        } else if has(Kind::Float) {
            found.float += 1;
            if found.float_layers.len() < SHOWN {
                found.float_layers.push(name(layer).to_string());
            }
        } else {
            found.other += 1;
        }
    }
    Some(found)
}

/// The layers that write in float what the model has in half. `types` are the float types of the model's values.
pub fn widened(inspected: &Value, types: &HashMap<String, &'static str>) -> Vec<String> {
    let is_half = |value: &str| types.get(value).is_some_and(|t| *t == "HALF");
    let wide = |l: &&Value| outputs(l).iter().any(|(value, kind)| *kind == Kind::Float && is_half(value));
    layers(inspected).iter().filter(wide).map(|l| name(l).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn layer(name: &str, output: &str, words: &str) -> Value {
        json!({ "Name": name, "LayerType": "CaskConvolution", "Outputs": [{ "Name": output, "Format/Datatype": words }] })
    }

    #[test]
    fn the_inspectors_words_are_understood() {
        for (words, expected) in [
            ("Row major linear FP32", Kind::Float),
            ("Channel major FP16 format where channel % 8 == 0", Kind::Half),
            ("Two wide channel vectorized row major FP16 format", Kind::Half),
            ("Half", Kind::Half),
            ("Float", Kind::Float),
            ("BFloat16", Kind::Half),
            ("Row major linear BF16", Kind::Half),
            ("Row major INT32", Kind::Other),
            ("Row major linear Int8 format", Kind::Other),
            ("Float8", Kind::Other),
            ("Bool", Kind::Other),
        ] {
            assert_eq!(kind(words), expected, "{words}");
        }
    }

    #[test]
    fn layers_are_counted_by_their_outputs() {
        let inspected = json!({ "Layers": [
            layer("a", "x", "Channel major FP16 format where channel % 8 == 0"),
            layer("b", "y", "Row major linear FP32"),
            layer("c", "z", "Row major INT32"),
            "only a name",
            layer("d", "x", "N/A due to dynamic shapes"),
        ], "Bindings": ["x"] });
        let found = precision(&inspected).unwrap();
        assert_eq!((found.layers, found.half, found.float, found.other, found.unknown), (5, 1, 1, 1, 2));
        assert_eq!(found.float_layers, ["b"]);
        let types = [("x", "HALF"), ("y", "HALF")].map(|(n, t)| (n.to_string(), t)).into_iter().collect();
        assert_eq!(widened(&inspected, &types), ["b"]);
        assert_eq!(widened(&inspected, &HashMap::default()), Vec::<String>::new());
        assert_eq!(precision(&json!({ "not_inspected": "no driver" })), None);
    }
}
