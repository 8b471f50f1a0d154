//! The innermost kernel of products and convolutions whose channels lie side by side: a tile of outputs in registers, made
//! of rows that are read where they lie and of panels of weights.
#![allow(unsafe_code)] // vector instructions and raw pointers into checked memory

use super::super::lane::Lane;
use super::super::vector::{Vector, Work, fetch, panel};
use std::ops::Range;

/// Steps of k that are summed in registers before the sum is added to those before it: the error of long sums stays that
/// of short ones.
pub const BLOCK_K: usize = 256;

/// Elements side by side that a row multiplies with the next rows of weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Piece {
    /// Where they begin, from the row's own place on.
    pub at: usize,
    /// How many.
    pub len: usize,
}

/// What a row reads, in the order of the weights.
#[derive(Debug)]
pub struct Steps {
    pieces: Vec<Piece>,
    blocks: Vec<Range<usize>>,
    /// Elements in all.
    pub count: usize,
    /// Where the last element lies, from the row's own place on.
    pub reach: usize,
}

impl Steps {
    /// Pieces in order, cut into blocks.
    pub fn new(pieces: impl IntoIterator<Item = Piece>) -> Steps {
        let mut all = Steps { pieces: Vec::new(), blocks: Vec::new(), count: 0, reach: 0 };
        let (mut first, mut held) = (0, 0);
        for Piece { mut at, mut len } in pieces {
            all.count += len;
            all.reach = all.reach.max(at + len.saturating_sub(1));
            while len > 0 {
                let n = len.min(BLOCK_K - held);
                all.pieces.push(Piece { at, len: n });
                (at, len, held) = (at + n, len - n, held + n);
                if held == BLOCK_K {
                    all.blocks.push(first..all.pieces.len());
                    (first, held) = (all.pieces.len(), 0);
                }
            }
        }
        if held > 0 {
            all.blocks.push(first..all.pieces.len());
        }
        all
    }
}

/// A tile: rows at equal distances times the columns of one panel.
pub struct Tile<'a, F, T> {
    /// The first row's own place.
    pub a: *const F,
    /// Distance of rows.
    pub apart: usize,
    /// What each row reads.
    pub steps: &'a Steps,
    /// The panel: two vectors for each step.
    pub b: *const T,
    /// Where the sums go.
    pub c: *mut F,
    /// Distance of rows there.
    pub c_apart: usize,
    /// Columns that go there, at most two vectors.
    pub columns: usize,
    /// Sums are added to what is there.
    pub accumulate: bool,
    /// What is added at the end, as many as columns; may be null.
    pub bias: *const F,
}

/// Computes a tile of `rows` rows (at most [`Vector::ROWS`]). It is a call of its own, so that its many forms are compiled
/// once for each type of weights.
///
/// # Safety
/// Rows, panel, sums and bias (whole vectors) are there in full; the processor has the instructions.
#[inline(always)]
pub unsafe fn tile<X: Vector, T: Lane<C = X::F>>(t: &Tile<X::F, T>, rows: usize) {
    // SAFETY: the caller's promise.
    unsafe { X::call(One { tile: t, rows }) }
}

struct One<'a, 'b, T: Lane> {
    tile: &'a Tile<'b, T::C, T>,
    rows: usize,
}

impl<F, T: Lane<C = F>> Work<F> for One<'_, '_, T> {
    #[inline(always)]
    fn run<X: Vector<F = F>>(self) {
        // SAFETY: what the caller of `tile` promises; the processor has what the dispatch found.
        unsafe {
            match self.tile.columns > X::N {
                true => of_rows::<X, T, 2>(self.tile, self.rows),
                false => of_rows::<X, T, 1>(self.tile, self.rows),
            }
        }
    }
}

#[inline(always)]
unsafe fn of_rows<X: Vector, T: Lane<C = X::F>, const V: usize>(t: &Tile<X::F, T>, rows: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match rows {
            1 => fixed::<X, T, 1, V>(t),
            2 => fixed::<X, T, 2, V>(t),
            3 => fixed::<X, T, 3, V>(t),
            4 => fixed::<X, T, 4, V>(t),
            5 => fixed::<X, T, 5, V>(t),
            6 => fixed::<X, T, 6, V>(t),
            7 => fixed::<X, T, 7, V>(t),
            8 => fixed::<X, T, 8, V>(t),
            9 => fixed::<X, T, 9, V>(t),
            10 => fixed::<X, T, 10, V>(t),
            11 => fixed::<X, T, 11, V>(t),
            _ => fixed::<X, T, 12, V>(t),
        }
    }
}

/// Rows that are reached from one pointer, by the distance and twice the distance.
const TOGETHER: usize = 3;
/// Pointers for that many rows.
const POINTERS: usize = 12usize.div_ceil(TOGETHER);

/// The body for each row of `0..$rows`, at most twelve, with the row as a constant: sums stay in registers without the
/// compiler having to unroll a loop, which it does for short ones only.
macro_rules! each_row {
    ($row:ident < $rows:ident, $body:block) => {
        each_row!($row < $rows, $body, 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    ($row:ident < $rows:ident, $body:block, $($n:literal)*) => {
        $(if $n < $rows {
            const $row: usize = $n;
            $body
        })*
    };
}

#[inline(always)]
unsafe fn fixed<X: Vector, T: Lane<C = X::F>, const R: usize, const V: usize>(t: &Tile<X::F, T>) {
    if R > X::ROWS {
        return;
    }
    let width = panel::<X>();
    let mut b = t.b;
    let last = t.steps.blocks.len().saturating_sub(1);
    // SAFETY: as the caller promises.
    unsafe {
        each_row!(ROW < R, {
            for v in 0..V {
                fetch(t.c.add(ROW * t.c_apart + v * X::N));
            }
        });
        for (i, block) in t.steps.blocks.iter().enumerate() {
            let mut sums = [[X::zero(); V]; R];
            for piece in &t.steps.pieces[block.clone()] {
                let mut a: [*const X::F; POINTERS] = [t.a.wrapping_add(piece.at); POINTERS];
                for (g, a) in a.iter_mut().enumerate() {
                    *a = a.wrapping_add(g * TOGETHER * t.apart);
                }
                for _ in 0..piece.len {
                    hide::<_, R>(&mut a);
                    let mut lanes = [X::zero(); V];
                    for (v, lane) in lanes.iter_mut().enumerate() {
                        *lane = X::load(b.add(v * X::N));
                    }
                    each_row!(ROW < R, {
                        let x = X::splat(a[ROW / TOGETHER].add(ROW % TOGETHER * t.apart));
                        for (sum, &lane) in sums[ROW].iter_mut().zip(&lanes) {
                            *sum = X::fma(x, lane, *sum);
                        }
                    });
                    for a in &mut a {
                        *a = a.wrapping_add(1);
                    }
                    b = b.add(width);
                }
            }
            // Columns of the last vector.
            let rest = t.columns - (V - 1) * X::N;
            each_row!(ROW < R, {
                for (v, &sum) in sums[ROW].iter().enumerate() {
                    let c = t.c.add(ROW * t.c_apart + v * X::N);
                    let n = if v + 1 == V { rest } else { X::N };
                    let mut sum = match i > 0 || t.accumulate {
                        true if n < X::N => X::add(X::load_first(c.cast_const(), n), sum),
                        true => X::add(X::load(c.cast_const()), sum),
                        false => sum,
                    };
                    if i == last && !t.bias.is_null() {
                        sum = X::add(sum, X::load(t.bias.add(v * X::N)));
                    }
                    if n < X::N {
                        X::store_first(c, sum, n);
                    } else {
                        X::store(c, sum);
                    }
                }
            });
        }
    }
}

/// Keeps the compiler from making a pointer of its own for each row, more than there are registers: it cannot know that
/// these advance together.
// The pointers are hidden, not followed.
#[allow(clippy::pointers_in_nomem_asm_block)]
#[inline(always)]
fn hide<F, const R: usize>(a: &mut [*const F; POINTERS]) {
    #[cfg(target_arch = "x86_64")]
    for a in a.iter_mut().take(R.div_ceil(TOGETHER)) {
        // SAFETY: no instruction at all; the pointer stays what it is.
        unsafe { std::arch::asm!("/* {0} */", inout(reg) * a, options(pure, nomem, nostack, preserves_flags)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = a;
}
