//! The part of an image that some places read, copied with its padding and widened.

use super::super::conv::Window;
use super::super::lane::Lane;
use super::super::math::Float;

/// Some channels of an image.
pub struct Band<'a> {
    /// The windows.
    pub window: &'a Window,
    /// Channels of the image.
    pub channels: usize,
    /// The first one that is copied.
    pub first: usize,
    /// How many are.
    pub count: usize,
}

impl Band<'_> {
    /// Copies what the place (z, y, x) and those after it read: `sizes` planes, rows and columns of elements.
    pub fn load<T: Lane<C: Float>>(&self, image: &[T], place: [usize; 3], sizes: [usize; 3], out: &mut [T::C]) {
        let w = self.window;
        let n = self.count;
        let row_len = sizes[2] * n;
        let from = |d: usize, r: usize| (place[d] * w.stride[d] + r).checked_sub(w.pad[d]).filter(|i| *i < w.input[d]);
        // Columns that lie in the input.
        let start = place[2] * w.stride[2];
        let lead = w.pad[2].saturating_sub(start).min(sizes[2]);
        let first = (start + lead).saturating_sub(w.pad[2]);
        let used = w.input[2].saturating_sub(first).min(sizes[2] - lead);
        for (i, row) in out.chunks_exact_mut(row_len).enumerate() {
            let (Some(z), Some(y)) = (from(0, i / sizes[1]), from(1, i % sizes[1])) else {
                row.fill(T::C::ZERO);
                continue;
            };
            row[..lead * n].fill(T::C::ZERO);
            row[(lead + used) * n..].fill(T::C::ZERO);
            let at = ((z * w.input[1] + y) * w.input[2] + first) * self.channels;
            let to = &mut row[lead * n..][..used * n];
            if n == self.channels {
                T::widen(&image[at..at + to.len()], to);
                continue;
            }
            for (x, to) in to.chunks_exact_mut(n).enumerate() {
                T::widen(&image[at + x * self.channels + self.first..][..n], to);
            }
        }
    }
}
