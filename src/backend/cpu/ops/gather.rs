//! Indexing: gathers, scatters, selection.

use super::axes::axis;
use super::cast::cast;
use super::wide::with_widest;
use super::{Built, Entry, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::broadcast::{self, Walk, strides};
use crate::backend::cpu::kernels::lane::is_narrow;
use crate::backend::cpu::kernels::movement::Elem;
use crate::backend::cpu::ops::node::integers;
use crate::backend::cpu::ops::select::take_along;
use crate::backend::cpu::tensor::{Tensor, count};
use crate::model::DataType;
use crate::{Result, bail, err, with_elem};

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("Gather", gather),
    entry("GatherElements", gather_elements),
    entry("GatherND", gather_nd),
    entry("ScatterElements", scatter_elements),
    entry("Scatter", scatter_elements),
    entry("ScatterND", scatter_nd),
    entry("Where", where_),
];

/// An index with negative ones counted from the end.
fn place(i: i64, n: usize) -> Result<usize> {
    let size = n as i64;
    match i {
        i if (-size..size).contains(&i) => Ok(if i < 0 { i + size } else { i } as usize),
        _ => Err(err!(Execution, "index {i} is out of range for {n} elements")),
    }
}

fn gather(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let at = cx.int("axis", 0)?;
    tensor_kernel(move |cx, inputs| {
        let (x, indices) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let at = axis(at, x.rank())?;
        let n = x.dims()[at];
        let mut dims = x.dims()[..at].to_vec();
        dims.extend(indices.dims());
        dims.extend(&x.dims()[at + 1..]);
        let places = integers(indices)?.iter().map(|&i| place(i, n)).collect::<Result<Vec<_>>>()?;
        take_along(cx, x, at, &places)?.reshaped(dims)
    })
}

fn gather_elements(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let at = cx.int("axis", 0)?;
    tensor_kernel(move |cx, inputs| {
        let (x, indices) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let targets = element_places(x, indices, at)?;
        let mut y = Tensor::new(cx.pool, x.dtype(), indices.dims().to_vec())?;
        with_elem!(x.dtype(), T => {
            let data = T::view(x)?;
            T::view_mut(&mut y)?.iter_mut().zip(&targets).for_each(|(o, &t)| *o = data[t].clone());
        });
        Ok(y)
    })
}

/// Where in `x` each element of `indices` points along an axis, at its own place in the other dimensions.
fn element_places(x: &Tensor, indices: &Tensor, at: i64) -> Result<Vec<usize>> {
    let at = axis(at, x.rank())?;
    let fits = indices.rank() == x.rank() && (0..x.rank()).all(|i| i == at || indices.dims()[i] <= x.dims()[i]);
    if !fits {
        bail!(ShapeMismatch, "indices of shape {:?} do not fit a tensor of shape {:?}", indices.dims(), x.dims());
    }
    let own = strides(x.dims());
    let list = integers(indices)?;
    let n = x.dims()[at];
    let step: Vec<isize> = (0..x.rank()).map(|i| if i == at { 0 } else { own[i] as isize }).collect();
    let walk = Walk::strided(indices.dims(), [step], [0]);
    let [inner] = walk.inner_strides();
    let mut places = Vec::with_capacity(list.len());
    let mut failure = None;
    walk.runs(0, list.len(), |first, run, [o]| {
        for (i, &index) in list[first..first + run].iter().enumerate() {
            match place(index, n) {
                Ok(p) => places.push(o + i * inner as usize + p * own[at]),
                Err(e) => failure = Some(e),
            }
        }
    });
    failure.map_or(Ok(places), Err)
}

/// Where each index tuple of an ND gather or scatter points, and how many elements it moves.
fn tuple_places(cx: &Cx, dims: &[usize], indices: &Tensor, batch: usize) -> Result<(Vec<usize>, usize)> {
    let wrong = || err!(ShapeMismatch, "indices of shape {:?} do not fit a tensor of shape {dims:?}", indices.dims());
    let (&width, lead) = indices.dims().split_last().ok_or_else(wrong)?;
    if batch + width > dims.len() || batch > lead.len() || lead[..batch] != dims[..batch] {
        return Err(wrong());
    }
    let own = strides(dims);
    let inner: usize = dims[batch + width..].iter().product();
    let batch_size: usize = dims[batch..].iter().product();
    let tuples = count(lead)?;
    // Tuples of no index take no memory, whatever their number: it is asked for here, and the places follow.
    drop(cx.pool.charge(tuples.saturating_mul(size_of::<usize>()))?);
    let per_batch: usize = lead[batch..].iter().product();
    let list = integers(indices)?;
    let places = (0..tuples)
        .map(|t| {
            let mut at = t / per_batch.max(1) * batch_size;
            for (k, &i) in list[t * width..(t + 1) * width].iter().enumerate() {
                at += place(i, dims[batch + k])? * own[batch + k];
            }
            Ok(at)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((places, inner))
}

fn gather_nd(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let batch = cx.int("batch_dims", 0)?;
    let batch = usize::try_from(batch).map_err(|_| err!(InvalidModel, "its attribute 'batch_dims' is {batch}"))?;
    tensor_kernel(move |cx, inputs| {
        let (x, indices) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let (places, inner) = tuple_places(cx, x.dims(), indices, batch)?;
        let mut dims = indices.dims()[..indices.rank() - 1].to_vec();
        dims.extend(&x.dims()[batch + indices.dims()[indices.rank() - 1]..]);
        let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
        if y.is_empty() {
            return Ok(y);
        }
        with_elem!(x.dtype(), T => {
            let data = T::view(x)?;
            for (out, &p) in T::view_mut(&mut y)?.chunks_exact_mut(inner).zip(&places) {
                out.clone_from_slice(&data[p..p + inner]);
            }
        });
        Ok(y)
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Reduction {
    None,
    Add,
    Mul,
    Max,
    Min,
}

fn reduction(cx: &NodeCx) -> Result<Reduction> {
    Ok(match cx.string("reduction", "none")?.as_str() {
        "none" => Reduction::None,
        "add" => Reduction::Add,
        "mul" => Reduction::Mul,
        "max" => Reduction::Max,
        "min" => Reduction::Min,
        other => bail!(InvalidModel, "its attribute 'reduction' is '{other}'"),
    })
}

fn copy(cx: &Cx, mut x: Tensor) -> Result<Tensor> {
    if x.is_unique() {
        return Ok(x);
    }
    let mut y = Tensor::new(cx.pool, x.dtype(), x.dims().to_vec())?;
    with_elem!(x.dtype(), T => T::view_mut(&mut y)?.clone_from_slice(T::view(&x)?));
    Ok(y)
}

fn scatter_elements(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 3)?;
    let at = cx.int("axis", 0)?;
    let how = reduction(cx)?;
    tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let (indices, updates) = (inputs.tensor(1)?, inputs.tensor(2)?);
        if indices.dims() != updates.dims() || updates.dtype() != x.dtype() {
            bail!(ShapeMismatch, "updates {updates:?} do not go with indices of shape {:?} and {x:?}", indices.dims());
        }
        let places = element_places(&x, indices, at)?;
        scatter(cx, x, &places, 1, updates, how)
    })
}

fn scatter_nd(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 3)?;
    let how = reduction(cx)?;
    tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let (indices, updates) = (inputs.tensor(1)?, inputs.tensor(2)?);
        let (places, inner) = tuple_places(cx, x.dims(), indices, 0)?;
        if updates.len() != places.len() * inner || updates.dtype() != x.dtype() {
            bail!(ShapeMismatch, "updates {updates:?} do not go with indices of shape {:?} and {x:?}", indices.dims());
        }
        scatter(cx, x, &places, inner, updates, how)
    })
}

fn scatter(cx: &Cx, x: Tensor, places: &[usize], inner: usize, updates: &Tensor, how: Reduction) -> Result<Tensor> {
    let mut y = copy(cx, x)?;
    if updates.is_empty() {
        return Ok(y);
    }
    if how == Reduction::None {
        with_elem!(y.dtype(), T => {
            let data = T::view(updates)?;
            let out = T::view_mut(&mut y)?;
            for (from, &p) in data.chunks_exact(inner).zip(places) {
                out[p..p + inner].clone_from_slice(from);
            }
        });
        return Ok(y);
    }
    let dtype = if y.dtype() == DataType::Bool { DataType::Uint8 } else { y.dtype() };
    // Several updates of one half element are joined in FP32 and rounded once.
    if dtype.is_half() {
        use crate::backend::cpu::kernels::elementwise::cast_float;
        let wide = cast_float(cx, &y, DataType::Float32)?;
        let updates = cast_float(cx, updates, DataType::Float32)?;
        return cast_float(cx, &scatter(cx, wide, places, inner, &updates, how)?, dtype);
    }
    if is_narrow(dtype) {
        let (wide, updates) = (cast(cx, &y, DataType::Int64, true)?, cast(cx, updates, DataType::Int64, true)?);
        return cast(cx, &scatter(cx, wide, places, inner, &updates, how)?, y.dtype(), true);
    }
    with_widest!(dtype, T => join::<T>(y.slice_mut()?, places, inner, updates.slice()?, how),
        else other => return Err(crate::backend::cpu::kernels::lane::refuse("Scatter", other)));
    Ok(y)
}

/// Joins updates with what is there.
fn join<T: Joined>(out: &mut [T], places: &[usize], inner: usize, updates: &[T], how: Reduction) {
    for (from, &p) in updates.chunks_exact(inner).zip(places) {
        for (o, &v) in out[p..p + inner].iter_mut().zip(from) {
            *o = match how {
                Reduction::None => v,
                Reduction::Add => o.plus(v),
                Reduction::Mul => o.times(v),
                Reduction::Max => {
                    if *o < v {
                        v
                    } else {
                        *o
                    }
                }
                Reduction::Min => {
                    if v < *o {
                        v
                    } else {
                        *o
                    }
                }
            };
        }
    }
}

trait Joined: Copy + PartialOrd {
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
}

macro_rules! joined {
    ($($t:ty: $plus:expr, $times:expr;)+) => {$(
        impl Joined for $t {
            fn plus(self, other: $t) -> $t { $plus(self, other) }
            fn times(self, other: $t) -> $t { $times(self, other) }
        }
    )+};
}

joined! {
    f32: |a, b| a + b, |a, b| a * b;
    f64: |a, b| a + b, |a, b| a * b;
    i32: i32::wrapping_add, i32::wrapping_mul;
    i64: i64::wrapping_add, i64::wrapping_mul;
    u64: u64::wrapping_add, u64::wrapping_mul;
}

fn where_(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 3)?;
    tensor_kernel(|cx, inputs| {
        let (c, a, b) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        if c.dtype() != DataType::Bool || a.dtype() != b.dtype() {
            bail!(TypeMismatch, "a condition {c:?} and values {a:?} and {b:?} do not go together");
        }
        let dims = broadcast::shape(&[c.dims(), a.dims(), b.dims()])?;
        let walk = Walk::new(&dims, [c.dims(), a.dims(), b.dims()]);
        let mut y = Tensor::new(cx.pool, a.dtype(), dims)?;
        let n = y.len();
        let conditions = c.slice::<u8>()?;
        let [sc, sa, sb] = walk.inner_strides().map(|s| s as usize);
        with_elem!(a.dtype(), T => {
            let (xa, xb) = (T::view(a)?, T::view(b)?);
            cx.threads.pieces(T::view_mut(&mut y)?, 1 << 14, n, |i, out| {
                let start = i << 14;
                walk.runs(start, out.len(), |at, run, [oc, oa, ob]| {
                    for (k, o) in out[at - start..at - start + run].iter_mut().enumerate() {
                        let yes = conditions[oc + k * sc] != 0;
                        *o = if yes { xa[oa + k * sa].clone() } else { xb[ob + k * sb].clone() };
                    }
                });
            });
        });
        Ok(y)
    })
}
