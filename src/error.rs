//! The one error type of the library. It crosses the C boundary as `mezzo_error_t`.

use std::fmt;

/// What kind of failure it was; stable numbers, they are part of the C ABI (`MEZZO_ERROR_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ErrorCode {
    /// An argument is NULL, out of range, or of a kind the call does not take.
    InvalidArgument = 1,
    /// A file, tensor, input, output, option or backend of that name does not exist.
    NotFound = 2,
    /// The operating system refused a read or a write.
    Io = 3,
    /// The file is damaged, truncated, or not of the format it claims.
    InvalidFile = 4,
    /// The file parses, but the model in it breaks ONNX's rules.
    InvalidModel = 5,
    /// An operator, data type, opset or feature that this build or backend does not have.
    Unsupported = 6,
    /// A data type differs from the expected one.
    TypeMismatch = 7,
    /// A rank or a dimension differs from the expected one, or a dynamic shape was not set.
    ShapeMismatch = 8,
    /// A byte size differs from what data type and shape require.
    SizeMismatch = 9,
    /// Memory could not be had, or a limit set by the caller would be passed.
    OutOfMemory = 10,
    /// The handle is in use by another thread.
    Busy = 11,
    /// A progress callback or cancel flag stopped the call.
    Cancelled = 12,
    /// A requested precision cannot be kept (range, minimum FP16 share, constants that do not fit).
    Precision = 13,
    /// Header and library, or file and library, are of versions that do not go together.
    Version = 14,
    /// The call is not allowed in the handle's present state (an unbound input, say).
    InvalidState = 15,
    /// The data in the tensors made an operator fail (index out of range, integer division by zero).
    Execution = 16,
    /// A bug in Mezzo. The handle it happened on is poisoned and refuses further use.
    Internal = 99,
}

/// Which layer reported the error; stable numbers, part of the C ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ErrorDomain {
    /// Mezzo itself.
    Mezzo = 0,
    /// The operating system; the native code is `errno`.
    Io = 1,
    /// The CUDA driver; the native code is a `CUresult`.
    Cuda = 2,
    /// TensorRT or TensorRT-RTX; the native code is TensorRT's `ErrorCode`.
    TensorRt = 3,
}

/// An error: code, domain, native code and a message that names the thing, what was expected, what was given and the
/// remedy.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    code: ErrorCode,
    domain: ErrorDomain,
    native: i64,
    message: String,
}

/// The library's result type.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of Mezzo's own domain.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { code, domain: ErrorDomain::Mezzo, native: 0, message: message.into() }))
    }

    /// What `err!` makes. A call of its own, off the beaten path: there are thousands of such places, and each would
    /// format, allocate and clean up on its own otherwise.
    #[doc(hidden)]
    #[cold]
    #[inline(never)]
    pub fn told(code: ErrorCode, message: fmt::Arguments<'_>) -> Self {
        Error::new(code, fmt::format(message))
    }

    /// An error of the operating system. `what` says what was tried ("cannot open 'model.onnx'").
    pub fn io(what: impl fmt::Display, err: &std::io::Error) -> Self {
        let code = match err.kind() {
            std::io::ErrorKind::NotFound => ErrorCode::NotFound,
            std::io::ErrorKind::OutOfMemory => ErrorCode::OutOfMemory,
            _ => ErrorCode::Io,
        };
        Error(Box::new(Inner {
            code,
            domain: ErrorDomain::Io,
            native: err.raw_os_error().unwrap_or(0).into(),
            message: match remedy(err.kind()) {
                Some(remedy) => format!("{what}: {err}: {remedy}"),
                None => format!("{what}: {err}"),
            },
        }))
    }

    /// An error of a foreign library, with that library's own code.
    pub fn foreign(code: ErrorCode, domain: ErrorDomain, native: i64, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { code, domain, native, message: message.into() }))
    }

    /// The code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// The domain.
    pub fn domain(&self) -> ErrorDomain {
        self.0.domain
    }

    /// The foreign library's or operating system's own code, or 0.
    pub fn native_code(&self) -> i64 {
        self.0.native
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The same error with `context: ` put before the message.
    #[cold]
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }
}

/// What a person can do about a failure of the operating system.
fn remedy(kind: std::io::ErrorKind) -> Option<&'static str> {
    use std::io::ErrorKind::*;
    match kind {
        NotFound => Some("check the path, and that its folder exists"),
        PermissionDenied => Some("change the permissions or choose another place"),
        StorageFull | QuotaExceeded => Some("free some space or choose another place"),
        ReadOnlyFilesystem => Some("choose another place"),
        OutOfMemory => Some("free some memory"),
        _ => None,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

/// `err!(InvalidModel, "node '{}' ...", name)` makes an [`Error`] of that code.
#[macro_export]
#[doc(hidden)]
macro_rules! err {
    ($code:ident, $($arg:tt)+) => {
        $crate::error::Error::told($crate::error::ErrorCode::$code, format_args!($($arg)+))
    };
}

/// `bail!(InvalidModel, "...")` returns it.
#[macro_export]
#[doc(hidden)]
macro_rules! bail {
    ($code:ident, $($arg:tt)+) => { return Err($crate::err!($code, $($arg)+)) };
}
