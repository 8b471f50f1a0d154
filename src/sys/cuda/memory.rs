//! Device memory and pinned host memory with one owner each.

use super::device::Device;
use super::driver::DevicePointer;
use super::stream::StreamHandle;
use crate::sys::memory::Release;
use crate::{Result, bail};
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;

enum Owner {
    /// Allocated with `cuMemAlloc`.
    Device,
    /// Allocated in the order of a stream; freed in that order too.
    Stream(Arc<StreamHandle>),
    /// The caller's.
    Borrowed(Option<Release>),
}

/// Device memory.
pub struct DeviceMemory {
    device: &'static Device,
    address: DevicePointer,
    len: usize,
    owner: Owner,
}

impl DeviceMemory {
    /// `len` bytes, whose content is not defined.
    pub fn allocate(device: &'static Device, len: usize) -> Result<DeviceMemory> {
        let _entered = device.enter()?;
        let mut address = 0;
        // SAFETY: writes one address; a size of zero would be refused.
        let code = unsafe { (device.driver.allocate)(&mut address, len.max(1)) };
        device.driver.check(code, format_args!("allocate {len} bytes on {device:?}"))?;
        Ok(DeviceMemory { device, address, len, owner: Owner::Device })
    }

    /// `len` bytes that exist from this place of the stream on, and are given back in the stream's order.
    pub fn allocate_async(stream: &Arc<StreamHandle>, len: usize) -> Result<DeviceMemory> {
        let device = stream.device();
        if !device.has_pools() {
            bail!(Unsupported, "{device:?} has no memory pools, so memory cannot be allocated in a stream's order");
        }
        let _entered = device.enter()?;
        let mut address = 0;
        // SAFETY: writes one address; the stream is alive.
        let code = unsafe { (device.driver.allocate_async)(&mut address, len.max(1), stream.as_ptr()) };
        device.driver.check(code, format_args!("allocate {len} bytes on {device:?} in a stream's order"))?;
        Ok(DeviceMemory { device, address, len, owner: Owner::Stream(stream.clone()) })
    }

    /// Memory of the caller's.
    ///
    /// # Safety
    /// `address` has `len` bytes in the memory of that device until `release` is called (or, without one, as long as this
    /// lives).
    pub unsafe fn borrow(
        device: &'static Device,
        address: DevicePointer,
        len: usize,
        release: Option<Release>,
    ) -> DeviceMemory {
        DeviceMemory { device, address, len, owner: Owner::Borrowed(release) }
    }

    /// Its device.
    pub fn device(&self) -> &'static Device {
        self.device
    }

    /// Its address.
    pub fn address(&self) -> DevicePointer {
        self.address
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for memory of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies from host memory and returns when it is done. Work on streams is not waited for.
    ///
    /// # Safety
    /// `from` has `len` bytes, and they fit behind `offset`.
    pub unsafe fn write(&self, offset: usize, from: *const u8, len: usize) -> Result<()> {
        self.copy(self.address + offset as u64, from.expose_provenance() as u64, len)?;
        if len == 0 {
            return Ok(());
        }
        let _entered = self.device.enter()?;
        // The driver may return when it has taken pageable memory over, and streams that do not wait for the default stream,
        // which copies, would not see the bytes yet.
        // SAFETY: the default stream is always there.
        let code = unsafe { (self.device.driver.stream_synchronize)(ptr::null_mut()) };
        self.device.driver.check(code, format_args!("finish a copy of {len} bytes to {:?}", self.device))
    }

    /// Copies to host memory and returns when it is done. Work on streams is not waited for.
    ///
    /// # Safety
    /// `to` has room for `len` bytes, and the memory has that many behind `offset`.
    pub unsafe fn read(&self, offset: usize, to: *mut u8, len: usize) -> Result<()> {
        self.copy(to.expose_provenance() as u64, self.address + offset as u64, len)
    }

    fn copy(&self, to: DevicePointer, from: DevicePointer, len: usize) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let _entered = self.device.enter()?;
        // SAFETY: by the contract of the callers above; addresses are unified, so the driver tells host from device.
        let code = unsafe { (self.device.driver.copy)(to, from, len) };
        self.device.driver.check(code, format_args!("copy {len} bytes between host and {:?}", self.device))
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // Errors are not reported: the context is gone, or an earlier fault is sticky, and the memory with it.
        match &mut self.owner {
            Owner::Device => {
                let Ok(_entered) = self.device.enter() else { return };
                // SAFETY: allocated by cuMemAlloc and freed once. Whoever enqueues work on it keeps it alive until then.
                unsafe { (self.device.driver.free)(self.address) };
            }
            Owner::Stream(stream) => {
                let Ok(_entered) = self.device.enter() else { return };
                // SAFETY: allocated from a pool and freed once; the stream is alive.
                unsafe { (self.device.driver.free_async)(self.address, stream.as_ptr()) };
            }
            Owner::Borrowed(release) => {
                if let Some(r) = release.take() {
                    // SAFETY: the caller gave the callback for exactly this one call.
                    unsafe { (r.function)(r.user) }
                }
            }
        }
    }
}

/// Host memory that devices reach directly, as long as it lives.
pub struct PinnedMemory {
    device: &'static Device,
    pointer: NonNull<c_void>,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for PinnedMemory {}
// SAFETY: as above.
unsafe impl Sync for PinnedMemory {}

impl PinnedMemory {
    /// `len` bytes, all zero.
    pub fn allocate(device: &'static Device, len: usize) -> Result<PinnedMemory> {
        /// `CU_MEMHOSTALLOC_PORTABLE`: pinned for every device.
        const PORTABLE: u32 = 1;
        let _entered = device.enter()?;
        let mut pointer = ptr::null_mut();
        // SAFETY: writes one address.
        let code = unsafe { (device.driver.allocate_host)(&mut pointer, len.max(1), PORTABLE) };
        device.driver.check(code, format_args!("allocate {len} bytes of pinned host memory"))?;
        let Some(pointer) = NonNull::new(pointer) else {
            bail!(OutOfMemory, "{len} bytes of pinned host memory could not be allocated");
        };
        // SAFETY: the driver handed out at least that many bytes.
        unsafe { pointer.as_ptr().cast::<u8>().write_bytes(0, len) };
        Ok(PinnedMemory { device, pointer })
    }

    /// Its address.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.pointer.cast()
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        let Ok(_entered) = self.device.enter() else { return };
        // SAFETY: allocated by cuMemHostAlloc and freed once.
        unsafe { (self.device.driver.free_host)(self.pointer.as_ptr()) };
    }
}
