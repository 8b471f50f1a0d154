//! PyTorch archives that mean harm or are broken: an error each, in bounded time and memory.

#[path = "torch_archives/mod.rs"]
mod torch_archives;

use bytes::Bytes;
use mezzo::frontend::torch::pickle::Pickle;
use mezzo::frontend::torch::{self, InputSpec, Options};
use mezzo::model::Model;
use std::io::Write;
use std::time::{Duration, Instant};
use torch_archives::{SOURCE, archive, pickle, text};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn load(bytes: Vec<u8>) -> mezzo::Result<Model> {
    let inputs = vec![InputSpec::parse("x=2x4:fp32").unwrap()];
    torch::load_bytes(Bytes::from(bytes), &Options { inputs, ..Options::default() })
}

fn refused(bytes: Vec<u8>, word: &str) {
    let e = load(bytes).unwrap_err();
    assert!(e.message().contains(word), "{e}");
}

#[test]
fn a_sound_archive_loads() {
    let model = load(archive(&pickle(0, 4, 1, 4), SOURCE, &[0; 16])).unwrap();
    assert_eq!(&*model.graph.inputs[0].name, "x");
    assert_eq!(&*model.graph.outputs[0].name, "output");
    // Without a shape, the error says what is needed.
    let bytes = archive(&pickle(0, 4, 1, 4), SOURCE, &[0; 16]);
    let e = torch::load_bytes(Bytes::from(bytes), &Options::default()).unwrap_err();
    assert!(e.message().contains("x: Tensor") && e.message().contains("--input-shape"), "{e}");
}

#[test]
fn tensors_stay_in_their_storages() {
    for data in [pickle(1, 4, 1, 4), pickle(0, 5, 1, 4), pickle(0, 4, 2, 4)] {
        refused(archive(&data, SOURCE, &[0; 16]), "leave");
    }
    refused(archive(&pickle(0, 4, 1, 4), SOURCE, &[0; 12]), "claimed");
}

#[test]
fn malicious_pickles_are_not_executed() {
    let whole = |data: &[u8]| archive(data, SOURCE, &[0; 16]);
    refused(whole(b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR."), "os.system");
    refused(whole(b"\x80\x02c__builtin__\neval\n(X\x01\x00\x00\x001tR."), "eval");
    refused(whole(b"\x80\x02cposix\nsystem\n."), "posix.system");
    refused(whole(b"\x80\x02i"), "opcode");
    // Deep nesting, and an endless memo.
    let mut deep = b"\x80\x02".to_vec();
    deep.extend(std::iter::repeat_n(b'(', 1_000_000));
    refused(whole(&deep), "nested");
    // Nested deeper than any attribute: one tuple in another.
    let mut nested = b"\x80\x02c__torch__\nM\n)\x81}(".to_vec();
    text(&mut nested, "w");
    nested.push(b')');
    nested.extend(std::iter::repeat_n(0x85, 100_000));
    nested.extend(b"ub.");
    refused(whole(&nested), "nested deeper");
    // A list that holds itself.
    let mut cyclic = b"\x80\x02c__torch__\nM\n)\x81}(".to_vec();
    text(&mut cyclic, "w");
    cyclic.extend(b"]q\x00h\x00aub.");
    refused(whole(&cyclic), "holds itself");
    // A billion laughs: ten references to ten references... stay references.
    let mut laughs = b"\x80\x02]q\x00".to_vec();
    for level in 0..20u8 {
        laughs.extend([b']', b'(']);
        laughs.extend([b'h', level].repeat(50));
        laughs.extend([b'e', b'q', level + 1]);
    }
    laughs.push(b'.');
    Pickle::read(&laughs).unwrap();
    refused(whole(&laughs), "no module");
}

#[test]
fn files_without_a_program_are_called_by_their_name() {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("m/data.pkl", SimpleFileOptions::default().compression_method(CompressionMethod::Stored)).unwrap();
    zip.write_all(b"\x80\x02}.").unwrap();
    refused(zip.finish().unwrap().into_inner(), "state_dict");
    refused(b"\x80\x02}.".to_vec(), "state_dict");
    refused(b"\x80\x02cmy.models\nNet\n)\x81.".to_vec(), "my.models.Net");
    refused(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec(), "before 1.6");
}

#[test]
fn broken_source_is_one_error() {
    let with = |source: &str| archive(&pickle(0, 4, 1, 4), source, &[0; 16]);
    let body = |line: &str| {
        format!("class M(Module):\n  w : Tensor\n  def forward(self, x: Tensor) -> Tensor:\n    {line}\n    return x\n")
    };
    refused(with(&body("y = [(lambda: 1)()]")), "__torch__.py");
    refused(with(&body("import os")), "import");
    refused(with(&body(&format!("y = {}1{}", "(".repeat(5000), ")".repeat(5000)))), "nested deeper");
    refused(with(&body("y = \"open")), "not closed");
    refused(with(&body("while True:\n      pass")), "rounds");
    refused(with(&body("y = (self).forward(x, )")), "nested deeper");
    refused(with(&body("y = torch.no_such_operator(x)")), "no_such_operator");
    refused(with(&body("y = torch.mul([1], 9223372036854775807)")), "list grows");
    refused(with(&body("a = torch.dropout(x, 0.5, True)")), "training");
    refused(with("class M(Module):\n  def forward(self"), "__torch__.py");
    refused(with(""), "no method 'forward'");
}

/// A program whose body is those lines.
fn program(body: &str) -> Vec<u8> {
    let lines: Vec<String> = body.lines().map(|line| format!("    {line}\n")).collect();
    let source = format!(
        "class M(Module):\n  w : Tensor\n  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n{}    return x\n",
        lines.concat()
    );
    archive(&pickle(0, 4, 1, 4), &source, &[0; 16])
}

#[test]
fn small_programs_cannot_take_the_time_or_the_memory() {
    // Each of these once crashed, ran for minutes or took all memory.
    let million = "torch.mul([1], 1000000)";
    let cases: Vec<(String, &str)> = vec![
        // Containers that hold themselves or double from level to level.
        ("a = [x]\n_0 = torch.append(a, a)\ny = torch.cat(a, 0)".into(), "hold itself"),
        ("a = {1: 1}\n_0 = torch._set_item(a, 2, [a])".into(), "hold itself"),
        ("a = [1]\nfor i in range(100):\n  a = [a, a]\ny = torch.view(x, a)".into(), "more than a million items"),
        ("a = [1]\nb = [1]\nfor i in range(99):\n  a = [a, a]\n  b = [b, b]\nc = torch.eq(a, b)".into(), "comparison"),
        ("a = [1]\nfor i in range(99999):\n  for j in range(99):\n    a = [a]".into(), "containers into others"),
        ("a = (1,)\nfor i in range(99999):\n  for j in range(99):\n    a = (a,)".into(), "containers into others"),
        // Lists, texts and loops.
        (format!("a = [[1]]\nfor i in range(99999):\n  _0 = torch.append(a, {million})"), "steps"),
        ("a = [1]\nfor i in range(99999):\n  for j in range(99):\n    _0 = torch.append(a, 1)".into(), "steps"),
        ("for i in range(99999):\n  for j in range(99999):\n    pass".into(), "steps"),
        (
            "a = \"aaaaaaaaaaaaaaaa\"\nfor i in range(15):\n  a = torch.add(a, a)\nc = torch.join(a, torch.mul([a], 999999))".into(),
            "a text grows",
        ),
        // Graphs, views, sizes, dimensions, parts.
        (format!("for i in range(99):\n  y = torch.arange(1000000)\n  y = torch.add(torch.view(x, {million}), y)"), "dimensions"),
        ("for i in range(99):\n  y = torch.arange(1000000)".into(), "fill the memory"),
        ("y = x\nfor i in range(9999):\n  y = torch.view(y, [4, 2])\n  y = torch.view(y, [2, 4])".into(), "deep"),
        ("y = torch.unbind(torch.zeros([1000000000]), 0)".into(), "most that one operator"),
        ("y = torch.split(torch.zeros([1000000000]), 1, 0)".into(), "most that one operator"),
        ("y = torch.tensor_split(torch.zeros([9]), 1000000000, 0)".into(), "most that one operator"),
        ("y = torch.diagonal(torch.zeros([4000000000, 4000000000]))".into(), "too large"),
        ("y = torch.unfold(torch.zeros([1000000000]), 0, 100000, 1)".into(), "too many"),
    ];
    for (body, word) in cases {
        let start = Instant::now();
        refused(program(&body), word);
        assert!(start.elapsed() < Duration::from_secs(120), "{body}: {:?}", start.elapsed());
    }
    // Sizes of dynamic dimensions: each round squares the number of terms, or doubles the depth.
    let squared = "n = torch.mul(torch.add(n, m), torch.add(n, torch.mul(m, 2)))";
    let doubled = "n = torch.add(torch.floordiv(n, torch.add(m, n)), torch.remainder(n, torch.add(n, 7)))";
    for round in [squared, doubled] {
        let body =
            format!("n = torch.size(x, 0)\nm = torch.size(x, 1)\nfor i in range(99):\n  {round}\nx = torch.zeros([n])");
        let inputs = vec![InputSpec::parse("x=axb:fp32").unwrap()];
        let options = Options { inputs, ..Options::default() };
        let e = torch::load_bytes(Bytes::from(program(&body)), &options).unwrap_err();
        assert!(e.message().contains("too large"), "{e}");
    }
}
