//! Depthwise convolutions: each channel has a kernel of its own, so that vectors of channels are multiplied with vectors of
//! weights.
#![allow(unsafe_code)] // vector instructions over rows whose places are checked, and disjoint parts of one output

use super::super::conv::Window;
use super::super::gemm::Shared;
use super::super::lane::Lane;
use super::super::vector::{Dispatch, Vector, Work, fetch};
use super::dense::FinishSums;
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
}

/// Elements that a task reads or writes, about: of FP32, and where they are widened first.
const TASK: [usize; 2] = [1 << 14, 1 << 16];
/// Tasks for each thread, so that all are busy to the end.
const TASKS: usize = 4;
/// Places that are worked on together, and vectors of channels: their sums stay in registers.
const PLACES: usize = 4;
const VECTORS: usize = 2;
/// Places of few channels, and vectors of one place.
const MORE: usize = 8;
const ALONE: usize = 4;

impl<F: Dispatch> Depthwise<'_, F> {
    /// Convolves; `input` and `out` hold all images, `finish` works on results.
    pub fn run<T: Lane<C = F>>(&self, cx: &Cx, input: &[T], out: &mut [T], finish: &dyn FinishSums<T>) -> Result<()> {
        let (w, c) = (&self.window, self.channels);
        let [depth, height, width] = w.output;
        let line = width * c;
        let planes = out.len() / (line * height);
        let direct = T::direct(input).is_some();
        let floats = line.max(w.input[2] * c * w.stride[1]);
        let mut bands = height.div_ceil((TASK[usize::from(!direct)] / floats).max(1));
        if cx.threads.count() > 1 {
            bands = bands.max((TASKS * cx.threads.count()).div_ceil(planes)).min(height);
        }
        let taps = [0, 1, 2].map(|d| (0..w.output[d]).map(|o| taps(w, d, o)).collect::<Vec<_>>());
        let work = out.len().saturating_mul(w.kernel_len());
        let shared = Shared::new(out);
        cx.threads.try_each(planes * bands, work, &|i| {
            let (plane, band) = (i / bands, i % bands);
            let lines = band * height / bands..(band + 1) * height / bands;
            let (at, n) = ((plane * height + lines.start) * line, lines.len() * line);
            let mut sums = if direct { None } else { Some(Tensor::new(cx.pool, F::DTYPE, vec![n])?) };
            let to = match &mut sums {
                // SAFETY: these lines are this task's alone; T is F here.
                None => unsafe { std::slice::from_raw_parts_mut(shared.at(at, n).cast::<F>(), n) },
                Some(t) => t.slice_mut::<F>()?,
            };
            let image = plane / depth * w.input_len() * c;
            let image = &input[image..image + w.input_len() * c];
            let place = [plane % depth, lines.start];
            let wide;
            let rows = match T::direct(image) {
                Some(values) => Rows { values, first: [0; 2], lines: w.input[1] },
                None => {
                    // Each line of the input that these lines read, widened once.
                    let [z, y] =
                        [(0, place[0]..place[0] + 1), (1, lines.clone())].map(|(d, o)| read(w, &taps[d], d, o));
                    wide = self.widened(cx, image, &z, &y)?;
                    Rows { values: wide.slice::<F>()?, first: [z.start, y.start], lines: y.len() }
                }
            };
            F::dispatch(Lines { way: self, rows, taps: &taps, place, to });
            match direct {
                true => finish.apply(at, to),
                // SAFETY: as above.
                false => finish.store(at, to, unsafe { shared.part(at, n) }),
            }
            Ok(())
        })
    }

    fn widened<T: Lane<C = F>>(&self, cx: &Cx, image: &[T], z: &Range<usize>, y: &Range<usize>) -> Result<Tensor> {
        let w = &self.window;
        let line = w.input[2] * self.channels;
        let n = y.len() * line;
        let mut wide = Tensor::new(cx.pool, F::DTYPE, vec![z.len() * n])?;
        for (z, to) in z.clone().zip(wide.slice_mut::<F>()?.chunks_exact_mut(n.max(1))) {
            T::widen(&image[(z * w.input[1] + y.start) * line..][..n], to);
        }
        Ok(wide)
    }
}

/// Kernel coordinates whose read from output coordinate `o` lies in the input.
fn taps(w: &Window, dim: usize, o: usize) -> Range<usize> {
    let start = o * w.stride[dim];
    let low = w.pad[dim].saturating_sub(start).div_ceil(w.dilation[dim]);
    let high = (w.input[dim] + w.pad[dim]).saturating_sub(start).div_ceil(w.dilation[dim]);
    low.min(w.kernel[dim])..high.min(w.kernel[dim]).max(low.min(w.kernel[dim]))
}

/// Input coordinates from the first to the last that output coordinates read.
fn read(w: &Window, taps: &[Range<usize>], dim: usize, outputs: Range<usize>) -> Range<usize> {
    let at = |o: usize, k: usize| o * w.stride[dim] + k * w.dilation[dim] - w.pad[dim];
    let reads = outputs.filter(|&o| !taps[o].is_empty()).map(|o| at(o, taps[o].start)..at(o, taps[o].end - 1) + 1);
    reads.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
}

/// Lines of an image.
struct Rows<'a, F> {
    values: &'a [F],
    /// The first plane and line.
    first: [usize; 2],
    /// Lines of a plane.
    lines: usize,
}

/// Lines of outputs, one after the other.
struct Lines<'a, F> {
    way: &'a Depthwise<'a, F>,
    rows: Rows<'a, F>,
    /// What the coordinates of each dimension read.
    taps: &'a [Vec<Range<usize>>; 3],
    /// Plane and line of the first.
    place: [usize; 2],
    to: &'a mut [F],
}

impl<F: Dispatch> Work<F> for Lines<'_, F> {
    #[inline(always)]
    fn run<X: Vector<F = F>>(mut self) {
        let c = self.way.channels;
        if c < X::N {
            return self.one_by_one();
        }
        let width = self.way.window.output[2];
        let whole = |x: usize| self.taps[2][x].len() == self.way.window.kernel[2];
        // Places in the middle of a line read all columns of the kernel.
        let first = (0..width).find(|&x| whole(x)).unwrap_or(width);
        let end = (first..width).find(|&x| !whole(x)).unwrap_or(width);
        for line in 0..self.to.len() / (width * c) {
            let mut x = 0;
            while x < width {
                let left = if (first..end).contains(&x) { end - x } else { 1 };
                x += match left {
                    MORE.. if c < VECTORS * X::N => self.channels::<X, MORE, 1>(line, x),
                    // The last ones with some before them again, where that is less work than each for itself.
                    2.. if end - first >= PLACES => {
                        self.channels::<X, PLACES, VECTORS>(line, x.min(end - PLACES)).min(left)
                    }
                    _ => self.channels::<X, 1, ALONE>(line, x),
                };
            }
        }
    }
}

impl<F: Dispatch> Lines<'_, F> {
    /// Where a place reads a kernel element, at channel 0.
    #[inline(always)]
    fn reads(&self, [z, y, x]: [usize; 3], [kz, ky, kx]: [usize; 3]) -> usize {
        let w = &self.way.window;
        let at = |d: usize, o: usize, k: usize| o * w.stride[d] + k * w.dilation[d] - w.pad[d];
        let (z, y) = (at(0, z, kz) - self.rows.first[0], at(1, y, ky) - self.rows.first[1]);
        ((z * self.rows.lines + y) * w.input[2] + at(2, x, kx)) * self.way.channels
    }

    /// All channels of some places, by vectors; the last ones may be made twice. Says how many places.
    #[inline(always)]
    fn channels<X: Vector<F = F>, const P: usize, const V: usize>(&mut self, line: usize, x: usize) -> usize {
        let c = self.way.channels;
        let mut at = 0;
        // Each form of `places` stands here once, for it is large.
        while at < c {
            if V > 1 && c - at >= V * X::N {
                self.places::<X, P, V>(line, x, at);
                at += V * X::N;
            } else {
                self.places::<X, P, 1>(line, x, at.min(c - X::N));
                at += X::N;
            }
        }
        P
    }

    /// Places side by side that read the same kernel elements.
    #[inline(always)]
    fn places<X: Vector<F = F>, const P: usize, const V: usize>(&mut self, line: usize, x: usize, channel: usize) {
        let (w, c) = (&self.way.window, self.way.channels);
        let [z, y] = [self.place[0], self.place[1] + line];
        let (tz, ty, tx) = (self.taps[0][z].clone(), self.taps[1][y].clone(), self.taps[2][x].clone());
        let apart = w.stride[2] * c;
        let to = (line * w.output[2] + x) * c;
        assert!(channel + V * X::N <= c && to + P * c <= self.to.len());
        // SAFETY: every read lies in the rows and in the weights, because the taps do (slices are taken of both below), and
        // so do the writes, asserted above; the processor has what the dispatch found.
        unsafe {
            for i in 0..P * V {
                // Of the places that come next.
                fetch(self.to.as_mut_ptr().wrapping_add(to + (P + i / V) * c + channel + i % V * X::N));
            }
            let mut sums = [[X::zero(); V]; P];
            if let Some(bias) = self.way.bias {
                for v in 0..V {
                    let b = X::load(bias[channel + v * X::N..][..X::N].as_ptr());
                    sums.iter_mut().for_each(|s| s[v] = b);
                }
            }
            if !tx.is_empty() {
                for kz in tz {
                    for ky in ty.clone() {
                        let first = self.reads([z, y, x], [kz, ky, tx.start]);
                        let step = w.dilation[2] * c;
                        let last = first + (tx.len() - 1) * step + (P - 1) * apart + c;
                        let row = self.rows.values[first..last].as_ptr().add(channel);
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
            }
            for (p, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    X::store(self.to.as_mut_ptr().add(to + p * c + channel + v * X::N), sum);
                }
            }
        }
    }

    /// Fewer channels than a vector has.
    fn one_by_one(&mut self) {
        let (w, c) = (&self.way.window, self.way.channels);
        for i in 0..self.to.len() {
            let (channel, place) = (i % c, i / c);
            let at = [self.place[0], self.place[1] + place / w.output[2], place % w.output[2]];
            let mut sum = self.way.bias.map_or(F::ZERO, |b| b[channel]);
            for kz in self.taps[0][at[0]].clone() {
                for ky in self.taps[1][at[1]].clone() {
                    for kx in self.taps[2][at[2]].clone() {
                        let tap = (kz * w.kernel[1] + ky) * w.kernel[2] + kx;
                        let from = self.rows.values[self.reads(at, [kz, ky, kx]) + channel];
                        sum += from * self.way.weights[tap * c + channel];
                    }
                }
            }
            self.to[i] = sum;
        }
    }
}
