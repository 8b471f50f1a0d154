//! Blocks of host memory: allocated here, allocated by the caller's callbacks, or borrowed from the caller.

use crate::{Result, err};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

/// Alignment of every block Mezzo allocates: one cache line, enough for every SIMD load.
pub const ALIGNMENT: usize = 64;

/// Bytes of memory the machine has; `usize::MAX` where the system does not say.
pub fn physical_bytes() -> usize {
    #[cfg(unix)]
    {
        // SAFETY: sysconf only reads.
        let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
        if let (Ok(pages @ 1..), Ok(size @ 1..)) = (usize::try_from(pages), usize::try_from(size)) {
            return pages.saturating_mul(size);
        }
    }
    usize::MAX
}

/// A caller's allocator (`mezzo_allocator_t`). Both callbacks may be called from any thread at any time until `finalize`.
pub struct ForeignAllocator {
    /// Returns `size` bytes aligned to `alignment`, or NULL.
    pub allocate: unsafe extern "C" fn(user: *mut c_void, size: usize, alignment: usize) -> *mut c_void,
    /// Gives back what `allocate` returned.
    pub deallocate: unsafe extern "C" fn(user: *mut c_void, pointer: *mut c_void, size: usize, alignment: usize),
    /// Passed to the callbacks.
    pub user: *mut c_void,
    /// Called once when the last block and the environment are gone.
    pub finalize: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

// SAFETY: the C API's contract is that the callbacks and `user` may be used from any thread.
unsafe impl Send for ForeignAllocator {}
// SAFETY: as above.
unsafe impl Sync for ForeignAllocator {}

impl Drop for ForeignAllocator {
    fn drop(&mut self) {
        if let Some(finalize) = self.finalize {
            // SAFETY: the caller gave the finalizer for exactly this one call.
            unsafe { finalize(self.user) }
        }
    }
}

/// Called once when a borrowed block is no longer used.
pub struct Release {
    /// The caller's function.
    pub function: unsafe extern "C" fn(user: *mut c_void),
    /// Its argument.
    pub user: *mut c_void,
}

// SAFETY: the C API's contract is that a release callback may be called from any thread.
unsafe impl Send for Release {}
// SAFETY: as above; it is only ever called once, from Drop.
unsafe impl Sync for Release {}

enum Owner {
    Global(Layout),
    Foreign(Arc<ForeignAllocator>),
    Borrowed(Option<Release>),
    /// Given back when this is dropped.
    #[allow(dead_code)] // held, never read
    Kept(Box<dyn Send + Sync>),
}

/// A block of host memory with one owner.
pub struct Block {
    pointer: NonNull<u8>,
    len: usize,
    owner: Owner,
}

// SAFETY: a block is plain memory; access goes through `&self` and `&mut self`.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// Zeroed memory of `len` bytes, aligned to [`ALIGNMENT`], from `allocator` or the process's own.
    pub fn allocate(len: usize, allocator: Option<&Arc<ForeignAllocator>>) -> Result<Block> {
        let out_of_memory = || err!(OutOfMemory, "{len} bytes of host memory could not be allocated");
        if len > isize::MAX as usize - ALIGNMENT {
            return Err(out_of_memory());
        }
        let (pointer, owner) = match allocator {
            Some(a) => {
                // SAFETY: the allocator is the caller's, used as its contract says; size is not zero.
                let p = unsafe { (a.allocate)(a.user, len.max(1), ALIGNMENT) }.cast::<u8>();
                let p = NonNull::new(p).ok_or_else(out_of_memory)?;
                if p.as_ptr().align_offset(ALIGNMENT) != 0 {
                    // SAFETY: it is given back as it was received.
                    unsafe { (a.deallocate)(a.user, p.as_ptr().cast(), len.max(1), ALIGNMENT) };
                    return Err(err!(
                        InvalidArgument,
                        "the caller's allocator returned memory that is not aligned to the {ALIGNMENT} bytes asked for"
                    ));
                }
                // SAFETY: the allocator handed out at least `len` bytes.
                unsafe { p.as_ptr().write_bytes(0, len) };
                (p, Owner::Foreign(a.clone()))
            }
            None => {
                let layout = Layout::from_size_align(len.max(1), ALIGNMENT).map_err(|_| out_of_memory())?;
                // SAFETY: the layout's size is not zero.
                let p = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(out_of_memory)?;
                (p, Owner::Global(layout))
            }
        };
        Ok(Block { pointer, len, owner })
    }

    /// Takes over a vector without copying it.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Block> {
        let mut bytes = ManuallyDrop::new(bytes);
        match (NonNull::new(bytes.as_mut_ptr()), Layout::array::<u8>(bytes.capacity())) {
            (Some(pointer), Ok(layout)) if layout.size() > 0 => {
                Ok(Block { pointer, len: bytes.len(), owner: Owner::Global(layout) })
            }
            _ => Block::allocate(0, None),
        }
    }

    /// Memory of the caller's.
    ///
    /// # Safety
    /// `pointer` must be valid for reads and writes of `len` bytes until `release` is called (or, without one, as long
    /// as the block lives), and others may not write it while Mezzo reads or writes it.
    pub unsafe fn borrow(pointer: NonNull<u8>, len: usize, release: Option<Release>) -> Block {
        Block { pointer, len, owner: Owner::Borrowed(release) }
    }

    /// Memory that is valid as long as `keeper` lives.
    ///
    /// # Safety
    /// As for [`Block::borrow`].
    pub unsafe fn kept(pointer: NonNull<u8>, len: usize, keeper: Box<dyn Send + Sync>) -> Block {
        Block { pointer, len, owner: Owner::Kept(keeper) }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: pointer and length describe memory that lives as long as the block.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.len) }
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.len) }
    }

    /// The address.
    pub fn as_ptr(&self) -> *mut u8 {
        self.pointer.as_ptr()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a block of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        match &mut self.owner {
            // SAFETY: allocated with this layout.
            Owner::Global(layout) => unsafe { dealloc(self.pointer.as_ptr(), *layout) },
            Owner::Foreign(a) => {
                // SAFETY: it came from this allocator with this size and alignment.
                unsafe { (a.deallocate)(a.user, self.pointer.as_ptr().cast(), self.len.max(1), ALIGNMENT) }
            }
            Owner::Kept(_) => {}
            Owner::Borrowed(release) => {
                if let Some(r) = release.take() {
                    // SAFETY: the caller gave the callback for exactly this one call.
                    unsafe { (r.function)(r.user) }
                }
            }
        }
    }
}
