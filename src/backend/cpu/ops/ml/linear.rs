//! Operators that compute features from the features of a row: scaling, normalization, linear regression.

use super::super::cast::cast;
use super::super::{Built, NodeCx, kernel, tensor_kernel};
use super::classes::Classes;
use super::post::Post;
use super::tree_node::check_len;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType::{Float32, Float64};
use crate::{Result, bail, err};

/// A tensor of any number type in FP64, with its rows: all but the last dimension counts as rows.
fn rows(cx: &Cx, x: &Tensor) -> Result<(Tensor, usize)> {
    let width = *x.dims().last().ok_or_else(|| err!(ShapeMismatch, "its input {x:?} has no features"))?;
    let mut wide = cast(cx, x, Float64, true)?;
    if !wide.is_unique() {
        wide = Tensor::from_slice(cx.pool, Float64, x.dims().to_vec(), wide.slice::<f64>()?)?;
    }
    Ok((wide, width))
}

/// A list with one entry for each feature, or one for all.
fn per_feature(list: &[f32], width: usize, name: &str) -> Result<Vec<f64>> {
    match list {
        [one] => Ok(vec![f64::from(*one); width]),
        _ if width == 0 => Ok(vec![]),
        all if all.len() == width => Ok(all.iter().map(|&v| v.into()).collect()),
        all => bail!(ShapeMismatch, "its attribute '{name}' has {} entries for {width} features", all.len()),
    }
}

pub fn scaler(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let offset = cx.floats("offset")?.unwrap_or_else(|| vec![0.0]);
    let scale = cx.floats("scale")?.unwrap_or_else(|| vec![1.0]);
    tensor_kernel(move |cx, inputs| {
        let (mut x, width) = rows(cx, inputs.tensor(0)?)?;
        // Without rows, the width may be any number.
        let width = if x.is_empty() { 0 } else { width };
        let (offset, scale) = (per_feature(&offset, width, "offset")?, per_feature(&scale, width, "scale")?);
        for row in x.slice_mut::<f64>()?.chunks_exact_mut(width.max(1)) {
            row.iter_mut().zip(offset.iter().zip(&scale)).for_each(|(v, (o, s))| *v = (*v - o) * s);
        }
        cast(cx, &x, Float32, true)
    })
}

pub fn normalizer(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let norm: fn(&[f64]) -> f64 = match cx.string("norm", "MAX")?.as_str() {
        "MAX" => |row| row.iter().fold(0.0, |m, v| m.max(v.abs())),
        "L1" => |row| row.iter().map(|v| v.abs()).sum(),
        "L2" => |row| row.iter().map(|v| v * v).sum::<f64>().sqrt(),
        other => bail!(InvalidModel, "its attribute 'norm' is '{other}', but must be MAX, L1 or L2"),
    };
    tensor_kernel(move |cx, inputs| {
        let (mut x, width) = rows(cx, inputs.tensor(0)?)?;
        for row in x.slice_mut::<f64>()?.chunks_exact_mut(width.max(1)) {
            let divisor = norm(row);
            if divisor != 0.0 {
                row.iter_mut().for_each(|v| *v /= divisor);
            }
        }
        cast(cx, &x, Float32, true)
    })
}

/// Products with coefficients, [targets, features], and what is added to them.
struct Linear {
    targets: usize,
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
}

impl Linear {
    fn new(cx: &NodeCx, targets: usize) -> Result<Linear> {
        let intercepts = cx.floats("intercepts")?.unwrap_or_default();
        if !intercepts.is_empty() {
            check_len("intercepts", intercepts.len(), targets)?;
        }
        Ok(Linear { targets, coefficients: cx.floats("coefficients")?.unwrap_or_default(), intercepts })
    }

    /// The sums of all rows, in FP64.
    fn apply(&self, cx: &Cx, x: &Tensor) -> Result<Tensor> {
        let (x, width) = rows(cx, if x.rank() == 2 { x } else { bail!(ShapeMismatch, "{x:?} is no matrix") })?;
        let (n, targets) = (self.coefficients.len(), self.targets);
        if width == 0 || width.checked_mul(targets) != Some(n) {
            bail!(ShapeMismatch, "{n} coefficients do not go with {targets} targets of {width} features");
        }
        let mut y = Tensor::new(cx.pool, Float64, vec![x.dims()[0], targets])?;
        let out = y.slice_mut::<f64>()?.chunks_exact_mut(targets);
        for (row, out) in x.slice::<f64>()?.chunks_exact(width).zip(out) {
            for (i, (o, weights)) in out.iter_mut().zip(self.coefficients.chunks_exact(width)).enumerate() {
                let start = self.intercepts.get(i).copied().unwrap_or(0.0);
                *o = f64::from(start) + row.iter().zip(weights).map(|(x, &w)| x * f64::from(w)).sum::<f64>();
            }
        }
        Ok(y)
    }
}

pub fn regressor(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let targets = usize::try_from(cx.int("targets", 1)?).ok().filter(|t| *t > 0);
    let targets = targets.ok_or_else(|| err!(InvalidModel, "its attribute 'targets' must be a positive number"))?;
    let linear = Linear::new(cx, targets)?;
    let post = Post::from_name(&cx.string("post_transform", "NONE")?)?;
    tensor_kernel(move |cx, inputs| {
        let mut y = linear.apply(cx, inputs.tensor(0)?)?;
        y.slice_mut::<f64>()?.chunks_exact_mut(targets).for_each(|row| post.apply(row));
        cast(cx, &y, Float32, true)
    })
}

pub fn classifier(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let classes = Classes::read(cx, "classlabels_ints")?;
    let n = classes.len();
    // Two classes may share one set of coefficients: the first class has the second's score with the other sign.
    let given = cx.floats("intercepts")?.map_or(n, |i| i.len());
    let pair = n == 2 && given == 1;
    if n < 2 {
        bail!(Unsupported, "LinearClassifier with {n} classes");
    }
    let linear = Linear::new(cx, if pair { 1 } else { n })?;
    let post = Post::from_name(&cx.string("post_transform", "NONE")?)?;
    if pair && post != Post::Logistic {
        bail!(Unsupported, "LinearClassifier with two classes, one set of coefficients, and post_transform {post:?}");
    }
    kernel(move |cx, inputs| {
        let mut y = linear.apply(cx, inputs.tensor(0)?)?;
        if pair {
            let both: Vec<f64> = y.slice::<f64>()?.iter().flat_map(|&v| [-v, v]).collect();
            y = Tensor::from_slice(cx.pool, Float64, vec![y.dims()[0], 2], &both)?;
        }
        classes.choose(cx, y, post)
    })
}
