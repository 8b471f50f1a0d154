//! Inputs and outputs checked before anything runs: element type, rank, fixed and symbolic dimensions, byte size.

use crate::backend::{IoDim, IoInfo, Value, byte_size};
use crate::hash::HashMap;
use crate::model::DataType;
use crate::{Result, bail};

/// The sizes of named dimensions, as the inputs of one run give them, each with the input that gave it first.
#[derive(Default)]
pub struct Symbols<'a> {
    sizes: HashMap<&'a str, (usize, &'a str)>,
}

/// An error unless `dims` fits the declared shape of `io`; `what` is "input" or "output".
pub fn check_dims(what: &str, io: &IoInfo, dims: &[usize]) -> Result<()> {
    let Some(shape) = &io.shape else { return Ok(()) };
    let fits = shape.len() == dims.len()
        && shape.iter().zip(dims).all(|(declared, &given)| match declared {
            IoDim::Size(n) => usize::try_from(*n) == Ok(given),
            IoDim::Symbol(_) | IoDim::Any => true,
        });
    if !fits {
        let rank = if shape.len() == dims.len() { String::new() } else { format!(" of rank {}", dims.len()) };
        bail!(ShapeMismatch, "{what} '{}' expects {}, but the shape given is {dims:?}{rank}", io.name, io.text);
    }
    Ok(())
}

/// An error unless `dtype` is what `io` declares.
pub fn check_dtype(what: &str, io: &IoInfo, dtype: DataType, dims: &[usize]) -> Result<()> {
    let Some(want) = io.data_type() else {
        bail!(TypeMismatch, "{what} '{}' is {}, not a dense tensor: bind a value of that kind", io.name, io.text);
    };
    if want == dtype {
        return Ok(());
    }
    let sizes = match (byte_size(want, dims), byte_size(dtype, dims)) {
        (Ok(w), Ok(g)) => format!("{w} bytes for this shape, but the value holds {dtype} {dims:?}, {g} bytes"),
        _ => format!("but the value holds {dtype} {dims:?}"),
    };
    let remedy = if want.is_float() && dtype.is_float() {
        "convert it with mezzo_value_to_float, or convert the model with its inputs and outputs kept (keep_io)"
    } else {
        "give a value of that type"
    };
    bail!(TypeMismatch, "{what} '{}' expects {}, {sizes}: {remedy}", io.name, io.text)
}

/// An error unless `value` is what `io` declares. Sequences, optionals and strings are checked by the backend.
pub fn check_value(what: &str, io: &IoInfo, value: &Value) -> Result<()> {
    match value {
        Value::Tensor(t) => {
            check_dtype(what, io, t.dtype(), t.dims())?;
            check_dims(what, io, t.dims())
        }
        Value::Strings { dims, .. } => {
            if io.data_type() != Some(DataType::String) {
                bail!(TypeMismatch, "{what} '{}' expects {}, but the value is a string tensor", io.name, io.text);
            }
            check_dims(what, io, dims)
        }
        Value::Sequence(_) | Value::Optional(_) => {
            if io.dtype.is_some() {
                bail!(TypeMismatch, "{what} '{}' expects {}, but the value is {}", io.name, io.text, value.kind());
            }
            Ok(())
        }
    }
}

impl<'a> Symbols<'a> {
    /// Notes the sizes that an input gives to named dimensions; an error where another input gave another size.
    pub fn add(&mut self, io: &'a IoInfo, dims: &[usize]) -> Result<()> {
        for (declared, &size) in io.shape.iter().flatten().zip(dims) {
            let IoDim::Symbol(symbol) = declared else { continue };
            // Paddle's exporter names every dimension it does not know "?"; those are not one size.
            if symbol == "?" {
                continue;
            }
            let (known, first) = *self.sizes.entry(symbol).or_insert((size, &io.name));
            if known != size {
                bail!(
                    ShapeMismatch,
                    "input '{}' has {size} for the dimension '{symbol}', but input '{first}' has {known}: equal names \
                     must be equal sizes",
                    io.name
                );
            }
        }
        Ok(())
    }

    /// The shape of an output, where its declaration and the inputs decide it.
    pub fn resolve(&self, io: &IoInfo) -> Option<Vec<usize>> {
        io.shape
            .as_ref()?
            .iter()
            .map(|dim| match dim {
                IoDim::Size(n) => usize::try_from(*n).ok(),
                IoDim::Symbol(s) => self.sizes.get(s.as_str()).map(|(size, _)| *size),
                IoDim::Any => None,
            })
            .collect()
    }
}
