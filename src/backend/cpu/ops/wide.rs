//! Operators that are seldom where the time goes compute on widened copies of their inputs.

use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::lane::refuse;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType;
use crate::{Result, bail};

/// The type that an operator computes in for elements of type `dtype`.
pub fn computing(dtype: DataType, what: &str) -> Result<DataType> {
    match dtype {
        DataType::Float64 => Ok(DataType::Float64),
        DataType::Float32 | DataType::Float16 | DataType::Bfloat16 => Ok(DataType::Float32),
        other => Err(refuse(what, other)),
    }
}

/// A tensor in the computing type; an error unless it is of the operator's element type.
pub fn same_widened(cx: &Cx, t: &Tensor, dtype: DataType, wide: DataType) -> Result<Tensor> {
    if t.dtype() != dtype {
        bail!(TypeMismatch, "an input is of type {}, but the first is of type {dtype}", t.dtype());
    }
    cast_float(cx, t, wide)
}

/// `with_wide!(dtype, F => body)`: `F` is f64 if the computing type is FP64, else f32.
macro_rules! with_wide {
    ($dtype:expr, $F:ident => $body:expr) => {
        if $dtype == $crate::model::DataType::Float64 {
            type $F = f64;
            $body
        } else {
            type $F = f32;
            $body
        }
    };
}
pub(super) use with_wide;
