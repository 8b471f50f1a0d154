//! What a kernel's constructor sees of its node, and what a kernel sees of its inputs.

use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::plan::Body;
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::{AttributeValue, DataType, Node};
use crate::{Result, bail, err};

/// A node while its kernel is built.
pub struct NodeCx<'a> {
    /// The node, with a function's attributes filled in.
    pub node: &'a Node,
    /// The version of the node's operator set.
    pub opset: i64,
    /// Inputs that are constants.
    pub constants: &'a [Option<Val>],
    /// Element types of the inputs, where known.
    pub input_types: &'a [Option<DataType>],
    /// Subgraphs.
    pub bodies: &'a [Body],
}

impl NodeCx<'_> {
    /// True if the node names that output.
    pub fn wants(&self, output: usize) -> bool {
        self.node.outputs.get(output).is_some_and(|o| !o.is_empty())
    }

    /// True if the node names that input.
    pub fn has_input(&self, input: usize) -> bool {
        self.node.inputs.get(input).is_some_and(|i| !i.is_empty())
    }

    /// A constant input tensor.
    pub fn constant(&self, input: usize) -> Option<&Tensor> {
        match self.constants.get(input)? {
            Some(Val::Tensor(t)) => Some(t),
            _ => None,
        }
    }

    fn wrong(&self, name: &str, kind: &str) -> crate::Error {
        err!(InvalidModel, "its attribute '{name}' is not {kind}")
    }

    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.opt_int(name)?.unwrap_or(default))
    }

    /// An integer attribute that may be left out.
    pub fn opt_int(&self, name: &str) -> Result<Option<i64>> {
        match self.node.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Int(v)) => Ok(Some(*v)),
            Some(_) => Err(self.wrong(name, "an integer")),
        }
    }

    /// An integer attribute taken as a truth value.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int(name, default.into())? != 0)
    }

    /// A float attribute, or its default.
    pub fn float(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.opt_float(name)?.unwrap_or(default))
    }

    /// A float attribute that may be left out.
    pub fn opt_float(&self, name: &str) -> Result<Option<f32>> {
        match self.node.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Float(v)) => Ok(Some(*v)),
            Some(_) => Err(self.wrong(name, "a float")),
        }
    }

    /// An integer list attribute that may be left out.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        match self.node.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Ints(v)) => Ok(Some(v.clone())),
            Some(_) => Err(self.wrong(name, "a list of integers")),
        }
    }

    /// An integer list attribute that must be there.
    pub fn required_ints(&self, name: &str) -> Result<Vec<i64>> {
        self.ints(name)?.ok_or_else(|| err!(InvalidModel, "its attribute '{name}' is missing"))
    }

    /// A float list attribute that may be left out.
    pub fn floats(&self, name: &str) -> Result<Option<Vec<f32>>> {
        match self.node.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Floats(v)) => Ok(Some(v.clone())),
            Some(_) => Err(self.wrong(name, "a list of floats")),
        }
    }

    /// A string attribute, or its default.
    pub fn string(&self, name: &str, default: &str) -> Result<String> {
        match self.node.attribute(name) {
            None => Ok(default.to_string()),
            Some(AttributeValue::String(b)) => match std::str::from_utf8(b) {
                Ok(s) => Ok(s.to_string()),
                Err(_) => Err(self.wrong(name, "UTF-8 text")),
            },
            Some(_) => Err(self.wrong(name, "a string")),
        }
    }

    /// A string list attribute that may be left out.
    pub fn strings(&self, name: &str) -> Result<Option<Vec<String>>> {
        match self.node.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Strings(v)) => v
                .iter()
                .map(|b| std::str::from_utf8(b).map(String::from).map_err(|_| self.wrong(name, "UTF-8 text")))
                .collect::<Result<Vec<_>>>()
                .map(Some),
            Some(_) => Err(self.wrong(name, "a list of strings")),
        }
    }

    /// A tensor attribute that may be left out.
    pub fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        match self.node.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Tensor(t)) => {
                Tensor::from_model(&Pool::new(usize::MAX), &t.tensor).map(|t| Some(t.detached()))
            }
            Some(_) => Err(self.wrong(name, "a tensor")),
        }
    }

    /// A data type attribute that may be left out.
    pub fn dtype(&self, name: &str) -> Result<Option<DataType>> {
        let Some(code) = self.opt_int(name)? else { return Ok(None) };
        let dtype = i32::try_from(code).ok().and_then(DataType::from_onnx);
        dtype.map(Some).ok_or_else(|| err!(InvalidModel, "its attribute '{name}' is {code}, which is no data type"))
    }

    /// An error unless the node has between `min` and `max` inputs.
    pub fn check_inputs(&self, min: usize, max: usize) -> Result<()> {
        let n = self.node.inputs.len();
        if n < min || n > max {
            bail!(InvalidModel, "it has {n} inputs, but takes {min} to {max}");
        }
        Ok(())
    }
}

/// The inputs of one call of a kernel.
pub struct Inputs(Vec<Option<Val>>);

impl Inputs {
    /// The inputs of a step, in order.
    pub fn new(values: Vec<Option<Val>>) -> Self {
        Inputs(values)
    }

    /// How many there are, omitted ones included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An input of any kind.
    pub fn value(&self, i: usize) -> Result<&Val> {
        self.0.get(i).and_then(Option::as_ref).ok_or_else(|| err!(InvalidModel, "its input {i} is missing"))
    }

    /// An optional input of any kind.
    pub fn opt_value(&self, i: usize) -> Option<&Val> {
        self.0.get(i).and_then(Option::as_ref)
    }

    /// An input tensor.
    pub fn tensor(&self, i: usize) -> Result<&Tensor> {
        self.value(i)?.tensor().map_err(|e| e.context(format_args!("input {i}")))
    }

    /// An input tensor that may be left out.
    pub fn opt(&self, i: usize) -> Result<Option<&Tensor>> {
        match self.opt_value(i) {
            None => Ok(None),
            Some(_) => self.tensor(i).map(Some),
        }
    }

    /// Takes an input away, so that its memory may be used again.
    pub fn take_value(&mut self, i: usize) -> Result<Val> {
        self.0.get_mut(i).and_then(Option::take).ok_or_else(|| err!(InvalidModel, "its input {i} is missing"))
    }

    /// Gives an input back.
    pub fn put(&mut self, i: usize, value: Val) {
        if let Some(slot) = self.0.get_mut(i) {
            *slot = Some(value);
        }
    }

    /// Takes an input tensor away.
    pub fn take(&mut self, i: usize) -> Result<Tensor> {
        self.take_value(i)?.into_tensor().map_err(|e| e.context(format_args!("input {i}")))
    }

    /// All tensors, in order; an omitted one is an error.
    pub fn tensors(&self) -> Result<Vec<&Tensor>> {
        (0..self.len()).map(|i| self.tensor(i)).collect()
    }

    /// The elements of a tensor of indices, shapes or axes.
    pub fn ints(&self, i: usize) -> Result<Vec<i64>> {
        integers(self.tensor(i)?).map_err(|e| e.context(format_args!("input {i}")))
    }

    /// The same for an input that may be left out.
    pub fn opt_ints(&self, i: usize) -> Result<Option<Vec<i64>>> {
        match self.opt(i)? {
            None => Ok(None),
            Some(_) => self.ints(i).map(Some),
        }
    }
}

/// The elements of an integer tensor.
pub fn integers(t: &Tensor) -> Result<Vec<i64>> {
    Ok(match t.dtype() {
        DataType::Int64 => t.slice::<i64>()?.to_vec(),
        DataType::Int32 => t.slice::<i32>()?.iter().map(|&v| v.into()).collect(),
        DataType::Int16 => t.slice::<i16>()?.iter().map(|&v| v.into()).collect(),
        DataType::Int8 => t.slice::<i8>()?.iter().map(|&v| v.into()).collect(),
        DataType::Uint8 | DataType::Bool => t.slice::<u8>()?.iter().map(|&v| v.into()).collect(),
        DataType::Uint16 => t.slice::<u16>()?.iter().map(|&v| v.into()).collect(),
        DataType::Uint32 => t.slice::<u32>()?.iter().map(|&v| v.into()).collect(),
        DataType::Uint64 => t.slice::<u64>()?.iter().map(|&v| i64::try_from(v).unwrap_or(i64::MAX)).collect(),
        other => bail!(TypeMismatch, "an integer tensor is needed, but the type is {other}"),
    })
}
