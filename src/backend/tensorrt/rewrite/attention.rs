//! Attention as matrix products and a softmax, where it has no cache.

use super::activations::int;
use super::place::{Place, first_output, input, needed, output};
use crate::model::{AttributeValue, DataType, Dim, Name, Node};

type Done = Result<(), String>;

/// What a score becomes so that the softmax gives nothing to it: within half's range.
const MASKED: f64 = -60_000.0;

/// Attributes whose meaning is in the older form, or that say nothing there.
const KNOWN: &[&str] =
    &["is_causal", "kv_num_heads", "q_num_heads", "qk_matmul_output_mode", "scale", "softcap", "softmax_precision"];

/// Attention, as its function body does it: both factors are scaled before their product, which keeps it small.
pub(super) fn attention(node: &Node, p: &mut Place) -> Done {
    refuse(node, p)?;
    let [q, k, v] = [0, 1, 2].map(|i| needed(node, i));
    let (q, k, v, result) = (q?, k?, v?, first_output(node)?);
    let dtype = p.known_dtype(&q)?;
    let heads = heads(node, p, &q, &k)?;
    let last = p.shape(&q).and_then(|s| s.last().and_then(Dim::size));
    let scale = match (node.float("scale"), last) {
        (Some(scale), _) => f64::from(scale),
        (None, Some(size)) => 1.0 / (size as f64 / heads.unwrap_or(1) as f64).sqrt(),
        (None, None) => return Err(format!("the size of a head is not known: state the last dimension of '{q}'")),
    };
    let root = p.float("_scale", scale.sqrt(), dtype)?;
    let (q4, k4, v4) = match heads {
        Some(n) => (by_heads(p, &q, n, "_q"), by_heads(p, &k, n, "_k"), by_heads(p, &v, n, "_v")),
        None => (q.clone(), k.clone(), v.clone()),
    };
    let scaled_q = p.op("Mul", "_scaled_q", &[&q4, &root], &[]);
    let turned = p.op("Transpose", "_turned", &[&k4], &[("perm", AttributeValue::Ints(vec![0, 1, 3, 2]))]);
    let scaled_k = p.op("Mul", "_scaled_k", &[&turned, &root], &[]);
    let mut scores = p.op("MatMul", "_scores", &[&scaled_q, &scaled_k], &[]);
    let mut allowed = None;
    if let Some(mask) = input(node, 3) {
        match p.known_dtype(mask)? {
            DataType::Bool => allowed = Some(mask.clone()),
            _ => scores = p.op("Add", "_masked", &[&scores, mask], &[]),
        }
    }
    let by_mask = allowed.is_some();
    if node.int("is_causal").unwrap_or(0) != 0 {
        let earlier = earlier(p, &q4, &k4);
        allowed = Some(match allowed {
            Some(mask) => p.op("And", "_allowed", &[&mask, &earlier], &[]),
            None => earlier,
        });
    }
    if let Some(allowed) = &allowed {
        let less = p.float("_less", MASKED, dtype)?;
        scores = p.op("Where", "_chosen", &[allowed, &scores, &less], &[]);
    }
    let mut weights = p.op("Softmax", "_weights", &[&scores], &[("axis", int(-1))]);
    if let Some(allowed) = allowed.filter(|_| by_mask) {
        // A query that may look at no key at all gets zeros.
        let nothing = p.float("_nothing", 0.0, dtype)?;
        weights = p.op("Where", "_kept", &[&allowed, &weights, &nothing], &[]);
    }
    if heads.is_none() {
        p.op_to("MatMul", &result, &[&weights, &v4], &[]);
        return Ok(());
    }
    let mixed = p.op("MatMul", "_mixed", &[&weights, &v4], &[]);
    let back = p.op("Transpose", "_back", &[&mixed], &[("perm", AttributeValue::Ints(vec![0, 2, 1, 3]))]);
    let shape = p.ints("_joined", vec![0, 0, -1]);
    p.op_to("Reshape", &result, &[&back, &shape], &[]);
    Ok(())
}

fn refuse(node: &Node, p: &Place) -> Done {
    for (i, name) in [(4, "past_key"), (5, "past_value"), (6, "nonpad_kv_seqlen")] {
        if input(node, i).is_some() {
            return Err(format!("it has the input '{name}', whose older form is not made here"));
        }
    }
    for i in 1..4 {
        if output(node, i).is_some_and(|o| p.is_read(o)) {
            return Err(format!("its output {i} is read, whose older form is not made here"));
        }
    }
    if let Some(other) = node.attributes.iter().find(|a| !KNOWN.contains(&&*a.name)) {
        return Err(format!("its attribute '{}' has no older form here", other.name));
    }
    if node.float("softcap").is_some_and(|c| c != 0.0) {
        return Err("its attribute 'softcap' has no older form here".into());
    }
    Ok(())
}

/// The number of heads of inputs that have all heads in one dimension; `None` where heads are a dimension of their own.
fn heads(node: &Node, p: &Place, q: &Name, k: &Name) -> Result<Option<i64>, String> {
    let rank = p.shape(q).map(|s| s.len());
    let (of_q, of_k) = (node.int("q_num_heads"), node.int("kv_num_heads"));
    let other = "queries and keys have different numbers of heads, whose older form is not made here";
    match (rank, of_q, of_k) {
        (Some(4), ..) | (None, None, None) => {
            let dim = |name: &Name| p.shape(name).and_then(|s| s.get(1).cloned());
            match (dim(q), dim(k)) {
                (Some(a), Some(b)) if a.size().is_some() && a.size() != b.size() => Err(other.into()),
                _ => Ok(None),
            }
        }
        (_, Some(a), Some(b)) if a != b => Err(other.into()),
        (_, Some(n), _) if n > 0 => Ok(Some(n)),
        _ => Err("its attribute 'q_num_heads' is missing: correct the model".into()),
    }
}

/// [batch, length, heads * size] as [batch, heads, length, size].
fn by_heads(p: &mut Place, x: &Name, heads: i64, suffix: &str) -> Name {
    let shape = p.ints(&format!("{suffix}_shape"), vec![0, 0, heads, -1]);
    let split = p.op("Reshape", &format!("{suffix}_split"), &[x, &shape], &[]);
    p.op("Transpose", suffix, &[&split], &[("perm", AttributeValue::Ints(vec![0, 2, 1, 3]))])
}

/// True where a key does not come after the query.
fn earlier(p: &mut Place, q: &Name, k: &Name) -> Name {
    let (zero, one) = (p.int("_zero", 0), p.int("_one", 1));
    let at = p.int("_at", 2);
    let mut places = |value: &Name, side: &str, axis: i64| {
        let shape = p.op("Shape", &format!("{side}_shape"), &[value], &[]);
        let length = p.op("Gather", &format!("{side}_length"), &[&shape, &at], &[("axis", int(0))]);
        let range = p.op("Range", &format!("{side}_range"), &[&zero, &length, &one], &[]);
        let axes = p.ints(&format!("{side}_axes"), vec![axis]);
        p.op("Unsqueeze", &format!("{side}_places"), &[&range, &axes], &[])
    };
    let (rows, columns) = (places(q, "_rows", 1), places(k, "_columns", 0));
    p.op("LessOrEqual", "_earlier", &[&columns, &rows], &[])
}
