//! Local functions, converted for each use: calls that need the same body share one, under a new name.

use crate::hash::{HashMap, HashSet};
use crate::model::graph::norm_domain;
use crate::model::{AttributeValue, DataType, Function, Graph, Model, Name, Node, SparseTensor, Tensor};
use std::fmt::Write;

type Id = (String, Name, Name);

fn id(f: &Function) -> Id {
    (norm_domain(&f.domain).to_string(), f.name.clone(), f.overload.clone())
}

fn called(n: &Node) -> Id {
    (n.domain().to_string(), n.op_type.clone(), n.overload.clone())
}

/// The functions of the new model.
pub(super) struct Variants<'m> {
    old: &'m Model,
    suffix: &'static str,
    ids: HashSet<Id>,
    /// Names given, by the old function and what the new body looks like.
    named: HashMap<(Id, String), Name>,
    /// What the old bodies look like.
    unchanged: HashMap<Id, String>,
    new: HashMap<Id, Vec<Function>>,
}

impl<'m> Variants<'m> {
    pub fn new(old: &'m Model, precision: DataType) -> Variants<'m> {
        let ids = old.functions.iter().map(id).collect();
        let unchanged = HashMap::default();
        Variants { old, suffix: precision.name(), ids, named: HashMap::default(), unchanged, new: HashMap::default() }
    }

    /// The name under which a call finds its body: the old one if the body is the old one.
    pub fn name_for(&mut self, old: &Function, body: Function) -> Name {
        let key = id(old);
        let look = look(&body);
        if *self.unchanged.entry(key.clone()).or_insert_with(|| self::look(old)) == look {
            return old.name.clone();
        }
        if let Some(name) = self.named.get(&(key.clone(), look.clone())) {
            return name.clone();
        }
        let mut name: Name = format!("{}_{}", old.name, self.suffix).into();
        let mut number = 1;
        while !self.ids.insert((key.0.clone(), name.clone(), key.2.clone())) {
            number += 1;
            name = format!("{}_{}_{number}", old.name, self.suffix).into();
        }
        self.named.insert((key.clone(), look), name.clone());
        self.new.entry(key).or_default().push(Function { name: name.clone(), ..body });
        name
    }

    /// All functions that are still called, or never were; new ones stand beside their old ones.
    pub fn finish(mut self, graph: &Graph) -> Vec<Function> {
        let mut all = Vec::new();
        for f in &self.old.functions {
            all.push(f.clone());
            all.extend(self.new.remove(&id(f)).unwrap_or_default());
        }
        if all.len() == self.old.functions.len() {
            return all;
        }
        let before = reached(&self.old.graph, &self.old.functions);
        let after = reached(graph, &all);
        all.retain(|f| after.contains(&id(f)) || !before.contains(&id(f)));
        all
    }
}

/// The functions that a graph calls, by itself and through others.
fn reached(graph: &Graph, functions: &[Function]) -> HashSet<Id> {
    let by_id: HashMap<Id, &Function> = functions.iter().map(|f| (id(f), f)).collect();
    let mut found = HashSet::default();
    let mut follow: Vec<&[Node]> = vec![&graph.nodes];
    while let Some(nodes) = follow.pop() {
        for n in nodes {
            follow.extend(n.subgraphs().map(|(_, g)| &*g.nodes));
            let called = called(n);
            if let Some(f) = by_id.get(&called)
                && found.insert(called)
            {
                follow.push(&f.nodes);
            }
        }
    }
    found
}

/// Everything about a body that matters, as text: bodies of equal text are one.
fn look(f: &Function) -> String {
    let mut text = format!("{:?} {:?} {:?}\n", f.inputs, f.outputs, f.value_info);
    look_nodes(&f.nodes, &mut text);
    text
}

fn look_nodes(nodes: &[Node], text: &mut String) {
    for n in nodes {
        // Writing to a string does not fail.
        let _ = write!(text, "{} {}:{}:{} {:?} {:?}", n.name, n.domain, n.op_type, n.overload, n.inputs, n.outputs);
        for a in &n.attributes {
            let _ = write!(text, " {}=", a.name);
            match &a.value {
                AttributeValue::Graph(g) => look_graph(g, text),
                AttributeValue::Graphs(gs) => gs.iter().for_each(|g| look_graph(g, text)),
                AttributeValue::Tensor(t) => look_tensor(&t.tensor, text),
                AttributeValue::Tensors(ts) => ts.iter().for_each(|t| look_tensor(&t.tensor, text)),
                AttributeValue::SparseTensor(t) => look_sparse(t, text),
                AttributeValue::SparseTensors(ts) => ts.iter().for_each(|t| look_sparse(t, text)),
                other => drop(write!(text, "{other:?}")),
            }
        }
        text.push('\n');
    }
}

fn look_graph(g: &Graph, text: &mut String) {
    let _ = write!(text, "{{{:?} {:?} {:?}", g.inputs, g.outputs, g.value_info);
    for i in &g.initializers {
        let _ = write!(text, " {}:", i.name);
        look_tensor(&i.tensor, text);
    }
    look_nodes(&g.nodes, text);
    text.push('}');
}

fn look_sparse(t: &SparseTensor, text: &mut String) {
    look_tensor(&t.values.tensor, text);
    look_tensor(&t.indices.tensor, text);
}

/// Tensors are told apart by where their bytes are, which both bodies share where they are alike.
fn look_tensor(t: &Tensor, text: &mut String) {
    let _ = write!(text, "{}{:?}", t.dtype(), t.dims());
    match (t.source_key(), t.strings()) {
        (Some(key), _) => drop(write!(text, "{key:?}")),
        (None, Some(strings)) => drop(write!(text, "{strings:?}")),
        (None, None) => {}
    }
}
