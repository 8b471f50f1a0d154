//! FP16 and BF16 conversion, its rules and its report; comparison of engines.

pub mod compare;
pub mod report;

use crate::Result;
use crate::model::{DataType, Model};
pub use compare::{Comparison, OutputComparison, compare};
pub use report::Report;

/// What is done with a constant that the target type cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConstantPolicy {
    /// Its operator stays in FP32.
    #[default]
    KeepFp32,
    /// It becomes the largest finite value of its sign.
    Clamp,
    /// The conversion fails and names it.
    Error,
}

/// How far the conversion goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Also keeps FP32 where FP16 is known to overflow or lose the meaning.
    #[default]
    Safe,
    /// Converts all that is legal, as `.half()` does.
    Pure,
}

/// How a model is converted.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// Float16 or bfloat16.
    pub precision: DataType,
    /// Graph inputs and outputs stay FP32.
    pub keep_io: bool,
    /// Inputs and outputs that stay FP32 (true) or are converted (false), by name, against `keep_io`.
    pub keep_io_named: Vec<(String, bool)>,
    /// Operator types that stay FP32 ("Softmax", or "domain::Op").
    pub keep_op_types: Vec<String>,
    /// Node names that stay FP32; `*` and `?` are wildcards.
    pub keep_node_names: Vec<String>,
    /// The nodes that make these outputs (of nodes) stay FP32.
    pub keep_outputs: Vec<String>,
    /// `Safe` or `Pure`.
    pub policy: Policy,
    /// Constants out of range.
    pub constants: ConstantPolicy,
    /// Minimum share (0 to 1) of the nodes that can compute in half which must do so; below it the conversion fails.
    pub min_half_share: f64,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        ConvertOptions {
            precision: DataType::Float16,
            keep_io: false,
            keep_io_named: Vec::new(),
            keep_op_types: Vec::new(),
            keep_node_names: Vec::new(),
            keep_outputs: Vec::new(),
            policy: Policy::Safe,
            constants: ConstantPolicy::KeepFp32,
            min_half_share: 0.0,
        }
    }
}

/// A converted model and the account of what was done.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The new model; it shares weights with the old one.
    pub model: Model,
    /// What was done, and why.
    pub report: Report,
}

/// Converts a model. The result has passed the type checker.
pub fn convert(_model: &Model, _options: &ConvertOptions) -> Result<Converted> {
    todo!()
}
