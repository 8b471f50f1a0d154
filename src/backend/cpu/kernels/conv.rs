//! Convolution: windows, their columns as a matrix source, and the depthwise case directly.

use super::gemm::Source;
use super::math::Float;
use super::simd::vectorize;
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
pub struct Columns<'a, F> {
    /// One image's channels of one group.
    pub input: &'a [F],
    /// The windows.
    pub window: &'a Window,
}

/// Consecutive output positions of one output row.
#[derive(Clone, Copy, Default)]
struct Piece {
    lane: usize,
    len: usize,
    z: isize,
    y: isize,
    x: isize,
}

/// Panels are at most this wide.
const MAX_WIDTH: usize = 32;

impl<F: Float> Source<F> for Columns<'_, F> {
    fn pack(&self, lanes: Range<usize>, steps: Range<usize>, width: usize, out: &mut [F]) {
        let w = self.window;
        let plane = w.input_len();
        let mut pieces = [Piece::default(); MAX_WIDTH];
        for (lane, panel) in lanes.clone().step_by(width).zip(out.chunks_exact_mut(width * steps.len())) {
            let used = width.min(lanes.end - lane).min(MAX_WIDTH);
            let count = self.pieces(lane, used, &mut pieces);
            let pieces = &pieces[..count];
            let mut channel = steps.start / w.kernel_len();
            let mut element = steps.start % w.kernel_len();
            for row in panel.chunks_exact_mut(width) {
                let [kz, ky, kx] = w.kernel_position(element);
                let shift = [kz * w.dilation[0], ky * w.dilation[1], kx * w.dilation[2]].map(|s| s as isize);
                let input = &self.input[channel * plane..(channel + 1) * plane];
                for p in pieces {
                    self.piece(input, p, shift, &mut row[p.lane..p.lane + p.len]);
                }
                row[used..].fill(F::ZERO);
                element += 1;
                if element == w.kernel_len() {
                    element = 0;
                    channel += 1;
                }
            }
        }
    }
}

impl<F: Float> Columns<'_, F> {
    fn pieces(&self, first: usize, count: usize, pieces: &mut [Piece; MAX_WIDTH]) -> usize {
        let w = self.window;
        let [_, oh, ow] = w.output;
        let (mut lane, mut n) = (0, 0);
        while lane < count {
            let at = first + lane;
            let (z, y, x) = (at / (oh * ow), at / ow % oh, at % ow);
            let len = (ow - x).min(count - lane);
            let from = |dim: usize, o: usize| (o * w.stride[dim]) as isize - w.pad[dim] as isize;
            pieces[n] = Piece { lane, len, z: from(0, z), y: from(1, y), x: from(2, x) };
            n += 1;
            lane += len;
        }
        n
    }

    #[inline(always)]
    fn piece(&self, input: &[F], p: &Piece, shift: [isize; 3], out: &mut [F]) {
        let w = self.window;
        let [d, h, width] = w.input.map(|n| n as isize);
        let (z, y, x) = (p.z + shift[0], p.y + shift[1], p.x + shift[2]);
        if z < 0 || z >= d || y < 0 || y >= h {
            out.fill(F::ZERO);
            return;
        }
        let base = ((z * h + y) * width) as usize;
        let row = &input[base..base + width as usize];
        let step = w.stride[2];
        if x >= 0 && x as usize + (p.len - 1) * step < row.len() {
            let from = &row[x as usize..];
            match (step, <&mut [F; 16]>::try_from(&mut *out)) {
                (1, Ok(out)) => out.copy_from_slice(&from[..16]),
                (1, Err(_)) => out.copy_from_slice(&from[..p.len]),
                _ => out.iter_mut().zip(from.iter().step_by(step)).for_each(|(o, &v)| *o = v),
            }
            return;
        }
        for (i, o) in out.iter_mut().enumerate() {
            let at = x + (i * step) as isize;
            *o = if at >= 0 && at < width { row[at as usize] } else { F::ZERO };
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
