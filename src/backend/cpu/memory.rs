//! Memory of activations: blocks that one context hands out, takes back and hands out again.

use crate::sys::memory::Block;
use crate::{Result, bail};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Blocks of one context. Each block is used by one tensor at a time; what a tensor gives back, the next one gets.
pub struct Pool {
    state: Mutex<State>,
    limit: usize,
}

#[derive(Default)]
struct State {
    /// Free blocks by capacity, with the run that used them last.
    free: BTreeMap<usize, Vec<(Block, u64)>>,
    live: usize,
    peak: usize,
    run: u64,
}

/// A piece of memory that returns to its pool when the last tensor over it is gone. Its content is whatever was there.
pub struct Memory {
    block: Option<Block>,
    len: usize,
    pool: Weak<Pool>,
}

/// Blocks are multiples of this, so that small tensors of different sizes share them.
const GRAIN: usize = 256;

impl Pool {
    /// A pool whose tensors may hold `limit` bytes at a time.
    pub fn new(limit: usize) -> Arc<Pool> {
        Arc::new(Pool { state: Mutex::new(State::default()), limit })
    }

    /// Memory of `len` bytes, aligned to 64.
    pub fn allocate(self: &Arc<Self>, len: usize) -> Result<Memory> {
        let capacity = len.checked_next_multiple_of(GRAIN).unwrap_or(usize::MAX).max(GRAIN);
        let mut state = self.state.lock();
        if capacity > self.limit.saturating_sub(state.live) {
            bail!(
                OutOfMemory,
                "a tensor of {len} bytes is needed while {} bytes are in use, and the limit is {} bytes",
                state.live,
                self.limit
            );
        }
        let block = match state.take(capacity) {
            Some(block) => block,
            None => {
                drop(state);
                let block = Block::allocate(capacity, None)?;
                state = self.state.lock();
                block
            }
        };
        state.live += block.len();
        state.peak = state.peak.max(state.live);
        Ok(Memory { block: Some(block), len, pool: Arc::downgrade(self) })
    }

    /// Starts a run: the peak is measured anew.
    pub fn begin_run(&self) {
        let mut state = self.state.lock();
        state.run += 1;
        state.peak = state.live;
    }

    /// Ends a run: free blocks that neither this run nor the one before used are given back to the system.
    pub fn end_run(&self) -> usize {
        let mut state = self.state.lock();
        let oldest = state.run.saturating_sub(1);
        for blocks in state.free.values_mut() {
            blocks.retain(|(_, run)| *run >= oldest);
        }
        state.free.retain(|_, blocks| !blocks.is_empty());
        state.peak
    }
}

impl State {
    /// The smallest free block of at least `capacity` that does not waste more than half of itself.
    fn take(&mut self, capacity: usize) -> Option<Block> {
        let (&found, _) = self.free.range(capacity..=capacity.saturating_mul(2)).next()?;
        let blocks = self.free.get_mut(&found)?;
        let (block, _) = blocks.pop()?;
        if blocks.is_empty() {
            self.free.remove(&found);
        }
        Some(block)
    }
}

impl Memory {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |b| &b.bytes()[..self.len])
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        self.block.as_mut().map_or(&mut [], |b| &mut b.bytes_mut()[..len])
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let (Some(block), Some(pool)) = (self.block.take(), self.pool.upgrade()) {
            let mut state = pool.state.lock();
            state.live = state.live.saturating_sub(block.len());
            let run = state.run;
            state.free.entry(block.len()).or_default().push((block, run));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_and_the_peak_is_seen() {
        let pool = Pool::new(10_000);
        pool.begin_run();
        let a = pool.allocate(1000).unwrap();
        let address = a.bytes().as_ptr();
        assert_eq!(a.bytes().len(), 1000);
        drop(a);
        let b = pool.allocate(900).unwrap();
        assert_eq!(b.bytes().as_ptr(), address, "a free block that fits is used again");
        let c = pool.allocate(3000).unwrap();
        drop((b, c));
        assert_eq!(pool.end_run(), 1024 + 3072);
        pool.begin_run();
        assert_eq!(pool.end_run(), 0);
    }

    #[test]
    fn the_limit_holds() {
        let pool = Pool::new(10_000);
        let held = pool.allocate(6000).unwrap();
        let e = pool.allocate(6000).err().unwrap();
        assert_eq!(e.code(), crate::ErrorCode::OutOfMemory);
        assert!(e.message().contains("10000"), "{e}");
        drop(held);
        assert!(pool.allocate(6000).is_ok());
        assert!(pool.allocate(usize::MAX).is_err());
    }
}
