//! Device memory that several execution contexts use in turns: for activations, which nothing reads after an execution.

use super::{Buffer, Device, Event, Stream};
use crate::{Result, err};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

/// Memory for as much as its largest user needs. The uses follow one another on the device, whatever their streams.
pub struct SharedMemory {
    device: &'static Device,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    buffer: Option<Buffer>,
    /// What follows the last use, and where it was recorded.
    last: Option<(Arc<Event>, Arc<Stream>)>,
}

/// One use of the memory. Nobody else's begins before this has ended or was dropped.
pub struct Turn<'m> {
    state: MutexGuard<'m, State>,
    memory: Buffer,
}

impl SharedMemory {
    /// Empty memory of a device.
    pub fn new(device: &'static Device) -> SharedMemory {
        SharedMemory { device, state: Mutex::default() }
    }

    /// Where it is.
    pub fn device(&self) -> &'static Device {
        self.device
    }

    /// How many bytes it has by now.
    pub fn byte_size(&self) -> usize {
        self.state.lock().buffer.as_ref().map_or(0, Buffer::len)
    }

    /// Sees to it that it has that many bytes at least. Users of less memory keep theirs until their next turn.
    pub fn reserve(&self, bytes: usize) -> Result<()> {
        let mut state = self.state.lock();
        if state.buffer.as_ref().is_none_or(|b| b.len() < bytes) {
            state.buffer = Some(Buffer::on_device(self.device, bytes)?);
        }
        Ok(())
    }

    /// Begins a use on a stream, which waits on the device for the one before.
    pub fn turn(&self, stream: &Arc<Stream>) -> Result<Turn<'_>> {
        let state = self.state.lock();
        let memory =
            state.buffer.clone().ok_or_else(|| err!(Internal, "shared memory was used before it was reserved"))?;
        if let Some((event, last)) = &state.last
            && !Arc::ptr_eq(last, stream)
        {
            stream.wait(event)?;
        }
        Ok(Turn { state, memory })
    }
}

impl Turn<'_> {
    /// The memory, which the user keeps until its work is done.
    pub fn memory(&self) -> &Buffer {
        &self.memory
    }

    /// The use was enqueued: the event follows it on the stream.
    pub fn end(mut self, event: &Arc<Event>, stream: &Arc<Stream>) {
        self.state.last = Some((event.clone(), stream.clone()));
    }
}
