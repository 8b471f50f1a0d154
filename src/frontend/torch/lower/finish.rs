//! The end of a lowering: all refusals at once, or the model.

use super::emit::attribute;
use super::value::Tensor;
use super::{Lowering, OPSET};
use crate::hash::HashSet;
use crate::model::{AttributeValue, Graph, Model, Node, OpsetId, order};
use crate::{Result, err};
use std::collections::BTreeMap;

impl Lowering {
    /// Calls `f` with the nodes it emits going to a branch's graph; gives the graph with those outputs. The tensors
    /// written inside must not be used outside.
    pub fn subgraph(
        &mut self,
        name: &str,
        f: impl FnOnce(&mut Lowering) -> Result<Vec<Tensor>>,
    ) -> Result<(Graph, Vec<Tensor>)> {
        let outer = std::mem::take(&mut self.nodes);
        let shared = self.shared_keys.len();
        let scope = self.next_scope;
        self.next_scope += 1;
        self.scopes.push(scope);
        let done = f(self).and_then(|outputs| {
            let mut infos = Vec::new();
            for (i, t) in outputs.iter().enumerate() {
                let v = self.current(t)?;
                let inner = self.name(&v)?;
                // A branch's output must be made by the branch itself.
                let out = self.fresh(&format!("{name}:out{i}"));
                let node = self.fresh(&format!("{name}/Identity"));
                self.nodes.push(Node {
                    name: node,
                    op_type: "Identity".into(),
                    inputs: vec![inner],
                    outputs: vec![out.clone()],
                    ..Node::default()
                });
                infos.push(self.describe(out, &v));
            }
            Ok((outputs, infos))
        });
        self.scopes.pop();
        for key in self.shared_keys.drain(shared..) {
            self.shared.remove(&key);
        }
        let nodes = std::mem::replace(&mut self.nodes, outer);
        let (outputs, infos) = done?;
        Ok((Graph { name: Some(name.into()), nodes, outputs: infos, ..Graph::default() }, outputs))
    }

    /// An `If` over two branches with as many outputs of the same types.
    pub fn branch(
        &mut self,
        condition: &Tensor,
        yes: (Graph, Vec<Tensor>),
        no: (Graph, Vec<Tensor>),
    ) -> Result<Vec<Tensor>> {
        let condition = self.current(condition)?;
        let condition = self.cast(&condition, crate::model::DataType::Bool)?;
        let (yes, a) = yes;
        let (no, b) = no;
        let mut outputs = Vec::new();
        for (x, y) in a.iter().zip(&b) {
            let (x, y) = (x.0.borrow().value.clone(), y.0.borrow().value.clone());
            if x.dtype != y.dtype || x.rank() != y.rank() {
                return Err(err!(Unsupported, "the branches of a condition give tensors of different types or ranks"));
            }
            outputs.push((x, y));
        }
        let shapes = outputs.iter().map(|(x, y)| {
            let dims = x.shape.iter().zip(&y.shape).map(|(p, q)| if p == q { p.clone() } else { p.larger(q) });
            (x.dtype, dims.collect())
        });
        let shapes: Vec<_> = shapes.collect();
        let attributes = vec![
            attribute("then_branch", AttributeValue::Graph(Box::new(yes))),
            attribute("else_branch", AttributeValue::Graph(Box::new(no))),
        ];
        Ok(self.node_n("If", &[Some(&condition)], attributes, shapes)?.into_iter().map(Tensor::of).collect())
    }

    /// The error of all that could not be lowered so far, if there is any; for a walk that cannot go on.
    pub fn refuse_all(&self) -> Result<()> {
        self.report_missing()
    }

    fn report_missing(&self) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let mut by_op: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        for m in &self.missing {
            let place = match (m.at.module.is_empty(), m.at.source.is_empty()) {
                (true, true) => "the program".to_owned(),
                (false, true) => format!("module '{}'", m.at.module),
                (true, false) => m.at.source.clone(),
                (false, false) => format!("module '{}' at {}", m.at.module, m.at.source),
            };
            let places = by_op.entry((&m.op, &m.reason)).or_default();
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let lines: Vec<String> = by_op
            .iter()
            .map(|((op, reason), places)| {
                let shown = places.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
                let more =
                    if places.len() > 3 { format!("; and {} more places", places.len() - 3) } else { String::new() };
                format!("\n  {op}: {reason} (in {shown}{more})")
            })
            .collect();
        Err(err!(
            Unsupported,
            "{} operators of this PyTorch program cannot be expressed; export the model without them, or in ONNX form:{}",
            by_op.len(),
            lines.concat()
        ))
    }

    /// The model with those outputs, or one error that names everything that could not be lowered.
    pub fn finish(mut self, outputs: &[(String, Tensor)]) -> Result<Model> {
        let mut infos = Vec::new();
        self.report_missing()?;
        for (name, tensor) in outputs {
            let value = self.current(tensor)?;
            if value.poisoned {
                return Err(err!(Internal, "the output '{name}' was not computed"));
            }
            let inner = self.name(&value)?;
            let out = self.fresh(name);
            let node = self.fresh(&format!("{name}/Identity"));
            self.nodes.push(Node {
                name: node,
                op_type: "Identity".into(),
                inputs: vec![inner],
                outputs: vec![out.clone()],
                ..Node::default()
            });
            infos.push(self.describe(out, &value));
        }
        let mut graph = Graph {
            name: Some("main".into()),
            nodes: self.nodes,
            inputs: self.inputs,
            outputs: infos,
            initializers: self.initializers,
            ..Graph::default()
        };
        remove_unused(&mut graph);
        let mut metadata = Vec::new();
        for (name, (low, high)) in &self.ranges {
            let text = |v: &Option<i64>| v.map_or(String::new(), |v| v.to_string());
            metadata.push((format!("dimension.{name}").into(), format!("{}..{}", text(low), text(high)).into()));
        }
        let mut model = Model {
            ir_version: 9,
            opset_imports: vec![OpsetId { domain: "".into(), version: OPSET }],
            producer_name: Some("mezzo".into()),
            metadata,
            graph,
            ..Model::default()
        };
        order::sort(&mut model)?;
        crate::model::validate::validate(&model)?;
        Ok(model)
    }
}

/// Drops nodes and initializers that no output needs.
fn remove_unused(graph: &mut Graph) {
    let mut needed: HashSet<String> = graph.outputs.iter().map(|o| o.name.to_string()).collect();
    let mut kept = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes).into_iter().rev() {
        if node.outputs.iter().any(|o| needed.contains(&**o)) {
            uses(&node, &mut needed);
            kept.push(node);
        }
    }
    kept.reverse();
    graph.nodes = kept;
    graph.initializers.retain(|i| needed.contains(&*i.name));
}

fn uses(node: &Node, needed: &mut HashSet<String>) {
    needed.extend(node.inputs.iter().map(ToString::to_string));
    for (_, g) in node.subgraphs() {
        g.nodes.iter().for_each(|n| uses(n, needed));
        needed.extend(g.outputs.iter().map(|o| o.name.to_string()));
    }
}
