//! One step: every graph and function of one version, brought to the next.

use super::adapters;
use super::context::Context;
use super::scope::{Body, Scope};
use super::softmax;
use crate::Result;
use crate::hash::{HashMap, HashSet};
use crate::model::infer::{Typing, infer_known};
use crate::model::names::Taken;
use crate::model::{AttributeValue, Graph, Initializer, Model, Node};
use std::sync::Arc;

/// The step from version `from` to the next.
pub(super) struct Step<'a> {
    pub model: &'a Model,
    pub from: i64,
    /// The version that is asked for in the end.
    pub last: i64,
    /// What could not be expressed.
    pub problems: &'a mut Vec<String>,
}

impl Step<'_> {
    /// The model with new nodes where some have an adapter; its imports are still those of the old version.
    pub fn apply(mut self) -> Result<Option<Model>> {
        let model = self.model;
        let main = model.opset("") == Some(self.from);
        let functions: Vec<usize> =
            (0..model.functions.len()).filter(|i| model.functions[*i].opset() == Some(self.from)).collect();
        let bodies = functions.iter().map(|i| &model.functions[*i].nodes).chain(main.then_some(&model.graph.nodes));
        if !bodies.into_iter().any(|nodes| self.changes(nodes)) {
            return Ok(None);
        }
        let typing = infer_known(model)?;
        let ranks = self.from + 1 == softmax::STEP;
        let mut new = model.clone();
        if main {
            let scope = Scope::new(Body::Graph(&model.graph), vec![&typing], None, ranks);
            new.graph = self.graph(&model.graph, &scope, &mut Taken::of_graph(&model.graph));
        }
        let mut calls = Calls { model, found: HashMap::default(), seen: HashSet::default() };
        calls.collect(&model.graph.nodes, &typing);
        for &i in &functions {
            let function = &model.functions[i];
            let typings = calls.found.remove(&i).unwrap_or_default();
            let scope = Scope::new(Body::Function(function), typings, None, ranks);
            let mut taken = Taken::of_function(function);
            new.functions[i].nodes = self.nodes(&scope, &mut taken, None).0;
        }
        Ok(Some(new))
    }

    /// True if some node, or one inside of it, has an adapter.
    fn changes(&self, nodes: &[Node]) -> bool {
        nodes.iter().any(|n| {
            n.domain().is_empty() && adapters::find(&n.op_type, self.from + 1).is_some()
                || n.subgraphs().any(|(_, g)| self.changes(&g.nodes))
        })
    }

    fn graph(&mut self, old: &Graph, scope: &Scope, taken: &mut Taken) -> Graph {
        let (nodes, initializers) = self.nodes(scope, taken, Some(old.initializers.clone()));
        Graph {
            name: old.name.clone(),
            doc_string: old.doc_string.clone(),
            metadata: old.metadata.clone(),
            nodes,
            inputs: old.inputs.clone(),
            outputs: old.outputs.clone(),
            value_info: old.value_info.clone(),
            initializers: initializers.unwrap_or_default(),
            sparse_initializers: old.sparse_initializers.clone(),
            quantization: old.quantization.clone(),
        }
    }

    /// The new nodes of a graph or function, and the initializers with new ones after them.
    fn nodes(
        &mut self,
        scope: &Scope,
        taken: &mut Taken,
        mut initializers: Option<Vec<Initializer>>,
    ) -> (Vec<Node>, Option<Vec<Initializer>>) {
        let mut nodes = Vec::with_capacity(scope.body.nodes().len());
        for (index, old) in scope.body.nodes().iter().enumerate() {
            let mut node = old.clone();
            for attribute in &mut node.attributes {
                let graphs = match &mut attribute.value {
                    AttributeValue::Graph(g) => std::slice::from_mut(&mut **g),
                    AttributeValue::Graphs(gs) => gs.as_mut_slice(),
                    _ => continue,
                };
                for (at, g) in graphs.iter_mut().enumerate() {
                    let new = self.graph(g, &scope.inner(index, &attribute.name, at, g), taken);
                    *g = new;
                }
            }
            let adapter = match node.domain() {
                "" if self.model.function_of(&node).is_none() => adapters::find(&node.op_type, self.from + 1),
                _ => None,
            };
            let Some(adapter) = adapter else {
                nodes.push(node);
                continue;
            };
            let mut context =
                Context::new(self.model, self.last, scope, taken, &node, &mut nodes, initializers.as_mut());
            if let Err(reason) = adapter(node, &mut context) {
                let (from, to) = (self.from, self.from + 1);
                self.problems.push(format!("node {} from version {from} to {to}: {reason}", old.label()));
                // It stays as it is, so that what comes later is found too.
                nodes.push(old.clone());
            }
        }
        (nodes, initializers)
    }
}

/// The typings of the local functions' bodies, each once.
struct Calls<'a> {
    model: &'a Model,
    /// By the function's place in the model.
    found: HashMap<usize, Vec<&'a Typing>>,
    seen: HashSet<*const Typing>,
}

impl<'a> Calls<'a> {
    fn collect(&mut self, nodes: &'a [Node], typing: &'a Typing) {
        for (&at, inside) in &typing.calls {
            let called = nodes.get(at).and_then(|n| self.model.function_of(n));
            let place = called.and_then(|f| self.model.functions.iter().position(|g| std::ptr::eq(f, g)));
            if let (Some(function), Some(place)) = (called, place)
                && self.seen.insert(Arc::as_ptr(inside))
            {
                self.found.entry(place).or_default().push(inside);
                self.collect(&function.nodes, inside);
            }
        }
        for ((at, attribute, i), inside) in &typing.subgraphs {
            let graph = nodes.get(*at).and_then(|n| n.subgraphs().filter(|(a, _)| *a == attribute).nth(*i));
            if let Some((_, graph)) = graph {
                self.collect(&graph.nodes, inside);
            }
        }
    }
}
