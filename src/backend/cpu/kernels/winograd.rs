//! Convolutions with 3x3 kernels by Winograd's algorithm F(4x4, 3x3): tiles of 4x4 outputs are made of 6x6 inputs with 36
//! products a channel instead of 144. Transforms as in Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks" (2015), for the points 0, 1, -1, 2, -2 and infinity. Everything is computed in FP32 (FP64); results differ
//! from the plain sum by rounding only. Weights are transformed in every run, panel by panel: that costs less than
//! reading them in transformed form, which is four times as large.
#![allow(unsafe_code)]
// tasks store disjoint parts of one output; vector instructions
// Loops over both sides of small squares read best with their indices; v - v is zero for finite v alone.
#![allow(clippy::needless_range_loop, clippy::eq_op)]

use super::conv::Window;
use super::gemm::{self, BLOCK_K, Packed};
use super::lane::Lane;
use super::math::Float;
use super::planes::Plane;
#[cfg(target_arch = "x86_64")]
use super::simd::has_avx2;
use super::simd::{Vectorized, vectorized};
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Outputs of a tile in each direction.
const OUT: usize = 4;
/// Inputs of a tile in each direction.
const IN: usize = 6;
/// Products of a tile.
const POINTS: usize = IN * IN;
/// Tiles that are transformed at a time: one panel of the matrix kernels, or two.
const LANES: usize = 16;
/// Tiles that lie side by side in a row and are read and written together.
const GROUP: usize = 4;
/// Tiles of one task, about. With more of them the weights are transformed less often, but the transformed tiles leave the
/// second-level cache.
const TASK: usize = 64;
/// Floats of transformed weights at a time, about.
const WEIGHTS: usize = 1 << 17;

type Row<F> = [F; LANES];
type Tile<F> = [[Row<F>; IN]; IN];

/// One convolution: stride and dilation 1, one group, constant weights.
pub struct Winograd<'a, T> {
    /// The windows.
    pub window: &'a Window,
    /// Input channels.
    pub channels: usize,
    /// Output channels.
    pub rows: usize,
    /// Weights, a row for each output channel.
    pub weights: &'a Packed<T>,
}

/// True if the algorithm pays for such windows.
pub fn pays(w: &Window, channels: usize, rows: usize) -> bool {
    let form = w.kernel == [1, 3, 3] && w.stride == [1; 3] && w.dilation == [1; 3] && w.input[0] == 1 && w.pad[0] == 0;
    if !form || channels < 8 || rows < 16 {
        return false;
    }
    let tiles = tile_rows(w) * row_lanes(w);
    // Multiplications of both ways in panels, and the transforms of weights and tiles, in multiplications.
    let own = POINTS * tiles.next_multiple_of(LANES) + 256 + 512 * tiles / rows;
    own < 9 * w.output_len().next_multiple_of(LANES) * 4 / 5
}

fn tile_rows(w: &Window) -> usize {
    w.output[1].div_ceil(OUT)
}

/// Tiles of a row, filled up to whole groups.
fn row_lanes(w: &Window) -> usize {
    w.output[2].div_ceil(OUT).next_multiple_of(GROUP)
}

/// Distance of the values of one point from those of the next, at least `n`: such that what all points have at one place
/// does not fall on the same few lines of a cache, as it would for multiples of its size.
fn spread(n: usize) -> usize {
    // Lines of sixteen floats; a first-level cache has 64 sets of them.
    let mut lines = n.div_ceil(16);
    while lines % 4 != 1 {
        lines += 1;
    }
    lines * 16
}

/// A task: some rows of tiles of one image, some output channels.
struct Task {
    image: usize,
    tile_rows: Range<usize>,
    rows: Range<usize>,
    /// Tile row, from the task's first one on, and column of each group of tiles.
    groups: Vec<(usize, usize)>,
}

impl<T: Lane<C: Float>> Winograd<'_, T> {
    /// Convolves `images`; `epilogue(first element of the output, channel, values)` finishes pieces of one channel.
    /// False if a value is not finite: sums of infinities are not what the definition says, so the caller computes them
    /// by it.
    pub fn run(&self, cx: &Cx, input: &[T], out: &mut [T], epilogue: gemm::Epilogue<T::C>) -> Result<bool> {
        let w = self.window;
        let (plane, size) = (w.input_len(), w.output_len());
        let images = out.len() / (self.rows * size);
        let tasks = self.tasks(images, cx.threads.count());
        let work = out.len() * self.channels * 3;
        let finite = AtomicBool::new(true);
        let shared = gemm::Shared::new(out);
        cx.threads.try_each(tasks.len(), work, &|t| {
            let task = &tasks[t];
            let input = &input[task.image * self.channels * plane..(task.image + 1) * self.channels * plane];
            let all = self.task(cx, task, input, &shared, epilogue)?;
            if !all {
                finite.store(false, Ordering::Relaxed);
            }
            Ok(())
        })?;
        Ok(finite.into_inner())
    }

    fn tasks(&self, images: usize, threads: usize) -> Vec<Task> {
        let (all, lanes) = (tile_rows(self.window), row_lanes(self.window));
        let parts = (all * lanes).div_ceil(TASK).min(all);
        let height = all.div_ceil(parts);
        // Few tiles: cut the channels too, so that all threads have work.
        let cuts = if threads == 1 { 1 } else { (2 * threads).div_ceil(parts * images) };
        let width = self.rows.div_ceil(cuts).next_multiple_of(T::C::micro().mr);
        let mut tasks = Vec::new();
        for image in 0..images {
            for y in (0..all).step_by(height) {
                for r in (0..self.rows).step_by(width) {
                    let rows = r..self.rows.min(r + width);
                    let tile_rows = y..all.min(y + height);
                    let place = |g: usize| (g * GROUP / lanes, g * GROUP % lanes);
                    let groups = (0..tile_rows.len() * lanes / GROUP).map(place).collect();
                    tasks.push(Task { image, tile_rows, rows, groups });
                }
            }
        }
        tasks
    }

    fn task(
        &self,
        cx: &Cx,
        task: &Task,
        input: &[T],
        out: &gemm::Shared<T>,
        epilogue: gemm::Epilogue<T::C>,
    ) -> Result<bool> {
        let (w, micro, c) = (self.window, T::C::micro(), self.channels);
        let lanes = (task.tile_rows.len() * row_lanes(w)).next_multiple_of(LANES);
        let scratch = |n: usize| Tensor::new(cx.pool, <T::C as Lane>::DTYPE, vec![n]);
        let apart = spread(c * lanes);
        let mut tiles = scratch(POINTS * apart)?;
        let tiles = tiles.slice_mut::<T::C>()?;
        self.transform_input(task, input, lanes, apart, tiles);
        let at_once = (WEIGHTS / (POINTS * c) / micro.mr * micro.mr).clamp(micro.mr, 24);
        let weights_apart = spread(c * at_once);
        let mut weights = scratch(POINTS * weights_apart)?;
        let sums_apart = spread(at_once * lanes);
        let mut sums = scratch(POINTS * sums_apart)?;
        let (weights, sums) = (weights.slice_mut::<T::C>()?, sums.slice_mut::<T::C>()?);
        let rows_of_output = task.tile_rows.start * OUT..(task.tile_rows.end * OUT).min(w.output[1]);
        let piece = rows_of_output.len() * w.output[2];
        let mut band = vec![T::C::ZERO; piece];
        let mut finite = true;
        let mut half = [[[T::C::ZERO; LANES]; IN]; IN];
        for first in task.rows.clone().step_by(at_once) {
            let rows = at_once.min(task.rows.end - first);
            let padded = rows.next_multiple_of(micro.mr);
            self.transform_weights(first, rows, weights_apart, weights);
            for e in 0..POINTS {
                for k in (0..c).step_by(BLOCK_K) {
                    let steps = BLOCK_K.min(c - k);
                    let block = gemm::Block {
                        rows,
                        columns: lanes,
                        steps,
                        a: &weights[e * weights_apart + k * padded..],
                        b: &tiles[e * apart + k * lanes..],
                        accumulate: k > 0,
                    };
                    micro.compute(&block, &mut sums[e * sums_apart..(e + 1) * sums_apart], lanes);
                }
            }
            for r in 0..rows {
                let channel = first + r;
                let (sums, next) = (&sums[r * lanes..], sums_apart);
                vectorized(Outputs {
                    way: self,
                    task,
                    sums,
                    next,
                    half: &mut half,
                    band: &mut band,
                    finite: &mut finite,
                });
                let at = (task.image * self.rows + channel) * w.output_len() + rows_of_output.start * w.output[2];
                epilogue(at, channel, &mut band);
                // SAFETY: rows of one channel of one image, which no other task has.
                unsafe { out.store(at, &band) };
            }
        }
        Ok(finite)
    }

    /// All tiles of the task's rows: for each point and block of channels, panels as the matrix kernels read them.
    fn transform_input(&self, task: &Task, input: &[T], lanes: usize, apart: usize, out: &mut [T::C]) {
        let (w, c) = (self.window, self.channels);
        let (across, width) = (row_lanes(w), T::C::micro().nr);
        // Tiles are windows of 6x6 that move by 4.
        let tiles = Window { kernel: [1, IN, IN], stride: [1, OUT, OUT], output: [1, tile_rows(w), across], ..*w };
        let first = (task.tile_rows.start * OUT).saturating_sub(w.pad[1]);
        let last = (task.tile_rows.end * OUT + IN - OUT).saturating_sub(w.pad[1]).min(w.input[1]);
        let mut plane = Plane::new();
        let mut tile = [[[[T::C::ZERO; LANES]; IN]; IN]; 2];
        for channel in 0..c {
            plane.load(&tiles, &input[channel * w.input_len()..(channel + 1) * w.input_len()], first..last, T::C::ZERO);
            let block = channel / BLOCK_K * BLOCK_K;
            let steps = BLOCK_K.min(c - block);
            for panel in 0..lanes / LANES {
                let place = block * lanes + panel * LANES * steps + (channel - block) * width;
                let to = Panel { out: &mut *out, first: place, next: apart, width, gap: width * steps };
                vectorized(InputPanel { way: self, task, plane: &plane, panel, tile: &mut tile, to });
            }
        }
    }

    /// The weights of `rows` output channels: for each point and block of channels, panels as the kernels read them.
    fn transform_weights(&self, first: usize, rows: usize, apart: usize, out: &mut [T::C]) {
        match T::C::micro().mr {
            4 => self.transform_panels::<4>(first, rows, apart, out),
            6 => self.transform_panels::<6>(first, rows, apart, out),
            other => unreachable!("no kernel has tiles of {other} rows"),
        }
    }

    fn transform_panels<const W: usize>(&self, first: usize, rows: usize, apart: usize, out: &mut [T::C]) {
        let c = self.channels;
        let padded = rows.next_multiple_of(W);
        for panel in 0..padded / W {
            let row = first + panel * W;
            vectorized(WeightPanels::<T, W> {
                weights: self.weights,
                row,
                channels: c,
                panel,
                padded,
                apart,
                out: &mut *out,
            });
        }
    }
}

// Written as whole arrays made anew, which become vector instructions.
#[inline(always)]
fn combine<F: Float, const W: usize>(f: impl Fn(usize) -> F) -> [F; W] {
    let mut made = [F::ZERO; W];
    for (l, v) in made.iter_mut().enumerate() {
        *v = f(l);
    }
    made
}

/// One channel of a panel of tiles.
struct InputPanel<'a, T: Lane> {
    way: &'a Winograd<'a, T>,
    task: &'a Task,
    plane: &'a Plane<T::C>,
    panel: usize,
    /// Memory for a tile half transformed, and for one of its rows, so that it need not be cleared every time.
    tile: &'a mut [Tile<T::C>; 2],
    to: Panel<'a, T::C>,
}

impl<T: Lane<C: Float>> Vectorized for InputPanel<'_, T> {
    #[inline(always)]
    fn run(self) {
        let InputPanel { way, task, plane, panel, tile: [half, d], to } = self;
        let w = way.window;
        // Lanes beyond the tiles keep what was there: nobody reads what becomes of them.
        let groups = &task.groups[panel * (LANES / GROUP)..];
        for i in 0..IN {
            for (g, (y, x)) in groups.iter().take(LANES / GROUP).enumerate() {
                let line = plane.line(((task.tile_rows.start + y) * OUT + i).checked_sub(w.pad[1]));
                for (j, d) in d[0].iter_mut().enumerate() {
                    let from = &line[j % OUT * plane.phase() + j / OUT + x..];
                    if let (Some(from), Some(to)) =
                        (from.first_chunk::<GROUP>(), d[g * GROUP..].first_chunk_mut::<GROUP>())
                    {
                        *to = *from;
                    }
                }
            }
            half[i] = input_points(&d[0]);
        }
        for j in 0..IN {
            let column = input_points(&[half[0][j], half[1][j], half[2][j], half[3][j], half[4][j], half[5][j]]);
            for (i, row) in column.iter().enumerate() {
                let at = to.first + (i * IN + j) * to.next;
                if to.width == LANES {
                    if let Some(to) = to.out[at..].first_chunk_mut::<LANES>() {
                        *to = *row;
                    }
                    continue;
                }
                for (p, part) in row.chunks_exact(to.width).enumerate() {
                    to.out[at + p * to.gap..][..to.width].copy_from_slice(part);
                }
            }
        }
    }
}

/// The outputs of one channel, row by row.
struct Outputs<'a, T: Lane> {
    way: &'a Winograd<'a, T>,
    task: &'a Task,
    /// Sums of the first point; those of the next one are `next` further.
    sums: &'a [T::C],
    next: usize,
    /// Memory for a tile half transformed.
    half: &'a mut Tile<T::C>,
    band: &'a mut [T::C],
    /// Becomes false if an output is not finite.
    finite: &'a mut bool,
}

impl<T: Lane<C: Float>> Vectorized for Outputs<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Outputs { way, task, sums, next, half, band, finite } = self;
        let w = way.window;
        let width = w.output[2];
        let height = band.len() / width;
        let mut check = [T::C::ZERO; LANES];
        for (panel, groups) in task.groups.chunks(LANES / GROUP).enumerate() {
            for j in 0..IN {
                let point = |i: usize| match sums[(i * IN + j) * next + panel * LANES..].first_chunk::<LANES>() {
                    Some(row) => *row,
                    None => [T::C::ZERO; LANES],
                };
                let column = output_points(&[point(0), point(1), point(2), point(3), point(4), point(5)]);
                for i in 0..OUT {
                    half[i][j] = column[i];
                }
            }
            for (i, half) in half.iter().enumerate().take(OUT) {
                let row = output_points(half);
                // Lane by lane the four outputs of a tile.
                let mut turned = [[T::C::ZERO; OUT]; LANES];
                for l in 0..LANES {
                    for j in 0..OUT {
                        turned[l][j] = row[j][l];
                        check[l] += row[j][l] - row[j][l];
                    }
                }
                for (g, (y, x)) in groups.iter().enumerate() {
                    let (line, x) = (y * OUT + i, x * OUT);
                    if line >= height || x >= width {
                        continue;
                    }
                    let from = turned[g * GROUP..(g + 1) * GROUP].as_flattened();
                    let to = &mut band[line * width + x..(line + 1) * width];
                    match to.first_chunk_mut::<{ GROUP * OUT }>() {
                        Some(to) => to.copy_from_slice(from),
                        None => to.copy_from_slice(&from[..to.len()]),
                    }
                }
            }
        }
        // Lanes beyond the tiles are sums of zeros.
        *finite &= check.iter().all(|v| *v == T::C::ZERO);
    }
}

/// Where the values of a panel go: those of point `e` at `first + e * next`, the kernels' panels of `width` lanes `gap`
/// apart.
struct Panel<'a, F> {
    out: &'a mut [F],
    first: usize,
    next: usize,
    width: usize,
    gap: usize,
}

/// The weights of W output channels.
struct WeightPanels<'a, T: Lane, const W: usize> {
    weights: &'a Packed<T>,
    row: usize,
    channels: usize,
    panel: usize,
    padded: usize,
    /// From point to point.
    apart: usize,
    out: &'a mut [T::C],
}

/// Lanes of weights that are worked on: W of them, filled up to whole vectors.
const WEIGHT_LANES: usize = 8;

impl<T: Lane<C: Float>, const W: usize> Vectorized for WeightPanels<'_, T, W> {
    #[inline(always)]
    fn run(self) {
        let (c, padded) = (self.channels, self.padded);
        // The nine weights of each lane, and what a whole vector reads beyond.
        let mut flat = [T::C::ZERO; 9 * WEIGHT_LANES];
        let mut half = [[[T::C::ZERO; WEIGHT_LANES]; 3]; IN];
        for channel in 0..c {
            T::widen(self.weights.steps(self.row, channel * 9, 9), &mut flat[..9 * W]);
            let block = channel / BLOCK_K * BLOCK_K;
            let steps = BLOCK_K.min(c - block);
            let place = block * padded + self.panel * W * steps + (channel - block) * W;
            // A whole vector reaches into the next channel's place, which is written next; the last one has none.
            let whole = channel + 1 < block + steps;
            #[cfg(target_arch = "x86_64")]
            if W == 6
                && T::C::DTYPE == DataType::Float32
                && has_avx2()
                && let (Ok(flat), Ok(out)) =
                    (bytemuck::try_cast_slice(&flat), bytemuck::try_cast_slice_mut(&mut *self.out))
            {
                // SAFETY: the features have just been checked.
                unsafe { x86::six_weights(flat, &mut out[place..], self.apart, whole) };
                continue;
            }
            let g = |tap: usize| match flat[tap * W..].first_chunk::<WEIGHT_LANES>() {
                Some(lanes) => *lanes,
                None => [T::C::ZERO; WEIGHT_LANES],
            };
            for j in 0..3 {
                let column = weight_points([&g(j), &g(3 + j), &g(6 + j)]);
                for i in 0..IN {
                    half[i][j] = column[i];
                }
            }
            for (i, half) in half.iter().enumerate() {
                for (j, row) in weight_points([&half[0], &half[1], &half[2]]).iter().enumerate() {
                    let to = &mut self.out[place + (i * IN + j) * self.apart..];
                    match to.first_chunk_mut::<WEIGHT_LANES>() {
                        Some(to) if whole => *to = *row,
                        _ => to[..W].copy_from_slice(&row[..W]),
                    }
                }
            }
        }
    }
}

/// The transforms in vector instructions: what the compiler makes of the portable forms shuffles lanes about.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{IN, LANES, POINTS};
    use std::arch::x86_64::*;

    /// Eight lanes of each row.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn load<const N: usize>(rows: &[f32], at: usize) -> [__m256; N] {
        assert!(rows.len() >= N * LANES && at <= LANES / 2);
        let mut lanes = [_mm256_setzero_ps(); N];
        for (i, lanes) in lanes.iter_mut().enumerate() {
            // SAFETY: eight lanes of row `i`, from 0 or 8 on (asserted above).
            *lanes = unsafe { _mm256_loadu_ps(rows.as_ptr().add(i * LANES + at)) };
        }
        lanes
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn store<const N: usize>(rows: &mut [f32], at: usize, lanes: [__m256; N]) {
        assert!(rows.len() >= N * LANES && at <= LANES / 2);
        for (i, lanes) in lanes.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(rows.as_mut_ptr().add(i * LANES + at), lanes) };
        }
    }

    /// [`super::input_points`], operation for operation.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn input_points(d: &[f32], made: &mut [f32]) {
        let (two, four, five) = (_mm256_set1_ps(2.0), _mm256_set1_ps(4.0), _mm256_set1_ps(5.0));
        for at in [0, LANES / 2] {
            let [d0, d1, d2, d3, d4, d5] = load(d, at);
            let even = _mm256_sub_ps(d4, _mm256_mul_ps(four, d2));
            let odd = _mm256_sub_ps(d3, _mm256_mul_ps(four, d1));
            let (near, far) = (_mm256_sub_ps(d4, d2), _mm256_mul_ps(two, _mm256_sub_ps(d3, d1)));
            let first = _mm256_add_ps(_mm256_sub_ps(_mm256_mul_ps(four, d0), _mm256_mul_ps(five, d2)), d4);
            let last = _mm256_add_ps(_mm256_sub_ps(_mm256_mul_ps(four, d1), _mm256_mul_ps(five, d3)), d5);
            let lanes = [
                first,
                _mm256_add_ps(even, odd),
                _mm256_sub_ps(even, odd),
                _mm256_add_ps(near, far),
                _mm256_sub_ps(near, far),
                last,
            ];
            store(made, at, lanes);
        }
    }

    /// [`super::output_points`], operation for operation.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn output_points(y: &[f32], made: &mut [f32]) {
        let (two, four, eight) = (_mm256_set1_ps(2.0), _mm256_set1_ps(4.0), _mm256_set1_ps(8.0));
        for at in [0, LANES / 2] {
            let [y0, y1, y2, y3, y4, y5] = load(y, at);
            let (sum, difference) = (_mm256_add_ps(y1, y2), _mm256_sub_ps(y1, y2));
            let (far_sum, far) = (_mm256_add_ps(y3, y4), _mm256_sub_ps(y3, y4));
            let lanes = [
                _mm256_add_ps(_mm256_add_ps(y0, sum), far_sum),
                _mm256_add_ps(difference, _mm256_mul_ps(two, far)),
                _mm256_add_ps(sum, _mm256_mul_ps(four, far_sum)),
                _mm256_add_ps(_mm256_add_ps(difference, _mm256_mul_ps(eight, far)), y5),
            ];
            store(made, at, lanes);
        }
    }

    /// Nine weights of six lanes each, and two values behind them; the values of point `e` go to `out[e * apart..]`, eight
    /// lanes if `whole`, else six.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn six_weights(flat: &[f32], out: &mut [f32], apart: usize, whole: bool) {
        assert!(flat.len() >= 8 * 6 + 8 && out.len() >= (POINTS - 1) * apart + if whole { 8 } else { 6 });
        let factor = |n: f32| _mm256_set1_ps(1.0 / n);
        let (quarter, sixth, twelfth, last) = (factor(4.0), factor(6.0), factor(12.0), factor(24.0));
        let points = |g0: __m256, g1: __m256, g2: __m256| -> [__m256; IN] {
            let near = _mm256_mul_ps(sixth, _mm256_add_ps(g0, g2));
            let far = _mm256_add_ps(_mm256_mul_ps(last, g0), _mm256_mul_ps(sixth, g2));
            let (a, b) = (_mm256_mul_ps(sixth, g1), _mm256_mul_ps(twelfth, g1));
            [
                _mm256_mul_ps(quarter, g0),
                _mm256_sub_ps(_mm256_setzero_ps(), _mm256_add_ps(near, a)),
                _mm256_sub_ps(a, near),
                _mm256_add_ps(far, b),
                _mm256_sub_ps(far, b),
                g2,
            ]
        };
        let six = _mm256_setr_epi32(-1, -1, -1, -1, -1, -1, 0, 0);
        // SAFETY: weight 8 ends at lane 56, point 35 at `35 * apart` and six or eight lanes (asserted above).
        unsafe {
            let g = |tap: usize| _mm256_loadu_ps(flat.as_ptr().add(tap * 6));
            let columns = [points(g(0), g(3), g(6)), points(g(1), g(4), g(7)), points(g(2), g(5), g(8))];
            for i in 0..IN {
                let row = points(columns[0][i], columns[1][i], columns[2][i]);
                for (j, v) in row.into_iter().enumerate() {
                    let to = out.as_mut_ptr().add((i * IN + j) * apart);
                    match whole {
                        true => _mm256_storeu_ps(to, v),
                        false => _mm256_maskstore_ps(to, six, v),
                    }
                }
            }
        }
    }
}

/// Six values of one row or column of a tile at the six points.
#[inline(always)]
fn input_points<F: Float>(d: &[Row<F>; IN]) -> [Row<F>; IN] {
    #[cfg(target_arch = "x86_64")]
    if F::DTYPE == DataType::Float32
        && has_avx2()
        && let Ok(d) = bytemuck::try_cast_slice(d.as_flattened())
    {
        let mut made = [[F::ZERO; LANES]; IN];
        if let Ok(made) = bytemuck::try_cast_slice_mut(made.as_flattened_mut()) {
            // SAFETY: the features have just been checked.
            unsafe { x86::input_points(d, made) };
        }
        return made;
    }
    let (two, four, five) = (F::of(2.0), F::of(4.0), F::of(5.0));
    let [d0, d1, d2, d3, d4, d5] = d;
    [
        combine(|l| four * d0[l] - five * d2[l] + d4[l]),
        combine(|l| (d4[l] - four * d2[l]) + (d3[l] - four * d1[l])),
        combine(|l| (d4[l] - four * d2[l]) - (d3[l] - four * d1[l])),
        combine(|l| (d4[l] - d2[l]) + two * (d3[l] - d1[l])),
        combine(|l| (d4[l] - d2[l]) - two * (d3[l] - d1[l])),
        combine(|l| four * d1[l] - five * d3[l] + d5[l]),
    ]
}

/// Three weights at the six points.
#[inline(always)]
fn weight_points<F: Float, const W: usize>(g: [&[F; W]; 3]) -> [[F; W]; IN] {
    let [g0, g1, g2] = g;
    let part = |n: f64| F::of(1.0 / n);
    let (quarter, sixth, twelfth, last) = (part(4.0), part(6.0), part(12.0), part(24.0));
    [
        combine(|l| quarter * g0[l]),
        combine(|l| -(sixth * (g0[l] + g2[l])) - sixth * g1[l]),
        combine(|l| -(sixth * (g0[l] + g2[l])) + sixth * g1[l]),
        combine(|l| (last * g0[l] + sixth * g2[l]) + twelfth * g1[l]),
        combine(|l| (last * g0[l] + sixth * g2[l]) - twelfth * g1[l]),
        *g2,
    ]
}

/// Four outputs from the products at the six points.
#[inline(always)]
fn output_points<F: Float>(y: &[Row<F>; IN]) -> [Row<F>; OUT] {
    #[cfg(target_arch = "x86_64")]
    if F::DTYPE == DataType::Float32
        && has_avx2()
        && let Ok(y) = bytemuck::try_cast_slice(y.as_flattened())
    {
        let mut made = [[F::ZERO; LANES]; OUT];
        if let Ok(made) = bytemuck::try_cast_slice_mut(made.as_flattened_mut()) {
            // SAFETY: the features have just been checked.
            unsafe { x86::output_points(y, made) };
        }
        return made;
    }
    let (two, four, eight) = (F::of(2.0), F::of(4.0), F::of(8.0));
    let [y0, y1, y2, y3, y4, y5] = y;
    [
        combine(|l| y0[l] + (y1[l] + y2[l]) + (y3[l] + y4[l])),
        combine(|l| (y1[l] - y2[l]) + two * (y3[l] - y4[l])),
        combine(|l| (y1[l] + y2[l]) + four * (y3[l] + y4[l])),
        combine(|l| (y1[l] - y2[l]) + eight * (y3[l] - y4[l]) + y5[l]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::kernels::gemm::Strided;
    use crate::backend::cpu::memory::Pool;
    use crate::backend::cpu::threads::Threads;
    use half::f16;

    /// Numbers in -1..1, the same every time.
    fn numbers(n: usize) -> Vec<f64> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    /// Largest difference from the definition, relative to the largest output.
    fn difference<T: Lane<C: Float>>(
        images: usize,
        [c, m]: [usize; 2],
        [h, w]: [usize; 2],
        pad: usize,
        threads: usize,
    ) -> f64 {
        let window = Window {
            input: [1, h, w],
            output: [1, h + 2 * pad - 2, w + 2 * pad - 2],
            kernel: [1, 3, 3],
            stride: [1; 3],
            dilation: [1; 3],
            pad: [0, pad, pad],
        };
        let store = |v: &[f64]| -> Vec<T> { v.iter().map(|&v| T::put(T::C::of(v))).collect() };
        let (input, weights) = (store(&numbers(images * c * h * w)), store(&numbers(m * c * 9)));
        let matrix = Strided { data: &weights, lane: c * 9, step: 1 };
        let packed = Packed::new(&matrix, m, c * 9, T::C::micro().mr).unwrap();
        let (pool, threads) = (Pool::new(1 << 30), Threads::new(threads).unwrap());
        let cx = Cx { pool: &pool, threads: &threads, cancel: None, tap: None };
        let way = Winograd { window: &window, channels: c, rows: m, weights: &packed };
        let size = window.output_len();
        let mut out = vec![T::default(); images * m * size];
        let bias = |_: usize, channel: usize, v: &mut [T::C]| v.iter_mut().for_each(|v| *v += T::C::of(channel as f64));
        assert!(way.run(&cx, &input, &mut out, &bias).unwrap());
        let (mut largest, mut worst) = (0f64, 0f64);
        for (i, got) in out.iter().enumerate() {
            let (image, channel, y, x) =
                (i / size / m, i / size % m, i % size / window.output[2], i % window.output[2]);
            let mut want = channel as f64;
            for k in 0..c * 9 {
                let (ci, ky, kx) = (k / 9, k / 3 % 3, k % 3);
                let (Some(iy), Some(ix)) = (window.reads(1, y, ky), window.reads(2, x, kx)) else { continue };
                let v = input[((image * c + ci) * h + iy) * w + ix].get().wide();
                want += v * weights[channel * c * 9 + k].get().wide();
            }
            largest = largest.max(want.abs());
            worst = worst.max((got.get().wide() - want).abs());
        }
        worst / largest
    }

    /// Sizes that do and do not fill tiles, groups, panels and blocks; kernels of both widths.
    #[test]
    fn results_are_those_of_the_definition() {
        for (images, channels, size, pad) in [
            (1, [8, 16], [14, 14], 1),
            (2, [9, 17], [13, 18], 1),
            (1, [33, 50], [21, 9], 0),
            (1, [300, 16], [8, 8], 1),
            (1, [8, 20], [6, 70], 1),
            (1, [8, 16], [90, 40], 2),
        ] {
            for threads in [1, 3] {
                let f32s = difference::<f32>(images, channels, size, pad, threads);
                assert!(f32s < 1e-5, "fp32 {channels:?} {size:?}: {f32s:e}");
                let f64s = difference::<f64>(images, channels, size, pad, threads);
                assert!(f64s < 1e-13, "fp64 {channels:?} {size:?}: {f64s:e}");
                let f16s = difference::<f16>(images, channels, size, pad, threads);
                assert!(f16s < 5e-4, "fp16 {channels:?} {size:?}: {f16s:e}");
            }
        }
    }

    #[test]
    fn infinities_are_noticed() {
        let window = Window {
            input: [1, 16, 16],
            output: [1, 14, 14],
            kernel: [1, 3, 3],
            stride: [1; 3],
            dilation: [1; 3],
            pad: [0; 3],
        };
        let mut input = vec![1f32; 8 * 256];
        input[700] = f32::INFINITY;
        let weights = vec![1f32; 16 * 72];
        let packed = Packed::new(&Strided { data: &weights, lane: 72, step: 1 }, 16, 72, f32::micro().mr).unwrap();
        let (pool, threads) = (Pool::new(1 << 30), Threads::inline());
        let cx = Cx { pool: &pool, threads: &threads, cancel: None, tap: None };
        let way = Winograd { window: &window, channels: 8, rows: 16, weights: &packed };
        let mut out = vec![0f32; 16 * 196];
        assert!(!way.run(&cx, &input, &mut out, &|_, _, _| {}).unwrap());
    }
}
