//! What half would do to a constant: one streaming pass over its FP32 elements.

use crate::Result;
use crate::model::{DataType, Storage, Tensor, tensor::max_finite};

/// Counts over the elements of a constant, for one target type.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Stats {
    pub elements: u64,
    /// Largest magnitude of a finite element.
    pub max_abs: f64,
    /// Finite elements that would round to an infinity.
    pub overflows: u64,
    /// An example of those: the one of largest magnitude, with its sign.
    pub worst: f64,
    /// Elements other than zero that would round to zero.
    pub flushed: u64,
    /// An example of those.
    pub smallest: f64,
    /// Elements that would lose bits because they become subnormal.
    pub subnormal: u64,
}

/// The magnitudes between which a target type is at its best.
struct Limits {
    /// From here on a finite value rounds to infinity.
    overflow: f32,
    /// Up to here a value rounds to zero (a tie goes to zero, which is even).
    zero: f32,
    /// Below this a value is subnormal.
    normal: f32,
}

impl Limits {
    fn of(target: DataType) -> Limits {
        match target {
            // 65520 is the middle between 65504 and the next value a wider exponent would give; 2^-25 is half the
            // smallest subnormal; 2^-14 is the smallest normal (IEEE 754-2019, binary16).
            DataType::Float16 => Limits { overflow: 65520.0, zero: 2f32.powi(-25), normal: 2f32.powi(-14) },
            // bfloat16 has float32's exponents: only the last half step below infinity rounds up.
            _ => Limits {
                overflow: f32::from_bits(0x7f7f_8000),
                zero: f32::from_bits(0x0000_8000),
                normal: f32::MIN_POSITIVE,
            },
        }
    }
}

/// Looks at every element of an FP32 tensor. Tensors of other types have nothing to tell.
pub(super) fn stats(tensor: &Tensor, target: DataType) -> Result<Stats> {
    let mut total = Stats::default();
    if tensor.dtype() != DataType::Float32 || !matches!(tensor.source().0, Storage::Bytes(_)) {
        return Ok(total);
    }
    let limits = Limits::of(target);
    tensor.for_each_chunk(|chunk| {
        // Blocks small enough for 32-bit counters, whose loop the compiler turns into vector code.
        for block in chunk.as_chunks::<4>().0.chunks(4096) {
            add_block(block, &limits, &mut total);
        }
        Ok(())
    })?;
    Ok(total)
}

fn add_block(block: &[[u8; 4]], limits: &Limits, total: &mut Stats) {
    let (mut max, mut over, mut zero, mut low) = (0f32, 0u32, 0u32, 0u32);
    for bytes in block {
        let magnitude = f32::from_le_bytes(*bytes).abs();
        let finite = magnitude < f32::INFINITY;
        max = if finite { magnitude.max(max) } else { max };
        over += u32::from(finite & (magnitude >= limits.overflow));
        zero += u32::from((magnitude > 0.0) & (magnitude <= limits.zero));
        low += u32::from((magnitude > limits.zero) & (magnitude < limits.normal));
    }
    total.elements += block.len() as u64;
    total.overflows += u64::from(over);
    total.flushed += u64::from(zero);
    total.subnormal += u64::from(low);
    let find = |wanted: &dyn Fn(f32) -> bool| block.iter().map(|b| f32::from_le_bytes(*b)).find(|v| wanted(*v));
    if f64::from(max) > total.max_abs {
        total.max_abs = f64::from(max);
        if over > 0
            && let Some(v) = find(&|v| v.abs() == max)
        {
            total.worst = v.into();
        }
    }
    if zero > 0
        && total.smallest == 0.0
        && let Some(v) = find(&|v| v != 0.0 && v.abs() <= limits.zero)
    {
        total.smallest = v.into();
    }
}

/// The tensor with its finite elements limited to `limit` in magnitude, still FP32.
pub(super) fn limited(tensor: &Tensor, limit: f32) -> Result<Tensor> {
    let bytes = tensor.bytes()?;
    let clamped: Vec<f32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|c| f32::from_le_bytes(*c))
        .map(|v| if v.is_finite() { v.clamp(-limit, limit) } else { v })
        .collect();
    Tensor::new(DataType::Float32, tensor.dims().to_vec(), Storage::from_vec(clamped))
}

/// True if a number has a finite counterpart in `target`.
pub(super) fn fits(value: f64, target: DataType) -> bool {
    !value.is_finite() || value.abs() < f64::from(Limits::of(target).overflow).max(max_finite(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_at_the_limits() {
        let values = vec![
            0.0f32,
            -0.0,
            1.0,
            65519.996,
            65520.0,
            -1e9,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            2f32.powi(-25),
            2f32.powi(-25).next_up(),
            2f32.powi(-14),
            2f32.powi(-14).next_down(),
            1e-12,
        ];
        let n = values.len() as i64;
        let s = stats(&Tensor::from_vec(DataType::Float32, vec![n], values), DataType::Float16).unwrap();
        assert_eq!((s.elements, s.overflows, s.flushed, s.subnormal), (14, 2, 2, 2));
        assert_eq!((s.max_abs, s.worst), (1e9, -1e9));
        assert_eq!(s.smallest, f64::from(2f32.powi(-25)));
    }

    #[test]
    fn counts_agree_with_the_conversion() {
        for target in [DataType::Float16, DataType::Bfloat16] {
            let values: Vec<f32> = (0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b1))).collect();
            let wide = Tensor::from_vec(DataType::Float32, vec![200_000], values.clone());
            let half = wide.converted(target, crate::model::OutOfRange::Infinity).unwrap().to_f64().unwrap();
            let pairs = || values.iter().zip(&half);
            let s = stats(&wide, target).unwrap();
            assert_eq!(s.overflows, pairs().filter(|(x, h)| x.is_finite() && h.is_infinite()).count() as u64);
            assert_eq!(s.flushed, pairs().filter(|(x, h)| **x != 0.0 && **h == 0.0).count() as u64);
        }
    }
}
