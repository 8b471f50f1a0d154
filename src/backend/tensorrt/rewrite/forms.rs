//! Operators whose newest form has more than the one of version 17: what is new has its default, or an equal older form.

use super::activations::int;
use super::place::{Place, attribute, drop_attribute, first_output, needed, only};
use crate::model::{AttributeValue, DataType, Node};

type Done = Result<(), String>;

/// Reductions: from version 18 on the axes are an input (of ReduceSum since 13, which the parsers know).
pub(super) fn reduce(node: &Node, p: &mut Place) -> Done {
    let axes = p.ints_of(node, 1, "axes")?.filter(|a| !a.is_empty());
    if axes.is_none() && node.int("noop_with_empty_axes").unwrap_or(0) != 0 {
        return reduce_nothing(node, p);
    }
    let mut new = node.clone();
    drop_attribute(&mut new, "noop_with_empty_axes");
    if p.opset >= 18 {
        new.inputs.truncate(1);
        if let Some(axes) = axes {
            new.attributes.push(attribute("axes", AttributeValue::Ints(axes)));
        }
    }
    let x = needed(node, 0)?;
    if matches!(&*node.op_type, "ReduceMax" | "ReduceMin") && p.dtype(&x) == Some(DataType::Bool) {
        let result = first_output(node)?;
        let number = p.cast("_number", &x, DataType::Bool, DataType::Int32);
        let attributes: Vec<_> = new.attributes.iter().map(|a| (a.name.to_string(), a.value.clone())).collect();
        let attributes: Vec<_> = attributes.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
        let reduced = p.op(&node.op_type, "_reduced", &[&number], &attributes);
        p.op_to("Cast", &result, &[&reduced], &[("to", int(DataType::Bool.to_onnx().into()))]);
        return Ok(());
    }
    p.push(new);
    Ok(())
}

/// A reduction over no axes: what it does to one element.
fn reduce_nothing(node: &Node, p: &mut Place) -> Done {
    let (x, result) = (needed(node, 0)?, first_output(node)?);
    match &*node.op_type {
        "ReduceL1" | "ReduceL2" => p.op_to("Abs", &result, &[&x], &[]),
        "ReduceSumSquare" => p.op_to("Mul", &result, &[&x, &x], &[]),
        "ReduceLogSum" => p.op_to("Log", &result, &[&x], &[]),
        _ => p.op_to("Identity", &result, &[&x], &[]),
    }
    Ok(())
}

/// Cast: how what is too large for eight bits is treated, and how eight-bit scales are rounded, says nothing for other types.
pub(super) fn cast(node: &Node, p: &mut Place) -> Done {
    let mut new = node.clone();
    drop_attribute(&mut new, "saturate");
    drop_attribute(&mut new, "round_mode");
    p.push(new);
    Ok(())
}

/// CastLike: a cast to the type that the other input has.
pub(super) fn cast_like(node: &Node, p: &mut Place) -> Done {
    let (x, like, result) = (needed(node, 0)?, needed(node, 1)?, first_output(node)?);
    let to = p.known_dtype(&like)?;
    p.op_to("Cast", &result, &[&x], &[("to", int(to.to_onnx().into()))]);
    Ok(())
}

/// QuantizeLinear and DequantizeLinear: without blocks, and with the types that the older form takes from its inputs.
pub(super) fn quantize(node: &Node, p: &mut Place) -> Done {
    let mut new = node.clone();
    drop_attribute(&mut new, "saturate");
    only(&mut new, "block_size", 0)?;
    only(&mut new, "precision", 0)?;
    only(&mut new, "output_dtype", 0)?;
    p.push(new);
    Ok(())
}

/// AveragePool without dilations.
pub(super) fn average_pool(node: &Node, p: &mut Place) -> Done {
    let mut new = node.clone();
    ones(&mut new, "dilations")?;
    p.push(new);
    Ok(())
}

/// LpPool without dilations and with its output rounded down.
pub(super) fn lp_pool(node: &Node, p: &mut Place) -> Done {
    let mut new = node.clone();
    ones(&mut new, "dilations")?;
    only(&mut new, "ceil_mode", 0)?;
    p.push(new);
    Ok(())
}

fn ones(node: &mut Node, name: &str) -> Done {
    if node.ints(name).is_some_and(|d| d.iter().any(|d| *d != 1)) {
        return Err(format!("its attribute '{name}' is not 1 everywhere, which has no older form"));
    }
    drop_attribute(node, name);
    Ok(())
}

/// GridSample: the modes have older names.
pub(super) fn grid_sample(node: &Node, p: &mut Place) -> Done {
    let mut new = node.clone();
    let older = match node.string("mode") {
        Some("linear") => Some("bilinear"),
        Some("cubic") => Some("bicubic"),
        _ => None,
    };
    if let Some(older) = older {
        drop_attribute(&mut new, "mode");
        new.attributes.push(attribute("mode", AttributeValue::String(bytes::Bytes::from_static(older.as_bytes()))));
    }
    p.push(new);
    Ok(())
}

/// ScatterElements and ScatterND: the parsers of TensorRT 8 do not look at the reduction.
pub(super) fn scatter(node: &Node, p: &mut Place) -> Done {
    let mut new = node.clone();
    match node.string("reduction") {
        None | Some("none") => drop_attribute(&mut new, "reduction"),
        Some(other) => return Err(format!("its attribute 'reduction' is '{other}', which TensorRT 8 would leave out")),
    }
    p.push(new);
    Ok(())
}
