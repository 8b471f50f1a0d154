//! Devices: what they are, and the context in which calls to them run.

use super::driver::{DevicePointer, Driver, Handle, driver};
use crate::{Result, bail, err};
use parking_lot::Mutex;
use std::ffi::c_char;
use std::ptr;
use std::sync::OnceLock;

/// Numbers of `CUdevice_attribute`.
const MULTIPROCESSORS: i32 = 16;
const MAJOR: i32 = 75;
const MINOR: i32 = 76;
const MEMORY_POOLS: i32 = 115;
/// Numbers of `CUpointer_attribute`.
const POINTER_MEMORY_TYPE: i32 = 2;
const POINTER_ORDINAL: i32 = 9;
/// `CU_MEMORYTYPE_DEVICE`.
const DEVICE_MEMORY: u32 = 2;

/// A CUDA device. Its primary context, which the CUDA runtime and TensorRT use too, is held until the process ends.
pub struct Device {
    /// The driver that it belongs to.
    pub(super) driver: &'static Driver,
    ordinal: usize,
    context: Handle,
    name: String,
    memory: u64,
    compute_capability: (u32, u32),
    multiprocessors: u32,
    pools: bool,
}

// SAFETY: a context handle may be made current on any thread.
unsafe impl Send for Device {}
// SAFETY: as above; nothing is written after it was made.
unsafe impl Sync for Device {}

/// A device's context is current on this thread; the caller's own comes back on drop.
pub struct Entered<'d> {
    driver: &'d Driver,
    /// False where the context was current already.
    pushed: bool,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.pushed {
            let mut popped = ptr::null_mut();
            // SAFETY: pops what `Device::enter` pushed on this thread.
            unsafe { (self.driver.pop_context)(&mut popped) };
        }
    }
}

/// How many devices there are.
pub fn count() -> Result<usize> {
    let driver = driver()?;
    let mut count = 0;
    // SAFETY: writes one number.
    driver.check(unsafe { (driver.device_count)(&mut count) }, "count the CUDA devices")?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The driver's version as CUDA numbers it: 13000 is 13.0.
pub fn driver_version() -> Result<i32> {
    let driver = driver()?;
    let mut version = 0;
    // SAFETY: writes one number.
    driver.check(unsafe { (driver.version)(&mut version) }, "ask the driver for its version")?;
    Ok(version)
}

impl Device {
    /// The device of that number, from 0 on.
    pub fn get(ordinal: usize) -> Result<&'static Device> {
        static DEVICES: OnceLock<Vec<OnceLock<Device>>> = OnceLock::new();
        static OPENING: Mutex<()> = Mutex::new(());
        let count = count()?;
        let devices = DEVICES.get_or_init(|| (0..count).map(|_| OnceLock::new()).collect());
        let Some(device) = devices.get(ordinal) else {
            bail!(NotFound, "there is no CUDA device {ordinal}: this machine has {count}, numbered from 0");
        };
        if let Some(open) = device.get() {
            return Ok(open);
        }
        // A failure is not kept: the device's memory may be full of others' work now, and free later.
        let _one = OPENING.lock();
        if device.get().is_none() {
            let _ = device.set(Device::open(ordinal)?);
        }
        device.get().ok_or_else(|| err!(Internal, "CUDA device {ordinal} was opened and is not there"))
    }

    fn open(ordinal: usize) -> Result<Device> {
        let driver = driver()?;
        let (mut handle, mut memory, mut context, mut name) = (0, 0usize, ptr::null_mut(), [0u8; 256]);
        let what = format!("open CUDA device {ordinal}");
        // SAFETY: each call writes one thing of the given size.
        unsafe {
            driver.check((driver.device)(&mut handle, ordinal as i32), &what)?;
            let room = (name.len() - 1) as i32;
            driver.check((driver.device_name)(name.as_mut_ptr().cast::<c_char>(), room, handle), &what)?;
            driver.check((driver.device_memory)(&mut memory, handle), &what)?;
            driver.check((driver.primary_context)(&mut context, handle), &what)?;
        }
        let attribute = |number| {
            let mut value = 0;
            // SAFETY: writes one number.
            let code = unsafe { (driver.device_attribute)(&mut value, number, handle) };
            driver.check(code, &what).map(|()| u32::try_from(value).unwrap_or(0))
        };
        let length = name.iter().position(|b| *b == 0).unwrap_or(0);
        Ok(Device {
            driver,
            ordinal,
            context,
            name: String::from_utf8_lossy(&name[..length]).into_owned(),
            memory: memory as u64,
            compute_capability: (attribute(MAJOR)?, attribute(MINOR)?),
            multiprocessors: attribute(MULTIPROCESSORS)?,
            pools: attribute(MEMORY_POOLS)? != 0,
        })
    }

    /// Its number, from 0 on.
    pub fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// Its name, as in "NVIDIA H100 80GB HBM3".
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of memory that it has.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Bytes of memory that are free now.
    pub fn free_memory(&self) -> Result<u64> {
        let _entered = self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two numbers.
        let code = unsafe { (self.driver.memory_info)(&mut free, &mut total) };
        self.driver.check(code, "ask for free device memory")?;
        Ok(free as u64)
    }

    /// Its compute capability: 9, 0 is 9.0.
    pub fn compute_capability(&self) -> (u32, u32) {
        self.compute_capability
    }

    /// Streaming multiprocessors.
    pub fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// True if memory can be allocated in the order of a stream.
    pub fn has_pools(&self) -> bool {
        self.pools
    }

    /// Lowest and highest priority of streams; a smaller number is a higher priority.
    pub fn priorities(&self) -> Result<(i32, i32)> {
        let _entered = self.enter()?;
        let (mut least, mut greatest) = (0, 0);
        // SAFETY: writes two numbers.
        let code = unsafe { (self.driver.priority_range)(&mut least, &mut greatest) };
        self.driver.check(code, "ask for the range of stream priorities")?;
        Ok((least, greatest))
    }

    /// Makes the device's context current on this thread until the result is dropped.
    pub fn enter(&self) -> Result<Entered<'_>> {
        let driver = self.driver;
        let mut current = ptr::null_mut();
        // SAFETY: reads this thread's current context.
        let code = unsafe { (driver.current_context)(&mut current) };
        if code == 0 && current == self.context {
            return Ok(Entered { driver, pushed: false });
        }
        // SAFETY: the primary context is held for the rest of the process.
        driver.check(unsafe { (driver.push_context)(self.context) }, "make the device's context current")?;
        Ok(Entered { driver, pushed: true })
    }

    /// The primary context.
    pub(super) fn context(&self) -> Handle {
        self.context
    }

    /// True if the handle is this device's primary context.
    pub(super) fn is_context(&self, context: Handle) -> bool {
        context == self.context
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "device {} ({})", self.ordinal, self.name)
    }
}

/// The device in whose memory an address lies; `None` for host memory and for what the driver does not know.
pub fn device_of(address: DevicePointer) -> Result<Option<usize>> {
    let driver = driver()?;
    let (mut kind, mut ordinal) = (0u32, 0i32);
    // SAFETY: each call writes one number of that size, and looks the address up without reading through it.
    let known = unsafe {
        (driver.pointer_attribute)((&raw mut kind).cast(), POINTER_MEMORY_TYPE, address) == 0
            && (driver.pointer_attribute)((&raw mut ordinal).cast(), POINTER_ORDINAL, address) == 0
    };
    Ok(if known && kind == DEVICE_MEMORY { usize::try_from(ordinal).ok() } else { None })
}
