//! Models rewritten into what an older ONNX parser understands (TensorRT 8.5 and 8.6: operator set 17 at most, no local
//! functions, and not every operator of it), before it sees them.
//!
//! Every replacement is the operator's ONNX function body or an equal older form, in the types of the converted model. Names
//! of values stay. What has no older form is an error that names every such node; what no parser knows is left to the parser,
//! whose error names it too.

mod activations;
mod attention;
mod forms;
mod inline;
mod norms;
mod place;
mod shapes;

#[cfg(test)]
mod tests;

use crate::model::infer::{self, Typing};
use crate::model::names::Taken;
use crate::model::{AttributeValue, DimValue, Graph, Model, Node, TypeKind};
use crate::sys::tensorrt::Family;
use crate::{Result, bail};
use place::{Place, Scope};

/// The newest operator set that the parsers of TensorRT 8.5 and 8.6 know.
const NEWEST: i64 = 17;
/// The newest IR version of that time.
const IR_VERSION: i64 = 8;
/// How many nodes a message lists.
const SHOWN: usize = 32;

/// Puts the nodes that replace a node into the place, in forms that every version from the node's to 17 has; `Err` says why there are none, and what to do.
type Rewrite = fn(&Node, &mut Place) -> std::result::Result<(), String>;

/// The parsers that need the rewriting of an operator.
#[derive(Clone, Copy, PartialEq)]
enum In {
    /// Those of 8.5 and 8.6.
    Both,
    /// Only that of 8.5: 8.6 has an importer.
    Only85,
}

/// What the parsers do not know, or not in its newest form.
const TABLE: &[(&str, In, Rewrite)] = &[
    ("Attention", In::Both, attention::attention),
    ("AveragePool", In::Both, forms::average_pool),
    ("Cast", In::Both, forms::cast),
    ("CastLike", In::Both, forms::cast_like),
    ("DequantizeLinear", In::Both, forms::quantize),
    ("Gelu", In::Both, activations::gelu),
    ("GridSample", In::Both, forms::grid_sample),
    ("GroupNormalization", In::Both, norms::group),
    ("IsInf", In::Both, activations::is_inf),
    ("LayerNormalization", In::Only85, norms::layer),
    ("LpPool", In::Both, forms::lp_pool),
    ("Mish", In::Both, activations::mish),
    ("Pad", In::Both, shapes::pad),
    ("QuantizeLinear", In::Both, forms::quantize),
    ("RMSNormalization", In::Both, norms::rms),
    ("ReduceL1", In::Both, forms::reduce),
    ("ReduceL2", In::Both, forms::reduce),
    ("ReduceLogSum", In::Both, forms::reduce),
    ("ReduceLogSumExp", In::Both, forms::reduce),
    ("ReduceMax", In::Both, forms::reduce),
    ("ReduceMean", In::Both, forms::reduce),
    ("ReduceMin", In::Both, forms::reduce),
    ("ReduceProd", In::Both, forms::reduce),
    ("ReduceSumSquare", In::Both, forms::reduce),
    ("Resize", In::Both, shapes::resize),
    ("ScatterElements", In::Both, forms::scatter),
    ("ScatterND", In::Both, forms::scatter),
    ("Shape", In::Both, shapes::shape),
    ("Split", In::Both, shapes::split),
    ("Swish", In::Both, activations::swish),
];

/// True if the family's parser needs models rewritten.
pub fn needed(family: Family) -> bool {
    matches!(family, Family::V8_5 | Family::V8_6)
}

/// The model in the words of the family's parser.
pub fn for_parser(model: &Model, family: Family) -> Result<Model> {
    if !needed(family) {
        let mut model = model.clone();
        unname_dims(&mut model);
        return Ok(model);
    }
    let mut model = inline::inlined(model)?;
    unname_dims(&mut model);
    let Some(opset) = model.opset("") else { return Ok(model) };
    let find = |op: &str| {
        let row = TABLE.iter().find(|(name, of, _)| *name == op && (*of == In::Both || family == Family::V8_5))?;
        Some(row.2)
    };
    let typing = infer::infer_known(&model)?;
    let mut work = Work { opset, find: &find, taken: Taken::of_graph(&model.graph), problems: Vec::new() };
    let graph = work.graph(&model.graph, Some(&typing), None);
    refuse(&work.problems, family)?;
    model.graph = graph;
    for import in model.opset_imports.iter_mut().filter(|i| crate::model::graph::norm_domain(&i.domain).is_empty()) {
        import.version = import.version.min(NEWEST);
    }
    model.ir_version = model.ir_version.min(IR_VERSION);
    Ok(model)
}

/// Takes the names of dimensions away that are none: Paddle's exporter calls each "?", and TensorRT takes what has one name
/// as one size.
fn unname_dims(model: &mut Model) {
    for value in model.graph.inputs.iter_mut().chain(&mut model.graph.outputs).chain(&mut model.graph.value_info) {
        if let Some(TypeKind::Tensor { shape: Some(shape), .. }) = value.ty.as_mut().map(|t| &mut t.kind) {
            for dim in shape.iter_mut().filter(|d| matches!(&d.value, DimValue::Symbol(s) if &**s == "?")) {
                dim.value = DimValue::Unknown;
            }
        }
    }
}

fn refuse(problems: &[String], family: Family) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let mut shown: Vec<&str> = problems.iter().take(SHOWN).map(String::as_str).collect();
    if problems.len() > SHOWN {
        shown.push("...");
    }
    let version = if family == Family::V8_5 { "8.5" } else { "8.6" };
    bail!(
        Unsupported,
        "the ONNX parser of TensorRT {version} knows operator set {NEWEST} at most, and {} nodes have no form in it: {}. Use \
         TensorRT 10 or newer, or change these nodes",
        problems.len(),
        shown.join("; ")
    )
}

/// One rewriting.
struct Work<'f> {
    opset: i64,
    find: &'f dyn Fn(&str) -> Option<Rewrite>,
    taken: Taken,
    problems: Vec<String>,
}

impl Work<'_> {
    fn graph(&mut self, old: &Graph, typing: Option<&Typing>, outer: Option<&Scope>) -> Graph {
        let scope = Scope::new(old, typing, outer);
        let mut nodes = Vec::with_capacity(old.nodes.len());
        let mut constants = Vec::new();
        for (index, node) in old.nodes.iter().enumerate() {
            let mut node = node.clone();
            self.subgraphs(&mut node, index, typing, &scope);
            if node.is("If") && node.outputs.iter().filter(|o| !o.is_empty()).count() > 1 {
                // Of silero_vad_op18_ifless each output came under the other's name, also with an Identity between.
                self.problems.push(format!(
                    "node {}: TensorRT 8.5 was seen to exchange the outputs of an If that has several",
                    node.label()
                ));
            }
            let rewrite = if node.domain().is_empty() { (self.find)(&node.op_type) } else { None };
            let Some(rewrite) = rewrite else {
                nodes.push(node);
                continue;
            };
            let mut place = Place::new(&scope, &mut self.taken, &node, self.opset);
            match rewrite(&node, &mut place) {
                Ok(()) => {
                    let (new, added) = place.finish();
                    nodes.extend(new);
                    constants.extend(added);
                }
                Err(reason) => self.problems.push(format!("node {}: {reason}", node.label())),
            }
        }
        let mut new = Graph { nodes, ..old.clone() };
        new.initializers.extend(constants);
        new
    }

    fn subgraphs(&mut self, node: &mut Node, index: usize, typing: Option<&Typing>, scope: &Scope) {
        for attribute in &mut node.attributes {
            let name = attribute.name.clone();
            let graphs: &mut [Graph] = match &mut attribute.value {
                AttributeValue::Graph(g) => std::slice::from_mut(&mut **g),
                AttributeValue::Graphs(gs) => gs,
                _ => continue,
            };
            for (at, graph) in graphs.iter_mut().enumerate() {
                let inside = typing.and_then(|t| t.subgraphs.get(&(index, name.clone(), at)));
                *graph = self.graph(graph, inside, Some(scope));
            }
        }
    }
}
