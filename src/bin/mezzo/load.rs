//! Models and engines, told apart by content.

use crate::progress::Progress;
use mezzo::backend;
use mezzo::engine::{Engine, Env, EnvOptions, LogLevel, is_engine_file};
use mezzo::frontend::{self, torch};
use mezzo::model::Model;
use mezzo::{Result, bail};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file holds.
pub enum Loaded {
    /// A model.
    Model(Box<Model>),
    /// An engine.
    Engine(Arc<Engine>),
}

/// The option of all that builds or executes.
#[derive(clap::Args)]
pub struct Threads {
    /// Threads that execute; 0 is one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1024))]
    threads: u16,
}

/// The options of all that loads a model.
#[derive(Clone, clap::Args)]
pub struct Source {
    /// The shape of an input of random values, as in image=1x3x224x224; and, for every input of a TorchScript archive,
    /// its shape and type, as in x=1x3x224x224:fp32: words are dynamic dimensions, parts of lists, tuples and dicts are
    /// x.0 and x.key, numbers x=16000; without NAME= it is the next input (repeatable)
    #[arg(long, value_name = "NAME=SHAPE[:TYPE]")]
    pub input_shape: Vec<String>,
    /// Turn off the training mode of a PyTorch model that was traced before eval()
    #[arg(long)]
    pub force_eval: bool,
}

impl Source {
    fn options(&self, path: &Path) -> Result<frontend::LoadOptions> {
        let inputs = match is_archive(path) {
            true => self.input_shape.iter().map(|text| torch::InputSpec::parse(text)).collect::<Result<_>>()?,
            false => Vec::new(),
        };
        let torch = torch::Options { inputs, force_eval: self.force_eval, ..torch::Options::default() };
        Ok(frontend::LoadOptions { torch, ..frontend::LoadOptions::default() })
    }
}

/// True for a zip archive: of the files that are loaded, PyTorch's.
pub fn is_archive(path: &Path) -> bool {
    let mut start = [0; 4];
    std::fs::metadata(path).is_ok_and(|m| m.is_file())
        && std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok()
        && torch::archive::is_zip(&start)
}

/// The options of all that executes.
#[derive(clap::Args)]
pub struct Execution {
    #[command(flatten)]
    pub threads: Threads,
    /// Bytes that the intermediate values of one run may take, as in 500M or 2G; 0 is the machine's memory
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = size)]
    memory_limit: usize,
    #[command(flatten)]
    place: Place,
}

/// Where engines of TensorRT's run.
#[derive(clap::Args)]
pub struct Place {
    /// The device that an engine of TensorRT's runs on, from 0; 'mezzo devices' lists them
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: usize,
    /// TensorRT's library for an engine of TensorRT's: a file or a folder, instead of the places it is looked for
    #[arg(long, value_name = "PATH")]
    library: Option<PathBuf>,
    /// Accept versions of TensorRT that are newer than the tested ones
    #[arg(long)]
    allow_untested: bool,
}

impl Place {
    /// These as options, the others as they are by default.
    pub fn options(&self) -> backend::LoadOptions {
        backend::LoadOptions {
            device: self.device,
            library: self.library.clone(),
            allow_untested: self.allow_untested,
            ..backend::LoadOptions::default()
        }
    }
}

impl Execution {
    fn options(&self) -> backend::LoadOptions {
        backend::LoadOptions { memory_limit: self.memory_limit, threads: self.threads.get(), ..self.place.options() }
    }
}

/// A number of bytes: K, M and G are powers of 1024.
pub fn size(text: &str) -> std::result::Result<usize, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1usize << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let number = digits.parse::<usize>().ok().and_then(|n| n.checked_mul(unit));
    number.ok_or_else(|| "give a number of bytes, as in 1000000, 500M or 2G".into())
}

impl Threads {
    /// The number, 0 for one per core.
    pub fn get(&self) -> usize {
        self.threads.into()
    }

    /// The options of an engine that is not executed here.
    pub fn options(&self) -> backend::LoadOptions {
        backend::LoadOptions { threads: self.get(), ..backend::LoadOptions::default() }
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

/// Loads whatever the file holds; the options are for engines.
pub fn load(path: &Path, source: &Source, options: &backend::LoadOptions, progress: &Progress) -> Result<Loaded> {
    if is_engine(path) {
        progress.phase("loading the engine");
        return Ok(Loaded::Engine(Engine::load(&environment(), path, options)?));
    }
    model(path, source, progress).map(|m| Loaded::Model(Box::new(m)))
}

/// Loads a model; an engine in its place is an error that says so.
pub fn model(path: &Path, source: &Source, progress: &Progress) -> Result<Model> {
    if is_engine(path) {
        bail!(
            InvalidArgument,
            "'{}' is a built engine, and a model is needed here: give the model that the engine was built from",
            path.display()
        );
    }
    progress.phase("loading the model");
    frontend::load_file(path, &source.options(path)?)
}

/// Builds an engine, with progress.
pub fn build(
    model: &Model,
    backend: &str,
    options: &backend::BuildOptions,
    cache: Option<&Path>,
    progress: &Progress,
) -> Result<Arc<Engine>> {
    let report = |phase: &str, fraction: f32| {
        progress.fraction(&format!("building the engine: {phase}"), fraction);
        true
    };
    progress.phase("building the engine");
    let mut environment = environment_options();
    environment.cache_dir = cache.map(Path::to_path_buf);
    if cache.is_some() {
        environment.log_level = LogLevel::Info;
    }
    Engine::build(&Env::new(environment), model, backend, options, &backend::Progress { callback: Some(&report) })
}

/// An engine from a file of either kind; a model is built for the CPU backend.
pub fn engine(path: &Path, source: &Source, execution: &Execution, progress: &Progress) -> Result<Arc<Engine>> {
    let options = execution.options();
    let backend::LoadOptions { threads, memory_limit, .. } = options;
    let for_build = backend::BuildOptions { threads, memory_limit, ..backend::BuildOptions::default() };
    match load(path, source, &options, progress)? {
        Loaded::Engine(engine) => Ok(engine),
        Loaded::Model(model) => build(&model, "cpu", &for_build, None, progress)
            .map_err(|e| e.context(format_args!("'{}'", path.display()))),
    }
}

/// An environment whose log lines become notes.
pub fn environment() -> Arc<Env> {
    Env::new(environment_options())
}

fn environment_options() -> EnvOptions {
    EnvOptions { log: Some(Box::new(|_, line| crate::output::note(line))), ..EnvOptions::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let sizes = ["0", "1000", "3K", "500m", "2G"].map(size);
        assert_eq!(sizes, [Ok(0), Ok(1000), Ok(3072), Ok(500 << 20), Ok(2 << 30)]);
        for wrong in ["", "K", "-1", "1.5G", "2T", "99999999999999999999", "99999999999999999G", "1\u{e9}"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
