//! Damaged and hostile bytes: an error or a valid model, never a panic, a hang or a huge allocation.

use super::fields_kept::rich;
use super::*;
use crate::ErrorCode::{self, InvalidFile, Unsupported};
use crate::frontend::onnx::to_bytes;
use proptest::prelude::*;

fn load_raw(bytes: &[u8]) -> Result<Model> {
    load_bytes(bytes.to_vec().into(), External::None, &LoadOptions::default())
}

/// What loads must be a model in every respect: it can be written, and read again as the same.
fn error_or_sound(bytes: &[u8]) {
    if let Ok(model) = load_raw(bytes) {
        let written = to_bytes(&model).expect("a model that loads can be written");
        let again = load_raw(&written).expect("a model that was written can be loaded");
        assert_eq!(to_bytes(&again).unwrap(), written);
    }
}

#[track_caller]
fn raw_refused(bytes: &[u8], code: ErrorCode, words: &[&str]) {
    let e = load_raw(bytes).expect_err("the bytes are to be refused");
    assert_eq!(e.code(), code, "{e}");
    words.iter().for_each(|w| assert!(e.message().contains(w), "'{w}' is missing in: {e}"));
}

/// A field with a length, and its content.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(u64::from(number) << 3 | 2, &mut out);
    prost::encoding::encode_varint(content.len() as u64, &mut out);
    out.extend(content);
    out
}

#[test]
fn truncated_at_every_length() {
    let whole = rich().encode_to_vec();
    load_raw(&whole).unwrap();
    for len in 0..whole.len() {
        // Cut between two fields of the model, the rest may be a model still.
        error_or_sound(&whole[..len]);
    }
    raw_refused(&whole[..whole.len() / 2], InvalidFile, &["damaged", "'graph", "announced", "incomplete"]);
}

#[test]
fn every_bit_flipped() {
    let mut bytes = rich().encode_to_vec();
    for i in 0..bytes.len() {
        for bit in 0..8 {
            bytes[i] ^= 1 << bit;
            error_or_sound(&bytes);
            bytes[i] ^= 1 << bit;
        }
    }
}

#[derive(Debug, Clone)]
enum Edit {
    Set(u8),
    Insert(Vec<u8>),
    Remove(usize),
    Copy(usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        any::<u8>().prop_map(Edit::Set),
        prop::collection::vec(any::<u8>(), 1..12).prop_map(Edit::Insert),
        (1..20usize).prop_map(Edit::Remove),
        (any::<usize>(), 1..60usize).prop_map(|(from, len)| Edit::Copy(from, len)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edited_in_several_places(edits in prop::collection::vec((any::<usize>(), edit()), 1..6)) {
        let mut bytes = rich().encode_to_vec();
        for (at, edit) in edits {
            let at = at % bytes.len();
            match edit {
                Edit::Set(b) => bytes[at] = b,
                Edit::Insert(b) => drop(bytes.splice(at..at, b)),
                Edit::Remove(n) => drop(bytes.drain(at..(at + n).min(bytes.len() - 1).max(at))),
                Edit::Copy(from, n) => {
                    let from = from % bytes.len();
                    let piece = bytes[from..(from + n).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        error_or_sound(&bytes);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        error_or_sound(&bytes);
    }
}

#[test]
fn a_length_of_4_gb_in_a_small_file() {
    let ir = [8u8, 8];
    for number in [2u8, 7, 8, 14] {
        let bytes = [&ir[..], &[number << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0; 1000]].concat();
        raw_refused(&bytes, InvalidFile, &["4294967295 bytes are announced", "1000 follow"]);
    }
    // The same deep inside: the raw data of an initializer, and packed floats.
    for number in [9u8, 4] {
        let tensor = [&[number << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 100]].concat();
        let bytes = [&ir[..], &field(7, &field(5, &tensor))].concat();
        raw_refused(&bytes, InvalidFile, &["'graph.initializer[0].", "4294967295", "100 follow"]);
    }
    // A shape that announces more than there is.
    let t = TensorProto { data_type: Some(1), dims: vec![1 << 40], name: text("w"), ..TensorProto::default() };
    refused(&with_graph(|g| g.initializer = vec![t]), ErrorCode::InvalidModel, &["'w'", "no data"]);
}

#[test]
fn nesting_without_end() {
    // Sequences of sequences: two messages a level.
    let nested = |levels: usize| {
        let mut ty = tensor_type(1).unwrap().encode_to_vec();
        for _ in 0..levels {
            ty = field(4, &field(1, &ty));
        }
        [&[8, 8][..], &field(7, &field(11, &field(2, &ty)))].concat()
    };
    raw_refused(&nested(60), Unsupported, &["deep", "'graph.input[0].type.sequence_type.elem_type"]);
    raw_refused(&nested(20_000), Unsupported, &["deep"]);
    // As deep as protobuf allows it is read: the graph, its input, its type, 48 times two, and the tensor type itself.
    let e = load_raw(&nested(48)).unwrap_err();
    assert_eq!(e.code(), ErrorCode::InvalidModel, "the wire format is fine, the imports are missing: {e}");
    raw_refused(&nested(49), Unsupported, &["deep"]);
}

/// Subgraphs in subgraphs: the inmost reads the graph's input.
fn subgraphs(levels: usize) -> ModelProto {
    let mut graph = GraphProto {
        name: text("inmost"),
        node: vec![node("Neg", &["x"], &["v0"])],
        output: vec![value("v0")],
        ..GraphProto::default()
    };
    for level in 1..=levels {
        let out = format!("v{level}");
        let mut outer = node("If", &["x"], &[&out]);
        let g = Some(Box::new(graph));
        outer.attribute =
            vec![AttributeProto { name: text("then_branch"), r#type: Some(5), g, ..AttributeProto::default() }];
        let (name, output) = (text("outer"), vec![value(&out)]);
        graph = GraphProto { name, node: vec![outer], output, ..GraphProto::default() };
    }
    graph.input = vec![value("x")];
    ModelProto { graph: Some(Box::new(graph)), ..small() }
}

#[test]
fn the_deepest_subgraphs_need_little_stack() {
    // Each level takes three messages; the types in the inmost graph take the rest.
    let p = subgraphs(31);
    refused(&subgraphs(33), Unsupported, &["deep", "'graph.node[0].attribute[0].g.node[0]"]);
    let work = move || {
        let model = load(&p).unwrap();
        let written = to_bytes(&model).unwrap();
        assert_eq!(to_bytes(&load_raw(&written).unwrap().clone()).unwrap(), written);
    };
    // Half of the smallest stack that threads commonly get (512 kB); without optimisation every frame is several times as
    // large, so there it is a megabyte.
    let stack = if cfg!(debug_assertions) { 1 << 20 } else { 256 << 10 };
    std::thread::Builder::new().stack_size(stack).spawn(work).unwrap().join().unwrap();
}

#[test]
fn what_the_decoder_would_drop() {
    let base = small().encode_to_vec();
    let graph = small().graph.unwrap().encode_to_vec();
    let with = |extra: &[u8]| [&base[..], extra].concat();
    raw_refused(&with(&field(99, b"new")), Unsupported, &["the model", "field 99", "newer"]);
    let inside = [&base[..], &field(7, &[&graph[..], &field(77, b"new")].concat())].concat();
    raw_refused(&inside, Unsupported, &["'graph'", "field 77", "lost"]);
    let node = field(7, &field(1, &[0x98, 0x06, 1]));
    raw_refused(&with(&node), Unsupported, &["'graph.node[0]'", "field 99"]);
    // Groups, wire types out of place, numbers too long, text that is none.
    raw_refused(&with(&[0x0b]), InvalidFile, &["wire type 3"]);
    raw_refused(&with(&[0x3d, 0, 0, 0, 0]), InvalidFile, &["'graph'", "wire type 5"]);
    raw_refused(&with(&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), InvalidFile, &["64 bits"]);
    raw_refused(&with(&field(2, b"ab\xffc")), InvalidFile, &["'producer_name'", "UTF-8"]);
    raw_refused(&with(&[0, 1]), InvalidFile, &["0 is not a field number"]);
}

#[test]
fn repeated_singular_fields_are_merged_as_protobuf_says() {
    let base = small().encode_to_vec();
    let more = GraphProto { doc_string: text("second part"), ..GraphProto::default() }.encode_to_vec();
    let m = load_raw(&[&base[..], &field(7, &more)].concat()).unwrap();
    assert_eq!((m.graph.nodes.len(), m.graph.doc_string.as_deref()), (1, Some("second part")));
}

#[test]
fn packed_and_unpacked_numbers_are_the_same() {
    // dims are written one by one, but some writers pack them.
    let t = TensorProto { data_type: Some(1), name: text("w"), float_data: vec![0.0; 6], ..TensorProto::default() };
    let tensor = [&t.encode_to_vec()[..], &field(1, &[2, 3])].concat();
    let bytes = [small().encode_to_vec(), field(7, &field(5, &tensor))].concat();
    assert_eq!(load_raw(&bytes).unwrap().graph.initializers[0].tensor.dims(), [2, 3]);
}

#[test]
fn a_file_of_empty_messages_does_not_exhaust_memory() {
    // Two bytes a node in the file, hundreds in memory.
    let graph = [1u8 << 3 | 2, 0].repeat(8 << 20);
    raw_refused(&[&[8, 8][..], &field(7, &graph)].concat(), ErrorCode::OutOfMemory, &["structure", "'graph.node["]);
}

#[test]
fn something_else_entirely() {
    raw_refused(b"", InvalidFile, &["no bytes"]);
    raw_refused(b"<!DOCTYPE html><html><body>404</body></html>", InvalidFile, &["web page"]);
    raw_refused(b"hello, I am no model at all", InvalidFile, &["not an ONNX model"]);
    raw_refused(&[0; 100], InvalidFile, &["not an ONNX model"]);
    raw_refused(&[0xff; 100], InvalidFile, &["not an ONNX model"]);
    raw_refused(&field(99, b"?"), InvalidFile, &["not an ONNX model"]);
}
