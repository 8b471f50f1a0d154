//! Memory of activations: blocks that one context hands out, takes back and hands out again.

use crate::sys::memory::Block;
use crate::{Result, bail, err};
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
    /// Bytes of the free blocks.
    idle: usize,
    live: usize,
    peak: usize,
    /// The peak of the run before.
    before: usize,
    run: u64,
}

/// A piece of memory that returns to its pool when the last tensor over it is gone. Its content is whatever was there.
pub struct Memory {
    block: Option<Block>,
    len: usize,
    pool: Weak<Pool>,
}

/// A share of a pool's limit, for memory that is not a block: lists of strings, work memory. Dropping it gives it back.
pub struct Charge {
    bytes: usize,
    pool: Weak<Pool>,
}

/// Blocks are multiples of this, so that small tensors of different sizes share them.
const GRAIN: usize = 256;

fn capacity(len: usize) -> usize {
    len.checked_next_multiple_of(GRAIN).unwrap_or(usize::MAX).max(GRAIN)
}

impl Pool {
    /// A pool whose tensors may hold `limit` bytes at a time.
    pub fn new(limit: usize) -> Arc<Pool> {
        Arc::new(Pool { state: Mutex::new(State::default()), limit })
    }

    /// Memory of `len` bytes, aligned to 64.
    pub fn allocate(self: &Arc<Self>, len: usize) -> Result<Memory> {
        let capacity = capacity(len);
        let mut state = self.state.lock();
        self.check(&state, capacity, len)?;
        let block = match state.take(capacity) {
            Some(block) => block,
            None => {
                let unused = state.make_room(capacity, self.limit);
                drop(state);
                drop(unused);
                let block = Block::allocate(capacity, None)?;
                state = self.state.lock();
                block
            }
        };
        state.live += block.len();
        state.peak = state.peak.max(state.live);
        Ok(Memory { block: Some(block), len, pool: Arc::downgrade(self) })
    }

    /// Memory that a kernel can do without: only if the run, or the one before, needs as much at another time
    /// anyway. Threads that ask at the same moment may all get what is left for one.
    pub fn spare(self: &Arc<Self>, len: usize) -> Option<Memory> {
        let state = self.state.lock();
        let spare = state.peak.max(state.before).saturating_sub(state.live);
        let needed = state.fitting(capacity(len)).unwrap_or(capacity(len));
        drop(state);
        (needed <= spare).then(|| self.allocate(len).ok()).flatten()
    }

    /// Counts `bytes` of memory that is allocated elsewhere, before it is.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge> {
        let mut charge = Charge { bytes: 0, pool: Arc::downgrade(self) };
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// A vector of `n` times `value` that the limit counts, and its charge.
    pub fn vector<T: Clone>(self: &Arc<Self>, n: usize, value: T) -> Result<(Vec<T>, Charge)> {
        let bytes = n.saturating_mul(size_of::<T>());
        let charge = self.charge(bytes)?;
        let mut all = Vec::new();
        all.try_reserve_exact(n).map_err(|_| err!(OutOfMemory, "{bytes} bytes of memory could not be allocated"))?;
        all.resize(n, value);
        Ok((all, charge))
    }

    fn check(&self, state: &State, capacity: usize, len: usize) -> Result<()> {
        if capacity > self.limit.saturating_sub(state.live) {
            bail!(
                OutOfMemory,
                "{len} bytes are needed while {} bytes are in use, and the memory limit is {} bytes: give smaller inputs, \
                 or raise the engine's memory limit (0 makes it the machine's memory)",
                state.live,
                self.limit
            );
        }
        Ok(())
    }

    /// Starts a run: the peak is measured anew.
    pub fn begin_run(&self) {
        let mut state = self.state.lock();
        state.run += 1;
        state.before = state.peak;
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
        state.idle = state.free.iter().map(|(capacity, blocks)| capacity * blocks.len()).sum();
        state.peak
    }
}

impl State {
    /// The size of the smallest free block of at least `capacity` that does not waste more than half of itself.
    fn fitting(&self, capacity: usize) -> Option<usize> {
        Some(*self.free.range(capacity..=capacity.saturating_mul(2)).next()?.0)
    }

    /// That block.
    fn take(&mut self, capacity: usize) -> Option<Block> {
        let found = self.fitting(capacity)?;
        let blocks = self.free.get_mut(&found)?;
        let (block, _) = blocks.pop()?;
        if blocks.is_empty() {
            self.free.remove(&found);
        }
        self.idle = self.idle.saturating_sub(found);
        Some(block)
    }

    /// Takes free blocks out, the largest first, until `needed` more bytes stay within the limit or none is left: free
    /// blocks count too in what the machine has to give. The caller drops them.
    fn make_room(&mut self, needed: usize, limit: usize) -> Vec<Block> {
        let bytes = self.live.saturating_add(self.idle).saturating_add(needed).saturating_sub(limit);
        let (mut all, mut given) = (Vec::new(), 0);
        if bytes == 0 {
            return all;
        }
        while given < bytes
            && let Some(mut entry) = self.free.last_entry()
        {
            match entry.get_mut().pop() {
                Some((block, _)) => {
                    given += block.len();
                    all.push(block);
                }
                None => drop(entry.remove()),
            }
        }
        self.free.retain(|_, blocks| !blocks.is_empty());
        self.idle = self.idle.saturating_sub(given);
        all
    }
}

impl Charge {
    /// Counts `bytes` more.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        if let Some(pool) = self.pool.upgrade() {
            let mut state = pool.state.lock();
            pool.check(&state, bytes, bytes)?;
            let unused = state.make_room(bytes, pool.limit);
            state.live += bytes;
            state.peak = state.peak.max(state.live);
            self.bytes += bytes;
            drop(state);
            drop(unused);
        }
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            let mut state = pool.state.lock();
            state.live = state.live.saturating_sub(self.bytes);
        }
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
            state.idle += block.len();
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
    fn spare_memory_raises_no_peak() {
        let pool = Pool::new(100_000);
        pool.begin_run();
        assert!(pool.spare(1).is_none());
        drop(pool.allocate(5000).unwrap());
        let held = pool.allocate(1000).unwrap();
        // The block of 5120 bytes would be taken, which is more than is left.
        assert!(pool.spare(4500).is_none() && pool.spare(4000).is_none());
        drop(pool.spare(2000).unwrap());
        drop(held);
        assert_eq!(pool.end_run(), 5120);
        // Now from the beginning on, and once more before it is forgotten.
        pool.begin_run();
        drop(pool.spare(5000).unwrap());
        assert_eq!(pool.end_run(), 5120);
        pool.begin_run();
        pool.begin_run();
        assert!(pool.spare(1).is_none());
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

    #[test]
    fn free_blocks_of_other_sizes_count_too() {
        let pool = Pool::new(100 * GRAIN);
        // Each block is larger than all before, so that none of those can be used again.
        for n in [1, 3, 7, 15, 31, 63] {
            drop(pool.allocate(n * GRAIN).unwrap());
            let state = pool.state.lock();
            assert!(state.live + state.idle <= pool.limit, "{} bytes are held", state.idle);
            assert_eq!(state.idle, state.free.iter().map(|(size, blocks)| size * blocks.len()).sum::<usize>());
        }
    }

    #[test]
    fn memory_outside_of_blocks_counts() {
        let pool = Pool::new(10_000);
        let (all, charge) = pool.vector(1000, 7u64).unwrap();
        assert_eq!((all.len(), all[999]), (1000, 7));
        assert!(pool.vector(1000, 7u64).is_err() && pool.allocate(3000).is_err());
        drop(charge);
        let mut charge = pool.charge(9000).unwrap();
        assert!(charge.grow(2000).is_err() && charge.grow(1000).is_ok());
        drop(charge);
        assert!(pool.allocate(9000).is_ok());
        // The block that came back makes room.
        let charge = pool.charge(9000).unwrap();
        assert_eq!(pool.state.lock().idle, 0);
        drop(charge);
    }
}
