//! Name patterns, and new names that collide with none.

use super::ConvertOptions;
use super::facts::{Facts, GraphId, Source};
use crate::hash::HashMap;
use crate::model::Node;
use crate::model::names::Taken;

/// Name patterns: `*` stands for any characters, `?` for one.
pub(super) struct Globs<'a> {
    patterns: &'a [String],
}

impl<'a> Globs<'a> {
    pub fn new(patterns: &'a [String]) -> Self {
        Globs { patterns }
    }

    /// The first pattern that fits the whole name. An unnamed node fits none.
    pub fn find(&self, name: &str) -> Option<&'a str> {
        if name.is_empty() {
            return None;
        }
        self.patterns.iter().map(String::as_str).find(|p| matches(p.as_bytes(), name.as_bytes()))
    }
}

/// Notes on operator types and name patterns that no node has: a misspelt one would keep nothing, and silently.
pub(super) fn unmatched(facts: &Facts, options: &ConvertOptions) -> Vec<String> {
    let nodes = || facts.nodes.iter().map(|n| n.node);
    let is_type = |node: &Node, op: &str| *op == *node.op_type || op == format!("{}::{}", node.domain, node.op_type);
    let types = options.keep_op_types.iter().filter(|op| !nodes().any(|n| is_type(n, op)));
    let patterns = options.keep_node_names.iter().filter(|p| {
        let one = std::slice::from_ref(*p);
        !nodes().any(|n| Globs::new(one).find(&n.name).is_some())
    });
    types
        .map(|op| format!("no node has the operator type '{op}' that was to stay FP32"))
        .chain(patterns.map(|p| format!("no node's name fits the pattern '{p}' that was to stay FP32")))
        .collect()
}

/// Greedy matching that goes back to the last star only: linear in practice, never exponential.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// The names in use: of the main graph with its subgraphs, and of each function body, which is a world of its own.
pub(super) struct Takens {
    roots: HashMap<GraphId, Taken>,
}

impl Takens {
    pub fn of_model(facts: &Facts) -> Takens {
        let roots = facts.graphs.iter().enumerate().filter(|(g, graph)| graph.root == *g);
        let taken = |source| match source {
            Source::Graph(g) => Taken::of_graph(g),
            Source::Function(f) => Taken::of_function(f),
        };
        Takens { roots: roots.map(|(g, graph)| (g, taken(graph.source))).collect() }
    }

    /// The names in the main graph or a function body.
    pub fn of(&mut self, root: GraphId) -> &mut Taken {
        self.roots.entry(root).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let find = |p: &str, n: &str| Globs::new(&[p.to_string()]).find(n).is_some();
        assert!(find("*", "x") && find("a*c", "abbc") && find("a?c", "abc") && find("*norm*", "/layer.3/norm/Add"));
        assert!(!find("a?c", "ac") && !find("norm", "norm1") && !find("*", "") && !find("a*b", "aab1"));
        assert!(!find(&"*a".repeat(40), &"b".repeat(10_000)), "no exponential time");
    }
}
