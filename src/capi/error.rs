//! Errors.

use super::boundary::read;
use super::handle::{free_owned, handle, owned};
use super::strings::{EMPTY, Text};
use crate::Error;
use std::ffi::c_char;

/// Kind of an error, one of mezzo_error_code_e.
pub type mezzo_error_code_t = i32;

/// Values of mezzo_error_code_t. New ones may be added: treat an unknown one like MEZZO_ERROR_INTERNAL.
#[repr(C)]
pub enum mezzo_error_code_e {
    /// No error; what mezzo_error_code() says of NULL.
    MEZZO_OK = 0,
    /// An argument is NULL, out of range, or of a kind the call does not take.
    MEZZO_ERROR_INVALID_ARGUMENT = 1,
    /// A file, tensor, input, output, option or backend of that name does not exist.
    MEZZO_ERROR_NOT_FOUND = 2,
    /// The operating system refused a read or a write; the native code is its errno.
    MEZZO_ERROR_IO = 3,
    /// A file is damaged, truncated, or not of the format it claims.
    MEZZO_ERROR_INVALID_FILE = 4,
    /// A file can be parsed, but the model in it breaks the rules of ONNX.
    MEZZO_ERROR_INVALID_MODEL = 5,
    /// An operator, data type, opset or feature that this build or backend does not have.
    MEZZO_ERROR_UNSUPPORTED = 6,
    /// A data type differs from the expected one.
    MEZZO_ERROR_TYPE_MISMATCH = 7,
    /// A rank or a dimension differs from the expected one, or a dynamic shape was not set.
    MEZZO_ERROR_SHAPE_MISMATCH = 8,
    /// A size in bytes differs from what data type and shape need.
    MEZZO_ERROR_SIZE_MISMATCH = 9,
    /// Memory could not be had, or a limit set by the caller would be passed.
    MEZZO_ERROR_OUT_OF_MEMORY = 10,
    /// The handle or buffer is in use by another thread.
    MEZZO_ERROR_BUSY = 11,
    /// A progress callback or a cancel flag stopped the call.
    MEZZO_ERROR_CANCELLED = 12,
    /// A requested precision cannot be kept.
    MEZZO_ERROR_PRECISION = 13,
    /// Header and library, or file and library, are of versions that do not go together.
    MEZZO_ERROR_VERSION = 14,
    /// The call is not allowed in the handle's present state (an input is not bound, say).
    MEZZO_ERROR_INVALID_STATE = 15,
    /// The data in the tensors made an operator fail (an index out of range, say).
    MEZZO_ERROR_EXECUTION = 16,
    /// A bug in Mezzo. The handles that the call was given refuse further use and can only be freed.
    MEZZO_ERROR_INTERNAL = 99,
}

/// Layer that reported an error, one of mezzo_error_domain_e.
pub type mezzo_error_domain_t = i32;

/// Values of mezzo_error_domain_t.
#[repr(C)]
pub enum mezzo_error_domain_e {
    /// Mezzo itself; there is no native code.
    MEZZO_DOMAIN_MEZZO = 0,
    /// The operating system; the native code is an errno.
    MEZZO_DOMAIN_IO = 1,
    /// The CUDA driver; the native code is a CUresult.
    MEZZO_DOMAIN_CUDA = 2,
    /// TensorRT or TensorRT-RTX; the native code is TensorRT's ErrorCode.
    MEZZO_DOMAIN_TENSORRT = 3,
}

/// What went wrong. Calls that can fail return one, or NULL for success; free it with mezzo_error_free().
///
/// The message is one line of UTF-8 for people. It names the tensor, node, file or argument, what was expected, what
/// was given, and how to mend it. Nothing else remembers an error: there is no last-error state.
pub struct mezzo_error_t {
    _opaque: [u8; 0],
}

pub(super) struct ErrorBody {
    code: i32,
    domain: i32,
    native: i64,
    message: Text,
}

handle!(mezzo_error_t, ErrorBody, "an error", b"erro");

impl mezzo_error_t {
    pub(super) fn boxed(error: &Error) -> *mut mezzo_error_t {
        owned(ErrorBody {
            code: error.code() as i32,
            domain: error.domain() as i32,
            native: error.native_code(),
            message: error.message().into(),
        })
    }
}

/// The kind of an error; MEZZO_OK for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_error_code(error: *const mezzo_error_t) -> mezzo_error_code_t {
    // SAFETY: the header's contract.
    unsafe { read(error, 0, |e| e.code) }
}

/// The layer that reported an error; MEZZO_DOMAIN_MEZZO for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_error_domain(error: *const mezzo_error_t) -> mezzo_error_domain_t {
    // SAFETY: the header's contract.
    unsafe { read(error, 0, |e| e.domain) }
}

/// The code that the layer below gave (errno, CUresult, ...); 0 if there is none, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_error_native_code(error: *const mezzo_error_t) -> i64 {
    // SAFETY: the header's contract.
    unsafe { read(error, 0, |e| e.native) }
}

/// The message, borrowed from the error; the empty string for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_error_message(error: *const mezzo_error_t) -> *const c_char {
    // SAFETY: the header's contract.
    unsafe { read(error, EMPTY, |e| e.message.as_ptr()) }
}

/// Frees an error. NULL is allowed, so that a result can be ignored on purpose: mezzo_error_free(mezzo_...(...)).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_error_free(error: *mut mezzo_error_t) {
    // SAFETY: the header's contract.
    unsafe { free_owned(error) }
}

/// The name of an error code ("MEZZO_ERROR_NOT_FOUND"); "MEZZO_ERROR_UNKNOWN" for numbers that are none. Static.
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_error_code_name(code: mezzo_error_code_t) -> *const c_char {
    match code {
        0 => c"MEZZO_OK",
        1 => c"MEZZO_ERROR_INVALID_ARGUMENT",
        2 => c"MEZZO_ERROR_NOT_FOUND",
        3 => c"MEZZO_ERROR_IO",
        4 => c"MEZZO_ERROR_INVALID_FILE",
        5 => c"MEZZO_ERROR_INVALID_MODEL",
        6 => c"MEZZO_ERROR_UNSUPPORTED",
        7 => c"MEZZO_ERROR_TYPE_MISMATCH",
        8 => c"MEZZO_ERROR_SHAPE_MISMATCH",
        9 => c"MEZZO_ERROR_SIZE_MISMATCH",
        10 => c"MEZZO_ERROR_OUT_OF_MEMORY",
        11 => c"MEZZO_ERROR_BUSY",
        12 => c"MEZZO_ERROR_CANCELLED",
        13 => c"MEZZO_ERROR_PRECISION",
        14 => c"MEZZO_ERROR_VERSION",
        15 => c"MEZZO_ERROR_INVALID_STATE",
        16 => c"MEZZO_ERROR_EXECUTION",
        99 => c"MEZZO_ERROR_INTERNAL",
        _ => c"MEZZO_ERROR_UNKNOWN",
    }
    .as_ptr()
}

/// The name of an error domain ("mezzo", "io", "cuda", "tensorrt"); "unknown" for numbers that are none. Static.
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_error_domain_name(domain: mezzo_error_domain_t) -> *const c_char {
    match domain {
        0 => c"mezzo",
        1 => c"io",
        2 => c"cuda",
        3 => c"tensorrt",
        _ => c"unknown",
    }
    .as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, ErrorDomain};

    #[test]
    fn the_numbers_are_the_ones_inside() {
        use ErrorCode::*;
        let codes: [(ErrorCode, mezzo_error_code_e); 17] = [
            (InvalidArgument, mezzo_error_code_e::MEZZO_ERROR_INVALID_ARGUMENT),
            (NotFound, mezzo_error_code_e::MEZZO_ERROR_NOT_FOUND),
            (Io, mezzo_error_code_e::MEZZO_ERROR_IO),
            (InvalidFile, mezzo_error_code_e::MEZZO_ERROR_INVALID_FILE),
            (InvalidModel, mezzo_error_code_e::MEZZO_ERROR_INVALID_MODEL),
            (Unsupported, mezzo_error_code_e::MEZZO_ERROR_UNSUPPORTED),
            (TypeMismatch, mezzo_error_code_e::MEZZO_ERROR_TYPE_MISMATCH),
            (ShapeMismatch, mezzo_error_code_e::MEZZO_ERROR_SHAPE_MISMATCH),
            (SizeMismatch, mezzo_error_code_e::MEZZO_ERROR_SIZE_MISMATCH),
            (OutOfMemory, mezzo_error_code_e::MEZZO_ERROR_OUT_OF_MEMORY),
            (Busy, mezzo_error_code_e::MEZZO_ERROR_BUSY),
            (Cancelled, mezzo_error_code_e::MEZZO_ERROR_CANCELLED),
            (Precision, mezzo_error_code_e::MEZZO_ERROR_PRECISION),
            (Version, mezzo_error_code_e::MEZZO_ERROR_VERSION),
            (InvalidState, mezzo_error_code_e::MEZZO_ERROR_INVALID_STATE),
            (Execution, mezzo_error_code_e::MEZZO_ERROR_EXECUTION),
            (Internal, mezzo_error_code_e::MEZZO_ERROR_INTERNAL),
        ];
        for (inside, outside) in codes {
            assert_eq!(inside as i32, outside as i32);
        }
        assert_eq!(ErrorDomain::Mezzo as i32, mezzo_error_domain_e::MEZZO_DOMAIN_MEZZO as i32);
        assert_eq!(ErrorDomain::Io as i32, mezzo_error_domain_e::MEZZO_DOMAIN_IO as i32);
        assert_eq!(ErrorDomain::Cuda as i32, mezzo_error_domain_e::MEZZO_DOMAIN_CUDA as i32);
        assert_eq!(ErrorDomain::TensorRt as i32, mezzo_error_domain_e::MEZZO_DOMAIN_TENSORRT as i32);
    }
}
