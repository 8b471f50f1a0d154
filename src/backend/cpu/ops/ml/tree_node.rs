//! The attributes of tree ensembles, and the kernel that runs them.

use super::super::cast::cast;
use super::super::{Built, NodeCx, tensor_kernel};
use super::post::Post;
use super::trees::{Aggregate, Next, Node, Test, Trees};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::threads::Threads;
use crate::model::DataType::Float64;
use crate::{Result, bail, err};

/// A tensor attribute's values in FP64.
pub fn numbers(cx: &NodeCx, name: &str) -> Result<Option<Vec<f64>>> {
    let Some(t) = cx.tensor(name)? else { return Ok(None) };
    let (pool, threads) = (Pool::new(usize::MAX), Threads::inline());
    let run = Cx { pool: &pool, threads: &threads, cancel: None, tap: None };
    Ok(Some(cast(&run, &t, Float64, true)?.slice::<f64>()?.to_vec()))
}

/// An error for an attribute that must be there.
pub fn missing(name: &str) -> crate::Error {
    err!(InvalidModel, "its attribute '{name}' is missing")
}

/// A list of places or identifiers that must be there.
pub fn places(cx: &NodeCx, name: &str) -> Result<Vec<usize>> {
    let all = cx.required_ints(name)?;
    all.iter()
        .map(|&v| usize::try_from(v).map_err(|_| err!(InvalidModel, "its attribute '{name}' has the entry {v}")))
        .collect()
}

/// An error unless the list has an entry for each of `n` things.
pub fn check_len(name: &str, len: usize, n: usize) -> Result<()> {
    if len != n {
        bail!(InvalidModel, "its attribute '{name}' has {len} entries, but there are {n} to be described");
    }
    Ok(())
}

pub fn tree_ensemble(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let features = places(cx, "nodes_featureids")?;
    let n = features.len();
    let list = |name: &'static str| -> Result<Vec<usize>> {
        let all = places(cx, name)?;
        check_len(name, all.len(), n)?;
        Ok(all)
    };
    let modes = numbers(cx, "nodes_modes")?.ok_or_else(|| missing("nodes_modes"))?;
    let splits = numbers(cx, "nodes_splits")?.ok_or_else(|| missing("nodes_splits"))?;
    check_len("nodes_modes", modes.len(), n)?;
    check_len("nodes_splits", splits.len(), n)?;
    let branches = [list("nodes_truenodeids")?, list("nodes_falsenodeids")?];
    let leafs = [list("nodes_trueleafs")?, list("nodes_falseleafs")?];
    let track = match cx.ints("nodes_missing_value_tracks_true")? {
        Some(t) if !t.is_empty() => t,
        _ => vec![0; n],
    };
    check_len("nodes_missing_value_tracks_true", track.len(), n)?;
    let members = numbers(cx, "membership_values")?.unwrap_or_default();
    // Sets stand one after the other, each with a NaN behind it.
    let mut sets = members.split_inclusive(|v| v.is_nan());
    let mut nodes = Vec::with_capacity(n);
    for i in 0..n {
        let v = splits[i];
        let test = match modes[i] as u8 {
            0 => Test::Leq(v),
            1 => Test::Lt(v),
            2 => Test::Gte(v),
            3 => Test::Gt(v),
            4 => Test::Eq(v),
            5 => Test::Neq(v),
            6 => {
                let set = sets.next().ok_or_else(|| err!(InvalidModel, "'membership_values' has too few sets"))?;
                Test::Member(set.iter().copied().filter(|v| !v.is_nan()).collect())
            }
            other => bail!(InvalidModel, "its attribute 'nodes_modes' has the entry {other}, which is no comparison"),
        };
        let next = |side: usize| match leafs[side][i] {
            0 => Next::Node(branches[side][i]),
            _ => Next::Leaf(branches[side][i]),
        };
        nodes.push(Node { feature: features[i], test, missing: track[i] != 0, yes: next(0), no: next(1) });
    }
    let targets = places(cx, "leaf_targetids")?;
    let weights = numbers(cx, "leaf_weights")?.ok_or_else(|| missing("leaf_weights"))?;
    check_len("leaf_weights", weights.len(), targets.len())?;
    let leaves = targets.into_iter().zip(weights).map(|vote| vec![vote]).collect();
    let aggregate = match cx.int("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => bail!(InvalidModel, "its attribute 'aggregate_function' is {other}"),
    };
    let roots = places(cx, "tree_roots")?.into_iter().map(Next::Node).collect();
    let targets = cx.opt_int("n_targets")?.and_then(|t| usize::try_from(t).ok()).ok_or_else(|| missing("n_targets"))?;
    let trees = Trees::new(nodes, roots, leaves, targets, aggregate)?;
    let post = Post::from_number(cx.int("post_transform", 0)?)?;
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        cast(cx, &scores(cx, &trees, x, |row| post.apply(row))?, x.dtype(), true)
    })
}

/// The scores of all rows in FP64, each row passed through `finish`.
pub fn scores(cx: &Cx, trees: &Trees, x: &Tensor, finish: impl Fn(&mut [f64]) + Sync) -> Result<Tensor> {
    let &[rows, features] = x.dims() else {
        bail!(ShapeMismatch, "an input of shape {:?} is not [rows, features]", x.dims());
    };
    if features < trees.features() {
        bail!(ShapeMismatch, "rows have {features} features, but the trees ask for {}", trees.features());
    }
    let wide = cast(cx, x, Float64, true)?;
    let data = wide.slice::<f64>()?;
    let mut y = Tensor::new(cx.pool, Float64, vec![rows, trees.targets()])?;
    let double = x.dtype() == Float64;
    let work = rows.saturating_mul(1000);
    cx.threads.pieces(y.slice_mut::<f64>()?, trees.targets().max(1), work, |i, out| {
        trees.scores(&data[i * features..(i + 1) * features], double, out);
        finish(out);
    });
    Ok(y)
}
