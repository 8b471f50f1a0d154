//! Products and convolutions of quantized tensors. Zero points are subtracted first; the sums are taken in FP64, where
//! products of 8-bit values are exact for every depth that fits in memory, by the kernels that floats use.

use super::cast::cast;
use super::conv::{convolve, groups};
use super::matmul;
use super::quantize::store;
use super::window::WindowSpec;
use super::{Built, Entry, Inputs, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::{Zip, apply, zip};
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType::{self, Float32, Float64, Int32, Int64};
use crate::{Result, bail};

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("MatMulInteger", build_matmul_integer),
    entry("QLinearMatMul", build_matmul),
    entry("ConvInteger", build_conv_integer),
    entry("QLinearConv", build_conv),
];

const SUBTRACT: Zip<f64, f64> = |a, b, o| apply(a, b, o, |a, b| a - b);
const MULTIPLY: Zip<f64, f64> = |a, b, o| apply(a, b, o, |a, b| a * b);
const ADD: Zip<f64, f64> = |a, b, o| apply(a, b, o, |a, b| a + b);

/// Where a list of scales or zero points lies.
#[derive(Clone, Copy)]
enum Along {
    /// The rows of the last two dimensions.
    Rows,
    /// The last dimension.
    Columns,
    /// The first dimension of a tensor of this rank.
    First(usize),
    /// The second dimension of a tensor of this rank.
    Second(usize),
}

/// Scales or zero points in FP64, in a shape that broadcasts.
fn parameter(cx: &Cx, t: &Tensor, along: Along) -> Result<Tensor> {
    let n = t.len();
    let t = cast(cx, t, Float64, true)?;
    if n == 1 {
        return t.reshaped(vec![]);
    }
    if t.rank() != 1 {
        return Ok(t);
    }
    let mut dims = match along {
        Along::Rows => vec![n, 1],
        Along::Columns => vec![n],
        Along::First(rank) => vec![1; rank.max(1)],
        Along::Second(rank) => vec![1; rank.max(2)],
    };
    match along {
        Along::First(_) => dims[0] = n,
        Along::Second(_) => dims[1] = n,
        _ => {}
    }
    t.reshaped(dims)
}

/// A quantized tensor less its zero point.
fn centred(cx: &Cx, x: &Tensor, zero: Option<&Tensor>, along: Along) -> Result<Tensor> {
    let wide = cast(cx, x, Float64, true)?;
    let Some(zero) = zero else { return Ok(wide) };
    if zero.dtype() != x.dtype() {
        bail!(TypeMismatch, "the tensor {x:?} and its zero point {zero:?} must be of one type");
    }
    let y = zip::<f64>(cx, wide, parameter(cx, zero, along)?, SUBTRACT)?;
    if y.dims() != x.dims() {
        bail!(ShapeMismatch, "zero points of shape {:?} do not go with a tensor of shape {:?}", zero.dims(), x.dims());
    }
    Ok(y)
}

/// Sums as 32-bit integers, which wrap as sums in 32 bits would.
fn integers(cx: &Cx, sums: &Tensor) -> Result<Tensor> {
    cast(cx, &cast(cx, sums, Int64, true)?, Int32, true)
}

/// `sums * (a's scale * b's scale / y's scale) + y's zero point` in the output's type. The scale is computed in FP32.
fn rescaled(cx: &Cx, sums: Tensor, [a, b, y]: [Tensor; 3], zero: Option<&Tensor>, default: DataType) -> Result<Tensor> {
    if y.len() != 1 || zero.is_some_and(|z| z.len() != 1) {
        bail!(Unsupported, "an output with more than one scale or zero point");
    }
    let dims = sums.dims().to_vec();
    let narrow = |t: Tensor| -> Result<Tensor> { cast(cx, &cast(cx, &t, Float32, true)?, Float64, true) };
    let factor = narrow(zip::<f64>(cx, a, b, MULTIPLY)?)?;
    let factor = narrow(zip::<f64>(cx, factor, y, |a, b, o| apply(a, b, o, |a, b| a / b))?)?;
    let mut result = zip::<f64>(cx, sums, factor, MULTIPLY)?;
    if result.dims() != dims {
        bail!(ShapeMismatch, "the scales do not go with an output of shape {dims:?}");
    }
    let to = zero.map_or(default, Tensor::dtype);
    if let Some(zero) = zero {
        if to.is_integer() {
            result.slice_mut::<f64>()?.iter_mut().for_each(|v| *v = v.round_ties_even());
        }
        let zero = cast(cx, zero, Float64, true)?.reshaped(vec![])?;
        result = zip::<f64>(cx, result, zero, ADD)?;
    }
    store(cx, result, to, true)
}

fn build_matmul_integer(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 4)?;
    tensor_kernel(|cx, inputs| {
        let a = centred(cx, inputs.tensor(0)?, inputs.opt(2)?, Along::Rows)?;
        let b = centred(cx, inputs.tensor(1)?, inputs.opt(3)?, Along::Columns)?;
        integers(cx, &matmul::multiply(cx, &a, &b)?)
    })
}

fn build_matmul(cx: &NodeCx) -> Built {
    cx.check_inputs(8, 8)?;
    tensor_kernel(|cx, inputs| {
        let default = inputs.tensor(0)?.dtype();
        let a = centred(cx, inputs.tensor(0)?, inputs.opt(2)?, Along::Rows)?;
        let b = centred(cx, inputs.tensor(3)?, inputs.opt(5)?, Along::Columns)?;
        let scales = [
            parameter(cx, inputs.tensor(1)?, Along::Rows)?,
            parameter(cx, inputs.tensor(4)?, Along::Columns)?,
            parameter(cx, inputs.tensor(6)?, Along::Rows)?,
        ];
        rescaled(cx, matmul::multiply(cx, &a, &b)?, scales, inputs.opt(7)?, default)
    })
}

/// The sums of a convolution; the inputs' places of x, its zero point, w and its zero point.
fn sums(
    cx: &Cx,
    spec: &WindowSpec,
    group: usize,
    inputs: &Inputs,
    [x, xz, w, wz]: [usize; 4],
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let rank = inputs.tensor(w)?.rank();
    let x = centred(cx, inputs.tensor(x)?, inputs.opt(xz)?, Along::First(rank))?;
    let w = centred(cx, inputs.tensor(w)?, inputs.opt(wz)?, Along::First(rank))?;
    let bias = bias.map(|b| cast(cx, b, Float64, true)).transpose()?;
    convolve(cx, spec, group, &x, &w, bias.as_ref())
}

fn build_conv_integer(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 4)?;
    let (spec, group) = (WindowSpec::read(cx)?, groups(cx)?);
    tensor_kernel(move |cx, inputs| integers(cx, &sums(cx, &spec, group, inputs, [0, 2, 1, 3], None)?))
}

fn build_conv(cx: &NodeCx) -> Built {
    cx.check_inputs(8, 9)?;
    let (spec, group) = (WindowSpec::read(cx)?, groups(cx)?);
    tensor_kernel(move |cx, inputs| {
        let default = inputs.tensor(0)?.dtype();
        let sums = sums(cx, &spec, group, inputs, [0, 2, 3, 5], inputs.opt(8)?)?;
        let channels = Along::Second(sums.rank());
        let scales = [
            parameter(cx, inputs.tensor(1)?, channels)?,
            parameter(cx, inputs.tensor(4)?, channels)?,
            parameter(cx, inputs.tensor(6)?, channels)?,
        ];
        rescaled(cx, sums, scales, inputs.opt(7)?, default)
    })
}
