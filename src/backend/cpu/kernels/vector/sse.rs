//! Vectors that every 64-bit x86 processor has. They do what [`super::Plain`] does, bit for bit; of its arrays the compiler
//! makes one number at a time and four times the code.

use super::{Lane, Single, Vector, Work};
use crate::model::DataType;
use half::f16;
use std::arch::x86_64::*;

/// Four numbers in sixteen registers.
#[derive(Clone, Copy)]
pub struct Sse;

impl Sse {
    #[inline(always)]
    unsafe fn array(v: __m128) -> [f32; 4] {
        let mut to = [0.0; 4];
        unsafe { _mm_storeu_ps(to.as_mut_ptr(), v) };
        to
    }
}

// SAFETY of all methods: the instructions are there always; the caller promises the elements.
impl Vector for Sse {
    type F = f32;
    type V = __m128;
    const N: usize = 4;
    const ROWS: usize = 4;
    #[inline(always)]
    unsafe fn zero() -> __m128 {
        unsafe { _mm_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(v: *const f32) -> __m128 {
        unsafe { _mm_set1_ps(*v) }
    }
    #[inline(always)]
    unsafe fn load<T: Lane<C = f32>>(from: *const T) -> __m128 {
        unsafe {
            match T::DTYPE {
                DataType::Float32 => _mm_loadu_ps(from.cast()),
                _ => _mm_loadu_ps([0, 1, 2, 3].map(|i| from.add(i).read_unaligned().get()).as_ptr()),
            }
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m128) {
        unsafe { _mm_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m128, b: __m128, c: __m128) -> __m128 {
        unsafe { _mm_add_ps(_mm_mul_ps(a, b), c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m128, b: __m128) -> __m128 {
        unsafe { _mm_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m128, b: __m128) -> __m128 {
        unsafe { _mm_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m128, b: __m128) -> __m128 {
        unsafe { _mm_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m128, b: __m128) -> __m128 {
        unsafe { _mm_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn at_least(limit: __m128, v: __m128) -> __m128 {
        // The second operand where one is NaN or both are zero.
        unsafe { _mm_max_ps(limit, v) }
    }
    #[inline(always)]
    unsafe fn at_most(limit: __m128, v: __m128) -> __m128 {
        unsafe { _mm_min_ps(limit, v) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> __m128 {
        unsafe { _mm_loadu_ps([0, 1, 2, 3].map(|i| if i < n { *from.add(i) } else { 0.0 }).as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: __m128, n: usize) {
        unsafe { Sse::array(v).iter().take(n).enumerate().for_each(|(i, &v)| *to.add(i) = v) }
    }
    #[inline(never)]
    unsafe fn call(work: impl Work<f32>) {
        work.run::<Self>();
    }
}

impl Single for Sse {
    #[inline(always)]
    unsafe fn round_half(v: __m128) -> __m128 {
        unsafe { _mm_loadu_ps(Sse::array(v).map(|v| f16::from_f32(v).to_f32()).as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store_half(to: *mut f16, v: __m128) {
        unsafe { to.cast::<[f16; 4]>().write_unaligned(Sse::array(v).map(f16::from_f32)) }
    }
    #[inline(always)]
    unsafe fn neg(v: __m128) -> __m128 {
        unsafe { _mm_xor_ps(v, _mm_set1_ps(-0.0)) }
    }
    #[inline(always)]
    unsafe fn sqrt(v: __m128) -> __m128 {
        unsafe { _mm_sqrt_ps(v) }
    }
    #[inline(always)]
    unsafe fn abs(v: __m128) -> __m128 {
        unsafe { _mm_andnot_ps(_mm_set1_ps(-0.0), v) }
    }
    #[inline(always)]
    unsafe fn with_sign(v: __m128, sign: __m128) -> __m128 {
        unsafe { _mm_or_ps(v, _mm_and_ps(_mm_set1_ps(-0.0), sign)) }
    }
    #[inline(always)]
    unsafe fn where_less(a: __m128, b: __m128, x: __m128, y: __m128) -> __m128 {
        unsafe {
            let less = _mm_cmplt_ps(a, b);
            _mm_or_ps(_mm_and_ps(less, x), _mm_andnot_ps(less, y))
        }
    }
    #[inline(always)]
    unsafe fn power_of_two(v: __m128) -> __m128 {
        unsafe { _mm_castsi128_ps(_mm_slli_epi32::<23>(_mm_add_epi32(_mm_castps_si128(v), _mm_set1_epi32(127)))) }
    }
}
