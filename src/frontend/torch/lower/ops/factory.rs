//! Tensors made from nothing: zeros, ones, full, arange, linspace, eye, and their like-forms.

use super::super::promote::number;
use super::super::sym::SymInt;
use super::super::value::{Num, Value};
use super::super::{Arg, Bound, Lowering, Out, ScalarType};
use super::{Entry, first, one};
use crate::model::DataType;
use crate::{Result, bail, err};

pub(super) const TABLE: &[Entry] = &[
    ("zeros", |l, b| sized(l, b, Some(0.0))),
    ("ones", |l, b| sized(l, b, Some(1.0))),
    ("empty", |l, b| sized(l, b, Some(0.0))),
    ("empty_strided", |l, b| sized(l, b, Some(0.0))),
    ("empty_permuted", |l, b| sized(l, b, Some(0.0))),
    ("full", |l, b| sized(l, b, None)),
    ("new_zeros", |l, b| sized(l, b, Some(0.0))),
    ("new_ones", |l, b| sized(l, b, Some(1.0))),
    ("new_empty", |l, b| sized(l, b, Some(0.0))),
    ("new_empty_strided", |l, b| sized(l, b, Some(0.0))),
    ("new_full", |l, b| sized(l, b, None)),
    ("zeros_like", |l, b| like(l, b, Some(0.0))),
    ("ones_like", |l, b| like(l, b, Some(1.0))),
    ("empty_like", |l, b| like(l, b, Some(0.0))),
    ("full_like", |l, b| like(l, b, None)),
    ("scalar_tensor", |l, b| {
        let n = b.get("s").and_then(number).ok_or_else(|| err!(Unsupported, "the number is of an unsupported kind"))?;
        let dtype = b.dtype("dtype")?.unwrap_or(DataType::Float32);
        let v = l.wrapped(n);
        one(l.operand(&v, dtype))
    }),
    ("arange", arange),
    ("linspace", |l, b| linspace(l, b, |v| v)),
    ("logspace", |l, b| {
        let base = b.float("base")?;
        linspace(l, b, |v| base.powf(v))
    }),
    ("eye", |l, b| {
        let n = b.int("n")?;
        let m = b.opt_int("m")?.unwrap_or(n);
        if !(0..=4096).contains(&n) || !(0..=4096).contains(&m) {
            bail!(Unsupported, "an identity of {n} by {m} is too large to be a constant");
        }
        let dtype = b.dtype("dtype")?.unwrap_or(DataType::Float32);
        let values: Vec<f64> = (0..n * m).map(|i| f64::from(u8::from(i / m.max(1) == i % m.max(1)))).collect();
        let v = l.numbers(&values, DataType::Float32);
        let v = l.reshape(&v, &[SymInt::Known(n), SymInt::Known(m)])?;
        one(l.cast(&v, dtype))
    }),
    ("tril_indices", |l, b| indices(l, b, false)),
    ("triu_indices", |l, b| indices(l, b, true)),
    ("meshgrid", meshgrid),
];

fn fill_value(l: &mut Lowering, b: &Bound) -> Result<Value> {
    if let Some(v) = b.opt("fill_value") {
        return Ok(v);
    }
    match b.get("fill_value").and_then(number) {
        Some(n) => Ok(l.wrapped(n)),
        None => bail!(Unsupported, "the value is of an unsupported kind"),
    }
}

fn made(l: &mut Lowering, b: &Bound, shape: &[SymInt], default: Option<ScalarType>, fill: Option<f64>) -> Result<Out> {
    let wanted = b.dtype("dtype")?.or(default);
    let value = match fill {
        Some(v) => l.scalar(v, wanted.unwrap_or(DataType::Float32)),
        None => {
            let v = fill_value(l, b)?;
            let dtype = wanted.unwrap_or(v.dtype);
            l.operand(&v, dtype)?
        }
    };
    one(l.expand_to(&value, shape))
}

fn sized(l: &mut Lowering, b: &Bound, fill: Option<f64>) -> Result<Out> {
    let shape = b.sizes("size")?;
    let default = b.opt("self").map(|x| x.dtype);
    made(l, b, &shape, default, fill)
}

fn like(l: &mut Lowering, b: &Bound, fill: Option<f64>) -> Result<Out> {
    let x = first(b)?;
    made(l, b, &x.shape, Some(x.dtype), fill)
}

fn arange(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let get = |name: &str| -> Result<Option<Num>> {
        match b.get(name) {
            None => Ok(None),
            Some(Arg::Tensor(t)) => match t.known().as_deref() {
                Some([n]) => Ok(Some(n.clone())),
                _ => bail!(Unsupported, "a range whose bounds depend on the data has no lowering"),
            },
            Some(a) => number(a).map(Some).ok_or_else(|| err!(Unsupported, "a bound is of an unsupported kind")),
        }
    };
    let start = get("start")?.unwrap_or(Num::Int(SymInt::Known(0)));
    let end = get("end")?.ok_or_else(|| err!(InvalidModel, "a range needs an end"))?;
    let step = get("step")?.unwrap_or(Num::Int(SymInt::Known(1)));
    let float = [&start, &end, &step].iter().any(|n| matches!(n, Num::Float(_)));
    let dtype = b.dtype("dtype")?.unwrap_or(if float { DataType::Float32 } else { DataType::Int64 });
    if let (Some(a), Some(z), Some(s)) = (start.as_f64(), end.as_f64(), step.as_f64()) {
        if s == 0.0 {
            bail!(InvalidModel, "a range's step is zero");
        }
        let count = ((z - a) / s).ceil().max(0.0);
        if count > f64::from(1 << 20) {
            bail!(Unsupported, "a range of {count} elements is too large to be a constant");
        }
        let values: Vec<f64> = (0..count as i64).map(|i| a + s * i as f64).collect();
        return Ok(Out::One(l.numbers(&values, dtype)));
    }
    let (Num::Int(a), Num::Int(z), Num::Int(s)) = (&start, &end, &step) else {
        bail!(Unsupported, "a range of floats with symbolic bounds has no lowering")
    };
    let span = z.minus(a);
    let Some(by) = s.known().filter(|s| *s > 0) else { bail!(Unsupported, "a range's step must be a known number") };
    let count = span.plus(&SymInt::Known(by - 1)).floor_div(s).unwrap_or(span);
    let mut bounds = Vec::new();
    for v in [a, z, s] {
        let v = l.size_vector(std::slice::from_ref(v));
        bounds.push(l.reshape(&v, &[])?);
    }
    let v = l.node("Range", &[&bounds[0], &bounds[1], &bounds[2]], vec![], DataType::Int64, vec![count])?;
    one(l.cast(&v, dtype))
}

fn linspace(l: &mut Lowering, b: &Bound, f: impl Fn(f64) -> f64) -> Result<Out> {
    let (start, end, steps) = (b.float("start")?, b.float("end")?, b.int("steps")?);
    let dtype = b.dtype("dtype")?.unwrap_or(DataType::Float32);
    if !(0..=1 << 20).contains(&steps) {
        bail!(Unsupported, "{steps} steps are too many for a constant");
    }
    let by = if steps > 1 { (end - start) / (steps - 1) as f64 } else { 0.0 };
    // Each half is counted from its own end, as PyTorch does.
    let values: Vec<f64> = (0..steps)
        .map(|i| if i < steps / 2 { start + by * i as f64 } else { end - by * (steps - 1 - i) as f64 })
        .map(|v| if steps == 1 { start } else { v })
        .map(f)
        .collect();
    Ok(Out::One(l.numbers(&values, dtype)))
}

fn indices(l: &mut Lowering, b: &Bound, upper: bool) -> Result<Out> {
    let (rows, columns, offset) = (b.int("row")?, b.int("col")?, b.int("offset")?);
    if !(0..=2048).contains(&rows) || !(0..=2048).contains(&columns) {
        bail!(Unsupported, "{rows} by {columns} indices are too many for a constant");
    }
    let inside = |(i, j): &(i64, i64)| if upper { j - i >= offset } else { j - i <= offset };
    let pairs: Vec<(i64, i64)> = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).filter(inside).collect();
    let flat: Vec<i64> = pairs.iter().map(|p| p.0).chain(pairs.iter().map(|p| p.1)).collect();
    let v = l.vector(&flat);
    one(l.reshape(&v, &[SymInt::Known(2), SymInt::Known(pairs.len() as i64)]))
}

fn meshgrid(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let all = b.tensors("tensors")?;
    let swap = b.str("indexing") == "xy" && all.len() > 1;
    let n = all.len();
    let mut sizes: Vec<SymInt> = all.iter().map(|t| t.shape.first().cloned().unwrap_or(SymInt::Known(1))).collect();
    if swap {
        sizes.swap(0, 1);
    }
    let mut out = Vec::new();
    for (i, t) in all.iter().enumerate() {
        let axis = if swap && i < 2 { 1 - i } else { i };
        let mut shape = vec![SymInt::Known(1); n];
        shape[axis] = sizes[axis].clone();
        let v = l.reshape(t, &shape)?;
        out.push(l.expand_to(&v, &sizes)?);
    }
    Ok(Out::List(out))
}
