//! Indexing: index, index_put, gather, scatter, embedding, nonzero, topk, sort.

use super::super::emit::{int, string};
use super::super::shapes::broadcast;
use super::super::sym::{Atom, SymInt, product};
use super::super::value::Value;
use super::super::views;
use super::super::{Bound, Lowering, Out};
use super::elementwise::binary;
use super::{Entry, first, one};
use crate::model::DataType;
use crate::{Result, bail, err};

pub(super) const TABLE: &[Entry] = &[
    ("embedding", |l, b| {
        let (w, at) = (b.tensor("weight")?, b.tensor("indices")?);
        let shape = at.shape.iter().cloned().chain(w.shape.iter().skip(1).cloned()).collect();
        one(l.node("Gather", &[&w, &at], vec![int("axis", 0)], w.dtype, shape))
    }),
    ("index_select", |l, b| {
        let (x, at) = (first(b)?, b.tensor("index")?);
        let at = if at.rank() == 0 { l.unsqueeze(&at, &[0])? } else { at };
        let axis = l.axis(&x, b.int("dim")?)?;
        let mut shape = x.shape.clone();
        shape[axis] = at.shape[0].clone();
        one(l.node("Gather", &[&x, &at], vec![int("axis", axis as i64)], x.dtype, shape))
    }),
    ("gather", |l, b| {
        let (x, at) = (first(b)?, b.tensor("index")?);
        let axis = l.axis(&x, b.int("dim")?)? as i64;
        one(l.node("GatherElements", &[&x, &at], vec![int("axis", axis)], x.dtype, at.shape.clone()))
    }),
    ("take_along_dim", |l, b| {
        let (x, at) = (first(b)?, b.tensor("indices")?);
        let axis = l.axis(&x, b.int("dim")?)? as i64;
        one(l.node("GatherElements", &[&x, &at], vec![int("axis", axis)], x.dtype, at.shape.clone()))
    }),
    ("index", index),
    ("_unsafe_index", index),
    ("index_put", index_put),
    ("_index_put_impl", index_put),
    ("_unsafe_index_put", index_put),
    ("masked_select", |l, b| {
        let (x, mask) = (first(b)?, b.tensor("mask")?);
        let shape = broadcast(&[&x.shape, &mask.shape])?;
        let (x, mask) = (l.expand_to(&x, &shape)?, l.expand_to(&mask, &shape)?);
        let found = nonzero(l, &mask)?;
        let at = l.transpose(&found, &[1, 0])?;
        one(l.node("GatherND", &[&x, &at], vec![], x.dtype, vec![at.shape[0].clone()]))
    }),
    ("nonzero", |l, b| {
        let x = first(b)?;
        let found = nonzero(l, &x)?;
        one(l.transpose(&found, &[1, 0]))
    }),
    ("nonzero_numpy", |l, b| {
        let x = first(b)?;
        Ok(Out::List(nonzero_columns(l, &x)?))
    }),
    ("argwhere", |l, b| {
        let x = first(b)?;
        let found = nonzero(l, &x)?;
        one(l.transpose(&found, &[1, 0]))
    }),
    ("scatter", scatter),
    ("scatter_add", scatter),
    ("scatter_reduce", scatter),
    ("slice_scatter", |l, b| {
        let (x, src) = (first(b)?, b.tensor("src")?);
        let axis = l.axis(&x, b.int("dim")?)?;
        let (start, end) = l.slice_bounds(b, &x.shape[axis])?;
        let step = b.int("step")?;
        if step == 1 {
            return one(views::insert(l, &x, &src, axis, &start));
        }
        one(views::strided(l, &x, &src, axis, &start, &end, step))
    }),
    ("select_scatter", |l, b| {
        let (x, src) = (first(b)?, b.tensor("src")?);
        let axis = l.axis(&x, b.int("dim")?)?;
        let at = l.wrap_index(&b.size("index")?, &x.shape[axis]);
        let src = l.unsqueeze(&src, &[axis as i64])?;
        one(views::insert(l, &x, &src, axis, &at))
    }),
    ("topk", |l, b| {
        let x = first(b)?;
        top(l, &x, b.int("dim")?, &b.size("k")?, b.bool("largest")?)
    }),
    ("sort", |l, b| {
        let x = first(b)?;
        let dim = b.opt_int("dim")?.unwrap_or(-1);
        let axis = l.check_rank(&x, dim)?;
        let k = x.shape.get(axis).cloned().unwrap_or(SymInt::Known(1));
        top(l, &x, dim, &k, b.bool("descending")?)
    }),
    ("argsort", |l, b| {
        let x = first(b)?;
        let dim = b.opt_int("dim")?.unwrap_or(-1);
        let axis = l.check_rank(&x, dim)?;
        let k = x.shape.get(axis).cloned().unwrap_or(SymInt::Known(1));
        match top(l, &x, dim, &k, b.bool("descending")?)? {
            Out::Many(mut v) if v.len() == 2 => Ok(Out::One(v.remove(1))),
            _ => bail!(Internal, "a sort gave no indices"),
        }
    }),
    ("tril", |l, b| triangle(l, b, false)),
    ("triu", |l, b| triangle(l, b, true)),
    ("one_hot", |l, b| {
        let x = first(b)?;
        let classes = b.int("num_classes")?;
        if classes < 1 {
            bail!(Unsupported, "a number of classes that depends on the data has no ONNX form");
        }
        let depth = l.scalar(classes as f64, DataType::Int64);
        let values = l.vector(&[0, 1]);
        let mut shape = x.shape.clone();
        shape.push(SymInt::Known(classes));
        one(l.node("OneHot", &[&x, &depth, &values], vec![int("axis", -1)], DataType::Int64, shape))
    }),
    ("torchvision::nms", |l, b| {
        let (boxes, scores) = (b.tensor("dets")?, b.tensor("scores")?);
        let boxes = l.unsqueeze(&boxes, &[0])?;
        let scores = l.unsqueeze(&scores, &[0, 1])?;
        let most = l.vector(&[i64::MAX]);
        let threshold = l.numbers(&[b.float("iou_threshold")?], DataType::Float32);
        let count = l.fresh("nms");
        let rows = SymInt::atom(Atom::Value(count.clone()));
        let found = l.node(
            "NonMaxSuppression",
            &[&boxes, &scores, &most, &threshold],
            vec![],
            DataType::Int64,
            vec![rows, SymInt::Known(3)],
        )?;
        let range = vec![int("start", 0), int("end", 1)];
        let size = l.node("Shape", &[&found], range, DataType::Int64, vec![SymInt::Known(1)])?;
        l.run_time.insert(count, size);
        one(l.select(&found, 1, &SymInt::Known(2)))
    }),
];

/// For each dimension, the indices of the elements that are not zero.
pub(super) fn nonzero_columns(l: &mut Lowering, x: &Value) -> Result<Vec<Value>> {
    let found = nonzero(l, x)?;
    (0..x.rank()).map(|i| l.select(&found, 0, &SymInt::Known(i as i64))).collect()
}

/// ONNX's NonZero: one row for each dimension. How many there are, only the running model knows.
fn nonzero(l: &mut Lowering, x: &Value) -> Result<Value> {
    let count = l.fresh("nonzero");
    let shape = vec![SymInt::Known(x.rank() as i64), SymInt::atom(Atom::Value(count.clone()))];
    let found = l.node("NonZero", &[x], vec![], DataType::Int64, shape)?;
    let range = vec![int("start", 1), int("end", 2)];
    let size = l.node("Shape", &[&found], range, DataType::Int64, vec![SymInt::Known(1)])?;
    l.run_time.insert(count, size);
    Ok(found)
}

/// The indices with masks replaced by the places they choose; `None` for dimensions that are kept.
fn places(l: &mut Lowering, b: &Bound, x: &Value) -> Result<Vec<Option<Value>>> {
    let mut out = Vec::new();
    for at in b.opt_tensors("indices")? {
        match at {
            None => out.push(None),
            Some(v) if v.dtype == DataType::Bool || v.dtype == DataType::Uint8 => {
                out.extend(nonzero_columns(l, &v)?.into_iter().map(Some));
            }
            Some(v) => out.push(Some(l.cast(&v, DataType::Int64)?)),
        }
    }
    if out.len() > x.rank() {
        bail!(ShapeMismatch, "{} indices are given for {} dimensions", out.len(), x.rank());
    }
    while out.len() < x.rank() {
        out.push(None);
    }
    Ok(out)
}

/// The operand with the indexed dimensions first, the indices as one tensor of tuples, and how to go back.
struct Tuples {
    front: Value,
    tuples: Value,
    order: Vec<i64>,
    indexed: Vec<usize>,
    common: Vec<SymInt>,
}

fn tuples(l: &mut Lowering, x: &Value, at: &[Option<Value>]) -> Result<Tuples> {
    let indexed: Vec<usize> = at.iter().enumerate().filter(|(_, a)| a.is_some()).map(|(i, _)| i).collect();
    let order: Vec<i64> =
        indexed.iter().copied().chain((0..x.rank()).filter(|d| !indexed.contains(d))).map(|d| d as i64).collect();
    let values: Vec<&Value> = at.iter().flatten().collect();
    let shapes: Vec<&[SymInt]> = values.iter().map(|v| v.shape.as_slice()).collect();
    let common = broadcast(&shapes)?;
    let mut columns = Vec::new();
    for (axis, v) in indexed.iter().zip(values) {
        // Indices from the end are counted from the start: not every operator takes them.
        let v = from_start(l, v, &x.shape[*axis])?;
        let v = l.expand_to(&v, &common)?;
        columns.push(l.unsqueeze(&v, &[common.len() as i64])?);
    }
    let tuples = l.concat(&columns, common.len())?;
    let front = l.transpose(x, &order)?;
    Ok(Tuples { front, tuples, order, indexed, common })
}

fn from_start(l: &mut Lowering, v: &Value, size: &SymInt) -> Result<Value> {
    if let Some(known) = &v.known {
        let fixed: Option<Vec<_>> = known
            .iter()
            .map(|n| match n {
                super::super::Num::Int(i) if i.known().is_some_and(|i| i < 0) => {
                    Some(super::super::Num::Int(i.plus(size)))
                }
                super::super::Num::Int(i) => Some(super::super::Num::Int(i.clone())),
                _ => None,
            })
            .collect();
        if let Some(fixed) = fixed {
            return Ok(l.known(DataType::Int64, v.shape.clone(), fixed));
        }
    }
    Ok(v.clone())
}

fn index(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let at = places(l, b, &x)?;
    let count = at.iter().flatten().count();
    if count == 0 {
        return Ok(Out::One(x));
    }
    if count == 1
        && let Some((axis, Some(v))) = at.iter().enumerate().find(|(_, a)| a.is_some())
    {
        let mut shape = x.shape[..axis].to_vec();
        shape.extend(v.shape.iter().cloned());
        shape.extend_from_slice(&x.shape[axis + 1..]);
        return one(l.node("Gather", &[&x, v], vec![int("axis", axis as i64)], x.dtype, shape));
    }
    let t = tuples(l, &x, &at)?;
    let mut shape = t.common.clone();
    shape.extend_from_slice(&t.front.shape[count..]);
    let v = l.node("GatherND", &[&t.front, &t.tuples], vec![], x.dtype, shape)?;
    // Neighbouring indices leave their result in place; others put it first.
    let adjacent = t.indexed.windows(2).all(|w| w[1] == w[0] + 1);
    let start = t.indexed.first().copied().unwrap_or(0);
    if !adjacent || start == 0 {
        return Ok(Out::One(v));
    }
    let n = t.common.len() as i64;
    let mut order: Vec<i64> = (n..n + start as i64).collect();
    order.extend(0..n);
    order.extend(n + start as i64..v.rank() as i64);
    one(l.transpose(&v, &order))
}

fn index_put(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, values) = (first(b)?, b.tensor("values")?);
    let values = l.cast(&values, x.dtype)?;
    let accumulate = b.bool("accumulate")?;
    // A mask with one value is a choice.
    if let ([Some(mask)], false) = (b.opt_tensors("indices")?.as_slice(), accumulate)
        && mask.dtype == DataType::Bool
        && product(&values.shape).is(1)
    {
        let mut shape = mask.shape.clone();
        shape.resize(x.rank(), SymInt::Known(1));
        let mask = l.reshape(mask, &shape)?;
        let value = l.reshape(&values, &[])?;
        return one(l.node("Where", &[&mask, &value, &x], vec![], x.dtype, x.shape.clone()));
    }
    let at = places(l, b, &x)?;
    let count = at.iter().flatten().count();
    if count == 0 {
        bail!(Unsupported, "an assignment without indices has no lowering");
    }
    let t = tuples(l, &x, &at)?;
    let adjacent = t.indexed.windows(2).all(|w| w[1] == w[0] + 1);
    let start = if adjacent { t.indexed.first().copied().unwrap_or(0) } else { 0 };
    // The shape that indexing would give, and the order that puts the indexed part first.
    let rest: Vec<SymInt> = t.front.shape[count..].to_vec();
    let mut shape = rest[..start].to_vec();
    shape.extend(t.common.iter().cloned());
    shape.extend_from_slice(&rest[start..]);
    let values = l.expand_to(&values, &shape)?;
    let n = t.common.len() as i64;
    let mut order: Vec<i64> = (start as i64..start as i64 + n).collect();
    order.extend(0..start as i64);
    order.extend(start as i64 + n..shape.len() as i64);
    let values = l.transpose(&values, &order)?;
    let mut attributes = Vec::new();
    if accumulate {
        attributes.push(string("reduction", "add"));
    }
    let v = l.node("ScatterND", &[&t.front, &t.tuples, &values], attributes, x.dtype, t.front.shape.clone())?;
    let mut inverse = vec![0i64; t.order.len()];
    t.order.iter().enumerate().for_each(|(i, o)| inverse[*o as usize] = i as i64);
    one(l.transpose(&v, &inverse))
}

fn scatter(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, at) = (first(b)?, b.tensor("index")?);
    let axis = l.axis(&x, b.int("dim")?)? as i64;
    let source = match (b.opt("src"), b.get("value").and_then(super::super::promote::number)) {
        (Some(s), _) => s,
        (None, Some(n)) => {
            let v = l.wrapped(n);
            let v = l.operand(&v, x.dtype)?;
            l.expand_to(&v, &at.shape)?
        }
        _ => bail!(Unsupported, "the source is of an unsupported kind"),
    };
    // PyTorch lets the source be larger than the indices.
    let mut source = l.cast(&source, x.dtype)?;
    for (i, size) in at.shape.iter().enumerate() {
        source = l.slice(&source, i, &SymInt::Known(0), size, 1)?;
    }
    let op = b.op.strip_prefix("aten::").unwrap_or(&b.op);
    let reduction = match (op, b.str("reduce")) {
        ("scatter_add", _) | (_, "add" | "sum") => "add",
        (_, "multiply" | "prod") => "mul",
        (_, "amax") => "max",
        (_, "amin") => "min",
        (_, "") => "none",
        (_, other) => bail!(Unsupported, "the reduction '{other}' has no ONNX form"),
    };
    if op == "scatter_reduce" && b.get("include_self").is_some() && !b.bool("include_self")? {
        bail!(Unsupported, "include_self=False has no ONNX form");
    }
    let attributes = vec![int("axis", axis), string("reduction", reduction)];
    one(l.node("ScatterElements", &[&x, &at, &source], attributes, x.dtype, x.shape.clone()))
}

fn top(l: &mut Lowering, x: &Value, dim: i64, k: &SymInt, largest: bool) -> Result<Out> {
    let axis = l.check_rank(x, dim)?;
    if x.rank() == 0 {
        let zero = l.scalar(0.0, DataType::Int64);
        return Ok(Out::Many(vec![x.clone(), zero]));
    }
    let mut shape = x.shape.clone();
    shape[axis] = k.clone();
    let k = l.size_vector(std::slice::from_ref(k));
    let attributes = vec![int("axis", axis as i64), int("largest", i64::from(largest)), int("sorted", 1)];
    let outputs = vec![(x.dtype, shape.clone()), (DataType::Int64, shape)];
    l.node_n("TopK", &[Some(x), Some(&k)], attributes, outputs).map(Out::Many)
}

fn triangle(l: &mut Lowering, b: &Bound, upper: bool) -> Result<Out> {
    let x = first(b)?;
    let k = l.scalar(b.int("diagonal")? as f64, DataType::Int64);
    if x.rank() < 2 {
        return Err(err!(ShapeMismatch, "a triangle needs 2 dimensions"));
    }
    let _ = binary;
    one(l.node("Trilu", &[&x, &k], vec![int("upper", i64::from(upper))], x.dtype, x.shape.clone()))
}
