//! Data types, with ONNX's numbers (`TensorProto.DataType`).

use std::fmt;

/// A tensor's element type. The numbers are ONNX's and part of the C ABI (`MEZZO_DTYPE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i32)]
#[allow(missing_docs)] // each is what its name says
pub enum DataType {
    Float32 = 1,
    Uint8 = 2,
    Int8 = 3,
    Uint16 = 4,
    Int16 = 5,
    Int32 = 6,
    Int64 = 7,
    String = 8,
    Bool = 9,
    Float16 = 10,
    Float64 = 11,
    Uint32 = 12,
    Uint64 = 13,
    Complex64 = 14,
    Complex128 = 15,
    Bfloat16 = 16,
    Float8E4M3Fn = 17,
    Float8E4M3Fnuz = 18,
    Float8E5M2 = 19,
    Float8E5M2Fnuz = 20,
    Uint4 = 21,
    Int4 = 22,
    Float4E2M1 = 23,
    Float8E8M0 = 24,
    Uint2 = 25,
    Int2 = 26,
    Float6E2M3 = 27,
    Float6E3M2 = 28,
}

use DataType::*;

/// Every data type, in the order of its number.
pub const ALL: [DataType; 28] = [
    Float32,
    Uint8,
    Int8,
    Uint16,
    Int16,
    Int32,
    Int64,
    String,
    Bool,
    Float16,
    Float64,
    Uint32,
    Uint64,
    Complex64,
    Complex128,
    Bfloat16,
    Float8E4M3Fn,
    Float8E4M3Fnuz,
    Float8E5M2,
    Float8E5M2Fnuz,
    Uint4,
    Int4,
    Float4E2M1,
    Float8E8M0,
    Uint2,
    Int2,
    Float6E2M3,
    Float6E3M2,
];

impl DataType {
    /// The type of that ONNX number; `None` for 0 (undefined) and numbers not yet known.
    pub fn from_onnx(code: i32) -> Option<Self> {
        ALL.get(usize::try_from(code).ok()?.checked_sub(1)?).copied()
    }

    /// ONNX's number.
    pub fn to_onnx(self) -> i32 {
        self as i32
    }

    /// Bits of one element in `raw_data`; 0 for strings, which have no fixed size.
    pub fn bits(self) -> usize {
        match self {
            String => 0,
            Uint2 | Int2 => 2,
            Uint4 | Int4 | Float4E2M1 => 4,
            Float6E2M3 | Float6E3M2 => 6,
            Uint8 | Int8 | Bool | Float8E4M3Fn | Float8E4M3Fnuz | Float8E5M2 | Float8E5M2Fnuz | Float8E8M0 => 8,
            Uint16 | Int16 | Float16 | Bfloat16 => 16,
            Float32 | Int32 | Uint32 => 32,
            Float64 | Int64 | Uint64 | Complex64 => 64,
            Complex128 => 128,
        }
    }

    /// Bytes of `count` elements packed as ONNX's `raw_data` packs them (sub-byte types share bytes; the last byte is
    /// padded). `None` for strings and on overflow.
    pub fn byte_size(self, count: usize) -> Option<usize> {
        match self.bits() {
            0 => None,
            bits => Some(count.checked_mul(bits)?.div_ceil(8)),
        }
    }

    /// Bytes of one element, for types of whole bytes.
    pub fn element_size(self) -> Option<usize> {
        match self.bits() {
            0 | 2 | 4 | 6 => None,
            bits => Some(bits / 8),
        }
    }

    /// Float16, bfloat16, float32 or float64.
    pub fn is_float(self) -> bool {
        matches!(self, Float16 | Bfloat16 | Float32 | Float64)
    }

    /// Float16 or bfloat16.
    pub fn is_half(self) -> bool {
        matches!(self, Float16 | Bfloat16)
    }

    /// A signed or unsigned integer of 8 bits or more.
    pub fn is_integer(self) -> bool {
        matches!(self, Uint8 | Int8 | Uint16 | Int16 | Int32 | Int64 | Uint32 | Uint64)
    }

    /// The short lower-case name used in messages, reports and on the command line ("fp16", "fp32", "int64").
    pub fn name(self) -> &'static str {
        match self {
            Float32 => "fp32",
            Uint8 => "uint8",
            Int8 => "int8",
            Uint16 => "uint16",
            Int16 => "int16",
            Int32 => "int32",
            Int64 => "int64",
            String => "string",
            Bool => "bool",
            Float16 => "fp16",
            Float64 => "fp64",
            Uint32 => "uint32",
            Uint64 => "uint64",
            Complex64 => "complex64",
            Complex128 => "complex128",
            Bfloat16 => "bf16",
            Float8E4M3Fn => "fp8e4m3fn",
            Float8E4M3Fnuz => "fp8e4m3fnuz",
            Float8E5M2 => "fp8e5m2",
            Float8E5M2Fnuz => "fp8e5m2fnuz",
            Uint4 => "uint4",
            Int4 => "int4",
            Float4E2M1 => "fp4e2m1",
            Float8E8M0 => "fp8e8m0",
            Uint2 => "uint2",
            Int2 => "int2",
            Float6E2M3 => "fp6e2m3",
            Float6E3M2 => "fp6e3m2",
        }
    }

    /// The inverse of [`DataType::name`]; `float`, `float16`, `float32`, `double` and `half` are understood too.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "float" | "float32" => Some(Float32),
            "half" | "float16" => Some(Float16),
            "bfloat16" => Some(Bfloat16),
            "double" | "float64" => Some(Float64),
            _ => ALL.iter().copied().find(|t| t.name() == name),
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
