//! Which operators change their form or meaning, at which version.
//!
//! The list comes from the operators' schemas; tools and docs/opset.md say how. What is not here only takes more types or
//! has new attributes and inputs whose defaults keep the old meaning.

use super::context::{Adapted, Context};
use super::{axes, inputs, misc, norm, resize, scan, softmax};
use crate::model::Node;

/// Replaces a node of one version by nodes of the next.
pub(super) type Adapter = fn(Node, &mut Context) -> Adapted;

/// The adapter of an operator of ai.onnx for the step to version `to`.
pub(super) fn find(op_type: &str, to: i64) -> Option<Adapter> {
    Some(match (to, op_type) {
        (9, "BatchNormalization") => norm::batch_9,
        (9, "Scan") => scan::scan_9,
        (9, "Upsample") => resize::upsample_9,
        (10, "Dropout") => inputs::dropout_10,
        (10, "Slice") => inputs::slice_10,
        (10, "TopK") => inputs::top_k_10,
        (10, "Upsample") => resize::upsample_10,
        (11, "Clip") => inputs::clip_11,
        (11, "Pad") => inputs::pad_11,
        (11, "Resize") => resize::resize_11,
        (11, "Scatter") => misc::scatter_11,
        (12, "Dropout") => inputs::dropout_12,
        (13, "Erf") => misc::erf_13,
        (13, "Hardmax" | "LogSoftmax" | "Softmax") => softmax::softmax_13,
        (13, "ReduceSum" | "Squeeze" | "Unsqueeze") => axes::axes,
        (13, "Resize") => resize::resize_13,
        (13, "Split") => axes::split_13,
        (14, "BatchNormalization") => norm::batch_14,
        (16, "RoiAlign") => misc::roi_align_16,
        (18, "Split") => axes::split_18,
        (
            18,
            "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean" | "ReduceMin"
            | "ReduceProd" | "ReduceSumSquare",
        ) => axes::axes,
        (20, "DFT") => axes::dft_20,
        (20, "GridSample") => misc::grid_sample_20,
        (21, "GroupNormalization") => norm::group_21,
        (28, "ReduceLogSum" | "ReduceLogSumExp") => misc::reduce_log_28,
        _ => return None,
    })
}
