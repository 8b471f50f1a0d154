//! Runtime, engine and execution context: every call typed once. The device's context is current wherever a
//! method here says so; the caller sees to it.

use super::abi::{Dims32, Dims64, Object, call, text};
use super::api::{Api, DELETE};
use super::builder::{Owned, Selector};
use super::logger::Logger;
use super::output_allocator::OutputAllocator;
use super::profiler::Profiler;
use super::tables::*;
use super::version::Family;
use crate::error::ErrorCode;
use crate::sys::cuda::{Device, StreamHandle};
use crate::{Result, bail, err};
use parking_lot::Mutex;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;

/// `ExecutionContextAllocationStrategy`: the context's own memory, for the largest shapes.
const STATIC_MEMORY: i32 = 0;
/// The caller's memory.
const USER_MANAGED_MEMORY: i32 = 2;

/// A plan that was loaded for a device.
pub struct PlanOnDevice {
    pub(super) api: &'static Api,
    pub(super) device: &'static Device,
    /// `None` only while this is dropped.
    engine: Option<Owned>,
    runtime: Option<Owned>,
    logger: Logger<'static>,
    /// TensorRT says that an engine may be used from several threads, but makes one context at a time.
    opening: Mutex<()>,
}

// SAFETY: NVIDIA's documentation lets any thread use an engine; what changes it is behind the lock.
unsafe impl Send for PlanOnDevice {}
// SAFETY: as above.
unsafe impl Sync for PlanOnDevice {}

/// What an engine has for an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineTensor {
    /// Its name.
    pub name: String,
    /// True for an input.
    pub is_input: bool,
    /// TensorRT's name of its element type: FLOAT, HALF.
    pub dtype: String,
    /// Its sizes, -1 where one is dynamic.
    pub shape: Vec<i64>,
    /// True if it is read or written on the host (values that are a shape).
    pub on_host: bool,
}

/// An execution context. Exclusive.
pub struct ExecutionContext {
    /// `None` only while this is dropped.
    pub(super) owned: Option<Owned>,
    api: &'static Api,
    plan: Arc<PlanOnDevice>,
    set_address: u16,
    enqueue: u16,
}

// SAFETY: NVIDIA's documentation lets a context move between threads as long as one uses it at a time.
unsafe impl Send for ExecutionContext {}

/// A tensor's name as TensorRT takes it.
pub fn c_name(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| err!(InvalidArgument, "the tensor name '{name}' has a zero byte"))
}

/// Calls a method that returns dimensions, in the version's own structure.
macro_rules! dims {
    ($api:expr, $this:expr, $slot:expr, fn($($type:ty),*) $(, $argument:expr)*) => {
        if old_dims($api) {
            call!($this, $slot, fn($($type),*) -> Dims32 $(, $argument)*).widen()
        } else {
            call!($this, $slot, fn($($type),*) -> Dims64 $(, $argument)*)
        }
    };
}

fn old_dims(api: &Api) -> bool {
    matches!(api.family(), Family::V8_5 | Family::V8_6)
}

impl PlanOnDevice {
    /// Loads a plan for a device. The caller trusts the plan: it is code.
    pub fn load(api: &'static Api, device: &'static Device, plan: &[u8]) -> Result<PlanOnDevice> {
        let _entered = device.enter()?;
        let logger = api.logger();
        let runtime = Owned::new(api.create("createInferRuntime_INTERNAL", "runtime", &logger)?, DELETE);
        let slot = api.slot(Method::RuntimeDeserializeCudaEngine)?;
        // SAFETY: a live runtime. Up to 8.6 a third argument, an old plugin factory, must be null; later versions do not
        // look at it. The plan lives during the call, which copies what it needs.
        let engine = api.catching(api.method_name(Method::RuntimeDeserializeCudaEngine), &logger, || unsafe {
            let this = runtime.object.implementation();
            let none = ptr::null_mut();
            call!(this, slot, fn(*const u8, usize, *mut c_void) -> *mut c_void, plan.as_ptr(), plan.len(), none)
        })?;
        let engine = Object::returned(engine).ok_or_else(|| {
            let what = format!("{} cannot load the engine's plan", api.version());
            api.error(ErrorCode::Unsupported, what, &logger)
        })?;
        let _ = logger.take();
        let engine = Some(Owned::new(engine, DELETE));
        Ok(PlanOnDevice { api, device, engine, runtime: Some(runtime), logger, opening: Mutex::new(()) })
    }

    /// Where it is.
    pub fn device(&self) -> &'static Device {
        self.device
    }

    /// Which library it is.
    pub fn api(&self) -> &'static Api {
        self.api
    }

    pub(super) fn this(&self) -> *mut c_void {
        // SAFETY: the engine is alive as long as this.
        self.engine.as_ref().map_or(ptr::null_mut(), |e| unsafe { e.object.implementation() })
    }

    /// Inputs and outputs, in the engine's order.
    pub fn tensors(&self) -> Result<Vec<EngineTensor>> {
        let api = self.api;
        let (count, name) = (api.slot(Method::CudaEngineGetNbIOTensors)?, api.slot(Method::CudaEngineGetIOTensorName)?);
        let (mode, dtype) =
            (api.slot(Method::CudaEngineGetTensorIOMode)?, api.slot(Method::CudaEngineGetTensorDataType)?);
        let (shape, place) =
            (api.slot(Method::CudaEngineGetTensorShape)?, api.slot(Method::CudaEngineGetTensorLocation)?);
        let (input, host) = (api.value(TENSOR_IOMODE, "INPUT")?, api.value(TENSOR_LOCATION, "HOST")?);
        let this = self.this();
        // SAFETY: a live engine, and the methods' signatures in every version; names are the engine's own C strings.
        unsafe {
            let count = call!(this, count, fn() -> i32);
            (0..count)
                .map(|i| {
                    let name = call!(this, name, fn(i32) -> *const c_char, i);
                    if name.is_null() {
                        bail!(Internal, "TensorRT has no name for tensor {i} of {count}");
                    }
                    let dtype = call!(this, dtype, fn(*const c_char) -> i32, name);
                    let shape = dims!(api, this, shape, fn(*const c_char), name);
                    Ok(EngineTensor {
                        name: text(name),
                        is_input: call!(this, mode, fn(*const c_char) -> i32, name) == input,
                        dtype: api.name(DATA_TYPE, dtype),
                        shape: shape.shape().unwrap_or_default(),
                        on_host: call!(this, place, fn(*const c_char) -> i32, name) == host,
                    })
                })
                .collect()
        }
    }

    /// How many optimization profiles it has.
    pub fn profiles(&self) -> Result<usize> {
        let slot = self.api.slot(Method::CudaEngineGetNbOptimizationProfiles)?;
        // SAFETY: a live engine, and the method's signature in every version.
        let count = unsafe { call!(self.this(), slot, fn() -> i32) };
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// A shape of an input in a profile; `None` where there is none (a shape input, say).
    pub fn profile_shape(&self, input: &str, profile: usize, which: Selector) -> Result<Option<Vec<i64>>> {
        let name = c_name(input)?;
        let slot = self.api.slot(Method::CudaEngineGetProfileShape)?;
        let which = self.api.value(OPT_PROFILE_SELECTOR, ["MIN", "OPT", "MAX"][which as usize])?;
        // SAFETY: a live engine, and the method's signature in every version.
        let dims = unsafe {
            dims!(self.api, self.this(), slot, fn(*const c_char, i32, i32), name.as_ptr(), profile as i32, which)
        };
        let _ = self.logger.take();
        Ok(dims.shape())
    }

    /// Bytes of device memory that a context needs for its activations, whatever the profile.
    pub fn memory_bytes(&self) -> Result<usize> {
        let bytes = if old_dims(self.api) {
            let slot = self.api.slot(Method::CudaEngineGetDeviceMemorySize)?;
            // SAFETY: a live engine, and the method's signature in these versions.
            unsafe { call!(self.this(), slot, fn() -> usize) }
        } else {
            let slot = self.api.slot(Method::CudaEngineGetDeviceMemorySizeV2)?;
            // SAFETY: as above.
            let bytes = unsafe { call!(self.this(), slot, fn() -> i64) };
            usize::try_from(bytes).unwrap_or(0)
        };
        Ok(bytes)
    }

    /// Opens a context. It takes device memory for its activations, unless [`ExecutionContext::set_memory`] is to give it some.
    pub fn open(self: &Arc<Self>, own_memory: bool) -> Result<ExecutionContext> {
        let _entered = self.device.enter()?;
        let _one = self.opening.lock();
        let old = old_dims(self.api);
        let method = match own_memory || !old {
            true => Method::CudaEngineCreateExecutionContext,
            false => Method::CudaEngineCreateExecutionContextWithoutDeviceMemory,
        };
        let slot = self.api.slot(method)?;
        let strategy = if own_memory { STATIC_MEMORY } else { USER_MANAGED_MEMORY };
        // SAFETY: a live engine. From version 10 on the argument is the allocation strategy; earlier versions take no
        // argument and do not look at it.
        let context = self.api.catching(self.api.method_name(method), &self.logger, || unsafe {
            call!(self.this(), slot, fn(i32) -> *mut c_void, strategy)
        })?;
        let object = Object::returned(context).ok_or_else(|| {
            let what = format!("{} cannot open an execution context", self.api.version());
            self.api.error(ErrorCode::OutOfMemory, what, &self.logger)
        })?;
        let _ = self.logger.take();
        Ok(ExecutionContext {
            owned: Some(Owned::new(object, DELETE)),
            api: self.api,
            plan: self.clone(),
            set_address: self.api.slot(Method::ExecutionContextSetTensorAddress)?,
            enqueue: self.api.slot(Method::ExecutionContextEnqueueV3)?,
        })
    }

    pub(super) fn error(&self, what: &str) -> crate::Error {
        let what = format!("{} cannot {what}", self.api.version());
        self.api.error(ErrorCode::Execution, what, &self.logger)
    }
}

impl ExecutionContext {
    fn this(&self) -> *mut c_void {
        // SAFETY: the context is alive as long as this.
        self.owned.as_ref().map_or(ptr::null_mut(), |o| unsafe { o.object.implementation() })
    }

    fn method(&self, method: Method) -> Result<u16> {
        self.api.slot(method)
    }

    /// Sets the memory of the activations, for a context that has none of its own.
    ///
    /// # Safety
    ///
    /// Device memory of at least [`PlanOnDevice::memory_bytes`], which lives, and which nothing else uses, while an execution
    /// is under way.
    pub unsafe fn set_memory(&mut self, address: u64, bytes: usize) -> Result<()> {
        let pointer = ptr::with_exposed_provenance_mut::<c_void>(address as usize);
        if old_dims(self.api) {
            let slot = self.method(Method::ExecutionContextSetDeviceMemory)?;
            // SAFETY: a live context, the method's signature in these versions, and the caller's word for the memory.
            unsafe { call!(self.this(), slot, fn(*mut c_void) -> (), pointer) };
        } else {
            let slot = self.method(Method::ExecutionContextSetDeviceMemoryV2)?;
            // SAFETY: as above.
            unsafe { call!(self.this(), slot, fn(*mut c_void, i64) -> (), pointer, bytes as i64) };
        }
        Ok(())
    }

    /// Chooses an optimization profile; takes effect in the order of the stream.
    pub fn set_profile(&mut self, index: usize, stream: &StreamHandle) -> Result<()> {
        let slot = self.method(Method::ExecutionContextSetOptimizationProfileAsync)?;
        // SAFETY: a live context and stream, and the method's signature in every version.
        let set = unsafe { call!(self.this(), slot, fn(i32, *mut c_void) -> bool, index as i32, stream.as_ptr()) };
        if set { Ok(()) } else { Err(self.plan.error(&format!("choose optimization profile {index}"))) }
    }

    /// Sets the shape of an input.
    pub fn set_input_shape(&mut self, name: &CStr, shape: &[i64]) -> Result<()> {
        let dims = Dims64::new(shape)?;
        let slot = self.method(Method::ExecutionContextSetInputShape)?;
        let set = if old_dims(self.api) {
            let dims = dims.narrow()?;
            // SAFETY: a live context; the dimensions are passed by reference.
            unsafe {
                call!(self.this(), slot, fn(*const c_char, *const Dims32) -> bool, name.as_ptr(), &raw const dims)
            }
        } else {
            // SAFETY: as above.
            unsafe {
                call!(self.this(), slot, fn(*const c_char, *const Dims64) -> bool, name.as_ptr(), &raw const dims)
            }
        };
        if set {
            Ok(())
        } else {
            Err(self.plan.error(&format!("set the shape of input '{}' to {shape:?}", name.to_string_lossy())))
        }
    }

    /// The shape of a tensor, -1 where it is not known before the data; `None` if not even the rank is.
    pub fn shape(&self, name: &CStr) -> Result<Option<Vec<i64>>> {
        let slot = self.method(Method::ExecutionContextGetTensorShape)?;
        // SAFETY: a live context, and the method's signature in every version.
        Ok(unsafe { dims!(self.api, self.this(), slot, fn(*const c_char), name.as_ptr()) }.shape())
    }

    /// Computes output shapes from input shapes and shape inputs.
    pub fn infer_shapes(&mut self) -> Result<()> {
        let slot = self.method(Method::ExecutionContextInferShapes)?;
        let mut names: [*const c_char; 8] = [ptr::null(); 8];
        // SAFETY: a live context; at most eight names, the engine's own C strings, are written.
        let missing = unsafe { call!(self.this(), slot, fn(i32, *mut *const c_char) -> i32, 8, names.as_mut_ptr()) };
        if missing == 0 {
            return Ok(());
        }
        let names: Vec<String> = names
            .iter()
            .take(usize::try_from(missing).unwrap_or(0).min(8))
            .map(|n| {
                // SAFETY: NULL or the engine's own C string.
                unsafe { text(*n) }
            })
            .collect();
        Err(self.plan.error(&format!("compute the shapes of the outputs (missing inputs: {})", names.join(", "))))
    }

    /// Tells where a tensor's memory is.
    ///
    /// # Safety
    /// The address is where TensorRT expects it (host or device) and stays valid, large enough and aligned to 256 bytes for
    /// every enqueue until another address is set.
    pub unsafe fn set_address(&mut self, name: &CStr, address: u64) -> Result<()> {
        let address = ptr::without_provenance_mut::<c_void>(address as usize);
        // SAFETY: a live context, and the method's signature in every version; by this function's contract.
        let set = unsafe {
            call!(self.this(), self.set_address, fn(*const c_char, *mut c_void) -> bool, name.as_ptr(), address)
        };
        if set { Ok(()) } else { Err(self.plan.error(&format!("use memory for '{}'", name.to_string_lossy()))) }
    }

    /// Lets TensorRT ask for an output's memory when it knows its size.
    ///
    /// # Safety
    /// The allocator outlives the context, or another is set.
    pub unsafe fn set_output_allocator(&mut self, name: &CStr, allocator: &OutputAllocator) -> Result<()> {
        let slot = self.method(Method::ExecutionContextSetOutputAllocator)?;
        // SAFETY: a live context, and an allocator of this version's shape; by this function's contract.
        let set = unsafe {
            call!(self.this(), slot, fn(*const c_char, *mut c_void) -> bool, name.as_ptr(), allocator.as_ptr())
        };
        if set { Ok(()) } else { Err(self.plan.error(&format!("allocate output '{}'", name.to_string_lossy()))) }
    }

    /// Gives the context a profiler, to which it reports every layer's time until [`ExecutionContext::report_layers`].
    ///
    /// # Safety
    /// The profiler outlives the context.
    pub unsafe fn set_profiler(&mut self, profiler: &Profiler) -> Result<()> {
        let slot = self.method(Method::ExecutionContextSetProfiler)?;
        // SAFETY: a live context, and a profiler of this version's shape; by this function's contract.
        unsafe { call!(self.this(), slot, fn(*mut c_void), profiler.as_ptr()) };
        Ok(())
    }

    /// Says whether enqueues report to the profiler; they then wait for the device.
    pub fn report_layers(&mut self, on: bool) -> Result<()> {
        let slot = self.method(Method::ExecutionContextSetEnqueueEmitsProfile)?;
        // SAFETY: a live context, and the method's signature in every version.
        unsafe { call!(self.this(), slot, fn(bool), on) };
        Ok(())
    }

    /// Enqueues an execution on a stream, without waiting. The device's context is current.
    ///
    /// # Safety
    /// Every address that was set is still valid, and stays so until the stream has passed the work.
    pub unsafe fn enqueue(&mut self, stream: *mut c_void) -> Result<()> {
        // SAFETY: a live context and stream; by this function's contract.
        if unsafe { call!(self.this(), self.enqueue, fn(*mut c_void) -> bool, stream) } {
            return Ok(());
        }
        Err(self.plan.error("enqueue the execution"))
    }
}

impl Drop for PlanOnDevice {
    fn drop(&mut self) {
        let _entered = self.device.enter();
        drop(self.engine.take());
        drop(self.runtime.take());
    }
}

impl Drop for ExecutionContext {
    fn drop(&mut self) {
        let _entered = self.plan.device.enter();
        drop(self.owned.take());
    }
}
