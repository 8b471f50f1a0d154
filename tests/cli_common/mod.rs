//! What the tests of the command share: calls of it, a folder of their own, small models, .npy files.
#![allow(dead_code)] // each test program uses a part

use mezzo::frontend::onnx::{SaveExternal, save_file};
use mezzo::model::{
    Attribute, AttributeValue, DataType, Dim, Graph, Initializer, Model, Node, OpsetId, Tensor, ValueInfo, ValueType,
};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The digits model of the repository.
pub fn digits() -> String {
    format!("{}/tests/data/digits/digits.onnx", env!("CARGO_MANIFEST_DIR"))
}

/// How a call ended.
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Calls the command.
pub fn mezzo(args: &[&str]) -> Done {
    let done = Command::new(env!("CARGO_BIN_EXE_mezzo")).args(args).output().expect("the command starts");
    Done {
        code: done.status.code(),
        out: String::from_utf8(done.stdout).expect("stdout is UTF-8"),
        err: String::from_utf8(done.stderr).expect("stderr is UTF-8"),
    }
}

/// Calls it; it must succeed.
pub fn succeeds(args: &[&str]) -> Done {
    let done = mezzo(args);
    assert_eq!(done.code, Some(0), "{args:?}: {}", done.err);
    done
}

/// Calls it with --json; it must succeed and print JSON alone.
pub fn json(args: &[&str]) -> Json {
    let done = succeeds(&[args, &["--json"]].concat());
    serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", done.out))
}

/// Calls it; it must fail with one line that begins with "error: " and has all the words, and print no result.
pub fn refused(args: &[&str], code: i32, words: &[&str]) {
    let done = mezzo(args);
    assert_eq!(done.code, Some(code), "{args:?}: {}", done.err);
    assert_eq!(done.out, "", "{args:?} printed a result");
    failed_in_one_line(&done, words);
}

/// The last line of stderr, and only that, is an error with all the words.
pub fn failed_in_one_line(done: &Done, words: &[&str]) {
    let lines: Vec<&str> = done.err.lines().collect();
    let (last, notes) = lines.split_last().expect("an error line");
    assert!(last.starts_with("error: ") && notes.iter().all(|n| n.starts_with("note: ")), "{}", done.err);
    for word in words {
        assert!(last.contains(word), "'{word}' is not in: {last}");
    }
}

/// A folder that is removed when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("mezzo-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }

    /// Its files' names.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A float value.
pub fn float(name: &str, dims: Vec<Dim>) -> ValueInfo {
    ValueInfo::new(name, ValueType::tensor(DataType::Float32, Some(dims)))
}

/// A node of the standard domain.
pub fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> Node {
    Node {
        name: outputs[0].into(),
        op_type: op_type.into(),
        inputs: inputs.iter().map(|n| (*n).into()).collect(),
        outputs: outputs.iter().map(|n| (*n).into()).collect(),
        ..Node::default()
    }
}

/// An integer attribute.
pub fn int(name: &str, value: i64) -> Attribute {
    Attribute { name: name.into(), value: AttributeValue::Int(value), doc_string: None }
}

/// A constant.
pub fn constant(name: &str, values: &[f32]) -> Initializer {
    let tensor = Tensor::from_vec(DataType::Float32, vec![values.len() as i64], values.to_vec());
    Initializer { name: name.into(), tensor, doc_string: None, metadata: vec![] }
}

/// A model of that graph, opset 17.
pub fn model(graph: Graph) -> Model {
    Model {
        ir_version: 8,
        opset_imports: vec![
            OpsetId { domain: "".into(), version: 17 },
            OpsetId { domain: "com.example".into(), version: 1 },
        ],
        producer_name: Some("test".into()),
        graph: Graph { name: Some("g".into()), ..graph },
        ..Model::default()
    }
}

/// `a/sum:0` = `x` [N,3] + `y` [N,3], `scaled` = `a/sum:0` * (`factor`, 2, 0.5).
pub fn sum_and_scale(path: &str, factor: f32) {
    let dims = || vec![Dim::symbol("N"), Dim::known(3)];
    save(
        path,
        Graph {
            inputs: vec![float("x", dims()), float("y", dims())],
            outputs: vec![float("a/sum:0", dims()), float("scaled", dims())],
            initializers: vec![constant("scale", &[factor, 2.0, 0.5])],
            nodes: vec![node("Add", &["x", "y"], &["a/sum:0"]), node("Mul", &["a/sum:0", "scale"], &["scaled"])],
            ..Graph::default()
        },
    );
}

/// Saves a model of that graph.
pub fn save(path: &str, graph: Graph) {
    save_file(&model(graph), Path::new(path), SaveExternal::Auto).unwrap();
}

/// A .npy file of version 1.0 with that type, shape and bytes.
pub fn npy(path: &str, descr: &str, shape: &str, fortran: bool, data: &[u8]) {
    let order = if fortran { "True" } else { "False" };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((text.len() as u16).to_le_bytes());
    file.extend(text.as_bytes());
    file.extend(data);
    std::fs::write(path, file).unwrap();
}

/// Little-endian FP32 elements.
pub fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Header text and data of a .npy file that the command wrote.
pub fn read_npy(path: &str) -> (String, Vec<u8>) {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    (String::from_utf8(bytes[10..end].to_vec()).unwrap(), bytes[end..].to_vec())
}

/// The FP32 elements of a .npy file that the command wrote.
pub fn read_f32s(path: &str) -> Vec<f32> {
    let (header, data) = read_npy(path);
    assert!(header.contains("'descr': '<f4'"), "{header}");
    data.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}
