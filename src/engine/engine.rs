//! A built engine, shared by its contexts.

use super::env::{Env, LogLevel};
use super::{cache, container};
use crate::backend::{self, BackendContext, BuildOptions, EngineInfo, LoadOptions, LoadedEngine, Progress};
use crate::device::SharedMemory;
use crate::model::Model;
use crate::sys::atomic_file::AtomicFile;
use crate::sys::map;
use crate::{Result, err};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// An engine. Immutable; contexts execute it.
pub struct Engine {
    env: Arc<Env>,
    backend: &'static dyn backend::Backend,
    loaded: Arc<dyn LoadedEngine>,
    /// What the build cache had to say, if there is one.
    cache: Option<CacheOutcome>,
}

/// What the build cache did for an engine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheOutcome {
    /// The engine was there.
    Hit,
    /// It was built; why.
    Miss(String),
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
        let mut options = BuildOptions { threads: env.threads(options.threads), ..options.clone() };
        options.library_paths.extend_from_slice(env.library_paths());
        let machine = match env.cache_dir() {
            Some(folder) => backend.machine(&options)?.map(|m| (folder, m)),
            None => None,
        };
        let Some((folder, machine)) = machine else {
            let loaded = Engine::build_now(env, model, backend, &options, progress)?;
            return Ok(Arc::new(Engine { env: env.clone(), backend, loaded, cache: None }));
        };
        progress.step("looking into the build cache", 0.0)?;
        let entry = cache::Entry::open(folder, cache::Identity::new(model, backend.name(), &options, machine)?)?;
        let found = entry.read().and_then(|(info, sections)| {
            let from_cache = || -> Result<_> {
                backend.accepts(&info.backend_version)?;
                backend.load(&sections, &load_options(&options))
            };
            from_cache().map_err(|e| e.message().to_string())
        });
        let (loaded, outcome) = match found {
            Ok(loaded) => {
                env.log(LogLevel::Info, &format!("took a {} engine from '{}'", backend.name(), entry.path().display()));
                (loaded, CacheOutcome::Hit)
            }
            Err(reason) => {
                env.log(LogLevel::Info, &format!("'{}' has no engine for this build: {reason}", folder.display()));
                (Engine::build_now(env, model, backend, &options, progress)?, CacheOutcome::Miss(reason))
            }
        };
        if outcome != CacheOutcome::Hit {
            let written = entry.write(|path| container::save(path, loaded.info(), &loaded.sections()?));
            if let Err(e) = written {
                // The engine is there all the same.
                env.log(LogLevel::Warning, &format!("cannot put the engine into the build cache: {e}"));
            }
        }
        Ok(Arc::new(Engine { env: env.clone(), backend, loaded, cache: Some(outcome) }))
    }

    fn build_now(
        env: &Env,
        model: &Model,
        backend: &dyn backend::Backend,
        options: &BuildOptions,
        progress: &Progress,
    ) -> Result<Arc<dyn LoadedEngine>> {
        let started = Instant::now();
        let loaded = backend.build(model, options, progress)?;
        env.log(
            LogLevel::Info,
            &format!("built a {} engine of {} nodes in {:.3} s", backend.name(), loaded.info().nodes, {
                started.elapsed().as_secs_f64()
            }),
        );
        Ok(loaded)
    }

    /// What the build cache did, where the environment has one and the backend's builds are worth it.
    pub fn cache(&self) -> Option<&CacheOutcome> {
        self.cache.as_ref()
    }

    /// Writes the engine to one file, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        container::save(path, self.loaded.info(), &self.loaded.sections()?)
    }

    /// Writes the plan as the backend's own library reads it, whole or not at all: without Mezzo's container, so without
    /// description and checksum.
    pub fn save_plan(&self, path: &Path) -> Result<()> {
        let plan = self.loaded.plan().ok_or_else(|| {
            let backend = self.backend.name();
            err!(Unsupported, "an engine of the backend '{backend}' has no plan: save it as an engine")
        })?;
        let mut file = AtomicFile::create(path)?;
        file.write(&plan)?;
        file.commit()
    }

    /// Loads a plan that a backend's own library, or [`Engine::save_plan`], wrote. Plans are code: the options must say
    /// that this one is trusted.
    pub fn load_plan(env: &Arc<Env>, path: &Path, backend: &str, options: &LoadOptions) -> Result<Arc<Engine>> {
        let backend = backend::find(backend)?;
        let in_file = |e: crate::Error| e.context(format!("plan '{}'", path.display()));
        let plan = map::read(path, map::MAP_THRESHOLD)?;
        if container::is_engine_file(&plan) {
            return Err(in_file(err!(InvalidFile, "that is a Mezzo engine, not a plan: load it as an engine")));
        }
        let mut options = LoadOptions { threads: env.threads(options.threads), ..options.clone() };
        options.library_paths.extend_from_slice(env.library_paths());
        let loaded = backend.load_plan(plan, &options).map_err(in_file)?;
        Ok(Arc::new(Engine { env: env.clone(), backend, loaded, cache: None }))
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
        Ok(Arc::new(Engine { env: env.clone(), backend, loaded, cache: None }))
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
        let mut json = self.loaded.inspect();
        if let (Some(outcome), Some(json)) = (&self.cache, json.as_object_mut()) {
            json.insert("build_cache".into(), serde_json::json!(outcome));
        }
        json.to_string()
    }

    /// Its backend's name.
    pub fn backend_name(&self) -> &'static str {
        self.backend.name()
    }

    /// The environment it was made in.
    pub fn env(&self) -> &Arc<Env> {
        &self.env
    }

    pub(super) fn open_backend_context(&self, memory: Option<&Arc<SharedMemory>>) -> Result<Box<dyn BackendContext>> {
        self.loaded.clone().open_context(memory)
    }
}

/// How an engine of these build options is loaded.
fn load_options(build: &BuildOptions) -> LoadOptions {
    LoadOptions {
        threads: build.threads,
        memory_limit: build.memory_limit,
        device: build.device,
        library_paths: build.library_paths.clone(),
        library: build.tensorrt.library.clone(),
        allow_untested: build.tensorrt.allow_untested,
        trust_plan: false,
    }
}

#[cfg(test)]
pub(super) mod tests_support {
    use super::*;

    /// An engine over any loaded one, for tests of this room.
    pub fn engine_of(loaded: Arc<dyn LoadedEngine>) -> Arc<Engine> {
        let backend = backend::find("cpu").expect("the CPU backend is always there");
        Arc::new(Engine { env: Env::default_env(), backend, loaded, cache: None })
    }
}
