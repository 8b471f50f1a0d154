//! The account of a conversion: machine-readable, complete, and short for people.

use serde::{Deserialize, Serialize};

/// What a conversion did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// "fp16" or "bf16".
    pub precision: String,
    /// "safe" or "pure".
    pub policy: String,
    /// Every node of the converted model that touches float values, in order.
    pub nodes: Vec<NodeReport>,
    /// Float values (edges and constants) of half type after the conversion.
    pub half_tensors: u64,
    /// Float values of FP32 or FP64 type after the conversion.
    pub float_tensors: u64,
    /// Nodes that compute in half.
    pub half_nodes: u64,
    /// Nodes that stayed FP32.
    pub float_nodes: u64,
    /// Casts that the conversion added.
    pub casts_added: u64,
    /// Casts that it removed or retargeted.
    pub casts_removed: u64,
    /// Constants with clamped, flushed or subnormal values.
    pub constants: Vec<ConstantReport>,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors after.
    pub bytes_after: u64,
    /// Anything else a person should know (Dropout removed, ...).
    pub notes: Vec<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node's name (may be empty).
    pub name: String,
    /// Its first output.
    pub output: String,
    /// Operator type, with its domain where it is not ai.onnx.
    pub op_type: String,
    /// The path of the subgraphs or functions it stands in; empty for the main graph.
    pub scope: String,
    /// "fp16", "bf16" or "fp32".
    pub precision: String,
    /// Why it is not half: the rule's short stable name ("schema", "constant_out_of_range", "mask", "kept_by_user"...);
    /// empty for half nodes.
    pub rule: String,
    /// The tensor the rule speaks of.
    pub tensor: String,
    /// The value the rule speaks of.
    pub value: Option<f64>,
    /// The rule as a sentence for people.
    pub reason: String,
}

/// One constant that changed in value beyond rounding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConstantReport {
    /// Its name.
    pub name: String,
    /// Elements.
    pub elements: u64,
    /// Elements clamped to the largest finite value.
    pub clamped: u64,
    /// Non-zero elements that became zero.
    pub flushed: u64,
    /// Normal elements that became subnormal.
    pub subnormal: u64,
    /// Largest magnitude of a finite element before.
    pub max_abs: f64,
}
