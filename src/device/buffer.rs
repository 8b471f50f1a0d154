//! Shared buffers. Inside Mezzo access is guarded: readers share, a writer is alone, and a conflict is an error instead
//! of a race (the same buffer bound to an input and an output, or two contexts writing one buffer).

use crate::sys::memory::{Block, ForeignAllocator};
use crate::{Result, bail, err};
use bytes::Bytes;
use parking_lot::{ArcRwLockReadGuard, RawRwLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::Arc;

/// A reference-counted block of host memory.
#[derive(Clone)]
pub struct Buffer(Arc<Inner>);

struct Inner {
    block: Arc<RwLock<Block>>,
    len: usize,
    pointer: *mut u8,
}

#[allow(unsafe_code)]
// SAFETY: `pointer` is only handed out as an address; all access in Rust goes through the lock.
unsafe impl Send for Inner {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Buffer {
    /// Zeroed host memory of `len` bytes, aligned to 64 bytes.
    pub fn allocate(len: usize, allocator: Option<&Arc<ForeignAllocator>>) -> Result<Buffer> {
        Ok(Buffer::from_block(Block::allocate(len, allocator)?))
    }

    /// A buffer over a block of any origin.
    pub fn from_block(block: Block) -> Buffer {
        Buffer(Arc::new(Inner { len: block.len(), pointer: block.as_ptr(), block: Arc::new(RwLock::new(block)) }))
    }

    /// A buffer with a copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Result<Buffer> {
        let buffer = Buffer::allocate(bytes.len(), None)?;
        buffer.write(0, bytes)?;
        Ok(buffer)
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// True for a buffer of no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// The address; whoever reads or writes through it orders that against Mezzo's calls.
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.pointer
    }

    /// True when both are the same buffer.
    pub fn same(&self, other: &Buffer) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Reads; `Busy` while somebody writes.
    pub fn read(&self) -> Result<RwLockReadGuard<'_, Block>> {
        self.0.block.try_read().ok_or_else(busy_reading)
    }

    /// A view of `len` bytes from `offset` on, without a copy. While it lives, the buffer counts as being read.
    pub fn view(&self, offset: usize, len: usize) -> Result<Bytes> {
        struct Guard(ArcRwLockReadGuard<RawRwLock, Block>);
        impl AsRef<[u8]> for Guard {
            fn as_ref(&self) -> &[u8] {
                self.0.bytes()
            }
        }
        self.check_range(offset, len)?;
        let guard = self.0.block.try_read_arc().ok_or_else(busy_reading)?;
        Ok(Bytes::from_owner(Guard(guard)).slice(offset..offset + len))
    }

    /// Writes; `Busy` while somebody reads or writes.
    pub fn lock_mut(&self) -> Result<RwLockWriteGuard<'_, Block>> {
        self.0.block.try_write().ok_or_else(|| {
            err!(
                Busy,
                "a buffer is written while it is in use: give each concurrent run buffers of its own, and do not bind \
                 one buffer to an input and an output"
            )
        })
    }

    /// Copies `bytes` into the buffer at `offset`.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check_range(offset, bytes.len())?;
        self.lock_mut()?.bytes_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Copies bytes from `offset` out of the buffer.
    pub fn read_into(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        self.check_range(offset, out.len())?;
        out.copy_from_slice(&self.read()?.bytes()[offset..offset + out.len()]);
        Ok(())
    }

    /// An error unless `offset..offset + len` lies inside.
    pub fn check_range(&self, offset: usize, len: usize) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len() => Ok(()),
            _ => bail!(
                SizeMismatch,
                "{len} bytes at offset {offset} do not fit a buffer of {} bytes: allocate a larger buffer or copy less",
                self.len()
            ),
        }
    }
}

fn busy_reading() -> crate::Error {
    err!(Busy, "a buffer is read while another call writes it: give each concurrent run buffers of its own")
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}
