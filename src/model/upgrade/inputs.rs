//! Attributes that become inputs: Slice, TopK, Clip, Pad, Dropout.

use super::context::{Adapted, Context, Given, decided, needed, set_input, take_float, take_int, take_ints};
use crate::model::{AttributeValue, DataType, Node, Tensor};

pub(super) fn slice_10(mut node: Node, c: &mut Context) -> Adapted {
    for (i, name) in ["starts", "ends", "axes"].into_iter().enumerate() {
        let given = take_ints(&mut node, name)?;
        if !given.is_given() && name != "axes" {
            return Err(format!("its attribute '{name}' is missing: correct the model"));
        }
        if let Some(value) = c.ints_of(&format!("_{name}"), given)? {
            set_input(&mut node, i + 1, value);
        }
    }
    c.push(node);
    Ok(())
}

pub(super) fn top_k_10(mut node: Node, c: &mut Context) -> Adapted {
    let k = match take_int(&mut node, "k")? {
        Given::Not => return Err("its attribute 'k' is missing: correct the model".into()),
        k => decided(k, "k", 0)?,
    };
    let k = c.ints("_k", vec![k]);
    set_input(&mut node, 1, k);
    c.push(node);
    Ok(())
}

/// Clip: the bounds become scalars of the data's type.
pub(super) fn clip_11(mut node: Node, c: &mut Context) -> Adapted {
    let data = needed(&node, 0)?;
    let is_double = c.scope.dtypes(&data).contains(&DataType::Float64);
    for (i, (name, default)) in [("min", f32::MIN), ("max", f32::MAX)].into_iter().enumerate() {
        let bound = match take_float(&mut node, name)? {
            // The old default is a number, which bounds doubles.
            Given::Not if is_double => Given::Value(default),
            // Of the other types it is the least or greatest number, or beyond it: a bound left out means that too.
            Given::Value(v) if v == default && !is_double => Given::Not,
            bound => bound,
        };
        if let Some(bound) = c.float_of(&format!("_{name}"), bound, &data)? {
            set_input(&mut node, i + 1, bound);
        }
    }
    c.push(node);
    Ok(())
}

/// Pad: widths and value become inputs, the value with the data's type.
pub(super) fn pad_11(mut node: Node, c: &mut Context) -> Adapted {
    let data = needed(&node, 0)?;
    let Some(pads) = take_ints(&mut node, "pads").and_then(|p| c.ints_of("_pads", p))? else {
        return Err("its attribute 'pads' is missing: correct the model".into());
    };
    set_input(&mut node, 1, pads);
    let value = match take_float(&mut node, "value")? {
        Given::Value(0.0) => Given::Not,
        // The value is for the constant mode only; in others an input would be refused by some engines.
        _ if node.string("mode").is_some_and(|m| m != "constant") => Given::Not,
        value => value,
    };
    if let Some(value) = c.float_of("_value", value, &data)? {
        set_input(&mut node, 2, value);
    }
    c.push(node);
    Ok(())
}

/// Dropout: the mask, which had the data's type, is bool. What reads it still gets the old type.
pub(super) fn dropout_10(mut node: Node, c: &mut Context) -> Adapted {
    let Some(mask) = node.outputs.get(1).filter(|m| !m.is_empty()).cloned() else {
        c.push(node);
        return Ok(());
    };
    if !c.scope.is_read(&mask) {
        node.outputs.truncate(1);
        c.push(node);
        return Ok(());
    }
    let Some(dtype) = c.scope.dtype(&mask) else {
        return Err(format!("the type of '{mask}' is not known: add value_info for it"));
    };
    let new = c.name("_mask");
    node.outputs[1] = new.clone();
    c.push(node);
    c.op_to("Cast", &mask, &[&new], &[("to", AttributeValue::Int(dtype.to_onnx().into()))]);
    Ok(())
}

/// Dropout: the ratio becomes an input.
pub(super) fn dropout_12(mut node: Node, c: &mut Context) -> Adapted {
    match take_float(&mut node, "ratio")? {
        Given::Not => {}
        Given::Value(ratio) => {
            let ratio = c.constant("_ratio", Tensor::from_vec(DataType::Float32, vec![], vec![ratio]));
            set_input(&mut node, 1, ratio);
        }
        // The ratio does nothing without training, which a node of this form does not do.
        Given::Reference(_) => {}
    }
    c.push(node);
    Ok(())
}
