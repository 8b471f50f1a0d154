//! Axes and splits that become inputs.

use super::context::{Adapted, Context, Given, decided, needed, set, set_input, take_int, take_ints};
use crate::model::{AttributeValue, DataType, Node, Tensor};

/// Squeeze, Unsqueeze, Reduce*: the attribute `axes` becomes the second input.
pub(super) fn axes(mut node: Node, c: &mut Context) -> Adapted {
    let axes = match take_ints(&mut node, "axes")? {
        // An empty list says what none says, except to Unsqueeze, which then changes nothing.
        Given::Value(v) if v.is_empty() && &*node.op_type != "Unsqueeze" => Given::Not,
        axes => axes,
    };
    if let Some(axes) = c.ints_of("_axes", axes)? {
        node.inputs.truncate(1);
        set_input(&mut node, 1, axes);
    }
    c.push(node);
    Ok(())
}

/// Split: the attribute `split` becomes the second input.
pub(super) fn split_13(mut node: Node, c: &mut Context) -> Adapted {
    let split = take_ints(&mut node, "split")?;
    if let Some(split) = c.ints_of("_split", split)? {
        set_input(&mut node, 1, split);
    }
    c.push(node);
    Ok(())
}

/// Split: without sizes the number of outputs must be said.
pub(super) fn split_18(mut node: Node, c: &mut Context) -> Adapted {
    if node.inputs.get(1).is_none_or(|s| s.is_empty()) {
        let count = node.outputs.len() as i64;
        set(&mut node, "num_outputs", AttributeValue::Int(count));
    }
    c.push(node);
    Ok(())
}

/// DFT: the attribute `axis` becomes the third input; its default was 1 and is -2 now.
pub(super) fn dft_20(mut node: Node, c: &mut Context) -> Adapted {
    needed(&node, 0)?;
    let axis = decided(take_int(&mut node, "axis")?, "axis", 1)?;
    let axis = c.constant("_axis", Tensor::from_vec(DataType::Int64, vec![], vec![axis]));
    set_input(&mut node, 2, axis);
    c.push(node);
    Ok(())
}
