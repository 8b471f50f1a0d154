//! The model seen flat: every value and node of every graph numbered, names resolved through scopes, consumers known.
//! Everything the rules ask is a look-up here; building it is linear in the model.
//!
//! The body of a local function is seen once for each call, so that the rules know what a call passes in.

use super::unfold::Unfolding;
use crate::hash::{HashMap, Keys};
use crate::model::graph::norm_domain;
use crate::model::infer::Typing;
use crate::model::schema::{self, Schema};
use crate::model::{
    AttributeValue, DataType, Function, Graph, Model, Name, Node, OpsetId, Tensor, TypeKind, ValueInfo, ValueType,
};
use crate::{Result, err};
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
    functions: HashMap<(&'m str, &'m str, &'m str), &'m Function>,
    unfolding: Unfolding,
}

/// Where a graph is written down.
#[derive(Clone, Copy)]
pub(super) enum Source<'m> {
    Graph(&'m Graph),
    Function(&'m Function),
}

impl<'m> Source<'m> {
    pub fn nodes(self) -> &'m [Node] {
        match self {
            Source::Graph(g) => &g.nodes,
            Source::Function(f) => &f.nodes,
        }
    }

    pub fn value_info(self) -> &'m [ValueInfo] {
        match self {
            Source::Graph(g) => &g.value_info,
            Source::Function(f) => &f.value_info,
        }
    }
}

/// Attributes of a call, which its function's body refers to.
type Bindings<'m> = Vec<(&'m str, &'m AttributeValue)>;

pub(super) struct GraphFacts<'m> {
    pub source: Source<'m>,
    /// The graph around this one, whose values it sees.
    pub parent: Option<GraphId>,
    /// The node that holds or calls it; `None` for the main graph.
    pub owner: Option<NodeId>,
    /// The graph whose names must differ from its own: the main graph, or the function body that it stands in.
    pub root: GraphId,
    /// "then_branch of 'If_3'"; empty for the main graph.
    pub scope: String,
    pub nodes: Range<NodeId>,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
    imports: &'m [OpsetId],
    bindings: std::rc::Rc<Bindings<'m>>,
    names: HashMap<&'m str, ValueId>,
}

/// How a graph hangs on its node.
#[derive(Clone)]
pub(super) enum Body<'m> {
    /// The attribute, and the place among its graphs.
    Attribute(&'m Name, usize),
    /// The function that the node calls.
    Call,
}

pub(super) struct NodeFacts<'m> {
    pub node: &'m Node,
    pub graph: GraphId,
    pub schema: Option<&'static Schema>,
    pub inputs: Vec<Option<ValueId>>,
    pub outputs: Vec<Option<ValueId>>,
    pub bodies: Vec<(Body<'m>, GraphId)>,
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
    /// Its value, for initializers and Constant nodes, and for inputs of functions that are called with such.
    pub constant: Option<Tensor>,
    /// The initializer or Constant that this constant is; itself, except for inputs of functions.
    pub root: ValueId,
}

/// How values go through the bodies of a node: where its inputs meet the body's, where its outputs do, and which values
/// are carried from round to round.
#[derive(Clone, Copy)]
pub(super) struct Way {
    /// The node's input that the body's first input is.
    pub first_input: usize,
    /// The body's output that the node's first output is.
    pub first_output: usize,
    /// How many values are carried; the first comes out of the body at `first_output`.
    pub carried: usize,
    /// The body's input that the first carried value is.
    pub carried_from: usize,
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

    /// A sequence or optional of FP32 tensors: it can be half too, but no Cast exists for it.
    pub fn is_container(&self) -> bool {
        fn inside(ty: &ValueType) -> bool {
            match &ty.kind {
                TypeKind::Tensor { dtype, .. } => *dtype == DataType::Float32,
                TypeKind::Sequence(t) | TypeKind::Optional(t) => inside(t),
                _ => false,
            }
        }
        !self.is_f32() && self.ty.as_ref().is_some_and(inside)
    }

    /// It holds FP32 in a way that stays: a map or a sparse tensor.
    pub fn is_fixed_f32(&self) -> bool {
        fn inside(ty: &ValueType) -> bool {
            match &ty.kind {
                TypeKind::Tensor { dtype, .. } | TypeKind::SparseTensor { dtype, .. } => *dtype == DataType::Float32,
                TypeKind::Sequence(t) | TypeKind::Optional(t) | TypeKind::Map(_, t) => inside(t),
            }
        }
        !self.is_f32() && !self.is_container() && self.ty.as_ref().is_some_and(inside)
    }
}

impl<'m> Facts<'m> {
    /// Builds the view.
    pub fn new(model: &'m Model, typing: &Typing) -> Result<Facts<'m>> {
        let functions: HashMap<_, _> =
            model.functions.iter().map(|f| ((norm_domain(&f.domain), &*f.name, &*f.overload), f)).collect();
        let unfolding = Unfolding::of(model);
        let mut facts =
            Facts { model, graphs: Vec::new(), nodes: Vec::new(), values: Vec::new(), functions, unfolding };
        let source = Source::Graph(&model.graph);
        facts.add_graph(source, None, None, String::new(), &model.opset_imports, Bindings::default().into(), typing)?;
        Ok(facts)
    }

    #[allow(clippy::too_many_arguments)] // one call for each kind of graph, and each is its own thing
    fn add_graph(
        &mut self,
        source: Source<'m>,
        parent: Option<GraphId>,
        owner: Option<NodeId>,
        scope: String,
        imports: &'m [OpsetId],
        bindings: std::rc::Rc<Bindings<'m>>,
        typing: &Typing,
    ) -> Result<GraphId> {
        let id = self.graphs.len();
        let first = self.nodes.len();
        let nodes = source.nodes();
        self.graphs.push(GraphFacts {
            source,
            parent,
            owner,
            root: parent.map_or(id, |p| self.graphs[p].root),
            scope,
            nodes: first..first + nodes.len(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            imports,
            bindings,
            names: HashMap::with_capacity_and_hasher(nodes.len(), Keys::default()),
        });
        self.add_inputs(id, typing);
        for node in nodes {
            self.add_node(id, node, typing)?;
        }
        let outputs: Vec<&'m Name> = match source {
            Source::Graph(g) => g.outputs.iter().map(|o| &o.name).collect(),
            Source::Function(f) => f.outputs.iter().collect(),
        };
        for name in outputs {
            let v = self
                .resolve(id, name)
                .ok_or_else(|| err!(InvalidModel, "graph output '{name}' is made by no node: the model is damaged"))?;
            self.values[v].is_output = true;
            self.graphs[id].outputs.push(v);
        }
        // Subgraphs come after all nodes of this graph, so that a graph's nodes have consecutive numbers.
        for n in first..first + nodes.len() {
            self.add_bodies(id, n, n - first, typing)?;
        }
        Ok(id)
    }

    fn add_inputs(&mut self, id: GraphId, typing: &Typing) {
        match self.graphs[id].source {
            Source::Graph(graph) => {
                for (i, init) in graph.initializers.iter().enumerate() {
                    let v = self.define(id, &init.name, typing, Origin::Initializer(i));
                    self.values[v].constant = Some(init.tensor.clone());
                }
                for s in &graph.sparse_initializers {
                    let v = self.define(id, &s.values.name, typing, Origin::Input);
                    let dtype = s.values.tensor.dtype();
                    self.values[v].ty = Some(ValueType::new(TypeKind::SparseTensor { dtype, shape: None }));
                }
                for input in &graph.inputs {
                    let known = self.graphs[id].names.get(&*input.name).copied();
                    let v = known.unwrap_or_else(|| self.define(id, &input.name, typing, Origin::Input));
                    self.graphs[id].inputs.push(v);
                }
            }
            Source::Function(function) => {
                for (i, name) in function.inputs.iter().enumerate() {
                    let v = self.define(id, name, typing, Origin::Input);
                    self.graphs[id].inputs.push(v);
                    // A constant that is passed in is one inside too.
                    if let Some(given) = self.graphs[id].owner.and_then(|n| self.input(n, i)) {
                        self.values[v].constant = self.values[given].constant.clone();
                        self.values[v].root = self.values[given].root;
                    }
                }
            }
        }
    }

    fn add_bodies(&mut self, id: GraphId, n: NodeId, index: usize, typing: &Typing) -> Result<()> {
        let node = self.nodes[n].node;
        let scope = |what: &str, outer: &str| {
            let own = format!("{what} of {}", node.label());
            if outer.is_empty() { own } else { format!("{outer} / {own}") }
        };
        let mut seen: HashMap<&Name, usize> = HashMap::default();
        for (attribute, body) in node.subgraphs() {
            let place = seen.entry(attribute).or_default();
            let inner = typing
                .subgraphs
                .get(&(index, attribute.clone(), *place))
                .ok_or_else(|| err!(Internal, "no types were inferred for the {attribute} of node {}", node.label()))?;
            let scope = scope(attribute, &self.graphs[id].scope);
            let (imports, bindings) = (self.graphs[id].imports, self.graphs[id].bindings.clone());
            let body = self.add_graph(Source::Graph(body), Some(id), Some(n), scope, imports, bindings, inner)?;
            self.nodes[n].bodies.push((Body::Attribute(attribute, *place), body));
            *place += 1;
        }
        if let Some(function) = self.function_of(node)
            && self.unfolding.sees(function)
            && let Some(inner) = typing.calls.get(&index)
        {
            let bindings = self.bindings_of(id, node, function);
            let scope = scope("body", &self.graphs[id].scope);
            let source = Source::Function(function);
            let body = self.add_graph(source, None, Some(n), scope, &function.opset_imports, bindings.into(), inner)?;
            self.nodes[n].bodies.push((Body::Call, body));
        }
        Ok(())
    }

    /// The attributes that the body of a called function sees.
    fn bindings_of(&self, graph: GraphId, node: &'m Node, function: &'m Function) -> Bindings<'m> {
        let defaults = function.attribute_defaults.iter().filter(|d| node.attribute(&d.name).is_none());
        node.attributes
            .iter()
            .chain(defaults)
            .filter_map(|a| Some((&*a.name, follow(&a.value, &self.graphs[graph].bindings)?)))
            .collect()
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
            root: id,
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
            self.values[v].constant = self.constant_of(graph, node);
        }
        let schema = if self.function_of(node).is_some() {
            None
        } else {
            let opset = crate::model::graph::find_opset(self.graphs[graph].imports, node.domain());
            opset.and_then(|opset| schema::lookup(node.domain(), &node.op_type, opset))
        };
        self.nodes.push(NodeFacts { node, graph, schema, inputs, outputs, bodies: Vec::new() });
        Ok(())
    }

    /// The value of a Constant node, where it is a tensor of numbers.
    fn constant_of(&self, graph: GraphId, node: &'m Node) -> Option<Tensor> {
        let first = node.attributes.first()?;
        let floats = |v: Vec<f32>, dims| Some(Tensor::from_vec(DataType::Float32, dims, v));
        let ints = |v: Vec<i64>, dims| Some(Tensor::from_vec(DataType::Int64, dims, v));
        match (&*first.name, follow(&first.value, &self.graphs[graph].bindings)?) {
            ("value", AttributeValue::Tensor(t)) => Some(t.tensor.clone()),
            ("value_float", AttributeValue::Float(v)) => floats(vec![*v], vec![]),
            ("value_floats", AttributeValue::Floats(v)) => floats(v.clone(), vec![v.len() as i64]),
            ("value_int", AttributeValue::Int(v)) => ints(vec![*v], vec![]),
            ("value_ints", AttributeValue::Ints(v)) => ints(v.clone(), vec![v.len() as i64]),
            _ => None,
        }
    }

    /// The local function that a node calls.
    pub fn function_of(&self, node: &Node) -> Option<&'m Function> {
        self.functions.get(&(node.domain(), &*node.op_type, &*node.overload)).copied()
    }

    /// The version of a domain that a node's graph imports.
    pub fn opset(&self, node: NodeId) -> Option<i64> {
        let n = &self.nodes[node];
        crate::model::graph::find_opset(self.graphs[n.graph].imports, n.node.domain())
    }

    /// An attribute of a node; inside a function, references to the call's attributes are followed.
    pub fn attribute(&self, node: NodeId, name: &str) -> Option<&'m AttributeValue> {
        let n = &self.nodes[node];
        let value = n.node.attribute(name)?;
        follow(value, &self.graphs[n.graph].bindings)
    }

    /// An integer attribute.
    pub fn int(&self, node: NodeId, name: &str) -> Option<i64> {
        match self.attribute(node, name)? {
            AttributeValue::Int(v) => Some(*v),
            _ => None,
        }
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

    /// The node that makes the given input of a node.
    pub fn input_node(&self, node: NodeId, input: usize) -> Option<NodeId> {
        self.producer(self.input(node, input)?)
    }

    /// An input of a node, if it is there.
    pub fn input(&self, node: NodeId, input: usize) -> Option<ValueId> {
        self.nodes[node].inputs.get(input).copied().flatten()
    }

    /// The operator type of a node of the standard domain, "" for others and for calls of local functions.
    pub fn op(&self, node: NodeId) -> &'m str {
        let n = &self.nodes[node];
        if n.node.domain().is_empty() && n.schema.is_some() { &n.node.op_type } else { "" }
    }

    /// True for control flow and calls whose bodies are seen: the types of inputs and outputs are those of the bodies.
    pub fn has_linked_bodies(&self, node: NodeId) -> bool {
        matches!(self.op(node), "If" | "Loop" | "Scan" | "SequenceMap") && !self.nodes[node].bodies.is_empty()
            || self.nodes[node].bodies.iter().any(|(b, _)| matches!(b, Body::Call))
    }

    /// How values go through the bodies of a node.
    pub fn way(&self, node: NodeId) -> Way {
        let inputs = self.nodes[node].inputs.len();
        match self.op(node) {
            "Loop" => Way { first_input: 0, first_output: 1, carried: inputs.saturating_sub(2), carried_from: 2 },
            "Scan" => {
                // Version 8 has an input for sequence lengths first.
                let first_input = usize::from(self.opset(node).is_some_and(|v| v < 9));
                let scanned = self.int(node, "num_scan_inputs").and_then(|v| usize::try_from(v).ok()).unwrap_or(0);
                let carried = inputs.saturating_sub(first_input).saturating_sub(scanned);
                Way { first_input, first_output: 0, carried, carried_from: 0 }
            }
            _ => Way { first_input: 0, first_output: 0, carried: 0, carried_from: 0 },
        }
    }

    /// The consumers of all outputs of a node.
    pub fn successors(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes[node].outputs.iter().flatten().flat_map(|v| self.values[*v].consumers.iter().copied())
    }

    /// The FP32 tensors among the inputs of a node.
    pub fn f32_inputs(&self, node: NodeId) -> impl Iterator<Item = ValueId> + '_ {
        self.nodes[node].inputs.iter().flatten().copied().filter(|v| self.values[*v].is_f32())
    }

    /// The values that a node reads and makes.
    pub fn touched(&self, node: NodeId) -> impl Iterator<Item = ValueId> + '_ {
        let n = &self.nodes[node];
        n.inputs.iter().chain(&n.outputs).flatten().copied()
    }

    /// True if the node reads or makes FP32 tensors or what holds such.
    pub fn touches_f32(&self, node: NodeId) -> bool {
        self.touched(node).map(|v| &self.values[v]).any(|v| v.is_f32() || v.is_container() || v.is_fixed_f32())
    }

    /// The single number of a constant with one element.
    pub fn scalar(&self, value: ValueId) -> Option<f64> {
        let tensor = self.values[value].constant.as_ref()?;
        if tensor.len() == 1 { tensor.to_f64()?.first().copied() } else { None }
    }
}

/// What an attribute says, with a reference to the call's attributes followed.
fn follow<'m>(value: &'m AttributeValue, bindings: &Bindings<'m>) -> Option<&'m AttributeValue> {
    match value {
        AttributeValue::Reference { attribute, .. } => {
            bindings.iter().find(|(name, _)| *name == &**attribute).map(|(_, value)| *value)
        }
        value => Some(value),
    }
}
