//! The engine file: a header, a table of checksummed sections, and the sections, each at a multiple of 4096 bytes.
//!
//! All numbers are little-endian.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `MEZZOENG` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | number of sections |
//! | 16 | 8 | length of the file |
//! | 24 | 4 | CRC-32 (IEEE) of the section table |
//! | 28 | 4 | CRC-32 of bytes 0 to 28 |
//! | 32 | 48 each | section table: name (16 bytes, padded with zeros), offset, length, CRC-32, 12 zeros |
//!
//! Sections that a reader does not know are skipped; what must be understood raises the format version. The checksums
//! guard against damage, not against malice. The section `info` holds [`EngineInfo`] as JSON; the backend owns the others.

use crate::backend::{EngineInfo, PartSource, Section, SectionReader};
use crate::sys::atomic_file::AtomicFile;
use crate::{Result, bail, err};
use bytes::Bytes;
use std::path::Path;

const MAGIC: &[u8; 8] = b"MEZZOENG";
const VERSION: u32 = 1;
const HEADER: usize = 32;
const ENTRY: usize = 48;
const ALIGN: u64 = 4096;
/// No backend has more; a larger number is damage.
const MAX_SECTIONS: usize = 64;

/// True when `start` begins as an engine file does.
pub fn is_engine_file(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

struct Entry {
    name: [u8; 16],
    offset: u64,
    len: u64,
    crc: u32,
}

/// Writes an engine file, whole or not at all.
pub fn save(path: &Path, info: &EngineInfo, sections: &[Section]) -> Result<()> {
    let info_json = serde_json::to_vec(info).map_err(|e| err!(Internal, "engine info: {e}"))?;
    let info_section = Section { name: "info", parts: vec![PartSource::Bytes(info_json.into())] };
    let sections: Vec<&Section> = std::iter::once(&info_section).chain(sections).collect();

    let mut file = AtomicFile::create(path)?;
    let mut at = (HEADER + ENTRY * sections.len()) as u64;
    file.write(&vec![0; at as usize])?;
    let mut table = Vec::with_capacity(ENTRY * sections.len());
    for section in &sections {
        let padding = at.next_multiple_of(ALIGN) - at;
        PartSource::Zeros(padding as usize).for_each_chunk(|c| file.write(c))?;
        at += padding;
        let (len, crc) = write_section(&mut file, section)?;
        let mut name = [0; 16];
        name[..section.name.len()].copy_from_slice(section.name.as_bytes());
        Entry { name, offset: at, len, crc }.write(&mut table);
        at += len;
    }
    file.write_at(0, &header(sections.len() as u32, at, &table))?;
    file.write_at(HEADER as u64, &table)?;
    file.commit()
}

fn write_section(file: &mut AtomicFile, section: &Section) -> Result<(u64, u32)> {
    let mut crc = crc32fast::Hasher::new();
    let mut len = 0;
    for part in &section.parts {
        part.for_each_chunk(|chunk| {
            crc.update(chunk);
            len += chunk.len() as u64;
            file.write(chunk)
        })?;
    }
    Ok((len, crc.finalize()))
}

fn header(sections: u32, file_len: u64, table: &[u8]) -> Vec<u8> {
    let mut h = Vec::with_capacity(HEADER);
    h.extend(MAGIC);
    h.extend(VERSION.to_le_bytes());
    h.extend(sections.to_le_bytes());
    h.extend(file_len.to_le_bytes());
    h.extend(crc32fast::hash(table).to_le_bytes());
    h.extend(crc32fast::hash(&h).to_le_bytes());
    h
}

impl Entry {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.name);
        out.extend(self.offset.to_le_bytes());
        out.extend(self.len.to_le_bytes());
        out.extend(self.crc.to_le_bytes());
        out.extend([0; 12]);
    }
}

/// Reads an engine file: its info and its other sections, as views of `bytes`.
pub fn read(bytes: &Bytes) -> Result<(EngineInfo, SectionReader)> {
    if !is_engine_file(bytes) {
        bail!(
            InvalidFile,
            "not a Mezzo engine (it does not begin with MEZZOENG): give a file written by 'mezzo build'"
        );
    }
    let damaged = |what: &str| err!(InvalidFile, "the engine is damaged or truncated ({what}): build it again");
    let head = bytes.get(..HEADER).ok_or_else(|| damaged("no whole header"))?;
    let version = u32_at(head, 8);
    if version != VERSION {
        bail!(Version, "the engine has format version {version}, this library reads {VERSION}: build it again");
    }
    if u32_at(head, 28) != crc32fast::hash(&head[..28]) {
        return Err(damaged("header checksum"));
    }
    let count = u32_at(head, 12) as usize;
    if count > MAX_SECTIONS {
        return Err(damaged("number of sections"));
    }
    let file_len = u64_at(head, 16);
    if file_len != bytes.len() as u64 {
        bail!(
            InvalidFile,
            "the engine is truncated or has trailing bytes: {file_len} bytes were written, {} are there: copy it again \
             or build it again",
            bytes.len()
        );
    }
    let table = bytes.get(HEADER..HEADER + ENTRY * count).ok_or_else(|| damaged("section table"))?;
    if u32_at(head, 24) != crc32fast::hash(table) {
        return Err(damaged("section table checksum"));
    }
    let mut sections = SectionReader::default();
    for entry in table.chunks_exact(ENTRY) {
        let name = String::from_utf8_lossy(&entry[..16]).trim_end_matches('\0').to_string();
        let (offset, len) = (u64_at(entry, 16), u64_at(entry, 24));
        let end = offset.checked_add(len).filter(|end| *end <= file_len).ok_or_else(|| damaged("section bounds"))?;
        let content = bytes.slice(offset as usize..end as usize);
        if checksum(&content) != u32_at(entry, 32) {
            return Err(damaged(&format!("checksum of section '{name}'")));
        }
        sections.add(name, content)?;
    }
    let info = serde_json::from_slice(sections.get("info")?)
        .map_err(|e| err!(InvalidFile, "the engine's info section is not readable ({e}): build it again"))?;
    Ok((info, sections))
}

/// CRC-32 of a section. A large one is read by several threads: most of the time goes into bringing a mapped file's pages in.
fn checksum(content: &[u8]) -> u32 {
    const PIECE: usize = 8 << 20;
    const MOST: usize = 8;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(content.len() / PIECE).clamp(1, MOST);
    let hash = |piece: &[u8]| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(piece);
        hasher
    };
    let mut pieces = content.chunks(content.len().div_ceil(threads).max(1));
    let first = pieces.next().unwrap_or_default();
    std::thread::scope(|scope| {
        // Where no thread can be had, the piece is read here.
        let others: Vec<_> =
            pieces.map(|p| (p, std::thread::Builder::new().spawn_scoped(scope, move || hash(p)))).collect();
        let mut whole = hash(first);
        for (piece, other) in others {
            let part = other.ok().and_then(|o| o.join().ok()).unwrap_or_else(|| hash(piece));
            whole.combine(&part);
        }
        whole.finalize()
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::checksum;

    /// Pieces put together are the whole, at every length around their borders.
    #[test]
    fn a_checksum_in_pieces_is_that_of_the_whole() {
        let content: Vec<u8> = (0..(40u32 << 20)).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in [0, 1, 8 << 20, (16 << 20) - 1, 16 << 20, (16 << 20) + 1, (24 << 20) + 3, content.len()] {
            assert_eq!(checksum(&content[..len]), crc32fast::hash(&content[..len]), "{len}");
        }
    }
}
