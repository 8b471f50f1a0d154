//! TreeEnsembleRegressor and TreeEnsembleClassifier, the form of tree ensembles before version 5: nodes and votes are found
//! by the numbers of trees and nodes.

use super::super::cast::cast;
use super::super::{Built, NodeCx, kernel, tensor_kernel};
use super::classes::Classes;
use super::post::Post;
use super::tree_node::{check_len, missing, numbers, places, scores};
use super::trees::{Aggregate, Next, Node, Test, Trees};
use crate::hash::HashMap;
use crate::model::DataType::Float32;
use crate::{Result, bail, err};

/// A list of floats, or the tensor that may stand for it.
fn floats(cx: &NodeCx, name: &str) -> Result<Option<Vec<f64>>> {
    match cx.floats(name)? {
        Some(list) if !list.is_empty() => Ok(Some(list.into_iter().map(f64::from).collect())),
        _ => numbers(cx, &format!("{name}_as_tensor")),
    }
}

/// Numbers of trees or nodes.
fn identifiers(cx: &NodeCx, name: &str, n: usize) -> Result<Vec<i64>> {
    let all = cx.required_ints(name)?;
    check_len(name, all.len(), n)?;
    Ok(all)
}

/// The nodes of all trees; each leaf is the leaf of its own place.
struct Forest {
    nodes: Vec<Node>,
    /// In the order of the trees' numbers.
    roots: Vec<Next>,
    /// Places by tree and node number.
    index: HashMap<(i64, i64), usize>,
}

fn forest(cx: &NodeCx) -> Result<Forest> {
    let modes = cx.strings("nodes_modes")?.ok_or_else(|| missing("nodes_modes"))?;
    let n = modes.len();
    let (trees, ids) = (identifiers(cx, "nodes_treeids", n)?, identifiers(cx, "nodes_nodeids", n)?);
    let sides = [identifiers(cx, "nodes_truenodeids", n)?, identifiers(cx, "nodes_falsenodeids", n)?];
    let features = places(cx, "nodes_featureids")?;
    check_len("nodes_featureids", features.len(), n)?;
    let values = floats(cx, "nodes_values")?.ok_or_else(|| missing("nodes_values"))?;
    check_len("nodes_values", values.len(), n)?;
    let track = match cx.ints("nodes_missing_value_tracks_true")? {
        Some(t) if !t.is_empty() => t,
        _ => vec![0; n],
    };
    check_len("nodes_missing_value_tracks_true", track.len(), n)?;
    let mut index = HashMap::default();
    for (i, key) in trees.iter().copied().zip(ids.iter().copied()).enumerate() {
        if index.insert(key, i).is_some() {
            bail!(InvalidModel, "node {} of tree {} is there twice", key.1, key.0);
        }
    }
    let next = |i: usize, side: &[i64]| -> Result<Next> {
        let to = index.get(&(trees[i], side[i])).copied();
        let to = to.ok_or_else(|| err!(InvalidModel, "tree {} has no node {}", trees[i], side[i]))?;
        Ok(if modes[to] == "LEAF" { Next::Leaf(to) } else { Next::Node(to) })
    };
    let mut nodes = Vec::with_capacity(n);
    let mut roots = std::collections::BTreeMap::new();
    for i in 0..n {
        let leaf = modes[i] == "LEAF";
        roots.entry(trees[i]).or_insert(if leaf { Next::Leaf(i) } else { Next::Node(i) });
        let v = values[i];
        let test = match modes[i].as_str() {
            "BRANCH_LEQ" => Test::Leq(v),
            "BRANCH_LT" => Test::Lt(v),
            "BRANCH_GTE" => Test::Gte(v),
            "BRANCH_GT" => Test::Gt(v),
            "BRANCH_EQ" => Test::Eq(v),
            "BRANCH_NEQ" => Test::Neq(v),
            "LEAF" => Test::Member(vec![]),
            other => bail!(InvalidModel, "its attribute 'nodes_modes' has the entry '{other}'"),
        };
        // Nobody comes to the node at a leaf's place.
        let (yes, no) = if leaf { (Next::Leaf(i), Next::Leaf(i)) } else { (next(i, &sides[0])?, next(i, &sides[1])?) };
        nodes.push(Node { feature: if leaf { 0 } else { features[i] }, test, missing: track[i] != 0, yes, no });
    }
    Ok(Forest { nodes, roots: roots.into_values().collect(), index })
}

/// The ensemble whose votes stand in the attributes `<prefix>_treeids` and so on.
fn ensemble(cx: &NodeCx, prefix: &str, targets: usize, aggregate: Aggregate) -> Result<Ensemble> {
    let Forest { nodes, roots, index } = forest(cx)?;
    let name = |what: &str| format!("{prefix}_{what}");
    let weights = floats(cx, &name("weights"))?.ok_or_else(|| missing(&name("weights")))?;
    let trees = identifiers(cx, &name("treeids"), weights.len())?;
    let ids = identifiers(cx, &name("nodeids"), weights.len())?;
    let votes = places(cx, &name("ids"))?;
    check_len(&name("ids"), votes.len(), weights.len())?;
    let mut leaves = vec![Vec::new(); nodes.len()];
    for (i, &weight) in weights.iter().enumerate() {
        let at = index.get(&(trees[i], ids[i])).and_then(|&at| leaves.get_mut(at));
        let leaf = at.ok_or_else(|| err!(InvalidModel, "tree {} has no node {} that could vote", trees[i], ids[i]))?;
        leaf.push((votes[i], weight));
    }
    // One column gets all the votes.
    let single = votes.windows(2).all(|w| w[0] == w[1]);
    let positive = weights.iter().all(|w| *w >= 0.0);
    Ok(Ensemble { trees: Trees::new(nodes, roots, leaves, targets, aggregate)?, single, positive })
}

struct Ensemble {
    trees: Trees,
    single: bool,
    positive: bool,
}

pub fn regressor(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let targets = cx.opt_int("n_targets")?.and_then(|t| usize::try_from(t).ok()).ok_or_else(|| missing("n_targets"))?;
    let aggregate = match cx.string("aggregate_function", "SUM")?.as_str() {
        "AVERAGE" => Aggregate::Average,
        "SUM" => Aggregate::Sum,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => bail!(InvalidModel, "its attribute 'aggregate_function' is '{other}'"),
    };
    let base = floats(cx, "base_values")?.unwrap_or_default();
    if !base.is_empty() {
        check_len("base_values", base.len(), targets)?;
    }
    let Ensemble { trees, .. } = ensemble(cx, "target", targets, aggregate)?;
    let post = Post::from_name(&cx.string("post_transform", "NONE")?)?;
    tensor_kernel(move |cx, inputs| {
        let y = scores(cx, &trees, inputs.tensor(0)?, |row| {
            row.iter_mut().zip(&base).for_each(|(v, b)| *v += b);
            post.apply(row);
        })?;
        cast(cx, &y, Float32, true)
    })
}

pub fn classifier(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let classes = Classes::read(cx, "classlabels_int64s")?;
    let n = classes.len();
    let base = floats(cx, "base_values")?.unwrap_or_default();
    let Ensemble { trees, single, positive } = ensemble(cx, "class", n, Aggregate::Sum)?;
    let post = Post::from_name(&cx.string("post_transform", "NONE")?)?;
    // With two classes and votes for one column, that column's score is the second class's.
    let column = (single && n == 2).then(|| trees.first_target());
    let one_for_column = column.is_some() && base.len() == 1;
    if !base.is_empty() && !one_for_column {
        check_len("base_values", base.len(), n)?;
    }
    // The specification does not say how one score becomes two; runtimes agree on these.
    if column.is_some() && !matches!((post, positive), (Post::None, true) | (Post::Logistic, false)) {
        bail!(
            Unsupported,
            "TreeEnsembleClassifier with two classes, votes for one of them, and post_transform {post:?} (NONE without \
             negative weights and LOGISTIC with such are supported)"
        );
    }
    kernel(move |cx, inputs| {
        let y = scores(cx, &trees, inputs.tensor(0)?, |row| match column {
            None => row.iter_mut().zip(&base).for_each(|(v, b)| *v += b),
            Some(column) => {
                let score = f64::from((row[column] + base.last().copied().unwrap_or(0.0)) as f32);
                row.copy_from_slice(&[if positive { 1.0 - score } else { -score }, score]);
            }
        })?;
        classes.choose(cx, y, post)
    })
}
