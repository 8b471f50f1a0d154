//! Arithmetic, comparisons, logic and functions of one operand, with PyTorch's type promotion made explicit.

use super::super::emit::{float, int};
use super::super::promote::{float_type, number, result_type};
use super::super::shapes::broadcast;
use super::super::value::{Num, Value};
use super::super::{Bound, Lowering, Out, ScalarType};
use super::{Entry, first, one};
use crate::model::DataType;
use crate::{Result, bail};

pub(super) const TABLE: &[Entry] = &[
    ("add", add),
    ("sub", sub),
    ("subtract", sub),
    ("rsub", rsub),
    ("__rsub__", rsub),
    ("mul", |l, b| arith(l, b, "Mul")),
    ("multiply", |l, b| arith(l, b, "Mul")),
    ("div", div),
    ("divide", div),
    ("true_divide", div),
    ("floor_divide", |l, b| arith(l, b, "FloorDiv")),
    ("remainder", |l, b| arith(l, b, "Remainder")),
    ("fmod", |l, b| arith(l, b, "FMod")),
    ("pow", pow),
    ("maximum", |l, b| arith(l, b, "Max")),
    ("minimum", |l, b| arith(l, b, "Min")),
    ("fmax", |l, b| without_nan(l, b, "Max")),
    ("fmin", |l, b| without_nan(l, b, "Min")),
    ("atan2", atan2),
    ("eq", |l, b| compare(l, b, "Equal")),
    ("ne", ne),
    ("lt", |l, b| compare(l, b, "Less")),
    ("gt", |l, b| compare(l, b, "Greater")),
    ("le", |l, b| compare(l, b, "LessOrEqual")),
    ("ge", |l, b| compare(l, b, "GreaterOrEqual")),
    ("less", |l, b| compare(l, b, "Less")),
    ("greater", |l, b| compare(l, b, "Greater")),
    ("logical_and", |l, b| logical(l, b, "And")),
    ("logical_or", |l, b| logical(l, b, "Or")),
    ("logical_xor", |l, b| logical(l, b, "Xor")),
    ("logical_not", |l, b| {
        let x = first(b)?;
        one(not(l, &x))
    }),
    ("bitwise_and", |l, b| bitwise(l, b, "And")),
    ("bitwise_or", |l, b| bitwise(l, b, "Or")),
    ("bitwise_xor", |l, b| bitwise(l, b, "Xor")),
    ("__and__", |l, b| bitwise(l, b, "And")),
    ("__or__", |l, b| bitwise(l, b, "Or")),
    ("__xor__", |l, b| bitwise(l, b, "Xor")),
    ("__iand__", |l, b| bitwise(l, b, "And")),
    ("__ior__", |l, b| bitwise(l, b, "Or")),
    ("bitwise_not", |l, b| {
        let x = first(b)?;
        if x.dtype == DataType::Bool {
            return one(not(l, &x));
        }
        one(l.node("BitwiseNot", &[&x], vec![], x.dtype, x.shape.clone()))
    }),
    ("where", where_),
    ("masked_fill", masked_fill),
    ("clamp", clamp),
    ("clip", clamp),
    ("clamp_min", clamp),
    ("clamp_max", clamp),
    ("hardtanh", hardtanh),
    ("relu6", |l, b| {
        let x = first(b)?;
        one(bounded(l, &x, Some(0.0), Some(6.0), x.dtype))
    }),
    ("lerp", lerp),
    ("addcmul", |l, b| addc(l, b, "Mul")),
    ("addcdiv", |l, b| addc(l, b, "Div")),
    ("neg", |l, b| same_type(l, b, "Neg")),
    ("negative", |l, b| same_type(l, b, "Neg")),
    ("abs", |l, b| same_type(l, b, "Abs")),
    ("absolute", |l, b| same_type(l, b, "Abs")),
    ("sign", |l, b| same_type(l, b, "Sign")),
    ("sgn", |l, b| same_type(l, b, "Sign")),
    ("positive", |_, b| one(first(b))),
    ("floor", |l, b| rounding(l, b, "Floor")),
    ("ceil", |l, b| rounding(l, b, "Ceil")),
    ("round", round),
    ("trunc", |l, b| {
        let x = first(b)?;
        one(truncate(l, &x))
    }),
    ("fix", |l, b| {
        let x = first(b)?;
        one(truncate(l, &x))
    }),
    ("frac", |l, b| {
        let x = first(b)?;
        let t = truncate(l, &x)?;
        one(binary(l, "Sub", &x, &t, x.dtype))
    }),
    ("relu", |l, b| same_type(l, b, "Relu")),
    ("exp", |l, b| float_fn(l, b, "Exp")),
    ("log", |l, b| float_fn(l, b, "Log")),
    ("sqrt", |l, b| float_fn(l, b, "Sqrt")),
    ("erf", |l, b| float_fn(l, b, "Erf")),
    ("special_erf", |l, b| float_fn(l, b, "Erf")),
    ("sin", |l, b| float_fn(l, b, "Sin")),
    ("cos", |l, b| float_fn(l, b, "Cos")),
    ("tan", |l, b| float_fn(l, b, "Tan")),
    ("asin", |l, b| float_fn(l, b, "Asin")),
    ("acos", |l, b| float_fn(l, b, "Acos")),
    ("atan", |l, b| float_fn(l, b, "Atan")),
    ("sinh", |l, b| float_fn(l, b, "Sinh")),
    ("cosh", |l, b| float_fn(l, b, "Cosh")),
    ("tanh", |l, b| float_fn(l, b, "Tanh")),
    ("asinh", |l, b| float_fn(l, b, "Asinh")),
    ("acosh", |l, b| float_fn(l, b, "Acosh")),
    ("atanh", |l, b| float_fn(l, b, "Atanh")),
    ("sigmoid", |l, b| float_fn(l, b, "Sigmoid")),
    ("special_expit", |l, b| float_fn(l, b, "Sigmoid")),
    ("reciprocal", |l, b| float_fn(l, b, "Reciprocal")),
    ("hardswish", |l, b| float_fn(l, b, "HardSwish")),
    ("mish", |l, b| float_fn(l, b, "Mish")),
    ("rsqrt", |l, b| {
        let x = floating(l, b)?;
        let r = unary(l, "Sqrt", &x)?;
        one(unary(l, "Reciprocal", &r))
    }),
    ("square", |l, b| {
        let x = first(b)?;
        one(binary(l, "Mul", &x, &x, x.dtype))
    }),
    ("expm1", |l, b| {
        let x = floating(l, b)?;
        let e = unary(l, "Exp", &x)?;
        let k = l.scalar(1.0, x.dtype);
        one(binary(l, "Sub", &e, &k, x.dtype))
    }),
    ("log1p", |l, b| {
        let x = floating(l, b)?;
        let k = l.scalar(1.0, x.dtype);
        let s = binary(l, "Add", &x, &k, x.dtype)?;
        one(unary(l, "Log", &s))
    }),
    ("log2", |l, b| scaled_log(l, b, std::f64::consts::LN_2)),
    ("log10", |l, b| scaled_log(l, b, std::f64::consts::LN_10)),
    ("exp2", |l, b| {
        let x = floating(l, b)?;
        let k = l.scalar(2.0, x.dtype);
        one(binary(l, "Pow", &k, &x, x.dtype))
    }),
    ("erfc", |l, b| {
        let x = floating(l, b)?;
        let e = unary(l, "Erf", &x)?;
        let k = l.scalar(1.0, x.dtype);
        one(binary(l, "Sub", &k, &e, x.dtype))
    }),
    ("silu", |l, b| {
        let x = floating(l, b)?;
        let s = unary(l, "Sigmoid", &x)?;
        one(binary(l, "Mul", &x, &s, x.dtype))
    }),
    ("gelu", |l, b| {
        let x = first(b)?;
        let form = if b.str("approximate").is_empty() { "none" } else { b.str("approximate") };
        let attribute = super::super::emit::string("approximate", form);
        one(l.node("Gelu", &[&x], vec![attribute], x.dtype, x.shape.clone()))
    }),
    ("hardsigmoid", |l, b| {
        let x = first(b)?;
        let attributes = vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)];
        one(l.node("HardSigmoid", &[&x], attributes, x.dtype, x.shape.clone()))
    }),
    ("leaky_relu", |l, b| {
        let x = first(b)?;
        let alpha = b.float("negative_slope")?;
        one(l.node("LeakyRelu", &[&x], vec![float("alpha", alpha)], x.dtype, x.shape.clone()))
    }),
    ("rrelu", |l, b| {
        let x = first(b)?;
        if b.bool("training")? {
            bail!(Unsupported, "it is in training mode; call eval() on the model before saving it");
        }
        let alpha = (b.float("lower")? + b.float("upper")?) / 2.0;
        one(l.node("LeakyRelu", &[&x], vec![float("alpha", alpha)], x.dtype, x.shape.clone()))
    }),
    ("elu", elu),
    ("selu", |l, b| {
        let x = first(b)?;
        one(l.node("Selu", &[&x], vec![], x.dtype, x.shape.clone()))
    }),
    ("celu", |l, b| {
        let x = first(b)?;
        let alpha = b.float("alpha")?;
        one(l.node("Celu", &[&x], vec![float("alpha", alpha)], x.dtype, x.shape.clone()))
    }),
    ("softplus", softplus),
    ("softsign", |l, b| float_fn(l, b, "Softsign")),
    ("log_sigmoid", |l, b| {
        let x = first(b)?;
        let n = unary(l, "Neg", &x)?;
        let s = l.node("Softplus", &[&n], vec![], x.dtype, x.shape.clone())?;
        one(unary(l, "Neg", &s))
    }),
    ("tanhshrink", |l, b| {
        let x = first(b)?;
        let t = unary(l, "Tanh", &x)?;
        one(binary(l, "Sub", &x, &t, x.dtype))
    }),
    ("hardshrink", |l, b| {
        let x = first(b)?;
        let lambd = b.float("lambd")?;
        one(l.node("Shrink", &[&x], vec![float("lambd", lambd), float("bias", 0.0)], x.dtype, x.shape.clone()))
    }),
    ("softshrink", |l, b| {
        let x = first(b)?;
        let lambd = b.float("lambd")?;
        one(l.node("Shrink", &[&x], vec![float("lambd", lambd), float("bias", lambd)], x.dtype, x.shape.clone()))
    }),
    ("threshold", |l, b| {
        let x = first(b)?;
        let (t, v) = (l.scalar(b.float("threshold")?, x.dtype), l.scalar(b.float("value")?, x.dtype));
        // Asked this way round, a NaN stays what it is.
        let under = l.node("LessOrEqual", &[&x, &t], vec![], DataType::Bool, x.shape.clone())?;
        one(l.node("Where", &[&under, &v, &x], vec![], x.dtype, x.shape.clone()))
    }),
    ("prelu", prelu),
    ("_prelu_kernel", prelu),
    ("glu", glu),
    ("isnan", |l, b| predicate(l, b, "IsNaN")),
    ("isinf", |l, b| predicate(l, b, "IsInf")),
    ("isfinite", |l, b| {
        let x = first(b)?;
        let zero = binary(l, "Sub", &x, &x, x.dtype)?;
        one(l.node("Equal", &[&zero, &zero], vec![], DataType::Bool, x.shape.clone()))
    }),
    ("logit", |l, b| {
        let mut x = floating(l, b)?;
        if let Some(eps) = b.opt_float("eps")? {
            x = bounded(l, &x, Some(eps), Some(1.0 - eps), x.dtype)?;
        }
        let k = l.scalar(1.0, x.dtype);
        let rest = binary(l, "Sub", &k, &x, x.dtype)?;
        let odds = binary(l, "Div", &x, &rest, x.dtype)?;
        one(unary(l, "Log", &odds))
    }),
    ("nan_to_num", nan_to_num),
];

/// A node on two operands of that type, folded on the host where both are known.
pub(super) fn binary(l: &mut Lowering, op: &str, x: &Value, y: &Value, dtype: ScalarType) -> Result<Value> {
    let shape = broadcast(&[&x.shape, &y.shape])?;
    if let Some(v) = l.fold(op, x, y, dtype, &shape) {
        return Ok(v);
    }
    match op {
        "FloorDiv" => {
            if x.dtype.is_integer() {
                let rest = l.node("Mod", &[x, y], vec![], x.dtype, shape.clone())?;
                let even = l.node("Sub", &[x, &rest], vec![], x.dtype, shape.clone())?;
                return l.node("Div", &[&even, y], vec![], x.dtype, shape);
            }
            let q = l.node("Div", &[x, y], vec![], x.dtype, shape)?;
            unary(l, "Floor", &q)
        }
        "Remainder" if x.dtype.is_float() => {
            let q = l.node("Div", &[x, y], vec![], x.dtype, shape.clone())?;
            let q = unary(l, "Floor", &q)?;
            let part = l.node("Mul", &[&q, y], vec![], x.dtype, shape.clone())?;
            l.node("Sub", &[x, &part], vec![], x.dtype, shape)
        }
        "Remainder" => l.node("Mod", &[x, y], vec![], dtype, shape),
        "FMod" => l.node("Mod", &[x, y], vec![int("fmod", 1)], dtype, shape),
        _ => l.node(op, &[x, y], vec![], dtype, shape),
    }
}

/// A node on one operand that keeps type and shape.
pub(super) fn unary(l: &mut Lowering, op: &str, x: &Value) -> Result<Value> {
    l.node(op, &[x], vec![], x.dtype, x.shape.clone())
}

/// The two operands: `self` and `other` (either may be a number).
fn operands(l: &mut Lowering, b: &Bound) -> Result<(Value, Value)> {
    let get = |names: [&str; 3]| -> Result<Value> {
        for n in names {
            if let Some(v) = b.opt(n) {
                return Ok(v);
            }
            if let Some(n) = b.get(n).and_then(number) {
                return Ok(l.wrapped(n));
            }
        }
        bail!(Unsupported, "the operand '{}' is of an unsupported kind", names[0])
    };
    Ok((get(["self", "input", "input"])?, get(["other", "exponent", "weight"])?))
}

fn arith(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let (x, y) = operands(l, b)?;
    let mut dtype = result_type(&[&x, &y]);
    if dtype == DataType::Bool {
        if op == "Mul" {
            return one(binary(l, "And", &x, &y, dtype));
        }
        if op == "Max" || op == "Min" {
            return one(binary(l, if op == "Max" { "Or" } else { "And" }, &x, &y, dtype));
        }
        dtype = DataType::Int64;
    }
    let (x, y) = (l.operand(&x, dtype)?, l.operand(&y, dtype)?);
    one(binary(l, op, &x, &y, dtype))
}

/// The larger or smaller of two, where a NaN gives way to a number: ONNX's Max and Min pass it on.
fn without_nan(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let (x, y) = operands(l, b)?;
    let dtype = result_type(&[&x, &y]);
    if !dtype.is_float() {
        return arith(l, b, op);
    }
    let (x, y) = (l.operand(&x, dtype)?, l.operand(&y, dtype)?);
    let shape = broadcast(&[&x.shape, &y.shape])?;
    let both = binary(l, op, &x, &y, dtype)?;
    let no_y = l.node("IsNaN", &[&y], vec![], DataType::Bool, y.shape.clone())?;
    let rest = l.node("Where", &[&no_y, &x, &both], vec![], dtype, shape.clone())?;
    let no_x = l.node("IsNaN", &[&x], vec![], DataType::Bool, x.shape.clone())?;
    one(l.node("Where", &[&no_x, &y, &rest], vec![], dtype, shape))
}

/// `x + alpha * y` or `x - alpha * y`.
fn add_scaled(l: &mut Lowering, b: &Bound, op: &str, x: Value, y: Value) -> Result<Out> {
    let dtype = result_type(&[&x, &y]);
    if dtype == DataType::Bool && op == "Add" {
        return one(binary(l, "Or", &x, &y, dtype));
    }
    let (x, mut y) = (l.operand(&x, dtype)?, l.operand(&y, dtype)?);
    if let Some(alpha) = b.opt_num("alpha").filter(|a| a.as_f64() != Some(1.0)) {
        let alpha = l.wrapped(alpha);
        let alpha = l.operand(&alpha, dtype)?;
        y = binary(l, "Mul", &y, &alpha, dtype)?;
    }
    one(binary(l, op, &x, &y, dtype))
}

fn add(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, y) = operands(l, b)?;
    add_scaled(l, b, "Add", x, y)
}

fn sub(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, y) = operands(l, b)?;
    add_scaled(l, b, "Sub", x, y)
}

fn rsub(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, y) = operands(l, b)?;
    add_scaled(l, b, "Sub", y, x)
}

fn div(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, y) = operands(l, b)?;
    let dtype = result_type(&[&x, &y]);
    match b.str("rounding_mode") {
        "floor" => arith(l, b, "FloorDiv"),
        "trunc" if dtype.is_integer() => {
            let (x, y) = (l.operand(&x, dtype)?, l.operand(&y, dtype)?);
            one(binary(l, "Div", &x, &y, dtype))
        }
        mode => {
            let dtype = float_type(dtype);
            let (x, y) = (l.operand(&x, dtype)?, l.operand(&y, dtype)?);
            let q = binary(l, "Div", &x, &y, dtype)?;
            one(if mode == "trunc" { truncate(l, &q) } else { Ok(q) })
        }
    }
}

fn truncate(l: &mut Lowering, x: &Value) -> Result<Value> {
    if !x.dtype.is_float() {
        return Ok(x.clone());
    }
    let sign = unary(l, "Sign", x)?;
    let size = unary(l, "Abs", x)?;
    let size = unary(l, "Floor", &size)?;
    binary(l, "Mul", &sign, &size, x.dtype)
}

fn pow(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, y) = operands(l, b)?;
    let dtype = result_type(&[&x, &y]);
    let exponent = y.known.as_ref().filter(|_| y.rank() == 0).and_then(|k| k.first()?.as_f64());
    let x = l.operand(&x, dtype)?;
    match exponent {
        Some(1.0) => return Ok(Out::One(x)),
        Some(2.0) => return one(binary(l, "Mul", &x, &x, dtype)),
        Some(0.5) if dtype.is_float() => return one(unary(l, "Sqrt", &x)),
        Some(-1.0) if dtype.is_float() => return one(unary(l, "Reciprocal", &x)),
        Some(-0.5) if dtype.is_float() => {
            let r = unary(l, "Sqrt", &x)?;
            return one(unary(l, "Reciprocal", &r));
        }
        _ => {}
    }
    let y = l.operand(&y, dtype)?;
    one(binary(l, "Pow", &x, &y, dtype))
}

fn atan2(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (y, x) = operands(l, b)?;
    let dtype = float_type(result_type(&[&x, &y]));
    let (x, y) = (l.operand(&x, dtype)?, l.operand(&y, dtype)?);
    let shape = broadcast(&[&x.shape, &y.shape])?;
    let zero = l.scalar(0.0, dtype);
    let q = binary(l, "Div", &y, &x, dtype)?;
    let angle = unary(l, "Atan", &q)?;
    let left = binary(l, "Less", &x, &zero, DataType::Bool)?;
    let below = binary(l, "Less", &y, &zero, DataType::Bool)?;
    let (pi, minus) = (l.scalar(std::f64::consts::PI, dtype), l.scalar(-std::f64::consts::PI, dtype));
    let turn = l.node("Where", &[&below, &minus, &pi], vec![], dtype, below.shape.clone())?;
    let turned = binary(l, "Add", &angle, &turn, dtype)?;
    let result = l.node("Where", &[&left, &turned, &angle], vec![], dtype, shape.clone())?;
    // 0 / 0: atan2(0, 0) is 0.
    let nan = l.node("IsNaN", &[&q], vec![], DataType::Bool, shape.clone())?;
    one(l.node("Where", &[&nan, &zero, &result], vec![], dtype, shape))
}

fn compare(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let (x, y) = operands(l, b)?;
    one(compare_values(l, op, &x, &y))
}

pub(super) fn compare_values(l: &mut Lowering, op: &str, x: &Value, y: &Value) -> Result<Value> {
    let mut dtype = result_type(&[x, y]);
    if dtype == DataType::Bool && op != "Equal" {
        dtype = DataType::Int64;
    }
    let (x, y) = (l.operand(x, dtype)?, l.operand(y, dtype)?);
    binary(l, op, &x, &y, DataType::Bool)
}

fn ne(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, y) = operands(l, b)?;
    let equal = compare_values(l, "Equal", &x, &y)?;
    one(not(l, &equal))
}

pub(super) fn not(l: &mut Lowering, x: &Value) -> Result<Value> {
    let x = l.cast(x, DataType::Bool)?;
    if let Some(k) = &x.known {
        let inverted: Vec<Num> = k.iter().map(|n| Num::Bool(n.as_f64() == Some(0.0))).collect();
        return Ok(l.known(DataType::Bool, x.shape.clone(), inverted));
    }
    unary(l, "Not", &x)
}

fn logical(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let (x, y) = operands(l, b)?;
    let (x, y) = (l.operand(&x, DataType::Bool)?, l.operand(&y, DataType::Bool)?);
    one(binary(l, op, &x, &y, DataType::Bool))
}

fn bitwise(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let (x, y) = operands(l, b)?;
    let dtype = result_type(&[&x, &y]);
    let (x, y) = (l.operand(&x, dtype)?, l.operand(&y, dtype)?);
    if dtype == DataType::Bool {
        return one(binary(l, op, &x, &y, dtype));
    }
    one(binary(l, &format!("Bitwise{op}"), &x, &y, dtype))
}

fn where_(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let condition = b.tensor("condition")?;
    let condition = l.cast(&condition, DataType::Bool)?;
    if b.get("self").is_none() {
        let found = super::indexing::nonzero_columns(l, &condition)?;
        return Ok(Out::List(found));
    }
    let (x, y) = operands(l, b)?;
    let dtype = result_type(&[&x, &y]);
    let (x, y) = (l.operand(&x, dtype)?, l.operand(&y, dtype)?);
    let shape = broadcast(&[&condition.shape, &x.shape, &y.shape])?;
    one(l.node("Where", &[&condition, &x, &y], vec![], dtype, shape))
}

fn masked_fill(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, mask) = (first(b)?, b.tensor("mask")?);
    let mask = l.cast(&mask, DataType::Bool)?;
    let value = match (b.opt("value"), b.get("value").and_then(number)) {
        (Some(v), _) => v,
        (None, Some(n)) => l.wrapped(n),
        _ => bail!(Unsupported, "the value is of an unsupported kind"),
    };
    let value = l.operand(&value, x.dtype)?;
    let shape = broadcast(&[&mask.shape, &x.shape])?;
    one(l.node("Where", &[&mask, &value, &x], vec![], x.dtype, shape))
}

/// `x` between two numbers, either of which may be absent.
fn bounded(l: &mut Lowering, x: &Value, low: Option<f64>, high: Option<f64>, dtype: ScalarType) -> Result<Value> {
    let x = l.cast(x, dtype)?;
    if x.known.is_some() {
        let mut x = x;
        if let Some(v) = low {
            let v = l.scalar(v, dtype);
            x = binary(l, "Max", &x, &v, dtype)?;
        }
        if let Some(v) = high {
            let v = l.scalar(v, dtype);
            x = binary(l, "Min", &x, &v, dtype)?;
        }
        return Ok(x);
    }
    let low = low.map(|v| l.scalar(v, dtype));
    let high = high.map(|v| l.scalar(v, dtype));
    let shape = x.shape.clone();
    Ok(l.node_n("Clip", &[Some(&x), low.as_ref(), high.as_ref()], vec![], vec![(dtype, shape)])?.remove(0))
}

fn clamp(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let mut bounds = Vec::new();
    for name in ["min", "max"] {
        let v = match (b.opt(name), b.get(name).and_then(number)) {
            (Some(v), _) => Some(v),
            (None, Some(n)) => Some(l.wrapped(n)),
            _ => None,
        };
        bounds.push(v);
    }
    let all: Vec<&Value> = std::iter::once(&x).chain(bounds.iter().flatten()).collect();
    let dtype = result_type(&all);
    let number_of = |v: &Option<Value>| match v {
        None => Some(None),
        Some(v) if v.rank() == 0 => v.known.as_ref()?.first()?.as_f64().map(Some),
        _ => None,
    };
    if let (Some(low), Some(high)) = (number_of(&bounds[0]), number_of(&bounds[1])) {
        return one(bounded(l, &x, low, high, dtype));
    }
    let mut x = l.operand(&x, dtype)?;
    for (bound, op) in bounds.iter().zip(["Max", "Min"]) {
        if let Some(v) = bound {
            let v = l.operand(v, dtype)?;
            x = binary(l, op, &x, &v, dtype)?;
        }
    }
    Ok(Out::One(x))
}

fn hardtanh(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let (low, high) = (b.float("min_val")?, b.float("max_val")?);
    one(bounded(l, &x, Some(low), Some(high), x.dtype))
}

fn lerp(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, end) = (b.tensor("self")?, b.tensor("end")?);
    let weight = match (b.opt("weight"), b.get("weight").and_then(number)) {
        (Some(w), _) => w,
        (None, Some(n)) => l.wrapped(n),
        _ => bail!(Unsupported, "the weight is of an unsupported kind"),
    };
    let weight = l.operand(&weight, x.dtype)?;
    let span = binary(l, "Sub", &end, &x, x.dtype)?;
    let part = binary(l, "Mul", &span, &weight, x.dtype)?;
    one(binary(l, "Add", &x, &part, x.dtype))
}

fn addc(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let (x, p, q) = (b.tensor("self")?, b.tensor("tensor1")?, b.tensor("tensor2")?);
    let dtype = result_type(&[&x, &p, &q]);
    let (x, p, q) = (l.operand(&x, dtype)?, l.operand(&p, dtype)?, l.operand(&q, dtype)?);
    let mut part = binary(l, op, &p, &q, dtype)?;
    let value = b.float("value")?;
    if value != 1.0 {
        let value = l.scalar(value, dtype);
        part = binary(l, "Mul", &part, &value, dtype)?;
    }
    one(binary(l, "Add", &x, &part, dtype))
}

fn same_type(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let x = first(b)?;
    if let (Some(known), "Neg") = (&x.known, op) {
        let zero = l.scalar(0.0, x.dtype);
        if let Some(v) = l.fold("Sub", &zero, &x, x.dtype, &x.shape) {
            return Ok(Out::One(v));
        }
        let _ = known;
    }
    one(unary(l, op, &x))
}

fn rounding(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let x = first(b)?;
    if !x.dtype.is_float() {
        return Ok(Out::One(x));
    }
    if let Some(known) = &x.known {
        let f = |v: f64| if op == "Floor" { v.floor() } else { v.ceil() };
        if let Some(v) = known.iter().map(|n| n.as_f64().map(|v| Num::Float(f(v)))).collect::<Option<Vec<_>>>() {
            return Ok(Out::One(l.known(x.dtype, x.shape.clone(), v)));
        }
    }
    one(unary(l, op, &x))
}

fn round(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let decimals = b.opt_int("decimals")?.unwrap_or(0);
    if decimals == 0 {
        return rounding_even(l, b);
    }
    let x = first(b)?;
    let scale = l.scalar(10f64.powi(decimals.clamp(-30, 30) as i32), x.dtype);
    let up = binary(l, "Mul", &x, &scale, x.dtype)?;
    let up = unary(l, "Round", &up)?;
    one(binary(l, "Div", &up, &scale, x.dtype))
}

fn rounding_even(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    if x.dtype.is_float() { one(unary(l, "Round", &x)) } else { Ok(Out::One(x)) }
}

/// The operand as a float tensor.
fn floating(l: &mut Lowering, b: &Bound) -> Result<Value> {
    let x = first(b)?;
    let dtype = float_type(x.dtype);
    l.cast(&x, dtype)
}

fn float_fn(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let x = floating(l, b)?;
    one(unary(l, op, &x))
}

fn scaled_log(l: &mut Lowering, b: &Bound, by: f64) -> Result<Out> {
    let x = floating(l, b)?;
    let v = unary(l, "Log", &x)?;
    let by = l.scalar(by, x.dtype);
    one(binary(l, "Div", &v, &by, x.dtype))
}

fn predicate(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let x = first(b)?;
    if !x.dtype.is_float() {
        return one(l.filled(0.0, DataType::Bool, &x.shape));
    }
    one(l.node(op, &[&x], vec![], DataType::Bool, x.shape.clone()))
}

fn elu(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let (alpha, scale, input_scale) = (b.float("alpha")?, b.float("scale")?, b.float("input_scale")?);
    if input_scale != 1.0 {
        bail!(Unsupported, "input_scale {input_scale} has no ONNX form");
    }
    let v = l.node("Elu", &[&x], vec![float("alpha", alpha)], x.dtype, x.shape.clone())?;
    if scale == 1.0 {
        return Ok(Out::One(v));
    }
    let scale = l.scalar(scale, x.dtype);
    one(binary(l, "Mul", &v, &scale, x.dtype))
}

fn softplus(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let beta = b.float("beta")?;
    if beta == 1.0 {
        return one(l.node("Softplus", &[&x], vec![], x.dtype, x.shape.clone()));
    }
    let beta = l.scalar(beta, x.dtype);
    let scaled = binary(l, "Mul", &x, &beta, x.dtype)?;
    let v = l.node("Softplus", &[&scaled], vec![], x.dtype, x.shape.clone())?;
    one(binary(l, "Div", &v, &beta, x.dtype))
}

fn prelu(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, mut slope) = operands(l, b)?;
    // One slope for each channel, which is dimension 1.
    if slope.rank() == 1 && x.rank() > 2 && !slope.shape.first().is_some_and(|s| s.is(1)) {
        let mut shape = vec![super::super::SymInt::Known(1); x.rank() - 1];
        if let (Some(s), Some(n)) = (shape.first_mut(), slope.shape.first()) {
            *s = n.clone();
        }
        slope = l.reshape(&slope, &shape)?;
    }
    one(l.node("PRelu", &[&x, &slope], vec![], x.dtype, x.shape.clone()))
}

fn glu(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let axis = l.axis(&x, b.int("dim")?)?;
    let size = x.shape[axis].clone();
    let Some(half) = size.floor_div(&super::super::SymInt::Known(2)) else { bail!(Internal, "division by zero") };
    let left = l.slice(&x, axis, &super::super::SymInt::Known(0), &half, 1)?;
    let right = l.slice(&x, axis, &half, &size, 1)?;
    let gate = unary(l, "Sigmoid", &right)?;
    one(binary(l, "Mul", &left, &gate, x.dtype))
}

fn nan_to_num(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    if !x.dtype.is_float() {
        return Ok(Out::One(x));
    }
    let most = crate::model::tensor::max_finite(x.dtype);
    let nan = l.scalar(b.opt_float("nan")?.unwrap_or(0.0), x.dtype);
    let (high, low) = (b.opt_float("posinf")?.unwrap_or(most), b.opt_float("neginf")?.unwrap_or(-most));
    let is_nan = l.node("IsNaN", &[&x], vec![], DataType::Bool, x.shape.clone())?;
    let mut v = l.node("Where", &[&is_nan, &nan, &x], vec![], x.dtype, x.shape.clone())?;
    for (value, bound, negative) in [(high, f64::INFINITY, 0), (low, f64::NEG_INFINITY, 1)] {
        let attributes = vec![int("detect_negative", negative), int("detect_positive", 1 - negative)];
        let is = l.node("IsInf", &[&v], attributes, DataType::Bool, x.shape.clone())?;
        let value = l.scalar(value, x.dtype);
        let _ = bound;
        v = l.node("Where", &[&is, &value, &v], vec![], x.dtype, x.shape.clone())?;
    }
    Ok(Out::One(v))
}
