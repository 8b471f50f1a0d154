//! The arithmetic: loops over slices that know nothing of nodes. Operators check shapes and types and call them.

pub mod broadcast;
pub mod channels_last;
pub mod conv;
pub mod convert;
pub mod elementwise;
pub mod fft;
pub mod floats;
pub mod gemm;
pub mod lane;
pub mod math;
pub mod minifloat;
pub mod movement;
pub mod planes;
pub mod program;
pub mod registers;
pub mod row_steps;
pub mod rows;
pub mod simd;
pub mod vector;
