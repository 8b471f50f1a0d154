//! Arguments of ATen calls, and their access by name once a schema has been applied.

use super::ScalarType;
use super::budget::MAX_SIZE;
use super::sym::SymInt;
use super::value::{Num, Tensor, Value};
use crate::{Result, bail, err};
use std::rc::Rc;

/// An argument or a result of an ATen call.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // each is what its name says
pub enum Arg {
    None,
    Bool(bool),
    Int(SymInt),
    Float(f64),
    Str(String),
    DType(ScalarType),
    Device,
    Layout,
    MemoryFormat(i64),
    Complex(f64, f64),
    Tensor(Tensor),
    List(Vec<Arg>),
}

impl From<i64> for Arg {
    fn from(v: i64) -> Self {
        Arg::Int(SymInt::Known(v))
    }
}

impl Arg {
    /// The kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Arg::None => "None",
            Arg::Bool(_) => "a bool",
            Arg::Int(_) => "an int",
            Arg::Float(_) => "a float",
            Arg::Str(_) => "a string",
            Arg::DType(_) => "a type",
            Arg::Device => "a device",
            Arg::Layout => "a layout",
            Arg::MemoryFormat(_) => "a memory format",
            Arg::Complex(..) => "a complex number",
            Arg::Tensor(_) => "a tensor",
            Arg::List(_) => "a list",
        }
    }

    /// The tensor, if it is one.
    pub fn tensor(&self) -> Option<&Tensor> {
        match self {
            Arg::Tensor(t) => Some(t),
            _ => None,
        }
    }
}

/// Where in the user's program a call stands; all parts may be empty.
#[derive(Debug, Clone, Default)]
pub struct Location {
    /// The module's path ("layer1.0.conv1").
    pub module: String,
    /// File and line of the source ("model.py:12").
    pub source: String,
}

/// The arguments of a call by the names of its schema, defaults filled in.
#[derive(Debug, Clone, Default)]
pub struct Bound {
    /// Name without overload ("aten::add").
    pub op: Rc<str>,
    /// The overload ("Tensor"), "" for the default one.
    pub overload: Rc<str>,
    pub(super) args: Vec<(Rc<str>, Arg)>,
}

impl Bound {
    /// The argument of that name; `None` if the overload has no such argument or it is Python's None.
    pub fn get(&self, name: &str) -> Option<&Arg> {
        self.args.iter().find(|(n, _)| &**n == name).map(|(_, a)| a).filter(|a| !matches!(a, Arg::None))
    }

    pub(super) fn set(&mut self, name: &str, value: Arg) {
        match self.args.iter_mut().find(|(n, _)| &**n == name) {
            Some((_, a)) => *a = value,
            None => self.args.push((name.into(), value)),
        }
    }

    fn wrong(&self, name: &str, expected: &str, given: Option<&Arg>) -> crate::Error {
        err!(InvalidModel, "{}: argument '{name}' must be {expected}, not {}", self.op, given.map_or("None", Arg::kind))
    }

    /// An optional tensor.
    pub fn opt(&self, name: &str) -> Option<Value> {
        self.get(name).and_then(Arg::tensor).map(|t| t.0.borrow().value.clone())
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Result<Value> {
        self.opt(name).ok_or_else(|| self.wrong(name, "a tensor", self.get(name)))
    }

    /// A list of tensors.
    pub fn tensors(&self, name: &str) -> Result<Vec<Value>> {
        match self.get(name) {
            Some(Arg::List(items)) => items
                .iter()
                .map(|a| {
                    a.tensor()
                        .map(|t| t.0.borrow().value.clone())
                        .ok_or_else(|| self.wrong(name, "a list of tensors", Some(a)))
                })
                .collect(),
            other => Err(self.wrong(name, "a list of tensors", other)),
        }
    }

    /// A list of optional tensors.
    pub fn opt_tensors(&self, name: &str) -> Result<Vec<Option<Value>>> {
        match self.get(name) {
            Some(Arg::List(items)) => {
                Ok(items.iter().map(|a| a.tensor().map(|t| t.0.borrow().value.clone())).collect())
            }
            other => Err(self.wrong(name, "a list of tensors", other)),
        }
    }

    /// An integer, perhaps symbolic.
    pub fn size(&self, name: &str) -> Result<SymInt> {
        self.opt_size(name)?.ok_or_else(|| self.wrong(name, "an int", None))
    }

    /// An optional integer, perhaps symbolic.
    pub fn opt_size(&self, name: &str) -> Result<Option<SymInt>> {
        self.get(name).map(|a| to_size(a).ok_or_else(|| self.wrong(name, "an int", Some(a)))).transpose()
    }

    /// A known integer.
    pub fn int(&self, name: &str) -> Result<i64> {
        let v = self.size(name)?;
        let known = v
            .known()
            .ok_or_else(|| err!(Unsupported, "{}: argument '{name}' must be a known number, not {v}", self.op))?;
        self.sane(name, known)
    }

    /// No dimension, stride or amount of a real program is so large, and arithmetic on it would overflow.
    fn sane(&self, name: &str, v: i64) -> Result<i64> {
        if v.unsigned_abs() > MAX_SIZE as u64 {
            bail!(InvalidModel, "{}: argument '{name}' is {v}; {MAX_SIZE} is the most", self.op);
        }
        Ok(v)
    }

    /// An optional known integer.
    pub fn opt_int(&self, name: &str) -> Result<Option<i64>> {
        if self.get(name).is_none() { Ok(None) } else { self.int(name).map(Some) }
    }

    /// A list of integers, perhaps symbolic; a single one counts as a list.
    pub fn sizes(&self, name: &str) -> Result<Vec<SymInt>> {
        match self.get(name) {
            Some(Arg::List(items)) => {
                items.iter().map(|a| to_size(a).ok_or_else(|| self.wrong(name, "a list of ints", Some(a)))).collect()
            }
            Some(a) => Ok(vec![to_size(a).ok_or_else(|| self.wrong(name, "a list of ints", Some(a)))?]),
            None => Err(self.wrong(name, "a list of ints", None)),
        }
    }

    /// A list of known integers.
    pub fn ints(&self, name: &str) -> Result<Vec<i64>> {
        self.sizes(name)?
            .iter()
            .map(|v| {
                let known = v.known().ok_or_else(|| {
                    err!(Unsupported, "{}: argument '{name}' must hold known numbers, not {v}", self.op)
                })?;
                self.sane(name, known)
            })
            .collect()
    }

    /// An optional list of known integers.
    pub fn opt_ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        if self.get(name).is_none() { Ok(None) } else { self.ints(name).map(Some) }
    }

    /// A float.
    pub fn float(&self, name: &str) -> Result<f64> {
        self.opt_float(name)?.ok_or_else(|| self.wrong(name, "a number", None))
    }

    /// An optional float.
    pub fn opt_float(&self, name: &str) -> Result<Option<f64>> {
        let Some(a) = self.get(name) else { return Ok(None) };
        match self.to_num(a).and_then(|n| n.as_f64()) {
            Some(v) => Ok(Some(v)),
            None => bail!(Unsupported, "{}: argument '{name}' must be a known number, not {}", self.op, a.kind()),
        }
    }

    /// A number of any kind.
    pub fn opt_num(&self, name: &str) -> Option<Num> {
        self.get(name).and_then(|a| self.to_num(a))
    }

    fn to_num(&self, a: &Arg) -> Option<Num> {
        match a {
            Arg::Int(v) => Some(Num::Int(v.clone())),
            Arg::Float(v) => Some(Num::Float(*v)),
            Arg::Bool(b) => Some(Num::Bool(*b)),
            Arg::Tensor(t) => match t.known()?.as_slice() {
                [n] => Some(n.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    /// A bool; what is absent is false.
    pub fn bool(&self, name: &str) -> Result<bool> {
        match self.get(name) {
            None => Ok(false),
            Some(Arg::Bool(b)) => Ok(*b),
            Some(Arg::Int(v)) if v.known().is_some() => Ok(!v.is(0)),
            Some(Arg::Tensor(t)) => match t.known().as_deref() {
                Some([Num::Bool(b)]) => Ok(*b),
                _ => Err(self.wrong(name, "a known bool", self.get(name))),
            },
            other => Err(self.wrong(name, "a bool", other)),
        }
    }

    /// A string; what is absent is "".
    pub fn str(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Arg::Str(s)) => s,
            _ => "",
        }
    }

    /// An element type.
    pub fn dtype(&self, name: &str) -> Result<Option<ScalarType>> {
        match self.get(name) {
            None => Ok(None),
            Some(Arg::DType(t)) => Ok(Some(*t)),
            Some(Arg::Int(v)) => match v.known().and_then(super::scalar_type) {
                Some(t) => Ok(Some(t)),
                None => bail!(Unsupported, "{}: no element type has PyTorch's number {v}", self.op),
            },
            other => Err(self.wrong(name, "an element type", other)),
        }
    }

    /// All tensors among the arguments.
    pub(super) fn each_tensor(&self) -> Vec<Tensor> {
        fn walk(a: &Arg, out: &mut Vec<Tensor>) {
            match a {
                Arg::Tensor(t) => out.push(t.clone()),
                Arg::List(items) => items.iter().for_each(|i| walk(i, out)),
                _ => {}
            }
        }
        let mut out = Vec::new();
        self.args.iter().for_each(|(_, a)| walk(a, &mut out));
        out
    }
}

fn to_size(a: &Arg) -> Option<SymInt> {
    match a {
        Arg::Int(v) => Some(v.clone()),
        Arg::Bool(b) => Some(SymInt::Known(i64::from(*b))),
        // Sizes that PyTorch 1.x computed with true division.
        Arg::Float(v) if v.fract() == 0.0 && v.abs() < 9e15 => Some(SymInt::Known(*v as i64)),
        Arg::Tensor(t) => match t.known()?.as_slice() {
            [Num::Int(v)] => Some(v.clone()),
            [Num::Bool(b)] => Some(SymInt::Known(i64::from(*b))),
            [Num::Float(v)] if v.fract() == 0.0 && v.abs() < 9e15 => Some(SymInt::Known(*v as i64)),
            _ => None,
        },
        _ => None,
    }
}
