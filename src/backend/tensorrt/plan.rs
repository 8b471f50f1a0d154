//! A plan loaded for a device: what executes it must be the library and the device that it was built for.

use super::super::profile::ShapeProfile;
use super::super::{EngineInfo, IoDim, IoInfo};
use super::ranges::Profile;
use super::state::known;
use super::types;
use crate::device::Device;
use crate::model::DataType;
use crate::sys::tensorrt::{Api, EngineTensor, PlanOnDevice, c_name};
use crate::{Result, err};
use bytes::Bytes;
use parking_lot::Mutex;
use std::ffi::CString;
use std::sync::Arc;

/// A plan on a device.
pub struct Plan {
    pub device: &'static Device,
    pub engine: Arc<PlanOnDevice>,
    bytes: Bytes,
    /// TensorRT 8 lets one context at a time use an optimization profile, so there each context gets an engine of its own,
    /// with weights of its own. Those that are free wait here for the next context.
    exclusive: bool,
    free: Mutex<Vec<Arc<PlanOnDevice>>>,
    pub info: EngineInfo,
    /// In the order of `info.inputs`.
    pub inputs: Vec<Tensor>,
    /// In the order of `info.outputs`.
    pub outputs: Vec<Tensor>,
    pub profiles: Vec<Profile>,
    /// Device memory of a context's activations, for the largest shapes.
    pub activation_bytes: Option<u64>,
}

/// An input or output of a plan.
pub struct Tensor {
    pub name: String,
    pub c_name: CString,
    pub dtype: DataType,
    /// True if no dimension is dynamic.
    pub is_fixed: bool,
    /// Its shape, where no dimension is dynamic.
    pub fixed_dims: Option<Vec<usize>>,
    /// True if it is read or written on the host.
    pub on_host: bool,
}

impl Plan {
    /// Loads a plan. The library and the device were checked.
    /// `built` are the ranges that the plan was built for, if they are known: TensorRT does not tell those of values.
    pub fn load(
        api: &'static Api,
        device: &'static Device,
        info: &EngineInfo,
        built: &[ShapeProfile],
        bytes: &Bytes,
    ) -> Result<Plan> {
        let engine = Arc::new(PlanOnDevice::load(api, device, bytes)?);
        let found = engine.tensors()?;
        let side = |ios: &[IoInfo], is_input| -> Result<Vec<Tensor>> {
            ios.iter().map(|io| Tensor::of(io, is_input, &found)).collect()
        };
        let (inputs, outputs) = (side(&info.inputs, true)?, side(&info.outputs, false)?);
        let profiles = (0..engine.profiles()?)
            .map(|i| Profile::read(&engine, &inputs, i, built.get(i)))
            .collect::<Result<Vec<_>>>()?;
        let exclusive = api.shares_no_profiles() && inputs.iter().any(|i| !i.is_fixed || i.on_host);
        let activation_bytes = engine.memory_bytes().ok().map(|b| b as u64);
        let free = Mutex::new(vec![engine.clone()]);
        Ok(Plan {
            device,
            engine,
            bytes: bytes.clone(),
            exclusive,
            free,
            info: info.clone(),
            inputs,
            outputs,
            profiles,
            activation_bytes,
        })
    }

    /// An engine for one more context.
    pub fn lease(self: &Arc<Self>) -> Result<Lease> {
        if !self.exclusive {
            return Ok(Lease { plan: self.clone(), engine: self.engine.clone() });
        }
        let free = self.free.lock().pop();
        let engine = match free {
            Some(engine) => engine,
            None => Arc::new(PlanOnDevice::load(self.engine.api(), self.device, &self.bytes)?),
        };
        Ok(Lease { plan: self.clone(), engine })
    }
}

/// An engine that a context uses.
pub struct Lease {
    plan: Arc<Plan>,
    pub engine: Arc<PlanOnDevice>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.plan.exclusive {
            self.plan.free.lock().push(self.engine.clone());
        }
    }
}

impl Tensor {
    fn of(io: &IoInfo, is_input: bool, found: &[EngineTensor]) -> Result<Tensor> {
        let tensor = found.iter().find(|t| t.is_input == is_input && t.name == io.name).ok_or_else(|| {
            let what = if is_input { "input" } else { "output" };
            err!(InvalidFile, "the plan has no {what} '{}', which the engine file describes: build it again", io.name)
        })?;
        let dtype = types::data_type(&tensor.dtype).filter(|t| Some(*t) == io.data_type()).ok_or_else(|| {
            err!(InvalidFile, "the plan has '{}' as {}, the engine file says {}", io.name, tensor.dtype, io.text)
        })?;
        if !agrees(io, &tensor.shape) {
            return Err(err!(
                Unsupported,
                "TensorRT has '{}' with the shape {:?}, and the model says {}: its names or shapes are not to be trusted, so the \
                 engine is refused",
                io.name,
                tensor.shape,
                io.text
            ));
        }
        let is_fixed = tensor.shape.iter().all(|d| *d >= 0);
        Ok(Tensor {
            name: io.name.clone(),
            c_name: c_name(&io.name)?,
            dtype,
            is_fixed,
            fixed_dims: known(Some(tensor.shape.clone())),
            on_host: tensor.on_host,
        })
    }
}

/// True unless the plan's shape contradicts what the model declares: another rank, or another size where both are fixed.
fn agrees(io: &IoInfo, shape: &[i64]) -> bool {
    let Some(declared) = &io.shape else { return true };
    let same = |(declared, found): (&IoDim, &i64)| match declared {
        IoDim::Size(size) => *found < 0 || size == found,
        IoDim::Symbol(_) | IoDim::Any => true,
    };
    declared.len() == shape.len() && declared.iter().zip(shape).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::IoKind;

    #[test]
    fn a_shape_that_contradicts_the_model_is_noticed() {
        let io = |shape| IoInfo { name: "x".into(), kind: IoKind::Tensor, text: String::new(), dtype: None, shape };
        let declared = || Some(vec![IoDim::Symbol("batch".into()), IoDim::Size(3), IoDim::Any]);
        for (shape, right) in
            [(vec![2, 3, 4], true), (vec![-1, -1, -1], true), (vec![2, 4, 4], false), (vec![2, 3], false)]
        {
            assert_eq!(agrees(&io(declared()), &shape), right, "{shape:?}");
        }
        assert!(agrees(&io(None), &[1, 2]));
    }
}
