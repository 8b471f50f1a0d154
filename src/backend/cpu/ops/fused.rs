//! Several operators in one step: a product or convolution with the elementwise operators that follow it, or a chain of
//! elementwise operators. Where shapes or types turn out not to fit, the operators run one by one, as in the plan that is
//! not fused.

use super::{Inputs, Kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::broadcast;
use crate::backend::cpu::kernels::channels_last::dense;
use crate::backend::cpu::kernels::lane::Lane;
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::program::{Call, Finish, From, Program, Stage};
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::DataType;
use crate::{Result, err};
use half::{bf16, f16};
use std::sync::Arc;

/// An operator of a fused step.
pub struct Part {
    /// Its kernel, for itself.
    pub kernel: Arc<dyn Kernel>,
    /// How messages name its node.
    pub label: String,
    /// Its inputs; `None` where one is left out. Value 0 is the result of the head.
    pub inputs: Vec<Option<From>>,
}

/// A fused step. Its inputs are those of its parts that come from outside.
pub struct Fused {
    /// What makes the values: a product or a convolution. A chain of elementwise operators has none: there, value 0 is
    /// the input from outside number `base` or, if that is smaller than the output, the other one of the first part.
    pub head: Option<Part>,
    /// What is done to them, in order.
    pub parts: Vec<Part>,
}

/// How a head finishes its results.
pub struct Then<'a> {
    calls: Vec<Call<'a>>,
    outside: Vec<Option<&'a Tensor>>,
}

impl<'a> Then<'a> {
    fn bind(&self, dtype: DataType, dims: &[usize]) -> Result<Option<Box<dyn Finish + '_>>> {
        fn boxed<'p, T: Lane<C = f32>>(p: Option<Program<'p, T>>) -> Option<Box<dyn Finish + 'p>> {
            p.map(|p| Box::new(p) as Box<dyn Finish + 'p>)
        }
        let (calls, outside) = (&self.calls, &self.outside);
        Ok(match dtype {
            DataType::Float32 => boxed(Program::<f32>::bind(calls, outside, dims, true)?),
            DataType::Float16 => boxed(Program::<f16>::bind(calls, outside, dims, true)?),
            DataType::Bfloat16 => boxed(Program::<bf16>::bind(calls, outside, dims, true)?),
            _ => None,
        })
    }
}

/// What is done to results before they are stored: the stages of a fused step, or nothing.
pub struct Finishing<'a>(Option<Box<dyn Finish + 'a>>);

impl Finishing<'_> {
    /// True if nothing is done.
    pub fn is_nothing(&self) -> bool {
        self.0.is_none()
    }

    /// Works on the values of the elements from `at` on. Stages are of FP32 values; FP64 is never fused.
    #[inline]
    pub fn work_on<F: Float>(&self, at: usize, values: &mut [F]) {
        if let Some(finish) = &self.0
            && let Ok(values) = bytemuck::try_cast_slice_mut(values)
        {
            finish.apply(at, values);
        }
    }
}

impl<T: Lane<C: Float>> dense::FinishSums<T> for Finishing<'_> {
    fn apply(&self, at: usize, sums: &mut [T::C]) {
        self.work_on(at, sums);
    }

    fn store(&self, at: usize, sums: &mut [T::C], to: &mut [T]) {
        let stored = match &self.0 {
            Some(finish) => store_halves(finish.as_ref(), at, sums, to),
            None => false,
        };
        if !stored {
            self.work_on(at, sums);
            T::narrow(sums, to);
        }
    }
}

/// Works on values and stores them in one pass, if they are halves and that can be.
fn store_halves<T: Lane<C: Float>>(finish: &dyn Finish, at: usize, values: &mut [T::C], to: &mut [T]) -> bool {
    T::DTYPE == DataType::Float16
        && match (bytemuck::try_cast_slice_mut(values), bytemuck::try_cast_slice_mut(to)) {
            (Ok(values), Ok(to)) => finish.store(at, values, to),
            _ => false,
        }
}

/// The stages for an output of this type and shape; `None` if there are some that do not fit it.
pub fn finish<'a>(then: Option<&'a Then>, dtype: DataType, dims: &[usize]) -> Result<Option<Finishing<'a>>> {
    match then {
        None => Ok(Some(Finishing(None))),
        Some(then) => Ok(then.bind(dtype, dims)?.map(|f| Finishing(Some(f)))),
    }
}

impl Kernel for Fused {
    fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
        let done = match &self.head {
            Some(head) => self.finish_head(cx, head, inputs)?,
            None => self.chain(cx, inputs)?,
        };
        match done {
            Some(y) => Ok(vec![Val::Tensor(y)]),
            None => self.one_by_one(cx, inputs),
        }
    }
}

/// The tensors among the inputs, by number.
pub fn tensors(inputs: &Inputs) -> Vec<Option<&Tensor>> {
    (0..inputs.len()).map(|i| inputs.opt_value(i).and_then(|v| v.tensor().ok())).collect()
}

impl Fused {
    /// The parts' stages.
    fn calls(&self) -> Option<Vec<Call<'_>>> {
        self.parts
            .iter()
            .map(|p| {
                let stage = p.kernel.stage()?;
                let first = (*p.inputs.first()?)?;
                let second = match stage {
                    Stage::Binary(..) => (*p.inputs.get(1)?)?,
                    _ => first,
                };
                Some(Call { stage, inputs: [first, second] })
            })
            .collect()
    }

    fn finish_head(&self, cx: &Cx, head: &Part, inputs: &Inputs) -> Result<Option<Tensor>> {
        let Some(calls) = self.calls() else { return Ok(None) };
        let then = Then { calls, outside: tensors(inputs) };
        let own = head.inputs.iter().map(|i| match i {
            Some(From::Outside(o)) => inputs.opt_value(*o).cloned(),
            _ => None,
        });
        head.kernel.run_then(cx, &Inputs::new(own.collect()), &then).map_err(|e| named(head, e))
    }

    fn chain(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Option<Tensor>> {
        let Some(mut calls) = self.calls() else { return Ok(None) };
        let Some(first) = calls.first_mut() else { return Ok(None) };
        // The operand that is as large as the result becomes value 0.
        let all = tensors(inputs);
        let operand = |f: From| match f {
            From::Outside(o) => all.get(o).copied().flatten().map(|t| (o, t)),
            From::Value(_) => None,
        };
        let (Some(a), Some(b)) = (operand(first.inputs[0]), operand(first.inputs[1])) else { return Ok(None) };
        let Ok(dims) = broadcast::shape(&[a.1.dims(), b.1.dims()]) else { return Ok(None) };
        let (base, x) = match (a.1.dims() == dims, b.1.dims() == dims) {
            (true, _) => a,
            (_, true) => b,
            _ => return Ok(None),
        };
        let dtype = x.dtype();
        // Every use of the base is a use of value 0; what the parts make counts from 1 already.
        for call in &mut calls {
            for input in &mut call.inputs {
                if *input == From::Outside(base) {
                    *input = From::Value(0);
                }
            }
        }
        let mut x = inputs.take(base)?;
        let outside = tensors(inputs);
        let y = match dtype {
            DataType::Float32 => over::<f32>(cx, &calls, &outside, &mut x)?,
            DataType::Float16 => over::<f16>(cx, &calls, &outside, &mut x)?,
            DataType::Bfloat16 => over::<bf16>(cx, &calls, &outside, &mut x)?,
            _ => None,
        };
        if y.is_none() {
            inputs.put(base, Val::Tensor(x));
        }
        Ok(y)
    }

    /// The operators in order, each for itself. What is read for the last time goes to the operator, as in a plan that is not
    /// fused: it may write over it, and its memory is free afterwards.
    pub fn one_by_one(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
        let parts: Vec<&Part> = self.head.iter().chain(&self.parts).collect();
        let mut values: Vec<Option<Val>> = Vec::new();
        let offset = usize::from(self.head.is_none());
        for (i, part) in parts.iter().enumerate() {
            cx.check_cancelled()?;
            let mut own = Vec::with_capacity(part.inputs.len());
            for (k, from) in part.inputs.iter().enumerate() {
                let again =
                    part.inputs[k + 1..].iter().chain(parts[i + 1..].iter().flat_map(|p| &p.inputs)).any(|f| f == from);
                own.push(match from {
                    Some(From::Value(v)) if again => values.get(v - offset).cloned().flatten(),
                    Some(From::Value(v)) => values.get_mut(v - offset).and_then(Option::take),
                    Some(From::Outside(o)) if again => inputs.opt_value(*o).cloned(),
                    Some(From::Outside(o)) => inputs.take_value(*o).ok(),
                    None => None,
                });
            }
            let results = part.kernel.run(cx, &mut Inputs::new(own)).map_err(|e| named(part, e))?;
            values.push(results.into_iter().next());
        }
        let last = values.pop().flatten().ok_or_else(|| err!(Internal, "a fused step without operators"))?;
        Ok(vec![last])
    }
}

fn named(part: &Part, e: crate::Error) -> crate::Error {
    e.context(format_args!("node {}", part.label))
}

/// Elements that a task works on.
const PIECE: usize = 1 << 13;
/// Elements that are widened or copied at a time: they stay in the first-level cache, and calls are a small part.
const CHUNK: usize = 2048;

/// The stages over every element of `x`, in place where nobody else sees it.
fn over<T: Lane<C = f32>>(
    cx: &Cx,
    calls: &[Call],
    outside: &[Option<&Tensor>],
    x: &mut Tensor,
) -> Result<Option<Tensor>> {
    let dims = x.dims().to_vec();
    let Some(program) = Program::<T>::bind(calls, outside, &dims, false)? else { return Ok(None) };
    every(cx, &program, x, x.len() * 4 * calls.len()).map(Some)
}

/// An operator of two FP32 or FP16 tensors in registers; `None` if it is not known there, or what `other` is.
pub fn pair(cx: &Cx, call: Call, x: &mut Tensor, other: &Tensor) -> Result<Option<Tensor>> {
    fn of<T: Lane<C = f32>>(cx: &Cx, call: Call, x: &mut Tensor, other: &Tensor) -> Result<Option<Tensor>> {
        let dims = x.dims().to_vec();
        match Program::<T>::bind(&[call], &[Some(other)], &dims, false)?.filter(Program::in_registers) {
            Some(program) => every(cx, &program, x, x.len() * 2).map(Some),
            None => Ok(None),
        }
    }
    match x.dtype() {
        DataType::Float32 => of::<f32>(cx, call, x, other),
        DataType::Float16 => of::<f16>(cx, call, x, other),
        _ => Ok(None),
    }
}

/// A program over every element of `x`, in place where nobody else sees it.
fn every<T: Lane<C = f32>>(cx: &Cx, program: &Program<T>, x: &mut Tensor, work: usize) -> Result<Tensor> {
    let run = |at: usize, piece: &mut [T]| match T::direct_mut(piece) {
        Some(values) => program.apply(at, values),
        None => {
            let mut wide = [0f32; CHUNK];
            for (i, part) in piece.chunks_mut(CHUNK).enumerate() {
                let wide = &mut wide[..part.len()];
                T::widen(part, wide);
                if !store_halves(program, at + i * CHUNK, wide, part) {
                    program.apply(at + i * CHUNK, wide);
                    T::narrow(wide, part);
                }
            }
        }
    };
    if x.is_unique() {
        cx.threads.pieces(x.slice_mut::<T>()?, PIECE, work, |i, piece| run(i * PIECE, piece));
        return Ok(x.clone());
    }
    let mut y = Tensor::new(cx.pool, x.dtype(), x.dims().to_vec())?;
    let from = x.slice::<T>()?;
    cx.threads.pieces(y.slice_mut::<T>()?, PIECE, work, |i, piece| {
        for (k, part) in piece.chunks_mut(CHUNK).enumerate() {
            let at = i * PIECE + k * CHUNK;
            part.copy_from_slice(&from[at..at + part.len()]);
            run(at, part);
        }
    });
    Ok(y)
}
