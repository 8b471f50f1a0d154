//! New names that collide with none in use.

use super::{Function, Graph, Name, Node};
use crate::hash::HashSet;

/// Names of values and nodes, of all scopes together, so that new values collide with none in any.
#[derive(Default)]
pub(crate) struct Taken {
    names: HashSet<Name>,
}

impl Taken {
    /// The names in a graph and all its subgraphs.
    pub fn of_graph(graph: &Graph) -> Taken {
        let mut taken = Taken::default();
        taken.add_graph(graph);
        taken
    }

    /// The names in a function's body.
    pub fn of_function(function: &Function) -> Taken {
        let mut taken = Taken::default();
        taken.names.extend(function.inputs.iter().cloned());
        taken.names.extend(function.value_info.iter().map(|v| v.name.clone()));
        function.nodes.iter().for_each(|n| taken.add_node(n));
        taken
    }

    fn add_graph(&mut self, graph: &Graph) {
        self.names.extend(graph.inputs.iter().map(|v| v.name.clone()));
        self.names.extend(graph.value_info.iter().map(|v| v.name.clone()));
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
