//! Control flow: If, Loop and Scan run the plans of their subgraphs.

use super::axes::axis;
use super::{Built, Entry, Inputs, Kernel, NodeCx, entry};
use crate::backend::cpu::exec::{self, Cx};
use crate::backend::cpu::plan::Plan;
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::{AttributeValue, DataType, ValueInfo, ValueType};
use crate::{Result, bail, err};
use std::sync::Arc;

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("If", if_), entry("Loop", loop_), entry("Scan", scan)];

/// A loop that runs longer than this is taken for one that never ends.
const MAX_ITERATIONS: i64 = 100_000_000;

/// What an entry of a list of tensors takes beside the elements: the handle, its shape, and the room a growing list has.
pub const LISTED: usize = 256;

/// A subgraph and where its captures stand among the step's inputs.
#[derive(Clone)]
pub struct Subgraph {
    plan: Arc<Plan>,
    captures: std::ops::Range<usize>,
}

impl Subgraph {
    /// The subgraph of an attribute.
    pub fn find(cx: &NodeCx, attribute: &str) -> Result<Subgraph> {
        let mut at = cx.node.inputs.len();
        for body in cx.bodies {
            let end = at + body.captures();
            if &*body.attribute == attribute {
                return Ok(Subgraph { plan: body.plan.clone(), captures: at..end });
            }
            at = end;
        }
        bail!(InvalidModel, "its subgraph '{attribute}' is missing")
    }

    /// How many inputs the subgraph itself has.
    pub fn inputs(&self) -> usize {
        self.plan.inputs.len() - self.captures.len()
    }

    /// How many outputs it has.
    pub fn outputs(&self) -> usize {
        self.plan.outputs.len()
    }

    /// The captured values.
    pub fn captured(&self, inputs: &Inputs) -> Result<Vec<Val>> {
        self.captures.clone().map(|i| inputs.value(i).cloned()).collect()
    }

    /// Runs it with `given` and then `captured`.
    pub fn run(&self, cx: &Cx, given: Vec<Val>, captured: &[Val]) -> Result<Vec<Val>> {
        let mut all = given;
        all.extend_from_slice(captured);
        exec::run(&self.plan, cx, all)
    }
}

/// One truth value.
fn truth(v: &Val) -> Result<bool> {
    let t = v.tensor()?;
    if t.dtype() != DataType::Bool || t.len() != 1 {
        bail!(TypeMismatch, "a condition must be a single bool, but is {t:?}");
    }
    Ok(t.slice::<u8>()?[0] != 0)
}

struct If {
    then_branch: Subgraph,
    else_branch: Subgraph,
}

fn if_(cx: &NodeCx) -> Built {
    let (then_branch, else_branch) = (Subgraph::find(cx, "then_branch")?, Subgraph::find(cx, "else_branch")?);
    if then_branch.inputs() != 0 || else_branch.inputs() != 0 {
        bail!(InvalidModel, "its branches must have no inputs");
    }
    Ok(Box::new(If { then_branch, else_branch }))
}

impl Kernel for If {
    fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
        let branch = if truth(inputs.value(0)?)? { &self.then_branch } else { &self.else_branch };
        branch.run(cx, Vec::new(), &branch.captured(inputs)?)
    }
}

/// The type and shape that a subgraph declares for an output, unknown sizes taken as 0.
fn declared(cx: &NodeCx, attribute: &str) -> Vec<(Option<DataType>, Vec<usize>)> {
    let Some(AttributeValue::Graph(g)) = cx.node.attribute(attribute) else { return Vec::new() };
    let size = |info: &ValueInfo| -> (Option<DataType>, Vec<usize>) {
        let shape = info.ty.as_ref().and_then(ValueType::tensor_shape);
        let dims = shape.map(|s| s.iter().map(|d| d.size().and_then(|n| n.try_into().ok()).unwrap_or(0)).collect());
        (info.ty.as_ref().and_then(ValueType::tensor_dtype), dims.unwrap_or_default())
    };
    g.outputs.iter().map(size).collect()
}

struct Loop {
    body: Subgraph,
    /// Values carried from one iteration to the next.
    carried: usize,
    declared: Vec<(Option<DataType>, Vec<usize>)>,
}

fn loop_(cx: &NodeCx) -> Built {
    let body = Subgraph::find(cx, "body")?;
    let carried = cx.node.inputs.len().saturating_sub(2);
    if body.inputs() != carried + 2 || body.outputs() < carried + 1 {
        bail!(
            InvalidModel,
            "its body has {} inputs and {} outputs, which does not fit {carried} carried values",
            body.inputs(),
            body.outputs()
        );
    }
    Ok(Box::new(Loop { body, carried, declared: declared(cx, "body") }))
}

impl Kernel for Loop {
    fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
        let limit = match inputs.opt_ints(0)?.as_deref() {
            None => i64::MAX,
            Some([n]) => *n,
            Some(_) => bail!(ShapeMismatch, "its trip count must be a single number"),
        };
        let mut go = inputs.opt_value(1).map(truth).transpose()?.unwrap_or(true);
        let captured = self.body.captured(inputs)?;
        let mut carried = (2..2 + self.carried).map(|i| inputs.take_value(i)).collect::<Result<Vec<_>>>()?;
        let scans = self.body.outputs() - 1 - self.carried;
        let mut collected: Vec<Vec<Tensor>> = vec![Vec::new(); scans];
        let mut listed = cx.pool.charge(0)?;
        let mut i = 0i64;
        while go && i < limit {
            if i >= MAX_ITERATIONS {
                bail!(Execution, "the loop did not end within {MAX_ITERATIONS} iterations");
            }
            cx.check_cancelled()?;
            let number = Tensor::from_slice(cx.pool, DataType::Int64, vec![], &[i])?;
            let condition = Tensor::from_slice(cx.pool, DataType::Bool, vec![], &[1u8])?;
            let mut given = vec![Val::Tensor(number), Val::Tensor(condition)];
            given.append(&mut carried);
            let mut results = self.body.run(cx, given, &captured)?.into_iter();
            go = truth(&results.next().ok_or_else(|| err!(Internal, "the body has no outputs"))?)?;
            carried = results.by_ref().take(self.carried).collect();
            for (list, value) in collected.iter_mut().zip(results) {
                // The elements may be shared, and still the list grows with every round.
                listed.grow(LISTED)?;
                list.push(value.into_tensor()?);
            }
            i += 1;
        }
        for (k, list) in collected.into_iter().enumerate() {
            let declared = self.declared.get(1 + self.carried + k);
            carried.push(Val::Tensor(stack(cx, &list, 0, declared)?));
        }
        Ok(carried)
    }
}

/// Tensors joined along a new axis.
fn stack(cx: &Cx, list: &[Tensor], at: i64, declared: Option<&(Option<DataType>, Vec<usize>)>) -> Result<Tensor> {
    let Some(first) = list.first() else {
        let (dtype, dims) = declared.cloned().unwrap_or_default();
        let dtype =
            dtype.ok_or_else(|| err!(InvalidModel, "no iteration ran, and the body does not declare its outputs"))?;
        let mut all = dims;
        all.insert(axis(at, all.len() + 1)?, 0);
        return Tensor::new(cx.pool, dtype, all);
    };
    let at = axis(at, first.rank() + 1)?;
    let parts = list
        .iter()
        .map(|t| {
            let mut dims = t.dims().to_vec();
            dims.insert(at, 1);
            t.clone().reshaped(dims)
        })
        .collect::<Result<Vec<_>>>()?;
    super::layout::concat(cx, &parts.iter().collect::<Vec<_>>(), at)
}

struct Scan {
    body: Subgraph,
    states: usize,
    scans: usize,
    outputs: usize,
    input_axes: Vec<i64>,
    output_axes: Vec<i64>,
    input_reverse: Vec<bool>,
    output_reverse: Vec<bool>,
    declared: Vec<(Option<DataType>, Vec<usize>)>,
    /// Version 8: a batch in front, and sequence lengths as the first input.
    batched: bool,
}

fn scan(cx: &NodeCx) -> Built {
    let body = Subgraph::find(cx, "body")?;
    let batched = cx.opset < 9;
    let count = cx.int("num_scan_inputs", 0)?;
    let given = cx.node.inputs.len() - usize::from(batched && !cx.node.inputs.is_empty());
    let scans = usize::try_from(count).ok().filter(|n| *n > 0 && *n <= given);
    let scans = scans.ok_or_else(|| err!(InvalidModel, "its attribute 'num_scan_inputs' is {count}"))?;
    let states = given - scans;
    if body.inputs() != given || body.outputs() < states {
        bail!(InvalidModel, "its body has {} inputs and {} outputs", body.inputs(), body.outputs());
    }
    let outputs = body.outputs() - states;
    let list = |name: &str, n: usize| -> Result<Vec<i64>> {
        let list = cx.ints(name)?.unwrap_or_else(|| vec![0; n]);
        if list.len() != n {
            bail!(InvalidModel, "its attribute '{name}' has {} entries, but {n} are needed", list.len());
        }
        Ok(list)
    };
    let reverse = |name: &str, n: usize| Ok::<_, crate::Error>(list(name, n)?.iter().map(|&d| d != 0).collect());
    let input_directions = if batched { "directions" } else { "scan_input_directions" };
    Ok(Box::new(Scan {
        states,
        scans,
        outputs,
        input_axes: list("scan_input_axes", scans)?,
        output_axes: list("scan_output_axes", outputs)?,
        input_reverse: reverse(input_directions, scans)?,
        output_reverse: reverse("scan_output_directions", outputs)?,
        declared: declared(cx, "body"),
        body,
        batched,
    }))
}

impl Kernel for Scan {
    fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
        let captured = self.body.captured(inputs)?;
        if !self.batched {
            let states = (0..self.states).map(|i| inputs.take_value(i)).collect::<Result<Vec<_>>>()?;
            let scans = (self.states..self.states + self.scans).map(|i| inputs.take(i)).collect::<Result<Vec<_>>>()?;
            return self.one(cx, states, &scans, None, &captured);
        }
        let lengths = inputs.opt_ints(0)?;
        let all = (1..1 + self.states + self.scans).map(|i| inputs.take(i)).collect::<Result<Vec<_>>>()?;
        let batch = all.first().and_then(|t| t.dims().first().copied()).unwrap_or(0);
        if batch == 0 || all.iter().any(|t| t.dims().first() != Some(&batch)) {
            bail!(ShapeMismatch, "its inputs must have the same batch size, at least 1: {all:?}");
        }
        let mut results: Vec<Vec<Tensor>> = vec![Vec::new(); self.states + self.outputs];
        let mut listed = cx.pool.charge(0)?;
        for b in 0..batch {
            let row = |t: &Tensor| super::layout::part(cx, t, 0, b, 1)?.reshaped(t.dims()[1..].to_vec());
            let states = all[..self.states].iter().map(|t| row(t).map(Val::Tensor)).collect::<Result<Vec<_>>>()?;
            let scans = all[self.states..].iter().map(row).collect::<Result<Vec<_>>>()?;
            let length = lengths.as_ref().and_then(|l| l.get(b).copied());
            for (list, v) in results.iter_mut().zip(self.one(cx, states, &scans, length, &captured)?) {
                listed.grow(LISTED)?;
                list.push(v.into_tensor()?);
            }
        }
        results.iter().map(|list| stack(cx, list, 0, None).map(Val::Tensor)).collect()
    }
}

impl Scan {
    /// One sequence.
    fn one(
        &self,
        cx: &Cx,
        states: Vec<Val>,
        scans: &[Tensor],
        length: Option<i64>,
        captured: &[Val],
    ) -> Result<Vec<Val>> {
        let axes = scans.iter().zip(&self.input_axes).map(|(t, &a)| axis(a, t.rank())).collect::<Result<Vec<_>>>()?;
        let steps = scans.iter().zip(&axes).map(|(t, &a)| t.dims()[a]).min().unwrap_or(0);
        if scans.iter().zip(&axes).any(|(t, &a)| t.dims()[a] != steps) {
            bail!(ShapeMismatch, "its scan inputs are of different lengths: {scans:?}");
        }
        let wanted = length.map_or(steps, |l| usize::try_from(l).unwrap_or(0).min(steps));
        let mut states = states;
        let mut collected: Vec<Vec<Tensor>> = vec![Vec::new(); self.outputs];
        let mut listed = cx.pool.charge(0)?;
        for i in 0..wanted {
            cx.check_cancelled()?;
            for ((t, &a), &reverse) in scans.iter().zip(&axes).zip(&self.input_reverse) {
                let at = if reverse { steps - 1 - i } else { i };
                let mut dims = t.dims().to_vec();
                dims.remove(a);
                states.push(Val::Tensor(super::layout::part(cx, t, a, at, 1)?.reshaped(dims)?));
            }
            let mut results = self.body.run(cx, std::mem::take(&mut states), captured)?.into_iter();
            states = results.by_ref().take(self.states).collect();
            for (list, v) in collected.iter_mut().zip(results) {
                listed.grow(LISTED)?;
                list.push(v.into_tensor()?);
            }
        }
        for (k, mut list) in collected.into_iter().enumerate() {
            if self.output_reverse[k] {
                list.reverse();
            }
            states.push(Val::Tensor(stack(cx, &list, self.output_axes[k], self.declared.get(self.states + k))?));
        }
        Ok(states)
    }
}
