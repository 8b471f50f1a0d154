//! Decision trees: nodes that ask about one feature, leaves that vote for targets.

use crate::{Result, bail};

/// What a node asks of its feature.
#[derive(Debug, Clone)]
pub enum Test {
    /// At most the value.
    Leq(f64),
    /// Less than the value.
    Lt(f64),
    /// At least the value.
    Gte(f64),
    /// More than the value.
    Gt(f64),
    /// The value itself.
    Eq(f64),
    /// Any other value.
    Neq(f64),
    /// One of these values.
    Member(Vec<f64>),
}

impl Test {
    fn holds(&self, x: f64) -> bool {
        match self {
            Test::Leq(v) => x <= *v,
            Test::Lt(v) => x < *v,
            Test::Gte(v) => x >= *v,
            Test::Gt(v) => x > *v,
            Test::Eq(v) => x == *v,
            Test::Neq(v) => x != *v,
            Test::Member(all) => all.contains(&x),
        }
    }
}

/// Where a branch leads.
#[derive(Debug, Clone, Copy)]
pub enum Next {
    /// To a node.
    Node(usize),
    /// To a leaf.
    Leaf(usize),
}

/// A question.
#[derive(Debug, Clone)]
pub struct Node {
    /// The feature asked about.
    pub feature: usize,
    /// What is asked.
    pub test: Test,
    /// A missing value (NaN) counts as yes.
    pub missing: bool,
    /// Where yes leads.
    pub yes: Next,
    /// Where no leads.
    pub no: Next,
}

/// How the votes of the trees for a target become its score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// Their sum by the number of trees.
    Average,
    /// Their sum.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

/// An ensemble whose branches all lead somewhere and never in circles.
pub struct Trees {
    nodes: Vec<Node>,
    roots: Vec<Next>,
    /// Votes of each leaf: target and weight.
    leaves: Vec<Vec<(usize, f64)>>,
    targets: usize,
    aggregate: Aggregate,
    features: usize,
}

impl Trees {
    /// Checks an ensemble.
    pub fn new(
        nodes: Vec<Node>,
        roots: Vec<Next>,
        leaves: Vec<Vec<(usize, f64)>>,
        targets: usize,
        aggregate: Aggregate,
    ) -> Result<Trees> {
        for next in nodes.iter().flat_map(|n| [n.yes, n.no]).chain(roots.iter().copied()) {
            let (i, n, what) = match next {
                Next::Node(i) => (i, nodes.len(), "node"),
                Next::Leaf(i) => (i, leaves.len(), "leaf"),
            };
            if i >= n {
                bail!(InvalidModel, "a branch leads to {what} {i} of {n}");
            }
        }
        if let Some((target, _)) = leaves.iter().flatten().find(|(t, _)| *t >= targets) {
            bail!(InvalidModel, "a leaf votes for target {target} of {targets}");
        }
        let features = nodes.iter().map(|n| n.feature.saturating_add(1)).max().unwrap_or(0);
        let trees = Trees { nodes, roots, leaves, targets, aggregate, features };
        trees.check_circles()?;
        Ok(trees)
    }

    /// Nodes are taken away once nothing leads to them any more; what remains leads in circles.
    fn check_circles(&self) -> Result<()> {
        let children =
            |n: &Node| [n.yes, n.no].into_iter().filter_map(|c| if let Next::Node(i) = c { Some(i) } else { None });
        let mut parents = vec![0usize; self.nodes.len()];
        self.nodes.iter().flat_map(children).for_each(|i| parents[i] += 1);
        let mut free: Vec<usize> = (0..parents.len()).filter(|&i| parents[i] == 0).collect();
        let mut seen = 0;
        while let Some(i) = free.pop() {
            seen += 1;
            for child in children(&self.nodes[i]) {
                parents[child] -= 1;
                if parents[child] == 0 {
                    free.push(child);
                }
            }
        }
        match seen == self.nodes.len() {
            true => Ok(()),
            false => bail!(InvalidModel, "the branches of a tree lead in a circle"),
        }
    }

    /// How many targets there are.
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// The target of the first vote.
    pub fn first_target(&self) -> usize {
        self.leaves.iter().flatten().next().map_or(0, |vote| vote.0)
    }

    /// How many features a row must have.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Scores of one row, which has at least [`Trees::features`] values. Targets without a vote have 0. Sums are rounded to
    /// FP32 at each step unless they are to be `double`.
    pub fn scores(&self, row: &[f64], double: bool, out: &mut [f64]) {
        let round = |v: f64| if double { v } else { f64::from(v as f32) };
        out.fill(0.0);
        let mut voted = vec![false; self.targets];
        for root in &self.roots {
            let mut at = *root;
            let leaf = loop {
                match at {
                    Next::Leaf(i) => break i,
                    Next::Node(i) => {
                        let node = &self.nodes[i];
                        let x = row[node.feature];
                        let yes = node.test.holds(x) || (node.missing && x.is_nan());
                        at = if yes { node.yes } else { node.no };
                    }
                }
            };
            for &(target, weight) in &self.leaves[leaf] {
                let first = !std::mem::replace(&mut voted[target], true);
                let score = &mut out[target];
                *score = match self.aggregate {
                    _ if first => weight,
                    Aggregate::Average | Aggregate::Sum => round(*score + weight),
                    Aggregate::Min => score.min(weight),
                    Aggregate::Max => score.max(weight),
                };
            }
        }
        if self.aggregate == Aggregate::Average {
            let n = self.roots.len().max(1) as f64;
            out.iter_mut().for_each(|v| *v /= n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump(test: Test, missing: bool) -> Trees {
        let node = Node { feature: 1, test, missing, yes: Next::Leaf(0), no: Next::Leaf(1) };
        Trees::new(vec![node], vec![Next::Node(0)], vec![vec![(0, 2.0)], vec![(1, 3.0)]], 2, Aggregate::Sum).unwrap()
    }

    fn votes(t: &Trees, x: f64) -> [f64; 2] {
        let mut out = [9.0; 2];
        t.scores(&[0.0, x], true, &mut out);
        out
    }

    #[test]
    fn questions_and_missing_values() {
        let (yes, no) = ([2.0, 0.0], [0.0, 3.0]);
        for (test, below, at, above) in [
            (Test::Leq(1.0), yes, yes, no),
            (Test::Lt(1.0), yes, no, no),
            (Test::Gte(1.0), no, yes, yes),
            (Test::Gt(1.0), no, no, yes),
            (Test::Eq(1.0), no, yes, no),
            (Test::Neq(1.0), yes, no, yes),
            (Test::Member(vec![0.0, 2.0]), yes, no, yes),
        ] {
            let t = stump(test.clone(), true);
            assert_eq!((votes(&t, 0.0), votes(&t, 1.0), votes(&t, 2.0)), (below, at, above), "{test:?}");
            assert_eq!(votes(&t, f64::NAN), yes, "{test:?}");
        }
        assert_eq!(votes(&stump(Test::Lt(1.0), false), f64::NAN), no);
    }

    #[test]
    fn circles_and_loose_ends_are_found() {
        let node = |yes| Node { feature: 0, test: Test::Lt(0.0), missing: false, yes, no: Next::Leaf(0) };
        let build = |yes| {
            let leaves = vec![vec![(0, 1.0)]];
            Trees::new(vec![node(yes), node(Next::Node(0))], vec![Next::Node(0)], leaves, 1, Aggregate::Sum)
        };
        assert!(build(Next::Leaf(0)).is_ok());
        assert!(build(Next::Node(1)).is_err_and(|e| e.message().contains("circle")));
        assert!(build(Next::Node(2)).is_err());
        assert!(build(Next::Leaf(1)).is_err());
    }
}
