//! Normalisations.

use super::axes::axis;
use super::{Built, ChannelsLast, Entry, NodeCx, entry, kernel, staged, tensor_kernel, with_channels_last};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::lane::{FloatLane, Lane, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::program::Stage;
use crate::backend::cpu::kernels::rows::sum;
use crate::backend::cpu::kernels::simd::vectorize;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::threads::Threads;
use crate::backend::cpu::value::Val;
use crate::{Result, bail, err, with_float};
use std::sync::Arc;

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("BatchNormalization", batch),
    entry("InstanceNormalization", instance),
    entry("GroupNormalization", group),
    entry("LayerNormalization", layer),
    entry("RMSNormalization", rms),
    entry("LpNormalization", lp),
    entry("MeanVarianceNormalization", mean_variance),
    entry("LRN", lrn),
];

/// Values of one kind a channel, in the computing type of `T`.
fn channels<T: FloatLane>(cx: &Cx, t: &Tensor, n: usize, what: &str) -> Result<Vec<T::C>> {
    if t.len() != n {
        bail!(ShapeMismatch, "its {what} has the shape {:?}, but {n} values are needed", t.dims());
    }
    Ok(cast_float(cx, t, <T::C as Lane>::DTYPE)?.slice::<T::C>()?.to_vec())
}

/// A tensor that may be written: the given one, or a copy.
fn own(cx: &Cx, mut x: Tensor) -> Result<Tensor> {
    if x.is_unique() {
        return Ok(x);
    }
    let mut copy = Tensor::new(cx.pool, x.dtype(), x.dims().to_vec())?;
    copy.bytes_mut()?.copy_from_slice(x.bytes());
    Ok(copy)
}

/// Applies `f(row number, values)` to rows of `n` elements in the computing type, in place.
fn rows<T: FloatLane>(cx: &Cx, x: Tensor, n: usize, f: impl Fn(usize, &mut [T::C]) + Sync) -> Result<Tensor> {
    let mut x = own(cx, x)?;
    if x.is_empty() {
        return Ok(x);
    }
    let at_once = (4096 / n).max(1);
    let work = x.len() * 4;
    cx.threads.pieces(x.slice_mut::<T>()?, n * at_once, work, |i, piece| {
        let mut wide = Vec::new();
        for (k, row) in piece.chunks_mut(n).enumerate() {
            match T::direct_mut(row) {
                Some(row) => vectorize(|| f(i * at_once + k, row)),
                None => {
                    wide.resize(n, T::C::ZERO);
                    T::widen(row, &mut wide);
                    vectorize(|| f(i * at_once + k, &mut wide));
                    T::narrow(&wide, row);
                }
            }
        }
    });
    Ok(x)
}

fn batch(cx: &NodeCx) -> Built {
    cx.check_inputs(5, 5)?;
    let epsilon = f64::from(cx.float("epsilon", 1e-5)?);
    let training = match cx.opset {
        ..14 => cx.node.outputs.iter().skip(1).any(|o| !o.is_empty()),
        _ => cx.flag("training_mode", false)?,
    };
    if training {
        bail!(Unsupported, "BatchNormalization in training form");
    }
    let stage = |last: bool| {
        let given = [cx.constant(1)?, cx.constant(2)?, cx.constant(3)?, cx.constant(4)?];
        let alone = Cx { pool: &Pool::new(usize::MAX), threads: &Threads::inline(), cancel: None, tap: None };
        let (factors, addends) = factors::<f32>(&alone, given, given[0].len(), epsilon).ok()?.into_iter().unzip();
        Some(Stage::Channels { factors, addends, last })
    };
    let kernel = |last: bool| {
        tensor_kernel(move |cx, inputs| {
            let x = inputs.take(0)?;
            let c = match last {
                true => x.dims().last().copied().unwrap_or(1),
                false => x.dims().get(1).copied().unwrap_or(1),
            };
            with_float!(x.dtype(), T => {
                let given = [inputs.tensor(1)?, inputs.tensor(2)?, inputs.tensor(3)?, inputs.tensor(4)?];
                let factors = factors::<T>(cx, given, c, epsilon)?;
                let plane: usize = if last { 1 } else { x.dims().iter().skip(2).product() };
                if plane == 1 {
                    // One row a place.
                    return rows::<T>(cx, x, c, |_, row| {
                        row.iter_mut().zip(&factors).for_each(|(v, &(a, b))| *v = *v * a + b);
                    });
                }
                rows::<T>(cx, x, plane, |i, row| {
                    let (a, b) = factors[i % c];
                    row.iter_mut().for_each(|v| *v = *v * a + b);
                })
            }, else other => Err(refuse("BatchNormalization", other)))
        })
    };
    let planes = staged(stage(false), kernel(false))?;
    let kernel = Arc::from(staged(stage(true), kernel(true))?);
    Ok(with_channels_last(planes, ChannelsLast { kernel, rank: None, draws: false }))
}

/// Factor and addend of each channel, from scale, bias, mean and variance.
fn factors<T: FloatLane>(cx: &Cx, given: [&Tensor; 4], c: usize, epsilon: f64) -> Result<Vec<(T::C, T::C)>> {
    let [scale, bias, mean, variance] = given;
    let scale = channels::<T>(cx, scale, c, "scale")?;
    let bias = channels::<T>(cx, bias, c, "bias")?;
    let mean = channels::<T>(cx, mean, c, "mean")?;
    let variance = channels::<T>(cx, variance, c, "variance")?;
    let factor = |i: usize| scale[i].wide() / (variance[i].wide() + epsilon).sqrt();
    Ok((0..c).map(|i| (T::C::of(factor(i)), T::C::of(bias[i].wide() - mean[i].wide() * factor(i)))).collect())
}

/// Mean and inverse standard deviation, in two passes.
#[inline(always)]
fn statistics<F: Float>(values: &mut [F], epsilon: F) -> (F, F) {
    let n = F::of(values.len() as f64);
    let mean = sum(values) / n;
    let mut lanes = [F::ZERO; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for c in chunks {
        for (l, &v) in lanes.iter_mut().zip(c) {
            *l += (v - mean) * (v - mean);
        }
    }
    for (l, &v) in lanes.iter_mut().zip(rest) {
        *l += (v - mean) * (v - mean);
    }
    (mean, F::ONE / (sum(&lanes) / n + epsilon).sqrt())
}

fn instance(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 3)?;
    let epsilon = f64::from(cx.float("epsilon", 1e-5)?);
    tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        if x.rank() < 3 {
            bail!(ShapeMismatch, "an input of shape {:?} has no spatial dimensions", x.dims());
        }
        let c = x.dims()[1];
        let plane = x.dims()[2..].iter().product();
        with_float!(x.dtype(), T => {
            let scale = channels::<T>(cx, inputs.tensor(1)?, c, "scale")?;
            let bias = channels::<T>(cx, inputs.tensor(2)?, c, "bias")?;
            let epsilon = <<T as Lane>::C as Float>::of(epsilon);
            rows::<T>(cx, x, plane, |i, row| {
                let (mean, inverse) = statistics(row, epsilon);
                let (s, b) = (scale[i % c], bias[i % c]);
                row.iter_mut().for_each(|v| *v = (*v - mean) * inverse * s + b);
            })
        }, else other => Err(refuse("InstanceNormalization", other)))
    })
}

fn group(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 3)?;
    let epsilon = f64::from(cx.float("epsilon", 1e-5)?);
    let groups = cx.int("num_groups", 0)?;
    // Version 18 has one scale and bias a group, later versions one a channel.
    let by_group = cx.opset < 21;
    tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let c = if x.rank() > 2 { x.dims()[1] } else { 0 };
        let groups = usize::try_from(groups).ok().filter(|g| *g > 0 && c > 0 && c % g == 0).ok_or_else(|| {
            err!(ShapeMismatch, "an input of shape {:?} cannot be cut in {groups} groups of channels", x.dims())
        })?;
        let plane: usize = x.dims()[2..].iter().product();
        let per_group = c / groups;
        let given = if by_group { groups } else { c };
        with_float!(x.dtype(), T => {
            let scale = channels::<T>(cx, inputs.tensor(1)?, given, "scale")?;
            let bias = channels::<T>(cx, inputs.tensor(2)?, given, "bias")?;
            let epsilon = <<T as Lane>::C as Float>::of(epsilon);
            rows::<T>(cx, x, per_group * plane, |i, row| {
                let (mean, inverse) = statistics(row, epsilon);
                let g = i % groups;
                for (k, part) in row.chunks_mut(plane).enumerate() {
                    let at = if by_group { g } else { g * per_group + k };
                    let (s, b) = (scale[at], bias[at]);
                    part.iter_mut().for_each(|v| *v = (*v - mean) * inverse * s + b);
                }
            })
        }, else other => Err(refuse("GroupNormalization", other)))
    })
}

/// Scale or bias of a normalisation over the last dimensions: one value an element of the row, or the right-hand part of
/// a shape that broadcasts to the input.
fn row_values<T: FloatLane>(cx: &Cx, t: &Tensor, dims: &[usize], n: usize, what: &str) -> Result<Vec<T::C>> {
    let wide = cast_float(cx, t, <T::C as Lane>::DTYPE)?;
    if t.len() == n {
        return Ok(wide.slice::<T::C>()?.to_vec());
    }
    if !crate::backend::cpu::kernels::broadcast::fits(t.dims(), dims) {
        bail!(ShapeMismatch, "its {what} has the shape {:?}, which does not broadcast to {dims:?}", t.dims());
    }
    let mut all = vec![T::C::ZERO; dims.iter().product()];
    let walk = crate::backend::cpu::kernels::broadcast::Walk::new(dims, [t.dims()]);
    let [step] = walk.inner_strides();
    let values = wide.slice::<T::C>()?;
    walk.runs(0, all.len(), |at, run, [o]| {
        (0..run).for_each(|i| all[at + i] = values[o + i * step as usize]);
    });
    Ok(all)
}

fn layer(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 3)?;
    let epsilon = f64::from(cx.float("epsilon", 1e-5)?);
    let at = cx.int("axis", -1)?;
    let statistics_wanted = cx.wants(1) || cx.wants(2);
    kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let at = axis(at, x.rank())?;
        let dims = x.dims().to_vec();
        let n: usize = dims[at..].iter().product();
        let outer: usize = dims[..at].iter().product();
        with_float!(x.dtype(), T => {
            type C<T> = <T as Lane>::C;
            let scale = row_values::<T>(cx, inputs.tensor(1)?, &dims, n, "scale")?;
            let bias = match inputs.opt(2)? {
                Some(b) => row_values::<T>(cx, b, &dims, n, "bias")?,
                None => vec![C::<T>::ZERO; n],
            };
            let epsilon = <C<T> as Float>::of(epsilon);
            let mut results = Vec::new();
            if statistics_wanted {
                // Mean and deviation are of the type of stage one, which is FP32 (FP64 for FP64).
                let mut shape = dims[..at].to_vec();
                shape.resize(dims.len(), 1);
                let mut mean = Tensor::new(cx.pool, <C<T> as Lane>::DTYPE, shape.clone())?;
                let mut inverse = Tensor::new(cx.pool, <C<T> as Lane>::DTYPE, shape)?;
                let data = x.slice::<T>()?;
                let mut wide = vec![C::<T>::ZERO; n];
                let (m, d) = (mean.slice_mut::<C<T>>()?, inverse.slice_mut::<C<T>>()?);
                for i in 0..if n == 0 { 0 } else { outer } {
                    T::widen(&data[i * n..(i + 1) * n], &mut wide);
                    (m[i], d[i]) = statistics(&mut wide, epsilon);
                }
                results = vec![Val::Tensor(mean), Val::Tensor(inverse)];
            }
            let y = rows::<T>(cx, x, n.max(1), |i, row| {
                let (mean, inverse) = statistics(row, epsilon);
                let from = if scale.len() == n { 0 } else { i * n };
                let more = if bias.len() == n { 0 } else { i * n };
                for ((v, &s), &b) in row.iter_mut().zip(&scale[from..]).zip(&bias[more..]) {
                    *v = (*v - mean) * inverse * s + b;
                }
            })?;
            results.insert(0, Val::Tensor(y));
            Ok(results)
        }, else other => Err(refuse("LayerNormalization", other)))
    })
}

fn rms(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let epsilon = f64::from(cx.float("epsilon", 1e-5)?);
    let at = cx.int("axis", -1)?;
    tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let at = axis(at, x.rank())?;
        let dims = x.dims().to_vec();
        let n: usize = dims[at..].iter().product();
        with_float!(x.dtype(), T => {
            type C<T> = <T as Lane>::C;
            let scale = row_values::<T>(cx, inputs.tensor(1)?, &dims, n, "scale")?;
            let (epsilon, count) = (<C<T> as Float>::of(epsilon), <C<T> as Float>::of(n as f64));
            rows::<T>(cx, x, n.max(1), |i, row| {
                let mut lanes = [C::<T>::ZERO; 8];
                for c in row.chunks(8) {
                    lanes.iter_mut().zip(c).for_each(|(l, &v)| *l += v * v);
                }
                let inverse = C::<T>::ONE / (sum(&lanes) / count + epsilon).sqrt();
                let from = if scale.len() == n { 0 } else { i * n };
                row.iter_mut().zip(&scale[from..]).for_each(|(v, &s)| *v = *v * inverse * s);
            })
        }, else other => Err(refuse("RMSNormalization", other)))
    })
}

/// Applies `f` to each line of `n` elements that are `inner` apart, in the computing type.
fn lines<T: FloatLane>(cx: &Cx, x: Tensor, n: usize, inner: usize, f: impl Fn(&mut [T::C]) + Sync) -> Result<Tensor> {
    if inner == 1 {
        return rows::<T>(cx, x, n.max(1), |_, row| f(row));
    }
    rows::<T>(cx, x, (n * inner).max(1), |_, block| {
        let mut line = Vec::with_capacity(n);
        for i in 0..inner {
            line.clear();
            line.extend(block.iter().skip(i).step_by(inner));
            f(&mut line);
            block[i..].iter_mut().step_by(inner).zip(&line).for_each(|(v, &l)| *v = l);
        }
    })
}

fn lp(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let at = cx.int("axis", -1)?;
    let p = cx.int("p", 2)?;
    if p != 1 && p != 2 {
        bail!(InvalidModel, "its attribute 'p' is {p}, but must be 1 or 2");
    }
    tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let (_, n, inner) = super::axes::around(x.dims(), axis(at, x.rank())?);
        with_float!(x.dtype(), T => lines::<T>(cx, x, n, inner, |line| {
            type C<T> = <T as Lane>::C;
            let mut total = C::<T>::ZERO;
            line.iter().for_each(|&v| total += if p == 1 { v.abs() } else { v * v });
            let norm = if p == 1 { total } else { total.sqrt() };
            // A line of zeros stays zero.
            if norm != C::<T>::ZERO {
                line.iter_mut().for_each(|v| *v /= norm);
            }
        }), else other => Err(refuse("LpNormalization", other)))
    })
}

fn mean_variance(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let axes = cx.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let axes = super::axes::axes(&axes, x.rank())?;
        // Normalised axes go last, and back afterwards.
        let kept: Vec<usize> = (0..x.rank()).filter(|i| !axes.contains(i)).collect();
        let order: Vec<usize> = kept.iter().chain(&axes).copied().collect();
        let mut back = vec![0; order.len()];
        order.iter().enumerate().for_each(|(i, &o)| back[o] = i);
        let n: usize = axes.iter().map(|&a| x.dims()[a]).product();
        let moved = super::layout::transpose(cx, &x, &order)?;
        let y = with_float!(moved.dtype(), T => rows::<T>(cx, moved, n.max(1), |_, row| {
            type C<T> = <T as Lane>::C;
            let (mean, _) = statistics(row, C::<T>::ZERO);
            let mut variance = C::<T>::ZERO;
            row.iter().for_each(|&v| variance += (v - mean) * (v - mean));
            let deviation = (variance / <C<T> as Float>::of(n as f64)).sqrt() + <C<T> as Float>::of(1e-9);
            row.iter_mut().for_each(|v| *v = (*v - mean) / deviation);
        }), else other => Err(refuse("MeanVarianceNormalization", other)))?;
        super::layout::transpose(cx, &y, &back)
    })
}

fn lrn(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let size = cx.int("size", 0)?;
    let size =
        usize::try_from(size).ok().filter(|s| *s > 0).ok_or_else(|| err!(InvalidModel, "its 'size' is {size}"))?;
    let (alpha, beta, bias) = (cx.float("alpha", 1e-4)?, cx.float("beta", 0.75)?, cx.float("bias", 1.0)?);
    tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        if x.rank() < 2 {
            bail!(ShapeMismatch, "an input of shape {:?} has no channels", x.dims());
        }
        let (_, n, inner) = super::axes::around(x.dims(), 1);
        with_float!(x.dtype(), T => lines::<T>(cx, x, n, inner, |line| {
            type C<T> = <T as Lane>::C;
            let [a, b, k] = [f64::from(alpha) / size as f64, beta.into(), bias.into()].map(<C<T> as Float>::of);
            let squares: Vec<C<T>> = line.iter().map(|&v| v * v).collect();
            for (i, v) in line.iter_mut().enumerate() {
                let low = i.saturating_sub((size - 1) / 2);
                let high = (i + size / 2 + 1).min(n);
                let mut total = C::<T>::ZERO;
                squares[low..high].iter().for_each(|&s| total += s);
                *v /= (k + a * total).pow(b);
            }
        }), else other => Err(refuse("LRN", other)))
    })
}
