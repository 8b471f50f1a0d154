//! TensorRT and TensorRT-RTX called through their virtual tables (docs/tensorrt.md): one binary serves every version that
//! was measured, and nothing of NVIDIA's is needed to build it. Each method is typed once, in `builder`, `parser`, `runtime` and
//! `inspector`.

mod abi;
mod api;
mod builder;
mod client;
mod config;
mod foreign;
mod inspector;
mod logger;
mod lookup;
mod output_allocator;
mod parser;
mod profiler;
mod progress;
mod runtime;
mod search;
mod tables;
mod typing;
mod version;

pub use api::Api;
pub use builder::{Builder, Config, LayerInfo, Network, Profile, Selector, TensorInfo};
pub use config::TimingCache;
pub use foreign::catching;
pub use logger::{Line, Logger, Severity};
pub use output_allocator::{OutputAllocator, OutputSink};
pub use parser::{ParseError, ParseFailure, ParsedNetwork};
pub use profiler::Profiler;
pub use progress::{Callback, Monitor};
pub use runtime::{EngineTensor, ExecutionContext, PlanOnDevice, c_name};
pub use search::{SearchPaths, VARIABLE};
pub use typing::{Edge, TypedLayer};
pub use version::{Family, Flavour, Version};
