//! FlexAttention: attention whose scores and weights pass through subgraphs of the model.

use super::core::{Heads, Operands, all_scores, all_weighed};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::lane::{FloatLane, refuse};
use crate::backend::cpu::ops::control::Subgraph;
use crate::backend::cpu::ops::softmax::softmax_last;
use crate::backend::cpu::ops::wide::computing;
use crate::backend::cpu::ops::{Built, Inputs, NodeCx, tensor_kernel};
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::DataType;
use crate::{Result, bail, with_float};

pub fn build(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 3)?;
    let scale = cx.opt_float("scale")?;
    let precision = cx.dtype("softmax_precision")?;
    if let Some(p) = precision {
        computing(p, "a softmax")?;
    }
    let body = |name: &str| -> Result<Option<Subgraph>> {
        if cx.node.attribute(name).is_none() {
            return Ok(None);
        }
        let body = Subgraph::find(cx, name)?;
        if body.inputs() != 1 || body.outputs() != 1 {
            bail!(
                InvalidModel,
                "its subgraph '{name}' has {} inputs and {} outputs, but must have one of each",
                body.inputs(),
                body.outputs()
            );
        }
        Ok(Some(body))
    };
    let (score_mod, prob_mod) = (body("score_mod")?, body("prob_mod")?);
    tensor_kernel(move |cx, inputs| {
        let (q, k, v) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        if k.dtype() != q.dtype() || v.dtype() != q.dtype() {
            bail!(TypeMismatch, "query {q:?}, key {k:?} and value {v:?} are of different types");
        }
        let precision = match precision {
            Some(p) => p,
            None => computing(q.dtype(), "FlexAttention")?,
        };
        // Scores are computed in the wider of the two types.
        let work = if precision == DataType::Float64 { precision } else { q.dtype() };
        let [q, k, v] = [cast_float(cx, q, work)?, cast_float(cx, k, work)?, cast_float(cx, v, work)?];
        let y = with_float!(work, T => {
            let heads = [Heads::of(&q, None, "the query")?, Heads::of(&k, None, "the key")?, Heads::of(&v, None, "the value")?];
            let scale = scale.map_or_else(|| 1.0 / (heads[0].width as f64).sqrt(), f64::from);
            let o = Operands::<T> {
                q: (q.slice()?, heads[0]),
                k: (k.slice()?, heads[1]),
                v: (v.slice()?, heads[2]),
                scale,
            };
            o.check()?;
            if q.is_empty() && heads[0].width > 0 || heads[2].width == 0 {
                let dims = vec![heads[0].batch, heads[0].heads, heads[0].rows, heads[2].width];
                return Tensor::new(cx.pool, inputs.tensor(0)?.dtype(), dims);
            }
            let scores = cast_float(cx, &all_scores(cx, &o)?, precision)?;
            let scores = modified(cx, inputs, score_mod.as_ref(), scores, "score_mod")?;
            let probabilities = modified(cx, inputs, prob_mod.as_ref(), softmax_last(cx, scores)?, "prob_mod")?;
            weighed::<T>(cx, &o, &probabilities)?
        }, else other => return Err(refuse("FlexAttention", other)));
        cast_float(cx, &y, inputs.tensor(0)?.dtype())
    })
}

/// What a subgraph makes of a tensor.
fn modified(cx: &Cx, inputs: &Inputs, body: Option<&Subgraph>, x: Tensor, name: &str) -> Result<Tensor> {
    let Some(body) = body else { return Ok(x) };
    let (dtype, dims) = (x.dtype(), x.dims().to_vec());
    let mut results = body.run(cx, vec![Val::Tensor(x)], &body.captured(inputs)?)?;
    let Some(y) = results.pop() else { bail!(Internal, "the subgraph '{name}' gave nothing") };
    let y = y.into_tensor()?;
    if y.dtype() != dtype || y.dims() != dims {
        bail!(ShapeMismatch, "its subgraph '{name}' gave {y:?} for {dtype} {dims:?}, but must keep type and shape");
    }
    Ok(y)
}

fn weighed<T: FloatLane>(cx: &Cx, o: &Operands<T>, probabilities: &Tensor) -> Result<Tensor> {
    let dims = [o.q.1.batch, o.q.1.heads, o.q.1.rows, o.v.1.width];
    let mut y = Tensor::new(cx.pool, T::DTYPE, dims.to_vec())?;
    let wide = cast_float(cx, probabilities, computing(T::DTYPE, "FlexAttention")?)?;
    all_weighed::<T::C, T>(cx, o, wide.slice()?, (y.slice_mut()?, &Heads::apart(dims)))?;
    Ok(y)
}
