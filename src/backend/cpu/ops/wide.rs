//! Operators that are seldom where the time goes compute on widened copies of their inputs.

use super::cast::cast;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::lane::{is_narrow, refuse};
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

/// The same numbers in one of the types of [`with_widest!`], which hold all others.
pub fn widest(cx: &Cx, t: &Tensor) -> Result<Tensor> {
    match t.dtype() {
        half if half.is_half() => cast_float(cx, t, DataType::Float32),
        narrow if narrow == DataType::Bool || is_narrow(narrow) => cast(cx, t, DataType::Int64, true),
        _ => Ok(t.clone()),
    }
}

/// `with_widest!(dtype, T => body, else other => body)`: `T` is f32, f64, i32, i64 or u64.
macro_rules! with_widest {
    ($dtype:expr, $T:ident => $body:expr, else $other:ident => $rest:expr) => {
        match $dtype {
            $crate::model::DataType::Float32 => {
                type $T = f32;
                $body
            }
            $crate::model::DataType::Float64 => {
                type $T = f64;
                $body
            }
            number => $crate::with_wide_integer!(number, $T => $body, else $other => $rest),
        }
    };
}
pub(super) use with_widest;

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
