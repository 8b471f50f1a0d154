//! The C boundary: thin and mechanical. One file a handle; `boundary` is where every call enters.
//!
//! `include/mezzo/mezzo.h` is generated from these files by cbindgen (tools/header.sh): their documentation comments are
//! the header's, written for readers of C. The order of the modules is the order of the header.
#![allow(non_camel_case_types)] // the C names are the names
#![allow(clippy::missing_safety_doc)] // the header's general rules say it once for all functions

mod boundary;
mod callback;
mod handle;
mod keys;
mod strings;

pub mod version;

pub mod error;

pub mod env;

pub mod dtype;

pub mod device;

pub mod stream;

pub mod buffer;
pub mod device_buffer;

pub mod halves;

pub mod dlpack;
pub mod value;
pub mod value_new;

pub mod io;

pub mod model_options;

pub mod model;

pub mod convert_options;

pub mod convert;

pub mod calibrate;

pub mod engine_options;

pub mod engine;

pub mod run_options;

pub mod context;
pub mod context_memory;
pub mod context_pool;

pub mod compare;
