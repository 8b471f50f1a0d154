//! Pooling: the same over the windows of all channels.

use super::super::conv::Window;
use super::super::lane::Lane;
use super::super::math::Float;
use super::super::simd::{Vectorized, vectorized};
use crate::backend::cpu::exec::Cx;
use std::ops::Range;

/// What is made of a window.
#[derive(Clone, Copy)]
pub enum Over<'a> {
    /// The largest value; NaN wins.
    Maximum,
    /// The sum divided by the product of a number for the row and one for the column, for two spatial dimensions.
    Mean(&'a [Vec<usize>; 3]),
}

/// Pools images of shape [height, width, channels].
pub fn pool<T: Lane<C: Float>>(cx: &Cx, w: &Window, channels: usize, over: Over, input: &[T], out: &mut [T]) {
    let line = w.output[2] * channels;
    let work = out.len().saturating_mul(w.kernel_len());
    cx.threads.pieces(out, line, work, |l, out| {
        let (image, y) = (l / w.output[1], l % w.output[1]);
        let image = &input[image * w.input_len() * channels..(image + 1) * w.input_len() * channels];
        let mut made = vec![T::C::ZERO; channels];
        let mut wide = vec![T::C::ZERO; if T::direct(image).is_some() { 0 } else { channels }];
        for (x, out) in out.chunks_exact_mut(channels).enumerate() {
            let at = |y: usize, x: usize| (y * w.input[2] + x) * channels;
            let (rows, columns) = (reads(w, 1, y), reads(w, 2, x));
            made.fill(match over {
                Over::Maximum => T::C::LOWEST,
                Over::Mean(_) => T::C::ZERO,
            });
            for iy in rows {
                for ix in columns.clone() {
                    let from = &image[at(iy, ix)..][..channels];
                    let from = match T::direct(from) {
                        Some(direct) => direct,
                        None => {
                            T::widen(from, &mut wide);
                            &wide
                        }
                    };
                    vectorized(Take { over, from, made: &mut made });
                }
            }
            if let Over::Mean(counts) = over {
                let n = T::C::of((counts[1][y] * counts[2][x]) as f64);
                made.iter_mut().for_each(|v| *v = *v / n);
            }
            T::narrow(&made, out);
        }
    });
}

/// Input coordinates of one dimension that the window of output coordinate `o` reads.
fn reads(w: &Window, dim: usize, o: usize) -> std::iter::StepBy<Range<usize>> {
    let start = o * w.stride[dim];
    let low = w.pad[dim].saturating_sub(start).div_ceil(w.dilation[dim]).min(w.kernel[dim]);
    let first = start + low * w.dilation[dim] - w.pad[dim].min(start + low * w.dilation[dim]);
    let end = (start + (w.kernel[dim] - 1) * w.dilation[dim] + 1).saturating_sub(w.pad[dim]).min(w.input[dim]);
    let end = if low < w.kernel[dim] { end } else { first };
    (first..end.max(first)).step_by(w.dilation[dim])
}

struct Take<'a, F> {
    over: Over<'a>,
    from: &'a [F],
    made: &'a mut [F],
}

impl<F: Float> Vectorized for Take<'_, F> {
    #[inline(always)]
    fn run(self) {
        let pairs = self.made.iter_mut().zip(self.from);
        match self.over {
            Over::Maximum => pairs.for_each(|(m, &v)| *m = if v > *m || v.nan() { v } else { *m }),
            Over::Mean(_) => pairs.for_each(|(m, &v)| *m += v),
        }
    }
}

/// Means of all places of an image, for each channel, in the order that `sum` has: eight sums side by side.
pub fn global_mean<T: Lane<C: Float>>(cx: &Cx, channels: usize, input: &[T], out: &mut [T]) {
    let places = input.len() / out.len().max(1);
    // Channels of a task: a few lines of the cache.
    let width = (128 / size_of::<T>()).min(channels).max(1);
    let cuts = channels.div_ceil(width);
    let images = out.len() / channels.max(1);
    let mut means = vec![T::C::ZERO; out.len()];
    let at_once = 8;
    let work = input.len();
    // A piece of the result is some channels of one image.
    for image in 0..images {
        let input = &input[image * places * channels..(image + 1) * places * channels];
        let means = &mut means[image * channels..(image + 1) * channels];
        cx.threads.pieces(means, width * at_once.min(cuts), work, |i, means| {
            let first = i * width * at_once.min(cuts);
            for (k, means) in means.chunks_mut(width).enumerate() {
                vectorized(Mean { input, channels, first: first + k * width, places, means });
            }
        });
    }
    T::narrow(&means, out);
}

/// The sum of a plane of one channel, in the order in which [`global_mean`] adds it.
#[inline(always)]
pub fn plane_sum<F: Float>(values: &[F]) -> F {
    let mut lanes = [F::ZERO; 8];
    for part in values.chunks(8) {
        lanes.iter_mut().zip(part).for_each(|(l, &v)| *l += v);
    }
    eight(|k| lanes[k])
}

#[inline(always)]
fn eight<F: Float>(l: impl Fn(usize) -> F) -> F {
    ((l(0) + l(4)) + (l(1) + l(5))) + ((l(2) + l(6)) + (l(3) + l(7)))
}

struct Mean<'a, T: Lane> {
    input: &'a [T],
    channels: usize,
    first: usize,
    places: usize,
    means: &'a mut [T::C],
}

/// Channels of a task at most.
const WIDEST: usize = 64;

impl<T: Lane<C: Float>> Vectorized for Mean<'_, T> {
    #[inline(always)]
    fn run(self) {
        let n = self.means.len();
        let mut lanes = [[T::C::ZERO; WIDEST]; 8];
        let mut wide = [T::C::ZERO; WIDEST];
        for place in 0..self.places {
            let from = &self.input[place * self.channels + self.first..][..n];
            let from = match T::direct(from) {
                Some(direct) => direct,
                None => {
                    T::widen(from, &mut wide[..n]);
                    &wide[..n]
                }
            };
            lanes[place % 8][..n].iter_mut().zip(from).for_each(|(l, &v)| *l += v);
        }
        let count = T::C::of(self.places as f64);
        for (i, m) in self.means.iter_mut().enumerate() {
            *m = eight(|k| lanes[k][i]) / count;
        }
    }
}
