//! Where a tensor's bytes live: memory, a part of a mapped file, or strings. Cloning shares.

use bytes::Bytes;
use std::sync::Arc;

/// The bytes behind a tensor, shared and immutable.
#[derive(Debug, Clone)]
pub enum Storage {
    /// Little-endian elements packed as ONNX's `raw_data`. A view of a mapped file is also a `Bytes`, whose owner
    /// keeps the map.
    Bytes(Bytes),
    /// The elements of a string tensor.
    Strings(Arc<[Bytes]>),
}

impl Storage {
    /// Takes over a vector of plain numbers without copying it. (On big-endian machines the bytes would have to be
    /// swapped; Mezzo does not build there, see `lib.rs`.)
    pub fn from_vec<T: bytemuck::NoUninit + Send + Sync + 'static>(values: Vec<T>) -> Self {
        struct Owner<T>(Vec<T>);
        impl<T: bytemuck::NoUninit> AsRef<[u8]> for Owner<T> {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }
        Storage::Bytes(Bytes::from_owner(Owner(values)))
    }

    /// Bytes held (for strings, the sum of their lengths).
    pub fn byte_len(&self) -> usize {
        match self {
            Storage::Bytes(b) => b.len(),
            Storage::Strings(s) => s.iter().map(Bytes::len).sum(),
        }
    }
}
