//! The embedded CPU backend: always there, and the reference that FP16 results are judged by.
//!
//! A tensor has its declared type in memory; every operator reads its inputs widened, computes and accumulates in FP32
//! (FP64 tensors in FP64), and rounds once, to nearest even, when it stores. docs/cpu.md says more.
//!
//! | file or folder | what |
//! |---|---|
//! | `engine`, `context` | the backend traits |
//! | `plan/` | graph to steps over numbered slots |
//! | `exec` | runs a plan |
//! | `ops/` | operators: attributes, shapes, types; one file a family |
//! | `kernels/` | arithmetic on slices |
//! | `tensor`, `value`, `memory`, `threads` | what they work on |

// The loops of `with_elem!` and its like are written once for all element types: what is a clone or a cast for one of them
// is nothing for another.
#![allow(clippy::clone_on_copy, clippy::unnecessary_cast)]

mod context;
mod engine;
mod exec;
mod kernels;
mod memory;
mod ops;
mod packed;
mod plan;
mod tensor;
#[cfg(test)]
mod tests;
mod threads;
mod value;

use super::{Backend, BuildOptions, LoadOptions, LoadedEngine, Progress, SectionReader};
use crate::Result;
use crate::model::Model;
use std::sync::Arc;

/// True if there is an operator of that domain ("" is ai.onnx) and type. It may still lack an element type or a form.
pub fn has_operator(domain: &str, op_type: &str) -> bool {
    ops::operators().any(|operator| operator == (domain, op_type))
}

/// The CPU backend.
pub struct CpuBackend;

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }

    fn build(&self, model: &Model, options: &BuildOptions, progress: &Progress) -> Result<Arc<dyn LoadedEngine>> {
        let BuildOptions { threads, memory_limit, whole, .. } = *options;
        let cpu = engine::CpuOptions { threads, memory_limit, whole };
        Ok(Arc::new(engine::CpuEngine::build(model, &cpu, progress)?))
    }

    fn load(&self, sections: &SectionReader, options: &LoadOptions) -> Result<Arc<dyn LoadedEngine>> {
        Ok(Arc::new(engine::CpuEngine::load(sections, options)?))
    }
}
