//! Runs a plan.

use super::memory::Pool;
use super::ops::Inputs;
use super::plan::{Plan, Source};
use super::threads::Threads;
use super::value::Val;
use crate::backend::Value;
use crate::{Result, bail, err};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a kernel needs beside its inputs.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    /// Memory for its outputs.
    pub pool: &'a Arc<Pool>,
    /// Threads to work on.
    pub threads: &'a Threads,
    /// True stops the run.
    pub cancel: Option<&'a AtomicBool>,
    /// Sees every value that a step makes.
    #[allow(clippy::type_complexity)]
    pub tap: Option<&'a (dyn Fn(&str, &Value) + Sync)>,
}

impl Cx<'_> {
    /// An error if the caller wants the run to stop.
    pub fn check_cancelled(&self) -> Result<()> {
        match self.cancel {
            Some(flag) if flag.load(Ordering::Relaxed) => bail!(Cancelled, "the run was cancelled"),
            _ => Ok(()),
        }
    }
}

/// Runs `plan`; `inputs` stand in the order of its input slots.
pub fn run(plan: &Plan, cx: &Cx, inputs: Vec<Val>) -> Result<Vec<Val>> {
    if inputs.len() != plan.inputs.len() {
        bail!(Internal, "a plan with {} inputs got {}", plan.inputs.len(), inputs.len());
    }
    let mut slots: Vec<Option<Val>> = vec![None; plan.slots];
    if let Some(tap) = cx.tap {
        for (name, value) in plan.input_names.iter().zip(&inputs) {
            tap(name, &value.to_value(None)?);
        }
    }
    for (&slot, value) in plan.inputs.iter().zip(inputs) {
        slots[slot] = Some(value);
    }
    for step in plan.steps(cx.tap.is_some()) {
        cx.check_cancelled()?;
        // A fused step names the node itself.
        let at = |e: crate::Error| match step.parts.is_empty() {
            true => e.context(format_args!("node {}", step.label)),
            false => e,
        };
        let mut gathered = Vec::with_capacity(step.inputs.len());
        for &source in &step.inputs {
            gathered.push(fetch(plan, &mut slots, source).map_err(at)?);
        }
        let results = step.kernel.run(cx, &mut Inputs::new(gathered)).map_err(at)?;
        for (i, output) in step.outputs.iter().enumerate() {
            let Some((slot, name)) = output else { continue };
            let value = results.get(i).ok_or_else(|| at(err!(Unsupported, "output {i} ('{name}') is not computed")))?;
            if let Some(tap) = cx.tap {
                tap(name, &value.to_value(None).map_err(at)?);
            }
            slots[*slot] = Some(value.clone());
        }
        drop(results);
        for &slot in &step.unread {
            slots[slot] = None;
        }
    }
    plan.outputs
        .iter()
        .map(|&source| {
            fetch(plan, &mut slots, source)?.ok_or_else(|| err!(Internal, "an output of the graph has no value"))
        })
        .collect()
}

fn fetch(plan: &Plan, slots: &mut [Option<Val>], source: Source) -> Result<Option<Val>> {
    Ok(match source {
        Source::Absent => None,
        Source::Constant(i) => Some(plan.constants[i].clone()),
        Source::Slot { index, last } => {
            let value = if last { slots[index].take() } else { slots[index].clone() };
            Some(value.ok_or_else(|| err!(Internal, "slot {index} is read before it is written"))?)
        }
    })
}
