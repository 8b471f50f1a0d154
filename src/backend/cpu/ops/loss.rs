//! NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss.

use super::node::integers;
use super::softmax::log_softmax;
use super::wide::{computing, same_widened, with_wide};
use super::{Built, Entry, NodeCx, entry, kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::rows::sum;
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::{Result, bail, err};

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("NegativeLogLikelihoodLoss", build), entry("SoftmaxCrossEntropyLoss", build)];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Reduction {
    None,
    Sum,
    Mean,
}

fn build(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 3)?;
    let softmax = &*cx.node.op_type == "SoftmaxCrossEntropyLoss";
    let ignored = cx.opt_int("ignore_index")?;
    let reduction = match cx.string("reduction", "mean")?.as_str() {
        "none" => Reduction::None,
        "sum" => Reduction::Sum,
        "mean" => Reduction::Mean,
        other => bail!(InvalidModel, "its attribute 'reduction' is '{other}', but must be none, sum or mean"),
    };
    let wants_logs = softmax && cx.wants(1);
    kernel(move |cx, inputs| {
        let (x, targets) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let (dtype, wide) = (x.dtype(), computing(x.dtype(), "a loss")?);
        let mut logs = cast_float(cx, x, wide)?;
        if softmax {
            logs = log_softmax(cx, logs, 1)?;
        }
        let weights = inputs.opt(2)?.map(|w| same_widened(cx, w, dtype, wide)).transpose()?;
        let loss = with_wide!(wide, F => losses::<F>(cx, &logs, targets, weights.as_ref(), ignored, reduction)?);
        let mut results = vec![Val::Tensor(cast_float(cx, &loss, dtype)?)];
        if wants_logs {
            results.push(Val::Tensor(cast_float(cx, &logs, dtype)?));
        }
        Ok(results)
    })
}

/// The loss of each target, or their sum or weighted mean, out of log-probabilities [N, C, ...].
fn losses<F: Float>(
    cx: &Cx,
    logs: &Tensor,
    targets: &Tensor,
    weights: Option<&Tensor>,
    ignored: Option<i64>,
    reduction: Reduction,
) -> Result<Tensor> {
    let fits = match *logs.dims() {
        [n, _, ref rest @ ..] => targets.dims().split_first() == Some((&n, rest)),
        _ => false,
    };
    if !fits {
        bail!(ShapeMismatch, "scores of shape {:?} and targets of shape {:?}", logs.dims(), targets.dims());
    }
    let classes = logs.dims()[1];
    if let Some(w) = weights
        && w.dims() != [classes]
    {
        bail!(ShapeMismatch, "weights of shape {:?}, but there are {classes} classes", w.dims());
    }
    let inner: usize = logs.dims()[2..].iter().product();
    let values = logs.slice::<F>()?;
    let weights = weights.map(|w| w.slice::<F>()).transpose()?;
    let list = integers(targets)?;
    let (mut losses, mut shares) = (Vec::with_capacity(list.len()), Vec::with_capacity(list.len()));
    for (i, &target) in list.iter().enumerate() {
        if Some(target) == ignored {
            losses.push(F::ZERO);
            shares.push(F::ZERO);
            continue;
        }
        let class = usize::try_from(target).ok().filter(|c| *c < classes).ok_or_else(|| {
            err!(Execution, "target {target} is not one of {classes} classes, nor the ignored one ({ignored:?})")
        })?;
        let share = weights.map_or(F::ONE, |w| w[class]);
        losses.push(-values[(i / inner * classes + class) * inner + i % inner] * share);
        shares.push(share);
    }
    let dtype = logs.dtype();
    match reduction {
        Reduction::None => Tensor::from_slice(cx.pool, dtype, targets.dims().to_vec(), &losses),
        Reduction::Sum => Tensor::from_slice(cx.pool, dtype, vec![], &[sum(&losses)]),
        Reduction::Mean => Tensor::from_slice(cx.pool, dtype, vec![], &[sum(&losses) / sum(&shares)]),
    }
}
