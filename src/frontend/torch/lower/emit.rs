//! Emission of ONNX nodes and constants; the lazy naming of values.

use super::budget::check_shape;
use super::sym::{Atom, SymInt};
use super::value::{Num, Value, ValueData};
use super::{Lowering, ScalarType};
use crate::model::{
    Attribute, AttributeValue, DataType, Dim, Initializer, Name, Node, Storage, Tensor as Constant, ValueInfo,
    ValueType,
};
use crate::{Result, bail};
use bytes::Bytes;
use half::{bf16, f16};
use std::cell::RefCell;
use std::rc::Rc;

/// Cheap nodes that are worth emitting once for equal inputs.
const SHARED: [&str; 9] =
    ["Shape", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Concat", "Cast", "Expand", "ConstantOfShape"];

/// An integer attribute.
pub fn int(name: &str, v: i64) -> Attribute {
    attribute(name, AttributeValue::Int(v))
}

/// A float attribute.
pub fn float(name: &str, v: f64) -> Attribute {
    attribute(name, AttributeValue::Float(v as f32))
}

/// An integer list attribute.
pub fn ints(name: &str, v: &[i64]) -> Attribute {
    attribute(name, AttributeValue::Ints(v.to_vec()))
}

/// A string attribute.
pub fn string(name: &str, v: &str) -> Attribute {
    attribute(name, AttributeValue::String(Bytes::copy_from_slice(v.as_bytes())))
}

/// Any attribute.
pub fn attribute(name: &str, value: AttributeValue) -> Attribute {
    Attribute { name: name.into(), value, doc_string: None }
}

/// A value without a name yet.
pub(super) fn unnamed(dtype: ScalarType, shape: Vec<SymInt>) -> ValueData {
    ValueData { dtype, shape, known: None, constant: None, wrapped: false, poisoned: false, name: RefCell::new(None) }
}

/// The dimensions of a shape; sizes that only the running model knows have no name.
pub fn dims(shape: &[SymInt]) -> Vec<Dim> {
    shape
        .iter()
        .map(|s| match s {
            SymInt::Known(v) => Dim::known(*v),
            s if s.uses_values() => Dim::unknown(),
            s => Dim::symbol(s.to_string()),
        })
        .collect()
}

/// Little-endian bytes of numbers in that type.
pub fn encode(values: &[f64], dtype: DataType) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for &v in values {
        match dtype {
            DataType::Float32 => out.extend((v as f32).to_le_bytes()),
            DataType::Float64 => out.extend(v.to_le_bytes()),
            DataType::Float16 => out.extend(f16::from_f32(v as f32).to_le_bytes()),
            DataType::Bfloat16 => out.extend(bf16::from_f32(v as f32).to_le_bytes()),
            DataType::Int64 => out.extend((v as i64).to_le_bytes()),
            DataType::Int32 => out.extend((v as i32).to_le_bytes()),
            DataType::Int16 => out.extend((v as i16).to_le_bytes()),
            DataType::Int8 => out.extend((v as i8).to_le_bytes()),
            DataType::Uint8 => out.push(v as i64 as u8),
            DataType::Uint16 => out.extend((v as i64 as u16).to_le_bytes()),
            DataType::Uint32 => out.extend((v as i64 as u32).to_le_bytes()),
            DataType::Uint64 => out.extend((v as u64).to_le_bytes()),
            DataType::Bool => out.push(u8::from(v != 0.0)),
            _ => return None,
        }
    }
    Some(out)
}

impl Lowering {
    /// A name nobody has yet.
    pub(super) fn fresh(&mut self, base: &str) -> Name {
        let count = self.used.entry(base.to_owned()).or_insert(0);
        *count += 1;
        let mut name = if *count == 1 { base.to_owned() } else { format!("{base}_{}", *count - 1) };
        // "x_1" may also have been asked for as such.
        while !self.taken.insert(name.clone()) {
            let count = self.used.entry(base.to_owned()).or_insert(0);
            *count += 1;
            name = format!("{base}_{}", *count - 1);
        }
        name.into()
    }

    /// Emits a node with one output.
    pub fn node(
        &mut self,
        op: &str,
        inputs: &[&Value],
        attributes: Vec<Attribute>,
        dtype: ScalarType,
        shape: Vec<SymInt>,
    ) -> Result<Value> {
        let inputs: Vec<Option<&Value>> = inputs.iter().map(|v| Some(*v)).collect();
        let mut out = self.node_n(op, &inputs, attributes, vec![(dtype, shape)])?;
        Ok(out.remove(0))
    }

    /// Emits a node with optional inputs and any number of outputs.
    pub fn node_n(
        &mut self,
        op: &str,
        inputs: &[Option<&Value>],
        attributes: Vec<Attribute>,
        outputs: Vec<(ScalarType, Vec<SymInt>)>,
    ) -> Result<Vec<Value>> {
        self.budget.node(&self.at.module, inputs.len(), outputs.iter().map(|(_, shape)| 8 + shape.len()).sum())?;
        outputs.iter().try_for_each(|(_, shape)| check_shape(shape))?;
        let mut names = Vec::with_capacity(inputs.len());
        for v in inputs {
            names.push(match v {
                Some(v) => self.name(v)?,
                None => "".into(),
            });
        }
        while names.last().is_some_and(|n| n.is_empty()) {
            names.pop();
        }
        let key = SHARED.contains(&op).then(|| {
            let attrs: Vec<String> = attributes.iter().map(|a| format!("{}={:?}", a.name, a.value)).collect();
            format!("{op}({})[{}]", names.join(","), attrs.join(","))
        });
        if let Some(found) = key.as_ref().and_then(|k| self.shared.get(k)) {
            return Ok(found.clone());
        }
        let base = if self.at.module.is_empty() { op.to_owned() } else { format!("{}/{op}", self.at.module) };
        let name = self.fresh(&base);
        let scope = self.scope();
        let values: Vec<Value> = outputs
            .into_iter()
            .enumerate()
            .map(|(i, (dtype, shape))| {
                let output = self.fresh(&format!("{name}:{i}"));
                let v = unnamed(dtype, shape);
                *v.name.borrow_mut() = Some((output, scope));
                Rc::new(v)
            })
            .collect();
        let outputs = values.iter().filter_map(|v| v.name.borrow().as_ref().map(|(n, _)| n.clone())).collect();
        self.nodes.push(Node { name, op_type: op.into(), inputs: names, outputs, attributes, ..Node::default() });
        if let Some(key) = key {
            self.share(key, values.clone());
        }
        Ok(values)
    }

    /// The ONNX name of a value; what has none yet is emitted now.
    pub fn name(&mut self, v: &Value) -> Result<Name> {
        if let Some((name, scope)) = &*v.name.borrow()
            && self.scopes.contains(scope)
        {
            return Ok(name.clone());
        }
        if v.poisoned {
            return Ok("".into());
        }
        let Some(known) = &v.known else {
            bail!(Unsupported, "a tensor made inside a branch is used outside of it without being one of its results");
        };
        let plain: Option<Vec<f64>> = known.iter().map(Num::as_f64).collect();
        let (name, scope) = if let Some(plain) = plain {
            let Some(sizes) = v.sizes() else { bail!(Internal, "a constant of unknown shape") };
            // Integers beyond 2^53 are not exact as floats.
            let whole: Option<Vec<i64>> =
                known.iter().map(|n| if let Num::Int(i) = n { i.known() } else { None }).collect();
            let bytes = match (v.dtype, whole) {
                (DataType::Int64, Some(whole)) => whole.iter().flat_map(|i| i.to_le_bytes()).collect(),
                _ => encode(&plain, v.dtype)
                    .ok_or_else(|| crate::err!(Unsupported, "constants of type {} cannot be made", v.dtype))?,
            };
            (self.initializer(v.dtype, sizes, bytes.into())?, 0)
        } else {
            // Symbolic integers: a vector of the expressions' values.
            let mut parts = Vec::new();
            for n in known {
                let part = match n {
                    Num::Int(s) => self.size_value(s)?,
                    other => {
                        let Some(f) = other.as_f64() else { bail!(Internal, "an unknown number") };
                        self.vector(&[f as i64])
                    }
                };
                parts.push(part);
            }
            let count = SymInt::Known(parts.len() as i64);
            let refs: Vec<&Value> = parts.iter().collect();
            let mut out = match refs.as_slice() {
                [one] => (*one).clone(),
                _ => self.node("Concat", &refs, vec![int("axis", 0)], DataType::Int64, vec![count])?,
            };
            if v.rank() != 1 {
                let Some(sizes) = v.sizes() else { bail!(Internal, "a constant of unknown shape") };
                let shape = self.vector(&sizes);
                out = self.node("Reshape", &[&out, &shape], vec![], DataType::Int64, v.shape.clone())?;
            }
            if v.dtype != DataType::Int64 {
                let to = int("to", i64::from(v.dtype.to_onnx()));
                out = self.node("Cast", &[&out], vec![to], v.dtype, v.shape.clone())?;
            }
            (self.name(&out)?, self.scope())
        };
        *v.name.borrow_mut() = Some((name.clone(), scope));
        Ok(name)
    }

    /// An initializer of the main graph; equal small ones are shared.
    fn initializer(&mut self, dtype: DataType, sizes: Vec<i64>, bytes: Bytes) -> Result<Name> {
        let key = (bytes.len() <= 1024).then(|| (dtype, sizes.clone(), bytes.clone()));
        if let Some(found) = key.as_ref().and_then(|k| self.small.get(k)) {
            return Ok(found.clone());
        }
        let name = self.fresh("constant");
        let tensor = Constant::new(dtype, sizes, Storage::Bytes(bytes))?;
        self.initializers.push(Initializer { name: name.clone(), tensor, doc_string: None, metadata: Vec::new() });
        if let Some(key) = key {
            self.small.insert(key, name.clone());
        }
        Ok(name)
    }

    /// A value the host knows.
    pub fn known(&self, dtype: ScalarType, shape: Vec<SymInt>, known: Vec<Num>) -> Value {
        self.budget.note(known.len());
        Rc::new(ValueData { known: Some(known), ..unnamed(dtype, shape) })
    }

    /// A vector of int64.
    pub fn vector(&self, v: &[i64]) -> Value {
        let known = v.iter().map(|i| Num::Int(SymInt::Known(*i))).collect();
        self.known(DataType::Int64, vec![SymInt::Known(v.len() as i64)], known)
    }

    /// A vector of sizes.
    pub fn size_vector(&self, v: &[SymInt]) -> Value {
        let known = v.iter().map(|i| Num::Int(i.clone())).collect();
        self.known(DataType::Int64, vec![SymInt::Known(v.len() as i64)], known)
    }

    /// A number of that type, without dimensions.
    pub fn scalar(&self, v: f64, dtype: ScalarType) -> Value {
        let num = match dtype {
            DataType::Bool => Num::Bool(v != 0.0),
            t if t.is_integer() => Num::Int(SymInt::Known(v as i64)),
            _ => Num::Float(v),
        };
        self.known(dtype, vec![], vec![num])
    }

    /// A float or integer vector of that type.
    pub fn numbers(&self, v: &[f64], dtype: ScalarType) -> Value {
        let known =
            v.iter().map(|v| if dtype.is_integer() { Num::Int(SymInt::Known(*v as i64)) } else { Num::Float(*v) });
        self.known(dtype, vec![SymInt::Known(v.len() as i64)], known.collect())
    }

    /// An int64 vector of one element with the value of a size.
    pub(super) fn size_value(&mut self, s: &SymInt) -> Result<Value> {
        let one = || vec![SymInt::Known(1)];
        if let Some(v) = s.known() {
            return Ok(self.vector(&[v]));
        }
        let key = format!("size:{s}");
        if let Some(found) = self.shared.get(&key).and_then(|f| f.first()) {
            return Ok(found.clone());
        }
        let mut sum: Option<Value> = None;
        for (atoms, factor) in s.terms() {
            let mut term: Option<Value> = None;
            for a in &atoms {
                let v = self.atom_value(a)?;
                term = Some(match term {
                    None => v,
                    Some(t) => self.node("Mul", &[&t, &v], vec![], DataType::Int64, one())?,
                });
            }
            let term = match term {
                None => self.vector(&[factor]),
                Some(t) if factor == 1 => t,
                Some(t) => {
                    let f = self.vector(&[factor]);
                    self.node("Mul", &[&t, &f], vec![], DataType::Int64, one())?
                }
            };
            sum = Some(match sum {
                None => term,
                Some(s) => self.node("Add", &[&s, &term], vec![], DataType::Int64, one())?,
            });
        }
        let sum = sum.unwrap_or_else(|| self.vector(&[0]));
        self.share(key, vec![sum.clone()]);
        Ok(sum)
    }

    fn atom_value(&mut self, a: &Atom) -> Result<Value> {
        let one = || vec![SymInt::Known(1)];
        let pair = |l: &mut Self, op: &str, x: &SymInt, y: &SymInt| -> Result<Value> {
            let (x, y) = (l.size_value(x)?, l.size_value(y)?);
            l.node(op, &[&x, &y], vec![], DataType::Int64, one())
        };
        match a {
            Atom::Symbol(name) => {
                let Some(source) = self.symbols.get(name).cloned() else {
                    bail!(Unsupported, "no input has the dimension '{name}'");
                };
                let axis = source.axis as i64;
                let range = vec![int("start", axis), int("end", axis + 1)];
                let mut v = self.node("Shape", &[&source.value], range, DataType::Int64, one())?;
                if source.offset != 0 {
                    let offset = self.vector(&[source.offset]);
                    v = self.node("Sub", &[&v, &offset], vec![], DataType::Int64, one())?;
                }
                if source.factor != 1 {
                    let factor = self.vector(&[source.factor]);
                    v = self.node("Div", &[&v, &factor], vec![], DataType::Int64, one())?;
                }
                Ok(v)
            }
            Atom::Value(name) => match self.run_time.get(name).cloned() {
                Some(v) => Ok(v),
                None => bail!(Internal, "the size '{name}' has no value"),
            },
            Atom::TooLarge(_) => bail!(
                Unsupported,
                "a size is computed from dynamic dimensions by an expression that is too large: give these dimensions a fixed size"
            ),
            Atom::Max(x, y) => pair(self, "Max", x, y),
            Atom::Min(x, y) => pair(self, "Min", x, y),
            Atom::Mod(x, y) => pair(self, "Mod", x, y),
            Atom::FloorDiv(x, y) => {
                // Div rounds to zero, so the rest (which has the divisor's sign) is taken away first.
                let (x, y) = (self.size_value(x)?, self.size_value(y)?);
                let rest = self.node("Mod", &[&x, &y], vec![], DataType::Int64, one())?;
                let even = self.node("Sub", &[&x, &rest], vec![], DataType::Int64, one())?;
                self.node("Div", &[&even, &y], vec![], DataType::Int64, one())
            }
        }
    }

    /// A size that only the running model knows: the value of an integer tensor of one element.
    pub fn run_time_size(&mut self, v: &Value) -> Result<SymInt> {
        if let Some([Num::Int(s)]) = v.known.as_deref() {
            return Ok(s.clone());
        }
        let v = if v.dtype == DataType::Int64 { v.clone() } else { self.cast(v, DataType::Int64)? };
        let one = self.reshape(&v, &[SymInt::Known(1)])?;
        let name = self.name(&one)?;
        self.run_time.insert(name.clone(), one);
        Ok(SymInt::atom(Atom::Value(name)))
    }

    /// The graph's description of a value.
    pub(super) fn describe(&self, name: Name, v: &ValueData) -> ValueInfo {
        ValueInfo::new(name, ValueType::tensor(v.dtype, Some(dims(&v.shape))))
    }
}
