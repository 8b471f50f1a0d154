//! Strings that C borrows: kept with a zero at the end by the handle they belong to.

use std::ffi::{CString, c_char};

/// A string a handle lends to C.
#[derive(Debug, Clone, Default)]
pub(super) struct Text(CString);

impl Text {
    /// Its address, valid as long as the handle lives.
    pub(super) fn as_ptr(&self) -> *const c_char {
        self.0.as_ptr()
    }
}

impl From<&str> for Text {
    /// A zero inside, which C would take for the end, becomes the two characters `\0`.
    fn from(text: &str) -> Self {
        let whole = CString::new(text).or_else(|_| CString::new(text.replace('\0', "\\0")));
        Text(whole.unwrap_or_default())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text::from(text.as_str())
    }
}

/// The string that accessors answer for NULL.
pub(super) const EMPTY: *const c_char = c"".as_ptr();
