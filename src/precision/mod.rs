//! FP16 and BF16 conversion, its rules and its report; comparison of engines.
//!
//! A conversion is: inference form, type inference, a flat view of the model (`facts`), a choice for every node (`decide` and
//! its rules: `wide`, `norms`, `meaning`, `passthrough`), places that must agree (`links`), a type for every value (`types`),
//! the new model (`rewrite`), and the type checker over the result. Each step is linear in the size of the model.

mod account;
pub mod calibrate;
mod compare;
mod constants;
mod decide;
mod explicit;
mod facts;
mod functions;
mod in_range;
mod inference_form;
mod io;
mod kinds;
mod links;
mod meaning;
mod names;
mod norms;
mod passthrough;
mod products;
pub mod ranges;
pub mod report;
mod retype;
mod rewrite;
#[cfg(test)]
mod tests;
mod types;
mod unfold;
mod wide;

use crate::model::upgrade::upgrade;
use crate::model::{DataType, Model, infer};
use crate::{Result, bail, err};
pub use calibrate::Calibrator;
pub use compare::{Comparison, OutputComparison, compare};
pub use ranges::{Range, Ranges};
pub use report::Report;
use std::sync::Arc;

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
    /// Types of outputs of operators that no schema describes and that the model itself does not declare.
    pub declared: infer::Declarations,
    /// The version of ai.onnx that the model is brought to first; as it is without one. Many operators take bfloat16 only
    /// from version 13 or 22 on.
    pub opset: Option<i64>,
    /// Ranges of the model's tensors on samples ([`Calibrator`]); what leaves half's safe range there stays FP32.
    pub ranges: Option<Arc<Ranges>>,
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
            declared: infer::Declarations::default(),
            opset: None,
            ranges: None,
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
pub fn convert(model: &Model, options: &ConvertOptions) -> Result<Converted> {
    if !options.precision.is_half() {
        bail!(InvalidArgument, "a conversion to {} does not exist: the precision is fp16 or bf16", options.precision);
    }
    if !(0.0..=1.0).contains(&options.min_half_share) {
        bail!(InvalidArgument, "the minimum share of half nodes is {}: give 0 to 1", options.min_half_share);
    }
    let mut source = model.clone();
    let mut notes = inference_form::apply(&mut source)?;
    if let Some(to) = options.opset {
        let from = source.opset("").unwrap_or(to);
        source = upgrade(&source, to)?;
        if from != to {
            notes.push(format!("brought from version {from} of ai.onnx to version {to}"));
        }
    }
    let typing = infer::infer(&source, &options.declared)?;
    let facts = facts::Facts::new(&source, &typing)?;
    io::check_names(&facts, options)?;
    let in_range = in_range::io_options(&facts, options);
    let options = in_range.as_ref().map_or(options, |(changed, _)| changed);
    notes.extend(in_range.iter().flat_map(|(_, notes)| notes.clone()));
    notes.extend(names::unmatched(&facts, options));
    let mut links = links::Links::new(&facts);
    let d = decide::decide(&facts, options, &mut links)?;
    let chosen = types::Chosen { facts: &facts, d: &d, links: &links, options };
    let mut taken = names::Takens::of_model(&facts);
    let mut types = types::Types::assign(&chosen, &mut taken);
    let mut report = account::account(&facts, &d, &types, options, notes);
    let (converted, casts) = rewrite::rewrite(&chosen, &mut types, &mut taken)?;
    report.casts_added = casts.added;
    report.casts_removed = casts.removed;
    report.ranges = options.ranges.as_deref().cloned();
    report.bytes_before = model.weight_bytes();
    report.bytes_after = converted.weight_bytes();
    report.check_share(options.min_half_share)?;
    if let Err(e) = infer::check_declared(&converted, &options.declared) {
        // What is wrong with the model itself is told of the model itself, in its own names and types.
        infer::check_declared(&source, &options.declared)
            .map_err(|e| err!(InvalidModel, "the model does not pass the type checker: {e}"))?;
        bail!(
            Internal,
            "the converted model does not pass the type checker, and is not returned: {e}. Please report it"
        );
    }
    Ok(Converted { model: converted, report })
}
