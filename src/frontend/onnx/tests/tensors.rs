//! Typed data fields become little-endian bytes.

use super::*;
use crate::ErrorCode::{InvalidModel, Unsupported};
use crate::model::{DataType, Tensor};

fn proto(dtype: DataType, dims: &[i64]) -> TensorProto {
    TensorProto { name: text("w"), data_type: Some(dtype.to_onnx()), dims: dims.to_vec(), ..TensorProto::default() }
}

fn model(t: TensorProto) -> ModelProto {
    with_graph(|g| g.initializer = vec![t])
}

fn read(t: TensorProto) -> Tensor {
    load(&model(t)).unwrap().graph.initializers[0].tensor.clone()
}

#[track_caller]
fn wrong(t: TensorProto, words: &[&str]) {
    let words: Vec<&str> = words.iter().copied().chain(["initializer 'w'"]).collect();
    refused(&model(t), InvalidModel, &words);
}

fn bytes_of(t: &Tensor) -> Vec<u8> {
    t.bytes().unwrap().into_owned()
}

#[test]
fn every_type_from_its_typed_field() {
    use DataType::*;
    // int32_data: the value, and the bytes of one element.
    for (dtype, values, want) in [
        (Int32, vec![-2, 7], vec![0xfe, 0xff, 0xff, 0xff, 7, 0, 0, 0]),
        (Int16, vec![-2, 0x1234], vec![0xfe, 0xff, 0x34, 0x12]),
        (Uint16, vec![0xfffe, 1], vec![0xfe, 0xff, 1, 0]),
        (Float16, vec![0x3c00, 0xfc00], vec![0, 0x3c, 0, 0xfc]),
        (Bfloat16, vec![0x3f80, 1], vec![0x80, 0x3f, 1, 0]),
        (Int8, vec![-128, 127], vec![0x80, 0x7f]),
        (Int8, vec![200, 3], vec![200, 3]),
        (Uint8, vec![255, 0], vec![255, 0]),
        (Bool, vec![5, 0], vec![1, 0]),
        (Float8E4M3Fn, vec![0x7e, 0x80], vec![0x7e, 0x80]),
        (Float8E8M0, vec![0xff, 1], vec![0xff, 1]),
    ] {
        let t = read(TensorProto { int32_data: values, ..proto(dtype, &[2]) });
        assert_eq!((t.dtype(), bytes_of(&t)), (dtype, want));
    }
    // Below a byte, each number holds a byte of packed elements.
    for (dtype, count) in [(Int4, 3), (Uint4, 3), (Float4E2M1, 4), (Int2, 5), (Uint2, 8)] {
        let t = read(TensorProto { int32_data: vec![0x21, 0x43], ..proto(dtype, &[count]) });
        assert_eq!(bytes_of(&t), [0x21, 0x43], "{dtype}");
    }
    // Six bits: four elements in three bytes, lowest bits first.
    for dtype in [Float6E2M3, Float6E3M2] {
        let t = read(TensorProto { int32_data: vec![1, 2, 3, 63, 32], ..proto(dtype, &[5]) });
        assert_eq!(bytes_of(&t), [0x81, 0x30, 0xfc, 0x20]);
    }
    let t = read(TensorProto { float_data: vec![1.5, -0.0], ..proto(Float32, &[2]) });
    assert_eq!(bytes_of(&t), [1.5f32.to_le_bytes(), (-0f32).to_le_bytes()].concat());
    let t = read(TensorProto { float_data: vec![1.0, 2.0], ..proto(Complex64, &[1]) });
    assert_eq!(bytes_of(&t), [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat());
    let t = read(TensorProto { double_data: vec![1.5], ..proto(Float64, &[]) });
    assert_eq!(bytes_of(&t), 1.5f64.to_le_bytes());
    let t = read(TensorProto { double_data: vec![1.0, 2.0], ..proto(Complex128, &[1, 1]) });
    assert_eq!(bytes_of(&t), [1f64.to_le_bytes(), 2f64.to_le_bytes()].concat());
    let t = read(TensorProto { int64_data: vec![i64::MIN], ..proto(Int64, &[1]) });
    assert_eq!(bytes_of(&t), i64::MIN.to_le_bytes());
    let t = read(TensorProto { uint64_data: vec![u64::MAX], ..proto(Uint64, &[1]) });
    assert_eq!(bytes_of(&t), u64::MAX.to_le_bytes());
    let t = read(TensorProto { uint64_data: vec![u32::MAX.into()], ..proto(Uint32, &[1]) });
    assert_eq!(bytes_of(&t), u32::MAX.to_le_bytes());
    let t = read(TensorProto { string_data: vec!["a".into(), "".into()], ..proto(String, &[2, 1]) });
    assert_eq!(t.strings().unwrap(), ["a", ""]);
}

#[test]
fn raw_data_is_a_view_of_the_file() {
    let t = TensorProto { raw_data: Some(vec![1, 2, 3, 4, 5, 6, 7, 8].into()), ..proto(DataType::Float32, &[2]) };
    let file = bytes::Bytes::from(model(t).encode_to_vec());
    let range = file.as_ptr_range();
    let loaded = load_bytes(file.clone(), External::None, &LoadOptions::default()).unwrap();
    let (crate::model::Storage::Bytes(view), _) = loaded.graph.initializers[0].tensor.source() else { panic!() };
    assert!(range.contains(&view.as_ptr()), "the weights are not copied");
}

#[test]
fn scalars_and_empty_tensors() {
    assert_eq!(read(TensorProto { float_data: vec![3.0], ..proto(DataType::Float32, &[]) }).len(), 1);
    assert!(read(proto(DataType::Float32, &[0, 3])).is_empty());
    let empty = Some(bytes::Bytes::new());
    assert!(read(TensorProto { raw_data: empty, ..proto(DataType::Int64, &[0]) }).is_empty());
    assert!(read(proto(DataType::String, &[0])).is_empty());
}

#[test]
fn data_that_does_not_fit_is_named() {
    use DataType::*;
    let floats = |n: usize| vec![0f32; n];
    wrong(TensorProto { float_data: floats(3), ..proto(Float32, &[2]) }, &["2 values", "has 3"]);
    wrong(TensorProto { float_data: floats(3), ..proto(Complex64, &[2]) }, &["4 values", "has 3"]);
    wrong(proto(Float32, &[2]), &["no data"]);
    wrong(TensorProto { raw_data: Some(vec![0; 7].into()), ..proto(Float32, &[2]) }, &["8 bytes", "has 7"]);
    wrong(TensorProto { float_data: floats(2), ..proto(Int64, &[2]) }, &["int64_data", "float_data"]);
    let both = TensorProto { raw_data: Some(vec![0; 8].into()), ..proto(Float32, &[2]) };
    wrong(TensorProto { float_data: floats(2), ..both }, &["both raw_data and float_data"]);
    wrong(TensorProto { float_data: floats(2), ..proto(Float32, &[-2]) }, &["-2"]);
    wrong(proto(Float32, &[i64::MAX, i64::MAX]), &["overflow"]);
    wrong(TensorProto { int32_data: vec![256], ..proto(Uint8, &[1]) }, &["256", "out of the range"]);
    wrong(TensorProto { int32_data: vec![-40000], ..proto(Float16, &[1]) }, &["-40000"]);
    wrong(TensorProto { uint64_data: vec![1 << 32], ..proto(Uint32, &[1]) }, &["4294967296"]);
    wrong(TensorProto { int32_data: vec![64], ..proto(Float6E2M3, &[1]) }, &["64"]);
    wrong(TensorProto { string_data: vec!["a".into()], ..proto(String, &[2]) }, &["2 strings", "has 1"]);
    wrong(TensorProto { raw_data: Some(vec![0; 2].into()), ..proto(String, &[2]) }, &["string"]);
    let unknown = |n| model(TensorProto { data_type: n, ..proto(Float32, &[1]) });
    refused(&unknown(Some(99)), Unsupported, &["number 99"]);
    refused(&unknown(None), Unsupported, &["number 0"]);
    let parts = TensorProto { segment: Some(Box::default()), ..proto(Float32, &[1]) };
    refused(&model(parts), Unsupported, &["segments", "'w'"]);
}
