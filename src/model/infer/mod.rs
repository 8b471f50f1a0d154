//! Type inference and the type checker: the element type of every value, from operator schemas.
//!
//! Both are one walk over the graph, its subgraphs (with captures) and the local functions it calls (once per combination
//! of argument types). The checker also holds every input against its schema. Shapes are only carried along where the
//! model states them.

mod control;
mod edges;
mod outputs;
mod walk;

#[cfg(test)]
mod tests;

use crate::hash::{HashMap, HashSet};
use crate::model::{DataType, Model, Name, ValueType};
use crate::{Result, bail};
use std::sync::Arc;

/// How many nodes a message lists.
const SHOWN: usize = 32;

/// The types of one graph's values.
#[derive(Debug, Clone, Default)]
pub struct Typing {
    /// What the graph itself defines: inputs, initializers, node outputs. Captured values are found in outer graphs.
    pub values: HashMap<Name, ValueType>,
    /// Its subgraphs, by node index, attribute name and place among the attribute's graphs.
    pub subgraphs: HashMap<(usize, Name, usize), Typing>,
    /// The bodies of the local functions it calls, by node index. Calls with the same argument types and attributes share
    /// one.
    pub calls: HashMap<usize, Arc<Typing>>,
}

/// Types that the caller declares for outputs of operators that no schema describes, by name of the output.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declarations(pub HashMap<String, ValueType>);

impl Declarations {
    /// Adds `NAME=TYPE`, a tensor's element type by its short name ("out=fp32"). Names may contain `=` themselves.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let Some((name, dtype)) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()) else {
            bail!(InvalidArgument, "'{text}' declares no type: give NAME=TYPE, as in features=fp32");
        };
        let Some(dtype) = DataType::from_name(dtype) else {
            bail!(
                InvalidArgument,
                "'{text}' declares a type '{dtype}' that does not exist: give fp32, fp16, int64, ..."
            );
        };
        self.0.insert(name.into(), ValueType::tensor(dtype, None));
        Ok(())
    }
}

/// Infers the type of every value. All nodes of unknown operators whose outputs have no declared type are reported at
/// once.
pub fn infer(model: &Model, declarations: &Declarations) -> Result<Typing> {
    let mut walk = walk::Walk::new(model, declarations, false);
    let typing = walk.main_graph()?;
    refuse_unknown(&walk.unknown)?;
    Ok(typing)
}

/// The types that can be told; outputs of unknown operators are left out where the model does not state their types.
pub(crate) fn infer_known(model: &Model) -> Result<Typing> {
    walk::Walk::new(model, &Declarations::default(), false).main_graph()
}

/// The type checker for models whose unknown operators may have outputs of unstated types.
pub(crate) fn check_known(model: &Model) -> Result<()> {
    walk::Walk::new(model, &Declarations::default(), true).main_graph().map(|_| ())
}

/// Walks every edge of every graph, subgraph and function call, and holds it against the operators' schemas and the
/// model's own declarations.
pub fn check_types(model: &Model) -> Result<()> {
    check_declared(model, &Declarations::default())
}

/// The same, for a model with operators whose types the caller declares.
pub fn check_declared(model: &Model, declarations: &Declarations) -> Result<()> {
    let mut walk = walk::Walk::new(model, declarations, true);
    walk.main_graph()?;
    refuse_unknown(&walk.unknown)
}

fn refuse_unknown(unknown: &[(String, Name)]) -> Result<()> {
    // Outputs of one node stand together; a function's body may be met several times.
    let mut nodes: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut seen = HashSet::default();
    for (label, output) in unknown.iter().filter(|u| seen.insert(*u)) {
        match nodes.last_mut() {
            Some((last, outputs)) if *last == label => outputs.push(output),
            _ => nodes.push((label, vec![output])),
        }
    }
    if nodes.is_empty() {
        return Ok(());
    }
    let mut shown: Vec<String> = nodes
        .iter()
        .take(SHOWN)
        .map(|(label, outputs)| format!("{label}, outputs '{}'", outputs.join("', '")))
        .collect();
    if nodes.len() > SHOWN {
        shown.push("...".into());
    }
    bail!(
        Unsupported,
        "the output types of {} nodes are not known, because no schema describes the operator or its schema leaves them \
         open: {}. Add value_info for these outputs, declare their types, or replace the operators",
        nodes.len(),
        shown.join("; ")
    )
}

/// True if both are the same type, shapes left aside.
pub fn same_type(a: &ValueType, b: &ValueType) -> bool {
    use crate::model::TypeKind as K;
    match (&a.kind, &b.kind) {
        (K::Tensor { dtype: x, .. }, K::Tensor { dtype: y, .. })
        | (K::SparseTensor { dtype: x, .. }, K::SparseTensor { dtype: y, .. }) => x == y,
        (K::Sequence(x), K::Sequence(y)) | (K::Optional(x), K::Optional(y)) => same_type(x, y),
        (K::Map(k, x), K::Map(l, y)) => k == l && same_type(x, y),
        _ => false,
    }
}
