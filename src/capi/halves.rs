//! Arrays of floats converted to half precision and back.

use super::boundary::{Call, call};
use super::error::mezzo_error_t;
use crate::Result;
use crate::model::half_arrays;

impl Call {
    /// Source and destination of an array conversion: both given, aligned, and apart.
    #[allow(clippy::mut_from_ref)] // the references come from the caller's pointers, not from `self`
    fn arrays<S, D>(&self, source: *const S, count: usize, out: *mut D) -> Result<(&[S], &mut [D])> {
        let from = self.slice("source", source, count)?.as_ptr_range();
        // The destination is checked as an array to be read first: no two references may exist before they are known to
        // be apart.
        let to = self.slice("destination", out.cast_const(), count)?.as_ptr_range();
        let overlap = from.start.addr() < to.end.addr() && to.start.addr() < from.end.addr();
        if count > 0 && overlap {
            return Err(self.invalid("destination", "overlaps 'source': give arrays that are apart"));
        }
        Ok((self.slice("source", source, count)?, self.slice_mut("destination", out, count)?))
    }
}

/// Converts `count` floats to IEEE 754 half precision, rounding to nearest even. Sign, infinities and NaN are kept;
/// values of 65520 and more become infinity.
///
/// source: `count` floats.
/// destination: room for `count` halves; it must not overlap `source`. Both may be NULL if `count` is 0.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_f32_to_f16(
    source: *const f32,
    count: usize,
    destination: *mut u16,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_f32_to_f16", |c| {
            let (from, to) = c.arrays(source, count, destination)?;
            half_arrays::f32_to_f16(from, to);
            Ok(())
        })
    }
}

/// Converts `count` IEEE 754 halves to floats, exactly.
///
/// source: `count` halves.
/// destination: room for `count` floats; it must not overlap `source`. Both may be NULL if `count` is 0.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_f16_to_f32(
    source: *const u16,
    count: usize,
    destination: *mut f32,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_f16_to_f32", |c| {
            let (from, to) = c.arrays(source, count, destination)?;
            half_arrays::f16_to_f32(from, to);
            Ok(())
        })
    }
}

/// Converts `count` floats to bfloat16, rounding to nearest even. Sign, infinities and NaN are kept.
///
/// source: `count` floats.
/// destination: room for `count` bfloat16; it must not overlap `source`. Both may be NULL if `count` is 0.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_f32_to_bf16(
    source: *const f32,
    count: usize,
    destination: *mut u16,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_f32_to_bf16", |c| {
            let (from, to) = c.arrays(source, count, destination)?;
            half_arrays::f32_to_bf16(from, to);
            Ok(())
        })
    }
}

/// Converts `count` bfloat16 to floats, exactly.
///
/// source: `count` bfloat16.
/// destination: room for `count` floats; it must not overlap `source`. Both may be NULL if `count` is 0.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_bf16_to_f32(
    source: *const u16,
    count: usize,
    destination: *mut f32,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_bf16_to_f32", |c| {
            let (from, to) = c.arrays(source, count, destination)?;
            half_arrays::bf16_to_f32(from, to);
            Ok(())
        })
    }
}
