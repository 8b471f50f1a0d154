//! Matrix products, blocked and packed: C = A B, where A and B are anything that can fill panels (strided matrices of any
//! float type, panels packed before) and each row of C passes through an
//! epilogue before it is rounded and stored.
//!
//! Every element of C is the sum over k in order, in blocks of [`BLOCK_K`] (in a single column, or a single one that is left
//! over at the right, in four sums side by side). That depends on the sizes alone, so results do not depend on threads.
#![allow(unsafe_code)] // tasks write disjoint rectangles of one output, and kernels take raw pointers

mod micro;
pub mod rows;
mod source;

pub use micro::{Micro, micro_f32, micro_f64};
use source::Panels;
pub use source::{Source, Strided};

use super::lane::Lane;
use super::math::Float;
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::Tensor;
use std::collections::HashMap;
use std::marker::PhantomData;

/// Steps of k that are summed before the sum goes to memory.
///
/// A multiple of nine, so that no 3x3 kernel of a channel is cut in two.
pub const BLOCK_K: usize = 252;
/// Rows whose packed panels stay in the second-level cache: at most, since they are cut evenly.
const BLOCK_M: usize = 198;
/// Columns of one task: at most, and at least where there are as many.
const BLOCK_N: usize = 512;
const LEAST_N: usize = 64;
/// Floats of B that a task packs: they stay in the second-level cache while all rows pass over them.
const PACKED_B: usize = 1 << 15;
/// Columns that are packed just before they are used.
const PACK_N: usize = 64;
/// Floats of A that are packed for all tasks of a call at most.
const PACKED_A: usize = 1 << 22;

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
    let packed = pack_once(cx, products, micro)?;
    for (i, p) in products.iter().enumerate() {
        if p.m == 0 || p.n == 0 {
            continue;
        }
        shared.check(p)?;
        let width = columns_of_task(p, micro.nr);
        // Few columns: cut the rows too, so that all threads have work.
        let columns = pieces(p.n, width);
        let wanted = (2 * cx.threads.count()).div_ceil(columns * products.len());
        let rows = match cx.threads.count() {
            1 => p.m,
            _ => p.m.div_ceil(wanted.max(1)).next_multiple_of(micro.mr).min(p.m),
        };
        for j in 0..columns {
            let column = j * width;
            let columns = if j + 1 == columns { p.n - column } else { width };
            let task = |row| Task { product: i, row, rows: rows.min(p.m - row), column, columns };
            tasks.extend((0..p.m).step_by(rows).map(task));
        }
    }
    cx.threads.try_each(tasks.len(), work, &|t| {
        let task = &tasks[t];
        let p = &products[task.product];
        match &packed[task.product] {
            Some(data) => {
                let a = Panels { data: data.slice::<O::C>()?, lanes: p.m, steps: p.k, width: micro.mr };
                rectangle(cx, p, &a, task, micro, &shared)
            }
            None => rectangle(cx, p, p.a, task, micro, &shared),
        }
    })
}

/// For each product its A, packed for all of its tasks, each of which would pack it for itself. Products of one A share it;
/// what goes beyond [`PACKED_A`] in all is left to the tasks.
fn pack_once<F: Lane<C = F> + Float>(
    cx: &Cx,
    products: &[Product<F>],
    micro: &Micro<F>,
) -> Result<Vec<Option<Tensor>>> {
    let mut known: HashMap<(*const (), usize, usize), Tensor> = HashMap::new();
    let mut left = PACKED_A;
    let mut all = Vec::with_capacity(products.len());
    for p in products {
        let several = pieces(p.n, columns_of_task(p, micro.nr)) > 1;
        let lanes = p.m.next_multiple_of(micro.mr);
        let floats = lanes.saturating_mul(p.k);
        if !several || floats == 0 || p.a.ready(0, 0, micro.mr).is_some() {
            all.push(None);
            continue;
        }
        let source = (std::ptr::from_ref(p.a).cast(), p.m, p.k);
        if !known.contains_key(&source) && floats <= left {
            left -= floats;
            let mut panels = Tensor::new(cx.pool, F::DTYPE, vec![floats])?;
            cx.threads.pieces(panels.slice_mut::<F>()?, lanes * BLOCK_K, floats, |i, block| {
                let k = i * BLOCK_K;
                p.a.pack(0..p.m, k..p.k.min(k + BLOCK_K), micro.mr, block);
            });
            known.insert(source, panels);
        }
        all.push(known.get(&source).cloned());
    }
    Ok(all)
}

/// An output whose disjoint parts are written by tasks.
pub struct Shared<'a, O>(Output<'a, O>);

impl<'a, O: Lane> Shared<'a, O> {
    /// The output.
    pub fn new(out: &'a mut [O]) -> Self {
        Shared(Output { start: out.as_mut_ptr(), len: out.len(), marker: PhantomData })
    }

    /// Where `n` elements from `at` on begin; the output has them.
    ///
    /// # Safety
    /// What is written there, no other task writes or reads.
    pub unsafe fn at(&self, at: usize, n: usize) -> *mut O {
        assert!(at.checked_add(n).is_some_and(|end| end <= self.0.len));
        // SAFETY: the place lies in the output.
        unsafe { self.0.start.add(at) }
    }

    /// Rounds values and stores them from element `at` on.
    ///
    /// # Safety
    /// No other task stores these elements.
    pub unsafe fn store(&self, at: usize, values: &[O::C]) {
        assert!(at.checked_add(values.len()).is_some_and(|end| end <= self.0.len));
        // SAFETY: the part lies in the output, and is this task's, as the caller promises.
        O::narrow(values, unsafe { self.0.piece(at, values.len()) });
    }
}

struct Task {
    product: usize,
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
}

/// Columns of one task, cut evenly; a multiple of `nr`.
fn columns_of_task<F>(p: &Product<F>, nr: usize) -> usize {
    let most = match p.b.ready(0, 0, nr) {
        Some(_) => BLOCK_N,
        None => (PACKED_B / p.k.max(1)).clamp(LEAST_N, BLOCK_N),
    };
    p.n.div_ceil(p.n.div_ceil(most)).next_multiple_of(nr)
}

/// How many tasks share `n` columns: what is left over goes to the last one if it is less than half a task.
fn pieces(n: usize, width: usize) -> usize {
    (n / width + usize::from(n % width >= width.div_ceil(2))).max(1)
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

/// Computes one task's rectangle of C: block of rows by block of rows, each finished and stored while it is in the caches.
fn rectangle<O: Lane<C: Float>>(
    cx: &Cx,
    p: &Product<O::C>,
    source_a: &dyn Source<O::C>,
    task: &Task,
    micro: &Micro<O::C>,
    out: &Output<O>,
) -> Result<()> {
    let columns = task.columns;
    let padded = columns.next_multiple_of(micro.nr);
    let dtype = <O::C as Lane>::DTYPE;
    let scratch = |floats: usize| Tensor::new(cx.pool, dtype, vec![floats]);
    let block_m = task.rows.div_ceil(task.rows.div_ceil(BLOCK_M)).next_multiple_of(micro.mr);
    // Sums go to the output itself where it has the computing type, else to a tile of their own.
    let direct = O::DTYPE == dtype;
    let mut tile = if direct { None } else { Some(scratch(block_m.min(task.rows) * columns)?) };
    // B is packed while the first block of rows is computed, and kept where there are others.
    let ready_b = p.b.ready(task.column, 0, micro.nr).is_some();
    let whole = !ready_b && task.rows > block_m;
    let mut packed_b = scratch(match (ready_b, whole) {
        (true, _) => 0,
        (_, true) => padded * p.k,
        (_, false) => padded * BLOCK_K.min(p.k),
    })?;
    let pack_b = packed_b.slice_mut::<O::C>()?;
    let ready_a = source_a.ready(task.row, 0, micro.mr).is_some();
    let mut packed_a = scratch(if ready_a { 0 } else { block_m * BLOCK_K.min(p.k) })?;
    let pack_a = packed_a.slice_mut::<O::C>()?;
    for row in (0..task.rows).step_by(block_m) {
        let rows = block_m.min(task.rows - row);
        let first = task.row + row;
        let at = p.offset + first * p.row_stride + task.column;
        let (sums, stride): (*mut O::C, usize) = match &mut tile {
            Some(t) => (t.slice_mut::<O::C>()?.as_mut_ptr(), columns),
            // SAFETY: `check` made sure that the rectangle lies in the output; O is O::C here.
            None => (unsafe { out.start.add(at) }.cast(), p.row_stride),
        };
        for k in (0..p.k).step_by(BLOCK_K).map(|k| k..p.k.min(k + BLOCK_K)) {
            let steps = k.len();
            let a: &[O::C] = match source_a.ready(first, k.start, micro.mr) {
                Some(ready) => ready,
                None => {
                    source_a.pack(first..first + rows, k.clone(), micro.mr, pack_a);
                    pack_a
                }
            };
            let group = if ready_b { columns } else { PACK_N };
            for column in (0..columns).step_by(group) {
                let group = group.min(columns - column);
                let b: &[O::C] = match p.b.ready(task.column + column, k.start, micro.nr) {
                    Some(ready) => ready,
                    None => {
                        let kept = if whole { k.start * padded } else { 0 };
                        let panels = &mut pack_b[kept + column * steps..][..group.next_multiple_of(micro.nr) * steps];
                        if row == 0 || !whole {
                            let from = task.column + column;
                            p.b.pack(from..from + group, k.clone(), micro.nr, panels);
                        }
                        panels
                    }
                };
                let block = micro::Block { rows, columns: group, steps, a, b, accumulate: k.start > 0 };
                // SAFETY: the block lies in the rectangle, which is this task's alone.
                unsafe { micro.block(&block, sums.add(column), stride) };
            }
        }
        for r in 0..rows {
            // SAFETY: row `r` of the block, which is this task's alone.
            let values = unsafe { std::slice::from_raw_parts_mut(sums.add(r * stride), columns) };
            if p.k == 0 {
                values.fill(O::C::ZERO);
            }
            if let Some(epilogue) = p.epilogue {
                epilogue(first + r, task.column, values);
            }
            if !direct {
                // SAFETY: the same row of the output.
                O::narrow(values, unsafe { out.piece(at + r * p.row_stride, columns) });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::memory::Pool;
    use crate::backend::cpu::threads::Threads;
    use half::f16;

    /// Largest difference from the definition, relative to the largest element: A and B strided either way.
    fn difference<T: Lane<C: Float>>([m, n, k]: [usize; 3], turned: bool, threads: usize) -> f64 {
        let number = |i: usize| ((i * 7919 + 13) % 2003) as f64 / 1001.0 - 1.0;
        let store = |n: usize| -> Vec<T> { (0..n).map(|i| T::put(T::C::of(number(i)))).collect() };
        let (a, b) = (store(m * k), store(k * n + 5));
        let (lane_a, step_a) = if turned { (1, m) } else { (k, 1) };
        let (lane_b, step_b) = if turned { (k, 1) } else { (1, n) };
        let left = Strided { data: &a, lane: lane_a, step: step_a };
        let right = Strided { data: &b, lane: lane_b, step: step_b };
        let (pool, threads) = (Pool::new(1 << 30), Threads::new(threads).unwrap());
        let cx = Cx { pool: &pool, threads: &threads, cancel: None, tap: None };
        let epilogue = |row: usize, column: usize, v: &mut [T::C]| {
            v.iter_mut().enumerate().for_each(|(i, v)| *v += T::C::of((row + 2 * (column + i)) as f64 / 64.0));
        };
        let (offset, row_stride) = (3, n + 2);
        let product = Product { m, n, k, a: &left, b: &right, offset, row_stride, epilogue: Some(&epilogue) };
        let mut out = vec![T::default(); offset + m * row_stride];
        run::<T>(&cx, &[product], &mut out).unwrap();
        let (mut largest, mut worst) = (1f64, 0f64);
        for r in 0..m {
            for c in 0..n {
                let mut want = (r + 2 * c) as f64 / 64.0;
                for s in 0..k {
                    want += a[r * lane_a + s * step_a].get().wide() * b[c * lane_b + s * step_b].get().wide();
                }
                largest = largest.max(want.abs());
                worst = worst.max((out[offset + r * row_stride + c].get().wide() - want).abs());
            }
        }
        worst / largest
    }

    /// Sizes around the tiles and blocks of every kernel: one row, two rows, one column, cut-off tiles, several blocks.
    #[test]
    fn products_are_those_of_the_definition() {
        for m in [1, 2, 3, 6, 7, 97, 200] {
            for n in [1, 2, 16, 17, 63, 64, 65, 700] {
                for k in [1, 5, 252, 253, 600] {
                    if m * n * k > 2_000_000 {
                        continue;
                    }
                    for (turned, threads) in [(false, 1), (true, 3), (false, 3), (true, 1)] {
                        let f32s = difference::<f32>([m, n, k], turned, threads);
                        assert!(f32s < 2e-6, "fp32 {m}x{n}x{k} {turned}: {f32s:e}");
                        let f16s = difference::<f16>([m, n, k], turned, threads);
                        assert!(f16s < 6e-4, "fp16 {m}x{n}x{k} {turned}: {f16s:e}");
                        if m * n * k < 1_000_000 {
                            let f64s = difference::<f64>([m, n, k], turned, threads);
                            assert!(f64s < 1e-14, "fp64 {m}x{n}x{k} {turned}: {f64s:e}");
                        }
                    }
                }
            }
        }
    }

    /// Many products of one A, as the images of a batch: packed once for all, so that the memory suffices.
    #[test]
    fn products_of_one_matrix_share_its_panels() {
        let (m, n, k, count) = (100, 600, 700, 40);
        let a: Vec<f16> = (0..m * k).map(|i| f16::from_f32((i % 13) as f32 - 6.0)).collect();
        let b: Vec<f16> = (0..n * k).map(|i| f16::from_f32((i % 7) as f32 - 3.0)).collect();
        let left = Strided { data: &a, lane: k, step: 1 };
        let right = Strided { data: &b, lane: 1, step: n };
        let product =
            |i: usize| Product { m, n, k, a: &left, b: &right, offset: i * m * n, row_stride: n, epilogue: None };
        let products: Vec<Product<f32>> = (0..count).map(product).collect();
        let (pool, threads) = (Pool::new(2 << 20), Threads::inline());
        let cx = Cx { pool: &pool, threads: &threads, cancel: None, tap: None };
        let mut out = vec![f16::ZERO; count * m * n];
        run::<f16>(&cx, &products, &mut out).unwrap();
        for (row, column) in [(0, 0), (99, 599), (57, 333)] {
            let terms = (0..k).map(|s| a[row * k + s].to_f32() * b[s * n + column].to_f32());
            let want = f16::from_f32(terms.sum());
            for i in 0..count {
                assert_eq!(out[(i * m + row) * n + column], want, "product {i} at {row},{column}");
            }
        }
    }
}
