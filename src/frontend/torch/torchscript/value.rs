//! What a TorchScript program computes with: everything but tensors is known while the program is walked.

use super::ast::Class;
use super::limits::Walk;
use crate::frontend::torch::lower::{Arg, Num, SymInt, Tensor};
use crate::frontend::torch::pickle::Id;
use crate::hash::HashMap;
use crate::{Result, bail};
use std::cell::RefCell;
use std::rc::Rc;

/// A value.
#[derive(Debug, Clone)]
pub enum Val {
    /// Declared, but not on this way through the program.
    Unset,
    None,
    Bool(bool),
    /// A size may be an expression over dynamic dimensions.
    Int(SymInt),
    Float(f64),
    Str(Rc<str>),
    Device(Rc<str>),
    Tensor(Tensor),
    List(Rc<RefCell<Vec<Val>>>),
    /// With field names, for named tuples.
    Tuple(Rc<[Val]>, Option<Rc<Class>>),
    Dict(Rc<RefCell<Vec<(Val, Val)>>>),
    Object(Rc<Instance>),
    /// A member of an enumeration: its class's name, its own, its value.
    Enum(Rc<str>, Rc<str>, Rc<Val>),
    /// A dotted name that is no value yet: a function, a class, a namespace.
    Path(Rc<str>),
}

/// An instance of a class of the archive.
#[derive(Debug)]
pub struct Instance {
    /// The class's full name.
    pub class: Rc<str>,
    /// Where it hangs in the module tree.
    pub path: String,
    /// Attributes that have been read or set.
    pub fields: RefCell<HashMap<Rc<str>, Val>>,
    /// The pickled dict of attributes.
    pub state: Option<Id>,
}

impl Val {
    pub fn int(v: i64) -> Val {
        Val::Int(SymInt::Known(v))
    }

    pub fn str(text: &str) -> Val {
        Val::Str(text.into())
    }

    pub fn list(items: Vec<Val>) -> Val {
        Val::List(Rc::new(RefCell::new(items)))
    }

    pub fn tuple(items: Vec<Val>) -> Val {
        Val::Tuple(items.into(), None)
    }

    /// The kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Val::Unset => "an unset value",
            Val::None => "None",
            Val::Bool(_) => "a bool",
            Val::Int(_) => "an int",
            Val::Float(_) => "a float",
            Val::Str(_) => "a string",
            Val::Device(_) => "a device",
            Val::Tensor(_) => "a tensor",
            Val::List(_) => "a list",
            Val::Tuple(..) => "a tuple",
            Val::Dict(_) => "a dict",
            Val::Object(_) => "an object",
            Val::Enum(..) => "a member of an enumeration",
            Val::Path(_) => "a function or class",
        }
    }

    /// The items of a list or tuple.
    pub fn items(&self) -> Option<Vec<Val>> {
        match self {
            Val::List(items) => Some(items.borrow().clone()),
            Val::Tuple(items, _) => Some(items.to_vec()),
            _ => None,
        }
    }

    /// The number of items of a container.
    pub fn len(&self) -> usize {
        match self {
            Val::List(items) => items.borrow().len(),
            Val::Tuple(items, _) => items.len(),
            Val::Dict(items) => items.borrow().len(),
            _ => 0,
        }
    }

    /// Whether there may be other values inside.
    pub fn is_container(&self) -> bool {
        matches!(self, Val::List(_) | Val::Tuple(..) | Val::Dict(_))
    }

    /// One item of a list or tuple.
    pub fn item(&self, at: usize) -> Option<Val> {
        match self {
            Val::List(items) => items.borrow().get(at).cloned(),
            Val::Tuple(items, _) => items.get(at).cloned(),
            _ => None,
        }
    }

    /// Whether tensors may be inside.
    pub fn has_tensor(&self) -> bool {
        self.tensor_inside(&mut Walk::new())
    }

    fn tensor_inside(&self, walk: &mut Walk) -> bool {
        if !walk.enter() {
            return true;
        }
        let found = match self {
            Val::Tensor(_) => true,
            Val::List(items) => items.borrow().iter().any(|v| v.tensor_inside(walk)),
            Val::Tuple(items, _) => items.iter().any(|v| v.tensor_inside(walk)),
            _ => false,
        };
        walk.leave();
        found
    }

    /// A number of the host.
    pub fn number(&self) -> Option<Num> {
        Some(match self {
            Val::Bool(b) => Num::Bool(*b),
            Val::Int(v) => Num::Int(v.clone()),
            Val::Float(v) => Num::Float(*v),
            _ => return None,
        })
    }

    /// As an argument of an ATen call.
    pub fn arg(&self, walk: &mut Walk) -> Result<Arg> {
        if !walk.enter() {
            bail!(InvalidModel, "an operator is given a list of more than a million items, or nested too deep");
        }
        let arg = match self {
            Val::None => Arg::None,
            Val::Bool(b) => Arg::Bool(*b),
            Val::Int(v) => Arg::Int(v.clone()),
            Val::Float(v) => Arg::Float(*v),
            Val::Str(s) => Arg::Str(s.to_string()),
            Val::Device(_) => Arg::Device,
            Val::Tensor(t) => Arg::Tensor(t.clone()),
            Val::List(items) => Arg::List(items.borrow().iter().map(|v| v.arg(walk)).collect::<Result<_>>()?),
            Val::Tuple(items, _) => Arg::List(items.iter().map(|v| v.arg(walk)).collect::<Result<_>>()?),
            other => bail!(Unsupported, "{} cannot be given to an operator", other.kind()),
        };
        walk.leave();
        Ok(arg)
    }

    /// From a result of an ATen call.
    pub fn of(arg: Arg) -> Val {
        match arg {
            Arg::Bool(b) => Val::Bool(b),
            Arg::Int(v) => Val::Int(v),
            Arg::Float(v) => Val::Float(v),
            Arg::Str(s) => Val::str(&s),
            Arg::Tensor(t) => Val::Tensor(t),
            Arg::List(items) => Val::list(items.into_iter().map(Val::of).collect()),
            Arg::DType(t) => crate::frontend::torch::lower::scalar_type_code(t).map_or(Val::None, Val::int),
            Arg::Device => Val::str("cpu"),
            _ => Val::None,
        }
    }

    /// From a number.
    pub fn of_number(n: Num) -> Val {
        match n {
            Num::Bool(b) => Val::Bool(b),
            Num::Int(v) => Val::Int(v),
            Num::Float(v) => Val::Float(v),
        }
    }

    /// Whether two values are the same object (Python's `is`), equal plain values included.
    pub fn same(&self, other: &Val) -> bool {
        self.same_within(other, &mut Walk::new())
    }

    fn same_within(&self, other: &Val, walk: &mut Walk) -> bool {
        if !walk.enter() {
            return false;
        }
        let same = match (self, other) {
            (Val::None, Val::None) | (Val::Unset, Val::Unset) => true,
            (Val::Tensor(a), Val::Tensor(b)) => a.same(b),
            (Val::List(a), Val::List(b)) => Rc::ptr_eq(a, b),
            (Val::Dict(a), Val::Dict(b)) => Rc::ptr_eq(a, b),
            (Val::Tuple(a, _), Val::Tuple(b, _)) => {
                Rc::ptr_eq(a, b) || a.len() == b.len() && a.iter().zip(b.iter()).all(|(x, y)| x.same_within(y, walk))
            }
            (Val::Object(a), Val::Object(b)) => Rc::ptr_eq(a, b),
            _ => self.equal_within(other, walk) == Some(true),
        };
        walk.leave();
        same
    }

    /// Python's `==` over host values; `None` where sizes leave it open, tensors take part, or it would take too long.
    pub fn equal(&self, other: &Val) -> Option<bool> {
        self.equal_within(other, &mut Walk::new())
    }

    fn equal_within(&self, other: &Val, walk: &mut Walk) -> Option<bool> {
        if !walk.enter() {
            return None;
        }
        let equal = match (self, other) {
            (Val::None, Val::None) => Some(true),
            (Val::Str(a), Val::Str(b)) | (Val::Device(a), Val::Device(b)) => Some(a == b),
            (Val::Str(a), Val::Device(b)) | (Val::Device(b), Val::Str(a)) => Some(a == b),
            (Val::Path(a), Val::Path(b)) => Some(a == b),
            (Val::Enum(a, x, _), Val::Enum(b, y, _)) => Some(a == b && x == y),
            (Val::List(_) | Val::Tuple(..), Val::List(_) | Val::Tuple(..)) => {
                let (a, b) = (self.items()?, other.items()?);
                let mut all = Some(a.len() == b.len());
                for (x, y) in a.iter().zip(&b) {
                    if all == Some(false) {
                        break;
                    }
                    match x.equal_within(y, walk) {
                        Some(true) => {}
                        other => all = other,
                    }
                }
                all
            }
            (Val::Tensor(_), _) | (_, Val::Tensor(_)) => None,
            _ => match (self.number(), other.number()) {
                (Some(a), Some(b)) => super::numbers::compare(&a, &b).map(|o| o.is_eq()),
                _ => Some(false),
            },
        };
        walk.leave();
        equal
    }
}
