//! Data types.

use super::boundary::{Call, call};
use super::error::mezzo_error_t;
use crate::model::DataType;
use crate::model::dtype::ALL;
use crate::{Result, err};
use std::ffi::{CStr, CString, c_char};
use std::sync::OnceLock;

/// Element type of a tensor, one of mezzo_dtype_e. The numbers are ONNX's (TensorProto.DataType).
pub type mezzo_dtype_t = i32;

/// Values of mezzo_dtype_t. New ones may be added.
#[repr(C)]
pub enum mezzo_dtype_e {
    /// No data type: what descriptions of sequences, optionals and maps answer.
    MEZZO_DTYPE_NONE = 0,
    /// IEEE 754 single precision, 4 bytes.
    MEZZO_DTYPE_FP32 = 1,
    /// Unsigned 8-bit integer.
    MEZZO_DTYPE_UINT8 = 2,
    /// Signed 8-bit integer.
    MEZZO_DTYPE_INT8 = 3,
    /// Unsigned 16-bit integer.
    MEZZO_DTYPE_UINT16 = 4,
    /// Signed 16-bit integer.
    MEZZO_DTYPE_INT16 = 5,
    /// Signed 32-bit integer.
    MEZZO_DTYPE_INT32 = 6,
    /// Signed 64-bit integer.
    MEZZO_DTYPE_INT64 = 7,
    /// Strings; such tensors have no bytes, see mezzo_value_string().
    MEZZO_DTYPE_STRING = 8,
    /// One byte, 0 or 1.
    MEZZO_DTYPE_BOOL = 9,
    /// IEEE 754 half precision, 2 bytes.
    MEZZO_DTYPE_FP16 = 10,
    /// IEEE 754 double precision, 8 bytes.
    MEZZO_DTYPE_FP64 = 11,
    /// Unsigned 32-bit integer.
    MEZZO_DTYPE_UINT32 = 12,
    /// Unsigned 64-bit integer.
    MEZZO_DTYPE_UINT64 = 13,
    /// Two FP32.
    MEZZO_DTYPE_COMPLEX64 = 14,
    /// Two FP64.
    MEZZO_DTYPE_COMPLEX128 = 15,
    /// The upper half of an FP32, 2 bytes.
    MEZZO_DTYPE_BF16 = 16,
    /// 8-bit float, 4 exponent and 3 mantissa bits, no infinities.
    MEZZO_DTYPE_FP8E4M3FN = 17,
    /// 8-bit float, 4 exponent and 3 mantissa bits, no infinities and no negative zero.
    MEZZO_DTYPE_FP8E4M3FNUZ = 18,
    /// 8-bit float, 5 exponent and 2 mantissa bits.
    MEZZO_DTYPE_FP8E5M2 = 19,
    /// 8-bit float, 5 exponent and 2 mantissa bits, no infinities and no negative zero.
    MEZZO_DTYPE_FP8E5M2FNUZ = 20,
    /// Unsigned 4-bit integer, two to a byte.
    MEZZO_DTYPE_UINT4 = 21,
    /// Signed 4-bit integer, two to a byte.
    MEZZO_DTYPE_INT4 = 22,
    /// 4-bit float, two to a byte.
    MEZZO_DTYPE_FP4E2M1 = 23,
    /// 8-bit exponent, a scale.
    MEZZO_DTYPE_FP8E8M0 = 24,
    /// Unsigned 2-bit integer, four to a byte.
    MEZZO_DTYPE_UINT2 = 25,
    /// Signed 2-bit integer, four to a byte.
    MEZZO_DTYPE_INT2 = 26,
    /// 6-bit float, 2 exponent and 3 mantissa bits, packed without gaps.
    MEZZO_DTYPE_FP6E2M3 = 27,
    /// 6-bit float, 3 exponent and 2 mantissa bits, packed without gaps.
    MEZZO_DTYPE_FP6E3M2 = 28,
}

impl Call {
    /// A data type.
    pub(super) fn dtype(&self, argument: &str, dtype: mezzo_dtype_t) -> Result<DataType> {
        DataType::from_onnx(dtype)
            .ok_or_else(|| self.invalid(argument, format_args!("is {dtype}, which is no data type: see MEZZO_DTYPE_*")))
    }
}

/// Bits of one element; 0 for strings and for numbers that are no data type.
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_dtype_bits(dtype: mezzo_dtype_t) -> usize {
    DataType::from_onnx(dtype).map_or(0, DataType::bits)
}

/// Bytes of one element; 0 for strings, for types smaller than a byte, and for numbers that are no data type.
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_dtype_size(dtype: mezzo_dtype_t) -> usize {
    DataType::from_onnx(dtype).and_then(DataType::element_size).unwrap_or(0)
}

/// The short name of a data type ("fp16", "int64"); "unknown" for numbers that are none. Static.
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_dtype_name(dtype: mezzo_dtype_t) -> *const c_char {
    DataType::from_onnx(dtype).map_or(c"unknown", c_name).as_ptr()
}

/// Finds a data type by its short name; "float", "float16", "float32", "bfloat16", "half", "double" and "float64" are
/// understood too.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such name.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_dtype_from_name(name: *const c_char, dtype: *mut mezzo_dtype_t) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_dtype_from_name", |c| {
            let name = c.text("name", name)?;
            let out = c.out("dtype", dtype)?;
            let found = DataType::from_name(name)
                .ok_or_else(|| err!(NotFound, "there is no data type '{name}': give a name such as fp16 or fp32"))?;
            out.set(found.to_onnx());
            Ok(())
        })
    }
}

fn c_name(dtype: DataType) -> &'static CStr {
    static NAMES: OnceLock<Vec<CString>> = OnceLock::new();
    let names = NAMES.get_or_init(|| ALL.iter().map(|t| CString::new(t.name()).unwrap_or_default()).collect());
    ALL.iter().position(|t| *t == dtype).map_or(c"unknown", |i| &names[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_together() {
        for t in ALL {
            let mut found = 0;
            // SAFETY: valid pointers; the call does not fail, so there is no error to free.
            let e = unsafe { mezzo_dtype_from_name(mezzo_dtype_name(t.to_onnx()), &mut found) };
            assert!(e.is_null());
            assert_eq!(found, t.to_onnx());
            assert_eq!(mezzo_dtype_bits(found), t.bits());
        }
        assert_eq!(ALL.last().map(|t| t.to_onnx()), Some(mezzo_dtype_e::MEZZO_DTYPE_FP6E3M2 as i32));
        assert_eq!(DataType::Float16.to_onnx(), mezzo_dtype_e::MEZZO_DTYPE_FP16 as i32);
        assert_eq!(DataType::Bfloat16.to_onnx(), mezzo_dtype_e::MEZZO_DTYPE_BF16 as i32);
        assert_eq!(mezzo_dtype_bits(-1) + mezzo_dtype_size(1000), 0);
    }
}
