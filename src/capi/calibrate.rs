//! Ranges of a model's tensors on samples, for a conversion that knows them.

use super::boundary::{call, read};
use super::convert_options::mezzo_convert_options_t;
use super::env::mezzo_env_t;
use super::error::mezzo_error_t;
use super::handle::{free_owned, handle, owned};
use super::model::mezzo_model_t;
use super::value::{self, mezzo_value_t};
use crate::backend::Progress;
use crate::engine::random_inputs;
use crate::err;
use crate::hash::HashMap;
use crate::precision::Calibrator;
use std::ffi::c_char;
use std::sync::Arc;

/// Runs a model on samples and keeps the range of every tensor. Exclusive: one thread at a time.
///
/// With the ranges, a conversion to FP16 keeps in FP32 what left half's safe range on the samples: values beyond 32752
/// (half of FP16's largest value), sums of such size behind means and norms, and tensors that stay below 2^-14 (FP16's
/// smallest normal value).
pub struct mezzo_calibrator_t {
    _opaque: [u8; 0],
}

handle!(mezzo_calibrator_t, Calibrator, "a calibrator", b"cali");

/// Makes a calibrator for a model, as it is before its conversion. The samples run on the CPU backend.
///
/// env: NULL for the default environment.
/// calibrator: receives the calibrator; free it with mezzo_calibrator_free().
///
/// Errors: those of mezzo_engine_build() for the backend "cpu".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_calibrator_new(
    env: *const mezzo_env_t,
    model: *const mezzo_model_t,
    calibrator: *mut *mut mezzo_calibrator_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_calibrator_new", |c| {
            let env = c.env(env)?;
            let model = c.get("model", model)?;
            let out = c.out("calibrator", calibrator)?;
            out.set(owned(Calibrator::new(&env, &model.model, 0, &Progress::default())?));
            Ok(())
        })
    }
}

/// Runs one sample and adds what the tensors hold to their ranges. A sample that fails changes no range.
///
/// names, values, count: the model's inputs: `count` names and as many values.
///
/// Errors: those of mezzo_context_bind() and mezzo_context_run().
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_calibrator_run(
    calibrator: *mut mezzo_calibrator_t,
    names: *const *const c_char,
    values: *const *const mezzo_value_t,
    count: usize,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_calibrator_run", |c| {
            let calibrator = c.get_mut("calibrator", calibrator)?;
            calibrator.run(&value::named(c, names, values, count)?)
        })
    }
}

/// Runs one sample of random values: floats from -1 to 1, integers 0 or 1, dynamic dimensions 1. Real samples tell more.
///
/// seed: the same seed gives the same sample.
///
/// Errors: those of mezzo_engine_random_input() and mezzo_context_run().
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_calibrator_run_random(
    calibrator: *mut mezzo_calibrator_t,
    seed: u64,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_calibrator_run_random", |c| {
            let calibrator = c.get_mut("calibrator", calibrator)?;
            let inputs = random_inputs(&calibrator.engine().info().inputs, seed, &HashMap::default())?;
            calibrator.run(&inputs)
        })
    }
}

/// How many samples have run; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_calibrator_samples(calibrator: *const mezzo_calibrator_t) -> u64 {
    // SAFETY: the header's contract.
    unsafe { read(calibrator, 0, |c| c.ranges().samples) }
}

/// The range of a tensor over all samples.
///
/// tensor: its name in the model.
/// min, max: receive the smallest and the largest finite value; both NaN if there was none.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if no sample has shown a float tensor of that name.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_calibrator_range(
    calibrator: *const mezzo_calibrator_t,
    tensor: *const c_char,
    min: *mut f64,
    max: *mut f64,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_calibrator_range", |c| {
            let calibrator = c.get("calibrator", calibrator)?;
            let tensor = c.text("tensor", tensor)?;
            let (out_min, out_max) = (c.out("min", min)?, c.out("max", max)?);
            let range = calibrator.ranges().get(tensor).ok_or_else(|| {
                err!(
                    NotFound,
                    "no sample has shown a float tensor '{tensor}': run samples first, and give a tensor's name"
                )
            })?;
            let some = range.min <= range.max;
            out_min.set(if some { range.min } else { f64::NAN });
            out_max.set(if some { range.max } else { f64::NAN });
            Ok(())
        })
    }
}

/// Lets a conversion go by the ranges that the calibrator has now; a copy, the calibrator is not needed afterwards.
///
/// calibrator: NULL takes ranges back out of the options.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_set_calibration(
    options: *mut mezzo_convert_options_t,
    calibrator: *const mezzo_calibrator_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_set_calibration", |c| {
            let options = c.get_mut("options", options)?;
            let calibrator = c.optional("calibrator", calibrator)?;
            options.ranges = calibrator.map(|c| Arc::new(c.ranges().clone()));
            Ok(())
        })
    }
}

/// Frees a calibrator. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_calibrator_free(calibrator: *mut mezzo_calibrator_t) {
    // SAFETY: the header's contract.
    unsafe { free_owned(calibrator) }
}
