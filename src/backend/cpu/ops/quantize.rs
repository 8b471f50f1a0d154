//! QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear: per tensor, per axis and per block.

use super::axes::{around, axis};
use super::cast::cast;
use super::cast_small::{is_small_integer, narrow, widen};
use super::{Built, Entry, NodeCx, entry, kernel, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::lane::refuse;
use crate::backend::cpu::kernels::minifloat::{Powers, Rounding, table};
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::DataType::{self, Bfloat16, Float16, Float32, Float64, Int32, Uint8};
use crate::{Result, bail, err};
use std::ops::Range;

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("QuantizeLinear", build_quantize),
    entry("DequantizeLinear", build_dequantize),
    entry("DynamicQuantizeLinear", build_dynamic),
];

/// Which scale belongs to which elements.
struct Grid {
    outer: usize,
    size: usize,
    inner: usize,
    /// Elements of the axis that share a scale, and how many scales the axis has; 0 and 1 for one scale for all.
    block: usize,
    scales: usize,
    /// True if every position around the axis has scales of its own.
    full: bool,
}

impl Grid {
    fn new(x: &Tensor, scale: &Tensor, at: i64, block: usize) -> Result<Grid> {
        let wrong = || {
            err!(
                ShapeMismatch,
                "scales of shape {:?} do not go with a tensor of shape {:?} (axis {at}, block size {block}): give one scale, \
                 one for each position of the axis, or one for each block",
                scale.dims(),
                x.dims()
            )
        };
        if scale.len() == 1 && (block == 0 || scale.rank() != x.rank()) {
            return Ok(Grid { outer: 1, size: x.len(), inner: 1, block: 0, scales: 1, full: false });
        }
        let at = axis(at, x.rank())?;
        let (outer, size, inner) = around(x.dims(), at);
        if block == 0 {
            if scale.dims() != [size] {
                return Err(wrong());
            }
            return Ok(Grid { outer, size, inner, block: 1, scales: size, full: false });
        }
        let mut dims = x.dims().to_vec();
        dims[at] = size.div_ceil(block);
        if scale.dims() != dims {
            return Err(wrong());
        }
        Ok(Grid { outer, size, inner, block, scales: dims[at], full: true })
    }

    /// Calls `f(elements, first scale, step of scales)` for runs that cover all elements in order.
    fn runs(&self, mut f: impl FnMut(Range<usize>, usize, usize)) {
        if self.block == 0 {
            return f(0..self.size, 0, 0);
        }
        let width = if self.full { self.inner } else { 1 };
        for o in 0..self.outer {
            for p in 0..self.size {
                let from = (o * self.size + p) * self.inner;
                let row = if self.full { o * self.scales } else { 0 };
                f(from..from + self.inner, (row + p / self.block) * width, usize::from(self.full));
            }
        }
    }
}

fn check_zero_point(scale: &Tensor, zero: Option<&Tensor>) -> Result<()> {
    match zero {
        Some(z) if z.len() != scale.len() => {
            bail!(
                ShapeMismatch,
                "zero points of shape {:?} do not go with scales of shape {:?}",
                z.dims(),
                scale.dims()
            )
        }
        _ => Ok(()),
    }
}

fn block_size(cx: &NodeCx) -> Result<usize> {
    let b = cx.int("block_size", 0)?;
    usize::try_from(b).map_err(|_| err!(InvalidModel, "its attribute 'block_size' is {b}, but must not be negative"))
}

/// A type attribute for which 0 means that it is left out.
fn optional_type(cx: &NodeCx, name: &str) -> Result<Option<DataType>> {
    if cx.int(name, 0)? == 0 { Ok(None) } else { cx.dtype(name) }
}

/// The ends of an integer type's range; `None` for other types.
fn ends(dtype: DataType) -> Option<(f64, f64)> {
    if !(dtype.is_integer() || is_small_integer(dtype)) || dtype.bits() > 32 {
        return None;
    }
    let steps = f64::from(dtype.bits() as u32).exp2();
    let signed = matches!(dtype, DataType::Int2 | DataType::Int4 | DataType::Int8 | DataType::Int16 | Int32);
    Some(if signed { (-steps / 2.0, steps / 2.0 - 1.0) } else { (0.0, steps - 1.0) })
}

/// FP64 values in a quantized type: integers rounded to nearest even and held within the type's range.
pub fn store(cx: &Cx, mut values: Tensor, to: DataType, saturate: bool) -> Result<Tensor> {
    if let Some((low, high)) = ends(to) {
        if !values.is_unique() {
            values = Tensor::from_slice(cx.pool, Float64, values.dims().to_vec(), values.slice::<f64>()?)?;
        }
        values.slice_mut::<f64>()?.iter_mut().for_each(|v| *v = v.round_ties_even().clamp(low, high));
        return cast(cx, &values, to, true);
    }
    match table(to) {
        Some(_) => narrow(cx, &values, to, Rounding { saturate, powers: Powers::Up }),
        None => Err(refuse("Quantization", to)),
    }
}

fn build_quantize(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 3)?;
    let (at, block, saturate) = (cx.int("axis", 1)?, block_size(cx)?, cx.flag("saturate", true)?);
    let output = optional_type(cx, "output_dtype")?;
    // The quotient is computed in FP32 even where the scale is a half, as all operators compute, unless the node says
    // otherwise.
    let precision: fn(f32) -> f32 = match optional_type(cx, "precision")? {
        None | Some(Float32) => |v| v,
        Some(Float16) => |v| half::f16::from_f32(v).to_f32(),
        Some(Bfloat16) => |v| half::bf16::from_f32(v).to_f32(),
        Some(other) => bail!(Unsupported, "QuantizeLinear with the precision {other}"),
    };
    tensor_kernel(move |cx, inputs| {
        let (x, scale, zero) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.opt(2)?);
        let to = zero.map(Tensor::dtype).or(output).unwrap_or(Uint8);
        if output.is_some_and(|o| o != to) {
            bail!(TypeMismatch, "its zero point is of type {to}, but its attribute 'output_dtype' says otherwise");
        }
        check_zero_point(scale, zero)?;
        let grid = Grid::new(x, scale, at, block)?;
        let integer = ends(to).is_some();
        let zero = zero.map(|z| cast(cx, z, Float64, true)).transpose()?;
        let zero = zero.as_ref().map(|z| z.slice::<f64>()).transpose()?;
        let mut y = Tensor::new(cx.pool, Float64, x.dims().to_vec())?;
        let out = y.slice_mut::<f64>()?;
        // An int32 may have more digits than FP32.
        if x.dtype() == Int32 || scale.dtype() == Int32 {
            let (x, scale) = (cast(cx, x, Float64, true)?, cast(cx, scale, Float64, true)?);
            divide(&grid, x.slice::<f64>()?, scale.slice::<f64>()?, out, |x, s| x / s);
        } else {
            let (x, scale) = (cast(cx, x, Float32, true)?, cast(cx, scale, Float32, true)?);
            divide(&grid, x.slice::<f32>()?, scale.slice::<f32>()?, out, |x, s| {
                precision(precision(x) / precision(s)).into()
            });
        }
        if let Some(zero) = zero {
            grid.runs(|range, first, step| {
                for (i, v) in out[range].iter_mut().enumerate() {
                    // The zero point is added to what has been rounded.
                    *v = if integer { v.round_ties_even() } else { *v } + zero[first + i * step];
                }
            });
        }
        store(cx, y, to, saturate)
    })
}

fn divide<F: Copy>(grid: &Grid, x: &[F], scale: &[F], out: &mut [f64], f: impl Fn(F, F) -> f64) {
    grid.runs(|range, first, step| {
        for (i, (o, &x)) in out[range.clone()].iter_mut().zip(&x[range]).enumerate() {
            *o = f(x, scale[first + i * step]);
        }
    });
}

fn build_dequantize(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 3)?;
    let (at, block) = (cx.int("axis", 1)?, block_size(cx)?);
    let output = optional_type(cx, "output_dtype")?;
    tensor_kernel(move |cx, inputs| {
        let (x, scale, zero) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.opt(2)?);
        if zero.is_some_and(|z| z.dtype() != x.dtype()) {
            bail!(TypeMismatch, "its input {x:?} and its zero point {zero:?} must be of one type");
        }
        check_zero_point(scale, zero)?;
        let grid = Grid::new(x, scale, at, block)?;
        let to = output.unwrap_or(scale.dtype());
        let scale = cast(cx, scale, Float32, true)?;
        let scale = scale.slice::<f32>()?;
        let mut y = Tensor::new(cx.pool, Float32, x.dims().to_vec())?;
        let out = y.slice_mut::<f32>()?;
        // Differences of integers are exact before they become floats.
        let wide = if table(x.dtype()).is_some() { Float32 } else { Int32 };
        let plain = |t: &Tensor| -> Result<Tensor> {
            match widen(cx, t)? {
                Some(t) => cast(cx, &t, wide, true),
                None => cast(cx, t, wide, true),
            }
        };
        let (x, zero) = (plain(x)?, zero.map(plain).transpose()?);
        if wide == Float32 {
            let zero = zero.as_ref().map(|z| z.slice::<f32>()).transpose()?;
            multiply(&grid, x.slice::<f32>()?, zero, scale, out, |x, z| x - z);
        } else {
            let zero = zero.as_ref().map(|z| z.slice::<i32>()).transpose()?;
            multiply(&grid, x.slice::<i32>()?, zero, scale, out, |x, z| (i64::from(x) - i64::from(z)) as f32);
        }
        cast(cx, &y, to, true)
    })
}

fn multiply<V: Copy + Default>(
    grid: &Grid,
    x: &[V],
    zero: Option<&[V]>,
    scale: &[f32],
    out: &mut [f32],
    difference: impl Fn(V, V) -> f32,
) {
    grid.runs(|range, first, step| {
        for (i, (o, &x)) in out[range.clone()].iter_mut().zip(&x[range]).enumerate() {
            let z = zero.map_or(V::default(), |z| z[first + i * step]);
            *o = difference(x, z) * scale[first + i * step];
        }
    });
}

fn build_dynamic(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    kernel(|cx, inputs| {
        let x = inputs.tensor(0)?;
        if x.dtype() != Float32 {
            bail!(TypeMismatch, "its input is {x:?}, but must be fp32");
        }
        let values = x.slice::<f32>()?;
        // The range always has 0 in it.
        let (low, high) = values.iter().fold((0f32, 0f32), |(l, h), &v| (l.min(v), h.max(v)));
        let scale = if high == low { 1.0 } else { (high - low) / 255.0 };
        let zero = (-low / scale).clamp(0.0, 255.0).round_ties_even();
        let mut y = Tensor::new(cx.pool, Uint8, x.dims().to_vec())?;
        y.slice_mut::<u8>()?
            .iter_mut()
            .zip(values)
            .for_each(|(o, &v)| *o = ((v / scale).round_ties_even() + zero).clamp(0.0, 255.0) as u8);
        Ok(vec![
            Val::Tensor(y),
            Val::Tensor(Tensor::from_slice(cx.pool, Float32, vec![], &[scale])?),
            Val::Tensor(Tensor::from_slice(cx.pool, Uint8, vec![], &[zero as u8])?),
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::memory::Pool;

    /// The scale of each element.
    fn scales(dims: &[usize], scale: &[usize], at: i64, block: usize) -> Result<Vec<usize>> {
        let pool = Pool::new(usize::MAX);
        let tensor = |dims: &[usize]| Tensor::new(&pool, Uint8, dims.to_vec()).unwrap();
        let mut all = Vec::new();
        Grid::new(&tensor(dims), &tensor(scale), at, block)?.runs(|range, first, step| {
            assert_eq!(range.start, all.len(), "runs are in order");
            all.extend(range.enumerate().map(|(i, _)| first + i * step));
        });
        Ok(all)
    }

    #[test]
    fn every_element_has_its_scale() {
        assert_eq!(scales(&[2, 2], &[], 1, 0).unwrap(), [0; 4]);
        assert_eq!(scales(&[2, 2], &[1], 7, 0).unwrap(), [0; 4]);
        assert_eq!(scales(&[2, 2, 2], &[2], 1, 0).unwrap(), [0, 0, 1, 1, 0, 0, 1, 1]);
        assert_eq!(scales(&[2, 3], &[3], -1, 0).unwrap(), [0, 1, 2, 0, 1, 2]);
        assert_eq!(scales(&[2, 3], &[2, 2], 1, 2).unwrap(), [0, 0, 1, 2, 2, 3]);
        assert_eq!(scales(&[3, 2], &[2, 2], 0, 2).unwrap(), [0, 1, 0, 1, 2, 3]);
        assert_eq!(scales(&[3], &[2], 0, 2).unwrap(), [0, 0, 1]);
        for (scale, at, block) in [(&[2usize][..], 1, 0), (&[3, 1], 1, 0), (&[2, 3], 1, 2), (&[3], 1, 2), (&[3], 2, 0)]
        {
            assert!(scales(&[2, 3], scale, at, block).is_err(), "{scale:?} {at} {block}");
        }
    }

    #[test]
    fn ranges_of_integer_types() {
        assert_eq!(ends(DataType::Int4), Some((-8.0, 7.0)));
        assert_eq!(ends(DataType::Uint2), Some((0.0, 3.0)));
        assert_eq!(ends(DataType::Uint16), Some((0.0, 65535.0)));
        assert_eq!(ends(DataType::Float8E5M2), None);
    }
}
