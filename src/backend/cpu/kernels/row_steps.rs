//! Elementwise operators and what is done along rows, a few rows at a time: they go through all steps while they are in the
//! first-level cache. The operators are those of `registers`; after every step values are rounded to the type of its tensor.
#![allow(unsafe_code)] // vector instructions over rows whose length is checked

use super::floats::{Floats, round};
use super::lane::Lane;
use super::registers::{Op, compute};
use super::vector::{Single, SingleWork, dispatch_single};
use crate::model::DataType;

/// Elements of the rows that go through the steps together, about.
const TOGETHER: usize = 1024;

/// Rows of `n` elements that go through the steps together at most.
pub fn together(n: usize) -> usize {
    (TOGETHER / n).max(1)
}

/// Where a value of a row is: the number of a buffer, or of a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    /// A value for each element.
    Row(usize),
    /// One value for the row.
    Number(usize),
}

/// An operand of a step.
pub enum Side<'a> {
    /// What a step made, or the row that came in: buffer 0.
    At(Place),
    /// The same number for all rows.
    One(f32),
    /// The same row for all rows, repeated for as many as go together.
    Row(&'a [f32]),
    /// A tensor of the shape of the whole, or of its last dimensions.
    Whole(Floats<'a>),
}

/// Makes a number of a row, unrounded.
pub trait Reduce: Sync {
    /// Of this row.
    fn of(&self, row: &[f32]) -> f32;
}

/// Makes a row of a row, unrounded.
pub trait Change: Sync {
    /// Of each of these rows of `n`, in place.
    fn change(&self, rows: &mut [f32], n: usize);
}

/// What a step does.
pub enum Action<'a> {
    /// An operator.
    Op(Op),
    /// Makes a number of a row.
    Reduce(&'a dyn Reduce),
    /// Makes a row of a row.
    Change(&'a dyn Change),
    /// Nothing but the rounding.
    Round,
}

/// A step. The place of its result is none of its operands', but that a row may be changed and rounded where it is.
pub struct Step<'a> {
    /// What it does.
    pub action: Action<'a>,
    /// Operands; a step of one has it first.
    pub sides: [Side<'a>; 2],
    /// Where the result goes.
    pub to: Place,
    /// The type that the result is rounded to here: FP16, or FP32 for none.
    pub dtype: DataType,
}

/// Steps over rows of `n` elements.
pub struct RowSteps<'a> {
    /// In order.
    pub steps: Vec<Step<'a>>,
    /// Places of each kind.
    pub places: [usize; 2],
    /// Length of a row.
    pub n: usize,
    /// The buffer with the result.
    pub result: usize,
}

impl RowSteps<'_> {
    /// Rows from element `at` of the whole on, of `from` or of `out` itself, to `out`.
    pub fn run<T: Lane<C = f32>>(&self, at: usize, from: Option<Floats>, out: &mut [T]) {
        let n = self.n;
        let count = together(n).min(out.len() / n);
        let mut rows = vec![vec![0.0; n * count]; self.places[0]];
        let mut numbers = vec![vec![0.0; count]; self.places[1]];
        let mut spare = [Vec::new(), Vec::new()];
        for (i, out) in out.chunks_mut(n * count).enumerate() {
            let (at, len) = (at + i * n * count, out.len());
            match from {
                Some(from) => from.widen(at, &mut rows[0][..len]),
                None => T::widen(out, &mut rows[0][..len]),
            }
            let (rows, numbers, spare) = (&mut rows, &mut numbers, &mut spare);
            dispatch_single(SomeRows { of: self, at, count: len / n, rows, numbers, spare });
            T::narrow(&rows[self.result][..len], out);
        }
    }
}

/// Rows that go through all steps.
struct SomeRows<'a, 'p> {
    of: &'a RowSteps<'p>,
    at: usize,
    count: usize,
    rows: &'a mut [Vec<f32>],
    numbers: &'a mut [Vec<f32>],
    /// Operands of the whole, widened.
    spare: &'a mut [Vec<f32>; 2],
}

impl SingleWork for SomeRows<'_, '_> {
    #[inline(always)]
    fn run<X: Single>(mut self) {
        for step in &self.of.steps {
            // An operator's result is made in a buffer that no operand is in.
            let to = match step.to {
                Place::Row(to) => &mut self.rows[to],
                Place::Number(to) => &mut self.numbers[to],
            };
            let mut made = std::mem::take(to);
            self.step::<X>(step, &mut made);
            match step.to {
                Place::Row(to) => self.rows[to] = made,
                Place::Number(to) => self.numbers[to] = made,
            }
        }
    }
}

impl SomeRows<'_, '_> {
    #[inline(always)]
    fn step<X: Single>(&mut self, step: &Step, made: &mut [f32]) {
        let (n, count) = (self.of.n, self.count);
        let whole_row = matches!(step.to, Place::Row(_));
        let made = &mut made[..if whole_row { n * count } else { count }];
        let op = match (&step.action, &step.sides[0]) {
            (Action::Op(op), _) => *op,
            (Action::Reduce(r), Side::At(Place::Row(from))) => {
                made.iter_mut().zip(self.rows[*from].chunks_exact(n)).for_each(|(m, row)| *m = r.of(row));
                return round(step.dtype, made);
            }
            (action, Side::At(from)) => {
                let there = match from {
                    Place::Row(b) => &self.rows[*b],
                    Place::Number(b) => &self.numbers[*b],
                };
                if *from != step.to {
                    made.copy_from_slice(&there[..made.len()]);
                }
                if let Action::Change(c) = action {
                    c.change(made, n);
                }
                return round(step.dtype, made);
            }
            // Bound to values of the rows alone.
            _ => unreachable!("an operator of rows over an operand"),
        };
        for (side, spare) in step.sides.iter().zip(self.spare.iter_mut()) {
            if let Side::Whole(all) = side {
                spare.resize(n * count, 0.0);
                all.widen(self.at, spare);
            }
        }
        // What is not one value for a row lies side by side for all rows.
        let each = |s: &Side| matches!(s, Side::At(Place::Number(_)));
        let len = if whole_row && step.sides.iter().any(each) { n } else { made.len() };
        for (r, made) in made.chunks_exact_mut(len).enumerate() {
            let side = |i: usize| match &step.sides[i] {
                Side::At(Place::Row(b)) => Source::Many(&self.rows[*b][r * len..]),
                Side::At(Place::Number(b)) if whole_row => Source::One(self.numbers[*b][r]),
                Side::At(Place::Number(b)) => Source::Many(&self.numbers[*b]),
                Side::One(v) => Source::One(*v),
                Side::Row(row) => Source::Many(row),
                Side::Whole(_) => Source::Many(&self.spare[i][r * len..]),
            };
            let sides = [side(0), side(1)];
            let enough = |s: &Source| matches!(s, Source::One(_)) || matches!(s, Source::Many(m) if m.len() >= len);
            assert!(sides.iter().all(enough));
            // SAFETY: operands have as many elements as the result; the processor has what the dispatch found.
            unsafe { row::<X>(op, &sides, made, step.dtype == DataType::Float16) };
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
    const VECTORS: usize = 4;
    let n = made.len();
    let mut i = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while i + VECTORS * X::N <= n {
            some::<X, VECTORS>(op, sides, made, i, half);
            i += VECTORS * X::N;
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
    use half::f16;

    struct Sum;

    impl Reduce for Sum {
        fn of(&self, row: &[f32]) -> f32 {
            row.iter().sum()
        }
    }

    /// (x - its sum) / sqrt(whole * one) + row, of any length, with every width of vectors.
    fn check<T: Lane<C = f32>>(floats: fn(&[T]) -> Floats) {
        let round = |v: f32| T::put(v).get();
        // Three rows; and more than twice as many as go together, with fewer in the end.
        let counts = |n: usize| [3, 2 * together(n) + together(n).div_ceil(2)].map(|count| (n, count));
        for (n, count) in [1, 7, 16, 70, 131, 341, 400, 512].into_iter().flat_map(counts) {
            let numbers =
                |k: f32, count: usize| -> Vec<T> { (0..count).map(|i| T::put((i as f32 * k).sin())).collect() };
            let (x, whole) = (numbers(0.7, count * n), numbers(1.3, (count + 2) * n));
            let row: Vec<f32> = numbers(2.1, n).iter().map(|v| v.get()).collect();
            let rows = row.repeat(together(n));
            let at = Side::At;
            let dtype = T::DTYPE;
            let op = |op, sides, to| Step { action: Action::Op(op), sides, to, dtype };
            let steps = RowSteps {
                steps: vec![
                    Step {
                        action: Action::Reduce(&Sum),
                        sides: [at(Place::Row(0)), Side::One(0.0)],
                        to: Place::Number(0),
                        dtype,
                    },
                    op(Op::Sub, [at(Place::Row(0)), at(Place::Number(0))], Place::Row(1)),
                    op(Op::Square, [at(Place::Number(0)), Side::One(0.0)], Place::Number(1)),
                    op(Op::Mul, [Side::Whole(floats(&whole)), Side::One(3.0)], Place::Row(0)),
                    op(Op::Sqrt, [at(Place::Row(0)), Side::One(0.0)], Place::Row(2)),
                    op(Op::Div, [at(Place::Row(1)), at(Place::Row(2))], Place::Row(0)),
                    op(Op::Add, [at(Place::Row(0)), Side::Row(&rows)], Place::Row(1)),
                    op(Op::Mul, [at(Place::Row(1)), at(Place::Number(1))], Place::Row(0)),
                ],
                places: [3, 2],
                n,
                result: 0,
            };
            let want: Vec<T> = (0..count * n)
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
                steps.run(2 * n, Some(floats(&from)), &mut got);
                for (i, w) in want.iter().enumerate() {
                    let same = |v: T| v.get().to_bits() == w.get().to_bits() || v.get().is_nan() && w.get().is_nan();
                    assert!(same(got[i]) && same(in_place[i]), "{} {count}x{n} {widest} {i}", T::DTYPE);
                }
            }
            WIDEST.set(usize::MAX);
        }
    }

    #[test]
    fn rows_go_through_all_steps() {
        check::<f32>(|v| Floats::Single(v));
        check::<f16>(|v| Floats::Half(v));
    }
}
