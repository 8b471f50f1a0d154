//! `mezzo build`: an engine from a model, in one file.

use crate::convert::{KeepIo, Precision, before_build};
use crate::progress::Progress;
use crate::tensorrt::TensorRt;
use crate::{inspect, load, output};
use mezzo::backend::{BuildOptions, LoadOptions};
use mezzo::engine::Engine;
use mezzo::error::Error;
use mezzo::{Result, bail};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

/// Build an engine from a model, and save it to one file
#[derive(clap::Args)]
pub struct Args {
    /// The model (ONNX, .pt2, TorchScript)
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Where the engine goes
    #[arg(value_name = "ENGINE")]
    engine: PathBuf,
    /// What executes the engine: cpu, tensorrt or tensorrt-rtx
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    backend: String,
    #[command(flatten)]
    threads: load::Threads,
    #[command(flatten)]
    source: load::Source,
    /// Convert the model first; 'mezzo convert' has more options and a report
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    #[command(flatten)]
    io: KeepIo,
    #[command(flatten)]
    tensorrt: TensorRt,
    /// A folder of engines that were built before: the engine is taken from there, or put there
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Also write the engine's plan, as TensorRT's own tools read it
    #[arg(long, value_name = "FILE")]
    save_plan: Option<PathBuf>,
    /// MODEL is a plan that TensorRT's own tools wrote, and becomes an engine file. A plan is code: only give one that you
    /// trust
    #[arg(long, conflicts_with_all = ["precision", "cache"])]
    trust_plan: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<()> {
    if args.io.given() && args.precision.is_none() {
        bail!(InvalidArgument, "--keep-io is an option of the conversion: give --precision with it, or leave it away");
    }
    if output::same_file(&args.model, &args.engine) {
        bail!(
            InvalidArgument,
            "the engine would overwrite the model '{}': give the engine a file of its own",
            args.model.display()
        );
    }
    let mut options = BuildOptions { threads: args.threads.get(), ..BuildOptions::default() };
    args.tensorrt.add_to(&mut options, &args.backend)?;
    let progress = Progress::start("loading the model");
    let in_model = |e: Error| e.context(format_args!("'{}'", args.model.display()));
    let (engine, started) = if args.trust_plan {
        let started = Instant::now();
        let load = LoadOptions {
            trust_plan: true,
            library: options.tensorrt.library.clone(),
            allow_untested: options.tensorrt.allow_untested,
            ..args.threads.options()
        };
        (Engine::load_plan(&load::environment(), &args.model, &args.backend, &load)?, started)
    } else {
        let mut model = load::model(&args.model, &args.source, &progress)?;
        if let Some(precision) = args.precision {
            progress.phase("converting");
            model = before_build(&model, precision, &args.io).map_err(in_model)?.model;
        }
        let started = Instant::now();
        let cache = args.cache.as_deref();
        (load::build(&model, &args.backend, &options, cache, &progress).map_err(in_model)?, started)
    };
    let build_ms = started.elapsed().as_secs_f64() * 1e3;
    progress.phase("saving the engine");
    engine.save(&args.engine)?;
    if let Some(path) = &args.save_plan {
        engine.save_plan(path)?;
    }
    drop(progress);
    let size = std::fs::metadata(&args.engine).map_or(0, |m| m.len());
    if args.json {
        let mut json = inspect::engine_json(&engine);
        json["engine"] = json!(args.engine.display().to_string());
        json["engine_bytes"] = json!(size);
        json["build_ms"] = json!(build_ms);
        return output::print_json(&json);
    }
    let text = inspect::engine_text(&engine);
    output::print(&format!(
        "{text}\nbuilt in {build_ms:.1} ms; wrote '{}', {}",
        args.engine.display(),
        output::bytes(size)
    ))
}
