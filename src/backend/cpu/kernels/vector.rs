//! Vectors of floats, as wide as the processor has them: kernels are written once over [`Vector`] and compiled for each set
//! of instructions; [`Dispatch`] chooses when they are called. Every form computes every element in the same order. The
//! portable one rounds products before it adds them, the others do not.
#![allow(unsafe_code)] // vector instructions, chosen by what the processor has

use super::lane::Lane;
use super::math::Float;
#[cfg(target_arch = "x86_64")]
use super::simd;
#[cfg(target_arch = "x86_64")]
use crate::model::DataType;

/// A set of vector instructions for one float type.
///
/// # Safety
/// All methods: the processor has the instructions. Pointers are valid for [`Vector::N`] elements.
pub trait Vector: Copy {
    /// What is computed in.
    type F: Float;
    /// Some of them.
    type V: Copy;
    /// How many.
    const N: usize;
    /// Rows of a tile of two vectors that fill the registers.
    const ROWS: usize;
    /// Zeros.
    unsafe fn zero() -> Self::V;
    /// One number everywhere.
    unsafe fn splat(v: *const Self::F) -> Self::V;
    /// Elements of a type that computes in `F`, widened.
    unsafe fn load<T: Lane<C = Self::F>>(from: *const T) -> Self::V;
    /// To memory.
    unsafe fn store(to: *mut Self::F, v: Self::V);
    /// a * b + c.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a + b.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a - b.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// a * b.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
}

/// Columns of a panel of weights: two vectors.
pub const fn panel<X: Vector>() -> usize {
    2 * X::N
}

/// Work that is compiled for each set of instructions. `run` is marked `#[inline(always)]`, and so is what it calls.
pub trait Work<F> {
    /// Does it.
    fn run<X: Vector<F = F>>(self);
}

/// Types that kernels over vectors compute in.
pub trait Dispatch: Float {
    /// Does the work with the widest vectors of this processor.
    fn dispatch(work: impl Work<Self>);
}

impl Dispatch for f32 {
    fn dispatch(work: impl Work<f32>) {
        #[cfg(target_arch = "x86_64")]
        {
            if simd::has_avx512() && allowed::<Avx512>() {
                // SAFETY: the features have just been checked.
                return unsafe { with_avx512(work) };
            }
            if simd::has_avx2() && allowed::<Avx2>() {
                // SAFETY: the features have just been checked.
                return unsafe { with_avx2(work) };
            }
        }
        work.run::<Plain<f32>>();
    }
}

impl Dispatch for f64 {
    fn dispatch(work: impl Work<f64>) {
        work.run::<Plain<f64>>();
    }
}

#[cfg(test)]
thread_local! {
    /// The widest vectors that a test of this thread wants, in elements.
    pub static WIDEST: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
}

/// True unless a test wants narrower vectors.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn allowed<X: Vector>() -> bool {
    #[cfg(test)]
    return X::N <= WIDEST.get();
    #[cfg(not(test))]
    true
}

/// Columns of a panel with this processor's vectors.
pub fn panel_width<F: Dispatch>() -> usize {
    struct Ask<'a>(&'a mut usize);
    impl<F> Work<F> for Ask<'_> {
        #[inline(always)]
        fn run<X: Vector<F = F>>(self) {
            *self.0 = panel::<X>();
        }
    }
    let mut width = 0;
    F::dispatch(Ask(&mut width));
    width
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
fn with_avx512(work: impl Work<f32>) {
    work.run::<Avx512>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn with_avx2(work: impl Work<f32>) {
    work.run::<Avx2>();
}

/// Any processor: four numbers, of which the compiler makes what vectors there always are.
#[derive(Clone, Copy)]
pub struct Plain<F>(std::marker::PhantomData<F>);

impl<F: Float> Vector for Plain<F> {
    type F = F;
    type V = [F; 4];
    const N: usize = 4;
    const ROWS: usize = 4;
    #[inline(always)]
    unsafe fn zero() -> [F; 4] {
        [F::ZERO; 4]
    }
    #[inline(always)]
    unsafe fn splat(v: *const F) -> [F; 4] {
        // SAFETY: the caller's promise.
        [unsafe { *v }; 4]
    }
    #[inline(always)]
    unsafe fn load<T: Lane<C = F>>(from: *const T) -> [F; 4] {
        // SAFETY: the caller's promise.
        std::array::from_fn(|i| unsafe { from.add(i).read_unaligned() }.get())
    }
    #[inline(always)]
    unsafe fn store(to: *mut F, v: [F; 4]) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[F; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma(a: [F; 4], b: [F; 4], c: [F; 4]) -> [F; 4] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn add(a: [F; 4], b: [F; 4]) -> [F; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: [F; 4], b: [F; 4]) -> [F; 4] {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [F; 4], b: [F; 4]) -> [F; 4] {
        std::array::from_fn(|i| a[i] * b[i])
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{DataType, Lane, Vector};
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
    }
}
