//! Arithmetic on the host with values that only depend on sizes: what keeps models of fixed shape free of shape nodes.

use super::sym::SymInt;
use super::value::{Num, Value};
use super::{Lowering, ScalarType};
use crate::model::{DataType, Tensor as Constant};

/// Values of more elements are left to the graph.
const MOST: usize = 1024;

/// The elements of a small constant.
pub(super) fn known_of(t: &Constant) -> Option<Vec<Num>> {
    if t.len() > 64 {
        return None;
    }
    Some(match t.dtype() {
        DataType::Bool => t.to_i64()?.into_iter().map(|v| Num::Bool(v != 0)).collect(),
        d if d.is_integer() => t.to_i64()?.into_iter().map(|v| Num::Int(SymInt::Known(v))).collect(),
        d if d.is_float() => t.to_f64()?.into_iter().map(Num::Float).collect(),
        _ => return None,
    })
}

/// A number as that type holds it.
pub(super) fn convert(n: &Num, to: ScalarType) -> Option<Num> {
    Some(match (n, to) {
        (Num::Int(_), DataType::Int64) => n.clone(),
        (Num::Int(SymInt::Known(v)), DataType::Bool) => Num::Bool(*v != 0),
        (Num::Int(SymInt::Known(v)), t) if t.is_integer() => Num::Int(SymInt::Known(fit(*v, t))),
        (Num::Int(SymInt::Known(v)), t) if t.is_float() => Num::Float(round(*v as f64, t)),
        (Num::Float(v), DataType::Bool) => Num::Bool(*v != 0.0),
        (Num::Float(v), t) if t.is_integer() => {
            if !v.is_finite() {
                return None;
            }
            Num::Int(SymInt::Known(fit(*v as i64, t)))
        }
        (Num::Float(v), t) if t.is_float() => Num::Float(round(*v, t)),
        (Num::Bool(b), DataType::Bool) => Num::Bool(*b),
        (Num::Bool(b), t) if t.is_integer() => Num::Int(SymInt::Known(i64::from(*b))),
        (Num::Bool(b), t) if t.is_float() => Num::Float(f64::from(u8::from(*b))),
        _ => return None,
    })
}

fn fit(v: i64, t: ScalarType) -> i64 {
    match t {
        DataType::Int32 => v as i32 as i64,
        DataType::Int16 => v as i16 as i64,
        DataType::Int8 => v as i8 as i64,
        DataType::Uint8 => v as u8 as i64,
        DataType::Uint16 => v as u16 as i64,
        DataType::Uint32 => v as u32 as i64,
        _ => v,
    }
}

/// A double rounded to that float type.
pub(super) fn round(v: f64, t: ScalarType) -> f64 {
    match t {
        DataType::Float32 => v as f32 as f64,
        DataType::Float16 => half::f16::from_f32(v as f32).to_f64(),
        DataType::Bfloat16 => half::bf16::from_f32(v as f32).to_f64(),
        _ => v,
    }
}

/// One number from two, by the ONNX operator's name; `None` where the host does not compute it.
fn apply(op: &str, a: &Num, b: &Num) -> Option<Num> {
    if let (Num::Int(x), Num::Int(y)) = (a, b) {
        let pair = x.known().zip(y.known());
        return Some(match op {
            "Add" => Num::Int(x.plus(y)),
            "Sub" => Num::Int(x.minus(y)),
            "Mul" => Num::Int(x.times(y)),
            "Max" => Num::Int(x.larger(y)),
            "Min" => Num::Int(x.smaller(y)),
            "FloorDiv" => Num::Int(x.floor_div(y)?),
            "Remainder" => Num::Int(x.modulo(y)?),
            "Div" => Num::Int(SymInt::Known(pair?.0.checked_div(pair?.1)?)),
            "Equal" if x == y => Num::Bool(true),
            "Equal" => Num::Bool(pair?.0 == pair?.1),
            "Greater" => Num::Bool(pair?.0 > pair?.1),
            "Less" => Num::Bool(pair?.0 < pair?.1),
            "GreaterOrEqual" => Num::Bool(pair?.0 >= pair?.1),
            "LessOrEqual" => Num::Bool(pair?.0 <= pair?.1),
            _ => return None,
        });
    }
    if let (Num::Bool(x), Num::Bool(y)) = (a, b) {
        return Some(Num::Bool(match op {
            "And" => *x && *y,
            "Or" => *x || *y,
            "Xor" => x != y,
            "Equal" => x == y,
            _ => return None,
        }));
    }
    let (x, y) = (a.as_f64()?, b.as_f64()?);
    Some(match op {
        "Add" => Num::Float(x + y),
        "Sub" => Num::Float(x - y),
        "Mul" => Num::Float(x * y),
        "Div" => Num::Float(x / y),
        "Max" => Num::Float(x.max(y)),
        "Min" => Num::Float(x.min(y)),
        "Pow" => Num::Float(x.powf(y)),
        "FloorDiv" => Num::Float((x / y).floor()),
        "Remainder" => Num::Float(x - y * (x / y).floor()),
        "Equal" => Num::Bool(x == y),
        "Greater" => Num::Bool(x > y),
        "Less" => Num::Bool(x < y),
        "GreaterOrEqual" => Num::Bool(x >= y),
        "LessOrEqual" => Num::Bool(x <= y),
        _ => return None,
    })
}

impl Lowering {
    /// The result of an elementwise operator on known operands of one type, if the host can compute it.
    pub(super) fn fold(&self, op: &str, a: &Value, b: &Value, dtype: ScalarType, shape: &[SymInt]) -> Option<Value> {
        let (x, y) = (a.known.as_ref()?, b.known.as_ref()?);
        let count = shape.iter().try_fold(1usize, |n, s| n.checked_mul(usize::try_from(s.known()?).ok()?))?;
        let same = |v: &Value, k: &Vec<Num>| k.len() == 1 || v.shape == shape;
        if count > MOST || !same(a, x) || !same(b, y) {
            return None;
        }
        let pick = |k: &Vec<Num>, i: usize| if k.len() == 1 { k.first().cloned() } else { k.get(i).cloned() };
        let mut out = Vec::with_capacity(count);
        for i in 0..count {
            out.push(convert(&apply(op, &pick(x, i)?, &pick(y, i)?)?, dtype)?);
        }
        Some(self.known(dtype, shape.to_vec(), out))
    }
}
