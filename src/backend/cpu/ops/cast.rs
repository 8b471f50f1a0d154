//! Conversions between element types.

use super::cast_small::{self, is_small};
use super::wide::{widest, with_widest};
use super::{Built, Entry, Inputs, Kernel, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::{cast_float, map};
use crate::backend::cpu::kernels::lane::{Lane, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::minifloat::Rounding;
use crate::backend::cpu::tensor::{Tensor, Text, element_bytes};
use crate::backend::cpu::value::Val;
use crate::model::DataType::{self, Bool};
use crate::{Result, bail, err, with_float, with_integer};

/// The operators of this family.
pub const TABLE: &[Entry] =
    &[entry("Cast", build_cast), entry("CastLike", build_cast_like), entry("BitCast", cast_small::build_bit_cast)];

fn build_cast(cx: &NodeCx) -> Built {
    let to = cx.dtype("to")?.ok_or_else(|| err!(InvalidModel, "its attribute 'to' is missing"))?;
    let rounding = cast_small::rounding(cx)?;
    if let Some(Some(from)) = cx.input_types.first() {
        supported(*from)?;
    }
    supported(to)?;
    let kernel = tensor_kernel(move |cx, inputs| cast_rounded(cx, inputs.tensor(0)?, to, rounding))?;
    Ok(match to {
        DataType::Float32 | DataType::Float16 | DataType::Bfloat16 => Box::new(FloatCast(to, kernel)),
        _ => kernel,
    })
}

/// A cast that other steps may take over.
struct FloatCast(DataType, Box<dyn Kernel>);

impl Kernel for FloatCast {
    fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
        self.1.run(cx, inputs)
    }

    fn float_cast(&self) -> Option<DataType> {
        Some(self.0)
    }
}

fn build_cast_like(cx: &NodeCx) -> Built {
    let rounding = cast_small::rounding(cx)?;
    tensor_kernel(move |cx, inputs| cast_rounded(cx, inputs.tensor(0)?, inputs.tensor(1)?.dtype(), rounding))
}

fn supported(t: DataType) -> Result<()> {
    match t {
        t if t.is_float() || t.is_integer() || is_small(t) || matches!(t, Bool | DataType::String) => Ok(()),
        other => bail!(Unsupported, "Cast from or to {other}"),
    }
}

/// The tensor in another element type. Floats become integers by truncation, and what does not fit becomes the nearest
/// value that does (NaN becomes 0); integers wrap.
pub fn cast(cx: &Cx, x: &Tensor, to: DataType, saturate: bool) -> Result<Tensor> {
    cast_rounded(cx, x, to, Rounding { saturate, ..Rounding::PLAIN })
}

/// The same, with the rounding to small floats.
fn cast_rounded(cx: &Cx, x: &Tensor, to: DataType, rounding: Rounding) -> Result<Tensor> {
    let from = x.dtype();
    if from == to {
        return Ok(x.clone());
    }
    supported(from)?;
    supported(to)?;
    if let Some(wide) = cast_small::widen(cx, x)? {
        return cast_rounded(cx, &wide, to, rounding);
    }
    if is_small(to) {
        return cast_small::narrow(cx, x, to, rounding);
    }
    match (from, to) {
        (f, t) if f.is_float() && t.is_float() => cast_float(cx, x, to),
        (DataType::String, _) => from_strings(cx, x, to),
        (_, DataType::String) => to_strings(cx, x),
        (DataType::Uint64, t) if t.is_float() => with_float!(t, R => {
            map::<u64, R>(cx, x, to, |v, o| each(v, o, |v| from_integer(v.into(), R::DTYPE)))
        }, else other => Err(refuse("Cast to", other))),
        // All other pairs meet in one of two wide types, so that each type is read and written by one loop only.
        (f, _) if f.is_float() => {
            let load: fn(&[u8], &mut [f64]) = with_float!(f, T => {
                |from, out| each(bytemuck::cast_slice::<u8, T>(from), out, |v| v.get().wide())
            }, else other => return Err(refuse("Cast", other)));
            let store: fn(&[f64], &mut [u8]) = match to {
                Bool => |from, out| each(from, out, |v| (v != 0.0).into()),
                _ => with_integer!(to, R => |from, out| each(from, bytemuck::cast_slice_mut::<u8, R>(out), |v| v as R),
                    else other => return Err(refuse("Cast to", other))),
            };
            through(cx, x, to, load, store)
        }
        (f, t) => {
            let load: fn(&[u8], &mut [i64]) = match f {
                Bool => |from, out| each(from, out, |v| (v != 0).into()),
                _ => with_integer!(f, T => |from, out| each(bytemuck::cast_slice::<u8, T>(from), out, |v| v as i64),
                    else other => return Err(refuse("Cast", other))),
            };
            let store: fn(&[i64], &mut [u8]) = match t {
                Bool => |from, out| each(from, out, |v| (v != 0).into()),
                t if t.is_float() => with_float!(t, R => |from, out| {
                    each(from, bytemuck::cast_slice_mut::<u8, R>(out), |v| R::put(from_integer(v.into(), R::DTYPE)));
                }, else other => return Err(refuse("Cast to", other))),
                _ => with_integer!(t, R => |from, out| each(from, bytemuck::cast_slice_mut::<u8, R>(out), |v| v as R),
                    else other => return Err(refuse("Cast to", other))),
            };
            through(cx, x, to, load, store)
        }
    }
}

fn each<A: Copy, B>(from: &[A], out: &mut [B], f: impl Fn(A) -> B) {
    out.iter_mut().zip(from).for_each(|(o, &v)| *o = f(v));
}

/// Chunk by chunk through a wide type.
fn through<W: Default + Copy>(
    cx: &Cx,
    x: &Tensor,
    to: DataType,
    load: fn(&[u8], &mut [W]),
    store: fn(&[W], &mut [u8]),
) -> Result<Tensor> {
    const CHUNK: usize = 1024;
    let mut y = Tensor::new(cx.pool, to, x.dims().to_vec())?;
    let (read, written) = (element_bytes(x.dtype()), element_bytes(to));
    let mut wide = [W::default(); CHUNK];
    for (from, out) in x.bytes().chunks(CHUNK * read).zip(y.bytes_mut()?.chunks_mut(CHUNK * written)) {
        let wide = &mut wide[..from.len() / read];
        load(from, wide);
        store(wide, out);
    }
    Ok(y)
}

/// Rounded once: an integer on its way to a half must not be rounded to FP32 at a tie of the half first, so the bits
/// that FP32 cannot hold are joined into one that keeps the side of the tie.
fn from_integer<F: Float>(v: i128, target: DataType) -> F {
    let magnitude = v.unsigned_abs();
    if !target.is_half() || magnitude < 1 << 24 {
        return match F::DTYPE {
            // `as` rounds to nearest even from the integer itself.
            DataType::Float32 => F::of(f64::from(v as f32)),
            _ => F::of(v as f64),
        };
    }
    let shift = (128 - magnitude.leading_zeros()).saturating_sub(24);
    let sticky = u128::from(magnitude & ((1 << shift) - 1) != 0);
    let kept = ((magnitude >> shift) | sticky) << shift;
    F::of(if v < 0 { -(kept as f64) } else { kept as f64 })
}

fn from_strings(cx: &Cx, x: &Tensor, to: DataType) -> Result<Tensor> {
    let texts = x
        .strings()?
        .iter()
        .map(|b| std::str::from_utf8(b).map(str::trim).map_err(|_| err!(Execution, "a string is not UTF-8")))
        .collect::<Result<Vec<_>>>()?;
    let bad = |s: &str| err!(Execution, "the string '{s}' is not a number of type {to}");
    if to.is_float() {
        let values = texts.iter().map(|s| parse_float(s).ok_or_else(|| bad(s))).collect::<Result<Vec<f64>>>()?;
        let wide = Tensor::from_slice(cx.pool, DataType::Float64, x.dims().to_vec(), &values)?;
        return cast_float(cx, &wide, to);
    }
    let values = texts
        .iter()
        .map(|s| s.parse::<i64>().ok().or_else(|| Some(parse_float(s)? as i64)).ok_or_else(|| bad(s)))
        .collect::<Result<Vec<i64>>>()?;
    let wide = Tensor::from_slice(cx.pool, DataType::Int64, x.dims().to_vec(), &values)?;
    cast(cx, &wide, to, true)
}

/// Numbers as ONNX writes them: "INF", "+inf" and "nan" in any case are taken too.
fn parse_float(s: &str) -> Option<f64> {
    s.parse().ok()
}

/// A string of a number, about: its handle and its digits.
const TEXT_BYTES: usize = size_of::<Text>() + 32;

fn to_strings(cx: &Cx, x: &Tensor) -> Result<Tensor> {
    let charge = cx.pool.charge(x.len().saturating_mul(TEXT_BYTES))?;
    let texts: Vec<Text> = if x.dtype() == Bool {
        x.slice::<u8>()?.iter().map(|&v| Text::from_static(if v != 0 { b"True" } else { b"False" })).collect()
    } else {
        let x = widest(cx, x)?;
        with_widest!(x.dtype(), T => {
            x.slice::<T>()?.iter().map(|v| Text::from(plain(&v.to_string()))).collect()
        }, else other => return Err(refuse("Cast to string", other)))
    };
    Tensor::from_charged(x.dims().to_vec(), texts, charge)
}

/// As Python writes it where Rust differs.
fn plain(s: &str) -> String {
    match s {
        "inf" => "INF".into(),
        "-inf" => "-INF".into(),
        other => other.to_string(),
    }
}
