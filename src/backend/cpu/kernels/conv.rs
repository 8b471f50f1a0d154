//! The windows of convolutions and pools, and how transposed convolutions add theirs up.

use super::math::Float;
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
