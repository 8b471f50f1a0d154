//! PyTorch's type promotion: tensors with dimensions decide, 0-d tensors and Python numbers only raise the category.

use super::args::Arg;
use super::emit::unnamed;
use super::sym::SymInt;
use super::value::{Num, Value, ValueData};
use super::{Lowering, ScalarType};
use crate::model::DataType;
use std::rc::Rc;

/// The number an argument is.
pub(super) fn number(a: &Arg) -> Option<Num> {
    Some(match a {
        Arg::Int(v) => Num::Int(v.clone()),
        Arg::Float(v) => Num::Float(*v),
        Arg::Bool(b) => Num::Bool(*b),
        _ => return None,
    })
}

pub fn category(t: ScalarType) -> u8 {
    match t {
        DataType::Bool => 0,
        t if t.is_integer() => 1,
        DataType::Complex64 | DataType::Complex128 => 3,
        _ => 2,
    }
}

/// The common type of two types.
pub fn promote(a: ScalarType, b: ScalarType) -> ScalarType {
    use DataType::*;
    if a == b {
        return a;
    }
    let (ca, cb) = (category(a), category(b));
    if ca != cb {
        return if ca > cb { a } else { b };
    }
    let bits = |t: ScalarType| t.bits();
    match (a, b) {
        (Float16, Bfloat16) | (Bfloat16, Float16) => Float32,
        // An unsigned byte meets a signed type of the same width in the next wider one.
        (Uint8, Int8) | (Int8, Uint8) => Int16,
        _ if bits(a) >= bits(b) => a,
        _ => b,
    }
}

/// The type in which PyTorch computes with those operands.
pub fn result_type(operands: &[&Value]) -> ScalarType {
    let (mut dimensioned, mut zero, mut wrapped): (Option<ScalarType>, Option<ScalarType>, Option<ScalarType>) =
        (None, None, None);
    for v in operands {
        let slot = if v.wrapped {
            &mut wrapped
        } else if v.rank() == 0 {
            &mut zero
        } else {
            &mut dimensioned
        };
        *slot = Some(slot.map_or(v.dtype, |s| promote(s, v.dtype)));
    }
    let combine = |high: Option<ScalarType>, low: Option<ScalarType>| match (high, low) {
        (Some(h), Some(l)) if category(l) > category(h) => Some(l),
        (Some(h), _) => Some(h),
        (None, l) => l,
    };
    combine(dimensioned, combine(zero, wrapped)).unwrap_or(DataType::Float32)
}

/// The type of a float function of that type: integers become the default float type.
pub fn float_type(t: ScalarType) -> ScalarType {
    if t.is_integer() || t == DataType::Bool { DataType::Float32 } else { t }
}

impl Lowering {
    /// A Python number as an operand.
    pub(super) fn wrapped(&self, n: Num) -> Value {
        let dtype = match &n {
            Num::Int(_) => DataType::Int64,
            Num::Float(_) => DataType::Float32,
            Num::Bool(_) => DataType::Bool,
        };
        Rc::new(ValueData { known: Some(vec![n]), wrapped: true, ..unnamed(dtype, Vec::<SymInt>::new()) })
    }
}
