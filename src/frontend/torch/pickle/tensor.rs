//! A pickled tensor with its bytes: sizes, strides and offset held against the storage.

use super::{Id, Object, Pickle};
use crate::frontend::torch::archive::Archive;
use crate::frontend::torch::lower::TensorData;
use crate::{Result, bail, err};
use std::rc::Rc;

/// A tensor that repeats elements (stride 0) may be this much larger than its storage.
const MAX_REPEATED: u64 = 64 << 20;
const MAX_RANK: usize = 64;

/// The tensor's data in the archive, its storage being the entry `<folder>/<key>`; and that key, by which tensors that
/// share a storage are recognised. `None` for an object that is no tensor.
pub fn tensor_data(pickle: &Pickle, id: Id, archive: &Archive, folder: &str) -> Result<Option<(TensorData, Rc<str>)>> {
    let Object::Tensor { storage, offset, sizes, strides } = pickle.get(id) else { return Ok(None) };
    let Object::Storage { dtype, key, elements } = pickle.get(*storage) else { return Ok(None) };
    let entry = format!("{folder}/{key}");
    let bytes = archive.need(&entry)?;
    let Some(wide) = dtype.element_size() else {
        bail!(Unsupported, "a tensor in '{entry}' has a type without a size in bytes");
    };
    let wide = wide as u64;
    if elements.checked_mul(wide).is_none_or(|len| len > bytes.len() as u64) {
        bail!(
            InvalidFile,
            "the storage '{entry}' has {} bytes, but {elements} elements of {dtype} are claimed: get the file again",
            bytes.len()
        );
    }
    check(*offset, sizes, strides, *elements)
        .map_err(|e| e.context(format_args!("a tensor in the storage '{entry}'")))?;
    let data = TensorData {
        dtype: *dtype,
        sizes: sizes.clone(),
        strides: strides.clone(),
        offset: *offset,
        storage: bytes.slice(..(elements * wide) as usize),
    };
    Ok(Some((data, key.clone())))
}

/// Whether every element lies in a storage of so many.
fn check(offset: i64, sizes: &[i64], strides: &[i64], elements: u64) -> Result<()> {
    let outside =
        || err!(InvalidFile, "offset {offset}, sizes {sizes:?} and strides {strides:?} leave its {elements} elements");
    if sizes.len() != strides.len() || sizes.len() > MAX_RANK {
        return Err(outside());
    }
    let mut last = u64::try_from(offset).map_err(|_| outside())?;
    let mut count = 1u64;
    for (size, stride) in sizes.iter().zip(strides) {
        let size = u64::try_from(*size).map_err(|_| outside())?;
        let stride = u64::try_from(*stride).map_err(|_| outside())?;
        count = count.checked_mul(size).ok_or_else(outside)?;
        let step = size.saturating_sub(1).checked_mul(stride).ok_or_else(outside)?;
        last = last.checked_add(step).ok_or_else(outside)?;
    }
    if count == 0 {
        return Ok(());
    }
    if last >= elements {
        return Err(outside());
    }
    if count > elements.max(MAX_REPEATED) {
        bail!(InvalidFile, "it repeats {elements} elements to {count}; that is taken for a memory bomb");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn strides_stay_in_the_storage() {
        assert!(check(0, &[2, 3], &[3, 1], 6).is_ok());
        assert!(check(5, &[], &[], 6).is_ok());
        assert!(check(0, &[0, 3], &[3, 1], 0).is_ok());
        assert!(check(0, &[1 << 20], &[0], 1).is_ok());
        assert!(check(1, &[2, 3], &[3, 1], 6).is_err());
        assert!(check(-1, &[2], &[1], 6).is_err());
        assert!(check(0, &[2], &[-1], 6).is_err());
        assert!(check(0, &[-2], &[1], 6).is_err());
        assert!(check(0, &[i64::MAX, i64::MAX], &[i64::MAX, 1], 6).is_err());
        assert!(check(0, &[1 << 40], &[0], 1).is_err());
    }
}
