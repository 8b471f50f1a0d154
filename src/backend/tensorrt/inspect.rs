//! What a loaded plan tells of its layers. Where shapes are dynamic TensorRT 8 has types only for the shapes of a context, so one
//! is opened for the question, without memory for activations, and given the shapes that the engine was optimised for.
#![allow(unsafe_code)] // the values of shape inputs are handed over by address, and kept

use super::super::profile::ShapeProfile;
use crate::device::{Device, Stream};
use crate::sys::tensorrt::{Api, EngineTensor, PlanOnDevice, Selector, c_name};
use crate::{Result, err};
use serde_json::Value;
use std::sync::Arc;

/// The engine's layers, with their types where it tells them. `built` are the ranges that the plan was built for, as far as
/// they are known. No other context may use the engine's first profile meanwhile.
pub fn layers(engine: &Arc<PlanOnDevice>, built: &[ShapeProfile]) -> Result<Value> {
    let inputs: Vec<EngineTensor> = engine.tensors()?.into_iter().filter(|t| t.is_input).collect();
    let text = if inputs.iter().all(|t| is_fixed(t) && !t.on_host) {
        engine.inspect(None)
    } else {
        // Without a context it still tells the layers.
        with_shapes(engine, &inputs, built).or_else(|_| engine.inspect(None))
    }?;
    Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// The same for a plan that is not loaded; `None` if the device cannot load it: the error comes when it is to execute.
pub fn layers_of_plan(
    api: &'static Api,
    device: &'static Device,
    plan: &[u8],
    built: &[ShapeProfile],
) -> Option<Value> {
    let engine = Arc::new(PlanOnDevice::load(api, device, plan).ok()?);
    layers(&engine, built).ok()
}

fn is_fixed(tensor: &EngineTensor) -> bool {
    tensor.shape.iter().all(|d| *d >= 0)
}

fn with_shapes(engine: &Arc<PlanOnDevice>, inputs: &[EngineTensor], built: &[ShapeProfile]) -> Result<String> {
    let _entered = engine.device().enter()?;
    let stream = Stream::new(engine.device(), 0)?;
    // Goes after the context, which holds its addresses.
    let mut values: Vec<Vec<u64>> = Vec::new();
    let mut context = engine.open(false)?;
    context.set_profile(0, &stream)?;
    stream.synchronize()?;
    for input in inputs {
        let name = c_name(&input.name)?;
        if input.on_host {
            let range = built.first().and_then(|p| p.get(&input.name)).filter(|range| range.values);
            let range = range.ok_or_else(|| err!(NotFound, "the values of '{}' are not known", input.name))?;
            values.push(words(&range.opt, &input.dtype));
            let address = values.last().map_or(0, |words| words.as_ptr().expose_provenance() as u64);
            // SAFETY: the values are as many as the profile was built with, of the input's type, and stay until the context is gone.
            unsafe { context.set_address(&name, address)? };
        } else if !is_fixed(input) {
            let shape = engine.profile_shape(&input.name, 0, Selector::Opt)?;
            let shape = shape.ok_or_else(|| err!(NotFound, "the profile has no shape of '{}'", input.name))?;
            context.set_input_shape(&name, &shape)?;
        }
    }
    context.infer_shapes()?;
    engine.inspect(Some(&context))
}

/// Numbers as TensorRT reads them on the host, in memory aligned for both types.
fn words(numbers: &[i64], dtype: &str) -> Vec<u64> {
    if dtype == "INT64" {
        return numbers.iter().map(|n| n.cast_unsigned()).collect();
    }
    let mut words = vec![0u64; numbers.len().div_ceil(2)];
    for (half, n) in bytemuck::cast_slice_mut::<u64, i32>(&mut words).iter_mut().zip(numbers) {
        *half = i32::try_from(*n).unwrap_or(i32::MAX);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn numbers_have_the_width_of_their_type() {
        assert_eq!(words(&[1, -1, 7], "INT64"), [1, u64::MAX, 7]);
        assert_eq!(bytemuck::cast_slice::<u64, i32>(&words(&[1, -1, 7], "INT32")), [1, -1, 7, 0]);
    }
}
