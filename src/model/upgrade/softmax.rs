//! Softmax, LogSoftmax, Hardmax: until version 12 over all axes from `axis` on, from 13 over that axis alone.

use super::context::{Adapted, Context, decided, needed, set, take_int};
use crate::model::{AttributeValue, Node, Shape};

/// The version whose step needs ranks.
pub(super) const STEP: i64 = 13;

pub(super) fn softmax_13(mut node: Node, c: &mut Context) -> Adapted {
    let data = needed(&node, 0)?;
    let output = node.outputs.first().cloned().unwrap_or_default();
    let axis = decided(take_int(&mut node, "axis")?, "axis", 1)?;
    if let Some(axis) = single_axis(axis, c.shape(&data).as_ref()) {
        set(&mut node, "axis", AttributeValue::Int(axis));
        c.push(node);
        return Ok(());
    }
    let shape = c.op("Shape", "_shape", &[&data], &[]);
    let flat = c.op("Flatten", "_flat", &[&data], &[("axis", AttributeValue::Int(axis))]);
    let result = c.name("_rows");
    set(&mut node, "axis", AttributeValue::Int(-1));
    node.inputs = vec![flat];
    node.outputs = vec![result.clone()];
    c.push(node);
    c.op_to("Reshape", &output, &[&result, &shape], &[]);
    Ok(())
}

/// The one axis that does the same: the last, or the only one from `axis` on that is longer than 1.
fn single_axis(axis: i64, shape: Option<&Shape>) -> Option<i64> {
    let Some(shape) = shape else { return (axis == -1).then_some(-1) };
    let rank = shape.len() as i64;
    let first = if axis < 0 { axis + rank } else { axis };
    if first < 0 || first >= rank {
        return None;
    }
    let mut long = (first..rank).filter(|i| shape.get(*i as usize).is_some_and(|d| d.size() != Some(1)));
    match (long.next(), long.next()) {
        (None, _) => Some(axis),
        (Some(one), None) => Some(if one == first { axis } else { one }),
        _ => None,
    }
}
