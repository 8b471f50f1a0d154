//! Views and movements: reshape, permute, select, slice, split, cat, stack, expand, pad and what reads a shape.

use super::super::budget::MAX_PARTS;
use super::super::emit::{int, string};
use super::super::host;
use super::super::promote::{number, promote};
use super::super::sym::{SymInt, product};
use super::super::value::{Num, Value};
use super::super::{Arg, Bound, Lowering, Out};
use super::{Entry, first, one};
use crate::model::DataType;
use crate::{Result, bail, err};

/// Indices that one operator may list.
const MAX_LISTED: i64 = 1 << 22;

pub(super) const TABLE: &[Entry] = &[
    ("view", view),
    ("_unsafe_view", view),
    ("reshape", view),
    ("view_copy", view),
    ("view_as", view_as),
    ("reshape_as", view_as),
    ("flatten", flatten),
    ("ravel", flatten),
    ("unflatten", unflatten),
    ("squeeze", squeeze),
    ("unsqueeze", unsqueeze),
    ("permute", permute),
    ("transpose", permute),
    ("t", permute),
    ("numpy_T", permute),
    ("mT", permute),
    ("swapaxes", permute),
    ("swapdims", permute),
    ("movedim", permute),
    ("moveaxis", permute),
    ("select", select),
    ("select_copy", select),
    ("slice", slice),
    ("slice_copy", slice),
    ("narrow", narrow),
    ("split", split),
    ("split_with_sizes", split),
    ("chunk", split),
    ("tensor_split", split),
    ("unsafe_split", split),
    ("unsafe_split_with_sizes", split),
    ("unsafe_chunk", |l, b| {
        let mut chunked = b.clone();
        chunked.op = "aten::chunk".into();
        split(l, &chunked)
    }),
    ("unbind", unbind),
    ("cat", cat),
    ("concat", cat),
    ("concatenate", cat),
    ("stack", stack),
    ("expand", expand),
    ("expand_copy", expand),
    ("expand_as", |l, b| {
        let (x, other) = (b.tensor("self")?, b.tensor("other")?);
        one(l.expand_to(&x, &other.shape))
    }),
    ("broadcast_to", expand),
    ("broadcast_tensors", |l, b| {
        let all = b.tensors("tensors")?;
        let shapes: Vec<&[SymInt]> = all.iter().map(|t| t.shape.as_slice()).collect();
        let shape = super::super::shapes::broadcast(&shapes)?;
        Ok(Out::List(all.iter().map(|t| l.expand_to(t, &shape)).collect::<Result<_>>()?))
    }),
    ("contiguous", |_, b| one(first(b))),
    ("detach", |_, b| one(first(b))),
    // Without gradients it changes nothing, in place either.
    ("detach_", |_, b| one(first(b))),
    ("alias", |_, b| one(first(b))),
    ("lift_fresh", |_, b| one(first(b))),
    ("lift_fresh_copy", |_, b| one(first(b))),
    ("clone", |_, b| one(first(b))),
    ("dropout", dropout),
    ("feature_dropout", dropout),
    ("alpha_dropout", dropout),
    ("feature_alpha_dropout", dropout),
    ("native_dropout", |l, b| {
        dropout(l, b)?;
        let x = b.tensor("input")?;
        let mask = l.filled(1.0, DataType::Bool, &x.shape)?;
        Ok(Out::Many(vec![x, mask]))
    }),
    ("requires_grad_", |_, _| Ok(Out::Same("self"))),
    ("to", to),
    ("_to_copy", to_copy),
    ("type_as", |l, b| {
        let (x, other) = (b.tensor("self")?, b.tensor("other")?);
        one(l.cast(&x, other.dtype))
    }),
    ("copy", |l, b| {
        let (x, src) = (b.tensor("self")?, b.tensor("src")?);
        let v = l.cast(&src, x.dtype)?;
        one(l.expand_to(&v, &x.shape))
    }),
    ("copy_", |l, b| {
        let (x, src) = (b.tensor("self")?, b.tensor("src")?);
        let v = l.cast(&src, x.dtype)?;
        one(l.expand_to(&v, &x.shape))
    }),
    ("fill", fill),
    ("zero", |l, b| {
        let x = first(b)?;
        one(l.filled(0.0, x.dtype, &x.shape))
    }),
    ("size", |_, b| {
        let x = first(b)?;
        if b.get("dim").is_none() {
            return Ok(Out::Args(vec![Arg::List(x.shape.iter().cloned().map(Arg::Int).collect())]));
        }
        let dim = b.int("dim")?;
        let i = if dim < 0 { dim + x.rank() as i64 } else { dim };
        let size = usize::try_from(i).ok().and_then(|i| x.shape.get(i).cloned());
        let size = size.ok_or_else(|| err!(InvalidModel, "dimension {dim} does not exist"))?;
        Ok(Out::Args(vec![Arg::Int(size)]))
    }),
    ("sym_size", |l, b| {
        let x = first(b)?;
        let i = l.check_rank(&x, b.int("dim")?)?;
        Ok(Out::Args(vec![Arg::Int(x.shape.get(i).cloned().unwrap_or(SymInt::Known(1)))]))
    }),
    ("numel", |_, b| Ok(Out::Args(vec![Arg::Int(product(&first(b)?.shape))]))),
    ("sym_numel", |_, b| Ok(Out::Args(vec![Arg::Int(product(&first(b)?.shape))]))),
    ("dim", |_, b| Ok(Out::Args(vec![Arg::from(first(b)?.rank() as i64)]))),
    ("len", |_, b| Ok(Out::Args(vec![Arg::Int(first(b)?.shape.first().cloned().unwrap_or(SymInt::Known(0)))]))),
    ("is_floating_point", |_, b| Ok(Out::Args(vec![Arg::Bool(first(b)?.dtype.is_float())]))),
    ("item", item),
    ("_local_scalar_dense", item),
    ("Int", item),
    ("IntImplicit", item),
    ("Float", item),
    ("FloatImplicit", item),
    ("Bool", item),
    ("ScalarImplicit", item),
    ("pad", pad),
    ("constant_pad_nd", pad),
    ("reflection_pad1d", pad),
    ("reflection_pad2d", pad),
    ("reflection_pad3d", pad),
    ("replication_pad1d", pad),
    ("replication_pad2d", pad),
    ("replication_pad3d", pad),
    ("repeat", repeat),
    ("tile", repeat),
    ("flip", flip),
    ("roll", roll),
    ("diagonal", diagonal),
    ("unfold", unfold),
    ("pixel_shuffle", |l, b| shuffle(l, b, true)),
    ("pixel_unshuffle", |l, b| shuffle(l, b, false)),
    ("channel_shuffle", channel_shuffle),
    ("native_channel_shuffle", channel_shuffle),
    ("_assert_tensor_metadata", |_, _| Ok(Out::Args(vec![]))),
    ("_assert_async", |_, _| Ok(Out::Args(vec![]))),
    ("as_strided", as_strided),
    ("atleast_1d", |l, b| {
        let x = first(b)?;
        if x.rank() > 0 { Ok(Out::One(x)) } else { one(l.reshape(&x, &[SymInt::Known(1)])) }
    }),
];

/// A shape with at most one -1 replaced by what is left.
fn infer(x: &Value, wanted: &[SymInt]) -> Result<Vec<SymInt>> {
    let Some(at) = wanted.iter().position(|s| s.is(-1)) else { return Ok(wanted.to_vec()) };
    let rest = product(wanted.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, s)| s));
    let all = product(&x.shape);
    let mut shape = wanted.to_vec();
    shape[at] = match (all.known(), rest.known()) {
        (Some(0), Some(0)) => SymInt::Known(0),
        (Some(a), Some(r)) if r == 0 || a % r != 0 => {
            bail!(ShapeMismatch, "{a} elements cannot be divided into {wanted:?}")
        }
        _ => all.floor_div(&rest).ok_or_else(|| err!(ShapeMismatch, "an empty shape leaves -1 open"))?,
    };
    Ok(shape)
}

fn view(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    if let Some(dtype) = b.dtype("dtype")? {
        if dtype == x.dtype {
            return Ok(Out::One(x));
        }
        bail!(Unsupported, "reading the bytes of {} as {dtype} has no ONNX form", x.dtype);
    }
    let wanted = b.sizes(if b.get("size").is_some() { "size" } else { "shape" })?;
    let shape = infer(&x, &wanted)?;
    one(l.reshape(&x, &shape))
}

fn view_as(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, other) = (b.tensor("self")?, b.tensor("other")?);
    one(l.reshape(&x, &other.shape))
}

fn flatten(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    if x.rank() == 0 {
        return one(l.reshape(&x, &[SymInt::Known(1)]));
    }
    let start = l.check_rank(&x, b.opt_int("start_dim")?.unwrap_or(0))?;
    let end = l.check_rank(&x, b.opt_int("end_dim")?.unwrap_or(-1))?;
    if start > end {
        bail!(InvalidModel, "dimensions {start} to {end} cannot be flattened");
    }
    let mut shape = x.shape[..start].to_vec();
    shape.push(product(&x.shape[start..=end]));
    shape.extend_from_slice(&x.shape[end + 1..]);
    one(l.reshape(&x, &shape))
}

fn unflatten(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let axis = l.axis(&x, b.int("dim")?)?;
    let mut sizes = b.sizes("sizes")?;
    if let Some(at) = sizes.iter().position(|s| s.is(-1)) {
        let rest = product(sizes.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, s)| s));
        let left = x.shape[axis].floor_div(&rest);
        sizes[at] = left.ok_or_else(|| err!(ShapeMismatch, "an empty shape leaves -1 open"))?;
    }
    let mut shape = x.shape[..axis].to_vec();
    shape.extend(sizes);
    shape.extend_from_slice(&x.shape[axis + 1..]);
    one(l.reshape(&x, &shape))
}

fn squeeze(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let mut axes = Vec::new();
    match b.opt_ints("dim")? {
        Some(dims) => {
            for d in dims {
                let a = l.check_rank(&x, d)?;
                if x.shape.get(a).is_some_and(|s| s.is(1)) {
                    axes.push(a as i64);
                }
            }
        }
        None => axes.extend((0..x.rank() as i64).filter(|a| x.shape[*a as usize].is(1))),
    }
    one(l.squeeze(&x, &axes))
}

fn unsqueeze(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let dim = b.int("dim")?;
    let axis = if dim < 0 { dim + x.rank() as i64 + 1 } else { dim };
    one(l.unsqueeze(&x, &[axis]))
}

/// The order of dimensions that a permuting operator gives.
pub fn permutation(l: &mut Lowering, op: &str, b: &Bound, x: &Value) -> Result<Vec<i64>> {
    let rank = x.rank() as i64;
    let mut order: Vec<i64> = (0..rank).collect();
    match op.strip_prefix("aten::").unwrap_or(op) {
        "permute" => {
            let dims = b.ints("dims")?;
            order = dims.iter().map(|d| l.check_rank(x, *d).map(|d| d as i64)).collect::<Result<_>>()?;
            let mut sorted = order.clone();
            sorted.sort_unstable();
            sorted.dedup();
            if sorted.len() != x.rank() {
                bail!(InvalidModel, "{dims:?} is no order of {rank} dimensions");
            }
        }
        "t" => order.reverse(),
        "numpy_T" => order.reverse(),
        "mT" if rank >= 2 => order.swap(rank as usize - 1, rank as usize - 2),
        "movedim" | "moveaxis" => {
            let (from, to) = (b.ints("source")?, b.ints("destination")?);
            let from: Vec<usize> = from.iter().map(|d| l.check_rank(x, *d)).collect::<Result<_>>()?;
            let to: Vec<usize> = to.iter().map(|d| l.check_rank(x, *d)).collect::<Result<_>>()?;
            let mut slots: Vec<Option<i64>> = vec![None; x.rank()];
            for (f, t) in from.iter().zip(&to) {
                slots[*t] = Some(*f as i64);
            }
            let mut rest = (0..rank).filter(|d| !from.contains(&(*d as usize)));
            order = slots.into_iter().map(|s| s.or_else(|| rest.next()).unwrap_or(0)).collect();
        }
        _ => {
            let name = |i: usize| if b.get("dim0").is_some() { ["dim0", "dim1"][i] } else { ["axis0", "axis1"][i] };
            let (p, q) = (l.check_rank(x, b.int(name(0))?)?, l.check_rank(x, b.int(name(1))?)?);
            if rank > 0 {
                order.swap(p, q);
            }
        }
    }
    Ok(order)
}

fn permute(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let order = permutation(l, &b.op, b, &x)?;
    one(l.transpose(&x, &order))
}

fn select(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let axis = l.axis(&x, b.int("dim")?)?;
    if x.rank() == 0 {
        bail!(InvalidModel, "a tensor without dimensions cannot be indexed");
    }
    let index = l.wrap_index(&b.size("index")?, &x.shape[axis]);
    one(l.select(&x, axis, &index))
}

fn slice(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let axis = l.axis(&x, b.int("dim")?)?;
    let step = b.int("step")?;
    if x.rank() == 0 || step < 1 {
        bail!(InvalidModel, "a slice needs a dimension and a step of 1 or more");
    }
    let (start, end) = l.slice_bounds(b, &x.shape[axis])?;
    one(l.slice(&x, axis, &start, &end, step))
}

fn narrow(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let axis = l.axis(&x, b.int("dim")?)?;
    let start = l.wrap_index(&b.size("start")?, &x.shape[axis]);
    let end = start.plus(&b.size("length")?);
    one(l.slice(&x, axis, &start, &end, 1))
}

/// The sizes of the parts that a splitting operator makes.
pub fn part_sizes(_: &mut Lowering, op: &str, b: &Bound, size: &SymInt) -> Result<Vec<SymInt>> {
    let op = op.strip_prefix("aten::").unwrap_or(op);
    let known = || size.known().ok_or_else(|| err!(Unsupported, "the number of parts depends on the size {size}"));
    if op == "chunk" {
        let (n, chunks) = (known()?, b.int("chunks")?.max(1));
        return cut(n, n.saturating_add(chunks - 1) / chunks);
    }
    if op == "tensor_split" {
        if let Some(at) = b.opt_ints("indices")? {
            let n = known()?;
            let mut last = 0;
            let mut out = Vec::new();
            for i in at.into_iter().chain([n]) {
                let i = if i < 0 { (i + n).max(0) } else { i.min(n) };
                out.push(SymInt::Known((i - last).max(0)));
                last = i;
            }
            return Ok(out);
        }
        let (n, parts) = (known()?, parts_within(b.int("sections")?.max(1))?);
        return Ok((0..parts).map(|i| SymInt::Known(n / parts + i64::from(i < n % parts))).collect());
    }
    let name = ["split_size", "split_sizes"].into_iter().find(|n| b.get(n).is_some()).unwrap_or("split_size");
    match b.get(name) {
        Some(Arg::List(_)) => b.sizes(name),
        _ => {
            let by = b.size(name)?;
            if by == *size {
                return Ok(vec![by]);
            }
            if let (None, Some(parts)) = (size.known(), size.exact_div(&by).and_then(|p| p.known())) {
                return Ok(vec![by; parts_within(parts)? as usize]);
            }
            let by = by.known().ok_or_else(|| err!(Unsupported, "the number of parts depends on the size {by}"))?;
            cut(known()?, by)
        }
    }
}

fn cut(n: i64, by: i64) -> Result<Vec<SymInt>> {
    let by = by.max(1);
    if n == 0 {
        return Ok(vec![SymInt::Known(0)]);
    }
    let mut out = vec![SymInt::Known(by); parts_within(n / by)? as usize];
    if n % by != 0 {
        out.push(SymInt::Known(n % by));
    }
    Ok(out)
}

/// That number of parts, if the graph can list them.
fn parts_within(n: i64) -> Result<i64> {
    match n {
        0..=MAX_PARTS => Ok(n),
        _ => bail!(Unsupported, "it gives {n} tensors; {MAX_PARTS} are the most that one operator may give"),
    }
}

fn split(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let axis = l.axis(&x, b.opt_int("dim")?.unwrap_or(0))?;
    let sizes = part_sizes(l, &b.op, b, &x.shape[axis])?;
    one_split(l, &x, axis, &sizes).map(Out::List)
}

/// One Split node.
pub(super) fn one_split(l: &mut Lowering, x: &Value, axis: usize, sizes: &[SymInt]) -> Result<Vec<Value>> {
    if sizes.len() == 1 {
        return Ok(vec![x.clone()]);
    }
    if x.known.is_some() {
        let mut start = SymInt::Known(0);
        let mut out = Vec::new();
        for s in sizes {
            let end = start.plus(s);
            out.push(l.slice(x, axis, &start, &end, 1)?);
            start = end;
        }
        return Ok(out);
    }
    let outputs = sizes
        .iter()
        .map(|s| {
            let mut shape = x.shape.clone();
            shape[axis] = s.clone();
            (x.dtype, shape)
        })
        .collect();
    let lengths = l.size_vector(sizes);
    l.node_n("Split", &[Some(x), Some(&lengths)], vec![int("axis", axis as i64)], outputs)
}

fn unbind(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let axis = l.axis(&x, b.opt_int("dim")?.unwrap_or(0))?;
    let Some(n) = x.shape[axis].known() else {
        bail!(Unsupported, "the number of parts depends on the size {}", x.shape[axis]);
    };
    let parts = (0..parts_within(n)?).map(|i| l.select(&x, axis, &SymInt::Known(i))).collect::<Result<_>>()?;
    Ok(Out::List(parts))
}

fn cat(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let all = b.tensors("tensors")?;
    // PyTorch lets empty vectors take part in any concatenation.
    let mut parts: Vec<Value> =
        all.iter().filter(|t| !(t.rank() == 1 && t.shape[0].is(0) && all.len() > 1)).cloned().collect();
    if parts.is_empty() {
        parts = all.into_iter().take(1).collect();
    }
    let Some(dtype) = parts.iter().map(|t| t.dtype).reduce(promote) else {
        bail!(InvalidModel, "nothing to concatenate");
    };
    let axis = l.axis(&parts[0], b.opt_int("dim")?.unwrap_or(0))?;
    let parts: Vec<Value> = parts.iter().map(|t| l.cast(t, dtype)).collect::<Result<_>>()?;
    one(l.concat(&parts, axis))
}

fn stack(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let all = b.tensors("tensors")?;
    let Some(dtype) = all.iter().map(|t| t.dtype).reduce(promote) else { bail!(InvalidModel, "nothing to stack") };
    let rank = all[0].rank() as i64 + 1;
    let dim = b.opt_int("dim")?.unwrap_or(0);
    let axis = if dim < 0 { dim + rank } else { dim };
    let mut parts = Vec::new();
    for t in &all {
        let t = l.cast(t, dtype)?;
        parts.push(l.unsqueeze(&t, &[axis])?);
    }
    one(l.concat(&parts, axis as usize))
}

fn expand(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let wanted = b.sizes("size")?;
    let lead = wanted.len().checked_sub(x.rank());
    let Some(lead) = lead else { bail!(ShapeMismatch, "{} dimensions cannot be expanded to fewer", x.rank()) };
    let shape: Vec<SymInt> = wanted
        .iter()
        .enumerate()
        .map(|(i, s)| if s.is(-1) && i >= lead { x.shape[i - lead].clone() } else { s.clone() })
        .collect();
    one(l.expand_to(&x, &shape))
}

fn dropout(_: &mut Lowering, b: &Bound) -> Result<Out> {
    if b.bool("train")? && b.float("p")? > 0.0 {
        bail!(Unsupported, "it is in training mode; call eval() on the model before saving it");
    }
    Ok(Out::Same("input"))
}

fn to(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = b.tensor("self")?;
    let dtype = match (b.opt("other"), b.dtype("dtype")?) {
        (Some(other), _) => Some(other.dtype),
        (None, d) => d,
    };
    match dtype {
        Some(d) if d != x.dtype => one(l.cast(&x, d)),
        _ if b.bool("copy")? => Ok(Out::One(x)),
        _ => Ok(Out::Same("self")),
    }
}

fn to_copy(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = b.tensor("self")?;
    let dtype = b.dtype("dtype")?.unwrap_or(x.dtype);
    one(l.cast(&x, dtype))
}

fn fill(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let value = match (b.opt("value"), b.get("value").and_then(number)) {
        (Some(v), _) => v,
        (None, Some(n)) => l.wrapped(n),
        _ => bail!(Unsupported, "the value is of an unsupported kind"),
    };
    let value = l.operand(&value, x.dtype)?;
    one(l.expand_to(&value, &x.shape))
}

fn item(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (_, arg) = b.args.first().ok_or_else(|| err!(InvalidModel, "an operand is missing"))?;
    let x = match arg {
        Arg::Tensor(_) => first(b).or_else(|_| b.tensor("a"))?,
        other => return Ok(Out::Args(vec![other.clone()])),
    };
    let wanted = match b.op.strip_prefix("aten::").unwrap_or(&b.op) {
        "Int" | "IntImplicit" => DataType::Int64,
        "Float" | "FloatImplicit" => DataType::Float64,
        "Bool" => DataType::Bool,
        _ => x.dtype,
    };
    let known = x.known.as_ref().filter(|k| k.len() == 1).and_then(|k| host::convert(&k[0], wanted));
    Ok(Out::Args(vec![match known {
        Some(Num::Int(v)) => Arg::Int(v),
        Some(Num::Float(v)) => Arg::Float(v),
        Some(Num::Bool(v)) => Arg::Bool(v),
        None if wanted.is_integer() => Arg::Int(l.run_time_size(&x)?),
        // A number that only the running model knows stays a tensor.
        None => arg.clone(),
    }]))
}

fn pad(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let amounts = b.sizes(if b.get("pad").is_some() { "pad" } else { "padding" })?;
    let op = b.op.strip_prefix("aten::").unwrap_or(&b.op);
    let mode = match (op, b.str("mode")) {
        ("constant_pad_nd", _) | (_, "constant") => "constant",
        (_, "reflect") => "reflect",
        (_, "replicate") => "edge",
        (_, "circular") => "wrap",
        (o, _) if o.starts_with("reflection") => "reflect",
        (o, _) if o.starts_with("replication") => "edge",
        (_, other) => bail!(Unsupported, "padding of mode '{other}' has no ONNX form"),
    };
    let value = b.opt_float("value")?.unwrap_or(0.0);
    one(pad_values(l, &x, &amounts, mode, value))
}

/// Pads from the last dimension on: (left, right) for each. Negative amounts crop.
pub(super) fn pad_values(l: &mut Lowering, x: &Value, amounts: &[SymInt], mode: &str, value: f64) -> Result<Value> {
    let rank = x.rank();
    if amounts.len() / 2 > rank || !amounts.len().is_multiple_of(2) {
        bail!(ShapeMismatch, "{} amounts cannot pad {rank} dimensions", amounts.len());
    }
    if amounts.iter().all(|a| a.is(0)) {
        return Ok(x.clone());
    }
    let zero = SymInt::Known(0);
    let mut before = vec![zero.clone(); rank];
    let mut after = vec![zero; rank];
    let mut shape = x.shape.clone();
    for (i, pair) in amounts.chunks(2).enumerate() {
        let axis = rank - 1 - i;
        if let [a, b] = pair {
            shape[axis] = shape[axis].plus(a).plus(b);
            before[axis] = a.clone();
            after[axis] = b.clone();
        }
    }
    let pads: Vec<SymInt> = before.into_iter().chain(after).collect();
    let pads = l.size_vector(&pads);
    let fill = l.scalar(value, x.dtype);
    let fill = (mode == "constant").then_some(&fill);
    Ok(l.node_n("Pad", &[Some(x), Some(&pads), fill], vec![string("mode", mode)], vec![(x.dtype, shape)])?.remove(0))
}

fn repeat(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let mut times = b.sizes(if b.get("repeats").is_some() { "repeats" } else { "dims" })?;
    while times.len() < x.rank() {
        times.insert(0, SymInt::Known(1));
    }
    let mut shape = vec![SymInt::Known(1); times.len() - x.rank()];
    shape.extend_from_slice(&x.shape);
    let x = l.reshape(&x, &shape)?;
    let shape: Vec<SymInt> = shape.iter().zip(&times).map(|(s, t)| s.times(t)).collect();
    if times.iter().all(|t| t.is(1)) {
        return Ok(Out::One(x));
    }
    let times = l.size_vector(&times);
    one(l.node("Tile", &[&x, &times], vec![], x.dtype, shape))
}

fn flip(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let axes: Vec<i64> =
        b.ints("dims")?.iter().map(|d| l.check_rank(&x, *d).map(|d| d as i64)).collect::<Result<_>>()?;
    if axes.is_empty() {
        return Ok(Out::One(x));
    }
    let starts = l.vector(&vec![-1; axes.len()]);
    let ends = l.vector(&vec![i64::MIN + 1; axes.len()]);
    let steps = l.vector(&vec![-1; axes.len()]);
    let axes = l.vector(&axes);
    one(l.node("Slice", &[&x, &starts, &ends, &axes, &steps], vec![], x.dtype, x.shape.clone()))
}

fn roll(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let (shifts, dims) = (b.sizes("shifts")?, b.opt_ints("dims")?.unwrap_or_default());
    let (mut v, dims) =
        if dims.is_empty() { (l.reshape(&x, &[product(&x.shape)])?, vec![0]) } else { (x.clone(), dims) };
    for (shift, dim) in shifts.iter().zip(dims) {
        let axis = l.check_rank(&v, dim)?;
        let size = v.shape[axis].clone();
        let shift = match (shift.known(), size.known()) {
            (Some(_), Some(0)) => continue,
            (Some(s), Some(n)) => SymInt::Known(s.rem_euclid(n)),
            (Some(s), None) if s < 0 => size.plus(shift),
            _ => shift.clone(),
        };
        if shift.is(0) {
            continue;
        }
        let cut = size.minus(&shift);
        let tail = l.slice(&v, axis, &cut, &size, 1)?;
        let head = l.slice(&v, axis, &SymInt::Known(0), &cut, 1)?;
        v = l.concat(&[tail, head], axis)?;
    }
    one(l.reshape(&v, &x.shape))
}

fn diagonal(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let (p, q) = (l.check_rank(&x, b.int("dim1")?)?, l.check_rank(&x, b.int("dim2")?)?);
    let offset = b.int("offset")?;
    let (Some(rows), Some(columns)) = (x.shape[p].known(), x.shape[q].known()) else {
        bail!(Unsupported, "a diagonal of symbolic sizes has no ONNX form");
    };
    let (r, c) = ((-offset).max(0), offset.max(0));
    let count = (rows - r).min(columns - c).max(0);
    let mut order: Vec<i64> = (0..x.rank() as i64).filter(|d| *d != p as i64 && *d != q as i64).collect();
    order.extend([p as i64, q as i64]);
    let v = l.transpose(&x, &order)?;
    let lead = v.shape[..v.rank() - 2].to_vec();
    let Some(all) = rows.checked_mul(columns).filter(|_| count <= MAX_LISTED) else {
        bail!(Unsupported, "the diagonal of {rows} by {columns} is too large to be listed");
    };
    let flat: Vec<SymInt> = lead.iter().cloned().chain([SymInt::Known(all)]).collect();
    let v = l.reshape(&v, &flat)?;
    let at: Vec<i64> = (0..count).map(|i| (r + i) * columns + c + i).collect();
    let at = l.vector(&at);
    let shape = lead.into_iter().chain([SymInt::Known(count)]).collect::<Vec<_>>();
    one(l.node("Gather", &[&v, &at], vec![int("axis", shape.len() as i64 - 1)], x.dtype, shape))
}

/// Sliding windows of one dimension, which come last.
fn unfold(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let axis = l.axis(&x, b.int("dimension")?)?;
    let (size, step) = (b.int("size")?, b.int("step")?);
    let Some(n) = x.shape[axis].known() else { bail!(Unsupported, "windows over a symbolic size have no ONNX form") };
    if size < 0 || size > n || step < 1 {
        bail!(ShapeMismatch, "windows of {size} do not fit in {n}");
    }
    let count = (n - size) / step + 1;
    if count.checked_mul(size).is_none_or(|all| all > MAX_LISTED) {
        bail!(Unsupported, "{count} windows of {size} are too many to be listed");
    }
    let at: Vec<i64> = (0..count).flat_map(|i| (0..size).map(move |j| i * step + j)).collect();
    let at = l.vector(&at);
    let at = l.reshape(&at, &[SymInt::Known(count), SymInt::Known(size)])?;
    let mut shape = x.shape.clone();
    shape[axis] = SymInt::Known(count);
    shape.insert(axis + 1, SymInt::Known(size));
    let v = l.node("Gather", &[&x, &at], vec![int("axis", axis as i64)], x.dtype, shape)?;
    let mut order: Vec<i64> = (0..v.rank() as i64).filter(|d| *d != axis as i64 + 1).collect();
    order.push(axis as i64 + 1);
    one(l.transpose(&v, &order))
}

fn shuffle(l: &mut Lowering, b: &Bound, up: bool) -> Result<Out> {
    let x = first(b)?;
    let r = SymInt::Known(b.int(if up { "upscale_factor" } else { "downscale_factor" })?);
    let rank = x.rank();
    if rank < 3 {
        bail!(ShapeMismatch, "pixel_shuffle needs 3 dimensions or more");
    }
    let lead = x.shape[..rank - 3].to_vec();
    let (c, h, w) = (x.shape[rank - 3].clone(), x.shape[rank - 2].clone(), x.shape[rank - 1].clone());
    let by = |a: &SymInt, r: &SymInt| a.floor_div(r).ok_or_else(|| err!(ShapeMismatch, "a factor of zero"));
    let n = lead.len() as i64;
    let (inner, order, outer): (Vec<SymInt>, Vec<i64>, Vec<SymInt>) = if up {
        let c = by(&c, &r.times(&r))?;
        let outer = vec![c.clone(), h.times(&r), w.times(&r)];
        (vec![c, r.clone(), r, h, w], vec![n, n + 3, n + 1, n + 4, n + 2], outer)
    } else {
        let (h, w) = (by(&h, &r)?, by(&w, &r)?);
        let outer = vec![c.times(&r).times(&r), h.clone(), w.clone()];
        (vec![c, h, r.clone(), w, r], vec![n, n + 2, n + 4, n + 1, n + 3], outer)
    };
    let v = l.reshape(&x, &[lead.clone(), inner].concat())?;
    let order: Vec<i64> = (0..n).chain(order).collect();
    let v = l.transpose(&v, &order)?;
    one(l.reshape(&v, &[lead, outer].concat()))
}

fn channel_shuffle(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let groups = SymInt::Known(b.int("groups")?);
    let per = x.shape.get(1).and_then(|c| c.floor_div(&groups)).ok_or_else(|| err!(ShapeMismatch, "bad groups"))?;
    let mut inner = vec![x.shape[0].clone(), groups, per];
    inner.extend_from_slice(&x.shape[2..]);
    let v = l.reshape(&x, &inner)?;
    let mut order: Vec<i64> = (0..v.rank() as i64).collect();
    order.swap(1, 2);
    let v = l.transpose(&v, &order)?;
    one(l.reshape(&v, &x.shape))
}

fn as_strided(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let (size, stride) = (b.ints("size")?, b.ints("stride")?);
    let offset = b.opt_int("storage_offset")?.unwrap_or(0);
    let count = crate::model::tensor::element_count(&size).filter(|c| *c <= 1 << 24);
    let Some(count) = count else { bail!(Unsupported, "a strided view of shape {size:?} is too large to be listed") };
    let total = product(&x.shape).known();
    let mut at = vec![offset];
    for (n, s) in size.iter().zip(&stride) {
        at = at.iter().flat_map(|base| (0..*n).map(move |i| base + i * s)).collect();
    }
    if at.len() != count || total.is_none_or(|t| at.iter().any(|i| *i < 0 || *i >= t)) {
        bail!(Unsupported, "a strided view that reaches outside its tensor has no ONNX form");
    }
    let flat = l.reshape(&x, &[SymInt::Known(total.unwrap_or(0))])?;
    let shape: Vec<SymInt> = size.iter().map(|s| SymInt::Known(*s)).collect();
    if at.iter().enumerate().all(|(i, a)| i as i64 == *a) && total == Some(count as i64) {
        return one(l.reshape(&flat, &shape));
    }
    let at = l.vector(&at);
    let v = l.node("Gather", &[&flat, &at], vec![int("axis", 0)], x.dtype, vec![SymInt::Known(count as i64)])?;
    one(l.reshape(&v, &shape))
}
