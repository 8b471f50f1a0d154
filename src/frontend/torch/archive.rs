//! Zip archives as torch writes them, read from memory (docs/torch-lowering.md).
//!
//! Entries are stored or deflated. A stored entry is handed out as a view of the archive's bytes, so that weights stay in
//! the map of the file; a deflated one is inflated when it is asked for. Nothing in the archive is believed: the directory's
//! entries are counted, their names checked, and their places held against each other and against the file before any is
//! read, and inflating stops at limits.

use crate::{Result, bail, err};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

/// More entries than any archive of torch has; a model of thousands of tensors has as many entries.
const MAX_ENTRIES: u64 = 200_000;
/// All inflated entries of one archive together.
const MAX_INFLATED: u64 = 1 << 30;
/// Up to this size an entry may inflate by any ratio; above it by [`MAX_RATIO`] at most.
const FREE_INFLATED: u64 = 32 << 20;
/// Source text of large traces deflates by 30 or 50, a bomb by a thousand.
const MAX_RATIO: u64 = 200;
/// Longest name of an entry.
const MAX_NAME: usize = 4096;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
/// Bytes of the fixed parts of these records.
const LOCAL_LEN: u64 = 30;
const CENTRAL_LEN: usize = 46;
const END_LEN: usize = 22;
const END64_LEN: u64 = 56;
const LOCATOR64_LEN: u64 = 20;

/// A zip archive over bytes.
#[derive(Debug)]
pub struct Archive {
    bytes: Bytes,
    entries: BTreeMap<String, Entry>,
    inflated: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u64,
    packed: u64,
    size: u64,
    crc: u32,
    deflated: bool,
}

/// Whether the bytes begin like a zip archive.
pub fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

impl Archive {
    /// Reads the directory; entries are read when asked for.
    pub fn read(bytes: Bytes) -> Result<Archive> {
        let directory = Directory::find(&bytes)?;
        let mut entries = BTreeMap::new();
        // Where each entry lies, header and data; two of them must never share a byte.
        let mut places = Vec::new();
        let mut at = directory.start;
        for _ in 0..directory.count {
            let (record, next) = Record::read(&bytes, at, directory.end)?;
            at = next;
            let entry = record.entry(&bytes)?;
            let end = entry.start + entry.packed;
            if end > directory.start {
                bail!(InvalidFile, "the archive is damaged: '{}' reaches into the directory", record.name);
            }
            places.push((record.offset, end));
            if record.name.ends_with('/') {
                continue;
            }
            let name = record.name;
            if entries.insert(name.clone(), entry).is_some() {
                bail!(InvalidFile, "the archive is damaged: it has two entries of the name '{name}'");
            }
        }
        places.sort_unstable();
        if places.windows(2).any(|pair| matches!(pair, [a, b] if b.0 < a.1)) {
            bail!(InvalidFile, "the archive is damaged or forged: entries overlap");
        }
        Ok(Archive { bytes, entries: without_root(entries), inflated: AtomicU64::new(0) })
    }

    /// The entries' names in order, without the folder that torch puts around all of them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The names below a folder (`code/`), in full.
    pub fn under<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a str> {
        self.entries
            .range(folder.to_owned()..)
            .map(|(name, _)| name.as_str())
            .take_while(move |n| n.starts_with(folder))
    }

    /// Whether there is an entry of this name.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// An entry's bytes, if there is one of this name: a view of the archive's when it is stored.
    pub fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let packed = slice(&self.bytes, entry.start, entry.packed, name)?;
        if !entry.deflated {
            return Ok(Some(packed));
        }
        self.inflate(name, entry, &packed).map(Some)
    }

    /// An entry's bytes; an error that names it when there is none.
    pub fn need(&self, name: &str) -> Result<Bytes> {
        self.get(name)?.ok_or_else(|| {
            err!(
                InvalidFile,
                "the archive has no entry '{name}': it is incomplete or of a form that torch does not write"
            )
        })
    }

    /// An entry's text.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(bytes) = self.get(name)? else { return Ok(None) };
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => bail!(InvalidFile, "the archive is damaged: '{name}' is not text in UTF-8"),
        }
    }

    fn inflate(&self, name: &str, entry: &Entry, packed: &[u8]) -> Result<Bytes> {
        if entry.size > FREE_INFLATED && entry.size / MAX_RATIO > entry.packed {
            bail!(
                InvalidFile,
                "'{name}' would grow from {} to {} bytes: more than {MAX_RATIO} times is taken for a zip bomb",
                entry.packed,
                entry.size
            );
        }
        let before = self.inflated.fetch_add(entry.size, Ordering::Relaxed);
        if before.saturating_add(entry.size) > MAX_INFLATED {
            bail!(
                InvalidFile,
                "the archive's compressed entries grow above {MAX_INFLATED} bytes: save it uncompressed"
            );
        }
        // The size is the directory's claim: memory grows as bytes come, never ahead of them by more than a step.
        let mut out = Vec::with_capacity(entry.size.min(1 << 20) as usize);
        let decoder = flate2::read::DeflateDecoder::new(packed);
        let read = decoder.take(entry.size + 1).read_to_end(&mut out);
        if read.is_err() || out.len() as u64 != entry.size || crc32fast::hash(&out) != entry.crc {
            bail!(
                InvalidFile,
                "the archive is damaged: '{name}' does not inflate to what the directory says; get it again"
            );
        }
        Ok(out.into())
    }
}

/// Where the directory of an archive lies.
struct Directory {
    start: u64,
    end: u64,
    count: u64,
}

impl Directory {
    fn find(bytes: &[u8]) -> Result<Directory> {
        let incomplete = || err!(InvalidFile, "the zip archive has no directory at its end: it is an incomplete copy");
        let end_at = (bytes.len().saturating_sub(END_LEN + 0xffff)..=bytes.len().saturating_sub(END_LEN))
            .rev()
            .find(|&at| {
                u32_at(bytes, at) == Some(END)
                    && u16_at(bytes, at + 20).is_some_and(|comment| at + END_LEN + comment as usize == bytes.len())
            })
            .ok_or_else(incomplete)?;
        let short = |offset: usize| u16_at(bytes, end_at + offset).ok_or_else(incomplete);
        let long = |offset: usize| u32_at(bytes, end_at + offset).ok_or_else(incomplete);
        if short(4)? != 0 && short(4)? != 0xffff || short(6)? != 0 && short(6)? != 0xffff {
            bail!(Unsupported, "the zip archive is one of several parts: join them first");
        }
        let (mut count, mut len, mut start) = (u64::from(short(10)?), u64::from(long(12)?), u64::from(long(16)?));
        let mut limit = end_at as u64;
        // The larger form's record stands before a locator right before the end record.
        let locator =
            (end_at as u64).checked_sub(LOCATOR64_LEN).filter(|&at| u32_at(bytes, at as usize) == Some(LOCATOR64));
        if let Some(locator) = locator {
            let at = u64_at(bytes, locator as usize + 8).ok_or_else(incomplete)?;
            if at.checked_add(END64_LEN).is_none_or(|end| end > locator) || u32_at(bytes, at as usize) != Some(END64) {
                return Err(incomplete());
            }
            let field = |offset: usize| u64_at(bytes, at as usize + offset).ok_or_else(incomplete);
            (count, len, start) = (field(32)?, field(40)?, field(48)?);
            limit = at;
        }
        if count > MAX_ENTRIES {
            bail!(InvalidFile, "the zip archive claims {count} entries; {MAX_ENTRIES} is the most that is read");
        }
        let end = start.checked_add(len).filter(|&end| end == limit).ok_or_else(|| {
            err!(InvalidFile, "the zip archive's directory is not where its end record says: it is damaged or was cut")
        })?;
        Ok(Directory { start, end, count })
    }
}

/// One record of the directory.
struct Record {
    name: String,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    offset: u64,
}

impl Record {
    /// The record at a place, and where the next one begins.
    fn read(bytes: &[u8], at: u64, end: u64) -> Result<(Record, u64)> {
        let damaged = || err!(InvalidFile, "the zip archive's directory is damaged: get the file again");
        let fixed =
            range(bytes, at, CENTRAL_LEN as u64).filter(|_| at + CENTRAL_LEN as u64 <= end).ok_or_else(damaged)?;
        if u32_at(fixed, 0) != Some(CENTRAL) {
            return Err(damaged());
        }
        let short = |offset| u16_at(fixed, offset).unwrap_or(0);
        let long = |offset| u32_at(fixed, offset).unwrap_or(0);
        let (name_len, extra_len, comment_len) = (short(28), short(30), short(32));
        let name_at = at + CENTRAL_LEN as u64;
        let extra_at = name_at + u64::from(name_len);
        let next = extra_at + u64::from(extra_len) + u64::from(comment_len);
        if next > end {
            return Err(damaged());
        }
        let name = range(bytes, name_at, name_len.into()).ok_or_else(damaged)?;
        let name = checked_name(name)?;
        let mut record = Record {
            name,
            flags: short(8),
            method: short(10),
            crc: long(16),
            packed: long(20).into(),
            size: long(24).into(),
            offset: long(42).into(),
        };
        record.widen(range(bytes, extra_at, extra_len.into()).ok_or_else(damaged)?).ok_or_else(damaged)?;
        Ok((record, next))
    }

    /// Fields that did not fit 32 bits stand in an extra field, in this order and only if they are marked.
    fn widen(&mut self, mut extra: &[u8]) -> Option<()> {
        let marked = u64::from(u32::MAX);
        if self.size != marked && self.packed != marked && self.offset != marked {
            return Some(());
        }
        while extra.len() >= 4 {
            let (id, len) = (u16_at(extra, 0)?, u16_at(extra, 2)? as usize);
            let field = extra.get(4..4 + len)?;
            if id == 1 {
                let mut at = 0;
                for value in [&mut self.size, &mut self.packed, &mut self.offset] {
                    if *value == marked {
                        *value = u64_at(field, at)?;
                        at += 8;
                    }
                }
                return Some(());
            }
            extra = extra.get(4 + len..)?;
        }
        None
    }

    /// The entry's place, by its own header.
    fn entry(&self, bytes: &[u8]) -> Result<Entry> {
        let name = &self.name;
        let damaged = |what: &str| err!(InvalidFile, "the archive is damaged: '{name}' {what}");
        if self.flags & 1 != 0 {
            bail!(Unsupported, "the archive's entry '{name}' is encrypted: save the model without a password");
        }
        if self.method != 0 && self.method != 8 {
            bail!(
                Unsupported,
                "the archive's entry '{name}' is compressed by method {}; stored and deflated entries are read",
                self.method
            );
        }
        let header = range(bytes, self.offset, LOCAL_LEN).ok_or_else(|| damaged("lies outside the file"))?;
        let (name_len, extra_len) = (u16_at(header, 26).unwrap_or(0), u16_at(header, 28).unwrap_or(0));
        let own = range(bytes, self.offset + LOCAL_LEN, name_len.into());
        if u32_at(header, 0) != Some(LOCAL) || own != Some(name.as_bytes()) || u16_at(header, 8) != Some(self.method) {
            return Err(damaged("has a header that contradicts the directory"));
        }
        let start = self.offset + LOCAL_LEN + u64::from(name_len) + u64::from(extra_len);
        if range(bytes, start, self.packed).is_none() {
            return Err(damaged("lies outside the file"));
        }
        let deflated = self.method == 8;
        if !deflated && self.packed != self.size {
            return Err(damaged("is stored, but with two sizes"));
        }
        Ok(Entry { start, packed: self.packed, size: self.size, crc: self.crc, deflated })
    }
}

/// A name that is safe as a relative path, though nothing is ever written by it.
fn checked_name(bytes: &[u8]) -> Result<String> {
    let name = std::str::from_utf8(bytes).map_err(|_| err!(InvalidFile, "the archive has a name that is not UTF-8"))?;
    let tricky = name.is_empty()
        || name.len() > MAX_NAME
        || name.starts_with('/')
        || name.contains(['\\', '\0'])
        || name.get(1..2) == Some(":")
        || name.split('/').any(|part| part == ".." || part == ".");
    if tricky {
        bail!(InvalidFile, "the archive has an entry of the unsafe name {name:?}: torch writes no such names");
    }
    Ok(name.to_owned())
}

/// The entries without the first folder of their names, when all share it.
fn without_root(entries: BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
    let root = entries.keys().next().and_then(|name| name.split_once('/')).map(|(root, _)| format!("{root}/"));
    match root {
        Some(root) if entries.keys().all(|name| name.starts_with(&root)) => {
            entries.into_iter().map(|(name, entry)| (name[root.len()..].to_owned(), entry)).collect()
        }
        _ => entries,
    }
}

fn slice(bytes: &Bytes, start: u64, len: u64, name: &str) -> Result<Bytes> {
    match range(bytes, start, len) {
        Some(_) => Ok(bytes.slice(start as usize..(start + len) as usize)),
        None => bail!(InvalidFile, "the archive is damaged: '{name}' lies outside the file"),
    }
}

fn range(bytes: &[u8], start: u64, len: u64) -> Option<&[u8]> {
    let end = start.checked_add(len)?;
    bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    fn archive(entries: &[(&str, &[u8], bool)]) -> Vec<u8> {
        let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, data, deflated) in entries {
            let method = if *deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
            zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(data).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn stored_entries_are_views_and_deflated_ones_are_inflated() {
        let text = "line\n".repeat(1000);
        let bytes = Bytes::from(archive(&[("m/data/0", b"weights", false), ("m/code/a.py", text.as_bytes(), true)]));
        let read = Archive::read(bytes.clone()).unwrap();
        assert_eq!(read.names().collect::<Vec<_>>(), ["code/a.py", "data/0"]);
        assert_eq!(read.under("data/").collect::<Vec<_>>(), ["data/0"]);
        let weights = read.need("data/0").unwrap();
        assert_eq!(&weights[..], b"weights");
        assert!(bytes.as_ptr_range().contains(&weights.as_ptr()));
        assert_eq!(read.text("code/a.py").unwrap().unwrap(), text);
        assert!(read.get("data/1").unwrap().is_none());
    }

    #[test]
    fn tricks_are_refused() {
        let refused = |bytes: Vec<u8>, word: &str| {
            let e = Archive::read(Bytes::from(bytes)).unwrap_err();
            assert!(e.message().contains(word), "{e}");
        };
        let swapped = |from: &str, to: &str| {
            let mut bytes = archive(&[(from, b"x", false), ("m/b", b"y", false)]);
            for at in 0..bytes.len() - from.len() {
                if bytes[at..].starts_with(from.as_bytes()) {
                    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
                }
            }
            bytes
        };
        refused(swapped("m/aaaaaa", "../aaaaa"), "unsafe name");
        refused(swapped("m/aaaaaa", "/m/aaaaa"), "unsafe name");
        refused(swapped("m/aaaaaa", "m\\aaaaaa"), "unsafe name");
        refused(swapped("m/a", "m/b"), "two entries");
        let whole = archive(&[("m/a", b"xxxx", false)]);
        refused(whole[..whole.len() - 1].to_vec(), "incomplete");
        refused(whole[1..].to_vec(), "damaged");
        // The second entry's record points at the first one's header.
        let mut bytes = archive(&[("m/a", b"xxxx", false), ("m/a/", b"", false)]);
        let second = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
        bytes[second + 42..second + 46].fill(0);
        refused(bytes, "contradicts");
    }

    #[test]
    fn bombs_do_not_go_off() {
        let zeros = vec![0; 64 << 20];
        let read = Archive::read(Bytes::from(archive(&[("m/bomb", &zeros, true)]))).unwrap();
        assert!(read.get("bomb").unwrap_err().message().contains("bomb"));
        // A size that lies is found out by the inflated length.
        let mut bytes = archive(&[("m/a", &zeros[..1000], true)]);
        let record = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
        bytes[record + 24..record + 28].copy_from_slice(&10u32.to_le_bytes());
        assert!(Archive::read(Bytes::from(bytes)).unwrap().get("a").is_err());
    }
}
