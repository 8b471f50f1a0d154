//! The CUDA driver's functions, found in its library at run time.
//!
//! The table is our own: the functions are few, every one is resolved when the driver is loaded (so none can be missing
//! later), and results are plain numbers, because a driver newer than this code has codes that no enumeration of today
//! lists.

use crate::error::{Error, ErrorCode, ErrorDomain};
use crate::sys::dl::Library;
use crate::{Result, err};
use std::ffi::{CStr, c_char, c_void};
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

/// A foreign handle: a context, a stream, an event, a graph, a module, a function.
pub type Handle = *mut c_void;
/// An address in device memory.
pub type DevicePointer = u64;

/// The names by which the driver's library is looked for.
const LIBRARIES: &[&str] = &["libcuda.so.1", "libcuda.so"];
const OUT_OF_MEMORY: i32 = 2;
const NO_DEVICE: i32 = 100;
/// What a query answers while work is not done.
pub const NOT_READY: i32 = 600;

/// Declares the table: the driver's symbol, our name, the signature.
macro_rules! functions {
    ($($name:ident = $symbol:literal : fn($($type:ty),*);)*) => {
        /// The driver's functions. All return a `CUresult`.
        pub struct Driver {
            $(#[doc = $symbol] pub $name: unsafe extern "C" fn($($type),*) -> i32,)*
        }

        impl Driver {
            fn resolve(library: &Library) -> std::result::Result<Driver, String> {
                Ok(Driver {
                    $($name: {
                        let symbol = library.symbol($symbol).ok_or(concat!("it has no ", $symbol))?;
                        // SAFETY: the driver's function of that name has this signature in every version from 11.4 on.
                        unsafe {
                            std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> i32>(symbol.as_ptr())
                        }
                    },)*
                })
            }
        }
    };
}

functions! {
    init = "cuInit": fn(u32);
    version = "cuDriverGetVersion": fn(*mut i32);
    error_name = "cuGetErrorName": fn(i32, *mut *const c_char);
    error_string = "cuGetErrorString": fn(i32, *mut *const c_char);
    device_count = "cuDeviceGetCount": fn(*mut i32);
    device = "cuDeviceGet": fn(*mut i32, i32);
    device_name = "cuDeviceGetName": fn(*mut c_char, i32, i32);
    device_memory = "cuDeviceTotalMem_v2": fn(*mut usize, i32);
    device_attribute = "cuDeviceGetAttribute": fn(*mut i32, i32, i32);
    primary_context = "cuDevicePrimaryCtxRetain": fn(*mut Handle, i32);
    push_context = "cuCtxPushCurrent_v2": fn(Handle);
    pop_context = "cuCtxPopCurrent_v2": fn(*mut Handle);
    current_context = "cuCtxGetCurrent": fn(*mut Handle);
    priority_range = "cuCtxGetStreamPriorityRange": fn(*mut i32, *mut i32);
    memory_info = "cuMemGetInfo_v2": fn(*mut usize, *mut usize);
    allocate = "cuMemAlloc_v2": fn(*mut DevicePointer, usize);
    free = "cuMemFree_v2": fn(DevicePointer);
    allocate_async = "cuMemAllocAsync": fn(*mut DevicePointer, usize, Handle);
    free_async = "cuMemFreeAsync": fn(DevicePointer, Handle);
    allocate_host = "cuMemHostAlloc": fn(*mut *mut c_void, usize, u32);
    free_host = "cuMemFreeHost": fn(*mut c_void);
    copy = "cuMemcpy": fn(DevicePointer, DevicePointer, usize);
    copy_between = "cuMemcpyPeerAsync": fn(DevicePointer, Handle, DevicePointer, Handle, usize, Handle);
    copy_async = "cuMemcpyAsync": fn(DevicePointer, DevicePointer, usize, Handle);
    fill_async = "cuMemsetD8Async": fn(DevicePointer, u8, usize, Handle);
    pointer_attribute = "cuPointerGetAttribute": fn(*mut c_void, i32, DevicePointer);
    stream_create = "cuStreamCreateWithPriority": fn(*mut Handle, u32, i32);
    stream_destroy = "cuStreamDestroy_v2": fn(Handle);
    stream_synchronize = "cuStreamSynchronize": fn(Handle);
    stream_query = "cuStreamQuery": fn(Handle);
    stream_wait = "cuStreamWaitEvent": fn(Handle, Handle, u32);
    stream_capturing = "cuStreamIsCapturing": fn(Handle, *mut i32);
    stream_context = "cuStreamGetCtx": fn(Handle, *mut Handle);
    begin_capture = "cuStreamBeginCapture_v2": fn(Handle, i32);
    end_capture = "cuStreamEndCapture": fn(Handle, *mut Handle);
    graph_instantiate = "cuGraphInstantiateWithFlags": fn(*mut Handle, Handle, u64);
    graph_launch = "cuGraphLaunch": fn(Handle, Handle);
    graph_destroy = "cuGraphDestroy": fn(Handle);
    graph_exec_destroy = "cuGraphExecDestroy": fn(Handle);
    event_create = "cuEventCreate": fn(*mut Handle, u32);
    event_destroy = "cuEventDestroy_v2": fn(Handle);
    event_record = "cuEventRecord": fn(Handle, Handle);
    event_query = "cuEventQuery": fn(Handle);
    event_synchronize = "cuEventSynchronize": fn(Handle);
    event_elapsed = "cuEventElapsedTime": fn(*mut f32, Handle, Handle);
    module_load = "cuModuleLoadData": fn(*mut Handle, *const c_void);
    module_function = "cuModuleGetFunction": fn(*mut Handle, Handle, *const c_char);
    launch = "cuLaunchKernel": fn(Handle, u32, u32, u32, u32, u32, u32, u32, Handle, *mut *mut c_void, *mut *mut c_void);
}

/// The driver, loaded and initialised once; the error says why there is none.
pub fn driver() -> Result<&'static Driver> {
    static DRIVER: OnceLock<Result<Driver>> = OnceLock::new();
    DRIVER.get_or_init(load).as_ref().map_err(Clone::clone)
}

fn load() -> Result<Driver> {
    let mut reasons = Vec::new();
    for name in LIBRARIES {
        let found = Library::open(Path::new(name)).and_then(|library| Driver::resolve(&library));
        match found {
            Ok(driver) => {
                // SAFETY: the driver's function; it may be called again and again.
                let code = unsafe { (driver.init)(0) };
                driver.check(code, "initialise the CUDA driver")?;
                return Ok(driver);
            }
            Err(reason) => reasons.push(format!("{name}: {reason}")),
        }
    }
    Err(err!(
        NotFound,
        "there is no CUDA driver of version 11.4 or newer. Tried: {}. Install NVIDIA's driver, or use the backend 'cpu'",
        reasons.join("; ")
    ))
}

impl Driver {
    /// An error of the driver's unless the code says success; `what` completes "cannot".
    pub fn check(&self, code: i32, what: impl std::fmt::Display) -> Result<()> {
        if code == 0 { Ok(()) } else { Err(self.error(code, what)) }
    }

    #[cold]
    fn error(&self, code: i32, what: impl std::fmt::Display) -> Error {
        let kind = match code {
            OUT_OF_MEMORY => ErrorCode::OutOfMemory,
            NO_DEVICE => ErrorCode::NotFound,
            _ => ErrorCode::Execution,
        };
        let (name, text) = (self.text(self.error_name, code), self.text(self.error_string, code));
        let message = format!("cannot {what}: {name} ({code}): {text}");
        Error::foreign(kind, ErrorDomain::Cuda, code.into(), message)
    }

    fn text(&self, of: unsafe extern "C" fn(i32, *mut *const c_char) -> i32, code: i32) -> String {
        let mut text = ptr::null();
        // SAFETY: the function gives a string that lives as long as the driver, or NULL for a code it does not know.
        unsafe {
            if of(code, &mut text) != 0 || text.is_null() {
                return "unknown".into();
            }
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a machine without a driver the error says what was tried; with one, a version comes back.
    #[test]
    fn the_driver_is_there_or_says_why_not() {
        match driver() {
            Ok(driver) => {
                let mut version = 0;
                // SAFETY: writes one number.
                assert_eq!(unsafe { (driver.version)(&mut version) }, 0);
                assert!(version >= 11040, "{version}");
            }
            Err(e) if e.domain() == ErrorDomain::Cuda => assert!(e.message().contains("initialise"), "{e}"),
            Err(e) => {
                assert_eq!(e.code(), ErrorCode::NotFound);
                assert!(e.message().contains("libcuda.so.1") && e.message().contains("'cpu'"), "{e}");
            }
        }
    }
}
