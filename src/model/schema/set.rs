//! Sets of types, as operator schemas have them.

use crate::model::{DataType, TypeKind, ValueType, dtype};

/// A set of types: 128 bits, four groups of 32 (tensors, sequences of tensors, optional tensors, optional sequences), in
/// each the bit of the element type's number. Bit 0 of the first three groups, which no element has, stands for maps,
/// sequences of maps and sparse tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TypeSet(u128);

const TENSOR: u32 = 0;
const SEQUENCE: u32 = 32;
const OPTIONAL: u32 = 64;
const OPTIONAL_SEQUENCE: u32 = 96;
const MAP: u32 = 0;
const SEQUENCE_OF_MAP: u32 = 32;
const SPARSE: u32 = 64;

impl TypeSet {
    pub(super) fn from_bits(bits: u128) -> Self {
        TypeSet(bits)
    }

    /// True if every type of the other set is in this one.
    #[cfg(test)]
    pub(crate) fn includes(self, other: TypeSet) -> bool {
        other.0 & !self.0 == 0
    }

    /// True if dense tensors of that element type are in the set.
    pub fn has_tensor(self, dtype: DataType) -> bool {
        self.0 >> (TENSOR + dtype.to_onnx() as u32) & 1 == 1
    }

    /// True if the type is in the set (element types of maps and sparse tensors are not looked at).
    pub fn has(self, ty: &ValueType) -> bool {
        bit(ty).is_some_and(|b| self.0 >> b & 1 == 1)
    }

    /// The one type of a set of one, without a shape.
    pub fn only(self) -> Option<ValueType> {
        if self.0.count_ones() != 1 {
            return None;
        }
        let at = self.0.trailing_zeros();
        let element = || DataType::from_onnx((at % 32) as i32).map(|d| ValueType::tensor(d, None));
        let boxed = |t| Box::new(t);
        Some(match at / 32 * 32 {
            TENSOR => element()?,
            SEQUENCE => ValueType::new(TypeKind::Sequence(boxed(element()?))),
            OPTIONAL => ValueType::new(TypeKind::Optional(boxed(element()?))),
            _ => ValueType::new(TypeKind::Optional(boxed(ValueType::new(TypeKind::Sequence(boxed(element()?)))))),
        })
    }

    /// The tensor types in the set, for messages ("fp32, fp16").
    pub fn tensor_names(self) -> String {
        let names: Vec<&str> = dtype::ALL.iter().filter(|d| self.has_tensor(**d)).map(|d| d.name()).collect();
        if names.is_empty() { "no dense tensor".into() } else { names.join(", ") }
    }
}

fn bit(ty: &ValueType) -> Option<u32> {
    let element = |t: &ValueType| t.tensor_dtype().map(|d| d.to_onnx() as u32);
    match &ty.kind {
        TypeKind::Tensor { dtype, .. } => Some(TENSOR + dtype.to_onnx() as u32),
        TypeKind::SparseTensor { .. } => Some(SPARSE),
        TypeKind::Map(..) => Some(MAP),
        TypeKind::Sequence(t) if matches!(t.kind, TypeKind::Map(..)) => Some(SEQUENCE_OF_MAP),
        TypeKind::Sequence(t) => Some(SEQUENCE + element(t)?),
        TypeKind::Optional(t) => match &t.kind {
            TypeKind::Sequence(inner) => Some(OPTIONAL_SEQUENCE + element(inner)?),
            _ => Some(OPTIONAL + element(t)?),
        },
    }
}
