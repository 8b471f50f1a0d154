//! The walk over graphs and functions.

use super::{Declarations, Typing, control, edges, outputs, same_type};
use crate::hash::HashMap;
use crate::model::graph::find_opset;
use crate::model::schema::{self, ParamOption, ParamType, Schema};
use crate::model::{
    AttributeValue, DataType, Dim, Function, Graph, Model, Name, Node, OpsetId, Shape, TypeKind, ValueInfo, ValueType,
};
use crate::{Result, bail, err};
use std::sync::Arc;

/// Subgraphs and function calls nested deeper than this are refused; the walk recurses over them.
const MAX_DEPTH: usize = 100;
/// Nodes of function bodies that are walked at most: calls in calls multiply, and a small file can hold a great number.
const MAX_CALLED_NODES: usize = 20_000_000;

/// The output types of a function call, and the types inside.
type Called = (Types, Arc<Typing>);
/// The types of a node's outputs.
type Types = Vec<Option<ValueType>>;

/// One inference or check.
pub(super) struct Walk<'m> {
    model: &'m Model,
    declarations: &'m Declarations,
    functions: HashMap<(&'m str, &'m str, &'m str), &'m Function>,
    /// Results of functions already walked, by function, argument types and attributes.
    called: HashMap<String, Called>,
    called_nodes: usize,
    /// Hold every input against its schema.
    strict: bool,
    depth: usize,
    /// Outputs whose types nobody knows: the node's label and the output's name.
    pub unknown: Vec<(String, Name)>,
}

/// What surrounds a node: the values in scope, and the operator sets and attributes that apply.
pub(super) struct Scope<'s> {
    pub values: HashMap<Name, ValueType>,
    pub outer: Option<&'s Scope<'s>>,
    pub imports: &'s [OpsetId],
    /// Attributes of the call, inside a function body.
    pub attributes: &'s [crate::model::Attribute],
}

impl Scope<'_> {
    pub fn get(&self, name: &str) -> Option<&ValueType> {
        let mut at = Some(self);
        while let Some(scope) = at {
            if let Some(t) = scope.values.get(name) {
                return Some(t);
            }
            at = scope.outer;
        }
        None
    }

    /// An attribute of a node, with references to the function call's attributes followed.
    pub fn attribute<'a>(&'a self, node: &'a Node, name: &str) -> Option<&'a AttributeValue> {
        match node.attribute(name)? {
            AttributeValue::Reference { attribute, .. } => {
                self.attributes.iter().find(|a| a.name == *attribute).map(|a| &a.value)
            }
            value => Some(value),
        }
    }

    /// The element type that an integer attribute names.
    pub fn dtype_attribute(&self, node: &Node, name: &str) -> Result<Option<DataType>> {
        match self.attribute(node, name) {
            Some(AttributeValue::Int(0)) | None => Ok(None),
            Some(AttributeValue::Int(v)) => {
                i32::try_from(*v).ok().and_then(DataType::from_onnx).map(Some).ok_or_else(|| {
                    err!(InvalidModel, "node {}: attribute '{name}' is {v}, which is no data type", node.label())
                })
            }
            Some(_) => bail!(InvalidModel, "node {}: attribute '{name}' is no integer", node.label()),
        }
    }
}

impl<'m> Walk<'m> {
    pub fn new(model: &'m Model, declarations: &'m Declarations, strict: bool) -> Self {
        let functions = model
            .functions
            .iter()
            .map(|f| ((crate::model::graph::norm_domain(&f.domain), &*f.name, &*f.overload), f))
            .collect();
        Walk {
            model,
            declarations,
            functions,
            called: HashMap::default(),
            called_nodes: 0,
            strict,
            depth: 0,
            unknown: Vec::new(),
        }
    }

    pub fn main_graph(&mut self) -> Result<Typing> {
        let model = self.model;
        let (typing, _) = self.graph(&model.graph, None, &model.opset_imports, &[], &[])?;
        Ok(typing)
    }

    /// True in the checker.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    fn enter(&mut self, what: &str) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            bail!(Unsupported, "{what}: subgraphs and function calls are nested more than {MAX_DEPTH} deep");
        }
        Ok(())
    }

    /// A graph whose inputs have these types, as far as the caller knows them. Returns its output types too.
    pub fn graph(
        &mut self,
        graph: &Graph,
        outer: Option<&Scope>,
        imports: &[OpsetId],
        attributes: &[crate::model::Attribute],
        given: &[Option<ValueType>],
    ) -> Result<(Typing, Vec<Option<ValueType>>)> {
        self.enter("a graph")?;
        let mut scope = Scope { values: HashMap::default(), outer, imports, attributes };
        for init in &graph.initializers {
            let shape = known_shape(init.tensor.dims());
            scope.values.insert(init.name.clone(), ValueType::tensor(init.tensor.dtype(), shape));
        }
        for s in &graph.sparse_initializers {
            let shape = known_shape(&s.dims);
            scope.values.insert(s.values.name.clone(), ValueType::tensor(s.values.tensor.dtype(), shape));
        }
        for (i, input) in graph.inputs.iter().enumerate() {
            self.graph_input(input, given.get(i).cloned().flatten(), &mut scope)?;
        }
        let stated: HashMap<&str, &ValueType> =
            graph.value_info.iter().chain(&graph.outputs).filter_map(|v| Some((&*v.name, v.ty.as_ref()?))).collect();
        let mut typing = self.nodes(&graph.nodes, &mut scope, &stated)?;
        if self.strict {
            self.check_stated(graph, &scope)?;
        }
        let outputs = graph.outputs.iter().map(|o| scope.get(&o.name).cloned()).collect();
        self.depth -= 1;
        typing.values = scope.values;
        Ok((typing, outputs))
    }

    /// Types the outputs of nodes, which go into the scope, and what is inside the nodes, which is returned.
    fn nodes(&mut self, nodes: &[Node], scope: &mut Scope, stated: &HashMap<&str, &ValueType>) -> Result<Typing> {
        let mut typing = Typing::default();
        for (index, node) in nodes.iter().enumerate() {
            let (types, call) = self.node(node, scope, stated, &mut |a, i, t| {
                typing.subgraphs.insert((index, a, i), t);
            })?;
            typing.calls.extend(call.map(|c| (index, c)));
            for (name, ty) in node.outputs.iter().zip(types) {
                if let Some(ty) = ty.filter(|_| !name.is_empty()) {
                    scope.values.insert(name.clone(), ty);
                }
            }
        }
        Ok(typing)
    }

    fn graph_input(&self, input: &ValueInfo, given: Option<ValueType>, scope: &mut Scope) -> Result<()> {
        let stated = input.ty.as_ref();
        if let (Some(stated), Some(existing)) = (stated, scope.values.get(&input.name)) {
            if self.strict && !same_type(stated, existing) {
                bail!(InvalidModel, "input '{}' is declared {stated}, but its initializer is {existing}", input.name);
            }
            return Ok(());
        }
        if self.strict
            && let (Some(stated), Some(given)) = (stated, &given)
            && !same_type(stated, given)
        {
            bail!(InvalidModel, "subgraph input '{}' is declared {stated}, but is given {given}", input.name);
        }
        // What arrives is the truth; the declaration adds the shape.
        let ty = match (given, stated) {
            (Some(given), Some(stated)) if same_type(&given, stated) => Some(carried(stated)),
            (Some(given), _) => Some(given),
            (None, stated) => stated.map(carried),
        };
        if let Some(ty) = ty {
            scope.values.insert(input.name.clone(), ty);
        }
        Ok(())
    }

    fn check_stated(&self, graph: &Graph, scope: &Scope) -> Result<()> {
        let both = graph.outputs.iter().map(|v| ("output", v)).chain(graph.value_info.iter().map(|v| ("value", v)));
        for (what, info) in both {
            let (Some(stated), Some(actual)) = (&info.ty, scope.get(&info.name)) else { continue };
            if !same_type(stated, actual) {
                bail!(InvalidModel, "{what} '{}' is declared {stated}, but is {actual}", info.name);
            }
        }
        Ok(())
    }

    /// The output types of a node, and for the call of a function the types inside. `keep` receives the typing of its
    /// subgraphs.
    fn node(
        &mut self,
        node: &Node,
        scope: &Scope,
        stated: &HashMap<&str, &ValueType>,
        keep: &mut dyn FnMut(Name, usize, Typing),
    ) -> Result<(Types, Option<Arc<Typing>>)> {
        let inputs: Vec<Option<ValueType>> =
            node.inputs.iter().map(|n| if n.is_empty() { None } else { scope.get(n).cloned() }).collect();
        let function = self.functions.get(&(node.domain(), &*node.op_type, &*node.overload)).copied();
        let mut call = None;
        let mut types = if let Some(function) = function {
            let (types, inside) = self.call(function, node, scope, &inputs)?;
            call = Some(inside);
            types
        } else {
            let opset = find_opset(scope.imports, node.domain());
            let schema = opset.and_then(|v| schema::lookup(node.domain(), &node.op_type, v));
            match schema {
                Some(schema) => {
                    let bound = self.unify(node, schema, &inputs)?;
                    let types = match control::outputs(self, node, scope, &inputs, keep)? {
                        Some(types) => types,
                        None => outputs::types(node, schema, scope, &inputs, &bound)?,
                    };
                    if self.strict {
                        edges::check(node, schema, &inputs, &types)?;
                    }
                    types
                }
                None => {
                    control::other_subgraphs(self, node, scope, keep)?;
                    vec![None; node.outputs.len()]
                }
            }
        };
        types.resize(node.outputs.len(), None);
        for (name, ty) in node.outputs.iter().zip(&mut types) {
            self.settle(node, name, ty, stated);
        }
        Ok((types, call))
    }

    /// Completes an output's type from what the model or the caller states.
    fn settle(&mut self, node: &Node, name: &Name, ty: &mut Option<ValueType>, stated: &HashMap<&str, &ValueType>) {
        let stated = stated.get(&**name).copied();
        match ty {
            Some(t) => {
                if let Some(s) = stated
                    && same_type(s, t)
                {
                    *t = carried(s);
                }
            }
            None if !name.is_empty() => {
                *ty = stated.or_else(|| self.declarations.0.get(&**name)).map(carried);
                if ty.is_none() {
                    self.unknown.push((node.label(), name.clone()));
                }
            }
            None => {}
        }
    }

    /// Binds the type variables of a schema; in the checker, every input is held against it.
    fn unify(&self, node: &Node, schema: &Schema, inputs: &[Option<ValueType>]) -> Result<Vec<Option<ValueType>>> {
        let mut bound: Vec<Option<(ValueType, usize)>> = vec![None; schema.type_vars.len()];
        for (i, ty) in inputs.iter().enumerate() {
            let Some(param) = schema.input(i) else {
                if self.strict {
                    bail!(
                        InvalidModel,
                        "node {} has {} inputs; the operator takes {}",
                        node.label(),
                        inputs.len(),
                        schema.inputs.len()
                    );
                }
                continue;
            };
            let Some(ty) = ty else { continue };
            if self.strict && !schema.allowed(param).has(ty) {
                bail!(
                    InvalidModel,
                    "node {}: input {i} '{}' ('{}') is {ty}, but the operator (since version {}) takes {}",
                    node.label(),
                    param.name,
                    node.inputs[i],
                    schema.since_version,
                    schema.allowed(param).tensor_names()
                );
            }
            let ParamType::Var(var) = param.ty else { continue };
            if matches!(param.option, ParamOption::Variadic { homogeneous: false, .. }) {
                continue;
            }
            match &bound[var] {
                None => bound[var] = Some((ty.clone(), i)),
                Some((first, at)) if self.strict && !same_type(first, ty) => bail!(
                    InvalidModel,
                    "node {}: input {i} '{}' ('{}') is {ty}, but input {at} '{}' ('{}') is {first}: both must have the \
                     same type",
                    node.label(),
                    param.name,
                    node.inputs[i],
                    schema.input(*at).map_or("", |p| p.name),
                    node.inputs[*at]
                ),
                Some(_) => {}
            }
        }
        Ok(bound.into_iter().map(|b| b.map(|(ty, _)| ty)).collect())
    }

    /// A call of a local function.
    fn call(
        &mut self,
        function: &Function,
        node: &Node,
        scope: &Scope,
        inputs: &[Option<ValueType>],
    ) -> Result<Called> {
        let attributes: Vec<crate::model::Attribute> = node
            .attributes
            .iter()
            .chain(function.attribute_defaults.iter().filter(|d| node.attribute(&d.name).is_none()))
            .map(|a| match &a.value {
                AttributeValue::Reference { attribute, .. } => {
                    let value = scope.attributes.iter().find(|o| o.name == *attribute).map(|o| o.value.clone());
                    crate::model::Attribute { value: value.unwrap_or_else(|| a.value.clone()), ..a.clone() }
                }
                _ => a.clone(),
            })
            .collect();
        // Attributes can decide types inside, so calls share results only if theirs are alike.
        let key = attributes_key(&attributes)
            .map(|k| format!("{:?}/{}/{k}", (&function.domain, &function.name, &function.overload), key_of(inputs)));
        if let Some(known) = key.as_ref().and_then(|k| self.called.get(k)) {
            return Ok(known.clone());
        }
        self.enter(&format!("function '{}'", function.name))?;
        self.called_nodes += function.nodes.len() + 1;
        if self.called_nodes > MAX_CALLED_NODES {
            bail!(
                Unsupported,
                "the calls of local functions unfold to more than {MAX_CALLED_NODES} nodes; the last was '{}', called by \
                 {}: inline the functions or export the model without them",
                function.name,
                node.label()
            );
        }
        let mut values = HashMap::default();
        for (name, ty) in function.inputs.iter().zip(inputs) {
            if let Some(ty) = ty {
                values.insert(name.clone(), strip_shape(ty));
            }
        }
        let mut inner = Scope { values, outer: None, imports: &function.opset_imports, attributes: &attributes };
        let stated: HashMap<&str, &ValueType> =
            function.value_info.iter().filter_map(|v| Some((&*v.name, v.ty.as_ref()?))).collect();
        let mut typing = self
            .nodes(&function.nodes, &mut inner, &stated)
            .map_err(|e| e.context(format!("in function '{}' called by {}", function.name, node.label())))?;
        let types: Vec<Option<ValueType>> =
            function.outputs.iter().map(|o| inner.values.get(o).map(strip_shape)).collect();
        self.depth -= 1;
        typing.values = inner.values;
        let called = (types, Arc::new(typing));
        if let Some(key) = key {
            self.called.insert(key, called.clone());
        }
        Ok(called)
    }
}

/// What of a call's attributes can decide types; `None` where there are graphs, whose insides can.
fn attributes_key(attributes: &[crate::model::Attribute]) -> Option<String> {
    use std::fmt::Write;
    let mut key = String::new();
    for a in attributes {
        let (name, kind) = (&a.name, a.value.kind());
        // Writing to a string does not fail.
        let _ = match &a.value {
            AttributeValue::Graph(_) | AttributeValue::Graphs(_) | AttributeValue::Reference { .. } => return None,
            AttributeValue::Int(v) => write!(key, "{name}={v};"),
            AttributeValue::Tensor(t) => write!(key, "{name}:{};", t.tensor.dtype()),
            AttributeValue::SparseTensor(t) => write!(key, "{name}~{};", t.values.tensor.dtype()),
            AttributeValue::Type(t) => write!(key, "{name}:{};", strip_shape(t)),
            AttributeValue::String(t) => write!(key, "{name}={t:?};"),
            // Of the other kinds it matters whether the list is empty.
            AttributeValue::Ints(v) => write!(key, "{name}*{kind}{};", v.is_empty()),
            AttributeValue::Floats(v) => write!(key, "{name}*{kind}{};", v.is_empty()),
            AttributeValue::Strings(v) => write!(key, "{name}*{kind}{};", v.is_empty()),
            _ => write!(key, "{name}*{kind};"),
        };
    }
    Some(key)
}

fn key_of(inputs: &[Option<ValueType>]) -> String {
    let parts: Vec<String> =
        inputs.iter().map(|t| t.as_ref().map_or_else(|| "-".into(), |t| strip_shape(t).to_string())).collect();
    parts.join(",")
}

/// Shapes of more dimensions than this are not carried along: types are copied at every use, and a hostile file could
/// state a rank of a million once and use the value a million times.
const MAX_RANK: usize = 64;

fn known_shape(dims: &[i64]) -> Option<Shape> {
    (dims.len() <= MAX_RANK).then(|| dims.iter().map(|d| Dim::known(*d)).collect())
}

/// The type as the walk keeps it: with its shape, unless that is too long.
fn carried(ty: &ValueType) -> ValueType {
    fn short(ty: &ValueType) -> bool {
        match &ty.kind {
            TypeKind::Tensor { shape, .. } | TypeKind::SparseTensor { shape, .. } => {
                shape.as_ref().is_none_or(|s| s.len() <= MAX_RANK)
            }
            TypeKind::Sequence(t) | TypeKind::Map(_, t) | TypeKind::Optional(t) => short(t),
        }
    }
    if short(ty) { ty.clone() } else { strip_shape(ty) }
}

/// The same type with nothing said of shapes.
pub(super) fn strip_shape(ty: &ValueType) -> ValueType {
    ValueType::new(match &ty.kind {
        TypeKind::Tensor { dtype, .. } => TypeKind::Tensor { dtype: *dtype, shape: None },
        TypeKind::SparseTensor { dtype, .. } => TypeKind::SparseTensor { dtype: *dtype, shape: None },
        TypeKind::Sequence(t) => TypeKind::Sequence(Box::new(strip_shape(t))),
        TypeKind::Map(k, t) => TypeKind::Map(*k, Box::new(strip_shape(t))),
        TypeKind::Optional(t) => TypeKind::Optional(Box::new(strip_shape(t))),
    })
}
