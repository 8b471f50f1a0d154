//! Convolutions of whole channels, and products with constant weights: for each output place a row of the input is
//! multiplied with panels of weights.
#![allow(unsafe_code)] // tasks write disjoint parts of one output, and tiles take raw pointers

use super::super::conv::Window;
use super::super::gemm::Shared;
use super::super::lane::Lane;
use super::super::math::Float;
use super::super::vector::{Dispatch, Vector, Work, panel, tile_rows};
use super::band::Band;
use super::tile::{Piece, Steps, Tile, tile};
use super::weights::Weights;
use super::winograd;
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::Tensor;
use std::ops::Range;

/// What is done to sums before they are rounded and stored.
pub trait FinishSums<T: Lane>: Sync {
    /// Works on the sums of the elements from `at` on, counted through the whole output.
    fn apply(&self, at: usize, sums: &mut [T::C]);

    /// Does so and stores them rounded; what it leaves in `sums` is of no use.
    fn store(&self, at: usize, sums: &mut [T::C], to: &mut [T]) {
        self.apply(at, sums);
        T::narrow(sums, to);
    }
}

impl<T: Lane, F: Fn(usize, &mut [T::C]) + Sync> FinishSums<T> for F {
    fn apply(&self, at: usize, sums: &mut [T::C]) {
        self(at, sums);
    }
}

/// A convolution over inputs of shape [images, depth, height, width, channels].
pub struct Dense<'a, T: Lane> {
    /// The windows.
    pub window: Window,
    /// Input channels of all groups.
    pub channels: usize,
    /// The weights.
    pub weights: &'a Weights<T>,
    /// A value for each output channel.
    pub bias: Option<&'a [T::C]>,
    /// Works on results.
    pub finish: &'a dyn FinishSums<T>,
}

/// Output places of a task at least, so that reading the weights is a small part of it.
const LEAST_PLACES: usize = 128;
/// The same where there are few weights.
const FEW_PLACES: usize = 24;
/// So few: they stay in the second-level cache of each core.
const LIGHT: usize = 128 << 10;
/// Floats that a task reads, about: they stay in the second-level cache.
const TASK: usize = 64 << 10;
/// Tasks for each thread, so that all are busy to the end.
const TASKS: usize = 4;
/// Floats that are finished at a time, about: they are in the first-level cache.
const FINISHED: usize = 8 << 10;
/// Places of them at least: for each of them the weights are read again.
const LEAST_FINISHED: usize = 48;
/// Weights that stay in the second-level cache while a task goes through its places.
const AGAIN: usize = 48 << 10;
/// Panels at least that are worked on together, so that runs of finished values are not too short.
const TOGETHER: usize = 4;

/// Tiles of rows that read a panel, from which on it is widened first.
const WIDENED: usize = 4;
/// Floats of such panels at most.
const WIDEST: usize = 64 << 10;

/// A part of the output: some places of one image and some panels of one group.
struct Part {
    image: usize,
    z: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    group: usize,
    panels: Range<usize>,
}

/// Lines, and places in each.
type Places = (Range<usize>, Range<usize>);

impl<'a, T: Lane<C: Dispatch>> Dense<'a, T> {
    /// A product of rows of `channels` elements with a matrix.
    pub fn product(rows: usize, weights: &'a Weights<T>, finish: &'a dyn FinishSums<T>) -> Self {
        let line = [1, 1, rows];
        let window =
            Window { input: line, output: line, kernel: [1; 3], stride: [1; 3], dilation: [1; 3], pad: [0; 3] };
        Dense { window, channels: weights.steps, weights, bias: None, finish }
    }

    /// Convolves; `input` and `out` hold all images.
    pub fn run(&self, cx: &Cx, input: &[T], out: &mut [T]) -> Result<()> {
        let all = self.weights.columns * self.weights.groups;
        if self.weights.steps == 0 {
            // Sums of nothing.
            let mut sums = vec![T::C::ZERO; all];
            for (i, out) in out.chunks_mut(all).enumerate() {
                match self.bias {
                    Some(b) => sums.copy_from_slice(b),
                    None => sums.fill(T::C::ZERO),
                }
                self.finish.store(i * all, &mut sums, out);
            }
            return Ok(());
        }
        if winograd::pays(self) && winograd::run(self, cx, input, out)? {
            return Ok(());
        }
        let flat = self.window.is_pointwise();
        let mut of = Dense { window: self.window, ..*self };
        let mut images = out.len() / (all * self.window.output_len());
        if flat {
            // All places of all images are one long line.
            of.window.input = [1, 1, images * self.window.input_len()];
            of.window.output = of.window.input;
            images = 1;
        }
        let parts = of.parts(images, cx.threads.count());
        let work = out.len().saturating_mul(self.weights.steps);
        let shared = Shared::new(out);
        cx.threads.try_each(parts.len(), work, &|i| of.part(cx, &parts[i], input, &shared))
    }

    fn parts(&self, images: usize, threads: usize) -> Vec<Part> {
        let w = &self.window;
        let [depth, height, width] = w.output;
        let weights = self.weights;
        let floats = self.channels / weights.groups * w.stride[1] * w.stride[2];
        let places = (TASK / floats).max(LEAST_PLACES);
        // Long lines are cut; short ones are taken together.
        let lines = (places / width.max(1)).clamp(1, height);
        let cuts = if lines == 1 { width.div_ceil(places) } else { 1 };
        let bands = height.div_ceil(lines);
        let fixed = images * depth * weights.groups;
        // As many parts as keep all threads busy to the end, if there are that many places.
        let even = |least: usize, most: usize| match threads {
            1 => least,
            t => {
                let n = least.max((TASKS * t).div_ceil(fixed).min(most));
                let step = t.div_ceil(fixed.min(t));
                let (up, down) = (n.next_multiple_of(step), n / step * step);
                match (up <= most, down >= least) {
                    (true, _) => up,
                    (_, true) => down,
                    _ => n,
                }
            }
        };
        // Few weights are read quickly, and whole rows are finished quickly: better than to cut panels.
        let light = weights.steps * weights.columns <= LIGHT;
        let least = if light { FEW_PLACES } else { LEAST_PLACES / 2 };
        let (mut bands, mut cuts) = if height > 1 {
            (even(bands, height.div_ceil(least.div_ceil(width))), cuts)
        } else {
            (bands, even(cuts, width.div_ceil(least)))
        };
        // Few places: panels are cut too, and places once more where that alone does not come out even.
        let panels = weights.panels();
        let mut shares = 1;
        if threads > 1 && fixed * bands * cuts < if light { threads } else { 2 * threads } {
            shares = (TASKS * threads).div_ceil(fixed * bands * cuts).min(panels);
            let share = panels.div_ceil(shares);
            shares = panels.div_ceil(share);
            let uneven = !panels.is_multiple_of(share) || !(fixed * bands * cuts * shares).is_multiple_of(threads);
            if uneven && height > 1 {
                bands = (bands * threads).min(height);
            } else if uneven {
                cuts = (cuts * threads).min(width);
            }
        }
        let parts = fixed * bands * cuts;
        let share = panels.div_ceil(shares);
        let mut all = Vec::with_capacity(parts * shares);
        for i in 0..images * depth {
            for band in 0..bands {
                let rows = band * height / bands..(band + 1) * height / bands;
                for cut in 0..cuts {
                    let columns = cut * width / cuts..(cut + 1) * width / cuts;
                    for group in 0..weights.groups {
                        for first in (0..weights.panels()).step_by(share) {
                            let panels = first..weights.panels().min(first + share);
                            let (rows, columns) = (rows.clone(), columns.clone());
                            all.push(Part { image: i / depth, z: i % depth, rows, columns, group, panels });
                        }
                    }
                }
            }
        }
        all
    }

    fn part(&self, cx: &Cx, part: &Part, input: &[T], out: &Shared<T>) -> Result<()> {
        let (w, weights) = (&self.window, self.weights);
        let channels = self.channels / weights.groups;
        let image = &input[part.image * w.input_len() * self.channels..][..w.input_len() * self.channels];
        let inside = w.pad == [0; 3] && (0..3).all(|d| self.reach(d, w.output[d]) <= w.input[d]);
        let scratch = |floats: usize| Tensor::new(cx.pool, <T::C as Lane>::DTYPE, vec![floats]);
        let mut band;
        let source = match T::direct(image).filter(|_| inside) {
            Some(values) => {
                let strides = [w.input[1] * w.input[2], w.input[2], 1].map(|s| s * self.channels);
                let place = [part.z * w.stride[0], part.rows.start * w.stride[1], part.columns.start * w.stride[2]];
                let start = (0..3).map(|d| place[d] * strides[d]).sum::<usize>() + part.group * channels;
                Rows { values, start, strides, channels: self.channels }
            }
            None => {
                let sizes = [self.reach(0, 1), self.reach(1, part.rows.len()), self.reach(2, part.columns.len())];
                band = scratch(sizes.iter().product::<usize>() * channels)?;
                let place = [part.z, part.rows.start, part.columns.start];
                let of = Band { window: w, channels: self.channels, first: part.group * channels, count: channels };
                of.load(image, place, sizes, band.slice_mut::<T::C>()?);
                let strides = [sizes[1] * sizes[2], sizes[2], 1].map(|s| s * channels);
                Rows { values: band.slice::<T::C>()?, start: 0, strides, channels }
            }
        };
        let steps = source.steps(w, channels);
        let all = weights.columns * weights.groups;
        let first = part.panels.start * weights.width;
        let columns = weights.columns.min(part.panels.end * weights.width) - first;
        let channel = part.group * weights.columns + first;
        let mut bias = Vec::new();
        if let Some(b) = self.bias {
            bias.extend_from_slice(&b[channel..channel + columns]);
            bias.resize(columns.next_multiple_of(weights.width), T::C::ZERO);
        }
        // Sums go to the output itself where it has the computing type.
        let direct = T::DTYPE == <T::C as Lane>::DTYPE;
        let (pieces, together) = self.pieces(part);
        let largest = pieces.iter().map(|(y, x)| y.len() * x.len()).max().unwrap_or(0);
        // Panels of another type are widened where several tiles read them and there is memory left for it.
        let tiles = part.rows.len() * part.columns.len().div_ceil(tile_rows::<T::C>());
        let panel = weights.width * weights.steps;
        let floats = panel * together.min(part.panels.len());
        let mut wide = match direct || tiles < WIDENED || floats > WIDEST {
            true => None,
            false => Tensor::spare(cx.pool, <T::C as Lane>::DTYPE, floats),
        };
        let mut sums = if direct { None } else { Some(scratch(largest * columns.min(together * weights.width))?) };
        for panels in part.panels.clone().step_by(together) {
            let panels = panels..part.panels.end.min(panels + together);
            let first = panels.start * weights.width;
            let columns = weights.columns.min(panels.end * weights.width) - first;
            let channel = part.group * weights.columns + first;
            let bias = bias.get(first - part.panels.start * weights.width..).unwrap_or_default();
            let panels: Vec<&[T]> = panels.map(|p| weights.panel(part.group, p)).collect();
            let mut widened: Vec<&[T::C]> = Vec::new();
            if let Some(wide) = &mut wide {
                for (from, to) in panels.iter().zip(wide.slice_mut::<T::C>()?.chunks_exact_mut(panel)) {
                    T::widen(&from[..panel], to);
                    widened.push(to);
                }
            }
            for (lines, line) in &pieces {
                let place = |y: usize| {
                    ((part.image * w.output[0] + part.z) * w.output[1] + lines.start + y) * w.output[2] + line.start
                };
                let (c, c_apart, c_line): (*mut T::C, usize, usize) = match &mut sums {
                    Some(t) => (t.slice_mut::<T::C>()?.as_mut_ptr(), columns, line.len() * columns),
                    None => {
                        let len = ((lines.len() - 1) * w.output[2] + line.len() - 1) * all + columns;
                        // SAFETY: these elements are this part's alone; T is its computing type here.
                        (unsafe { out.at(place(0) * all + channel, len) }.cast(), all, w.output[2] * all)
                    }
                };
                let within = [lines.start - part.rows.start, line.start - part.columns.start];
                let tiles = Tiles {
                    source: &source,
                    steps: &steps,
                    stride: [w.stride[1], w.stride[2]],
                    within,
                    size: [lines.len(), line.len()],
                    columns,
                    bias,
                    c,
                    c_apart,
                    c_line,
                };
                match widened.is_empty() {
                    true => T::C::dispatch(OfPanels { tiles, panels: &panels }),
                    false => T::C::dispatch(OfPanels { tiles, panels: &widened }),
                }
                // Whole rows of channels are one piece of memory.
                let (n, runs) = if columns == all { (line.len() * columns, 1) } else { (columns, line.len()) };
                for y in 0..lines.len() {
                    for run in 0..runs {
                        let at = (place(y) + run) * all + channel;
                        // SAFETY: these sums are this part's alone, in the output or in its own memory.
                        unsafe {
                            let values = std::slice::from_raw_parts_mut(c.add(y * c_line + run * c_apart), n);
                            match direct {
                                true => self.finish.apply(at, values),
                                false => self.finish.store(at, values, out.part(at, n)),
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Lines and places that a part finishes at a time, and with how many panels.
    fn pieces(&self, part: &Part) -> (Vec<Places>, usize) {
        let weights = self.weights;
        let panel = weights.width * weights.steps;
        let together = (AGAIN / panel).max(TOGETHER);
        let together = part.panels.len().div_ceil(part.panels.len().div_ceil(together)).max(1);
        let columns = weights.columns.min(together * weights.width);
        let places = (FINISHED / columns).max(LEAST_FINISHED);
        let lines = (places / part.columns.len().max(1)).max(1);
        let cuts = if lines == 1 { part.columns.len().div_ceil(places) } else { 1 };
        let mut all = Vec::with_capacity(part.rows.len().div_ceil(lines) * cuts);
        for y in part.rows.clone().step_by(lines) {
            for cut in 0..cuts {
                let [first, end] = [cut, cut + 1].map(|c| part.columns.start + c * part.columns.len() / cuts);
                if first < end {
                    all.push((y..part.rows.end.min(y + lines), first..end));
                }
            }
        }
        (all, together)
    }

    /// Input elements that windows side by side reach over.
    fn reach(&self, dim: usize, windows: usize) -> usize {
        let w = &self.window;
        (windows.max(1) - 1) * w.stride[dim] + (w.kernel[dim] - 1) * w.dilation[dim] + 1
    }
}

/// Where the rows of a part lie.
struct Rows<'a, F> {
    values: &'a [F],
    /// Of the first place.
    start: usize,
    /// Of the input's dimensions.
    strides: [usize; 3],
    /// From one place to the next.
    channels: usize,
}

impl<F> Rows<'_, F> {
    /// What a row reads, from its place on.
    fn steps(&self, w: &Window, channels: usize) -> Steps {
        let [kd, kh, kw] = w.kernel;
        // Neighbouring columns of the kernel are one piece where nothing lies between them.
        let joined = if w.dilation[2] == 1 && channels == self.channels { kw } else { 1 };
        let mut pieces = Vec::with_capacity(kd * kh * kw);
        for z in 0..kd {
            for y in 0..kh {
                for x in (0..kw).step_by(joined) {
                    let at = [z, y, x];
                    let at = (0..3).map(|d| at[d] * w.dilation[d] * self.strides[d]).sum();
                    pieces.push(Piece { at, len: joined * channels });
                }
            }
        }
        Steps::new(pieces)
    }
}

/// All tiles of a part.
struct Tiles<'a, F> {
    source: &'a Rows<'a, F>,
    steps: &'a Steps,
    /// Of lines and of places in a line.
    stride: [usize; 2],
    /// The first line and place, counted within the part.
    within: [usize; 2],
    /// Lines, and places in a line.
    size: [usize; 2],
    columns: usize,
    bias: &'a [F],
    c: *mut F,
    c_apart: usize,
    c_line: usize,
}

/// They with panels of weights, which may be narrower than what is computed in.
struct OfPanels<'a, F, T> {
    tiles: Tiles<'a, F>,
    panels: &'a [&'a [T]],
}

impl<F: Dispatch, T: Lane<C = F>> Work<F> for OfPanels<'_, F, T> {
    #[inline(always)]
    fn run<X: Vector<F = F>>(self) {
        let OfPanels { tiles: of, panels } = self;
        let [lines, places] = of.size;
        if lines == 0 || places == 0 {
            return;
        }
        let width = panel::<X>();
        let rows = of.source;
        let apart = of.stride[1] * rows.strides[2];
        let line = of.stride[0] * rows.strides[1];
        let start = rows.start + of.within[0] * line + of.within[1] * apart;
        // What every row reads lies in the memory, and so do all panels.
        let end = start + (lines - 1) * line + (places - 1) * apart + of.steps.reach;
        assert!(end < rows.values.len() && panels.iter().all(|p| p.len() >= of.steps.count * width));
        let cuts = places.div_ceil(X::ROWS);
        for (p, b) in panels.iter().enumerate() {
            let columns = width.min(of.columns - p * width);
            let bias = of.bias.get(p * width..).filter(|b| b.len() >= width).map_or(std::ptr::null(), <[F]>::as_ptr);
            for y in 0..lines {
                for cut in 0..cuts {
                    let (first, last) = (cut * places / cuts, (cut + 1) * places / cuts);
                    let a = rows.values[start + y * line + first * apart..].as_ptr();
                    // SAFETY: `c` has all lines and places, `columns` wide; rows and panels were checked above, the bias has
                    // whole panels; the processor has what the dispatch found.
                    unsafe {
                        let c = of.c.add(y * of.c_line + first * of.c_apart + p * width);
                        let (steps, b, c_apart) = (of.steps, b.as_ptr(), of.c_apart);
                        tile::<X, T>(
                            &Tile { a, apart, steps, b, c, c_apart, columns, bias, accumulate: false },
                            last - first,
                        );
                    }
                }
            }
        }
    }
}
