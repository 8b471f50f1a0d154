//! A built engine, shared by its contexts.

use super::container;
use super::env::{Env, LogLevel};
use crate::Result;
use crate::backend::{self, BackendContext, BuildOptions, EngineInfo, LoadOptions, LoadedEngine, Progress};
use crate::model::Model;
use crate::sys::map;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// An engine. Immutable; contexts execute it.
pub struct Engine {
    env: Arc<Env>,
    backend: &'static dyn backend::Backend,
    loaded: Arc<dyn LoadedEngine>,
}

impl Engine {
    /// Builds an engine for the backend of that name.
    pub fn build(
        env: &Arc<Env>,
        model: &Model,
        backend: &str,
        options: &BuildOptions,
        progress: &Progress,
    ) -> Result<Arc<Engine>> {
        let backend = backend::find(backend)?;
        let started = Instant::now();
        let mut options = BuildOptions { threads: env.threads(options.threads), ..options.clone() };
        options.library_paths.extend_from_slice(env.library_paths());
        let loaded = backend.build(model, &options, progress)?;
        env.log(
            LogLevel::Info,
            &format!("built a {} engine of {} nodes in {:.3} s", backend.name(), loaded.info().nodes, {
                started.elapsed().as_secs_f64()
            }),
        );
        Ok(Arc::new(Engine { env: env.clone(), backend, loaded }))
    }

    /// Writes the engine to one file, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        container::save(path, self.loaded.info(), &self.loaded.sections()?)
    }

    /// Loads an engine file. A large one is mapped: do not change it in place while the engine lives.
    pub fn load(env: &Arc<Env>, path: &Path, options: &LoadOptions) -> Result<Arc<Engine>> {
        let bytes = map::read(path, map::MAP_THRESHOLD)?;
        Engine::load_bytes(env, bytes, options).map_err(|e| e.context(format!("engine file '{}'", path.display())))
    }

    /// Loads an engine from memory.
    pub fn load_bytes(env: &Arc<Env>, bytes: Bytes, options: &LoadOptions) -> Result<Arc<Engine>> {
        let (info, sections) = container::read(&bytes)?;
        let backend = backend::find(&info.backend)?;
        backend.accepts(&info.backend_version)?;
        let mut options = LoadOptions { threads: env.threads(options.threads), ..options.clone() };
        options.library_paths.extend_from_slice(env.library_paths());
        let loaded = backend.load(&sections, &options)?;
        Ok(Arc::new(Engine { env: env.clone(), backend, loaded }))
    }

    /// What the engine is.
    pub fn info(&self) -> &EngineInfo {
        self.loaded.info()
    }

    /// Peak bytes of activations of one execution, where shapes are fixed. May take as long as an execution the first time.
    pub fn activation_bytes(&self) -> Option<u64> {
        self.loaded.activation_bytes()
    }

    /// The engine's own layers, as JSON.
    pub fn inspect_json(&self) -> String {
        self.loaded.inspect().to_string()
    }

    /// Its backend's name.
    pub fn backend_name(&self) -> &'static str {
        self.backend.name()
    }

    /// The environment it was made in.
    pub fn env(&self) -> &Arc<Env> {
        &self.env
    }

    pub(super) fn open_backend_context(&self) -> Result<Box<dyn BackendContext>> {
        self.loaded.clone().open_context()
    }
}

#[cfg(test)]
pub(super) mod tests_support {
    use super::*;

    /// An engine over any loaded one, for tests of this room.
    pub fn engine_of(loaded: Arc<dyn LoadedEngine>) -> Arc<Engine> {
        let backend = backend::find("cpu").expect("the CPU backend is always there");
        Arc::new(Engine { env: Env::default_env(), backend, loaded })
    }
}
