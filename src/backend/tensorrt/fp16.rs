//! `require_fp16`: an engine that runs in float what the model has in half is an error.

use super::{layers, weak};
use crate::hash::HashMap;
use crate::model::Model;
use crate::sys::tensorrt::{Network, TypedLayer};
use crate::{Result, bail};
use serde_json::Value;

/// How many layers a message lists.
const SHOWN: usize = 8;

/// An error if the model has no half values, or a strongly typed network has layers in float for values that the model has in
/// half. In other networks a tensor's type says nothing: TensorRT 8.5 has FLOAT for matrix products and what follows them, though
/// the layers are held to half ([`weak::apply`]) and the engine runs them so. There the engine tells, once it is built.
pub fn require(model: &Model, network: &Network) -> Result<()> {
    let types = weak::value_types(model)?;
    if !types.values().any(|t| *t == "HALF") {
        bail!(
            InvalidArgument,
            "'require_fp16' is set, and the model has no FP16 value: convert it first ('mezzo build --precision fp16', or \
             mezzo_model_convert)"
        );
    }
    if !network.strongly_typed {
        return Ok(());
    }
    refuse(&widened(&network.typed_layers()?, &types))
}

/// The same for the engine that was built, as its inspector tells it. What the engine does not tell is not held against it.
pub fn require_of_engine(inspected: &Value, model: &Model) -> Result<()> {
    let layers = layers::widened(inspected, &weak::value_types(model)?);
    refuse(&layers.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The layers whose outputs the model has in half and the network in float.
fn widened<'l>(layers: &'l [TypedLayer], types: &HashMap<String, &'static str>) -> Vec<&'l str> {
    let is_half = |name: &str| types.get(name).is_some_and(|t| *t == "HALF");
    let wide = |l: &&TypedLayer| l.outputs.iter().any(|o| o.dtype == "FLOAT" && !o.is_shape && is_half(&o.name));
    layers.iter().filter(wide).map(|l| l.name.as_str()).collect()
}

/// The error that names layers which run in float although the model has their values in half.
pub fn refuse(layers: &[&str]) -> Result<()> {
    if layers.is_empty() {
        return Ok(());
    }
    let mut shown: Vec<String> = layers.iter().take(SHOWN).map(|l| format!("'{l}'")).collect();
    if layers.len() > SHOWN {
        shown.push(format!("and {} more", layers.len() - SHOWN));
    }
    bail!(
        Unsupported,
        "'require_fp16' is set, and {} layers run in float although the model has their values in FP16: {}. Build without \
         'require_fp16' to accept them",
        layers.len(),
        shown.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::tensorrt::Edge;

    #[test]
    fn layers_that_are_wider_than_the_model_are_named() {
        let layer = |name: &str, output: &str, dtype: &str| TypedLayer {
            name: name.into(),
            kind: "CONVOLUTION".into(),
            inputs: vec![],
            outputs: vec![Edge { id: 1, name: output.into(), dtype: dtype.into(), is_shape: false }],
        };
        let layers = [layer("good", "a", "HALF"), layer("wide", "b", "FLOAT"), layer("as the model", "c", "FLOAT")];
        let types =
            [("a", "HALF"), ("b", "HALF"), ("c", "FLOAT")].map(|(n, t)| (n.to_string(), t)).into_iter().collect();
        assert_eq!(widened(&layers, &types), ["wide"]);
        refuse(&[]).unwrap();
        assert!(refuse(&["wide"]).unwrap_err().message().contains("1 layers run in float"));
    }
}
