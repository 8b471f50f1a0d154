//! Elements of a float type that is known at run time alone, so that what works on them is compiled once.

use super::lane::Lane;
use crate::Result;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType;
use half::{bf16, f16};

/// Elements that compute in FP32.
#[derive(Clone, Copy)]
pub enum Floats<'a> {
    /// FP32.
    Single(&'a [f32]),
    /// FP16.
    Half(&'a [f16]),
    /// BF16.
    Brain(&'a [bf16]),
}

impl<'a> Floats<'a> {
    /// A tensor's elements, if they are of such a type.
    pub fn of(t: &'a Tensor) -> Result<Option<Floats<'a>>> {
        Ok(Some(match t.dtype() {
            DataType::Float32 => Floats::Single(t.slice()?),
            DataType::Float16 => Floats::Half(t.slice()?),
            DataType::Bfloat16 => Floats::Brain(t.slice()?),
            _ => return Ok(None),
        }))
    }

    /// The elements from the given one on, widened; behind the last one comes the first again.
    pub fn widen(&self, at: usize, to: &mut [f32]) {
        match self {
            Floats::Single(all) => repeated(all, at, to),
            Floats::Half(all) => repeated(all, at, to),
            Floats::Brain(all) => repeated(all, at, to),
        }
    }
}

fn repeated<T: Lane<C = f32>>(all: &[T], mut at: usize, mut to: &mut [f32]) {
    while !to.is_empty() && !all.is_empty() {
        let from = &all[at % all.len()..];
        let n = from.len().min(to.len());
        let (now, later) = to.split_at_mut(n);
        T::widen(&from[..n], now);
        (at, to) = (at + n, later);
    }
}

/// Rounds values to a float type, in place.
pub fn round(to: DataType, values: &mut [f32]) {
    match to {
        DataType::Float16 => f16::round(values),
        DataType::Bfloat16 => bf16::round(values),
        _ => {}
    }
}
