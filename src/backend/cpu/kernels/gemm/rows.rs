//! Products of rows with packed matrices whose sums stay in the computing type, for layers that work on them before anything
//! is rounded. Nothing is allocated, and few rows cost little more than reading the matrix once.
#![allow(unsafe_code)] // tiles take raw pointers, and tasks write disjoint parts of one output

use super::super::channels_last::tile::{Piece, Steps, Tile, tile};
use super::super::channels_last::weights::Weights;
use super::super::lane::Lane;
use super::super::math::Float;
use super::super::vector::{Dispatch, Vector, Work, panel};
use super::Shared;
use crate::Result;
use crate::backend::cpu::threads::Threads;
use std::ops::Range;

/// A packed matrix of any type that computes in `F`.
pub trait Matrix<F>: Send + Sync {
    /// Columns, rounded up to whole panels: what a row of sums needs.
    fn padded(&self) -> usize;
    /// Rows.
    fn steps(&self) -> usize;
    /// Panels of columns.
    fn panels(&self) -> usize;
    /// Multiplies rows that lie one after the other with some panels. A bias is as long as a row of sums; it may be empty.
    ///
    /// # Safety
    /// `c` has the rows' sums, and nobody else uses the panels' part of them.
    unsafe fn part(&self, a: &[F], rows: usize, panels: Range<usize>, bias: &[F], c: *mut F);
}

/// A matrix in its own element type: halves are widened as they are loaded into registers.
pub struct Packed<T> {
    weights: Weights<T>,
    steps: Steps,
}

impl<T: Lane<C: Dispatch>> Packed<T> {
    /// Packs a matrix that is given column by column, of `k` rows.
    pub fn of_columns(from: &[T], columns: usize, k: usize) -> Result<Self> {
        let steps = Steps::new([Piece { at: 0, len: k }]);
        Ok(Packed { weights: Weights::of_matrix(from, columns, k, true)?, steps })
    }
}

/// Rows that pass over a panel before the next panel is read: they stay in the second-level cache.
const ROWS: usize = 96;

impl<T: Lane<C: Dispatch>> Matrix<T::C> for Packed<T> {
    fn padded(&self) -> usize {
        self.weights.panels() * self.weights.width
    }
    fn steps(&self) -> usize {
        self.weights.steps
    }
    fn panels(&self) -> usize {
        self.weights.panels()
    }
    unsafe fn part(&self, a: &[T::C], rows: usize, panels: Range<usize>, bias: &[T::C], c: *mut T::C) {
        let (k, padded) = (self.weights.steps, self.padded());
        assert!(a.len() >= rows * k && (bias.is_empty() || bias.len() >= padded) && panels.end <= self.panels());
        if k == 0 {
            let columns = panels.start * self.weights.width..panels.end * self.weights.width;
            for row in 0..rows {
                for column in columns.clone() {
                    let sum = bias.get(column).copied().unwrap_or(T::C::ZERO);
                    // SAFETY: an element of a row of sums.
                    unsafe { *c.add(row * padded + column) = sum };
                }
            }
            return;
        }
        for row in (0..rows).step_by(ROWS) {
            // SAFETY: row `row` of the sums, which are there as the caller promises.
            let c = unsafe { c.add(row * padded) };
            let (a, rows) = (&a[row * k..], ROWS.min(rows - row));
            T::C::dispatch(Few { matrix: self, a, rows, panels: panels.clone(), bias, c });
        }
    }
}

struct Few<'a, F, T> {
    matrix: &'a Packed<T>,
    a: &'a [F],
    rows: usize,
    panels: Range<usize>,
    bias: &'a [F],
    c: *mut F,
}

impl<F: Dispatch, T: Lane<C = F>> Work<F> for Few<'_, F, T> {
    #[inline(always)]
    fn run<X: Vector<F = F>>(self) {
        let (k, width, padded) = (self.matrix.weights.steps, panel::<X>(), self.matrix.padded());
        let cuts = self.rows.div_ceil(X::ROWS);
        for p in self.panels {
            let b = self.matrix.weights.panel(0, p);
            assert!(b.len() >= k * width && (p + 1) * width <= padded);
            let bias = self.bias.get(p * width..).map_or(std::ptr::null(), <[F]>::as_ptr);
            let bias = if self.bias.is_empty() { std::ptr::null() } else { bias };
            for cut in 0..cuts {
                let (first, last) = (cut * self.rows / cuts, (cut + 1) * self.rows / cuts);
                let a = self.a[first * k..last * k].as_ptr();
                // SAFETY: the rows are there, and so are the panel, the bias and a whole panel's width of sums; the
                // processor has what the dispatch found.
                unsafe {
                    let c = self.c.add(first * padded + p * width);
                    let steps = &self.matrix.steps;
                    let b = b.as_ptr();
                    let (c_apart, columns) = (padded, width);
                    let t = Tile { a, apart: k, steps, b, c, c_apart, columns, bias, accumulate: false };
                    tile::<X, T>(&t, last - first);
                }
            }
        }
    }
}

/// Rows of a task at least.
const LEAST_ROWS: usize = 24;

/// Multiplies `rows` rows; each row of `out` is as long as the matrix wants it. Large products are shared among the threads.
pub fn multiply<F: Dispatch>(threads: &Threads, by: &dyn Matrix<F>, a: &[F], rows: usize, bias: &[F], out: &mut [F]) {
    let (padded, k, panels) = (by.padded(), by.steps(), by.panels());
    assert!(out.len() >= rows * padded && a.len() >= rows * k);
    let work = rows.saturating_mul(padded).saturating_mul(k.max(1));
    if !threads.pays(work) {
        // SAFETY: all sums are there and borrowed.
        return unsafe { by.part(a, rows, 0..panels, bias, out.as_mut_ptr()) };
    }
    // Tasks of some rows each; where there are few rows, of some panels each.
    let wanted = 4 * threads.count();
    let bands = (rows / LEAST_ROWS).clamp(1, wanted);
    let shares = wanted.div_ceil(bands).min(panels);
    let out = Shared::new(out);
    threads.each(bands * shares, work, &|i| {
        let (band, share) = (i / shares, i % shares);
        let part = band * rows / bands..(band + 1) * rows / bands;
        let some = share * panels / shares..(share + 1) * panels / shares;
        // SAFETY: these panels' part of these rows is this task's alone.
        unsafe {
            let c = out.at(part.start * padded, part.len() * padded);
            by.part(&a[part.start * k..], part.len(), some, bias, c);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::super::vector::WIDEST;
    use super::*;
    use half::f16;

    /// Sums of some rows, and how far they are from the definition, relative to the largest.
    fn sums<T: Lane<C: Dispatch>>([m, n, k]: [usize; 3], biased: bool, threads: usize) -> (Vec<T::C>, f64) {
        let number = |i: usize| T::C::of(((i * 7919 + 13) % 2003) as f64 / 1001.0 - 1.0);
        let a: Vec<T::C> = (0..m * k).map(number).collect();
        let b: Vec<T> = (0..n * k).map(|i| T::put(number(i + 7))).collect();
        let by = Packed::of_columns(&b, n, k).unwrap();
        let padded = by.padded();
        let bias: Vec<T::C> = if biased { (0..padded).map(number).collect() } else { Vec::new() };
        let mut out = vec![T::C::ONE; m * padded];
        multiply(&Threads::new(threads).unwrap(), &by, &a, m, &bias, &mut out);
        let (mut largest, mut worst) = (1f64, 0f64);
        for r in 0..m {
            for c in 0..n {
                let mut want = bias.get(c).map_or(0.0, |v| v.wide());
                want += (0..k).map(|s| a[r * k + s].wide() * b[c * k + s].get().wide()).sum::<f64>();
                largest = largest.max(want.abs());
                worst = worst.max((out[r * padded + c].wide() - want).abs());
            }
        }
        let used = out.chunks_exact(padded.max(1)).flat_map(|row| &row[..n]).copied().collect();
        (used, worst / largest)
    }

    /// Every width of vectors, few rows and many, cut-off panels; the same sums whatever the number of threads. (Narrower
    /// vectors are what a test's own thread wants alone.)
    #[test]
    fn sums_are_those_of_the_definition() {
        for widest in [0, 4, 8, usize::MAX] {
            WIDEST.set(widest);
            let threads = if widest == usize::MAX { 3 } else { 1 };
            for m in [0, 1, 2, 5, 13, 100, 250] {
                for n in [1, 16, 33, 192] {
                    for k in [0, 1, 64, 300] {
                        let (alone, off) = sums::<f32>([m, n, k], true, 1);
                        assert!(off < 2e-6, "fp32 {m}x{n}x{k}: {off:e}");
                        assert_eq!(alone, sums::<f32>([m, n, k], true, threads).0, "fp32 {m}x{n}x{k}");
                        let (_, off) = sums::<f16>([m, n, k], false, threads);
                        assert!(off < 2e-6, "fp16 {m}x{n}x{k}: {off:e}");
                    }
                }
            }
            assert!(sums::<f64>([13, 33, 300], true, threads).1 < 1e-14);
        }
    }
}
