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
use half::f16;

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
    /// a / b.
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `limit` where it is above v, else v; NaN stays.
    unsafe fn at_least(limit: Self::V, v: Self::V) -> Self::V;
    /// `limit` where it is below v, else v; NaN stays.
    unsafe fn at_most(limit: Self::V, v: Self::V) -> Self::V;
    /// The first `n` elements, zeros behind.
    unsafe fn load_first(from: *const Self::F, n: usize) -> Self::V;
    /// The first `n` elements to memory.
    unsafe fn store_first(to: *mut Self::F, v: Self::V, n: usize);
    /// Work with these instructions, as a call of its own: what is large is compiled once.
    unsafe fn call(work: impl Work<Self::F>);
}

/// What FP32 vectors can do beside.
pub trait Single: Vector<F = f32> {
    /// Rounds to FP16, to nearest even, and widens again.
    unsafe fn round_half(v: Self::V) -> Self::V;
    /// Rounds to FP16, to nearest even, and stores.
    unsafe fn store_half(to: *mut f16, v: Self::V);
    /// The other sign.
    unsafe fn neg(v: Self::V) -> Self::V;
    /// Square root.
    unsafe fn sqrt(v: Self::V) -> Self::V;
    /// Without its sign.
    unsafe fn abs(v: Self::V) -> Self::V;
    /// `v`, which has no sign, with the sign of `sign`.
    unsafe fn with_sign(v: Self::V, sign: Self::V) -> Self::V;
    /// `x` where a is below b, else `y`.
    unsafe fn where_less(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// 2^n, where n stands in the low bits of the number ([`super::math`] puts it there).
    unsafe fn power_of_two(v: Self::V) -> Self::V;
}

/// Work on FP32 vectors.
pub trait SingleWork {
    /// Does it.
    fn run<X: Single>(self);
}

/// Does the work with the widest FP32 vectors of this processor.
#[inline]
pub fn dispatch_single(work: impl SingleWork) {
    #[cfg(target_arch = "x86_64")]
    {
        if simd::has_avx512() && allowed::<Avx512>() {
            // SAFETY: the features have just been checked.
            return unsafe { single_with_avx512(work) };
        }
        if simd::has_avx2() && allowed::<Avx2>() {
            // SAFETY: the features have just been checked.
            return unsafe { single_with_avx2(work) };
        }
        if allowed::<Sse>() {
            return work.run::<Sse>();
        }
    }
    work.run::<Plain<f32>>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
fn single_with_avx512(work: impl SingleWork) {
    work.run::<Avx512>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn single_with_avx2(work: impl SingleWork) {
    work.run::<Avx2>();
}

/// Columns of a panel of weights: two vectors.
pub const fn panel<X: Vector>() -> usize {
    2 * X::N
}

/// Elements from one that is asked for to the one that is written, where a loop writes halves in order: lines that are in no
/// cache yet come meanwhile.
pub const AHEAD: usize = 512;

/// Asks for memory that will be written, by a prefetch for reading, which every processor has: what is not in a cache comes while values are computed, not one line after the
/// other when they are stored.
#[inline(always)]
pub fn fetch<F>(to: *mut F) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that reads nothing.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(to.cast_const().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = to;
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
            if allowed::<Sse>() {
                return work.run::<Sse>();
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
    /// The widest vectors that a test of this thread wants, in elements; the portable form for less than four.
    pub static WIDEST: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
}

/// True unless a test wants narrower vectors, so that a library for these processors has no portable form for FP32.
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
    tile_size::<F>().1
}

/// Rows of a tile with this processor's vectors.
pub fn tile_rows<F: Dispatch>() -> usize {
    tile_size::<F>().0
}

fn tile_size<F: Dispatch>() -> (usize, usize) {
    struct Ask<'a>(&'a mut (usize, usize));
    impl<F> Work<F> for Ask<'_> {
        #[inline(always)]
        fn run<X: Vector<F = F>>(self) {
            *self.0 = (X::ROWS, panel::<X>());
        }
    }
    let mut size = (0, 0);
    F::dispatch(Ask(&mut size));
    size
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
#[inline(never)]
fn with_avx512(work: impl Work<f32>) {
    work.run::<Avx512>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
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
    #[inline(always)]
    unsafe fn div(a: [F; 4], b: [F; 4]) -> [F; 4] {
        std::array::from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn at_least(limit: [F; 4], v: [F; 4]) -> [F; 4] {
        std::array::from_fn(|i| if limit[i] > v[i] { limit[i] } else { v[i] })
    }
    #[inline(always)]
    unsafe fn at_most(limit: [F; 4], v: [F; 4]) -> [F; 4] {
        std::array::from_fn(|i| if limit[i] < v[i] { limit[i] } else { v[i] })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const F, n: usize) -> [F; 4] {
        // SAFETY: the caller's promise.
        std::array::from_fn(|i| if i < n { unsafe { *from.add(i) } } else { F::ZERO })
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut F, v: [F; 4], n: usize) {
        // SAFETY: the caller's promise.
        v.iter().take(n).enumerate().for_each(|(i, &v)| unsafe { *to.add(i) = v });
    }
    #[inline(never)]
    unsafe fn call(work: impl Work<F>) {
        work.run::<Self>();
    }
}

impl Single for Plain<f32> {
    #[inline(always)]
    unsafe fn round_half(v: [f32; 4]) -> [f32; 4] {
        v.map(|v| f16::from_f32(v).to_f32())
    }
    #[inline(always)]
    unsafe fn store_half(to: *mut f16, v: [f32; 4]) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f16; 4]>().write_unaligned(v.map(f16::from_f32)) }
    }
    #[inline(always)]
    unsafe fn neg(v: [f32; 4]) -> [f32; 4] {
        v.map(|v| -v)
    }
    #[inline(always)]
    unsafe fn sqrt(v: [f32; 4]) -> [f32; 4] {
        v.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn abs(v: [f32; 4]) -> [f32; 4] {
        v.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn with_sign(v: [f32; 4], sign: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| v[i].copysign(sign[i]))
    }
    #[inline(always)]
    unsafe fn where_less(a: [f32; 4], b: [f32; 4], x: [f32; 4], y: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    unsafe fn power_of_two(v: [f32; 4]) -> [f32; 4] {
        v.map(|v| f32::from_bits(v.to_bits().wrapping_add(127) << 23))
    }
}

#[cfg(target_arch = "x86_64")]
mod sse;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub use sse::Sse;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};
