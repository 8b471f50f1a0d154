//! Layers: convolutions, normalisations, pooling, resizing, softmax.

use super::super::emit::{float, int, ints, string};
use super::super::sym::{SymInt, product};
use super::super::value::Value;
use super::super::{Bound, Lowering, Out};
use super::elementwise::binary;
use super::{Entry, first, one};
use crate::model::DataType;
use crate::{Result, bail, err};

pub(super) const TABLE: &[Entry] = &[
    ("conv1d", conv),
    ("conv2d", conv),
    ("conv3d", conv),
    ("convolution", conv),
    ("_convolution", conv),
    ("conv_transpose1d", conv_transpose),
    ("conv_transpose2d", conv_transpose),
    ("conv_transpose3d", conv_transpose),
    ("batch_norm", batch_norm),
    ("_native_batch_norm_legit_no_training", batch_norm),
    ("_native_batch_norm_legit", batch_norm),
    ("native_batch_norm", batch_norm),
    ("cudnn_batch_norm", batch_norm),
    ("instance_norm", instance_norm),
    ("layer_norm", layer_norm),
    ("native_layer_norm", layer_norm),
    ("rms_norm", rms_norm),
    ("_fused_rms_norm", rms_norm),
    ("group_norm", group_norm),
    ("native_group_norm", group_norm),
    ("local_response_norm", |l, b| {
        let x = b.tensor("input")?;
        let attributes = vec![
            int("size", b.int("size")?),
            float("alpha", b.float("alpha")?),
            float("beta", b.float("beta")?),
            float("bias", b.float("k")?),
        ];
        one(l.node("LRN", &[&x], attributes, x.dtype, x.shape.clone()))
    }),
    ("softmax", |l, b| softmax(l, b, "Softmax")),
    ("_softmax", |l, b| softmax(l, b, "Softmax")),
    ("_safe_softmax", |l, b| softmax(l, b, "Softmax")),
    ("special_softmax", |l, b| softmax(l, b, "Softmax")),
    ("log_softmax", |l, b| softmax(l, b, "LogSoftmax")),
    ("_log_softmax", |l, b| softmax(l, b, "LogSoftmax")),
    ("max_pool1d", max_pool),
    ("max_pool2d", max_pool),
    ("max_pool3d", max_pool),
    ("max_pool2d_with_indices", max_pool_indices),
    ("max_pool3d_with_indices", max_pool_indices),
    ("max_pool1d_with_indices", max_pool_indices),
    ("avg_pool1d", avg_pool),
    ("avg_pool2d", avg_pool),
    ("avg_pool3d", avg_pool),
    ("adaptive_avg_pool1d", |l, b| adaptive(l, b, false)),
    ("adaptive_avg_pool2d", |l, b| adaptive(l, b, false)),
    ("adaptive_avg_pool3d", |l, b| adaptive(l, b, false)),
    ("_adaptive_avg_pool2d", |l, b| adaptive(l, b, false)),
    ("_adaptive_avg_pool3d", |l, b| adaptive(l, b, false)),
    ("adaptive_max_pool1d", |l, b| adaptive(l, b, true)),
    ("adaptive_max_pool2d", |l, b| adaptive(l, b, true)),
    ("adaptive_max_pool3d", |l, b| adaptive(l, b, true)),
    ("upsample_nearest1d", |l, b| resize(l, b, "nearest", "asymmetric")),
    ("upsample_nearest2d", |l, b| resize(l, b, "nearest", "asymmetric")),
    ("upsample_nearest3d", |l, b| resize(l, b, "nearest", "asymmetric")),
    ("_upsample_nearest_exact1d", |l, b| resize(l, b, "nearest", "half_pixel")),
    ("_upsample_nearest_exact2d", |l, b| resize(l, b, "nearest", "half_pixel")),
    ("_upsample_nearest_exact3d", |l, b| resize(l, b, "nearest", "half_pixel")),
    ("upsample_linear1d", |l, b| resize(l, b, "linear", "half_pixel")),
    ("upsample_bilinear2d", |l, b| resize(l, b, "linear", "half_pixel")),
    ("upsample_trilinear3d", |l, b| resize(l, b, "linear", "half_pixel")),
    ("upsample_bicubic2d", |l, b| resize(l, b, "cubic", "half_pixel")),
    ("_upsample_bilinear2d_aa", |l, b| resize(l, b, "linear", "half_pixel")),
    ("_upsample_bicubic2d_aa", |l, b| resize(l, b, "cubic", "half_pixel")),
    ("grid_sampler", grid_sample),
    ("grid_sampler_2d", grid_sample),
    ("grid_sampler_3d", grid_sample),
    ("im2col", im2col),
    ("col2im", col2im),
    ("_weight_norm", weight_norm),
    ("affine_grid_generator", |l, b| {
        let (theta, size) = (b.tensor("theta")?, b.sizes("size")?);
        if size.len() < 3 {
            bail!(ShapeMismatch, "a grid needs a size of 4 or 5 dimensions");
        }
        let mut shape = vec![size[0].clone()];
        shape.extend_from_slice(&size[2..]);
        shape.push(SymInt::Known(size.len() as i64 - 2));
        let size = l.size_vector(&size);
        let corners = int("align_corners", i64::from(b.bool("align_corners")?));
        one(l.node("AffineGrid", &[&theta, &size], vec![corners], theta.dtype, shape))
    }),
];

/// A list argument with one value for each of `n` dimensions.
fn spread(b: &Bound, name: &str, n: usize, default: i64) -> Result<Vec<i64>> {
    let v = b.opt_ints(name)?.unwrap_or_default();
    Ok(match v.as_slice() {
        [] => vec![default; n],
        [one] => vec![*one; n],
        _ if v.len() == n => v,
        _ => bail!(ShapeMismatch, "'{name}' has {} values for {n} dimensions", v.len()),
    })
}

fn twice(v: &[i64]) -> Vec<i64> {
    v.iter().chain(v).copied().collect()
}

/// An output size of a window: `(size + pads - dilation * (kernel - 1) - 1) / stride + 1`.
fn window(size: &SymInt, pads: i64, kernel: i64, dilation: i64, stride: i64) -> Result<SymInt> {
    let span = size.plus(&SymInt::Known(pads - dilation * (kernel - 1) - 1));
    let steps = span.floor_div(&SymInt::Known(stride)).ok_or_else(|| err!(InvalidModel, "a stride of zero"))?;
    let n = steps.plus(&SymInt::Known(1));
    if n.known().is_some_and(|n| n < 0) {
        bail!(ShapeMismatch, "a window of {kernel} does not fit in {size}");
    }
    Ok(n)
}

/// The operand with a batch dimension, and whether one had to be added.
fn batched(l: &mut Lowering, x: &Value, rank: usize) -> Result<(Value, bool)> {
    if x.rank() + 1 == rank { Ok((l.unsqueeze(x, &[0])?, true)) } else { Ok((x.clone(), false)) }
}

fn unbatched(l: &mut Lowering, x: Value, added: bool) -> Result<Value> {
    if added { l.squeeze(&x, &[0]) } else { Ok(x) }
}

fn conv(l: &mut Lowering, b: &Bound) -> Result<Out> {
    if b.bool("transposed")? {
        return conv_transpose(l, b);
    }
    let (x, weight) = (b.tensor("input")?, b.tensor("weight")?);
    let spatial = weight.rank().saturating_sub(2);
    let (x, added) = batched(l, &x, weight.rank())?;
    if x.rank() != weight.rank() || spatial == 0 {
        bail!(ShapeMismatch, "a convolution with weights of {} dimensions is given {}", weight.rank(), x.rank());
    }
    let kernel = weight.sizes().ok_or_else(|| err!(Unsupported, "weights of symbolic shape have no ONNX form"))?;
    let (stride, dilation) = (spread(b, "stride", spatial, 1)?, spread(b, "dilation", spatial, 1)?);
    let (mut before, mut after) = (vec![0; spatial], vec![0; spatial]);
    match b.str("padding") {
        "same" => {
            for i in 0..spatial {
                let total = dilation[i] * (kernel[i + 2] - 1);
                before[i] = total / 2;
                after[i] = total - total / 2;
            }
        }
        "valid" => {}
        _ => {
            before = spread(b, "padding", spatial, 0)?;
            after = before.clone();
        }
    }
    let mut shape = vec![x.shape[0].clone(), SymInt::Known(kernel[0])];
    for i in 0..spatial {
        shape.push(window(&x.shape[i + 2], before[i] + after[i], kernel[i + 2], dilation[i], stride[i])?);
    }
    let pads: Vec<i64> = before.into_iter().chain(after).collect();
    let attributes = vec![
        ints("dilations", &dilation),
        int("group", b.int("groups")?),
        ints("kernel_shape", &kernel[2..]),
        ints("pads", &pads),
        ints("strides", &stride),
    ];
    let bias = b.opt("bias");
    let v = l.node_n("Conv", &[Some(&x), Some(&weight), bias.as_ref()], attributes, vec![(x.dtype, shape)])?.remove(0);
    one(unbatched(l, v, added))
}

fn conv_transpose(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, weight) = (b.tensor("input")?, b.tensor("weight")?);
    let spatial = weight.rank().saturating_sub(2);
    let (x, added) = batched(l, &x, weight.rank())?;
    if x.rank() != weight.rank() || spatial == 0 {
        bail!(ShapeMismatch, "a convolution with weights of {} dimensions is given {}", weight.rank(), x.rank());
    }
    let kernel = weight.sizes().ok_or_else(|| err!(Unsupported, "weights of symbolic shape have no ONNX form"))?;
    let (stride, dilation) = (spread(b, "stride", spatial, 1)?, spread(b, "dilation", spatial, 1)?);
    let (padding, extra) = (spread(b, "padding", spatial, 0)?, spread(b, "output_padding", spatial, 0)?);
    let groups = b.int("groups")?;
    let mut shape = vec![x.shape[0].clone(), SymInt::Known(kernel[1] * groups)];
    for i in 0..spatial {
        let fixed = dilation[i] * (kernel[i + 2] - 1) + 1 + extra[i] - 2 * padding[i] - stride[i];
        shape.push(x.shape[i + 2].times(&SymInt::Known(stride[i])).plus(&SymInt::Known(fixed)));
    }
    let attributes = vec![
        ints("dilations", &dilation),
        int("group", groups),
        ints("kernel_shape", &kernel[2..]),
        ints("output_padding", &extra),
        ints("pads", &twice(&padding)),
        ints("strides", &stride),
    ];
    let bias = b.opt("bias");
    let out = vec![(x.dtype, shape)];
    let v = l.node_n("ConvTranspose", &[Some(&x), Some(&weight), bias.as_ref()], attributes, out)?.remove(0);
    one(unbatched(l, v, added))
}

fn channels(x: &Value) -> Result<SymInt> {
    x.shape.get(1).cloned().ok_or_else(|| err!(ShapeMismatch, "a normalisation over channels needs 2 dimensions"))
}

fn batch_norm(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = b.tensor("input")?;
    if b.bool("training")? || b.bool("train")? {
        bail!(Unsupported, "it is in training mode; call eval() on the model before saving it");
    }
    let (Some(mean), Some(var)) = (b.opt("running_mean"), b.opt("running_var")) else {
        bail!(
            Unsupported,
            "it has no running statistics, so that one sample's result depends on the others of its batch"
        )
    };
    let n = vec![channels(&x)?];
    // ONNX counts the scale's type apart from the operand's; PyTorch's mixed form keeps float32 statistics.
    let scale = match b.opt("weight") {
        Some(w) => w,
        None => l.filled(1.0, mean.dtype, &n)?,
    };
    let bias = match b.opt("bias") {
        Some(w) => w,
        None => l.filled(0.0, mean.dtype, &n)?,
    };
    let eps = float("epsilon", b.float("eps")?);
    let v = l.node("BatchNormalization", &[&x, &scale, &bias, &mean, &var], vec![eps], x.dtype, x.shape.clone())?;
    if &*b.op == "aten::batch_norm" {
        return Ok(Out::One(v));
    }
    let empty = l.filled(0.0, x.dtype, &[SymInt::Known(0)])?;
    Ok(Out::Many(vec![v, empty.clone(), empty]))
}

fn instance_norm(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = b.tensor("input")?;
    if !b.bool("use_input_stats")? {
        return batch_norm(l, b);
    }
    let n = vec![channels(&x)?];
    let scale = match b.opt("weight") {
        Some(w) => w,
        None => l.filled(1.0, x.dtype, &n)?,
    };
    let bias = match b.opt("bias") {
        Some(w) => w,
        None => l.filled(0.0, x.dtype, &n)?,
    };
    let eps = float("epsilon", b.float("eps")?);
    one(l.node("InstanceNormalization", &[&x, &scale, &bias], vec![eps], x.dtype, x.shape.clone()))
}

fn layer_norm(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = b.tensor("input")?;
    let shape = b.sizes("normalized_shape")?;
    let axis = x.rank().checked_sub(shape.len()).ok_or_else(|| err!(ShapeMismatch, "too many dimensions"))?;
    let scale = match b.opt("weight") {
        Some(w) => w,
        None => l.filled(1.0, x.dtype, &shape)?,
    };
    let bias = b.opt("bias");
    let attributes = vec![int("axis", axis as i64 - x.rank() as i64), float("epsilon", b.float("eps")?)];
    let mut stats = x.shape.clone();
    stats[axis..].iter_mut().for_each(|s| *s = SymInt::Known(1));
    let native = &*b.op == "aten::native_layer_norm";
    let mut outputs = vec![(x.dtype, x.shape.clone())];
    if native {
        // Mean and inverse deviation are hardly ever used; where they are, they are float32.
        outputs.extend([(DataType::Float32, stats.clone()), (DataType::Float32, stats)]);
    }
    let mut v = l.node_n("LayerNormalization", &[Some(&x), Some(&scale), bias.as_ref()], attributes, outputs)?;
    Ok(if native { Out::Many(v) } else { Out::One(v.remove(0)) })
}

fn rms_norm(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = b.tensor("input")?;
    let n = b.sizes("normalized_shape")?.len() as i64;
    let eps = match b.opt_float("eps")? {
        Some(e) => e,
        None if x.dtype == DataType::Float64 => f64::EPSILON,
        None => f64::from(f32::EPSILON),
    };
    let square = binary(l, "Mul", &x, &x, x.dtype)?;
    let axes: Vec<i64> = (x.rank() as i64 - n..x.rank() as i64).collect();
    let mean = super::reduce::reduce(l, "ReduceMean", &square, &axes, true)?;
    let eps = l.scalar(eps, x.dtype);
    let sum = binary(l, "Add", &mean, &eps, x.dtype)?;
    let root = l.node("Sqrt", &[&sum], vec![], x.dtype, sum.shape.clone())?;
    let mut v = binary(l, "Div", &x, &root, x.dtype)?;
    if let Some(w) = b.opt("weight") {
        v = binary(l, "Mul", &v, &w, x.dtype)?;
    }
    if &*b.op == "aten::_fused_rms_norm" {
        let inverse = l.node("Reciprocal", &[&root], vec![], x.dtype, root.shape.clone())?;
        return Ok(Out::Many(vec![v, inverse]));
    }
    Ok(Out::One(v))
}

fn group_norm(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = first(b)?;
    let groups = b.int(if b.get("num_groups").is_some() { "num_groups" } else { "group" })?;
    let c = channels(&x)?;
    let per = c.floor_div(&SymInt::Known(groups)).ok_or_else(|| err!(ShapeMismatch, "no groups"))?;
    // InstanceNormalization over [batch, groups, the rest], then the scale of each channel.
    let rest = per.times(&product(&x.shape[2..]));
    let folded = l.reshape(&x, &[x.shape[0].clone(), SymInt::Known(groups), rest])?;
    let n = [SymInt::Known(groups)];
    let (ones, zeros) = (l.filled(1.0, x.dtype, &n)?, l.filled(0.0, x.dtype, &n)?);
    let eps = float("epsilon", b.float("eps")?);
    let v = l.node("InstanceNormalization", &[&folded, &ones, &zeros], vec![eps], x.dtype, folded.shape.clone())?;
    let mut v = l.reshape(&v, &x.shape)?;
    let mut shape = vec![SymInt::Known(1); x.rank() - 1];
    shape[0] = c;
    if let Some(w) = b.opt("weight") {
        let w = l.reshape(&w, &shape)?;
        v = binary(l, "Mul", &v, &w, x.dtype)?;
    }
    if let Some(w) = b.opt("bias") {
        let w = l.reshape(&w, &shape)?;
        v = binary(l, "Add", &v, &w, x.dtype)?;
    }
    if &*b.op == "aten::native_group_norm" {
        let empty = l.filled(0.0, x.dtype, &[SymInt::Known(0)])?;
        return Ok(Out::Many(vec![v, empty.clone(), empty]));
    }
    Ok(Out::One(v))
}

fn softmax(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let mut x = first(b)?;
    if let Some(dtype) = b.dtype("dtype")? {
        x = l.cast(&x, dtype)?;
    } else if b.bool("half_to_float")? {
        x = l.cast(&x, DataType::Float32)?;
    }
    let axis = l.check_rank(&x, b.int("dim")?)? as i64;
    if x.rank() == 0 {
        return one(l.filled(if op == "Softmax" { 1.0 } else { 0.0 }, x.dtype, &[]));
    }
    one(l.node(op, &[&x], vec![int("axis", axis)], x.dtype, x.shape.clone()))
}

struct Pool {
    kernel: Vec<i64>,
    stride: Vec<i64>,
    padding: Vec<i64>,
    dilation: Vec<i64>,
    ceil: bool,
}

fn pool_args(b: &Bound, spatial: usize) -> Result<Pool> {
    let kernel = spread(b, "kernel_size", spatial, 1)?;
    let stride = match b.opt_ints("stride")? {
        Some(s) if !s.is_empty() => spread(b, "stride", spatial, 1)?,
        _ => kernel.clone(),
    };
    let (padding, dilation) = (spread(b, "padding", spatial, 0)?, spread(b, "dilation", spatial, 1)?);
    Ok(Pool { kernel, stride, padding, dilation, ceil: b.bool("ceil_mode")? })
}

fn spatial_of(b: &Bound) -> usize {
    if b.op.contains("1d") {
        1
    } else if b.op.contains("3d") {
        3
    } else {
        2
    }
}

/// Output shape and end pads. PyTorch drops a last window that would start in the end padding; ONNX's older pooling did
/// not say, so the pads are made explicit where the last window is partial.
fn pooled(x: &Value, p: &Pool) -> Result<(Vec<SymInt>, Vec<i64>, bool)> {
    if x.rank() != p.kernel.len() + 2 {
        bail!(ShapeMismatch, "pooling over {} dimensions is given a tensor of {}", p.kernel.len(), x.rank());
    }
    let mut shape = x.shape[..2].to_vec();
    let mut end = p.padding.clone();
    let mut ceil = false;
    for (i, size) in x.shape[2..].iter().enumerate() {
        let (k, s, pad, d) = (p.kernel[i], p.stride[i], p.padding[i], p.dilation[i]);
        let floor = window(size, 2 * pad, k, d, s)?;
        if !p.ceil {
            shape.push(floor);
            continue;
        }
        let Some(n) = size.known() else {
            ceil = true;
            let up = size.plus(&SymInt::Known(2 * pad - d * (k - 1) - 1 + s - 1)).floor_div(&SymInt::Known(s));
            shape.push(up.ok_or_else(|| err!(InvalidModel, "a stride of zero"))?.plus(&SymInt::Known(1)));
            continue;
        };
        let mut out = (n + 2 * pad - d * (k - 1) - 1 + s - 1).div_euclid(s.max(1)) + 1;
        if (out - 1) * s >= n + pad {
            out -= 1;
        }
        end[i] = ((out - 1) * s + d * (k - 1) + 1 - n - pad).max(pad);
        shape.push(SymInt::Known(out));
    }
    Ok((shape, end, ceil))
}

fn pool_attributes(p: &Pool, end: &[i64], ceil: bool) -> Vec<crate::model::Attribute> {
    let pads: Vec<i64> = p.padding.iter().chain(end).copied().collect();
    let mut attributes = vec![ints("kernel_shape", &p.kernel), ints("pads", &pads), ints("strides", &p.stride)];
    if p.dilation.iter().any(|d| *d != 1) {
        attributes.push(ints("dilations", &p.dilation));
    }
    if ceil {
        attributes.push(int("ceil_mode", 1));
    }
    attributes
}

fn max_pool(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let spatial = spatial_of(b);
    let (x, added) = batched(l, &first(b)?, spatial + 2)?;
    let p = pool_args(b, spatial)?;
    let (shape, end, ceil) = pooled(&x, &p)?;
    let v = l.node("MaxPool", &[&x], pool_attributes(&p, &end, ceil), x.dtype, shape)?;
    one(unbatched(l, v, added))
}

fn max_pool_indices(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let spatial = spatial_of(b);
    let (x, added) = batched(l, &first(b)?, spatial + 2)?;
    let p = pool_args(b, spatial)?;
    let (shape, end, ceil) = pooled(&x, &p)?;
    let outputs = vec![(x.dtype, shape.clone()), (DataType::Int64, shape)];
    let v = l.node_n("MaxPool", &[Some(&x)], pool_attributes(&p, &end, ceil), outputs)?;
    // ONNX counts through batch and channels; PyTorch inside each plane.
    let plane = l.size_vector(&[product(&x.shape[2..])]);
    let plane = l.reshape(&plane, &[])?;
    let indices = l.node("Mod", &[&v[1], &plane], vec![], DataType::Int64, v[1].shape.clone())?;
    let (values, indices) = (unbatched(l, v[0].clone(), added)?, unbatched(l, indices, added)?);
    Ok(Out::Many(vec![values, indices]))
}

fn avg_pool(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let spatial = spatial_of(b);
    let (x, added) = batched(l, &first(b)?, spatial + 2)?;
    let mut p = pool_args(b, spatial)?;
    p.dilation = vec![1; spatial];
    let (shape, end, ceil) = pooled(&x, &p)?;
    let divisor = b.opt_int("divisor_override")?;
    let include = b.bool("count_include_pad")? || divisor.is_some();
    let padded = p.padding.iter().any(|p| *p != 0);
    let partial = end != p.padding || ceil;
    // With partial last windows, PyTorch counts the padding it was asked for, but not what lies beyond it.
    let (source, mut p) = (x.clone(), p);
    let mut source = source;
    let mut end = end;
    let mut count = i64::from(include);
    if include && partial && divisor.is_none() {
        if ceil {
            bail!(Unsupported, "ceil_mode over a symbolic size has no ONNX form");
        }
        if padded {
            let amounts: Vec<SymInt> =
                p.padding.iter().rev().flat_map(|v| [SymInt::Known(*v), SymInt::Known(*v)]).collect();
            source = super::shape::pad_values(l, &x, &amounts, "constant", 0.0)?;
            end.iter_mut().zip(&p.padding).for_each(|(e, p)| *e -= p);
            p.padding = vec![0; spatial];
        }
        count = 0;
    }
    let mut attributes = pool_attributes(&p, &end, ceil);
    attributes.push(int("count_include_pad", count));
    let mut v = l.node("AveragePool", &[&source], attributes, x.dtype, shape)?;
    if let Some(divisor) = divisor.filter(|d| *d != 0) {
        let factor = l.scalar(p.kernel.iter().product::<i64>() as f64 / divisor as f64, x.dtype);
        v = binary(l, "Mul", &v, &factor, x.dtype)?;
    }
    one(unbatched(l, v, added))
}

fn adaptive(l: &mut Lowering, b: &Bound, max: bool) -> Result<Out> {
    let spatial = spatial_of(b);
    let (x, added) = batched(l, &first(b)?, spatial + 2)?;
    if x.rank() != spatial + 2 {
        bail!(ShapeMismatch, "pooling over {spatial} dimensions is given a tensor of {}", x.rank());
    }
    let sizes = match b.get("output_size") {
        Some(super::super::Arg::List(items)) => items
            .iter()
            .enumerate()
            .map(|(i, a)| match a {
                super::super::Arg::Int(v) => v.clone(),
                _ => x.shape[x.rank() - spatial + i].clone(),
            })
            .collect(),
        _ => vec![b.size("output_size")?; spatial],
    };
    let mut sizes: Vec<SymInt> = sizes;
    if sizes.len() != spatial && sizes.len() != 1 {
        bail!(ShapeMismatch, "{} sizes are given for {spatial} dimensions", sizes.len());
    }
    if sizes.len() == 1 {
        sizes = vec![sizes[0].clone(); spatial];
    }
    let mut v = if sizes.iter().all(|s| s.is(1)) {
        let axes: Vec<i64> = (2..2 + spatial as i64).collect();
        if max {
            super::reduce::reduce(l, "ReduceMax", &x, &axes, true)?
        } else {
            let mut shape = x.shape[..2].to_vec();
            shape.extend(sizes.iter().cloned());
            l.node("GlobalAveragePool", &[&x], vec![], x.dtype, shape)?
        }
    } else {
        adaptive_windows(l, &x, &sizes, max)?
    };
    v = unbatched(l, v, added)?;
    if max && b.op.contains("adaptive_max") {
        // The indices are only right to ask for where they are used; a constant would lie.
        let poison = l.poison();
        let poison = l.current(&poison)?;
        return Ok(Out::Many(vec![v, poison]));
    }
    Ok(Out::One(v))
}

fn adaptive_windows(l: &mut Lowering, x: &Value, sizes: &[SymInt], max: bool) -> Result<Value> {
    if x.shape[2..] == *sizes {
        return Ok(x.clone());
    }
    let mut v = x.clone();
    for (i, want) in sizes.iter().enumerate() {
        let axis = i + 2;
        let size = v.shape[axis].clone();
        if size == *want {
            continue;
        }
        let (Some(n), Some(m)) = (size.known(), want.known().filter(|m| *m > 0)) else {
            bail!(Unsupported, "adaptive pooling from {size} to {want} needs sizes that are known")
        };
        let spatial = sizes.len();
        if n % m == 0 {
            let mut kernel = vec![1; spatial];
            kernel[i] = n / m;
            let mut shape = v.shape.clone();
            shape[axis] = SymInt::Known(m);
            let attributes = vec![ints("kernel_shape", &kernel), ints("strides", &kernel)];
            v = l.node(if max { "MaxPool" } else { "AveragePool" }, &[&v], attributes, x.dtype, shape)?;
            continue;
        }
        // Windows of different sizes: each is reduced on its own.
        let mut parts = Vec::new();
        for j in 0..m {
            let (start, end) = (j * n / m, ((j + 1) * n + m - 1) / m);
            let part = l.slice(&v, axis, &SymInt::Known(start), &SymInt::Known(end), 1)?;
            parts.push(super::reduce::reduce(
                l,
                if max { "ReduceMax" } else { "ReduceMean" },
                &part,
                &[axis as i64],
                true,
            )?);
        }
        v = l.concat(&parts, axis)?;
    }
    Ok(v)
}

fn resize(l: &mut Lowering, b: &Bound, mode: &str, coordinates: &str) -> Result<Out> {
    let x = first(b)?;
    let spatial = x.rank().checked_sub(2).filter(|n| *n > 0);
    let spatial = spatial.ok_or_else(|| err!(ShapeMismatch, "resizing needs 3 dimensions or more"))?;
    let corners = b.bool("align_corners")?;
    let mut scales: Vec<Option<f64>> = vec![None; spatial];
    if let Some(super::super::Arg::List(items)) = b.get("scale_factors") {
        for (slot, a) in scales.iter_mut().zip(items) {
            if let super::super::Arg::Float(v) = a {
                *slot = Some(*v);
            }
        }
    }
    for (i, name) in ["scales_d", "scales_h", "scales_w"].iter().rev().take(spatial).enumerate() {
        if let Some(v) = b.opt_float(name)? {
            scales[spatial - 1 - i] = Some(v);
        }
    }
    if let (1, Some(v)) = (spatial, b.opt_float("scales")?) {
        scales[0] = Some(v);
    }
    let by_size = b.get("output_size").is_some();
    let mut shape = x.shape[..2].to_vec();
    if by_size {
        shape.extend(b.sizes("output_size")?);
        if shape.len() != x.rank() {
            bail!(ShapeMismatch, "{} sizes are given for {spatial} dimensions", shape.len() - 2);
        }
    } else {
        for (size, scale) in x.shape[2..].iter().zip(&scales) {
            let scale = scale.ok_or_else(|| err!(InvalidModel, "neither a size nor a factor is given"))?;
            shape.push(match size.known() {
                Some(n) => SymInt::Known((n as f64 * scale).floor() as i64),
                None if scale.fract() == 0.0 => size.times(&SymInt::Known(scale as i64)),
                None if (1.0 / scale).fract() == 0.0 => size
                    .floor_div(&SymInt::Known((1.0 / scale) as i64))
                    .ok_or_else(|| err!(InvalidModel, "a factor of zero"))?,
                None => bail!(Unsupported, "resizing a symbolic size by {scale} has no ONNX form"),
            });
        }
    }
    if shape == x.shape && mode != "cubic" {
        return Ok(Out::One(x));
    }
    let coordinates = if corners { "align_corners" } else { coordinates };
    let mut attributes = vec![string("coordinate_transformation_mode", coordinates), string("mode", mode)];
    if mode == "nearest" {
        // The exact form takes the middle's pixel: rounding half up to the next one, as floor(x + 0.5) would.
        attributes
            .push(string("nearest_mode", if coordinates == "half_pixel" { "round_prefer_ceil" } else { "floor" }));
    }
    if mode == "cubic" {
        attributes.push(float("cubic_coeff_a", if b.op.contains("_aa") { -0.5 } else { -0.75 }));
    }
    if b.op.contains("_aa") {
        // PyTorch leaves out what lies beyond the edges and scales the other weights up.
        attributes.push(int("antialias", 1));
        attributes.push(int("exclude_outside", 1));
    }
    let known: Option<Vec<f64>> = scales.iter().copied().collect();
    let out = vec![(x.dtype, shape.clone())];
    // PyTorch computes coordinates with a given factor, even where it does not divide the sizes.
    if let Some(scales) = known.filter(|_| !corners)
        && shape[2..].iter().zip(&x.shape[2..]).zip(&scales).all(|((o, i), s)| match (o.known(), i.known()) {
            (Some(o), Some(i)) => (i as f64 * f64::from(*s as f32)).floor() as i64 == o,
            _ => true,
        })
    {
        let all: Vec<f64> = [1.0, 1.0].into_iter().chain(scales).collect();
        let scales = l.numbers(&all, DataType::Float32);
        return Ok(Out::One(l.node_n("Resize", &[Some(&x), None, Some(&scales)], attributes, out)?.remove(0)));
    }
    let sizes = l.size_vector(&shape);
    Ok(Out::One(l.node_n("Resize", &[Some(&x), None, None, Some(&sizes)], attributes, out)?.remove(0)))
}

fn grid_sample(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, grid) = (b.tensor("input")?, b.tensor("grid")?);
    if x.rank() < 3 || grid.rank() != x.rank() {
        bail!(ShapeMismatch, "a grid of {} dimensions cannot sample {}", grid.rank(), x.rank());
    }
    let mode = match b.int("interpolation_mode")? {
        0 => "linear",
        1 => "nearest",
        _ => "cubic",
    };
    let padding = match b.int("padding_mode")? {
        0 => "zeros",
        1 => "border",
        _ => "reflection",
    };
    let mut shape = x.shape[..2].to_vec();
    shape.extend_from_slice(&grid.shape[1..grid.rank().saturating_sub(1)]);
    let attributes = vec![
        int("align_corners", i64::from(b.bool("align_corners")?)),
        string("mode", mode),
        string("padding_mode", padding),
    ];
    one(l.node("GridSample", &[&x, &grid], attributes, x.dtype, shape))
}

fn im2col(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, added) = batched(l, &b.tensor("self")?, 4)?;
    if x.rank() != 4 {
        bail!(ShapeMismatch, "im2col needs 3 or 4 dimensions");
    }
    let (kernel, dilation) = (spread(b, "kernel_size", 2, 1)?, spread(b, "dilation", 2, 1)?);
    let (padding, stride) = (spread(b, "padding", 2, 0)?, spread(b, "stride", 2, 1)?);
    let amounts: Vec<SymInt> = padding.iter().rev().flat_map(|p| [SymInt::Known(*p), SymInt::Known(*p)]).collect();
    let mut v = super::shape::pad_values(l, &x, &amounts, "constant", 0.0)?;
    let mut counts = Vec::new();
    for i in 0..2 {
        let axis = 2 + 2 * i;
        let Some(n) = v.shape[axis].known() else {
            bail!(Unsupported, "windows over a symbolic size have no ONNX form")
        };
        let count = (n - dilation[i] * (kernel[i] - 1) - 1).div_euclid(stride[i].max(1)) + 1;
        let at: Vec<i64> = (0..kernel[i])
            .flat_map(|k| (0..count).map(move |c| (k, c)))
            .map(|(k, c)| k * dilation[i] + c * stride[i])
            .collect();
        let at = l.vector(&at);
        let at = l.reshape(&at, &[SymInt::Known(kernel[i]), SymInt::Known(count)])?;
        let mut shape = v.shape.clone();
        shape[axis] = SymInt::Known(kernel[i]);
        shape.insert(axis + 1, SymInt::Known(count));
        v = l.node("Gather", &[&v, &at], vec![int("axis", axis as i64)], x.dtype, shape)?;
        counts.push(count);
    }
    let v = l.transpose(&v, &[0, 1, 2, 4, 3, 5])?;
    let rows = x.shape[1].times(&SymInt::Known(kernel[0] * kernel[1]));
    let v = l.reshape(&v, &[x.shape[0].clone(), rows, SymInt::Known(counts[0] * counts[1])])?;
    one(unbatched(l, v, added))
}

fn col2im(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, added) = batched(l, &b.tensor("self")?, 3)?;
    if x.rank() != 3 {
        bail!(ShapeMismatch, "col2im needs 2 or 3 dimensions");
    }
    let size = b.ints("output_size")?;
    let kernel = spread(b, "kernel_size", 2, 1)?;
    let (image, block) = (l.vector(&size), l.vector(&kernel));
    let padding = spread(b, "padding", 2, 0)?;
    let attributes = vec![
        ints("dilations", &spread(b, "dilation", 2, 1)?),
        ints("pads", &twice(&padding)),
        ints("strides", &spread(b, "stride", 2, 1)?),
    ];
    let c = x.shape[1]
        .floor_div(&SymInt::Known(kernel.iter().product()))
        .ok_or_else(|| err!(ShapeMismatch, "no kernel"))?;
    let shape = [x.shape[0].clone(), c].into_iter().chain(size.iter().map(|s| SymInt::Known(*s))).collect();
    let v = l.node("Col2Im", &[&x, &image, &block], attributes, x.dtype, shape)?;
    one(unbatched(l, v, added))
}

/// `v * (g / norm(v))` with the norm over all dimensions but one.
fn weight_norm(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (v, g) = (b.tensor("v")?, b.tensor("g")?);
    let dim = b.int("dim")?;
    let axes: Vec<i64> = (0..v.rank() as i64).filter(|a| *a != dim).collect();
    let norm = super::reduce::reduce(l, "ReduceL2", &v, &axes, true)?;
    let factor = binary(l, "Div", &g, &norm, v.dtype)?;
    one(binary(l, "Mul", &v, &factor, v.dtype))
}
