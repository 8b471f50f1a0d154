//! Values of the JSON lines that judges in other languages send:
//!
//! `{"dtype": 1, "dims": [2, 3], "file": "x.bin"}` (ONNX's type number, little-endian elements as ONNX packs them) or
//! the same with `"hex"` in place of the file, `{"dims": [2], "strings": ["a", "b"]}`, `{"sequence": [VALUE, ...]}` or
//! `{"optional": VALUE or null}`.

use mezzo::backend::{TensorValue, Value};
use mezzo::model::DataType;
use mezzo::{Error, ErrorCode, Result};
use serde_json::Value as Json;

/// An error of the line itself.
pub fn bad(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::InvalidArgument, what.to_string())
}

fn dims(v: &Json) -> Vec<usize> {
    v["dims"].as_array().into_iter().flatten().filter_map(|d| d.as_u64()).map(|d| d as usize).collect()
}

fn hex(text: &str) -> Result<Vec<u8>> {
    let digit = |c: u8| (c as char).to_digit(16).ok_or_else(|| bad("a character that is no hexadecimal digit"));
    text.as_bytes().chunks(2).map(|pair| pair.iter().try_fold(0, |n, &c| Ok(n * 16 + digit(c)? as u8))).collect()
}

/// The value.
pub fn read(v: &Json) -> Result<Value> {
    let bytes = match (v["file"].as_str(), v["hex"].as_str()) {
        (Some(file), _) => Some(std::fs::read(file).map_err(|e| Error::io(file, &e))?),
        (None, Some(text)) => Some(hex(text)?),
        (None, None) => None,
    };
    if let Some(bytes) = bytes {
        let code = v["dtype"].as_i64().unwrap_or(0) as i32;
        let dtype = DataType::from_onnx(code).ok_or_else(|| bad("unknown dtype"))?;
        return Ok(Value::Tensor(TensorValue::copy_of(dtype, dims(v), &bytes)?));
    }
    if let Some(list) = v["strings"].as_array() {
        let elements = list.iter().map(|s| s.as_str().unwrap_or_default().as_bytes().to_vec()).collect::<Vec<_>>();
        return Ok(Value::Strings { dims: dims(v), elements: elements.into() });
    }
    if let Some(list) = v["sequence"].as_array() {
        return Ok(Value::Sequence(list.iter().map(read).collect::<Result<_>>()?));
    }
    match v.get("optional") {
        Some(Json::Null) => Ok(Value::Optional(None)),
        Some(inner) => Ok(Value::Optional(Some(Box::new(read(inner)?)))),
        None => Err(bad(format!("not a value: {v}"))),
    }
}
