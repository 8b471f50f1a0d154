//! Reading between the elements of a tensor: positions, taps and weights, on tensors whose channels lie last.

use super::layout::transpose;
use super::wide::computing;
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::simd::vectorize;
use crate::backend::cpu::ops::cast::cast;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType;

/// An element and its weight.
#[derive(Debug, Clone, Copy)]
pub struct Tap<F> {
    pub at: usize,
    pub weight: F,
}

/// A tensor [N, C, ...] as [N, ..., C] in the computing type; integers are computed with in FP64.
pub fn channels_last(cx: &Cx, x: &Tensor) -> Result<Tensor> {
    let wide = match x.dtype() {
        t if t.is_integer() => cast(cx, x, DataType::Float64, true)?,
        t => cast_float(cx, x, computing(t, "interpolation")?)?,
    };
    let order: Vec<usize> = [0].into_iter().chain(2..x.rank()).chain([1]).collect();
    transpose(cx, &wide, &order)
}

/// The way back, to element type `dtype`.
pub fn channels_second(cx: &Cx, y: &Tensor, dtype: DataType) -> Result<Tensor> {
    let order: Vec<usize> = [0, y.rank() - 1].into_iter().chain(1..y.rank() - 1).collect();
    cast(cx, &transpose(cx, y, &order)?, dtype, true)
}

/// Adds the weighted elements of all channels.
pub fn add_taps<F: Float>(out: &mut [F], data: &[F], taps: &[Tap<F>]) {
    let channels = out.len();
    for tap in taps {
        let from = &data[tap.at * channels..(tap.at + 1) * channels];
        vectorize(|| out.iter_mut().zip(from).for_each(|(o, &v)| *o += tap.weight * v));
    }
}

/// Joins one dimension's taps (`None` where they fall outside) with those of the dimensions before.
pub fn join<F: Float>(taps: &mut Vec<Tap<F>>, size: usize, dimension: &[(Option<usize>, F)]) {
    let before = std::mem::take(taps);
    for tap in &before {
        for &(place, weight) in dimension {
            if let Some(place) = place {
                taps.push(Tap { at: tap.at * size + place, weight: tap.weight * weight });
            }
        }
    }
}
