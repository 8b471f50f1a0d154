//! FP16 to FP32 and back, to nearest even, eight at a time where the processor has F16C, 32 with AVX-512: the whole loop is
//! compiled for it, which the half crate's own slices, a call for every eight elements, are not.
#![allow(unsafe_code)] // vector instructions, chosen by what the processor has

use half::f16;

/// Widens; both slices are of the same length.
#[inline]
pub fn widen(from: &[f16], to: &mut [f32]) {
    assert_eq!(from.len(), to.len());
    #[cfg(target_arch = "x86_64")]
    if super::simd::has_avx2() {
        // SAFETY: the features have just been checked.
        return unsafe {
            let done = if super::simd::has_avx512() { x86::widen_most(from, to) } else { 0 };
            x86::widen(&from[done..], &mut to[done..])
        };
    }
    from.iter().zip(to).for_each(|(v, o)| *o = v.to_f32());
}

/// Rounds; both slices are of the same length.
#[inline]
pub fn narrow(from: &[f32], to: &mut [f16]) {
    assert_eq!(from.len(), to.len());
    #[cfg(target_arch = "x86_64")]
    if super::simd::has_avx2() {
        // SAFETY: the features have just been checked.
        return unsafe {
            let done = if super::simd::has_avx512() { x86::narrow_most(from, to) } else { 0 };
            x86::narrow(&from[done..], &mut to[done..])
        };
    }
    from.iter().zip(to).for_each(|(v, o)| *o = f16::from_f32(*v));
}

/// Rounds to FP16 and widens again, in place.
#[inline]
pub fn round(values: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if super::simd::has_avx2() {
        // SAFETY: the features have just been checked.
        return unsafe { x86::round(values) };
    }
    values.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::vector::{AHEAD, fetch};
    use half::f16;
    use std::arch::x86_64::*;

    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;

    /// Whole pieces of 32; says how many elements these are.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn widen_most(from: &[f16], to: &mut [f32]) -> usize {
        let (from, to) = (from.as_chunks::<32>().0, to.as_chunks_mut::<32>().0);
        for (from, to) in from.iter().zip(&mut *to) {
            let (from, to) = (from.as_ptr(), to.as_mut_ptr());
            // SAFETY: 32 halves are read, 32 floats written.
            unsafe {
                let first = _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()));
                let second = _mm512_cvtph_ps(_mm256_loadu_si256(from.add(16).cast()));
                _mm512_storeu_ps(to, first);
                _mm512_storeu_ps(to.add(16), second);
            }
        }
        to.len() * 32
    }

    /// Whole pieces of 32; says how many elements these are.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn narrow_most(from: &[f32], to: &mut [f16]) -> usize {
        let (from, to) = (from.as_chunks::<32>().0, to.as_chunks_mut::<32>().0);
        for (from, to) in from.iter().zip(&mut *to) {
            let (from, to) = (from.as_ptr(), to.as_mut_ptr());
            fetch(to.wrapping_add(AHEAD));
            // SAFETY: 32 floats are read, 32 halves written.
            unsafe {
                let first = _mm512_cvtps_ph::<NEAREST>(_mm512_loadu_ps(from));
                let second = _mm512_cvtps_ph::<NEAREST>(_mm512_loadu_ps(from.add(16)));
                _mm256_storeu_si256(to.cast(), first);
                _mm256_storeu_si256(to.add(16).cast(), second);
            }
        }
        to.len() * 32
    }

    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    pub fn widen(from: &[f16], to: &mut [f32]) {
        let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<8>(), to.as_chunks_mut::<8>());
        for (from, to) in from.iter().zip(to) {
            // SAFETY: eight halves are read, eight floats written.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()))) };
        }
        if !from_rest.is_empty() {
            let (mut halves, mut floats) = ([f16::ZERO; 8], [0f32; 8]);
            halves[..from_rest.len()].copy_from_slice(from_rest);
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(floats.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast()))) };
            to_rest.copy_from_slice(&floats[..to_rest.len()]);
        }
    }

    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    pub fn narrow(from: &[f32], to: &mut [f16]) {
        let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<8>(), to.as_chunks_mut::<8>());
        for (from, to) in from.iter().zip(to) {
            // SAFETY: eight floats are read, eight halves written.
            unsafe {
                let halves = _mm256_cvtps_ph::<NEAREST>(_mm256_loadu_ps(from.as_ptr()));
                _mm_storeu_si128(to.as_mut_ptr().cast(), halves);
            }
        }
        if !from_rest.is_empty() {
            let (mut halves, mut floats) = ([f16::ZERO; 8], [0f32; 8]);
            floats[..from_rest.len()].copy_from_slice(from_rest);
            // SAFETY: as above.
            unsafe {
                let made = _mm256_cvtps_ph::<NEAREST>(_mm256_loadu_ps(floats.as_ptr()));
                _mm_storeu_si128(halves.as_mut_ptr().cast(), made);
            }
            to_rest.copy_from_slice(&halves[..to_rest.len()]);
        }
    }

    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    pub fn round(values: &mut [f32]) {
        let (chunks, rest) = values.as_chunks_mut::<8>();
        for v in chunks {
            // SAFETY: eight floats are read and written.
            unsafe {
                let halves = _mm256_cvtps_ph::<NEAREST>(_mm256_loadu_ps(v.as_ptr()));
                _mm256_storeu_ps(v.as_mut_ptr(), _mm256_cvtph_ps(halves));
            }
        }
        let mut floats = [0f32; 8];
        let n = rest.len();
        floats[..n].copy_from_slice(rest);
        // SAFETY: as above.
        unsafe {
            let halves = _mm256_cvtps_ph::<NEAREST>(_mm256_loadu_ps(floats.as_ptr()));
            _mm256_storeu_ps(floats.as_mut_ptr(), _mm256_cvtph_ps(halves));
        }
        rest.copy_from_slice(&floats[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every half, and the floats between halves, against the half crate's own conversions.
    #[test]
    fn conversions_are_those_of_the_half_crate() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        for n in [halves.len(), halves.len() - 3] {
            let mut wide = vec![0f32; n];
            widen(&halves[..n], &mut wide);
            for (w, h) in wide.iter().zip(&halves) {
                assert!(w.to_bits() == h.to_f32().to_bits() || h.is_nan() && w.is_nan(), "{h:?}");
            }
            for nudge in [-1i32, 0, 1, 1 << 12, 3 << 11, (1 << 12) + 1] {
                let near: Vec<f32> =
                    wide.iter().map(|w| f32::from_bits(w.to_bits().wrapping_add_signed(nudge))).collect();
                let mut back = vec![f16::ZERO; n];
                narrow(&near, &mut back);
                let mut rounded = near.clone();
                round(&mut rounded);
                for ((v, b), r) in near.iter().zip(&back).zip(&rounded) {
                    let want = f16::from_f32(*v);
                    assert!(b.to_bits() == want.to_bits() || v.is_nan() && b.is_nan(), "{v}: {b:?}, not {want:?}");
                    assert!(r.to_bits() == want.to_f32().to_bits() || v.is_nan() && r.is_nan(), "{v}");
                }
            }
        }
    }
}
