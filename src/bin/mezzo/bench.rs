//! `mezzo bench`: latency and memory of a model or an engine.

use crate::inputs::InputArgs;
use crate::output::{bytes, number, table};
use crate::progress::Progress;
use crate::{load, output};
use mezzo::Result;
use mezzo::engine::{BenchOptions, BenchResult, bench};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

/// Measure the latency of a model or an engine
///
/// Inputs without a file are random (seed 0 unless another is given). A model is built for the CPU backend on the fly.
#[derive(clap::Args)]
pub struct Args {
    /// A model (ONNX, .pt2, TorchScript) or an engine file
    #[arg(value_name = "MODEL_OR_ENGINE")]
    file: PathBuf,
    #[command(flatten)]
    execution: load::Execution,
    /// Timed runs; 0 means as many as fit two seconds, at least 10
    #[arg(long, value_name = "N", default_value_t = 0)]
    iterations: usize,
    /// Runs before the timed ones, at least one
    #[arg(long, value_name = "N", default_value_t = 3)]
    warmup: usize,
    #[command(flatten)]
    inputs: InputArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<()> {
    let progress = Progress::start("loading");
    let started = Instant::now();
    let engine = load::engine(&args.file, &args.inputs.source, &args.execution, &progress)?;
    let build_ms = started.elapsed().as_secs_f64() * 1e3;
    progress.phase("reading the inputs");
    let inputs = args.inputs.of(&args.file).gather(&engine.info().inputs, Some(0))?;
    progress.phase("running");
    let options = BenchOptions { iterations: args.iterations, warmup: args.warmup, ..BenchOptions::default() };
    let result = bench(&engine, &inputs.values, &options)?;
    drop(progress);
    let threads = engine.env().threads(args.execution.threads.get());
    let peak = peak_rss_bytes();
    if args.json {
        return output::print_json(&json!({
            "latency_ms": result.latency_ms,
            "iterations": result.iterations,
            "build_ms": build_ms,
            "peak_rss_bytes": peak,
            "activation_bytes": result.activation_bytes,
            "threads": threads,
            "backend": engine.backend_name(),
            "random_seed": inputs.seed,
        }));
    }
    let text = text(&result, build_ms, peak, engine.backend_name(), threads);
    output::print(&std::iter::once(text).chain(inputs.note()).collect::<Vec<_>>().join("\n"))
}

fn text(result: &BenchResult, build_ms: f64, peak: Option<u64>, backend: &str, threads: usize) -> String {
    let l = &result.latency_ms;
    let unknown = || "not known".to_string();
    let rows = [
        ("latency (mean)", format!("{} ms", number(l.mean))),
        ("latency (p50)", format!("{} ms", number(l.p50))),
        ("latency (p90)", format!("{} ms", number(l.p90))),
        ("latency (p99)", format!("{} ms", number(l.p99))),
        ("latency (min)", format!("{} ms", number(l.min))),
        ("iterations", result.iterations.to_string()),
        ("from file to engine", format!("{} ms", number(build_ms))),
        ("activations", result.activation_bytes.map_or_else(unknown, bytes)),
        ("peak memory of the process", peak.map_or_else(unknown, bytes)),
        ("backend", format!("{backend}, {}", output::plural(threads as u64, "thread"))),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name.into(), value]).collect();
    table(&rows, &[])
}

/// The largest resident memory that the process has had, as Linux tells it.
fn peak_rss_bytes() -> Option<u64> {
    peak_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_the_status() {
        assert_eq!(peak_of("Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t   5532 kB\nVmRSS:\t 1 kB\n"), Some(5532 * 1024));
        assert_eq!(peak_of("VmHWM:\tmuch\n"), None);
    }
}
