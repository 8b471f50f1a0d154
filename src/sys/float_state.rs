//! The thread's floating-point mode. Games and signal processing set flush-to-zero or another rounding; results must
//! not depend on it, and the caller finds it unchanged.

/// Holds the standard mode (round to nearest even, subnormals kept, no traps) and puts the caller's back when dropped.
pub struct FloatState {
    /// The caller's mode, where it was not the standard one.
    saved: Option<native::Mode>,
}

impl FloatState {
    /// Sets the standard mode for this thread.
    pub fn standard() -> FloatState {
        let current = native::get();
        if native::is_standard(current) {
            return FloatState { saved: None };
        }
        native::set(native::STANDARD);
        FloatState { saved: Some(current) }
    }
}

impl Drop for FloatState {
    fn drop(&mut self) {
        if let Some(mode) = self.saved {
            native::set(mode);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod native {
    use std::arch::asm;

    pub type Mode = u32;
    /// All exceptions masked, round to nearest even, no flush-to-zero, no denormals-are-zero.
    pub const STANDARD: Mode = 0x1f80;
    /// The low six bits only record what happened.
    const FLAGS: Mode = 0x3f;

    pub fn is_standard(mode: Mode) -> bool {
        mode & !FLAGS == STANDARD
    }

    pub fn get() -> Mode {
        let mut mode: Mode = 0;
        // SAFETY: stores MXCSR to the variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) };
        mode
    }

    pub fn set(mode: Mode) {
        // SAFETY: the value was read from MXCSR or is its standard value, so no reserved bit is set.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack, preserves_flags, readonly)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod native {
    use std::arch::asm;

    pub type Mode = u64;
    /// Round to nearest even, no flush-to-zero, IEEE half precision, no traps.
    pub const STANDARD: Mode = 0;

    pub fn is_standard(mode: Mode) -> bool {
        mode == STANDARD
    }

    pub fn get() -> Mode {
        let mode: Mode;
        // SAFETY: reads FPCR.
        unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nomem, nostack, preserves_flags)) };
        mode
    }

    pub fn set(mode: Mode) {
        // SAFETY: the value was read from FPCR or is its standard value.
        unsafe { asm!("msr fpcr, {}", in(reg) mode, options(nomem, nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod native {
    pub type Mode = ();
    pub const STANDARD: Mode = ();
    pub fn is_standard((): Mode) -> bool {
        true
    }
    pub fn get() -> Mode {}
    pub fn set((): Mode) {}
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn flush_to_zero_is_set_aside_and_comes_back() {
        const FLUSH: u32 = 0x1f80 | 1 << 15 | 1 << 6;
        let subnormal = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        native::set(FLUSH);
        let flushed = subnormal();
        let kept = {
            let _state = FloatState::standard();
            subnormal()
        };
        let after = native::get() & !0x3f;
        native::set(native::STANDARD);
        assert_eq!((flushed, after), (0.0, FLUSH));
        assert!(kept > 0.0);
    }
}
