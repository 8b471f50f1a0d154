//! Every kernel against the definition, with each width of vectors that the processor has: the portable form is the twin
//! of the others.

use super::super::conv::Window;
use super::super::lane::Lane;
use super::super::math::Float;
use super::super::vector::{Dispatch, WIDEST};
use super::dense::Dense;
use super::depthwise::Depthwise;
use super::pool::{Over, global_mean, pool};
use super::weights::Weights;
use super::winograd;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::threads::Threads;
use half::{bf16, f16};

/// Sizes of a convolution.
#[derive(Debug, Clone, Copy)]
struct Case {
    images: usize,
    input: [usize; 3],
    kernel: [usize; 3],
    stride: usize,
    dilation: usize,
    pad: usize,
    groups: usize,
    channels: usize,
    columns: usize,
}

const PLAIN: Case = Case {
    images: 1,
    input: [1, 1, 1],
    kernel: [1, 1, 1],
    stride: 1,
    dilation: 1,
    pad: 0,
    groups: 1,
    channels: 1,
    columns: 1,
};

impl Case {
    fn window(&self) -> Option<Window> {
        let flat = |d: usize| self.input[d] == 1 && self.kernel[d] == 1;
        let pad = [0, 1, 2].map(|d| if flat(d) { 0 } else { self.pad });
        let mut output = [0; 3];
        for d in 0..3 {
            let reach = (self.kernel[d] - 1) * self.dilation + 1;
            output[d] = (self.input[d] + 2 * pad[d]).checked_sub(reach)? / self.stride + 1;
        }
        let same = |v: usize| [v; 3];
        let (stride, dilation) = (same(self.stride), same(self.dilation));
        Some(Window { input: self.input, output, kernel: self.kernel, stride, dilation, pad })
    }

    /// The definition, over weights [columns, channels of a group, kernel elements].
    fn expected<T: Lane<C: Float>>(&self, w: &Window, x: &[T], weights: &[T], bias: &[T::C]) -> Vec<f64> {
        let (c, m) = (self.channels, self.columns);
        let (cg, mg) = (c / self.groups, m / self.groups);
        let mut all = Vec::new();
        for image in 0..self.images {
            for o in 0..w.output_len() {
                let place = [o / (w.output[1] * w.output[2]), o / w.output[2] % w.output[1], o % w.output[2]];
                for column in 0..m {
                    let mut sum = bias[column].wide();
                    for k in 0..w.kernel_len() {
                        let at = w.kernel_position(k);
                        let reads = [0, 1, 2].map(|d| w.reads(d, place[d], at[d]));
                        let [Some(z), Some(y), Some(x0)] = reads else { continue };
                        let from = (((image * w.input[0] + z) * w.input[1] + y) * w.input[2] + x0) * c;
                        for i in 0..cg {
                            let v = x[from + column / mg * cg + i].get().wide();
                            sum += v * weights[(column * cg + i) * w.kernel_len() + k].get().wide();
                        }
                    }
                    all.push(sum);
                }
            }
        }
        all
    }
}

fn numbers<T: Lane<C: Float>>(n: usize, seed: usize) -> Vec<T> {
    (0..n).map(|i| T::put(T::C::of(((i * 7919 + seed * 31) % 2003) as f64 / 1001.0 - 1.0))).collect()
}

/// Calls `f` with every width of vectors and some numbers of threads.
fn everywhere(f: impl Fn(&Cx)) {
    for widest in [0, 4, 8, 16] {
        WIDEST.set(widest);
        // Without memory that kernels may take beside, and with some.
        for spare in [0, 1 << 20] {
            let pool = Pool::new(1 << 30);
            drop(pool.allocate(spare).unwrap());
            f(&Cx { pool: &pool, threads: &Threads::inline(), cancel: None, tap: None });
        }
    }
    WIDEST.set(usize::MAX);
    f(&Cx { pool: &Pool::new(1 << 30), threads: &Threads::new(3).unwrap(), cancel: None, tap: None });
}

fn worst<T: Lane<C: Float>>(out: &[T], expected: &[f64]) -> f64 {
    assert_eq!(out.len(), expected.len());
    let largest = expected.iter().fold(1f64, |a, v| a.max(v.abs()));
    out.iter().zip(expected).map(|(o, e)| (o.get().wide() - e).abs()).fold(0.0, f64::max) / largest
}

fn check<T: Lane<C: Dispatch>>(case: Case, bound: f64) {
    let Some(w) = case.window() else { return };
    let (c, m, taps) = (case.channels, case.columns, w.kernel_len());
    let x: Vec<T> = numbers(case.images * w.input_len() * c, 1);
    let weights: Vec<T> = numbers(m * c / case.groups * taps, 2);
    let bias: Vec<T::C> = numbers::<T::C>(m, 3);
    let expected = case.expected(&w, &x, &weights, &bias);
    everywhere(|cx| {
        let finish = |at: usize, values: &mut [T::C]| {
            // What is finished twice, or at the wrong place, shows.
            values.iter_mut().enumerate().for_each(|(i, v)| *v += T::C::of(((at + i) % 5) as f64 * 4.0));
        };
        let expected: Vec<f64> = expected.iter().enumerate().map(|(i, v)| v + (i % 5) as f64 * 4.0).collect();
        let mut out = vec![T::default(); expected.len()];
        if case.groups > 1 && c == case.groups && m == c {
            let factors: Vec<T::C> = (0..taps * m).map(|i| weights[i % m * taps + i / m].get()).collect();
            let way = Depthwise { window: w, channels: m, weights: &factors, bias: Some(&bias) };
            way.run::<T>(cx, &x, &mut out, &finish).unwrap();
            assert!(worst(&out, &expected) < bound, "depthwise {case:?}: {:e}", worst(&out, &expected));
            out.fill(T::default());
        }
        let packed = Weights::of_kernel(&weights, case.groups, c / case.groups, taps).unwrap();
        let way = Dense { window: w, channels: c, weights: &packed, bias: Some(&bias), finish: &finish };
        way.run(cx, &x, &mut out).unwrap();
        assert!(worst(&out, &expected) < bound, "{case:?}: {:e}", worst(&out, &expected));
    });
}

fn cases() -> Vec<Case> {
    let mut all = vec![
        Case { input: [1, 1, 37], channels: 700, columns: 33, images: 3, ..PLAIN },
        Case { input: [1, 1, 5], kernel: [1, 1, 1], channels: 3, columns: 1, ..PLAIN },
        Case { input: [1, 1, 60], kernel: [1, 1, 7], stride: 3, pad: 2, channels: 5, columns: 17, ..PLAIN },
        Case { input: [3, 5, 6], kernel: [2, 3, 3], pad: 1, channels: 4, columns: 6, images: 2, ..PLAIN },
        Case { input: [1, 30, 31], kernel: [1, 7, 7], stride: 2, pad: 3, channels: 3, columns: 64, ..PLAIN },
        Case { input: [1, 1, 1], channels: 96, columns: 80, ..PLAIN },
        // Winograd's, with tiles cut off at both sides.
        Case { input: [1, 14, 18], kernel: [1, 3, 3], pad: 1, channels: 16, columns: 48, images: 2, ..PLAIN },
        Case { input: [1, 17, 13], kernel: [1, 3, 3], pad: 0, channels: 144, columns: 16, ..PLAIN },
    ];
    for (stride, dilation, pad) in [(1, 1, 1), (2, 1, 1), (1, 2, 2), (3, 2, 0)] {
        for (groups, channels, columns) in [(1, 6, 5), (2, 8, 70), (7, 7, 7), (40, 40, 40), (4, 4, 8)] {
            let input = [1, 11, 13];
            let kernel = [1, 3, 3];
            all.push(Case { images: 2, input, kernel, stride, dilation, pad, groups, channels, columns });
        }
    }
    all
}

#[test]
fn convolutions_are_those_of_the_definition() {
    for case in cases() {
        // Winograd's sums pass through numbers some times as large.
        let several = if case.kernel == [1, 3, 3] && case.channels % 16 == 0 { 3.0 } else { 1.0 };
        check::<f32>(case, several * 3e-6);
        check::<f64>(case, several * 3e-14);
        check::<f16>(case, 6e-4);
        check::<bf16>(case, 5e-3);
    }
}

#[test]
fn winograd_serves_the_cases_that_are_meant_for_it() {
    let serves = |case: &Case| {
        let Some(w) = case.window() else { return false };
        let weights: Vec<f32> = numbers(case.columns * case.channels / case.groups * w.kernel_len(), 2);
        let packed = Weights::of_kernel(&weights, case.groups, case.channels / case.groups, w.kernel_len()).unwrap();
        winograd::pays(&Dense {
            window: w,
            channels: case.channels,
            weights: &packed,
            bias: None,
            finish: &|_, _: &mut [_]| {},
        })
    };
    assert_eq!(cases().iter().filter(|c| serves(c)).count(), 2);
}

/// An infinite input does not make NaN of its neighbours, as sums of Winograd's transforms would.
#[test]
fn infinities_stay_where_they_are() {
    let case = Case { input: [1, 12, 12], kernel: [1, 3, 3], pad: 1, channels: 16, columns: 16, ..PLAIN };
    let w = case.window().unwrap();
    let mut x: Vec<f32> = numbers(w.input_len() * 16, 1);
    x[5 * 16] = f32::INFINITY;
    let weights: Vec<f32> = vec![1.0; 16 * 16 * 9];
    let packed = Weights::of_kernel(&weights, 1, 16, 9).unwrap();
    let (pool, threads) = (Pool::new(1 << 30), Threads::inline());
    let cx = Cx { pool: &pool, threads: &threads, cancel: None, tap: None };
    let mut out = vec![0f32; w.output_len() * 16];
    Dense { window: w, channels: 16, weights: &packed, bias: None, finish: &|_, _: &mut [_]| {} }
        .run(&cx, &x, &mut out)
        .unwrap();
    for (i, v) in out.iter().enumerate() {
        let (y, x) = (i / 16 / 12, i / 16 % 12);
        assert_eq!(v.is_infinite(), y <= 1 && (4..=6).contains(&x), "{y}, {x}: {v}");
        assert!(!v.is_nan());
    }
}

#[test]
fn pools_are_those_of_the_definition() {
    for (stride, pad, kernel) in [(1, 1, 3), (2, 1, 3), (2, 0, 2), (3, 2, 5)] {
        let case =
            Case { images: 2, input: [1, 9, 12], kernel: [1, kernel, kernel], stride, pad, channels: 19, ..PLAIN };
        let w = case.window().unwrap();
        let x: Vec<f16> = numbers(2 * w.input_len() * 19, 1);
        let reads = |d: usize, o: usize| (0..w.kernel[d]).filter_map(|k| w.reads(d, o, k)).collect::<Vec<_>>();
        let counts = [0, 1, 2].map(|d| (0..w.output[d]).map(|o| reads(d, o).len()).collect::<Vec<_>>());
        let (mut most, mut means) = (Vec::new(), Vec::new());
        for o in 0..2 * w.output_len() {
            let (image, y, x0) = (o / w.output_len(), o / w.output[2] % w.output[1], o % w.output[2]);
            for c in 0..19 {
                let mut all = Vec::new();
                for iy in reads(1, y) {
                    for ix in reads(2, x0) {
                        all.push(x[((image * 9 + iy) * 12 + ix) * 19 + c].get().wide());
                    }
                }
                most.push(all.iter().copied().fold(f64::NEG_INFINITY, f64::max));
                means.push(all.iter().sum::<f64>() / all.len() as f64);
            }
        }
        everywhere(|cx| {
            let mut out = vec![f16::ZERO; most.len()];
            pool::<f16>(cx, &w, 19, Over::Maximum, &x, &mut out);
            assert_eq!(worst(&out, &most), 0.0, "{case:?}");
            pool::<f16>(cx, &w, 19, Over::Mean(&counts), &x, &mut out);
            assert!(worst(&out, &means) < 5e-4, "{case:?}");
        });
    }
    for channels in [1, 5, 64, 300] {
        let x: Vec<f32> = numbers(2 * 49 * channels, 1);
        let mean = |i: usize, c: usize| (0..49).map(|p| f64::from(x[(i * 49 + p) * channels + c])).sum::<f64>() / 49.0;
        let expected: Vec<f64> = (0..2).flat_map(|i| (0..channels).map(move |c| mean(i, c))).collect();
        everywhere(|cx| {
            let mut out = vec![0f32; 2 * channels];
            global_mean::<f32>(cx, channels, &x, &mut out);
            assert!(worst(&out, &expected) < 1e-6);
        });
    }
}
