//! Version of the library, and whether a header goes with it.

use super::boundary::call;
use super::error::mezzo_error_t;
use crate::bail;
use std::ffi::c_char;

const fn number(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let mut value = 0;
    let mut i = 0;
    while i < bytes.len() {
        value = value * 10 + (bytes[i] - b'0') as u32;
        i += 1;
    }
    value
}

const MAJOR: u32 = number(env!("CARGO_PKG_VERSION_MAJOR"));
const MINOR: u32 = number(env!("CARGO_PKG_VERSION_MINOR"));
const PATCH: u32 = number(env!("CARGO_PKG_VERSION_PATCH"));

/// The library's version as one number: major * 1000000 + minor * 1000 + patch.
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_version() -> u32 {
    MAJOR * 1_000_000 + MINOR * 1_000 + PATCH
}

/// The library's version as text ("0.1.0"). Static.
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Checks that a program compiled with the header of version `major.minor` may use this library; MEZZO_CHECK_VERSION()
/// passes the version of the header at hand.
///
/// From version 1 on the major versions must be equal and the library's minor version not older than the header's.
/// Before version 1 the minor versions must be equal too.
///
/// Errors: MEZZO_ERROR_VERSION, naming both versions.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_check_version(major: u32, minor: u32) -> *mut mezzo_error_t {
    // SAFETY: no pointers.
    unsafe {
        call("mezzo_check_version", |_| {
            let fits = major == MAJOR && if MAJOR == 0 { minor == MINOR } else { minor <= MINOR };
            if fits {
                return Ok(());
            }
            bail!(
                Version,
                "the program was compiled with the header of Mezzo {major}.{minor}, but the library is {}: install the \
                 library of that version, or compile the program again with this one's header",
                env!("CARGO_PKG_VERSION")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    /// cbindgen.toml spells the version out; there must be no second truth.
    #[test]
    fn the_header_has_the_version_of_the_package() {
        let config = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/cbindgen.toml")).unwrap();
        for (name, value) in [("MAJOR", super::MAJOR), ("MINOR", super::MINOR), ("PATCH", super::PATCH)] {
            let line = format!("#define MEZZO_VERSION_{name} {value}\n");
            assert!(config.contains(&line), "cbindgen.toml lacks '{line}'");
        }
    }
}
