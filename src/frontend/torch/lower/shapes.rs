//! Movements that many lowerings share: reshape, transpose, expand, slice, concatenate, cast.

use super::args::Bound;
use super::budget::check_shape;
use super::emit::{int, ints};
use super::host;
use super::sym::{SymInt, product};
use super::value::{Num, Value, ValueData};
use super::{Lowering, ScalarType, TensorData};
use crate::model::{DataType, Storage, Tensor as Constant};
use crate::{Result, bail, err};
use std::rc::Rc;

/// The tensor of a strided view of a storage: a slice of the storage where it is contiguous, else a copy.
pub(super) fn gather_strided(key: &str, data: &TensorData) -> Result<Constant> {
    let bad = || err!(InvalidFile, "tensor '{key}' reaches outside its storage of {} bytes", data.storage.len());
    let Some(width) = data.dtype.element_size() else {
        bail!(Unsupported, "tensor '{key}' has the type {}, which is not supported", data.dtype);
    };
    if data.sizes.len() != data.strides.len() || data.sizes.iter().any(|s| *s < 0) || data.offset < 0 {
        bail!(InvalidFile, "tensor '{key}' has the shape {:?} with the strides {:?}", data.sizes, data.strides);
    }
    let count = crate::model::tensor::element_count(&data.sizes).ok_or_else(bad)?;
    let bytes = count.checked_mul(width).ok_or_else(bad)?;
    if count == 0 {
        return Constant::new(data.dtype, data.sizes.clone(), Storage::Bytes(bytes::Bytes::new()));
    }
    let mut last = data.offset;
    for (size, stride) in data.sizes.iter().zip(&data.strides) {
        if *stride < 0 {
            return Err(bad());
        }
        last = (size - 1).checked_mul(*stride).and_then(|s| last.checked_add(s)).ok_or_else(bad)?;
    }
    let end = usize::try_from(last).ok().and_then(|l| l.checked_add(1)?.checked_mul(width)).ok_or_else(bad)?;
    if end > data.storage.len() {
        return Err(bad());
    }
    let start = data.offset as usize * width;
    let mut expected = 1i64;
    let mut contiguous = true;
    for (size, stride) in data.sizes.iter().zip(&data.strides).rev() {
        contiguous &= *size == 1 || *stride == expected;
        expected = expected.saturating_mul(*size);
    }
    if contiguous {
        return Constant::new(data.dtype, data.sizes.clone(), Storage::Bytes(data.storage.slice(start..start + bytes)));
    }
    // An expanded tensor can ask for far more memory than its storage has.
    if bytes > data.storage.len().saturating_mul(64).saturating_add(1 << 20) {
        bail!(Unsupported, "tensor '{key}' repeats the elements of a small storage {bytes} bytes long");
    }
    let mut out = Vec::with_capacity(bytes);
    let mut at = vec![0i64; data.sizes.len()];
    let mut position = data.offset;
    loop {
        let from = position as usize * width;
        out.extend_from_slice(data.storage.get(from..from + width).ok_or_else(bad)?);
        let mut d = at.len();
        loop {
            if d == 0 {
                return Constant::new(data.dtype, data.sizes.clone(), Storage::Bytes(out.into()));
            }
            d -= 1;
            at[d] += 1;
            position += data.strides[d];
            if at[d] < data.sizes[d] {
                break;
            }
            position -= data.strides[d] * data.sizes[d];
            at[d] = 0;
        }
    }
}

/// The common shape of operands, aligned at the last dimension.
pub fn broadcast(shapes: &[&[SymInt]]) -> Result<Vec<SymInt>> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![SymInt::Known(1); rank];
    for shape in shapes {
        for (slot, size) in out[rank - shape.len()..].iter_mut().zip(*shape) {
            match (&*slot, size) {
                (a, b) if a == b => {}
                (_, b) if b.is(1) => {}
                (a, b) if a.is(1) => *slot = b.clone(),
                (SymInt::Known(a), SymInt::Known(b)) => {
                    bail!(ShapeMismatch, "sizes {a} and {b} of one dimension cannot be broadcast together")
                }
                // A symbolic size that meets a number above 1 must be that number.
                (SymInt::Known(_), _) => {}
                (_, b @ SymInt::Known(_)) => *slot = b.clone(),
                _ => {}
            }
        }
    }
    Ok(out)
}

impl Lowering {
    /// The value in another type.
    pub fn cast(&mut self, v: &Value, to: ScalarType) -> Result<Value> {
        if v.dtype == to {
            return Ok(v.clone());
        }
        if let Some(known) = &v.known
            && let Some(known) = known.iter().map(|n| host::convert(n, to)).collect::<Option<Vec<_>>>()
        {
            return Ok(self.known(to, v.shape.clone(), known));
        }
        if matches!(to, DataType::Complex64 | DataType::Complex128)
            || matches!(v.dtype, DataType::Complex64 | DataType::Complex128)
        {
            bail!(Unsupported, "complex numbers have no ONNX form");
        }
        let shape = v.shape.clone();
        self.node("Cast", &[v], vec![int("to", i64::from(to.to_onnx()))], to, shape)
    }

    /// A Python number takes the type of the computation; its value stays exact.
    pub(super) fn operand(&mut self, v: &Value, dtype: ScalarType) -> Result<Value> {
        let v = if v.wrapped { Rc::new(ValueData { wrapped: false, ..copy(v) }) } else { v.clone() };
        self.cast(&v, dtype)
    }

    /// The value under another shape of as many elements.
    pub fn reshape(&mut self, v: &Value, shape: &[SymInt]) -> Result<Value> {
        if v.shape == shape {
            return Ok(v.clone());
        }
        check_shape(shape)?;
        let (have, want) = (product(&v.shape), product(shape));
        if let (Some(a), Some(b)) = (have.known(), want.known())
            && a != b
        {
            bail!(ShapeMismatch, "a tensor of {a} elements cannot take a shape of {b}");
        }
        // What the host knows has sizes in numbers.
        if let Some(known) = &v.known
            && shape.iter().all(|s| s.known().is_some())
        {
            return Ok(Rc::new(ValueData {
                known: Some(known.clone()),
                ..super::emit::unnamed(v.dtype, shape.to_vec())
            }));
        }
        let target = if shape.iter().all(|s| s.known().is_some()) {
            self.size_vector(shape)
        } else {
            // A size equal to the operand's at the same place is 0 in ONNX, one other unknown size is -1.
            let mut free = 0;
            let mut codes = Vec::new();
            for (i, s) in shape.iter().enumerate() {
                codes.push(match s {
                    SymInt::Known(0) => None,
                    SymInt::Known(n) => Some(*n),
                    s if v.shape.get(i) == Some(s) => Some(0),
                    _ => {
                        free += 1;
                        Some(-1)
                    }
                });
            }
            match codes.into_iter().collect::<Option<Vec<i64>>>() {
                Some(codes) if free <= 1 => self.vector(&codes),
                _ => self.size_vector(shape),
            }
        };
        self.node("Reshape", &[v, &target], vec![], v.dtype, shape.to_vec())
    }

    /// The value with its dimensions in that order.
    pub fn transpose(&mut self, v: &Value, order: &[i64]) -> Result<Value> {
        if order.iter().enumerate().all(|(i, o)| i as i64 == *o) {
            return Ok(v.clone());
        }
        let shape = order.iter().map(|&o| v.shape.get(o as usize).cloned()).collect::<Option<Vec<_>>>();
        let Some(shape) = shape.filter(|s| s.len() == v.rank()) else {
            bail!(InvalidModel, "{order:?} is no order of {} dimensions", v.rank());
        };
        self.node("Transpose", &[v], vec![ints("perm", order)], v.dtype, shape)
    }

    /// The two last dimensions swapped.
    pub fn swap_last(&mut self, v: &Value) -> Result<Value> {
        let rank = v.rank() as i64;
        if rank < 2 {
            return Ok(v.clone());
        }
        let mut order: Vec<i64> = (0..rank).collect();
        order.swap(rank as usize - 1, rank as usize - 2);
        self.transpose(v, &order)
    }

    /// The value repeated along dimensions of size 1 until it has that shape.
    pub fn expand_to(&mut self, v: &Value, shape: &[SymInt]) -> Result<Value> {
        if v.shape == shape {
            return Ok(v.clone());
        }
        check_shape(shape)?;
        if v.rank() > shape.len() {
            bail!(ShapeMismatch, "a tensor of {} dimensions cannot be expanded to {}", v.rank(), shape.len());
        }
        broadcast(&[&v.shape, shape])?;
        let count = product(shape).known().filter(|_| shape.iter().all(|s| s.known().is_some()));
        if let (Some([one]), Some(count @ 0..=1024)) = (v.known.as_deref(), count) {
            return Ok(self.known(v.dtype, shape.to_vec(), vec![one.clone(); count as usize]));
        }
        let target = self.size_vector(shape);
        self.node("Expand", &[v, &target], vec![], v.dtype, shape.to_vec())
    }

    /// New dimensions of size 1 at those places of the result.
    pub fn unsqueeze(&mut self, v: &Value, axes: &[i64]) -> Result<Value> {
        let mut shape = v.shape.clone();
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        for &a in &sorted {
            if a < 0 || a as usize > shape.len() {
                bail!(InvalidModel, "dimension {a} cannot be added to a tensor of {} dimensions", v.rank());
            }
            shape.insert(a as usize, SymInt::Known(1));
        }
        if v.known.is_some() {
            return self.reshape(v, &shape);
        }
        let axes = self.vector(&sorted);
        self.node("Unsqueeze", &[v, &axes], vec![], v.dtype, shape)
    }

    /// Dimensions of size 1 removed.
    pub fn squeeze(&mut self, v: &Value, axes: &[i64]) -> Result<Value> {
        let axes: Vec<i64> = (0..v.rank() as i64).filter(|a| axes.contains(a)).collect();
        if axes.is_empty() {
            return Ok(v.clone());
        }
        let kept = v.shape.iter().enumerate().filter(|(i, _)| !axes.contains(&(*i as i64)));
        let shape: Vec<SymInt> = kept.map(|(_, s)| s.clone()).collect();
        if v.known.is_some() {
            return self.reshape(v, &shape);
        }
        let axes = self.vector(&axes);
        self.node("Squeeze", &[v, &axes], vec![], v.dtype, shape)
    }

    /// An index counted from the end made one from the start.
    pub(super) fn wrap_index(&self, index: &SymInt, size: &SymInt) -> SymInt {
        match index.known() {
            Some(i) if i < 0 => size.plus(index),
            _ => index.clone(),
        }
    }

    /// Start and end of a slice inside a dimension.
    pub(super) fn slice_bounds(&self, b: &Bound, size: &SymInt) -> Result<(SymInt, SymInt)> {
        let clamp = |v: SymInt| match (v.known(), size.known()) {
            (Some(v), Some(n)) => SymInt::Known(if v < 0 { (v + n).max(0) } else { v.min(n) }),
            (Some(0), None) => v,
            (Some(i), None) if i < 0 => size.plus(&v),
            (Some(i64::MAX), None) => size.clone(),
            _ if v == *size => v,
            // Longer symbolic ranges end where the dimension ends; sizes never are negative.
            _ => size.smaller(&v),
        };
        let start = b.opt_size("start")?.unwrap_or(SymInt::Known(0));
        let end = match b.opt_size("end")? {
            Some(e) if e.known().is_none_or(|e| e < i64::MAX / 2) => e,
            _ => SymInt::Known(i64::MAX),
        };
        let (start, end) = (clamp(start), clamp(end));
        let end = match (start.known(), end.known()) {
            (Some(s), Some(e)) if e < s => start.clone(),
            _ => end,
        };
        Ok((start, end))
    }

    /// A range of one dimension; both bounds lie inside it.
    pub fn slice(&mut self, v: &Value, axis: usize, start: &SymInt, end: &SymInt, step: i64) -> Result<Value> {
        if start.is(0) && *end == v.shape[axis] && step == 1 {
            return Ok(v.clone());
        }
        let span = end.minus(start);
        let count = match (span.known(), step) {
            (_, 1) => span,
            (Some(n), _) => SymInt::Known((n + step - 1).max(0) / step),
            _ => span.plus(&SymInt::Known(step - 1)).floor_div(&SymInt::Known(step)).unwrap_or(span),
        };
        let mut shape = v.shape.clone();
        shape[axis] = count;
        if let (Some(known), 1, Some(s), Some(e)) = (&v.known, v.rank(), start.known(), end.known()) {
            let part = known.iter().skip(s as usize).take((e - s).max(0) as usize).step_by(step as usize).cloned();
            return Ok(self.known(v.dtype, shape, part.collect()));
        }
        let (start, end) = (self.size_vector(std::slice::from_ref(start)), self.size_vector(std::slice::from_ref(end)));
        let (axes, steps) = (self.vector(&[axis as i64]), self.vector(&[step]));
        self.node("Slice", &[v, &start, &end, &axes, &steps], vec![], v.dtype, shape)
    }

    /// One slice of a dimension, which goes away.
    pub fn select(&mut self, v: &Value, axis: usize, index: &SymInt) -> Result<Value> {
        let mut shape = v.shape.clone();
        shape.remove(axis);
        if let (Some(known), 1, Some(i)) = (&v.known, v.rank(), index.known())
            && let Some(n) = known.get(i as usize)
        {
            return Ok(self.known(v.dtype, shape, vec![n.clone()]));
        }
        let index = self.size_vector(std::slice::from_ref(index));
        let index = self.reshape(&index, &[])?;
        self.node("Gather", &[v, &index], vec![int("axis", axis as i64)], v.dtype, shape)
    }

    /// Tensors of one type one after another.
    pub fn concat(&mut self, parts: &[Value], axis: usize) -> Result<Value> {
        let [first, ..] = parts else { bail!(InvalidModel, "nothing to concatenate") };
        if parts.len() == 1 {
            return Ok(first.clone());
        }
        let mut shape = first.shape.clone();
        let mut sum = SymInt::Known(0);
        for p in parts {
            if p.rank() != first.rank() {
                bail!(ShapeMismatch, "tensors of {} and {} dimensions cannot be concatenated", first.rank(), p.rank());
            }
            sum = sum.plus(&p.shape[axis]);
        }
        shape[axis] = sum;
        let known: Option<Vec<&Vec<Num>>> = parts.iter().map(|p| p.known.as_ref()).collect();
        if let (Some(known), 1) = (known, first.rank()) {
            return Ok(self.known(first.dtype, shape, known.into_iter().flatten().cloned().collect()));
        }
        let refs: Vec<&Value> = parts.iter().collect();
        self.node("Concat", &refs, vec![int("axis", axis as i64)], first.dtype, shape)
    }

    /// A tensor of that shape filled with a number.
    pub fn filled(&mut self, n: f64, dtype: ScalarType, shape: &[SymInt]) -> Result<Value> {
        let v = self.scalar(n, dtype);
        self.expand_to(&v, shape)
    }
}

fn copy(v: &ValueData) -> ValueData {
    ValueData {
        dtype: v.dtype,
        shape: v.shape.clone(),
        known: v.known.clone(),
        constant: v.constant.clone(),
        wrapped: v.wrapped,
        poisoned: v.poisoned,
        name: std::cell::RefCell::new(None),
    }
}
