//! What a caller says about a PyTorch archive.

use super::lower::Dim;
use super::pt2::Mutations;
use crate::model::DataType;
use crate::{Error, Result, bail, err};

/// How a PyTorch archive is loaded.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Shapes and types of the inputs; TorchScript archives do not know them.
    pub inputs: Vec<InputSpec>,
    /// Training mode that a trace has baked in is turned off instead of refused.
    pub force_eval: bool,
    /// What becomes of buffers that a `.pt2` program changes.
    pub mutations: Mutations,
}

/// One input: `NAME=1x3x224x224:fp32`.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// The parameter's name ("x", "batch.0", "inputs.ids"), its position ("0"), or "" for the next one.
    pub key: String,
    /// What was written after the name.
    pub text: String,
}

impl InputSpec {
    /// Takes apart `NAME=SHAPE:TYPE`, `SHAPE:TYPE` or `NAME=VALUE`.
    pub fn parse(text: &str) -> Result<InputSpec> {
        let (key, rest) = text.split_once('=').unwrap_or(("", text));
        let spec = InputSpec { key: key.trim().to_owned(), text: rest.trim().to_owned() };
        if spec.text.is_empty() {
            bail!(InvalidArgument, "'{text}' gives no shape: write NAME=1x3x224x224:fp32");
        }
        Ok(spec)
    }

    /// A tensor's dimensions and type. Dimensions stand between `x`, or between commas when names have an x; words are
    /// dynamic dimensions; nothing (as in `:fp32`) or `scalar` is a tensor without dimensions. The type is fp32 when it is
    /// not given.
    pub fn tensor(&self) -> Result<(Vec<Dim>, DataType)> {
        let (shape, ty) = self.text.split_once(':').unwrap_or((&self.text, "fp32"));
        let dtype =
            named_type(ty.trim()).ok_or_else(|| self.wrong("the type is none of fp32, fp16, int64, bool..."))?;
        let shape = shape.trim();
        if shape.is_empty() || shape == "scalar" {
            return Ok((Vec::new(), dtype));
        }
        let parts = shape.split(if shape.contains(',') { ',' } else { 'x' });
        let dims = parts.map(|part| {
            let part = part.trim();
            match part.parse::<i64>() {
                Ok(n) if n >= 0 => Ok(Dim::Fixed(n)),
                _ if part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
                    Ok(Dim::Symbol { name: part.into(), range: (None, None) })
                }
                _ => Err(self.wrong("a dimension is neither a size nor a name")),
            }
        });
        Ok((dims.collect::<Result<_>>()?, dtype))
    }

    fn wrong(&self, why: &str) -> Error {
        err!(InvalidArgument, "the input shape '{}' is not understood, {why}: write NAME=1x3x224x224:fp32", self.text)
    }
}

fn named_type(name: &str) -> Option<DataType> {
    use DataType::*;
    Some(match name {
        "fp32" | "float32" | "float" => Float32,
        "fp16" | "float16" | "half" => Float16,
        "bf16" | "bfloat16" => Bfloat16,
        "fp64" | "float64" | "double" => Float64,
        "int64" | "long" => Int64,
        "int32" | "int" => Int32,
        "int16" => Int16,
        "int8" => Int8,
        "uint8" => Uint8,
        "bool" => Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read() {
        let spec = |text: &str| InputSpec::parse(text).and_then(|s| Ok((s.key.clone(), s.tensor()?)));
        let symbol = |name: &str| Dim::Symbol { name: name.into(), range: (None, None) };
        let (key, (dims, dtype)) = spec("x=1x3x8x8").unwrap();
        assert_eq!((key.as_str(), dims.len(), dtype), ("x", 4, DataType::Float32));
        assert_eq!(spec("batchx128:int64").unwrap().1, (vec![symbol("batch"), Dim::Fixed(128)], DataType::Int64));
        assert_eq!(spec("m=max,2").unwrap().1.0, [symbol("max"), Dim::Fixed(2)]);
        assert_eq!(spec("h.0=scalar:bool").unwrap().1, (vec![], DataType::Bool));
        for wrong in ["x=", "x=1x?", "x=1x3:fp3", "x=-1x3", "x=1xx3"] {
            assert!(spec(wrong).is_err(), "{wrong}");
        }
    }
}
