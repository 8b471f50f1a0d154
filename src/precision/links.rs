//! Places that must have one type because no Cast can stand between them: what If, Loop, Scan, SequenceMap and calls of
//! functions hand in and out of their bodies, and sequences and optionals, for which there is no Cast.
//!
//! Each such place is a port. Ports that must agree are one group, and a group is half or FP32 as a whole.

use super::decide::{Choice, Decisions};
use super::facts::{Facts, GraphId, NodeId, ValueId, Way};
use super::{ConvertOptions, io};
use crate::hash::HashMap;

/// A place that has a type.
#[derive(Clone, Copy)]
enum Port {
    /// A value where it is made.
    Value(ValueId),
    /// An ordinary node that touches sequences or optionals.
    Node(NodeId),
    /// An input of a node with bodies.
    Slot(NodeId, usize),
    /// An output of a graph.
    Out(GraphId, usize),
}

/// The groups of ports, and which of them are FP32.
pub(super) struct Links {
    /// The parent of each port in its group's tree.
    parents: Vec<u32>,
    float: Vec<bool>,
    nodes_at: usize,
    slots_at: HashMap<NodeId, usize>,
    outs_at: Vec<usize>,
}

impl Links {
    /// Groups the ports. All groups are half at first.
    pub fn new(facts: &Facts) -> Links {
        let nodes_at = facts.values.len();
        let mut next = nodes_at + facts.nodes.len();
        let mut slots_at = HashMap::default();
        for (n, node) in facts.nodes.iter().enumerate() {
            if facts.has_linked_bodies(n) {
                slots_at.insert(n, next);
                next += node.inputs.len();
            }
        }
        let mut outs_at = Vec::with_capacity(facts.graphs.len());
        for g in &facts.graphs {
            outs_at.push(next);
            next += g.outputs.len();
        }
        let parents = (0..next as u32).collect();
        let mut links = Links { parents, float: vec![false; next], nodes_at, slots_at, outs_at };
        for n in 0..facts.nodes.len() {
            if facts.has_linked_bodies(n) {
                links.join_bodies(facts, n);
            } else {
                for v in facts.touched(n).filter(|v| facts.values[*v].is_container()) {
                    links.join(Port::Value(v), Port::Node(n));
                }
            }
        }
        for (g, graph) in facts.graphs.iter().enumerate() {
            for (k, &v) in graph.outputs.iter().enumerate() {
                if facts.values[v].is_container() {
                    links.join(Port::Value(v), Port::Out(g, k));
                }
            }
        }
        (0..next).for_each(|at| {
            links.find_and_shorten(at);
        });
        links
    }

    fn join_bodies(&mut self, facts: &Facts, n: NodeId) {
        let node = &facts.nodes[n];
        for (i, v) in node.inputs.iter().enumerate() {
            if let Some(v) = v.filter(|v| facts.values[*v].is_container()) {
                self.join(Port::Slot(n, i), Port::Value(v));
            }
        }
        for (_, g) in &node.bodies {
            let (inputs, outputs) = (facts.graphs[*g].inputs.clone(), facts.graphs[*g].outputs.len());
            let Way { first_input, first_output, carried, carried_from } = facts.way(n);
            for (i, &v) in inputs.iter().enumerate() {
                if i + first_input < node.inputs.len() {
                    self.join(Port::Slot(n, i + first_input), Port::Value(v));
                }
            }
            for (k, v) in node.outputs.iter().enumerate() {
                if let Some(v) = v
                    && k + first_output < outputs
                {
                    self.join(Port::Value(*v), Port::Out(*g, k + first_output));
                }
            }
            // Branches agree even where nobody wants the output.
            if let Some((_, first)) = node.bodies.first().filter(|(_, first)| first != g && facts.op(n) == "If") {
                (0..outputs.min(facts.graphs[*first].outputs.len()))
                    .for_each(|k| self.join(Port::Out(*first, k), Port::Out(*g, k)));
            }
            // A carried value comes out of the body as it went in, even if the node's output is not wanted.
            for j in 0..carried {
                if let Some(&v) = inputs.get(j + carried_from)
                    && j + first_output < outputs
                {
                    self.join(Port::Value(v), Port::Out(*g, j + first_output));
                }
            }
        }
    }

    /// Makes groups FP32 that must be, given what the nodes do; nodes that touch an FP32 sequence become FP32 with it.
    pub fn settle(&mut self, facts: &Facts, options: &ConvertOptions, d: &mut Decisions) {
        for n in 0..facts.nodes.len() {
            if matches!(d.choices[n], Choice::Float(_)) {
                self.force(Port::Node(n));
                self.force_bodies(facts, n);
            } else if !facts.has_linked_bodies(n) && !facts.nodes[n].bodies.is_empty() {
                self.force_bodies(facts, n);
            }
        }
        for v in 0..facts.values.len() {
            let value = &facts.values[v];
            if value.graph == 0
                && value.is_container()
                && (value.is_output || facts.graphs[0].inputs.contains(&v))
                && io::is_kept(options, &value.name)
            {
                self.force(Port::Value(v));
            }
        }
        for n in 0..facts.nodes.len() {
            if d.is_half(n) && !facts.has_linked_bodies(n) && self.is_float(Port::Node(n)) {
                let name = facts.touched(n).find(|v| facts.values[*v].is_container()).map(|v| &facts.values[v].name);
                let name = name.map_or("", |n| n);
                let text = format!("'{name}' stays a sequence or optional of FP32 tensors, for which there is no Cast");
                d.keep(n, "container", name, None, text);
            }
        }
    }

    fn force_bodies(&mut self, facts: &Facts, n: NodeId) {
        if let Some(&at) = self.slots_at.get(&n) {
            (0..facts.nodes[n].inputs.len()).for_each(|i| self.force_at(at + i));
        }
        for (_, g) in &facts.nodes[n].bodies {
            facts.graphs[*g].inputs.iter().for_each(|v| self.force(Port::Value(*v)));
            (0..facts.graphs[*g].outputs.len()).for_each(|k| self.force(Port::Out(*g, k)));
        }
    }

    /// True if the value, made by a node with bodies or an input of a body or a sequence, is half.
    pub fn value_is_half(&self, v: ValueId) -> bool {
        !self.is_float(Port::Value(v))
    }

    /// True if input `i` of a node with bodies is half.
    pub fn slot_is_half(&self, n: NodeId, i: usize) -> bool {
        !self.is_float(Port::Slot(n, i))
    }

    /// True if output `k` of a body is half.
    pub fn out_is_half(&self, g: GraphId, k: usize) -> bool {
        !self.is_float(Port::Out(g, k))
    }

    /// Makes the group of a value FP32.
    pub fn keep_value(&mut self, v: ValueId) {
        self.force(Port::Value(v));
    }

    fn place(&self, port: Port) -> usize {
        match port {
            Port::Value(v) => v,
            Port::Node(n) => self.nodes_at + n,
            Port::Slot(n, i) => self.slots_at.get(&n).map_or(0, |at| at + i),
            Port::Out(g, k) => self.outs_at[g] + k,
        }
    }

    fn find(&self, mut at: usize) -> usize {
        while self.parents[at] as usize != at {
            at = self.parents[at] as usize;
        }
        at
    }

    fn join(&mut self, a: Port, b: Port) {
        let (a, b) = (self.find_and_shorten(self.place(a)), self.find_and_shorten(self.place(b)));
        let (low, high) = (a.min(b), a.max(b));
        self.parents[high] = low as u32;
        self.float[low] |= self.float[high];
    }

    fn find_and_shorten(&mut self, at: usize) -> usize {
        let root = self.find(at);
        let mut at = at;
        while self.parents[at] as usize != root {
            at = std::mem::replace(&mut self.parents[at], root as u32) as usize;
        }
        root
    }

    fn force(&mut self, port: Port) {
        self.force_at(self.place(port));
    }

    fn force_at(&mut self, at: usize) {
        let root = self.find_and_shorten(at);
        self.float[root] = true;
    }

    fn is_float(&self, port: Port) -> bool {
        self.float[self.find(self.place(port))]
    }
}
