//! Values at run time, and their way in and out.

use super::memory::Pool;
use super::tensor::Tensor;
use crate::backend::{TensorValue, Value};
use crate::device::Buffer;
use crate::model::DataType;
use crate::sys::memory::ForeignAllocator;
use crate::{Result, bail, err};
use bytes::Bytes;
use std::sync::Arc;

/// What a slot of a plan holds.
#[derive(Clone, Debug)]
pub enum Val {
    /// A dense tensor of any type, strings included.
    Tensor(Tensor),
    /// A sequence.
    Sequence(Arc<Vec<Val>>),
    /// An optional.
    Optional(Option<Box<Val>>),
}

/// Sequences and optionals may hold each other this deep.
const MAX_NESTING: usize = 16;

impl Val {
    /// The tensor, or an error that says what it is instead.
    pub fn tensor(&self) -> Result<&Tensor> {
        match self {
            Val::Tensor(t) => Ok(t),
            other => Err(err!(TypeMismatch, "a tensor is needed, but the value is {}", other.kind())),
        }
    }

    /// The tensor itself.
    pub fn into_tensor(self) -> Result<Tensor> {
        match self {
            Val::Tensor(t) => Ok(t),
            other => Err(err!(TypeMismatch, "a tensor is needed, but the value is {}", other.kind())),
        }
    }

    /// An error if there is no room for one more level of sequences and optionals around it.
    pub fn check_nesting(&self) -> Result<()> {
        if self.depth() >= MAX_NESTING {
            bail!(Execution, "sequences and optionals would be nested deeper than {MAX_NESTING}");
        }
        Ok(())
    }

    /// How many sequences and optionals are nested in each other. Items of a sequence are alike: one tells for all.
    fn depth(&self) -> usize {
        match self {
            Val::Sequence(s) => 1 + s.iter().find(|v| !matches!(v, Val::Tensor(_))).map_or(0, Val::depth),
            Val::Optional(Some(v)) => 1 + v.depth(),
            Val::Tensor(_) | Val::Optional(None) => 0,
        }
    }

    /// What the value is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Val::Tensor(_) => "a tensor",
            Val::Sequence(_) => "a sequence",
            Val::Optional(_) => "an optional",
        }
    }

    /// The value that outlives the pool and the inputs it was made from.
    pub fn detached(&self) -> Val {
        match self {
            Val::Tensor(t) => Val::Tensor(t.detached()),
            Val::Sequence(s) => Val::Sequence(Arc::new(s.iter().map(Val::detached).collect())),
            Val::Optional(o) => Val::Optional(o.as_ref().map(|v| Box::new(v.detached()))),
        }
    }

    /// A caller's value.
    pub fn from_value(pool: &Arc<Pool>, value: &Value) -> Result<Val> {
        from_value(pool, value, 0)
    }

    /// The value for the caller, in memory of its own.
    pub fn to_value(&self, allocator: Option<&Arc<ForeignAllocator>>) -> Result<Value> {
        Ok(match self {
            Val::Tensor(t) if t.dtype() == DataType::String => Value::Strings {
                dims: t.dims().to_vec(),
                elements: t.strings()?.iter().map(|s| s.to_vec()).collect::<Vec<_>>().into(),
            },
            Val::Tensor(t) => {
                let buffer = Buffer::allocate(t.packed_len()?, allocator)?;
                buffer.write(0, &t.packed_bytes())?;
                Value::Tensor(TensorValue::new(t.dtype(), t.dims().to_vec(), buffer, 0)?)
            }
            Val::Sequence(s) => Value::Sequence(s.iter().map(|v| v.to_value(allocator)).collect::<Result<_>>()?),
            Val::Optional(o) => Value::Optional(o.as_ref().map(|v| v.to_value(allocator).map(Box::new)).transpose()?),
        })
    }
}

fn from_value(pool: &Arc<Pool>, value: &Value, depth: usize) -> Result<Val> {
    if depth > MAX_NESTING {
        bail!(InvalidArgument, "sequences and optionals are nested deeper than {MAX_NESTING}");
    }
    Ok(match value {
        Value::Tensor(t) => Val::Tensor(Tensor::from_value(pool, t)?),
        Value::Strings { dims, elements } => {
            let texts = elements.iter().map(|e| Bytes::copy_from_slice(e)).collect();
            Val::Tensor(Tensor::from_strings(dims.clone(), texts)?)
        }
        Value::Sequence(s) => {
            Val::Sequence(Arc::new(s.iter().map(|v| from_value(pool, v, depth + 1)).collect::<Result<_>>()?))
        }
        Value::Optional(o) => {
            Val::Optional(o.as_ref().map(|v| from_value(pool, v, depth + 1).map(Box::new)).transpose()?)
        }
    })
}
