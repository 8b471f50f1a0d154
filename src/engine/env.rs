//! The environment: log, allocator, threads and paths. There are no other globals.

use crate::sys::memory::ForeignAllocator;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// How important a log line is; the numbers are part of the C ABI (`MEZZO_LOG_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(i32)]
pub enum LogLevel {
    /// Something failed.
    Error = 1,
    /// Something a user should look at.
    #[default]
    Warning = 2,
    /// What was done.
    Info = 3,
    /// Details for developers.
    Debug = 4,
}

/// Receives log lines, from any thread.
pub type LogSink = Box<dyn Fn(LogLevel, &str) + Send + Sync>;

/// What an environment is made of.
#[derive(Default)]
pub struct EnvOptions {
    /// Where log lines go; nowhere by default.
    pub log: Option<LogSink>,
    /// The least important level that is passed on.
    pub log_level: LogLevel,
    /// Host memory for buffers, values and outputs; the process's own allocator by default.
    pub allocator: Option<Arc<ForeignAllocator>>,
    /// Threads an engine uses where its build options say 0; 0 is one per core.
    pub threads: usize,
    /// Where built engines are cached; no cache by default.
    pub cache_dir: Option<PathBuf>,
    /// Where backend libraries are looked for first.
    pub library_paths: Vec<PathBuf>,
}

/// Shared by everything that was made in it.
pub struct Env {
    options: EnvOptions,
}

impl Env {
    /// A new environment.
    pub fn new(options: EnvOptions) -> Arc<Env> {
        Arc::new(Env { options })
    }

    /// The one that stands for a NULL environment.
    pub fn default_env() -> Arc<Env> {
        static DEFAULT: OnceLock<Arc<Env>> = OnceLock::new();
        DEFAULT.get_or_init(|| Env::new(EnvOptions::default())).clone()
    }

    /// Passes a line to the log sink, if its level is wanted.
    pub fn log(&self, level: LogLevel, line: &str) {
        if let Some(sink) = &self.options.log
            && level <= self.options.log_level
        {
            sink(level, line);
        }
    }

    /// The caller's allocator.
    pub fn allocator(&self) -> Option<&Arc<ForeignAllocator>> {
        self.options.allocator.as_ref()
    }

    /// The number of threads for a request of `threads`, where 0 asks for the default.
    pub fn threads(&self, threads: usize) -> usize {
        [threads, self.options.threads]
            .into_iter()
            .find(|&n| n > 0)
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Where built engines are cached.
    pub fn cache_dir(&self) -> Option<&PathBuf> {
        self.options.cache_dir.as_ref()
    }

    /// Where backend libraries are looked for first.
    pub fn library_paths(&self) -> &[PathBuf] {
        &self.options.library_paths
    }
}
