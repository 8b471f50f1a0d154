//! `TensorProto` to [`Tensor`]. Raw data stays a view of the file; typed fields become little-endian bytes.

use super::external::{Place, Store};
use super::proto::TensorProto;
use crate::model::tensor::element_count;
use crate::model::{DataType, Storage, Tensor};
use crate::{Result, bail, err};
use bytes::Bytes;

/// `TensorProto.DataLocation.EXTERNAL`
const EXTERNAL: i32 = 1;

/// The tensor's value. Errors do not name it; the caller does.
pub fn read(proto: &mut TensorProto, store: &mut Store) -> Result<Tensor> {
    if proto.segment.is_some() {
        bail!(Unsupported, "it is stored in segments, which no known writer does: save the model with onnx.save again");
    }
    let number = proto.data_type.unwrap_or(0);
    let Some(dtype) = DataType::from_onnx(number) else {
        bail!(Unsupported, "its data type has the number {number}, which ONNX {} does not know", super::ONNX_VERSION);
    };
    let dims = std::mem::take(&mut proto.dims);
    let Some(count) = element_count(&dims) else {
        bail!(InvalidModel, "its shape {dims:?} is not valid: sizes must not be negative nor their product overflow");
    };
    let external = proto.data_location.unwrap_or(0) == EXTERNAL;
    let fields = given_fields(proto);
    if external && let Some(field) = fields.first() {
        bail!(InvalidModel, "its data is external, yet it also has {field}");
    }
    if let [one, other, ..] = fields[..] {
        bail!(InvalidModel, "it has both {one} and {other}; only one may hold its data");
    }
    if let Some(&field) = fields.first()
        && field != "raw_data"
        && field != typed_field(dtype)
    {
        bail!(InvalidModel, "it is of type {dtype}, whose data stands in {}, but it has {field}", typed_field(dtype));
    }
    let storage = if dtype == DataType::String {
        if external || proto.raw_data.as_ref().is_some_and(|r| !r.is_empty()) {
            bail!(InvalidModel, "it is a tensor of strings, which can only stand in string_data");
        }
        Storage::Strings(std::mem::take(&mut proto.string_data).into())
    } else {
        let need =
            dtype.byte_size(count).ok_or_else(|| err!(InvalidModel, "its shape {dims:?} has too many elements"))?;
        let raw = proto.raw_data.take().filter(|raw| !raw.is_empty());
        if external {
            let entries = proto.external_data.iter();
            let place =
                Place::parse(entries.map(|e| (e.key.as_deref().unwrap_or(""), e.value.as_deref().unwrap_or(""))))?;
            Storage::Bytes(store.get(&place, need)?)
        } else if let Some(raw) = raw {
            if raw.len() != need {
                bail!(
                    InvalidModel,
                    "its type {dtype} and shape {dims:?} need {need} bytes, but its raw_data has {}",
                    raw.len()
                );
            }
            Storage::Bytes(raw)
        } else {
            typed(proto, dtype, count).map_err(|e| e.context(format_args!("its shape is {dims:?}")))?
        }
    };
    if let Storage::Strings(s) = &storage
        && s.len() != count
    {
        bail!(InvalidModel, "its shape {dims:?} needs {count} strings, but string_data has {}", s.len());
    }
    Tensor::new(dtype, dims, storage)
}

/// The data fields that are not empty.
fn given_fields(p: &TensorProto) -> Vec<&'static str> {
    [
        (p.raw_data.as_ref().is_some_and(|r| !r.is_empty()), "raw_data"),
        (!p.float_data.is_empty(), "float_data"),
        (!p.int32_data.is_empty(), "int32_data"),
        (!p.string_data.is_empty(), "string_data"),
        (!p.int64_data.is_empty(), "int64_data"),
        (!p.double_data.is_empty(), "double_data"),
        (!p.uint64_data.is_empty(), "uint64_data"),
    ]
    .into_iter()
    .filter_map(|(given, name)| given.then_some(name))
    .collect()
}

/// The typed field of a data type.
fn typed_field(dtype: DataType) -> &'static str {
    match dtype {
        DataType::Float32 | DataType::Complex64 => "float_data",
        DataType::Float64 | DataType::Complex128 => "double_data",
        DataType::Int64 => "int64_data",
        DataType::Uint32 | DataType::Uint64 => "uint64_data",
        DataType::String => "string_data",
        _ => "int32_data",
    }
}

fn typed(proto: &mut TensorProto, dtype: DataType, count: usize) -> Result<Storage> {
    let check = |have: usize, need: usize| {
        if have == need {
            return Ok(());
        }
        if have == 0 {
            bail!(
                InvalidModel,
                "it has no data: it may have been removed, or stand in a file of its own that is not named"
            );
        }
        bail!(InvalidModel, "its {} needs {need} values, but has {have}", typed_field(dtype))
    };
    Ok(match dtype {
        DataType::Float32 | DataType::Complex64 => {
            check(proto.float_data.len(), if dtype == DataType::Float32 { count } else { count * 2 })?;
            Storage::from_vec(std::mem::take(&mut proto.float_data))
        }
        DataType::Float64 | DataType::Complex128 => {
            check(proto.double_data.len(), if dtype == DataType::Float64 { count } else { count * 2 })?;
            Storage::from_vec(std::mem::take(&mut proto.double_data))
        }
        DataType::Int64 => {
            check(proto.int64_data.len(), count)?;
            Storage::from_vec(std::mem::take(&mut proto.int64_data))
        }
        DataType::Uint64 => {
            check(proto.uint64_data.len(), count)?;
            Storage::from_vec(std::mem::take(&mut proto.uint64_data))
        }
        DataType::Uint32 => {
            check(proto.uint64_data.len(), count)?;
            let narrow = |&v: &u64| u32::try_from(v).map_err(|_| out_of_range(dtype, v));
            Storage::from_vec(proto.uint64_data.iter().map(narrow).collect::<Result<Vec<u32>>>()?)
        }
        DataType::Int32 => {
            check(proto.int32_data.len(), count)?;
            Storage::from_vec(std::mem::take(&mut proto.int32_data))
        }
        DataType::Bool => {
            check(proto.int32_data.len(), count)?;
            bytes(proto.int32_data.iter().map(|&v| u8::from(v != 0)).collect())
        }
        DataType::Float6E2M3 | DataType::Float6E3M2 => {
            check(proto.int32_data.len(), count)?;
            bytes(pack_six_bits(&proto.int32_data, dtype)?)
        }
        _ if dtype.bits() == 16 => {
            check(proto.int32_data.len(), count)?;
            // Writers disagree on the sign of small integers: both readings of the low bits are taken.
            let narrow = |&v: &i32| match v {
                -0x8000..=0xffff => Ok(v as u16),
                _ => Err(out_of_range(dtype, v)),
            };
            Storage::from_vec(proto.int32_data.iter().map(narrow).collect::<Result<Vec<u16>>>()?)
        }
        // One byte a value; the types below a byte share it as in raw_data.
        _ => {
            check(proto.int32_data.len(), dtype.byte_size(count).unwrap_or(count))?;
            let narrow = |&v: &i32| match v {
                -0x80..=0xff => Ok(v as u8),
                _ => Err(out_of_range(dtype, v)),
            };
            bytes(proto.int32_data.iter().map(narrow).collect::<Result<Vec<u8>>>()?)
        }
    })
}

fn bytes(v: Vec<u8>) -> Storage {
    Storage::Bytes(Bytes::from(v))
}

fn out_of_range(dtype: DataType, value: impl std::fmt::Display) -> crate::Error {
    err!(InvalidModel, "the value {value} is out of the range of its type {dtype}")
}

/// Typed data has one value of six bits in each number; raw data has four in three bytes, from the lowest bit on.
fn pack_six_bits(values: &[i32], dtype: DataType) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity((values.len() * 6).div_ceil(8));
    for group in values.chunks(4) {
        let mut bits = 0u32;
        for (i, &v) in group.iter().enumerate() {
            if !(0..64).contains(&v) {
                return Err(out_of_range(dtype, v));
            }
            bits |= (v as u32) << (6 * i);
        }
        out.extend_from_slice(&bits.to_le_bytes()[..(group.len() * 6).div_ceil(8)]);
    }
    Ok(out)
}
