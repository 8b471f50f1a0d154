//! Nodes put in topological order.
//!
//! ONNX asks for that order, yet some tools write models without it and some runtimes take them; so do we. A graph that
//! is in order is left exactly as it is; otherwise each node moves back no further than it must.

use super::{Graph, Model, Node};
use crate::hash::{HashMap, HashSet, Keys};
use crate::{Result, bail};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Puts the nodes of every graph, subgraph and function in order. A cycle is an error that names a node on it.
/// Subgraphs deeper than [`super::validate::MAX_DEPTH`] are left to the validation, which refuses them.
pub fn sort(model: &mut Model) -> Result<()> {
    sort_nodes(&mut model.graph.nodes, 0)?;
    for f in &mut model.functions {
        sort_nodes(&mut f.nodes, 0)?;
    }
    Ok(())
}

fn sort_nodes(nodes: &mut Vec<Node>, depth: usize) -> Result<()> {
    if depth > super::validate::MAX_DEPTH {
        return Ok(());
    }
    for n in nodes.iter_mut() {
        for g in n.subgraphs_mut() {
            sort_nodes(&mut g.nodes, depth + 1)?;
        }
    }
    let Some(order) = new_order(nodes, depth)? else { return Ok(()) };
    let mut old: Vec<Option<Node>> = std::mem::take(nodes).into_iter().map(Some).collect();
    nodes.extend(order.into_iter().filter_map(|i| old[i].take()));
    Ok(())
}

/// The nodes' places in a valid order, or `None` if they are in order.
fn new_order(nodes: &[Node], depth: usize) -> Result<Option<Vec<usize>>> {
    let mut maker: HashMap<&str, usize> = HashMap::with_capacity_and_hasher(nodes.len(), Keys::default());
    for (i, n) in nodes.iter().enumerate() {
        for output in n.outputs.iter().filter(|o| !o.is_empty()) {
            // If two nodes make one name, the validation will say so.
            maker.entry(output).or_insert(i);
        }
    }
    let in_order = nodes.iter().enumerate().all(|(i, n)| {
        let mut good = true;
        names_read(n, depth, &mut |name| good &= maker.get(name).is_none_or(|&m| m < i));
        good
    });
    if in_order {
        return Ok(None);
    }
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut waits = vec![0usize; nodes.len()];
    for (i, n) in nodes.iter().enumerate() {
        names_read(n, depth, &mut |name| {
            if let Some(&m) = maker.get(name) {
                users[m].push(i);
                waits[i] += 1;
            }
        });
    }
    // The ready node that stood first goes first.
    let mut ready: BinaryHeap<Reverse<usize>> = (0..nodes.len()).filter(|&i| waits[i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &user in &users[i] {
            waits[user] -= 1;
            if waits[user] == 0 {
                ready.push(Reverse(user));
            }
        }
    }
    if order.len() < nodes.len() {
        let stuck = on_cycle(&users, &waits);
        bail!(
            InvalidModel,
            "node {} needs its own result (through other nodes): the graph has a cycle",
            nodes[stuck].label()
        );
    }
    Ok(Some(order))
}

/// A node on a cycle, among those that still wait. Going back from any of them to one it waits for never ends, so after
/// as many steps as there are nodes the walk is on a cycle.
fn on_cycle(users: &[Vec<usize>], waits: &[usize]) -> usize {
    let mut waits_for = vec![0usize; users.len()];
    for (m, list) in users.iter().enumerate().filter(|&(m, _)| waits[m] > 0) {
        list.iter().for_each(|&u| waits_for[u] = m);
    }
    let start = waits.iter().position(|&w| w > 0).unwrap_or(0);
    (0..users.len()).fold(start, |at, _| waits_for[at])
}

/// Calls `f` with the names from around it that a node needs, some of them several times: its inputs, and what its
/// subgraphs read and do not make themselves.
fn names_read<'n>(n: &'n Node, depth: usize, f: &mut dyn FnMut(&'n str)) {
    n.inputs.iter().filter(|i| !i.is_empty()).for_each(|i| f(i));
    if depth > super::validate::MAX_DEPTH {
        return;
    }
    for (_, g) in n.subgraphs() {
        let own = names_made(g);
        let mut outer = |name: &'n str| {
            if !own.contains(name) {
                f(name);
            }
        };
        g.nodes.iter().for_each(|n| names_read(n, depth + 1, &mut outer));
        g.outputs.iter().for_each(|o| outer(&o.name));
    }
}

fn names_made(g: &Graph) -> HashSet<&str> {
    let inputs = g.inputs.iter().map(|v| &*v.name);
    let initializers = g.initializers.iter().map(|i| &*i.name);
    let sparse = g.sparse_initializers.iter().map(|s| &*s.values.name);
    let outputs = g.nodes.iter().flat_map(|n| n.outputs.iter().map(|o| &**o));
    inputs.chain(initializers).chain(sparse).chain(outputs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attribute, AttributeValue, Name, ValueInfo, ValueType};

    fn node(inputs: &[&str], output: &str) -> Node {
        Node {
            op_type: "Add".into(),
            inputs: inputs.iter().map(|&i| Name::from(i)).collect(),
            outputs: vec![output.into()],
            ..Node::default()
        }
    }

    fn outputs(nodes: &[Node]) -> Vec<&str> {
        nodes.iter().map(|n| &*n.outputs[0]).collect()
    }

    #[test]
    fn an_ordered_graph_keeps_its_order_and_another_changes_little() {
        let mut nodes = vec![node(&["x"], "b"), node(&["x"], "a"), node(&["a", "b"], "c")];
        sort_nodes(&mut nodes, 0).unwrap();
        assert_eq!(outputs(&nodes), ["b", "a", "c"]);

        let mut nodes = vec![node(&["d"], "e"), node(&["x"], "b"), node(&["b", ""], "d"), node(&["x"], "a")];
        sort_nodes(&mut nodes, 0).unwrap();
        assert_eq!(outputs(&nodes), ["b", "d", "e", "a"]);
    }

    #[test]
    fn captures_of_subgraphs_count_and_their_own_names_do_not() {
        let value =
            |name: &str| ValueInfo { name: name.into(), ty: None::<ValueType>, doc_string: None, metadata: Vec::new() };
        let body = Graph {
            nodes: vec![node(&["t", "late"], "u"), node(&["x"], "t")],
            outputs: vec![value("u")],
            ..Graph::default()
        };
        let mut branch = node(&["c"], "y");
        branch.attributes.push(Attribute {
            name: "then_branch".into(),
            value: AttributeValue::Graph(Box::new(body)),
            doc_string: None,
        });
        // "t" is the subgraph's own: the later "t" outside is another value.
        let mut nodes = vec![branch, node(&["x"], "late"), node(&["y"], "t")];
        sort_nodes(&mut nodes, 0).unwrap();
        assert_eq!(outputs(&nodes), ["late", "y", "t"]);
        let (_, body) = nodes[1].subgraphs().next().unwrap();
        assert_eq!(outputs(&body.nodes), ["t", "u"]);
    }

    #[test]
    fn a_cycle_is_named() {
        let mut nodes = vec![node(&["b"], "before"), node(&["c"], "b"), node(&["b"], "c"), node(&["x"], "fine")];
        let e = sort_nodes(&mut nodes, 0).unwrap_err();
        assert!(e.message().contains("cycle") && (e.message().contains("'b'") || e.message().contains("'c'")), "{e}");
        assert!(sort_nodes(&mut vec![node(&["s"], "s")], 0).is_err());
    }

    #[test]
    fn a_long_reversed_chain_is_sorted_in_linear_time() {
        let n = 100_000;
        let mut nodes: Vec<Node> = (0..n).rev().map(|i| node(&[&format!("v{i}")], &format!("v{}", i + 1))).collect();
        sort_nodes(&mut nodes, 0).unwrap();
        assert_eq!(&*nodes[0].outputs[0], "v1");
        assert_eq!(&*nodes[n - 1].outputs[0], &format!("v{n}"));
    }
}
