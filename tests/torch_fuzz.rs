//! PyTorch's files changed at random: an error or a model each, never a panic, in bounded time.
//!
//! Five kinds, each a test of its own: the zip reader, the pickle machine, archives with changed pickles, archives with
//! changed source, and `.pt2` programs with changed JSON. MEZZO_FUZZ_RUNS says how many of each.

#[path = "torch_archives/mod.rs"]
mod torch_archives;

use bytes::Bytes;
use mezzo::frontend::torch::archive::Archive;
use mezzo::frontend::torch::pickle::Pickle;
use mezzo::frontend::torch::{self, InputSpec, Options};
use std::time::{Duration, Instant};
use torch_archives::{SOURCE, archive, pickle};

/// No change may make a small file take this long; the longest of the soak is far below.
const TOO_LONG: Duration = Duration::from_secs(60);

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

/// Numbers and names that ask for trouble, in source and in JSON.
const EVIL: [&str; 16] = [
    "0",
    "-1",
    "1",
    "7",
    "64",
    "65536",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "1e308",
    "None",
    "True",
    "null",
    "[]",
    "{}",
    "\"\"",
];

/// Words: runs of letters, digits and dots, and every other byte alone.
fn words(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    let whole = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-';
    for (at, c) in text.char_indices() {
        if !whole(c) {
            if start < at {
                out.push(&text[start..at]);
            }
            out.push(&text[at..at + c.len_utf8()]);
            start = at + c.len_utf8();
        }
    }
    out.push(&text[start..]);
    out
}

/// Words exchanged for others of the same text or for evil ones: what mostly still parses. One in four is changed by bytes.
fn reword(random: &mut Random, text: &str, words: &[&str]) -> String {
    if random.next(4) == 0 {
        return String::from_utf8_lossy(&mutate(random, text.as_bytes())).into_owned();
    }
    let mut out = words.to_vec();
    for _ in 0..=random.next(3) {
        let at = random.next(out.len());
        match random.next(4) {
            0 => out[at] = EVIL[random.next(EVIL.len())],
            1 => out[at] = words[random.next(words.len())],
            2 => out.swap(at, random.next(words.len())),
            _ => out[at] = "",
        }
    }
    out.concat()
}

/// A zip archive of stored entries; without checksums, which are not asked for.
fn stored(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let fixed = |name: &str, bytes: &[u8]| {
        let mut head = [20u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
        head.extend((bytes.len() as u32).to_le_bytes().repeat(2));
        head.extend((name.len() as u16).to_le_bytes());
        head.extend([0, 0]);
        head
    };
    for (name, bytes) in entries {
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(fixed(name, bytes));
        directory.extend([0; 10]);
        directory.extend((out.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(fixed(name, bytes));
        out.extend(name.as_bytes());
        out.extend(*bytes);
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((entries.len() as u16).to_le_bytes().repeat(2));
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// Makes the runs with a stream of numbers of their own, and says which one took longest.
fn runs(kind: u64, mut one: impl FnMut(&mut Random)) {
    // Five kinds: a hundredth of what `make soak` does.
    let default = 20_000;
    let count = std::env::var("MEZZO_FUZZ_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let seed = std::env::var("MEZZO_FUZZ_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0u64);
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (kind << 32) ^ seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut longest = Duration::ZERO;
    for _ in 0..count {
        let start = Instant::now();
        one(&mut random);
        longest = longest.max(start.elapsed());
        assert!(longest < TOO_LONG, "one run took {longest:?}");
    }
    println!("{count} runs, the longest took {longest:?}");
}

/// Loads; a panic of the walk comes back as INTERNAL. Gives whether it became a model.
fn load(bytes: Vec<u8>, shape: Option<&str>) -> bool {
    let inputs = shape.iter().map(|s| InputSpec::parse(s).unwrap()).collect();
    match torch::load_bytes(Bytes::from(bytes), &Options { inputs, ..Options::default() }) {
        Ok(_) => true,
        Err(e) => {
            assert_ne!(e.code(), mezzo::ErrorCode::Internal, "{e}");
            false
        }
    }
}

fn script(data: &[u8], source: &str) -> Vec<u8> {
    let entries: [(&str, &[u8]); 4] = [
        ("m/data.pkl", data),
        ("m/code/__torch__.py", source.as_bytes()),
        ("m/data/0", &[0; 16]),
        ("m/version", b"3\n"),
    ];
    stored(&entries)
}

/// A program that uses what TorchScript has: containers, loops, conditions on tensors, views and writes through them.
const PROGRAM: &str = "class M(Module):
  __parameters__ = [\"w\", ]
  w : Tensor
  training : bool
  k : Final[int] = 3
  def forward(self: __torch__.M,
    x: Tensor) -> Tuple[Tensor, List[Tensor]]:
    w = self.w
    sizes = torch.size(x)
    a, b = sizes
    kept = annotate(List[Tensor], [])
    names = {\"one\": 1, \"two\": torch.floordiv(torch.add(a, 3), 2)}
    for i in range(self.k):
      y = torch.add(torch.mul(x, 1.5), w, alpha=2)
      _0 = torch.append(kept, torch.slice(y, 1, 0, torch.add(i, 1), 1))
    if torch.gt(torch.dim(x), 5):
      ops.prim.RaiseException(torch.format(\"{} dims\", torch.dim(x)))
    else:
      pass
    z = torch.cat(kept, 1)
    v = torch.view(x, [torch.mul(a, b)])
    _1 = torch.add_(torch.select(v, 0, 1), 1)
    if bool(torch.gt(torch.sum(z), 0)):
      q = torch.softmax(torch.matmul(x, torch.transpose(x, 0, 1)), -1)
    else:
      q = torch.zeros([a, a], dtype=6)
    n = 0
    while torch.lt(n, torch.len(kept)):
      n = torch.add(n, torch.__getitem__(names, \"one\"))
    p, i = torch.topk(z, 2, 1, True, True)
    r = torch.conv2d(torch.unsqueeze(torch.unsqueeze(x, 0), 0), torch.ones([2, 1, 2, 2]), None, [1, 1], [0, 0], [1, 1], 1)
    return (torch.mean(r, [1, -1], False), [q, p, i, torch.index(x, [torch.arange(2)]), torch.repeat(z, [2, n])])
";

#[test]
fn mutated_zip_archives_never_panic() {
    let whole = archive(&pickle(0, 4, 1, 4), SOURCE, &[0; 16]);
    runs(1, |random| {
        if let Ok(read) = Archive::read(Bytes::from(mutate(random, &whole))) {
            let names: Vec<String> = read.names().map(str::to_owned).collect();
            names.iter().for_each(|n| drop(read.get(n)));
        }
    });
}

#[test]
fn mutated_pickles_never_panic() {
    let data = pickle(0, 4, 1, 4);
    runs(2, |random| drop(Pickle::read(&mutate(random, &data))));
}

#[test]
fn mutated_attributes_never_panic() {
    let data = pickle(0, 4, 1, 4);
    assert!(load(script(&data, SOURCE), Some("x=2x4")));
    let mut models = 0usize;
    runs(3, |random| models += usize::from(load(script(&mutate(random, &data), SOURCE), Some("x=2x4"))));
    println!("{models} became models");
}

#[test]
fn mutated_source_never_panics() {
    let data = pickle(0, 4, 1, 4);
    let seeds = [SOURCE, PROGRAM].map(|text| (text, words(text)));
    let mut models = 0usize;
    for (text, _) in &seeds {
        for shape in ["x=2x4", "x=nx4", "x=2xm"] {
            // The larger one asks for numbers of some sizes.
            assert!(load(script(&data, text), Some(shape)) || *text == PROGRAM && shape != "x=2x4", "{shape}");
        }
    }
    runs(4, |random| {
        let (text, words) = &seeds[random.next(2)];
        let shape = ["x=2x4", "x=2x4", "x=nx4", "x=2xm"][random.next(4)];
        models += usize::from(load(script(&data, &reword(random, text, words)), Some(shape)));
    });
    println!("{models} became models");
}

#[test]
fn mutated_json_never_panics() {
    let seeds: Vec<Vec<(String, Bytes)>> = ["condition", "counter", "tied"]
        .iter()
        .map(|name| {
            let path = format!("{}/tests/data/torch/{name}.pt2", env!("CARGO_MANIFEST_DIR"));
            let read = Archive::read(Bytes::from(std::fs::read(path).unwrap())).unwrap();
            let names: Vec<String> = read.names().map(str::to_owned).collect();
            names.into_iter().map(|n| (format!("m/{n}"), read.need(&n).unwrap())).collect()
        })
        .collect();
    let words: Vec<Vec<Vec<&str>>> = seeds
        .iter()
        .map(|s| s.iter().map(|(_, b)| std::str::from_utf8(b).map(words).unwrap_or_default()).collect())
        .collect();
    let (mut models, mut whole) = (0usize, String::new());
    runs(5, |random| {
        let at = random.next(seeds.len());
        let json: Vec<usize> = (0..seeds[at].len()).filter(|i| seeds[at][*i].0.ends_with(".json")).collect();
        // The program mostly, now and then a table of weights.
        let main = json.iter().position(|i| seeds[at][*i].0.ends_with("model.json")).unwrap_or(0);
        let chosen = json[if random.next(4) > 0 { main } else { random.next(json.len()) }];
        let text = std::str::from_utf8(&seeds[at][chosen].1).unwrap_or_default();
        whole = reword(random, text, &words[at][chosen]);
        let entries: Vec<(&str, &[u8])> = seeds[at]
            .iter()
            .enumerate()
            .map(|(i, (name, bytes))| (name.as_str(), if i == chosen { whole.as_bytes() } else { bytes }))
            .collect();
        models += usize::from(load(stored(&entries), None));
    });
    println!("{models} became models");
}
