//! Casts from and to types of a byte and less that are no plain integers: small floats and integers of four and two bits.

use super::cast::cast;
use super::wide::with_wide;
use super::{Built, NodeCx, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::lane::refuse;
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::minifloat::{Powers, Rounding, table};
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType::{self, Float32, Float64, Int2, Int4, Int8, Int32, Uint2, Uint4, Uint8};
use crate::{Result, bail, err};

/// True for the types of this file.
pub fn is_small(dtype: DataType) -> bool {
    is_small_integer(dtype) || table(dtype).is_some()
}

/// An integer of fewer than eight bits.
pub fn is_small_integer(dtype: DataType) -> bool {
    matches!(dtype, Int4 | Int2 | Uint4 | Uint2)
}

/// The rounding that a node's attributes ask for.
pub fn rounding(cx: &NodeCx) -> Result<Rounding> {
    let powers = match cx.string("round_mode", "up")?.as_str() {
        "up" => Powers::Up,
        "down" => Powers::Down,
        "nearest" => Powers::Nearest,
        other => bail!(InvalidModel, "its attribute 'round_mode' is '{other}', but must be up, down or nearest"),
    };
    Ok(Rounding { saturate: cx.flag("saturate", true)?, powers })
}

/// The tensor in the plain type that holds all its values; `None` for types that are plain already.
pub fn widen(cx: &Cx, x: &Tensor) -> Result<Option<Tensor>> {
    if is_small_integer(x.dtype()) {
        let plain = if matches!(x.dtype(), Int4 | Int2) { Int8 } else { Uint8 };
        return x.clone().retyped(plain).map(Some);
    }
    let Some(table) = table(x.dtype()) else { return Ok(None) };
    let mut y = Tensor::new(cx.pool, Float32, x.dims().to_vec())?;
    y.slice_mut::<f32>()?.iter_mut().zip(x.bytes()).for_each(|(o, &code)| *o = table.decode(code));
    Ok(Some(y))
}

/// A tensor of a plain type in one of the small types.
pub fn narrow(cx: &Cx, x: &Tensor, to: DataType, rounding: Rounding) -> Result<Tensor> {
    if is_small_integer(to) {
        let wide = cast(cx, x, Int32, true)?;
        let mut y = Tensor::new(cx.pool, to, x.dims().to_vec())?;
        y.bytes_mut()?.iter_mut().zip(wide.slice::<i32>()?).for_each(|(o, &v)| *o = wrapped(to, v as u8));
        return Ok(y);
    }
    let table = table(to).ok_or_else(|| refuse("Cast to", to))?;
    // Integers and texts have values that FP32 would round before the format does.
    let wide = match x.dtype() {
        t if t == Float64 || !t.is_float() => cast(cx, x, Float64, true)?,
        _ => cast_float(cx, x, Float32)?,
    };
    let mut y = Tensor::new(cx.pool, to, x.dims().to_vec())?;
    with_wide!(wide.dtype(), F => {
        let values = wide.slice::<F>()?.iter();
        y.bytes_mut()?.iter_mut().zip(values).for_each(|(o, v)| *o = table.encode(v.wide(), rounding));
    });
    Ok(y)
}

/// The low bits of a byte as a tensor holds them: a signed type's sign fills the byte.
pub fn wrapped(dtype: DataType, v: u8) -> u8 {
    let free = 8 - dtype.bits().clamp(1, 8);
    match dtype {
        Int4 | Int2 => ((v << free) as i8 >> free) as u8,
        _ => v << free >> free,
    }
}

/// BitCast: the same bits under another type of as many.
pub fn build_bit_cast(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let to = cx.dtype("to")?.ok_or_else(|| err!(InvalidModel, "its attribute 'to' is missing"))?;
    tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let from = x.dtype();
        if from.bits() != to.bits() || to.bits() == 0 {
            bail!(TypeMismatch, "the bits of {from} cannot be seen as {to}: both must have as many bits");
        }
        if to.bits() >= 8 {
            return x.retyped(to);
        }
        // A signed type's sign fills its byte, so bytes change where one side is signed.
        let mut y = Tensor::new(cx.pool, to, x.dims().to_vec())?;
        y.bytes_mut()?.iter_mut().zip(x.bytes()).for_each(|(o, &v)| *o = wrapped(to, v));
        Ok(y)
    })
}
