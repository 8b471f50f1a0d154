//! The functionalising lowering: ATen calls in, a [`Model`] of ONNX operators out.
//!
//! A reader makes [`Lowering::input`]s and [`Lowering::constant`]s, makes each call of its program with
//! [`Lowering::call`], and ends with [`Lowering::finish`]. Tensors have identity: in-place operators change what a handle
//! stands for, views are derived again when their base has changed, and a write through a view changes the base.
//!
//! Every value's type and shape are known while lowering. Sizes are numbers or expressions over named dimensions
//! ([`SymInt`]); small values that only depend on sizes are kept on the host, so that models of fixed shape come out with
//! constant shapes.
//!
//! The model has opset 20: the first with Gelu, and LayerNormalization, Mish and HardSwish from before; the CPU backend
//! and the conversion know them as one operator each. GroupNormalization became exact only in 21 and is lowered by
//! InstanceNormalization.

mod args;
mod budget;
mod call;
mod emit;
mod finish;
mod host;
mod ops;
mod promote;
mod schema;
mod shapes;
mod sym;
#[cfg(test)]
mod tests;
mod value;
mod views;

pub use args::{Arg, Bound, Location};
pub use sym::{Atom, SymInt, product};
pub use value::{Num, Tensor, Value, ValueData};

use crate::hash::{HashMap, HashSet};
use crate::model::{DataType, Initializer, Name, Node, ValueInfo};
use crate::{Result, bail};
use bytes::Bytes;
use std::rc::Rc;

/// PyTorch's element types are ONNX's.
pub type ScalarType = DataType;

/// The function that lowers one operator.
pub(super) type Handler = fn(&mut Lowering, &Bound) -> Result<Out>;

/// What a handler returns.
pub(super) enum Out {
    /// One tensor.
    One(Value),
    /// The same tensor as that argument.
    Same(&'static str),
    /// Several results.
    Many(Vec<Value>),
    /// One result that is a list of tensors.
    List(Vec<Value>),
    /// Anything.
    Args(Vec<Arg>),
}

/// The operator set of the models made.
pub const OPSET: i64 = 20;

/// The element type of PyTorch's number (`c10::ScalarType`).
pub fn scalar_type(code: i64) -> Option<ScalarType> {
    use DataType::*;
    Some(match code {
        0 => Uint8,
        1 => Int8,
        2 => Int16,
        3 => Int32,
        4 => Int64,
        5 => Float16,
        6 => Float32,
        7 => Float64,
        9 => Complex64,
        10 => Complex128,
        11 => Bool,
        15 => Bfloat16,
        23 => Float8E5M2,
        24 => Float8E4M3Fn,
        27 => Uint16,
        28 => Uint32,
        29 => Uint64,
        _ => return None,
    })
}

/// PyTorch's number of an element type.
pub fn scalar_type_code(t: ScalarType) -> Option<i64> {
    (0..30).find(|c| scalar_type(*c) == Some(t))
}

/// Smallest and largest size of a dimension, where there are bounds.
pub type Range = (Option<i64>, Option<i64>);

/// A dimension of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Its size.
    Fixed(i64),
    /// A named size, with the range the program was made for.
    Symbol {
        /// Its name; equal names are equal sizes.
        name: Name,
        /// Smallest and largest size.
        range: Range,
    },
    /// A size computed from symbols ("2*s0"), or one symbol.
    Expression {
        /// The expression.
        size: SymInt,
        /// Smallest and largest value of the symbol.
        range: Range,
    },
}

/// A strided tensor in a storage, as archives hold it.
#[derive(Debug, Clone)]
pub struct TensorData {
    /// Element type.
    pub dtype: ScalarType,
    /// Shape.
    pub sizes: Vec<i64>,
    /// Strides in elements.
    pub strides: Vec<i64>,
    /// First element.
    pub offset: i64,
    /// The storage's bytes.
    pub storage: Bytes,
}

/// An operator that could not be lowered, with the reason and the place.
#[derive(Debug, Clone)]
struct Missing {
    op: String,
    reason: String,
    at: Location,
}

/// Where a symbol's value comes from: a dimension of an input that is `factor * symbol + offset`.
#[derive(Debug, Clone)]
struct Source {
    value: Value,
    axis: usize,
    factor: i64,
    offset: i64,
}

/// See the module's description.
#[derive(Default)]
pub struct Lowering {
    nodes: Vec<Node>,
    initializers: Vec<Initializer>,
    inputs: Vec<ValueInfo>,
    ranges: Vec<(Name, Range)>,
    /// Symbol to an input and the dimension that has it.
    symbols: HashMap<Name, Source>,
    run_time: HashMap<Name, Value>,
    constants: HashMap<String, Value>,
    used: HashMap<String, usize>,
    taken: HashSet<String>,
    shared: HashMap<String, Vec<Value>>,
    small: HashMap<(DataType, Vec<i64>, Bytes), Name>,
    /// Open scopes: 0 is the main graph, others are branches.
    scopes: Vec<u32>,
    next_scope: u32,
    at: Location,
    missing: Vec<Missing>,
    budget: budget::Budget,
    /// Keys of `shared` in the order of their coming, so that a branch's own go with it.
    shared_keys: Vec<String>,
}

impl Lowering {
    /// An empty graph.
    pub fn new() -> Self {
        Lowering { scopes: vec![0], next_scope: 1, ..Lowering::default() }
    }

    /// Pays for something that is not a node, in units of 64 bytes; an error when the program takes too much.
    pub fn spend(&self, units: usize) -> Result<()> {
        self.budget.note(units);
        self.budget.check()
    }

    /// Remembers an emitted value, for as long as the scope is open.
    fn share(&mut self, key: String, values: Vec<Value>) {
        self.shared_keys.push(key.clone());
        self.shared.insert(key, values);
    }

    fn scope(&self) -> u32 {
        self.scopes.last().copied().unwrap_or(0)
    }

    /// An input of the model.
    pub fn input(&mut self, name: &str, dtype: ScalarType, shape: &[Dim]) -> Tensor {
        let name = self.fresh(name);
        let sizes: Vec<SymInt> = shape
            .iter()
            .map(|d| match d {
                Dim::Fixed(n) => SymInt::Known(*n),
                Dim::Symbol { name, .. } => SymInt::symbol(name.clone()),
                Dim::Expression { size, .. } => size.clone(),
            })
            .collect();
        let value = emit::unnamed(dtype, sizes);
        *value.name.borrow_mut() = Some((name.clone(), 0));
        self.inputs.push(self.describe(name, &value));
        let value = Rc::new(value);
        for (axis, d) in shape.iter().enumerate() {
            let (Dim::Symbol { range, .. } | Dim::Expression { range, .. }) = d else { continue };
            let Some((name, factor, offset)) = value.shape[axis].linear() else { continue };
            // The symbol itself is a better source than something computed from it.
            let better = !self.symbols.contains_key(&name) || (factor == 1 && offset == 0);
            if better && !self.symbols.get(&name).is_some_and(|s| s.factor == 1 && s.offset == 0) {
                self.symbols.insert(name.clone(), Source { value: value.clone(), axis, factor, offset });
            }
            if factor == 1 && offset == 0 && !self.ranges.iter().any(|(n, _)| *n == name) {
                self.ranges.push((name, *range));
            }
        }
        Tensor::of(value)
    }

    /// A symbol that is not itself a dimension of an input, but follows from one.
    pub fn has_symbol(&self, name: &str) -> bool {
        self.symbols.contains_key(name)
    }

    /// A parameter, buffer or constant. The same key gives the same initializer; contiguous data is not copied.
    pub fn constant(&mut self, key: &str, data: &TensorData) -> Result<Tensor> {
        if let Some(v) = self.constants.get(key) {
            return Ok(Tensor::of(v.clone()));
        }
        let tensor = shapes::gather_strided(key, data)?;
        let known = host::known_of(&tensor);
        let mut value = emit::unnamed(data.dtype, data.sizes.iter().map(|s| SymInt::Known(*s)).collect());
        value.known = known;
        let name = self.fresh(key);
        self.initializers.push(Initializer {
            name: name.clone(),
            tensor: tensor.clone(),
            doc_string: None,
            metadata: Vec::new(),
        });
        value.constant = Some(tensor);
        *value.name.borrow_mut() = Some((name, 0));
        let value = Rc::new(value);
        self.constants.insert(key.to_owned(), value.clone());
        Ok(Tensor::of(value))
    }

    /// A 0-d tensor of a number (`prim::NumToTensor`).
    pub fn number(&mut self, n: Num) -> Tensor {
        let dtype = match &n {
            Num::Int(_) => DataType::Int64,
            Num::Float(_) => DataType::Float32,
            Num::Bool(_) => DataType::Bool,
        };
        Tensor::of(self.known(dtype, vec![], vec![n]))
    }

    /// What a tensor stands for now; derives views again whose base has changed.
    pub fn current(&mut self, t: &Tensor) -> Result<Value> {
        views::current(self, t)
    }

    /// The elements of a tensor, where the host knows them.
    pub fn known_elements(&mut self, t: &Tensor) -> Result<Option<Vec<Num>>> {
        Ok(self.current(t)?.known.clone())
    }

    /// A size whose value only the running model knows, from an integer tensor of one element.
    pub fn size_of(&mut self, t: &Tensor) -> Result<SymInt> {
        let v = self.current(t)?;
        self.run_time_size(&v)
    }

    /// The result of an operator that could not be lowered.
    pub fn poison(&mut self) -> Tensor {
        Tensor::of(Rc::new(ValueData { poisoned: true, ..emit::unnamed(DataType::Float32, vec![]) }))
    }

    /// Records something the program needs and the lowering cannot do; [`Lowering::finish`] reports all of them at once.
    pub fn refuse(&mut self, op: &str, reason: &str, at: &Location) {
        self.missing.push(Missing { op: op.to_owned(), reason: reason.to_owned(), at: at.clone() });
    }

    /// A dimension of a tensor that must have some.
    fn axis(&self, v: &Value, dim: i64) -> Result<usize> {
        if v.rank() == 0 {
            bail!(ShapeMismatch, "a tensor without dimensions has no dimension {dim}");
        }
        self.check_rank(v, dim)
    }

    /// A dimension counted from the start; 0-d tensors count as if they had one.
    fn check_rank(&self, v: &Value, dim: i64) -> Result<usize> {
        let rank = v.rank().max(1) as i64;
        if dim < -rank || dim >= rank {
            bail!(InvalidModel, "dimension {dim} does not exist in a tensor of {} dimensions", v.rank());
        }
        Ok((if dim < 0 { dim + rank } else { dim }) as usize)
    }
}
