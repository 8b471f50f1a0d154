//! The common elementwise operators of a fused step, all of them in registers: a few vectors of values are read once, go
//! through every stage, with the rounding of the tensors' type after each, and are written once. The results are those of
//! the operators' own loops, bit for bit; what is not known here goes through `program` in pieces.
#![allow(unsafe_code)] // vector instructions over slices that are checked, and operands with room for whole vectors

use super::broadcast::Walk;
use super::lane::Lane;
use super::math::{ERF_LARGE, ERF_SMALL, EXP, EXP2, LN2_HIGH, LN2_LOW, ROUNDER, TANH};
use super::program::MAX_KEPT;
use super::vector::{AHEAD, Single, SingleWork, dispatch_single, fetch};
use half::f16;
use std::mem::MaybeUninit;

/// An operator that is known here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// The larger of 0 and the value.
    Relu,
    /// Between two limits.
    Clip(f32, f32),
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// x * a + b between 0 and 1.
    HardSigmoid(f32, f32),
    /// x times the HardSigmoid with 1/6 and 1/2.
    HardSwish,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// x/2 (1 + erf(x / sqrt 2)), or the form with tanh that is near it.
    Gelu { by_tanh: bool },
    /// The value times itself.
    Square,
    /// Square root.
    Sqrt,
    /// Sum.
    Add,
    /// Difference.
    Sub,
    /// Product.
    Mul,
    /// Quotient.
    Div,
    /// First input times the second, plus the third.
    Affine,
}

impl Op {
    /// True if it has a second input.
    pub fn takes_two(self) -> bool {
        matches!(self, Op::Add | Op::Sub | Op::Mul | Op::Div)
    }
}

/// Where an operator finds an input.
pub enum Arg<'a> {
    /// What the operator before made, or what came in.
    Current,
    /// A kept value, by number.
    Kept(usize),
    /// The same for all.
    One(f32),
    /// A value for each element.
    Each(&'a [f32]),
    /// The same, of halves.
    EachHalf(&'a [f16]),
    /// A row that is repeated, see [`repeated`].
    Row(Vec<f32>),
}

/// An operator with its inputs.
pub struct Bound<'a> {
    /// What it does.
    pub op: Op,
    /// Its inputs; those that it has not are not looked at.
    pub args: [Arg<'a>; 3],
    /// Where its result is kept for later.
    pub keep: Option<usize>,
}

/// Operators bound to the tensors of one run.
pub struct Registers<'a> {
    /// In order.
    pub ops: Vec<Bound<'a>>,
    /// Values are rounded to FP16 after each operator but the last, whose result is rounded when it is stored.
    pub half: bool,
    /// The values that come in are rounded too.
    pub fresh: bool,
    /// Where the values that come in are kept.
    pub keep: Option<usize>,
    /// Length of the rows that are repeated.
    pub row: usize,
}

/// Vectors that go through all stages together.
const TOGETHER: usize = 4;
/// Elements of them at most.
const MOST: usize = TOGETHER * 16;

/// A row, repeated so that from each of its elements on a whole block can be read.
pub fn repeated(mut row: Vec<f32>) -> Vec<f32> {
    row.reserve_exact(MOST);
    for i in 0..MOST {
        // As it grows, this is element i modulo n.
        row.push(row[i]);
    }
    row
}

impl<'a> Arg<'a> {
    /// A tensor's elements as an operand; `None` if it is none of the kinds above. `row` is the length of the rows so far, 0
    /// if there are none.
    pub fn of<T: Lane<C = f32>>(all: &'a [T], walk: &Walk<1>, row: &mut usize) -> Option<Arg<'a>> {
        match (walk.dims(), walk.inner_strides()) {
            ([_], [1]) if all.len() == walk.inner() => T::direct(all)
                .map(Arg::Each)
                .or_else(|| (T::DTYPE == f16::DTYPE).then(|| Arg::EachHalf(bytemuck::cast_slice(all)))),
            ([_, n], [1]) if walk.strides(0) == [0] && all.len() == *n && (*row == 0 || row == n) => {
                *row = *n;
                let mut wide = vec![0.0; *n];
                T::widen(all, &mut wide);
                Some(Arg::Row(repeated(wide)))
            }
            _ => None,
        }
    }
}

impl Registers<'_> {
    /// Works on the values of the elements from `at` on.
    pub fn apply(&self, at: usize, values: &mut [f32]) {
        dispatch_single(Run { of: self, at, values, halves: None });
    }

    /// Works on the values of the elements from `at` on and stores them as halves.
    pub fn store(&self, at: usize, values: &mut [f32], to: &mut [f16]) {
        assert_eq!(values.len(), to.len());
        dispatch_single(Run { of: self, at, values, halves: Some(to) });
    }
}

struct Run<'a, 'p> {
    of: &'a Registers<'p>,
    at: usize,
    values: &'a mut [f32],
    /// Where they go, if not back; as many.
    halves: Option<&'a mut [f16]>,
}

impl SingleWork for Run<'_, '_> {
    #[inline(always)]
    fn run<X: Single>(self) {
        let Run { of, at, values, mut halves } = self;
        let n = values.len();
        let to = halves.as_mut().map_or(std::ptr::null_mut(), |h| h.as_mut_ptr());
        let mut kept = [false; MAX_KEPT];
        if let Some(k) = of.keep {
            kept[k] = true;
        }
        for bound in &of.ops {
            for arg in &bound.args {
                match arg {
                    Arg::Each(all) => assert!(at + n <= all.len()),
                    Arg::EachHalf(all) => assert!(at + n <= all.len()),
                    Arg::Row(row) => assert!(row.len() >= of.row + MOST),
                    Arg::Kept(k) => assert!(kept[*k]),
                    Arg::Current | Arg::One(_) => {}
                }
            }
            if let Some(k) = bound.keep {
                kept[k] = true;
            }
        }
        let mut place = if of.row == 0 { 0 } else { at % of.row };
        let mut i = 0;
        if let Some(short) = of.short() {
            // SAFETY: the processor has what the dispatch found.
            i = unsafe { short.run::<X>(values, to) };
            place = if of.row == 0 { 0 } else { (at + i) % of.row };
        }
        while i < n {
            // SAFETY: operands have as many elements as the values, rows a block more, what is read of kept values was kept
            // before (all asserted above); the processor has what the dispatch found.
            let done = unsafe {
                let values = values.as_mut_ptr().add(i);
                let to = if to.is_null() { to } else { to.add(i) };
                let b = Block { of, at: at + i, place, to };
                match n - i {
                    left if left >= TOGETHER * X::N => b.whole::<X, TOGETHER>(values),
                    left if left >= X::N => b.whole::<X, 1>(values),
                    left => b.rest::<X>(values, left),
                }
            };
            i += done;
            place += done;
            if place >= of.row && of.row > 0 {
                place %= of.row;
            }
        }
    }
}

/// One function of the values, and perhaps the product of both: what activations are, in a loop without operands.
struct Short {
    op: Op,
    times: bool,
    half: bool,
    fresh: bool,
}

impl Registers<'_> {
    fn short(&self) -> Option<Short> {
        let first = self.ops.first().filter(|b| !b.op.takes_two() && b.op != Op::Affine && b.keep.is_none())?;
        let times = match (&self.ops[1..], self.keep) {
            ([], _) => false,
            ([Bound { op: Op::Mul, args: [Arg::Current, Arg::Kept(k), _], .. }], keep)
            | ([Bound { op: Op::Mul, args: [Arg::Kept(k), Arg::Current, _], .. }], keep)
                if keep == Some(*k) =>
            {
                true
            }
            _ => return None,
        };
        let short = Short { op: first.op, times, half: self.half, fresh: self.half && self.fresh };
        matches!(first.args[0], Arg::Current).then_some(short)
    }
}

impl Short {
    /// Works on whole blocks of the values and says how many elements these are.
    #[inline(always)]
    unsafe fn run<X: Single>(&self, values: &mut [f32], to: *mut f16) -> usize {
        let blocks = values.chunks_exact_mut(TOGETHER * X::N);
        let done = blocks.len() * TOGETHER * X::N;
        for (i, block) in blocks.enumerate() {
            let to = if to.is_null() { to } else { to.wrapping_add(i * TOGETHER * X::N) };
            // SAFETY: a block has so many elements; the rest is the caller's promise.
            unsafe {
                let mut v = [X::zero(); TOGETHER];
                for (u, v) in v.iter_mut().enumerate() {
                    *v = X::load(block.as_ptr().add(u * X::N));
                }
                if self.fresh {
                    v = rounded::<X, TOGETHER>(v);
                }
                let mut y = compute::<X, TOGETHER>(self.op, v, v);
                if self.times {
                    if self.half {
                        y = rounded::<X, TOGETHER>(y);
                    }
                    y = compute::<X, TOGETHER>(Op::Mul, y, v);
                }
                for (u, &y) in y.iter().enumerate() {
                    put::<X>(block.as_mut_ptr(), to, u * X::N, y);
                }
            }
        }
        done
    }
}

/// Stores a vector at element `i`: back, or as halves.
#[inline(always)]
unsafe fn put<X: Single>(values: *mut f32, to: *mut f16, i: usize, v: X::V) {
    // SAFETY: the caller's promise: both have a whole vector there, unless there are no halves.
    unsafe {
        match to.is_null() {
            true => X::store(values.add(i), v),
            false => {
                fetch(to.wrapping_add(i + AHEAD));
                X::store_half(to.add(i), v)
            }
        }
    }
}

/// Some vectors of values, from element `at` of the output on, which is element `place` of the rows.
struct Block<'a, 'p> {
    of: &'a Registers<'p>,
    at: usize,
    place: usize,
    /// Where they go as halves, if not back.
    to: *mut f16,
}

impl Block<'_, '_> {
    #[inline(always)]
    unsafe fn whole<X: Single, const U: usize>(&self, values: *mut f32) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            let mut v = [X::zero(); U];
            for (u, v) in v.iter_mut().enumerate() {
                *v = X::load(values.add(u * X::N));
            }
            v = self.stages::<X, U>(v, X::N);
            for (u, &v) in v.iter().enumerate() {
                put::<X>(values, self.to, u * X::N, v);
            }
        }
        U * X::N
    }

    /// Fewer values than a vector has.
    #[inline(always)]
    unsafe fn rest<X: Single>(&self, values: *mut f32, n: usize) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            let [v] = self.stages::<X, 1>([X::load_first(values, n)], n);
            X::store_first(values, v, n);
            if !self.to.is_null() {
                f16::narrow(std::slice::from_raw_parts(values, n), std::slice::from_raw_parts_mut(self.to, n));
            }
        }
        n
    }

    #[inline(always)]
    unsafe fn stages<X: Single, const U: usize>(&self, mut v: [X::V; U], n: usize) -> [X::V; U] {
        let of = self.of;
        // SAFETY: the caller's promise.
        unsafe {
            let mut kept = [MaybeUninit::<[X::V; U]>::uninit(); MAX_KEPT];
            if of.half && of.fresh {
                v = rounded::<X, U>(v);
            }
            if let Some(k) = of.keep {
                kept[k].write(v);
            }
            let last = of.ops.len() - 1;
            for (i, bound) in of.ops.iter().enumerate() {
                let a = self.arg::<X, U>(&bound.args[0], v, &kept, n);
                v = match bound.op {
                    Op::Affine => {
                        let b = self.arg::<X, U>(&bound.args[1], v, &kept, n);
                        let c = self.arg::<X, U>(&bound.args[2], v, &kept, n);
                        let mut y = a;
                        for ((y, b), c) in y.iter_mut().zip(b).zip(c) {
                            *y = X::add(X::mul(*y, b), c);
                        }
                        y
                    }
                    op => {
                        let b = if op.takes_two() { self.arg::<X, U>(&bound.args[1], v, &kept, n) } else { a };
                        compute::<X, U>(op, a, b)
                    }
                };
                if of.half && i < last {
                    v = rounded::<X, U>(v);
                }
                if let Some(k) = bound.keep {
                    kept[k].write(v);
                }
            }
        }
        v
    }

    #[inline(always)]
    unsafe fn arg<X: Single, const U: usize>(
        &self,
        arg: &Arg,
        current: [X::V; U],
        kept: &[MaybeUninit<[X::V; U]>; MAX_KEPT],
        n: usize,
    ) -> [X::V; U] {
        let mut v = current;
        // SAFETY: the caller's promise, which says too that this was kept; of fewer than a vector, no more than there are is read.
        unsafe {
            match arg {
                Arg::Current => {}
                Arg::Kept(k) => v = kept.get_unchecked(*k).assume_init(),
                Arg::One(one) => v = [X::splat(one); U],
                Arg::Each(all) if n < X::N => v = [X::load_first(all.as_ptr().add(self.at), n); U],
                Arg::Each(all) => {
                    for (u, v) in v.iter_mut().enumerate() {
                        *v = X::load(all.as_ptr().add(self.at + u * X::N));
                    }
                }
                Arg::EachHalf(all) if n < X::N => {
                    let mut some = [f16::ZERO; 16];
                    some[..n].copy_from_slice(&all[self.at..][..n]);
                    v = [X::load(some.as_ptr()); U];
                }
                Arg::EachHalf(all) => {
                    for (u, v) in v.iter_mut().enumerate() {
                        *v = X::load(all.as_ptr().add(self.at + u * X::N));
                    }
                }
                Arg::Row(row) => {
                    for (u, v) in v.iter_mut().enumerate() {
                        *v = X::load(row.as_ptr().add(self.place + u * X::N));
                    }
                }
            }
        }
        v
    }
}

// The operators: functions, because closures are not sure to be compiled for the instructions of their caller. Where the
// operators' own loops round products before they add them, so does this.

/// What an operator of one or two inputs makes of vectors.
///
/// # Safety
/// The processor has the instructions.
#[inline(always)]
pub unsafe fn compute<X: Single, const U: usize>(op: Op, a: [X::V; U], b: [X::V; U]) -> [X::V; U] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut y = a;
        match op {
            Op::Relu => return limited::<X, U>(a, 0.0, f32::INFINITY),
            Op::Clip(low, high) => return limited::<X, U>(a, low, high),
            Op::Sigmoid => return sigmoid::<X, U>(a),
            Op::HardSigmoid(factor, addend) => return hard_sigmoid::<X, U>(a, factor, addend),
            Op::HardSwish => {
                y = hard_sigmoid::<X, U>(a, 1.0 / 6.0, 0.5);
                y.iter_mut().zip(a).for_each(|(y, a)| *y = X::mul(a, *y));
            }
            Op::Tanh => return tanh::<X, U>(a),
            Op::Erf => return erf::<X, U>(a),
            Op::Gelu { by_tanh } => return gelu::<X, U>(a, by_tanh),
            Op::Square => y.iter_mut().for_each(|y| *y = X::mul(*y, *y)),
            Op::Sqrt => y.iter_mut().for_each(|y| *y = X::sqrt(*y)),
            Op::Add => y.iter_mut().zip(b).for_each(|(y, b)| *y = X::add(*y, b)),
            Op::Sub => y.iter_mut().zip(b).for_each(|(y, b)| *y = X::sub(*y, b)),
            Op::Mul => y.iter_mut().zip(b).for_each(|(y, b)| *y = X::mul(*y, b)),
            Op::Div => y.iter_mut().zip(b).for_each(|(y, b)| *y = X::div(*y, b)),
            // Of three inputs.
            Op::Affine => {}
        }
        y
    }
}

#[inline(always)]
unsafe fn rounded<X: Single, const U: usize>(mut v: [X::V; U]) -> [X::V; U] {
    // SAFETY: the caller's promise.
    v.iter_mut().for_each(|v| *v = unsafe { X::round_half(*v) });
    v
}

#[inline(always)]
unsafe fn limited<X: Single, const U: usize>(mut v: [X::V; U], low: f32, high: f32) -> [X::V; U] {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (X::splat(&low), X::splat(&high));
        v.iter_mut().for_each(|v| *v = X::at_most(high, X::at_least(low, *v)));
    }
    v
}

#[inline(always)]
unsafe fn hard_sigmoid<X: Single, const U: usize>(mut v: [X::V; U], factor: f32, addend: f32) -> [X::V; U] {
    // SAFETY: the caller's promise.
    unsafe {
        let (factor, addend) = (X::splat(&factor), X::splat(&addend));
        v.iter_mut().for_each(|v| *v = X::add(X::mul(*v, factor), addend));
        limited::<X, U>(v, 0.0, 1.0)
    }
}

/// The polynomial of these coefficients, the constant one first.
#[inline(always)]
unsafe fn polynomial<X: Single, const U: usize, const N: usize>(x: [X::V; U], coefficients: &[f32; N]) -> [X::V; U] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut p = [X::splat(&coefficients[N - 1]); U];
        for c in coefficients[..N - 1].iter().rev() {
            let c = X::splat(c);
            p.iter_mut().zip(x).for_each(|(p, x)| *p = X::fma(*p, x, c));
        }
        p
    }
}

/// 1 + e^x, where x lies between -87 and 87; as `math` computes it.
#[inline(always)]
unsafe fn exp_and_one<X: Single, const U: usize>(x: [X::V; U]) -> [X::V; U] {
    // SAFETY: the caller's promise.
    unsafe {
        let one = X::splat(&1.0);
        let (log2, rounder) = (X::splat(&std::f32::consts::LOG2_E), X::splat(&ROUNDER));
        let (high, low) = (X::splat(&-LN2_HIGH), X::splat(&-LN2_LOW));
        let (mut shifted, mut r) = (x, x);
        for (shifted, r) in shifted.iter_mut().zip(&mut r) {
            *shifted = X::fma(*r, log2, rounder);
            let n = X::sub(*shifted, rounder);
            *r = X::fma(n, low, X::fma(n, high, *r));
        }
        let mut y = polynomial::<X, U, 6>(r, &EXP);
        for ((p, r), shifted) in y.iter_mut().zip(r).zip(shifted) {
            let e = X::add(X::fma(X::mul(*p, r), r, r), one);
            *p = X::fma(e, X::power_of_two(shifted), one);
        }
        y
    }
}

/// As `math::sigmoid_f32`.
#[inline(always)]
unsafe fn sigmoid<X: Single, const U: usize>(mut v: [X::V; U]) -> [X::V; U] {
    // SAFETY: the caller's promise.
    unsafe {
        v.iter_mut().for_each(|v| *v = X::neg(*v));
        let mut y = exp_and_one::<X, U>(limited::<X, U>(v, -87.0, 87.0));
        y.iter_mut().for_each(|y| *y = X::div(X::splat(&1.0), *y));
        y
    }
}

/// As `math::tanh_f32`.
#[inline(always)]
unsafe fn tanh<X: Single, const U: usize>(x: [X::V; U]) -> [X::V; U] {
    // SAFETY: the caller's promise.
    unsafe {
        let (one, two, ten) = (X::splat(&1.0), X::splat(&2.0), X::splat(&10.0));
        let (mut square, mut double) = (x, x);
        for (square, double) in square.iter_mut().zip(&mut double) {
            *square = X::mul(*square, *square);
            *double = X::mul(X::at_most(ten, X::abs(*double)), two);
        }
        let small = polynomial::<X, U, 5>(square, &TANH);
        let mut y = exp_and_one::<X, U>(double);
        for (u, y) in y.iter_mut().enumerate() {
            let small = X::abs(X::fma(X::mul(small[u], square[u]), x[u], x[u]));
            let large = X::sub(one, X::div(two, *y));
            *y = X::with_sign(X::where_less(X::abs(x[u]), X::splat(&0.625), small, large), x[u]);
        }
        y
    }
}

/// As `math::erf_f32`.
#[inline(always)]
unsafe fn erf<X: Single, const U: usize>(x: [X::V; U]) -> [X::V; U] {
    // SAFETY: the caller's promise.
    unsafe {
        let (one, four, rounder) = (X::splat(&1.0), X::splat(&4.0), X::splat(&ROUNDER));
        let (mut square, mut a) = (x, x);
        for (square, a) in square.iter_mut().zip(&mut a) {
            *square = X::mul(*square, *square);
            *a = X::at_most(four, X::abs(*a));
        }
        let small = polynomial::<X, U, 7>(square, &ERF_SMALL);
        let mut r = polynomial::<X, U, 8>(a, &ERF_LARGE);
        let mut shifted = r;
        for (shifted, r) in shifted.iter_mut().zip(&mut r) {
            *shifted = X::add(*r, rounder);
            *r = X::sub(*r, X::sub(*shifted, rounder));
        }
        let mut y = polynomial::<X, U, 6>(r, &EXP2);
        for (u, y) in y.iter_mut().enumerate() {
            let large = X::sub(one, X::mul(*y, X::power_of_two(shifted[u])));
            let small = X::mul(small[u], x[u]);
            *y = X::where_less(a[u], X::splat(&0.9), small, X::with_sign(large, x[u]));
        }
        y
    }
}

/// As the operator's own loop.
#[inline(always)]
unsafe fn gelu<X: Single, const U: usize>(x: [X::V; U], by_tanh: bool) -> [X::V; U] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut y = x;
        if by_tanh {
            let (outer, inner) = (X::splat(&SQRT_2_OVER_PI), X::splat(&0.044_715));
            for y in &mut y {
                let cube = X::mul(X::mul(X::mul(inner, *y), *y), *y);
                *y = X::mul(outer, X::add(*y, cube));
            }
            y = tanh::<X, U>(y);
        } else {
            y.iter_mut().for_each(|y| *y = X::mul(*y, X::splat(&std::f32::consts::FRAC_1_SQRT_2)));
            y = erf::<X, U>(y);
        }
        for (y, x) in y.iter_mut().zip(x) {
            *y = X::mul(X::mul(X::splat(&0.5), x), X::add(X::splat(&1.0), *y));
        }
        y
    }
}

/// sqrt(2 / pi).
const SQRT_2_OVER_PI: f32 = 0.797_884_6;
