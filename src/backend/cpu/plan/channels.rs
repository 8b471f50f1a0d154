//! Images with their channels side by side: convolutions are computed over such images ([N, H, W, C]), so what flows from one
//! to the next stays turned, and operators between them take it as it is. Values keep their slots; a turned image has a
//! slot beside. Only where an operator wants planes is an image turned back.

use super::{Plan, Source, Step};
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::channels_last::layout::{to_first, to_last};
use crate::backend::cpu::kernels::program::Stage;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::ops::{ChannelsLast, Kernel, tensor_kernel};
use crate::backend::cpu::threads::Threads;
use crate::backend::cpu::value::Val;
use crate::bail;
use crate::hash::HashMap;
use crate::model::{DataType, Name};
use std::sync::Arc;

/// The steps (the plan's own where none are given) over turned images, with the slots and constants that they need added
/// to the plan; `None` if nothing in it draws turned images.
pub fn turn(plan: &mut Plan, steps: Option<&[Step]>, pool: &Arc<Pool>) -> Result<Option<Vec<Step>>> {
    let draws = |s: &Step| s.kernel.channels_last().is_some_and(|l| l.draws);
    if !steps.unwrap_or(&plan.steps).iter().any(draws) {
        return Ok(None);
    }
    let mut kept = vec![false; plan.slots];
    for source in &plan.outputs {
        if let Source::Slot { index, .. } = source {
            kept[*index] = true;
        }
    }
    let mut ready = vec![true; plan.slots];
    for output in plan.steps.iter().flat_map(|s| s.outputs.iter().flatten()) {
        ready[output.0] = false;
    }
    let alias = (0..plan.slots).collect();
    let own = std::mem::take(&mut plan.steps);
    let mut turning = Turning {
        plan,
        pool,
        kept,
        ready,
        alias,
        images: HashMap::default(),
        constants: HashMap::default(),
        made: Vec::new(),
    };
    let done = steps.unwrap_or(&own).iter().try_for_each(|step| turning.step(step));
    turning.outputs();
    let made = turning.made;
    plan.steps = own;
    done.map(|()| Some(made))
}

struct Turning<'p> {
    plan: &'p mut Plan,
    pool: &'p Arc<Pool>,
    /// Slots of outputs.
    kept: Vec<bool>,
    /// Slots that have their value as it was.
    ready: Vec<bool>,
    /// Slots whose value another one has.
    alias: Vec<usize>,
    /// Slot and rank of the turned image, by the value's own slot.
    images: HashMap<usize, (usize, usize)>,
    /// Constants as operands of images of a rank.
    constants: HashMap<(usize, usize), usize>,
    made: Vec<Step>,
}

impl Turning<'_> {
    fn step(&mut self, step: &Step) -> Result<()> {
        if self.transposed(step) {
            return Ok(());
        }
        let last = match (step.kernel.channels_last(), step.kernel.stage()) {
            (Some(last), _) => Some(last.clone()),
            (None, Some(_)) => Some(ChannelsLast { kernel: step.kernel.clone(), rank: None, draws: false }),
            _ => None,
        };
        if let Some(last) = last
            && let Some(inputs) = self.inputs(step, &last)?
        {
            let rank = self.rank(step, &last);
            let mut turned = Step { kernel: last.kernel, inputs, ..step.clone() };
            for (slot, _) in turned.outputs.iter_mut().flatten() {
                let image = self.slot();
                self.images.insert(*slot, (image, rank));
                *slot = image;
            }
            self.made.push(turned);
            return Ok(());
        }
        let mut plain = step.clone();
        for source in &mut plain.inputs {
            if let Source::Slot { index, .. } = source {
                *index = self.planes(*index);
            }
        }
        for (slot, _) in plain.outputs.iter().flatten() {
            self.ready[*slot] = true;
        }
        self.made.push(plain);
        Ok(())
    }

    fn slot(&mut self) -> usize {
        self.plan.slots += 1;
        self.alias.push(self.plan.slots - 1);
        self.ready.push(true);
        self.kept.push(false);
        self.plan.slots - 1
    }

    /// A transpose from or to planes is no step: its result is there already.
    fn transposed(&mut self, step: &Step) -> bool {
        let (Some(order), [Source::Slot { index, .. }], [Some((to, _))]) =
            (step.kernel.permutation(), &step.inputs[..], &step.outputs[..])
        else {
            return false;
        };
        let rank = order.len();
        if self.kept[*to] || rank < 3 {
            return false;
        }
        let order: Vec<usize> = order.iter().map(|&o| if o < 0 { o + rank as i64 } else { o } as usize).collect();
        let forward: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
        let back: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        match self.images.get(index) {
            Some(&(image, r)) if r == rank && order == forward => {
                self.alias[*to] = image;
                self.ready[*to] = true;
                true
            }
            // Among images: turned back only where somebody wants planes, who draws images takes the value itself.
            _ if order == back && self.ready[*index] && !self.images.is_empty() => {
                let image = self.alias[*index];
                self.images.insert(*to, (image, rank));
                true
            }
            _ => false,
        }
    }

    /// The rank of what a step makes.
    fn rank(&self, step: &Step, last: &ChannelsLast) -> usize {
        let of = |s: &Source| match s {
            Source::Slot { index, .. } => self.images.get(index).map(|i| i.1),
            _ => None,
        };
        last.rank.or_else(|| step.inputs.iter().find_map(of)).unwrap_or(0)
    }

    /// The inputs of the turned form, if they can be had.
    fn inputs(&mut self, step: &Step, last: &ChannelsLast) -> Result<Option<Vec<Source>>> {
        if step.outputs.iter().flatten().count() != 1 || !step.bodies.is_empty() {
            return Ok(None);
        }
        if let Some(rank) = last.rank {
            let Some(Source::Slot { index, .. }) = step.inputs.first().copied() else { return Ok(None) };
            let image = match self.images.get(&index) {
                Some(&(image, r)) if r == rank => image,
                None if last.draws => self.draw(index, rank, step)?,
                _ => return Ok(None),
            };
            let mut inputs = step.inputs.clone();
            inputs[0] = Source::Slot { index: image, last: false };
            for source in &mut inputs[1..] {
                if let Source::Slot { index, .. } = source {
                    *index = self.planes(*index);
                }
            }
            return Ok(Some(inputs));
        }
        // All that are no constants are images of one rank.
        let mut rank = None;
        for source in &step.inputs {
            if let Source::Slot { index, .. } = source {
                match self.images.get(index) {
                    Some(&(_, r)) if rank.is_none_or(|have| have == r) => rank = Some(r),
                    _ => return Ok(None),
                }
            }
        }
        let Some(rank) = rank else { return Ok(None) };
        // Parameters that count channels are no operands; slopes of one dimension mean channels.
        let operands = !matches!(step.kernel.stage(), None | Some(Stage::Channels { .. }));
        let operands = operands || step.op == "Concat";
        let mut inputs = Vec::with_capacity(step.inputs.len());
        for source in &step.inputs {
            inputs.push(match *source {
                Source::Absent => Source::Absent,
                Source::Slot { index, .. } => {
                    Source::Slot { index: self.images.get(&index).map_or(index, |i| i.0), last: false }
                }
                Source::Constant(i) if operands && step.op != "PRelu" => {
                    match self.operand(i, rank, step.op == "Concat")? {
                        Some(turned) => Source::Constant(turned),
                        None => return Ok(None),
                    }
                }
                Source::Constant(i) if operands => match &self.plan.constants[i] {
                    Val::Tensor(t) if t.rank() != 1 || t.len() == 1 => match self.operand(i, rank, false)? {
                        Some(turned) => Source::Constant(turned),
                        None => return Ok(None),
                    },
                    _ => return Ok(None),
                },
                Source::Constant(i) => Source::Constant(i),
            });
        }
        Ok(Some(inputs))
    }

    /// A constant as an operand of images.
    fn operand(&mut self, constant: usize, rank: usize, whole: bool) -> Result<Option<usize>> {
        let Val::Tensor(t) = &self.plan.constants[constant] else { return Ok(None) };
        if (t.len() == 1 && !whole) || t.rank() > rank {
            return Ok((t.rank() <= rank).then_some(constant));
        }
        if whole && t.rank() != rank {
            return Ok(None);
        }
        if let Some(&turned) = self.constants.get(&(constant, rank)) {
            return Ok(Some(turned));
        }
        let mut dims = vec![1; rank - t.rank()];
        dims.extend(t.dims());
        let threads = Threads::inline();
        let cx = Cx { pool: self.pool, threads: &threads, cancel: None, tap: None };
        let turned = to_last(&cx, &t.clone().reshaped(dims)?)?;
        self.plan.constants.push(Val::Tensor(turned));
        let turned = self.plan.constants.len() - 1;
        self.constants.insert((constant, rank), turned);
        Ok(Some(turned))
    }

    /// Turns a value for a step.
    fn draw(&mut self, index: usize, rank: usize, step: &Step) -> Result<usize> {
        let from = self.planes(index);
        let image = self.slot();
        let kernel = tensor_kernel(move |cx, inputs| {
            let x = inputs.take(0)?;
            if x.rank() != rank {
                bail!(ShapeMismatch, "an input of shape {:?} does not go with weights of rank {rank}", x.dims());
            }
            to_last(cx, &x)
        })?;
        self.reorder(kernel, step.input_types.first().copied().flatten(), from, image, &step.label);
        self.images.insert(index, (image, rank));
        Ok(image)
    }

    /// The slot that has a value as it was; a step that turns it back is made if need be.
    fn planes(&mut self, index: usize) -> usize {
        if !self.ready[index]
            && let Some(&(image, _)) = self.images.get(&index)
        {
            if let Ok(kernel) = tensor_kernel(|cx, inputs| to_first(cx, &inputs.take(0)?)) {
                self.reorder(kernel, None, image, index, "of an image");
            }
            self.ready[index] = true;
        }
        self.alias[index]
    }

    fn reorder(&mut self, kernel: Box<dyn Kernel>, dtype: Option<DataType>, from: usize, to: usize, label: &str) {
        self.made.push(Step {
            kernel: Arc::from(kernel),
            label: label.to_string(),
            name: Name::from(""),
            op: "Reorder".to_string(),
            inputs: vec![Source::Slot { index: from, last: false }],
            outputs: vec![Some((to, Name::from("")))],
            unread: Vec::new(),
            input_types: vec![dtype],
            output_types: vec![dtype],
            bodies: Vec::new(),
            deed: None,
            parts: Vec::new(),
        });
    }

    /// Outputs are given as they were.
    fn outputs(&mut self) {
        let outputs: Vec<usize> = (0..self.kept.len()).filter(|&i| self.kept[i]).collect();
        for index in outputs {
            self.planes(index);
        }
    }
}
