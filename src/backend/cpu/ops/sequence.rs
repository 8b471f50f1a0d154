//! Sequences and optionals.

use super::axes::axis;
use super::control::{LISTED, Subgraph};
use super::{Built, Entry, Inputs, Kernel, NodeCx, entry, kernel, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::DataType::{Bool, Int64};
use crate::{Result, bail, err};
use std::sync::Arc;

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("SequenceConstruct", construct),
    entry("SequenceEmpty", empty),
    entry("SequenceInsert", insert),
    entry("SequenceErase", erase),
    entry("SequenceAt", at),
    entry("SequenceLength", length),
    entry("SplitToSequence", split),
    entry("ConcatFromSequence", concat),
    entry("SequenceMap", map),
    entry("Optional", optional),
    entry("OptionalHasElement", has_element),
    entry("OptionalGetElement", get_element),
];

fn sequence(v: &Val) -> Result<&Vec<Val>> {
    match v {
        Val::Sequence(s) => Ok(s),
        // An optional sequence is taken as the sequence in it.
        Val::Optional(Some(v)) => match &**v {
            Val::Sequence(s) => Ok(s),
            other => Err(err!(TypeMismatch, "a sequence is needed, but the value is {}", other.kind())),
        },
        other => Err(err!(TypeMismatch, "a sequence is needed, but the value is {}", other.kind())),
    }
}

fn made(items: Vec<Val>) -> Result<Vec<Val>> {
    Ok(vec![Val::Sequence(Arc::new(items))])
}

/// A value on its way into a sequence or an optional. A loop could wrap its own result without end.
fn nested(value: Val) -> Result<Val> {
    value.check_nesting()?;
    Ok(value)
}

/// A position given as a single number; `end` is the first that does not exist.
fn position(inputs: &Inputs, i: usize, end: usize) -> Result<usize> {
    let [p] = inputs.ints(i)?[..] else { bail!(ShapeMismatch, "a position must be a single number") };
    let n = end as i64;
    let place = if p < 0 { p.saturating_add(n) } else { p };
    usize::try_from(place)
        .ok()
        .filter(|p| *p < end)
        .ok_or_else(|| err!(Execution, "position {p} is out of range for a sequence with {end} places"))
}

fn construct(cx: &NodeCx) -> Built {
    cx.check_inputs(1, usize::MAX)?;
    kernel(|_, inputs| made((0..inputs.len()).map(|i| nested(inputs.take_value(i)?)).collect::<Result<_>>()?))
}

fn empty(cx: &NodeCx) -> Built {
    cx.check_inputs(0, 0)?;
    kernel(|_, _| made(Vec::new()))
}

/// The items of the sequence, copied only if somebody else has it.
fn items(inputs: &mut Inputs, i: usize) -> Result<Vec<Val>> {
    sequence(inputs.value(i)?)?;
    Ok(match inputs.take_value(i)? {
        Val::Sequence(s) => Arc::unwrap_or_clone(s),
        other => sequence(&other)?.clone(),
    })
}

fn insert(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 3)?;
    kernel(|_, inputs| {
        let mut items = items(inputs, 0)?;
        let place = match inputs.opt_value(2) {
            None => items.len(),
            // Negative positions count from the end of what is there.
            Some(_) => {
                let [p] = inputs.ints(2)?[..] else { bail!(ShapeMismatch, "a position must be a single number") };
                let place = if p < 0 { p.saturating_add(items.len() as i64) } else { p };
                usize::try_from(place).ok().filter(|p| *p <= items.len()).ok_or_else(|| {
                    err!(Execution, "position {p} is out of range for a sequence of {} values", items.len())
                })?
            }
        };
        items.insert(place, nested(inputs.take_value(1)?)?);
        made(items)
    })
}

fn erase(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 2)?;
    kernel(|_, inputs| {
        let mut items = items(inputs, 0)?;
        let place = match inputs.opt_value(1) {
            Some(_) => position(inputs, 1, items.len())?,
            None => {
                items.len().checked_sub(1).ok_or_else(|| err!(Execution, "an empty sequence has nothing to erase"))?
            }
        };
        items.remove(place);
        made(items)
    })
}

fn at(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    kernel(|_, inputs| {
        let items = sequence(inputs.value(0)?)?;
        Ok(vec![items[position(inputs, 1, items.len())?].clone()])
    })
}

fn length(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    tensor_kernel(|cx, inputs| Tensor::from_slice(cx.pool, Int64, vec![], &[sequence(inputs.value(0)?)?.len() as i64]))
}

fn split(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 2)?;
    let at = cx.int("axis", 0)?;
    let keep = cx.flag("keepdims", true)?;
    kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let at = axis(at, x.rank())?;
        let n = x.dims()[at];
        let given = inputs.opt(1)?;
        // Pieces without elements take no other memory.
        let mut held = cx.pool.charge(0)?;
        let sizes: Vec<usize> = match given {
            None => {
                held.grow(n.saturating_mul(LISTED))?;
                vec![1; n]
            }
            Some(t) if t.rank() == 0 => {
                let [size] = inputs.ints(1)?[..] else { bail!(ShapeMismatch, "a size must be a single number") };
                let size = usize::try_from(size).ok().filter(|s| *s > 0);
                let size = size.ok_or_else(|| err!(Execution, "pieces must have at least one element"))?;
                held.grow(n.div_ceil(size).saturating_mul(LISTED))?;
                (0..n.div_ceil(size)).map(|i| size.min(n - i * size)).collect()
            }
            Some(_) => super::axes::shape(&inputs.ints(1)?)?,
        };
        if sizes.iter().fold(0usize, |a, &b| a.saturating_add(b)) != n {
            bail!(ShapeMismatch, "the sizes {sizes:?} do not cut axis {at} of shape {:?}", x.dims());
        }
        let mut from = 0;
        let items = sizes
            .iter()
            .map(|&size| {
                let part = super::layout::part(cx, x, at, from, size)?;
                from += size;
                if given.is_some() || keep {
                    return Ok(Val::Tensor(part));
                }
                let mut dims = part.dims().to_vec();
                dims.remove(at);
                part.reshaped(dims).map(Val::Tensor)
            })
            .collect::<Result<Vec<_>>>()?;
        made(items)
    })
}

fn concat(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let at = cx.opt_int("axis")?.ok_or_else(|| err!(InvalidModel, "its attribute 'axis' is missing"))?;
    let new = cx.flag("new_axis", false)?;
    tensor_kernel(move |cx, inputs| {
        let items = sequence(inputs.value(0)?)?;
        let mut parts = items.iter().map(|v| v.tensor().cloned()).collect::<Result<Vec<_>>>()?;
        let rank = parts.first().map_or(0, Tensor::rank) + usize::from(new);
        let at = axis(at, rank)?;
        if new {
            for p in &mut parts {
                let mut dims = p.dims().to_vec();
                dims.insert(at.min(dims.len()), 1);
                *p = p.clone().reshaped(dims)?;
            }
        }
        super::layout::concat(cx, &parts.iter().collect::<Vec<_>>(), at)
    })
}

struct Map {
    body: Subgraph,
    inputs: usize,
}

fn map(cx: &NodeCx) -> Built {
    cx.check_inputs(1, usize::MAX)?;
    let body = Subgraph::find(cx, "body")?;
    let inputs = cx.node.inputs.len();
    if body.inputs() != inputs {
        bail!(InvalidModel, "its body has {} inputs, but {inputs} are given", body.inputs());
    }
    Ok(Box::new(Map { body, inputs }))
}

impl Kernel for Map {
    fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
        let captured = self.body.captured(inputs)?;
        let n = sequence(inputs.value(0)?)?.len();
        let mut results: Vec<Vec<Val>> = vec![Vec::new(); self.body.outputs()];
        for i in 0..n {
            cx.check_cancelled()?;
            // Further inputs are sequences of the same length, or one value for all.
            let given = (0..self.inputs)
                .map(|k| match inputs.value(k)? {
                    Val::Sequence(s) => s.get(i).cloned().ok_or_else(|| {
                        err!(ShapeMismatch, "input {k} is a sequence of {} values, but input 0 has {n}", s.len())
                    }),
                    other => Ok(other.clone()),
                })
                .collect::<Result<Vec<_>>>()?;
            for (list, v) in results.iter_mut().zip(self.body.run(cx, given, &captured)?) {
                list.push(nested(v)?);
            }
        }
        Ok(results.into_iter().map(|list| Val::Sequence(Arc::new(list))).collect())
    }
}

fn optional(cx: &NodeCx) -> Built {
    cx.check_inputs(0, 1)?;
    kernel(|_, inputs| {
        let value = if inputs.is_empty() { None } else { Some(Box::new(nested(inputs.take_value(0)?)?)) };
        Ok(vec![Val::Optional(value)])
    })
}

fn has_element(cx: &NodeCx) -> Built {
    cx.check_inputs(0, 1)?;
    tensor_kernel(|cx, inputs| {
        let has = !matches!(inputs.opt_value(0), None | Some(Val::Optional(None)));
        Tensor::from_slice(cx.pool, Bool, vec![], &[u8::from(has)])
    })
}

fn get_element(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    kernel(|_, inputs| match inputs.take_value(0)? {
        Val::Optional(Some(v)) => Ok(vec![*v]),
        Val::Optional(None) => Err(err!(Execution, "the optional is empty")),
        other => Ok(vec![other]),
    })
}
