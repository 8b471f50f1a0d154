//! Matrix products, blocked and packed: C = A B, where A and B are anything that can fill panels (strided matrices of any
//! float type, constants packed when the engine was built, convolution windows) and each row of C passes through an
//! epilogue before it is rounded and stored.
//!
//! Every element of C is the sum over k in order, in blocks of [`BLOCK_K`]; that order depends on nothing else, so results
//! do not depend on threads or on how rows and columns are cut.
#![allow(unsafe_code)] // tasks write disjoint rectangles of one output, and kernels take raw pointers

mod micro;
mod source;

pub use micro::{Micro, micro_f32, micro_f64};
pub use source::{Packed, Source, Strided};

use super::lane::Lane;
use super::math::Float;
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::Tensor;
use std::marker::PhantomData;

/// Steps of k that are summed before the sum goes to memory.
pub const BLOCK_K: usize = 256;
/// Columns of one task.
const BLOCK_N: usize = 512;
/// Rows whose packed panels stay in the second-level cache.
const BLOCK_M: usize = 96;

/// What is done to a piece of a row of C before it is stored: row, first column, values.
pub type Epilogue<'a, F> = &'a (dyn Fn(usize, usize, &mut [F]) + Sync);

/// One product, to be stored at `offset` of the output with rows `row_stride` apart.
pub struct Product<'a, F> {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// A; its lanes are rows.
    pub a: &'a dyn Source<F>,
    /// B; its lanes are columns.
    pub b: &'a dyn Source<F>,
    /// Where C starts in the output.
    pub offset: usize,
    /// Distance of rows of C.
    pub row_stride: usize,
    /// Applied to finished values.
    pub epilogue: Option<Epilogue<'a, F>>,
}

/// Computes products into disjoint parts of one output.
pub fn run<O: Lane<C: Float>>(cx: &Cx, products: &[Product<O::C>], out: &mut [O]) -> Result<()> {
    let shared = Output { start: out.as_mut_ptr(), len: out.len(), marker: PhantomData };
    let work: usize = products.iter().map(|p| p.m.saturating_mul(p.n).saturating_mul(p.k.max(1))).sum();
    let micro = O::C::micro();
    let mut tasks = Vec::new();
    for (i, p) in products.iter().enumerate() {
        if p.m == 0 || p.n == 0 {
            continue;
        }
        shared.check(p)?;
        // Few columns: cut the rows too, so that all threads have work.
        let columns = p.n.div_ceil(BLOCK_N);
        let wanted = (2 * cx.threads.count()).div_ceil(columns * products.len());
        let rows = match cx.threads.count() {
            1 => p.m,
            _ => p.m.div_ceil(wanted.max(1)).next_multiple_of(micro.mr).min(p.m),
        };
        for j in (0..p.n).step_by(BLOCK_N) {
            tasks.extend((0..p.m).step_by(rows).map(|r| Task {
                product: i,
                row: r,
                rows: rows.min(p.m - r),
                column: j,
            }));
        }
    }
    cx.threads.try_each(tasks.len(), work, &|t| {
        let task = &tasks[t];
        rectangle(cx, &products[task.product], task, micro, &shared)
    })
}

struct Task {
    product: usize,
    row: usize,
    rows: usize,
    column: usize,
}

/// An output that tasks write in disjoint rectangles.
struct Output<'a, O> {
    start: *mut O,
    len: usize,
    marker: PhantomData<&'a mut [O]>,
}

// SAFETY: tasks write disjoint rectangles (each row and column block of each product is one task's, and products write
// disjoint parts, which is the caller's duty and cannot break memory safety beyond a mixed-up result of plain numbers).
unsafe impl<O: Send> Sync for Output<'_, O> {}

impl<O> Output<'_, O> {
    /// An error unless the whole of C lies in the output.
    fn check<F>(&self, p: &Product<F>) -> Result<()> {
        let end = (p.m - 1).checked_mul(p.row_stride).and_then(|r| r.checked_add(p.n)?.checked_add(p.offset));
        match end {
            Some(end) if end <= self.len && p.row_stride >= p.n => Ok(()),
            _ => Err(crate::err!(Internal, "a product of {}x{} reaches beyond its output", p.m, p.n)),
        }
    }

    /// A piece of a row.
    ///
    /// # Safety
    /// The piece lies in the output, and no other task has it.
    #[allow(clippy::mut_from_ref)]
    unsafe fn piece(&self, at: usize, n: usize) -> &mut [O] {
        debug_assert!(at + n <= self.len);
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), n) }
    }
}

/// Computes one task's rectangle of C.
fn rectangle<O: Lane<C: Float>>(
    cx: &Cx,
    p: &Product<O::C>,
    task: &Task,
    micro: &Micro<O::C>,
    out: &Output<O>,
) -> Result<()> {
    let columns = BLOCK_N.min(p.n - task.column);
    let panels = columns.div_ceil(micro.nr);
    let depth = BLOCK_K.min(p.k);
    let dtype = <O::C as Lane>::DTYPE;
    // Sums go to the output itself where it has the computing type, else to a tile of their own.
    let direct = O::DTYPE == dtype;
    let mut tile = match direct {
        true => None,
        false => Some(Tensor::new(cx.pool, dtype, vec![task.rows, columns])?),
    };
    let mut packed_b = Tensor::new(cx.pool, dtype, vec![panels * micro.nr, depth])?;
    let mut packed_a = Tensor::new(cx.pool, dtype, vec![BLOCK_M.next_multiple_of(micro.mr), depth])?;
    let (pack_b, pack_a) = (packed_b.slice_mut::<O::C>()?, packed_a.slice_mut::<O::C>()?);
    let at = p.offset + task.row * p.row_stride + task.column;
    let (sums, stride): (*mut O::C, usize) = match &mut tile {
        Some(t) => (t.slice_mut::<O::C>()?.as_mut_ptr(), columns),
        // SAFETY: `check` made sure that the rectangle lies in the output; O is O::C here.
        None => (unsafe { out.start.add(at) }.cast(), p.row_stride),
    };
    if p.k == 0 {
        for r in 0..task.rows {
            // SAFETY: row `r` of the rectangle.
            unsafe { std::slice::from_raw_parts_mut(sums.add(r * stride), columns) }.fill(O::C::ZERO);
        }
    }
    for k in (0..p.k).step_by(BLOCK_K) {
        let steps = BLOCK_K.min(p.k - k);
        let b: &[O::C] = match p.b.ready(task.column, k, micro.nr) {
            Some(ready) => ready,
            None => {
                p.b.pack(task.column..task.column + columns, k..k + steps, micro.nr, pack_b);
                pack_b
            }
        };
        for row in (0..task.rows).step_by(BLOCK_M) {
            let rows = BLOCK_M.min(task.rows - row);
            let first = task.row + row;
            let a: &[O::C] = match p.a.ready(first, k, micro.mr) {
                Some(ready) => ready,
                None => {
                    p.a.pack(first..first + rows, k..k + steps, micro.mr, pack_a);
                    pack_a
                }
            };
            let block = micro::Block { rows, columns, steps, a, b, accumulate: k > 0 };
            // SAFETY: the block lies in the rectangle, which is this task's alone.
            unsafe { micro.block(&block, sums.add(row * stride), stride) };
        }
    }
    for r in 0..task.rows {
        // SAFETY: row `r` of the rectangle, which is this task's alone.
        let row = unsafe { std::slice::from_raw_parts_mut(sums.add(r * stride), columns) };
        if let Some(epilogue) = p.epilogue {
            epilogue(task.row + r, task.column, row);
        }
        if !direct {
            // SAFETY: the same row of the output.
            O::narrow(row, unsafe { out.piece(at + r * p.row_stride, columns) });
        }
    }
    Ok(())
}
