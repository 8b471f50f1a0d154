//! What a plan's inputs and outputs are, beside what the model says they are.

use super::super::{IoDim, IoInfo};
use crate::model::{DataType, ValueInfo};
use crate::sys::tensorrt::TensorInfo;
use crate::{Result, bail, err};

/// The data type that TensorRT calls so.
pub fn data_type(name: &str) -> Option<DataType> {
    Some(match name {
        "FLOAT" => DataType::Float32,
        "HALF" => DataType::Float16,
        "BF16" => DataType::Bfloat16,
        "INT8" => DataType::Int8,
        "INT32" => DataType::Int32,
        "INT64" => DataType::Int64,
        "BOOL" => DataType::Bool,
        "UINT8" => DataType::Uint8,
        "FP8" => DataType::Float8E4M3Fn,
        "INT4" => DataType::Int4,
        "FP4" => DataType::Float4E2M1,
        "E8M0" => DataType::Float8E8M0,
        _ => return None,
    })
}

/// Describes the model's inputs or outputs as the network has them: in the model's order, with the types that the
/// engine's buffers hold.
pub fn describe<'m>(
    kind: &str,
    declared: impl Iterator<Item = &'m ValueInfo>,
    found: &[TensorInfo],
) -> Result<Vec<IoInfo>> {
    declared.map(|value| one(kind, value, found)).collect()
}

fn one(kind: &str, declared: &ValueInfo, found: &[TensorInfo]) -> Result<IoInfo> {
    let mut io = IoInfo::of(declared);
    let tensor = found
        .iter()
        .find(|t| t.name == io.name)
        .ok_or_else(|| err!(Internal, "TensorRT's network has no {kind} '{}', which the model has", io.name))?;
    let Some(dtype) = data_type(&tensor.dtype) else {
        bail!(Unsupported, "{kind} '{}' is of TensorRT's type {}, which Mezzo does not know", io.name, tensor.dtype);
    };
    if io.shape.is_none() {
        let dim = |n: &i64| if *n < 0 { IoDim::Any } else { IoDim::Size(*n) };
        io.shape = tensor.shape.as_ref().map(|shape| shape.iter().map(dim).collect());
    }
    if io.dtype != Some(dtype.to_onnx()) {
        io.text = format!("{dtype} in the engine, {} in the model", io.text);
        io.dtype = Some(dtype.to_onnx());
    }
    Ok(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Dim, ValueType};

    fn tensor(name: &str, dtype: &str) -> TensorInfo {
        TensorInfo { name: name.into(), dtype: dtype.into(), shape: Some(vec![-1, 3]), is_shape: false }
    }

    #[test]
    fn inputs_are_described_as_the_engine_holds_them() {
        let value = |shape| ValueInfo::new("x", ValueType::tensor(DataType::Int64, shape));
        let declared = value(Some(vec![Dim::symbol("N"), Dim::known(3)]));
        let same = describe("input", [&declared].into_iter(), &[tensor("x", "INT64")]).unwrap();
        assert_eq!(same, [IoInfo::of(&declared)]);
        let cast = describe("input", [&declared].into_iter(), &[tensor("y", "INT64"), tensor("x", "INT32")]).unwrap();
        assert_eq!(cast[0].data_type(), Some(DataType::Int32));
        assert!(cast[0].text.starts_with("int32 in the engine, int64"), "{}", cast[0].text);
        let unshaped = describe("input", [&value(None)].into_iter(), &[tensor("x", "INT64")]).unwrap();
        assert_eq!(unshaped[0].shape, Some(vec![IoDim::Any, IoDim::Size(3)]));
        assert!(describe("output", [&declared].into_iter(), &[tensor("y", "INT64")]).is_err());
    }

    #[test]
    fn every_type_of_tensorrt_is_known() {
        for name in ["FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8", "BF16", "INT64", "INT4", "FP4", "E8M0"] {
            assert!(data_type(name).is_some(), "{name}");
        }
        assert_eq!(data_type("12"), None);
    }
}
