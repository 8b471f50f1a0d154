//! Raw foreign calls and raw memory only: nothing here knows models or engines. Unsafe code lives here, each use with
//! its SAFETY line.

pub mod atomic_file;
pub mod cuda;
pub mod dl;
pub mod dlpack;
pub mod float_state;
pub mod lock;
pub mod map;
pub mod memory;
pub mod tensorrt;
