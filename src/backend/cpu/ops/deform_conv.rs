//! DeformConv: the windows of a convolution, read at shifted positions, times the weights.

use super::sample::{Tap, join};
use super::wide::{computing, same_widened, with_wide};
use super::window::{WindowSpec, spatial};
use super::{Built, Entry, Inputs, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::conv::Window;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::gemm::{self, Operand, Product};
use crate::backend::cpu::kernels::lane::Lane;
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::vector::Dispatch;
use crate::backend::cpu::tensor::Tensor;
use crate::{Result, bail, err};

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("DeformConv", build)];

struct Deformed {
    spec: WindowSpec,
    groups: usize,
    offset_groups: usize,
}

fn build(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 5)?;
    let groups = |name: &str| -> Result<usize> {
        let n = cx.int(name, 1)?;
        usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| err!(InvalidModel, "its attribute '{name}' is {n}"))
    };
    let conv =
        Deformed { spec: WindowSpec::read(cx)?, groups: groups("group")?, offset_groups: groups("offset_group")? };
    tensor_kernel(move |cx, inputs| {
        let dtype = inputs.tensor(0)?.dtype();
        let wide = computing(dtype, "DeformConv")?;
        let y = with_wide!(wide, F => conv.run::<F>(cx, inputs)?);
        cast_float(cx, &y, dtype)
    })
}

impl Deformed {
    fn run<F: Dispatch>(&self, cx: &Cx, inputs: &Inputs) -> Result<Tensor> {
        let dtype = inputs.tensor(0)?.dtype();
        let wide = <F as Lane>::DTYPE;
        let get = |i: usize| inputs.opt(i)?.map(|t| same_widened(cx, t, dtype, wide)).transpose();
        let need = |i: usize| get(i)?.ok_or_else(|| err!(InvalidModel, "its input {i} is missing"));
        let (x, w, offset, bias, mask) = (need(0)?, need(1)?, need(2)?, get(3)?, get(4)?);
        if x.rank() < 3 || w.rank() != x.rank() || offset.rank() != x.rank() {
            bail!(ShapeMismatch, "an input {x:?}, weights {w:?} and offsets {offset:?} are of different ranks");
        }
        let rank = x.rank() - 2;
        let (window, _) = self.spec.window(&x.dims()[2..], &w.dims()[2..])?;
        let (batch, channels, outputs) = (x.dims()[0], x.dims()[1], w.dims()[0]);
        let (kernel, places) = (window.kernel_len(), window.output_len());
        let lead = |per_point: usize| {
            let mut dims = vec![batch, self.offset_groups.saturating_mul(kernel * per_point)];
            dims.extend(spatial(&window, rank));
            dims
        };
        let grouped = self.groups.max(self.offset_groups) <= channels
            && channels % self.groups == 0
            && outputs % self.groups == 0
            && w.dims()[1] == channels / self.groups
            && channels % self.offset_groups == 0;
        if !grouped
            || offset.dims() != lead(rank)
            || mask.as_ref().is_some_and(|m| m.dims() != lead(1))
            || bias.as_ref().is_some_and(|b| b.dims() != [outputs])
        {
            bail!(
                ShapeMismatch,
                "an input {x:?}, weights {w:?}, offsets {offset:?}, bias {bias:?} and mask {mask:?} do not go together \
                 in {} groups and {} groups of offsets",
                self.groups,
                self.offset_groups
            );
        }
        let mut dims = vec![batch, outputs];
        dims.extend(spatial(&window, rank));
        let mut y = Tensor::new(cx.pool, wide, dims)?;
        let reader = Reader {
            window,
            rank,
            per_group: channels / self.offset_groups,
            x: x.slice::<F>()?,
            offset: offset.slice::<F>()?,
            mask: mask.as_ref().map(|m| m.slice::<F>()).transpose()?,
        };
        let (weights, bias) = (w.slice::<F>()?, bias.as_ref().map(|b| b.slice::<F>()).transpose()?);
        let mut columns = Tensor::new(cx.pool, wide, vec![channels * kernel, places])?;
        let (rows, depth) = (outputs / self.groups, channels / self.groups * kernel);
        for sample in 0..batch {
            cx.check_cancelled()?;
            let work = channels * kernel * places * 16;
            cx.threads.pieces(columns.slice_mut::<F>()?, places, work, |row, out| {
                reader.row(sample, channels, row / kernel, row % kernel, out);
            });
            let data = columns.slice::<F>()?;
            let sources: Vec<_> = (0..self.groups)
                .map(|g| {
                    let left = Operand::by_lanes(&weights[g * rows * depth..], depth);
                    let right = Operand::by_steps(&data[g * depth * places..], places);
                    let add = move |at: usize, out: &mut [F]| {
                        if let Some(b) = bias {
                            add_by_rows(&b[g * rows..], at, places, out);
                        }
                    };
                    (left, right, add)
                })
                .collect();
            let products: Vec<Product<F>> = sources
                .iter()
                .enumerate()
                .map(|(g, (a, b, add))| Product {
                    m: rows,
                    n: places,
                    k: depth,
                    a: *a,
                    b: *b,
                    offset: (sample * outputs + g * rows) * places,
                    row_stride: places,
                    epilogue: Some(add),
                })
                .collect();
            gemm::run(cx, &products, y.slice_mut::<F>()?)?;
        }
        Ok(y)
    }
}

/// Adds each row's own value to results that are a piece of a row, or whole rows.
fn add_by_rows<F: Float>(values: &[F], at: usize, columns: usize, out: &mut [F]) {
    for (row, out) in out.chunks_mut(columns).enumerate() {
        let v = values[at / columns + row];
        out.iter_mut().for_each(|o| *o += v);
    }
}

/// What windows read.
struct Reader<'a, F> {
    window: Window,
    rank: usize,
    /// Channels that share offsets.
    per_group: usize,
    x: &'a [F],
    offset: &'a [F],
    mask: Option<&'a [F]>,
}

impl<F: Float> Reader<'_, F> {
    /// Element `k` of all windows of a channel.
    fn row(&self, sample: usize, channels: usize, channel: usize, k: usize, out: &mut [F]) {
        let w = &self.window;
        let (kernel, places) = (w.kernel_len(), w.output_len());
        let plane = &self.x[(sample * channels + channel) * w.input_len()..][..w.input_len()];
        let group = sample * (channels / self.per_group) + channel / self.per_group;
        let point = group * kernel + k;
        let inside = w.kernel_position(k);
        let mut taps: Vec<Tap<F>> = Vec::new();
        for (i, o) in out.iter_mut().enumerate() {
            let place = [i / (w.output[1] * w.output[2]), i / w.output[2] % w.output[1], i % w.output[2]];
            taps.clear();
            taps.push(Tap { at: 0, weight: F::ONE });
            for d in 3 - self.rank..3 {
                let shift = self.offset[(point * self.rank + d + self.rank - 3) * places + i];
                let start = (place[d] * w.stride[d] + inside[d] * w.dilation[d]) as f64 - w.pad[d] as f64;
                join(&mut taps, w.input[d], &around(F::of(start) + shift, w.input[d]));
            }
            let mut sum = F::ZERO;
            taps.iter().for_each(|t| sum += t.weight * plane[t.at]);
            *o = match self.mask {
                Some(m) => sum * m[point * places + i],
                None => sum,
            };
        }
    }
}

/// The two elements around a coordinate with their weights; what lies outside counts nothing.
fn around<F: Float>(v: F, size: usize) -> [(Option<usize>, F); 2] {
    let low = v.floor();
    let t = v - low;
    let place = |i: f64| (i >= 0.0 && i < size as f64).then_some(i as usize);
    [(place(low.wide()), F::ONE - t), (place(low.wide() + 1.0), t)]
}
