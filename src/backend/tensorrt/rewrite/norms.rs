//! Normalisations, by their ONNX function bodies: sums in FP32, scale and bias in the input's own type.

use super::activations::int;
use super::place::{Place, first_output, input, needed, output};
use crate::model::{AttributeValue, DataType, Name, Node};

type Done = Result<(), String>;

/// The type that sums are made in.
fn stash(node: &Node, dtype: DataType) -> Result<DataType, String> {
    if dtype == DataType::Float64 {
        return Ok(dtype);
    }
    match node.int("stash_type").unwrap_or(1) {
        1 => Ok(DataType::Float32),
        other if other == i64::from(dtype.to_onnx()) => Ok(dtype),
        other => Err(format!("its attribute 'stash_type' is {other}; 1 (FP32) has an older form")),
    }
}

fn axes(values: Vec<i64>) -> Vec<(&'static str, AttributeValue)> {
    vec![("axes", AttributeValue::Ints(values)), ("keepdims", int(1))]
}

/// What a normalisation divides: how much x differs from its mean, and the root of the variance.
struct Parts {
    mean: Name,
    centred: Name,
    root: Name,
}

/// Mean and standard deviation over `over`. `x` is of the type `wide`.
fn parts(p: &mut Place, x: &Name, over: &[i64], epsilon: f64, wide: DataType) -> Result<Parts, String> {
    let epsilon = p.float("_epsilon", epsilon, wide)?;
    let mean = p.op("ReduceMean", "_mean", &[x], &axes(over.to_vec()));
    let centred = p.op("Sub", "_centred", &[x, &mean], &[]);
    let square = p.op("Mul", "_square", &[&centred, &centred], &[]);
    let variance = p.op("ReduceMean", "_variance", &[&square], &axes(over.to_vec()));
    let sum = p.op("Add", "_sum", &[&variance, &epsilon], &[]);
    let root = p.op("Sqrt", "_root", &[&sum], &[]);
    Ok(Parts { mean, centred, root })
}

/// The axes from the one that is named to the last, counted from the end; `None` if the rank would have to be known.
fn last_axes(p: &Place, x: &str, axis: i64) -> Option<Vec<i64>> {
    let first = if axis < 0 { axis } else { axis - p.shape(x)?.len() as i64 };
    (first < 0).then(|| (first..0).collect())
}

/// LayerNormalization.
pub(super) fn layer(node: &Node, p: &mut Place) -> Done {
    let (x, scale) = (needed(node, 0)?, needed(node, 1)?);
    let dtype = p.known_dtype(&x)?;
    let wide = stash(node, dtype)?;
    let axis = node.int("axis").unwrap_or(-1);
    let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
    let input_in_wide = p.cast("_wide", &x, dtype, wide);
    let over = last_axes(p, &x, axis);
    let flat = match &over {
        Some(_) => input_in_wide,
        None => p.op("Flatten", "_flat", &[&input_in_wide], &[("axis", int(axis))]),
    };
    let found = parts(p, &flat, over.as_deref().unwrap_or(&[1]), epsilon, wide)?;
    let normal = p.op("Div", "_normal", &[&found.centred, &found.root], &[]);
    let normal = p.cast("_narrow", &normal, wide, dtype);
    let is_flat = over.is_none();
    let normal = if is_flat {
        let shape = p.op("Shape", "_shape", &[&x], &[]);
        p.op("Reshape", "_shaped", &[&normal, &shape], &[])
    } else {
        normal
    };
    statistics(node, p, &x, &found, is_flat, wide)?;
    let result = first_output(node)?;
    let Some(bias) = input(node, 2) else {
        p.op_to("Mul", &result, &[&normal, &scale], &[]);
        return Ok(());
    };
    let scaled = p.op("Mul", "_scaled", &[&normal, &scale], &[]);
    p.op_to("Add", &result, &[&scaled, bias], &[]);
    Ok(())
}

/// The outputs Mean and InvStdDev, where something reads them.
fn statistics(node: &Node, p: &mut Place, x: &Name, found: &Parts, flat: bool, wide: DataType) -> Done {
    let wanted = |i: usize| output(node, i).filter(|o| p.is_read(o)).cloned();
    let (mean, inverse) = (wanted(1), wanted(2));
    if mean.is_none() && inverse.is_none() {
        return Ok(());
    }
    if flat {
        return Err(format!(
            "its outputs Mean and InvStdDev are read, and the rank of '{x}' is not known: add value_info"
        ));
    }
    let stash = node.int("stash_type").unwrap_or(1);
    let to = i32::try_from(stash).ok().and_then(DataType::from_onnx).unwrap_or(wide);
    if let Some(mean) = mean {
        p.op_to("Cast", &mean, &[&found.mean], &[("to", int(to.to_onnx().into()))]);
    }
    if let Some(inverse) = inverse {
        let reciprocal = p.op("Reciprocal", "_inverse", &[&found.root], &[]);
        p.op_to("Cast", &inverse, &[&reciprocal], &[("to", int(to.to_onnx().into()))]);
    }
    Ok(())
}

/// RMSNormalization: the root of the mean of squares, over the last axes.
pub(super) fn rms(node: &Node, p: &mut Place) -> Done {
    let (x, scale, result) = (needed(node, 0)?, needed(node, 1)?, first_output(node)?);
    let dtype = p.known_dtype(&x)?;
    let wide = stash(node, dtype)?;
    let axis = node.int("axis").unwrap_or(-1);
    let Some(over) = last_axes(p, &x, axis) else {
        return Err(format!(
            "the rank of '{x}' is not known, and its axis is {axis}: add value_info, or count from the end"
        ));
    };
    let epsilon = p.float("_epsilon", f64::from(node.float("epsilon").unwrap_or(1e-5)), wide)?;
    let value = p.cast("_wide", &x, dtype, wide);
    let square = p.op("Mul", "_square", &[&value, &value], &[]);
    let mean = p.op("ReduceMean", "_mean", &[&square], &axes(over));
    let sum = p.op("Add", "_sum", &[&mean, &epsilon], &[]);
    let root = p.op("Sqrt", "_root", &[&sum], &[]);
    let normal = p.op("Div", "_normal", &[&value, &root], &[]);
    let normal = p.cast("_narrow", &normal, wide, dtype);
    p.op_to("Mul", &result, &[&normal, &scale], &[]);
    Ok(())
}

/// GroupNormalization. Up to version 20 scale and bias stand for each group, from 21 on for each channel.
pub(super) fn group(node: &Node, p: &mut Place) -> Done {
    let (x, scale, bias) = (needed(node, 0)?, needed(node, 1)?, needed(node, 2)?);
    let result = first_output(node)?;
    let dtype = p.known_dtype(&x)?;
    let wide = stash(node, dtype)?;
    let Some(groups) = node.int("num_groups").filter(|g| *g > 0) else {
        return Err("its attribute 'num_groups' is missing or not positive: correct the model".into());
    };
    let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
    let value = p.cast("_wide", &x, dtype, wide);
    let by_group = p.ints("_by_group", vec![0, groups, -1]);
    let value = p.op("Reshape", "_groups", &[&value, &by_group], &[]);
    let found = parts(p, &value, &[-1], epsilon, wide)?;
    let normal = p.op("Div", "_normal", &[&found.centred, &found.root], &[]);
    let mut normal = p.cast("_narrow", &normal, wide, dtype);
    let shape = p.op("Shape", "_shape", &[&x], &[]);
    if p.opset >= 21 {
        // By channels: the first two dimensions of x, and the rest in one.
        let (from, to) = (p.ints("_from", vec![0]), p.ints("_to", vec![2]));
        let start = p.op("Slice", "_start", &[&shape, &from, &to], &[]);
        let rest = p.ints("_rest", vec![-1]);
        let channels = p.op("Concat", "_channels", &[&start, &rest], &[("axis", int(0))]);
        normal = p.op("Reshape", "_by_channel", &[&normal, &channels], &[]);
    }
    let column = p.ints("_column", vec![-1, 1]);
    let scale = p.op("Reshape", "_scale", &[&scale, &column], &[]);
    let bias = p.op("Reshape", "_bias", &[&bias, &column], &[]);
    let scaled = p.op("Mul", "_scaled", &[&normal, &scale], &[]);
    let sum = p.op("Add", "_shifted", &[&scaled, &bias], &[]);
    p.op_to("Reshape", &result, &[&sum, &shape], &[]);
    Ok(())
}
