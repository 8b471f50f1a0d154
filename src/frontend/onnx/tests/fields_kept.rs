//! Whatever a file has comes out again: a model with every field that there is goes through reading and writing.

use super::super::fields::{MESSAGES, MODEL_PROTO};
use super::super::prescan::{Kind, MAX_DEPTH};
use super::super::to_bytes;
use super::*;
use bytes::Bytes;
use std::collections::BTreeSet;

fn entry(key: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: text(key), value: text(&format!("{key}'s value")) }
}

/// Raw data of `count` floats that are all different.
fn floats(name: &str, count: usize) -> TensorProto {
    let raw: Vec<u8> = (0..count).flat_map(|i| (0.5 + i as f32 + name.len() as f32).to_le_bytes()).collect();
    TensorProto {
        dims: vec![count as i64],
        data_type: Some(1),
        name: text(name),
        raw_data: Some(raw.into()),
        doc_string: text(&format!("{name} doc")),
        metadata_props: vec![entry(&format!("{name} meta"))],
        ..TensorProto::default()
    }
}

fn indices(name: &str) -> TensorProto {
    let raw: Vec<u8> = [1i64, 4].iter().flat_map(|i| i.to_le_bytes()).collect();
    TensorProto { data_type: Some(7), raw_data: Some(raw.into()), ..floats(name, 2) }
}

fn sparse(name: &str) -> SparseTensorProto {
    SparseTensorProto {
        values: Some(Box::new(floats(name, 2))),
        indices: Some(Box::new(indices(&format!("{name} indices")))),
        dims: vec![5],
    }
}

fn strings() -> TensorProto {
    let string_data = vec![Bytes::from("a"), Bytes::from("\u{e9}")];
    TensorProto { data_type: Some(8), raw_data: None, string_data, ..floats("strings", 2) }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    let doc_string = text(&format!("{name} doc"));
    AttributeProto { name: text(name), r#type: Some(kind), doc_string, ..AttributeProto::default() }
}

fn dim(value: Option<TensorShapeProtoDimensionValue>, denotation: Option<&str>) -> TensorShapeProtoDimension {
    TensorShapeProtoDimension { denotation: denotation.map(str::to_owned), value }
}

fn of(value: TypeProtoValue) -> TypeProto {
    TypeProto { denotation: text("DENOTED"), value: Some(value) }
}

fn types() -> Vec<TypeProto> {
    let shape = TensorShapeProto {
        dim: vec![
            dim(Some(TensorShapeProtoDimensionValue::DimValue(3)), Some("DATA_BATCH")),
            dim(Some(TensorShapeProtoDimensionValue::DimParam("N".into())), None),
            dim(None, None),
        ],
    };
    let tensor = of(TypeProtoValue::TensorType(Box::new(TypeProtoTensor {
        elem_type: Some(16),
        shape: Some(Box::new(shape.clone())),
    })));
    let inner = || Some(Box::new(tensor.clone()));
    vec![
        tensor.clone(),
        of(TypeProtoValue::SequenceType(Box::new(TypeProtoSequence { elem_type: inner() }))),
        of(TypeProtoValue::MapType(Box::new(TypeProtoMap { key_type: Some(8), value_type: inner() }))),
        of(TypeProtoValue::SparseTensorType(Box::new(TypeProtoSparseTensor {
            elem_type: Some(1),
            shape: Some(Box::new(shape)),
        }))),
        of(TypeProtoValue::OptionalType(Box::new(TypeProtoOptional { elem_type: inner() }))),
    ]
}

fn attributes() -> Vec<AttributeProto> {
    let graph = |suffix: &str| GraphProto {
        name: text(&format!("inner {suffix}")),
        node: vec![node("Neg", &["x"], &[&format!("inner {suffix}")])],
        output: vec![value(&format!("inner {suffix}"))],
        ..GraphProto::default()
    };
    vec![
        AttributeProto { f: Some(1.5), ..attribute("f", 1) },
        AttributeProto { i: Some(-7), ..attribute("i", 2) },
        AttributeProto { s: Some(Bytes::from_static(b"\xff not text")), ..attribute("s", 3) },
        AttributeProto { t: Some(Box::new(floats("t", 3))), ..attribute("t", 4) },
        AttributeProto { g: Some(Box::new(graph("g"))), ..attribute("g", 5) },
        AttributeProto { floats: vec![1.0, f32::MIN], ..attribute("floats", 6) },
        AttributeProto { ints: vec![i64::MIN, 0, 1 << 40], ..attribute("ints", 7) },
        AttributeProto { strings: vec![Bytes::from("a"), Bytes::new()], ..attribute("strings", 8) },
        AttributeProto { tensors: vec![floats("one", 1), strings()], ..attribute("tensors", 9) },
        AttributeProto { graphs: vec![graph("one"), graph("two")], ..attribute("graphs", 10) },
        AttributeProto { sparse_tensor: Some(Box::new(sparse("sparse"))), ..attribute("sparse_tensor", 11) },
        AttributeProto { sparse_tensors: vec![sparse("sparse 2")], ..attribute("sparse_tensors", 12) },
        AttributeProto { tp: Some(Box::new(types().remove(4))), ..attribute("tp", 13) },
        AttributeProto { type_protos: types(), ..attribute("type_protos", 14) },
        attribute("no floats", 6),
    ]
}

fn devices() -> (DeviceConfigurationProto, NodeDeviceConfigurationProto) {
    use SimpleShardedDimProtoDim::{DimParam, DimValue};
    let shards = |dim| SimpleShardedDimProto { num_shards: Some(2), dim: Some(dim) };
    let configuration = DeviceConfigurationProto {
        name: text("pair"),
        num_devices: Some(2),
        device: vec!["left".into(), "right".into()],
    };
    let spec = ShardingSpecProto {
        tensor_name: text("x"),
        device: vec![0, 1],
        index_to_device_group_map: vec![IntIntListEntryProto { key: Some(-1), value: vec![0, 1] }],
        sharded_dim: vec![ShardedDimProto {
            axis: Some(0),
            simple_sharding: vec![shards(DimValue(4)), shards(DimParam("N".into()))],
        }],
    };
    let node = NodeDeviceConfigurationProto {
        configuration_id: text("pair"),
        sharding_spec: vec![spec],
        pipeline_stage: Some(1),
    };
    (configuration, node)
}

fn function() -> FunctionProto {
    let mut scaled = node("Elu", &["X"], &["Y"]);
    scaled.attribute = vec![AttributeProto { ref_attr_name: text("slope"), ..attribute("alpha", 1) }];
    FunctionProto {
        name: text("Scaled"),
        input: vec!["X".into()],
        output: vec!["Y".into()],
        attribute: vec!["slope".into()],
        node: vec![scaled],
        doc_string: text("function doc"),
        opset_import: vec![opset("", 17)],
        domain: text("mine"),
        attribute_proto: vec![AttributeProto { i: Some(3), ..attribute("with default", 2) }],
        value_info: vec![value("X")],
        overload: text("v2"),
        metadata_props: vec![entry("function meta")],
    }
}

/// A model with every field that reading keeps.
pub fn rich() -> ModelProto {
    let (configuration, node_configuration) = devices();
    let everything = NodeProto {
        name: text("everything"),
        domain: text("mine"),
        overload: text("v1"),
        attribute: attributes(),
        doc_string: text("node doc"),
        metadata_props: vec![entry("node meta")],
        device_configurations: vec![node_configuration],
        ..node("Everything", &["x", "", "w"], &["a", "", "b"])
    };
    let mut call = node("Scaled", &["a"], &["y"]);
    (call.domain, call.overload) = (text("mine"), text("v2"));
    let typed = |(i, ty): (usize, TypeProto)| ValueInfoProto {
        name: text(&format!("value {i}")),
        r#type: Some(Box::new(ty)),
        doc_string: text("value doc"),
        metadata_props: vec![entry("value meta")],
    };
    let annotation =
        TensorAnnotation { tensor_name: text("w"), quant_parameter_tensor_names: vec![entry("SCALE_TENSOR")] };
    let graph = GraphProto {
        name: text("rich"),
        node: vec![everything, call],
        initializer: vec![floats("w", 6), strings()],
        doc_string: text("graph doc"),
        input: vec![value("x"), value("w")],
        output: vec![value("y")],
        value_info: types().into_iter().enumerate().map(typed).collect(),
        quantization_annotation: vec![annotation],
        sparse_initializer: vec![sparse("sparse init")],
        metadata_props: vec![entry("graph meta")],
    };
    ModelProto {
        ir_version: Some(14),
        producer_name: text("producer"),
        producer_version: text("1.2"),
        domain: text("org.example"),
        model_version: Some(-3),
        doc_string: text("model doc"),
        graph: Some(Box::new(graph)),
        opset_import: vec![opset("", 17), opset("mine", 1)],
        metadata_props: vec![entry("model meta")],
        functions: vec![function()],
        configuration: vec![configuration],
        training_info: Vec::new(),
    }
}

#[test]
fn a_model_with_every_field_comes_out_as_it_went_in() {
    let before = rich();
    let written = to_bytes(&load(&before).unwrap()).unwrap();
    let after = ModelProto::decode(written.as_slice()).unwrap();
    assert_eq!(after, before);
    // Numbers and lengths are in their shortest form.
    assert_eq!(written.len(), before.encoded_len());
}

/// Fields that reading refuses, or that writing expresses by others.
const NOT_WRITTEN: &[&str] = &[
    "training_info",
    "segment",
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "external_data",
    "data_location",
    "opaque_type",
];

/// Collects the fields that occur in a message.
fn occurring(index: usize, mut bytes: &[u8], depth: usize, seen: &mut BTreeSet<(usize, &'static str)>) {
    assert!(depth <= MAX_DEPTH);
    while !bytes.is_empty() {
        let tag = prost::encoding::decode_varint(&mut bytes).unwrap();
        let field = MESSAGES[index].fields.iter().find(|f| u64::from(f.number) == tag >> 3).unwrap();
        seen.insert((index, field.name));
        match tag & 7 {
            0 => drop(prost::encoding::decode_varint(&mut bytes).unwrap()),
            1 => bytes = &bytes[8..],
            5 => bytes = &bytes[4..],
            _ => {
                let len = prost::encoding::decode_varint(&mut bytes).unwrap() as usize;
                if let Kind::Nested(inner) = field.kind {
                    occurring(inner, &bytes[..len], depth + 1, seen);
                }
                bytes = &bytes[len..];
            }
        }
    }
}

#[test]
fn the_model_with_every_field_really_has_every_field() {
    let mut seen = BTreeSet::new();
    occurring(MODEL_PROTO, &rich().encode_to_vec(), 0, &mut seen);
    let reached: BTreeSet<usize> = seen.iter().map(|(index, _)| *index).collect();
    let mut missing = Vec::new();
    for (index, message) in MESSAGES.iter().enumerate() {
        for field in message.fields {
            // Messages that hang on refused fields only are never reached.
            if reached.contains(&index) && !seen.contains(&(index, field.name)) && !NOT_WRITTEN.contains(&field.name) {
                missing.push((index, field.name));
            }
        }
    }
    assert!(missing.is_empty(), "a new field of ONNX needs its place in the model: {missing:?}");
    let unreached: Vec<usize> = (0..MESSAGES.len()).filter(|i| !reached.contains(i)).collect();
    use super::super::fields::{TENSOR_PROTO_SEGMENT, TRAINING_INFO_PROTO, TYPE_PROTO_OPAQUE};
    assert_eq!(unreached, [TENSOR_PROTO_SEGMENT, TRAINING_INFO_PROTO, TYPE_PROTO_OPAQUE]);
}
