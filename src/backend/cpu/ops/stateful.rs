//! Layers that carry a state from one call to the next: LinearAttention and CausalConvWithState.

use super::wide::{computing, same_widened, with_wide};
use super::{Built, Entry, Inputs, NodeCx, entry, kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::lane::Lane;
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::simd::vectorize;
use crate::backend::cpu::tensor::{Tensor, count};
use crate::backend::cpu::value::Val;
use crate::model::DataType::Float32;
use crate::{Result, bail, err};

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("LinearAttention", linear), entry("CausalConvWithState", causal_conv)];

#[derive(Debug, Clone, Copy)]
struct Linear {
    q_heads: usize,
    kv_heads: usize,
    scale: f32,
}

fn linear(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 6)?;
    let heads = |name: &str| -> Result<usize> {
        let n = cx.int(name, 0)?;
        usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| {
            err!(InvalidModel, "its attribute '{name}' is missing or {n}, but must be a number of heads")
        })
    };
    let (gated, delta) = match cx.string("update_rule", "gated_delta")?.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => bail!(
            InvalidModel,
            "its attribute 'update_rule' is '{other}', but must be linear, gated, delta or gated_delta"
        ),
    };
    let (q_heads, kv_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    if q_heads % kv_heads != 0 {
        bail!(InvalidModel, "{q_heads} heads of the query do not share {kv_heads} heads of the key evenly");
    }
    for (input, needed, what) in [(4, gated, "decay"), (5, delta, "beta")] {
        if cx.has_input(input) != needed {
            let verb = if needed { "needs" } else { "must not have" };
            bail!(InvalidModel, "its update rule {verb} the input '{what}'");
        }
    }
    let layer = Linear { q_heads, kv_heads, scale: cx.float("scale", 0.0)? };
    kernel(move |cx, inputs| layer.run(cx, inputs))
}

impl Linear {
    fn run(&self, cx: &Cx, inputs: &Inputs) -> Result<Vec<Val>> {
        let q = inputs.tensor(0)?;
        let dtype = q.dtype();
        let wide = |i: usize| -> Result<Option<Tensor>> {
            inputs.opt(i)?.map(|t| same_widened(cx, t, dtype, Float32)).transpose()
        };
        let need = |i: usize| wide(i)?.ok_or_else(|| err!(InvalidModel, "its input {i} is missing"));
        let (q, k, v) = (need(0)?, need(1)?, need(2)?);
        let (decay, beta) = (wide(4)?, wide(5)?);
        let past = inputs.opt(3)?;
        let state_dtype = past.map_or(dtype, Tensor::dtype);
        let past = past.map(|p| cast_float(cx, p, Float32)).transpose()?;
        let wrong = || {
            err!(
                ShapeMismatch,
                "query {q:?}, key {k:?}, value {v:?}, past {past:?}, decay {decay:?} and beta {beta:?} do not go \
                 together for {} and {} heads",
                self.q_heads,
                self.kv_heads
            )
        };
        let (&[b, t, wq], &[bk, tk, wk], &[bv, tv, wv]) = (q.dims(), k.dims(), v.dims()) else { return Err(wrong()) };
        let (keys, values, groups) = (wk / self.kv_heads, wv / self.kv_heads, self.q_heads / self.kv_heads);
        // The sizes of the state and of the output: no product below overflows, even where there are no samples.
        count(&[b, self.kv_heads, keys, values])?;
        count(&[b, t, self.q_heads, keys, 2])?;
        count(&[b, t, self.q_heads, values, 2])?;
        let last = |t: &Option<Tensor>, sizes: [usize; 2]| match t.as_ref().map(Tensor::dims) {
            None => Some(0),
            Some(&[bd, td, n]) if bd == b && td == tk && sizes.contains(&n) => Some(n),
            Some(_) => None,
        };
        let decays = last(&decay, [self.kv_heads, wk]).ok_or_else(wrong)?;
        let betas = last(&beta, [self.kv_heads, 1]).ok_or_else(wrong)?;
        let fits = [bk, bv] == [b, b] && [tk, tv] == [t, t] && wq == keys * self.q_heads;
        let whole = wk == keys * self.kv_heads && wv == values * self.kv_heads;
        let resumed = past.as_ref().is_none_or(|p| p.dims() == [b, self.kv_heads, keys, values]);
        if !fits || !whole || !resumed {
            return Err(wrong());
        }
        let scale = if self.scale == 0.0 { 1.0 / (keys as f32).sqrt() } else { self.scale };
        // One task has one head of one sample: its state, and behind it what it gives for each token and query head.
        let given = t * groups * values;
        let piece = keys * values + given;
        let mut all = Tensor::new(cx.pool, Float32, vec![b * self.kv_heads, piece])?;
        let (xq, xk, xv) = (q.slice::<f32>()?, k.slice::<f32>()?, v.slice::<f32>()?);
        let (gates, rates) = (
            decay.as_ref().map(|d| d.slice::<f32>()).transpose()?,
            beta.as_ref().map(|d| d.slice::<f32>()).transpose()?,
        );
        let start = past.as_ref().map(|p| p.slice::<f32>()).transpose()?;
        let work = b * self.kv_heads * t * keys * values * 4;
        cx.threads.pieces(all.slice_mut::<f32>()?, piece, work, |i, piece| {
            let (sample, head) = (i / self.kv_heads, i % self.kv_heads);
            let (state, out) = piece.split_at_mut(keys * values);
            match start {
                Some(s) => state.copy_from_slice(&s[i * keys * values..(i + 1) * keys * values]),
                None => state.fill(0.0),
            }
            let mut update = vec![0.0f32; values];
            for token in 0..t {
                let at = sample * t + token;
                let key = &xk[at * wk + head * keys..][..keys];
                if let Some(gates) = gates {
                    for d in 0..keys {
                        let g = if decays == self.kv_heads { head } else { head * keys + d };
                        let factor = gates[at * decays + g].exp();
                        state[d * values..(d + 1) * values].iter_mut().for_each(|s| *s *= factor);
                    }
                }
                update.copy_from_slice(&xv[at * wv + head * values..][..values]);
                if let Some(rates) = rates {
                    let rate = rates[at * betas + if betas == 1 { 0 } else { head }];
                    let mut held = vec![0.0f32; values];
                    add_rows(&mut held, state, key);
                    update.iter_mut().zip(&held).for_each(|(u, &h)| *u = rate * (*u - h));
                }
                for (row, &k) in state.chunks_exact_mut(values.max(1)).zip(key) {
                    vectorize(|| row.iter_mut().zip(&update).for_each(|(s, &u)| *s += k * u));
                }
                for g in 0..groups {
                    let query = &xq[at * wq + (head * groups + g) * keys..][..keys];
                    let out = &mut out[(token * groups + g) * values..][..values];
                    out.fill(0.0);
                    add_rows(out, state, query);
                    out.iter_mut().for_each(|o| *o *= scale);
                }
            }
        });
        let mut y = Tensor::new(cx.pool, Float32, vec![b, t, self.q_heads * values])?;
        let mut state = Tensor::new(cx.pool, Float32, vec![b, self.kv_heads, keys, values])?;
        let (to, kept) = (y.slice_mut::<f32>()?, state.slice_mut::<f32>()?);
        for (i, part) in all.slice::<f32>()?.chunks_exact(piece.max(1)).enumerate() {
            let (sample, head) = (i / self.kv_heads, i % self.kv_heads);
            let (state, out) = part.split_at(keys * values);
            kept[i * keys * values..(i + 1) * keys * values].copy_from_slice(state);
            let row = groups * values;
            for token in 0..t {
                to[((sample * t + token) * self.kv_heads + head) * row..][..row]
                    .copy_from_slice(&out[token * row..][..row]);
            }
        }
        Ok(vec![Val::Tensor(cast_float(cx, &y, dtype)?), Val::Tensor(cast_float(cx, &state, state_dtype)?)])
    }
}

/// Adds the rows of a matrix, each times its factor.
fn add_rows(out: &mut [f32], rows: &[f32], factors: &[f32]) {
    for (row, &f) in rows.chunks_exact(out.len().max(1)).zip(factors) {
        vectorize(|| out.iter_mut().zip(row).for_each(|(o, &r)| *o += f * r));
    }
}

fn causal_conv(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 4)?;
    let silu = match cx.string("activation", "none")?.as_str() {
        "none" => false,
        "silu" | "swish" => true,
        other => bail!(InvalidModel, "its attribute 'activation' is '{other}', but must be none, silu or swish"),
    };
    kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let (dtype, wide) = (x.dtype(), computing(x.dtype(), "CausalConvWithState")?);
        let widened = |t: &Tensor| same_widened(cx, t, dtype, wide);
        let (w, x) = (widened(inputs.tensor(1)?)?, widened(x)?);
        let (bias, past) = (inputs.opt(2)?.map(widened).transpose()?, inputs.opt(3)?.map(widened).transpose()?);
        let (y, state) = with_wide!(wide, F => convolve::<F>(cx, &x, &w, bias.as_ref(), past.as_ref(), silu))?;
        Ok(vec![Val::Tensor(cast_float(cx, &y, dtype)?), Val::Tensor(cast_float(cx, &state, dtype)?)])
    })
}

fn convolve<F: Float + Lane<C = F>>(
    cx: &Cx,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    past: Option<&Tensor>,
    silu: bool,
) -> Result<(Tensor, Tensor)> {
    let wrong =
        || err!(ShapeMismatch, "an input {x:?}, weights {w:?}, a bias {bias:?} and a past {past:?} do not go together");
    let (&[batch, channels, length], &[wc, 1, k]) = (x.dims(), w.dims()) else { return Err(wrong()) };
    let kept = k.saturating_sub(1);
    if wc != channels
        || k == 0
        || bias.is_some_and(|b| b.dims() != [channels])
        || past.is_some_and(|p| p.dims() != [batch, channels, kept])
    {
        return Err(wrong());
    }
    let (w, bias) = (w.slice::<F>()?, bias.map(|b| b.slice::<F>()).transpose()?);
    let (from, before) = (x.slice::<F>()?, past.map(|p| p.slice::<F>()).transpose()?);
    // What a channel was and is: the state, then the input.
    let line = |row: usize, to: &mut Vec<F>| {
        to.clear();
        match before {
            Some(b) => to.extend_from_slice(&b[row * kept..(row + 1) * kept]),
            None => to.resize(kept, F::ZERO),
        }
        to.extend_from_slice(&from[row * length..(row + 1) * length]);
    };
    let mut y = Tensor::new(cx.pool, x.dtype(), x.dims().to_vec())?;
    let mut state = Tensor::new(cx.pool, x.dtype(), vec![batch, channels, kept])?;
    let mut all = Vec::new();
    if kept > 0 {
        for (row, to) in state.slice_mut::<F>()?.chunks_exact_mut(kept).enumerate() {
            line(row, &mut all);
            to.copy_from_slice(&all[all.len() - kept..]);
        }
    }
    cx.threads.pieces(y.slice_mut::<F>()?, length, batch * channels * length * k, |row, out| {
        let mut all = Vec::new();
        line(row, &mut all);
        let c = row % channels;
        out.fill(bias.map_or(F::ZERO, |b| b[c]));
        for (j, &f) in w[c * k..(c + 1) * k].iter().enumerate() {
            vectorize(|| out.iter_mut().zip(&all[j..]).for_each(|(s, &v)| *s += f * v));
        }
        if silu {
            vectorize(|| out.iter_mut().for_each(|s| *s *= s.sigmoid()));
        }
    });
    Ok((y, state))
}
