//! Windows over one plane at a time, for pooling. The plane is copied once into lines with their
//! padding, cut by the stride, so that the values which neighbouring outputs read lie side by side.

use super::conv::Window;
use super::lane::Lane;
use super::math::Float;
use super::simd::{Vectorized, vectorized};
use std::ops::Range;

/// A plane of an input in the computing type, padded. One after the other it takes in planes for the same windows, with
/// the same filling, and as many rows.
pub struct Plane<F> {
    data: Vec<F>,
    /// Length of one phase of a line.
    phase: usize,
    /// Length of a line: one phase for each column of a stride.
    line: usize,
    /// The input's rows that are held.
    rows: Range<usize>,
    /// Where each column of the kernel reads, from a line's beginning on.
    shifts: Vec<usize>,
}

/// Length of one phase of a line: what a block of outputs reads at the end of a row lies in it.
fn phase(w: &Window) -> Option<usize> {
    let reach = w.kernel[2].checked_sub(1)?.checked_mul(w.dilation[2])?;
    w.output[2].checked_next_multiple_of(BLOCK / 2)?.checked_add(reach / w.stride[2])?.checked_add(1)
}

/// Deals the columns of a row out to the phases of a line: element `i` of phase `p` is column `stride * i + p - pad`.
fn deal<F: Copy>(line: &mut [F], from: &[F], pad: usize, phase: usize, stride: usize) {
    for (p, part) in line.chunks_exact_mut(phase).enumerate() {
        let first = pad.saturating_sub(p).div_ceil(stride);
        let Some(column) = (first * stride + p).checked_sub(pad) else { continue };
        let from = from.get(column..).unwrap_or_default().iter().step_by(stride);
        part.get_mut(first..).unwrap_or_default().iter_mut().zip(from).for_each(|(o, v)| *o = *v);
    }
}

/// The same for a known stride, whole strides at a time.
struct Deal<'a, F, const S: usize> {
    line: &'a mut [F],
    from: &'a [F],
    pad: usize,
    phase: usize,
}

impl<F: Float, const S: usize> Vectorized for Deal<'_, F, S> {
    #[inline(always)]
    fn run(self) {
        let Deal { line, from, pad, phase } = self;
        // Columns before the first whole stride, and the elements that these strides go to.
        let lead = (S - pad % S) % S;
        let first = (pad + lead) / S;
        let (whole, _) = from.get(lead..).unwrap_or_default().as_chunks::<S>();
        let whole = &whole[..whole.len().min(phase.saturating_sub(first))];
        let n = whole.len();
        for (p, part) in line.chunks_exact_mut(phase).enumerate() {
            let part = part.get_mut(first..).unwrap_or_default();
            for (o, v) in part.iter_mut().zip(whole) {
                *o = v[p];
            }
        }
        // What is left on both sides.
        for column in (0..lead.min(from.len())).chain(lead + n * S..from.len()) {
            let at = column + pad;
            if let Some(o) = line.get_mut(at % S * phase + at / S)
                && at / S < phase
            {
                *o = from[column];
            }
        }
    }
}

/// How many planes of that many outputs a task works on.
pub fn planes_at_once(outputs: usize) -> usize {
    ((1 << 14) / outputs.max(1)).max(1)
}

/// Outputs that are computed at a time: rows times columns.
const BLOCK: usize = 64;

impl<F: Float> Plane<F> {
    /// An empty plane, whose memory is used again and again.
    pub fn new() -> Self {
        Plane { data: Vec::new(), phase: 0, line: 0, rows: 0..0, shifts: Vec::new() }
    }

    /// True if windows of that form can be walked by lines. Far-reaching kernels, paddings and strides, whose lines would
    /// be much larger than what they are made of, cannot.
    pub fn serves(w: &Window) -> bool {
        let flat = w.input[0] == 1 && w.kernel[0] == 1 && w.output[0] == 1;
        let elements = || {
            let phase = phase(w)?;
            phase.checked_mul(w.stride[2])?.checked_mul(w.input[1].checked_add(1)?)
        };
        let most = 8 * (w.input_len().saturating_add(w.output_len()).min(usize::MAX / 16)) + (1 << 16);
        flat && w.kernel[2] > 0 && elements().is_some_and(|n| n <= most)
    }

    /// Takes in rows of the plane of one channel; what lies outside it is `fill`.
    pub fn load<T: Lane<C = F>>(&mut self, w: &Window, input: &[T], rows: Range<usize>, fill: F) {
        let width = w.input[2];
        let input = &input[rows.start * width..rows.end.max(rows.start) * width];
        let (stride, pad) = (w.stride[2], w.pad[2]);
        self.phase = phase(w).unwrap_or(0);
        self.line = self.phase * stride;
        // The last line is all padding: it stands for every line above and below the plane. The padding of another plane
        // is this one's.
        let need = self.line * (rows.len() + 1);
        if self.data.len() != need {
            self.data.clear();
            self.data.resize(need, fill);
            let shift = |k: usize| k * w.dilation[2];
            self.shifts = (0..w.kernel[2]).map(|k| shift(k) % stride * self.phase + shift(k) / stride).collect();
        }
        self.rows = rows;
        let mut wide = vec![F::ZERO; if T::direct(input).is_some() || stride == 1 { 0 } else { width }];
        for (line, from) in self.data.chunks_exact_mut(self.line).zip(input.chunks_exact(width)) {
            if stride == 1 {
                let to = line.get_mut(pad..).unwrap_or_default();
                let n = width.min(to.len());
                T::widen(&from[..n], &mut to[..n]);
                continue;
            }
            let from = match T::direct(from) {
                Some(direct) => direct,
                None => {
                    T::widen(from, &mut wide);
                    &wide
                }
            };
            match stride {
                2 => vectorized(Deal::<F, 2> { line, from, pad, phase: self.phase }),
                4 => vectorized(Deal::<F, 4> { line, from, pad, phase: self.phase }),
                _ => deal(line, from, pad, self.phase, stride),
            }
        }
    }

    /// Where the line of an input row begins.
    #[inline(always)]
    fn start(&self, row: Option<usize>) -> usize {
        self.line * row.filter(|r| self.rows.contains(r)).map_or(self.rows.len(), |r| r - self.rows.start)
    }

    /// For each window, `step(sum, value)` over its elements from `start` on; `end` gets the finished sums of each piece of an
    /// output row: row, first column, values.
    #[inline(always)]
    pub fn walk(&self, w: &Window, start: F, step: impl Fn(F, F) -> F, end: impl FnMut(usize, usize, &[F])) {
        match w.output[2] {
            17.. => self.blocks::<{ BLOCK / 32 }, 32>(w, start, step, end),
            9.. => self.blocks::<{ BLOCK / 16 }, 16>(w, start, step, end),
            _ => self.blocks::<{ BLOCK / 8 }, 8>(w, start, step, end),
        }
    }

    // Written so that the sums of a block stay in registers: fixed sizes, no check within the innermost loops.
    #[inline(always)]
    fn blocks<const R: usize, const C: usize>(
        &self,
        w: &Window,
        start: F,
        step: impl Fn(F, F) -> F,
        mut end: impl FnMut(usize, usize, &[F]),
    ) {
        let [_, rows, columns] = w.output;
        for y in (0..rows).step_by(R) {
            for x in (0..columns).step_by(C) {
                let mut sums = [[start; C]; R];
                for ky in 0..w.kernel[1] {
                    let mut lines = [0usize; R];
                    for (r, line) in lines.iter_mut().enumerate() {
                        *line = self.start(((y + r) * w.stride[1] + ky * w.dilation[1]).checked_sub(w.pad[1]));
                    }
                    for shift in &self.shifts {
                        let at = shift + x;
                        for r in 0..R {
                            let Some(from) = self.data[lines[r] + at..].first_chunk::<C>() else { continue };
                            // A row is made anew as a whole: written so, it becomes vector instructions.
                            let mut made = [F::ZERO; C];
                            for c in 0..C {
                                made[c] = step(sums[r][c], from[c]);
                            }
                            sums[r] = made;
                        }
                    }
                }
                for (r, sums) in sums.iter().enumerate().take(rows - y) {
                    end(y + r, x, &sums[..C.min(columns - x)]);
                }
            }
        }
    }
}

/// What is done over the windows of a plane.
#[derive(Clone, Copy)]
enum Over {
    /// The largest value; NaN wins.
    Maximum,
    /// The sum.
    Total,
}

struct Walked<'a, F> {
    window: &'a Window,
    plane: &'a Plane<F>,
    over: Over,
    out: &'a mut [F],
}

impl<F: Float> Vectorized for Walked<'_, F> {
    #[inline(always)]
    fn run(self) {
        let Walked { window: w, plane, over, out } = self;
        let columns = w.output[2];
        let end = |y: usize, x: usize, made: &[F]| out[y * columns + x..][..made.len()].copy_from_slice(made);
        match over {
            Over::Maximum => {
                let larger = |best: F, v: F| if v > best || v.nan() { v } else { best };
                plane.walk(w, F::LOWEST, larger, end);
            }
            Over::Total => plane.walk(w, F::ZERO, |sum, v| sum + v, end),
        }
    }
}

/// The largest value of each window; NaN wins.
pub fn maximum<F: Float>(w: &Window, plane: &Plane<F>, out: &mut [F]) {
    vectorized(Walked { window: w, plane, over: Over::Maximum, out });
}

/// The sum of each window.
pub fn total<F: Float>(w: &Window, plane: &Plane<F>, out: &mut [F]) {
    vectorized(Walked { window: w, plane, over: Over::Total, out });
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    /// Maxima and totals of many forms of windows, each element by the definition. All numbers are small
    /// integers, so that the sums are exact in any order.
    fn check<T: Lane<C: Float>>(input: [usize; 2], kernel: [usize; 2], stride: usize, dilation: usize, pad: usize) {
        let size = |d: usize| (input[d] + 2 * pad).checked_sub((kernel[d] - 1) * dilation + 1).map(|n| n / stride + 1);
        let (Some(h), Some(w)) = (size(0), size(1)) else { return };
        let window = Window {
            input: [1, input[0], input[1]],
            output: [1, h, w],
            kernel: [1, kernel[0], kernel[1]],
            stride: [1, stride, stride],
            dilation: [1, dilation, dilation],
            pad: [0, pad, pad],
        };
        assert!(Plane::<T::C>::serves(&window));
        let values: Vec<T::C> = (0..input[0] * input[1]).map(|i| T::C::of((i * 7 % 31) as f64 - 15.0)).collect();
        let stored: Vec<T> = values.iter().map(|v| T::put(*v)).collect();
        let (mut sums, mut best) = (vec![T::C::ZERO; h * w], vec![T::C::ZERO; h * w]);
        let mut plane = Plane::new();
        // The second time over what the first left.
        for _ in 0..2 {
            plane.load(&window, &stored, 0..input[0], T::C::ZERO);
            total(&window, &plane, &mut sums);
        }
        let mut plane = Plane::new();
        plane.load(&window, &stored, 0..input[0], T::C::LOWEST);
        maximum(&window, &plane, &mut best);
        for y in 0..h {
            for x in 0..w {
                let (mut sum, mut largest) = (T::C::ZERO, T::C::LOWEST);
                for k in 0..kernel[0] * kernel[1] {
                    let at = (window.reads(1, y, k / kernel[1]), window.reads(2, x, k % kernel[1]));
                    if let (Some(iy), Some(ix)) = at {
                        sum += values[iy * input[1] + ix];
                        largest = largest.larger(values[iy * input[1] + ix]);
                    }
                }
                let what = format!("{input:?} {kernel:?} stride {stride} dilation {dilation} pad {pad} at {y},{x}");
                assert_eq!((sums[y * w + x], best[y * w + x]), (sum, largest), "{what}");
            }
        }
    }

    #[test]
    fn far_reaching_windows_are_left_to_others() {
        let near = Window {
            input: [1, 2000, 3],
            output: [1, 2000, 3],
            kernel: [1, 3, 3],
            stride: [1; 3],
            dilation: [1; 3],
            pad: [0, 1, 1],
        };
        assert!(Plane::<f32>::serves(&near));
        assert!(!Plane::<f32>::serves(&Window { dilation: [1, 1, 1 << 20], pad: [0, 1, 1 << 20], ..near }));
        assert!(!Plane::<f32>::serves(&Window {
            stride: [1, 1, usize::MAX / 2],
            output: [1, 2000, 1],
            ..near.clone()
        }));
        assert!(!Plane::<f32>::serves(&Window { kernel: [1, 3, usize::MAX], ..near }));
    }

    #[test]
    fn windows_are_those_of_the_definition() {
        for input in [[1, 1], [5, 7], [9, 16], [13, 33], [40, 17], [3, 70]] {
            for kernel in [[1, 1], [3, 3], [5, 2], [2, 7]] {
                for stride in 1..=5 {
                    for (dilation, pad) in [(1, 0), (1, 1), (2, 2), (3, 5)] {
                        check::<f32>(input, kernel, stride, dilation, pad);
                        check::<f64>(input, kernel, stride, dilation, pad);
                        check::<f16>(input, kernel, stride, dilation, pad);
                    }
                }
            }
        }
    }
}
