//! Convolutions with 3x3 kernels by Winograd's algorithm F(4x4, 3x3): tiles of 4x4 outputs are made of 6x6 inputs with 36
//! products a channel instead of 144. Transforms as in Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks" (2015), for the points 0, 1, -1, 2, -2 and infinity. Everything is computed in FP32 (FP64); results differ
//! from the plain sum by rounding only. Weights are transformed in every run, some channels and one panel at a time: that
//! costs less than reading them in transformed form, which is four times as large.
#![allow(unsafe_code)]
// vector instructions over memory of known sizes, and disjoint parts of one output
// Loops over both sides of small squares read best with their indices.
#![allow(clippy::needless_range_loop)]

use super::super::conv::Window;
use super::super::gemm::Shared;
use super::super::lane::Lane;
use super::super::math::Float;
use super::super::vector::{Dispatch, Vector, Work, panel};
use super::band::Band;
use super::dense::Dense;
use super::tile::{Piece, Steps, Tile, tile};
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::Tensor;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Outputs of a tile in each direction.
const OUT: usize = 4;
/// Inputs of a tile in each direction.
const IN: usize = 6;
/// Products of a tile.
const POINTS: usize = IN * IN;
/// Channels times tiles of a task, about: transformed, they stay in the second-level cache.
const TASK: usize = 1 << 12;
/// Tiles of a task.
const TILES: std::ops::RangeInclusive<usize> = 8..=48;
/// Input channels whose weights are transformed at a time.
const DEPTH: usize = 128;

/// True if the algorithm pays for such a convolution.
pub fn pays<T: Lane<C: Dispatch>>(of: &Dense<T>) -> bool {
    let w = &of.window;
    let form = w.kernel == [1, 3, 3] && w.stride == [1; 3] && w.dilation == [1; 3] && w.input[0] == 1 && w.pad[0] == 0;
    // Whole vectors of channels, whatever their width.
    let whole = of.channels.is_multiple_of(16) && of.weights.columns.is_multiple_of(16);
    // Who computes in FP64 wants its digits, of which the transforms cost one.
    if size_of::<T::C>() > 4 || !form || !whole || of.weights.groups != 1 {
        return false;
    }
    let [_, rows, columns] = tiles(w);
    let count = rows * columns;
    // Multiplications of both ways; the weights' transform costs about as much as three tiles.
    count >= 8 && POINTS * (count + 3) * 5 / 4 < 9 * w.output_len()
}

fn tiles(w: &Window) -> [usize; 3] {
    [1, w.output[1].div_ceil(OUT), w.output[2].div_ceil(OUT)]
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

/// Rows of tiles of one image, and panels.
struct Part {
    image: usize,
    rows: Range<usize>,
    panels: Range<usize>,
}

/// Convolves. False if a value is not finite: sums of infinities are not what the definition says, so the caller computes
/// them by it.
pub fn run<T: Lane<C: Dispatch>>(of: &Dense<T>, cx: &Cx, input: &[T], out: &mut [T]) -> Result<bool> {
    let w = &of.window;
    let images = out.len() / (of.weights.columns * w.output_len());
    let [_, rows, columns] = tiles(w);
    let at_once = (TASK / of.channels).clamp(*TILES.start(), *TILES.end());
    let mut bands = rows.div_ceil((at_once / columns).max(1));
    let threads = cx.threads.count();
    if threads > 1 {
        bands = bands.next_multiple_of(threads.div_ceil(images.min(threads))).min(rows);
    }
    // Few tiles: cut the output channels too, so that all threads have work.
    let shares = if threads > 1 && bands * images < threads { threads.div_ceil(bands * images) } else { 1 };
    let panels = of.weights.panels();
    let share = panels.div_ceil(shares);
    let mut parts = Vec::new();
    for image in 0..images {
        for band in 0..bands {
            for first in (0..panels).step_by(share) {
                let rows = band * rows / bands..(band + 1) * rows / bands;
                parts.push(Part { image, rows, panels: first..panels.min(first + share) });
            }
        }
    }
    let work = out.len().saturating_mul(of.channels * 3);
    let finite = AtomicBool::new(true);
    let shared = Shared::new(out);
    cx.threads.try_each(parts.len(), work, &|i| {
        if !part(of, cx, &parts[i], input, &shared)? {
            finite.store(false, Ordering::Relaxed);
        }
        Ok(())
    })?;
    Ok(finite.into_inner())
}

fn part<T: Lane<C: Dispatch>>(of: &Dense<T>, cx: &Cx, part: &Part, input: &[T], out: &Shared<T>) -> Result<bool> {
    let (w, c, all) = (&of.window, of.channels, of.weights.columns);
    let columns = tiles(w)[2];
    let count = part.rows.len() * columns;
    let scratch = |floats: usize| Tensor::new(cx.pool, <T::C as Lane>::DTYPE, vec![floats]);
    let sizes = [1, part.rows.len() * OUT + IN - OUT, columns * OUT + IN - OUT];
    let mut band = scratch(sizes[1] * sizes[2] * c)?;
    let image = &input[part.image * w.input_len() * c..][..w.input_len() * c];
    let reads = Band { window: w, channels: c, first: 0, count: c };
    reads.load(image, [0, part.rows.start * OUT, 0], sizes, band.slice_mut::<T::C>()?);
    let (depth, width) = (DEPTH.min(c), of.weights.width);
    let apart = [spread(count * c), spread(depth * width), spread(count * width)];
    let mut memory = [scratch(POINTS * apart[0])?, scratch(POINTS * apart[1])?, scratch(POINTS * apart[2])?];
    let [inputs, weights, sums] = &mut memory;
    let lines = part.rows.start * OUT..w.output[1].min(part.rows.end * OUT);
    let first = part.panels.start * width;
    let made = all.min(part.panels.end * width) - first;
    // Finished values: the output itself where it has the computing type.
    let direct = T::DTYPE == <T::C as Lane>::DTYPE;
    let place = |line: usize| (part.image * w.output[1] + line) * w.output[2] * all;
    let mut aside = if direct { None } else { Some(scratch(lines.len() * w.output[2] * all)?) };
    let to: *mut T::C = match &mut aside {
        Some(t) => t.slice_mut::<T::C>()?.as_mut_ptr(),
        // SAFETY: these lines' channels are this part's alone; T is its computing type here.
        None => unsafe { out.at(place(lines.start), lines.len() * w.output[2] * all) }.cast(),
    };
    let mut finite = true;
    T::C::dispatch(Tiles {
        of,
        band: band.slice::<T::C>()?,
        line: sizes[2] * c,
        tiles: [part.rows.len(), columns],
        panels: part.panels.clone(),
        apart,
        inputs: inputs.slice_mut::<T::C>()?,
        weights: weights.slice_mut::<T::C>()?,
        sums: sums.slice_mut::<T::C>()?,
        to,
        size: [lines.len(), w.output[2]],
        finite: &mut finite,
    });
    if !finite {
        return Ok(false);
    }
    for (i, line) in lines.clone().enumerate() {
        // Whole lines where the part has all channels.
        let (n, pieces) = if made == all { (w.output[2] * all, 1) } else { (made, w.output[2]) };
        for p in 0..pieces {
            let at = p * all + first;
            // SAFETY: these channels are this part's alone, here or in the output.
            unsafe {
                let values = std::slice::from_raw_parts_mut(to.add(i * w.output[2] * all + at), n);
                let at = place(line) + at;
                match direct {
                    true => of.finish.apply(at, values),
                    false => of.finish.store(at, values, out.part(at, n)),
                }
            }
        }
    }
    Ok(true)
}

struct Tiles<'a, 'd, T: Lane> {
    of: &'a Dense<'d, T>,
    band: &'a [T::C],
    /// Length of a line of the band.
    line: usize,
    /// Rows and columns of tiles.
    tiles: [usize; 2],
    panels: Range<usize>,
    /// Distances of points in the three memories that follow.
    apart: [usize; 3],
    /// For each point: tiles, channels.
    inputs: &'a mut [T::C],
    /// For each point: channels, columns of a panel.
    weights: &'a mut [T::C],
    /// For each point: tiles, columns of a panel.
    sums: &'a mut [T::C],
    to: *mut T::C,
    /// Lines and places in a line that there are.
    size: [usize; 2],
    finite: &'a mut bool,
}

impl<T: Lane<C: Dispatch>> Work<T::C> for Tiles<'_, '_, T> {
    #[inline(always)]
    fn run<X: Vector<F = T::C>>(mut self) {
        let (c, width) = (self.of.channels, panel::<X>());
        let count = self.tiles[0] * self.tiles[1];
        let [a, b, s] = self.apart;
        let (last, depth) = (POINTS - 1, DEPTH.min(c));
        assert!(self.inputs.len() >= last * a + count * c && self.weights.len() >= last * b + depth * width);
        assert!(self.sums.len() >= last * s + count * width && width == self.of.weights.width);
        // SAFETY: sizes are asserted above; the processor has what the dispatch found.
        unsafe { self.transform_inputs::<X>() };
        let cuts = count.div_ceil(X::ROWS);
        for panel in self.panels.clone() {
            let columns = width.min(self.of.weights.columns - panel * width);
            for first in (0..c).step_by(DEPTH) {
                let depth = DEPTH.min(c - first);
                // SAFETY: as above.
                unsafe { self.transform_weights::<X>(panel, first, depth) };
                let steps = Steps::new([Piece { at: 0, len: depth }]);
                for point in 0..POINTS {
                    let (sums, weights) = (self.sums[point * s..].as_mut_ptr(), self.weights[point * b..].as_ptr());
                    for cut in 0..cuts {
                        let (from, end) = (cut * count / cuts, (cut + 1) * count / cuts);
                        let t = Tile {
                            a: self.inputs[point * a + from * c + first..].as_ptr(),
                            apart: c,
                            steps: &steps,
                            b: weights,
                            // SAFETY: as above.
                            c: unsafe { sums.add(from * width) },
                            c_apart: width,
                            columns,
                            accumulate: first > 0,
                            bias: std::ptr::null(),
                        };
                        // SAFETY: as above.
                        unsafe { tile::<X, T::C>(&t, end - from) };
                    }
                }
            }
            // SAFETY: as above; the caller promises the output.
            unsafe { self.transform_outputs::<X>(panel, columns) };
        }
    }
}

/// The body for each of the numbers, as a constant.
macro_rules! unrolled {
    ($i:ident in [$($n:literal)*], $body:block) => {
        $({
            const $i: usize = $n;
            $body
        })*
    };
}

impl<T: Lane<C: Dispatch>> Tiles<'_, '_, T> {
    #[inline(always)]
    unsafe fn transform_inputs<X: Vector<F = T::C>>(&mut self) {
        let c = self.of.channels;
        let k = [4.0, -5.0, -4.0, 2.0].map(T::C::of);
        for ty in 0..self.tiles[0] {
            for tx in 0..self.tiles[1] {
                let from = &self.band[ty * OUT * self.line + tx * OUT * c..];
                assert!(from.len() >= (IN - 1) * self.line + IN * c);
                let to = (ty * self.tiles[1] + tx) * c;
                for channel in (0..c).step_by(X::N) {
                    // SAFETY: the band has all lines and columns of the tile (asserted above), `inputs` all tiles.
                    unsafe {
                        let k = [X::splat(&k[0]), X::splat(&k[1]), X::splat(&k[2]), X::splat(&k[3])];
                        let (at, line) = (from.as_ptr().add(channel), self.line);
                        let half = [
                            input_column::<X>(k, at, line),
                            input_column::<X>(k, at.add(c), line),
                            input_column::<X>(k, at.add(2 * c), line),
                            input_column::<X>(k, at.add(3 * c), line),
                            input_column::<X>(k, at.add(4 * c), line),
                            input_column::<X>(k, at.add(5 * c), line),
                        ];
                        unrolled!(Y in [0 1 2 3 4 5], {
                            for (x, &v) in inputs::<X>(k, across(&half, Y)).iter().enumerate() {
                                let to = self.inputs.as_mut_ptr().add((Y * IN + x) * self.apart[0] + to + channel);
                                X::store(to, v);
                            }
                        });
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn transform_weights<X: Vector<F = T::C>>(&mut self, number: usize, first: usize, depth: usize) {
        let (c, width) = (self.of.channels, panel::<X>());
        let from = self.of.weights.panel(0, number);
        assert!(from.len() >= (8 * c + first + depth) * width);
        let k = [0.25, -1.0 / 6.0, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 12.0].map(T::C::of);
        for channel in 0..depth {
            for v in (0..width).step_by(X::N) {
                // SAFETY: the panel has nine rows for each channel (asserted above), `weights` has all channels.
                unsafe {
                    let k = [X::splat(&k[0]), X::splat(&k[1]), X::splat(&k[2]), X::splat(&k[3]), X::splat(&k[4])];
                    let at = from.as_ptr().add((first + channel) * width + v);
                    let (column, row) = (c * width, 3 * c * width);
                    let half = [
                        weight_column::<X, T>(k, at, row),
                        weight_column::<X, T>(k, at.add(column), row),
                        weight_column::<X, T>(k, at.add(2 * column), row),
                    ];
                    unrolled!(Y in [0 1 2 3 4 5], {
                        for (x, &g) in weights::<X>(k, across(&half, Y)).iter().enumerate() {
                            let to = (Y * IN + x) * self.apart[1] + channel * width + v;
                            X::store(self.weights.as_mut_ptr().add(to), g);
                        }
                    });
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn transform_outputs<X: Vector<F = T::C>>(&mut self, number: usize, columns: usize) {
        let (all, width) = (self.of.weights.columns, panel::<X>());
        let k = [2.0, 4.0, 8.0].map(T::C::of);
        let [lines, places] = self.size;
        // SAFETY: `sums` has all tiles, the output all lines and places that there are, `columns` is a multiple of a
        // vector's width, and so is what the bias has.
        unsafe {
            let k = [X::splat(&k[0]), X::splat(&k[1]), X::splat(&k[2])];
            let mut bad = X::zero();
            for tile in 0..self.tiles[0] * self.tiles[1] {
                let (ty, tx) = (tile / self.tiles[1] * OUT, tile % self.tiles[1] * OUT);
                for v in (0..columns).step_by(X::N) {
                    let channel = number * width + v;
                    let bias = match self.of.bias {
                        Some(b) => X::load(b[channel..][..X::N].as_ptr()),
                        None => X::zero(),
                    };
                    let at = self.sums.as_ptr().add(tile * width + v);
                    let (column, row) = (self.apart[2], IN * self.apart[2]);
                    let half = [
                        output_column::<X>(k, at, row),
                        output_column::<X>(k, at.add(column), row),
                        output_column::<X>(k, at.add(2 * column), row),
                        output_column::<X>(k, at.add(3 * column), row),
                        output_column::<X>(k, at.add(4 * column), row),
                        output_column::<X>(k, at.add(5 * column), row),
                    ];
                    unrolled!(Y in [0 1 2 3], {
                        if Y < lines - ty {
                            for (x, &m) in outputs::<X>(k, across(&half, Y)).iter().enumerate().take(places - tx) {
                                let m = X::add(m, bias);
                                // Zero for finite values alone.
                                bad = X::add(bad, X::sub(m, m));
                                X::store(self.to.add(((ty + Y) * places + tx + x) * all + channel), m);
                            }
                        }
                    });
                }
            }
            let mut lanes = [T::C::ZERO; 16];
            X::store(lanes.as_mut_ptr(), bad);
            *self.finite &= lanes.iter().all(|l| *l == T::C::ZERO);
        }
    }
}

// The transforms of one line; functions, because closures are not sure to be compiled for the instructions of their caller.

// A column each is named where a square is made: of a loop over columns, which the compiler does not always unroll, the
// square would be zeroed in memory first.

/// A column of the square of inputs at `at`, whose lines are `line` apart.
#[inline(always)]
unsafe fn input_column<X: Vector>(k: [X::V; 4], at: *const X::F, line: usize) -> [X::V; IN] {
    // SAFETY: the caller's promise.
    unsafe {
        let [a, b, c] = [X::load(at), X::load(at.add(line)), X::load(at.add(2 * line))];
        let [d, e, f] = [X::load(at.add(3 * line)), X::load(at.add(4 * line)), X::load(at.add(5 * line))];
        inputs::<X>(k, [a, b, c, d, e, f])
    }
}

/// A column of the square of weights.
#[inline(always)]
unsafe fn weight_column<X: Vector, T: Lane<C = X::F>>(k: [X::V; 5], at: *const T, row: usize) -> [X::V; IN] {
    // SAFETY: the caller's promise.
    unsafe { weights::<X>(k, [X::load(at), X::load(at.add(row)), X::load(at.add(2 * row))]) }
}

/// A column of the square of sums.
#[inline(always)]
unsafe fn output_column<X: Vector>(k: [X::V; 3], at: *const X::F, row: usize) -> [X::V; OUT] {
    // SAFETY: the caller's promise.
    unsafe {
        let [a, b, c] = [X::load(at), X::load(at.add(row)), X::load(at.add(2 * row))];
        let [d, e, f] = [X::load(at.add(3 * row)), X::load(at.add(4 * row)), X::load(at.add(5 * row))];
        outputs::<X>(k, [a, b, c, d, e, f])
    }
}

/// Line `y` of a square that is kept by columns.
#[inline(always)]
fn across<V: Copy, const N: usize, const M: usize>(columns: &[[V; M]; N], y: usize) -> [V; N] {
    let mut line = [columns[0][y]; N];
    for (to, column) in line.iter_mut().zip(columns) {
        *to = column[y];
    }
    line
}

/// Of inputs; the factors are 4, -5, -4 and 2.
#[inline(always)]
unsafe fn inputs<X: Vector>([four, minus_five, minus_four, two]: [X::V; 4], d: [X::V; IN]) -> [X::V; IN] {
    // SAFETY: the caller's promise.
    unsafe {
        let a = X::fma(minus_four, d[2], d[4]);
        let b = X::fma(minus_four, d[1], d[3]);
        let e = X::sub(d[4], d[2]);
        let f = X::mul(two, X::sub(d[3], d[1]));
        [
            X::fma(four, d[0], X::fma(minus_five, d[2], d[4])),
            X::add(a, b),
            X::sub(a, b),
            X::add(e, f),
            X::sub(e, f),
            X::fma(four, d[1], X::fma(minus_five, d[3], d[5])),
        ]
    }
}

/// Of weights; the factors are 1/4, -1/6, 1/6, 1/24 and 1/12.
#[inline(always)]
unsafe fn weights<X: Vector>([quarter, minus_sixth, sixth, small, twelfth]: [X::V; 5], g: [X::V; 3]) -> [X::V; IN] {
    // SAFETY: the caller's promise.
    unsafe {
        let a = X::mul(minus_sixth, X::add(g[0], g[2]));
        let b = X::mul(sixth, g[1]);
        let e = X::fma(small, g[0], X::mul(sixth, g[2]));
        let f = X::mul(twelfth, g[1]);
        [X::mul(quarter, g[0]), X::sub(a, b), X::add(a, b), X::add(e, f), X::sub(e, f), g[2]]
    }
}

/// Of sums; the factors are 2, 4 and 8.
#[inline(always)]
unsafe fn outputs<X: Vector>([two, four, eight]: [X::V; 3], m: [X::V; IN]) -> [X::V; OUT] {
    // SAFETY: the caller's promise.
    unsafe {
        let (s, u) = (X::add(m[1], m[2]), X::sub(m[1], m[2]));
        let (v, w) = (X::add(m[3], m[4]), X::sub(m[3], m[4]));
        [X::add(m[0], X::add(s, v)), X::fma(two, w, u), X::fma(four, v, s), X::add(X::fma(eight, w, u), m[5])]
    }
}
