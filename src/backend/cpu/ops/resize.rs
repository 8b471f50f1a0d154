//! Resize and Upsample: separable interpolation, one axis after the other in the computing type.

use super::axes::{around, axes as distinct, axis, shape};
use super::{Built, Entry, Inputs, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::movement::Elem;
use crate::backend::cpu::kernels::simd::vectorize;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType::{Float32, Float64};
use crate::{Result, bail, err, with_elem};

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("Resize", resize), entry("Upsample", upsample)];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    CropAndResize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

#[derive(Debug, Clone)]
struct Spec {
    mode: Mode,
    coordinates: Coordinates,
    rounding: Rounding,
    cubic: f64,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f32,
    axes: Option<Vec<i64>>,
    /// None: sizes as given; Some(true): not larger than given; Some(false): not smaller.
    keep_aspect: Option<bool>,
}

fn mode(cx: &NodeCx) -> Result<Mode> {
    Ok(match cx.string("mode", "nearest")?.as_str() {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" | "trilinear" => Mode::Linear,
        "cubic" => Mode::Cubic,
        other => bail!(InvalidModel, "its attribute 'mode' is '{other}'"),
    })
}

/// What Upsample, and Resize before version 11, do.
fn old(mode: Mode) -> Spec {
    Spec {
        mode,
        coordinates: Coordinates::Asymmetric,
        rounding: Rounding::Floor,
        cubic: -0.75,
        exclude_outside: false,
        antialias: false,
        extrapolation: 0.0,
        axes: None,
        keep_aspect: None,
    }
}

fn upsample(cx: &NodeCx) -> Built {
    let spec = old(mode(cx)?);
    let attribute = cx.floats("scales")?;
    tensor_kernel(move |cx, inputs| {
        let scales = match &attribute {
            Some(s) => s.iter().map(|&v| f64::from(v)).collect(),
            None => floats(cx, inputs.tensor(1)?)?,
        };
        run(cx, &spec, inputs.tensor(0)?, None, Some(scales), None)
    })
}

fn resize(cx: &NodeCx) -> Built {
    if cx.opset < 11 {
        let spec = old(mode(cx)?);
        return tensor_kernel(move |cx, inputs| {
            let scales = floats(cx, inputs.tensor(1)?)?;
            run(cx, &spec, inputs.tensor(0)?, None, Some(scales), None)
        });
    }
    cx.check_inputs(1, 4)?;
    let spec = Spec {
        mode: mode(cx)?,
        coordinates: match cx.string("coordinate_transformation_mode", "half_pixel")?.as_str() {
            "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            "tf_crop_and_resize" => Coordinates::CropAndResize,
            other => bail!(Unsupported, "Resize with coordinate_transformation_mode '{other}'"),
        },
        rounding: match cx.string("nearest_mode", "round_prefer_floor")?.as_str() {
            "round_prefer_floor" | "" => Rounding::PreferFloor,
            "round_prefer_ceil" => Rounding::PreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            other => bail!(InvalidModel, "its attribute 'nearest_mode' is '{other}'"),
        },
        cubic: cx.float("cubic_coeff_a", -0.75)?.into(),
        exclude_outside: cx.flag("exclude_outside", false)?,
        antialias: cx.flag("antialias", false)?,
        extrapolation: cx.float("extrapolation_value", 0.0)?,
        axes: cx.ints("axes")?,
        keep_aspect: match cx.string("keep_aspect_ratio_policy", "stretch")?.as_str() {
            "stretch" => None,
            "not_larger" => Some(true),
            "not_smaller" => Some(false),
            other => bail!(InvalidModel, "its attribute 'keep_aspect_ratio_policy' is '{other}'"),
        },
    };
    tensor_kernel(move |cx, inputs| {
        // Exporters leave out inputs by giving empty tensors.
        let given =
            |inputs: &Inputs, i: usize| Ok::<_, crate::Error>(inputs.opt(i)?.filter(|t| !t.is_empty()).cloned());
        let roi = given(inputs, 1)?.map(|t| floats(cx, &t)).transpose()?;
        let scales = given(inputs, 2)?.map(|t| floats(cx, &t)).transpose()?;
        let sizes = match given(inputs, 3)? {
            Some(_) => Some(shape(&inputs.ints(3)?)?),
            None => None,
        };
        run(cx, &spec, inputs.tensor(0)?, roi, scales, sizes)
    })
}

fn floats(cx: &Cx, t: &Tensor) -> Result<Vec<f64>> {
    Ok(cast_float(cx, t, Float64)?.slice::<f64>()?.to_vec())
}

/// One resized axis.
struct Axis {
    axis: usize,
    input: usize,
    output: usize,
    scale: f64,
    roi: (f64, f64),
}

fn run(
    cx: &Cx,
    spec: &Spec,
    x: &Tensor,
    roi: Option<Vec<f64>>,
    scales: Option<Vec<f64>>,
    sizes: Option<Vec<usize>>,
) -> Result<Tensor> {
    let list: Vec<usize> = match &spec.axes {
        Some(l) => {
            distinct(l, x.rank())?;
            l.iter().map(|&a| axis(a, x.rank())).collect::<Result<_>>()?
        }
        None => (0..x.rank()).collect(),
    };
    let n = list.len();
    let fits = |len: usize, what: &str| match len == n {
        true => Ok(()),
        false => Err(err!(ShapeMismatch, "{len} {what} do not fit {n} axes of shape {:?}", x.dims())),
    };
    let crop = |i: usize| match (&roi, spec.coordinates) {
        (Some(r), Coordinates::CropAndResize) if r.len() == 2 * n => (r[i], r[n + i]),
        _ => (0.0, 1.0),
    };
    let input = |i: usize| x.dims()[list[i]];
    let mut all = Vec::with_capacity(n);
    if let Some(sizes) = sizes {
        fits(sizes.len(), "sizes")?;
        let ratios = (0..n).map(|i| sizes[i] as f64 / input(i) as f64);
        let common = match spec.keep_aspect {
            None => None,
            Some(true) => Some(ratios.fold(f64::INFINITY, f64::min)),
            Some(false) => Some(ratios.fold(0.0, f64::max)),
        };
        for i in 0..n {
            let (output, scale) = match common {
                Some(s) => ((s * input(i) as f64).round() as usize, s),
                None => (sizes[i], sizes[i] as f64 / input(i) as f64),
            };
            all.push(Axis { axis: list[i], input: input(i), output, scale, roi: crop(i) });
        }
    } else {
        let scales = scales.ok_or_else(|| err!(InvalidModel, "neither sizes nor scales are given"))?;
        fits(scales.len(), "scales")?;
        for (i, &scale) in scales.iter().enumerate() {
            let roi = crop(i);
            let output = (input(i) as f64 * (roi.1 - roi.0) * scale).floor();
            if !(scale > 0.0 && (0.0..1e15).contains(&output)) {
                bail!(ShapeMismatch, "scale {scale} is not possible for a dimension of {}", input(i));
            }
            all.push(Axis { axis: list[i], input: input(i), output: output as usize, scale, roi });
        }
    }
    let mut dims = x.dims().to_vec();
    all.iter().for_each(|a| dims[a.axis] = a.output);
    crate::backend::cpu::tensor::count(&dims)?;
    if dims.contains(&0) || x.is_empty() {
        return Tensor::new(cx.pool, x.dtype(), dims);
    }
    // The lists of places and weights that each output element of an axis has, and of the weights of what it covers.
    let listed = all.iter().fold(0usize, |n, a| n.saturating_add(a.output).saturating_add(a.input));
    let _held = cx.pool.charge(listed.saturating_mul(LISTED))?;
    let changed = |a: &Axis| a.output != x.dims()[a.axis] || a.scale != 1.0 || a.roi != (0.0, 1.0);
    let resized: Vec<&Axis> = all.iter().filter(|a| changed(a)).collect();
    match spec.mode {
        Mode::Nearest => nearest(cx, spec, x, &resized),
        _ => interpolated(cx, spec, x, &resized, dims),
    }
}

/// Bytes of an element's entry in the lists of its axis.
const LISTED: usize = 96;

/// The input coordinate of output `i`.
fn coordinate(spec: &Spec, a: &Axis, i: usize) -> f64 {
    let (i, size) = (i as f64, a.input as f64);
    // The length that the scale alone gives, before it is rounded down to whole elements.
    let out = a.scale * size;
    match spec.coordinates {
        Coordinates::HalfPixel => (i + 0.5) / a.scale - 0.5,
        Coordinates::HalfPixelSymmetric => {
            let adjustment = a.output as f64 / out;
            let offset = size / 2.0 * (1.0 - adjustment);
            offset + (i + 0.5) / a.scale - 0.5
        }
        Coordinates::PytorchHalfPixel if out == 1.0 => -0.5,
        Coordinates::PytorchHalfPixel => (i + 0.5) / a.scale - 0.5,
        Coordinates::AlignCorners if out == 1.0 => 0.0,
        Coordinates::AlignCorners => i * (size - 1.0) / (out - 1.0),
        Coordinates::Asymmetric => i / a.scale,
        Coordinates::CropAndResize if out == 1.0 => 0.5 * (a.roi.0 + a.roi.1) * (size - 1.0),
        Coordinates::CropAndResize => a.roi.0 * (size - 1.0) + i * (a.roi.1 - a.roi.0) * (size - 1.0) / (out - 1.0),
    }
}

fn is_outside(spec: &Spec, a: &Axis, i: usize) -> bool {
    let last = (a.input - 1) as f64;
    spec.coordinates == Coordinates::CropAndResize && !(0.0..=last).contains(&coordinate(spec, a, i))
}

fn nearest(cx: &Cx, spec: &Spec, x: &Tensor, axes: &[&Axis]) -> Result<Tensor> {
    let mut y = x.clone();
    for a in axes {
        let places: Vec<Option<usize>> = (0..a.output)
            .map(|i| {
                let c = coordinate(spec, a, i);
                let at = match spec.rounding {
                    Rounding::PreferFloor => (c - 0.5).ceil(),
                    Rounding::PreferCeil => (c + 0.5).floor(),
                    Rounding::Floor => c.floor(),
                    Rounding::Ceil => c.ceil(),
                };
                (!is_outside(spec, a, i)).then(|| at.clamp(0.0, (a.input - 1) as f64) as usize)
            })
            .collect();
        y = pick(cx, spec, &y, a.axis, &places)?;
    }
    Ok(y)
}

fn pick(cx: &Cx, spec: &Spec, x: &Tensor, at: usize, places: &[Option<usize>]) -> Result<Tensor> {
    let (_, n, inner) = around(x.dims(), at);
    let mut dims = x.dims().to_vec();
    dims[at] = places.len();
    let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
    let value = Tensor::from_slice(cx.pool, Float32, vec![], &[spec.extrapolation])?;
    let value = super::cast::cast(cx, &value, x.dtype(), true)?;
    with_elem!(x.dtype(), T => {
        let (from, outside) = (T::view(x)?, T::view(&value)?[0].clone());
        let work = y.len();
        cx.threads.pieces(T::view_mut(&mut y)?, places.len() * inner, work, |o, out| {
            let from = &from[o * n * inner..(o + 1) * n * inner];
            for (p, out) in places.iter().zip(out.chunks_exact_mut(inner)) {
                match p {
                    Some(p) => out.clone_from_slice(&from[p * inner..(p + 1) * inner]),
                    None => out.fill(outside.clone()),
                }
            }
        });
    });
    Ok(y)
}

/// The weights of one output element, from input `first` on; empty for one outside.
struct Taps {
    first: usize,
    weights: Vec<f64>,
}

fn kernel_weight(spec: &Spec, d: f64) -> f64 {
    let (d, a) = (d.abs(), spec.cubic);
    match spec.mode {
        Mode::Cubic if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
        Mode::Cubic if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
        Mode::Cubic => 0.0,
        _ => (1.0 - d).max(0.0),
    }
}

fn taps(spec: &Spec, a: &Axis, i: usize) -> Taps {
    let (n, c) = (a.input, coordinate(spec, a, i));
    if is_outside(spec, a, i) {
        return Taps { first: 0, weights: Vec::new() };
    }
    // Antialiasing stretches the kernel over all the input that an output element covers.
    let stretch = if spec.antialias && a.scale < 1.0 { 1.0 / a.scale } else { 1.0 };
    let radius = stretch * if spec.mode == Mode::Cubic { 2.0 } else { 1.0 };
    let last = (n - 1) as i64;
    let low = (c - radius).floor() as i64;
    let high = (c + radius).ceil() as i64;
    let first = low.clamp(0, last);
    let mut weights = vec![0.0; (high.clamp(0, last) - first + 1) as usize];
    let mut total = 0.0;
    for k in low..=high {
        let w = kernel_weight(spec, (k as f64 - c) / stretch);
        if w == 0.0 || (spec.exclude_outside && !(0..=last).contains(&k)) {
            continue;
        }
        weights[(k.clamp(0, last) - first) as usize] += w;
        total += w;
    }
    if (spec.exclude_outside || spec.antialias) && total != 0.0 {
        weights.iter_mut().for_each(|w| *w /= total);
    }
    Taps { first: first as usize, weights }
}

fn interpolated(cx: &Cx, spec: &Spec, x: &Tensor, axes: &[&Axis], dims: Vec<usize>) -> Result<Tensor> {
    if x.dtype() == Float64 {
        return interpolate::<f64>(cx, spec, x.clone(), axes)?.reshaped(dims);
    }
    let wide = super::cast::cast(cx, x, Float32, true)?;
    let y = interpolate::<f32>(cx, spec, wide, axes)?.reshaped(dims)?;
    super::cast::cast(cx, &y, x.dtype(), true)
}

fn interpolate<F: crate::backend::cpu::kernels::math::Float>(
    cx: &Cx,
    spec: &Spec,
    x: Tensor,
    axes: &[&Axis],
) -> Result<Tensor> {
    let mut y = x;
    for a in axes {
        let (_, n, inner) = around(y.dims(), a.axis);
        let all: Vec<(usize, Vec<F>)> = (0..a.output)
            .map(|i| taps(spec, a, i))
            .map(|t| (t.first, t.weights.into_iter().map(F::of).collect()))
            .collect();
        let mut dims = y.dims().to_vec();
        dims[a.axis] = a.output;
        let mut next = Tensor::new(cx.pool, F::DTYPE, dims)?;
        let from = y.slice::<F>()?;
        let work = next.len() * 4;
        cx.threads.pieces(next.slice_mut::<F>()?, a.output * inner, work, |o, out| {
            let from = &from[o * n * inner..(o + 1) * n * inner];
            for ((first, weights), out) in all.iter().zip(out.chunks_exact_mut(inner)) {
                if weights.is_empty() {
                    out.fill(F::of(spec.extrapolation.into()));
                    continue;
                }
                out.fill(F::ZERO);
                for (k, &w) in weights.iter().enumerate() {
                    let row = &from[(first + k) * inner..(first + k + 1) * inner];
                    // A weight of zero must not bring in an infinity.
                    if w != F::ZERO {
                        vectorize(|| out.iter_mut().zip(row).for_each(|(o, &v)| *o += w * v));
                    }
                }
            }
        });
        y = next;
    }
    restore_outside::<F>(spec, axes, y)
}

/// An element outside on one axis is the extrapolation value, whatever the other axes did to it.
fn restore_outside<F: crate::backend::cpu::kernels::math::Float>(
    spec: &Spec,
    axes: &[&Axis],
    y: Tensor,
) -> Result<Tensor> {
    if spec.coordinates != Coordinates::CropAndResize {
        return Ok(y);
    }
    let mut y = y;
    for a in axes {
        let (outer, n, inner) = around(y.dims(), a.axis);
        let outside: Vec<usize> = (0..n).filter(|&i| is_outside(spec, a, i)).collect();
        let data = y.slice_mut::<F>()?;
        for o in 0..outer {
            for &i in &outside {
                data[(o * n + i) * inner..(o * n + i + 1) * inner].fill(F::of(spec.extrapolation.into()));
            }
        }
    }
    Ok(y)
}
