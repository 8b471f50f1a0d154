//! Values (immutable, one ONNX name each) and tensors (handles whose value in-place operators replace).

use super::args::Bound;
use super::sym::SymInt;
use super::{Handler, ScalarType};
use crate::model::{Name, Tensor as Constant};
use std::cell::RefCell;
use std::rc::Rc;

/// A number the host knows.
#[derive(Debug, Clone, PartialEq)]
pub enum Num {
    /// An integer, perhaps symbolic.
    Int(SymInt),
    /// A float.
    Float(f64),
    /// A truth value.
    Bool(bool),
}

impl Num {
    /// As a float, where it is a plain number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Num::Int(v) => v.known().map(|v| v as f64),
            Num::Float(v) => Some(*v),
            Num::Bool(b) => Some(f64::from(u8::from(*b))),
        }
    }
}

/// An immutable value of the graph. It gets a name (and so a node or initializer) when something first uses it.
pub type Value = Rc<ValueData>;

/// See [`Value`].
#[derive(Debug)]
pub struct ValueData {
    /// Element type.
    pub dtype: ScalarType,
    /// Shape.
    pub shape: Vec<SymInt>,
    /// The elements in row-major order, where the host knows them (small values only).
    pub known: Option<Vec<Num>>,
    /// The constant behind it, for parameters.
    pub constant: Option<Constant>,
    /// A Python number: it takes part in type promotion by its category only.
    pub wrapped: bool,
    /// Stands for the result of an operator that could not be lowered.
    pub poisoned: bool,
    /// The name, and the scope that defines it.
    pub(super) name: RefCell<Option<(Name, u32)>>,
}

impl ValueData {
    /// The rank.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The shape, where every size is known.
    pub fn sizes(&self) -> Option<Vec<i64>> {
        self.shape.iter().map(SymInt::known).collect()
    }
}

/// A tensor as PyTorch programs see it: it has identity, can be changed in place and can be a view of another.
#[derive(Clone)]
pub struct Tensor(pub(super) Rc<RefCell<State>>);

pub(super) struct State {
    pub value: Value,
    pub version: u64,
    pub view: Option<View>,
    /// False for what PyTorch would hold with permuted or skipping strides, as far as it matters for aliasing.
    pub contiguous: bool,
    /// How many views it is away from memory of its own.
    pub depth: u32,
}

/// How a view was made.
#[derive(Clone)]
pub(super) struct View {
    pub base: Tensor,
    pub base_version: u64,
    pub op: Rc<str>,
    pub handler: Handler,
    pub bound: Rc<Bound>,
    pub index: usize,
}

impl Tensor {
    /// A tensor of its own with that value.
    pub fn of(value: Value) -> Self {
        Tensor(Rc::new(RefCell::new(State { value, version: 0, view: None, contiguous: true, depth: 0 })))
    }

    /// The element type.
    pub fn dtype(&self) -> ScalarType {
        self.0.borrow().value.dtype
    }

    /// The shape.
    pub fn shape(&self) -> Vec<SymInt> {
        self.0.borrow().value.shape.clone()
    }

    /// True for the result of an operator that could not be lowered.
    pub fn is_poisoned(&self) -> bool {
        self.0.borrow().value.poisoned
    }

    /// The elements, where the host knows them. (Call [`super::Lowering::current`] first if the tensor may be a view
    /// whose base has changed.)
    pub fn known(&self) -> Option<Vec<Num>> {
        self.0.borrow().value.known.clone()
    }

    /// True if both are the same tensor, not only equal.
    pub fn same(&self, other: &Tensor) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.0.borrow();
        write!(f, "{}{:?}", state.value.dtype, state.value.shape.iter().map(ToString::to_string).collect::<Vec<_>>())
    }
}
