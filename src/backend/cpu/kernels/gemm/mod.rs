//! Products of matrices that are not known before: C = A B, where A and B are of any float type and lie by rows or by columns,
//! and C passes through an epilogue before it is rounded and stored. Columns of B are packed into panels, rows of A are read
//! where they lie if they can be, and the tiles are those of products with constants ([`super::channels_last::tile`]).
//!
//! Every element of C is the sum over k in order, in the tiles' blocks. That depends on k alone, so results do not depend on
//! threads.
#![allow(unsafe_code)] // tasks write disjoint rectangles of one output, and tiles take raw pointers

mod operand;
pub mod rows;
mod shared;
mod turn;

pub use operand::Operand;
pub use shared::Shared;

use super::channels_last::tile::{BLOCK_K, Piece, Steps, Tile, tile};
use super::lane::Lane;
use super::vector::{Dispatch, Vector, Work, panel, panel_width};
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::Tensor;
use operand::distance;
use parking_lot::Mutex;
use shared::Target;
use std::ops::Range;

/// Steps of k that are packed at a time: whole blocks of the tiles, so that sums are cut where they would be cut anyway.
const BLOCK: usize = 2 * BLOCK_K;
/// Floats of B that a task packs, about: they stay in the second-level cache while all rows pass over them.
const PACKED_B: usize = 1 << 16;
/// Columns of one task: at least where there are as many, since each task reads all of A; and at most.
const LEAST_N: usize = 128;
const MOST_N: usize = 512;
/// Floats of C that are finished at a time, about, and rows of them at least: for each of them B is read again.
const FINISHED: usize = 8 << 10;
const LEAST_ROWS: usize = 48;
const MOST_ROWS: usize = 96;
/// Rows of a task at least where rows are cut to keep all threads busy: each task packs B for itself.
const TASK_ROWS: usize = 24;

/// What is done to values of C before they are stored: the first one's place (row times columns of C plus column), and the
/// values: a piece of a row, or whole rows one after the other.
pub type Epilogue<'a, F> = &'a (dyn Fn(usize, &mut [F]) + Sync);

/// One product, to be stored at `offset` of the output with rows `row_stride` apart.
#[derive(Clone, Copy)]
pub struct Product<'a, F> {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// A; its lanes are rows.
    pub a: Operand<'a, F>,
    /// B; its lanes are columns.
    pub b: Operand<'a, F>,
    /// Where C starts in the output.
    pub offset: usize,
    /// Distance of rows of C.
    pub row_stride: usize,
    /// Applied to finished values.
    pub epilogue: Option<Epilogue<'a, F>>,
}

/// Computes products into disjoint parts of one output.
pub fn run<O: Lane<C: Dispatch>>(cx: &Cx, products: &[Product<O::C>], out: &mut [O]) -> Result<()> {
    all(cx, products, &Target::new(out))
}

/// A rectangle of a product's C.
struct Task {
    product: usize,
    depth: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

fn all<F: Dispatch>(cx: &Cx, products: &[Product<F>], out: &Target<F>) -> Result<()> {
    let width = panel_width::<F>();
    let work: usize = products.iter().map(|p| p.m.saturating_mul(p.n).saturating_mul(p.k.max(1))).sum();
    let mut tasks = Vec::with_capacity(products.len());
    let mut depths: Vec<Depth> = Vec::new();
    let mut largest = 0;
    for (product, p) in products.iter().enumerate() {
        if p.m == 0 || p.n == 0 {
            continue;
        }
        out.check([p.m, p.n], p.offset, p.row_stride)?;
        if depths.last().is_none_or(|d| d.k != p.k) {
            depths.push(Depth::new(p.k));
        }
        let most = (PACKED_B / p.k.clamp(1, BLOCK)).clamp(LEAST_N, MOST_N);
        let columns = p.n.div_ceil(p.n.div_ceil(most)).next_multiple_of(width);
        let rows = match cx.threads.count() {
            1 => p.m,
            threads => {
                // Few columns: rows are cut too.
                let wanted = (2 * threads).div_ceil(p.n.div_ceil(columns) * products.len());
                p.m.div_ceil(wanted).max(TASK_ROWS).min(p.m)
            }
        };
        largest = largest.max(Room::new(p, rows, columns.min(p.n), width, out.direct).all());
        for column in (0..p.n).step_by(columns) {
            for row in (0..p.m).step_by(rows) {
                let (rows, columns) = (row..p.m.min(row + rows), column..p.n.min(column + columns));
                tasks.push(Task { product, depth: depths.len() - 1, rows, columns });
            }
        }
    }
    // Work memory goes from task to task.
    let stash: Mutex<Vec<Tensor>> = Mutex::new(Vec::new());
    cx.threads.try_each(tasks.len(), work, &|i| {
        let task = &tasks[i];
        let held = stash.lock().pop();
        let mut room = match held {
            Some(room) => room,
            None => Tensor::new(cx.pool, F::DTYPE, vec![largest])?,
        };
        rectangle(&products[task.product], &depths[task.depth], task, width, room.slice_mut::<F>()?, out);
        stash.lock().push(room);
        Ok(())
    })
}

/// What rows read of each block of k.
struct Depth {
    k: usize,
    whole: Steps,
    last: Steps,
}

impl Depth {
    fn new(k: usize) -> Depth {
        let steps = |len: usize| Steps::new((len > 0).then_some(Piece { at: 0, len }));
        Depth {
            k,
            whole: steps(if k > BLOCK { BLOCK } else { 0 }),
            last: steps(k - k.saturating_sub(1) / BLOCK * BLOCK),
        }
    }
}

/// Floats of work memory of a task.
struct Room {
    /// Packed panels of B, packed rows of A, sums that do not fit the output.
    b: usize,
    a: usize,
    sums: usize,
    /// Rows that are worked on at a time.
    rows: usize,
}

impl Room {
    fn new<F: Dispatch>(p: &Product<F>, rows: usize, columns: usize, width: usize, direct: bool) -> Room {
        let steps = p.k.min(BLOCK);
        let most = (FINISHED / columns).clamp(LEAST_ROWS, MOST_ROWS);
        let at_once = rows.div_ceil(rows.div_ceil(most));
        let held = if p.k > BLOCK { rows } else { at_once };
        Room {
            b: columns.next_multiple_of(width) * steps,
            a: at_once * distance::<F>(steps),
            sums: if direct { 0 } else { held * columns },
            rows: at_once,
        }
    }

    fn all(&self) -> usize {
        self.b + self.a + self.sums
    }
}

/// Computes one task's rectangle of C: block of k by block of k, some rows at a time, which are finished and stored while they
/// are in the caches.
fn rectangle<F: Dispatch>(p: &Product<F>, depth: &Depth, task: &Task, width: usize, room: &mut [F], out: &Target<F>) {
    let columns = task.columns.len();
    let sizes = Room::new(p, task.rows.len(), columns, width, out.direct);
    let (to_b, room) = room.split_at_mut(sizes.b);
    let (to_a, sums) = room.split_at_mut(sizes.a);
    for first in (0..p.k.max(1)).step_by(BLOCK) {
        let steps = first..p.k.min(first + BLOCK);
        let reads = if steps.end < p.k { &depth.whole } else { &depth.last };
        if !steps.is_empty() {
            p.b.pack_panels(task.columns.clone(), steps.clone(), width, to_b);
        }
        for row in task.rows.clone().step_by(sizes.rows) {
            let rows = row..task.rows.end.min(row + sizes.rows);
            let at = p.offset + row * p.row_stride + task.columns.start;
            let (c, c_apart) = match out.direct {
                // SAFETY: `check` made sure that the rectangle lies in the output, and it is this task's alone.
                true => (unsafe { out.at(at) }, p.row_stride),
                false if p.k > BLOCK => (sums[(row - task.rows.start) * columns..].as_mut_ptr(), columns),
                false => (sums.as_mut_ptr(), columns),
            };
            if !steps.is_empty() {
                let (a, apart) = match p.a.rows(&rows, &steps) {
                    Some(there) => there,
                    None => {
                        let apart = distance::<F>(steps.len());
                        p.a.pack_rows(rows.clone(), steps.clone(), to_a, apart);
                        (&*to_a, apart)
                    }
                };
                let (b, rows, accumulate) = (&*to_b, rows.len(), first > 0);
                F::dispatch(Tiles { a, apart, rows, steps: reads, b, columns, c, c_apart, accumulate });
            }
            if steps.end < p.k {
                continue;
            }
            // Whole rows that follow each other are one run.
            let (runs, len) = match columns == p.n && c_apart == columns && p.row_stride == columns {
                true => (1, rows.len() * columns),
                false => (rows.len(), columns),
            };
            for run in 0..runs {
                // SAFETY: these sums are this task's alone, in the output or in its own memory.
                let values = unsafe { std::slice::from_raw_parts_mut(c.add(run * c_apart), len) };
                if p.k == 0 {
                    values.fill(F::ZERO);
                }
                if let Some(epilogue) = p.epilogue {
                    epilogue((row + run) * p.n + task.columns.start, values);
                }
                if !out.direct {
                    // SAFETY: the same elements of the output.
                    unsafe { out.store(at + run * p.row_stride, values) };
                }
            }
        }
    }
}

/// Rows times all panels.
struct Tiles<'a, F> {
    a: &'a [F],
    apart: usize,
    rows: usize,
    steps: &'a Steps,
    b: &'a [F],
    columns: usize,
    c: *mut F,
    c_apart: usize,
    accumulate: bool,
}

impl<F: Dispatch> Work<F> for Tiles<'_, F> {
    #[inline(always)]
    fn run<X: Vector<F = F>>(self) {
        let (width, steps, c_apart) = (panel::<X>(), self.steps, self.c_apart);
        let panel = width * steps.count;
        assert!(self.a.len() >= (self.rows - 1) * self.apart + steps.count);
        assert!(self.b.len() >= self.columns.div_ceil(width) * panel);
        let cuts = self.rows.div_ceil(X::ROWS);
        for p in 0..self.columns.div_ceil(width) {
            let columns = width.min(self.columns - p * width);
            for cut in 0..cuts {
                let (first, last) = (cut * self.rows / cuts, (cut + 1) * self.rows / cuts);
                let (a, b) = (self.a[first * self.apart..].as_ptr(), self.b[p * panel..].as_ptr());
                // SAFETY: rows and panels were checked above, `c` has all rows and columns, and the processor has what the
                // dispatch found.
                unsafe {
                    let c = self.c.add(first * c_apart + p * width);
                    let (apart, bias, accumulate) = (self.apart, std::ptr::null(), self.accumulate);
                    tile::<X, F>(&Tile { a, apart, steps, b, c, c_apart, columns, bias, accumulate }, last - first);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::kernels::math::Float;
    use crate::backend::cpu::kernels::vector::WIDEST;
    use crate::backend::cpu::memory::Pool;
    use crate::backend::cpu::threads::Threads;
    use half::f16;

    /// Largest difference from the definition, relative to the largest element: A and B strided either way.
    fn difference<T: Lane<C: Dispatch>>([m, n, k]: [usize; 3], turned: bool, threads: usize) -> f64 {
        let number = |i: usize| ((i * 7919 + 13) % 2003) as f64 / 1001.0 - 1.0;
        let store = |n: usize| -> Vec<T> { (0..n).map(|i| T::put(T::C::of(number(i)))).collect() };
        let (a, b) = (store(m * k), store(k * n + 5));
        let (lane_a, step_a) = if turned { (1, m) } else { (k, 1) };
        let (lane_b, step_b) = if turned { (k, 1) } else { (1, n) };
        let (left, right) = match turned {
            true => (Operand::by_steps(&a, m), Operand::by_lanes(&b, k)),
            false => (Operand::by_lanes(&a, k), Operand::by_steps(&b, n)),
        };
        let (pool, threads) = (Pool::new(1 << 30), Threads::new(threads).unwrap());
        let cx = Cx { pool: &pool, threads: &threads, cancel: None, tap: None };
        let epilogue = |at: usize, v: &mut [T::C]| {
            let added = |at: usize| T::C::of((at / n + 2 * (at % n)) as f64 / 64.0);
            v.iter_mut().enumerate().for_each(|(i, v)| *v += added(at + i));
        };
        let (offset, row_stride) = (3, if turned { n } else { n + 2 });
        let product = Product { m, n, k, a: left, b: right, offset, row_stride, epilogue: Some(&epilogue) };
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

    /// Sizes around the tiles and blocks: one row, two rows, one column, cut-off tiles, several blocks. Every width of
    /// vectors; narrower ones are what a test's own thread wants alone.
    #[test]
    fn products_are_those_of_the_definition() {
        for widest in [0, 8, usize::MAX] {
            WIDEST.set(widest);
            of_many_sizes(if widest == usize::MAX { 3 } else { 1 });
        }
    }

    fn of_many_sizes(threads: usize) {
        for m in [1, 2, 6, 13, 97] {
            for n in [1, 2, 17, 32, 65, 600] {
                for k in [0, 1, 5, 256, 512, 600] {
                    if m * n * k > 600_000 {
                        continue;
                    }
                    for (turned, threads) in [(false, 1), (true, threads)] {
                        let f32s = difference::<f32>([m, n, k], turned, threads);
                        assert!(f32s < 2e-6, "fp32 {m}x{n}x{k} {turned}: {f32s:e}");
                        let f16s = difference::<f16>([m, n, k], turned, threads);
                        assert!(f16s < 6e-4, "fp16 {m}x{n}x{k} {turned}: {f16s:e}");
                        if m * n * k < 200_000 {
                            let f64s = difference::<f64>([m, n, k], turned, threads);
                            assert!(f64s < 1e-14, "fp64 {m}x{n}x{k} {turned}: {f64s:e}");
                        }
                    }
                }
            }
        }
    }

    /// However the work is cut, with however many threads: the same bits.
    #[test]
    fn sums_do_not_depend_on_threads() {
        let (m, n, k) = (130, 70, 1100);
        let number = |i: usize| ((i * 7919 + 13) % 2003) as f32 / 1001.0 - 1.0;
        let (a, b): (Vec<f32>, Vec<f32>) = ((0..m * k).map(number).collect(), (0..n * k).map(number).collect());
        let sums = |threads: usize| {
            let (pool, threads) = (Pool::new(1 << 30), Threads::new(threads).unwrap());
            let cx = Cx { pool: &pool, threads: &threads, cancel: None, tap: None };
            let (a, b) = (Operand::by_lanes(&a, k), Operand::by_lanes(&b, k));
            let mut out = vec![0f32; m * n];
            run(&cx, &[Product { m, n, k, a, b, offset: 0, row_stride: n, epilogue: None }], &mut out).unwrap();
            out
        };
        let alone = sums(1);
        for threads in [2, 3, 5] {
            assert_eq!(alone, sums(threads), "{threads} threads");
        }
    }

    /// Many products, as the images of a batch: work memory goes from one to the next.
    #[test]
    fn many_products_need_the_memory_of_one() {
        let (m, n, k, count) = (100, 600, 700, 40);
        let a: Vec<f16> = (0..m * k).map(|i| f16::from_f32((i % 13) as f32 - 6.0)).collect();
        let b: Vec<f16> = (0..n * k).map(|i| f16::from_f32((i % 7) as f32 - 3.0)).collect();
        let (left, right) = (Operand::by_lanes(&a, k), Operand::by_steps(&b, n));
        let product =
            |i: usize| Product { m, n, k, a: left, b: right, offset: i * m * n, row_stride: n, epilogue: None };
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
