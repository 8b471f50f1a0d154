//! Which of torch's files a file is; those without a program get an error that says what to save instead.

use super::archive::{self, Archive};
use super::pickle::{Object, Pickle};
use super::pt2;
use crate::{Error, Result, bail, err};
use bytes::Bytes;

const SAVE: &str = "save the program: torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2'), or \
                    torch.jit.trace(model.eval(), inputs).save('model.pt')";

/// Whether a file is one of torch's, with a program or without.
pub fn looks_like_torch(bytes: &[u8]) -> bool {
    if archive::is_zip(bytes) {
        let head = bytes.get(..4096).unwrap_or(bytes);
        let has = |needle: &[u8]| head.windows(needle.len()).any(|w| w == needle);
        return has(b"data.pkl")
            || has(b"/data/")
            || has(b"archive_format")
            || has(b"model.json")
            || has(b"/byteorder")
            || has(b"/code/")
            || has(b"/version")
            || has(b"/constants/");
    }
    is_pickle(bytes)
}

fn is_pickle(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

/// The archive, if it holds a program.
pub(super) fn program_of(bytes: Bytes) -> Result<Archive> {
    if is_pickle(&bytes) {
        return Err(legacy(&bytes));
    }
    let archive = Archive::read(bytes)?;
    if pt2::is_pt2(archive.names()) || archive.under("code/").next().is_some() {
        return Ok(archive);
    }
    if archive.has("serialized_exported_program.json") {
        bail!(
            Version,
            "this .pt2 file was written before torch 2.6, in a form that is not read: load it with that torch and save it with a newer one"
        );
    }
    if archive.has("model.json") && archive.has("attributes.pkl") {
        bail!(
            Version,
            "this archive was written by torch 1.3 or before: load it with torch.jit.load and save it again"
        );
    }
    if archive.has("data.pkl") {
        return Err(without_program(&archive.need("data.pkl")?));
    }
    bail!(InvalidFile, "the zip archive is not one that torch writes: give a .pt2, a TorchScript .pt or an .onnx file")
}

/// The error for a pickle without a program.
fn without_program(pickle: &[u8]) -> Error {
    match Pickle::read(pickle) {
        Ok(read) => match read.get(read.root()) {
            Object::Dict(items) => err!(
                InvalidFile,
                "the file holds a state_dict or checkpoint of {} entries: weights without the program that uses them. \
                 Load it into the model in Python and {SAVE}",
                items.len()
            ),
            _ => err!(InvalidFile, "the file holds pickled data without a program; {SAVE}"),
        },
        Err(e) => err!(
            InvalidFile,
            "the file is a pickled Python object (torch.save of a whole model or of more than tensors), not a program ({}). \
             Load it in Python with its own source and {SAVE}",
            e.message()
        ),
    }
}

/// Files of torch before 1.6 are several pickles in a row, the first a number.
fn legacy(bytes: &[u8]) -> Error {
    match Pickle::read(bytes) {
        Err(e) if e.message().contains("integer") => err!(
            InvalidFile,
            "the file is a checkpoint in the form of torch before 1.6: weights, perhaps with a pickled model, but no program. \
             Load it in Python and {SAVE}"
        ),
        _ => without_program(bytes),
    }
}
