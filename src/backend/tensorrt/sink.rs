//! Memory for an output whose size the data decides.
//!
//! TensorRT writes such an output where it was last told to, and asks for memory when it likes: 8.5.3 in every execution
//! (docs/tensorrt.md), others perhaps when it grows. So that nothing depends on that, it is only ever given memory of the
//! context's own, which changes only while it asks, and what it wrote is copied from there to where the caller wants it.

use crate::Result;
use crate::device::Buffer;
use crate::sys::tensorrt::OutputSink;
use parking_lot::Mutex;
use std::sync::Arc;

/// The context's memory for one output, which only grows.
pub struct Sink {
    make: Box<dyn Fn(usize) -> Result<Buffer> + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where TensorRT writes: the last that it was given.
    memory: Option<Buffer>,
    /// What was too small for the last execution, and may be in use by the one before.
    outgrown: Vec<Buffer>,
    /// The shape that TensorRT told last.
    shape: Option<Vec<usize>>,
    /// Why there was no memory.
    failure: Option<crate::Error>,
}

impl Sink {
    /// A sink whose memory comes from `make`.
    pub fn new(make: impl Fn(usize) -> Result<Buffer> + Send + Sync + 'static) -> Sink {
        Sink { make: Box::new(make), state: Mutex::default() }
    }

    /// Where the last execution wrote, unless TensorRT never asked for memory.
    pub fn memory(&self) -> Option<Buffer> {
        self.state.lock().memory.clone()
    }

    /// The shape of the last execution.
    pub fn told_shape(&self) -> Option<Vec<usize>> {
        self.state.lock().shape.clone()
    }

    /// Memory that later executions will not use, to be kept until the work so far is done.
    pub fn outgrown(&self) -> Vec<Buffer> {
        std::mem::take(&mut self.state.lock().outgrown)
    }

    /// Why the last execution got no memory.
    pub fn failure(&self) -> Option<crate::Error> {
        self.state.lock().failure.take()
    }
}

impl OutputSink for Arc<Sink> {
    fn allocate(&self, _: &str, size: u64) -> Option<u64> {
        let size = usize::try_from(size).ok()?;
        let mut state = self.state.lock();
        let had = match &state.memory {
            Some(memory) if memory.len() >= size => return Some(memory.address()),
            Some(memory) => memory.len(),
            None => 0,
        };
        // Half as much again, so that slowly growing outputs do not allocate each time; no more than needed if that is too much.
        let roomy = size.max(had.saturating_add(had / 2)).max(1);
        match (self.make)(roomy).or_else(|_| (self.make)(size.max(1))) {
            Ok(memory) => {
                let address = memory.address();
                let old = state.memory.replace(memory);
                state.outgrown.extend(old);
                Some(address)
            }
            Err(error) => {
                state.failure = Some(error);
                None
            }
        }
    }

    fn shape(&self, _: &str, shape: Vec<i64>) {
        self.state.lock().shape = shape.into_iter().map(|d| usize::try_from(d).ok()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bail;

    fn sink(limit: usize) -> Arc<Sink> {
        Arc::new(Sink::new(move |bytes| {
            if bytes > limit {
                bail!(OutOfMemory, "{bytes} bytes are not to be had");
            }
            Buffer::allocate(bytes, None)
        }))
    }

    /// However often TensorRT asks, the address that it holds is that of the memory that is read.
    #[test]
    fn what_was_told_last_is_what_is_read() {
        let sink = sink(usize::MAX);
        let mut told = None;
        for (size, asks) in [(100, 1), (40, 0), (100, 3), (101, 1), (1000, 2), (0, 1)] {
            for _ in 0..asks {
                told = sink.allocate("found", size);
            }
            let memory = sink.memory().unwrap();
            assert_eq!(told, Some(memory.address()));
            assert!(memory.len() >= size as usize);
        }
        // Two were too small, and are kept until they are asked for.
        assert_eq!(sink.outgrown().iter().map(Buffer::len).collect::<Vec<_>>(), [100, 150]);
        assert!(sink.outgrown().is_empty());
    }

    /// A failure says why, and what was there stays.
    #[test]
    fn without_memory_the_old_one_stays() {
        let sink = sink(120);
        let told = sink.allocate("found", 100);
        assert_eq!(sink.allocate("found", 120).map(|_| sink.memory().unwrap().len()), Some(120));
        assert_eq!(sink.allocate("found", 121), None);
        assert!(sink.failure().unwrap().to_string().contains("121 bytes"));
        assert!(sink.failure().is_none());
        assert!(told.is_some() && sink.memory().unwrap().len() == 120);
    }

    /// An output without elements has an address too.
    #[test]
    fn nothing_has_an_address() {
        let sink = sink(usize::MAX);
        assert!(sink.allocate("found", 0).is_some());
        sink.shape("found", vec![0, 3]);
        assert_eq!(sink.told_shape(), Some(vec![0, 3]));
    }
}
