//! Attention and FlexAttention.

mod core;
mod flex;
mod mask;

use self::core::{Heads, Operands};
use self::mask::{Mask, Span};
use super::wide::{computing, same_widened};
use super::{Built, Entry, Inputs, NodeCx, entry, entry_in, kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::lane::{FloatLane, Lane, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::rows::weights;
use crate::backend::cpu::kernels::simd::vectorize;
use crate::backend::cpu::ops::layout::{concat, transpose};
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::DataType;
use crate::{Result, bail, err, with_float};

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("Attention", build), entry_in("ai.onnx.preview", "FlexAttention", flex::build)];

/// What the fourth output shows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shown {
    Raw,
    Capped,
    Masked,
    Weights,
}

#[derive(Debug, Clone)]
struct Attention {
    q_heads: Option<usize>,
    kv_heads: Option<usize>,
    scale: Option<f32>,
    softcap: f32,
    causal: bool,
    left: Option<i64>,
    right: Option<i64>,
    shown: Shown,
    /// The softmax is computed in FP64.
    double: bool,
    /// Outputs that the node names.
    wants: [bool; 4],
}

fn build(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 7)?;
    let heads = |name: &str| -> Result<Option<usize>> {
        let Some(n) = cx.opt_int(name)? else { return Ok(None) };
        usize::try_from(n).ok().filter(|n| *n > 0).map(Some).ok_or_else(|| err!(InvalidModel, "its '{name}' is {n}"))
    };
    let side = |name: &str| -> Result<Option<i64>> {
        match cx.int(name, -1)? {
            -1 => Ok(None),
            n if n >= 0 => Ok(Some(n)),
            n => bail!(InvalidModel, "its attribute '{name}' is {n}, but must be -1 or a number of positions"),
        }
    };
    let attention = Attention {
        q_heads: heads("q_num_heads")?,
        kv_heads: heads("kv_num_heads")?,
        scale: cx.opt_float("scale")?,
        softcap: cx.float("softcap", 0.0)?,
        causal: cx.flag("is_causal", false)?,
        left: side("left_window_size")?,
        right: side("right_window_size")?,
        shown: match cx.int("qk_matmul_output_mode", 0)? {
            0 => Shown::Raw,
            1 => Shown::Capped,
            2 => Shown::Masked,
            3 => Shown::Weights,
            other => bail!(InvalidModel, "its attribute 'qk_matmul_output_mode' is {other}, but must be 0 to 3"),
        },
        double: match cx.dtype("softmax_precision")? {
            None => false,
            Some(t) => computing(t, "a softmax")? == DataType::Float64,
        },
        wants: [0, 1, 2, 3].map(|i| cx.wants(i)),
    };
    kernel(move |cx, inputs| attention.run(cx, inputs))
}

/// A cache of keys or values, and what it grows by; one tensor [batch, heads, rows, width] where it must be.
fn grown(cx: &Cx, new: &Tensor, past: Option<&Tensor>, heads: Option<usize>, apart: bool) -> Result<Tensor> {
    let mut all = new.clone();
    if new.rank() == 3 && (apart || past.is_some()) {
        let h = Heads::of(new, heads, "key and value")?;
        all = transpose(cx, &all.reshaped(vec![h.batch, h.rows, h.heads, h.width])?, &[0, 2, 1, 3])?;
    }
    let Some(past) = past else { return Ok(all) };
    let fits = past.rank() == 4 && all.rank() == 4 && (0..4).all(|i| i == 2 || past.dims()[i] == all.dims()[i]);
    if !fits || past.dtype() != all.dtype() {
        bail!(ShapeMismatch, "a past {past:?} does not go with {all:?}");
    }
    concat(cx, &[past, &all], 2)
}

impl Attention {
    fn run(&self, cx: &Cx, inputs: &Inputs) -> Result<Vec<Val>> {
        let (q, k, v) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let (past_key, past_value) = (inputs.opt(4)?, inputs.opt(5)?);
        let valid = inputs.opt_ints(6)?;
        if q.rank() != k.rank() || q.rank() != v.rank() || past_key.is_some() != past_value.is_some() {
            bail!(ShapeMismatch, "query {q:?}, key {k:?}, value {v:?} and past {past_key:?}, {past_value:?}");
        }
        if valid.is_some() && past_key.is_some() {
            bail!(InvalidModel, "it has both a past and lengths of a cache outside");
        }
        let past = past_key.map_or(0, |p| p.dims().get(2).copied().unwrap_or(0));
        let keys = grown(cx, k, past_key, self.kv_heads, self.wants[1])?;
        let values = grown(cx, v, past_value, self.kv_heads, self.wants[2])?;
        // Values may be of another type than queries and keys; then all are computed with in one that holds both.
        let dtype = q.dtype();
        let work = match v.dtype() {
            t if t == dtype => t,
            DataType::Float64 => DataType::Float64,
            _ => computing(dtype, "Attention")?,
        };
        let (wq, wv) = (cast_float(cx, q, work)?, cast_float(cx, &values, work)?);
        let wk =
            if work == dtype && keys.dtype() == dtype { keys.clone() } else { same_widened(cx, &keys, dtype, work)? };
        let (y, seen) = with_float!(work, T => self.attend::<T>(cx, [&wq, &wk, &wv], inputs.opt(3)?, past, valid)?,
            else other => return Err(refuse("Attention", other)));
        let mut results = vec![Val::Tensor(cast_float(cx, &y, dtype)?), Val::Tensor(keys), Val::Tensor(values)];
        if let Some(seen) = seen {
            results.push(Val::Tensor(cast_float(cx, &seen, dtype)?));
        }
        Ok(results)
    }

    fn attend<T: FloatLane>(
        &self,
        cx: &Cx,
        [q, k, v]: [&Tensor; 3],
        mask: Option<&Tensor>,
        past: usize,
        valid: Option<Vec<i64>>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let joined = q.rank() == 3;
        let hq = Heads::of(q, self.q_heads, "the query")?;
        let (hk, hv) = (Heads::of(k, self.kv_heads, "the key")?, Heads::of(v, self.kv_heads, "the value")?);
        let scale = self.scale.map_or_else(|| 1.0 / (hq.width as f64).sqrt(), f64::from);
        let mut o = Operands { q: (q.slice::<T>()?, hq), k: (k.slice()?, hk), v: (v.slice()?, hv), scale };
        o.check()?;
        let over = [hq.batch, hq.heads, hq.rows, hk.rows];
        let dims = [hq.batch, hq.heads, hq.rows, hv.width];
        let (mut heads, dims) = match joined {
            true => (Heads::side_by_side(dims), vec![dims[0], dims[2], dims[1] * dims[3]]),
            false => (Heads::apart(dims), dims.to_vec()),
        };
        let mut y = Tensor::new(cx.pool, T::DTYPE, dims)?;
        let mut seen = self.wants[3].then(|| Tensor::new(cx.pool, T::DTYPE, over.to_vec())).transpose()?;
        if y.is_empty() && seen.as_ref().is_none_or(Tensor::is_empty) {
            return Ok((y, seen));
        }
        if valid.as_ref().is_some_and(|l| l.len() != hq.batch) {
            bail!(ShapeMismatch, "the lengths of the cache are {valid:?}, but the batch has {} samples", hq.batch);
        }
        let mask = mask.map(|m| Mask::new(cx, m, over, <T::C as Lane>::DTYPE)).transpose()?;
        let span = Span {
            offsets: match &valid {
                Some(lengths) => lengths.iter().map(|&n| n.saturating_sub(hq.rows as i64)).collect(),
                None => vec![past as i64; hq.batch],
            },
            causal: self.causal,
            left: self.left,
            right: self.right,
            valid,
            total: mask.as_ref().map_or(hk.rows, |m| m.width().min(hk.rows)),
        };
        let shown = seen.as_mut().map(|s| s.slice_mut::<T>()).transpose()?;
        let group = hq.heads / hk.heads.max(1);
        let together = hq.rows == 1 && group > 1;
        if together {
            (o.q.1, heads) = (hq.grouped(group), heads.grouped(group));
        }
        let step = |place: [usize; 3], row: &mut [T::C], shown: Option<&mut [T::C]>| {
            let place = if together { [place[0], place[1] * group + place[2], 0] } else { place };
            vectorize(|| self.row(&span, mask.as_ref(), place, row, shown));
        };
        core::attend(cx, &o, &step, (y.slice_mut::<T>()?, &heads), shown)?;
        Ok((y, seen))
    }

    /// From scores to weights.
    #[inline(always)]
    fn row<F: Float>(
        &self,
        span: &Span,
        mask: Option<&Mask>,
        place: [usize; 3],
        row: &mut [F],
        mut shown: Option<&mut [F]>,
    ) {
        let mut show = |at: Shown, row: &[F]| {
            if let Some(shown) = shown.as_deref_mut().filter(|_| at == self.shown) {
                shown.copy_from_slice(row);
            }
        };
        show(Shown::Raw, row);
        if self.softcap > 0.0 {
            let cap = F::of(self.softcap.into());
            row.iter_mut().for_each(|v| *v = (*v / cap).tanh() * cap);
        }
        show(Shown::Capped, row);
        let seen = span.range(place[0], place[2]);
        row[..seen.start].fill(F::LOWEST);
        row[seen.end..].fill(F::LOWEST);
        let some = match mask {
            Some(m) => m.apply(place, seen.start, &mut row[seen]),
            None => !seen.is_empty(),
        };
        show(Shown::Masked, row);
        match some {
            // A query that sees no key gets nothing.
            false => row.fill(F::ZERO),
            true if self.double => {
                let mut wide: Vec<f64> = row.iter().map(|v| v.wide()).collect();
                weights(&mut wide);
                row.iter_mut().zip(wide).for_each(|(v, w)| *v = F::of(w));
            }
            true => weights(row),
        }
        show(Shown::Weights, row);
    }
}
