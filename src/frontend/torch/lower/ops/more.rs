//! Less common operators, built from others.

use super::super::emit::{float, int, string};
use super::super::promote::promote;
use super::super::sym::SymInt;
use super::super::value::Value;
use super::super::{Bound, Lowering, Out};
use super::elementwise::{binary, not, unary};
use super::{Entry, first, one};
use crate::model::DataType;
use crate::{Result, bail, err};

pub(super) const TABLE: &[Entry] = &[
    ("torchvision::roi_align", roi_align),
    ("repeat_interleave", repeat_interleave),
    ("hstack", |l, b| stacked(l, b, true)),
    ("vstack", |l, b| stacked(l, b, false)),
    ("log_sigmoid_forward", |l, b| {
        let x = first(b)?;
        let n = unary(l, "Neg", &x)?;
        let s = l.node("Softplus", &[&n], vec![], x.dtype, x.shape.clone())?;
        let v = unary(l, "Neg", &s)?;
        let empty = l.filled(0.0, x.dtype, &[SymInt::Known(0)])?;
        Ok(Out::Many(vec![v, empty]))
    }),
    ("deg2rad", |l, b| scaled(l, b, std::f64::consts::PI / 180.0)),
    ("rad2deg", |l, b| scaled(l, b, 180.0 / std::f64::consts::PI)),
    ("count_nonzero", |l, b| {
        let x = first(b)?;
        let x = l.cast(&x, DataType::Bool)?;
        let x = l.cast(&x, DataType::Int64)?;
        let dims = b.opt_ints("dim")?.unwrap_or_else(|| (0..x.rank() as i64).collect());
        let axes: Vec<i64> = dims.iter().map(|d| l.check_rank(&x, *d).map(|d| d as i64)).collect::<Result<_>>()?;
        one(super::reduce::reduce(l, "ReduceSum", &x, &axes, false))
    }),
    ("index_add", index_add),
    ("index_copy", index_add),
    ("index_fill", index_add),
    ("fill_diagonal", fill_diagonal),
    ("cross_entropy_loss", |_, _| bail!(Unsupported, "losses belong to training: save the model in eval form")),
    ("logaddexp", |l, b| {
        let (x, y) = (first(b)?, b.tensor("other")?);
        let high = binary(l, "Max", &x, &y, x.dtype)?;
        let (p, q) = (binary(l, "Sub", &x, &high, x.dtype)?, binary(l, "Sub", &y, &high, x.dtype)?);
        let (p, q) = (unary(l, "Exp", &p)?, unary(l, "Exp", &q)?);
        let sum = binary(l, "Add", &p, &q, x.dtype)?;
        let log = unary(l, "Log", &sum)?;
        one(binary(l, "Add", &high, &log, x.dtype))
    }),
    ("hypot", |l, b| {
        let (x, y) = (first(b)?, b.tensor("other")?);
        let (p, q) = (binary(l, "Mul", &x, &x, x.dtype)?, binary(l, "Mul", &y, &y, x.dtype)?);
        let sum = binary(l, "Add", &p, &q, x.dtype)?;
        one(unary(l, "Sqrt", &sum))
    }),
    ("heaviside", |l, b| {
        let (x, y) = (first(b)?, b.tensor("values")?);
        let zero = l.scalar(0.0, x.dtype);
        let (is, above) =
            (binary(l, "Equal", &x, &zero, DataType::Bool)?, binary(l, "Greater", &x, &zero, DataType::Bool)?);
        let step = l.cast(&above, x.dtype)?;
        let shape = super::super::shapes::broadcast(&[&x.shape, &y.shape])?;
        one(l.node("Where", &[&is, &y, &step], vec![], x.dtype, shape))
    }),
    ("isin", isin),
];

fn scaled(l: &mut Lowering, b: &Bound, by: f64) -> Result<Out> {
    let x = first(b)?;
    let dtype = super::super::promote::float_type(x.dtype);
    let (x, by) = (l.cast(&x, dtype)?, l.scalar(by, dtype));
    one(binary(l, "Mul", &x, &by, dtype))
}

fn roi_align(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, rois) = (b.tensor("input")?, b.tensor("rois")?);
    let (height, width) = (b.int("pooled_height")?, b.int("pooled_width")?);
    // Each row is the image's number and two corners.
    let at = l.select(&rois, 1, &SymInt::Known(0))?;
    let at = l.cast(&at, DataType::Int64)?;
    let boxes = l.slice(&rois, 1, &SymInt::Known(1), &SymInt::Known(5), 1)?;
    let shape = vec![rois.shape[0].clone(), x.shape[1].clone(), SymInt::Known(height), SymInt::Known(width)];
    let form = if b.bool("aligned")? { "half_pixel" } else { "output_half_pixel" };
    let attributes = vec![
        string("coordinate_transformation_mode", form),
        int("output_height", height),
        int("output_width", width),
        int("sampling_ratio", b.int("sampling_ratio")?.max(0)),
        float("spatial_scale", b.float("spatial_scale")?),
    ];
    one(l.node("RoiAlign", &[&x, &boxes, &at], attributes, x.dtype, shape))
}

/// Each element several times in a row.
fn repeat_interleave(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let mut x = first(b)?;
    if b.get("repeats").and_then(super::super::Arg::tensor).is_some() && b.opt_size("repeats").is_err() {
        bail!(Unsupported, "a number of repetitions for each element has no ONNX form");
    }
    let times = b.size("repeats")?;
    let axis = match b.opt_int("dim")? {
        Some(d) => l.check_rank(&x, d)?,
        None => {
            let all = super::super::product(&x.shape);
            x = l.reshape(&x, &[all])?;
            0
        }
    };
    let v = l.unsqueeze(&x, &[axis as i64 + 1])?;
    let mut wide = v.shape.clone();
    wide[axis + 1] = times.clone();
    let v = l.expand_to(&v, &wide)?;
    let mut shape = x.shape.clone();
    shape[axis] = shape[axis].times(&times);
    one(l.reshape(&v, &shape))
}

fn stacked(l: &mut Lowering, b: &Bound, side: bool) -> Result<Out> {
    let all = b.tensors("tensors")?;
    let Some(dtype) = all.iter().map(|t| t.dtype).reduce(promote) else { bail!(InvalidModel, "nothing to stack") };
    let mut parts: Vec<Value> = Vec::new();
    for t in &all {
        let mut t = l.cast(t, dtype)?;
        while t.rank() < if side { 1 } else { 2 } {
            t = l.unsqueeze(&t, &[0])?;
        }
        parts.push(t);
    }
    let axis = usize::from(side && parts[0].rank() > 1);
    one(l.concat(&parts, axis))
}

/// index_add, index_copy and index_fill: whole slices of one dimension, chosen by a vector.
fn index_add(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, at) = (first(b)?, b.tensor("index")?);
    let axis = l.axis(&x, b.int("dim")?)?;
    let at = if at.rank() == 0 { l.unsqueeze(&at, &[0])? } else { at };
    let mut shape = x.shape.clone();
    shape[axis] = at.shape[0].clone();
    let mut source = match (b.opt("source"), b.opt("value"), b.get("value").and_then(super::super::promote::number)) {
        (Some(s), _, _) | (None, Some(s), _) => s,
        (None, None, Some(n)) => l.wrapped(n),
        _ => bail!(Unsupported, "the source is of an unsupported kind"),
    };
    source = l.operand(&source, x.dtype)?;
    source = l.expand_to(&source, &shape)?;
    let alpha = b.opt_float("alpha")?.unwrap_or(1.0);
    if alpha != 1.0 {
        let alpha = l.scalar(alpha, x.dtype);
        source = binary(l, "Mul", &source, &alpha, x.dtype)?;
    }
    let mut order: Vec<i64> = (0..x.rank() as i64).collect();
    order.swap(0, axis);
    let (front, source) = (l.transpose(&x, &order)?, l.transpose(&source, &order)?);
    let at = l.cast(&at, DataType::Int64)?;
    let at = l.unsqueeze(&at, &[1])?;
    let attributes = if b.op.ends_with("add") { vec![string("reduction", "add")] } else { vec![] };
    let v = l.node("ScatterND", &[&front, &at, &source], attributes, x.dtype, front.shape.clone())?;
    one(l.transpose(&v, &order))
}

fn fill_diagonal(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let (Some(rows), Some(columns), 2) =
        (x.shape.first().and_then(SymInt::known), x.shape.get(1).and_then(SymInt::known), x.rank())
    else {
        bail!(Unsupported, "the diagonal of that shape cannot be filled")
    };
    if rows > columns && b.bool("wrap")? {
        bail!(Unsupported, "a diagonal that wraps has no lowering");
    }
    let count = rows.min(columns);
    let at: Vec<i64> = (0..count).flat_map(|i| [i, i]).collect();
    let at = l.vector(&at);
    let at = l.reshape(&at, &[SymInt::Known(count), SymInt::Known(2)])?;
    let value = l.filled(b.float("fill_value")?, x.dtype, &[SymInt::Known(count)])?;
    one(l.node("ScatterND", &[&x, &at, &value], vec![], x.dtype, x.shape.clone()))
}

fn isin(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (Some(x), Some(tests)) = (b.opt("elements"), b.opt("test_elements")) else {
        bail!(Unsupported, "isin needs two tensors")
    };
    let count = super::super::product(&tests.shape);
    let flat = l.reshape(&tests, &[count])?;
    let wide = l.unsqueeze(&x, &[x.rank() as i64])?;
    let same = super::elementwise::compare_values(l, "Equal", &wide, &flat)?;
    let same = l.cast(&same, DataType::Int32)?;
    let axis = same.rank().checked_sub(1).ok_or_else(|| err!(Internal, "no dimension"))? as i64;
    let any = super::reduce::reduce(l, "ReduceMax", &same, &[axis], false)?;
    let any = l.cast(&any, DataType::Bool)?;
    one(if b.bool("invert")? { not(l, &any) } else { Ok(any) })
}
