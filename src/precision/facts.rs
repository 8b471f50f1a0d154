//! The model seen flat: every value and node of every graph numbered, names resolved through scopes, consumers known.
//! Everything the rules ask is a look-up here; building it is linear in the model.

use crate::model::infer::Typing;
use crate::model::schema::{self, Schema};
use crate::model::{AttributeValue, DataType, Graph, Model, Name, Node, Tensor, ValueType};
use crate::{Result, err};
use std::collections::HashMap;
use std::ops::Range;

pub(super) type GraphId = usize;
pub(super) type NodeId = usize;
pub(super) type ValueId = usize;

/// The flat view.
pub(super) struct Facts<'m> {
    pub model: &'m Model,
    pub graphs: Vec<GraphFacts<'m>>,
    pub nodes: Vec<NodeFacts<'m>>,
    pub values: Vec<ValueFacts>,
}

pub(super) struct GraphFacts<'m> {
    pub graph: &'m Graph,
    /// The graph around this one.
    pub parent: Option<GraphId>,
    /// "then_branch of 'If_3'"; empty for the main graph.
    pub scope: String,
    pub nodes: Range<NodeId>,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
    names: HashMap<&'m str, ValueId>,
}

pub(super) struct NodeFacts<'m> {
    pub node: &'m Node,
    pub graph: GraphId,
    pub schema: Option<&'static Schema>,
    pub inputs: Vec<Option<ValueId>>,
    pub outputs: Vec<Option<ValueId>>,
    /// Attribute, index among its graphs, and the graph.
    pub bodies: Vec<(&'m Name, usize, GraphId)>,
}

pub(super) struct ValueFacts {
    pub name: Name,
    pub graph: GraphId,
    pub ty: Option<ValueType>,
    pub origin: Origin,
    /// Nodes that read it, in this graph and in subgraphs.
    pub consumers: Vec<NodeId>,
    /// It is an output of its graph.
    pub is_output: bool,
    /// Its value, for initializers and Constant nodes.
    pub constant: Option<Tensor>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    Input,
    Initializer(usize),
    Node(NodeId),
}

impl ValueFacts {
    /// The value is a dense FP32 tensor: what a conversion is about.
    pub fn is_f32(&self) -> bool {
        self.ty.as_ref().and_then(ValueType::tensor_dtype) == Some(DataType::Float32)
    }

    /// A sequence, optional or map that holds FP32 tensors.
    pub fn holds_f32(&self) -> bool {
        fn holds(ty: &ValueType) -> bool {
            use crate::model::TypeKind as K;
            match &ty.kind {
                K::Tensor { dtype, .. } | K::SparseTensor { dtype, .. } => *dtype == DataType::Float32,
                K::Sequence(t) | K::Optional(t) | K::Map(_, t) => holds(t),
            }
        }
        !self.is_f32() && self.ty.as_ref().is_some_and(holds)
    }
}

impl<'m> Facts<'m> {
    /// Builds the view.
    pub fn new(model: &'m Model, typing: &Typing) -> Result<Facts<'m>> {
        let mut facts = Facts { model, graphs: Vec::new(), nodes: Vec::new(), values: Vec::new() };
        facts.add_graph(&model.graph, None, String::new(), typing)?;
        Ok(facts)
    }

    fn add_graph(
        &mut self,
        graph: &'m Graph,
        parent: Option<GraphId>,
        scope: String,
        typing: &Typing,
    ) -> Result<GraphId> {
        let id = self.graphs.len();
        let first = self.nodes.len();
        self.graphs.push(GraphFacts {
            graph,
            parent,
            scope,
            nodes: first..first + graph.nodes.len(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            names: HashMap::with_capacity(graph.nodes.len() + graph.initializers.len()),
        });
        for (i, init) in graph.initializers.iter().enumerate() {
            let v = self.define(id, &init.name, typing, Origin::Initializer(i));
            self.values[v].constant = Some(init.tensor.clone());
        }
        for input in &graph.inputs {
            let known = self.graphs[id].names.get(&*input.name).copied();
            let v = known.unwrap_or_else(|| self.define(id, &input.name, typing, Origin::Input));
            self.graphs[id].inputs.push(v);
        }
        for node in &graph.nodes {
            self.add_node(id, node, typing)?;
        }
        for output in &graph.outputs {
            let v = self.resolve(id, &output.name).ok_or_else(|| {
                err!(InvalidModel, "graph output '{}' is made by no node: the model is damaged", output.name)
            })?;
            self.values[v].is_output = true;
            self.graphs[id].outputs.push(v);
        }
        // Subgraphs come after all nodes of this graph, so that a graph's nodes have consecutive numbers.
        for n in first..first + graph.nodes.len() {
            let node = self.nodes[n].node;
            let mut seen: HashMap<&Name, usize> = HashMap::new();
            for (attribute, body) in node.subgraphs() {
                let index = seen.entry(attribute).or_default();
                let scope = format!("{attribute} of {}", node.label());
                let outer = &self.graphs[id].scope;
                let scope = if outer.is_empty() { scope } else { format!("{outer} / {scope}") };
                let inner = typing.subgraphs.get(&(n - first, attribute.clone(), *index)).ok_or_else(|| {
                    err!(Internal, "no types were inferred for the {attribute} of node {}", node.label())
                })?;
                let body = self.add_graph(body, Some(id), scope, inner)?;
                self.nodes[n].bodies.push((attribute, *index, body));
                *index += 1;
            }
        }
        Ok(id)
    }

    fn define(&mut self, graph: GraphId, name: &'m Name, typing: &Typing, origin: Origin) -> ValueId {
        let id = self.values.len();
        self.values.push(ValueFacts {
            name: name.clone(),
            graph,
            ty: typing.values.get(name).cloned(),
            origin,
            consumers: Vec::new(),
            is_output: false,
            constant: None,
        });
        self.graphs[graph].names.insert(name, id);
        id
    }

    fn add_node(&mut self, graph: GraphId, node: &'m Node, typing: &Typing) -> Result<()> {
        let id = self.nodes.len();
        let inputs: Vec<Option<ValueId>> = node
            .inputs
            .iter()
            .map(|name| {
                if name.is_empty() {
                    return Ok(None);
                }
                self.resolve(graph, name).map(Some).ok_or_else(|| {
                    err!(InvalidModel, "node {} reads '{name}', which nothing defines before it", node.label())
                })
            })
            .collect::<Result<_>>()?;
        for v in inputs.iter().flatten() {
            self.values[*v].consumers.push(id);
        }
        let outputs: Vec<Option<ValueId>> = node
            .outputs
            .iter()
            .map(|name| (!name.is_empty()).then(|| self.define(graph, name, typing, Origin::Node(id))))
            .collect();
        if node.is("Constant")
            && let Some(v) = outputs.first().copied().flatten()
        {
            self.values[v].constant = constant_of(node);
        }
        let schema = self
            .model
            .opset(node.domain())
            .filter(|_| self.model.function_of(node).is_none())
            .and_then(|opset| schema::lookup(node.domain(), &node.op_type, opset));
        self.nodes.push(NodeFacts { node, graph, schema, inputs, outputs, bodies: Vec::new() });
        Ok(())
    }

    /// The value that a name means in a graph: its own, or one of the graphs around it.
    pub fn resolve(&self, graph: GraphId, name: &str) -> Option<ValueId> {
        let mut at = Some(graph);
        while let Some(g) = at {
            if let Some(v) = self.graphs[g].names.get(name) {
                return Some(*v);
            }
            at = self.graphs[g].parent;
        }
        None
    }

    /// The node that makes a value.
    pub fn producer(&self, value: ValueId) -> Option<NodeId> {
        match self.values[value].origin {
            Origin::Node(n) => Some(n),
            _ => None,
        }
    }

    /// The node that makes the given input of a node, if it is of that operator.
    pub fn input_node(&self, node: NodeId, input: usize) -> Option<NodeId> {
        self.producer(self.input(node, input)?)
    }

    /// An input of a node, if it is there.
    pub fn input(&self, node: NodeId, input: usize) -> Option<ValueId> {
        self.nodes[node].inputs.get(input).copied().flatten()
    }

    /// The operator type of a node of the standard domain, "" for others.
    pub fn op(&self, node: NodeId) -> &'m str {
        let n = self.nodes[node].node;
        if n.domain().is_empty() { &n.op_type } else { "" }
    }

    /// The consumers of all outputs of a node.
    pub fn successors(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes[node].outputs.iter().flatten().flat_map(|v| self.values[*v].consumers.iter().copied())
    }

    /// The FP32 tensors among the inputs of a node.
    pub fn f32_inputs(&self, node: NodeId) -> impl Iterator<Item = ValueId> + '_ {
        self.nodes[node].inputs.iter().flatten().copied().filter(|v| self.values[*v].is_f32())
    }

    /// True if the node reads or makes FP32 tensors (or sequences of such, or holds subgraphs that may).
    pub fn touches_f32(&self, node: NodeId) -> bool {
        let n = &self.nodes[node];
        n.inputs.iter().chain(&n.outputs).flatten().any(|v| self.values[*v].is_f32() || self.values[*v].holds_f32())
    }

    /// The single number of a constant with one element.
    pub fn scalar(&self, value: ValueId) -> Option<f64> {
        let tensor = self.values[value].constant.as_ref()?;
        if tensor.len() == 1 { tensor.to_f64()?.first().copied() } else { None }
    }
}

/// The value of a Constant node, where it is a tensor of numbers.
fn constant_of(node: &Node) -> Option<Tensor> {
    let first = node.attributes.first()?;
    match (&*first.name, &first.value) {
        ("value", AttributeValue::Tensor(t)) => Some(t.tensor.clone()),
        ("value_float", AttributeValue::Float(v)) => Some(Tensor::from_vec(DataType::Float32, vec![], vec![*v])),
        ("value_floats", AttributeValue::Floats(v)) => {
            Some(Tensor::from_vec(DataType::Float32, vec![v.len() as i64], v.clone()))
        }
        ("value_int", AttributeValue::Int(v)) => Some(Tensor::from_vec(DataType::Int64, vec![], vec![*v])),
        ("value_ints", AttributeValue::Ints(v)) => {
            Some(Tensor::from_vec(DataType::Int64, vec![v.len() as i64], v.clone()))
        }
        _ => None,
    }
}
