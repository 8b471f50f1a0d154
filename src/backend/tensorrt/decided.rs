//! An output whose size an execution tells, because the data decides it, or that of another output: what TensorRT wrote
//! goes from the context's memory to the caller's.
#![allow(unsafe_code)] // bytes are copied on the device; sizes are checked and buffers kept

use super::super::{TensorValue, byte_size};
use super::plan::{Plan, Tensor};
use super::sink::Sink;
use super::state::Target;
use crate::device::{Buffer, Stream};
use crate::sys::tensorrt::{ExecutionContext, OutputAllocator};
use crate::{Result, bail, err};
use std::sync::Arc;

/// Such an output of a context.
pub struct Decided {
    allocator: OutputAllocator,
    sink: Arc<Sink>,
    /// True once TensorRT knows the allocator.
    told: bool,
    /// Where the caller wants it: its memory and how much of it; `None` if memory is to be made.
    wanted: Option<(Buffer, usize, usize)>,
    /// What the last execution gave.
    result: Option<TensorValue>,
}

impl Decided {
    /// What a context needs for such an output.
    pub fn new(plan: &Plan) -> Result<Decided> {
        let device = plan.device;
        let sink = Arc::new(Sink::new(move |bytes| Buffer::on_device(device, bytes)));
        let allocator = OutputAllocator::new(plan.engine.api(), Box::new(sink.clone()))?;
        Ok(Decided { allocator, sink, told: false, wanted: None, result: None })
    }

    /// Lets TensorRT ask here, and notes where the output is to go.
    ///
    /// # Safety
    /// This lives as long as the context.
    pub unsafe fn bind(&mut self, context: &mut ExecutionContext, tensor: &Tensor, target: &Target) -> Result<()> {
        self.result = None;
        self.wanted = match target {
            Target::Memory { buffer, offset, capacity } => Some((buffer.clone(), *offset, *capacity)),
            Target::Made => None,
        };
        if !self.told {
            // SAFETY: by this function's contract.
            unsafe { context.set_output_allocator(&tensor.c_name, &self.allocator)? };
            self.told = true;
        }
        Ok(())
    }

    /// The profile has changed, and with it perhaps what TensorRT knows.
    pub fn tell_again(&mut self) {
        self.told = false;
    }

    /// After an execution was enqueued: copies the output to where it is to go, in the order of the stream. What the copy
    /// uses is added to `kept`.
    pub fn deliver(&mut self, plan: &Plan, tensor: &Tensor, stream: &Stream, kept: &mut Vec<Buffer>) -> Result<()> {
        let name = &tensor.name;
        let dims = self.sink.told_shape().ok_or_else(|| {
            err!(Execution, "TensorRT did not tell the shape of output '{name}', which the execution decides")
        })?;
        let bytes = byte_size(tensor.dtype, &dims)?;
        let (buffer, offset, capacity) = match &self.wanted {
            Some(wanted) => wanted.clone(),
            None => {
                let made = Buffer::on_device(plan.device, bytes)?;
                // The work that writes it may still be under way when the caller lets it go.
                kept.push(made.clone());
                (made, 0, bytes)
            }
        };
        if bytes > capacity {
            bail!(
                SizeMismatch,
                "output '{name}', whose size the execution tells, needs {bytes} bytes this time, but {capacity} bytes are bound: \
                 bind more, or nothing, and the library makes memory for it"
            );
        }
        if bytes > 0 {
            let written = self.sink.memory().filter(|m| m.len() >= bytes).ok_or_else(|| {
                err!(
                    Execution,
                    "TensorRT asked for less memory than output '{name}', {dims:?}, needs, so where it wrote is not known: \
                     execute in a new context"
                )
            })?;
            // SAFETY: both have that many bytes. The context keeps its own memory until the work is done, also when it has
            // grown out of it; the other is in `bound` or was just kept.
            unsafe { stream.copy(buffer.address() + offset as u64, written.address(), bytes)? };
        }
        self.result = Some(TensorValue::new(tensor.dtype, dims, buffer, offset)?);
        Ok(())
    }

    /// What the last execution gave, in the memory where it is.
    pub fn result(&self) -> Option<&TensorValue> {
        self.result.as_ref()
    }

    /// The same, and memory that was made is the caller's from now on.
    pub fn take(&mut self) -> Option<TensorValue> {
        self.result.take()
    }

    /// Memory that the context has grown out of, to be kept until the work so far is done.
    pub fn outgrown(&self) -> Vec<Buffer> {
        self.sink.outgrown()
    }

    /// Why there was no memory.
    pub fn failure(&self) -> Option<crate::Error> {
        self.sink.failure()
    }
}
