//! Single changes: names, modes, and types that an operator no longer takes.

use super::context::{Adapted, Context, needed, set, text};
use crate::model::{AttributeValue, DataType, Node};

pub(super) fn scatter_11(mut node: Node, c: &mut Context) -> Adapted {
    node.op_type = "ScatterElements".into();
    c.push(node);
    Ok(())
}

/// RoiAlign: the new default shifts coordinates by half a pixel.
pub(super) fn roi_align_16(mut node: Node, c: &mut Context) -> Adapted {
    set(&mut node, "coordinate_transformation_mode", text("output_half_pixel"));
    c.push(node);
    Ok(())
}

/// GridSample: two modes have new names.
pub(super) fn grid_sample_20(mut node: Node, c: &mut Context) -> Adapted {
    if let Some(AttributeValue::Reference { .. }) = node.attribute("mode") {
        return Err(
            "its attribute 'mode' comes from the function's caller, but its values have new names: inline the \
                    function"
                .into(),
        );
    }
    match node.string("mode") {
        Some("bilinear") => set(&mut node, "mode", text("linear")),
        Some("bicubic") => set(&mut node, "mode", text("cubic")),
        _ => {}
    }
    c.push(node);
    Ok(())
}

pub(super) fn erf_13(node: Node, c: &mut Context) -> Adapted {
    floats_only(node, c)
}

pub(super) fn reduce_log_28(node: Node, c: &mut Context) -> Adapted {
    floats_only(node, c)
}

fn floats_only(node: Node, c: &mut Context) -> Adapted {
    let data = needed(&node, 0)?;
    if let Some(dtype) = c.scope.dtypes(&data).into_iter().find(|d: &DataType| !d.is_float()) {
        return Err(format!(
            "its input '{data}' is {dtype}, which the operator no longer takes: put a Cast to a float type before it and \
             one back after it"
        ));
    }
    c.push(node);
    Ok(())
}
