//! Element types: how each is read for computing and rounded when it is stored.

use super::convert;
use super::simd::vectorize;
use super::vector::Dispatch;
use crate::model::DataType;
use bytemuck::{AnyBitPattern, NoUninit};
use half::{bf16, f16};

/// An element type in memory. Halves compute in FP32; every other type computes as itself.
pub trait Lane: AnyBitPattern + NoUninit + Default + PartialEq + Send + Sync + 'static {
    /// The type computed in.
    type C: Copy + Default + Send + Sync + 'static;
    /// The ONNX type.
    const DTYPE: DataType;
    /// The value, widened.
    fn get(self) -> Self::C;
    /// The value, rounded to nearest even.
    fn put(value: Self::C) -> Self;
    /// The slice itself where nothing needs widening.
    fn direct(values: &[Self]) -> Option<&[Self::C]>;
    /// The slice itself where nothing needs rounding.
    fn direct_mut(values: &mut [Self]) -> Option<&mut [Self::C]>;
    /// Widens; both slices are of the same length.
    fn widen(from: &[Self], to: &mut [Self::C]);
    /// Rounds; both slices are of the same length.
    fn narrow(from: &[Self::C], to: &mut [Self]);
    /// Rounds to this type, in place.
    fn round(values: &mut [Self::C]);
}

macro_rules! plain_lane {
    ($($t:ty => $d:ident),+) => {$(
        impl Lane for $t {
            type C = $t;
            const DTYPE: DataType = DataType::$d;
            #[inline(always)]
            fn get(self) -> $t { self }
            #[inline(always)]
            fn put(value: $t) -> $t { value }
            #[inline(always)]
            fn direct(values: &[$t]) -> Option<&[$t]> { Some(values) }
            #[inline(always)]
            fn direct_mut(values: &mut [$t]) -> Option<&mut [$t]> { Some(values) }
            #[inline]
            fn widen(from: &[$t], to: &mut [$t]) { to.copy_from_slice(from) }
            #[inline]
            fn narrow(from: &[$t], to: &mut [$t]) { to.copy_from_slice(from) }
            #[inline(always)]
            fn round(_: &mut [$t]) {}
        }
    )+};
}

plain_lane!(f32 => Float32, f64 => Float64, i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
            u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64);

macro_rules! half_lane {
    ($t:ty => $d:ident, $widen:expr, $narrow:expr, $round:expr) => {
        impl Lane for $t {
            type C = f32;
            const DTYPE: DataType = DataType::$d;
            #[inline]
            fn get(self) -> f32 {
                self.to_f32()
            }
            #[inline]
            fn put(value: f32) -> $t {
                <$t>::from_f32(value)
            }
            #[inline(always)]
            fn direct(_: &[$t]) -> Option<&[f32]> {
                None
            }
            #[inline(always)]
            fn direct_mut(_: &mut [$t]) -> Option<&mut [f32]> {
                None
            }
            #[inline]
            fn widen(from: &[$t], to: &mut [f32]) {
                $widen(from, to)
            }
            #[inline]
            fn narrow(from: &[f32], to: &mut [$t]) {
                $narrow(from, to)
            }
            #[inline]
            fn round(values: &mut [f32]) {
                $round(values)
            }
        }
    };
}

half_lane!(f16 => Float16, convert::widen, convert::narrow, convert::round);
half_lane!(bf16 => Bfloat16, widen_bf16, narrow_bf16, round_bf16);

fn widen_bf16(from: &[bf16], to: &mut [f32]) {
    vectorize(|| to.iter_mut().zip(from).for_each(|(o, v)| *o = f32::from_bits(u32::from(v.to_bits()) << 16)));
}

fn narrow_bf16(from: &[f32], to: &mut [bf16]) {
    vectorize(|| to.iter_mut().zip(from).for_each(|(o, v)| *o = bf16::from_f32(*v)));
}

fn round_bf16(values: &mut [f32]) {
    vectorize(|| values.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32()));
}

/// A float in memory whose computing type is a float.
pub trait FloatLane: Lane<C: Dispatch> {}
impl<T: Lane<C: Dispatch>> FloatLane for T {}

/// An integer type.
pub trait Integer: Lane<C = Self> + Ord {
    /// The value, whatever its type.
    fn wide(self) -> i128;
    /// The value modulo the type's range.
    fn wrap(value: i128) -> Self;
    /// The value, or the nearest that the type has.
    fn saturate(value: i128) -> Self;
}

macro_rules! integer {
    ($($t:ty),+) => {$(
        impl Integer for $t {
            #[inline(always)]
            fn wide(self) -> i128 { self.into() }
            #[inline(always)]
            fn wrap(value: i128) -> $t { value as $t }
            #[inline(always)]
            fn saturate(value: i128) -> $t { value.clamp(<$t>::MIN.into(), <$t>::MAX.into()) as $t }
        }
    )+};
}

integer!(i8, i16, i32, i64, u8, u16, u32, u64);

/// `with_float!(dtype, T => body, else other => body)`: `T` is f32, f64, f16 or bf16.
#[macro_export]
#[doc(hidden)]
macro_rules! with_float {
    ($dtype:expr, $T:ident => $body:expr, else $other:ident => $rest:expr) => {
        match $dtype {
            $crate::model::DataType::Float32 => {
                type $T = f32;
                $body
            }
            $crate::model::DataType::Float64 => {
                type $T = f64;
                $body
            }
            $crate::model::DataType::Float16 => {
                type $T = half::f16;
                $body
            }
            $crate::model::DataType::Bfloat16 => {
                type $T = half::bf16;
                $body
            }
            $other => $rest,
        }
    };
}

/// The same for the integer types.
#[macro_export]
#[doc(hidden)]
macro_rules! with_integer {
    ($dtype:expr, $T:ident => $body:expr, else $other:ident => $rest:expr) => {
        match $dtype {
            $crate::model::DataType::Int64 => {
                type $T = i64;
                $body
            }
            $crate::model::DataType::Int32 => {
                type $T = i32;
                $body
            }
            $crate::model::DataType::Int16 => {
                type $T = i16;
                $body
            }
            $crate::model::DataType::Int8 => {
                type $T = i8;
                $body
            }
            $crate::model::DataType::Uint64 => {
                type $T = u64;
                $body
            }
            $crate::model::DataType::Uint32 => {
                type $T = u32;
                $body
            }
            $crate::model::DataType::Uint16 => {
                type $T = u16;
                $body
            }
            $crate::model::DataType::Uint8 => {
                type $T = u8;
                $body
            }
            $other => $rest,
        }
    };
}

/// The same for the integers that are not narrow ([`is_narrow`]).
#[macro_export]
#[doc(hidden)]
macro_rules! with_wide_integer {
    ($dtype:expr, $T:ident => $body:expr, else $other:ident => $rest:expr) => {
        match $dtype {
            $crate::model::DataType::Int64 => {
                type $T = i64;
                $body
            }
            $crate::model::DataType::Int32 => {
                type $T = i32;
                $body
            }
            $crate::model::DataType::Uint64 => {
                type $T = u64;
                $body
            }
            $other => $rest,
        }
    };
}

/// The same for every number.
#[macro_export]
#[doc(hidden)]
macro_rules! with_number {
    ($dtype:expr, $T:ident => $body:expr, else $other:ident => $rest:expr) => {
        $crate::with_float!($dtype, $T => $body, else number => $crate::with_integer!(number, $T => $body, else $other => $rest))
    };
}

/// True for the integers that models compute least with. Operators may take them through [`DataType::Int64`], which holds
/// them all and whose low bits are what they would have: that is one loop for five types.
pub fn is_narrow(dtype: DataType) -> bool {
    use DataType::{Int8, Int16, Uint8, Uint16, Uint32};
    matches!(dtype, Int8 | Int16 | Uint8 | Uint16 | Uint32)
}

/// An error for an element type that the operator does not take.
pub fn refuse(what: &str, dtype: DataType) -> crate::Error {
    crate::err!(Unsupported, "{what} of element type {dtype} is not supported")
}
