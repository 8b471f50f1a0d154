//! What is computed along rows: softmax and its relatives.

use super::math::{Arithmetic, Float};
use super::simd::{Calculation, calculate};

/// Numbers that are summed or compared side by side.
const LANES: usize = 16;

/// What a softmax makes of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// e^x over the sum of them.
    Softmax,
    /// Its logarithm.
    Log,
    /// 1 for the first of the largest, 0 for the others.
    Hard,
}

/// The softmax of each row of `n` values, in place.
pub fn softmax<F: Float>(kind: Kind, values: &mut [F], n: usize) {
    calculate(Rows { kind, values, n });
}

/// The softmax along the second of three dimensions, `n` and `inner`, of each block of them, in place.
pub fn softmax_inner<F: Float>(kind: Kind, values: &mut [F], n: usize, inner: usize) {
    let mut largest = vec![F::LOWEST; inner];
    let mut sums = vec![F::ZERO; inner];
    for block in values.chunks_mut(n * inner) {
        calculate(Inner { kind, block, largest: &mut largest, sums: &mut sums });
    }
}

/// The softmax of one row, in place; a row of minus infinities has no weight anywhere.
pub fn weights<F: Float>(values: &mut [F]) {
    match values.iter().all(|v| *v == F::LOWEST) {
        true => values.fill(F::ZERO),
        false => softmax(Kind::Softmax, values, values.len()),
    }
}

struct Rows<'a, F> {
    kind: Kind,
    values: &'a mut [F],
    n: usize,
}

impl<F: Float> Calculation for Rows<'_, F> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        for row in self.values.chunks_mut(self.n) {
            let max = largest(row);
            match self.kind {
                Kind::Softmax => {
                    let scale = F::ONE / exponentials::<F, A>(row, max);
                    row.iter_mut().for_each(|v| *v *= scale);
                }
                Kind::Log => {
                    let mut lanes = [F::ZERO; LANES];
                    for part in row.chunks(LANES) {
                        lanes.iter_mut().zip(part).for_each(|(l, &v)| *l += (v - max).exp_below::<A>());
                    }
                    let log = total(lanes).ln();
                    row.iter_mut().for_each(|v| *v = *v - max - log);
                }
                Kind::Hard => hard(row),
            }
        }
    }
}

/// Replaces values by e^(v - max) and gives their sum.
#[inline(always)]
fn exponentials<F: Float, A: Arithmetic>(row: &mut [F], max: F) -> F {
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    let mut lanes = [F::ZERO; LANES];
    for c in chunks {
        for (l, v) in lanes.iter_mut().zip(c) {
            *v = (*v - max).exp_below::<A>();
            *l += *v;
        }
    }
    if !rest.is_empty() {
        // A whole vector of the rest, padded with what adds nothing.
        let mut last = [F::LOWEST; LANES];
        last[..rest.len()].copy_from_slice(rest);
        for (l, v) in lanes.iter_mut().zip(&mut last) {
            *v = (*v - max).exp_below::<A>();
            *l += *v;
        }
        rest.copy_from_slice(&last[..rest.len()]);
    }
    total(lanes)
}

/// The sum of a row, in a fixed order.
#[inline(always)]
pub fn sum<F: Float>(values: &[F]) -> F {
    // As many as hide how long one addition takes.
    const SUMS: usize = 2 * LANES;
    let (chunks, rest) = values.as_chunks::<SUMS>();
    let mut sums = [F::ZERO; SUMS];
    for c in chunks {
        sums.iter_mut().zip(c).for_each(|(s, &v)| *s += v);
    }
    sums.iter_mut().zip(rest).for_each(|(s, &v)| *s += v);
    total(std::array::from_fn(|i| sums[i] + sums[i + LANES]))
}

/// The sum of lanes, in a fixed order: halves are added as vectors, which stay in registers.
#[inline(always)]
fn total<F: Float>(lanes: [F; LANES]) -> F {
    #[inline(always)]
    fn halved<F: Float, const N: usize>(lanes: &[F]) -> [F; N] {
        std::array::from_fn(|i| lanes[i] + lanes[i + N])
    }
    let eight: [F; 8] = halved(&lanes);
    let four: [F; 4] = halved(&eight);
    let two: [F; 2] = halved(&four);
    two[0] + two[1]
}

/// The largest number. A NaN is passed over: it makes the whole row NaN later.
#[inline(always)]
fn largest<F: Float>(values: &[F]) -> F {
    let more = |l: &mut F, v: F| *l = if v > *l { v } else { *l };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [F::LOWEST; LANES];
    for c in chunks {
        lanes.iter_mut().zip(c).for_each(|(l, &v)| more(l, v));
    }
    lanes.iter_mut().zip(rest).for_each(|(l, &v)| more(l, v));
    let mut n = LANES / 2;
    while n > 0 {
        for i in 0..n {
            let v = lanes[i + n];
            more(&mut lanes[i], v);
        }
        n /= 2;
    }
    lanes[0]
}

/// 1 for the first of the largest; NaN is larger than all and equal to none.
#[inline(always)]
fn hard<F: Float>(row: &mut [F]) {
    let max = row.iter().fold(F::LOWEST, |m, &v| m.larger(v));
    let mut found = false;
    for v in row {
        let hit = !found && *v == max;
        found |= hit;
        *v = if hit { F::ONE } else { F::ZERO };
    }
}

struct Inner<'a, F> {
    kind: Kind,
    block: &'a mut [F],
    largest: &'a mut [F],
    sums: &'a mut [F],
}

impl<F: Float> Calculation for Inner<'_, F> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        let Inner { kind, block, largest, sums } = self;
        let inner = largest.len();
        largest.fill(F::LOWEST);
        sums.fill(F::ZERO);
        for line in block.chunks(inner) {
            match kind {
                Kind::Hard => largest.iter_mut().zip(line).for_each(|(l, &v)| *l = l.larger(v)),
                _ => largest.iter_mut().zip(line).for_each(|(l, &v)| *l = if v > *l { v } else { *l }),
            }
        }
        match kind {
            Kind::Softmax => {
                for line in block.chunks_mut(inner) {
                    for ((v, &l), s) in line.iter_mut().zip(&*largest).zip(&mut *sums) {
                        *v = (*v - l).exp_below::<A>();
                        *s += *v;
                    }
                }
                sums.iter_mut().for_each(|s| *s = F::ONE / *s);
                for line in block.chunks_mut(inner) {
                    line.iter_mut().zip(&*sums).for_each(|(v, &s)| *v *= s);
                }
            }
            Kind::Log => {
                for line in block.chunks(inner) {
                    for ((&v, &l), s) in line.iter().zip(&*largest).zip(&mut *sums) {
                        *s += (v - l).exp_below::<A>();
                    }
                }
                sums.iter_mut().for_each(|s| *s = s.ln());
                for line in block.chunks_mut(inner) {
                    line.iter_mut().zip(&*largest).zip(&*sums).for_each(|((v, &l), &s)| *v = *v - l - s);
                }
            }
            Kind::Hard => {
                // The sums say who has been found.
                for line in block.chunks_mut(inner) {
                    for ((v, &l), s) in line.iter_mut().zip(&*largest).zip(&mut *sums) {
                        *v = if *s == F::ZERO && *v == l { F::ONE } else { F::ZERO };
                        *s += *v;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logarithms are off by what the sum is off, which is as large near zero.
    fn near(kind: Kind, got: f32, want: f64) -> bool {
        (f64::from(got) - want).abs() <= 3e-7 * want.abs().max(if kind == Kind::Log { 1.0 } else { 1e-3 })
    }

    /// Rows of every length, and the same as columns, against sums in FP64.
    #[test]
    fn rows_and_columns_of_any_length() {
        for n in 1..=70usize {
            let row: Vec<f32> = (0..n).map(|i| ((i * 37 + 11) % 23) as f32 * 0.7 - 5.0).collect();
            let max = row.iter().copied().fold(f32::LOWEST, f32::max);
            let sum: f64 = row.iter().map(|&v| (f64::from(v) - f64::from(max)).exp()).sum();
            for kind in [Kind::Softmax, Kind::Log, Kind::Hard] {
                let first = row.iter().position(|&v| v == max);
                let want: Vec<f64> = row
                    .iter()
                    .enumerate()
                    .map(|(i, &v)| {
                        let d = f64::from(v) - f64::from(max);
                        match kind {
                            Kind::Softmax => d.exp() / sum,
                            Kind::Log => d - sum.ln(),
                            Kind::Hard => f64::from(u8::from(first == Some(i))),
                        }
                    })
                    .collect();
                let mut rows = [row.clone(), row.clone()].concat();
                softmax(kind, &mut rows, n);
                assert!(rows.iter().zip(want.iter().cycle()).all(|(&g, &w)| near(kind, g, w)), "{kind:?} {n} {rows:?}");
                let mut columns: Vec<f32> = row.iter().flat_map(|&v| [v; 3]).collect();
                softmax_inner(kind, &mut columns, n, 3);
                assert!(
                    columns.iter().enumerate().all(|(i, &g)| near(kind, g, want[i / 3])),
                    "{kind:?} {n} {columns:?}"
                );
            }
        }
    }

    #[test]
    fn infinities_and_nans() {
        let mut masked = [f32::LOWEST, 1.0, f32::LOWEST, 1.0];
        softmax(Kind::Softmax, &mut masked, 4);
        assert_eq!(masked, [0.0, 0.5, 0.0, 0.5]);
        let mut far = [0.0, -200.0f32];
        softmax(Kind::Softmax, &mut far, 2);
        assert_eq!(far, [1.0, 0.0]);
        for place in 0..20 {
            let mut row = [1.0f32; 20];
            row[place] = f32::NAN;
            softmax(Kind::Softmax, &mut row, 20);
            assert!(row.iter().all(|v| v.is_nan()));
        }
        let mut nothing = [f32::LOWEST; 3];
        softmax(Kind::Softmax, &mut nothing, 3);
        assert!(nothing.iter().all(|v| v.is_nan()));
        let mut nothing = [f32::LOWEST; 3];
        weights(&mut nothing);
        assert_eq!(nothing, [0.0; 3]);
    }
}
