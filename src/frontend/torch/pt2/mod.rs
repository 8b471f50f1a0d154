//! `.pt2` archives of torch.export: the program's JSON, read and walked node by node into the lowering.
//!
//! Schema major 8 is read (torch 2.6 and later write it); fields that are not known are ignored, as the format's rules
//! for minor versions say. Nothing pickled is read: sample inputs are skipped, and weights marked as pickled are refused.

mod args;
mod outputs;
mod symbols;
#[cfg(test)]
mod tests;
mod walk;
mod weights;

use super::archive::Archive;
use super::lower::{Dim, Lowering, Tensor};
use crate::hash::HashMap;
use crate::model::Model;
use crate::{Result, bail, err};
use serde_json::Value as Json;

/// The schema's major version that is read.
const MAJOR: u64 = 8;

/// What becomes of buffers that the program changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mutations {
    /// An error that names them: a model here has no state between runs.
    #[default]
    Refuse,
    /// Each new value is one more output, named as the buffer with ".new".
    Outputs,
}

/// How a program is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// What becomes of changed buffers.
    pub mutations: Mutations,
}

/// True if entries of those names make a `.pt2` archive.
pub fn is_pt2<'a>(names: impl IntoIterator<Item = &'a str>) -> bool {
    names.into_iter().any(|n| n.ends_with("models/model.json"))
}

/// A model from an archive's entries.
pub fn read(archive: &Archive, options: &Options) -> Result<Model> {
    let Some(main) = archive.names().find(|n| n.ends_with("models/model.json")) else {
        bail!(InvalidFile, "the archive holds no models/model.json: it was not written by torch.export.save")
    };
    let root = main.strip_suffix("models/model.json").unwrap_or("").to_owned();
    let byteorder = format!("{root}byteorder");
    if archive.get(&byteorder)?.is_some_and(|b| b.trim_ascii() != b"little") {
        bail!(Unsupported, "the archive was written on a big-endian machine; save it on a little-endian one");
    }
    let json = parse(&archive.need(main)?, "models/model.json")?;
    let major = json["schema_version"]["major"].as_u64().unwrap_or(0);
    if major != MAJOR {
        bail!(
            Version,
            "the program has version {major} of torch.export's schema, but {MAJOR} is read: save it again with torch 2.6 or later"
        );
    }
    let weights = weights::Weights::open(archive, &root)?;
    let reader = Reader { l: Lowering::new(), env: HashMap::default(), buffers: Vec::new() };
    reader.program(&json, weights, options)
}

/// Bytes of memory that a program's JSON may take once it is read.
const MAX_JSON: usize = 2 << 30;

pub(super) fn parse(bytes: &[u8], what: &str) -> Result<Json> {
    // `{"":0},` takes a hundred times its length. What comes in strings counts too, which does no harm.
    let count = |of: &[u8]| bytes.iter().filter(|b| of.contains(b)).count();
    let memory = bytes.len().saturating_add(700 * count(b"{") + 64 * count(b",["));
    if memory > MAX_JSON {
        bail!(InvalidFile, "{what} would take about {memory} bytes of memory; {MAX_JSON} are the most");
    }
    serde_json::from_slice(bytes).map_err(|e| err!(InvalidFile, "{what} is damaged: {e}"))
}

/// What the walk carries along.
struct Reader {
    l: Lowering,
    env: HashMap<String, super::lower::Arg>,
    /// Buffers with the value they had at first.
    buffers: Vec<(String, Tensor, super::lower::Value)>,
}

impl Reader {
    fn program(mut self, json: &Json, mut weights: weights::Weights<'_>, options: &Options) -> Result<Model> {
        let module = &json["graph_module"];
        let (graph, signature) = (&module["graph"], &module["signature"]);
        let ranges = symbols::ranges(&json["range_constraints"]);
        for spec in items(&signature["input_specs"]) {
            self.declare(spec, graph, &mut weights, &ranges)?;
        }
        self.nodes(&graph["nodes"])?;
        let names = outputs::names(&module["module_call_graph"]);
        let mut results = Vec::new();
        let mut user = 0;
        for spec in items(&signature["output_specs"]) {
            if let Some(arg) = spec.get("user_output").map(|u| &u["arg"]) {
                let name = names.get(user).cloned().unwrap_or_else(|| format!("output_{user}"));
                user += 1;
                // None and plain numbers are no tensors; they are left out.
                if let Some(super::lower::Arg::Tensor(t)) = self.arg(arg)? {
                    results.push((name, t));
                }
            } else if let Some(m) = spec.get("buffer_mutation") {
                let (arg, buffer) = (m["arg"]["name"].as_str().unwrap_or(""), m["buffer_name"].as_str().unwrap_or(""));
                if let Some(super::lower::Arg::Tensor(t)) = self.env.get(arg).cloned() {
                    self.mutated(buffer, t, options, &mut results)?;
                }
            } else if spec.get("user_input_mutation").is_some() {
                bail!(Unsupported, "the program changes one of its inputs in place; return the new value instead");
            }
        }
        for (name, tensor, first) in std::mem::take(&mut self.buffers) {
            if !std::rc::Rc::ptr_eq(&self.l.current(&tensor)?, &first) {
                self.mutated(&name, tensor, options, &mut results)?;
            }
        }
        if results.is_empty() {
            bail!(InvalidModel, "the program returns no tensor");
        }
        self.l.finish(&results)
    }

    fn mutated(&self, name: &str, t: Tensor, options: &Options, results: &mut Vec<(String, Tensor)>) -> Result<()> {
        match options.mutations {
            // The initializer that the run starts from has the name itself.
            Mutations::Outputs => results.push((format!("{name}.new"), t)),
            Mutations::Refuse => bail!(
                Unsupported,
                "the program changes its buffer '{name}', but models have no state between runs: ask for changed buffers \
                 as outputs, or make it an input and an output of the module"
            ),
        }
        Ok(())
    }

    /// An input, parameter, buffer or constant of the graph.
    fn declare(
        &mut self,
        spec: &Json,
        graph: &Json,
        weights: &mut weights::Weights<'_>,
        ranges: &HashMap<String, (Option<i64>, Option<i64>)>,
    ) -> Result<()> {
        for (kind, field) in
            [("parameter", "parameter_name"), ("buffer", "buffer_name"), ("tensor_constant", "tensor_constant_name")]
        {
            let Some(s) = spec.get(kind) else { continue };
            let (arg, name) = (text(&s["arg"]["name"])?, text(&s[field])?);
            let (key, data) = weights.get(name)?;
            let tensor = self.l.constant(&key, &data)?;
            if kind == "buffer" {
                let first = self.l.current(&tensor)?;
                self.buffers.push((name.to_owned(), tensor.clone(), first));
            }
            self.env.insert(arg.to_owned(), super::lower::Arg::Tensor(tensor));
            return Ok(());
        }
        let Some(arg) = spec.get("user_input").map(|u| &u["arg"]) else {
            bail!(Unsupported, "the program takes an input of an unknown kind: {}", brief(spec));
        };
        let Some(name) = arg["as_tensor"]["name"].as_str() else {
            if arg.get("as_sym_int").is_some() {
                bail!(Unsupported, "the program takes an integer as an input; give it as a tensor");
            }
            return Ok(());
        };
        let meta = &graph["tensor_values"][name];
        let dtype = args::scalar_type(&meta["dtype"])?;
        let mut dims = Vec::new();
        for size in items(&meta["sizes"]) {
            let size = symbols::size(size)?;
            dims.push(match size.known() {
                Some(n) => Dim::Fixed(n),
                None => Dim::Expression { range: ranges.get(&size.to_string()).copied().unwrap_or((None, None)), size },
            });
        }
        let tensor = self.l.input(name, dtype, &dims);
        self.env.insert(name.to_owned(), super::lower::Arg::Tensor(tensor));
        Ok(())
    }
}

fn items(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn text(json: &Json) -> Result<&str> {
    json.as_str().ok_or_else(|| err!(InvalidFile, "the program is damaged: a name is {}", brief(json)))
}

/// A piece of JSON for a message.
fn brief(json: &Json) -> String {
    let text = json.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}
