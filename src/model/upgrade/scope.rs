//! What is known of the values that a graph's nodes see.

use super::ranks::{self, Rank};
use crate::hash::HashMap;
use crate::model::infer::Typing;
use crate::model::{AttributeValue, DataType, Dim, Function, Graph, Initializer, Name, Node, Shape, Tensor, ValueType};

/// A graph or a function's body, with the graphs around it.
pub(super) struct Scope<'a> {
    pub body: Body<'a>,
    /// The types of its values; of a function, once for each kind of call.
    typings: Vec<&'a Typing>,
    pub outer: Option<&'a Scope<'a>>,
    /// Ranks that the types do not say, where they were asked for.
    pub ranks: HashMap<Name, Rank>,
    with_ranks: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Body<'a> {
    Graph(&'a Graph),
    Function(&'a Function),
}

impl<'a> Body<'a> {
    pub fn nodes(self) -> &'a [Node] {
        match self {
            Body::Graph(g) => &g.nodes,
            Body::Function(f) => &f.nodes,
        }
    }

    fn initializers(self) -> &'a [Initializer] {
        match self {
            Body::Graph(g) => &g.initializers,
            Body::Function(_) => &[],
        }
    }

    fn has_input(self, name: &str) -> bool {
        match self {
            Body::Graph(g) => g.inputs.iter().any(|v| &*v.name == name),
            Body::Function(f) => f.inputs.iter().any(|n| &**n == name),
        }
    }

    fn has_output(self, name: &str) -> bool {
        match self {
            Body::Graph(g) => g.outputs.iter().any(|v| &*v.name == name),
            Body::Function(f) => f.outputs.iter().any(|n| &**n == name),
        }
    }
}

impl<'a> Scope<'a> {
    pub fn new(body: Body<'a>, typings: Vec<&'a Typing>, outer: Option<&'a Scope<'a>>, with_ranks: bool) -> Scope<'a> {
        let mut scope = Scope { body, typings, outer, ranks: HashMap::default(), with_ranks };
        if with_ranks {
            ranks::infer(&mut scope);
        }
        scope
    }

    /// The scope of a subgraph.
    pub fn inner<'b>(&'b self, node: usize, attribute: &Name, at: usize, graph: &'b Graph) -> Scope<'b> {
        let key = (node, attribute.clone(), at);
        let typings = self.typings.iter().filter_map(|t| t.subgraphs.get(&key)).collect();
        Scope::new(Body::Graph(graph), typings, Some(self), self.with_ranks)
    }

    /// The types that a value has: one, or for a function's value one for each kind of call.
    fn types(&self, name: &str) -> Vec<&ValueType> {
        let mut at = Some(self);
        while let Some(scope) = at {
            let found: Vec<&ValueType> = scope.typings.iter().filter_map(|t| t.values.get(name)).collect();
            if !found.is_empty() {
                // What one call leaves open is not known.
                return if found.len() == scope.typings.len() { found } else { Vec::new() };
            }
            at = scope.outer;
        }
        Vec::new()
    }

    /// All element types that a value can have; none if that is not known.
    pub fn dtypes(&self, name: &str) -> Vec<DataType> {
        let types = self.types(name);
        let found: Vec<DataType> = types.iter().filter_map(|t| t.tensor_dtype()).collect();
        if found.len() == types.len() { found } else { Vec::new() }
    }

    /// The element type, where it is known.
    pub fn dtype(&self, name: &str) -> Option<DataType> {
        one(self.dtypes(name))
    }

    /// The dimensions, where the rank is known. Those of a function's values are not: calls differ in them.
    pub fn shape(&self, name: &str) -> Option<Shape> {
        self.stated(name).or_else(|| Some(vec![Dim::unknown(); self.rank(name)?.rank]))
    }

    fn stated(&self, name: &str) -> Option<Shape> {
        one(self.types(name).into_iter().map(|t| t.tensor_shape().cloned()).collect::<Option<_>>()?)
    }

    /// The rank, stated or inferred.
    pub fn rank(&self, name: &str) -> Option<Rank> {
        if let Some(shape) = self.stated(name) {
            return match shape.as_slice() {
                [length] => Some(Rank { rank: 1, length: length.size() }),
                _ => Some(Rank { rank: shape.len(), length: None }),
            };
        }
        let mut at = Some(self);
        while let Some(scope) = at {
            if let Some(rank) = scope.ranks.get(name) {
                return Some(*rank);
            }
            // An input of the subgraph hides what is outside.
            at = if scope.body.has_input(name) { None } else { scope.outer };
        }
        None
    }

    /// The value of a constant. An initializer that a caller may replace is none.
    pub fn constant(&self, name: &str) -> Option<&'a Tensor> {
        let mut at: Option<&Scope<'a>> = Some(self);
        while let Some(scope) = at {
            if scope.body.has_input(name) {
                return None;
            }
            if let Some(found) = scope.body.initializers().iter().find(|i| &*i.name == name) {
                return Some(&found.tensor);
            }
            if let Some(node) = scope.body.nodes().iter().find(|n| n.outputs.iter().any(|o| &**o == name)) {
                return match node.attribute("value") {
                    Some(AttributeValue::Tensor(t)) if node.is("Constant") => Some(&t.tensor),
                    _ => None,
                };
            }
            at = scope.outer;
        }
        None
    }

    /// True if something reads the value: a node of the same graph or of a graph inside, or the graph's outputs.
    pub fn is_read(&self, name: &str) -> bool {
        self.body.has_output(name) || self.body.nodes().iter().any(|n| reads(n, name))
    }
}

fn reads(node: &Node, name: &str) -> bool {
    let inside = |g: &Graph| g.nodes.iter().any(|n| reads(n, name)) || g.outputs.iter().any(|o| &*o.name == name);
    node.inputs.iter().any(|i| &**i == name) || node.subgraphs().any(|(_, g)| inside(g))
}

/// The value that all have.
fn one<T: PartialEq>(values: Vec<T>) -> Option<T> {
    let mut values = values.into_iter();
    let first = values.next()?;
    values.all(|v| v == first).then_some(first)
}
