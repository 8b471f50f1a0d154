//! Vectors of x86 processors.

use super::{DataType, Lane, Single, Vector, Work, with_avx2, with_avx512};
use half::f16;
use std::arch::x86_64::*;

/// Eight numbers in sixteen registers.
#[derive(Clone, Copy)]
pub struct Avx2;
/// Sixteen numbers in thirty-two registers.
#[derive(Clone, Copy)]
pub struct Avx512;

// SAFETY of all methods: the caller promises the instructions and the elements.
impl Vector for Avx2 {
    type F = f32;
    type V = __m256;
    const N: usize = 8;
    const ROWS: usize = 6;
    #[inline(always)]
    unsafe fn zero() -> __m256 {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(v: *const f32) -> __m256 {
        unsafe { _mm256_broadcast_ss(&*v) }
    }
    #[inline(always)]
    unsafe fn load<T: Lane<C = f32>>(from: *const T) -> __m256 {
        unsafe {
            match T::DTYPE {
                DataType::Float16 => _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                DataType::Bfloat16 => {
                    let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
                }
                _ => _mm256_loadu_ps(from.cast()),
            }
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m256) {
        unsafe { _mm256_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn at_least(limit: __m256, v: __m256) -> __m256 {
        // The second operand where one is NaN or both are zero.
        unsafe { _mm256_max_ps(limit, v) }
    }
    #[inline(always)]
    unsafe fn at_most(limit: __m256, v: __m256) -> __m256 {
        unsafe { _mm256_min_ps(limit, v) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> __m256 {
        unsafe { _mm256_maskload_ps(from, first(n)) }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: __m256, n: usize) {
        unsafe { _mm256_maskstore_ps(to, first(n), v) }
    }
    #[inline(always)]
    unsafe fn call(work: impl Work<f32>) {
        unsafe { with_avx2(work) }
    }
}

impl Vector for Avx512 {
    type F = f32;
    type V = __m512;
    const N: usize = 16;
    const ROWS: usize = 12;
    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(v: *const f32) -> __m512 {
        unsafe { _mm512_set1_ps(*v) }
    }
    #[inline(always)]
    unsafe fn load<T: Lane<C = f32>>(from: *const T) -> __m512 {
        unsafe {
            match T::DTYPE {
                DataType::Float16 => _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())),
                DataType::Bfloat16 => {
                    let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
                }
                _ => _mm512_loadu_ps(from.cast()),
            }
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn at_least(limit: __m512, v: __m512) -> __m512 {
        // The second operand where one is NaN or both are zero.
        unsafe { _mm512_max_ps(limit, v) }
    }
    #[inline(always)]
    unsafe fn at_most(limit: __m512, v: __m512) -> __m512 {
        unsafe { _mm512_min_ps(limit, v) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as u16, from) }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: __m512, n: usize) {
        unsafe { _mm512_mask_storeu_ps(to, ((1u32 << n) - 1) as u16, v) }
    }
    #[inline(always)]
    unsafe fn call(work: impl Work<f32>) {
        unsafe { with_avx512(work) }
    }
}

/// The sign bits of the first `n` of eight.
#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;

impl Single for Avx2 {
    #[inline(always)]
    unsafe fn round_half(v: __m256) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm256_cvtps_ph::<NEAREST>(v)) }
    }
    #[inline(always)]
    unsafe fn store_half(to: *mut f16, v: __m256) {
        unsafe { _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<NEAREST>(v)) }
    }
    #[inline(always)]
    unsafe fn neg(v: __m256) -> __m256 {
        unsafe { _mm256_xor_ps(v, _mm256_set1_ps(-0.0)) }
    }
    #[inline(always)]
    unsafe fn sqrt(v: __m256) -> __m256 {
        unsafe { _mm256_sqrt_ps(v) }
    }
    #[inline(always)]
    unsafe fn abs(v: __m256) -> __m256 {
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), v) }
    }
    #[inline(always)]
    unsafe fn with_sign(v: __m256, sign: __m256) -> __m256 {
        unsafe { _mm256_or_ps(v, _mm256_and_ps(_mm256_set1_ps(-0.0), sign)) }
    }
    #[inline(always)]
    unsafe fn where_less(a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
    }
    #[inline(always)]
    unsafe fn power_of_two(v: __m256) -> __m256 {
        unsafe {
            let n = _mm256_add_epi32(_mm256_castps_si256(v), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
        }
    }
}

impl Single for Avx512 {
    #[inline(always)]
    unsafe fn round_half(v: __m512) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm512_cvtps_ph::<NEAREST>(v)) }
    }
    #[inline(always)]
    unsafe fn store_half(to: *mut f16, v: __m512) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<NEAREST>(v)) }
    }
    #[inline(always)]
    unsafe fn neg(v: __m512) -> __m512 {
        unsafe { _mm512_xor_ps(v, _mm512_set1_ps(-0.0)) }
    }
    #[inline(always)]
    unsafe fn sqrt(v: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(v) }
    }
    #[inline(always)]
    unsafe fn abs(v: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(v) }
    }
    #[inline(always)]
    unsafe fn with_sign(v: __m512, sign: __m512) -> __m512 {
        unsafe { _mm512_or_ps(v, _mm512_and_ps(_mm512_set1_ps(-0.0), sign)) }
    }
    #[inline(always)]
    unsafe fn where_less(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x) }
    }
    #[inline(always)]
    unsafe fn power_of_two(v: __m512) -> __m512 {
        unsafe {
            let n = _mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n))
        }
    }
}
