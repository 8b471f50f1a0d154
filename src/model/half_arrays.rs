//! Arrays of floats to half precision and back, at the speed of memory.
//!
//! The `half` crate calls a function for every eight elements, which a processor with F16C feels: measured on an EPYC
//! with arrays in its caches, these loops are 3 to 5 times faster (docs/c-api.md). All forms round to nearest even and
//! keep sign, infinities, subnormals and NaN; a test compares them with the `half` crate bit for bit.
#![allow(unsafe_code)] // calls of functions compiled for a feature that was detected, and their loads and stores

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

/// Float32 to float16 bits. Both slices have the same length.
pub fn f32_to_f16(source: &[f32], destination: &mut [u16]) {
    assert_eq!(source.len(), destination.len(), "arrays of one length");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") && is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has the features.
        return unsafe { x86::f32_to_f16(source, destination) };
    }
    destination.reinterpret_cast_mut::<f16>().convert_from_f32_slice(source);
}

/// Float16 bits to float32. Both slices have the same length.
pub fn f16_to_f32(source: &[u16], destination: &mut [f32]) {
    assert_eq!(source.len(), destination.len(), "arrays of one length");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") && is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has the features.
        return unsafe { x86::f16_to_f32(source, destination) };
    }
    source.reinterpret_cast::<f16>().convert_to_f32_slice(destination);
}

/// Float32 to bfloat16 bits. Both slices have the same length.
pub fn f32_to_bf16(source: &[f32], destination: &mut [u16]) {
    assert_eq!(source.len(), destination.len(), "arrays of one length");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        return unsafe { x86::f32_to_bf16(source, destination) };
    }
    narrow_bf16(source, destination);
}

/// Bfloat16 bits to float32. Both slices have the same length.
pub fn bf16_to_f32(source: &[u16], destination: &mut [f32]) {
    assert_eq!(source.len(), destination.len(), "arrays of one length");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        return unsafe { x86::bf16_to_f32(source, destination) };
    }
    widen_bf16(source, destination);
}

/// Written without branches, so that compilers make vector code of it.
#[inline(always)]
fn narrow_bf16(source: &[f32], destination: &mut [u16]) {
    for (to, from) in destination.iter_mut().zip(source) {
        let bits = from.to_bits();
        let even = (bits >> 16) & 1;
        let rounded = (bits.wrapping_add(0x7fff + even) >> 16) as u16;
        // A NaN keeps its upper bits and becomes quiet; rounding could make an infinity of it.
        let quiet = (bits >> 16) as u16 | 0x40;
        *to = if bits & 0x7fff_ffff > 0x7f80_0000 { quiet } else { rounded };
    }
}

#[inline(always)]
fn widen_bf16(source: &[u16], destination: &mut [f32]) {
    for (to, from) in destination.iter_mut().zip(source) {
        *to = f32::from_bits(u32::from(*from) << 16);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{f16, narrow_bf16, widen_bf16};
    use std::arch::x86_64::{
        _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm_storeu_si128, _mm256_cvtph_ps, _mm256_cvtps_ph,
        _mm256_loadu_ps, _mm256_storeu_ps,
    };

    #[target_feature(enable = "avx,f16c")]
    pub fn f32_to_f16(source: &[f32], destination: &mut [u16]) {
        let (from, from_rest) = source.as_chunks::<8>();
        let (to, to_rest) = destination.as_chunks_mut::<8>();
        for (from, to) in from.iter().zip(to) {
            // SAFETY: each side is one array of eight elements.
            unsafe {
                let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from.as_ptr()));
                _mm_storeu_si128(to.as_mut_ptr().cast(), halves);
            }
        }
        for (from, to) in from_rest.iter().zip(to_rest) {
            *to = f16::from_f32(*from).to_bits();
        }
    }

    #[target_feature(enable = "avx,f16c")]
    pub fn f16_to_f32(source: &[u16], destination: &mut [f32]) {
        let (from, from_rest) = source.as_chunks::<8>();
        let (to, to_rest) = destination.as_chunks_mut::<8>();
        for (from, to) in from.iter().zip(to) {
            // SAFETY: each side is one array of eight elements.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()))) }
        }
        for (from, to) in from_rest.iter().zip(to_rest) {
            *to = f16::from_bits(*from).to_f32();
        }
    }

    #[target_feature(enable = "avx2")]
    pub fn f32_to_bf16(source: &[f32], destination: &mut [u16]) {
        narrow_bf16(source, destination);
    }

    #[target_feature(enable = "avx2")]
    pub fn bf16_to_f32(source: &[u16], destination: &mut [f32]) {
        widen_bf16(source, destination);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    /// Every upper half with lower bits around each rounding boundary of both formats, in lengths with and without rest.
    fn floats() -> Vec<f32> {
        let low = [0u32, 1, 0x0fff, 0x1000, 0x1001, 0x2000, 0x7fff, 0x8000, 0x8001, 0xffff];
        (0..=u16::MAX).flat_map(|h| low.map(|l| f32::from_bits(u32::from(h) << 16 | l))).collect()
    }

    #[test]
    fn narrowing_is_the_half_crates() {
        let floats = floats();
        for floats in [&floats[..], &floats[3..floats.len() - 2], &floats[..5], &[]] {
            let mut bits = vec![0; floats.len()];
            f32_to_f16(floats, &mut bits);
            for (f, b) in floats.iter().zip(&bits) {
                assert_eq!(f16::from_f32(*f).to_bits(), *b, "{f:e} {:#x}", f.to_bits());
            }
            f32_to_bf16(floats, &mut bits);
            for (f, b) in floats.iter().zip(&bits) {
                assert_eq!(bf16::from_f32(*f).to_bits(), *b, "{f:e} {:#x}", f.to_bits());
            }
        }
    }

    #[test]
    fn widening_is_the_half_crates() {
        let bits: Vec<u16> = (0..=u16::MAX).chain(0..5).collect();
        let mut floats = vec![0.0; bits.len()];
        f16_to_f32(&bits, &mut floats);
        for (b, f) in bits.iter().zip(&floats) {
            let want = f16::from_bits(*b).to_f32();
            assert!(want.to_bits() == f.to_bits() || want.is_nan() && f.is_nan(), "{b:#x}");
        }
        bf16_to_f32(&bits, &mut floats);
        for (b, f) in bits.iter().zip(&floats) {
            assert_eq!(u32::from(*b) << 16, f.to_bits());
        }
    }
}
