//! Name patterns, and new names that collide with none.

use crate::model::{Graph, Model, Name, Node};
use std::collections::HashSet;

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

/// Every name of a model: of values, so that new values collide with none in any scope, and of nodes.
pub(super) struct Taken {
    names: HashSet<Name>,
}

impl Taken {
    pub fn of(model: &Model) -> Taken {
        let mut taken = Taken { names: HashSet::new() };
        taken.add_graph(&model.graph);
        for f in &model.functions {
            f.nodes.iter().for_each(|n| taken.add_node(n));
        }
        taken
    }

    fn add_graph(&mut self, graph: &Graph) {
        self.names.extend(graph.inputs.iter().map(|v| v.name.clone()));
        self.names.extend(graph.initializers.iter().map(|i| i.name.clone()));
        self.names.extend(graph.sparse_initializers.iter().map(|s| s.values.name.clone()));
        graph.nodes.iter().for_each(|n| self.add_node(n));
    }

    fn add_node(&mut self, node: &Node) {
        self.names.insert(node.name.clone());
        self.names.extend(node.outputs.iter().cloned());
        node.subgraphs().for_each(|(_, g)| self.add_graph(g));
    }

    /// `base` followed by `suffix`, and by a number where that is taken.
    pub fn unique(&mut self, base: &str, suffix: &str) -> Name {
        let mut candidate: Name = format!("{base}{suffix}").into();
        let mut number = 1;
        while !self.names.insert(candidate.clone()) {
            number += 1;
            candidate = format!("{base}{suffix}_{number}").into();
        }
        candidate
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
