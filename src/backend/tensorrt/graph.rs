//! One captured execution, replayed while nothing that it holds has changed.

use crate::Result;
use crate::device::{Graph, Stream};

/// The graph of a context, if the option is on.
#[derive(Default)]
pub struct Replay {
    on: bool,
    /// True while executions must be seen one by one.
    paused: bool,
    graph: Option<Graph>,
    /// How many executions were captured, and how many launched from a capture.
    captures: u64,
    replays: u64,
    /// The caller captured the last enqueue, so no event follows it.
    pub captured_by_caller: bool,
}

impl Replay {
    /// Turns the option on or off.
    pub fn set(&mut self, on: bool) {
        self.on = on;
    }

    /// True if executions are to be captured.
    pub fn is_on(&self) -> bool {
        self.on && !self.paused
    }

    /// Stops capturing for a while.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// True if there is a graph of what is bound now.
    pub fn has_graph(&self) -> bool {
        self.graph.is_some()
    }

    /// Takes a captured graph.
    pub fn keep(&mut self, graph: Graph) {
        self.graph = Some(graph);
        self.captures += 1;
    }

    /// Gives the graph up, because what it holds changes.
    pub fn let_go(&mut self) -> Option<Graph> {
        self.graph.take()
    }

    /// Enqueues the graph.
    pub fn launch(&mut self, stream: &Stream) -> Result<()> {
        if let Some(graph) = &self.graph {
            graph.launch(stream)?;
            self.replays += 1;
        }
        Ok(())
    }

    /// How many executions were captured, and how many were replayed.
    pub fn counts(&self) -> (u64, u64) {
        (self.captures, self.replays)
    }
}
