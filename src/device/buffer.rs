//! Shared buffers, in host memory or on a device. Inside Mezzo access to host memory is guarded: readers share, a writer is
//! alone, and a conflict is an error instead of a race (the same buffer bound to an input and an output, or two contexts
//! writing one buffer). Access to device memory is ordered by streams.

use super::{Device, Stream, deferred};
use crate::sys::cuda::{DeviceMemory, DevicePointer, PinnedMemory};
use crate::sys::memory::{Block, ForeignAllocator, Release};
use crate::{Result, bail, err};
use bytes::Bytes;
use parking_lot::{ArcRwLockReadGuard, RawRwLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::Arc;

/// A reference-counted block of memory.
#[derive(Clone)]
pub struct Buffer(Arc<Inner>);

struct Inner {
    memory: Memory,
    len: usize,
    pointer: *mut u8,
}

enum Memory {
    Host(Arc<RwLock<Block>>),
    /// Host memory that devices reach directly.
    Pinned(Arc<RwLock<Block>>),
    Device(DeviceMemory),
}

/// A lock on host memory; nothing for memory that streams order.
pub enum Hold<'b> {
    /// Read by somebody.
    Reading(#[allow(dead_code)] RwLockReadGuard<'b, Block>), // held, never looked at
    /// Written by somebody.
    Writing(#[allow(dead_code)] RwLockWriteGuard<'b, Block>),
    /// Ordered by streams.
    None,
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
        let (len, pointer) = (block.len(), block.as_ptr());
        Buffer(Arc::new(Inner { len, pointer, memory: Memory::Host(Arc::new(RwLock::new(block))) }))
    }

    /// Memory of `len` bytes on a device, whose content is not defined, aligned to 256 bytes.
    pub fn on_device(device: &'static Device, len: usize) -> Result<Buffer> {
        deferred::reap();
        Ok(Buffer::from_device(DeviceMemory::allocate(device, len)?))
    }

    /// Memory that exists from this place of the stream on; when the buffer goes it is given back in the stream's order.
    pub fn on_stream(stream: &Arc<Stream>, len: usize) -> Result<Buffer> {
        deferred::reap();
        Ok(Buffer::from_device(DeviceMemory::allocate_async(stream, len)?))
    }

    /// Device memory of the caller's, without a copy.
    ///
    /// # Safety
    /// `address` has `len` bytes in the memory of that device until `release` is called (or, without one, as long as the
    /// buffer lives).
    #[allow(unsafe_code)]
    pub unsafe fn borrow_device(device: &'static Device, address: u64, len: usize, release: Option<Release>) -> Buffer {
        // SAFETY: by this function's contract.
        Buffer::from_device(unsafe { DeviceMemory::borrow(device, address, len, release) })
    }

    fn from_device(memory: DeviceMemory) -> Buffer {
        let pointer = std::ptr::without_provenance_mut(memory.address() as usize);
        Buffer(Arc::new(Inner { len: memory.len(), pointer, memory: Memory::Device(memory) }))
    }

    /// Zeroed host memory that devices copy from and to without a detour.
    #[allow(unsafe_code)]
    pub fn pinned(device: &'static Device, len: usize) -> Result<Buffer> {
        deferred::reap();
        let memory = PinnedMemory::allocate(device, len)?;
        let pointer = memory.as_ptr();
        // SAFETY: the memory has `len` bytes and lives as long as its keeper, which nobody else reaches.
        let block = unsafe { Block::kept(pointer, len, Box::new(memory)) };
        let memory = Memory::Pinned(Arc::new(RwLock::new(block)));
        Ok(Buffer(Arc::new(Inner { len, pointer: pointer.as_ptr(), memory })))
    }

    /// The device in whose memory it lies; `None` for host memory.
    pub fn device(&self) -> Option<&'static Device> {
        match &self.0.memory {
            Memory::Device(memory) => Some(memory.device()),
            Memory::Host(_) | Memory::Pinned(_) => None,
        }
    }

    /// True for pinned host memory.
    pub fn is_pinned(&self) -> bool {
        matches!(self.0.memory, Memory::Pinned(_))
    }

    /// The device memory, where it is some.
    pub fn device_memory(&self) -> Option<&DeviceMemory> {
        match &self.0.memory {
            Memory::Device(memory) => Some(memory),
            Memory::Host(_) | Memory::Pinned(_) => None,
        }
    }

    /// The address as the driver takes it, of the host or of a device.
    pub fn address(&self) -> DevicePointer {
        self.0.pointer.expose_provenance() as u64
    }

    /// The lock of host memory; an error that names the device otherwise.
    fn block(&self) -> Result<&Arc<RwLock<Block>>> {
        match &self.0.memory {
            Memory::Host(block) | Memory::Pinned(block) => Ok(block),
            Memory::Device(memory) => Err(err!(
                InvalidArgument,
                "the buffer is memory of {:?}, which the host cannot reach: copy it to a host buffer first \
                 (mezzo_buffer_copy_out), or bind host memory",
                memory.device()
            )),
        }
    }

    /// Counts as being read until the result is dropped, unless streams order its use.
    pub fn hold_for_reading(&self) -> Result<Hold<'_>> {
        match &self.0.memory {
            Memory::Host(_) => self.read().map(Hold::Reading),
            Memory::Pinned(_) | Memory::Device(_) => Ok(Hold::None),
        }
    }

    /// Counts as being written until the result is dropped, unless streams order its use.
    pub fn hold_for_writing(&self) -> Result<Hold<'_>> {
        match &self.0.memory {
            Memory::Host(_) => self.lock_mut().map(Hold::Writing),
            Memory::Pinned(_) | Memory::Device(_) => Ok(Hold::None),
        }
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

    /// Reads host memory; `Busy` while somebody writes.
    pub fn read(&self) -> Result<RwLockReadGuard<'_, Block>> {
        let block = self.block()?;
        block.try_read().ok_or_else(busy_reading)
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
        let block = self.block()?;
        let guard = block.try_read_arc().ok_or_else(busy_reading)?;
        Ok(Bytes::from_owner(Guard(guard)).slice(offset..offset + len))
    }

    /// Writes host memory; `Busy` while somebody reads or writes.
    pub fn lock_mut(&self) -> Result<RwLockWriteGuard<'_, Block>> {
        let block = self.block()?;
        block.try_write().ok_or_else(busy_writing)
    }

    /// Copies `bytes` into the buffer at `offset`, and returns when they are there.
    #[allow(unsafe_code)]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check_range(offset, bytes.len())?;
        if let Some(memory) = self.device_memory() {
            // SAFETY: the range was checked, and the slice has that many bytes.
            return unsafe { memory.write(offset, bytes.as_ptr(), bytes.len()) };
        }
        self.lock_mut()?.bytes_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Copies bytes from `offset` out of the buffer.
    #[allow(unsafe_code)]
    pub fn read_into(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        self.check_range(offset, out.len())?;
        if let Some(memory) = self.device_memory() {
            // SAFETY: the range was checked, and the slice has room for that many bytes.
            return unsafe { memory.read(offset, out.as_mut_ptr(), out.len()) };
        }
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

fn busy_writing() -> crate::Error {
    err!(
        Busy,
        "a buffer is written while it is in use: give each concurrent run buffers of its own, and do not bind one buffer \
         to an input and an output"
    )
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.device() {
            Some(device) => write!(f, "Buffer({} bytes on device {})", self.len(), device.ordinal()),
            None => write!(f, "Buffer({} bytes)", self.len()),
        }
    }
}
