//! Files as bytes: read into memory, or mapped, and pages of maps given back once they have been used.
//!
//! A mapped file must not be changed in place while anything made from it is alive: if it shrinks, touching the lost part
//! kills the process (SIGBUS). Replacing it by renaming another file over it is fine.

use crate::error::{Error, Result};
use bytes::{Buf, Bytes};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Files of this size and more are mapped by default.
pub const MAP_THRESHOLD: u64 = 64 << 20;

/// Address and end of every live map made here. [`release`] may only touch these: giving back pages of ordinary memory
/// would lose their content, pages of a read-only file map come back from the file.
static MAPS: RwLock<BTreeMap<usize, usize>> = RwLock::new(BTreeMap::new());

/// The content of a regular file. It is mapped if it has at least `map_from` bytes.
pub fn read(path: &Path, map_from: u64) -> Result<Bytes> {
    let failed = |e: &std::io::Error| Error::io(format_args!("cannot read '{}'", path.display()), e);
    // Asked before opening: opening a pipe would wait for its writer.
    let found = std::fs::metadata(path).map_err(|e| failed(&e))?;
    if found.is_dir() {
        return Err(crate::err!(
            InvalidArgument,
            "cannot read '{}': it is a directory, give a file in it",
            path.display()
        ));
    }
    if !found.is_file() {
        return Err(crate::err!(
            InvalidArgument,
            "cannot read '{}': it is not a regular file, copy its content to one (or load it from memory)",
            path.display()
        ));
    }
    let file = File::open(path).map_err(|e| failed(&e))?;
    let len = file.metadata().map_err(|e| failed(&e))?.len();
    if len >= map_from && len > 0 { map(&file).map_err(|e| failed(&e)) } else { read_whole(file, len, path) }
}

fn read_whole(file: File, len: u64, path: &Path) -> Result<Bytes> {
    let mut content = Vec::new();
    let size = usize::try_from(len).unwrap_or(usize::MAX);
    // Whoever fits exactly needs no growth to see the end.
    content.try_reserve_exact(size.saturating_add(1)).map_err(|_| {
        crate::err!(OutOfMemory, "'{}' has {len} bytes, which do not fit in memory: map it instead", path.display())
    })?;
    let got = file
        .take(len.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|e| Error::io(format_args!("cannot read '{}'", path.display()), &e))?;
    if got as u64 != len {
        return Err(crate::err!(Io, "'{}' changed its size while it was read: try again", path.display()));
    }
    Ok(content.into())
}

struct Map(memmap2::Mmap);

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        MAPS.write().remove(&(self.0.as_ptr() as usize));
    }
}

fn map(file: &File) -> std::io::Result<Bytes> {
    // SAFETY: the map is only read. That nobody changes the file in place is the documented rule of mapped loading.
    let map = unsafe { memmap2::Mmap::map(file)? };
    let start = map.as_ptr() as usize;
    MAPS.write().insert(start, start + map.len());
    Ok(Bytes::from_owner(Map(map)))
}

/// True if `bytes` lie in a map made by [`read`].
pub fn is_mapped(bytes: &[u8]) -> bool {
    map_of(bytes).is_some()
}

fn map_of(bytes: &[u8]) -> Option<(usize, usize)> {
    let start = bytes.as_ptr() as usize;
    let maps = MAPS.read();
    let (&map_start, &map_end) = maps.range(..=start).next_back()?;
    (start + bytes.len() <= map_end).then_some((map_start, map_end))
}

/// Says that `bytes` will not be read soon: where they lie in a mapped file, their pages stop counting as the process's
/// memory. Reading them again works, and takes them from the file. Elsewhere it does nothing.
pub fn release(bytes: &[u8]) {
    #[cfg(unix)]
    if let Some((map_start, _)) = map_of(bytes) {
        /// With one touch the kernel may map a whole block of its cache, aligned and as large as this.
        const BLOCK: usize = 2 << 20;
        const PAGE: usize = 4 << 10;
        let start = (bytes.as_ptr() as usize & !(BLOCK - 1)).max(map_start);
        let end = (bytes.as_ptr() as usize + bytes.len()) & !(PAGE - 1);
        if start < end {
            // SAFETY: the range lies in one live, read-only, shared file map (`bytes` borrows from it), whose pages the
            // kernel can bring back. A start or length that the kernel does not like is an error without effect.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
    #[cfg(not(unix))]
    let _ = bytes;
}

/// Reads a buffer front to back (for a decoder) and [`release`]s what is behind it.
pub struct Forward {
    all: Bytes,
    rest: Bytes,
    /// Up to here everything has been released.
    released: usize,
}

/// How much is read before it is released.
const STRIDE: usize = 4 << 20;

impl Forward {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Forward { all: bytes.clone(), rest: bytes, released: 0 }
    }

    fn moved(&mut self) {
        release_behind(&self.all, &mut self.released, self.all.len() - self.rest.len());
    }
}

impl Buf for Forward {
    fn remaining(&self) -> usize {
        self.rest.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.rest.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.rest.advance(count);
        self.moved();
    }

    /// A view, not a copy.
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let view = self.rest.copy_to_bytes(len);
        self.moved();
        view
    }
}

/// Releases `bytes[*released..at]` once it has become long.
pub fn release_behind(bytes: &[u8], released: &mut usize, at: usize) {
    if at.saturating_sub(*released) >= STRIDE
        && let Some(behind) = bytes.get(*released..at)
    {
        release(behind);
        *released = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("mezzo-map-{name}-{}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn mapped_and_read_are_the_same() {
        let content: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
        let path = file("same", &content);
        let mapped = read(&path, 0).unwrap();
        let owned = read(&path, u64::MAX).unwrap();
        assert!(is_mapped(&mapped) && is_mapped(&mapped.slice(5..99)));
        assert!(!is_mapped(&owned));
        assert_eq!(mapped, content);
        assert_eq!(owned, content);
        release(&mapped.slice(12_345..3_000_001));
        release(&owned);
        assert_eq!(mapped, content, "released pages come back");
        assert_eq!(owned, content, "memory that is no map is left alone");
        std::fs::remove_file(path).unwrap();
        let address = mapped.as_ptr() as usize;
        drop(mapped);
        assert!(!MAPS.read().contains_key(&address));
    }

    #[test]
    fn refusals_name_the_path() {
        let dir = std::env::temp_dir();
        assert!(read(&dir, 0).unwrap_err().message().contains("directory"));
        let missing = dir.join("mezzo-no-such-file");
        let e = read(&missing, 0).unwrap_err();
        assert_eq!(e.code(), crate::ErrorCode::NotFound);
        assert!(e.message().contains("mezzo-no-such-file"));
        assert!(read(Path::new("/dev/null"), 0).unwrap_err().message().contains("regular file"));
        let path = file("empty", b"");
        assert!(read(&path, 0).unwrap().is_empty());
        std::fs::remove_file(path).unwrap();
    }
}
