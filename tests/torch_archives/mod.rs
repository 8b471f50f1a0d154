//! Small TorchScript archives for tests, put together by hand.

use std::io::Write;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The source of a module with a check, a loop and an attribute.
pub const SOURCE: &str = "class M(Module):
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

/// A string of a pickle.
pub fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The pickle of a module with a tensor `w` of one dimension.
pub fn pickle(offset: u8, size: u8, stride: u8, elements: u8) -> Vec<u8> {
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

/// An archive of those entries.
pub fn archive(data: &[u8], source: &str, storage: &[u8]) -> Vec<u8> {
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
