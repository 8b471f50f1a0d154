//! Seeded random inputs, for benchmarks and comparisons without data.

use crate::backend::{IoDim, IoInfo, TensorValue, Value};
use crate::hash::HashMap;
use crate::model::DataType;
use crate::{Result, bail, err};

/// Random values for the inputs of an engine. Floats are uniform in [-1, 1); integers are 0 or 1, which every
/// vocabulary and every mask has; bools are random.
///
/// `shapes` gives the shape of inputs by name. A named or unknown dimension without one becomes 1.
pub fn random_inputs(
    inputs: &[IoInfo],
    seed: u64,
    shapes: &HashMap<String, Vec<usize>>,
) -> Result<Vec<(String, Value)>> {
    if let Some(unknown) = shapes.keys().find(|name| inputs.iter().all(|io| io.name != **name)) {
        bail!(NotFound, "there is no input '{unknown}' to give a shape to");
    }
    let mut random = SplitMix64(seed);
    inputs.iter().map(|io| Ok((io.name.clone(), random_input(io, shapes.get(&io.name), &mut random)?))).collect()
}

fn random_input(io: &IoInfo, shape: Option<&Vec<usize>>, random: &mut SplitMix64) -> Result<Value> {
    let dtype = io.data_type().filter(|t| *t != DataType::String).ok_or_else(|| {
        err!(
            Unsupported,
            "input '{}' is {}: random values exist for numeric tensors only, give a file",
            io.name,
            io.text
        )
    })?;
    let dims = match (shape, &io.shape) {
        (Some(dims), _) => dims.clone(),
        (None, Some(declared)) => declared
            .iter()
            .map(|d| match d {
                IoDim::Size(n) => usize::try_from(*n).unwrap_or(1),
                IoDim::Symbol(_) | IoDim::Any => 1,
            })
            .collect(),
        (None, None) => bail!(ShapeMismatch, "input '{}' has no known rank: give its shape", io.name),
    };
    let count = crate::backend::byte_size(DataType::Uint8, &dims)?;
    // A shape that no machine holds is an error here, and not the end of the process in the allocations below.
    Vec::<u64>::new().try_reserve_exact(count).map_err(|_| {
        err!(
            OutOfMemory,
            "input '{}' of shape {dims:?} does not fit this machine's memory: give a smaller shape",
            io.name
        )
    })?;
    let bytes = match dtype {
        t if t.is_float() => {
            let values: Vec<f32> = (0..count).map(|_| random.unit() * 2.0 - 1.0).collect();
            let wide = TensorValue::copy_of(DataType::Float32, dims.clone(), bytemuck::cast_slice(&values))?;
            return Ok(Value::Tensor(wide.to_float(t)?));
        }
        t if t.is_integer() || t == DataType::Bool => {
            let size = t.element_size().unwrap_or(1);
            let mut bytes = vec![0u8; count * size];
            bytes.chunks_exact_mut(size).for_each(|e| e[0] = u8::from(random.unit() < 0.5));
            bytes
        }
        t => bail!(Unsupported, "input '{}' is of type {t}: give a file", io.name),
    };
    Ok(Value::Tensor(TensorValue::copy_of(dtype, dims, &bytes)?))
}

/// Reads a shape as the command line gives it: "1x3x224x224"; "" and "scalar" are a scalar.
pub fn parse_dims(text: &str) -> Result<Vec<usize>> {
    if text.is_empty() || text == "scalar" {
        return Ok(Vec::new());
    }
    text.split(['x', ','])
        .map(|part| {
            part.trim().parse().map_err(|_| {
                err!(InvalidArgument, "'{text}' is not a shape: give sizes separated by x, as in 1x3x224x224")
            })
        })
        .collect()
}

/// Vigna's SplitMix64: tiny, seeded, the same on every machine (<https://prng.di.unimi.it/splitmix64.c>).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1), with 24 random bits.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }
}
