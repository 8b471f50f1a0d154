//! Operators that move elements without looking at them: shapes, axes, slices, repetition, padding.

use super::axes::{around, axes, axis, shape, split_point};
use super::{Built, ChannelsLast, Entry, Inputs, Kernel, NodeCx, entry, kernel, tensor_kernel, with_channels_last};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::broadcast::{self, strides};
use crate::backend::cpu::kernels::movement::{Elem, gather_strided};
use crate::backend::cpu::tensor::{Tensor, count};
use crate::backend::cpu::value::Val;
use crate::{Result, bail, err, with_elem};
use std::sync::Arc;

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("Identity", identity),
    entry("Reshape", reshape),
    entry("Flatten", flatten),
    entry("Squeeze", squeeze),
    entry("Unsqueeze", unsqueeze),
    entry("Transpose", build_transpose),
    entry("Concat", build_concat),
    entry("Split", split),
    entry("Slice", slice),
    entry("Expand", expand),
    entry("Tile", tile),
    entry("DepthToSpace", depth_to_space),
    entry("SpaceToDepth", space_to_depth),
];

fn identity(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    kernel(|_, inputs| Ok(vec![inputs.take_value(0)?]))
}

fn reshape(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let keep_zero = cx.flag("allowzero", false)?;
    tensor_kernel(move |_, inputs| {
        let wanted = inputs.ints(1)?;
        let x = inputs.take(0)?;
        let mut dims = Vec::with_capacity(wanted.len());
        let mut rest = None;
        for (i, &d) in wanted.iter().enumerate() {
            dims.push(match d {
                0 if !keep_zero => *x.dims().get(i).ok_or_else(|| {
                    err!(ShapeMismatch, "the shape {wanted:?} copies dimension {i}, which {:?} does not have", x.dims())
                })?,
                -1 if rest.is_none() => {
                    rest = Some(i);
                    1
                }
                d => usize::try_from(d).map_err(|_| err!(ShapeMismatch, "the shape {wanted:?} is not possible"))?,
            });
        }
        if let Some(i) = rest {
            let others = count(&dims)?;
            if others == 0 || x.len() % others != 0 {
                bail!(ShapeMismatch, "a tensor of shape {:?} cannot take the shape {wanted:?}", x.dims());
            }
            dims[i] = x.len() / others;
        }
        x.reshaped(dims)
    })
}

fn flatten(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let at = cx.int("axis", 1)?;
    tensor_kernel(move |_, inputs| {
        let x = inputs.take(0)?;
        let at = split_point(at, x.rank())?;
        let dims = vec![x.dims()[..at].iter().product(), x.dims()[at..].iter().product()];
        x.reshaped(dims)
    })
}

/// Axes from the second input (version 13) or the attribute (before).
fn axes_input(attribute: &Option<Vec<i64>>, inputs: &Inputs) -> Result<Option<Vec<i64>>> {
    match attribute {
        Some(a) => Ok(Some(a.clone())),
        None => inputs.opt_ints(1),
    }
}

fn squeeze(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 2)?;
    let attribute = cx.ints("axes")?;
    tensor_kernel(move |_, inputs| {
        let given = axes_input(&attribute, inputs)?;
        let x = inputs.take(0)?;
        let gone = match given {
            Some(list) => axes(&list, x.rank())?,
            None => (0..x.rank()).filter(|&i| x.dims()[i] == 1).collect(),
        };
        if let Some(&i) = gone.iter().find(|&&i| x.dims()[i] != 1) {
            bail!(ShapeMismatch, "axis {i} of shape {:?} cannot be squeezed: its size is not 1", x.dims());
        }
        let dims = (0..x.rank()).filter(|i| !gone.contains(i)).map(|i| x.dims()[i]).collect();
        x.reshaped(dims)
    })
}

fn unsqueeze(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 2)?;
    let attribute = cx.ints("axes")?;
    tensor_kernel(move |_, inputs| {
        let given = axes_input(&attribute, inputs)?.ok_or_else(|| err!(InvalidModel, "its axes are missing"))?;
        let x = inputs.take(0)?;
        let rank = x.rank() + given.len();
        let new = axes(&given, rank)?;
        let mut old = x.dims().iter().copied();
        let dims = (0..rank).map(|i| if new.contains(&i) { 1 } else { old.next().unwrap_or(1) }).collect();
        x.reshaped(dims)
    })
}

/// A transpose; without an order of its own it reverses the dimensions.
struct Transpose(Option<Vec<i64>>);

impl Kernel for Transpose {
    fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
        let x = inputs.take(0)?;
        let order = match &self.0 {
            None => (0..x.rank()).rev().collect(),
            Some(p) => {
                axes(p, x.rank())?;
                if p.len() != x.rank() {
                    bail!(ShapeMismatch, "the permutation {p:?} does not fit a tensor of shape {:?}", x.dims());
                }
                p.iter().map(|&a| axis(a, x.rank())).collect::<Result<Vec<_>>>()?
            }
        };
        Ok(vec![Val::Tensor(transpose(cx, &x, &order)?)])
    }

    fn permutation(&self) -> Option<&[i64]> {
        self.0.as_deref()
    }
}

fn build_transpose(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    Ok(Box::new(Transpose(cx.ints("perm")?)))
}

/// Dimension `i` of the result is dimension `order[i]` of `x`.
pub fn transpose(cx: &Cx, x: &Tensor, order: &[usize]) -> Result<Tensor> {
    let dims: Vec<usize> = order.iter().map(|&o| x.dims()[o]).collect();
    // Nothing moves if only dimensions of size 1 change places.
    let moved = order.iter().filter(|&&o| x.dims()[o] != 1);
    if moved.clone().zip(moved.skip(1)).all(|(a, b)| a < b) {
        return x.clone().reshaped(dims);
    }
    let own = strides(x.dims());
    gather_strided(cx, x, dims, order.iter().map(|&o| own[o] as isize).collect(), 0)
}

fn build_concat(cx: &NodeCx) -> Built {
    cx.check_inputs(1, usize::MAX)?;
    let at = cx.opt_int("axis")?.ok_or_else(|| err!(InvalidModel, "its attribute 'axis' is missing"))?;
    let joined = |at: i64| {
        tensor_kernel(move |cx, inputs| {
            let parts = inputs.tensors()?;
            let at = axis(at, parts[0].rank())?;
            concat(cx, &parts, at)
        })
    };
    let planes = joined(at)?;
    if at != 1 {
        return Ok(planes);
    }
    let kernel = Arc::from(joined(-1)?);
    Ok(with_channels_last(planes, ChannelsLast { kernel, rank: None, draws: false }))
}

/// Tensors one after the other along an axis.
pub fn concat(cx: &Cx, parts: &[&Tensor], at: usize) -> Result<Tensor> {
    let Some(first) = parts.first() else { bail!(InvalidModel, "nothing to join") };
    let mut dims = first.dims().to_vec();
    let mut total = 0usize;
    for p in parts {
        let fits = p.rank() == dims.len() && (0..dims.len()).all(|i| i == at || p.dims()[i] == dims[i]);
        if !fits || p.dtype() != first.dtype() {
            bail!(ShapeMismatch, "{p:?} cannot be joined with {first:?} along axis {at}");
        }
        total = total.saturating_add(p.dims()[at]);
    }
    dims[at] = total;
    let mut y = Tensor::new(cx.pool, first.dtype(), dims)?;
    let (outer, _, inner) = around(y.dims(), at);
    with_elem!(first.dtype(), T => {
        let out = T::view_mut(&mut y)?;
        let mut from = 0;
        for p in parts {
            let n = p.dims()[at] * inner;
            if n == 0 {
                continue;
            }
            let data = T::view(p)?;
            for o in 0..outer {
                out[o * total * inner + from..][..n].clone_from_slice(&data[o * n..(o + 1) * n]);
            }
            from += n;
        }
    });
    Ok(y)
}

/// The part of `x` from `from` to `from + n` along an axis.
pub fn part(cx: &Cx, x: &Tensor, at: usize, from: usize, n: usize) -> Result<Tensor> {
    let own = strides(x.dims());
    let mut dims = x.dims().to_vec();
    dims[at] = n;
    gather_strided(cx, x, dims, own.iter().map(|&s| s as isize).collect(), (from * own[at]) as isize)
}

fn split(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 2)?;
    let at = cx.int("axis", 0)?;
    let attribute = cx.ints("split")?;
    let pieces = cx.opt_int("num_outputs")?;
    let outputs = cx.node.outputs.len();
    kernel(move |cx, inputs| {
        let sizes = match &attribute {
            Some(s) => Some(s.clone()),
            None => inputs.opt_ints(1)?,
        };
        let x = inputs.tensor(0)?;
        let at = axis(at, x.rank())?;
        let n = x.dims()[at];
        let sizes = match sizes {
            Some(s) => shape(&s)?,
            None => {
                if let Some(p) = pieces
                    && usize::try_from(p) != Ok(outputs)
                {
                    bail!(InvalidModel, "its attribute 'num_outputs' is {p}, but the node has {outputs} outputs");
                }
                let parts = outputs.max(1);
                let each = n.div_ceil(parts);
                (0..parts).map(|i| each.min(n.saturating_sub(i * each))).collect()
            }
        };
        if sizes.iter().fold(0usize, |a, &b| a.saturating_add(b)) != n || sizes.len() < outputs {
            bail!(ShapeMismatch, "the sizes {sizes:?} do not cut axis {at} of shape {:?} in {outputs}", x.dims());
        }
        let mut from = 0;
        sizes
            .iter()
            .map(|&size| {
                from += size;
                part(cx, x, at, from - size, size).map(Val::Tensor)
            })
            .collect()
    })
}

fn slice(cx: &NodeCx) -> Built {
    let attributes = match cx.ints("starts")? {
        Some(starts) => Some((starts, cx.required_ints("ends")?, cx.ints("axes")?)),
        None => {
            cx.check_inputs(3, 5)?;
            None
        }
    };
    tensor_kernel(move |cx, inputs| {
        let (starts, ends, list, steps) = match &attributes {
            Some((s, e, a)) => (s.clone(), e.clone(), a.clone(), None),
            None => (inputs.ints(1)?, inputs.ints(2)?, inputs.opt_ints(3)?, inputs.opt_ints(4)?),
        };
        let x = inputs.take(0)?;
        let list = list.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || list.len() != starts.len() || steps.len() != starts.len() {
            bail!(
                ShapeMismatch,
                "starts {starts:?}, ends {ends:?}, axes {list:?} and steps {steps:?} are of different lengths"
            );
        }
        axes(&list, x.rank())?;
        let own = strides(x.dims());
        let mut dims = x.dims().to_vec();
        let mut step_of: Vec<isize> = own.iter().map(|&s| s as isize).collect();
        let mut first = 0isize;
        for i in 0..list.len() {
            let at = axis(list[i], x.rank())?;
            let (from, n, step) = range(starts[i], ends[i], steps[i], x.dims()[at])?;
            dims[at] = n;
            first += (from * own[at]) as isize;
            step_of[at] = if n > 1 { step * own[at] as isize } else { own[at] as isize };
        }
        if dims == x.dims() && first == 0 {
            return Ok(x);
        }
        gather_strided(cx, &x, dims, step_of, first)
    })
}

/// The first element, number of elements and step of a slice of `n` elements.
fn range(start: i64, end: i64, step: i64, n: usize) -> Result<(usize, usize, isize)> {
    if step == 0 {
        bail!(Execution, "a slice with step 0 has no end");
    }
    let size = n as i64;
    let place = |v: i64| if v < 0 { v.saturating_add(size) } else { v };
    let (from, to) = if step > 0 {
        (place(start).clamp(0, size), place(end).clamp(0, size))
    } else {
        (place(start).clamp(-1, size - 1), place(end).clamp(-1, size - 1))
    };
    let length = if step > 0 { to - from } else { from - to };
    if length <= 0 || n == 0 {
        return Ok((0, 0, 1));
    }
    let n = (length as u64).div_ceil(step.unsigned_abs());
    // With one element the step is never taken, and may be larger than memory.
    Ok((from as usize, n as usize, if n > 1 { step as isize } else { 1 }))
}

fn expand(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    tensor_kernel(|cx, inputs| {
        let wanted = shape(&inputs.ints(1)?)?;
        let x = inputs.take(0)?;
        let dims = broadcast::shape(&[x.dims(), &wanted])?;
        if dims == x.dims() {
            return Ok(x);
        }
        let own = strides(x.dims());
        let lead = dims.len() - x.rank();
        let step = |i: usize| if i < lead || x.dims()[i - lead] == 1 { 0 } else { own[i - lead] as isize };
        let steps = (0..dims.len()).map(step).collect();
        gather_strided(cx, &x, dims, steps, 0)
    })
}

fn tile(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    tensor_kernel(|cx, inputs| {
        let repeats = shape(&inputs.ints(1)?)?;
        let x = inputs.tensor(0)?;
        if repeats.len() != x.rank() {
            bail!(ShapeMismatch, "repeats {repeats:?} do not fit a tensor of shape {:?}", x.dims());
        }
        // Each dimension becomes two: the repetition, which does not move, and the dimension itself.
        let own = strides(x.dims());
        let (mut doubled, mut steps, mut dims) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..x.rank() {
            doubled.extend([repeats[i], x.dims()[i]]);
            steps.extend([0, own[i] as isize]);
            dims.push(
                repeats[i].checked_mul(x.dims()[i]).ok_or_else(|| err!(ShapeMismatch, "the output is too large"))?,
            );
        }
        count(&dims)?;
        gather_strided(cx, x, doubled, steps, 0)?.reshaped(dims)
    })
}

fn block_size(cx: &NodeCx) -> Result<usize> {
    let b = cx.int("blocksize", 0)?;
    usize::try_from(b)
        .ok()
        .filter(|b| (1..1 << 20).contains(b))
        .ok_or_else(|| err!(InvalidModel, "its attribute 'blocksize' is {b}"))
}

fn depth_to_space(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let b = block_size(cx)?;
    let columns_first = cx.string("mode", "DCR")? == "CRD";
    tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let &[n, c, h, w] = x.dims() else { bail!(ShapeMismatch, "an input of shape {:?} is not an image", x.dims()) };
        if c % (b * b) != 0 {
            bail!(ShapeMismatch, "{c} channels cannot be cut in blocks of {b} by {b}");
        }
        let d = c / (b * b);
        let (view, order) = match columns_first {
            false => (vec![n, b, b, d, h, w], [0, 3, 4, 1, 5, 2]),
            true => (vec![n, d, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        };
        transpose(cx, &x.reshaped(view)?, &order)?.reshaped(vec![n, d, h * b, w * b])
    })
}

fn space_to_depth(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let b = block_size(cx)?;
    let order = if cx.string("mode", "DCR")? == "CRD" { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
    tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let &[n, c, h, w] = x.dims() else { bail!(ShapeMismatch, "an input of shape {:?} is not an image", x.dims()) };
        if h % b != 0 || w % b != 0 {
            bail!(ShapeMismatch, "an image of {h} by {w} cannot be cut in blocks of {b} by {b}");
        }
        let moved = transpose(cx, &x.reshaped(vec![n, c, h / b, b, w / b, b])?, &order)?;
        moved.reshaped(vec![n, c * b * b, h / b, w / b])
    })
}
