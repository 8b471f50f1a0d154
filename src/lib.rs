//! Mezzo: trained models in FP16, explicitly and with proof.
//!
//! The C API (`include/mezzo/mezzo.h`, module [`capi`]) is the product; the Rust modules below are its rooms. Arrows
//! point down this list only (docs/architecture.md):
//!
//! | room | what lives there |
//! |---|---|
//! | [`capi`] | the C boundary: thin, mechanical, one file a handle |
//! | [`precision`] | FP16/BF16 conversion, its rules and report; compare |
//! | [`engine`] | build, container file, execution context, values |
//! | [`backend`] | the CPU backend (and TensorRT's) behind one trait |
//! | [`frontend`] | ONNX reading and writing |
//! | [`model`] | graph, tensors, data types, operator schemas, type inference |
//! | [`device`] | buffers |
//! | [`sys`] | raw memory and other foreign calls |
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(target_endian = "big")]
compile_error!(
    "Mezzo keeps tensors in ONNX's little-endian form and reads them in place; big-endian machines are not supported"
);

pub mod backend;
#[allow(unsafe_code)]
pub mod capi;
pub mod device;
pub mod engine;
pub mod error;
pub mod frontend;
pub mod hash;
pub mod model;
pub mod precision;
mod sort;
#[allow(unsafe_code)]
pub mod sys;

pub use error::{Error, ErrorCode, ErrorDomain, Result};
