//! C++ exceptions that TensorRT's functions let out become errors here.
//!
//! Rust cannot catch them: one that reaches a `catch_unwind` ends the process. So a frame of our own stands between,
//! whose personality routine (what the unwinder asks of each frame whether it catches) takes what is not Rust's. Panics
//! pass through. The calls in between must be typed `C-unwind`, as `call!` types them, or the compiler takes them for
//! calls that never unwind.

#[cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod frame;
#[cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod thrown;

#[cfg(all(test, target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests;

use crate::Result;

/// Runs `f`. What is thrown in it, except a panic, becomes an error that names the call `what`; destructors of the
/// frames between have run then.
#[cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn catching<R>(what: &str, f: impl FnOnce() -> R) -> Result<R> {
    frame::call(f).map_err(|exception| thrown::end(exception).into_error(what))
}

/// Runs `f`. Nothing is caught here: TensorRT is not called on such machines.
#[cfg(not(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub fn catching<R>(_: &str, f: impl FnOnce() -> R) -> Result<R> {
    Ok(f())
}
