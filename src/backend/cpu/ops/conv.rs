//! Convolution and transposed convolution. Convolutions are computed over channels that lie side by side
//! (`kernels/channels_last`); where the plan leaves a convolution its planes, they are turned before and after.

use super::window::{WindowSpec, spatial};
use super::{Built, ChannelsLast, Entry, NodeCx, Then, entry, head_kernel, tensor_kernel, with_channels_last};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::channels_last::dense::Dense;
use crate::backend::cpu::kernels::channels_last::depthwise::Depthwise;
use crate::backend::cpu::kernels::channels_last::layout::{to_first, to_last};
use crate::backend::cpu::kernels::channels_last::weights::Weights;
use crate::backend::cpu::kernels::conv::{Window, scatter};
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::gemm::{self, Operand, Product};
use crate::backend::cpu::kernels::lane::{FloatLane, Lane, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::vector::Dispatch;
use crate::backend::cpu::tensor::{Tensor, count};
use crate::{Result, bail, err, with_float};
use std::any::Any;
use std::sync::Arc;

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("Conv", build), entry("ConvTranspose", build_transpose)];

/// The attribute 'group'.
pub fn groups(cx: &NodeCx) -> Result<usize> {
    let group = cx.int("group", 1)?;
    usize::try_from(group).ok().filter(|g| *g > 0).ok_or_else(|| err!(InvalidModel, "its attribute 'group' is {group}"))
}

/// A convolution's attributes, and its weights if they were there when the engine was built.
struct Conv {
    spec: WindowSpec,
    group: usize,
    /// [`Prepared`] for the weights' own type.
    prepared: Option<Box<dyn Any + Send + Sync>>,
}

/// Weights in the order that the kernels read.
enum Prepared<T: Lane> {
    Dense(Weights<T>),
    /// A row of all channels for each kernel element.
    Depthwise(Vec<T::C>),
}

fn build(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 3)?;
    let (spec, group) = (WindowSpec::read(cx)?, groups(cx)?);
    let prepared: Option<Box<dyn Any + Send + Sync>> = match cx.constant(1) {
        Some(w) if !w.is_empty() && w.rank() > 2 && w.dims()[0].is_multiple_of(group) => {
            with_float!(w.dtype(), T => Some(Box::new(prepare::<T>(w, group)?)), else _other => None)
        }
        _ => None,
    };
    let rank = cx.constant(1).map(Tensor::rank).filter(|_| prepared.is_some());
    let conv = Arc::new(Conv { spec, group, prepared });
    let planes = {
        let conv = conv.clone();
        tensor_kernel(move |cx, inputs| {
            let (x, w, bias) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.opt(2)?);
            conv.check(x.dims(), x, w, bias)?;
            with_float!(x.dtype(), T => over_planes::<T>(cx, &conv, x, w, bias), else other => Err(refuse("Conv", other)))
        })?
    };
    let Some(rank) = rank else { return Ok(planes) };
    let last = head_kernel(move |cx, inputs, then| {
        let (x, w, bias) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.opt(2)?);
        let mut dims = x.dims().to_vec();
        let channels = dims.pop().unwrap_or(0);
        dims.insert(1.min(dims.len()), channels);
        conv.check(&dims, x, w, bias)?;
        with_float!(x.dtype(), T => over_channels::<T>(cx, &conv, [Some(x), Some(w), bias], then),
            else other => Err(refuse("Conv", other)))
    })?;
    Ok(with_channels_last(planes, ChannelsLast { kernel: Arc::from(last), rank: Some(rank), draws: true }))
}

fn is_depthwise(w: &Tensor, group: usize) -> bool {
    group > 1 && w.dims()[1] == 1
}

fn prepare<T: FloatLane<C: Dispatch>>(w: &Tensor, group: usize) -> Result<Prepared<T>> {
    let (m, channels, taps) = (w.dims()[0], w.dims()[1], w.dims()[2..].iter().product::<usize>());
    let data = w.slice::<T>()?;
    if is_depthwise(w, group) {
        return Ok(Prepared::Depthwise((0..taps * m).map(|i| data[i % m * taps + i / m].get()).collect()));
    }
    Ok(Prepared::Dense(Weights::of_kernel(data, group, channels, taps)?))
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

impl Conv {
    /// Types and shapes; `dims` is the input's shape with its channels in second place.
    fn check(&self, dims: &[usize], x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<()> {
        check_types(x, w)?;
        if dims.len() < 3 || w.rank() != dims.len() || w.dims()[2..].contains(&0) {
            bail!(ShapeMismatch, "an input of shape {dims:?} does not go with weights of shape {:?}", w.dims());
        }
        let (c, m) = (dims[1], w.dims()[0]);
        if m % self.group != 0 || w.dims()[1].checked_mul(self.group) != Some(c) {
            bail!(
                ShapeMismatch,
                "an input of shape {dims:?} with {c} channels does not go with weights of shape {:?} in {} groups",
                w.dims(),
                self.group
            );
        }
        if let Some(b) = bias
            && b.len() != m
        {
            bail!(ShapeMismatch, "a bias of {} values does not go with {m} output channels", b.len());
        }
        Ok(())
    }
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
    let conv = Conv { spec: spec.clone(), group, prepared: None };
    conv.check(x.dims(), x, w, bias)?;
    over_planes::<f64>(cx, &conv, x, w, bias)
}

/// Input and output have their channels in planes.
fn over_planes<T: FloatLane<C: Dispatch>>(
    cx: &Cx,
    conv: &Conv,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let x = to_last(cx, x)?;
    match over_channels::<T>(cx, conv, [Some(&x), Some(w), bias], None)? {
        Some(y) => to_first(cx, &y),
        None => bail!(Internal, "a convolution gave no result"),
    }
}

/// Input and output have their channels side by side.
fn over_channels<T: FloatLane<C: Dispatch>>(
    cx: &Cx,
    conv: &Conv,
    inputs: [Option<&Tensor>; 3],
    then: Option<&Then>,
) -> Result<Option<Tensor>> {
    let [Some(x), Some(w), bias] = inputs else { bail!(Internal, "a convolution without input or weights") };
    let rank = x.rank() - 2;
    let sizes = &x.dims()[1..=rank];
    let (window, _) = conv.spec.window(sizes, &w.dims()[2..])?;
    let (n, channels, m) = (x.dims()[0], x.dims()[rank + 1], w.dims()[0]);
    let mut dims = vec![n];
    dims.extend(spatial(&window, rank));
    dims.push(m);
    let Some(finish) = super::fused::finish(then, x.dtype(), &dims)? else { return Ok(None) };
    let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
    if y.is_empty() {
        return Ok(Some(y));
    }
    let bias = bias.map(|b| computing::<T>(cx, b)).transpose()?;
    let bias = bias.as_ref().map(|b| b.slice::<T::C>()).transpose()?;
    let made;
    let prepared = match conv.prepared.as_ref().and_then(|p| p.downcast_ref::<Prepared<T>>()) {
        Some(prepared) => prepared,
        None => {
            made = prepare::<T>(w, conv.group)?;
            &made
        }
    };
    let input = x.slice::<T>()?;
    let out = y.slice_mut::<T>()?;
    match prepared {
        Prepared::Dense(weights) => Dense { window, channels, weights, bias, finish: &finish }.run(cx, input, out)?,
        Prepared::Depthwise(weights) => {
            let way = Depthwise { window, channels: m, weights, bias };
            if m == channels {
                way.run(cx, input, out, &finish)?;
            } else {
                // Several outputs of a channel: each gets a channel of its own.
                let mut repeated = Tensor::new(cx.pool, x.dtype(), vec![input.len() / channels, m])?;
                let times = m / channels;
                repeated.slice_mut::<T>()?.iter_mut().enumerate().for_each(|(i, o)| *o = input[i / times]);
                way.run(cx, repeated.slice::<T>()?, out, &finish)?;
            }
        }
    }
    Ok(Some(y))
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
        let a = Operand::by_steps(&weights[g * c * rows..(g + 1) * c * rows], rows);
        let b = Operand::by_steps(&data[i * c * places..(i + 1) * c * places], places);
        let product = Product { m: rows, n: places, k: c, a, b, offset: 0, row_stride: places, epilogue: None };
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
