//! Checks a model's structure, so that everything after the frontends may rely on it.
//!
//! Afterwards: every name that a node reads is an input, an initializer or an earlier node's output of its graph or of a
//! graph around it; every name is defined once in a graph, and no node output hides a name that is visible there (inputs
//! and initializers of a subgraph may, as ONNX allows); graph outputs are defined in their own graph; every node has an
//! operator type of an imported domain; attributes have distinct names; references to function attributes stand in
//! functions only; functions have distinct ids and do not call themselves, not even through others; subgraphs nest at
//! most [`MAX_DEPTH`] deep, so that later layers may recurse.
//!
//! Operators' schemas are not looked at here.

use super::graph::norm_domain;
use super::{Attribute, AttributeValue, Function, Graph, Model, Name, Node, OpsetId};
use crate::hash::{HashMap, HashSet, Keys};
use crate::{Result, bail, err};

/// How deep subgraphs may nest. Protobuf's limit on nested messages allows about as many.
pub const MAX_DEPTH: usize = 40;

/// An error that names the first thing that breaks the rules above.
pub fn validate(model: &Model) -> Result<()> {
    check_functions(model)?;
    for v in &model.graph.inputs {
        if v.ty.is_none() {
            bail!(InvalidModel, "the graph's input '{}' has no type: export the model again", v.name);
        }
    }
    let mut scopes = Scopes::new(&model.opset_imports, false);
    scopes.graph(&model.graph, "the graph")
}

fn check_functions(model: &Model) -> Result<()> {
    let mut ids = HashMap::default();
    for (i, f) in model.functions.iter().enumerate() {
        if f.name.is_empty() {
            bail!(InvalidModel, "function number {i} has no name: export the model again");
        }
        if ids.insert((norm_domain(&f.domain), &*f.name, &*f.overload), i).is_some() {
            bail!(
                InvalidModel,
                "the model has two functions '{}' of domain '{}' and overload '{}': rename one",
                f.name,
                f.domain,
                f.overload
            );
        }
    }
    for f in &model.functions {
        check_function(f).map_err(|e| e.context(format_args!("function '{}'", f.name)))?;
    }
    check_calls(model, &ids)
}

fn check_function(f: &Function) -> Result<()> {
    let mut scopes = Scopes::new(&f.opset_imports, true);
    scopes.levels.push(HashSet::default());
    for input in &f.inputs {
        if !scopes.define(input) {
            bail!(InvalidModel, "it has two inputs '{input}': rename one");
        }
    }
    let mut attributes = HashSet::default();
    for a in f.attributes.iter().chain(f.attribute_defaults.iter().map(|a| &a.name)) {
        if a.is_empty() || !attributes.insert(&**a) {
            bail!(InvalidModel, "its attribute '{a}' is named twice, or has no name");
        }
    }
    f.nodes.iter().try_for_each(|n| scopes.node(n))?;
    for output in &f.outputs {
        if !scopes.here(output) {
            bail!(InvalidModel, "its output '{output}' is made by none of its nodes");
        }
    }
    Ok(())
}

/// Which function, by index, a node's domain, type and overload name.
type Ids<'m> = HashMap<(&'m str, &'m str, &'m str), usize>;

/// Functions must not call themselves: whoever expands them would never end.
fn check_calls(model: &Model, ids: &Ids) -> Result<()> {
    let calls: Vec<Vec<usize>> = model
        .functions
        .iter()
        .map(|f| {
            let mut out = Vec::new();
            f.nodes.iter().for_each(|n| collect_calls(n, ids, &mut out));
            out
        })
        .collect();
    // Depth first without recursion, for chains of any length: 0 not seen, 1 on the way, 2 done.
    let mut state = vec![0u8; calls.len()];
    for root in 0..calls.len() {
        let mut way = vec![(root, 0usize)];
        while let Some((f, next)) = way.last_mut() {
            let f = *f;
            state[f] = state[f].max(1);
            match calls[f].get(*next) {
                Some(&callee) => {
                    *next += 1;
                    match state[callee] {
                        0 => way.push((callee, 0)),
                        1 => {
                            let name = &model.functions[callee].name;
                            bail!(InvalidModel, "the function '{name}' calls itself (perhaps through others)");
                        }
                        _ => {}
                    }
                }
                None => {
                    state[f] = 2;
                    way.pop();
                }
            }
        }
    }
    Ok(())
}

fn collect_calls(node: &Node, ids: &Ids, out: &mut Vec<usize>) {
    if let Some(&f) = ids.get(&(node.domain(), &*node.op_type, &*node.overload)) {
        out.push(f);
    }
    // Depth has been checked with the function's body.
    for (_, g) in node.subgraphs() {
        g.nodes.iter().for_each(|n| collect_calls(n, ids, out));
    }
}

/// The names that are visible, graph around graph.
struct Scopes<'m> {
    levels: Vec<HashSet<&'m str>>,
    /// Domains of which a version is imported.
    domains: HashSet<&'m str>,
    in_function: bool,
}

impl<'m> Scopes<'m> {
    fn new(imports: &'m [OpsetId], in_function: bool) -> Self {
        Scopes { levels: Vec::new(), domains: imports.iter().map(|o| norm_domain(&o.domain)).collect(), in_function }
    }

    /// Adds a name to the innermost graph; false if it is there already.
    fn define(&mut self, name: &'m str) -> bool {
        self.levels.last_mut().is_some_and(|level| level.insert(name))
    }

    fn here(&self, name: &str) -> bool {
        self.levels.last().is_some_and(|level| level.contains(name))
    }

    fn visible(&self, name: &str) -> bool {
        self.levels.iter().rev().any(|level| level.contains(name))
    }

    fn graph(&mut self, g: &'m Graph, label: &str) -> Result<()> {
        if self.levels.len() > MAX_DEPTH {
            bail!(
                Unsupported,
                "subgraphs nest more than {MAX_DEPTH} deep: move inner ones to local functions, or merge them"
            );
        }
        self.levels.push(HashSet::with_capacity_and_hasher(
            g.inputs.len() + g.initializers.len() + g.nodes.len(),
            Keys::default(),
        ));
        self.graph_body(g, label)?;
        self.levels.pop();
        Ok(())
    }

    fn graph_body(&mut self, g: &'m Graph, label: &str) -> Result<()> {
        for v in &g.inputs {
            if v.name.is_empty() {
                bail!(InvalidModel, "{label} has an input without a name");
            }
            if !self.define(&v.name) {
                bail!(InvalidModel, "{label} has two inputs '{}': rename one", v.name);
            }
        }
        // An initializer may stand among the inputs too: as its default value, and always before IR version 4.
        let mut initializers: HashSet<&str> = HashSet::with_capacity_and_hasher(g.initializers.len(), Keys::default());
        let names = g.initializers.iter().map(|i| &i.name).chain(g.sparse_initializers.iter().map(|s| &s.values.name));
        for name in names {
            if name.is_empty() {
                bail!(InvalidModel, "{label} has an initializer without a name");
            }
            if !initializers.insert(name) {
                bail!(InvalidModel, "{label} has two initializers '{name}': rename one");
            }
            self.define(name);
        }
        for n in &g.nodes {
            self.node(n)?;
        }
        for v in &g.outputs {
            if !self.here(&v.name) {
                bail!(
                    InvalidModel,
                    "the output '{}' of {label} is neither an input, nor an initializer, nor made by a node of that graph",
                    v.name
                );
            }
        }
        Ok(())
    }

    fn node(&mut self, n: &'m Node) -> Result<()> {
        if n.op_type.is_empty() {
            bail!(InvalidModel, "node {} has no operator type: export the model again", n.label());
        }
        if !self.domains.contains(n.domain()) {
            let owner = if self.in_function { "the function" } else { "the model" };
            bail!(
                InvalidModel,
                "node {} is of the domain '{}', of which {owner} imports no version: add it to the opset imports",
                n.label(),
                n.domain
            );
        }
        for input in n.inputs.iter().filter(|i| !i.is_empty()) {
            if !self.visible(input) {
                bail!(
                    InvalidModel,
                    "node {} reads '{input}', which is neither an input, nor an initializer, nor made by an earlier node",
                    n.label()
                );
            }
        }
        self.attributes(n)?;
        for output in n.outputs.iter().filter(|o| !o.is_empty()) {
            if self.visible(output) {
                bail!(
                    InvalidModel,
                    "node {} makes '{output}', a name that is already taken: every value needs a name of its own",
                    n.label()
                );
            }
            self.define(output);
        }
        Ok(())
    }

    fn attributes(&mut self, n: &'m Node) -> Result<()> {
        let attributes: &'m [Attribute] = &n.attributes;
        let mut names = HashSet::with_capacity_and_hasher(attributes.len(), Keys::default());
        for a in attributes {
            if a.name.is_empty() || !names.insert(&a.name) {
                bail!(InvalidModel, "node {} has the attribute '{}' twice, or it has no name", n.label(), a.name);
            }
            if let AttributeValue::Reference { attribute, .. } = &a.value
                && !self.in_function
            {
                bail!(
                    InvalidModel,
                    "node {}: attribute '{}' refers to a function's attribute '{attribute}', but stands in no function",
                    n.label(),
                    a.name
                );
            }
        }
        for (name, g) in n.subgraphs() {
            self.subgraph(n, name, g)?;
        }
        Ok(())
    }

    fn subgraph(&mut self, n: &Node, attribute: &Name, g: &'m Graph) -> Result<()> {
        let label = format!("the subgraph '{attribute}' of node {}", n.label());
        if self.levels.is_empty() {
            return Err(err!(Internal, "{label} is checked outside a graph"));
        }
        self.graph(g, &label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DataType, Initializer, NamedTensor, Tensor, ValueInfo, ValueType};

    fn value(name: &str) -> ValueInfo {
        ValueInfo::new(name, ValueType::tensor(DataType::Float32, None))
    }

    fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Node {
        let names = |list: &[&str]| list.iter().map(|&s| Name::from(s)).collect();
        Node { op_type: op.into(), inputs: names(inputs), outputs: names(outputs), ..Node::default() }
    }

    fn initializer(name: &str) -> Initializer {
        let tensor = Tensor::from_vec(DataType::Float32, vec![1], vec![0f32]);
        NamedTensor { name: name.into(), tensor, doc_string: None, metadata: Vec::new() }
    }

    fn attribute(name: &str, value: AttributeValue) -> Attribute {
        Attribute { name: name.into(), value, doc_string: None }
    }

    fn graph(inputs: &[&str], nodes: Vec<Node>, outputs: &[&str]) -> Graph {
        Graph {
            inputs: inputs.iter().map(|n| value(n)).collect(),
            outputs: outputs.iter().map(|n| value(n)).collect(),
            nodes,
            ..Graph::default()
        }
    }

    fn model(graph: Graph) -> Model {
        Model {
            ir_version: 8,
            opset_imports: vec![OpsetId { domain: "".into(), version: 17 }],
            graph,
            ..Model::default()
        }
    }

    fn holding(op: &str, inputs: &[&str], output: &str, body: Graph) -> Node {
        let mut n = node(op, inputs, &[output]);
        n.attributes.push(attribute("body", AttributeValue::Graph(Box::new(body))));
        n
    }

    #[track_caller]
    fn refused(m: &Model, words: &[&str]) {
        let e = validate(m).expect_err("the model breaks a rule");
        words.iter().for_each(|w| assert!(e.message().contains(w), "'{w}' is missing in: {e}"));
    }

    #[test]
    fn sound_models_pass() {
        let mut g = graph(&["x", "w"], vec![node("Add", &["x", "w", ""], &["y", ""])], &["y", "x", "w"]);
        g.initializers.push(initializer("w"));
        validate(&model(g)).unwrap();
        // A subgraph sees names around it; its inputs and initializers may hide them.
        let mut body = graph(&["a"], vec![node("Add", &["a", "x"], &["t"]), node("Add", &["t", "w"], &["u"])], &["u"]);
        body.initializers.push(initializer("w"));
        let g = graph(&["x"], vec![node("Abs", &["x"], &["a"]), holding("Loop", &["a"], "y", body)], &["y"]);
        validate(&model(g)).unwrap();
    }

    #[test]
    fn names_are_defined_once_and_before_their_use() {
        refused(&model(graph(&["x", "x"], vec![], &[])), &["two inputs 'x'"]);
        refused(&model(graph(&["x"], vec![node("Abs", &["q"], &["y"])], &["y"])), &["'q'", "Abs"]);
        let backwards = vec![node("Abs", &["a"], &["y"]), node("Abs", &["x"], &["a"])];
        refused(&model(graph(&["x"], backwards, &["y"])), &["reads 'a'"]);
        refused(&model(graph(&["x"], vec![node("Abs", &["x"], &["x"])], &["x"])), &["'x'", "already taken"]);
        let twice = vec![node("Abs", &["x"], &["y"]), node("Neg", &["x"], &["y"])];
        refused(&model(graph(&["x"], twice, &["y"])), &["Neg", "'y'"]);
        refused(&model(graph(&["x"], vec![], &["z"])), &["output 'z'"]);
        let mut g = graph(&[], vec![], &[]);
        g.initializers = vec![initializer("w"), initializer("w")];
        refused(&model(g), &["two initializers 'w'"]);
        let mut g = graph(&[], vec![], &[]);
        g.initializers = vec![initializer("")];
        refused(&model(g), &["without a name"]);
        let mut g = graph(&["x"], vec![], &[]);
        g.inputs[0].ty = None;
        refused(&model(g), &["'x' has no type"]);
    }

    #[test]
    fn subgraphs_hide_nothing_and_make_their_outputs() {
        let around = |body| graph(&["x"], vec![node("Abs", &["x"], &["a"]), holding("If", &["x"], "y", body)], &["y"]);
        refused(&model(around(graph(&[], vec![node("Neg", &["x"], &["a"])], &["a"]))), &["'a'", "already taken"]);
        refused(&model(around(graph(&[], vec![], &["a"]))), &["output 'a' of the subgraph 'body' of node", "(If)"]);
        // What a subgraph makes is not seen outside.
        let mut g = around(graph(&[], vec![node("Neg", &["x"], &["t"])], &["t"]));
        g.nodes.push(node("Neg", &["t"], &["z"]));
        refused(&model(g), &["reads 't'"]);
    }

    #[test]
    fn nesting_is_bounded() {
        let mut g = graph(&[], vec![node("Neg", &["x"], &["t"])], &["t"]);
        for i in 0..MAX_DEPTH * 3 {
            let out = format!("t{i}");
            g = graph(&[], vec![holding("If", &["x"], &out, g)], &[&out]);
        }
        g.inputs.push(value("x"));
        refused(&model(g), &["deep"]);
    }

    #[test]
    fn nodes_and_attributes() {
        refused(&model(graph(&["x"], vec![node("", &["x"], &["y"])], &["y"])), &["no operator type"]);
        let mut n = node("Foo", &["x"], &["y"]);
        n.domain = "com.acme".into();
        refused(&model(graph(&["x"], vec![n], &["y"])), &["com.acme::Foo", "imports"]);
        let mut n = node("Foo", &["x"], &["y"]);
        n.attributes = vec![attribute("k", AttributeValue::Int(1)), attribute("k", AttributeValue::Int(1))];
        refused(&model(graph(&["x"], vec![n], &["y"])), &["attribute 'k' twice"]);
        let mut n = node("Foo", &["x"], &["y"]);
        n.attributes = vec![attribute("k", AttributeValue::Reference { attribute: "q".into(), kind: 2 })];
        refused(&model(graph(&["x"], vec![n], &["y"])), &["'q'", "no function"]);
    }

    fn function(name: &str, nodes: Vec<Node>) -> Function {
        let import = |d: &str| OpsetId { domain: d.into(), version: 17 };
        Function {
            name: name.into(),
            domain: "f".into(),
            inputs: vec!["X".into()],
            outputs: vec!["Y".into()],
            opset_imports: vec![import("ai.onnx"), import("f")],
            nodes,
            ..Function::default()
        }
    }

    fn call(name: &str, input: &str, output: &str) -> Node {
        Node { domain: "f".into(), ..node(name, &[input], &[output]) }
    }

    #[test]
    fn functions() {
        let with = |functions| Model { functions, ..model(graph(&["x"], vec![], &["x"])) };
        let mut scaled = node("Elu", &["X"], &["Y"]);
        scaled.attributes = vec![attribute("alpha", AttributeValue::Reference { attribute: "a".into(), kind: 1 })];
        validate(&with(vec![function("F", vec![scaled]), function("G", vec![call("F", "X", "Y")])])).unwrap();

        let f = || function("F", vec![node("Abs", &["X"], &["Y"])]);
        refused(&with(vec![f(), f()]), &["two functions 'F'"]);
        refused(&with(vec![function("F", vec![node("Abs", &["x"], &["Y"])])]), &["function 'F'", "reads 'x'"]);
        refused(&with(vec![function("F", vec![])]), &["output 'Y'"]);
        refused(&with(vec![function("F", vec![call("F", "X", "Y")])]), &["calls itself"]);
        let mutual = vec![function("F", vec![call("G", "X", "Y")]), function("G", vec![call("F", "X", "Y")])];
        refused(&with(mutual), &["calls itself"]);
        // Two ways to one function are no cycle.
        let twice = vec![call("F", "X", "a"), call("F", "a", "Y")];
        let chain = vec![call("G", "X", "a"), call("F", "a", "Y")];
        validate(&with(vec![function("H", chain), function("G", twice), f()])).unwrap();
    }

    #[test]
    fn a_long_chain_of_functions_needs_no_deep_stack() {
        let n = 50_000;
        let mut functions: Vec<Function> =
            (0..n).map(|i| function(&format!("F{i}"), vec![call(&format!("F{}", i + 1), "X", "Y")])).collect();
        functions.push(function(&format!("F{n}"), vec![node("Abs", &["X"], &["Y"])]));
        validate(&Model { functions, ..model(graph(&["x"], vec![], &["x"])) }).unwrap();
    }
}
