//! Arguments of nodes, as the program's JSON has them.

use super::{Reader, brief, items};
use crate::frontend::torch::lower::{Arg, ScalarType, SymInt};
use crate::model::DataType;
use crate::{Result, bail};
use serde_json::Value as Json;

/// The element type of torch.export's own number (which is not PyTorch's).
pub fn scalar_type(json: &Json) -> Result<ScalarType> {
    use DataType::*;
    Ok(match json.as_i64() {
        Some(1) => Uint8,
        Some(2) => Int8,
        Some(3) => Int16,
        Some(4) => Int32,
        Some(5) => Int64,
        Some(6) => Float16,
        Some(7) => Float32,
        Some(8) => Float64,
        Some(10) => Complex64,
        Some(11) => Complex128,
        Some(12) => Bool,
        Some(13) => Bfloat16,
        Some(28) => Uint16,
        Some(29) => Float8E4M3Fn,
        Some(30) => Float8E5M2,
        _ => bail!(Unsupported, "no element type has torch.export's number {}", brief(json)),
    })
}

/// A number; JSON writes what is not finite as a string.
fn float(json: &Json) -> Option<f64> {
    match json {
        Json::Number(n) => n.as_f64(),
        Json::String(s) => match s.as_str() {
            "Infinity" | "inf" => Some(f64::INFINITY),
            "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
            "NaN" | "nan" => Some(f64::NAN),
            _ => None,
        },
        _ => None,
    }
}

impl Reader {
    /// The argument; `None` for graphs and other things that are no values.
    pub fn arg(&self, json: &Json) -> Result<Option<Arg>> {
        let Some((kind, v)) = json.as_object().and_then(|o| o.iter().next()) else {
            bail!(InvalidFile, "the program is damaged: an argument is {}", brief(json));
        };
        let bad = || crate::err!(InvalidFile, "the program is damaged: an argument is {}", brief(json));
        let list = |f: &dyn Fn(&Json) -> Result<Arg>| -> Result<Arg> {
            items(v).iter().map(f).collect::<Result<Vec<_>>>().map(Arg::List)
        };
        let int = |v: &Json| v.as_i64().map(Arg::from).ok_or_else(bad);
        let real = |v: &Json| float(v).map(Arg::Float).ok_or_else(bad);
        let truth = |v: &Json| v.as_bool().map(Arg::Bool).ok_or_else(bad);
        Ok(Some(match kind.as_str() {
            "as_none" => Arg::None,
            "as_tensor" => self.named(&v["name"])?,
            "as_tensors" => list(&|v| self.named(&v["name"]))?,
            "as_optional_tensor" => self.arg(v)?.unwrap_or(Arg::None),
            "as_optional_tensors" => list(&|v| Ok(self.arg(v)?.unwrap_or(Arg::None)))?,
            "as_nested_tensors" => {
                list(&|v| items(v).iter().map(|t| self.named(&t["name"])).collect::<Result<Vec<_>>>().map(Arg::List))?
            }
            "as_int" => int(v)?,
            "as_ints" => list(&int)?,
            "as_int_lists" => list(&|v| items(v).iter().map(int).collect::<Result<Vec<_>>>().map(Arg::List))?,
            "as_float" => real(v)?,
            "as_floats" => list(&real)?,
            "as_bool" => truth(v)?,
            "as_bools" => list(&truth)?,
            "as_string" => Arg::Str(v.as_str().ok_or_else(bad)?.to_owned()),
            "as_strings" => list(&|v| v.as_str().map(|s| Arg::Str(s.to_owned())).ok_or_else(bad))?,
            "as_sym_int" | "as_sym_bool" | "as_sym_float" => self.symbolic(v)?,
            "as_sym_ints" | "as_sym_bools" | "as_sym_floats" => list(&|v| self.symbolic(v))?,
            "as_scalar_type" => Arg::DType(scalar_type(v)?),
            "as_memory_format" => Arg::MemoryFormat(v.as_i64().unwrap_or(0)),
            "as_layout" => Arg::Layout,
            "as_device" => Arg::Device,
            "as_complex" => Arg::Complex(float(&v["real"]).ok_or_else(bad)?, float(&v["imag"]).ok_or_else(bad)?),
            _ => return Ok(None),
        }))
    }

    fn named(&self, name: &Json) -> Result<Arg> {
        let name = super::text(name)?;
        match self.env.get(name) {
            Some(a) => {
                if let Arg::List(items) = a {
                    self.l.spend(items.len() / 16)?;
                }
                Ok(a.clone())
            }
            None => bail!(InvalidFile, "the program uses '{name}' before it is defined"),
        }
    }

    fn symbolic(&self, json: &Json) -> Result<Arg> {
        if let Some(v) = json["as_int"].as_i64() {
            return Ok(Arg::Int(SymInt::Known(v)));
        }
        if let Some(v) = json["as_bool"].as_bool() {
            return Ok(Arg::Bool(v));
        }
        if let Some(v) = json.get("as_float").and_then(float) {
            return Ok(Arg::Float(v));
        }
        self.named(&json["as_name"])
    }
}
