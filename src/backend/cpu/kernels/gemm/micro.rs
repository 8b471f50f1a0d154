//! The innermost kernels: a tile of C in registers, fed from two panels. Each has a portable twin that tests compare it
//! with.
#![allow(unsafe_code)] // vector instructions and raw pointers into a checked rectangle of C

use super::super::math::Float;
use super::super::simd;
use std::sync::OnceLock;

/// A kernel for one float type.
pub struct Micro<F> {
    /// Rows of its tile.
    pub mr: usize,
    /// Columns of its tile.
    pub nr: usize,
    tile: unsafe fn(&Tile<F>),
    /// For few rows: that many rows at most, and tiles side by side, which keep as many sums in registers.
    few: Option<Few<F>>,
    /// For a single column: one panel of A times the first lane of one panel of B, which gives `mr` sums.
    column: Option<unsafe fn(&Tile<F>)>,
    /// The first half of a tile's columns, for what is left over at the right.
    half: Option<unsafe fn(&Tile<F>)>,
}

/// A kernel for few rows.
struct Few<F> {
    rows: usize,
    tiles: usize,
    tile: unsafe fn(&Tile<F>),
}

/// A block of C and the panels it is made of.
pub struct Block<'a, F> {
    /// Rows of A and C.
    pub rows: usize,
    /// Columns of B and C.
    pub columns: usize,
    /// Steps of k.
    pub steps: usize,
    /// Panels of A.
    pub a: &'a [F],
    /// Panels of B.
    pub b: &'a [F],
    /// Add to what is there, or replace it.
    pub accumulate: bool,
}

/// One tile of C: at most `mr` rows and exactly `nr` columns.
struct Tile<F> {
    rows: usize,
    steps: usize,
    a: *const F,
    b: *const F,
    c: *mut F,
    stride: usize,
    accumulate: bool,
    /// Where to fetch from memory ahead of its use: a part of the next panel of B.
    ahead: *const F,
}

/// Columns of the widest tile, rows of the highest.
const MAX_TILE: usize = 16 * 6;

impl<F: Float> Micro<F> {
    /// Computes a block into `c`, whose rows are `stride` apart.
    ///
    /// # Safety
    /// `c` is valid for the block's rows and columns, and nobody else uses it.
    pub(super) unsafe fn block(&self, block: &Block<F>, c: *mut F, stride: usize) {
        assert!(block.a.len() >= block.rows.next_multiple_of(self.mr) * block.steps);
        assert!(block.b.len() >= block.columns.next_multiple_of(self.nr) * block.steps);
        let mut done = 0;
        if let Some(few) = &self.few
            && block.rows <= few.rows
        {
            let wide = few.tiles * self.nr;
            while done + wide <= block.columns {
                let b = block.b[done * block.steps..].as_ptr();
                let (rows, steps, a) = (block.rows, block.steps, block.a.as_ptr());
                // SAFETY: as below, for tiles side by side.
                unsafe {
                    let c = c.add(done);
                    (few.tile)(&Tile { rows, steps, a, b, c, stride, accumulate: block.accumulate, ahead: b });
                }
                done += wide;
            }
        }
        for column in (done..block.columns).step_by(self.nr) {
            let columns = self.nr.min(block.columns - column);
            let b = block.b[column * block.steps..].as_ptr();
            let panel = self.nr * block.steps;
            for row in (0..block.rows).step_by(self.mr) {
                let rows = self.mr.min(block.rows - row);
                let a = block.a[row * block.steps..].as_ptr();
                // Each tile fetches its share of the next panel. The address need not exist: fetching ahead never fails.
                let ahead = b.wrapping_add(panel + panel * row / block.rows);
                let (steps, accumulate) = (block.steps, block.accumulate);
                let mut tile = Tile { rows, steps, a, b, c, stride, accumulate, ahead };
                if let (Some(kernel), 1) = (self.column, columns) {
                    // SAFETY: the tile's one column lies in the block; the panels have `steps` steps (asserted above).
                    unsafe {
                        tile.c = c.add(row * stride + column);
                        kernel(&tile);
                    }
                    continue;
                }
                if columns == self.nr {
                    // SAFETY: the tile lies in the block; the panels have `steps` steps (asserted above).
                    unsafe {
                        tile.c = c.add(row * stride + column);
                        (self.tile)(&tile);
                    }
                    continue;
                }
                // A tile that is cut off is made aside.
                let mut aside = [F::ZERO; MAX_TILE];
                tile.c = aside.as_mut_ptr();
                tile.stride = self.nr;
                tile.accumulate = false;
                let kernel = self.half.filter(|_| columns <= self.nr / 2).unwrap_or(self.tile);
                // SAFETY: `aside` holds a whole tile.
                unsafe { kernel(&tile) };
                for r in 0..rows {
                    // SAFETY: these columns of row `r` lie in the block.
                    let out = unsafe { std::slice::from_raw_parts_mut(c.add((row + r) * stride + column), columns) };
                    for (o, &v) in out.iter_mut().zip(&aside[r * self.nr..]) {
                        *o = if block.accumulate { *o + v } else { v };
                    }
                }
            }
        }
    }
}

/// The kernel for FP32 on this processor.
pub fn micro_f32() -> &'static Micro<f32> {
    static CHOICE: OnceLock<Micro<f32>> = OnceLock::new();
    CHOICE.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        if simd::has_avx2() {
            let few = Some(Few { rows: 2, tiles: 4, tile: avx2::few });
            return Micro { mr: 6, nr: 16, tile: avx2::tile, few, column: Some(avx2::column), half: Some(avx2::half) };
        }
        Micro { mr: 4, nr: 8, tile: portable::<f32, 4, 8>, few: None, column: None, half: None }
    })
}

/// The kernel for FP64.
pub fn micro_f64() -> &'static Micro<f64> {
    static CHOICE: Micro<f64> = Micro { mr: 4, nr: 8, tile: portable_wide, few: None, column: None, half: None };
    &CHOICE
}

unsafe fn portable_wide(t: &Tile<f64>) {
    // SAFETY: as the caller promises.
    simd::vectorize(|| unsafe { portable::<f64, 4, 8>(t) });
}

/// Any float, any processor: the compiler finds the vector instructions that are always there.
#[inline(always)]
unsafe fn portable<F: Float, const MR: usize, const NR: usize>(t: &Tile<F>) {
    // SAFETY: the panels have `steps` steps of MR and NR lanes.
    let (a, b) =
        unsafe { (std::slice::from_raw_parts(t.a, t.steps * MR), std::slice::from_raw_parts(t.b, t.steps * NR)) };
    let mut sums = [[F::ZERO; NR]; MR];
    for (a, b) in a.as_chunks::<MR>().0.iter().zip(b.as_chunks::<NR>().0) {
        for (sums, &a) in sums.iter_mut().zip(a) {
            for (s, &b) in sums.iter_mut().zip(b) {
                *s += a * b;
            }
        }
    }
    for (r, sums) in sums.iter().enumerate().take(t.rows) {
        // SAFETY: row `r` of the tile.
        let out = unsafe { std::slice::from_raw_parts_mut(t.c.add(r * t.stride), NR) };
        for (o, &s) in out.iter_mut().zip(sums) {
            *o = if t.accumulate { *o + s } else { s };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::Tile;
    use std::arch::x86_64::*;

    /// Six rows of sixteen columns: twelve sums, two of B and one of A fill the sixteen registers.
    pub(super) unsafe fn tile(t: &Tile<f32>) {
        // SAFETY: chosen only where AVX2 and FMA are there; the tile is as the caller promises.
        unsafe { some_rows::<2>(t) }
    }

    /// The first eight columns of a tile.
    pub(super) unsafe fn half(t: &Tile<f32>) {
        // SAFETY: as above.
        unsafe { some_rows::<1>(t) }
    }

    #[inline(always)]
    unsafe fn some_rows<const V: usize>(t: &Tile<f32>) {
        // SAFETY: as above.
        unsafe {
            match t.rows {
                6 => rows::<6, V>(t),
                5 => rows::<5, V>(t),
                4 => rows::<4, V>(t),
                3 => rows::<3, V>(t),
                2 => rows::<2, V>(t),
                _ => rows::<1, V>(t),
            }
        }
    }

    /// One or two rows of sixty-four columns: with sixteen columns the sums would wait for each other.
    pub(super) unsafe fn few(t: &Tile<f32>) {
        // SAFETY: as above; four panels lie one after the other.
        unsafe {
            match t.rows {
                2 => {
                    side_by_side::<2, 2>(t, 0);
                    side_by_side::<2, 2>(t, 2);
                }
                _ => side_by_side::<1, 4>(t, 0),
            }
        }
    }

    /// R rows of P tiles, from tile `first` on.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn side_by_side<const R: usize, const P: usize>(t: &Tile<f32>, first: usize) {
        // SAFETY: the panels have `steps` steps of 6 and 16 lanes, and C has R rows of these tiles.
        unsafe {
            let mut sums = [[[_mm256_setzero_ps(); 2]; P]; R];
            let (mut a, mut b) = (t.a, t.b.add(first * t.steps * 16));
            for _ in 0..t.steps {
                for p in 0..P {
                    let b0 = _mm256_loadu_ps(b.add(p * t.steps * 16));
                    let b1 = _mm256_loadu_ps(b.add(p * t.steps * 16 + 8));
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let x = _mm256_broadcast_ss(&*a.add(r));
                        sums[p][0] = _mm256_fmadd_ps(x, b0, sums[p][0]);
                        sums[p][1] = _mm256_fmadd_ps(x, b1, sums[p][1]);
                    }
                }
                a = a.add(6);
                b = b.add(16);
            }
            for (r, sums) in sums.iter().enumerate() {
                for (p, sums) in sums.iter().enumerate() {
                    let c = t.c.add(r * t.stride + (first + p) * 16);
                    store(c, sums, t.accumulate);
                }
            }
        }
    }

    /// A single column: the six lanes of each step of A times one value of B, in four sums that do not wait for each
    /// other.
    pub(super) unsafe fn column(t: &Tile<f32>) {
        // SAFETY: as above.
        unsafe { one_column(t) }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn one_column(t: &Tile<f32>) {
        // SAFETY: A has `steps` steps of 6 lanes, no more of which are read; B has steps of 16; C has these rows.
        unsafe {
            let six = _mm256_setr_epi32(-1, -1, -1, -1, -1, -1, 0, 0);
            let mut sums = [_mm256_setzero_ps(); 4];
            let step = |s: usize, sum: __m256| {
                let a = _mm256_maskload_ps(t.a.add(s * 6), six);
                _mm256_fmadd_ps(a, _mm256_broadcast_ss(&*t.b.add(s * 16)), sum)
            };
            let whole = t.steps / 4 * 4;
            for s in (0..whole).step_by(4) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = step(s + i, *sum);
                }
            }
            for s in whole..t.steps {
                sums[s % 4] = step(s, sums[s % 4]);
            }
            let total = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
            let mut lanes = [0f32; 8];
            _mm256_storeu_ps(lanes.as_mut_ptr(), total);
            for (r, v) in lanes.iter().enumerate().take(t.rows) {
                let c = &mut *t.c.add(r * t.stride);
                *c = if t.accumulate { *c + v } else { *v };
            }
        }
    }

    /// Stores sixteen sums, or adds them to what is there.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store(c: *mut f32, sums: &[__m256; 2], accumulate: bool) {
        // SAFETY: sixteen floats of C.
        unsafe {
            let (mut s0, mut s1) = (sums[0], sums[1]);
            if accumulate {
                s0 = _mm256_add_ps(_mm256_loadu_ps(c), s0);
                s1 = _mm256_add_ps(_mm256_loadu_ps(c.add(8)), s1);
            }
            _mm256_storeu_ps(c, s0);
            _mm256_storeu_ps(c.add(8), s1);
        }
    }

    /// R rows of V times eight columns.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn rows<const R: usize, const V: usize>(t: &Tile<f32>) {
        // SAFETY: the panels have `steps` steps of 6 and 16 lanes, and C has R rows of 16 columns.
        unsafe {
            let mut sums = [[_mm256_setzero_ps(); V]; R];
            let (mut a, mut b, mut ahead) = (t.a, t.b, t.ahead);
            // Four steps at a time, and one line of the next panel with them: a panel has a line for each step, and there
            // are more than four tiles of rows in most products.
            for _ in 0..t.steps / UNROLLED {
                _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                for s in 0..UNROLLED {
                    step(a.add(s * 6), b.add(s * 16), &mut sums);
                }
                a = a.add(UNROLLED * 6);
                b = b.add(UNROLLED * 16);
                ahead = ahead.wrapping_add(16);
            }
            for s in 0..t.steps % UNROLLED {
                step(a.add(s * 6), b.add(s * 16), &mut sums);
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    let c = t.c.add(r * t.stride + v * 8);
                    let whole = if t.accumulate { _mm256_add_ps(_mm256_loadu_ps(c), sum) } else { sum };
                    _mm256_storeu_ps(c, whole);
                }
            }
        }
    }

    /// Steps without a branch between them.
    const UNROLLED: usize = 4;

    /// One step of k.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn step<const R: usize, const V: usize>(a: *const f32, b: *const f32, sums: &mut [[__m256; V]; R]) {
        // SAFETY: a step of both panels.
        unsafe {
            let mut lanes = [_mm256_setzero_ps(); V];
            for (v, lane) in lanes.iter_mut().enumerate() {
                *lane = _mm256_loadu_ps(b.add(v * 8));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*a.add(r));
                for (sum, &lane) in sums.iter_mut().zip(&lanes) {
                    *sum = _mm256_fmadd_ps(x, lane, *sum);
                }
            }
        }
    }
}
