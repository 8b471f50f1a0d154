//! The way back from windows to images, MaxUnpool and Col2Im, and determinants.

use super::axes::shape;
use super::wide::{computing, with_wide};
use super::window::WindowSpec;
use super::{Built, Entry, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::lane::{Lane, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::movement::Elem;
use crate::backend::cpu::ops::cast::cast;
use crate::backend::cpu::tensor::{Tensor, count};
use crate::model::DataType;
use crate::{bail, err, with_elem};

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("MaxUnpool", max_unpool), entry("Col2Im", col2im), entry("Det", det)];

fn max_unpool(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 3)?;
    let spec = WindowSpec::read(cx)?;
    let kernel = spec.kernel.clone().ok_or_else(|| err!(InvalidModel, "its attribute 'kernel_shape' is missing"))?;
    tensor_kernel(move |cx, inputs| {
        let (x, places) = (inputs.tensor(0)?, inputs.ints(1)?);
        let rank = kernel.len();
        if x.rank() != rank + 2 || inputs.tensor(1)?.dims() != x.dims() {
            bail!(ShapeMismatch, "an input {x:?} and {} indices for a kernel {kernel:?}", places.len());
        }
        let (strides, (before, after)) = (spec.strides(rank)?, spec.pads(rank)?);
        // The shape that the pool had read, as far as its output tells; indices count in it.
        let mut own = x.dims()[..2].to_vec();
        for d in 0..rank {
            let reach = x.dims()[d + 2].saturating_sub(1).saturating_mul(strides[d]).saturating_add(kernel[d]);
            own.push(reach.checked_sub(before[d] + after[d]).ok_or_else(|| {
                err!(ShapeMismatch, "padding {before:?} and {after:?} is larger than an input of shape {:?}", x.dims())
            })?);
        }
        let dims = match inputs.opt_ints(2)? {
            Some(given) => shape(&given)?,
            None => own.clone(),
        };
        if dims.len() != own.len() || dims.iter().zip(&own).any(|(d, o)| d < o) {
            bail!(ShapeMismatch, "an output of shape {dims:?} does not hold the unpooled shape {own:?}");
        }
        let all = count(&own)?;
        let mut y = Tensor::new(cx.pool, x.dtype(), dims.clone())?;
        with_elem!(x.dtype(), T => {
            let to = T::view_mut(&mut y)?;
            to.fill(T::default());
            for (v, &place) in T::view(x)?.iter().zip(&places) {
                let inside = usize::try_from(place).ok().filter(|p| *p < all);
                let mut rest = inside.ok_or_else(|| err!(Execution, "index {place} is beyond the shape {own:?}"))?;
                let (mut at, mut step) = (0, 1);
                for (&size, &o) in dims.iter().zip(&own).rev() {
                    at += rest % o * step;
                    rest /= o;
                    step *= size;
                }
                to[at].clone_from(v);
            }
        });
        Ok(y)
    })
}

fn col2im(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 3)?;
    let spec = WindowSpec::read(cx)?;
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let (image, block) = (shape(&inputs.ints(1)?)?, shape(&inputs.ints(2)?)?);
        let rank = image.len();
        let (strides, dilations, (before, after)) = (spec.strides(rank)?, spec.dilations(rank)?, spec.pads(rank)?);
        let size = count(&block)?;
        let steps: Option<Vec<usize>> = (0..rank.min(block.len()))
            .map(|d| {
                let reach = (block[d].checked_sub(1)?).checked_mul(dilations[d])?.checked_add(1)?;
                Some(image[d].checked_add(before[d] + after[d])?.checked_sub(reach)? / strides[d] + 1)
            })
            .collect();
        let (Some(steps), &[n, rows, columns]) = (steps, x.dims()) else {
            bail!(ShapeMismatch, "blocks of {block:?} for an image of {image:?} out of {x:?}");
        };
        if rank == 0 || block.len() != rank || size == 0 || rows % size != 0 || count(&steps)? != columns {
            bail!(ShapeMismatch, "{steps:?} blocks of {block:?} for an image of {image:?} out of {x:?}");
        }
        let fold = Fold { image, block, steps, strides, dilations, before };
        let mut dims = vec![n, rows / size];
        dims.extend(&fold.image);
        // Sums of integers wrap, in 64 bits as in any smaller type.
        let wide = match x.dtype() {
            t if t.is_integer() => DataType::Int64,
            t => computing(t, "Col2Im")?,
        };
        let data = cast(cx, x, wide, true)?;
        let mut y = Tensor::new(cx.pool, wide, dims)?;
        match wide {
            DataType::Float32 => fold.run::<f32>(cx, data.slice()?, y.slice_mut()?, |a, b| a + b),
            DataType::Float64 => fold.run::<f64>(cx, data.slice()?, y.slice_mut()?, |a, b| a + b),
            DataType::Int64 => fold.run::<i64>(cx, data.slice()?, y.slice_mut()?, i64::wrapping_add),
            other => return Err(refuse("Col2Im", other)),
        }
        cast(cx, &y, x.dtype(), true)
    })
}

/// Blocks over an image.
struct Fold {
    image: Vec<usize>,
    block: Vec<usize>,
    /// Blocks along each side.
    steps: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    before: Vec<usize>,
}

impl Fold {
    /// Adds all blocks of each channel into its image.
    fn run<T: Lane>(&self, cx: &Cx, columns: &[T], y: &mut [T], add: impl Fn(T, T) -> T + Sync) {
        let (plane, size): (usize, usize) = (self.image.iter().product(), self.block.iter().product());
        let blocks: usize = self.steps.iter().product();
        cx.threads.pieces(y, plane, columns.len() * 4, |channel, out| {
            out.fill(T::default());
            for k in 0..size {
                let row = &columns[(channel * size + k) * blocks..][..blocks];
                let inside = digits(k, &self.block);
                for (b, &v) in row.iter().enumerate() {
                    if let Some(at) = self.place(&digits(b, &self.steps), &inside) {
                        out[at] = add(out[at], v);
                    }
                }
            }
        });
    }

    /// Where an element of a block lies in the image; none in the padding.
    fn place(&self, block: &[usize], inside: &[usize]) -> Option<usize> {
        let mut at = 0;
        for d in 0..self.image.len() {
            let position = block[d] * self.strides[d] + inside[d] * self.dilations[d];
            let position = position.checked_sub(self.before[d]).filter(|p| *p < self.image[d])?;
            at = at * self.image[d] + position;
        }
        Some(at)
    }
}

/// A number's position in a space of these sizes.
fn digits(number: usize, sizes: &[usize]) -> Vec<usize> {
    let mut rest = number;
    let mut all: Vec<usize> = sizes
        .iter()
        .rev()
        .map(|&s| {
            let digit = rest % s;
            rest /= s;
            digit
        })
        .collect();
    all.reverse();
    all
}

fn det(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    tensor_kernel(|cx, inputs| {
        let x = inputs.tensor(0)?;
        let [lead @ .., n, columns] = x.dims() else { bail!(ShapeMismatch, "{x:?} is no matrix") };
        if n != columns {
            bail!(ShapeMismatch, "matrices of {n} rows and {columns} columns have no determinant");
        }
        let wide = computing(x.dtype(), "Det")?;
        let data = cast_float(cx, x, wide)?;
        let mut y = Tensor::new(cx.pool, wide, lead.to_vec())?;
        with_wide!(wide, F => {
            let from = data.slice::<F>()?;
            for (i, out) in y.slice_mut::<F>()?.iter_mut().enumerate() {
                // Elimination loses digits; FP64 keeps enough of them for either type.
                let mut matrix: Vec<f64> = from[i * n * n..(i + 1) * n * n].iter().map(|v| v.wide()).collect();
                *out = F::of(determinant(&mut matrix, *n));
            }
        });
        cast_float(cx, &y, x.dtype())
    })
}

/// The determinant, by elimination with the largest pivot of each column.
fn determinant(m: &mut [f64], n: usize) -> f64 {
    let mut product = 1.0;
    for c in 0..n {
        let pivot = (c..n).fold(c, |best, r| if m[r * n + c].abs() > m[best * n + c].abs() { r } else { best });
        if m[pivot * n + c] == 0.0 {
            return 0.0;
        }
        if pivot != c {
            (0..n).for_each(|k| m.swap(pivot * n + k, c * n + k));
            product = -product;
        }
        product *= m[c * n + c];
        for r in c + 1..n {
            let factor = m[r * n + c] / m[c * n + c];
            (c..n).for_each(|k| m[r * n + k] -= factor * m[c * n + k]);
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn determinants_follow_row_exchanges() {
        assert_eq!(determinant(&mut [0.0, 1.0, 1.0, 0.0], 2), -1.0);
        assert_eq!(determinant(&mut [2.0, 0.0, 1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 4.0], 3), 18.0);
        assert_eq!(determinant(&mut [1.0, 2.0, 2.0, 4.0], 2), 0.0);
        assert_eq!(determinant(&mut [], 0), 1.0);
    }
}
