//! Elementwise operators and reductions along rows, one row after the other: each row goes through all steps while it is in
//! the first-level cache. The operators are those of `registers`; after every step values are rounded to the tensors' type.
#![allow(unsafe_code)] // vector instructions over rows whose length is checked

use super::lane::Lane;
use super::registers::{Op, compute};
use super::vector::{Single, SingleWork, dispatch_single};
use half::f16;

/// Where a value of a row is: the number of a buffer, or of a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    /// A value for each element.
    Row(usize),
    /// One value for the row.
    Number(usize),
}

/// An operand of a step.
pub enum Side<'a, T> {
    /// What a step made, or the row that came in: buffer 0.
    At(Place),
    /// The same number for all rows.
    One(f32),
    /// The same row for all rows.
    Row(&'a [f32]),
    /// A tensor of the shape of the whole.
    Whole(&'a [T]),
}

/// Makes a number of a row, unrounded.
pub trait Reduce: Sync {
    /// Of this row.
    fn of(&self, row: &[f32]) -> f32;
}

/// What a step does.
pub enum Action<'a> {
    /// An operator.
    Op(Op),
    /// Makes a number of a row.
    Reduce(&'a dyn Reduce),
}

/// A step. The place of its result is none of its operands'.
pub struct Step<'a, T> {
    /// What it does.
    pub action: Action<'a>,
    /// Operands; a step of one has it first.
    pub sides: [Side<'a, T>; 2],
    /// Where the result goes.
    pub to: Place,
}

/// Steps over rows of `n` elements.
pub struct RowSteps<'a, T> {
    /// In order.
    pub steps: Vec<Step<'a, T>>,
    /// Places of each kind.
    pub places: [usize; 2],
    /// Length of a row.
    pub n: usize,
    /// The buffer with the result.
    pub result: usize,
}

impl<T: Lane<C = f32>> RowSteps<'_, T> {
    /// Rows from element `at` of the whole on, of `from` or of `out` itself, to `out`.
    pub fn run(&self, at: usize, from: Option<&[T]>, out: &mut [T]) {
        let n = self.n;
        let mut rows = vec![vec![0.0; n]; self.places[0]];
        let mut numbers = vec![0.0; self.places[1]];
        let mut spare = [Vec::new(), Vec::new()];
        for (i, out) in out.chunks_exact_mut(n).enumerate() {
            let at = at + i * n;
            match from {
                Some(from) => T::widen(&from[at..at + n], &mut rows[0]),
                None => T::widen(out, &mut rows[0]),
            }
            dispatch_single(OneRow { of: self, at, rows: &mut rows, numbers: &mut numbers, spare: &mut spare });
            T::narrow(&rows[self.result], out);
        }
    }
}

/// One row that goes through all steps.
struct OneRow<'a, 'p, T> {
    of: &'a RowSteps<'p, T>,
    at: usize,
    rows: &'a mut [Vec<f32>],
    numbers: &'a mut [f32],
    /// Operands of the whole, widened.
    spare: &'a mut [Vec<f32>; 2],
}

impl<T: Lane<C = f32>> SingleWork for OneRow<'_, '_, T> {
    #[inline(always)]
    fn run<X: Single>(self) {
        let OneRow { of, at, rows, numbers, spare } = self;
        let n = of.n;
        let half = T::DTYPE == f16::DTYPE;
        for step in &of.steps {
            let op = match &step.action {
                Action::Op(op) => *op,
                Action::Reduce(r) => {
                    if let (Side::At(Place::Row(from)), Place::Number(to)) = (&step.sides[0], step.to) {
                        let mut number = [r.of(&rows[*from])];
                        T::round(&mut number);
                        numbers[to] = number[0];
                    }
                    continue;
                }
            };
            for (side, spare) in step.sides.iter().zip(spare.iter_mut()) {
                if let Side::Whole(all) = side {
                    spare.resize(n, 0.0);
                    T::widen(&all[at..at + n], spare);
                }
            }
            // The result is made in a buffer that no operand is in.
            let mut made = match step.to {
                Place::Row(to) => std::mem::take(&mut rows[to]),
                Place::Number(_) => Vec::new(),
            };
            let side = |i: usize| match &step.sides[i] {
                Side::At(Place::Row(b)) => Source::Many(&rows[*b]),
                Side::At(Place::Number(b)) => Source::One(numbers[*b]),
                Side::One(v) => Source::One(*v),
                Side::Row(row) => Source::Many(&row[..n]),
                Side::Whole(_) => Source::Many(&spare[i]),
            };
            let sides = [side(0), side(1)];
            match step.to {
                Place::Row(to) => {
                    let enough =
                        |s: &Source| matches!(s, Source::One(_)) || matches!(s, Source::Many(m) if m.len() >= n);
                    assert!(made.len() == n && sides.iter().all(enough));
                    // SAFETY: result and operands have n elements; the processor has what the dispatch found.
                    unsafe { row::<X>(op, &sides, &mut made, half) };
                    rows[to] = made;
                }
                Place::Number(to) => {
                    let mut number = [0.0];
                    // SAFETY: one element is read and written; the processor has what the dispatch found.
                    unsafe { row::<X>(op, &sides, &mut number, half) };
                    numbers[to] = number[0];
                }
            }
        }
    }
}

/// An operand of one row.
enum Source<'a> {
    One(f32),
    Many(&'a [f32]),
}

/// # Safety
/// Operands have as many elements as `made`.
#[inline(always)]
unsafe fn row<X: Single>(op: Op, sides: &[Source; 2], made: &mut [f32], half: bool) {
    const TOGETHER: usize = 4;
    let n = made.len();
    let mut i = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while i + TOGETHER * X::N <= n {
            some::<X, TOGETHER>(op, sides, made, i, half);
            i += TOGETHER * X::N;
        }
        while i + X::N <= n {
            some::<X, 1>(op, sides, made, i, half);
            i += X::N;
        }
        if i < n {
            let left = n - i;
            let first = |s: &Source| match s {
                Source::One(v) => [X::splat(v)],
                Source::Many(all) => [X::load_first(all.as_ptr().add(i), left)],
            };
            let [mut v] = compute::<X, 1>(op, first(&sides[0]), first(&sides[1]));
            if half {
                v = X::round_half(v);
            }
            X::store_first(made.as_mut_ptr().add(i), v, left);
        }
    }
}

/// # Safety
/// As above, and from element `i` on there are `U` vectors.
#[inline(always)]
unsafe fn some<X: Single, const U: usize>(op: Op, sides: &[Source; 2], made: &mut [f32], i: usize, half: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        let a = operand::<X, U>(&sides[0], i);
        let b = operand::<X, U>(&sides[1], i);
        for (u, mut v) in compute::<X, U>(op, a, b).into_iter().enumerate() {
            if half {
                v = X::round_half(v);
            }
            X::store(made.as_mut_ptr().add(i + u * X::N), v);
        }
    }
}

#[inline(always)]
unsafe fn operand<X: Single, const U: usize>(source: &Source, i: usize) -> [X::V; U] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut v = [X::zero(); U];
        for (u, v) in v.iter_mut().enumerate() {
            *v = match source {
                Source::One(one) => X::splat(one),
                Source::Many(all) => X::load(all.as_ptr().add(i + u * X::N)),
            };
        }
        v
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::kernels::vector::WIDEST;

    struct Sum;

    impl Reduce for Sum {
        fn of(&self, row: &[f32]) -> f32 {
            row.iter().sum()
        }
    }

    /// (x - its sum) / sqrt(whole * one) + row, of any length, with every width of vectors.
    fn check<T: Lane<C = f32>>() {
        let round = |v: f32| T::put(v).get();
        for n in [1, 7, 16, 70, 131] {
            let numbers =
                |k: f32, count: usize| -> Vec<T> { (0..count).map(|i| T::put((i as f32 * k).sin())).collect() };
            let (x, whole) = (numbers(0.7, 3 * n), numbers(1.3, 5 * n));
            let row: Vec<f32> = numbers(2.1, n).iter().map(|v| v.get()).collect();
            let at = Side::At;
            let op = |op, sides, to| Step { action: Action::Op(op), sides, to };
            let steps = RowSteps {
                steps: vec![
                    Step {
                        action: Action::Reduce(&Sum),
                        sides: [at(Place::Row(0)), Side::One(0.0)],
                        to: Place::Number(0),
                    },
                    op(Op::Sub, [at(Place::Row(0)), at(Place::Number(0))], Place::Row(1)),
                    op(Op::Square, [at(Place::Number(0)), Side::One(0.0)], Place::Number(1)),
                    op(Op::Mul, [Side::Whole(&whole), Side::One(3.0)], Place::Row(0)),
                    op(Op::Sqrt, [at(Place::Row(0)), Side::One(0.0)], Place::Row(2)),
                    op(Op::Div, [at(Place::Row(1)), at(Place::Row(2))], Place::Row(0)),
                    op(Op::Add, [at(Place::Row(0)), Side::Row(&row)], Place::Row(1)),
                    op(Op::Mul, [at(Place::Row(1)), at(Place::Number(1))], Place::Row(0)),
                ],
                places: [3, 2],
                n,
                result: 0,
            };
            let want: Vec<T> = (0..3 * n)
                .map(|i| {
                    let first = i / n * n;
                    let of_row: Vec<f32> = x[first..first + n].iter().map(|v| v.get()).collect();
                    let sum = round(Sum.of(&of_row));
                    let root = round(round(whole[2 * n + i].get() * 3.0).sqrt());
                    let shifted = round(round(round(x[i].get() - sum) / root) + row[i % n]);
                    T::put(shifted * round(sum * sum))
                })
                .collect();
            for widest in [4, 8, 16] {
                WIDEST.set(widest);
                let (mut in_place, mut got) = (x.clone(), x.clone());
                // As if the rows were not the first of the whole.
                steps.run(2 * n, None, &mut in_place);
                let from = [&whole[..2 * n], &x].concat();
                steps.run(2 * n, Some(&from), &mut got);
                for (i, w) in want.iter().enumerate() {
                    let same = |v: T| v.get().to_bits() == w.get().to_bits() || v.get().is_nan() && w.get().is_nan();
                    assert!(same(got[i]) && same(in_place[i]), "{} {n} {widest} {i}", T::DTYPE);
                }
            }
            WIDEST.set(usize::MAX);
        }
    }

    #[test]
    fn rows_go_through_all_steps() {
        check::<f32>();
        check::<f16>();
    }
}
