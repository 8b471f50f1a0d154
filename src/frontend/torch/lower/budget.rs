//! What one program may make the lowering hold: a small file must not become a graph that fills the memory.
//!
//! Costs are in units of about 64 bytes. Each operator of the graph, each element that the host knows and each copy of a
//! list has its price; the largest models that people have take a hundredth of what there is.

use super::sym::SymInt;
use crate::{Result, bail};
use std::cell::Cell;

/// Units in all: a million nodes, or 32 million known elements.
const MOST: u64 = 32 << 20;
/// A node with its names and attributes.
const NODE: u64 = 24;
/// Dimensions of a tensor.
pub const MAX_RANK: usize = 64;
/// Tensors that one operator may give.
pub const MAX_PARTS: i64 = 1 << 16;

/// What has been spent.
#[derive(Debug, Default)]
pub struct Budget(Cell<u64>);

impl Budget {
    /// Spends without asking; the next [`Budget::check`] tells.
    pub fn note(&self, units: usize) {
        self.0.set(self.0.get().saturating_add(units as u64));
    }

    /// Spends for a node.
    pub fn node(&self, name: &str, inputs: usize, shapes: usize) -> Result<()> {
        self.0.set(self.0.get().saturating_add(NODE));
        self.note(name.len() / 16 + inputs + shapes);
        self.check()
    }

    /// An error when more was spent than there is.
    pub fn check(&self) -> Result<()> {
        if self.0.get() > MOST {
            bail!(
                InvalidModel,
                "the program makes a graph of more than a million operators or of tens of millions of listed numbers; it is \
                 taken for one that is made to fill the memory"
            );
        }
        Ok(())
    }
}

/// Size of a dimension: a tensor of bytes would fill every computer, and sums of a few such sizes do not overflow.
pub const MAX_SIZE: i64 = 1 << 48;

/// An error for dimensions of sizes that no tensor has.
pub fn check_shape(shape: &[SymInt]) -> Result<()> {
    check_rank(shape.len())?;
    match shape.iter().filter_map(SymInt::known).find(|n| !(0..=MAX_SIZE).contains(n)) {
        Some(n) => bail!(InvalidModel, "a tensor with a dimension of size {n}: do the input shapes fit the model?"),
        None => Ok(()),
    }
}

/// An error for more dimensions than any tensor has.
pub fn check_rank(rank: usize) -> Result<()> {
    if rank > MAX_RANK {
        bail!(InvalidModel, "a tensor of {rank} dimensions; {MAX_RANK} are the most");
    }
    Ok(())
}
