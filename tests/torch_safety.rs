//! PyTorch archives that mean harm or are broken: an error each, in bounded time and memory.

use bytes::Bytes;
use mezzo::frontend::torch::archive::Archive;
use mezzo::frontend::torch::pickle::Pickle;
use mezzo::frontend::torch::{self, InputSpec, Options};
use mezzo::model::Model;
use std::io::Write;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const SOURCE: &str = "class M(Module):
  __parameters__ = [\"w\", ]
  __buffers__ = []
  w : Tensor
  training : bool
  k : Final[int] = 3
  def forward(self: __torch__.M,
    x: Tensor) -> Tensor:
    w = self.w
    n = torch.dim(x)
    _0 = torch.format(\"{} dims\", n)
    if torch.gt(n, 5):
      ops.prim.RaiseException(_0)
    else:
      pass
    y = torch.add(x, w, alpha=1)
    for i in range(2):
      y0 = torch.mul(y, 1.5e-05)
    return torch.add(y, torch.neg(w))
";

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The pickle of a module with a tensor `w` of one dimension.
fn pickle(offset: u8, size: u8, stride: u8, elements: u8) -> Vec<u8> {
    let mut out = b"\x80\x02c__torch__\nM\n)\x81}(".to_vec();
    text(&mut out, "training");
    out.push(0x89);
    text(&mut out, "w");
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(&mut out, "storage");
    out.extend(b"ctorch\nFloatStorage\n");
    text(&mut out, "0");
    text(&mut out, "cpu");
    out.extend([b'K', elements, b't', b'Q', b'K', offset, b'K', size, 0x85, b'K', stride, 0x85, 0x89]);
    out.extend(b"ccollections\nOrderedDict\n)RtRub.");
    out
}

fn archive(data: &[u8], source: &str, storage: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let entries: [(&str, &[u8], _); 4] = [
        ("m/data.pkl", data, stored),
        ("m/code/__torch__.py", source.as_bytes(), deflated),
        ("m/data/0", storage, stored),
        ("m/version", b"3\n", stored),
    ];
    for (name, bytes, options) in entries {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

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

/// A reproducible stream of numbers.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

/// Some bytes changed, removed, repeated or moved.
fn mutate(random: &mut Random, seed: &[u8]) -> Vec<u8> {
    let mut out = seed.to_vec();
    for _ in 0..=random.next(4) {
        if out.is_empty() {
            return out;
        }
        let (a, b) = (random.next(out.len()), random.next(out.len()));
        match random.next(6) {
            0 => out[a] = random.next(256) as u8,
            1 => out[a] ^= 1 << random.next(8),
            2 => drop(out.drain(a.min(b)..a.max(b).min(a.min(b) + 40))),
            3 => {
                let part = out[a.min(b)..a.max(b).min(a.min(b) + 40)].to_vec();
                out.splice(a..a, part);
            }
            4 => out[a] = out[b],
            _ => out.truncate(a.max(out.len() / 2)),
        }
    }
    out
}

/// MEZZO_FUZZ_RUNS: how many of each kind; none of them may panic (a panic of the walk comes back as INTERNAL).
#[test]
fn mutated_archives_never_panic() {
    let runs = std::env::var("MEZZO_FUZZ_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let data = pickle(0, 4, 1, 4);
    let whole = archive(&data, SOURCE, &[0; 16]);
    let sound = |e: mezzo::Error| assert_ne!(e.code(), mezzo::ErrorCode::Internal, "{e}");
    for _ in 0..runs {
        let bytes = mutate(&mut random, &whole);
        if let Ok(read) = Archive::read(Bytes::from(bytes)) {
            let names: Vec<String> = read.names().map(str::to_owned).collect();
            names.iter().for_each(|n| drop(read.get(n)));
        }
        drop(Pickle::read(&mutate(&mut random, &data)));
        let source = String::from_utf8_lossy(&mutate(&mut random, SOURCE.as_bytes())).into_owned();
        load(archive(&mutate(&mut random, &data), SOURCE, &[0; 16])).err().into_iter().for_each(sound);
        load(archive(&data, &source, &[0; 16])).err().into_iter().for_each(sound);
    }
}
