//! Shared libraries opened at run time.
//!
//! A library stays loaded until the process ends: those opened here (TensorRT, CUDA) start threads and register
//! destructors of their own, and taking them out of memory crashes programs.

#[cfg(target_os = "linux")]
use std::ffi::CStr;
use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

/// A library that is loaded for the rest of the process.
#[derive(Debug, Clone, Copy)]
pub struct Library(NonNull<c_void>);

// SAFETY: a handle of the dynamic linker may be used from any thread.
unsafe impl Send for Library {}
// SAFETY: as above; looking a symbol up changes nothing.
unsafe impl Sync for Library {}

impl Library {
    /// Opens a file, or a name without a slash that the system's linker searches for. Its initialisers run: the caller
    /// trusts the file.
    #[cfg(target_os = "linux")]
    pub fn open(path: &Path) -> std::result::Result<Library, String> {
        use std::os::unix::ffi::OsStrExt;
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| "the path has a zero byte".to_string())?;
        // SAFETY: the name is a C string. Whatever the library's initialisers do is what the caller trusts.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        NonNull::new(handle).map(Library).ok_or_else(last_error)
    }

    /// A library that the process has already, by the name that others depend on it by.
    #[cfg(target_os = "linux")]
    pub fn loaded(name: &CStr) -> Option<Library> {
        // SAFETY: the name is a C string, and a library that is not there is not loaded.
        NonNull::new(unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) }).map(Library)
    }

    /// Opens a library.
    #[cfg(not(target_os = "linux"))]
    pub fn open(_: &Path) -> std::result::Result<Library, String> {
        Err("libraries are loaded at run time on Linux only in this version".into())
    }

    /// The address of a symbol.
    #[cfg(target_os = "linux")]
    pub fn symbol(&self, name: &str) -> Option<NonNull<c_void>> {
        let name = CString::new(name).ok()?;
        // SAFETY: the handle is open for the rest of the process and the name is a C string.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })
    }

    /// The address of a symbol.
    #[cfg(not(target_os = "linux"))]
    pub fn symbol(&self, name: &str) -> Option<NonNull<c_void>> {
        CString::new(name).ok().and(None)
    }
}

/// The file that an address was loaded from.
#[cfg(target_os = "linux")]
pub fn file_of(address: NonNull<c_void>) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `info` is writable; dladdr only looks the address up.
    let found = unsafe { libc::dladdr(address.as_ptr(), info.as_mut_ptr()) };
    // SAFETY: all zeros is a valid Dl_info, and dladdr has filled it where it found something.
    let name = unsafe { info.assume_init() }.dli_fname;
    if found == 0 || name.is_null() {
        return None;
    }
    // SAFETY: the linker's own C string, which lives as long as the library, that is for the rest of the process.
    let name = unsafe { CStr::from_ptr(name) };
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes())))
}

/// The file that an address was loaded from.
#[cfg(not(target_os = "linux"))]
pub fn file_of(_: NonNull<c_void>) -> Option<PathBuf> {
    None
}

#[cfg(target_os = "linux")]
fn last_error() -> String {
    // SAFETY: dlerror gives NULL or a C string of this thread, which is copied before another call changes it.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            return "the system's linker gives no reason".into();
        }
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_mathematics_library_opens_and_knows_its_file() {
        let library = Library::open(Path::new("libm.so.6")).unwrap();
        let cos = library.symbol("cos").unwrap();
        assert!(file_of(cos).unwrap().to_string_lossy().contains("libm"));
        assert!(library.symbol("no_such_symbol").is_none());
        assert!(library.symbol("zero\0byte").is_none());
    }

    #[test]
    fn a_missing_library_gives_the_linkers_reason() {
        let reason = Library::open(Path::new("/nowhere/libnothing.so")).unwrap_err();
        assert!(reason.contains("/nowhere/libnothing.so"), "{reason}");
    }
}
