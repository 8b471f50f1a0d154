//! Comparison of two engines.

use super::boundary::{call, read};
use super::engine::mezzo_engine_t;
use super::error::mezzo_error_t;
use super::handle::{free_owned, handle, owned};
use super::strings::{EMPTY, Text};
use super::value::{self, mezzo_value_t};
use crate::precision::{self, Comparison, OutputComparison};
use std::ffi::c_char;
use std::sync::OnceLock;

/// How the outputs of an engine B differ from those of an engine A. Freed with mezzo_comparison_free().
///
/// The numbers are asked for by the place of the output, counted from 0 in the order of A.
pub struct mezzo_comparison_t {
    _opaque: [u8; 0],
}

pub(super) struct ComparisonBody {
    comparison: Comparison,
    names: Vec<Text>,
    json: OnceLock<Text>,
}

handle!(mezzo_comparison_t, ComparisonBody, "a comparison", b"comp");

/// A number of the output `index`; `default` if there is none.
///
/// # Safety
/// `comparison` is NULL or a live handle.
unsafe fn number<T: Copy>(
    comparison: *const mezzo_comparison_t,
    index: usize,
    default: T,
    number: fn(&OutputComparison) -> T,
) -> T {
    // SAFETY: the caller's promise.
    unsafe { read(comparison, default, |c| c.comparison.outputs.get(index).map_or(default, number)) }
}

/// Runs two engines on the same inputs and compares their outputs.
///
/// Inputs and outputs of the two go together by name, or by place where names differ. A float input is converted to the
/// type that each engine expects, so that one set of values serves an FP32 and an FP16 engine; outputs are compared as
/// numbers.
///
/// a: the engine that is taken as right (FP32, say).
/// b: the engine that is judged.
/// names, values, count: the inputs: `count` names as A has them and as many values.
/// comparison: receives the result; free it with mezzo_comparison_free().
///
/// Errors: those of mezzo_context_bind() and mezzo_context_run(); MEZZO_ERROR_SHAPE_MISMATCH if shapes of outputs differ.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_compare(
    a: *const mezzo_engine_t,
    b: *const mezzo_engine_t,
    names: *const *const c_char,
    values: *const *const mezzo_value_t,
    count: usize,
    comparison: *mut *mut mezzo_comparison_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_compare", |c| {
            let (a, b) = (c.get("a", a)?, c.get("b", b)?);
            let inputs = value::named(c, names, values, count)?;
            let out = c.out("comparison", comparison)?;
            let comparison = precision::compare(&a.engine, &b.engine, &inputs)?;
            let names = comparison.outputs.iter().map(|o| o.name.as_str().into()).collect();
            out.set(owned(ComparisonBody { comparison, names, json: OnceLock::new() }));
            Ok(())
        })
    }
}

/// Number of outputs compared; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_count(comparison: *const mezzo_comparison_t) -> usize {
    // SAFETY: the header's contract.
    unsafe { read(comparison, 0, |c| c.names.len()) }
}

/// Name of an output in A; empty if there is no such output. Borrowed from the comparison.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_name(comparison: *const mezzo_comparison_t, index: usize) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(comparison, EMPTY, |c| c.names.get(index).map_or(EMPTY, Text::as_ptr)) }
}

/// Number of elements of an output; 0 if there is no such output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_elements(comparison: *const mezzo_comparison_t, index: usize) -> usize {
    // SAFETY: the header's contract.
    unsafe { number(comparison, index, 0, |o| o.elements) }
}

/// Largest difference between elements that are finite in both; NaN if there is no such output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_max_abs(comparison: *const mezzo_comparison_t, index: usize) -> f64 {
    // SAFETY: the header's contract.
    unsafe { number(comparison, index, f64::NAN, |o| o.max_abs) }
}

/// Largest difference divided by the largest magnitude in A; infinite if A is all zero and B is not; NaN if there is no
/// such output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_max_rel(comparison: *const mezzo_comparison_t, index: usize) -> f64 {
    // SAFETY: the header's contract.
    unsafe { number(comparison, index, f64::NAN, |o| o.max_rel) }
}

/// Root of the mean square of the differences; NaN if there is no such output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_rms(comparison: *const mezzo_comparison_t, index: usize) -> f64 {
    // SAFETY: the header's contract.
    unsafe { number(comparison, index, f64::NAN, |o| o.rms) }
}

/// Cosine of the angle between the outputs as vectors: 1 if they point the same way; NaN if there is no such output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_cosine(comparison: *const mezzo_comparison_t, index: usize) -> f64 {
    // SAFETY: the header's contract.
    unsafe { number(comparison, index, f64::NAN, |o| o.cosine) }
}

/// Elements of A that are NaN; 0 if there is no such output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_nan_a(comparison: *const mezzo_comparison_t, index: usize) -> usize {
    // SAFETY: the header's contract.
    unsafe { number(comparison, index, 0, |o| o.nan_a) }
}

/// Elements of B that are NaN; 0 if there is no such output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_nan_b(comparison: *const mezzo_comparison_t, index: usize) -> usize {
    // SAFETY: the header's contract.
    unsafe { number(comparison, index, 0, |o| o.nan_b) }
}

/// Elements of A that are infinite; 0 if there is no such output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_inf_a(comparison: *const mezzo_comparison_t, index: usize) -> usize {
    // SAFETY: the header's contract.
    unsafe { number(comparison, index, 0, |o| o.inf_a) }
}

/// Elements of B that are infinite; 0 if there is no such output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_inf_b(comparison: *const mezzo_comparison_t, index: usize) -> usize {
    // SAFETY: the header's contract.
    unsafe { number(comparison, index, 0, |o| o.inf_b) }
}

/// Elements that are NaN, or the same infinity, in one of the two only; 0 if there is no such output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_non_finite_mismatches(
    comparison: *const mezzo_comparison_t,
    index: usize,
) -> usize {
    // SAFETY: the header's contract.
    unsafe { number(comparison, index, 0, |o| o.non_finite_mismatches) }
}

/// Share (0 to 1) of the rows along the last dimension whose largest element is at the same place; NaN if the output has
/// no rows of at least two elements, or there is no such output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_top1_agreement(comparison: *const mezzo_comparison_t, index: usize) -> f64 {
    // SAFETY: the header's contract.
    unsafe { number(comparison, index, f64::NAN, |o| o.top1_agreement.unwrap_or(f64::NAN)) }
}

/// The whole comparison as JSON, borrowed from it; the empty string for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_to_json(comparison: *const mezzo_comparison_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(comparison, EMPTY, |c| c.json.get_or_init(|| c.comparison.to_json().into()).as_ptr()) }
}

/// Frees a comparison and everything borrowed from it. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_comparison_free(comparison: *mut mezzo_comparison_t) {
    // SAFETY: the header's contract.
    unsafe { free_owned(comparison) }
}
