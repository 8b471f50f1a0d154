//! FP16 and BF16 conversion, its rules and its report; comparison of engines.

//!
//! A conversion is: inference form, type inference, a flat view of the model (`facts`), a choice for every node (`decide` and
//! its rules: `wide`, `norms`, `meaning`, `passthrough`), a type for every value (`types`), the new model (`rewrite`), and
//! the type checker over the result. Each step is linear in the size of the model.

pub mod compare;
mod constants;
mod decide;
mod facts;
mod inference_form;
mod io;
mod meaning;
mod names;
mod norms;
mod passthrough;
pub mod report;
mod rewrite;
#[cfg(test)]
mod tests;
mod types;
mod wide;

use crate::model::{DataType, Model, infer};
use crate::{Result, bail, err};
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
pub fn convert(model: &Model, options: &ConvertOptions) -> Result<Converted> {
    if !options.precision.is_half() {
        bail!(InvalidArgument, "a conversion to {} does not exist: the precision is fp16 or bf16", options.precision);
    }
    if !(0.0..=1.0).contains(&options.min_half_share) {
        bail!(InvalidArgument, "the minimum share of half nodes is {}: give 0 to 1", options.min_half_share);
    }
    let mut source = model.clone();
    let notes = inference_form::apply(&mut source)?;
    let typing = infer::infer(&source, &infer::Declarations::default())?;
    let facts = facts::Facts::new(&source, &typing)?;
    io::check_names(&facts, options)?;
    let decisions = decide::decide(&facts, options)?;
    let owners = types::owners(&facts);
    let mut taken = names::Taken::of(&source);
    let mut types = types::Types::assign(&facts, &decisions, options, &owners, &mut taken);
    let mut report = report::account(&facts, &decisions, &types, options, notes);
    let (converted, casts) = rewrite::rewrite(&facts, &decisions, options, &mut types, &owners, &mut taken)?;
    report.casts_added = casts.added;
    report.casts_removed = casts.removed;
    report.bytes_before = model.weight_bytes();
    report.bytes_after = converted.weight_bytes();
    report.check_share(options.min_half_share)?;
    infer::check_types(&converted).map_err(|e| {
        err!(Internal, "the converted model does not pass the type checker, and is not returned: {e}. Please report it")
    })?;
    Ok(Converted { model: converted, report })
}
