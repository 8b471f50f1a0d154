//! The optimization profiles of a loaded plan: which shapes each input may have.

use super::super::TensorValue;
use super::super::profile::ShapeProfile;
use super::plan::{Plan, Tensor};
use crate::Result;
use crate::model::DataType;
use crate::sys::tensorrt::{PlanOnDevice, Selector};

/// Shapes between min and max of every input, or values where an input is a shape itself.
pub(super) struct Profile {
    /// Per input of the engine, min and max; `None` where the profile says nothing.
    pub ranges: Vec<Option<(Vec<i64>, Vec<i64>)>>,
}

/// An input that a profile does not fit.
pub(super) struct Misfit {
    input: usize,
    given: Vec<i64>,
    min: Vec<i64>,
    max: Vec<i64>,
}

impl Profile {
    /// The ranges that a loaded engine has for its inputs.
    pub fn read(
        engine: &PlanOnDevice,
        inputs: &[Tensor],
        index: usize,
        built: Option<&ShapeProfile>,
    ) -> Result<Profile> {
        let range = |tensor: &Tensor| -> Result<_> {
            if tensor.on_host {
                let values = built.and_then(|p| p.get(&tensor.name)).filter(|range| range.values);
                return Ok(values.map(|range| (range.min.clone(), range.max.clone())));
            }
            if tensor.is_fixed {
                return Ok(None);
            }
            let min = engine.profile_shape(&tensor.name, index, Selector::Min)?;
            let max = engine.profile_shape(&tensor.name, index, Selector::Max)?;
            Ok(min.zip(max))
        };
        Ok(Profile { ranges: inputs.iter().map(range).collect::<Result<_>>()? })
    }

    /// The first input that does not fit.
    pub fn first_misfit(&self, tensors: &[Tensor], inputs: &[&TensorValue]) -> Option<Misfit> {
        self.ranges.iter().zip(inputs).enumerate().find_map(|(input, (range, value))| {
            let (min, max) = range.as_ref()?;
            let given = match tensors.get(input) {
                Some(tensor) if tensor.on_host => values_of(value)?,
                _ => value.dims().iter().map(|&d| d as i64).collect(),
            };
            let inside = min.len() == given.len()
                && given.iter().zip(min.iter().zip(max)).all(|(d, (lo, hi))| (lo..=hi).contains(&d));
            (!inside).then(|| Misfit { input, given, min: min.clone(), max: max.clone() })
        })
    }
}

/// The numbers of an input that is a shape; `None` where they cannot be read now (TensorRT then judges them).
fn values_of(value: &TensorValue) -> Option<Vec<i64>> {
    let bytes = value.to_bytes().ok()?;
    match value.dtype() {
        DataType::Int32 => Some(bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect()),
        DataType::Int64 => Some(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        _ => None,
    }
}

impl Misfit {
    /// What is given, and what would fit.
    pub fn describe(&self, plan: &Plan) -> String {
        let name = plan.inputs.get(self.input).map_or("?", |t| t.name.as_str());
        format!("input '{name}' is {:?}, and it takes {:?} to {:?}", self.given, self.min, self.max)
    }
}
