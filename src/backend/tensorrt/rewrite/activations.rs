//! Activations, by their ONNX function bodies.

use super::place::{Place, first_output, needed};
use crate::model::{AttributeValue, DataType, Node, Tensor};
use half::f16;

type Done = Result<(), String>;

/// Gelu: x * 0.5 * (1 + erf(x / sqrt 2)), or its approximation by tanh.
pub(super) fn gelu(node: &Node, p: &mut Place) -> Done {
    let (x, output) = (needed(node, 0)?, first_output(node)?);
    let dtype = p.known_dtype(&x)?;
    let half = p.float("_half", 0.5, dtype)?;
    let one = p.float("_one", 1.0, dtype)?;
    let inner = match node.string("approximate").unwrap_or("none") {
        "none" => {
            let root = p.float("_root", std::f64::consts::FRAC_1_SQRT_2, dtype)?;
            let scaled = p.op("Mul", "_scaled", &[&x, &root], &[]);
            p.op("Erf", "_erf", &[&scaled], &[])
        }
        "tanh" => {
            // x + 0.044715 x^3 as x * (1 + 0.044715 x^2): the cube alone leaves half's range sooner.
            let cubic = p.float("_cubic", 0.044715, dtype)?;
            let root = p.float("_root", (2.0 / std::f64::consts::PI).sqrt(), dtype)?;
            let square = p.op("Mul", "_square", &[&x, &x], &[]);
            let part = p.op("Mul", "_part", &[&square, &cubic], &[]);
            let factor = p.op("Add", "_factor", &[&part, &one], &[]);
            let scaled = p.op("Mul", "_scaled", &[&x, &root], &[]);
            let inner = p.op("Mul", "_inner", &[&scaled, &factor], &[]);
            p.op("Tanh", "_tanh", &[&inner], &[])
        }
        other => return Err(format!("its attribute 'approximate' is '{other}', which ONNX does not define")),
    };
    let sum = p.op("Add", "_sum", &[&inner, &one], &[]);
    let halved = p.op("Mul", "_halved", &[&x, &half], &[]);
    p.op_to("Mul", &output, &[&halved, &sum], &[]);
    Ok(())
}

/// Mish: x * tanh(softplus(x)).
pub(super) fn mish(node: &Node, p: &mut Place) -> Done {
    let (x, output) = (needed(node, 0)?, first_output(node)?);
    let softplus = p.op("Softplus", "_softplus", &[&x], &[]);
    let tanh = p.op("Tanh", "_tanh", &[&softplus], &[]);
    p.op_to("Mul", &output, &[&x, &tanh], &[]);
    Ok(())
}

/// Swish: x * sigmoid(alpha x).
pub(super) fn swish(node: &Node, p: &mut Place) -> Done {
    let (x, output) = (needed(node, 0)?, first_output(node)?);
    let alpha = f64::from(node.float("alpha").unwrap_or(1.0));
    let scaled = if alpha == 1.0 {
        x.clone()
    } else {
        let dtype = p.known_dtype(&x)?;
        let alpha = p.float("_alpha", alpha, dtype)?;
        p.op("Mul", "_scaled", &[&x, &alpha], &[])
    };
    let sigmoid = p.op("Sigmoid", "_sigmoid", &[&scaled], &[]);
    p.op_to("Mul", &output, &[&x, &sigmoid], &[]);
    Ok(())
}

/// IsInf: a comparison with infinity. Infinities do not survive a cast of doubles, which TensorRT 8 casts to float.
pub(super) fn is_inf(node: &Node, p: &mut Place) -> Done {
    let (x, output) = (needed(node, 0)?, first_output(node)?);
    let dtype = p.known_dtype(&x)?;
    let asked = |name| node.int(name).unwrap_or(1) != 0;
    let (negative, positive) = (asked("detect_negative"), asked("detect_positive"));
    let infinity = |sign: f32| match dtype {
        DataType::Float32 => Ok(Tensor::from_vec(dtype, vec![], vec![sign * f32::INFINITY])),
        DataType::Float16 => Ok(Tensor::from_vec(dtype, vec![], vec![f16::from_f32(sign * f32::INFINITY).to_bits()])),
        _ => Err(format!("its input is {dtype}; TensorRT 8.5 compares FP32 and FP16")),
    };
    match (negative, positive) {
        (true, true) => {
            let infinity = p.tensor("_infinity", infinity(1.0)?);
            let absolute = p.op("Abs", "_abs", &[&x], &[]);
            p.op_to("Equal", &output, &[&absolute, &infinity], &[]);
        }
        (false, false) => {
            let other = p.op("Equal", "_equal", &[&x, &x], &[]);
            let not = p.op("Not", "_not", &[&other], &[]);
            p.op_to("And", &output, &[&other, &not], &[]);
        }
        (only_negative, _) => {
            let infinity = p.tensor("_infinity", infinity(if only_negative { -1.0 } else { 1.0 })?);
            p.op_to("Equal", &output, &[&x, &infinity], &[]);
        }
    }
    Ok(())
}

/// An integer attribute.
pub(super) fn int(value: i64) -> AttributeValue {
    AttributeValue::Int(value)
}
