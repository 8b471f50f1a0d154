//! Python pickles as torch writes them, read by a machine that never executes anything (docs/torch-lowering.md).
//!
//! A pickle is a program for a stack machine whose `REDUCE` calls any function that it names. This machine knows the
//! handful of names that torch's own writer uses and turns each into data; every other name is an error. Objects live in an
//! arena and refer to each other by number, so that a cyclic memo makes a cycle of numbers and nothing worse.

mod machine;
mod reduce;
mod tensor;

pub use tensor::tensor_data;

use crate::model::DataType;
use crate::{Result, bail};
use std::rc::Rc;

/// Objects of one pickle; a model of a hundred thousand tensors has about a million.
const MAX_OBJECTS: usize = 4 << 20;
/// Numbers pushed on the stack in all.
const MAX_STEPS: usize = 32 << 20;
/// Bytes of one pickle.
const MAX_BYTES: usize = 256 << 20;
/// Open marks and open containers.
const MAX_MARKS: usize = 10_000;

/// The number of an object in its [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u32);

/// One object.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // Python's own
pub enum Object {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Complex(f64, f64),
    Str(Rc<str>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A name that stands for a class or a function; `module.name`.
    Global(Rc<str>),
    /// An instance of a class of the archive: inert, its state a dict of attributes.
    Record {
        class: Rc<str>,
        state: Option<Id>,
    },
    /// A member of an enumeration of the archive.
    Enum {
        class: Rc<str>,
        member: Id,
    },
    /// Memory of tensors, in an entry of the archive.
    Storage {
        dtype: DataType,
        key: Rc<str>,
        elements: u64,
    },
    /// A tensor in a storage.
    Tensor {
        storage: Id,
        offset: i64,
        sizes: Vec<i64>,
        strides: Vec<i64>,
    },
}

impl Object {
    /// The number of items of a list or tuple.
    fn len(&self) -> usize {
        match self {
            Object::Tuple(items) | Object::List(items) => items.len(),
            _ => 0,
        }
    }
}

/// A pickle that has been read.
#[derive(Debug)]
pub struct Pickle {
    objects: Vec<Object>,
    root: Id,
}

impl Pickle {
    /// Runs the machine over one pickle.
    pub fn read(bytes: &[u8]) -> Result<Pickle> {
        if bytes.len() > MAX_BYTES {
            bail!(InvalidFile, "the pickle has {} bytes; {MAX_BYTES} is the most that is read", bytes.len());
        }
        machine::run(bytes)
    }

    /// The object that the pickle is.
    pub fn root(&self) -> Id {
        self.root
    }

    /// An object of this pickle.
    pub fn get(&self, id: Id) -> &Object {
        self.objects.get(id.0 as usize).unwrap_or(&Object::None)
    }

    /// The value of a string key in a dict object.
    pub fn attribute(&self, dict: Id, name: &str) -> Option<Id> {
        match self.get(dict) {
            Object::Dict(items) => items
                .iter()
                .rev()
                .find(|(k, _)| matches!(self.get(*k), Object::Str(s) if &**s == name))
                .map(|(_, v)| *v),
            _ => None,
        }
    }
}
