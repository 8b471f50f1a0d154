//! Which local functions are looked into at each of their calls.

use crate::hash::{HashMap, HashSet};
use crate::model::graph::norm_domain;
use crate::model::{AttributeValue, Function, Model, Node};

/// Functions are looked into as long as their unfolded calls have at most this many nodes together, or `TIMES` the nodes
/// of the model: calls in calls multiply, and a small file can hold a great number.
const NODES: usize = 200_000;
const TIMES: usize = 20;

type Id<'m> = (&'m str, &'m str, &'m str);

/// The functions whose bodies stay closed.
pub(super) struct Unfolding {
    closed: HashSet<(String, String, String)>,
}

impl Unfolding {
    pub fn of(model: &Model) -> Unfolding {
        let functions: HashMap<Id, &Function> = model.functions.iter().map(|f| (id(f), f)).collect();
        let mut sizes = HashMap::default();
        for f in &model.functions {
            size(f, &functions, &mut sizes, 0);
        }
        let written = count(&model.graph.nodes, &HashMap::default())
            + model.functions.iter().map(|f| count(&f.nodes, &HashMap::default())).sum::<usize>();
        let limit = NODES.max(written.saturating_mul(TIMES));
        let unfolded = count(&model.graph.nodes, &sizes);
        let own = |f: &Function| (norm_domain(&f.domain).to_string(), f.name.to_string(), f.overload.to_string());
        let closed = model
            .functions
            .iter()
            // A graph that arrives as an attribute of the call is not the body's own.
            .filter(|f| unfolded > limit || f.nodes.iter().any(takes_graph))
            .map(own)
            .collect();
        Unfolding { closed }
    }

    /// True if calls of the function are looked into.
    pub fn sees(&self, f: &Function) -> bool {
        self.closed.is_empty()
            || !self.closed.contains(&(norm_domain(&f.domain).into(), f.name.to_string(), f.overload.to_string()))
    }
}

fn id(f: &Function) -> Id<'_> {
    (norm_domain(&f.domain), &f.name, &f.overload)
}

/// Nodes of a function with all calls in it unfolded. Functions do not call themselves; chains of calls deeper than the
/// type inference follows count as endless.
fn size<'m>(
    f: &'m Function,
    functions: &HashMap<Id<'m>, &'m Function>,
    sizes: &mut HashMap<Id<'m>, usize>,
    depth: usize,
) {
    if depth > 100 {
        sizes.insert(id(f), usize::MAX);
        return;
    }
    if sizes.contains_key(&id(f)) {
        return;
    }
    let mut calls = Vec::new();
    f.nodes.iter().for_each(|n| called(n, functions, &mut calls));
    calls.iter().for_each(|g| size(g, functions, sizes, depth + 1));
    let total = count(&f.nodes, sizes);
    sizes.insert(id(f), total);
}

fn called<'m>(n: &Node, functions: &HashMap<Id<'m>, &'m Function>, found: &mut Vec<&'m Function>) {
    found.extend(functions.get(&(n.domain(), &*n.op_type, &*n.overload)));
    n.subgraphs().for_each(|(_, g)| g.nodes.iter().for_each(|n| called(n, functions, found)));
}

fn count(nodes: &[Node], sizes: &HashMap<Id, usize>) -> usize {
    nodes.iter().fold(0, |sum: usize, n| {
        let inside = n.subgraphs().fold(0, |sum: usize, (_, g)| sum.saturating_add(count(&g.nodes, sizes)));
        let call = sizes.get(&(n.domain(), &*n.op_type, &*n.overload)).copied().unwrap_or(0);
        sum.saturating_add(1).saturating_add(inside).saturating_add(call)
    })
}

/// A subgraph given by reference, here or in a subgraph.
fn takes_graph(n: &Node) -> bool {
    const GRAPH: i32 = 5;
    const GRAPHS: i32 = 10;
    n.attributes.iter().any(|a| matches!(a.value, AttributeValue::Reference { kind: GRAPH | GRAPHS, .. }))
        || n.subgraphs().any(|(_, g)| g.nodes.iter().any(takes_graph))
}
