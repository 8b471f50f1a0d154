//! `mezzo run`: a model or an engine on given inputs; its outputs as .npy files.

use crate::inputs::InputArgs;
use crate::output::{number, printable, table};
use crate::progress::Progress;
use crate::{load, npy, output};
use mezzo::backend::{IoInfo, RunControl, Value};
use mezzo::engine::Context;
use mezzo::error::Error;
use mezzo::hash::HashMap;
use mezzo::model::DataType;
use mezzo::sys::atomic_file::commit_all;
use mezzo::{Result, bail};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};

/// Run a model or an engine on inputs, and write its outputs as .npy files
///
/// A model is built for the CPU backend on the fly. Each output is written to DIR as NAME.npy, with _ for every character
/// that is not a letter, a digit, a dot, an underscore or a hyphen.
#[derive(clap::Args)]
pub struct Args {
    /// A model (ONNX, .pt2, TorchScript) or an engine file
    #[arg(value_name = "MODEL_OR_ENGINE")]
    file: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    /// Where the outputs are written; made if it does not exist
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    #[command(flatten)]
    execution: load::Execution,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is said of an output.
struct Summary {
    name: String,
    kind: String,
    shape: Option<Vec<usize>>,
    file: Option<PathBuf>,
    numbers: Option<Numbers>,
}

/// Minimum, maximum and mean of the finite elements, and how many are not finite.
struct Numbers {
    range: Option<(f64, f64, f64)>,
    nan: usize,
    inf: usize,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<()> {
    let progress = Progress::start("loading");
    let engine = load::engine(&args.file, &args.inputs.source, &args.execution, &progress)?;
    let files = match &args.output_dir {
        Some(folder) => output_files(folder, &engine.info().outputs)?,
        None => Vec::new(),
    };
    progress.phase("reading the inputs");
    let inputs = args.inputs.of(&args.file).gather(&engine.info().inputs, None)?;
    progress.phase("running");
    let mut context = Context::new(&engine)?;
    for (name, value) in &inputs.values {
        context.bind(name, value.clone())?;
    }
    context.run(&RunControl::default())?;
    let names = engine.info().outputs.iter().map(|io| io.name.as_str());
    let values: Vec<(&str, Value)> = names.map(|n| Ok((n, context.output(n)?))).collect::<Result<_>>()?;
    if let Some(folder) = &args.output_dir {
        progress.phase("writing the outputs");
        write(folder, &files, &values)?;
    }
    let mut files = files.into_iter();
    let summaries = values.iter().map(|(name, value)| Summary::of(name, value, files.next()));
    let summaries: Vec<Summary> = summaries.collect::<Result<_>>()?;
    drop(progress);
    if args.json {
        let outputs: Vec<Json> = summaries.iter().map(Summary::json).collect();
        return output::print_json(&json!({"outputs": outputs, "random_seed": inputs.seed}));
    }
    output::print(&text(&summaries, inputs.note()))
}

/// A path for every output; two outputs of one file name are an error.
fn output_files(folder: &Path, outputs: &[IoInfo]) -> Result<Vec<PathBuf>> {
    let mut taken: HashMap<String, &str> = HashMap::default();
    let mut files = Vec::new();
    for io in outputs {
        let file = file_name(&io.name);
        if let Some(other) = taken.insert(file.clone(), &io.name) {
            bail!(
                InvalidArgument,
                "the outputs '{other}' and '{}' would both be written to '{file}': rename one of them in the model, or \
                 leave --output-dir away",
                io.name
            );
        }
        files.push(folder.join(file));
    }
    Ok(files)
}

/// The file of an output: its name with `_` for every character outside `[A-Za-z0-9._-]`.
fn file_name(output: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    output.chars().map(keep).chain(".npy".chars()).collect()
}

/// Writes all outputs or none.
fn write(folder: &Path, files: &[PathBuf], values: &[(&str, Value)]) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|e| Error::io(format_args!("cannot make the folder '{}'", folder.display()), &e))?;
    let mut open = Vec::new();
    for (path, (name, value)) in files.iter().zip(values) {
        let in_output = |e: Error| e.context(format_args!("output '{name}'"));
        let Value::Tensor(tensor) = value else {
            bail!(
                Unsupported,
                "output '{name}' is {}, which a .npy file cannot hold: leave --output-dir away, or take it off the \
                 model's outputs",
                value.kind()
            );
        };
        let tensor = match tensor.dtype() {
            DataType::Bfloat16 => {
                output::note(&format!("output '{name}' is bf16, which .npy files do not have: written as float32"));
                tensor.to_float(DataType::Float32)
            }
            _ => Ok(tensor.clone()),
        };
        open.push(tensor.and_then(|t| npy::write(path, &t)).map_err(in_output)?);
    }
    commit_all(open)
}

impl Summary {
    fn of(name: &str, value: &Value, file: Option<PathBuf>) -> Result<Summary> {
        let (kind, shape, numbers) = match value {
            Value::Tensor(t) => {
                let numbers = t.to_f64().ok().map(|v| Numbers::of(&v));
                (t.dtype().to_string(), Some(t.dims().to_vec()), numbers)
            }
            Value::Strings { dims, .. } => (DataType::String.to_string(), Some(dims.clone()), None),
            other => (other.kind().to_string(), None, None),
        };
        Ok(Summary { name: name.into(), kind, shape, file, numbers })
    }

    fn json(&self) -> Json {
        let range = self.numbers.as_ref().and_then(|n| n.range);
        json!({
            "name": self.name,
            "dtype": self.kind,
            "shape": self.shape,
            "file": self.file.as_ref().map(|f| f.display().to_string()),
            "min": range.map(|r| r.0),
            "max": range.map(|r| r.1),
            "mean": range.map(|r| r.2),
            "nan": self.numbers.as_ref().map(|n| n.nan),
            "inf": self.numbers.as_ref().map(|n| n.inf),
        })
    }

    fn row(&self) -> Vec<String> {
        let range = self.numbers.as_ref().and_then(|n| n.range);
        let (min, max, mean) = range.map_or_else(Default::default, |(a, b, c)| (number(a), number(b), number(c)));
        let shape = self.shape.as_ref().map_or_else(String::new, |s| output::shape(s));
        let strange = match &self.numbers {
            Some(n) if n.nan + n.inf > 0 => format!("{} NaN, {} infinite", n.nan, n.inf),
            _ => String::new(),
        };
        vec![printable(&self.name), self.kind.clone(), shape, min, max, mean, strange]
    }
}

impl Numbers {
    fn of(values: &[f64]) -> Numbers {
        let finite = || values.iter().filter(|v| v.is_finite());
        let count = finite().count();
        let (min, max) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        Numbers {
            range: (count > 0).then(|| (min, max, finite().sum::<f64>() / count as f64)),
            nan: values.iter().filter(|v| v.is_nan()).count(),
            inf: values.iter().filter(|v| v.is_infinite()).count(),
        }
    }
}

fn text(outputs: &[Summary], note: Option<String>) -> String {
    let head = ["output", "type", "shape", "min", "max", "mean"].map(String::from).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(outputs.iter().map(Summary::row)).collect();
    let mut lines = vec![table(&rows, &[3, 4, 5])];
    lines.extend(outputs.iter().filter_map(|o| o.file.as_ref()).map(|f| format!("wrote '{}'", f.display())));
    lines.extend(note);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_safely() {
        assert_eq!(file_name("/a/b:0 é..-_Z9"), "_a_b_0__..-_Z9.npy");
        assert_eq!(file_name("../../etc"), ".._.._etc.npy");
        let io = |name: &str| {
            IoInfo::of(&mezzo::model::ValueInfo { name: name.into(), ty: None, doc_string: None, metadata: vec![] })
        };
        let e = output_files(Path::new("d"), &[io("a/b"), io("a:b")]).expect_err("they collide");
        assert!(
            e.message().contains("'a/b'") && e.message().contains("'a:b'") && e.message().contains("a_b.npy"),
            "{e}"
        );
    }

    #[test]
    fn numbers_leave_out_what_is_not_finite() {
        let n = Numbers::of(&[1.0, f64::NAN, -3.0, f64::INFINITY]);
        assert_eq!((n.range, n.nan, n.inf), (Some((-3.0, 1.0, -1.0)), 1, 1));
        assert_eq!(Numbers::of(&[]).range, None);
    }
}
