//! Memory that tensors are bound to, on the host and on devices, and the streams and events that order work on it.

pub mod buffer;
mod copy;
pub mod deferred;
mod shared;

pub use crate::sys::cuda::{
    Conversion, Device, EventHandle as Event, GraphHandle as Graph, StreamHandle as Stream, count, device_of,
    driver_version,
};
pub use buffer::Buffer;
pub use copy::{convert, copy, fill};
pub use shared::{SharedMemory, Turn};
