//! A plan loaded for a device: what executes it must be the library and the device that it was built for.

use super::super::{EngineInfo, IoInfo};
use super::execute::{self, Profile};
use super::types;
use crate::device::Device;
use crate::model::DataType;
use crate::sys::tensorrt::{Api, EngineTensor, PlanOnDevice, c_name};
use crate::{Result, err};
use std::ffi::CString;
use std::sync::Arc;

/// A plan on a device.
pub struct Plan {
    pub device: &'static Device,
    pub engine: Arc<PlanOnDevice>,
    pub info: EngineInfo,
    /// In the order of `info.inputs`.
    pub inputs: Vec<Tensor>,
    /// In the order of `info.outputs`.
    pub outputs: Vec<Tensor>,
    pub profiles: Vec<Profile>,
}

/// An input or output of a plan.
pub struct Tensor {
    pub name: String,
    pub c_name: CString,
    pub dtype: DataType,
    /// True if no dimension is dynamic.
    pub is_fixed: bool,
    /// Its bytes, where no dimension is dynamic.
    pub fixed_bytes: Option<usize>,
    /// True if it is read or written on the host.
    pub on_host: bool,
}

impl Plan {
    /// Loads a plan. The library and the device were checked.
    pub fn load(api: &'static Api, device: &'static Device, info: &EngineInfo, plan: &[u8]) -> Result<Plan> {
        let engine = Arc::new(PlanOnDevice::load(api, device, plan)?);
        let found = engine.tensors()?;
        let side = |ios: &[IoInfo], is_input| -> Result<Vec<Tensor>> {
            ios.iter().map(|io| Tensor::of(io, is_input, &found)).collect()
        };
        let (inputs, outputs) = (side(&info.inputs, true)?, side(&info.outputs, false)?);
        let profiles =
            (0..engine.profiles()?).map(|i| Profile::read(&engine, &inputs, i)).collect::<Result<Vec<_>>>()?;
        Ok(Plan { device, engine, info: info.clone(), inputs, outputs, profiles })
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
        let is_fixed = tensor.shape.iter().all(|d| *d >= 0);
        Ok(Tensor {
            name: io.name.clone(),
            c_name: c_name(&io.name)?,
            dtype,
            is_fixed,
            fixed_bytes: execute::fixed_bytes(dtype, &tensor.shape),
            on_host: tensor.on_host,
        })
    }
}
