//! Latency of an engine on given inputs.

use super::{Context, Engine};
use crate::Result;
use crate::backend::{RunControl, Value};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a benchmark runs.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// Timed runs; 0 means as many as fit `time`, at least 10.
    pub iterations: usize,
    /// Runs before the timed ones.
    pub warmup: usize,
    /// Time for the timed runs, where `iterations` is 0.
    pub time: Duration,
}

impl Default for BenchOptions {
    fn default() -> Self {
        BenchOptions { iterations: 0, warmup: 3, time: Duration::from_secs(2) }
    }
}

/// Latency in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile (nearest rank).
    pub p90: f64,
    /// 99th percentile (nearest rank).
    pub p99: f64,
    /// Shortest.
    pub min: f64,
}

/// What a benchmark measured.
#[derive(Debug, Clone, Serialize)]
pub struct BenchResult {
    /// Latency of one run.
    pub latency_ms: Latency,
    /// Timed runs.
    pub iterations: usize,
    /// Peak bytes of activations of a run.
    pub activation_bytes: Option<u64>,
}

/// Runs the engine on the inputs again and again, in one context.
pub fn bench(engine: &Arc<Engine>, inputs: &[(String, Value)], options: &BenchOptions) -> Result<BenchResult> {
    let mut context = Context::new(engine)?;
    for (name, value) in inputs {
        context.bind(name, value.clone())?;
    }
    for _ in 0..options.warmup.max(1) {
        context.run(&RunControl::default())?;
    }
    let mut times = Vec::new();
    let started = Instant::now();
    loop {
        let run = Instant::now();
        context.run(&RunControl::default())?;
        times.push(run.elapsed().as_secs_f64() * 1e3);
        let done = match options.iterations {
            0 => times.len() >= 10 && started.elapsed() >= options.time,
            n => times.len() >= n,
        };
        if done {
            break;
        }
    }
    let iterations = times.len();
    times.sort_by(f64::total_cmp);
    let rank = |p: f64| times[((p * iterations as f64).ceil() as usize).clamp(1, iterations) - 1];
    Ok(BenchResult {
        latency_ms: Latency {
            mean: times.iter().sum::<f64>() / iterations as f64,
            p50: rank(0.5),
            p90: rank(0.9),
            p99: rank(0.99),
            min: times[0],
        },
        iterations,
        activation_bytes: context.activation_bytes(),
    })
}
