//! Which operators run as one step: a product or convolution and the elementwise operators after it, reductions and
//! softmax along rows and the elementwise operators and casts around them, or elementwise operators among themselves,
//! where nothing else needs the values between them.

use super::{Source, Step};
use crate::backend::cpu::kernels::program::{From, MAX_KEPT, Stage};
use crate::backend::cpu::ops::RowWork;
use crate::backend::cpu::ops::along_rows::AlongRows;
use crate::backend::cpu::ops::fused::{Fused, Part};
use crate::hash::HashMap;
use crate::model::DataType;
use std::sync::Arc;

/// Operators of one step at most.
const MAX_PARTS: usize = 24;

/// What a fused step begins with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// A product or convolution.
    Head,
    /// A reduction or softmax along rows, or a cast to FP32 before one.
    Rows,
    /// An elementwise operator.
    Chain,
}

impl Form {
    fn of(step: &Step) -> Option<Form> {
        match &step.kernel {
            k if k.is_head() => Some(Form::Head),
            _ if works_on_rows(step) || widens(step) => Some(Form::Rows),
            k if k.stage().is_some() => Some(Form::Chain),
            _ => None,
        }
    }

    /// True if a step may follow in such a group.
    fn takes(self, step: &Step) -> bool {
        match (self, step.kernel.stage()) {
            // Channels are no rows.
            (Form::Rows, Some(stage)) => !matches!(stage, Stage::Channels { .. }),
            (Form::Rows, None) => works_on_rows(step) || widens(step) || narrows(step),
            (_, stage) => stage.is_some(),
        }
    }
}

/// True if a step reduces or changes rows, as far as can be told without shapes.
fn works_on_rows(step: &Step) -> bool {
    step.kernel.row_work().is_some_and(|w| w.is_likely_last())
}

/// True if a step converts halves to FP32.
fn widens(step: &Step) -> bool {
    let half = step.input_types.first().copied().flatten().is_some_and(|t| t.is_half());
    half && step.kernel.float_cast() == Some(DataType::Float32)
}

/// True if a step converts FP32 to halves.
fn narrows(step: &Step) -> bool {
    let float = step.input_types.first() == Some(&Some(DataType::Float32));
    float && step.kernel.float_cast().is_some_and(|t| t.is_half())
}

/// The steps with operators fused; `None` if there is nothing to fuse.
pub fn fuse(steps: &[Step], slots: usize, outputs: &[Source]) -> Option<Vec<Step>> {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); slots];
    for (i, step) in steps.iter().enumerate() {
        for source in &step.inputs {
            if let Source::Slot { index, .. } = source {
                readers[*index].push(i);
            }
        }
    }
    let mut kept = vec![false; slots];
    for source in outputs {
        if let Source::Slot { index, .. } = source {
            kept[*index] = true;
        }
    }
    let mut taken = vec![false; steps.len()];
    let mut groups: HashMap<usize, (Form, Vec<usize>)> = HashMap::default();
    // Products first, so that an operator which several could take goes to the product.
    for form in [Form::Head, Form::Rows, Form::Chain] {
        for first in 0..steps.len() {
            if taken[first] || Form::of(&steps[first]) != Some(form) {
                continue;
            }
            let group = grow(steps, form, first, &readers, &kept, &taken);
            if group.len() > 1 {
                group.iter().for_each(|&i| taken[i] = true);
                groups.insert(group[group.len() - 1], (form, group));
            }
        }
    }
    if groups.is_empty() {
        return None;
    }
    let step = |i: usize| match groups.get(&i) {
        Some((form, group)) => Some(join(steps, *form, group)),
        None => (!taken[i]).then(|| steps[i].clone()),
    };
    Some((0..steps.len()).filter_map(step).collect())
}

/// The slot of a step's one output, if it is a tensor that stages can work on.
fn result(step: &Step) -> Option<usize> {
    let float = |t: &Option<DataType>| t.is_some_and(|t| t == DataType::Float32 || t.is_half());
    match (&step.outputs[..], &step.output_types[..]) {
        ([Some((slot, _))], [t, ..]) if float(t) => Some(*slot),
        _ => None,
    }
}

/// `first` and the steps after it that can be one step with it, in order.
fn grow(steps: &[Step], form: Form, first: usize, readers: &[Vec<usize>], kept: &[bool], taken: &[bool]) -> Vec<usize> {
    let head = &steps[first];
    let mut group = vec![first];
    let Some(slot) = result(head) else { return group };
    let dtype = head.output_types[0];
    let mut slots = vec![slot];
    // Where the group may end: there all values but the last are read within it alone.
    let mut best = 1;
    while group.len() < MAX_PARTS {
        let outside = |i: &&usize| !group.contains(i);
        let Some(&next) = slots.iter().flat_map(|&s| readers[s].iter().filter(outside)).min() else { break };
        let step = &steps[next];
        let fits = !taken[next] && form.takes(step) && step.bodies.is_empty();
        // Rows know the type of each of their values.
        let fits = fits && (form == Form::Rows || step.output_types[0] == dtype);
        let Some(slot) = result(step).filter(|_| fits) else { break };
        group.push(next);
        slots.push(slot);
        let inside = |s: &usize| !kept[*s] && readers[*s].iter().all(|r| group.contains(r));
        let whole = match form {
            // A number for each row is not the shape of the input.
            Form::Rows => makes_rows(steps, &group, &slots),
            _ => values_kept(steps, &group, &slots) <= MAX_KEPT,
        };
        if slots[..slots.len() - 1].iter().all(inside) && whole {
            best = group.len();
        }
    }
    group.truncate(best);
    group
}

/// True if the last step of a group over rows makes whole rows, and something is done along them.
fn makes_rows(steps: &[Step], group: &[usize], slots: &[usize]) -> bool {
    let base = steps[group[0]].inputs.first().copied();
    let mut rows: Vec<bool> = Vec::new();
    for &i in group {
        let whole = |s: &Source| match s {
            Source::Slot { index, .. } => slots.iter().position(|v| v == index).is_some_and(|v| rows[v]),
            _ => false,
        };
        let reads = |s: &Source| Some(*s) == base || whole(s);
        let reduces = matches!(steps[i].kernel.row_work(), Some(RowWork::Reduce(..)));
        rows.push(!reduces && steps[i].inputs.iter().any(reads));
    }
    rows.last() == Some(&true) && group.iter().any(|&i| steps[i].kernel.row_work().is_some())
}

/// How many values a later stage than the next one reads.
fn values_kept(steps: &[Step], group: &[usize], slots: &[usize]) -> usize {
    let late = |v: &usize| {
        group[*v + 1..]
            .iter()
            .skip(1)
            .any(|&i| steps[i].inputs.iter().any(|s| matches!(s, Source::Slot { index, .. } if *index == slots[*v])))
    };
    (0..slots.len()).filter(|v| *v + 1 < group.len() && late(v)).count()
}

/// One step out of several.
fn join(all: &[Step], form: Form, group: &[usize]) -> Step {
    let steps: Vec<&Step> = group.iter().map(|&i| &all[i]).collect();
    let head = form == Form::Head;
    // A chain's first operator makes value 1: value 0 is what it reads.
    let first = usize::from(!head);
    let values: HashMap<usize, usize> =
        steps.iter().enumerate().filter_map(|(i, s)| Some((result(s)?, i + first))).collect();
    let mut inputs: Vec<Source> = Vec::new();
    let mut input_types = Vec::new();
    let mut parts: Vec<Part> = steps
        .iter()
        .map(|step| {
            let from = |(k, source): (usize, &Source)| match source {
                Source::Absent => None,
                Source::Slot { index, .. } if values.contains_key(index) => Some(From::Value(values[index])),
                source => Some(From::Outside(inputs.iter().position(|s| s == source).unwrap_or_else(|| {
                    inputs.push(*source);
                    input_types.push(step.input_types.get(k).copied().flatten());
                    inputs.len() - 1
                }))),
            };
            Part {
                kernel: step.kernel.clone(),
                label: step.label.clone(),
                inputs: step.inputs.iter().enumerate().map(from).collect(),
            }
        })
        .collect();
    let last = steps[steps.len() - 1];
    let names: Vec<&str> = steps.iter().map(|s| s.op.as_str()).collect();
    let head = head.then(|| parts.remove(0));
    let fused = Fused { head, parts };
    Step {
        kernel: match form {
            Form::Rows => Arc::new(AlongRows(fused)),
            _ => Arc::new(fused),
        },
        // Errors name the operator within.
        label: steps[0].label.clone(),
        name: last.name.clone(),
        op: names.join("+"),
        inputs,
        outputs: last.outputs.clone(),
        unread: Vec::new(),
        input_types,
        output_types: last.output_types.clone(),
        bodies: Vec::new(),
        deed: None,
        parts: steps.iter().map(|s| s.name.clone()).collect(),
    }
}
