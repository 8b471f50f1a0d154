//! Copies, fills and conversions in the order of a stream. Each keeps the buffers that it uses until it is done.
#![allow(unsafe_code)] // addresses are handed to the driver; every range is checked and every buffer kept

use super::{Buffer, Conversion, Event, Stream, deferred};
use crate::model::DataType;
use crate::{Result, bail};
use std::sync::Arc;

/// Copies `len` bytes between buffers of any kind in the stream's order. Pinned memory is ordered by streams, as device memory
/// is; other host memory is the driver's until this returns, and counts as in use so long.
///
/// While the stream is captured nothing is kept: the buffers must outlive the graph.
pub fn copy(
    stream: &Stream,
    to: &Buffer,
    to_offset: usize,
    from: &Buffer,
    from_offset: usize,
    len: usize,
) -> Result<()> {
    to.check_range(to_offset, len)?;
    from.check_range(from_offset, len)?;
    let _locks = (from.hold_for_reading()?, to.hold_for_writing()?);
    let (there, here) = (to.address() + to_offset as u64, from.address() + from_offset as u64);
    // SAFETY: both ranges were checked; the buffers are kept below until the copy is done, and host memory that is not pinned
    // is locked while the driver may touch it.
    unsafe {
        match (to.device(), from.device()) {
            (Some(t), Some(f)) if !std::ptr::eq(t, f) => stream.copy_between((there, t), (here, f), len)?,
            _ => stream.copy(there, here, len)?,
        }
    }
    if stream.is_capturing()? { Ok(()) } else { keep(stream, (to.clone(), from.clone())) }
}

/// Sets `len` bytes of a device buffer in the stream's order.
pub fn fill(stream: &Stream, to: &Buffer, offset: usize, value: u8, len: usize) -> Result<()> {
    to.check_range(offset, len)?;
    on_device(stream, to)?;
    // SAFETY: the range was checked, and the buffer is kept until the work is done.
    unsafe { stream.fill(to.address() + offset as u64, value, len)? };
    if stream.is_capturing()? { Ok(()) } else { keep(stream, to.clone()) }
}

/// Converts `count` floats from one device buffer to another in the stream's order: FP32 to FP16 or BF16 (rounded to nearest
/// even) or back.
pub fn convert(
    stream: &Stream,
    (to, to_offset, to_type): (&Buffer, usize, DataType),
    (from, from_offset, from_type): (&Buffer, usize, DataType),
    count: usize,
) -> Result<()> {
    use DataType::{Bfloat16, Float16, Float32};
    let conversion = match (from_type, to_type) {
        (Float32, Float16) => Conversion::FloatToHalf,
        (Float16, Float32) => Conversion::HalfToFloat,
        (Float32, Bfloat16) => Conversion::FloatToBfloat,
        (Bfloat16, Float32) => Conversion::BfloatToFloat,
        _ => bail!(
            Unsupported,
            "devices convert fp32 to fp16 or bf16 and back, not {from_type} to {to_type}: convert on the host with \
             mezzo_value_to_float"
        ),
    };
    for (buffer, offset, dtype) in [(to, to_offset, to_type), (from, from_offset, from_type)] {
        let size = dtype.element_size().unwrap_or(1);
        let bytes = count.saturating_mul(size);
        buffer.check_range(offset, bytes)?;
        on_device(stream, buffer)?;
        if !(buffer.address() + offset as u64).is_multiple_of(size as u64) {
            bail!(
                InvalidArgument,
                "elements of type {dtype} must start at a multiple of {size} bytes, but offset {offset} does not"
            );
        }
    }
    if to.same(from) {
        bail!(InvalidArgument, "a conversion needs two buffers: one cannot be converted in place");
    }
    // SAFETY: ranges, types and devices were checked, the buffers differ, and they are kept until the work is done.
    unsafe { conversion.enqueue(stream, to.address() + to_offset as u64, from.address() + from_offset as u64, count)? };
    if stream.is_capturing()? { Ok(()) } else { keep(stream, (to.clone(), from.clone())) }
}

fn on_device(stream: &Stream, buffer: &Buffer) -> Result<()> {
    match buffer.device() {
        Some(device) if std::ptr::eq(device, stream.device()) => Ok(()),
        Some(device) => {
            bail!(InvalidArgument, "the buffer is memory of {device:?}, and the stream is of {:?}", stream.device())
        }
        None => bail!(InvalidArgument, "the buffer is host memory: give a buffer of {:?}", stream.device()),
    }
}

/// Keeps something until the stream has passed what is on it now.
fn keep(stream: &Stream, kept: impl Send + 'static) -> Result<()> {
    let event = Event::new(stream.device(), false)?;
    event.record(stream)?;
    deferred::until(Arc::new(event), kept);
    Ok(())
}
