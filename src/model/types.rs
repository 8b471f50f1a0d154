//! Types of values: tensors with symbolic shapes, sequences, optionals, maps.

use super::{DataType, Name};
use std::fmt;

/// One dimension's size.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DimValue {
    /// A size.
    Known(i64),
    /// A name; equal names are equal sizes within one run.
    Symbol(Name),
    /// Not given.
    Unknown,
}

/// A dimension with ONNX's optional denotation ("DATA_BATCH").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dim {
    /// The size.
    pub value: DimValue,
    /// What the dimension stands for; kept as read.
    pub denotation: Option<Name>,
}

/// The dimensions of a tensor of known rank.
pub type Shape = Vec<Dim>;

impl Dim {
    /// A dimension of that size.
    pub fn known(size: i64) -> Self {
        Dim { value: DimValue::Known(size), denotation: None }
    }

    /// A named dimension.
    pub fn symbol(name: impl Into<Name>) -> Self {
        Dim { value: DimValue::Symbol(name.into()), denotation: None }
    }

    /// A dimension of unknown size.
    pub fn unknown() -> Self {
        Dim { value: DimValue::Unknown, denotation: None }
    }

    /// The size, if it is fixed.
    pub fn size(&self) -> Option<i64> {
        match self.value {
            DimValue::Known(n) => Some(n),
            _ => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            DimValue::Known(n) => write!(f, "{n}"),
            DimValue::Symbol(s) => f.write_str(s),
            DimValue::Unknown => f.write_str("?"),
        }
    }
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TypeKind {
    /// A dense tensor; the shape is `None` when not even the rank is known.
    Tensor {
        /// Element type.
        dtype: DataType,
        /// Dimensions.
        shape: Option<Shape>,
    },
    /// A sparse tensor.
    SparseTensor {
        /// Element type.
        dtype: DataType,
        /// Dimensions.
        shape: Option<Shape>,
    },
    /// A sequence of values of one type.
    Sequence(Box<ValueType>),
    /// A map from an integer or string type.
    Map(DataType, Box<ValueType>),
    /// A value that may be absent.
    Optional(Box<ValueType>),
}

/// A value's type with ONNX's optional denotation ("IMAGE").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ValueType {
    /// The type.
    pub kind: TypeKind,
    /// What the value stands for; kept as read.
    pub denotation: Option<Name>,
}

impl ValueType {
    /// A type without denotation.
    pub fn new(kind: TypeKind) -> Self {
        ValueType { kind, denotation: None }
    }

    /// A dense tensor type.
    pub fn tensor(dtype: DataType, shape: Option<Shape>) -> Self {
        ValueType::new(TypeKind::Tensor { dtype, shape })
    }

    /// The element type of a dense tensor.
    pub fn tensor_dtype(&self) -> Option<DataType> {
        match self.kind {
            TypeKind::Tensor { dtype, .. } => Some(dtype),
            _ => None,
        }
    }

    /// The shape of a dense tensor, where its rank is known.
    pub fn tensor_shape(&self) -> Option<&Shape> {
        match &self.kind {
            TypeKind::Tensor { shape, .. } => shape.as_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            TypeKind::Tensor { dtype, shape } => write_tensor(f, "", *dtype, shape.as_ref()),
            TypeKind::SparseTensor { dtype, shape } => write_tensor(f, "sparse ", *dtype, shape.as_ref()),
            TypeKind::Sequence(t) => write!(f, "sequence of {t}"),
            TypeKind::Map(key, t) => write!(f, "map from {key} to {t}"),
            TypeKind::Optional(t) => write!(f, "optional {t}"),
        }
    }
}

fn write_tensor(f: &mut fmt::Formatter<'_>, kind: &str, dtype: DataType, shape: Option<&Shape>) -> fmt::Result {
    write!(f, "{kind}{dtype}")?;
    let Some(shape) = shape else { return f.write_str(" of any rank") };
    let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
    write!(f, " [{}]", dims.join(","))
}

/// A named value with its type, as in a graph's inputs, outputs and `value_info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueInfo {
    /// The value's name.
    pub name: Name,
    /// Its type; ONNX allows none for subgraph inputs and outputs.
    pub ty: Option<ValueType>,
    /// Kept as read.
    pub doc_string: Option<Name>,
    /// Kept as read.
    pub metadata: Vec<(Name, Name)>,
}

impl ValueInfo {
    /// A named value of that type.
    pub fn new(name: impl Into<Name>, ty: ValueType) -> Self {
        ValueInfo { name: name.into(), ty: Some(ty), doc_string: None, metadata: Vec::new() }
    }
}
