//! Memory for an output whose size the data decides.

use crate::device::{Buffer, Device};
use crate::sys::tensorrt::OutputSink;
use parking_lot::Mutex;
use std::sync::Arc;

/// Gives TensorRT the memory that the caller bound, or makes some.
pub struct Sink {
    device: &'static Device,
    /// Address and bytes of the caller's memory.
    given: Option<(u64, usize)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    made: Option<Buffer>,
    /// That memory was given.
    asked: bool,
    /// Bytes that were asked for and are more than the caller's memory has.
    missing: Option<usize>,
    shape: Option<Vec<usize>>,
}

impl Sink {
    /// A sink for one binding.
    pub fn new(device: &'static Device, given: Option<(u64, usize)>) -> Sink {
        Sink { device, given, state: Mutex::default() }
    }

    /// The shape of the last execution.
    pub fn found(&self) -> Option<Vec<usize>> {
        self.state.lock().shape.clone()
    }

    /// Why the last execution got no memory: the bytes that it needs and those that the caller gave.
    pub fn missing(&self) -> Option<(usize, usize)> {
        let needed = self.state.lock().missing.take()?;
        Some((needed, self.given.map_or(0, |(_, capacity)| capacity)))
    }

    /// True once TensorRT has memory from here. Where it asked for none it wrote elsewhere.
    pub fn was_asked(&self) -> bool {
        self.state.lock().asked
    }

    /// The memory that was made; the next execution makes its own.
    pub fn take(&self) -> Option<Buffer> {
        self.state.lock().made.take()
    }
}

impl OutputSink for Arc<Sink> {
    fn allocate(&self, _: &str, size: u64) -> Option<u64> {
        let size = usize::try_from(size).ok()?;
        if let Some((address, capacity)) = self.given {
            if size > capacity {
                self.state.lock().missing = Some(size);
                return None;
            }
            self.state.lock().asked = true;
            return Some(address);
        }
        let buffer = Buffer::on_device(self.device, size.max(1)).ok()?;
        let address = buffer.address();
        let mut state = self.state.lock();
        state.made = Some(buffer);
        state.asked = true;
        Some(address)
    }

    fn shape(&self, _: &str, shape: Vec<i64>) {
        self.state.lock().shape = shape.into_iter().map(|d| usize::try_from(d).ok()).collect();
    }
}
