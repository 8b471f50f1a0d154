//! Model, graph, node: ONNX's structure with nothing dropped.

use super::{Name, SparseTensor, Tensor, ValueInfo, ValueType};
use bytes::Bytes;

/// An operator set a model or function imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpsetId {
    /// The domain; "" is ai.onnx (the reader normalises "ai.onnx" only when it looks a domain up, never in the file).
    pub domain: Name,
    /// Its version.
    pub version: i64,
}

/// A whole model.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// ONNX IR version.
    pub ir_version: i64,
    /// Imported operator sets.
    pub opset_imports: Vec<OpsetId>,
    /// Tool that made the model.
    pub producer_name: Option<Name>,
    /// Its version.
    pub producer_version: Option<Name>,
    /// The model's reverse-DNS domain.
    pub domain: Option<Name>,
    /// The model's own version.
    pub model_version: Option<i64>,
    /// Documentation.
    pub doc_string: Option<Name>,
    /// Free key-value pairs.
    pub metadata: Vec<(Name, Name)>,
    /// The main graph.
    pub graph: Graph,
    /// Local functions.
    pub functions: Vec<Function>,
    /// Device configurations for models spread over devices, each as its encoded message; kept as read.
    pub device_configurations: Vec<Bytes>,
}

/// A graph: the main one or a subgraph held by a node's attribute.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Its name.
    pub name: Option<Name>,
    /// Documentation.
    pub doc_string: Option<Name>,
    /// Free key-value pairs.
    pub metadata: Vec<(Name, Name)>,
    /// Nodes, in topological order.
    pub nodes: Vec<Node>,
    /// Inputs. Before IR version 4 every initializer is listed here too; see [`Graph::real_inputs`].
    pub inputs: Vec<ValueInfo>,
    /// Outputs.
    pub outputs: Vec<ValueInfo>,
    /// Types of inner values, as far as the file gives them.
    pub value_info: Vec<ValueInfo>,
    /// Constants.
    pub initializers: Vec<Initializer>,
    /// Sparse constants.
    pub sparse_initializers: Vec<SparseTensor>,
    /// Quantization annotations: tensor name and its parameter names, kept as read.
    pub quantization: Vec<(Name, Vec<(Name, Name)>)>,
}

/// A named constant of a graph.
#[derive(Debug, Clone)]
pub struct Initializer {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub tensor: Tensor,
    /// Kept as read.
    pub doc_string: Option<Name>,
    /// Kept as read.
    pub metadata: Vec<(Name, Name)>,
}

/// An operator call.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Its name; may be empty.
    pub name: Name,
    /// Operator type ("Conv").
    pub op_type: Name,
    /// Operator domain; "" and "ai.onnx" are the same, see [`Node::domain`].
    pub domain: Name,
    /// Function overload.
    pub overload: Name,
    /// Input names; "" is an omitted input.
    pub inputs: Vec<Name>,
    /// Output names; "" is an unwanted output.
    pub outputs: Vec<Name>,
    /// Attributes.
    pub attributes: Vec<Attribute>,
    /// Documentation.
    pub doc_string: Option<Name>,
    /// Free key-value pairs.
    pub metadata: Vec<(Name, Name)>,
    /// How the node is spread over devices, each as its encoded message; kept as read.
    pub device_configurations: Vec<Bytes>,
}

/// A named attribute of a node or a default of a function.
#[derive(Debug, Clone)]
pub struct Attribute {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub value: AttributeValue,
    /// Documentation.
    pub doc_string: Option<Name>,
}

/// An attribute's value. The kinds and their numbers are `AttributeProto.AttributeType`'s.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // each is what its name says
pub enum AttributeValue {
    Float(f32),
    Int(i64),
    String(Bytes),
    Tensor(NamedTensor),
    Graph(Box<Graph>),
    SparseTensor(SparseTensor),
    Type(ValueType),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strings(Vec<Bytes>),
    Tensors(Vec<NamedTensor>),
    Graphs(Vec<Graph>),
    SparseTensors(Vec<SparseTensor>),
    Types(Vec<ValueType>),
    /// In a function body: the value of the calling node's attribute of that name; `kind` is its `AttributeType`.
    Reference {
        attribute: Name,
        kind: i32,
    },
}

impl AttributeValue {
    /// The `AttributeType` number; for a reference, that of the attribute referred to (0 if it is not given).
    pub fn kind(&self) -> i32 {
        match self {
            AttributeValue::Float(_) => 1,
            AttributeValue::Int(_) => 2,
            AttributeValue::String(_) => 3,
            AttributeValue::Tensor(_) => 4,
            AttributeValue::Graph(_) => 5,
            AttributeValue::Floats(_) => 6,
            AttributeValue::Ints(_) => 7,
            AttributeValue::Strings(_) => 8,
            AttributeValue::Tensors(_) => 9,
            AttributeValue::Graphs(_) => 10,
            AttributeValue::SparseTensor(_) => 11,
            AttributeValue::SparseTensors(_) => 12,
            AttributeValue::Type(_) => 13,
            AttributeValue::Types(_) => 14,
            AttributeValue::Reference { kind, .. } => *kind,
        }
    }
}

/// A tensor attribute keeps the name the file gives it.
pub type NamedTensor = Initializer;

/// A local function of a model.
#[derive(Debug, Clone, Default)]
pub struct Function {
    /// Its name, the `op_type` of its calls.
    pub name: Name,
    /// Its domain.
    pub domain: Name,
    /// Its overload.
    pub overload: Name,
    /// Input names.
    pub inputs: Vec<Name>,
    /// Output names.
    pub outputs: Vec<Name>,
    /// Names of attributes without a default.
    pub attributes: Vec<Name>,
    /// Attributes with a default.
    pub attribute_defaults: Vec<Attribute>,
    /// The body, in topological order.
    pub nodes: Vec<Node>,
    /// Operator sets the body uses.
    pub opset_imports: Vec<OpsetId>,
    /// Types of inner values.
    pub value_info: Vec<ValueInfo>,
    /// Documentation.
    pub doc_string: Option<Name>,
    /// Free key-value pairs.
    pub metadata: Vec<(Name, Name)>,
}

impl Model {
    /// The imported version of a domain ("" or "ai.onnx" for the standard one).
    pub fn opset(&self, domain: &str) -> Option<i64> {
        find_opset(&self.opset_imports, domain)
    }

    /// The local function a node calls, if it calls one.
    pub fn function_of(&self, node: &Node) -> Option<&Function> {
        self.functions
            .iter()
            .find(|f| f.name == node.op_type && norm_domain(&f.domain) == node.domain() && f.overload == node.overload)
    }

    /// The model with every pending conversion done; the rest is shared.
    pub fn materialized(&self) -> crate::Result<Model> {
        let mut model = self.clone();
        let mut convert = |t: &mut Tensor| {
            if t.is_pending() {
                *t = t.materialize()?;
            }
            Ok(())
        };
        model.graph.visit_tensors_mut(&mut convert)?;
        for f in &mut model.functions {
            f.nodes.iter_mut().try_for_each(|n| n.visit_tensors_mut(&mut convert))?;
        }
        Ok(model)
    }

    /// Bytes of all tensors in their declared types: initializers and tensor attributes of every graph and function.
    pub fn weight_bytes(&self) -> u64 {
        let mut sum = 0u64;
        let mut add = |t: &Tensor| sum += t.byte_len() as u64;
        self.graph.visit_tensors(&mut add);
        for f in &self.functions {
            f.nodes.iter().for_each(|n| n.visit_tensors(&mut add));
        }
        sum
    }
}

/// The version of `domain` in a list of imports.
pub fn find_opset(imports: &[OpsetId], domain: &str) -> Option<i64> {
    let domain = norm_domain(domain);
    imports.iter().find(|o| norm_domain(&o.domain) == domain).map(|o| o.version)
}

/// "ai.onnx" is the long name of "".
pub fn norm_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

impl Graph {
    /// The inputs a caller must give: those that no initializer of this graph shadows.
    pub fn real_inputs(&self) -> impl Iterator<Item = &ValueInfo> {
        let inits: crate::hash::HashSet<&str> = self
            .initializers
            .iter()
            .map(|i| &*i.name)
            .chain(self.sparse_initializers.iter().map(|s| &*s.values.name))
            .collect();
        self.inputs.iter().filter(move |v| !inits.contains(&*v.name))
    }

    /// The initializer of that name.
    pub fn initializer(&self, name: &str) -> Option<&Initializer> {
        self.initializers.iter().find(|i| &*i.name == name)
    }

    /// Calls `f` on every tensor of this graph and its subgraphs.
    pub fn visit_tensors(&self, f: &mut impl FnMut(&Tensor)) {
        self.initializers.iter().for_each(|i| f(&i.tensor));
        for s in &self.sparse_initializers {
            f(&s.values.tensor);
            f(&s.indices.tensor);
        }
        self.nodes.iter().for_each(|n| n.visit_tensors(f));
    }

    /// Calls `f` on every dense tensor of this graph and its subgraphs, to be changed.
    pub fn visit_tensors_mut(&mut self, f: &mut dyn FnMut(&mut Tensor) -> crate::Result<()>) -> crate::Result<()> {
        self.initializers.iter_mut().try_for_each(|i| f(&mut i.tensor))?;
        self.nodes.iter_mut().try_for_each(|n| n.visit_tensors_mut(f))
    }
}

impl Node {
    /// The operator's domain with "ai.onnx" written as "".
    pub fn domain(&self) -> &str {
        norm_domain(&self.domain)
    }

    /// True for an operator of the standard domain and that type.
    pub fn is(&self, op_type: &str) -> bool {
        self.domain().is_empty() && &*self.op_type == op_type
    }

    /// The value of that attribute.
    pub fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.attributes.iter().find(|a| &*a.name == name).map(|a| &a.value)
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name)? {
            AttributeValue::Int(v) => Some(*v),
            _ => None,
        }
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attribute(name)? {
            AttributeValue::Float(v) => Some(*v),
            _ => None,
        }
    }

    /// An integer list attribute.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attribute(name)? {
            AttributeValue::Ints(v) => Some(v),
            _ => None,
        }
    }

    /// A string attribute, if it is UTF-8.
    pub fn string(&self, name: &str) -> Option<&str> {
        match self.attribute(name)? {
            AttributeValue::String(v) => std::str::from_utf8(v).ok(),
            _ => None,
        }
    }

    /// The subgraphs, with the names of their attributes.
    pub fn subgraphs(&self) -> impl Iterator<Item = (&Name, &Graph)> {
        self.attributes.iter().flat_map(|a| {
            let graphs: &[Graph] = match &a.value {
                AttributeValue::Graph(g) => std::slice::from_ref(&**g),
                AttributeValue::Graphs(gs) => gs,
                _ => &[],
            };
            graphs.iter().map(move |g| (&a.name, g))
        })
    }

    /// The subgraphs, mutable.
    pub fn subgraphs_mut(&mut self) -> impl Iterator<Item = &mut Graph> {
        self.attributes.iter_mut().flat_map(|a| {
            let graphs: &mut [Graph] = match &mut a.value {
                AttributeValue::Graph(g) => std::slice::from_mut(&mut **g),
                AttributeValue::Graphs(gs) => gs,
                _ => &mut [],
            };
            graphs.iter_mut()
        })
    }

    /// How messages name the node: its name, or its first output where it has none, with the operator.
    pub fn label(&self) -> String {
        let domain = if self.domain().is_empty() { String::new() } else { format!("{}::", self.domain) };
        let op = &self.op_type;
        if !self.name.is_empty() {
            return format!("'{}' ({domain}{op})", self.name);
        }
        match self.outputs.iter().find(|o| !o.is_empty()) {
            Some(o) => format!("with output '{o}' ({domain}{op})"),
            None => format!("({domain}{op})"),
        }
    }

    fn visit_tensors_mut(&mut self, f: &mut dyn FnMut(&mut Tensor) -> crate::Result<()>) -> crate::Result<()> {
        for a in &mut self.attributes {
            match &mut a.value {
                AttributeValue::Tensor(t) => f(&mut t.tensor)?,
                AttributeValue::Tensors(ts) => ts.iter_mut().try_for_each(|t| f(&mut t.tensor))?,
                AttributeValue::Graph(g) => g.visit_tensors_mut(f)?,
                AttributeValue::Graphs(gs) => gs.iter_mut().try_for_each(|g| g.visit_tensors_mut(f))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn visit_tensors(&self, f: &mut impl FnMut(&Tensor)) {
        for a in &self.attributes {
            match &a.value {
                AttributeValue::Tensor(t) => f(&t.tensor),
                AttributeValue::Tensors(ts) => ts.iter().for_each(|t| f(&t.tensor)),
                AttributeValue::SparseTensor(s) => {
                    f(&s.values.tensor);
                    f(&s.indices.tensor);
                }
                AttributeValue::SparseTensors(ss) => {
                    for s in ss {
                        f(&s.values.tensor);
                        f(&s.indices.tensor);
                    }
                }
                AttributeValue::Graph(g) => visit_boxed(g, f),
                AttributeValue::Graphs(gs) => gs.iter().for_each(|g| visit_boxed(g, f)),
                _ => {}
            }
        }
    }
}

/// Recursion through a trait object keeps the closure's type finite.
fn visit_boxed(graph: &Graph, f: &mut impl FnMut(&Tensor)) {
    let mut dynamic: &mut dyn FnMut(&Tensor) = f;
    graph.visit_tensors(&mut dynamic);
}
