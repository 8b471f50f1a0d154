//! What a rewriting works with: the node's surroundings, and new nodes, names and constants.

use crate::hash::{HashMap, HashSet};
use crate::model::infer::Typing;
use crate::model::names::Taken;
use crate::model::{Attribute, AttributeValue, DataType, Graph, Initializer, Name, Node, Shape, Tensor, ValueType};
use half::{bf16, f16};

/// A graph with the graphs around it.
pub(super) struct Scope<'a> {
    typing: Option<&'a Typing>,
    outer: Option<&'a Scope<'a>>,
    constants: HashMap<&'a str, Tensor>,
    /// What the graph defines otherwise, which hides what is outside.
    defined: HashSet<&'a str>,
    read: HashSet<&'a str>,
}

impl<'a> Scope<'a> {
    pub fn new(graph: &'a Graph, typing: Option<&'a Typing>, outer: Option<&'a Scope<'a>>) -> Scope<'a> {
        let inputs: HashSet<&str> = graph.inputs.iter().map(|v| &*v.name).collect();
        let mut constants: HashMap<&str, Tensor> = (graph.initializers.iter())
            .filter(|i| !inputs.contains(&*i.name))
            .map(|i| (&*i.name, i.tensor.clone()))
            .collect();
        for node in graph.nodes.iter().filter(|n| n.is("Constant")) {
            if let (Some(output), Some(tensor)) = (node.outputs.first(), constant_value(node)) {
                constants.insert(output, tensor);
            }
        }
        let outputs = graph.nodes.iter().flat_map(|n| &n.outputs).map(|o| &**o);
        let defined = outputs.chain(inputs.iter().copied()).collect();
        let mut read = graph.outputs.iter().map(|v| &*v.name).collect();
        graph.nodes.iter().for_each(|n| add_reads(n, &mut read));
        Scope { typing, outer, constants, defined, read }
    }

    fn ty(&self, name: &str) -> Option<&ValueType> {
        let found = self.typing.and_then(|t| t.values.get(name));
        found.or_else(|| self.outer.filter(|_| !self.defined.contains(name))?.ty(name))
    }

    fn constant(&self, name: &str) -> Option<&Tensor> {
        let found = self.constants.get(name);
        found.or_else(|| self.outer.filter(|_| !self.defined.contains(name))?.constant(name))
    }
}

fn add_reads<'a>(node: &'a Node, read: &mut HashSet<&'a str>) {
    read.extend(node.inputs.iter().map(|i| &**i));
    for (_, graph) in node.subgraphs() {
        read.extend(graph.outputs.iter().map(|v| &*v.name));
        graph.nodes.iter().for_each(|n| add_reads(n, read));
    }
}

/// The value of a node Constant that holds integers or a tensor.
fn constant_value(node: &Node) -> Option<Tensor> {
    match (node.attribute("value"), node.attribute("value_ints"), node.attribute("value_int")) {
        (Some(AttributeValue::Tensor(t)), _, _) => Some(t.tensor.clone()),
        (_, Some(AttributeValue::Ints(v)), _) => {
            Some(Tensor::from_vec(DataType::Int64, vec![v.len() as i64], v.clone()))
        }
        (_, _, Some(AttributeValue::Int(v))) => Some(Tensor::from_vec(DataType::Int64, vec![], vec![*v])),
        _ => None,
    }
}

/// The place of one node.
pub(super) struct Place<'a> {
    scope: &'a Scope<'a>,
    taken: &'a mut Taken,
    base: Name,
    /// The version of ai.onnx that the node is of.
    pub opset: i64,
    nodes: Vec<Node>,
    constants: Vec<Initializer>,
}

impl<'a> Place<'a> {
    pub fn new(scope: &'a Scope<'a>, taken: &'a mut Taken, node: &Node, opset: i64) -> Place<'a> {
        let named = Some(&node.name).filter(|n| !n.is_empty());
        let base = named.or_else(|| node.outputs.iter().find(|o| !o.is_empty())).unwrap_or(&node.op_type).clone();
        Place { scope, taken, base, opset, nodes: Vec::new(), constants: Vec::new() }
    }

    /// The new nodes and the new constants.
    pub fn finish(self) -> (Vec<Node>, Vec<Initializer>) {
        (self.nodes, self.constants)
    }

    /// The element type of a value.
    pub fn dtype(&self, name: &str) -> Option<DataType> {
        self.constant(name).map(Tensor::dtype).or_else(|| self.scope.ty(name)?.tensor_dtype())
    }

    /// The element type of a value, which must be known.
    pub fn known_dtype(&self, name: &str) -> Result<DataType, String> {
        self.dtype(name).ok_or_else(|| format!("the type of '{name}' is not known: add value_info for it"))
    }

    /// The dimensions of a value, where the model states them.
    pub fn shape(&self, name: &str) -> Option<Shape> {
        self.scope.ty(name)?.tensor_shape().cloned()
    }

    /// The rank of a value, which must be stated.
    pub fn known_rank(&self, name: &str) -> Result<usize, String> {
        self.shape(name).map(|s| s.len()).ok_or_else(|| {
            format!("the rank of '{name}' is not known: add value_info for it (ONNX's shape inference does)")
        })
    }

    /// The value of a constant.
    pub fn constant(&self, name: &str) -> Option<&Tensor> {
        self.scope.constant(name)
    }

    /// The integers of a constant input that decides the new form; `None` where the input is left out.
    pub fn ints_of(&self, node: &Node, i: usize, what: &str) -> Result<Option<Vec<i64>>, String> {
        let Some(name) = input(node, i) else { return Ok(None) };
        let values = self.constant(name).and_then(Tensor::to_i64);
        values.map(Some).ok_or_else(|| format!("its {what} ('{name}') are computed, and must be constant there"))
    }

    /// True if something reads the value.
    pub fn is_read(&self, name: &str) -> bool {
        !name.is_empty() && self.scope.read.contains(name)
    }

    /// A node as it is.
    pub fn push(&mut self, node: Node) {
        self.nodes.push(node);
    }

    /// A new node with one output, under a new name.
    pub fn op(&mut self, op_type: &str, suffix: &str, inputs: &[&Name], attributes: &[(&str, AttributeValue)]) -> Name {
        let output = self.taken.unique(&self.base, suffix);
        self.op_to(op_type, &output, inputs, attributes);
        output
    }

    /// A new node with one output of that name.
    pub fn op_to(&mut self, op_type: &str, output: &Name, inputs: &[&Name], attributes: &[(&str, AttributeValue)]) {
        let name = self.taken.unique(&self.base, &format!("_{op_type}"));
        self.nodes.push(Node {
            name,
            op_type: op_type.into(),
            inputs: inputs.iter().map(|n| Name::clone(n)).collect(),
            outputs: vec![output.clone()],
            attributes: attributes.iter().map(|(n, v)| attribute(n, v.clone())).collect(),
            ..Node::default()
        });
    }

    /// A new constant.
    pub fn tensor(&mut self, suffix: &str, tensor: Tensor) -> Name {
        let name = self.taken.unique(&self.base, suffix);
        self.constants.push(Initializer { name: name.clone(), tensor, doc_string: None, metadata: Vec::new() });
        name
    }

    /// A new list of integers.
    pub fn ints(&mut self, suffix: &str, values: Vec<i64>) -> Name {
        let dims = vec![values.len() as i64];
        self.tensor(suffix, Tensor::from_vec(DataType::Int64, dims, values))
    }

    /// A new integer.
    pub fn int(&mut self, suffix: &str, value: i64) -> Name {
        self.tensor(suffix, Tensor::from_vec(DataType::Int64, vec![], vec![value]))
    }

    /// A new scalar of a float type.
    pub fn float(&mut self, suffix: &str, value: f64, dtype: DataType) -> Result<Name, String> {
        let tensor = match dtype {
            DataType::Float32 => Tensor::from_vec(dtype, vec![], vec![value as f32]),
            DataType::Float64 => Tensor::from_vec(dtype, vec![], vec![value]),
            DataType::Float16 => Tensor::from_vec(dtype, vec![], vec![f16::from_f64(value).to_bits()]),
            DataType::Bfloat16 => Tensor::from_vec(dtype, vec![], vec![bf16::from_f64(value).to_bits()]),
            _ => return Err(format!("its input is {dtype}, and the new form computes in float types")),
        };
        Ok(self.tensor(suffix, tensor))
    }

    /// A value in another type; the same value where it has it.
    pub fn cast(&mut self, suffix: &str, value: &Name, from: DataType, to: DataType) -> Name {
        if from == to {
            return value.clone();
        }
        self.op("Cast", suffix, &[value], &[("to", AttributeValue::Int(to.to_onnx().into()))])
    }
}

/// An attribute.
pub(super) fn attribute(name: &str, value: AttributeValue) -> Attribute {
    Attribute { name: name.into(), value, doc_string: None }
}

/// Input `i`, unless it is left out.
pub(super) fn input(node: &Node, i: usize) -> Option<&Name> {
    node.inputs.get(i).filter(|n| !n.is_empty())
}

/// An input that every version of the operator needs.
pub(super) fn needed(node: &Node, i: usize) -> Result<Name, String> {
    input(node, i).cloned().ok_or_else(|| format!("its input {i} is missing: correct the model"))
}

/// Output `i`, unless it is left out.
pub(super) fn output(node: &Node, i: usize) -> Option<&Name> {
    node.outputs.get(i).filter(|n| !n.is_empty())
}

/// The first output.
pub(super) fn first_output(node: &Node) -> Result<Name, String> {
    output(node, 0).cloned().ok_or_else(|| "its first output is missing: correct the model".into())
}

/// The node without that attribute.
pub(super) fn drop_attribute(node: &mut Node, name: &str) {
    node.attributes.retain(|a| &*a.name != name);
}

/// An error if an integer attribute of a newer version asks for something else than the older one does.
pub(super) fn only(node: &mut Node, name: &str, value: i64) -> Result<(), String> {
    match node.int(name) {
        Some(given) if given != value => Err(format!("its attribute '{name}' is {given}, which has no older form")),
        _ => {
            drop_attribute(node, name);
            Ok(())
        }
    }
}
