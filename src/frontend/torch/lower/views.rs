//! Views and writes. A view remembers its base and the call that made it; a write through it goes to the base.

use super::args::{Arg, Bound};
use super::emit::ints;
use super::sym::SymInt;
use super::value::{State, Tensor, Value, View};
use super::{Handler, Lowering, Out};
use crate::{Result, bail, err};
use std::cell::RefCell;
use std::rc::Rc;

/// How an operator's result relates to its operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// New memory.
    Fresh,
    /// A view of the first argument.
    View,
    /// A view if the operand is contiguous, else a copy.
    IfContiguous,
}

impl Kind {
    /// The kind of an operator.
    pub fn of(op: &str) -> Kind {
        match op.strip_prefix("aten::").unwrap_or(op) {
            "view" | "_unsafe_view" | "squeeze" | "unsqueeze" | "permute" | "transpose" | "t" | "numpy_T"
            | "select" | "slice" | "narrow" | "split" | "split_with_sizes" | "chunk" | "tensor_split" | "unbind"
            | "expand" | "expand_as" | "view_as" | "unflatten" | "movedim" | "swapaxes" | "swapdims" | "detach"
            | "alias" | "diagonal" | "unfold" | "as_strided" | "hsplit" | "vsplit" | "mT" | "adjoint" | "moveaxis"
            | "lift_fresh" => Kind::View,
            "reshape" | "flatten" | "contiguous" | "reshape_as" | "ravel" => Kind::IfContiguous,
            _ => Kind::Fresh,
        }
    }
}

/// Views of views.
const MAX_DEPTH: u32 = 4000;

const SELF: [&str; 4] = ["self", "input", "tensor", "a"];

/// The tensor that a call's first result is.
pub(super) fn result(
    op: &str,
    kind: Kind,
    handler: Handler,
    bound: &Rc<Bound>,
    value: Value,
    index: usize,
) -> Result<Tensor> {
    let base = SELF.iter().find_map(|n| bound.get(n)).and_then(Arg::tensor);
    let Some(base) = base.filter(|_| kind != Kind::Fresh) else { return Ok(Tensor::of(value)) };
    let contiguous = base.0.borrow().contiguous;
    if kind == Kind::IfContiguous && !contiguous {
        return Ok(Tensor::of(value));
    }
    // Walks over views and their release are recursive.
    let depth = bound.each_tensor().iter().map(|t| t.0.borrow().depth).max().unwrap_or(0) + 1;
    if depth > MAX_DEPTH {
        bail!(InvalidModel, "a view of a view and so on, {MAX_DEPTH} deep: use clone() in between");
    }
    let keeps = match op.strip_prefix("aten::").unwrap_or(op) {
        "permute" | "transpose" | "t" | "numpy_T" | "movedim" | "moveaxis" | "swapaxes" | "swapdims" | "mT"
        | "expand" | "expand_as" | "adjoint" => base.0.borrow().value.rank() < 2,
        "select" | "slice" | "narrow" | "split" | "split_with_sizes" | "chunk" | "unbind" | "tensor_split" => {
            bound.get("dim").is_none_or(|d| matches!(d, Arg::Int(v) if v.is(0)))
        }
        _ => true,
    };
    let version = base.0.borrow().version;
    let view = View { base: base.clone(), base_version: version, op: op.into(), handler, bound: bound.clone(), index };
    Ok(Tensor(Rc::new(RefCell::new(State {
        value,
        version: 0,
        view: Some(view),
        contiguous: contiguous && keeps,
        depth,
    }))))
}

/// What a tensor stands for now.
pub(super) fn current(l: &mut Lowering, t: &Tensor) -> Result<Value> {
    let (value, view) = {
        let state = t.0.borrow();
        (state.value.clone(), state.view.clone())
    };
    let Some(view) = view else { return Ok(value) };
    let base = current(l, &view.base)?;
    let version = view.base.0.borrow().version;
    if version == view.base_version {
        return Ok(value);
    }
    let value = if base.poisoned { base } else { derive(l, &view)? };
    let mut state = t.0.borrow_mut();
    state.value = value.clone();
    state.version += 1;
    if let Some(v) = &mut state.view {
        v.base_version = version;
    }
    Ok(value)
}

/// Makes the view's call again; the base handle already stands for its new value.
fn derive(l: &mut Lowering, view: &View) -> Result<Value> {
    match (view.handler)(l, &view.bound)? {
        Out::One(v) => Ok(v),
        Out::Many(vs) | Out::List(vs) => {
            vs.into_iter().nth(view.index).ok_or_else(|| err!(Internal, "a view lost its part"))
        }
        Out::Same(n) => view.bound.tensor(n),
        Out::Args(_) => bail!(Internal, "{} is no view", view.op),
    }
}

/// A tensor that could not be computed.
pub(super) fn poison(t: &Tensor, value: Value) {
    let base = {
        let mut state = t.0.borrow_mut();
        state.value = value.clone();
        state.version += 1;
        state.view.take().map(|v| v.base)
    };
    if let Some(base) = base {
        poison(&base, value);
    }
}

/// Replaces what a tensor stands for; through a view, also what its base stands for.
pub(super) fn assign(l: &mut Lowering, t: &Tensor, value: Value) -> Result<()> {
    let view = t.0.borrow().view.clone();
    if let Some(view) = view {
        let base = current(l, &view.base)?;
        let updated = write_back(l, &view, &base, &value)?;
        assign(l, &view.base, updated)?;
        let version = view.base.0.borrow().version;
        if let Some(v) = &mut t.0.borrow_mut().view {
            v.base_version = version;
        }
    }
    let mut state = t.0.borrow_mut();
    state.value = value;
    state.version += 1;
    Ok(())
}

/// The base with the elements that the view shows replaced.
fn write_back(l: &mut Lowering, view: &View, base: &Value, value: &Value) -> Result<Value> {
    let b = &view.bound;
    match view.op.strip_prefix("aten::").unwrap_or(&view.op) {
        "view" | "_unsafe_view" | "reshape" | "flatten" | "squeeze" | "unsqueeze" | "unflatten" | "view_as"
        | "reshape_as" | "ravel" | "contiguous" | "detach" | "alias" | "lift_fresh"
            if value.dtype == base.dtype =>
        {
            l.reshape(value, &base.shape)
        }
        "permute" | "transpose" | "t" | "numpy_T" | "swapaxes" | "swapdims" | "mT" | "movedim" | "moveaxis" => {
            let order = super::ops::permutation(l, &view.op, b, base)?;
            let mut inverse = vec![0i64; order.len()];
            for (i, &o) in order.iter().enumerate() {
                if let Some(slot) = inverse.get_mut(o as usize) {
                    *slot = i as i64;
                }
            }
            l.transpose(value, &inverse)
        }
        "select" => {
            let axis = l.check_rank(base, b.int("dim")?)?;
            let at = l.wrap_index(&b.size("index")?, &base.shape[axis]);
            let value = l.unsqueeze(value, &[axis as i64])?;
            insert(l, base, &value, axis, &at)
        }
        "slice" | "narrow" | "split" | "split_with_sizes" | "chunk" | "unbind" | "tensor_split" => {
            part(l, view, base, value)
        }
        other => bail!(
            Unsupported,
            "writing in place through a view made by aten::{other} is not supported; write to a copy (clone()) instead"
        ),
    }
}

fn part(l: &mut Lowering, view: &View, base: &Value, value: &Value) -> Result<Value> {
    let b = &view.bound;
    let axis = l.check_rank(base, b.opt_int("dim")?.unwrap_or(0))?;
    let op = view.op.strip_prefix("aten::").unwrap_or(&view.op);
    match op {
        "slice" => {
            let step = b.int("step")?;
            let (start, end) = l.slice_bounds(b, &base.shape[axis])?;
            if step == 1 {
                return insert(l, base, value, axis, &start);
            }
            strided(l, base, value, axis, &start, &end, step)
        }
        "narrow" => {
            let start = l.wrap_index(&b.size("start")?, &base.shape[axis]);
            insert(l, base, value, axis, &start)
        }
        "unbind" => {
            let value = l.unsqueeze(value, &[axis as i64])?;
            insert(l, base, &value, axis, &SymInt::Known(view.index as i64))
        }
        _ => {
            let sizes = super::ops::part_sizes(l, &view.op, b, &base.shape[axis])?;
            let start = sizes.iter().take(view.index).fold(SymInt::Known(0), |s, n| s.plus(n));
            insert(l, base, value, axis, &start)
        }
    }
}

/// The base with `value` put at `start` along `axis`.
pub(super) fn insert(l: &mut Lowering, base: &Value, value: &Value, axis: usize, start: &SymInt) -> Result<Value> {
    let mut shape = base.shape.clone();
    if let Some(s) = shape.get_mut(axis) {
        *s = value.shape.get(axis).cloned().unwrap_or(SymInt::Known(1));
    }
    let value = l.cast(value, base.dtype)?;
    let value = l.expand_to(&value, &shape)?;
    let end = start.plus(&shape[axis]);
    let mut parts = Vec::new();
    if !start.is(0) {
        parts.push(l.slice(base, axis, &SymInt::Known(0), start, 1)?);
    }
    parts.push(value);
    if end != base.shape[axis] {
        parts.push(l.slice(base, axis, &end, &base.shape[axis].clone(), 1)?);
    }
    l.concat(&parts, axis)
}

/// The base with every `step`-th slice of a range replaced.
pub(super) fn strided(
    l: &mut Lowering,
    base: &Value,
    value: &Value,
    axis: usize,
    start: &SymInt,
    end: &SymInt,
    step: i64,
) -> Result<Value> {
    let (Some(from), Some(to)) = (start.known(), end.known()) else {
        bail!(Unsupported, "writing to every {step}th element of a range of unknown bounds is not supported");
    };
    let mut order: Vec<i64> = (0..base.rank() as i64).collect();
    order.remove(axis);
    order.insert(0, axis as i64);
    let mut inverse = vec![0i64; order.len()];
    order.iter().enumerate().for_each(|(i, &o)| inverse[o as usize] = i as i64);
    let rows: Vec<i64> = (from..to.max(from)).step_by(step.max(1) as usize).collect();
    let indices = l.vector(&rows);
    let indices = l.reshape(&indices, &[SymInt::Known(rows.len() as i64), SymInt::Known(1)])?;
    let front = l.transpose(base, &order)?;
    let update = l.transpose(value, &order)?;
    let front = l.node("ScatterND", &[&front, &indices, &update], vec![], base.dtype, front.shape.clone())?;
    l.node("Transpose", &[&front], vec![ints("perm", &inverse)], base.dtype, base.shape.clone())
}
