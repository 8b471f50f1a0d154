//! Reductions over axes, ArgMax and ArgMin, CumSum.

use super::axes::{around, axes, axis};
use super::cast::cast;
use super::wide::{widest, with_wide, with_widest};
use super::{Built, Entry, Inputs, Kernel, NodeCx, RowWork, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::lane::{FloatLane, Integer, Lane, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::row_steps::Reduce;
use crate::backend::cpu::kernels::rows::sum;
use crate::backend::cpu::kernels::simd::vectorize;
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::DataType::{Bool, Int64};
use crate::{Result, bail, with_float, with_integer, with_wide_integer};

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("ReduceSum", reduce),
    entry("ReduceMean", reduce),
    entry("ReduceMax", reduce),
    entry("ReduceMin", reduce),
    entry("ReduceProd", reduce),
    entry("ReduceL1", reduce),
    entry("ReduceL2", reduce),
    entry("ReduceLogSum", reduce),
    entry("ReduceLogSumExp", reduce),
    entry("ReduceSumSquare", reduce),
    entry("ArgMax", arg),
    entry("ArgMin", arg),
    entry("CumSum", cumulative),
    entry("CumProd", cumulative),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    LogSum,
    LogSumExp,
    SumSquare,
}

/// A reduction of one dimension, which stays, with length 1.
struct RowReduction {
    kind: Kind,
    /// The dimension, as the node gives it.
    axis: i64,
}

impl Reduce for RowReduction {
    fn of(&self, row: &[f32]) -> f32 {
        vectorize(|| line(self.kind, row))
    }
}

/// A kernel that is a reduction along rows, if it is one.
fn along_rows(rows: Option<RowReduction>, kernel: Built) -> Built {
    struct Rows(RowReduction, Box<dyn Kernel>);
    impl Kernel for Rows {
        fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
            self.1.run(cx, inputs)
        }
        fn row_work(&self) -> Option<RowWork<'_>> {
            Some(RowWork::Reduce(&self.0, self.0.axis))
        }
    }
    match rows {
        Some(rows) => kernel.map(|k| Box::new(Rows(rows, k)) as Box<dyn Kernel>),
        None => kernel,
    }
}

fn reduce(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 2)?;
    let kind = match &*cx.node.op_type {
        "ReduceSum" => Kind::Sum,
        "ReduceMean" => Kind::Mean,
        "ReduceMax" => Kind::Max,
        "ReduceMin" => Kind::Min,
        "ReduceProd" => Kind::Prod,
        "ReduceL1" => Kind::L1,
        "ReduceL2" => Kind::L2,
        "ReduceLogSum" => Kind::LogSum,
        "ReduceLogSumExp" => Kind::LogSumExp,
        _ => Kind::SumSquare,
    };
    let attribute = cx.ints("axes")?;
    let keep = cx.flag("keepdims", true)?;
    let nothing = cx.flag("noop_with_empty_axes", false)?;
    let known = match (&attribute, cx.constant(1)) {
        (Some(a), _) => Some(a.clone()),
        (None, Some(t)) => Some(super::node::integers(t)?),
        _ => None,
    };
    let rows = match known.as_deref() {
        Some(&[axis]) if keep => Some(RowReduction { kind, axis }),
        _ => None,
    };
    let kernel = tensor_kernel(move |cx, inputs| {
        let list = match &attribute {
            Some(a) => Some(a.clone()),
            None => inputs.opt_ints(1)?,
        };
        let x = inputs.take(0)?;
        let over = match list {
            Some(l) if !l.is_empty() => axes(&l, x.rank())?,
            // Without axes the operator still applies its function to each element, as a reduction of one element each.
            _ if nothing => vec![],
            _ => (0..x.rank()).collect(),
        };
        let kept: Vec<usize> = (0..x.rank())
            .filter(|i| keep || !over.contains(i))
            .map(|i| if over.contains(&i) { 1 } else { x.dims()[i] })
            .collect();
        run(cx, kind, &x, &over)?.reshaped(kept)
    });
    along_rows(rows, kernel)
}

/// The sum over these axes, which disappear.
pub fn sum_over(cx: &Cx, x: &Tensor, over: &[usize]) -> Result<Tensor> {
    run(cx, Kind::Sum, x, over)
}

/// Reduces `over`; the result has the other dimensions in order.
fn run(cx: &Cx, kind: Kind, x: &Tensor, over: &[usize]) -> Result<Tensor> {
    let rest: Vec<usize> = (0..x.rank()).filter(|i| !over.contains(i)).collect();
    let dims: Vec<usize> = rest.iter().map(|&i| x.dims()[i]).collect();
    let n: usize = over.iter().map(|&i| x.dims()[i]).product();
    // Either the reduced dimensions are neighbours, or they are moved to the end.
    let neighbours = over.windows(2).all(|w| w[1] == w[0] + 1);
    let (x, inner) = if neighbours {
        let end = over.last().map_or(x.rank(), |l| l + 1);
        (x.clone(), x.dims()[end..].iter().product())
    } else {
        let order: Vec<usize> = rest.iter().chain(over).copied().collect();
        (super::layout::transpose(cx, x, &order)?, 1)
    };
    let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
    if y.is_empty() {
        return Ok(y);
    }
    match x.dtype() {
        t if t.is_float() => {
            with_float!(t, T => floats::<T>(cx, kind, &x, n, inner, &mut y)?, else o => return Err(refuse("Reduce", o)))
        }
        t => {
            let ends = match t {
                Bool if matches!(kind, Kind::Max | Kind::Min) => [0, 1],
                _ => with_integer!(t, T => [i128::MIN, i128::MAX].map(|v| T::saturate(v).wide()),
                                   else other => return Err(refuse("Reduce", other))),
            };
            let x = widest(cx, &x)?;
            let mut wide = Tensor::new(cx.pool, x.dtype(), y.dims().to_vec())?;
            with_wide_integer!(x.dtype(), T => integers::<T>(cx, kind, &x, [n, inner], ends, &mut wide)?,
                               else other => return Err(refuse("Reduce", other)));
            y = cast(cx, &wide, t, true)?;
        }
    }
    Ok(y)
}

fn floats<T: FloatLane>(cx: &Cx, kind: Kind, x: &Tensor, n: usize, inner: usize, y: &mut Tensor) -> Result<()> {
    let data = x.slice::<T>()?;
    let work = x.len() * 2;
    let out = y.slice_mut::<T>()?;
    if inner == 1 {
        cx.threads.pieces(out, (4096 / n.max(1)).max(1), work, |i, out| {
            let first = i * (4096 / n.max(1)).max(1);
            let mut wide = vec![T::C::ZERO; n];
            for (k, o) in out.iter_mut().enumerate() {
                let row = &data[(first + k) * n..(first + k + 1) * n];
                let row = match T::direct(row) {
                    Some(direct) => direct,
                    None => {
                        T::widen(row, &mut wide);
                        &wide
                    }
                };
                *o = T::put(vectorize(|| line(kind, row)));
            }
        });
        return Ok(());
    }
    // The inner elements are reduced side by side, a block of them at a time.
    const BLOCK: usize = 256;
    let blocks = inner.div_ceil(BLOCK);
    // Each task takes one outer index; its blocks follow each other.
    cx.threads.pieces(out, inner, work, |o, out| {
        let mut wide = [T::C::ZERO; BLOCK];
        for b in 0..blocks {
            let from = b * BLOCK;
            let m = BLOCK.min(inner - from);
            let mut sums = [start(kind); BLOCK];
            let mut largest = [T::C::LOWEST; BLOCK];
            let at = |i: usize| &data[(o * n + i) * inner + from..][..m];
            if kind == Kind::LogSumExp {
                for i in 0..n {
                    T::widen(at(i), &mut wide[..m]);
                    largest[..m].iter_mut().zip(&wide[..m]).for_each(|(l, &v)| *l = l.larger(v));
                }
            }
            for i in 0..n {
                T::widen(at(i), &mut wide[..m]);
                vectorize(|| {
                    for ((s, &v), &l) in sums[..m].iter_mut().zip(&wide[..m]).zip(&largest[..m]) {
                        *s = step(kind, *s, v, base(l));
                    }
                });
            }
            for ((o, &s), &l) in out[from..from + m].iter_mut().zip(&sums[..m]).zip(&largest[..m]) {
                *o = T::put(finish(kind, s, n, base(l)));
            }
        }
    });
    Ok(())
}

/// What exponents are taken relative to: the largest, unless that is infinite.
#[inline(always)]
fn base<F: Float>(largest: F) -> F {
    if largest.abs() == F::HIGHEST { F::ZERO } else { largest }
}

#[inline(always)]
fn start<F: Float>(kind: Kind) -> F {
    match kind {
        Kind::Max => F::LOWEST,
        Kind::Min => F::HIGHEST,
        Kind::Prod => F::ONE,
        _ => F::ZERO,
    }
}

#[inline(always)]
fn step<F: Float>(kind: Kind, sum: F, v: F, base: F) -> F {
    match kind {
        Kind::Sum | Kind::Mean | Kind::LogSum => sum + v,
        Kind::Max => sum.larger(v),
        Kind::Min => sum.smaller(v),
        Kind::Prod => sum * v,
        Kind::L1 => sum + v.abs(),
        Kind::L2 | Kind::SumSquare => sum + v * v,
        Kind::LogSumExp => sum + (v - base).exp(),
    }
}

#[inline(always)]
fn finish<F: Float>(kind: Kind, sum: F, n: usize, base: F) -> F {
    match kind {
        Kind::Mean => sum / F::of(n as f64),
        Kind::L2 => sum.sqrt(),
        Kind::LogSum => sum.ln(),
        Kind::LogSumExp => sum.ln() + base,
        _ => sum,
    }
}

/// One contiguous line, in lanes of fixed order.
#[inline(always)]
fn line<F: Float>(kind: Kind, values: &[F]) -> F {
    let base = match kind {
        Kind::LogSumExp => base(values.iter().fold(F::LOWEST, |l, &v| l.larger(v))),
        _ => F::ZERO,
    };
    if matches!(kind, Kind::Sum | Kind::Mean | Kind::LogSum) {
        return finish(kind, sum(values), values.len(), base);
    }
    let mut lanes = [start::<F>(kind); 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for c in chunks {
        for (l, &v) in lanes.iter_mut().zip(c) {
            *l = step(kind, *l, v, base);
        }
    }
    for (l, &v) in lanes.iter_mut().zip(rest) {
        *l = step(kind, *l, v, base);
    }
    let join = |a: F, b: F| match kind {
        Kind::Max => a.larger(b),
        Kind::Min => a.smaller(b),
        Kind::Prod => a * b,
        _ => a + b,
    };
    let total = lanes[1..].iter().fold(lanes[0], |a, &b| join(a, b));
    finish(kind, total, values.len(), base)
}

/// `ends` are the smallest and the largest number of the type that was widened.
fn integers<T: Integer>(
    cx: &Cx,
    kind: Kind,
    x: &Tensor,
    [n, inner]: [usize; 2],
    ends: [i128; 2],
    y: &mut Tensor,
) -> Result<()> {
    let data = x.slice::<T>()?;
    if n == 0 && kind == Kind::Mean {
        bail!(Execution, "the mean of no integers is a division by zero");
    }
    let saturate = |v: i128| T::wrap(v.clamp(ends[0], ends[1]));
    let float = |f: fn(f64) -> f64, v: i128| saturate(f(v as f64) as i128);
    let work = x.len() * 4;
    cx.threads.pieces(y.slice_mut::<T>()?, inner, work, |o, out| {
        for (k, out) in out.iter_mut().enumerate() {
            let values = (0..n).map(|i| data[(o * n + i) * inner + k].wide());
            *out = match kind {
                Kind::Sum => T::wrap(values.sum()),
                Kind::Mean => T::wrap(values.sum::<i128>() / n as i128),
                // The extremes of nothing are the ends of the type's range.
                Kind::Max => values.max().map_or(T::wrap(ends[0]), T::wrap),
                Kind::Min => values.min().map_or(T::wrap(ends[1]), T::wrap),
                Kind::Prod => T::wrap(values.fold(1, |a: i128, b| a.wrapping_mul(b))),
                Kind::L1 => T::wrap(values.fold(0, |a, b| a + b.abs())),
                // Exact where 128 bits hold it; two squares of 64-bit numbers may be more.
                Kind::L2 => match values.clone().try_fold(0i128, |a, b| a.checked_add(b.checked_mul(b)?)) {
                    Some(sum) => float(f64::sqrt, sum),
                    None => saturate(values.map(|v| (v as f64).powi(2)).sum::<f64>().sqrt() as i128),
                },
                Kind::LogSum => float(f64::ln, values.sum::<i128>()),
                Kind::LogSumExp => saturate(values.map(|v| (v as f64).exp()).sum::<f64>().ln() as i128),
                Kind::SumSquare => T::wrap(values.fold(0, |a, b| a.wrapping_add(b.wrapping_mul(b)))),
            };
        }
    });
    Ok(())
}

fn arg(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let at = cx.int("axis", 0)?;
    let keep = cx.flag("keepdims", true)?;
    let last = cx.flag("select_last_index", false)?;
    let max = &*cx.node.op_type == "ArgMax";
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let at = axis(at, x.rank())?;
        let (_, n, inner) = around(x.dims(), at);
        let mut dims = x.dims().to_vec();
        dims[at] = 1;
        let mut y = Tensor::new(cx.pool, Int64, dims.clone())?;
        if !y.is_empty() && n == 0 {
            bail!(Execution, "axis {at} of shape {:?} has no elements to choose from", x.dims());
        }
        let x = widest(cx, x)?;
        with_widest!(x.dtype(), T => {
            let data = x.slice::<T>()?;
            for (i, o) in y.slice_mut::<i64>()?.iter_mut().enumerate() {
                let first = i / inner * n * inner + i % inner;
                let mut best = 0;
                let mut value = data[first];
                for k in 1..n {
                    let v = data[first + k * inner];
                    let better = if max { v > value } else { v < value };
                    #[allow(clippy::eq_op)] // only NaN differs from itself; the first NaN wins, as in NumPy
                    let nan = v != v && value == value;
                    if better || nan || (last && v == value) {
                        best = k;
                        value = v;
                    }
                }
                *o = best as i64;
            }
        }, else other => return Err(refuse("ArgMax", other)));
        if !keep {
            dims.remove(at);
        }
        y.reshaped(dims)
    })
}

fn cumulative(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let exclusive = cx.flag("exclusive", false)?;
    let reverse = cx.flag("reverse", false)?;
    let product = &*cx.node.op_type == "CumProd";
    tensor_kernel(move |cx, inputs| {
        let [at] = inputs.ints(1)?[..] else { bail!(ShapeMismatch, "its axis must be a single number") };
        let x = inputs.tensor(0)?;
        let view = around(x.dims(), axis(at, x.rank())?);
        if x.dtype() == Bool {
            return Err(refuse("CumSum", Bool));
        }
        let wide = widest(cx, x)?;
        let mut y = Tensor::new(cx.pool, wide.dtype(), x.dims().to_vec())?;
        match wide.dtype() {
            t if t.is_float() => with_wide!(t, F => {
                let (zero, f): (F, fn(F, F) -> F) = if product { (F::ONE, |a, b| a * b) } else { (F::ZERO, |a, b| a + b) };
                scan::<F>(&wide, &mut y, view, exclusive, reverse, zero, f)?;
            }),
            t => with_wide_integer!(t, T => {
                let (zero, f): (T, fn(T, T) -> T) = if product {
                    (T::wrap(1), |a, b| T::wrap(a.wide().wrapping_mul(b.wide())))
                } else {
                    (T::wrap(0), |a, b| T::wrap(a.wide() + b.wide()))
                };
                scan::<T>(&wide, &mut y, view, exclusive, reverse, zero, f)?;
            }, else other => return Err(refuse("CumSum", other))),
        }
        cast(cx, &y, x.dtype(), true)
    })
}

fn scan<T: Lane>(
    x: &Tensor,
    y: &mut Tensor,
    (outer, n, inner): (usize, usize, usize),
    exclusive: bool,
    reverse: bool,
    zero: T::C,
    f: fn(T::C, T::C) -> T::C,
) -> Result<()> {
    let data = x.slice::<T>()?;
    let out = y.slice_mut::<T>()?;
    for o in 0..outer {
        for i in 0..inner {
            let mut sum = zero;
            for k in 0..n {
                let at = (o * n + if reverse { n - 1 - k } else { k }) * inner + i;
                let next = f(sum, data[at].get());
                out[at] = T::put(if exclusive { sum } else { next });
                sum = next;
            }
        }
    }
    Ok(())
}
