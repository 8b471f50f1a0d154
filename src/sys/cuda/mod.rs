//! CUDA through its driver's functions: devices, memory, streams, events, graphs, one kernel. The library is found at run
//! time; a machine without it gets an error. Every call leaves the caller's current context as it was.

mod device;
mod driver;
mod kernel;
mod memory;
mod stream;

pub use device::{Device, Entered, count, device_of, driver_version};
pub use driver::DevicePointer;
pub use kernel::Conversion;
pub use memory::{DeviceMemory, PinnedMemory};
pub use stream::{EventHandle, GraphHandle, StreamHandle};
