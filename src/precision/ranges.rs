//! What values a model's tensors take, as runs on samples have shown.

use crate::Result;
use crate::backend::{TensorValue, Value};
use crate::model::DataType;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The values of one tensor over all samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Smallest finite value; infinite if there is none.
    pub min: f64,
    /// Largest finite value; minus infinity if there is none.
    pub max: f64,
    /// Smallest magnitude of a finite value other than zero; infinite if there is none.
    pub min_magnitude: f64,
    /// Elements that are NaN.
    pub nan: u64,
    /// Elements that are infinite.
    pub infinite: u64,
    /// Elements seen.
    pub elements: u64,
}

/// Ranges by the name of the tensor. Tensors of one name in several subgraphs share a range, which then holds for each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ranges {
    /// The ranges.
    pub tensors: BTreeMap<String, Range>,
    /// How many samples were run.
    pub samples: u64,
}

impl Default for Range {
    fn default() -> Self {
        Range {
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            min_magnitude: f64::INFINITY,
            nan: 0,
            infinite: 0,
            elements: 0,
        }
    }
}

impl Range {
    /// Largest magnitude of a finite value; 0 if there is none.
    pub fn max_abs(&self) -> f64 {
        if self.min > self.max { 0.0 } else { self.min.abs().max(self.max.abs()) }
    }

    /// Adds values.
    pub fn add(&mut self, values: impl Iterator<Item = f64>) {
        for v in values {
            self.elements += 1;
            if v.is_finite() {
                self.min = self.min.min(v);
                self.max = self.max.max(v);
                let magnitude = v.abs();
                if magnitude > 0.0 && magnitude < self.min_magnitude {
                    self.min_magnitude = magnitude;
                }
            } else if v.is_nan() {
                self.nan += 1;
            } else {
                self.infinite += 1;
            }
        }
    }
}

impl Ranges {
    /// The range of a tensor, if it was seen.
    pub fn get(&self, name: &str) -> Option<&Range> {
        self.tensors.get(name)
    }

    /// The tensor with the largest magnitude, and that.
    pub fn largest(&self) -> Option<(&str, f64)> {
        self.tensors.iter().map(|(n, r)| (n.as_str(), r.max_abs())).max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Adds the values of a tensor, or of the tensors in a sequence; other values have no range.
    pub fn add(&mut self, name: &str, value: &Value) -> Result<()> {
        match value {
            Value::Tensor(t) if t.dtype().is_float() => self.add_tensor(name, t),
            Value::Sequence(values) => values.iter().try_for_each(|v| self.add(name, v)),
            Value::Optional(Some(v)) => self.add(name, v),
            _ => Ok(()),
        }
    }

    fn add_tensor(&mut self, name: &str, t: &TensorValue) -> Result<()> {
        let range = match self.tensors.get_mut(name) {
            Some(range) => range,
            None => self.tensors.entry(name.to_string()).or_default(),
        };
        t.with_bytes(|bytes| match t.dtype() {
            DataType::Float32 => range.add(elements(bytes, |b| f32::from_le_bytes(b).into())),
            DataType::Float16 => range.add(elements(bytes, |b| f16::from_le_bytes(b).into())),
            DataType::Bfloat16 => range.add(elements(bytes, |b| bf16::from_le_bytes(b).into())),
            DataType::Float64 => range.add(elements(bytes, f64::from_le_bytes)),
            // Smaller floats are quantized weights; they are in range wherever they stand.
            _ => {}
        })
    }
}

fn elements<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> impl Iterator<Item = f64> {
    bytes.as_chunks::<N>().0.iter().map(move |b| read(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(values: &[f64]) -> Range {
        let mut r = Range::default();
        r.add(values.iter().copied());
        r
    }

    #[test]
    fn what_is_not_finite_is_counted_and_has_no_part_in_the_range() {
        let r = range(&[1.0, -3.0, 0.0, f64::INFINITY, f64::NAN, f64::NEG_INFINITY]);
        assert_eq!((r.min, r.max, r.max_abs(), r.min_magnitude), (-3.0, 1.0, 3.0, 1.0));
        assert_eq!((r.nan, r.infinite, r.elements), (1, 2, 6));
        assert_eq!(range(&[f64::NAN]).max_abs(), 0.0);
    }
}
