//! Scalar mathematics for FP32 and FP64. The FP32 forms have no branches, so that loops over them use vector
//! instructions; their coefficients were fitted for this project (tools/fit_math.py) and their errors are tested below.

// Fitted coefficients have the digits that the fit gave them, and one of them is 2/sqrt(pi) rounded to FP32.
#![allow(clippy::excessive_precision, clippy::approx_constant)]

use super::lane::Lane;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// A float type that operators compute in.
pub trait Float:
    Lane<C = Self>
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + std::iter::Sum
    + std::fmt::Debug
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Minus infinity.
    const LOWEST: Self;
    /// Plus infinity.
    const HIGHEST: Self;
    /// From a double, rounded.
    fn of(value: f64) -> Self;
    /// To a double.
    fn wide(self) -> f64;
    /// e to the power of it.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// log(1 + x).
    fn ln_1p(self) -> Self;
    /// e^x - 1.
    fn exp_m1(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Largest integer not above.
    fn floor(self) -> Self;
    /// Smallest integer not below.
    fn ceil(self) -> Self;
    /// Nearest integer, ties to even.
    fn round_even(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// Power.
    fn pow(self, exponent: Self) -> Self;
    /// Other functions, which only need be right.
    fn apply(self, f32_form: fn(f32) -> f32, f64_form: fn(f64) -> f64) -> Self;
    /// The form for this type.
    fn pick<P>(f32_form: fn(&mut [f32], P), f64_form: fn(&mut [f64], P)) -> fn(&mut [Self], P);
    /// True for NaN.
    fn nan(self) -> bool;

    /// The larger; NaN if one is NaN.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other || self.nan() { self } else { other }
    }

    /// The smaller; NaN if one is NaN.
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        if self < other || self.nan() { self } else { other }
    }

    /// 1 / (1 + e^-x), without overflow.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        let e = (-self.abs()).exp();
        let positive = Self::ONE / (Self::ONE + e);
        if self < Self::ZERO { e * positive } else { positive }
    }

    /// [`Float::exp`] in loops whose instructions are known.
    fn exp_by<A: Arithmetic>(self) -> Self;
    /// The same of a number that is not above zero; what is too small for a normal number may become zero.
    fn exp_below<A: Arithmetic>(self) -> Self;
    /// [`Float::tanh`] likewise.
    fn tanh_by<A: Arithmetic>(self) -> Self;
    /// [`Float::erf`] likewise.
    fn erf_by<A: Arithmetic>(self) -> Self;
    /// [`Float::sigmoid`] likewise.
    fn sigmoid_by<A: Arithmetic>(self) -> Self;
}

impl Float for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const LOWEST: f32 = f32::NEG_INFINITY;
    const HIGHEST: f32 = f32::INFINITY;
    #[inline(always)]
    fn of(value: f64) -> f32 {
        value as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self.into()
    }
    #[inline(always)]
    fn exp(self) -> f32 {
        exp_f32::<Separate>(self)
    }
    #[inline(always)]
    fn ln(self) -> f32 {
        f32::ln(self)
    }
    #[inline(always)]
    fn ln_1p(self) -> f32 {
        f32::ln_1p(self)
    }
    #[inline(always)]
    fn exp_m1(self) -> f32 {
        f32::exp_m1(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> f32 {
        f32::abs(self)
    }
    #[inline(always)]
    fn floor(self) -> f32 {
        f32::floor(self)
    }
    #[inline(always)]
    fn ceil(self) -> f32 {
        f32::ceil(self)
    }
    #[inline(always)]
    fn round_even(self) -> f32 {
        f32::round_ties_even(self)
    }
    #[inline(always)]
    fn tanh(self) -> f32 {
        tanh_f32::<Separate>(self)
    }
    #[inline(always)]
    fn erf(self) -> f32 {
        erf_f32::<Separate>(self)
    }
    #[inline(always)]
    fn sigmoid(self) -> f32 {
        sigmoid_f32::<Separate>(self)
    }
    #[inline(always)]
    fn exp_by<A: Arithmetic>(self) -> f32 {
        exp_f32::<A>(self)
    }
    #[inline(always)]
    fn exp_below<A: Arithmetic>(self) -> f32 {
        exp_below_f32::<A>(self)
    }
    #[inline(always)]
    fn tanh_by<A: Arithmetic>(self) -> f32 {
        tanh_f32::<A>(self)
    }
    #[inline(always)]
    fn erf_by<A: Arithmetic>(self) -> f32 {
        erf_f32::<A>(self)
    }
    #[inline(always)]
    fn sigmoid_by<A: Arithmetic>(self) -> f32 {
        sigmoid_f32::<A>(self)
    }
    #[inline(always)]
    fn pow(self, exponent: f32) -> f32 {
        f32::powf(self, exponent)
    }
    #[inline(always)]
    fn apply(self, f32_form: fn(f32) -> f32, _: fn(f64) -> f64) -> f32 {
        f32_form(self)
    }
    fn pick<P>(f32_form: fn(&mut [f32], P), _: fn(&mut [f64], P)) -> fn(&mut [f32], P) {
        f32_form
    }
    #[inline(always)]
    fn nan(self) -> bool {
        self.is_nan()
    }
}

impl Float for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const LOWEST: f64 = f64::NEG_INFINITY;
    const HIGHEST: f64 = f64::INFINITY;
    #[inline(always)]
    fn of(value: f64) -> f64 {
        value
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> f64 {
        f64::ln(self)
    }
    #[inline(always)]
    fn ln_1p(self) -> f64 {
        f64::ln_1p(self)
    }
    #[inline(always)]
    fn exp_m1(self) -> f64 {
        f64::exp_m1(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> f64 {
        f64::abs(self)
    }
    #[inline(always)]
    fn floor(self) -> f64 {
        f64::floor(self)
    }
    #[inline(always)]
    fn ceil(self) -> f64 {
        f64::ceil(self)
    }
    #[inline(always)]
    fn round_even(self) -> f64 {
        f64::round_ties_even(self)
    }
    #[inline(always)]
    fn tanh(self) -> f64 {
        f64::tanh(self)
    }
    #[inline(always)]
    fn erf(self) -> f64 {
        erf_f64(self)
    }
    #[inline(always)]
    fn exp_by<A: Arithmetic>(self) -> f64 {
        self.exp()
    }
    #[inline(always)]
    fn exp_below<A: Arithmetic>(self) -> f64 {
        self.exp()
    }
    #[inline(always)]
    fn tanh_by<A: Arithmetic>(self) -> f64 {
        self.tanh()
    }
    #[inline(always)]
    fn erf_by<A: Arithmetic>(self) -> f64 {
        Float::erf(self)
    }
    #[inline(always)]
    fn sigmoid_by<A: Arithmetic>(self) -> f64 {
        self.sigmoid()
    }
    #[inline(always)]
    fn pow(self, exponent: f64) -> f64 {
        f64::powf(self, exponent)
    }
    #[inline(always)]
    fn apply(self, _: fn(f32) -> f32, f64_form: fn(f64) -> f64) -> f64 {
        f64_form(self)
    }
    fn pick<P>(_: fn(&mut [f32], P), f64_form: fn(&mut [f64], P)) -> fn(&mut [f64], P) {
        f64_form
    }
    #[inline(always)]
    fn nan(self) -> bool {
        self.is_nan()
    }
}

/// How the FP32 functions add products; which one is used follows from the instructions that a loop is compiled for.
pub trait Arithmetic {
    /// `a * b + c`.
    fn madd(a: f32, b: f32, c: f32) -> f32;
}

/// In one instruction that rounds once. Only where the processor has it: elsewhere it is a slow function call.
pub struct Fused;

impl Arithmetic for Fused {
    #[inline(always)]
    fn madd(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// In two steps, on any processor.
pub struct Separate;

impl Arithmetic for Separate {
    #[inline(always)]
    fn madd(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// The polynomial of these coefficients, the constant one first.
#[inline(always)]
fn polynomial<A: Arithmetic, const N: usize>(x: f32, coefficients: &[f32; N]) -> f32 {
    let mut p = coefficients[N - 1];
    for &c in coefficients[..N - 1].iter().rev() {
        p = A::madd(p, x, c);
    }
    p
}

/// Adding and taking away 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
pub const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has few enough bits that its product with an exponent is exact.
pub const LN2_HIGH: f32 = 0.693_359_4;
pub const LN2_LOW: f32 = -2.121_944_4e-4;

/// 2^n for -126 <= n <= 127, where `shifted` is n + ROUNDER.
#[inline(always)]
fn power_of_two(shifted: f32) -> f32 {
    f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// n and p with e^x = 2^n p; n comes with ROUNDER added.
#[inline(always)]
fn exp_parts<A: Arithmetic>(x: f32) -> (f32, f32) {
    let shifted = A::madd(x, std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = A::madd(n, -LN2_LOW, A::madd(n, -LN2_HIGH, x));
    (shifted, A::madd(polynomial::<A, 6>(r, &EXP) * r, r, r) + 1.0)
}

/// e^x, within 1.1 units in the last place; subnormal results and infinities included.
#[inline(always)]
pub fn exp_f32<A: Arithmetic>(x: f32) -> f32 {
    let (shifted, p) = exp_parts::<A>(x.clamp(-104.0, 89.0));
    let n = shifted - ROUNDER;
    // 2^n may lie outside the normal range, so it is applied in two steps.
    let half = (n * 0.5 + ROUNDER) - ROUNDER;
    let y = p * power_of_two(half + ROUNDER) * power_of_two((n - half) + ROUNDER);
    if x.is_nan() { x } else { y }
}

/// e^x for x <= 0, within 1.1 units in the last place; 0 where it is below the normal numbers.
#[inline(always)]
pub fn exp_below_f32<A: Arithmetic>(x: f32) -> f32 {
    const LEAST: f32 = -87.336_54;
    // A NaN is no smaller than the least and stays what it is.
    let (shifted, p) = exp_parts::<A>(if x < LEAST { LEAST } else { x });
    let y = p * power_of_two(shifted);
    if x < LEAST { 0.0 } else { y }
}

/// 1 / (1 + e^-x), within 3e-7 of it where it is normal. The exponent is kept to where 2^n is normal, which takes fewer
/// steps than [`exp_f32`].
#[inline(always)]
pub fn sigmoid_f32<A: Arithmetic>(x: f32) -> f32 {
    let (shifted, p) = exp_parts::<A>((-x).clamp(-87.0, 87.0));
    1.0 / A::madd(p, power_of_two(shifted), 1.0)
}

/// tanh, within 2 units in the last place.
#[inline(always)]
pub fn tanh_f32<A: Arithmetic>(x: f32) -> f32 {
    let a = x.abs();
    let s = x * x;
    let small = A::madd(polynomial::<A, 5>(s, &TANH) * s, x, x);
    let (shifted, p) = exp_parts::<A>(a.min(10.0) * 2.0);
    let large = (1.0 - 2.0 / A::madd(p, power_of_two(shifted), 1.0)).copysign(x);
    let y = if a < 0.625 { small } else { large };
    // The sum of two zeros has lost the sign of x.
    if x.is_nan() { x } else { y.copysign(x) }
}

/// The error function, within 1.5e-7 (near 0.9, where the two forms meet; 2 units in the last place elsewhere).
#[inline(always)]
pub fn erf_f32<A: Arithmetic>(x: f32) -> f32 {
    let a = x.abs().min(4.0);
    let small = polynomial::<A, 7>(x * x, &ERF_SMALL) * x;
    // At most 0.2 is taken away from 1, so its own error counts little; 2^q is normal.
    let q = polynomial::<A, 8>(a, &ERF_LARGE);
    let shifted = q + ROUNDER;
    let rest = polynomial::<A, 6>(q - (shifted - ROUNDER), &EXP2) * power_of_two(shifted);
    let large = (1.0 - rest).copysign(x);
    let y = if a < 0.9 { small } else { large };
    if x.is_nan() { x } else { y }
}

/// The error function in double precision: a series near zero, a continued fraction beyond.
pub fn erf_f64(x: f64) -> f64 {
    let a = x.abs();
    if x.is_nan() || x == 0.0 {
        return x;
    }
    if a > 6.0 {
        return 1f64.copysign(x);
    }
    let square = a * a;
    if a < 2.5 {
        // erf x = 2/sqrt(pi) e^(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!
        let (mut term, mut sum, mut n) = (a, a, 1.0);
        while term > sum * 1e-17 {
            term *= 2.0 * square / (2.0 * n + 1.0);
            sum += term;
            n += 1.0;
        }
        return (std::f64::consts::FRAC_2_SQRT_PI * (-square).exp() * sum).copysign(x);
    }
    let mut fraction = a;
    for k in (1..=120).rev() {
        fraction = a + f64::from(k) / 2.0 / fraction;
    }
    (1.0 - (-square).exp() / (fraction * std::f64::consts::PI.sqrt())).copysign(x)
}

/// (e^r - 1 - r) / r^2 on [-ln 2 / 2, ln 2 / 2].
pub const EXP: [f32; 6] =
    [5.000_000_082e-1, 1.666_666_679e-1, 4.166_625_833e-2, 8.333_279_879e-3, 1.394_678_862e-3, 1.991_005_261e-4];
/// (tanh x - x) / x^3 over x^2, for |x| < 0.625.
pub const TANH: [f32; 5] =
    [-3.333_328_132e-1, 1.333_143_257e-1, -5.373_921_193e-2, 2.063_801_626e-2, -5.704_194_917e-3];
/// erf(x) / x over x^2, for |x| < 0.9.
pub const ERF_SMALL: [f32; 7] = [
    1.128_379_167,
    -3.761_263_525e-1,
    1.128_371_889e-1,
    -2.686_070_891e-2,
    5.204_331_481e-3,
    -8.180_779_866e-4,
    8.534_116_732e-5,
];
/// log2(1 - erf x) for 0.9 <= x <= 4.
pub const ERF_LARGE: [f32; 8] = [
    2.516_614_733e-4,
    -1.629_545_646,
    -9.137_225_647e-1,
    -1.562_237_535e-1,
    3.624_816_482e-2,
    -6.021_949_265e-3,
    6.279_459_003e-4,
    -3.055_488_308e-5,
];
/// 2^r on [-1/2, 1/2].
pub const EXP2: [f32; 6] =
    [1.000_000_072, 6.931_469_464e-1, 2.402_211_756e-1, 5.550_745_270e-2, 9.675_687_563e-3, 1.326_670_435e-3];

#[cfg(test)]
mod tests {
    use super::*;

    /// Points over the whole range, denser near zero.
    fn points(limit: f64) -> impl Iterator<Item = f32> {
        (-60_000..=60_000).map(move |i| {
            let t = f64::from(i) / 60_000.0;
            (limit * t * t * t) as f32
        })
    }

    /// Distance in units in the last place of the right value (of the smallest normal number, below it).
    fn ulps(got: f32, want: f64) -> f64 {
        let unit = (want.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() - 23.0).exp2();
        (f64::from(got) - want).abs() / unit
    }

    #[test]
    fn exp_is_accurate() {
        exp_is_accurate_by::<Separate>();
        exp_is_accurate_by::<Fused>();
    }

    fn exp_is_accurate_by<A: Arithmetic>() {
        for x in points(100.0).filter(|x| *x < 88.7) {
            let want = f64::from(x).exp();
            assert!(ulps(exp_f32::<A>(x), want) < 1.3, "exp({x}) = {} want {want}", exp_f32::<A>(x));
        }
        for x in points(87.0).filter(|x| *x <= 0.0) {
            let want = f64::from(x).exp();
            assert!(ulps(exp_below_f32::<A>(x), want) < 1.3, "exp({x}) = {} want {want}", exp_below_f32::<A>(x));
        }
        assert_eq!(exp_below_f32::<A>(-87.4), 0.0);
        assert_eq!(exp_below_f32::<A>(f32::NEG_INFINITY), 0.0);
        assert!(exp_below_f32::<A>(f32::NAN).is_nan());
        assert_eq!(exp_f32::<A>(0.0), 1.0);
        assert_eq!(exp_f32::<A>(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp_f32::<A>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_f32::<A>(88.8), f32::INFINITY);
        assert!(exp_f32::<A>(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_accurate() {
        tanh_is_accurate_by::<Separate>();
        tanh_is_accurate_by::<Fused>();
    }

    fn tanh_is_accurate_by<A: Arithmetic>() {
        for x in points(12.0) {
            let want = f64::from(x).tanh();
            assert!(ulps(tanh_f32::<A>(x), want) < 2.5, "tanh({x}) = {} want {want}", tanh_f32::<A>(x));
        }
        assert_eq!(tanh_f32::<A>(f32::NEG_INFINITY), -1.0);
        assert!(tanh_f32::<A>(f32::NAN).is_nan());
        assert!(tanh_f32::<A>(-0.0).is_sign_negative());
    }

    #[test]
    fn erf_is_accurate() {
        erf_is_accurate_by::<Separate>();
        erf_is_accurate_by::<Fused>();
    }

    fn erf_is_accurate_by<A: Arithmetic>() {
        for x in points(5.0) {
            let want = erf_f64(x.into());
            assert!((f64::from(erf_f32::<A>(x)) - want).abs() < 1.5e-7, "erf({x}) = {} want {want}", erf_f32::<A>(x));
            assert!(ulps(erf_f32::<A>(x), want) < 4.0, "erf({x}) = {} want {want}", erf_f32::<A>(x));
        }
        // Values of the C library.
        for (x, want) in
            [(0.5, 0.5204998778130465), (1.0, 0.8427007929497149), (2.4, 0.9993114861033549), (3.0, 0.9999779095030014)]
        {
            assert!((erf_f64(x) - want).abs() < 2e-16 * 4.0, "erf({x}) = {}", erf_f64(x));
        }
        assert_eq!(erf_f32::<A>(f32::INFINITY), 1.0);
        assert!(erf_f32::<A>(f32::NAN).is_nan());
    }

    #[test]
    fn sigmoid_does_not_overflow() {
        sigmoid_does_not_overflow_by::<Separate>();
        sigmoid_does_not_overflow_by::<Fused>();
    }

    fn sigmoid_does_not_overflow_by<A: Arithmetic>() {
        for x in points(100.0) {
            let want = 1.0 / (1.0 + (-f64::from(x)).exp());
            let got = sigmoid_f32::<A>(x);
            assert!((f64::from(got) - want).abs() <= 3e-7 * want.max(1e-30), "sigmoid({x}) = {got} want {want}");
        }
    }
}
