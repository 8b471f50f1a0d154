//! A protobuf writer that never holds tensor data: the same encoding code runs twice, first to measure every nested
//! message, then to write, when each length is known before its content.

use crate::model::Tensor;
use crate::{Result, bail, err};

/// Small writes are gathered up to this size.
const BUFFER: usize = 64 << 10;

/// Receives the encoded bytes in order.
pub type Sink<'s> = dyn FnMut(&[u8]) -> Result<()> + 's;

/// Writes fields; see the module.
pub struct Writer<'s> {
    /// Lengths of nested messages, in the order in which they begin.
    lengths: Vec<u64>,
    /// The next of `lengths`, while writing.
    next: usize,
    position: u64,
    depth: usize,
    buffer: Vec<u8>,
    /// None while measuring.
    sink: Option<&'s mut Sink<'s>>,
}

/// What measuring found.
pub struct Measured {
    lengths: Vec<u64>,
    /// Length of the whole message.
    pub total: u64,
}

/// Runs `encode` to learn the lengths.
pub fn measure(encode: impl FnOnce(&mut Writer) -> Result<()>) -> Result<Measured> {
    let mut writer = Writer { lengths: Vec::new(), next: 0, position: 0, depth: 0, buffer: Vec::new(), sink: None };
    encode(&mut writer)?;
    Ok(Measured { lengths: writer.lengths, total: writer.position })
}

/// Runs the same `encode` again to write.
pub fn write<'s>(
    measured: Measured,
    sink: &'s mut Sink<'s>,
    encode: impl FnOnce(&mut Writer<'s>) -> Result<()>,
) -> Result<()> {
    let Measured { lengths, total } = measured;
    let buffer = Vec::with_capacity(BUFFER);
    let mut writer = Writer { lengths, next: 0, position: 0, depth: 0, buffer, sink: Some(sink) };
    encode(&mut writer)?;
    writer.flush()?;
    if writer.position != total {
        bail!(Internal, "the encoded model has {} bytes, measured were {total}", writer.position);
    }
    Ok(())
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.position += bytes.len() as u64;
        if self.sink.is_none() {
            return Ok(());
        }
        if self.buffer.len() + bytes.len() <= BUFFER {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        // What was gathered comes first; a piece that would fill the buffer alone needs no copy.
        self.flush()?;
        match &mut self.sink {
            Some(sink) if bytes.len() >= BUFFER => sink(bytes),
            _ => {
                self.buffer.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        if let Some(sink) = &mut self.sink
            && !self.buffer.is_empty()
        {
            sink(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn put_varint(&mut self, mut value: u64) -> Result<()> {
        let mut bytes = [0u8; 10];
        let mut n = 0;
        while value >= 0x80 {
            bytes[n] = value as u8 | 0x80;
            value >>= 7;
            n += 1;
        }
        bytes[n] = value as u8;
        self.put(&bytes[..=n])
    }

    fn tag(&mut self, field: u32, wire: u8) -> Result<()> {
        self.put_varint(u64::from(field) << 3 | u64::from(wire))
    }

    /// A signed number.
    pub fn int(&mut self, field: u32, value: i64) -> Result<()> {
        self.tag(field, 0)?;
        self.put_varint(value as u64)
    }

    /// A float.
    pub fn float(&mut self, field: u32, value: f32) -> Result<()> {
        self.tag(field, 5)?;
        self.put(&value.to_le_bytes())
    }

    /// Bytes or text.
    pub fn bytes(&mut self, field: u32, value: &[u8]) -> Result<()> {
        self.tag(field, 2)?;
        self.put_varint(value.len() as u64)?;
        self.put(value)
    }

    /// Text, if it is given.
    pub fn optional(&mut self, field: u32, value: Option<&str>) -> Result<()> {
        value.map_or(Ok(()), |v| self.bytes(field, v.as_bytes()))
    }

    /// Text, unless it is empty.
    pub fn non_empty(&mut self, field: u32, value: &str) -> Result<()> {
        if value.is_empty() { Ok(()) } else { self.bytes(field, value.as_bytes()) }
    }

    /// A tensor's bytes, converted on the way if that is pending.
    pub fn tensor_bytes(&mut self, field: u32, tensor: &Tensor) -> Result<()> {
        self.tag(field, 2)?;
        self.put_varint(tensor.byte_len() as u64)?;
        if self.sink.is_none() {
            self.position += tensor.byte_len() as u64;
            return Ok(());
        }
        tensor.for_each_chunk(|chunk| self.put(chunk))
    }

    /// A nested message, whose fields `body` writes.
    pub fn message(&mut self, field: u32, body: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if self.depth >= super::prescan::MAX_DEPTH {
            bail!(
                Unsupported,
                "the model nests messages more than {} deep, which no ONNX reader accepts: move inner subgraphs to local \
                 functions",
                super::prescan::MAX_DEPTH
            );
        }
        self.depth += 1;
        if self.sink.is_some() {
            let length = *self.lengths.get(self.next).ok_or_else(|| err!(Internal, "a message was not measured"))?;
            self.next += 1;
            self.tag(field, 2)?;
            self.put_varint(length)?;
            let start = self.position;
            body(self)?;
            if self.position - start != length {
                bail!(Internal, "a message has {} bytes, measured were {length}", self.position - start);
            }
        } else {
            let slot = self.lengths.len();
            self.lengths.push(0);
            let start = self.position;
            body(self)?;
            let length = self.position - start;
            self.lengths[slot] = length;
            self.tag(field, 2)?;
            self.put_varint(length)?;
        }
        self.depth -= 1;
        Ok(())
    }
}
