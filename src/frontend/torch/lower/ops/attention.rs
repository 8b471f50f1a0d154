//! Attention: scaled dot products, the fused encoder fast paths, multi-head attention.

use super::super::emit::int;
use super::super::sym::SymInt;
use super::super::value::Value;
use super::super::{Bound, Lowering, Out};
use super::Entry;
use super::elementwise::{binary, not};
use super::linear::{linear_values, matmul};
use crate::model::DataType;
use crate::{Result, bail, err};

pub(super) const TABLE: &[Entry] = &[
    ("scaled_dot_product_attention", |l, b| Ok(Out::One(dot_product(l, b)?))),
    ("_scaled_dot_product_flash_attention_for_cpu", |l, b| {
        let v = dot_product(l, b)?;
        let unused = l.poison();
        let unused = l.current(&unused)?;
        Ok(Out::Many(vec![v, unused]))
    }),
    ("_scaled_dot_product_flash_attention", many),
    ("_scaled_dot_product_efficient_attention", many),
    ("_scaled_dot_product_attention_math", |l, b| {
        let v = dot_product(l, b)?;
        let unused = l.poison();
        let unused = l.current(&unused)?;
        Ok(Out::Many(vec![v, unused]))
    }),
    ("_native_multi_head_attention", native_attention),
    ("_transformer_encoder_layer_fwd", encoder_layer),
];

fn many(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let v = dot_product(l, b)?;
    let unused = l.poison();
    let unused = l.current(&unused)?;
    let mut out = vec![v];
    out.resize(9, unused);
    Ok(Out::Many(out))
}

struct Parts {
    query: Value,
    key: Value,
    value: Value,
    mask: Option<Value>,
    causal: bool,
    scale: f64,
}

fn dot_product(l: &mut Lowering, b: &Bound) -> Result<Value> {
    let (query, mut key, mut value) = (b.tensor("query")?, b.tensor("key")?, b.tensor("value")?);
    if b.opt_float("dropout_p")?.unwrap_or(0.0) > 0.0 {
        bail!(Unsupported, "it has dropout; call eval() on the model before saving it");
    }
    let width = query.shape.last().cloned().unwrap_or(SymInt::Known(1));
    let scale = match (b.opt_float("scale")?, width.known()) {
        (Some(s), _) => s,
        (None, Some(n)) => 1.0 / (n as f64).sqrt(),
        _ => bail!(Unsupported, "attention over heads of symbolic size has no lowering"),
    };
    // Grouped queries: each key and value serves several heads.
    let heads = |v: &Value| v.rank().checked_sub(3).and_then(|i| v.shape.get(i)?.known());
    if let (Some(q), Some(k)) = (heads(&query), heads(&key))
        && q != k
        && k > 1
        && b.bool("enable_gqa")?
    {
        key = repeat_heads(l, &key, q / k)?;
        value = repeat_heads(l, &value, q / k)?;
    }
    let mask = b.opt("attn_mask").or_else(|| b.opt("attn_bias"));
    attend(l, Parts { query, key, value, mask, causal: b.bool("is_causal")?, scale })
}

/// Each head `times` times in a row.
fn repeat_heads(l: &mut Lowering, x: &Value, times: i64) -> Result<Value> {
    let at = x.rank() - 3;
    let v = l.unsqueeze(x, &[at as i64 + 1])?;
    let mut wide = v.shape.clone();
    wide[at + 1] = SymInt::Known(times);
    let v = l.expand_to(&v, &wide)?;
    let mut shape = x.shape.clone();
    shape[at] = shape[at].times(&SymInt::Known(times));
    l.reshape(&v, &shape)
}

/// `softmax(query @ key.T * scale + mask) @ value`.
fn attend(l: &mut Lowering, p: Parts) -> Result<Value> {
    let dtype = p.query.dtype;
    let scale = l.scalar(p.scale, dtype);
    let query = binary(l, "Mul", &p.query, &scale, dtype)?;
    let key = l.swap_last(&p.key)?;
    let mut scores = matmul(l, &query, &key)?;
    let rank = scores.rank();
    let mut hidden = None;
    if p.causal {
        let (rows, columns) = (scores.shape[rank - 2].clone(), scores.shape[rank - 1].clone());
        let all = l.filled(1.0, DataType::Bool, &[rows.clone(), columns.clone()])?;
        let all = l.cast(&all, DataType::Int32)?;
        let zero = l.scalar(0.0, DataType::Int64);
        let seen = l.node("Trilu", &[&all, &zero], vec![int("upper", 0)], DataType::Int32, vec![rows, columns])?;
        let seen = l.cast(&seen, DataType::Bool)?;
        hidden = Some(not(l, &seen)?);
    }
    if let Some(mask) = &p.mask {
        if mask.dtype == DataType::Bool {
            let masked = not(l, mask)?;
            hidden = Some(match hidden {
                Some(h) => binary(l, "Or", &h, &masked, DataType::Bool)?,
                None => masked,
            });
        } else {
            let mask = l.cast(mask, dtype)?;
            scores = binary(l, "Add", &scores, &mask, dtype)?;
        }
    }
    let boolean = p.mask.as_ref().is_some_and(|m| m.dtype == DataType::Bool);
    if let Some(h) = &hidden {
        let low = l.scalar(f64::NEG_INFINITY, dtype);
        scores = l.node("Where", &[h, &low, &scores], vec![], dtype, scores.shape.clone())?;
    }
    let mut weights = l.node("Softmax", &[&scores], vec![int("axis", rank as i64 - 1)], dtype, scores.shape.clone())?;
    if boolean {
        // A row that sees nothing attends to nothing, where a plain softmax would give NaN.
        let nan = l.node("IsNaN", &[&weights], vec![], DataType::Bool, weights.shape.clone())?;
        let zero = l.scalar(0.0, dtype);
        weights = l.node("Where", &[&nan, &zero, &weights], vec![], dtype, weights.shape.clone())?;
    }
    matmul(l, &weights, &p.value)
}

/// Projections of one packed weight, attention over `heads` heads, and the projection out.
#[allow(clippy::too_many_arguments)]
fn heads_attention(
    l: &mut Lowering,
    x: [&Value; 3],
    heads: i64,
    packed: (&Value, &Value),
    out: (&Value, &Value),
    mask: Option<Value>,
) -> Result<Value> {
    let width = x[0].shape.get(2).cloned().ok_or_else(|| err!(ShapeMismatch, "attention needs 3 dimensions"))?;
    let each = width.floor_div(&SymInt::Known(heads)).ok_or_else(|| err!(ShapeMismatch, "no heads"))?;
    let head_size = each.known().ok_or_else(|| err!(Unsupported, "heads of symbolic size have no lowering"))?;
    let mut split = Vec::new();
    for (i, v) in x.into_iter().enumerate() {
        let (from, to) = (width.times(&SymInt::Known(i as i64)), width.times(&SymInt::Known(i as i64 + 1)));
        let w = l.slice(packed.0, 0, &from, &to, 1)?;
        let bias = l.slice(packed.1, 0, &from, &to, 1)?;
        let p = linear_values(l, v, &w, Some(&bias))?;
        let shape = [v.shape[0].clone(), v.shape[1].clone(), SymInt::Known(heads), each.clone()];
        let p = l.reshape(&p, &shape)?;
        split.push(l.transpose(&p, &[0, 2, 1, 3])?);
    }
    let parts = Parts {
        query: split[0].clone(),
        key: split[1].clone(),
        value: split[2].clone(),
        mask,
        causal: false,
        scale: 1.0 / (head_size as f64).sqrt(),
    };
    let v = attend(l, parts)?;
    let v = l.transpose(&v, &[0, 2, 1, 3])?;
    let v = l.reshape(&v, &x[0].shape)?;
    linear_values(l, &v, out.0, Some(out.1))
}

/// The fast path's mask (true hides) as one that broadcasts over [batch, heads, rows, columns] and is true for what is seen.
fn seen_mask(l: &mut Lowering, mask: Option<Value>, kind: Option<i64>) -> Result<Option<Value>> {
    let Some(mask) = mask else { return Ok(None) };
    let mask = match (kind, mask.rank()) {
        // A padding mask: [batch, columns].
        (Some(1), 2) => l.unsqueeze(&mask, &[1, 2])?,
        (_, 3) => l.unsqueeze(&mask, &[1])?,
        _ => mask,
    };
    if mask.dtype == DataType::Bool { not(l, &mask).map(Some) } else { Ok(Some(mask)) }
}

fn native_attention(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (q, k, v) = (b.tensor("query")?, b.tensor("key")?, b.tensor("value")?);
    let (w, bias) = (b.tensor("qkv_weight")?, b.tensor("qkv_bias")?);
    let (pw, pb) = (b.tensor("proj_weight")?, b.tensor("proj_bias")?);
    let mask = seen_mask(l, b.opt("mask"), b.opt_int("mask_type")?)?;
    let r = heads_attention(l, [&q, &k, &v], b.int("num_head")?, (&w, &bias), (&pw, &pb), mask)?;
    let unused = l.poison();
    let unused = l.current(&unused)?;
    Ok(Out::Many(vec![r, unused]))
}

fn encoder_layer(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let x = b.tensor("src")?;
    let (w, bias) = (b.tensor("qkv_weight")?, b.tensor("qkv_bias")?);
    let (pw, pb) = (b.tensor("proj_weight")?, b.tensor("proj_bias")?);
    let mask = seen_mask(l, b.opt("mask"), b.opt_int("mask_type")?)?;
    let first = b.bool("norm_first")?;
    let eps = b.float("eps")?;
    let norm = |l: &mut Lowering, v: &Value, n: i64| -> Result<Value> {
        let (w, bias) = (b.tensor(&format!("norm_weight_{n}"))?, b.tensor(&format!("norm_bias_{n}"))?);
        let attributes = vec![int("axis", -1), super::super::emit::float("epsilon", eps)];
        l.node("LayerNormalization", &[v, &w, &bias], attributes, v.dtype, v.shape.clone())
    };
    let heads = b.int("num_heads")?;
    let inner = if first { norm(l, &x, 1)? } else { x.clone() };
    let attended = heads_attention(l, [&inner, &inner, &inner], heads, (&w, &bias), (&pw, &pb), mask)?;
    let mut v = binary(l, "Add", &x, &attended, x.dtype)?;
    if !first {
        v = norm(l, &v, 1)?;
    }
    let inner = if first { norm(l, &v, 2)? } else { v.clone() };
    let (w1, b1) = (b.tensor("ffn_weight_1")?, b.tensor("ffn_bias_1")?);
    let (w2, b2) = (b.tensor("ffn_weight_2")?, b.tensor("ffn_bias_2")?);
    let h = linear_values(l, &inner, &w1, Some(&b1))?;
    let op = if b.bool("use_gelu")? { "Gelu" } else { "Relu" };
    let h = l.node(op, &[&h], vec![], h.dtype, h.shape.clone())?;
    let h = linear_values(l, &h, &w2, Some(&b2))?;
    v = binary(l, "Add", &v, &h, x.dtype)?;
    if !first {
        v = norm(l, &v, 2)?;
    }
    Ok(Out::One(v))
}
