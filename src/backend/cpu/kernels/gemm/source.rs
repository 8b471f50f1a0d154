//! What a matrix product reads: anything that fills panels. A panel holds `width` lanes (rows of A or columns of B) side
//! by side for each step of k; lanes beyond the matrix are zero.

use super::super::lane::Lane;
use super::super::math::Float;
use super::super::simd::{Vectorized, vectorized};
use super::BLOCK_K;
use std::ops::Range;

/// A matrix that fills panels.
pub trait Source<F>: Sync {
    /// Packs the lanes and steps into panels of `width` lanes, one panel after the other.
    fn pack(&self, lanes: Range<usize>, steps: Range<usize>, width: usize, out: &mut [F]);

    /// Panels that are packed already, from lane `lane` and step `step` on.
    fn ready(&self, _lane: usize, _step: usize, _width: usize) -> Option<&[F]> {
        None
    }
}

/// A matrix in memory.
pub struct Strided<'a, T> {
    /// Elements, from the first lane's first step on.
    pub data: &'a [T],
    /// Distance from lane to lane.
    pub lane: usize,
    /// Distance from step to step.
    pub step: usize,
}

impl<T: Lane<C: Float>> Source<T::C> for Strided<'_, T> {
    fn pack(&self, lanes: Range<usize>, steps: Range<usize>, width: usize, out: &mut [T::C]) {
        // The widths that kernels have get loops of their own, whose rows the compiler knows.
        match width {
            4 => vectorized(Pack::<T, 4> { matrix: self, lanes, steps, out }),
            6 => vectorized(Pack::<T, 6> { matrix: self, lanes, steps, out }),
            8 => vectorized(Pack::<T, 8> { matrix: self, lanes, steps, out }),
            16 => vectorized(Pack::<T, 16> { matrix: self, lanes, steps, out }),
            other => unreachable!("no kernel has panels of {other} lanes"),
        }
    }
}

/// Steps that are turned around at a time.
const TURN: usize = 8;

/// Packs panels of W lanes.
struct Pack<'a, T: Lane, const W: usize> {
    matrix: &'a Strided<'a, T>,
    lanes: Range<usize>,
    steps: Range<usize>,
    out: &'a mut [T::C],
}

impl<T: Lane<C: Float>, const W: usize> Vectorized for Pack<'_, T, W> {
    #[inline(always)]
    fn run(self) {
        let Pack { matrix: m, lanes, steps, out } = self;
        let depth = steps.len();
        for (lane, panel) in lanes.clone().step_by(W).zip(out.chunks_exact_mut(W * depth)) {
            let used = W.min(lanes.end - lane);
            let (rows, _) = panel.as_chunks_mut::<W>();
            if m.lane == 1 {
                for (s, row) in steps.clone().zip(rows) {
                    let from = &m.data[s * m.step + lane..];
                    match from.first_chunk::<W>() {
                        Some(all) if used == W => widen_row(all, row),
                        _ => {
                            row[used..].fill(T::C::ZERO);
                            from[..used].iter().zip(row).for_each(|(v, o)| *o = v.get());
                        }
                    }
                }
            } else if m.step == 1 {
                let mut lines: [&[T]; W] = [&[]; W];
                for (l, line) in lines.iter_mut().enumerate().take(used) {
                    *line = &m.data[(lane + l) * m.lane + steps.start..][..depth];
                }
                turn(&lines, rows);
            } else {
                for (s, row) in steps.clone().zip(rows) {
                    row.fill(T::C::ZERO);
                    for (l, o) in row.iter_mut().enumerate().take(used) {
                        *o = m.data[(lane + l) * m.lane + s * m.step].get();
                    }
                }
            }
        }
    }
}

/// One step of a panel, widened.
#[inline(always)]
fn widen_row<T: Lane<C: Float>, const W: usize>(from: &[T; W], to: &mut [T::C; W]) {
    match T::direct(from).and_then(|d| d.first_chunk::<W>()) {
        Some(direct) => *to = *direct,
        None => T::widen(from, to),
    }
}

/// Lines (empty ones are zeros) side by side.
#[inline(always)]
fn turn<T: Lane<C: Float>, const W: usize>(lines: &[&[T]; W], rows: &mut [[T::C; W]]) {
    let depth = rows.len();
    for (i, rows) in rows.chunks_mut(TURN).enumerate() {
        let mut square = [[T::C::ZERO; TURN]; W];
        for (square, line) in square.iter_mut().zip(lines) {
            if line.len() < depth {
                continue;
            }
            let part = &line[i * TURN..];
            match part.first_chunk::<TURN>() {
                Some(whole) => widen_row(whole, square),
                None => part.iter().zip(square).for_each(|(v, o)| *o = v.get()),
            }
        }
        for (s, row) in rows.iter_mut().enumerate() {
            for (o, square) in row.iter_mut().zip(&square) {
                *o = square[s];
            }
        }
    }
}

/// What lies in packed panels from a lane and the first step of a block on.
fn from<T>(data: &[T], [lanes, steps, width]: [usize; 3], lane: usize, step: usize) -> &[T] {
    let depth = BLOCK_K.min(steps - step);
    &data[step * lanes.next_multiple_of(width) + lane / width * width * depth..]
}

/// Panels in memory.
pub struct Panels<'a, F> {
    /// The panels of each block of k, one block after the other.
    pub data: &'a [F],
    /// How many lanes there are.
    pub lanes: usize,
    /// Steps of k.
    pub steps: usize,
    /// Lanes of a panel.
    pub width: usize,
}

impl<F: Float> Source<F> for Panels<'_, F> {
    fn pack(&self, lanes: Range<usize>, steps: Range<usize>, width: usize, out: &mut [F]) {
        let n = lanes.len().div_ceil(width) * width * steps.len();
        if let Some(panels) = self.ready(lanes.start, steps.start, width) {
            out[..n].copy_from_slice(&panels[..n]);
        }
    }

    fn ready(&self, lane: usize, step: usize, width: usize) -> Option<&[F]> {
        debug_assert_eq!(width, self.width);
        Some(from(self.data, [self.lanes, self.steps, self.width], lane, step))
    }
}
