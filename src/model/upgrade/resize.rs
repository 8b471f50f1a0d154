//! Upsample and Resize.
//!
//! Versions 7 to 10 say nothing of coordinates: engines use x / scale, and for the nearest neighbour round down when
//! enlarging and up when shrinking. From 11 on that is `asymmetric` with `nearest_mode` floor or ceil.

use super::context::{Adapted, Context, Given, decided, needed, set, set_input, take_floats, text};
use crate::model::{AttributeValue, DataType, Name, Node, Tensor};

const COORDINATES: &str = "coordinate_transformation_mode";

/// Upsample: the attribute `scales` becomes the second input.
pub(super) fn upsample_9(mut node: Node, c: &mut Context) -> Adapted {
    let scales = match take_floats(&mut node, "scales")? {
        Given::Not => return Err("its attribute 'scales' is missing: correct the model".into()),
        scales => decided(scales, "scales", Vec::new())?,
    };
    let dims = vec![scales.len() as i64];
    let scales = c.constant("_scales", Tensor::from_vec(DataType::Float32, dims, scales));
    set_input(&mut node, 1, scales);
    c.push(node);
    Ok(())
}

/// Upsample becomes Resize. It only enlarges, which Resize does not say: so on the way to version 11 or newer it takes the
/// form of version 11 here, where that is still known.
pub(super) fn upsample_10(mut node: Node, c: &mut Context) -> Adapted {
    node.op_type = "Resize".into();
    if c.last() < 11 {
        c.push(node);
        return Ok(());
    }
    let scales = needed(&node, 1)?;
    enlarge(node, scales, c)
}

fn enlarge(node: Node, scales: Name, c: &mut Context) -> Adapted {
    let rounding = is_nearest(&node)?.then_some("floor");
    push(node, scales, rounding, c);
    Ok(())
}

/// Brings a node into the form of version 11.
fn push(mut node: Node, scales: Name, rounding: Option<&'static str>, c: &mut Context) {
    // Version 11 requires the input, though only tf_crop_and_resize reads it.
    let roi = c.constant("_roi", Tensor::from_vec(DataType::Float32, vec![0], Vec::<f32>::new()));
    set_input(&mut node, 1, roi);
    set_input(&mut node, 2, scales);
    set(&mut node, COORDINATES, text("asymmetric"));
    if let Some(rounding) = rounding {
        set(&mut node, "nearest_mode", text(rounding));
    }
    c.push(node);
}

fn is_nearest(node: &Node) -> Result<bool, String> {
    match node.attribute("mode") {
        Some(AttributeValue::Reference { .. }) => {
            Err("its attribute 'mode' comes from the function's caller, but decides the new form: inline the function"
                .into())
        }
        _ => Ok(node.string("mode").is_none_or(|m| m == "nearest")),
    }
}

pub(super) fn resize_11(node: Node, c: &mut Context) -> Adapted {
    if node.attribute(COORDINATES).is_some() {
        // It was an Upsample and has the new form.
        c.push(node);
        return Ok(());
    }
    let scales = needed(&node, 1)?;
    if !is_nearest(&node)? {
        return enlarge(node, scales, c);
    }
    let known = c.scope.constant(&scales).and_then(Tensor::to_f64);
    let shrinks = known.as_ref().map(|s| s.iter().any(|v| *v < 1.0));
    let enlarges = known.as_ref().map(|s| s.iter().any(|v| *v > 1.0));
    match (shrinks, enlarges) {
        (Some(false), _) => enlarge(node, scales, c),
        (Some(true), Some(false)) => {
            push(node, scales, Some("ceil"), c);
            Ok(())
        }
        _ => twice(node, &scales, c),
    }
}

/// Some axes may grow and others shrink, which round differently. The nearest neighbour is chosen axis by axis, so two nodes
/// in a row do what one did.
fn twice(node: Node, scales: &Name, c: &mut Context) -> Adapted {
    let one = c.constant("_one", Tensor::from_vec(DataType::Float32, vec![1], vec![1f32]));
    let up = c.op("Max", "_enlarge", &[scales, &one], &[]);
    let down = c.op("Min", "_shrink", &[scales, &one], &[]);
    let mut first = node.clone();
    let between = c.name("_enlarged");
    first.name = c.name("_enlarging");
    first.outputs = vec![between.clone()];
    push(first, up, Some("floor"), c);
    let mut second = node;
    set_input(&mut second, 0, between);
    push(second, down, Some("ceil"), c);
    Ok(())
}

/// Resize: scales beside sizes were an empty tensor and are left out now; one coordinate mode is withdrawn.
pub(super) fn resize_13(mut node: Node, c: &mut Context) -> Adapted {
    if node.inputs.get(3).is_some_and(|s| !s.is_empty()) {
        set_input(&mut node, 2, "".into());
    }
    if node.string(COORDINATES) == Some("tf_half_pixel_for_nn") {
        if node.string("mode").is_some_and(|m| m != "nearest") || node.string("nearest_mode") != Some("floor") {
            return Err(format!(
                "its {COORDINATES} 'tf_half_pixel_for_nn' is withdrawn and has another name only for the mode 'nearest' \
                 with the nearest_mode 'floor': export the model with 'half_pixel'"
            ));
        }
        // floor((x + 0.5) / scale) is (x + 0.5) / scale - 0.5, rounded to the nearest with halves going up.
        set(&mut node, COORDINATES, text("half_pixel"));
        set(&mut node, "nearest_mode", text("round_prefer_ceil"));
    }
    c.push(node);
    Ok(())
}
