//! Wider instructions where the processor has them: the same Rust code, compiled twice, chosen at run time. The results
//! are the same bit for bit, because neither form fuses or reorders operations; only a [`Calculation`] adds products in
//! one step where it can.
#![allow(unsafe_code)] // calls of functions compiled for features that were checked first

#[cfg(target_arch = "x86_64")]
use super::math::Fused;
use super::math::{Arithmetic, Separate};
#[cfg(target_arch = "x86_64")]
use std::sync::atomic::{AtomicU8, Ordering};

/// Runs `f` compiled for AVX2 where the processor has it. `f` must be small enough to be inlined; loops over slices are.
#[inline]
pub fn vectorize<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the features have just been checked.
        return unsafe { with_avx2(f) };
    }
    f()
}

/// Work whose `run` is marked `#[inline(always)]`: unlike a large closure it is sure to be compiled for the instructions
/// that [`vectorized`] chooses.
pub trait Vectorized {
    /// Does the work.
    fn run(self);
}

/// Runs `work` compiled for AVX2 where the processor has it.
#[inline]
pub fn vectorized(work: impl Vectorized) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the features have just been checked.
        return unsafe { work_with_avx2(work) };
    }
    work.run();
}

/// Work that computes much with each element. `run` is marked `#[inline(always)]`.
pub trait Calculation {
    /// Does the work.
    fn run<A: Arithmetic>(self);
}

/// Runs `work` compiled for AVX-512 or AVX2 where the processor has them.
#[inline]
pub fn calculate(work: impl Calculation) {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the features have just been checked.
            return unsafe { calculate_with_avx512(work) };
        }
        if has_avx2() {
            // SAFETY: the features have just been checked.
            return unsafe { calculate_with_avx2(work) };
        }
    }
    work.run::<Separate>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
fn calculate_with_avx512(work: impl Calculation) {
    work.run::<Fused>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn calculate_with_avx2(work: impl Calculation) {
    work.run::<Fused>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn work_with_avx2(work: impl Vectorized) {
    work.run();
}

/// AVX2, FMA and F16C, which come together on every processor since 2013 (Haswell, Excavator).
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn has_avx2() -> bool {
    // Asked so often that three questions of the standard library would be felt.
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            let has = detect();
            KNOWN.store(1 + u8::from(has), Ordering::Relaxed);
            has
        }
        known => known == 2,
    }
}

/// AVX-512 in the forms that every processor of its second generation has (Skylake-X, Zen 4 and later).
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn has_avx512() -> bool {
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            let has = has_avx2()
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq");
            KNOWN.store(1 + u8::from(has), Ordering::Relaxed);
            has
        }
        known => known == 2,
    }
}

#[cfg(target_arch = "x86_64")]
#[cold]
fn detect() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn with_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}
