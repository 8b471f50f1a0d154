//! Elementwise operators of one tensor that are no plain float functions: negation, tests, limits.

use super::wide::{computing, with_wide};
use super::{Built, Entry, NodeCx, entry, staged, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::{cast_float, in_place, map};
use crate::backend::cpu::kernels::lane::{Lane, is_narrow, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::program::Stage;
use crate::backend::cpu::kernels::registers::Op;
use crate::backend::cpu::kernels::simd::vectorize;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType::{Bool, Float64, Int64};
use crate::{Result, bail, err, with_float, with_integer, with_wide_integer};

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("Not", not),
    entry("BitwiseNot", bitwise_not),
    entry("IsNaN", is_nan),
    entry("IsInf", is_inf),
    entry("Clip", clip),
    entry("Shrink", shrink),
];

fn not(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    tensor_kernel(|cx, inputs| {
        let x = inputs.take(0)?;
        if x.dtype() != Bool {
            bail!(TypeMismatch, "its input is of type {}, but must be bool", x.dtype());
        }
        in_place::<u8>(cx, x, 1, &|v| v.iter_mut().for_each(|v| *v = (*v == 0).into()))
    })
}

fn bitwise_not(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    tensor_kernel(|cx, inputs| {
        let x = inputs.take(0)?;
        with_integer!(x.dtype(), T => in_place::<T>(cx, x, 1, &|v| v.iter_mut().for_each(|v| *v = !*v)),
            else other => Err(refuse("BitwiseNot", other)))
    })
}

fn is_nan(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    tensor_kernel(|cx, inputs| {
        let x = inputs.tensor(0)?;
        let wide = computing(x.dtype(), "IsNaN")?;
        let x = cast_float(cx, x, wide)?;
        with_wide!(wide, F => map::<F, u8>(cx, &x, Bool, |from, out| {
            out.iter_mut().zip(from).for_each(|(o, v)| *o = v.is_nan().into());
        }))
    })
}

fn is_inf(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let (negative, positive) = (cx.flag("detect_negative", true)?, cx.flag("detect_positive", true)?);
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let wide = computing(x.dtype(), "IsInf")?;
        let x = cast_float(cx, x, wide)?;
        with_wide!(wide, F => {
            // 1 for +inf, 2 for -inf, then only those that are asked for.
            let kinds = map::<F, u8>(cx, &x, Bool, |from, out| {
                let kind = |v: F| if !v.is_infinite() { 0 } else if v > 0.0 { 1 } else { 2 };
                out.iter_mut().zip(from).for_each(|(o, &v)| *o = kind(v));
            })?;
            let wanted = [false, positive, negative];
            in_place::<u8>(cx, kinds, 1, &|v| v.iter_mut().for_each(|v| *v = wanted[usize::from(*v)].into()))
        })
    })
}

fn clip(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 3)?;
    let limits = match cx.opset {
        ..11 => Some((cx.float("min", f32::MIN)?, cx.float("max", f32::MAX)?)),
        _ => None,
    };
    let stage = clip_stage(cx, limits);
    let kernel = tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let dtype = x.dtype();
        if let Some((low, high)) = limits {
            return with_float!(dtype, T => {
                limit::<T>(cx, x, Some(<T as Lane>::C::from(low)), Some(<T as Lane>::C::from(high)))
            }, else other => Err(refuse("Clip", other)));
        }
        let (low, high) = (inputs.opt(1)?, inputs.opt(2)?);
        if let Some(wrong) = [low, high].into_iter().flatten().find(|t| t.dtype() != dtype || t.len() != 1) {
            bail!(TypeMismatch, "its limit {wrong:?} must be a single value of type {dtype}");
        }
        if is_narrow(dtype) {
            let wide = |t: &Tensor| super::cast::cast(cx, t, Int64, true);
            let (low, high) = (low.map(wide).transpose()?, high.map(wide).transpose()?);
            let y = limit::<i64>(cx, wide(&x)?, one::<i64>(low.as_ref())?, one::<i64>(high.as_ref())?)?;
            return super::cast::cast(cx, &y, dtype, true);
        }
        with_float!(dtype, T => limit::<T>(cx, x, one::<T>(low)?, one::<T>(high)?),
            else integer => with_wide_integer!(integer, T => limit::<T>(cx, x, one::<T>(low)?, one::<T>(high)?),
                else other => Err(refuse("Clip", other))))
    });
    staged(stage, kernel)
}

/// A limit, if there is one.
fn one<T: Lane>(t: Option<&Tensor>) -> Result<Option<T::C>> {
    t.map(|t| Ok(t.slice::<T>()?[0].get())).transpose()
}

/// The stage of a clip whose limits are known.
fn clip_stage(cx: &NodeCx, limits: Option<(f32, f32)>) -> Option<Stage> {
    let constant = |i: usize| -> Option<Option<f32>> {
        if !cx.has_input(i) {
            return Some(None);
        }
        let t = cx.constant(i).filter(|t| t.len() == 1 && cx.input_types.first() == Some(&Some(t.dtype())))?;
        with_float!(t.dtype(), T => Some(Some(t.slice::<T>().ok()?[0].get().wide() as f32)), else _other => None)
    };
    let (low, high) = match limits {
        Some((low, high)) => (Some(low), Some(high)),
        None => (constant(1)?, constant(2)?),
    };
    let op = Op::Clip(low.unwrap_or(f32::NEG_INFINITY), high.unwrap_or(f32::INFINITY));
    Some(Stage::Unary(Box::new(move |values| limit_values(values, low, high)), Some(op)))
}

/// Below `low` becomes `low`, then above `high` becomes `high`; NaN stays.
fn limit<T: Lane<C: PartialOrd>>(cx: &Cx, x: Tensor, low: Option<T::C>, high: Option<T::C>) -> Result<Tensor> {
    in_place::<T>(cx, x, 1, &|values: &mut [T::C]| limit_values(values, low, high))
}

fn limit_values<C: Copy + PartialOrd>(values: &mut [C], low: Option<C>, high: Option<C>) {
    vectorize(|| {
        if let Some(low) = low {
            values.iter_mut().for_each(|v| *v = if *v < low { low } else { *v });
        }
        if let Some(high) = high {
            values.iter_mut().for_each(|v| *v = if *v > high { high } else { *v });
        }
    })
}

fn shrink(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let (bias, lambda) = (f64::from(cx.float("bias", 0.0)?), f64::from(cx.float("lambd", 0.5)?));
    tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let dtype = x.dtype();
        let f = move |v: f64| {
            if v < -lambda {
                v + bias
            } else if v > lambda {
                v - bias
            } else {
                0.0
            }
        };
        let wide = super::cast::cast(cx, &x, Float64, true).map_err(|e| err!(Unsupported, "Shrink: {e}"))?;
        let y = in_place::<f64>(cx, wide, 1, &|v| v.iter_mut().for_each(|v| *v = f(*v)))?;
        super::cast::cast(cx, &y, dtype, true)
    })
}
