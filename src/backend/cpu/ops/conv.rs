//! Convolution and transposed convolution.

use super::fused::Finishing;
use super::window::{WindowSpec, spatial};
use super::{Built, Entry, NodeCx, Then, entry, head_kernel, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::conv::{Columns, Dealt, Window, depthwise, scatter};
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::gemm::{self, Packed, Product, Source, Strided};
use crate::backend::cpu::kernels::lane::{FloatLane, Lane, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::planes::{self, Plane, planes_at_once};
use crate::backend::cpu::kernels::simd::vectorize;
use crate::backend::cpu::kernels::winograd::{self, Winograd};
use crate::backend::cpu::tensor::{Tensor, count};
use crate::{Result, bail, err, with_float};
use std::any::Any;

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("Conv", build), entry("ConvTranspose", build_transpose)];

/// Weights packed when the engine was built: one matrix a group, in the weights' own type.
type AnyPacked = Option<Box<dyn Any + Send + Sync>>;

/// The attribute 'group'.
pub fn groups(cx: &NodeCx) -> Result<usize> {
    let group = cx.int("group", 1)?;
    usize::try_from(group).ok().filter(|g| *g > 0).ok_or_else(|| err!(InvalidModel, "its attribute 'group' is {group}"))
}

fn build(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 3)?;
    let spec = WindowSpec::read(cx)?;
    let group = groups(cx)?;
    let packed: AnyPacked = match cx.constant(1) {
        Some(w) if !w.is_empty() && w.rank() > 2 => {
            with_float!(w.dtype(), T => pack::<T>(w, group)?, else _other => None)
        }
        _ => None,
    };
    head_kernel(move |cx, inputs, then| {
        let (x, w, bias) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.opt(2)?);
        check_types(x, w)?;
        with_float!(x.dtype(), T => {
            let packed = packed.as_ref().and_then(|p| p.downcast_ref::<Vec<Packed<T>>>());
            conv::<T>(cx, &spec, group, [Some(x), Some(w), bias], packed, then)
        }, else other => Err(refuse("Conv", other)))
    })
}

/// Depthwise kernels are read as they are; all others are packed.
fn is_depthwise(w: &Tensor, group: usize) -> bool {
    group > 1 && w.dims()[1] == 1 && w.dims()[0].is_multiple_of(group)
}

fn pack<T: FloatLane>(w: &Tensor, group: usize) -> Result<AnyPacked> {
    if is_depthwise(w, group) || !w.dims()[0].is_multiple_of(group) {
        return Ok(None);
    }
    let (m, k) = (w.dims()[0] / group, w.len() / w.dims()[0]);
    let data = w.slice::<T>()?;
    let all = (0..group)
        .map(|g| {
            Packed::new(&Strided { data: &data[g * m * k..(g + 1) * m * k], lane: k, step: 1 }, m, k, T::C::micro().mr)
        })
        .collect::<Result<Vec<Packed<T>>>>()?;
    Ok(Some(Box::new(all)))
}

/// The elements in the computing type: the tensor's own, or a widened copy.
fn computing<T: FloatLane>(cx: &Cx, t: &Tensor) -> Result<Tensor> {
    cast_float(cx, t, <T::C as Lane>::DTYPE)
}

fn check_types(x: &Tensor, w: &Tensor) -> Result<()> {
    if x.dtype() != w.dtype() {
        bail!(TypeMismatch, "input and weights are of types {} and {}, but must be of one type", x.dtype(), w.dtype());
    }
    Ok(())
}

fn check_shapes(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, group: usize) -> Result<()> {
    if x.rank() < 3 || w.rank() != x.rank() {
        bail!(ShapeMismatch, "an input of shape {:?} does not go with weights of shape {:?}", x.dims(), w.dims());
    }
    let (c, m) = (x.dims()[1], w.dims()[0]);
    if m % group != 0 || w.dims()[1].checked_mul(group) != Some(c) {
        bail!(
            ShapeMismatch,
            "an input of shape {:?} with {c} channels does not go with weights of shape {:?} in {group} groups",
            x.dims(),
            w.dims()
        );
    }
    if let Some(b) = bias
        && b.len() != m
    {
        bail!(ShapeMismatch, "a bias of {} values does not go with {m} output channels", b.len());
    }
    Ok(())
}

/// The convolution of FP64 tensors.
pub fn convolve(
    cx: &Cx,
    spec: &WindowSpec,
    group: usize,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let y = conv::<f64>(cx, spec, group, [Some(x), Some(w), bias], None, None)?;
    y.ok_or_else(|| err!(Internal, "a convolution gave no result"))
}

fn conv<T: FloatLane>(
    cx: &Cx,
    spec: &WindowSpec,
    group: usize,
    inputs: [Option<&Tensor>; 3],
    packed: Option<&Vec<Packed<T>>>,
    then: Option<&Then>,
) -> Result<Option<Tensor>> {
    let [Some(x), Some(w), bias] = inputs else { bail!(Internal, "a convolution without input or weights") };
    check_shapes(x, w, bias, group)?;
    let rank = x.rank() - 2;
    let (window, _) = if w.dims()[2..].contains(&0) {
        bail!(ShapeMismatch, "weights of shape {:?} have no elements", w.dims())
    } else {
        spec.window(&x.dims()[2..], &w.dims()[2..])?
    };
    if u32::try_from(window.input_len()).is_err() {
        bail!(Unsupported, "an input of shape {:?}: planes of 2^32 elements and more", x.dims());
    }
    let (n, c, m) = (x.dims()[0], x.dims()[1], w.dims()[0]);
    let mut dims = vec![n, m];
    dims.extend(spatial(&window, rank));
    let Some(finish) = super::fused::finish(then, x.dtype(), &dims)? else { return Ok(None) };
    let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
    if y.is_empty() {
        return Ok(Some(y));
    }
    let bias = bias.map(|b| computing::<T>(cx, b)).transpose()?;
    let bias = bias.as_ref().map(|b| b.slice::<T::C>()).transpose()?;
    if is_depthwise(w, group) {
        depthwise_conv::<T>(cx, &window, group, x, w, bias, &finish, &mut y)?;
        return Ok(Some(y));
    }
    let (mg, k) = (m / group, c / group * window.kernel_len());
    let weights = w.slice::<T>()?;
    let rows: Vec<Strided<T>> =
        (0..group).map(|g| Strided { data: &weights[g * mg * k..(g + 1) * mg * k], lane: k, step: 1 }).collect();
    let a = |g: usize| -> &dyn Source<T::C> {
        match packed {
            Some(p) => &p[g],
            None => &rows[g],
        }
    };
    let (size, finish) = (window.output_len(), &finish);
    let epilogues: Vec<_> = (0..n * group)
        .map(|i| {
            move |row: usize, column: usize, values: &mut [T::C]| {
                if let Some(b) = bias {
                    let b = b[i % group * mg + row];
                    vectorize(|| values.iter_mut().for_each(|v| *v += b));
                }
                finish.apply((i * mg + row) * size + column, values);
            }
        })
        .collect();
    let out = y.slice_mut::<T>()?;
    if window.is_pointwise() {
        let data = x.slice::<T>()?;
        let part = c / group * window.input_len();
        let columns: Vec<Strided<T>> = (0..n * group)
            .map(|i| Strided { data: &data[i * part..(i + 1) * part], lane: 1, step: window.input_len() })
            .collect();
        let products: Vec<Product<T::C>> = (0..n * group)
            .map(|i| product(&window, mg, k, a(i % group), &columns[i], i * mg * size, &epilogues[i]))
            .collect();
        return gemm::run(cx, &products, out).map(|()| Some(y));
    }
    let data = x.slice::<T>()?;
    if let (Some(weights), 1, true) = (packed, group, winograd::pays(&window, c, m)) {
        let way = Winograd { window: &window, channels: c, rows: m, weights: &weights[0] };
        let epilogue = |at: usize, channel: usize, values: &mut [T::C]| {
            if let Some(b) = bias {
                let b = b[channel];
                vectorize(|| values.iter_mut().for_each(|v| *v += b));
            }
            finish.apply(at, values);
        };
        if way.run(cx, data, out, &epilogue)? {
            return Ok(Some(y));
        }
    }
    let part = c / group * window.input_len();
    // One image's dealt planes at most are held.
    let columns: Vec<Box<dyn Source<T::C> + '_>> = (0..n * group)
        .map(|i| -> Box<dyn Source<T::C> + '_> {
            let input = &data[i * part..(i + 1) * part];
            match if n * group == 1 { Dealt::new(&window, input) } else { None } {
                Some(dealt) => Box::new(dealt),
                None => Box::new(Columns { input, window: &window }),
            }
        })
        .collect();
    let products: Vec<Product<T::C>> = (0..n * group)
        .map(|i| product(&window, mg, k, a(i % group), &*columns[i], i * mg * size, &epilogues[i]))
        .collect();
    gemm::run(cx, &products, out)?;
    Ok(Some(y))
}

fn product<'a, F: Float>(
    w: &Window,
    m: usize,
    k: usize,
    a: &'a dyn Source<F>,
    b: &'a dyn Source<F>,
    offset: usize,
    epilogue: gemm::Epilogue<'a, F>,
) -> Product<'a, F> {
    Product { m, n: w.output_len(), k, a, b, offset, row_stride: w.output_len(), epilogue: Some(epilogue) }
}

#[allow(clippy::too_many_arguments)]
fn depthwise_conv<T: FloatLane>(
    cx: &Cx,
    window: &Window,
    group: usize,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&[T::C]>,
    finish: &Finishing,
    y: &mut Tensor,
) -> Result<()> {
    let (m, size) = (w.dims()[0], window.output_len());
    let kernels = computing::<T>(cx, w)?;
    let kernels = kernels.slice::<T::C>()?;
    let data = x.slice::<T>()?;
    let (plane, taps) = (window.input_len(), window.kernel_len());
    let work = y.len() * taps;
    let at_once = planes_at_once(size);
    cx.threads.pieces(y.slice_mut::<T>()?, size * at_once, work, |task, out| {
        let mut lines = Plane::new();
        for (i, out) in out.chunks_exact_mut(size).enumerate() {
            let i = task * at_once + i;
            let (image, channel) = (i / m, i % m);
            let source = image * group + channel / (m / group);
            let input = &data[source * plane..(source + 1) * plane];
            let kernel = &kernels[channel * taps..(channel + 1) * taps];
            let start = bias.map_or(T::C::ZERO, |b| b[channel]);
            let mut make = |sums: &mut [T::C]| {
                if Plane::<T::C>::serves(window) {
                    lines.load(window, input, 0..window.input[1], T::C::ZERO);
                    planes::depthwise(window, &lines, kernel, start, sums);
                } else {
                    let mut wide = vec![T::C::ZERO; plane];
                    T::widen(input, &mut wide);
                    sums.fill(start);
                    depthwise(window, &wide, kernel, sums);
                }
                finish.apply(i * size, sums);
            };
            match T::direct_mut(out) {
                Some(out) => make(out),
                None => {
                    let mut sums = vec![T::C::ZERO; size];
                    make(&mut sums);
                    T::narrow(&sums, out);
                }
            }
        }
    });
    Ok(())
}

struct Transpose {
    spec: WindowSpec,
    group: usize,
    output_padding: Option<Vec<usize>>,
    output_shape: Option<Vec<usize>>,
}

fn build_transpose(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 3)?;
    let sizes = |name: &str| -> Result<Option<Vec<usize>>> {
        let Some(list) = cx.ints(name)? else { return Ok(None) };
        let all = list.iter().map(|&v| usize::try_from(v).ok().filter(|v| *v < 1 << 31)).collect::<Option<Vec<_>>>();
        all.map(Some).ok_or_else(|| err!(InvalidModel, "its attribute '{name}' is {list:?}"))
    };
    let t = Transpose {
        spec: WindowSpec::read(cx)?,
        group: groups(cx)?,
        output_padding: sizes("output_padding")?,
        output_shape: sizes("output_shape")?,
    };
    tensor_kernel(move |cx, inputs| {
        let (x, w, bias) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.opt(2)?);
        check_types(x, w)?;
        with_float!(x.dtype(), T => conv_transpose::<T>(cx, &t, x, w, bias),
            else other => Err(refuse("ConvTranspose", other)))
    })
}

impl Transpose {
    /// The window that walks over the output and reads the input at each of its places.
    fn window(&self, x: &Tensor, w: &Tensor) -> Result<Window> {
        let rank = x.rank() - 2;
        if rank > 3 {
            bail!(Unsupported, "{rank} spatial dimensions (1 to 3 are supported)");
        }
        let spec = &self.spec;
        let (strides, dilations) = (spec.strides(rank)?, spec.dilations(rank)?);
        let (before, after) = spec.pads(rank)?;
        let extra = spec.list(&self.output_padding, rank, "output_padding", 0)?;
        // Some models give the whole shape, batch and channels included.
        let shape = self.output_shape.as_ref().map(|s| s[s.len().saturating_sub(rank)..].to_vec());
        let mut window =
            Window { input: [1; 3], output: [1; 3], kernel: [1; 3], stride: [1; 3], dilation: [1; 3], pad: [0; 3] };
        for i in 0..rank {
            let d = 3 - rank + i;
            let (size, kernel) = (x.dims()[2 + i], w.dims()[2 + i]);
            let full = || {
                let reach = kernel.checked_sub(1)?.checked_mul(dilations[i])?.checked_add(1)?;
                size.checked_sub(1)?.checked_mul(strides[i])?.checked_add(reach)?.checked_add(extra[i])
            };
            let full = full().ok_or_else(|| err!(ShapeMismatch, "an input of shape {:?} has no output", x.dims()))?;
            let (out, pad) = match (&shape, spec.same()) {
                (Some(s), lower) => {
                    let out = *s.get(i).ok_or_else(|| err!(InvalidModel, "its attribute 'output_shape' is {s:?}"))?;
                    let total = full.saturating_sub(out);
                    let small = total / 2;
                    (out, if lower == Some(true) || lower.is_none() { total - small } else { small })
                }
                (None, Some(lower)) => {
                    let out =
                        size.checked_mul(strides[i]).ok_or_else(|| err!(ShapeMismatch, "the output is too large"))?;
                    let total = full.saturating_sub(out);
                    (out, if lower { total - total / 2 } else { total / 2 })
                }
                (None, None) => {
                    let out = full.checked_sub(before[i] + after[i]).ok_or_else(|| {
                        err!(ShapeMismatch, "paddings {} and {} leave nothing of {full} elements", before[i], after[i])
                    })?;
                    (out, before[i])
                }
            };
            window.input[d] = out;
            window.output[d] = size;
            window.kernel[d] = kernel;
            window.stride[d] = strides[i];
            window.dilation[d] = dilations[i];
            window.pad[d] = pad;
        }
        Ok(window)
    }
}

fn conv_transpose<T: FloatLane>(
    cx: &Cx,
    t: &Transpose,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    if x.rank() < 3 || w.rank() != x.rank() || x.dims()[1] != w.dims()[0] || !x.dims()[1].is_multiple_of(t.group) {
        bail!(
            ShapeMismatch,
            "an input of shape {:?} does not go with weights of shape {:?} in {} groups",
            x.dims(),
            w.dims(),
            t.group
        );
    }
    let window = t.window(x, w)?;
    let (n, c, per_group) = (x.dims()[0], x.dims()[1] / t.group, w.dims()[1]);
    let m = per_group.checked_mul(t.group).ok_or_else(|| err!(ShapeMismatch, "too many output channels"))?;
    if bias.is_some_and(|b| b.len() != m) {
        bail!(ShapeMismatch, "the bias does not have the {m} values of the output channels");
    }
    let mut dims = vec![n, m];
    dims.extend(&window.input[5 - x.rank()..]);
    let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
    if y.is_empty() {
        return Ok(y);
    }
    let bias = bias.map(|b| computing::<T>(cx, b)).transpose()?;
    let bias = bias.as_ref().map(|b| b.slice::<T::C>()).transpose()?;
    let (taps, places, size) = (window.kernel_len(), window.output_len(), window.input_len());
    let (weights, data) = (w.slice::<T>()?, x.slice::<T>()?);
    let rows = per_group * taps;
    count(&[rows, places])?;
    let mut columns = Tensor::new(cx.pool, <T::C as Lane>::DTYPE, vec![rows, places])?;
    for i in 0..n * t.group {
        let g = i % t.group;
        let a = Strided { data: &weights[g * c * rows..(g + 1) * c * rows], lane: 1, step: rows };
        let b = Strided { data: &data[i * c * places..(i + 1) * c * places], lane: 1, step: places };
        let product = Product { m: rows, n: places, k: c, a: &a, b: &b, offset: 0, row_stride: places, epilogue: None };
        gemm::run(cx, &[product], columns.slice_mut::<T::C>()?)?;
        let columns = columns.slice::<T::C>()?;
        let out = &mut y.slice_mut::<T>()?[i * per_group * size..(i + 1) * per_group * size];
        cx.threads.pieces(out, size, rows * places, |channel, out| {
            let start = bias.map_or(T::C::ZERO, |b| b[g * per_group + channel]);
            let from = &columns[channel * taps * places..(channel + 1) * taps * places];
            match T::direct_mut(out) {
                Some(out) => {
                    out.fill(start);
                    scatter(&window, from, out);
                }
                None => {
                    let mut sums = vec![start; size];
                    scatter(&window, from, &mut sums);
                    T::narrow(&sums, out);
                }
            }
        });
    }
    Ok(y)
}
