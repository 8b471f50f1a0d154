//! Memory that tensors are bound to.

pub mod buffer;

pub use buffer::Buffer;
