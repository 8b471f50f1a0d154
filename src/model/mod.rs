//! The model inside: a graph with ONNX semantics. Every frontend ends here; every backend starts here.
//!
//! Edges are names, as in ONNX: a value is defined once (graph input, initializer or node output) and seen by later
//! nodes and by the subgraphs of later nodes. Cloning a [`Model`] copies no weights.

pub mod dtype;
pub mod graph;
pub mod half_arrays;
pub mod infer;
pub(crate) mod names;
pub mod order;
pub mod schema;
pub mod storage;
pub mod tensor;
pub mod types;
pub mod upgrade;
pub mod validate;

pub use dtype::DataType;
pub use graph::{Attribute, AttributeValue, Function, Graph, Initializer, Model, NamedTensor, Node, OpsetId};
pub use storage::Storage;
pub use tensor::{OutOfRange, SparseTensor, Tensor};
pub use types::{Dim, DimValue, Shape, TypeKind, ValueInfo, ValueType};

use std::sync::Arc;

/// A name or operator type: cheap to clone, compared by content.
pub type Name = Arc<str>;
