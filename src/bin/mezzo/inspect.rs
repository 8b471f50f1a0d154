//! `mezzo inspect`: what a model or an engine is.

use crate::load::Loaded;
use crate::output::{bytes, plural, printable, table};
use crate::progress::Progress;
use crate::{load, output};
use mezzo::Result;
use mezzo::backend::cpu::has_operator;
use mezzo::backend::{IoDim, IoInfo};
use mezzo::engine::Engine;
use mezzo::hash::HashSet;
use mezzo::model::{AttributeValue, DataType, Function, Graph, Model, Name, Node, OpsetId, SparseTensor, Tensor};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Describe a model or an engine: inputs, outputs, operators, constants
#[derive(clap::Args)]
pub struct Args {
    /// A model (ONNX, .pt2, TorchScript) or an engine file
    #[arg(value_name = "MODEL_OR_ENGINE")]
    file: PathBuf,
    #[command(flatten)]
    source: load::Source,
    /// Print an engine's own layers, as JSON
    #[arg(long)]
    layers: bool,
    #[command(flatten)]
    place: load::Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<()> {
    let progress = Progress::start("loading");
    if args.layers && !load::is_engine(&args.file) {
        // Loading tells first whether the file is anything at all.
        load::model(&args.file, &args.source, &progress)?;
        mezzo::bail!(
            InvalidArgument,
            "'{0}' is a model, and only engines have layers: make one with 'mezzo build {0} ENGINE --backend cpu'",
            args.file.display()
        );
    }
    let loaded = load::load(&args.file, &args.source, &args.place.options(), &progress)?;
    drop(progress);
    let size = std::fs::metadata(&args.file).map_or(0, |m| m.len());
    let json = |mut json: Json| {
        json["file_bytes"] = size.into();
        output::print_json(&json)
    };
    let text = |text: String| output::print(&format!("{text}\nfile: {}", bytes(size)));
    match loaded {
        Loaded::Engine(engine) if args.layers => layers(&engine),
        Loaded::Engine(engine) if args.json => json(engine_json(&engine)),
        Loaded::Engine(engine) => text(engine_text(&engine)),
        Loaded::Model(model) if args.json => json(model_json(&model)),
        Loaded::Model(model) => text(model_text(&model)),
    }
}

fn layers(engine: &Engine) -> Result<()> {
    let text = engine.inspect_json();
    match serde_json::from_str(&text) {
        Ok(json) => output::print_json(&json),
        Err(_) => output::print(&text),
    }
}

/// Everything of a model that is counted.
#[derive(Default)]
struct Counts {
    nodes: u64,
    by_type: BTreeMap<String, u64>,
    subgraphs: u64,
    /// Domain and name of the model's own functions.
    functions: HashSet<(Name, Name)>,
    initializers: Tally,
    /// Tensors that are attributes: those of Constant nodes, most of all.
    attributes: Tally,
    /// Operators that the CPU backend lacks.
    cpu_lacks: BTreeSet<String>,
}

/// Tensors and their bytes, by element type.
#[derive(Default)]
struct Tally(BTreeMap<DataType, (u64, u64)>);

impl Tally {
    fn add(&mut self, tensor: &Tensor) {
        let entry = self.0.entry(tensor.dtype()).or_default();
        entry.0 += 1;
        entry.1 += tensor.byte_len() as u64;
    }

    fn add_sparse(&mut self, sparse: &SparseTensor) {
        self.add(&sparse.values.tensor);
        self.add(&sparse.indices.tensor);
    }

    fn total(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |(n, b), (count, bytes)| (n + count, b + bytes))
    }

    fn json(&self) -> Json {
        let (count, bytes) = self.total();
        let types: Map<String, Json> =
            self.0.iter().map(|(t, (count, bytes))| (t.to_string(), json!({"count": count, "bytes": bytes}))).collect();
        json!({"count": count, "bytes": bytes, "by_dtype": types})
    }

    fn text(&self) -> String {
        let (count, size) = self.total();
        let types: Vec<String> =
            self.0.iter().map(|(t, (count, size))| format!("{count} {t}: {}", bytes(*size))).collect();
        match types.is_empty() {
            true => "none".into(),
            false => format!("{}, {} ({})", plural(count, "tensor"), bytes(size), types.join(", ")),
        }
    }
}

impl Counts {
    fn of(model: &Model) -> Counts {
        let functions = model.functions.iter().map(|f| (f.domain.clone(), f.name.clone())).collect();
        let mut counts = Counts { functions, ..Counts::default() };
        counts.graph(&model.graph);
        model.functions.iter().for_each(|f| counts.nodes(&f.nodes));
        counts
    }

    fn graph(&mut self, graph: &Graph) {
        graph.initializers.iter().for_each(|i| self.initializers.add(&i.tensor));
        graph.sparse_initializers.iter().for_each(|s| self.initializers.add_sparse(s));
        self.nodes(&graph.nodes);
    }

    fn nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.nodes += 1;
            let local = || self.functions.contains(&(node.domain.clone(), node.op_type.clone()));
            if !has_operator(node.domain(), &node.op_type) && !local() {
                self.cpu_lacks.insert(operator(node.domain(), &node.op_type));
            }
            *self.by_type.entry(operator(node.domain(), &node.op_type)).or_default() += 1;
            for attribute in &node.attributes {
                match &attribute.value {
                    AttributeValue::Tensor(t) => self.attributes.add(&t.tensor),
                    AttributeValue::Tensors(ts) => ts.iter().for_each(|t| self.attributes.add(&t.tensor)),
                    AttributeValue::SparseTensor(s) => self.attributes.add_sparse(s),
                    AttributeValue::SparseTensors(ss) => ss.iter().for_each(|s| self.attributes.add_sparse(s)),
                    _ => {}
                }
            }
            for (_, graph) in node.subgraphs() {
                self.subgraphs += 1;
                self.graph(graph);
            }
        }
    }
}

fn operator(domain: &str, op_type: &str) -> String {
    if domain.is_empty() { op_type.to_string() } else { format!("{domain}::{op_type}") }
}

fn domain_name(opset: &OpsetId) -> &str {
    if opset.domain.is_empty() { "ai.onnx" } else { &opset.domain }
}

fn inputs_and_outputs(model: &Model) -> (Vec<IoInfo>, Vec<IoInfo>) {
    (model.graph.real_inputs().map(IoInfo::of).collect(), model.graph.outputs.iter().map(IoInfo::of).collect())
}

fn io_json(ios: &[IoInfo]) -> Json {
    let dim = |d: &IoDim| match d {
        // Exporters write -1 where they do not know the size.
        IoDim::Size(n) if *n >= 0 => json!(n),
        IoDim::Symbol(s) => json!(s),
        IoDim::Size(_) | IoDim::Any => Json::Null,
    };
    let shape = |io: &IoInfo| io.shape.as_ref().map(|s| s.iter().map(dim).collect::<Vec<_>>());
    // Sequences and the like have no element type: what they are is said in words.
    let dtype = |io: &IoInfo| io.data_type().map_or_else(|| io.text.clone(), |t| t.to_string());
    ios.iter().map(|io| json!({"name": io.name, "dtype": dtype(io), "shape": shape(io)})).collect()
}

fn function_json(f: &Function) -> Json {
    json!({"name": &*f.name, "domain": &*f.domain, "nodes": f.nodes.len()})
}

fn model_json(model: &Model) -> Json {
    let counts = Counts::of(model);
    let (inputs, outputs) = inputs_and_outputs(model);
    let opsets: Map<String, Json> =
        model.opset_imports.iter().map(|o| (domain_name(o).to_string(), json!(o.version))).collect();
    let metadata: Map<String, Json> = model.metadata.iter().map(|(k, v)| (k.to_string(), json!(&**v))).collect();
    json!({
        "kind": "model",
        "format": "onnx",
        "ir_version": model.ir_version,
        "opsets": opsets,
        "producer": {"name": model.producer_name.as_deref(), "version": model.producer_version.as_deref()},
        "graph": model.graph.name.as_deref(),
        "metadata": metadata,
        "inputs": io_json(&inputs),
        "outputs": io_json(&outputs),
        "nodes": {"count": counts.nodes, "by_type": counts.by_type},
        "cpu_lacks": counts.cpu_lacks,
        "subgraphs": counts.subgraphs,
        "initializers": counts.initializers.json(),
        "tensor_attributes": counts.attributes.json(),
        "functions": model.functions.iter().map(function_json).collect::<Vec<_>>(),
    })
}

fn model_text(model: &Model) -> String {
    let counts = Counts::of(model);
    let (inputs, outputs) = inputs_and_outputs(model);
    let opsets: Vec<String> = model.opset_imports.iter().map(|o| format!("{} {}", domain_name(o), o.version)).collect();
    let producer = [&model.producer_name, &model.producer_version].map(|p| p.as_deref().unwrap_or_default()).join(" ");
    let mut lines = vec![
        format!("ONNX model, IR version {}, opset {}", model.ir_version, printable(&opsets.join(", "))),
        format!("producer: {}", Some(printable(&producer)).filter(|p| !p.is_empty()).unwrap_or("not given".into())),
    ];
    io_text(&mut lines, "inputs", &inputs);
    io_text(&mut lines, "outputs", &outputs);
    let inside = match counts.subgraphs {
        0 => String::new(),
        n => format!(" (those of {} included)", plural(n, "subgraph")),
    };
    lines.push(format!("nodes: {}{inside}", counts.nodes));
    let mut types: Vec<(&String, &u64)> = counts.by_type.iter().collect();
    types.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let rows: Vec<Vec<String>> = types.iter().map(|(t, n)| vec![printable(t), n.to_string()]).collect();
    lines.extend(Some(table(&rows, &[1])).filter(|t| !t.is_empty()));
    lines.push(match counts.cpu_lacks.is_empty() {
        true => "backend 'cpu': has all of these operators".into(),
        false => {
            let lacks: Vec<&str> = counts.cpu_lacks.iter().map(String::as_str).collect();
            format!("backend 'cpu': lacks {}", printable(&lacks.join(", ")))
        }
    });
    lines.push(format!("initializers: {}", counts.initializers.text()));
    if !counts.attributes.0.is_empty() {
        lines.push(format!("tensors in nodes: {}", counts.attributes.text()));
    }
    if !model.functions.is_empty() {
        let names: Vec<String> = model
            .functions
            .iter()
            .map(|f| format!("{} ({})", operator(&f.domain, &f.name), plural(f.nodes.len() as u64, "node")))
            .collect();
        lines.push(format!("functions: {}", printable(&names.join(", "))));
    }
    for (key, value) in &model.metadata {
        lines.push(format!("metadata {}: {}", printable(key), shortened(&printable(value))));
    }
    lines.join("\n")
}

/// Metadata may be whole alphabets; `--json` has it all.
fn shortened(text: &str) -> String {
    const LIMIT: usize = 100;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}... ({} characters)", &text[..end], text.chars().count()),
        None => text.to_string(),
    }
}

fn io_text(lines: &mut Vec<String>, what: &str, ios: &[IoInfo]) {
    if ios.is_empty() {
        lines.push(format!("{what}: none"));
        return;
    }
    lines.push(format!("{what}:"));
    let rows: Vec<Vec<String>> = ios.iter().map(|io| vec![printable(&io.name), printable(&io.text)]).collect();
    lines.push(table(&rows, &[]));
}

/// What an engine is, for machines.
pub fn engine_json(engine: &Engine) -> Json {
    let info = engine.info();
    json!({
        "kind": "engine",
        "backend": info.backend,
        "backend_version": info.backend_version,
        "inputs": io_json(&info.inputs),
        "outputs": io_json(&info.outputs),
        "nodes": {"count": info.nodes, "half": info.half_nodes, "float": info.float_nodes},
        "weight_bytes": info.weight_bytes,
        "activation_bytes": engine.activation_bytes(),
    })
}

/// What an engine is, for people.
pub fn engine_text(engine: &Engine) -> String {
    let info = engine.info();
    let mut lines = vec![format!("Mezzo engine for the backend '{}', version {}", info.backend, info.backend_version)];
    io_text(&mut lines, "inputs", &info.inputs);
    io_text(&mut lines, "outputs", &info.outputs);
    lines.push(format!(
        "nodes: {}, of which {} compute in half and {} in FP32 or FP64",
        info.nodes, info.half_nodes, info.float_nodes
    ));
    lines.push(format!("weights: {}", bytes(info.weight_bytes)));
    lines.push(match engine.activation_bytes() {
        Some(n) => format!("activations: {}", bytes(n)),
        None => "activations: depend on the inputs".into(),
    });
    lines.join("\n")
}
