//! Recognises files that are something other than an ONNX model, so that the message can say what they are.

use crate::{Error, err};

/// The error for bytes that did not parse as a model, if they are plainly something else.
pub fn explain(bytes: &[u8]) -> Option<Error> {
    let (what, remedy) = recognise(bytes)?;
    Some(err!(InvalidFile, "not an ONNX model but {what}: {remedy}"))
}

const EXPORT: &str = "export the model as ONNX (torch.onnx.export, tf2onnx, skl2onnx...)";
const DOWNLOAD: &str = "the download failed or needs a login; get the model itself";
const UNPACK: &str = "unpack it and give the .onnx file inside";

/// What the bytes are and what to do about it.
fn recognise(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if bytes.is_empty() {
        return Some(("an empty file", "export or copy the model again"));
    }
    if at(0, b"PK\x03\x04") {
        // The names of an archive's entries stand in the clear; the first ones are near the start.
        let head = &bytes[..bytes.len().min(4096)];
        let has = |needle: &[u8]| head.windows(needle.len()).any(|w| w == needle);
        if has(b"data.pkl") || has(b"archive_format") || has(b"model.json") || has(b"/byteorder") {
            return Some(("a PyTorch archive", EXPORT));
        }
        return Some(("a zip archive", UNPACK));
    }
    if at(0, b"MEZZOENG") {
        return Some(("an engine file of Mezzo", "load it as an engine"));
    }
    if at(0, b"version https://git-lfs") {
        return Some(("a Git LFS pointer", "fetch the file itself with 'git lfs pull'"));
    }
    if at(0, b"\x1f\x8b") {
        return Some(("a gzip file", UNPACK));
    }
    if at(0, b"\xfd7zXZ") || at(0, b"7z\xbc\xaf") || at(0, b"\x28\xb5\x2f\xfd") || at(0, b"BZh") || at(257, b"ustar") {
        return Some(("an archive", UNPACK));
    }
    if at(0, b"\x80\x02") || at(0, b"\x80\x03") || at(0, b"\x80\x04") || at(0, b"\x80\x05") {
        return Some(("a Python pickle", EXPORT));
    }
    if at(0, b"\x89HDF") {
        return Some(("an HDF5 file (Keras?)", EXPORT));
    }
    if at(4, b"TFL3") {
        return Some(("a TensorFlow Lite model", "convert it with tf2onnx"));
    }
    if at(4, b"ORTM") {
        return Some(("a model in ONNX Runtime's own format", "give the .onnx file it was made from"));
    }
    if at(0, b"ptrt") || at(0, b"ftrt") {
        return Some(("a TensorRT plan", "give the .onnx file it was built from"));
    }
    if at(0, b"GGUF") {
        return Some(("a GGUF file", EXPORT));
    }
    if at(0, b"\x93NUMPY") {
        return Some(("a NumPy array", "give the model file"));
    }
    recognise_text(bytes)
}

fn recognise_text(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let head = &bytes[..bytes.len().min(512)];
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text =
        std::str::from_utf8(head).unwrap_or_else(|e| std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or(""));
    let text = text.trim_start().to_ascii_lowercase();
    if text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<head") {
        return Some(("a web page", DOWNLOAD));
    }
    if text.starts_with("<?xml") {
        return Some(("an XML file", DOWNLOAD));
    }
    if text.starts_with("ir_version:") || text.starts_with("ir_version :") || text.starts_with("<ir_version") {
        return Some(("ONNX in text form", "save it as a binary .onnx file with onnx.save"));
    }
    if text.starts_with('{') && text.contains('"') {
        return Some(("JSON text", "give the binary .onnx file"));
    }
    if text.starts_with("#!") || text.starts_with("import ") || text.starts_with("from ") {
        return Some(("a script", EXPORT));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_called_by_their_name() {
        let zip = [b"PK\x03\x04".as_slice(), &[0; 20], b"archive/data.pkl"].concat();
        for (bytes, word) in [
            (b"".as_slice(), "empty"),
            (&zip, "PyTorch"),
            (b"PK\x03\x04 readme", "zip archive"),
            (b"\xef\xbb\xbf \n<!DOCTYPE html><html>", "web page"),
            (b"<HTML>", "web page"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
            (b"\x80\x02}q\x00", "pickle"),
            (b"\x1c\x00\x00\x00TFL3", "TensorFlow Lite"),
            (b"{\"a\": 1}", "JSON"),
            (b"ir_version: 8\n", "text form"),
            (b"MEZZOENG\x01", "engine"),
        ] {
            let e = explain(bytes).unwrap();
            assert!(e.message().contains(word), "{e}");
        }
        // A model begins with its IR version, or any other field.
        assert!(explain(b"\x08\x08\x12\x01x").is_none());
        assert!(explain(b"\x3a\x02\x12\x00").is_none());
    }
}
