//! What an adapter works with: the node's surroundings, and new nodes, names and constants.

use super::scope::Scope;
use crate::model::names::Taken;
use crate::model::{Attribute, AttributeValue, DataType, Initializer, Model, Name, Node, Shape, Tensor};
use half::{bf16, f16};

/// An adapter puts the nodes that replace a node into the context, or says why there are none and what to do.
pub(super) type Adapted = Result<(), String>;

/// The place of one node.
pub(super) struct Context<'a, 's> {
    model: &'a Model,
    /// The version that is asked for in the end.
    last: i64,
    pub scope: &'a Scope<'s>,
    taken: &'a mut Taken,
    /// What new names start with.
    base: Name,
    nodes: &'a mut Vec<Node>,
    /// Of a graph; a function has none.
    initializers: Option<&'a mut Vec<Initializer>>,
}

/// What an attribute says.
pub(super) enum Given<T> {
    /// Nothing: the default holds.
    Not,
    Value(T),
    /// In a function: what the calling node's attribute of that name says.
    Reference(Name),
}

impl<T> Given<T> {
    pub fn is_given(&self) -> bool {
        !matches!(self, Given::Not)
    }
}

impl<'a, 's> Context<'a, 's> {
    pub fn new(
        model: &'a Model,
        last: i64,
        scope: &'a Scope<'s>,
        taken: &'a mut Taken,
        node: &Node,
        nodes: &'a mut Vec<Node>,
        initializers: Option<&'a mut Vec<Initializer>>,
    ) -> Self {
        let named = Some(&node.name).filter(|n| !n.is_empty());
        let base = named.or_else(|| node.outputs.iter().find(|o| !o.is_empty())).unwrap_or(&node.op_type).clone();
        Context { model, last, scope, taken, base, nodes, initializers }
    }

    /// The version that is asked for in the end.
    pub fn last(&self) -> i64 {
        self.last
    }

    /// A new name.
    pub fn name(&mut self, suffix: &str) -> Name {
        self.taken.unique(&self.base, suffix)
    }

    pub fn push(&mut self, node: Node) {
        self.nodes.push(node);
    }

    /// A new node with one output, under a new name.
    pub fn op(&mut self, op_type: &str, suffix: &str, inputs: &[&Name], attributes: &[(&str, AttributeValue)]) -> Name {
        let output = self.name(suffix);
        self.op_to(op_type, &output, inputs, attributes);
        output
    }

    /// A new node with one output of that name.
    pub fn op_to(&mut self, op_type: &str, output: &Name, inputs: &[&Name], attributes: &[(&str, AttributeValue)]) {
        let name = self.name(&format!("_{op_type}"));
        self.nodes.push(Node {
            name,
            op_type: op_type.into(),
            inputs: inputs.iter().map(|n| Name::clone(n)).collect(),
            outputs: vec![output.clone()],
            attributes: attributes.iter().map(|(n, v)| attribute(n, v.clone())).collect(),
            ..Node::default()
        });
    }

    /// A new constant: an initializer of the graph, or in a function a node.
    pub fn constant(&mut self, suffix: &str, tensor: Tensor) -> Name {
        let name = self.name(suffix);
        let constant = Initializer { name: name.clone(), tensor, doc_string: None, metadata: Vec::new() };
        match &mut self.initializers {
            Some(initializers) => initializers.push(constant),
            None => self.op_to("Constant", &name, &[], &[("value", AttributeValue::Tensor(constant))]),
        }
        name
    }

    /// A new list of integers.
    pub fn ints(&mut self, suffix: &str, values: Vec<i64>) -> Name {
        let dims = vec![values.len() as i64];
        self.constant(suffix, Tensor::from_vec(DataType::Int64, dims, values))
    }

    /// What an integer list attribute says, as a value; `None` where it says nothing.
    pub fn ints_of(&mut self, suffix: &str, given: Given<Vec<i64>>) -> Result<Option<Name>, String> {
        Ok(match given {
            Given::Not => None,
            Given::Value(values) => Some(self.ints(suffix, values)),
            Given::Reference(attribute) => Some(self.referred(suffix, "value_ints", 7, attribute)?),
        })
    }

    /// What a float attribute says, as a scalar of the type that `like` has; `None` where it says nothing.
    pub fn float_of(&mut self, suffix: &str, given: Given<f32>, like: &Name) -> Result<Option<Name>, String> {
        let dtype = self.scope.dtype(like);
        if let (Given::Value(v), Some(dtype)) = (&given, dtype) {
            return Ok(Some(self.constant(suffix, float_tensor(*v, dtype)?)));
        }
        let (float, from) = match given {
            Given::Not => return Ok(None),
            Given::Value(v) => (self.constant(suffix, float_tensor(v, DataType::Float32)?), DataType::Float32),
            Given::Reference(a) => (self.referred(suffix, "value_float", 1, a)?, DataType::Float32),
        };
        match dtype {
            Some(dtype) if dtype == from => Ok(Some(float)),
            Some(dtype) => {
                let to = AttributeValue::Int(dtype.to_onnx().into());
                Ok(Some(self.op("Cast", &format!("{suffix}_cast"), &[&float], &[("to", to)])))
            }
            None if self.last >= 15 => Ok(Some(self.op("CastLike", &format!("{suffix}_cast"), &[&float, like], &[]))),
            None => {
                Err(format!("the type of '{like}' is not known: add value_info for it, or choose version 15 or newer"))
            }
        }
    }

    /// A constant that the calling node's attribute gives.
    fn referred(&mut self, suffix: &str, form: &str, kind: i32, attribute: Name) -> Result<Name, String> {
        if self.last < 12 {
            return Err(format!(
                "its value comes from the function's attribute '{attribute}', which a node can give from version 12 on: \
                 choose that or newer, or inline the function"
            ));
        }
        self.always_given(&attribute)?;
        Ok(self.op("Constant", suffix, &[], &[(form, AttributeValue::Reference { attribute, kind })]))
    }

    /// An attribute that a call leaves out would leave a constant without value.
    fn always_given(&self, attribute: &Name) -> Result<(), String> {
        let mut scope = self.scope;
        while let Some(outer) = scope.outer {
            scope = outer;
        }
        let super::scope::Body::Function(function) = scope.body else { return Ok(()) };
        if function.attribute_defaults.iter().any(|a| a.name == *attribute) {
            return Ok(());
        }
        let model = self.model;
        let lacks = |n: &Node| {
            n.attribute(attribute).is_none() && model.function_of(n).is_some_and(|f| std::ptr::eq(f, function))
        };
        let mut bodies = std::iter::once(&model.graph.nodes).chain(model.functions.iter().map(|f| &f.nodes));
        match bodies.find_map(|nodes| find(nodes, &lacks)) {
            None => Ok(()),
            Some(call) => Err(format!(
                "its value comes from the function's attribute '{attribute}', which node {} does not give: inline the \
                 function or give the attribute",
                call.label()
            )),
        }
    }

    /// The dimensions of a value, where the rank is known.
    pub fn shape(&self, name: &str) -> Option<Shape> {
        self.scope.shape(name)
    }
}

fn find<'n>(nodes: &'n [Node], wanted: &dyn Fn(&Node) -> bool) -> Option<&'n Node> {
    nodes.iter().find_map(|n| if wanted(n) { Some(n) } else { n.subgraphs().find_map(|(_, g)| find(&g.nodes, wanted)) })
}

/// A scalar of a float type. What is beyond the type's range becomes an infinity, which bounds nothing.
fn float_tensor(value: f32, dtype: DataType) -> Result<Tensor, String> {
    Ok(match dtype {
        DataType::Float32 => Tensor::from_vec(dtype, vec![], vec![value]),
        DataType::Float64 => Tensor::from_vec(dtype, vec![], vec![f64::from(value)]),
        DataType::Float16 => Tensor::from_vec(dtype, vec![], vec![f16::from_f32(value).to_bits()]),
        DataType::Bfloat16 => Tensor::from_vec(dtype, vec![], vec![bf16::from_f32(value).to_bits()]),
        _ => return Err(format!("its input is {dtype}, but the operator takes float types: correct the model")),
    })
}

pub(super) fn attribute(name: &str, value: AttributeValue) -> Attribute {
    Attribute { name: name.into(), value, doc_string: None }
}

/// Sets an attribute.
pub(super) fn set(node: &mut Node, name: &str, value: AttributeValue) {
    node.attributes.retain(|a| &*a.name != name);
    node.attributes.push(attribute(name, value));
}

pub(super) fn text(value: &'static str) -> AttributeValue {
    AttributeValue::String(bytes::Bytes::from_static(value.as_bytes()))
}

fn take<T>(
    node: &mut Node,
    name: &str,
    what: &str,
    read: impl Fn(AttributeValue) -> Option<T>,
) -> Result<Given<T>, String> {
    let Some(at) = node.attributes.iter().position(|a| &*a.name == name) else { return Ok(Given::Not) };
    match node.attributes.remove(at).value {
        AttributeValue::Reference { attribute, .. } => Ok(Given::Reference(attribute)),
        value => match read(value) {
            Some(value) => Ok(Given::Value(value)),
            None => Err(format!("its attribute '{name}' is no {what}: correct the model")),
        },
    }
}

/// Takes an integer list attribute away from the node.
pub(super) fn take_ints(node: &mut Node, name: &str) -> Result<Given<Vec<i64>>, String> {
    take(node, name, "list of integers", |v| match v {
        AttributeValue::Ints(v) => Some(v),
        _ => None,
    })
}

/// Takes an integer attribute away from the node.
pub(super) fn take_int(node: &mut Node, name: &str) -> Result<Given<i64>, String> {
    take(node, name, "integer", |v| match v {
        AttributeValue::Int(v) => Some(v),
        _ => None,
    })
}

/// Takes a float attribute away from the node.
pub(super) fn take_float(node: &mut Node, name: &str) -> Result<Given<f32>, String> {
    take(node, name, "number", |v| match v {
        AttributeValue::Float(v) => Some(v),
        _ => None,
    })
}

/// Takes a float list attribute away from the node.
pub(super) fn take_floats(node: &mut Node, name: &str) -> Result<Given<Vec<f32>>, String> {
    take(node, name, "list of numbers", |v| match v {
        AttributeValue::Floats(v) => Some(v),
        _ => None,
    })
}

/// The value of an attribute that decides the new form, `default` where it is not given.
pub(super) fn decided<T>(given: Given<T>, name: &str, default: T) -> Result<T, String> {
    match given {
        Given::Not => Ok(default),
        Given::Value(v) => Ok(v),
        Given::Reference(_) => Err(format!(
            "its attribute '{name}' comes from the function's caller, but decides the new form: inline the function"
        )),
    }
}

/// Sets input `at`, with empty names before it where there are too few.
pub(super) fn set_input(node: &mut Node, at: usize, name: Name) {
    if node.inputs.len() <= at {
        node.inputs.resize(at + 1, "".into());
    }
    node.inputs[at] = name;
}

/// Input `i`, unless it is left out.
pub(super) fn input(node: &Node, i: usize) -> Option<&Name> {
    node.inputs.get(i).filter(|n| !n.is_empty())
}

/// An input that every version of the operator needs.
pub(super) fn needed(node: &Node, i: usize) -> Result<Name, String> {
    input(node, i).cloned().ok_or_else(|| format!("its input {i} is missing: correct the model"))
}
