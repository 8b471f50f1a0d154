//! What a matrix product reads: matrices in memory, of any type that computes in the product's, copied into the order that
//! tiles want. One routine for all types: what differs is how a run of elements is widened.

use super::super::lane::Lane;
use super::super::vector::Dispatch;
use super::turn::turn;
use std::ops::Range;

/// A matrix in memory. Its lanes are the rows of A, or the columns of B; every lane has an element for each step of k.
#[derive(Clone, Copy)]
pub struct Operand<'a, F> {
    bytes: &'a [u8],
    /// The elements, where nothing needs widening.
    direct: Option<&'a [F]>,
    /// Widens the elements from the given one on.
    widen: fn(&[u8], usize, &mut [F]),
    /// Each lane's steps lie side by side; else each step's lanes do.
    by_lanes: bool,
    /// From lane to lane, or from step to step.
    apart: usize,
}

/// Lines, and elements of each, that are turned around at a time: both sides stay in the first-level cache.
const LINES: usize = 32;
const PART: usize = 64;

impl<'a, F: Dispatch + Lane<C = F>> Operand<'a, F> {
    /// Lanes whose steps lie side by side, `apart` elements from one lane to the next: rows of A that are rows in memory,
    /// columns of B that are rows in memory.
    pub fn by_lanes<T: Lane<C = F>>(data: &'a [T], apart: usize) -> Self {
        Operand {
            bytes: bytemuck::cast_slice(data),
            direct: T::direct(data),
            widen: |bytes, at, to| T::widen(&bytemuck::cast_slice(bytes)[at..at + to.len()], to),
            by_lanes: true,
            apart,
        }
    }

    /// Steps whose lanes lie side by side, `apart` elements from one step to the next.
    pub fn by_steps<T: Lane<C = F>>(data: &'a [T], apart: usize) -> Self {
        Operand { by_lanes: false, ..Operand::by_lanes(data, apart) }
    }

    /// The elements from a lane and step on and the distance of lanes, if tiles can read rows where they lie. Rows whose
    /// distance is a multiple of 2 KiB share so few sets of the first-level cache that they drive each other out.
    pub fn rows(&self, lanes: &Range<usize>, steps: &Range<usize>) -> Option<(&'a [F], usize)> {
        let crowded = (self.apart * size_of::<F>()).is_multiple_of(CROWDED) && lanes.len() > FEW;
        let data = self.direct.filter(|_| self.by_lanes && !crowded)?;
        Some((&data[lanes.start * self.apart + steps.start..], self.apart))
    }

    /// Copies rows of A, `apart` elements from one to the next.
    pub fn pack_rows(&self, lanes: Range<usize>, steps: Range<usize>, to: &mut [F], apart: usize) {
        if !self.by_lanes {
            return self.turned(steps, lanes, to, apart);
        }
        // Rows without a gap are one run.
        if [self.apart, apart] == [steps.len(); 2] {
            return self.load(lanes.start * apart, &mut to[..lanes.len() * apart]);
        }
        for (lane, to) in lanes.zip(to.chunks_mut(apart)) {
            self.load(lane * self.apart + steps.start, &mut to[..steps.len()]);
        }
    }

    /// Copies columns of B into panels of `width`, each with a row for every step; columns that fill up the last panel are
    /// zero.
    pub fn pack_panels(&self, lanes: Range<usize>, steps: Range<usize>, width: usize, to: &mut [F]) {
        let panel = width * steps.len();
        let used = |first: usize| width.min(lanes.len() - first);
        if self.by_lanes {
            for (first, to) in (0..lanes.len()).step_by(width).zip(to.chunks_exact_mut(panel)) {
                let used = used(first);
                if used < width {
                    to.fill(F::ZERO);
                }
                let first = lanes.start + first;
                self.turned(first..first + used, steps.clone(), to, width);
            }
            return;
        }
        // Lines without a gap between them are widened some at a time.
        let together = if self.apart == lanes.len() { (LINES * PART / self.apart.max(1)).max(1) } else { 1 };
        let mut wide = Vec::new();
        if self.direct.is_none() {
            wide.resize(lanes.len() * together.min(steps.len()), F::ZERO);
        }
        let count = steps.len();
        for (i, step) in steps.enumerate() {
            let at = step * self.apart + lanes.start;
            let line = match self.direct {
                Some(data) => &data[at..at + lanes.len()],
                None => {
                    let ready = i % together;
                    if ready == 0 {
                        self.load(at, &mut wide[..lanes.len() * together.min(count - i)]);
                    }
                    &wide[ready * lanes.len()..][..lanes.len()]
                }
            };
            for (p, from) in line.chunks(width).enumerate() {
                let to = &mut to[p * panel + i * width..][..width];
                // Whole panels are copied by a size that is a constant.
                match (from.first_chunk::<LINES>(), to.first_chunk_mut::<LINES>()) {
                    (Some(from), Some(to)) if width == LINES => *to = *from,
                    _ => {
                        to[..from.len()].copy_from_slice(from);
                        to[from.len()..].fill(F::ZERO);
                    }
                }
            }
        }
    }

    fn load(&self, at: usize, to: &mut [F]) {
        match self.direct {
            Some(data) => to.copy_from_slice(&data[at..at + to.len()]),
            None => (self.widen)(self.bytes, at, to),
        }
    }

    /// Turns lines of the memory around: element `inner` of line `outer` goes to row `inner` of `to`.
    fn turned(&self, outer: Range<usize>, inner: Range<usize>, to: &mut [F], apart: usize) {
        for (i, line) in outer.clone().step_by(LINES).enumerate() {
            let lines = LINES.min(outer.end - line);
            for (k, element) in inner.clone().step_by(PART).enumerate() {
                let part = PART.min(inner.end - element);
                let to = &mut to[k * PART * apart + i * LINES..];
                let at = line * self.apart + element;
                if let Some(data) = self.direct {
                    turn(&data[at..], self.apart, [lines, part], to, apart);
                    continue;
                }
                let mut wide = [F::ZERO; LINES * PART];
                for (l, wide) in wide.chunks_exact_mut(PART).enumerate().take(lines) {
                    self.load(at + l * self.apart, &mut wide[..part]);
                }
                turn(&wide, PART, [lines, part], to, apart);
            }
        }
    }
}

/// Bytes whose multiples are bad distances of rows, and rows that do not mind.
const CROWDED: usize = 2048;
const FEW: usize = 4;

/// The distance at which rows of `steps` elements are packed.
pub fn distance<F>(steps: usize) -> usize {
    match (steps * size_of::<F>()).is_multiple_of(CROWDED) {
        true => steps + 64 / size_of::<F>(),
        false => steps,
    }
}
