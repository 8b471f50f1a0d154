//! Threads of one engine. Work is cut by what it is, never by how many threads there are, so results do not depend on
//! their number.
#![allow(unsafe_code)] // one slice is cut into pieces that tasks own

use crate::{Result, err};
use rayon::prelude::*;

/// The threads of an engine: a pool of its own, or just the calling thread.
pub struct Threads {
    pool: Option<rayon::ThreadPool>,
}

/// Work of fewer elementary steps than this is not worth waking another thread, which takes some 10 microseconds.
pub const WORTHWHILE: usize = 1 << 17;

impl Threads {
    /// `count` threads, the calling one included; 0 is one per core. One thread needs no pool.
    pub fn new(count: usize) -> Result<Threads> {
        let count = match count {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        if count == 1 {
            return Ok(Threads::inline());
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|i| format!("mezzo-cpu-{i}"))
            .build()
            .map_err(|e| err!(OutOfMemory, "{count} threads could not be started: {e}"))?;
        Ok(Threads { pool: Some(pool) })
    }

    /// The calling thread alone.
    pub fn inline() -> Threads {
        Threads { pool: None }
    }

    /// How many threads there are.
    pub fn count(&self) -> usize {
        self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Calls `f` for each of `0..tasks`, in any order, when `work` elementary steps make it worthwhile on all threads.
    pub fn each(&self, tasks: usize, work: usize, f: &(dyn Fn(usize) + Sync)) {
        match &self.pool {
            Some(pool) if tasks > 1 && work >= WORTHWHILE => pool.install(|| (0..tasks).into_par_iter().for_each(f)),
            _ => (0..tasks).for_each(f),
        }
    }

    /// Like [`Threads::each`] for tasks that can fail; one of their errors is returned.
    pub fn try_each(&self, tasks: usize, work: usize, f: &(dyn Fn(usize) -> Result<()> + Sync)) -> Result<()> {
        match &self.pool {
            Some(pool) if tasks > 1 && work >= WORTHWHILE => {
                pool.install(|| (0..tasks).into_par_iter().try_for_each(f))
            }
            _ => (0..tasks).try_for_each(f),
        }
    }

    /// Cuts `out` into pieces of `piece` elements (the last may be shorter) and calls `f` with each piece's number.
    pub fn pieces<T: Send>(&self, out: &mut [T], piece: usize, work: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        let (piece, len) = (piece.max(1), out.len());
        let start = Start(out.as_mut_ptr());
        // One type of task for all element types keeps the compiled library small.
        self.each(len.div_ceil(piece), work, &|i| {
            let from = i * piece;
            // SAFETY: pieces lie in `out` and do not overlap, each task number is called once, and `out` stays
            // borrowed until all tasks are done.
            let part = unsafe { std::slice::from_raw_parts_mut(start.at(from), piece.min(len - from)) };
            f(i, part);
        });
    }
}

struct Start<T>(*mut T);

impl<T> Start<T> {
    fn at(&self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
}

// SAFETY: tasks make disjoint slices of it, of elements that may go to other threads.
unsafe impl<T: Send> Sync for Start<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_piece_is_seen_once() {
        for threads in [Threads::inline(), Threads::new(3).unwrap()] {
            let mut out = vec![0usize; 1000];
            threads.pieces(&mut out, 7, WORTHWHILE, |i, o| o.iter_mut().enumerate().for_each(|(k, v)| *v += i * 7 + k));
            assert_eq!(out, (0..1000).collect::<Vec<_>>());
            let sum = AtomicUsize::new(0);
            threads.each(100, WORTHWHILE, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
        assert_eq!(Threads::new(3).unwrap().count(), 3);
        assert_eq!(Threads::new(1).unwrap().count(), 1);
    }
}
