//! Pooling.

use super::wide::{computing, with_wide};
use super::window::{WindowSpec, spatial};
use super::{Built, ChannelsLast, Entry, NodeCx, entry, kernel, tensor_kernel, with_channels_last};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::channels_last::pool::{Over, global_mean, plane_sum, pool as pool_last};
use crate::backend::cpu::kernels::conv::Window;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::lane::{FloatLane, Lane, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::planes::{self, Plane, planes_at_once};
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::DataType::{self, Int64};
use crate::{Result, bail, err, with_float};
use std::sync::Arc;

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("MaxPool", max_pool),
    entry("AveragePool", average_pool),
    entry("LpPool", lp_pool),
    entry("GlobalAveragePool", global),
    entry("GlobalMaxPool", global),
    entry("GlobalLpPool", global),
];

fn planes(x: &Tensor) -> Result<(usize, usize)> {
    if x.rank() < 3 {
        bail!(ShapeMismatch, "an input of shape {:?} has no spatial dimensions", x.dims());
    }
    Ok((x.dims()[0] * x.dims()[1], x.rank() - 2))
}

fn windows(spec: &WindowSpec, x: &Tensor) -> Result<(Window, [usize; 3], Vec<usize>)> {
    let (_, rank) = planes(x)?;
    let kernel = spec.kernel.as_ref().ok_or_else(|| err!(InvalidModel, "its attribute 'kernel_shape' is missing"))?;
    let (window, tail) = spec.window(&x.dims()[2..], kernel)?;
    let mut dims = x.dims()[..2].to_vec();
    dims.extend(spatial(&window, rank));
    Ok((window, tail, dims))
}

/// Kernel coordinates whose read from output coordinate `o` lies in the input.
fn taps(w: &Window, dim: usize, o: usize) -> std::ops::Range<usize> {
    let start = o * w.stride[dim];
    let low = w.pad[dim].saturating_sub(start).div_ceil(w.dilation[dim]);
    let high = (w.input[dim] + w.pad[dim]).saturating_sub(start).div_ceil(w.dilation[dim]);
    low.min(w.kernel[dim])..high.min(w.kernel[dim])
}

/// Calls `f(output position, kernel ranges, first input coordinates)` for each output position of one plane.
fn positions(w: &Window, mut f: impl FnMut(usize, [std::ops::Range<usize>; 3], [isize; 3])) {
    let from = |dim: usize, o: usize| (o * w.stride[dim]) as isize - w.pad[dim] as isize;
    let mut at = 0;
    for z in 0..w.output[0] {
        let tz = taps(w, 0, z);
        for y in 0..w.output[1] {
            let ty = taps(w, 1, y);
            for x in 0..w.output[2] {
                f(at, [tz.clone(), ty.clone(), taps(w, 2, x)], [from(0, z), from(1, y), from(2, x)]);
                at += 1;
            }
        }
    }
}

/// Calls `f` with the place of each element in a window.
#[inline(always)]
fn elements(w: &Window, taps: &[std::ops::Range<usize>; 3], from: [isize; 3], mut f: impl FnMut(usize)) {
    let at = |dim: usize, k: usize| (from[dim] + (k * w.dilation[dim]) as isize) as usize;
    for kz in taps[0].clone() {
        for ky in taps[1].clone() {
            let row = (at(0, kz) * w.input[1] + at(1, ky)) * w.input[2];
            for kx in taps[2].clone() {
                f(row + at(2, kx));
            }
        }
    }
}

/// The form of a pool over images whose channels lie side by side, for two spatial dimensions: what it makes of a window, given
/// the windows and the padding behind the image.
fn over_channels(
    spec: &WindowSpec,
    over: impl Fn(&Window, [usize; 3]) -> Option<[Vec<usize>; 3]> + Send + Sync + 'static,
) -> Result<Option<ChannelsLast>> {
    if spec.kernel.as_ref().is_none_or(|k| k.len() != 2) {
        return Ok(None);
    }
    let spec = spec.clone();
    let kernel = tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let (&[n, h, w, c], Some(kernel)) = (x.dims(), &spec.kernel) else {
            bail!(ShapeMismatch, "an input of rank {}, but its kernel has two dimensions", x.rank());
        };
        let (window, tail) = spec.window(&[h, w], kernel)?;
        let mut y = Tensor::new(cx.pool, x.dtype(), vec![n, window.output[1], window.output[2], c])?;
        if y.is_empty() {
            return Ok(y);
        }
        let counts = over(&window, tail);
        let over = counts.as_ref().map_or(Over::Maximum, Over::Mean);
        with_float!(x.dtype(), T => pool_last::<T>(cx, &window, c, over, x.slice::<T>()?, y.slice_mut::<T>()?),
            else other => return Err(refuse("pooling", other)));
        Ok(y)
    })?;
    Ok(Some(ChannelsLast { kernel: Arc::from(kernel), rank: Some(4), draws: false }))
}

fn with_form(planes: Box<dyn super::Kernel>, last: Option<ChannelsLast>) -> Built {
    Ok(match last {
        Some(last) => with_channels_last(planes, last),
        None => planes,
    })
}

/// True if windows are walked by lines: types that compute in FP32, and planes that suit it. FP64 takes each window by itself.
fn by_lines(x: &Tensor, w: &Window) -> bool {
    (x.dtype() == DataType::Float32 || x.dtype().is_half()) && Plane::<f32>::serves(w)
}

/// `with_float!` of the types that compute in FP32.
macro_rules! with_single {
    ($dtype:expr, $T:ident => $body:expr, else $other:ident => $rest:expr) => {
        match $dtype {
            DataType::Float32 => {
                type $T = f32;
                $body
            }
            DataType::Float16 => {
                type $T = half::f16;
                $body
            }
            DataType::Bfloat16 => {
                type $T = half::bf16;
                $body
            }
            $other => $rest,
        }
    };
}

fn max_pool(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let spec = WindowSpec::read(cx)?;
    let places = cx.wants(1);
    let columns_first = cx.flag("storage_order", false)?;
    let float = cx.input_types.first().copied().flatten().is_some_and(DataType::is_float);
    let last = if places || !float { None } else { over_channels(&spec, |_, _| None)? };
    let planes = kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let (window, _, dims) = windows(&spec, x)?;
        if !places && by_lines(x, &window) {
            return with_single!(x.dtype(), T => lines::<T>(cx, x, &window, dims, |plane, input, out| {
                plane.load(&window, input, 0..window.input[1], <<T as Lane>::C as Float>::LOWEST);
                planes::maximum(&window, plane, out);
            }), else other => Err(refuse("MaxPool", other)))
            .map(|y| vec![Val::Tensor(y)]);
        }
        // Of the integers, ONNX takes those of eight bits.
        match x.dtype() {
            DataType::Int8 => maximum::<i8>(cx, x, &window, dims, places, columns_first),
            DataType::Uint8 => maximum::<u8>(cx, x, &window, dims, places, columns_first),
            dtype => {
                let wide = computing(dtype, "MaxPool")?;
                let x = cast_float(cx, x, wide)?;
                let mut made = with_wide!(wide, F => maximum::<F>(cx, &x, &window, dims, places, columns_first))?;
                made[0] = Val::Tensor(cast_float(cx, made[0].tensor()?, dtype)?);
                Ok(made)
            }
        }
    })?;
    with_form(planes, last)
}

fn maximum<T: Lane<C = T> + PartialOrd>(
    cx: &Cx,
    x: &Tensor,
    w: &Window,
    dims: Vec<usize>,
    places: bool,
    columns_first: bool,
) -> Result<Vec<Val>> {
    let mut y = Tensor::new(cx.pool, x.dtype(), dims.clone())?;
    let data = x.slice::<T>()?;
    let (plane, size) = (w.input_len(), w.output_len());
    if y.is_empty() {
        let none = Tensor::new(cx.pool, Int64, dims)?;
        return Ok(vec![Val::Tensor(y), Val::Tensor(none)]);
    }
    // NaN wins, as in NumPy: nothing compares above it, and it is kept when met.
    #[allow(clippy::eq_op)]
    let better = |v: T::C, best: T::C| v > best || (v != v && best == best);
    let lowest = super::limits::lowest(T::DTYPE);
    if !places {
        let work = y.len() * w.kernel_len();
        cx.threads.pieces(y.slice_mut::<T>()?, size, work, |i, out| {
            let from = &data[i * plane..(i + 1) * plane];
            positions(w, |at, taps, first| {
                let mut best = None;
                elements(w, &taps, first, |e| {
                    let v = from[e];
                    if best.is_none_or(|b| better(v, b)) {
                        best = Some(v);
                    }
                });
                out[at] = best.map_or(super::limits::cast_lowest::<T>(lowest), T::put);
            });
        });
        return Ok(vec![Val::Tensor(y)]);
    }
    let mut found = Tensor::new(cx.pool, Int64, dims)?;
    let (out, index) = (y.slice_mut::<T>()?, found.slice_mut::<i64>()?);
    for i in 0..out.len() / size {
        let from = &data[i * plane..(i + 1) * plane];
        positions(w, |at, taps, first| {
            let mut best: Option<(T::C, usize)> = None;
            elements(w, &taps, first, |e| {
                let v = from[e].get();
                if best.is_none_or(|(b, _)| better(v, b)) {
                    best = Some((v, e));
                }
            });
            let (v, e) = best.map_or((super::limits::cast_lowest::<T>(lowest), 0), |(v, e)| (T::put(v), e));
            out[i * size + at] = v;
            let [d, h, width] = w.input;
            let e = if columns_first {
                let (z, y, x) = (e / (h * width), e / width % h, e % width);
                (x * h + y) * d + z
            } else {
                e
            };
            index[i * size + at] = (i * plane + e) as i64;
        });
    }
    Ok(vec![Val::Tensor(y), Val::Tensor(found)])
}

fn average_pool(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let spec = WindowSpec::read(cx)?;
    let count_padding = cx.flag("count_include_pad", false)?;
    let last = over_channels(&spec, move |w, tail| Some(counts(w, count_padding.then_some(tail))))?;
    let planes = tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let (window, tail, dims) = windows(&spec, x)?;
        if by_lines(x, &window) && !window.output.contains(&0) {
            let counts = counts(&window, count_padding.then_some(tail));
            return with_single!(x.dtype(), T => lines::<T>(cx, x, &window, dims, |plane, input, out| {
                type C<T> = <T as Lane>::C;
                plane.load(&window, input, 0..window.input[1], C::<T>::ZERO);
                planes::total(&window, plane, out);
                for (row, &rows) in out.chunks_mut(window.output[2]).zip(&counts[1]) {
                    row.iter_mut().zip(&counts[2]).for_each(|(v, &n)| *v /= <C<T> as Float>::of((rows * n) as f64));
                }
            }), else other => Err(refuse("AveragePool", other)));
        }
        let wide = computing(x.dtype(), "AveragePool")?;
        let y = with_wide!(wide, F => pool::<F>(cx, &cast_float(cx, x, wide)?, &window, dims, |values, taps, first| {
            let mut total = F::ZERO;
            elements(&window, taps, first, |e| total += values[e]);
            let n = if count_padding { padded_count(&window, tail, first) } else { taps.iter().map(|t| t.len()).product() };
            total / F::of(n as f64)
        }))?;
        cast_float(cx, &y, x.dtype())
    })?;
    with_form(planes, last)
}

/// Applies `f`, which works on one plane, to every plane.
fn lines<T: FloatLane>(
    cx: &Cx,
    x: &Tensor,
    w: &Window,
    dims: Vec<usize>,
    f: impl Fn(&mut Plane<T::C>, &[T], &mut [T::C]) + Sync,
) -> Result<Tensor> {
    let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
    if y.is_empty() {
        return Ok(y);
    }
    let data = x.slice::<T>()?;
    let (plane, size) = (w.input_len(), w.output_len());
    let work = y.len() * w.kernel_len();
    let at_once = planes_at_once(size);
    cx.threads.pieces(y.slice_mut::<T>()?, size * at_once, work, |task, out| {
        let mut lines = Plane::new();
        for (i, out) in out.chunks_exact_mut(size).enumerate() {
            let from = &data[(task * at_once + i) * plane..][..plane];
            match T::direct_mut(out) {
                Some(out) => f(&mut lines, from, out),
                None => {
                    let mut wide = vec![T::C::ZERO; size];
                    f(&mut lines, from, &mut wide);
                    T::narrow(&wide, out);
                }
            }
        }
    });
    Ok(y)
}

/// For each dimension and output coordinate, how many elements of the window count: those that lie in the input, or,
/// given the paddings behind it, in the padding too.
fn counts(w: &Window, tail: Option<[usize; 3]>) -> [Vec<usize>; 3] {
    std::array::from_fn(|d| {
        let count = |o: usize| match tail {
            None => taps(w, d, o).len(),
            Some(tail) => {
                let end = (w.input[d] + tail[d] + w.pad[d]).saturating_sub(o * w.stride[d]);
                end.div_ceil(w.dilation[d]).min(w.kernel[d])
            }
        };
        (0..w.output[d]).map(count).collect()
    })
}

/// Elements of a window that lie in the input or its padding (with rounding up, a window may reach beyond both).
fn padded_count(w: &Window, tail: [usize; 3], first: [isize; 3]) -> usize {
    (0..3)
        .map(|d| {
            let end = (w.input[d] + tail[d]) as isize;
            let room = (end - first[d]).max(0) as usize;
            room.div_ceil(w.dilation[d]).min(w.kernel[d])
        })
        .product()
}

fn lp_pool(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let spec = WindowSpec::read(cx)?;
    let p = cx.int("p", 2)?;
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let (window, _, dims) = windows(&spec, x)?;
        let wide = computing(x.dtype(), "LpPool")?;
        let y = with_wide!(wide, F => pool::<F>(cx, &cast_float(cx, x, wide)?, &window, dims, |values, taps, first| {
            let mut total = F::ZERO;
            elements(&window, taps, first, |e| total += power(values[e], p));
            root(total, p)
        }))?;
        cast_float(cx, &y, x.dtype())
    })
}

fn power<F: Float>(v: F, p: i64) -> F {
    match p {
        1 => v.abs(),
        2 => v * v,
        p => v.abs().pow(F::of(p as f64)),
    }
}

fn root<F: Float>(v: F, p: i64) -> F {
    match p {
        1 => v,
        2 => v.sqrt(),
        p => v.pow(F::of(1.0 / p as f64)),
    }
}

fn pool<F: Float + Lane<C = F>>(
    cx: &Cx,
    x: &Tensor,
    w: &Window,
    dims: Vec<usize>,
    f: impl Fn(&[F], &[std::ops::Range<usize>; 3], [isize; 3]) -> F + Sync,
) -> Result<Tensor> {
    let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
    if y.is_empty() {
        return Ok(y);
    }
    let data = x.slice::<F>()?;
    let (plane, size) = (w.input_len(), w.output_len());
    let work = y.len() * w.kernel_len();
    cx.threads.pieces(y.slice_mut::<F>()?, size, work, |i, out| {
        let from = &data[i * plane..(i + 1) * plane];
        positions(w, |at, taps, first| out[at] = f(from, &taps, first));
    });
    Ok(y)
}

fn global(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let op = cx.node.op_type.clone();
    let p = cx.int("p", 2)?;
    let last = match &*op {
        "GlobalAveragePool" => {
            let kernel = Arc::from(tensor_kernel(global_average_last)?);
            Some(ChannelsLast { kernel, rank: None, draws: false })
        }
        _ => None,
    };
    let planes = tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let (count, rank) = planes(x)?;
        let mut dims = x.dims()[..2].to_vec();
        dims.resize(2 + rank, 1);
        let (dtype, n) = (x.dtype(), x.dims()[2..].iter().product::<usize>());
        let wide = computing(dtype, &op)?;
        let x = cast_float(cx, x, wide)?;
        let mut y = Tensor::new(cx.pool, wide, dims)?;
        with_wide!(wide, F => {
            let (data, work) = (x.slice::<F>()?, x.len());
            cx.threads.pieces(&mut y.slice_mut::<F>()?[..count], 1, work, |i, out| {
                let values = &data[i * n..(i + 1) * n];
                let value = match &*op {
                    "GlobalAveragePool" => plane_sum(values) / F::of(n as f64),
                    "GlobalMaxPool" => values.iter().fold(F::LOWEST, |a, &b| a.larger(b)),
                    _ => root(values.iter().map(|&v| power(v, p)).sum(), p),
                };
                out.iter_mut().for_each(|o| *o = value);
            });
        });
        cast_float(cx, &y, dtype)
    })?;
    with_form(planes, last)
}

/// The means of an image whose channels lie side by side.
fn global_average_last(cx: &Cx, inputs: &mut super::Inputs) -> Result<Tensor> {
    let x = inputs.tensor(0)?;
    planes(x)?;
    let (n, c) = (x.dims()[0], x.dims()[x.rank() - 1]);
    let mut dims = vec![1; x.rank()];
    (dims[0], dims[x.rank() - 1]) = (n, c);
    let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
    with_float!(x.dtype(), T => global_mean::<T>(cx, c, x.slice::<T>()?, y.slice_mut::<T>()?),
        else other => return Err(refuse("GlobalAveragePool", other)));
    Ok(y)
}
