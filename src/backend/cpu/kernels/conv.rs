//! Convolution: windows, their columns as a matrix source, and the depthwise case directly.

use super::gemm::{Source, widen_row};
use super::lane::Lane;
use super::math::Float;
use super::planes::Plane;
use super::simd::{Vectorized, vectorize, vectorized};
use std::ops::Range;

/// Where a kernel's windows lie: up to three spatial dimensions, missing ones in front with size 1.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Input sizes.
    pub input: [usize; 3],
    /// Output sizes.
    pub output: [usize; 3],
    /// Kernel sizes.
    pub kernel: [usize; 3],
    /// Distances of windows.
    pub stride: [usize; 3],
    /// Distances within a window.
    pub dilation: [usize; 3],
    /// Padding before the first element.
    pub pad: [usize; 3],
}

impl Window {
    /// Elements of one input channel.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// Elements of one output channel.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }

    /// Elements of one kernel plane.
    pub fn kernel_len(&self) -> usize {
        self.kernel.iter().product()
    }

    /// True if each output element reads exactly the input element at its own place.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1; 3] && self.stride == [1; 3] && self.pad == [0; 3] && self.input == self.output
    }

    /// Position in the kernel of its element `k`.
    pub fn kernel_position(&self, k: usize) -> [usize; 3] {
        let [_, h, w] = self.kernel;
        [k / (h * w), k / w % h, k % w]
    }

    /// The input coordinate that output coordinate `o` reads at kernel coordinate `k`, if it lies in the input.
    pub fn reads(&self, dim: usize, o: usize, k: usize) -> Option<usize> {
        let at = (o * self.stride[dim] + k * self.dilation[dim]).checked_sub(self.pad[dim])?;
        (at < self.input[dim]).then_some(at)
    }

    /// The outputs of dimension `dim` whose read at kernel coordinate `k` lies in the input.
    pub fn valid(&self, dim: usize, k: usize) -> Range<usize> {
        let shift = k * self.dilation[dim];
        let low = self.pad[dim].saturating_sub(shift).div_ceil(self.stride[dim]);
        let high = match (self.input[dim] + self.pad[dim]).checked_sub(shift + 1) {
            Some(last) => last / self.stride[dim] + 1,
            None => 0,
        };
        low.min(self.output[dim])..high.min(self.output[dim]).max(low.min(self.output[dim]))
    }
}

/// The columns of a convolution: lanes are output positions, steps are (channel, kernel element).
pub struct Columns<'a, T> {
    /// One image's channels of one group.
    pub input: &'a [T],
    /// The windows.
    pub window: &'a Window,
}

/// Where the lanes of a panel find one kernel element in a channel's plane.
enum Reads<const W: usize> {
    /// All outside.
    Nowhere,
    /// Side by side, from here on.
    Along(usize),
    /// Each for itself; the plane's length for what lies outside.
    Each([u32; W]),
}

impl<T: Lane<C: Float>> Source<T::C> for Columns<'_, T> {
    fn pack(&self, lanes: Range<usize>, steps: Range<usize>, width: usize, out: &mut [T::C]) {
        match width {
            8 => vectorized(Pack::<T, 8> { columns: self, lanes, steps, out }),
            16 => vectorized(Pack::<T, 16> { columns: self, lanes, steps, out }),
            other => unreachable!("no kernel has panels of {other} columns"),
        }
    }
}

/// Packs panels of W lanes.
struct Pack<'a, T: Lane, const W: usize> {
    columns: &'a Columns<'a, T>,
    lanes: Range<usize>,
    steps: Range<usize>,
    out: &'a mut [T::C],
}

impl<T: Lane<C: Float>, const W: usize> Vectorized for Pack<'_, T, W> {
    #[inline(always)]
    fn run(self) {
        let Pack { columns, lanes, steps, out } = self;
        let w = columns.window;
        let (plane, taps) = (w.input_len(), w.kernel_len());
        let mut reads: Vec<Reads<W>> = Vec::with_capacity(taps);
        for (lane, panel) in lanes.clone().step_by(W).zip(out.chunks_exact_mut(W * steps.len())) {
            reads.clear();
            columns.reads(lane, W.min(lanes.end - lane), &mut reads);
            let (mut channel, mut tap) = (steps.start / taps, steps.start % taps);
            for row in panel.as_chunks_mut::<W>().0 {
                let input = &columns.input[channel * plane..(channel + 1) * plane];
                match &reads[tap] {
                    Reads::Nowhere => *row = [T::C::ZERO; W],
                    Reads::Along(at) => match input[*at..].first_chunk::<W>() {
                        Some(from) => widen_row(from, row),
                        None => unreachable!("a run of lanes lies in its plane"),
                    },
                    Reads::Each(at) => {
                        let mut from = [T::default(); W];
                        for (f, &at) in from.iter_mut().zip(at) {
                            *f = input.get(at as usize).copied().unwrap_or_default();
                        }
                        widen_row(&from, row);
                    }
                }
                tap += 1;
                if tap == taps {
                    tap = 0;
                    channel += 1;
                }
            }
        }
    }
}

impl<T: Lane<C: Float>> Columns<'_, T> {
    /// For each kernel element, where `used` lanes from `first` on read.
    fn reads<const W: usize>(&self, first: usize, used: usize, reads: &mut Vec<Reads<W>>) {
        let w = self.window;
        let [_, oh, ow] = w.output;
        let [depth, height, width] = w.input.map(|n| n as isize);
        let mut origins = [[0isize; 3]; W];
        for (l, o) in origins.iter_mut().enumerate().take(used) {
            let at = first + l;
            let place = [at / (oh * ow), at / ow % oh, at % ow];
            *o = std::array::from_fn(|d| (place[d] * w.stride[d]) as isize - w.pad[d] as isize);
        }
        let [z0, y0, x0] = origins[0];
        let straight = used == W && w.stride[2] == 1 && first % ow + W <= ow;
        for k in 0..w.kernel_len() {
            let position = w.kernel_position(k);
            let [dz, dy, dx] = std::array::from_fn(|d| (position[d] * w.dilation[d]) as isize);
            let (z, y, x) = (z0 + dz, y0 + dy, x0 + dx);
            if straight && (z < 0 || z >= depth || y < 0 || y >= height) {
                reads.push(Reads::Nowhere);
            } else if straight && x >= 0 && x + W as isize <= width {
                reads.push(Reads::Along(((z * height + y) * width + x) as usize));
            } else {
                let outside = w.input_len() as u32;
                let mut each = [outside; W];
                for (e, [z, y, x]) in each.iter_mut().zip(&origins).take(used) {
                    let (z, y, x) = (z + dz, y + dy, x + dx);
                    if z >= 0 && z < depth && y >= 0 && y < height && x >= 0 && x < width {
                        *e = ((z * height + y) * width + x) as u32;
                    }
                }
                reads.push(Reads::Each(each));
            }
        }
    }
}

/// The columns of a convolution with few channels and a stride, as the first one of many networks: its planes are dealt
/// out to lines once, so that neighbouring lanes read side by side.
pub struct Dealt<'a, F> {
    planes: Vec<Plane<F>>,
    window: &'a Window,
}

/// Elements of an image that may be dealt out; of a larger one the copy would be felt in memory.
const MOST_DEALT: usize = 1 << 18;

impl<'a, F: Float> Dealt<'a, F> {
    /// The columns of one image; `None` where [`Columns`] do better.
    pub fn new<T: Lane<C = F>>(window: &'a Window, input: &[T]) -> Option<Self> {
        if !Plane::<F>::serves(window) || window.stride[2] == 1 || input.len() > MOST_DEALT || window.input_len() == 0 {
            return None;
        }
        let plane = |input: &[T]| {
            let mut plane = Plane::new();
            plane.load(window, input, 0..window.input[1], F::ZERO);
            plane
        };
        Some(Dealt { planes: input.chunks_exact(window.input_len()).map(plane).collect(), window })
    }
}

impl<F: Float> Source<F> for Dealt<'_, F> {
    fn pack(&self, lanes: Range<usize>, steps: Range<usize>, width: usize, out: &mut [F]) {
        match width {
            8 => vectorized(PackDealt::<F, 8> { columns: self, lanes, steps, out }),
            16 => vectorized(PackDealt::<F, 16> { columns: self, lanes, steps, out }),
            other => unreachable!("no kernel has panels of {other} columns"),
        }
    }
}

/// Packs panels of W lanes.
struct PackDealt<'a, F, const W: usize> {
    columns: &'a Dealt<'a, F>,
    lanes: Range<usize>,
    steps: Range<usize>,
    out: &'a mut [F],
}

impl<F: Float, const W: usize> Vectorized for PackDealt<'_, F, W> {
    #[inline(always)]
    fn run(self) {
        let PackDealt { columns, lanes, steps, out } = self;
        let w = columns.window;
        let (taps, across, ow) = (w.kernel_len(), w.kernel[2], w.output[2]);
        let mut reads = Vec::with_capacity(taps);
        for (lane, panel) in lanes.clone().step_by(W).zip(out.chunks_exact_mut(W * steps.len())) {
            let used = W.min(lanes.end - lane);
            let (row, x) = (lane / ow, lane % ow);
            let straight = used == W && x + W <= ow;
            reads.clear();
            reads.extend((0..taps).map(|k| columns.planes[0].reads(w, row, k / across, k % across) + x));
            let (mut channel, mut tap) = (steps.start / taps, steps.start % taps);
            for to in panel.as_chunks_mut::<W>().0 {
                let plane = &columns.planes[channel];
                match plane.data()[reads[tap]..].first_chunk::<W>() {
                    Some(from) if straight => *to = *from,
                    _ => {
                        for (l, to) in to.iter_mut().enumerate() {
                            let (row, x) = ((lane + l) / ow, (lane + l) % ow);
                            let at = plane.reads(w, row.min(w.output[1] - 1), tap / across, tap % across) + x;
                            *to = if l < used { plane.data()[at] } else { F::ZERO };
                        }
                    }
                }
                tap += 1;
                if tap == taps {
                    tap = 0;
                    channel += 1;
                }
            }
        }
    }
}

/// One channel of a depthwise convolution, added to `out`.
pub fn depthwise<F: Float>(w: &Window, input: &[F], kernel: &[F], out: &mut [F]) {
    let [_, oh, ow] = w.output;
    let [_, ih, iw] = w.input;
    for (k, &weight) in kernel.iter().enumerate() {
        let [kz, ky, kx] = w.kernel_position(k);
        let columns = w.valid(2, kx);
        if columns.is_empty() {
            continue;
        }
        let first = columns.start * w.stride[2] + kx * w.dilation[2] - w.pad[2];
        for z in w.valid(0, kz) {
            for y in w.valid(1, ky) {
                let (Some(iz), Some(iy)) = (w.reads(0, z, kz), w.reads(1, y, ky)) else { continue };
                let from = &input[(iz * ih + iy) * iw + first..(iz * ih + iy + 1) * iw];
                let to = &mut out[(z * oh + y) * ow..][columns.clone()];
                vectorize(|| match w.stride[2] {
                    1 => to.iter_mut().zip(from).for_each(|(o, &v)| *o += weight * v),
                    s => to.iter_mut().zip(from.iter().step_by(s)).for_each(|(o, &v)| *o += weight * v),
                });
            }
        }
    }
}

/// Adds the columns of a transposed convolution to the output of one channel: `columns` has a row of input positions for
/// each kernel element.
pub fn scatter<F: Float>(w: &Window, columns: &[F], out: &mut [F]) {
    // Roles are exchanged: the window walks over `out`, which is the larger side.
    let [_, oh, ow] = w.output;
    let [_, ih, iw] = w.input;
    for k in 0..w.kernel_len() {
        let [kz, ky, kx] = w.kernel_position(k);
        let from = &columns[k * w.output_len()..(k + 1) * w.output_len()];
        for z in w.valid(0, kz) {
            for y in w.valid(1, ky) {
                let (Some(iz), Some(iy)) = (w.reads(0, z, kz), w.reads(1, y, ky)) else { continue };
                let xs = w.valid(2, kx);
                if xs.is_empty() {
                    continue;
                }
                let first = xs.start * w.stride[2] + kx * w.dilation[2] - w.pad[2];
                let row = &mut out[(iz * ih + iy) * iw + first..(iz * ih + iy + 1) * iw];
                let from = &from[(z * oh + y) * ow..][xs];
                row.iter_mut().step_by(w.stride[2]).zip(from).for_each(|(o, &v)| *o += v);
            }
        }
    }
}
