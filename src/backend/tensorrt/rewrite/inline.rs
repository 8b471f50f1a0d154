//! Local functions put in the place of their calls.

use crate::hash::HashMap;
use crate::model::graph::find_opset;
use crate::model::names::Taken;
use crate::model::upgrade::upgrade;
use crate::model::{Attribute, AttributeValue, Function, Graph, Model, Name, Node};
use crate::{Result, bail};

/// Calls nested deeper than this are refused.
const MAX_DEPTH: usize = 100;
/// Nodes that the calls may become together: calls in calls multiply, and a small file can hold a great number.
const MAX_NODES: usize = 2_000_000;

/// The model without local functions.
pub(super) fn inlined(model: &Model) -> Result<Model> {
    if model.functions.is_empty() {
        return Ok(model.clone());
    }
    let versions = model.functions.iter().filter_map(|f| find_opset(&f.opset_imports, ""));
    let versions: Vec<i64> = versions.chain(model.opset("")).collect();
    let newest = versions.iter().copied().max();
    // A body is put among nodes of the model's version.
    let model = match newest {
        Some(newest) if versions.iter().any(|v| *v != newest) => upgrade(model, newest)?,
        _ => model.clone(),
    };
    let mut work = Inlining { model: &model, taken: Taken::of_graph(&model.graph), nodes: 0 };
    let graph = work.graph(&model.graph, 0)?;
    let mut imports = model.opset_imports.clone();
    for import in model.functions.iter().flat_map(|f| &f.opset_imports) {
        if find_opset(&imports, &import.domain).is_none() {
            imports.push(import.clone());
        }
    }
    Ok(Model { graph, functions: Vec::new(), opset_imports: imports, ..model.clone() })
}

struct Inlining<'m> {
    model: &'m Model,
    taken: Taken,
    nodes: usize,
}

impl Inlining<'_> {
    fn graph(&mut self, graph: &Graph, depth: usize) -> Result<Graph> {
        let mut nodes = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            self.node(node.clone(), depth, &mut nodes)?;
        }
        Ok(Graph { nodes, ..graph.clone() })
    }

    fn node(&mut self, mut node: Node, depth: usize, out: &mut Vec<Node>) -> Result<()> {
        for graph in node.subgraphs_mut() {
            *graph = self.graph(graph, depth)?;
        }
        let model = self.model;
        let Some(function) = model.function_of(&node) else {
            self.nodes += 1;
            if self.nodes > MAX_NODES {
                bail!(Unsupported, "the calls of local functions become more than {MAX_NODES} nodes");
            }
            out.push(node);
            return Ok(());
        };
        if depth > MAX_DEPTH {
            bail!(Unsupported, "node {}: calls of local functions are nested more than {MAX_DEPTH} deep", node.label());
        }
        let mut renaming = Renaming { names: HashMap::default(), base: base(&node), call: &node, function };
        let mut ends = Vec::new();
        for (i, inner) in function.inputs.iter().enumerate() {
            renaming.names.insert(inner.clone(), node.inputs.get(i).cloned().unwrap_or_default());
        }
        for (i, inner) in function.outputs.iter().enumerate() {
            let Some(outer) = node.outputs.get(i).filter(|o| !o.is_empty()) else { continue };
            if renaming.names.contains_key(inner) {
                // A value that is an input too, or stands for two outputs.
                ends.push((inner.clone(), outer.clone()));
            } else {
                renaming.names.insert(inner.clone(), outer.clone());
            }
        }
        for inner in &function.nodes {
            let inner = renaming.node(inner, &mut self.taken);
            self.node(inner, depth + 1, out)?;
        }
        for (inner, outer) in ends {
            let from = renaming.names.get(&inner).cloned().unwrap_or_default();
            out.push(Node {
                name: self.taken.unique(&renaming.base, "/Identity"),
                op_type: "Identity".into(),
                inputs: vec![from],
                outputs: vec![outer],
                ..Node::default()
            });
        }
        Ok(())
    }
}

fn base(node: &Node) -> Name {
    let named = Some(&node.name).filter(|n| !n.is_empty());
    named.or_else(|| node.outputs.iter().find(|o| !o.is_empty())).unwrap_or(&node.op_type).clone()
}

/// How one call's body is named outside.
struct Renaming<'m> {
    names: HashMap<Name, Name>,
    base: Name,
    call: &'m Node,
    function: &'m Function,
}

impl Renaming<'_> {
    fn defined(&mut self, name: &Name, taken: &mut Taken) -> Name {
        if name.is_empty() {
            return name.clone();
        }
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let new = taken.unique(&self.base, &format!("/{name}"));
        self.names.insert(name.clone(), new.clone());
        new
    }

    fn used(&self, name: &Name) -> Name {
        self.names.get(name).unwrap_or(name).clone()
    }

    fn node(&mut self, node: &Node, taken: &mut Taken) -> Node {
        let attributes: Vec<Attribute> = (node.attributes.iter())
            .filter_map(|a| Some(Attribute { value: self.value(&a.value, taken)?, ..a.clone() }))
            .collect();
        let own = if node.name.is_empty() { &node.op_type } else { &node.name };
        Node {
            name: taken.unique(&self.base, &format!("/{own}")),
            inputs: node.inputs.iter().map(|i| self.used(i)).collect(),
            outputs: node.outputs.iter().map(|o| self.defined(o, taken)).collect(),
            attributes,
            ..node.clone()
        }
    }

    /// An attribute's value; `None` where the call does not give what it refers to.
    fn value(&mut self, value: &AttributeValue, taken: &mut Taken) -> Option<AttributeValue> {
        Some(match value {
            AttributeValue::Reference { attribute, .. } => {
                let given = self.call.attribute(attribute);
                let default = || self.function.attribute_defaults.iter().find(|a| a.name == *attribute);
                given.or_else(|| default().map(|a| &a.value))?.clone()
            }
            AttributeValue::Graph(g) => AttributeValue::Graph(Box::new(self.graph(g, taken))),
            AttributeValue::Graphs(gs) => AttributeValue::Graphs(gs.iter().map(|g| self.graph(g, taken)).collect()),
            other => other.clone(),
        })
    }

    /// A graph inside the body: what it defines gets new names too.
    fn graph(&mut self, graph: &Graph, taken: &mut Taken) -> Graph {
        let mut new = graph.clone();
        // What the graph defines hides what has the name outside, and only inside of it.
        let outside = self.names.clone();
        let own = graph.inputs.iter().map(|v| &v.name).chain(graph.initializers.iter().map(|i| &i.name));
        own.chain(graph.nodes.iter().flat_map(|n| &n.outputs)).for_each(|n| {
            self.names.remove(n);
        });
        new.inputs.iter_mut().for_each(|v| v.name = self.defined(&v.name, taken));
        new.initializers.iter_mut().for_each(|i| i.name = self.defined(&i.name, taken));
        for node in &graph.nodes {
            for output in &node.outputs {
                self.defined(output, taken);
            }
        }
        new.nodes = graph.nodes.iter().map(|n| self.node(n, taken)).collect();
        new.outputs.iter_mut().for_each(|v| v.name = self.used(&v.name));
        new.value_info.iter_mut().for_each(|v| v.name = self.used(&v.name));
        self.names = outside;
        new
    }
}
