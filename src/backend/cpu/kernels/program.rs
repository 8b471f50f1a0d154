//! Elementwise operators run one after the other over a piece of a tensor while it is in the first-level cache: what a
//! fused step does to the results of a product or convolution, or to each element of a tensor. After every operator the
//! values are rounded to the tensors' type, so that the results are those of the operators one by one, bit for bit.

use super::broadcast::{self, Walk};
use super::elementwise::{Operand, Zip};
use super::lane::Lane;
use super::registers::{self, Arg, Op, Registers, repeated};
use super::simd::vectorize;
use crate::Result;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType;
use half::f16;
use std::cell::RefCell;

/// A change of values in place.
pub type Unary = Box<dyn Fn(&mut [f32]) + Send + Sync>;

/// What an operator does to the elements of FP32 or half tensors, in FP32.
pub enum Stage {
    /// Changes values in place: input 0. In registers, where it is known there.
    Unary(Unary, Option<Op>),
    /// Makes a value of two: inputs 0 and 1, broadcast.
    Binary(Zip<f32, f32>, Option<Op>),
    /// Factor and addend of each channel: input 0. Channels are dimension 1, or the last one.
    Channels { factors: Vec<f32>, addends: Vec<f32>, last: bool },
}

/// Where a stage finds an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The value that came in (0), or what stage `i - 1` made of it.
    Value(usize),
    /// A tensor from outside, by number.
    Outside(usize),
}

/// A stage with its inputs; a stage of one input has it twice.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// What it does.
    pub stage: &'a Stage,
    /// Where its inputs are.
    pub inputs: [From; 2],
}

/// Finishes pieces of an output.
pub trait Finish: Sync {
    /// Works on the values of the elements from `at` on, counted through the whole output.
    fn apply(&self, at: usize, values: &mut [f32]);

    /// Does so and stores them as halves, if it can do that in one pass over values of that type; else it does nothing and
    /// says so.
    fn store(&self, at: usize, values: &mut [f32], to: &mut [f16]) -> bool;
}

/// Elements that go through all stages at a time.
const CHUNK: usize = 512;
/// Values that are kept for a later stage than the next.
pub const MAX_KEPT: usize = 4;

type Chunk = [f32; CHUNK];

/// Stages bound to the tensors of one run, whose elements are of type `T`.
pub struct Program<'a, T> {
    stages: Vec<Bound<'a, T>>,
    /// Round the values that come in: they are results that have not been stored yet.
    fresh: bool,
    /// A buffer for each value that is needed after the next stage.
    kept: Vec<Option<usize>>,
    /// The same stages in registers, where they are known there.
    registers: Option<Registers<'a>>,
}

struct Bound<'a, T> {
    stage: &'a Stage,
    inputs: [Source<'a, T>; 2],
}

enum Source<'a, T> {
    Value(usize),
    One(f32),
    Tensor(&'a [T], Walk<1>),
    /// Channels have no tensor, just places.
    Places(Walk<1>),
}

impl<'a, T: Lane<C = f32>> Program<'a, T> {
    /// Binds stages to an output of shape `dims`; `None` unless every operand is of type `T` and broadcasts to it.
    pub fn bind(
        calls: &[Call<'a>],
        outside: &[Option<&'a Tensor>],
        dims: &[usize],
        fresh: bool,
    ) -> Result<Option<Self>> {
        let mut stages = Vec::with_capacity(calls.len());
        let mut kept = vec![None; calls.len() + 1];
        let mut count = 0;
        for (i, call) in calls.iter().enumerate() {
            let mut inputs = [Source::Value(0), Source::Value(0)];
            for (input, from) in inputs.iter_mut().zip(call.inputs) {
                *input = match from {
                    From::Value(v) => {
                        if v != i && kept[v].is_none() {
                            if count == MAX_KEPT {
                                return Ok(None);
                            }
                            kept[v] = Some(count);
                            count += 1;
                        }
                        Source::Value(v)
                    }
                    From::Outside(o) => match outside.get(o).copied().flatten() {
                        Some(t) if t.dtype() == T::DTYPE && broadcast::fits(t.dims(), dims) => match t.slice::<T>()? {
                            [one] => Source::One(one.get()),
                            all => Source::Tensor(all, Walk::new(dims, [t.dims()])),
                        },
                        _ => return Ok(None),
                    },
                };
            }
            if let Stage::Channels { factors, last, .. } = call.stage {
                let at = if *last { dims.len().wrapping_sub(1) } else { 1 };
                if dims.len() < 2 || dims.get(at) != Some(&factors.len()) {
                    return Ok(None);
                }
                let mut channels = vec![1; dims.len() - 1];
                channels[at - 1] = factors.len();
                inputs[1] = Source::Places(Walk::new(dims, [&channels]));
            }
            stages.push(Bound { stage: call.stage, inputs });
        }
        let registers = in_registers(&stages, &kept, fresh);
        Ok(Some(Program { stages, fresh, kept, registers }))
    }

    /// True if all stages run in registers.
    pub fn in_registers(&self) -> bool {
        self.registers.is_some()
    }
}

/// The stages in registers. Operands of FP32 and FP16 are read there; BF16 is rounded in pieces.
fn in_registers<'a, T: Lane<C = f32>>(
    stages: &[Bound<'a, T>],
    kept: &[Option<usize>],
    fresh: bool,
) -> Option<Registers<'a>> {
    let known = |b: &Bound<T>| match b.stage {
        Stage::Unary(_, op) | Stage::Binary(_, op) => *op,
        Stage::Channels { last, .. } => last.then_some(Op::Affine),
    };
    if !matches!(T::DTYPE, DataType::Float32 | DataType::Float16) || !stages.iter().all(|b| known(b).is_some()) {
        return None;
    }
    let mut row = 0;
    let mut ops = Vec::with_capacity(stages.len());
    for (i, bound) in stages.iter().enumerate() {
        let mut arg = |source: &Source<'a, T>| match source {
            Source::Value(v) if *v == i => Some(Arg::Current),
            Source::Value(v) => kept[*v].map(Arg::Kept),
            Source::One(v) => Some(Arg::One(*v)),
            Source::Tensor(all, walk) => Arg::of(all, walk, &mut row),
            Source::Places(_) => None,
        };
        let [first, second] = &bound.inputs;
        let args = match bound.stage {
            Stage::Unary(..) => [arg(first)?, Arg::Current, Arg::Current],
            Stage::Binary(..) => [arg(first)?, arg(second)?, Arg::Current],
            Stage::Channels { factors, addends, .. } => {
                let first = arg(first)?;
                if row != 0 && row != factors.len() {
                    return None;
                }
                row = factors.len();
                [first, Arg::Row(repeated(factors.clone())), Arg::Row(repeated(addends.clone()))]
            }
        };
        ops.push(registers::Bound { op: known(bound)?, args, keep: kept[i + 1] });
    }
    let half = T::DTYPE == DataType::Float16;
    Some(Registers { ops, half, fresh, keep: kept[0], row }).filter(|r| !r.ops.is_empty())
}

impl<T: Lane<C = f32>> Finish for Program<'_, T> {
    fn apply(&self, at: usize, values: &mut [f32]) {
        if let Some(registers) = &self.registers {
            return registers.apply(at, values);
        }
        BUFFERS.with_borrow_mut(|buffers| {
            for (i, values) in values.chunks_mut(CHUNK).enumerate() {
                self.chunk(at + i * CHUNK, values, buffers);
            }
        });
    }

    fn store(&self, at: usize, values: &mut [f32], to: &mut [f16]) -> bool {
        match &self.registers {
            Some(registers) if registers.half => registers.store(at, values, to),
            _ => return false,
        }
        true
    }
}

/// Memory of one thread, so that short pieces need not clear it.
struct Buffers {
    kept: [Chunk; MAX_KEPT],
    other: Chunk,
    wide: Chunk,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> =
        const { RefCell::new(Buffers { kept: [[0.0; CHUNK]; MAX_KEPT], other: [0.0; CHUNK], wide: [0.0; CHUNK] }) };
}

impl<T: Lane<C = f32>> Program<'_, T> {
    fn chunk(&self, at: usize, values: &mut [f32], buffers: &mut Buffers) {
        let n = values.len();
        if self.fresh {
            T::round(values);
        }
        if let Some(k) = self.kept[0] {
            buffers.kept[k][..n].copy_from_slice(values);
        }
        for (i, bound) in self.stages.iter().enumerate() {
            let keep = |v: usize| self.kept[v].unwrap_or_default();
            match (bound.stage, &bound.inputs) {
                (Stage::Unary(f, _), [from, _]) => {
                    if let Source::Value(v) = from
                        && *v != i
                    {
                        values.copy_from_slice(&buffers.kept[keep(*v)][..n]);
                    }
                    f(values);
                }
                (Stage::Channels { factors, addends, .. }, [from, places]) => {
                    if let Source::Value(v) = from
                        && *v != i
                    {
                        values.copy_from_slice(&buffers.kept[keep(*v)][..n]);
                    }
                    if let Source::Places(walk) = places {
                        let [step] = walk.inner_strides();
                        walk.runs(at, n, |run, len, [channel]| {
                            let values = &mut values[run - at..][..len];
                            affine(values, &factors[channel..], &addends[channel..], step != 0);
                        });
                    }
                }
                (Stage::Binary(f, _), inputs) => {
                    // The value of the stage before is read from a copy, because the result takes its place.
                    let reads = |v: usize| {
                        matches!(inputs, [Source::Value(a), _] if *a == v)
                            || matches!(inputs, [_, Source::Value(b)] if *b == v)
                    };
                    if reads(i) {
                        buffers.other[..n].copy_from_slice(values);
                    }
                    let side = |source: &Source<T>| match source {
                        Source::Value(v) if *v == i => Side::Ready(&buffers.other[..n]),
                        Source::Value(v) => Side::Ready(&buffers.kept[keep(*v)][..n]),
                        Source::One(v) => Side::One(*v),
                        Source::Tensor(..) | Source::Places(_) => Side::Walked,
                    };
                    let sides = [side(&inputs[0]), side(&inputs[1])];
                    match (&sides, inputs) {
                        ([a, Side::Walked], [_, Source::Tensor(all, walk)]) => {
                            walked(at, values, all, walk, &mut buffers.wide, |run, b, out| f(a.part(run), b, out));
                        }
                        ([Side::Walked, b], [Source::Tensor(all, walk), _]) => {
                            walked(at, values, all, walk, &mut buffers.wide, |run, a, out| f(a, b.part(run), out));
                        }
                        ([a, b], _) => f(a.part(0..n), b.part(0..n), values),
                    }
                }
            }
            // The last result is rounded when it is stored.
            if i + 1 < self.stages.len() {
                T::round(values);
                if let Some(k) = self.kept[i + 1] {
                    buffers.kept[k][..n].copy_from_slice(values);
                }
            }
        }
    }
}

/// One side of a binary stage within a chunk.
enum Side<'a> {
    Ready(&'a [f32]),
    One(f32),
    Walked,
}

impl Side<'_> {
    fn part(&self, run: std::ops::Range<usize>) -> Operand<'_, f32> {
        match self {
            Side::Ready(all) => Operand::Many(&all[run]),
            Side::One(v) => Operand::One(*v),
            Side::Walked => Operand::One(f32::NAN),
        }
    }
}

/// Calls `f(place in the chunk, operand, values)` for each run of a tensor's elements.
fn walked<T: Lane<C = f32>>(
    at: usize,
    values: &mut [f32],
    all: &[T],
    walk: &Walk<1>,
    wide: &mut Chunk,
    f: impl Fn(std::ops::Range<usize>, Operand<f32>, &mut [f32]),
) {
    let [step] = walk.inner_strides();
    let n = values.len();
    walk.runs(at, n, |run, len, [from]| {
        let place = run - at..run - at + len;
        let out = &mut values[place.clone()];
        if step == 0 {
            return f(place, Operand::One(all[from].get()), out);
        }
        let part = &all[from..from + len];
        match T::direct(part) {
            Some(direct) => f(place, Operand::Many(direct), out),
            None => {
                T::widen(part, &mut wide[..len]);
                f(place, Operand::Many(&wide[..len]), out);
            }
        }
    });
}

/// `v * factor + addend`, of one channel for all values or of one channel each.
fn affine(values: &mut [f32], factors: &[f32], addends: &[f32], each: bool) {
    vectorize(|| match each {
        true => values.iter_mut().zip(factors).zip(addends).for_each(|((v, &a), &b)| *v = *v * a + b),
        false => {
            let (a, b) = (factors[0], addends[0]);
            values.iter_mut().for_each(|v| *v = *v * a + b);
        }
    });
}

#[cfg(test)]
mod tests;
