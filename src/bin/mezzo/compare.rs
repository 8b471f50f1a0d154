//! `mezzo compare`: two models or engines on the same inputs.

use crate::inputs::InputArgs;
use crate::output::{number, printable, table};
use crate::progress::Progress;
use crate::{load, output};
use mezzo::precision::{Comparison, OutputComparison, compare};
use mezzo::{Result, bail};
use serde_json::json;
use std::path::PathBuf;

/// Compare two models or engines on the same inputs, output by output
///
/// Inputs without a file are random (seed 0 unless another is given) and have A's types; floats are converted to the
/// types that B takes. Fails when values are NaN or infinite on one side only, or when a given bound is passed.
#[derive(clap::Args)]
pub struct Args {
    /// A model (ONNX, .pt2, TorchScript) or an engine file: the reference
    #[arg(value_name = "A")]
    a: PathBuf,
    /// A model (ONNX, .pt2, TorchScript) or an engine file
    #[arg(value_name = "B")]
    b: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    /// Fail if an output differs by more than this part of its largest value in A
    #[arg(long, value_name = "X", value_parser = bound)]
    max_rel: Option<f64>,
    /// Fail if the cosine between an output in A and in B is below this
    #[arg(long, value_name = "X", value_parser = bound)]
    min_cosine: Option<f64>,
    #[command(flatten)]
    execution: load::Execution,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// NaN as a bound would be one that nothing passes, or everything.
fn bound(text: &str) -> std::result::Result<f64, String> {
    text.parse().ok().filter(|x: &f64| !x.is_nan()).ok_or_else(|| "give a number, as in 0.02".into())
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<()> {
    let progress = Progress::start("loading");
    let a = load::engine(&args.a, &args.inputs.source, &args.execution, &progress)?;
    let b = load::engine(&args.b, &args.inputs.source, &args.execution, &progress)?;
    progress.phase("reading the inputs");
    let inputs = args.inputs.of(&args.a).gather(&a.info().inputs, Some(0))?;
    progress.phase("running both");
    let comparison = compare(&a, &b, &inputs.values)?;
    drop(progress);
    let verdict = args.verdict(&comparison);
    if args.json {
        let json = json!({
            "a": args.a.display().to_string(),
            "b": args.b.display().to_string(),
            "random_seed": inputs.seed,
            "outputs": comparison.outputs,
            "passed": verdict.is_ok(),
        });
        output::print_json(&json)?;
    } else {
        output::print(&text(&comparison, inputs.note()))?;
    }
    verdict
}

impl Args {
    /// An error that names the worst output, if one is not good enough.
    fn verdict(&self, comparison: &Comparison) -> Result<()> {
        let outputs = &comparison.outputs;
        if let Some(o) = outputs.iter().find(|o| o.non_finite_mismatches > 0) {
            bail!(
                Precision,
                "output '{}' has {} that are NaN or infinite in one of the two only ({} NaN and {} infinite in A, {} and \
                 {} in B): keep the nodes that overflow in FP32, or convert to bf16",
                o.name,
                output::plural(o.non_finite_mismatches as u64, "value"),
                o.nan_a,
                o.inf_a,
                o.nan_b,
                o.inf_b
            );
        }
        let worst = outputs.iter().max_by(|x, y| x.max_rel.total_cmp(&y.max_rel));
        if let (Some(bound), Some(o)) = (self.max_rel, worst)
            && (o.max_rel.is_nan() || o.max_rel > bound)
        {
            bail!(
                Precision,
                "output '{}' differs by {} of its largest value, and {bound} is allowed: keep sensitive nodes in FP32, or \
                 allow more with --max-rel",
                o.name,
                number(o.max_rel)
            );
        }
        let worst = outputs.iter().min_by(|x, y| x.cosine.total_cmp(&y.cosine));
        if let (Some(bound), Some(o)) = (self.min_cosine, worst)
            && (o.cosine.is_nan() || o.cosine < bound)
        {
            bail!(
                Precision,
                "output '{}' has a cosine of {} with A's, and {bound} is asked for: keep sensitive nodes in FP32, or ask \
                 for less with --min-cosine",
                o.name,
                o.cosine
            );
        }
        Ok(())
    }
}

fn row(o: &OutputComparison) -> Vec<String> {
    let types = if o.dtype_a == o.dtype_b { o.dtype_a.clone() } else { format!("{}/{}", o.dtype_a, o.dtype_b) };
    let pair = |a: usize, b: usize| format!("{a}/{b}");
    vec![
        printable(&o.name),
        types,
        output::shape(&o.shape),
        number(o.max_abs),
        number(o.max_rel),
        number(o.rms),
        format!("{:.7}", o.cosine),
        pair(o.nan_a, o.nan_b),
        pair(o.inf_a, o.inf_b),
        o.top1_agreement.map_or_else(|| "-".into(), |share| format!("{:.2} %", share * 100.0)),
    ]
}

fn text(comparison: &Comparison, note: Option<String>) -> String {
    let head = ["output", "type", "shape", "max abs", "max rel", "rms", "cosine", "NaN", "inf", "top-1 same"];
    let rows = std::iter::once(head.map(String::from).to_vec()).chain(comparison.outputs.iter().map(row));
    let table = table(&rows.collect::<Vec<_>>(), &[3, 4, 5, 6, 7, 8, 9]);
    std::iter::once(table).chain(note).collect::<Vec<_>>().join("\n")
}
