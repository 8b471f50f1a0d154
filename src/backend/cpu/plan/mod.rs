//! A plan: what a graph becomes before it runs. Names are gone; steps read and write numbered slots, constants stand
//! beside, and each step knows which of its inputs nobody needs afterwards.

mod body;
mod build;
mod channels;
mod fold;
mod fuse;
mod inline;
mod liveness;
mod same;
mod types;

pub use body::Body;
pub use build::build;

use super::ops::Kernel;
use super::value::Val;
use crate::model::{DataType, Name};
use std::sync::Arc;

/// Where a step or an output finds a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An omitted input.
    Absent,
    /// A slot; `last` says that nobody reads it afterwards.
    Slot {
        /// Its number.
        index: usize,
        /// This is the last reader.
        last: bool,
    },
    /// A constant of the plan.
    Constant(usize),
}

/// One operator call, or several fused.
#[derive(Clone)]
pub struct Step {
    /// What it does.
    pub kernel: Arc<dyn Kernel>,
    /// How messages name its node.
    pub label: String,
    /// The node's name.
    pub name: Name,
    /// Its operator.
    pub op: String,
    /// Inputs, followed by what its bodies capture.
    pub inputs: Vec<Source>,
    /// Slots written, with the values' names; `None` is an unwanted output.
    pub outputs: Vec<Option<(usize, Name)>>,
    /// Slots written here that nobody reads.
    pub unread: Vec<usize>,
    /// Element types of the inputs, where known.
    pub input_types: Vec<Option<DataType>>,
    /// Element types of the outputs, where known.
    pub output_types: Vec<Option<DataType>>,
    /// Its subgraphs.
    pub bodies: Vec<Arc<Plan>>,
    /// What it does, where repetitions are looked for.
    pub deed: Option<String>,
    /// Names of the nodes that are fused in it; empty for a node by itself.
    pub parts: Vec<Name>,
}

/// A graph ready to run.
#[derive(Default)]
pub struct Plan {
    /// In order, a step for each node.
    pub steps: Vec<Step>,
    /// The same with nodes fused and images turned; empty if it is the same.
    pub fused: Vec<Step>,
    /// How many slots a run needs.
    pub slots: usize,
    /// Constants.
    pub constants: Vec<Val>,
    /// Slots of the inputs: the graph's own, then what it captures from outside.
    pub inputs: Vec<usize>,
    /// Names of a body's own inputs, for taps.
    pub input_names: Vec<Name>,
    /// Where the outputs are found.
    pub outputs: Vec<Source>,
}

impl Plan {
    /// The steps of a run: all of them where every value is to be seen, else the fused ones.
    pub fn steps(&self, every_value: bool) -> &[Step] {
        if every_value || self.fused.is_empty() { &self.steps } else { &self.fused }
    }

    /// Calls `f` on every step, those of bodies included, with the depth of nesting: a step for each node, or those
    /// that run.
    pub fn visit<'a>(&'a self, every_value: bool, depth: usize, f: &mut dyn FnMut(usize, &'a Step)) {
        for step in self.steps(every_value) {
            f(depth, step);
            step.bodies.iter().for_each(|b| b.visit(every_value, depth + 1, f));
        }
    }
}
