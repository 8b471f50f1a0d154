//! Weights of dense convolutions in panels, packed when the engine is built.

use super::super::lane::Lane;
use super::super::vector::{Dispatch, panel_width};
use crate::{Result, err};

/// Weights of a convolution, or a matrix: for each group its columns (output channels) in panels of two vectors, each with a
/// row for every step (kernel element, then input channel). Columns that fill up the last panel are zero.
pub struct Weights<T> {
    data: Vec<T>,
    /// Groups.
    pub groups: usize,
    /// Columns of a group.
    pub columns: usize,
    /// Steps of a group.
    pub steps: usize,
    /// Columns of a panel.
    pub width: usize,
}

/// Steps that are packed at a time.
const STEPS: usize = 64;

impl<T: Lane<C: Dispatch>> Weights<T> {
    /// Packs `columns` columns of each group. `from` has `between` elements from one column to the next; step `i` of a column
    /// is `at(i)` further on.
    fn packed(
        from: &[T],
        [groups, columns, steps]: [usize; 3],
        between: usize,
        at: impl Fn(usize) -> usize,
    ) -> Result<Self> {
        let width = panel_width::<T::C>();
        let len = columns.next_multiple_of(width).checked_mul(steps).and_then(|n| n.checked_mul(groups));
        let len = len.ok_or_else(|| err!(OutOfMemory, "{groups} times {columns} columns of {steps} weights"))?;
        let mut data = Vec::new();
        data.try_reserve_exact(len).map_err(|e| err!(OutOfMemory, "packing {len} weights: {e}"))?;
        data.resize(len, T::default());
        let mut panels = data.chunks_exact_mut((width * steps).max(1));
        for group in 0..groups {
            for first in (0..columns).step_by(width) {
                let Some(panel) = panels.next() else { break };
                let used = width.min(columns - first);
                let start = (group * columns + first) * between;
                if between == 1 {
                    for (step, row) in panel.chunks_exact_mut(width).enumerate() {
                        row[..used].copy_from_slice(&from[start + at(step)..][..used]);
                    }
                    continue;
                }
                // Some steps of all columns at a time: both sides stay in the caches.
                for (block, rows) in panel.chunks_mut(width * STEPS).enumerate() {
                    for column in 0..used {
                        let from = &from[start + column * between..];
                        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                            row[column] = from[at(block * STEPS + i)];
                        }
                    }
                }
            }
        }
        Ok(Weights { data, groups, columns, steps, width })
    }

    /// Weights of shape [output channels, input channels of a group, kernel elements].
    pub fn of_kernel(from: &[T], groups: usize, channels: usize, taps: usize) -> Result<Self> {
        let steps = channels * taps;
        let columns = from.len() / steps.max(1) / groups;
        match taps {
            1 => Weights::packed(from, [groups, columns, steps], steps, |step| step),
            _ => Weights::packed(from, [groups, columns, steps], steps, |s| s % channels * taps + s / channels),
        }
    }

    /// A matrix of `steps` rows, or, turned, of `columns` rows.
    pub fn of_matrix(from: &[T], columns: usize, steps: usize, turned: bool) -> Result<Self> {
        match turned {
            true => Weights::packed(from, [1, columns, steps], steps, |step| step),
            false => Weights::packed(from, [1, columns, steps], 1, |step| step * columns),
        }
    }

    /// Panels of a group.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    /// One panel.
    pub fn panel(&self, group: usize, panel: usize) -> &[T] {
        let len = self.width * self.steps;
        &self.data[(group * self.panels() + panel) * len..][..len]
    }
}
