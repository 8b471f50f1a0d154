//! Means, sums and the like along the last dimension and the elementwise operators around them as one step: a layer
//! normalisation that a model spells out in nine operators, for example. A block of rows goes through all operators while it
//! is in the first-level cache. After every operator values are rounded to the tensors' type, so that the results are
//! those of the operators one by one, bit for bit; where shapes do not fit, the operators run so.

use super::fused::{Fused, Part, tensors};
use super::reduce::RowReduction;
use super::{Inputs, Kernel};
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::broadcast;
use crate::backend::cpu::kernels::elementwise::{Operand, Zip};
use crate::backend::cpu::kernels::lane::Lane;
use crate::backend::cpu::kernels::program::{From, Stage, Unary};
use crate::backend::cpu::kernels::registers::Op;
use crate::backend::cpu::kernels::row_steps::{self, Place, Reduce, RowSteps};
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::DataType;
use half::{bf16, f16};

/// Elements of a block of rows.
const BLOCK: usize = 2048;
/// Rows that are longer go through the operators one by one: buffers of them would neither stay in a cache nor be small beside
/// the tensors.
const LONGEST: usize = 1 << 14;
/// Elements that a task works on, about.
const PIECE: usize = 2048;

/// Elements of a block of whole rows of `n`.
fn block_of(n: usize) -> usize {
    (BLOCK / n).max(1) * n
}

/// Operators over rows. Part 0 is a reduction of the input from outside that it names; every part's value counts from 1.
pub struct AlongRows(pub Fused);

impl Kernel for AlongRows {
    fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
        match self.rows(cx, inputs)? {
            Some(y) => Ok(vec![Val::Tensor(y)]),
            None => self.0.one_by_one(cx, inputs),
        }
    }
}

impl AlongRows {
    fn rows(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Option<Tensor>> {
        let Some(Some(From::Outside(base))) = self.0.parts.first().and_then(|p| p.inputs.first()) else {
            return Ok(None);
        };
        let Some(dtype) = tensors(inputs).get(*base).copied().flatten().map(Tensor::dtype) else { return Ok(None) };
        match dtype {
            DataType::Float32 => self.over::<f32>(cx, inputs, *base),
            DataType::Float16 => self.over::<f16>(cx, inputs, *base),
            DataType::Bfloat16 => self.over::<bf16>(cx, inputs, *base),
            _ => Ok(None),
        }
    }

    fn over<T: Lane<C = f32>>(&self, cx: &Cx, inputs: &mut Inputs, base: usize) -> Result<Option<Tensor>> {
        let mut x = inputs.take(base)?;
        let outside = tensors(inputs);
        let Some(program) = Program::<T>::bind(&self.0.parts, &outside, base, x.dims())? else {
            inputs.put(base, Val::Tensor(x));
            return Ok(None);
        };
        let n = program.n;
        let work = x.len() * 4 * program.steps.len();
        let piece = (PIECE / n).max(1) * n;
        if x.is_unique() {
            cx.threads.pieces(x.slice_mut::<T>()?, piece, work, |i, out| program.run(i * piece, None, out));
            return Ok(Some(x));
        }
        let mut y = Tensor::new(cx.pool, x.dtype(), x.dims().to_vec())?;
        let from = x.slice::<T>()?;
        cx.threads.pieces(y.slice_mut::<T>()?, piece, work, |i, out| program.run(i * piece, Some(from), out));
        Ok(Some(y))
    }
}

/// An operand of a step.
enum Side<'a, T> {
    At(Place),
    One(f32),
    /// The same row for each row of a block, widened.
    Row(Vec<f32>),
    /// A tensor of the shape of the whole.
    Whole(&'a [T]),
}

enum Action<'a> {
    Unary(&'a Unary, Option<Op>),
    Binary(Zip<f32, f32>, Option<Op>),
    Reduce(&'a RowReduction),
}

struct Step<'a, T> {
    action: Action<'a>,
    sides: [Side<'a, T>; 2],
    to: Place,
}

impl<T> Step<'_, T> {
    fn in_registers(&self) -> Option<row_steps::Step<'_, T>> {
        let action = match &self.action {
            Action::Unary(_, op) | Action::Binary(_, op) => row_steps::Action::Op((*op)?),
            Action::Reduce(r) => row_steps::Action::Reduce(*r),
        };
        Some(row_steps::Step { action, sides: self.sides.each_ref().map(Side::in_registers), to: self.to })
    }
}

impl<T> Side<'_, T> {
    fn in_registers(&self) -> row_steps::Side<'_, T> {
        match self {
            Side::At(place) => row_steps::Side::At(*place),
            Side::One(v) => row_steps::Side::One(*v),
            Side::Row(row) => row_steps::Side::Row(row),
            Side::Whole(all) => row_steps::Side::Whole(all),
        }
    }
}

/// The parts bound to the tensors of one run.
struct Program<'a, T> {
    steps: Vec<Step<'a, T>>,
    /// Buffers of each kind.
    buffers: [usize; 2],
    /// Length of a row.
    n: usize,
    /// The buffer of the result.
    result: usize,
}

impl<'a, T: Lane<C = f32>> Program<'a, T> {
    /// `None` unless every operand is of type `T` and fits rows of the input `base`, whose shape is `dims`.
    fn bind(parts: &'a [Part], outside: &[Option<&'a Tensor>], base: usize, dims: &[usize]) -> Result<Option<Self>> {
        let Some(&n) = dims.last() else { return Ok(None) };
        if n > LONGEST || dims.contains(&0) {
            return Ok(None);
        }
        let last = |value: usize| {
            let is = |f: &Option<From>| match f {
                Some(From::Value(v)) => *v == value,
                Some(From::Outside(o)) => value == 0 && *o == base,
                None => false,
            };
            parts.iter().rposition(|p| p.inputs.iter().any(is))
        };
        // Value 0 is the input.
        let mut places = vec![Place::Row(0)];
        let mut free: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
        let mut buffers = [1, 0];
        let mut steps = Vec::with_capacity(parts.len());
        for (i, part) in parts.iter().enumerate() {
            let side = |f: Option<From>| -> Result<Option<Side<'a, T>>> {
                Ok(match f {
                    Some(From::Value(v)) => places.get(v).map(|p| Side::At(*p)),
                    Some(From::Outside(o)) if o == base => Some(Side::At(places[0])),
                    Some(From::Outside(o)) => match outside.get(o).copied().flatten() {
                        Some(t) if t.dtype() == T::DTYPE && broadcast::fits(t.dims(), dims) => operand(t, dims)?,
                        _ => None,
                    },
                    None => None,
                })
            };
            let Some(first) = side(part.inputs.first().copied().flatten())? else { return Ok(None) };
            let made = matches!(first, Side::At(_));
            let (action, second) = match (part.kernel.row_reduction(), part.kernel.stage()) {
                (Some(r), _) if made && r.is_last_of(dims.len()) => (Action::Reduce(r), Side::One(0.0)),
                (None, Some(Stage::Unary(f, op))) if made => (Action::Unary(f, *op), Side::One(0.0)),
                (None, Some(Stage::Binary(f, op))) => match side(part.inputs.get(1).copied().flatten())? {
                    Some(second) => (Action::Binary(*f, *op), second),
                    None => return Ok(None),
                },
                _ => return Ok(None),
            };
            let number = |s: &Side<T>| matches!(s, Side::At(Place::Number(_)) | Side::One(_));
            let kind = match &action {
                // A reduction of one number a row is another operator than it was taken for.
                Action::Reduce(_) if number(&first) => return Ok(None),
                Action::Reduce(_) => 1,
                _ => usize::from(number(&first) && number(&second)),
            };
            let buffer = free[kind].pop().unwrap_or_else(|| {
                buffers[kind] += 1;
                buffers[kind] - 1
            });
            places.push(if kind == 0 { Place::Row(buffer) } else { Place::Number(buffer) });
            for (value, place) in places.iter().enumerate().take(i + 1) {
                if last(value) == Some(i) {
                    match *place {
                        Place::Row(b) => free[0].push(b),
                        Place::Number(b) => free[1].push(b),
                    }
                }
            }
            steps.push(Step { action, sides: [first, second], to: places[i + 1] });
        }
        Ok(match places.last() {
            Some(&Place::Row(result)) if !steps.is_empty() => Some(Program { steps, buffers, n, result }),
            _ => None,
        })
    }

    /// The same steps in registers, if all of them are known there; BF16 is rounded in blocks.
    fn in_registers(&self) -> Option<Vec<row_steps::Step<'_, T>>> {
        if !matches!(T::DTYPE, DataType::Float32 | DataType::Float16) {
            return None;
        }
        self.steps.iter().map(Step::in_registers).collect()
    }

    /// Rows from element `at` on, of `from` or of `out` itself, to `out`.
    fn run(&self, at: usize, from: Option<&[T]>, out: &mut [T]) {
        if let Some(steps) = self.in_registers() {
            return RowSteps { steps, places: self.buffers, n: self.n, result: self.result }.run(at, from, out);
        }
        let n = self.n;
        let block = block_of(n);
        let mut rows: Vec<Vec<f32>> = vec![vec![0.0; block]; self.buffers[0]];
        let mut numbers: Vec<Vec<f32>> = vec![vec![0.0; block / n]; self.buffers[1]];
        let mut spare = [vec![0.0; block], vec![0.0; block]];
        for (i, out) in out.chunks_mut(block).enumerate() {
            let (at, len) = (at + i * block, out.len());
            match from {
                Some(from) => T::widen(&from[at..at + len], &mut rows[0][..len]),
                None => T::widen(out, &mut rows[0][..len]),
            }
            for step in &self.steps {
                // The result's buffer is none of the operands'.
                let (all, to, count) = match step.to {
                    Place::Row(b) => (&mut rows, b, len),
                    Place::Number(b) => (&mut numbers, b, len / n),
                };
                let mut made = std::mem::take(&mut all[to]);
                self.step(step, at, &rows, &numbers, &mut spare, &mut made[..count]);
                T::round(&mut made[..count]);
                match step.to {
                    Place::Row(b) => rows[b] = made,
                    Place::Number(b) => numbers[b] = made,
                }
            }
            T::narrow(&rows[self.result][..len], out);
        }
    }

    /// `spare` has a block for each side, where what is not there for each element is laid out.
    fn step(
        &self,
        step: &Step<T>,
        at: usize,
        rows: &[Vec<f32>],
        numbers: &[Vec<f32>],
        spare: &mut [Vec<f32>; 2],
        made: &mut [f32],
    ) {
        let (n, count) = (self.n, made.len());
        let of = |place: Place| match place {
            Place::Row(b) => &rows[b][..],
            Place::Number(b) => &numbers[b][..],
        };
        match (&step.action, &step.sides) {
            (Action::Reduce(r), [Side::At(place), _]) => {
                made.iter_mut().zip(of(*place).chunks(n)).for_each(|(m, row)| *m = r.of(row));
            }
            (Action::Unary(f, _), [Side::At(place), _]) => {
                made.copy_from_slice(&of(*place)[..count]);
                f(made);
            }
            (Action::Binary(f, _), sides) => {
                for (side, spare) in sides.iter().zip(spare.iter_mut()) {
                    match *side {
                        Side::Whole(all) => T::widen(&all[at..at + count], &mut spare[..count]),
                        Side::At(Place::Number(b)) if matches!(step.to, Place::Row(_)) => {
                            spare[..count].chunks_mut(n).zip(&numbers[b]).for_each(|(row, &v)| row.fill(v));
                        }
                        _ => {}
                    }
                }
                let side = |i: usize| match &sides[i] {
                    &Side::One(v) => Operand::One(v),
                    Side::Row(row) => Operand::Many(&row[..count]),
                    &Side::At(place) if std::mem::discriminant(&place) == std::mem::discriminant(&step.to) => {
                        Operand::Many(&of(place)[..count])
                    }
                    Side::Whole(_) | Side::At(_) => Operand::Many(&spare[i][..count]),
                };
                f(side(0), side(1), made);
            }
            // Bound to values of the block alone.
            (Action::Reduce(_) | Action::Unary(..), _) => unreachable!("an operator of one input over an operand"),
        }
    }
}

/// A tensor from outside that broadcasts to rows: one number, one row or all of them.
fn operand<'a, T: Lane<C = f32>>(t: &'a Tensor, dims: &[usize]) -> Result<Option<Side<'a, T>>> {
    let values = t.slice::<T>()?;
    Ok(match values {
        [one] => Some(Side::One(one.get())),
        all if t.dims() == dims => Some(Side::Whole(all)),
        all if all.len() == dims[dims.len() - 1] && t.dims().last() == dims.last() => {
            let mut block = vec![0.0; block_of(all.len())];
            block.chunks_mut(all.len()).for_each(|row| T::widen(all, row));
            Some(Side::Row(block))
        }
        _ => None,
    })
}
