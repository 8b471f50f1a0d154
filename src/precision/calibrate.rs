//! Ranges from samples: the model runs as it is on the CPU backend, and every tensor of every graph is watched.

use super::inference_form;
use super::ranges::Ranges;
use crate::backend::{BuildOptions, Progress, RunControl, Value};
use crate::engine::{Context, Engine, Env};
use crate::model::Model;
use crate::{Error, Result};
use parking_lot::Mutex;
use std::sync::Arc;

/// Runs a model on samples and keeps the ranges.
pub struct Calibrator {
    context: Context,
    ranges: Ranges,
}

impl Calibrator {
    /// A calibrator for a model that is to be converted. `threads` is 0 for one per core.
    pub fn new(env: &Arc<Env>, model: &Model, threads: usize, progress: &Progress) -> Result<Calibrator> {
        let mut model = model.clone();
        inference_form::apply(&mut model)?;
        let options = BuildOptions { threads, whole: true, ..BuildOptions::default() };
        let engine = Engine::build(env, &model, "cpu", &options, progress)
            .map_err(|e| e.context("the model cannot be run on samples"))?;
        Ok(Calibrator { context: Context::new(&engine)?, ranges: Ranges::default() })
    }

    /// The engine that runs the samples; its inputs are the model's.
    pub fn engine(&self) -> &Arc<Engine> {
        self.context.engine()
    }

    /// Runs one sample, a value for each input. A sample that fails leaves the ranges as they were.
    pub fn run(&mut self, inputs: &[(String, Value)]) -> Result<()> {
        // What the last sample left bound is not part of this one.
        for io in self.engine().info().inputs.clone() {
            self.context.unbind(&io.name)?;
        }
        for (name, value) in inputs {
            self.context.bind(name, value.clone())?;
        }
        let mut before = self.ranges.clone();
        inputs.iter().try_for_each(|(name, value)| before.add(name, value))?;
        let seen = Mutex::new((before, None::<Error>));
        let tap = |name: &str, value: &Value| {
            let mut seen = seen.lock();
            if let Err(e) = seen.0.add(name, value) {
                seen.1 = Some(e);
            }
        };
        self.context.run(&RunControl { tap: Some(&tap), ..RunControl::default() })?;
        let (ranges, failed) = seen.into_inner();
        if let Some(e) = failed {
            return Err(e);
        }
        self.ranges = ranges;
        self.ranges.samples += 1;
        Ok(())
    }

    /// The ranges so far.
    pub fn ranges(&self) -> &Ranges {
        &self.ranges
    }
}
