//! Outputs of the model that a branch or a loop gives: TensorRT 8.5 was seen to exchange two of one If, each with the other's
//! name. An Identity between keeps them what they are called.

use crate::model::names::Taken;
use crate::model::{Graph, Name, Node};

/// Puts an Identity before each output of the graph that a node with subgraphs gives.
pub fn kept_apart(graph: &mut Graph, taken: &mut Taken) {
    let mut renamed: Vec<(Name, Name)> = Vec::new();
    for node in graph.nodes.iter_mut().filter(|n| ["If", "Loop", "Scan"].iter().any(|op| n.is(op))) {
        for output in &mut node.outputs {
            if !output.is_empty() && graph.outputs.iter().any(|o| o.name == *output) {
                let inner = taken.unique(output, "_branch");
                renamed.push((inner.clone(), std::mem::replace(output, inner)));
            }
        }
    }
    // Whoever else reads it may go on reading the output.
    let after = |(inner, output): (Name, Name)| Node {
        name: taken.unique(&output, "_end"),
        op_type: "Identity".into(),
        inputs: vec![inner],
        outputs: vec![output],
        ..Node::default()
    };
    let ends: Vec<Node> = renamed.into_iter().map(after).collect();
    // Behind the node that gives what it reads, so that the order stays topological.
    for end in ends {
        let at =
            graph.nodes.iter().position(|n| n.outputs.contains(&end.inputs[0])).map_or(graph.nodes.len(), |i| i + 1);
        graph.nodes.insert(at, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ValueInfo;

    #[test]
    fn outputs_of_a_branch_get_an_identity_each() {
        let node = |op: &str, inputs: &[&str], outputs: &[&str]| Node {
            op_type: op.into(),
            inputs: inputs.iter().map(|n| (*n).into()).collect(),
            outputs: outputs.iter().map(|n| (*n).into()).collect(),
            ..Node::default()
        };
        let value = |name: &str| ValueInfo { name: name.into(), ..ValueInfo::default() };
        let mut graph = Graph {
            nodes: vec![node("If", &["c"], &["a", "inner", "b"]), node("Relu", &["a"], &["r"])],
            outputs: vec![value("a"), value("b"), value("r")],
            ..Graph::default()
        };
        let mut taken = Taken::of_graph(&graph);
        kept_apart(&mut graph, &mut taken);
        let found: Vec<(&str, Vec<&str>, Vec<&str>)> = graph
            .nodes
            .iter()
            .map(|n| (&*n.op_type, n.inputs.iter().map(|i| &**i).collect(), n.outputs.iter().map(|o| &**o).collect()))
            .collect();
        assert_eq!(found[0], ("If", vec!["c"], vec!["a_branch", "inner", "b_branch"]));
        assert!(found.contains(&("Identity", vec!["a_branch"], vec!["a"])));
        assert!(found.contains(&("Identity", vec!["b_branch"], vec!["b"])));
        assert_eq!(found[3], ("Relu", vec!["a"], vec!["r"]));
    }
}
