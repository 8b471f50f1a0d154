//! Depthwise convolutions: each channel has a kernel of its own, so that vectors of channels are multiplied with vectors of
//! weights.
#![allow(unsafe_code)] // vector instructions over rows whose places are checked, and disjoint parts of one output

use super::super::conv::Window;
use super::super::gemm::Shared;
use super::super::lane::Lane;
use super::super::vector::{Dispatch, Vector, Work};
use super::dense::Finish;
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::Tensor;
use std::ops::Range;

/// A depthwise convolution over inputs of shape [images, depth, height, width, channels].
pub struct Depthwise<'a, F> {
    /// The windows.
    pub window: Window,
    /// Channels.
    pub channels: usize,
    /// Weights: a row of all channels for each kernel element.
    pub weights: &'a [F],
    /// A value for each channel.
    pub bias: Option<&'a [F]>,
    /// Works on results.
    pub finish: Finish<'a, F>,
}

/// Output elements of a task, about.
const TASK: usize = 1 << 13;
/// Places and vectors of channels that are worked on together: their sums stay in registers.
const PLACES: usize = 4;
const VECTORS: usize = 2;

impl<F: Dispatch> Depthwise<'_, F> {
    /// Convolves; `input` and `out` hold all images.
    pub fn run<T: Lane<C = F>>(&self, cx: &Cx, input: &[T], out: &mut [T]) -> Result<()> {
        let w = &self.window;
        let line = w.output[2] * self.channels;
        let lines = out.len() / line;
        let at_once = (TASK / line).clamp(1, lines.div_ceil(2 * cx.threads.count()).max(1));
        let work = out.len().saturating_mul(w.kernel_len());
        let shared = Shared::new(out);
        cx.threads.try_each(lines.div_ceil(at_once), work, &|i| {
            let lines = i * at_once..lines.min((i + 1) * at_once);
            let direct = T::DTYPE == F::DTYPE;
            let mut sums = if direct { None } else { Some(Tensor::new(cx.pool, F::DTYPE, vec![line])?) };
            for l in lines {
                let to = match &mut sums {
                    // SAFETY: this line is this task's alone; T is F here.
                    None => unsafe { std::slice::from_raw_parts_mut(shared.at(l * line, line).cast::<F>(), line) },
                    Some(t) => t.slice_mut::<F>()?,
                };
                let (y, z) = (l % w.output[1], l / w.output[1] % w.output[0]);
                let image = l / (w.output[1] * w.output[0]) * w.input_len() * self.channels;
                let image = &input[image..image + w.input_len() * self.channels];
                F::dispatch(Line { way: self, image, z, y, to });
                (self.finish)(l * line, to);
                if !direct {
                    // SAFETY: as above.
                    unsafe { shared.store(l * line, to) };
                }
            }
            Ok(())
        })
    }
}

/// One line of outputs.
struct Line<'a, F, T> {
    way: &'a Depthwise<'a, F>,
    image: &'a [T],
    z: usize,
    y: usize,
    to: &'a mut [F],
}

/// Kernel coordinates whose read from output coordinate `o` lies in the input.
fn taps(w: &Window, dim: usize, o: usize) -> Range<usize> {
    let start = o * w.stride[dim];
    let low = w.pad[dim].saturating_sub(start).div_ceil(w.dilation[dim]);
    let high = (w.input[dim] + w.pad[dim]).saturating_sub(start).div_ceil(w.dilation[dim]);
    low.min(w.kernel[dim])..high.min(w.kernel[dim]).max(low.min(w.kernel[dim]))
}

impl<F: Dispatch, T: Lane<C = F>> Work<F> for Line<'_, F, T> {
    #[inline(always)]
    fn run<X: Vector<F = F>>(self) {
        let Line { way, image, z, y, to } = self;
        let (w, c) = (&way.window, way.channels);
        let (tz, ty) = (taps(w, 0, z), taps(w, 1, y));
        let mut x = 0;
        while x < w.output[2] {
            let tx = taps(w, 2, x);
            // Places in the middle of a line read all columns of the kernel.
            let mut places = 1;
            while tx.len() == w.kernel[2]
                && places < PLACES
                && x + places < w.output[2]
                && taps(w, 2, x + places).len() == w.kernel[2]
            {
                places += 1;
            }
            let few = if places == PLACES { PLACES } else { 1 };
            let of = Places { way, image, taps: [tz.clone(), ty.clone(), tx], at: [z, y, x] };
            let to = &mut to[x * c..(x + few) * c];
            match (few, c >= X::N) {
                (PLACES, true) => of.channels::<X, T, PLACES>(to),
                (_, true) => of.channels::<X, T, 1>(to),
                _ => (0..few).for_each(|p| of.one_by_one(p, &mut to[p * c..(p + 1) * c])),
            }
            x += few;
        }
    }
}

/// Some places of a line that read the same kernel elements.
struct Places<'a, F, T> {
    way: &'a Depthwise<'a, F>,
    image: &'a [T],
    taps: [Range<usize>; 3],
    at: [usize; 3],
}

impl<F: Dispatch, T: Lane<C = F>> Places<'_, F, T> {
    /// Where place `p` reads a kernel element, at channel 0.
    #[inline(always)]
    fn reads(&self, p: usize, [kz, ky, kx]: [usize; 3]) -> usize {
        let w = &self.way.window;
        let [z, y, x] = self.at;
        let at = |d: usize, o: usize, k: usize| o * w.stride[d] + k * w.dilation[d] - w.pad[d];
        ((at(0, z, kz) * w.input[1] + at(1, y, ky)) * w.input[2] + at(2, x + p, kx)) * self.way.channels
    }

    /// All channels, by vectors; the last ones may be made twice.
    #[inline(always)]
    fn channels<X: Vector<F = F>, U: Lane<C = F>, const P: usize>(&self, to: &mut [F]) {
        let c = self.way.channels;
        let block = VECTORS * X::N;
        let mut at = 0;
        while at < c {
            match c - at {
                n if n >= block => self.vectors::<X, P, VECTORS>(at, to),
                n if n >= X::N => self.vectors::<X, P, 1>(at, to),
                _ => self.vectors::<X, P, 1>(c - X::N, to),
            }
            at += if c - at >= block { block } else { X::N };
        }
    }

    #[inline(always)]
    fn vectors<X: Vector<F = F>, const P: usize, const V: usize>(&self, channel: usize, to: &mut [F]) {
        let (w, c) = (&self.way.window, self.way.channels);
        let apart = w.stride[2] * c;
        assert!(channel + V * X::N <= c && to.len() == P * c);
        // SAFETY: every read lies in the image and in the weights, because the taps do (slices are taken of both below), and
        // so do the writes, asserted above; the processor has what the dispatch found.
        unsafe {
            let mut sums = [[X::zero(); V]; P];
            if let Some(bias) = self.way.bias {
                for v in 0..V {
                    let b = X::load(bias[channel + v * X::N..][..X::N].as_ptr());
                    sums.iter_mut().for_each(|s| s[v] = b);
                }
            }
            let [tz, ty, tx] = &self.taps;
            for kz in tz.clone() {
                for ky in ty.clone() {
                    if tx.is_empty() {
                        continue;
                    }
                    let first = self.reads(0, [kz, ky, tx.start]);
                    let step = w.dilation[2] * c;
                    let last = first + (tx.len() - 1) * step + (P - 1) * apart + c;
                    let row = self.image[first..last].as_ptr().add(channel);
                    let tap = ((kz * w.kernel[1] + ky) * w.kernel[2] + tx.start) * c;
                    let factors = self.way.weights[tap..tap + tx.len() * c].as_ptr().add(channel);
                    for k in 0..tx.len() {
                        let mut factor = [X::zero(); V];
                        for (v, f) in factor.iter_mut().enumerate() {
                            *f = X::load(factors.add(k * c + v * X::N));
                        }
                        for (p, sums) in sums.iter_mut().enumerate() {
                            let from = row.add(k * step + p * apart);
                            for (v, sum) in sums.iter_mut().enumerate() {
                                *sum = X::fma(X::load(from.add(v * X::N)), factor[v], *sum);
                            }
                        }
                    }
                }
            }
            for (p, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    X::store(to.as_mut_ptr().add(p * c + channel + v * X::N), sum);
                }
            }
        }
    }

    /// Fewer channels than a vector has.
    fn one_by_one(&self, p: usize, to: &mut [F]) {
        let (w, c) = (&self.way.window, self.way.channels);
        for (channel, o) in to.iter_mut().enumerate() {
            let mut sum = self.way.bias.map_or(F::ZERO, |b| b[channel]);
            for kz in self.taps[0].clone() {
                for ky in self.taps[1].clone() {
                    for kx in self.taps[2].clone() {
                        let tap = (kz * w.kernel[1] + ky) * w.kernel[2] + kx;
                        sum += self.image[self.reads(p, [kz, ky, kx]) + channel].get()
                            * self.way.weights[tap * c + channel];
                    }
                }
            }
            *o = sum;
        }
    }
}
