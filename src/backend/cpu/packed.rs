//! Types smaller than a byte: packed outside as ONNX packs them, one element a byte inside.

use crate::model::DataType;

/// Spreads packed elements over bytes; signed types get their sign.
pub fn unpack(dtype: DataType, packed: &[u8], out: &mut [u8]) {
    let bits = dtype.bits();
    let mask = (1u16 << bits) as u8 - 1;
    for (i, o) in out.iter_mut().enumerate() {
        let at = i * bits;
        let low = packed.get(at / 8).copied().unwrap_or(0) as u16;
        let high = packed.get(at / 8 + 1).copied().unwrap_or(0) as u16;
        let v = ((low | high << 8) >> (at % 8)) as u8 & mask;
        let signed = matches!(dtype, DataType::Int4 | DataType::Int2);
        *o = if signed && v >> (bits - 1) == 1 { v | !mask } else { v };
    }
}

/// The inverse of [`unpack`].
pub fn pack(dtype: DataType, elements: &[u8]) -> Vec<u8> {
    let bits = dtype.bits();
    let mask = (1u16 << bits) as u8 - 1;
    let mut out = vec![0u8; (elements.len() * bits).div_ceil(8)];
    for (i, &e) in elements.iter().enumerate() {
        let at = i * bits;
        let v = u16::from(e & mask) << (at % 8);
        for (k, part) in v.to_le_bytes().into_iter().enumerate() {
            if let Some(o) = out.get_mut(at / 8 + k) {
                *o |= part;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_elements_survive() {
        for (dtype, values) in [
            (DataType::Uint4, vec![0u8, 15, 7, 8, 3]),
            (DataType::Int4, vec![0, 0xFF, 7, 0xF8, 3]),
            (DataType::Uint2, vec![0, 1, 2, 3, 3]),
            (DataType::Int2, vec![0, 1, 0xFE, 0xFF, 1]),
            (DataType::Float6E2M3, vec![0, 63, 32, 31, 5]),
        ] {
            let packed = pack(dtype, &values);
            assert_eq!(packed.len(), dtype.byte_size(values.len()).unwrap());
            let mut back = vec![0; values.len()];
            unpack(dtype, &packed, &mut back);
            assert_eq!(back, values, "{dtype}");
        }
        assert_eq!(pack(DataType::Uint4, &[1, 2]), [0x21], "the first element is in the low bits");
    }
}
