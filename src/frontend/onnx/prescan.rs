//! A walk over the wire format before it is decoded.
//!
//! The decoder silently drops fields that it does not know and stops at a fixed depth. So the bytes are walked first with
//! the table of known fields: whatever would be lost, or cannot be right, is refused by name. The walk reads only tags
//! and lengths (and checks the encoding of strings); it skips over tensor data, so the pages of a mapped file that hold
//! weights are not touched.

use super::fields::{MESSAGES, MODEL_PROTO};
use crate::sys::map;
use crate::{Error, Result, err};

/// How deep messages may nest: the limit of the decoder, and of protobuf's other implementations.
pub const MAX_DEPTH: usize = 100;

/// Bytes that the decoded structure (without tensor data) may take, for a file of `len` bytes. Real models need a small
/// part of it; a file of empty messages passes it.
fn max_structure(len: usize) -> u64 {
    const BASE: u64 = 1 << 30;
    const MOST: u64 = 16 << 30;
    (BASE + 32 * len as u64).min(MOST)
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Varint,
    Fixed32,
    Fixed64,
    String,
    Bytes,
    /// A message, by its place in [`MESSAGES`].
    Nested(usize),
}

/// A known field.
#[derive(Debug)]
pub struct Field {
    pub number: u32,
    pub name: &'static str,
    pub kind: Kind,
    pub repeated: bool,
}

/// A known message.
#[derive(Debug)]
pub struct Message {
    /// Bytes of its decoded form, without what it points to.
    pub size: usize,
    /// Its fields, ascending.
    pub fields: &'static [Field],
}

impl Field {
    /// A singular field.
    pub const fn one(number: u32, name: &'static str, kind: Kind) -> Self {
        Field { number, name, kind, repeated: false }
    }

    /// A repeated field.
    pub const fn many(number: u32, name: &'static str, kind: Kind) -> Self {
        Field { number, name, kind, repeated: true }
    }
}

impl Message {
    fn field(&self, number: u32) -> Option<(usize, &'static Field)> {
        let i = self.fields.binary_search_by_key(&number, |f| f.number).ok()?;
        Some((i, &self.fields[i]))
    }
}

/// No message has more fields.
const MAX_FIELDS: usize = 32;

/// Checks that `bytes` are a `ModelProto` of which the decoder would lose nothing.
pub fn check(bytes: &[u8]) -> Result<()> {
    let mut scan = Scan { bytes, structure: 0, graph_seen: false, released: 0 };
    scan.message(MODEL_PROTO, 0, bytes.len(), 0).map_err(|fault| fault.into_error(scan.graph_seen))
}

/// What was found, and where; the path is filled on the way out.
struct Fault {
    at: usize,
    path: Vec<String>,
    what: What,
}

enum What {
    /// The bytes break the wire format.
    Damage(String),
    /// They are valid, but of something newer.
    Unknown {
        number: u64,
    },
    /// They pass a limit.
    TooDeep,
    TooLarge {
        limit: u64,
    },
}

impl Fault {
    fn into_error(mut self, graph_seen: bool) -> Error {
        self.path.reverse();
        let place = if self.path.is_empty() { "the model".to_owned() } else { format!("'{}'", self.path.join(".")) };
        let at = self.at;
        match self.what {
            What::Damage(what) if self.path.is_empty() && !graph_seen => err!(
                InvalidFile,
                "not an ONNX model, or a damaged one (byte {at}: {what}): give a file written by an ONNX exporter"
            ),
            What::Unknown { number } if self.path.is_empty() && !graph_seen => err!(
                InvalidFile,
                "not an ONNX model, or a damaged one (byte {at}: a model has no field {number}): give a file written by \
                 an ONNX exporter"
            ),
            What::Damage(what) => err!(
                InvalidFile,
                "the model is damaged: {place}, byte {at}: {what}. Get the file again, it may be an incomplete copy"
            ),
            What::Unknown { number } => err!(
                Unsupported,
                "{place} (byte {at}) has the field {number}, which ONNX IR version {} does not have, and which would be \
                 lost: export the model with an older ONNX version, or use a newer Mezzo",
                super::fields::MAX_IR_VERSION
            ),
            What::TooDeep => err!(
                Unsupported,
                "{place} (byte {at}) nests messages more than {MAX_DEPTH} deep, which protobuf readers refuse: a model can \
                 nest about 30 subgraphs; move inner ones to local functions"
            ),
            What::TooLarge { limit } => err!(
                OutOfMemory,
                "the model's structure (without weights) would take more than {limit} bytes, at {place} (byte {at}): the \
                 file is damaged or made to exhaust memory"
            ),
        }
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    /// Estimated bytes of the decoded structure so far.
    structure: u64,
    /// The main graph has been walked without a fault.
    graph_seen: bool,
    /// Pages up to here have been given back.
    released: usize,
}

type Step<T> = std::result::Result<T, Box<Fault>>;

fn fault<T>(at: usize, what: What) -> Step<T> {
    Err(Box::new(Fault { at, path: Vec::new(), what }))
}

fn damage<T>(at: usize, what: impl Into<String>) -> Step<T> {
    fault(at, What::Damage(what.into()))
}

impl Scan<'_> {
    /// Walks one message, which lies in `start..end`.
    fn message(&mut self, index: usize, start: usize, end: usize, depth: usize) -> Step<()> {
        if depth > MAX_DEPTH {
            return fault(start, What::TooDeep);
        }
        let message = &MESSAGES[index];
        self.grow(message.size, start)?;
        let mut seen = [0u32; MAX_FIELDS];
        let mut at = start;
        while at < end {
            let tag_at = at;
            let tag = self.varint(&mut at, end)?;
            let number = tag >> 3;
            if number == 0 || number > 0x1fff_ffff {
                return damage(tag_at, format!("{number} is not a field number"));
            }
            let known = u32::try_from(number).ok().and_then(|n| message.field(n));
            let Some((slot, field)) = known else {
                return self.unknown(tag_at, at, end, tag);
            };
            let nth = seen[slot];
            seen[slot] += 1;
            if let Err(mut f) = self.field(field, (tag & 7) as u8, tag_at, &mut at, end, depth) {
                f.path.push(if field.repeated { format!("{}[{nth}]", field.name) } else { field.name.to_owned() });
                return Err(f);
            }
            if index == MODEL_PROTO && field.name == "graph" {
                self.graph_seen = true;
            }
        }
        Ok(())
    }

    /// An unknown field: if what follows cannot be one either, the bytes are damaged rather than newer.
    fn unknown(&self, tag_at: usize, mut at: usize, end: usize, tag: u64) -> Step<()> {
        match tag & 7 {
            0 => self.varint(&mut at, end).map(drop)?,
            1 => self.fixed(&mut at, end, 8)?,
            2 => self.length(&mut at, end).map(drop)?,
            5 => self.fixed(&mut at, end, 4)?,
            wire => return damage(tag_at, format!("wire type {wire} does not occur in ONNX")),
        }
        fault(tag_at, What::Unknown { number: tag >> 3 })
    }

    fn field(&mut self, field: &Field, wire: u8, tag_at: usize, at: &mut usize, end: usize, depth: usize) -> Step<()> {
        match (field.kind, wire) {
            (Kind::Varint, 0) => self.varint(at, end).map(drop),
            (Kind::Fixed64, 1) => self.fixed(at, end, 8),
            (Kind::Fixed32, 5) => self.fixed(at, end, 4),
            (Kind::Bytes, 2) => {
                *at = self.length(at, end)?;
                map::release_behind(self.bytes, &mut self.released, *at);
                if field.repeated { self.grow(size_of::<bytes::Bytes>(), tag_at) } else { Ok(()) }
            }
            (Kind::String, 2) => {
                let start = *at;
                let stop = self.length(at, end)?;
                if let Err(e) = std::str::from_utf8(&self.bytes[*at..stop]) {
                    return damage(*at + e.valid_up_to(), "text is not UTF-8");
                }
                *at = stop;
                self.grow(size_of::<String>() + (stop - start), tag_at)
            }
            (Kind::Nested(index), 2) => {
                let stop = self.length(at, end)?;
                self.message(index, *at, stop, depth + 1)?;
                *at = stop;
                Ok(())
            }
            // Repeated numbers may be packed, whatever the descriptor says.
            (Kind::Varint, 2) if field.repeated => {
                *at = self.length(at, end)?;
                Ok(())
            }
            (Kind::Fixed32 | Kind::Fixed64, 2) if field.repeated => {
                let size = if field.kind == Kind::Fixed32 { 4 } else { 8 };
                let start = *at;
                let stop = self.length(at, end)?;
                if !(stop - *at).is_multiple_of(size) {
                    return damage(start, format!("{} bytes are not whole numbers of {size} bytes", stop - *at));
                }
                *at = stop;
                Ok(())
            }
            (kind, wire) => damage(tag_at, format!("a field of kind {kind:?} cannot have wire type {wire}")),
        }
    }

    fn varint(&self, at: &mut usize, end: usize) -> Step<u64> {
        let start = *at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.bytes[..end].get(*at) else {
                return damage(start, "a number is cut off");
            };
            *at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        damage(start, "a number is longer than 64 bits")
    }

    fn fixed(&self, at: &mut usize, end: usize, size: usize) -> Step<()> {
        if end - *at < size {
            return damage(*at, "a number is cut off");
        }
        *at += size;
        Ok(())
    }

    /// Reads a length, moves to the content and returns the content's end.
    fn length(&self, at: &mut usize, end: usize) -> Step<usize> {
        let start = *at;
        let length = self.varint(at, end)?;
        let left = end - *at;
        match usize::try_from(length) {
            Ok(length) if length <= left => Ok(*at + length),
            _ => damage(start, format!("{length} bytes are announced, but only {left} follow")),
        }
    }

    fn grow(&mut self, by: usize, at: usize) -> Step<()> {
        self.structure += by as u64;
        let limit = max_structure(self.bytes.len());
        if self.structure > limit { fault(at, What::TooLarge { limit }) } else { Ok(()) }
    }
}
