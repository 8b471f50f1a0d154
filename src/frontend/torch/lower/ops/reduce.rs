//! Reductions, cumulative sums, norms, arg-extremes.

use super::super::emit::int;
use super::super::promote::float_type;
use super::super::sym::{SymInt, product};
use super::super::value::Value;
use super::super::{Bound, Lowering, Out};
use super::elementwise::{binary, not};
use super::{Entry, first, one};
use crate::model::DataType;
use crate::{Result, bail, err};

pub(super) const TABLE: &[Entry] = &[
    ("mean", |l, b| {
        let x = first(b)?;
        let dtype = b.dtype("dtype")?.unwrap_or(float_type(x.dtype));
        let x = l.cast(&x, dtype)?;
        dims_reduce(l, b, "ReduceMean", &x)
    }),
    ("sum", |l, b| summed(l, b, "ReduceSum")),
    ("prod", |l, b| summed(l, b, "ReduceProd")),
    ("nansum", |l, b| summed(l, b, "NanSum")),
    ("amax", |l, b| {
        let x = first(b)?;
        dims_reduce(l, b, "ReduceMax", &x)
    }),
    ("amin", |l, b| {
        let x = first(b)?;
        dims_reduce(l, b, "ReduceMin", &x)
    }),
    ("max", |l, b| extreme(l, b, true)),
    ("min", |l, b| extreme(l, b, false)),
    ("aminmax", |l, b| {
        let x = first(b)?;
        let (low, high) = (dims_reduce(l, b, "ReduceMin", &x)?, dims_reduce(l, b, "ReduceMax", &x)?);
        match (low, high) {
            (Out::One(low), Out::One(high)) => Ok(Out::Many(vec![low, high])),
            _ => bail!(Internal, "a reduction gave no value"),
        }
    }),
    ("argmax", |l, b| arg_extreme(l, b, "ArgMax")),
    ("argmin", |l, b| arg_extreme(l, b, "ArgMin")),
    ("any", |l, b| truth(l, b, "ReduceMax")),
    ("all", |l, b| truth(l, b, "ReduceMin")),
    ("logsumexp", |l, b| {
        let x = first(b)?;
        dims_reduce(l, b, "ReduceLogSumExp", &x)
    }),
    ("cumsum", |l, b| {
        let x = first(b)?;
        let dtype = match b.dtype("dtype")? {
            Some(d) => d,
            None if x.dtype.is_float() => x.dtype,
            None => DataType::Int64,
        };
        let x = l.cast(&x, dtype)?;
        let axis = l.check_rank(&x, b.int("dim")?)? as i64;
        if x.rank() == 0 {
            return Ok(Out::One(x));
        }
        let axis = l.known(DataType::Int64, vec![], vec![super::super::Num::Int(SymInt::Known(axis))]);
        one(l.node("CumSum", &[&x, &axis], vec![], dtype, x.shape.clone()))
    }),
    ("var", |l, b| variance(l, b).map(|(v, _)| Out::One(v))),
    ("std", |l, b| {
        let (v, _) = variance(l, b)?;
        one(root(l, &v))
    }),
    ("var_mean", |l, b| variance(l, b).map(|(v, m)| Out::Many(vec![v, m]))),
    ("std_mean", |l, b| {
        let (v, m) = variance(l, b)?;
        let s = root(l, &v)?;
        Ok(Out::Many(vec![s, m]))
    }),
    ("norm", norm),
    ("linalg_vector_norm", norm),
    ("linalg_norm", norm),
    ("frobenius_norm", norm),
    ("diff", diff),
    ("cosine_similarity", |l, b| {
        let (x, y) = (b.tensor("x1")?, b.tensor("x2")?);
        let axes = [l.check_rank(&x, b.int("dim")?)? as i64];
        let eps = l.scalar(b.float("eps")?, x.dtype);
        let xy = binary(l, "Mul", &x, &y, x.dtype)?;
        let dot = reduce(l, "ReduceSum", &xy, &axes, false)?;
        let mut lengths = Vec::new();
        for v in [&x, &y] {
            let n = reduce(l, "ReduceL2", v, &axes, false)?;
            lengths.push(binary(l, "Max", &n, &eps, x.dtype)?);
        }
        let scale = binary(l, "Mul", &lengths[0], &lengths[1], x.dtype)?;
        one(binary(l, "Div", &dot, &scale, x.dtype))
    }),
];

fn root(l: &mut Lowering, v: &Value) -> Result<Value> {
    l.node("Sqrt", &[v], vec![], v.dtype, v.shape.clone())
}

/// The axes of `dim`; all of them where none is given.
fn axes_of(l: &mut Lowering, b: &Bound, x: &Value) -> Result<Vec<i64>> {
    let dims = b.opt_ints("dim")?.unwrap_or_default();
    if dims.is_empty() {
        return Ok((0..x.rank() as i64).collect());
    }
    if x.rank() == 0 {
        return Ok(vec![]);
    }
    dims.iter().map(|d| l.check_rank(x, *d).map(|d| d as i64)).collect()
}

/// A reducing node.
pub(super) fn reduce(l: &mut Lowering, op: &str, x: &Value, axes: &[i64], keep: bool) -> Result<Value> {
    if axes.is_empty() {
        return Ok(x.clone());
    }
    let mut shape = Vec::new();
    for (i, s) in x.shape.iter().enumerate() {
        if !axes.contains(&(i as i64)) {
            shape.push(s.clone());
        } else if keep {
            shape.push(SymInt::Known(1));
        }
    }
    let keep = int("keepdims", i64::from(keep));
    let axes = l.vector(axes);
    l.node(op, &[x, &axes], vec![keep], x.dtype, shape)
}

fn dims_reduce(l: &mut Lowering, b: &Bound, op: &str, x: &Value) -> Result<Out> {
    let axes = axes_of(l, b, x)?;
    one(reduce(l, op, x, &axes, b.bool("keepdim")?))
}

fn summed(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let x = first(b)?;
    let dtype = match b.dtype("dtype")? {
        Some(d) => d,
        None if x.dtype.is_float() => x.dtype,
        None => DataType::Int64,
    };
    let mut x = l.cast(&x, dtype)?;
    if op == "NanSum" && dtype.is_float() {
        let nan = l.node("IsNaN", &[&x], vec![], DataType::Bool, x.shape.clone())?;
        let zero = l.scalar(0.0, dtype);
        x = l.node("Where", &[&nan, &zero, &x], vec![], dtype, x.shape.clone())?;
    }
    dims_reduce(l, b, if op == "NanSum" { "ReduceSum" } else { op }, &x)
}

fn extreme(l: &mut Lowering, b: &Bound, max: bool) -> Result<Out> {
    let x = first(b)?;
    if let Some(other) = b.opt("other") {
        let dtype = super::super::promote::result_type(&[&x, &other]);
        let (x, other) = (l.operand(&x, dtype)?, l.operand(&other, dtype)?);
        return one(binary(l, if max { "Max" } else { "Min" }, &x, &other, dtype));
    }
    let op = if max { "ReduceMax" } else { "ReduceMin" };
    if b.get("dim").is_none() {
        return dims_reduce(l, b, op, &x);
    }
    let keep = b.bool("keepdim")?;
    if x.rank() == 0 {
        let zero = l.scalar(0.0, DataType::Int64);
        return Ok(Out::Many(vec![x, zero]));
    }
    let axis = l.check_rank(&x, b.int("dim")?)? as i64;
    let values = reduce(l, op, &x, &[axis], keep)?;
    let attributes = vec![int("axis", axis), int("keepdims", i64::from(keep))];
    let at = l.node(if max { "ArgMax" } else { "ArgMin" }, &[&x], attributes, DataType::Int64, values.shape.clone())?;
    Ok(Out::Many(vec![values, at]))
}

fn arg_extreme(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let x = first(b)?;
    let keep = b.bool("keepdim")?;
    let Some(dim) = b.opt_int("dim")? else {
        let flat = l.reshape(&x, &[product(&x.shape)])?;
        let shape = if keep { vec![SymInt::Known(1); x.rank()] } else { vec![] };
        let v = l.node(op, &[&flat], vec![int("axis", 0), int("keepdims", 0)], DataType::Int64, vec![])?;
        return one(l.reshape(&v, &shape));
    };
    let axis = l.axis(&x, dim)?;
    let mut shape = x.shape.clone();
    if keep {
        shape[axis] = SymInt::Known(1);
    } else {
        shape.remove(axis);
    }
    let attributes = vec![int("axis", axis as i64), int("keepdims", i64::from(keep))];
    one(l.node(op, &[&x], attributes, DataType::Int64, shape))
}

fn truth(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let x = first(b)?;
    let x = l.cast(&x, DataType::Bool)?;
    let axes = axes_of(l, b, &x)?;
    // Int32 is what every backend reduces.
    let x = l.cast(&x, DataType::Int32)?;
    let v = reduce(l, op, &x, &axes, b.bool("keepdim")?)?;
    let _ = not;
    one(l.cast(&v, DataType::Bool))
}

/// Variance and mean. `correction` (or `unbiased`) is taken off the count.
fn variance(l: &mut Lowering, b: &Bound) -> Result<(Value, Value)> {
    let x = first(b)?;
    let axes = axes_of(l, b, &x)?;
    let correction = match (b.get("unbiased"), b.opt_float("correction")?) {
        (Some(_), _) => f64::from(u8::from(b.bool("unbiased")?)),
        (None, Some(c)) => c,
        (None, None) => 1.0,
    };
    let keep = b.bool("keepdim")?;
    let mean = reduce(l, "ReduceMean", &x, &axes, true)?;
    let off = binary(l, "Sub", &x, &mean, x.dtype)?;
    let square = binary(l, "Mul", &off, &off, x.dtype)?;
    let count = product(axes.iter().filter_map(|a| x.shape.get(*a as usize)));
    let v = if correction == 0.0 {
        reduce(l, "ReduceMean", &square, &axes, keep)?
    } else {
        let sum = reduce(l, "ReduceSum", &square, &axes, keep)?;
        let n = match count.known() {
            Some(n) => l.scalar((n as f64 - correction).max(0.0), x.dtype),
            None => {
                let n = l.size_vector(&[count.minus(&SymInt::Known(correction as i64))]);
                let n = l.reshape(&n, &[])?;
                l.cast(&n, x.dtype)?
            }
        };
        binary(l, "Div", &sum, &n, x.dtype)?
    };
    let mean = if keep { mean } else { l.squeeze(&mean, &axes)? };
    Ok((v, mean))
}

fn norm(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let mut x = first(b)?;
    if let Some(dtype) = b.dtype("dtype")? {
        x = l.cast(&x, dtype)?;
    }
    let axes = axes_of(l, b, &x)?;
    let keep = b.bool("keepdim")?;
    let order = match (b.opt_float("p"), b.opt_float("ord")) {
        (Ok(Some(p)), _) | (_, Ok(Some(p))) => p,
        (Ok(None), Ok(None)) => 2.0,
        _ => bail!(Unsupported, "a norm of that kind has no lowering"),
    };
    if order == 2.0 {
        return one(reduce(l, "ReduceL2", &x, &axes, keep));
    }
    if order == 1.0 {
        return one(reduce(l, "ReduceL1", &x, &axes, keep));
    }
    let size = l.node("Abs", &[&x], vec![], x.dtype, x.shape.clone())?;
    if order.is_infinite() {
        return one(reduce(l, if order > 0.0 { "ReduceMax" } else { "ReduceMin" }, &size, &axes, keep));
    }
    if order == 0.0 {
        let zero = l.scalar(0.0, x.dtype);
        let none = binary(l, "Equal", &x, &zero, DataType::Bool)?;
        let some = not(l, &none)?;
        let some = l.cast(&some, x.dtype)?;
        return one(reduce(l, "ReduceSum", &some, &axes, keep));
    }
    let (p, inverse) = (l.scalar(order, x.dtype), l.scalar(1.0 / order, x.dtype));
    let powers = binary(l, "Pow", &size, &p, x.dtype)?;
    let sum = reduce(l, "ReduceSum", &powers, &axes, keep)?;
    one(binary(l, "Pow", &sum, &inverse, x.dtype))
}

fn diff(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let mut x = first(b)?;
    let axis = l.check_rank(&x, b.int("dim")?)?;
    let mut parts = Vec::new();
    parts.extend(b.opt("prepend"));
    parts.push(x.clone());
    parts.extend(b.opt("append"));
    if parts.len() > 1 {
        x = l.concat(&parts, axis)?;
    }
    for _ in 0..b.int("n")?.clamp(0, 16) {
        let size =
            x.shape.get(axis).cloned().ok_or_else(|| err!(ShapeMismatch, "no dimension to take differences of"))?;
        let head = l.slice(&x, axis, &SymInt::Known(0), &size.minus(&SymInt::Known(1)), 1)?;
        let tail = l.slice(&x, axis, &SymInt::Known(1), &size, 1)?;
        if x.dtype == DataType::Bool {
            x = binary(l, "Xor", &tail, &head, x.dtype)?;
        } else {
            x = binary(l, "Sub", &tail, &head, x.dtype)?;
        }
    }
    Ok(Out::One(x))
}
