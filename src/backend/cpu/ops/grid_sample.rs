//! GridSample and AffineGrid.

use super::axes::shape;
use super::sample::{Tap, add_taps, channels_last, channels_second, join};
use super::wide::{computing, with_wide};
use super::{Built, Entry, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType::Float64;
use crate::{Result, bail};

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("GridSample", grid_sample), entry("AffineGrid", affine_grid)];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

#[derive(Debug, Clone, Copy)]
struct Sampler {
    mode: Mode,
    padding: Padding,
    align: bool,
}

fn grid_sample(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let sampler = Sampler {
        // Version 16 named the modes of two dimensions.
        mode: match cx.string("mode", "linear")?.as_str() {
            "nearest" => Mode::Nearest,
            "linear" | "bilinear" => Mode::Linear,
            "cubic" | "bicubic" => Mode::Cubic,
            other => bail!(InvalidModel, "its attribute 'mode' is '{other}', but must be nearest, linear or cubic"),
        },
        padding: match cx.string("padding_mode", "zeros")?.as_str() {
            "zeros" => Padding::Zeros,
            "border" => Padding::Border,
            "reflection" => Padding::Reflection,
            other => bail!(
                InvalidModel,
                "its attribute 'padding_mode' is '{other}', but must be zeros, border or reflection"
            ),
        },
        align: cx.flag("align_corners", false)?,
    };
    tensor_kernel(move |cx, inputs| {
        let (x, grid) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let rank = x.rank().saturating_sub(2);
        let fits =
            rank > 0 && grid.rank() == x.rank() && grid.dims()[0] == x.dims()[0] && grid.dims()[rank + 1] == rank;
        if !fits {
            bail!(ShapeMismatch, "a grid of shape {:?} does not go with an input of shape {:?}", grid.dims(), x.dims());
        }
        let mut dims = grid.dims()[..rank + 1].to_vec();
        dims.push(x.dims()[1]);
        let data = channels_last(cx, x)?;
        // Both in one type: FP64 if either is.
        let wide = if data.dtype() == Float64 { Float64 } else { computing(grid.dtype(), "a grid")? };
        let (data, positions) = (cast_float(cx, &data, wide)?, cast_float(cx, grid, wide)?);
        let mut y = Tensor::new(cx.pool, data.dtype(), dims)?;
        if !y.is_empty() {
            with_wide!(wide, F => sampler.run::<F>(cx, &data, &positions, y.slice_mut()?)?);
        }
        channels_second(cx, &y, x.dtype())
    })
}

impl Sampler {
    /// Reads at each position; data and output have their channels last.
    fn run<F: Float>(&self, cx: &Cx, data: &Tensor, grid: &Tensor, y: &mut [F]) -> Result<()> {
        let rank = data.rank() - 2;
        let (sizes, channels) = (&data.dims()[1..=rank], data.dims()[rank + 1]);
        let (inside, outside): (usize, usize) = (sizes.iter().product(), grid.dims()[1..=rank].iter().product());
        let (from, positions) = (data.slice::<F>()?, grid.slice::<F>()?);
        let per_position = 4usize.pow(rank.min(8) as u32) * channels;
        let at_once = (4096 / channels).max(1);
        let work = y.len().saturating_mul(per_position);
        cx.threads.pieces(y, channels * at_once, work, |piece, out| {
            let (mut taps, mut dimension) = (Vec::new(), Vec::new());
            for (k, out) in out.chunks_mut(channels).enumerate() {
                let at = piece * at_once + k;
                taps.clear();
                taps.push(Tap { at: 0, weight: F::ONE });
                for (d, &size) in sizes.iter().enumerate() {
                    // A position names its innermost coordinate first.
                    let v = positions[at * rank + rank - 1 - d];
                    dimension.clear();
                    self.taps(v, size, &mut dimension);
                    join(&mut taps, size, &dimension);
                }
                out.fill(F::ZERO);
                add_taps(out, &from[at / outside * inside * channels..], &taps);
            }
        });
        Ok(())
    }

    /// Elements of one dimension that a coordinate from -1 to 1 reads.
    fn taps<F: Float>(&self, v: F, size: usize, out: &mut Vec<(Option<usize>, F)>) {
        let n = F::of(size as f64);
        let two = F::ONE + F::ONE;
        let mut v = match self.align {
            true => (v + F::ONE) / two * (n - F::ONE),
            false => ((v + F::ONE) * n - F::ONE) / two,
        };
        if self.mode == Mode::Nearest {
            v = v.round_even();
        }
        let v = v.wide();
        let (low, high) = self.borders(size);
        let v = match self.padding {
            _ if v >= low && v <= high => v,
            Padding::Border if self.mode != Mode::Cubic => v.clamp(0.0, size.saturating_sub(1) as f64),
            // Farther away all taps are outside. Cubic ones go to the border one by one, as PyTorch does it, from where the
            // operator comes: just beside the image they still see its second element.
            Padding::Zeros | Padding::Border => v.clamp(-4.0, size as f64 + 4.0),
            Padding::Reflection => reflect(v, low, high),
        };
        let first = v.floor();
        let (i, t) = (first as i64, v - first);
        let mut push = |i: i64, weight: f64| out.push((self.place(i, size), F::of(weight)));
        match self.mode {
            Mode::Nearest => push(i, 1.0),
            Mode::Linear => {
                push(i, 1.0 - t);
                push(i + 1, t);
            }
            Mode::Cubic => (-1..3).for_each(|k| push(i + k, cubic(t - k as f64))),
        }
    }

    fn borders(&self, size: usize) -> (f64, f64) {
        if self.align { (0.0, size as f64 - 1.0) } else { (-0.5, size as f64 - 0.5) }
    }

    /// The element that stands for number `i`.
    fn place(&self, i: i64, size: usize) -> Option<usize> {
        let last = size as i64 - 1;
        let i = match self.padding {
            _ if (0..=last).contains(&i) => i,
            Padding::Zeros => return None,
            Padding::Border => i.clamp(0, last.max(0)),
            Padding::Reflection => {
                let (low, high) = self.borders(size);
                (reflect(i as f64, low, high) as i64).clamp(0, last.max(0))
            }
        };
        usize::try_from(i).ok().filter(|i| *i < size)
    }
}

/// A number mirrored at the borders until it lies between them.
fn reflect(v: f64, low: f64, high: f64) -> f64 {
    let range = high - low;
    if range <= 0.0 || !v.is_finite() {
        return low;
    }
    let (distance, from_low) = if v < low { (low - v, true) } else { (v - high, false) };
    if distance < 0.0 {
        return v;
    }
    let times = (distance / range).floor();
    let rest = distance - times * range;
    // An even number of mirrors comes out at the side where it went in.
    if from_low == (times % 2.0 == 0.0) { low + rest } else { high - rest }
}

/// Keys' cubic kernel with a = -0.75.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    match x.abs() {
        x if x <= 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
        _ => 0.0,
    }
}

fn affine_grid(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let align = cx.flag("align_corners", false)?;
    tensor_kernel(move |cx, inputs| {
        let theta = inputs.tensor(0)?;
        let size = shape(&inputs.ints(1)?)?;
        let rank = size.len().saturating_sub(2);
        if !(rank == 2 || rank == 3) || theta.dims() != [size[0], rank, rank + 1] {
            bail!(ShapeMismatch, "matrices of shape {:?} do not go with the size {size:?}", theta.dims());
        }
        let wide = computing(theta.dtype(), "AffineGrid")?;
        let matrices = cast_float(cx, theta, wide)?;
        let mut dims = vec![size[0]];
        dims.extend(&size[2..]);
        dims.push(rank);
        let mut y = Tensor::new(cx.pool, wide, dims)?;
        if !y.is_empty() {
            with_wide!(wide, F => affine::<F>(cx, matrices.slice()?, &size[2..], align, y.slice_mut()?));
        }
        cast_float(cx, &y, theta.dtype())
    })
}

/// Evenly spaced positions, turned by each sample's matrix.
fn affine<F: Float>(cx: &Cx, matrices: &[F], sizes: &[usize], align: bool, y: &mut [F]) {
    let rank = sizes.len();
    let base: Vec<Vec<F>> = sizes
        .iter()
        .map(|&n| {
            let at = |i: usize| match align {
                true if n == 1 => 0.0,
                true => 2.0 * i as f64 / (n - 1) as f64 - 1.0,
                false => (2 * i + 1) as f64 / n as f64 - 1.0,
            };
            (0..n).map(|i| F::of(at(i))).collect()
        })
        .collect();
    let (plane, work): (usize, usize) = (sizes.iter().product(), y.len() * 8);
    let width = sizes[rank - 1];
    cx.threads.pieces(y, width * rank, work, |line, out| {
        let matrix = &matrices[line * width / plane * rank * (rank + 1)..][..rank * (rank + 1)];
        for (x, out) in out.chunks_exact_mut(rank).enumerate() {
            // Innermost coordinate first, then outward.
            let mut rest = line;
            let mut position = [base[rank - 1][x]; 3];
            for d in (0..rank - 1).rev() {
                position[rank - 1 - d] = base[d][rest % sizes[d]];
                rest /= sizes[d];
            }
            for (o, row) in out.iter_mut().zip(matrix.chunks_exact(rank + 1)) {
                let mut sum = row[rank];
                position.iter().zip(&row[..rank]).for_each(|(&p, &m)| sum += p * m);
                *o = sum;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflection_goes_on_until_inside() {
        assert_eq!(reflect(-3.5, -1.0, 1.0), 0.5, "the specification's example");
        for (v, want) in [(-1.0, 0.0), (-2.0, 1.0), (3.0, 2.0), (5.0, 0.0), (6.0, 0.0), (7.0, 1.0)] {
            assert_eq!(reflect(v, -0.5, 2.5), want, "{v}");
        }
        assert_eq!(reflect(3.0, 0.0, 0.0), 0.0);
        assert_eq!(reflect(f64::INFINITY, 0.0, 2.0), 0.0);
    }

    #[test]
    fn cubic_weights_add_up() {
        for t in [0.0, 0.25, 0.5, 0.9] {
            let sum: f64 = (-1..3).map(|k| cubic(t - f64::from(k))).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{t}: {sum}");
        }
    }

    #[test]
    fn what_lies_outside_depends_on_the_padding() {
        let taps = |mode, padding, v: f32| {
            let mut taps: Vec<(Option<usize>, f32)> = Vec::new();
            Sampler { mode, padding, align: true }.taps(v, 3, &mut taps);
            taps
        };
        // -1 to 1 are the first and last of three elements.
        assert_eq!(taps(Mode::Linear, Padding::Zeros, 0.5), [(Some(1), 0.5), (Some(2), 0.5)]);
        assert_eq!(taps(Mode::Linear, Padding::Zeros, 1.5), [(Some(2), 0.5), (None, 0.5)]);
        assert_eq!(taps(Mode::Nearest, Padding::Zeros, 1e30), [(None, 1.0)]);
        assert_eq!(taps(Mode::Nearest, Padding::Border, -7.0), [(Some(0), 1.0)]);
        assert_eq!(taps(Mode::Nearest, Padding::Reflection, 2.0), [(Some(1), 1.0)]);
    }
}
