//! What a matrix product reads: anything that fills panels. A panel holds `width` lanes (rows of A or columns of B) side
//! by side for each step of k; lanes beyond the matrix are zero.

use super::super::lane::Lane;
use super::super::math::Float;
use super::BLOCK_K;
use crate::Result;
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
        let depth = steps.len();
        for (lane, panel) in lanes.clone().step_by(width).zip(out.chunks_exact_mut(width * depth)) {
            let used = width.min(lanes.end - lane);
            if used < width {
                panel.fill(T::C::default());
            }
            if self.lane == 1 {
                for (s, row) in steps.clone().zip(panel.chunks_exact_mut(width)) {
                    let from = s * self.step + lane;
                    T::widen(&self.data[from..from + used], &mut row[..used]);
                }
            } else {
                for l in 0..used {
                    let from = (lane + l) * self.lane + steps.start * self.step;
                    self.column(from, depth, width, &mut panel[l..]);
                }
            }
        }
    }
}

impl<T: Lane> Strided<'_, T> {
    /// Spreads one lane over a panel.
    fn column(&self, from: usize, depth: usize, width: usize, out: &mut [T::C]) {
        if self.step != 1 || T::direct(&[]).is_some() {
            for (s, o) in out.iter_mut().step_by(width).take(depth).enumerate() {
                *o = self.data[from + s * self.step].get();
            }
            return;
        }
        let mut wide = [T::C::default(); BLOCK_K];
        let wide = &mut wide[..depth.min(BLOCK_K)];
        T::widen(&self.data[from..from + wide.len()], wide);
        for (o, &w) in out.iter_mut().step_by(width).zip(wide.iter()) {
            *o = w;
        }
    }
}

/// A constant matrix, packed once, in its own element type: halves stay halves and are widened block by block.
pub struct Packed<T> {
    data: Vec<T>,
    lanes: usize,
    steps: usize,
    width: usize,
}

impl<T: Lane<C: Float>> Packed<T> {
    /// Packs a matrix of `lanes` lanes and `steps` steps of k.
    pub fn new(matrix: &Strided<T>, lanes: usize, steps: usize, width: usize) -> Result<Packed<T>> {
        let panels = lanes.div_ceil(width);
        let mut data = Vec::new();
        data.try_reserve_exact(panels * width * steps)
            .map_err(|_| crate::err!(OutOfMemory, "no memory for packed weights of {lanes}x{steps}"))?;
        for k in (0..steps).step_by(BLOCK_K) {
            let depth = BLOCK_K.min(steps - k);
            for lane in (0..lanes).step_by(width) {
                for s in k..k + depth {
                    for l in lane..lane + width {
                        data.push(match l < lanes {
                            true => matrix.data[l * matrix.lane + s * matrix.step],
                            false => T::default(),
                        });
                    }
                }
            }
        }
        Ok(Packed { data, lanes, steps, width })
    }

    fn at(&self, lane: usize, step: usize) -> &[T] {
        let padded = self.lanes.next_multiple_of(self.width);
        let depth = BLOCK_K.min(self.steps - step);
        &self.data[step * padded + lane / self.width * self.width * depth..]
    }
}

impl<T: Lane<C: Float>> Source<T::C> for Packed<T> {
    fn pack(&self, lanes: Range<usize>, steps: Range<usize>, width: usize, out: &mut [T::C]) {
        debug_assert_eq!(width, self.width);
        let n = lanes.len().div_ceil(width) * width * steps.len();
        T::widen(&self.at(lanes.start, steps.start)[..n], &mut out[..n]);
    }

    fn ready(&self, lane: usize, step: usize, width: usize) -> Option<&[T::C]> {
        debug_assert_eq!(width, self.width);
        T::direct(self.at(lane, step))
    }
}
