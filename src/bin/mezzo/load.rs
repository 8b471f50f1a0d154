//! Models and engines, told apart by content.

use crate::progress::Progress;
use mezzo::backend;
use mezzo::engine::{Engine, Env, EnvOptions, is_engine_file};
use mezzo::frontend::onnx;
use mezzo::model::Model;
use mezzo::{Result, bail};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// What a file holds.
pub enum Loaded {
    /// A model.
    Model(Box<Model>),
    /// An engine.
    Engine(Arc<Engine>),
}

/// The option of all that executes.
#[derive(clap::Args)]
pub struct Threads {
    /// Threads that execute; 0 is one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1024))]
    threads: u16,
}

impl Threads {
    /// The number, 0 for one per core.
    pub fn get(&self) -> usize {
        self.threads.into()
    }
}

/// True when the file begins as an engine does. What cannot be read is left to the loader, whose errors say why.
pub fn is_engine(path: &Path) -> bool {
    let mut start = [0; 8];
    // Asked before opening: opening a pipe would wait for its writer.
    std::fs::metadata(path).is_ok_and(|m| m.is_file())
        && std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok()
        && is_engine_file(&start)
}

/// Loads whatever the file holds; `threads` (0: one per core) is for engines.
pub fn load(path: &Path, threads: usize, progress: &Progress) -> Result<Loaded> {
    if is_engine(path) {
        progress.phase("loading the engine");
        let options = backend::LoadOptions { threads, ..backend::LoadOptions::default() };
        return Ok(Loaded::Engine(Engine::load(&environment(), path, &options)?));
    }
    model(path, progress).map(|m| Loaded::Model(Box::new(m)))
}

/// Loads a model; an engine in its place is an error that says so.
pub fn model(path: &Path, progress: &Progress) -> Result<Model> {
    if is_engine(path) {
        bail!(
            InvalidArgument,
            "'{}' is a built engine, and a model is needed here: give the model that the engine was built from",
            path.display()
        );
    }
    progress.phase("loading the model");
    onnx::load_file(path, &onnx::LoadOptions::default())
}

/// Builds an engine, with progress.
pub fn build(model: &Model, backend: &str, threads: usize, progress: &Progress) -> Result<Arc<Engine>> {
    let report = |phase: &str, fraction: f32| {
        progress.fraction(&format!("building the engine: {phase}"), fraction);
        true
    };
    progress.phase("building the engine");
    Engine::build(
        &environment(),
        model,
        backend,
        &backend::BuildOptions { threads, ..backend::BuildOptions::default() },
        &backend::Progress { callback: Some(&report) },
    )
}

/// An engine from a file of either kind; a model is built for the CPU backend.
pub fn engine(path: &Path, threads: usize, progress: &Progress) -> Result<Arc<Engine>> {
    match load(path, threads, progress)? {
        Loaded::Engine(engine) => Ok(engine),
        Loaded::Model(model) => {
            build(&model, "cpu", threads, progress).map_err(|e| e.context(format_args!("'{}'", path.display())))
        }
    }
}

/// An environment whose log lines become notes.
fn environment() -> Arc<Env> {
    Env::new(EnvOptions { log: Some(Box::new(|_, line| crate::output::note(line))), ..EnvOptions::default() })
}
