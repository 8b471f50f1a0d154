//! The ends of element types' ranges.

use crate::backend::cpu::kernels::lane::Lane;
use crate::model::DataType;

/// The smallest value, as an integer or an infinity.
#[derive(Debug, Clone, Copy)]
pub enum Lowest {
    /// Of an integer type.
    Integer(i64),
    /// Minus infinity.
    Infinite,
}

/// The smallest value of a type.
pub fn lowest(dtype: DataType) -> Lowest {
    match dtype {
        DataType::Int8 => Lowest::Integer(i8::MIN.into()),
        DataType::Int16 => Lowest::Integer(i16::MIN.into()),
        DataType::Int32 => Lowest::Integer(i32::MIN.into()),
        DataType::Int64 => Lowest::Integer(i64::MIN),
        t if t.is_float() => Lowest::Infinite,
        _ => Lowest::Integer(0),
    }
}

/// That value as an element.
pub fn cast_lowest<T: Lane>(lowest: Lowest) -> T {
    let bytes: [u8; 8] = match (lowest, T::DTYPE) {
        (Lowest::Integer(v), _) => v.to_le_bytes(),
        (Lowest::Infinite, DataType::Float64) => f64::NEG_INFINITY.to_le_bytes(),
        (Lowest::Infinite, DataType::Float32) => pad(&f32::NEG_INFINITY.to_le_bytes()),
        (Lowest::Infinite, DataType::Bfloat16) => pad(&half::bf16::NEG_INFINITY.to_le_bytes()),
        (Lowest::Infinite, _) => pad(&half::f16::NEG_INFINITY.to_le_bytes()),
    };
    bytemuck::pod_read_unaligned(&bytes[..size_of::<T>()])
}

fn pad(bytes: &[u8]) -> [u8; 8] {
    let mut all = [0; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    all
}
