//! Engines: built from a model, kept in one file, executed by contexts.

mod bench;
mod cache;
mod check;
mod container;
mod context;
mod digest;
#[allow(clippy::module_inception)]
mod engine;
mod env;
mod inputs;
#[cfg(test)]
mod tests;

pub use bench::{BenchOptions, BenchResult, Latency, bench};
pub use container::is_engine_file;
pub use context::Context;
pub use engine::{CacheOutcome, Engine};
pub use env::{Env, EnvOptions, LogLevel, LogSink};
pub use inputs::{parse_dims, random_inputs};
