//! Operators on signals: Fourier transforms, windows and the mel filter bank. All compute in FP64 and round once.

use super::axes::{around, axis, shape};
use super::cast::cast;
use super::{Built, Entry, Inputs, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::fft::{Complex, Fft};
use crate::backend::cpu::memory::Charge;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType::{Float32, Float64};
use crate::{Result, bail, err};
use std::f64::consts::{PI, TAU};

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("DFT", build_dft),
    entry("STFT", build_stft),
    entry("HannWindow", build_window),
    entry("HammingWindow", build_window),
    entry("BlackmanWindow", build_window),
    entry("MelWeightMatrix", build_mel),
];

/// Longer transforms are refused, so that no work memory is asked for that no machine has.
const MAX_LENGTH: i64 = 1 << 24;

/// Bytes that a transform needs for each element: the line, and for lengths with large factors tables of up to four times
/// as many complex numbers.
const FFT_BYTES: usize = 16 * 12;

/// A scalar input that may be left out.
fn scalar(inputs: &Inputs, i: usize) -> Result<Option<i64>> {
    match inputs.opt_ints(i)?.as_deref() {
        None => Ok(None),
        Some(&[v]) => Ok(Some(v)),
        Some(list) => Err(err!(ShapeMismatch, "its input {i} has {} values, but must be a scalar", list.len())),
    }
}

fn length(v: i64) -> Result<usize> {
    if !(1..=MAX_LENGTH).contains(&v) {
        bail!(ShapeMismatch, "a transform of length {v} is asked for: 1 to {MAX_LENGTH} are possible");
    }
    Ok(v as usize)
}

/// One float input as FP64.
fn number(cx: &Cx, inputs: &Inputs, i: usize) -> Result<f64> {
    let t = cast(cx, inputs.tensor(i)?, Float64, true)?;
    match t.slice::<f64>()? {
        &[v] => Ok(v),
        other => Err(err!(ShapeMismatch, "its input {i} has {} values, but must be a scalar", other.len())),
    }
}

/// How many parts the numbers in the last dimension have: 1 for real, 2 for complex ones.
fn parts(x: &Tensor) -> Result<usize> {
    match x.dims().last() {
        Some(&p @ (1 | 2)) if x.rank() >= 2 => Ok(p),
        _ => Err(err!(
            ShapeMismatch,
            "the last dimension of {x:?} must hold real numbers (size 1) or complex ones (size 2)"
        )),
    }
}

fn build_dft(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 3)?;
    let attribute = cx.opt_int("axis")?.or(if cx.opset < 20 { Some(1) } else { None });
    let (inverse, onesided) = (cx.flag("inverse", false)?, cx.flag("onesided", false)?);
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let at = match attribute {
            Some(a) => a,
            None => scalar(inputs, 2)?.unwrap_or(-2),
        };
        let at = axis(at, x.rank())?;
        if at + 1 == x.rank() {
            bail!(ShapeMismatch, "its axis is the last one, which holds the parts of complex numbers");
        }
        let n = match scalar(inputs, 1)? {
            Some(n) => n,
            None if inverse && onesided => 2 * (x.dims()[at] as i64 - 1),
            None => x.dims()[at] as i64,
        };
        dft(cx, x, at, length(n)?, inverse, onesided)
    })
}

/// The transform of that length, and the share of the memory limit that it and its work memory take.
fn transform(cx: &Cx, n: usize) -> Result<(Fft, Charge)> {
    let charge = cx.pool.charge(n.saturating_mul(FFT_BYTES)).map_err(|e| e.context(format_args!("length {n}")))?;
    Ok((Fft::new(n), charge))
}

fn dft(cx: &Cx, x: &Tensor, at: usize, n: usize, inverse: bool, onesided: bool) -> Result<Tensor> {
    let parts = parts(x)?;
    if onesided && !inverse && parts == 2 {
        bail!(ShapeMismatch, "a one-sided transform takes real numbers, but its input {x:?} holds complex ones");
    }
    let (outer, size, inner) = around(&x.dims()[..x.rank() - 1], at);
    let bins = if onesided { n / 2 + 1 } else { n };
    let (read, written, out_parts) = match (inverse, onesided) {
        (true, true) => (bins.min(size), n, 1),
        (_, _) => (n.min(size), bins, 2),
    };
    let mut dims = x.dims().to_vec();
    dims[at] = written;
    dims[x.rank() - 1] = out_parts;
    let mut y = Tensor::new(cx.pool, Float64, dims)?;
    let block = written * inner * out_parts;
    if y.is_empty() {
        return cast(cx, &y, x.dtype(), true);
    }
    let wide = cast(cx, x, Float64, true)?;
    let data = wide.slice::<f64>()?;
    let (fft, _held) = transform(cx, n)?;
    let work = outer.saturating_mul(inner).saturating_mul(n).saturating_mul(32);
    cx.threads.pieces(y.slice_mut::<f64>()?, block, work, |o, out| {
        let mut line = vec![[0f64; 2]; n];
        for i in 0..inner {
            line.fill([0.0; 2]);
            for (k, v) in line.iter_mut().enumerate().take(read) {
                let from = ((o * size + k) * inner + i) * parts;
                *v = [data[from], if parts == 2 { data[from + 1] } else { 0.0 }];
            }
            match (inverse, onesided) {
                (false, _) => fft.forward(&mut line),
                (true, false) => fft.inverse(&mut line),
                (true, true) => {
                    mirror(&mut line);
                    fft.inverse(&mut line);
                }
            }
            for (k, v) in line.iter().enumerate().take(written) {
                let to = (k * inner + i) * out_parts;
                out[to..to + out_parts].copy_from_slice(&v[..out_parts]);
            }
        }
    });
    cast(cx, &y, x.dtype(), true)
}

/// Fills in the second half of the spectrum of a real signal; what cannot be there in one is dropped.
fn mirror(line: &mut [Complex]) {
    let n = line.len();
    line[0][1] = 0.0;
    if n.is_multiple_of(2) {
        line[n / 2][1] = 0.0;
    }
    for k in 1..n.div_ceil(2) {
        line[n - k] = [line[k][0], -line[k][1]];
    }
}

fn build_stft(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 4)?;
    let onesided = cx.flag("onesided", true)?;
    tensor_kernel(move |cx, inputs| {
        let (x, window) = (inputs.tensor(0)?, inputs.opt(2)?);
        let &[batch, size, _] = x.dims() else {
            bail!(ShapeMismatch, "a signal of shape {:?} is not [batch, length, 1 or 2]", x.dims());
        };
        let parts = parts(x)?;
        if onesided && parts == 2 {
            bail!(ShapeMismatch, "one-sided spectra are of real signals, but {x:?} is complex: set 'onesided' to 0");
        }
        let n = match (scalar(inputs, 3)?, window) {
            (Some(n), _) => length(n)?,
            (None, Some(w)) => length(w.len() as i64)?,
            (None, None) => length(size as i64)?,
        };
        let step = scalar(inputs, 1)?.and_then(|s| usize::try_from(s).ok()).filter(|s| *s > 0);
        let step = step.ok_or_else(|| err!(ShapeMismatch, "its frame_step must be a positive number"))?;
        if window.is_some_and(|w| w.dims() != [n]) || size < n {
            bail!(ShapeMismatch, "frames of {n} do not go with the signal {x:?} and the window {window:?}");
        }
        let window = window.map(|w| cast(cx, w, Float64, true)).transpose()?;
        let window = window.as_ref().map(|w| w.slice::<f64>()).transpose()?;
        let (frames, bins) = ((size - n) / step + 1, if onesided { n / 2 + 1 } else { n });
        let mut y = Tensor::new(cx.pool, Float64, vec![batch, frames, bins, 2])?;
        let wide = cast(cx, x, Float64, true)?;
        let data = wide.slice::<f64>()?;
        let (fft, _held) = transform(cx, n)?;
        let work = (batch * frames).saturating_mul(n).saturating_mul(32);
        cx.threads.pieces(y.slice_mut::<f64>()?, bins * 2, work, |i, out| {
            let from = (i / frames * size + i % frames * step) * parts;
            let frame = data[from..from + n * parts].chunks_exact(parts);
            let mut line: Vec<Complex> = frame.map(|v| [v[0], if parts == 2 { v[1] } else { 0.0 }]).collect();
            if let Some(w) = window {
                line.iter_mut().zip(w).for_each(|(v, &w)| *v = [v[0] * w, v[1] * w]);
            }
            fft.forward(&mut line);
            out.chunks_exact_mut(2).zip(&line).for_each(|(o, v)| o.copy_from_slice(v));
        });
        cast(cx, &y, x.dtype(), true)
    })
}

fn build_window(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let to = cx.dtype("output_datatype")?.unwrap_or(Float32);
    let periodic = cx.flag("periodic", true)?;
    let f: fn(f64) -> f64 = match &*cx.node.op_type {
        "HannWindow" => |t| (PI * t).sin().powi(2),
        "HammingWindow" => |t| 25.0 / 46.0 - 21.0 / 46.0 * (TAU * t).cos(),
        _ => |t| 0.42 - 0.5 * (TAU * t).cos() + 0.08 * (2.0 * TAU * t).cos(),
    };
    tensor_kernel(move |cx, inputs| {
        let size = scalar(inputs, 0)?.ok_or_else(|| err!(InvalidModel, "its size is missing"))?;
        let dims = shape(&[size])?;
        let last = if periodic { size } else { size - 1 };
        let mut y = Tensor::new(cx.pool, Float64, dims)?;
        y.slice_mut::<f64>()?.iter_mut().enumerate().for_each(|(i, v)| {
            // A symmetric window of one value is that value's peak.
            *v = if last == 0 { 1.0 } else { f(i as f64 / last as f64) };
        });
        cast(cx, &y, to, true)
    })
}

fn build_mel(cx: &NodeCx) -> Built {
    cx.check_inputs(5, 5)?;
    let to = cx.dtype("output_datatype")?.unwrap_or(Float32);
    tensor_kernel(move |cx, inputs| {
        let [bands, n, rate] = [0, 1, 2].map(|i| scalar(inputs, i).map(Option::unwrap_or_default));
        let (bands, n, rate) = (bands?, n?, rate?);
        if rate <= 0 || n < 0 || n == i64::MAX {
            bail!(ShapeMismatch, "a transform of length {n} and a sample rate of {rate} make no filter bank");
        }
        let dims = shape(&[n / 2 + 1, bands])?;
        let (rows, columns) = (dims[0], dims[1]);
        let mut y = Tensor::new(cx.pool, Float64, dims)?;
        let out = y.slice_mut::<f64>()?;
        out.fill(0.0);
        let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
        let (low, high) = (mel(number(cx, inputs, 3)?), mel(number(cx, inputs, 4)?));
        let step = (high - low) / (bands as f64 + 2.0);
        // The bin of the i-th edge.
        let edge = |i: usize| {
            let hertz = 700.0 * (10f64.powf((low + step * i as f64) / 2595.0) - 1.0);
            ((n as f64 + 1.0) * hertz / rate as f64).floor().clamp(0.0, rows as f64) as usize
        };
        for band in 0..columns {
            let (left, centre, right) = (edge(band), edge(band + 1), edge(band + 2));
            let mut put = |bin: usize, v: f64| {
                if let Some(o) = out.get_mut(bin * columns + band) {
                    *o = v;
                }
            };
            if left == centre {
                put(centre, 1.0);
            }
            for bin in left..=centre {
                if left != centre {
                    put(bin, (bin - left) as f64 / (centre - left) as f64);
                }
            }
            for bin in centre..right {
                put(bin, (right - bin) as f64 / (right - centre) as f64);
            }
        }
        cast(cx, &y, to, true)
    })
}
