//! Conversion and its report.

use super::boundary::{call, read};
use super::convert_options::mezzo_convert_options_t;
use super::error::mezzo_error_t;
use super::handle::{free_owned, handle, owned};
use super::model::{self, mezzo_model_t};
use super::strings::{EMPTY, Text};
use crate::precision::report::{ConstantReport, NodeReport};
use crate::precision::{self, Report};
use std::ffi::c_char;
use std::sync::OnceLock;

/// What a conversion did. Never changes; freed with mezzo_report_free().
pub struct mezzo_report_t {
    _opaque: [u8; 0],
}

/// Strings of one node.
struct NodeRow {
    name: Text,
    output: Text,
    op_type: Text,
    scope: Text,
    precision: Text,
    rule: Text,
    tensor: Text,
    value: Option<f64>,
    reason: Text,
}

/// The strings are made when they are first asked for.
pub(super) struct ReportBody {
    report: Report,
    precision: Text,
    policy: Text,
    nodes: OnceLock<Vec<NodeRow>>,
    constants: OnceLock<Vec<Text>>,
    notes: OnceLock<Vec<Text>>,
    json: OnceLock<Text>,
    text: OnceLock<Text>,
}

handle!(mezzo_report_t, ReportBody, "a report", b"repo");

impl From<Report> for ReportBody {
    fn from(report: Report) -> Self {
        ReportBody {
            precision: report.precision.as_str().into(),
            policy: report.policy.as_str().into(),
            report,
            nodes: OnceLock::new(),
            constants: OnceLock::new(),
            notes: OnceLock::new(),
            json: OnceLock::new(),
            text: OnceLock::new(),
        }
    }
}

impl From<&NodeReport> for NodeRow {
    fn from(n: &NodeReport) -> Self {
        NodeRow {
            name: n.name.as_str().into(),
            output: n.output.as_str().into(),
            op_type: n.op_type.as_str().into(),
            scope: n.scope.as_str().into(),
            precision: n.precision.as_str().into(),
            rule: n.rule.as_str().into(),
            tensor: n.tensor.as_str().into(),
            value: n.value,
            reason: n.reason.as_str().into(),
        }
    }
}

impl ReportBody {
    fn node(&self, index: usize) -> Option<&NodeRow> {
        self.nodes.get_or_init(|| self.report.nodes.iter().map(NodeRow::from).collect()).get(index)
    }
}

/// A string of the node `index`; empty if there is none.
///
/// # Safety
/// `report` is NULL or a live handle.
unsafe fn node_text(report: *const mezzo_report_t, index: usize, text: fn(&NodeRow) -> &Text) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { read(report, EMPTY, |r| r.node(index).map_or(EMPTY, |n| text(n).as_ptr())) }
}

/// A number of the constant `index`; 0 if there is none.
///
/// # Safety
/// `report` is NULL or a live handle.
unsafe fn constant_count(report: *const mezzo_report_t, index: usize, count: fn(&ConstantReport) -> u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { read(report, 0, |r| r.report.constants.get(index).map_or(0, count)) }
}

/// Converts a model to half precision. The result has passed a type checker that walks every edge of every subgraph.
/// The model given stays as it is; the new one shares its weights and converts them when they are read.
///
/// options: NULL for the defaults.
/// converted: receives the new model; give it back with mezzo_model_free().
/// report: receives what was done and why; free it with mezzo_report_free(). NULL if it is not wanted.
///
/// Errors: MEZZO_ERROR_PRECISION if what the options ask for cannot be kept, MEZZO_ERROR_INVALID_MODEL if types do not go
/// together, MEZZO_ERROR_UNSUPPORTED, MEZZO_ERROR_NOT_FOUND if an option names what the model does not have.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_model_convert(
    model: *const mezzo_model_t,
    options: *const mezzo_convert_options_t,
    converted: *mut *mut mezzo_model_t,
    report: *mut *mut mezzo_report_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_model_convert", |c| {
            let model = c.get("model", model)?;
            let options = c.optional("options", options)?.cloned().unwrap_or_default();
            let (converted, report) = (c.out("converted", converted)?, c.optional_out("report", report)?);
            let result = precision::convert(&model.model, &options)?;
            converted.set(model::boxed(result.model));
            if let Some(report) = report {
                report.set(owned(result.report.into()));
            }
            Ok(())
        })
    }
}

/// The target type ("fp16" or "bf16"); the empty string for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_precision(report: *const mezzo_report_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(report, EMPTY, |r| r.precision.as_ptr()) }
}

/// The policy ("safe" or "pure"); the empty string for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_policy(report: *const mezzo_report_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(report, EMPTY, |r| r.policy.as_ptr()) }
}

/// Float tensors (edges and constants) of half type after the conversion; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_half_tensors(report: *const mezzo_report_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(report, 0, |r| r.report.half_tensors) }
}

/// Float tensors (edges and constants) of FP32 or FP64 type after the conversion; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_float_tensors(report: *const mezzo_report_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(report, 0, |r| r.report.float_tensors) }
}

/// Nodes that compute in half precision; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_half_nodes(report: *const mezzo_report_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(report, 0, |r| r.report.half_nodes) }
}

/// Nodes that stayed in FP32; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_float_nodes(report: *const mezzo_report_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(report, 0, |r| r.report.float_nodes) }
}

/// Cast nodes that the conversion added; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_casts_added(report: *const mezzo_report_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(report, 0, |r| r.report.casts_added) }
}

/// Cast nodes that the conversion removed or gave another target; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_casts_removed(report: *const mezzo_report_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(report, 0, |r| r.report.casts_removed) }
}

/// Bytes of all constants before the conversion; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_bytes_before(report: *const mezzo_report_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(report, 0, |r| r.report.bytes_before) }
}

/// Bytes of all constants after the conversion; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_bytes_after(report: *const mezzo_report_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(report, 0, |r| r.report.bytes_after) }
}

/// Number of nodes that the report tells of: all that touch float values, in the order of the model; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_node_count(report: *const mezzo_report_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(report, 0, |r| r.report.nodes.len()) }
}

/// Name of a node, which may be empty; empty if there is no such node. Borrowed from the report, as all its strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_node_name(report: *const mezzo_report_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { node_text(report, index, |n| &n.name) }
}

/// First output of a node; empty if there is no such node.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_node_output(report: *const mezzo_report_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { node_text(report, index, |n| &n.output) }
}

/// Operator type of a node ("Conv", or "domain::Op"); empty if there is no such node.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_node_op_type(report: *const mezzo_report_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { node_text(report, index, |n| &n.op_type) }
}

/// The subgraphs or functions that a node stands in; empty for the main graph.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_node_scope(report: *const mezzo_report_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { node_text(report, index, |n| &n.scope) }
}

/// What a node computes in ("fp16", "bf16" or "fp32"); empty if there is no such node.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_node_precision(report: *const mezzo_report_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { node_text(report, index, |n| &n.precision) }
}

/// The rule that kept a node in FP32, a short name that does not change; empty for half nodes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_node_rule(report: *const mezzo_report_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { node_text(report, index, |n| &n.rule) }
}

/// The tensor that a node's rule speaks of; may be empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_node_tensor(report: *const mezzo_report_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { node_text(report, index, |n| &n.tensor) }
}

/// The value that a node's rule speaks of; NaN if it speaks of none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_node_value(report: *const mezzo_report_t, index: usize) -> f64 {
    // SAFETY: the header's contract.
    unsafe { read(report, f64::NAN, |r| r.node(index).and_then(|n| n.value).unwrap_or(f64::NAN)) }
}

/// A node's rule as a sentence for people; empty for half nodes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_node_reason(report: *const mezzo_report_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { node_text(report, index, |n| &n.reason) }
}

/// Number of constants whose values changed by more than rounding; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_constant_count(report: *const mezzo_report_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(report, 0, |r| r.report.constants.len()) }
}

/// Name of a constant; empty if there is no such constant.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_constant_name(report: *const mezzo_report_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe {
        read(report, EMPTY, |r| {
            let names = r.constants.get_or_init(|| r.report.constants.iter().map(|c| c.name.as_str().into()).collect());
            names.get(index).map_or(EMPTY, Text::as_ptr)
        })
    }
}

/// Number of elements of a constant; 0 if there is no such constant.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_constant_elements(report: *const mezzo_report_t, index: usize) -> u64 {
    // SAFETY: the header's contract.
    unsafe { constant_count(report, index, |c| c.elements) }
}

/// Elements of a constant that became the largest finite value; 0 if there is no such constant.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_constant_clamped(report: *const mezzo_report_t, index: usize) -> u64 {
    // SAFETY: the header's contract.
    unsafe { constant_count(report, index, |c| c.clamped) }
}

/// Elements of a constant that became zero and were not; 0 if there is no such constant.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_constant_flushed(report: *const mezzo_report_t, index: usize) -> u64 {
    // SAFETY: the header's contract.
    unsafe { constant_count(report, index, |c| c.flushed) }
}

/// Elements of a constant that became subnormal and were not; 0 if there is no such constant.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_constant_subnormal(report: *const mezzo_report_t, index: usize) -> u64 {
    // SAFETY: the header's contract.
    unsafe { constant_count(report, index, |c| c.subnormal) }
}

/// Largest magnitude of a finite element of a constant, before the conversion; 0 if there is no such constant.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_constant_max_abs(report: *const mezzo_report_t, index: usize) -> f64 {
    // SAFETY: the header's contract.
    unsafe { read(report, 0.0, |r| r.report.constants.get(index).map_or(0.0, |c| c.max_abs)) }
}

/// Number of notes: sentences for people about the model as a whole; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_note_count(report: *const mezzo_report_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(report, 0, |r| r.report.notes.len()) }
}

/// One note, borrowed from the report; NULL if there is no such note.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_note(report: *const mezzo_report_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe {
        read(report, std::ptr::null(), |r| {
            let notes = r.notes.get_or_init(|| r.report.notes.iter().map(|n| n.as_str().into()).collect());
            notes.get(index).map_or(std::ptr::null(), Text::as_ptr)
        })
    }
}

/// The whole report as JSON, borrowed from it; the empty string for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_to_json(report: *const mezzo_report_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(report, EMPTY, |r| r.json.get_or_init(|| r.report.to_json().into()).as_ptr()) }
}

/// The report in short, as lines of text for people, borrowed from it; the empty string for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_to_text(report: *const mezzo_report_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(report, EMPTY, |r| r.text.get_or_init(|| r.report.to_text().into()).as_ptr()) }
}

/// Frees a report and everything borrowed from it. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_report_free(report: *mut mezzo_report_t) {
    // SAFETY: the header's contract.
    unsafe { free_owned(report) }
}
