//! What a handle is: an object on the heap with a small head (a tag that says what it is, a flag that says whether an
//! internal error left it unusable) behind an opaque C type.
//!
//! The C types are empty Rust structs; a pointer to one really points to an `Object<Body>`. The head stands first
//! (`repr(C)`), so that a handle of the wrong kind is recognised before its body is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A C handle type and what stands behind it.
pub(super) trait Handle: Sized {
    /// What the handle holds.
    type Body;
    /// What it is, in messages ("a model").
    const NOUN: &'static str;
    /// Differs from every other handle type's.
    const TAG: u32;
}

/// `handle!(mezzo_model_t, ModelBody, "a model", b"modl")` ties a C type to its body.
macro_rules! handle {
    ($c_type:ty, $body:ty, $noun:literal, $tag:literal) => {
        impl $crate::capi::handle::Handle for $c_type {
            type Body = $body;
            const NOUN: &'static str = $noun;
            const TAG: u32 = u32::from_be_bytes(*$tag);
        }
    };
}
pub(super) use handle;

/// The tag of an object that was freed; seen only as long as the memory is not used again.
const FREED: u32 = 0;

/// The start of every object.
#[repr(C)]
pub(super) struct Head {
    tag: AtomicU32,
    poisoned: AtomicBool,
}

impl Head {
    pub(super) fn is<H: Handle>(&self) -> bool {
        self.tag.load(Ordering::Relaxed) == H::TAG
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }

    pub(super) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }
}

/// What a handle points to.
#[repr(C)]
pub(super) struct Object<B> {
    pub(super) head: Head,
    pub(super) body: B,
}

impl<B> Object<B> {
    fn new<H: Handle<Body = B>>(body: B) -> Self {
        Object { head: Head { tag: AtomicU32::new(H::TAG), poisoned: AtomicBool::new(false) }, body }
    }
}

impl<B> Drop for Object<B> {
    fn drop(&mut self) {
        self.head.tag.store(FREED, Ordering::Relaxed);
    }
}

/// A new exclusive handle: one owner, freed by [`free_owned`].
pub(super) fn owned<H: Handle>(body: H::Body) -> *mut H {
    Box::into_raw(Box::new(Object::new::<H>(body))).cast()
}

/// A new shared handle: counted, freed by [`free_shared`].
pub(super) fn shared<H: Handle>(body: H::Body) -> *mut H
where
    H::Body: Send + Sync,
{
    Arc::into_raw(Arc::new(Object::new::<H>(body))).cast_mut().cast()
}

/// Destroys an exclusive handle. NULL and handles of another kind are left alone.
///
/// # Safety
/// `handle` is NULL or came from [`owned`] and was not freed.
pub(super) unsafe fn free_owned<H: Handle>(handle: *mut H) {
    // SAFETY: the caller's promise; the tag is checked before the body is touched.
    unsafe {
        if is::<H>(handle) {
            dropped(|| drop(Box::from_raw(handle.cast::<Object<H::Body>>())));
        }
    }
}

/// Gives one reference of a shared handle back. NULL and handles of another kind are left alone.
///
/// # Safety
/// `handle` is NULL or came from [`shared`], and this reference was not given back before.
pub(super) unsafe fn free_shared<H: Handle>(handle: *mut H) {
    // SAFETY: the caller's promise; the tag is checked before the body is touched.
    unsafe {
        if is::<H>(handle) {
            dropped(|| drop(Arc::from_raw(handle.cast_const().cast::<Object<H::Body>>())));
        }
    }
}

/// Takes one more reference of a shared handle; NULL for NULL and for handles of another kind.
///
/// # Safety
/// `handle` is NULL or came from [`shared`] and is alive.
pub(super) unsafe fn retain_shared<H: Handle>(handle: *const H) -> *mut H {
    // SAFETY: the caller's promise; the tag says whether it is counted.
    unsafe {
        if !is::<H>(handle) {
            return std::ptr::null_mut();
        }
        Arc::increment_strong_count(handle.cast::<Object<H::Body>>());
    }
    handle.cast_mut()
}

/// A reference of a shared handle, given back when it is dropped.
pub(super) struct Held {
    handle: *const (),
    give_back: unsafe fn(*const ()),
}

impl Held {
    /// # Safety
    /// `handle` came from [`shared`] and is alive.
    pub(super) unsafe fn new<H: Handle>(handle: *const H) -> Held {
        /// # Safety
        /// As [`free_shared`].
        unsafe fn give_back<H: Handle>(handle: *const ()) {
            // SAFETY: the caller's promise.
            unsafe { free_shared(handle.cast_mut().cast::<H>()) }
        }
        // SAFETY: the caller's promise.
        unsafe { retain_shared(handle) };
        Held { handle: handle.cast(), give_back: give_back::<H> }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: `new` took the reference that is given back here.
        unsafe { (self.give_back)(self.handle) }
    }
}

/// # Safety
/// `handle` is NULL or points to an object.
unsafe fn is<H: Handle>(handle: *const H) -> bool {
    // SAFETY: every object starts with its head.
    !handle.is_null() && unsafe { (*handle.cast::<Head>()).is::<H>() }
}

/// Destructors run the caller's finalizers; nothing they do may unwind into C.
fn dropped(f: impl FnOnce()) {
    if let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        std::mem::forget(payload);
    }
}
