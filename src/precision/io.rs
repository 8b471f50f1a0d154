//! Which of the model's inputs and outputs keep FP32.

use super::ConvertOptions;
use super::facts::Facts;
use crate::{Result, bail};

/// True if the graph input or output of that name stays FP32.
pub(super) fn is_kept(options: &ConvertOptions, name: &str) -> bool {
    options.keep_io_named.iter().rev().find(|(n, _)| n == name).map_or(options.keep_io, |(_, keep)| *keep)
}

/// An error if an option names an input or output that does not exist.
pub(super) fn check_names(facts: &Facts, options: &ConvertOptions) -> Result<()> {
    let graph = &facts.model.graph;
    let names = || graph.real_inputs().chain(&graph.outputs).map(|v| &*v.name);
    if let Some((unknown, _)) = options.keep_io_named.iter().find(|(n, _)| names().all(|have| have != n)) {
        let list: Vec<&str> = names().collect();
        bail!(NotFound, "the model has no input or output '{unknown}': it has {}", list.join(", "));
    }
    Ok(())
}
