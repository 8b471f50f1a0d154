//! The optimization profiles of a loaded plan: which shapes each input may have.

use super::super::TensorValue;
use super::plan::{Plan, Tensor};
use crate::Result;
use crate::sys::tensorrt::{PlanOnDevice, Selector};

/// Shapes between min and max of every input.
pub(super) struct Profile {
    /// Per input of the engine, min and max; `None` where the profile says nothing.
    pub ranges: Vec<Option<(Vec<i64>, Vec<i64>)>>,
}

/// An input that a profile does not fit.
pub(super) struct Misfit {
    input: usize,
    min: Vec<i64>,
    max: Vec<i64>,
}

impl Profile {
    /// The ranges that a loaded engine has for its inputs.
    pub fn read(engine: &PlanOnDevice, inputs: &[Tensor], index: usize) -> Result<Profile> {
        let range = |tensor: &Tensor| -> Result<_> {
            if tensor.is_fixed || tensor.on_host {
                return Ok(None);
            }
            let min = engine.profile_shape(&tensor.name, index, Selector::Min)?;
            let max = engine.profile_shape(&tensor.name, index, Selector::Max)?;
            Ok(min.zip(max))
        };
        Ok(Profile { ranges: inputs.iter().map(range).collect::<Result<_>>()? })
    }

    /// The first input that does not fit.
    pub fn first_misfit(&self, inputs: &[&TensorValue]) -> Option<Misfit> {
        self.ranges.iter().zip(inputs).enumerate().find_map(|(input, (range, value))| {
            let (min, max) = range.as_ref()?;
            let inside = min.len() == value.dims().len()
                && value.dims().iter().zip(min.iter().zip(max)).all(|(&d, (&lo, &hi))| (lo..=hi).contains(&(d as i64)));
            (!inside).then(|| Misfit { input, min: min.clone(), max: max.clone() })
        })
    }
}

impl Misfit {
    /// What is given, and what would fit.
    pub fn describe(&self, plan: &Plan, inputs: &[&TensorValue]) -> String {
        let name = plan.inputs.get(self.input).map_or("?", |t| t.name.as_str());
        let given = inputs.get(self.input).map_or(&[][..], |v| v.dims());
        format!("input '{name}' is {given:?}, and it takes {:?} to {:?}", self.min, self.max)
    }
}
