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

impl<T: Lane<C: Dispatch>> Weights<T> {
    /// Packs `columns` columns of each group; `at(column of all groups, step)` is where an element lies in `from`.
    pub fn new(from: &[T], [groups, columns, steps]: [usize; 3], at: impl Fn(usize, usize) -> usize) -> Result<Self> {
        let width = panel_width::<T::C>();
        let len = columns.next_multiple_of(width).checked_mul(steps).and_then(|n| n.checked_mul(groups));
        let len = len.ok_or_else(|| err!(OutOfMemory, "{groups} times {columns} columns of {steps} weights"))?;
        let mut data = Vec::new();
        data.try_reserve_exact(len).map_err(|e| err!(OutOfMemory, "packing {len} weights: {e}"))?;
        for group in 0..groups {
            for first in (0..columns).step_by(width) {
                let used = width.min(columns - first);
                for step in 0..steps {
                    data.extend((0..used).map(|c| from[at(group * columns + first + c, step)]));
                    data.resize(data.len() + width - used, T::default());
                }
            }
        }
        Ok(Weights { data, groups, columns, steps, width })
    }

    /// Weights of shape [output channels, input channels of a group, kernel elements].
    pub fn of_kernel(from: &[T], groups: usize, channels: usize, taps: usize) -> Result<Self> {
        let columns = from.len() / (channels * taps).max(1) / groups;
        Weights::new(from, [groups, columns, channels * taps], |column, step| {
            (column * channels + step % channels) * taps + step / channels
        })
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
