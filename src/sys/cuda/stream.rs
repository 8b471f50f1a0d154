//! Streams, events and graphs, and the copies that run on a stream.

use super::device::Device;
use super::driver::{DevicePointer, Handle, NOT_READY};
use crate::{Result, bail};
use std::ffi::c_void;
use std::ptr;

/// `CU_STREAM_NON_BLOCKING`: not ordered with the legacy default stream.
const NON_BLOCKING: u32 = 1;
/// `CU_EVENT_DISABLE_TIMING`.
const NO_TIMING: u32 = 2;
/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`: what other threads do cannot spoil a capture.
const THREAD_LOCAL: i32 = 1;

/// A stream, owned or borrowed.
pub struct StreamHandle {
    device: &'static Device,
    stream: Handle,
    owned: bool,
}

// SAFETY: the driver lets any thread use a stream.
unsafe impl Send for StreamHandle {}
// SAFETY: as above.
unsafe impl Sync for StreamHandle {}

impl StreamHandle {
    /// A new stream that is not ordered with the legacy default stream. A smaller number is a higher priority.
    pub fn new(device: &'static Device, priority: i32) -> Result<StreamHandle> {
        let _entered = device.enter()?;
        let mut stream = ptr::null_mut();
        // SAFETY: writes one handle.
        let code = unsafe { (device.driver.stream_create)(&mut stream, NON_BLOCKING, priority) };
        device.driver.check(code, format_args!("create a stream on {device:?}"))?;
        Ok(StreamHandle { device, stream, owned: true })
    }

    /// A stream of the caller's; NULL is the legacy default stream.
    ///
    /// # Safety
    /// `stream` is NULL, a special handle of CUDA's, or a stream that lives as long as this.
    pub unsafe fn borrow(device: &'static Device, stream: Handle) -> Result<StreamHandle> {
        let _entered = device.enter()?;
        let mut context = ptr::null_mut();
        // SAFETY: by this function's contract the stream is alive; NULL is that of the current context.
        let code = unsafe { (device.driver.stream_context)(stream, &mut context) };
        device.driver.check(code, "ask a stream for its device")?;
        if !device.is_context(context) {
            bail!(
                InvalidArgument,
                "the stream is not of the primary context of {device:?}: give the device that it was made on (streams of \
                 contexts made with cuCtxCreate are not taken)"
            );
        }
        Ok(StreamHandle { device, stream, owned: false })
    }

    /// Its device.
    pub fn device(&self) -> &'static Device {
        self.device
    }

    /// The CUDA handle (`CUstream`, `cudaStream_t`).
    pub fn as_ptr(&self) -> Handle {
        self.stream
    }

    /// Waits on the host until all work enqueued so far is done.
    pub fn synchronize(&self) -> Result<()> {
        let _entered = self.device.enter()?;
        // SAFETY: the stream is alive.
        let code = unsafe { (self.device.driver.stream_synchronize)(self.stream) };
        self.device.driver.check(code, "finish the work of a stream")
    }

    /// True if all work enqueued so far is done.
    pub fn is_done(&self) -> Result<bool> {
        let _entered = self.device.enter()?;
        // SAFETY: the stream is alive.
        let code = unsafe { (self.device.driver.stream_query)(self.stream) };
        if code == NOT_READY {
            return Ok(false);
        }
        self.device.driver.check(code, "ask a stream for its state").map(|()| true)
    }

    /// Lets later work of the stream wait, on the device, for an event.
    pub fn wait(&self, event: &EventHandle) -> Result<()> {
        let _entered = self.device.enter()?;
        // SAFETY: stream and event are alive.
        let code = unsafe { (self.device.driver.stream_wait)(self.stream, event.event, 0) };
        self.device.driver.check(code, "let a stream wait for an event")
    }

    /// True while the stream's work is recorded into a graph instead of run.
    pub fn is_capturing(&self) -> Result<bool> {
        let mut status = 0;
        let _entered = self.device.enter()?;
        // SAFETY: writes one number.
        let code = unsafe { (self.device.driver.stream_capturing)(self.stream, &mut status) };
        self.device.driver.check(code, "ask whether a stream is captured")?;
        Ok(status != 0)
    }

    /// Runs `work` so that what it enqueues on this stream becomes a graph.
    pub fn capture(&self, work: impl FnOnce() -> Result<()>) -> Result<GraphHandle> {
        let driver = self.device.driver;
        let _entered = self.device.enter()?;
        // SAFETY: the stream is alive.
        driver.check(unsafe { (driver.begin_capture)(self.stream, THREAD_LOCAL) }, "begin a graph capture")?;
        let worked = work();
        let mut graph = ptr::null_mut();
        // SAFETY: ends the capture begun above; writes one handle.
        let ended = unsafe { (driver.end_capture)(self.stream, &mut graph) };
        let made = worked.and_then(|()| driver.check(ended, "end a graph capture")).and_then(|()| {
            let mut exec = ptr::null_mut();
            // SAFETY: the graph was just captured.
            let code = unsafe { (driver.graph_instantiate)(&mut exec, graph, 0) };
            driver.check(code, "instantiate a captured graph")?;
            Ok(GraphHandle { device: self.device, exec })
        });
        if !graph.is_null() {
            // SAFETY: the graph is ours; what was instantiated from it does not need it.
            unsafe { (driver.graph_destroy)(graph) };
        }
        made
    }

    /// Copies between any two places, host or device, in the stream's order.
    ///
    /// # Safety
    /// Both places have `len` bytes, which stay valid, and nobody else writes them, until the copy is done.
    pub unsafe fn copy(&self, to: DevicePointer, from: DevicePointer, len: usize) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let _entered = self.device.enter()?;
        // SAFETY: by this function's contract; addresses are unified, so the driver tells host from device.
        let code = unsafe { (self.device.driver.copy_async)(to, from, len, self.stream) };
        self.device.driver.check(code, format_args!("copy {len} bytes on a stream"))
    }

    /// Copies from the memory of one device to that of another in the stream's order, whether or not they reach each other's
    /// memory: a plain copy is refused for memory of another device's pool.
    ///
    /// # Safety
    /// As for [`StreamHandle::copy`]; each address is of the device beside it.
    pub unsafe fn copy_between(
        &self,
        (to, to_device): (DevicePointer, &Device),
        (from, from_device): (DevicePointer, &Device),
        len: usize,
    ) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let _entered = self.device.enter()?;
        let (there, here) = (to_device.context(), from_device.context());
        // SAFETY: by this function's contract; the devices' primary contexts are held for the rest of the process.
        let code = unsafe { (self.device.driver.copy_between)(to, there, from, here, len, self.stream) };
        self.device.driver.check(code, format_args!("copy {len} bytes from {from_device:?} to {to_device:?}"))
    }

    /// Sets bytes in the stream's order.
    ///
    /// # Safety
    /// As for [`StreamHandle::copy`], of device memory.
    pub unsafe fn fill(&self, to: DevicePointer, value: u8, len: usize) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let _entered = self.device.enter()?;
        // SAFETY: by this function's contract.
        let code = unsafe { (self.device.driver.fill_async)(to, value, len, self.stream) };
        self.device.driver.check(code, format_args!("fill {len} bytes on a stream"))
    }

    /// Launches a kernel of one dimension.
    ///
    /// # Safety
    /// The function takes exactly these parameters, and what they point to is valid until it is done.
    pub unsafe fn launch(
        &self,
        function: Handle,
        blocks: u32,
        threads: u32,
        parameters: &mut [*mut c_void],
    ) -> Result<()> {
        let _entered = self.device.enter()?;
        // SAFETY: by this function's contract.
        let code = unsafe {
            let parameters = parameters.as_mut_ptr();
            (self.device.driver.launch)(
                function,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                0,
                self.stream,
                parameters,
                ptr::null_mut(),
            )
        };
        self.device.driver.check(code, "launch a kernel")
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        if self.owned
            && let Ok(_entered) = self.device.enter()
        {
            // SAFETY: ours, destroyed once; the driver finishes the work that is still on it.
            unsafe { (self.device.driver.stream_destroy)(self.stream) };
        }
    }
}

impl std::fmt::Debug for StreamHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a stream of {:?}", self.device)
    }
}

/// An event.
pub struct EventHandle {
    device: &'static Device,
    event: Handle,
    timed: bool,
}

// SAFETY: the driver lets any thread use an event.
unsafe impl Send for EventHandle {}
// SAFETY: as above.
unsafe impl Sync for EventHandle {}

impl EventHandle {
    /// An event that was not recorded yet, with or without a time.
    pub fn new(device: &'static Device, timed: bool) -> Result<EventHandle> {
        let _entered = device.enter()?;
        let mut event = ptr::null_mut();
        // SAFETY: writes one handle.
        let code = unsafe { (device.driver.event_create)(&mut event, if timed { 0 } else { NO_TIMING }) };
        device.driver.check(code, format_args!("create an event on {device:?}"))?;
        Ok(EventHandle { device, event, timed })
    }

    /// Its device.
    pub fn device(&self) -> &'static Device {
        self.device
    }

    /// The CUDA handle (`CUevent`, `cudaEvent_t`).
    pub fn as_ptr(&self) -> Handle {
        self.event
    }

    /// Records the place that the stream has reached.
    pub fn record(&self, stream: &StreamHandle) -> Result<()> {
        if !ptr::eq(self.device, stream.device) {
            bail!(InvalidArgument, "an event of {:?} cannot be recorded on {stream:?}", self.device);
        }
        let _entered = self.device.enter()?;
        // SAFETY: event and stream are alive and of one device.
        let code = unsafe { (self.device.driver.event_record)(self.event, stream.stream) };
        self.device.driver.check(code, "record an event")
    }

    /// True if the recorded place was passed, or nothing was recorded.
    pub fn is_done(&self) -> Result<bool> {
        let _entered = self.device.enter()?;
        // SAFETY: the event is alive.
        let code = unsafe { (self.device.driver.event_query)(self.event) };
        if code == NOT_READY {
            return Ok(false);
        }
        self.device.driver.check(code, "ask an event for its state").map(|()| true)
    }

    /// Waits on the host until the recorded place was passed.
    pub fn synchronize(&self) -> Result<()> {
        let _entered = self.device.enter()?;
        // SAFETY: the event is alive.
        let code = unsafe { (self.device.driver.event_synchronize)(self.event) };
        self.device.driver.check(code, "wait for an event")
    }

    /// Milliseconds on the device from this event to `end`, both recorded and passed.
    pub fn milliseconds_until(&self, end: &EventHandle) -> Result<f32> {
        if !self.timed || !end.timed {
            bail!(InvalidState, "the time between events needs events that were made with timing");
        }
        let _entered = self.device.enter()?;
        let mut time = 0.0;
        // SAFETY: both events are alive; writes one number.
        let code = unsafe { (self.device.driver.event_elapsed)(&mut time, self.event, end.event) };
        if code == NOT_READY {
            bail!(
                InvalidState,
                "the time between events is known when both were passed: synchronize the later one first"
            );
        }
        self.device.driver.check(code, "take the time between two events (both must have been recorded)")?;
        Ok(time)
    }
}

impl Drop for EventHandle {
    fn drop(&mut self) {
        if let Ok(_entered) = self.device.enter() {
            // SAFETY: ours, destroyed once; the driver waits for its use.
            unsafe { (self.device.driver.event_destroy)(self.event) };
        }
    }
}

/// A captured graph, ready to be launched.
pub struct GraphHandle {
    device: &'static Device,
    exec: Handle,
}

// SAFETY: launches are ordered by whoever owns it; the handle itself is of no thread.
unsafe impl Send for GraphHandle {}

impl GraphHandle {
    /// Enqueues the captured work.
    pub fn launch(&self, stream: &StreamHandle) -> Result<()> {
        let _entered = self.device.enter()?;
        // SAFETY: graph and stream are alive. Whoever captured it keeps what it uses alive.
        let code = unsafe { (self.device.driver.graph_launch)(self.exec, stream.stream) };
        self.device.driver.check(code, "launch a graph")
    }
}

impl Drop for GraphHandle {
    fn drop(&mut self) {
        if let Ok(_entered) = self.device.enter() {
            // SAFETY: ours, destroyed once; the driver waits for a launch under way.
            unsafe { (self.device.driver.graph_exec_destroy)(self.exec) };
        }
    }
}
