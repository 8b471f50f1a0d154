//! Means, softmax and the like along the last dimension and the elementwise operators around them as one step: a layer
//! normalisation that a model spells out in nine operators, for example, with the casts that keep it in FP32 in an FP16 model. A
//! block of rows goes through all operators while it is in the first-level cache. After every operator its values are rounded
//! to their tensor's type, so that the results are those of the operators one by one, bit for bit; where shapes do not fit, the
//! operators run so.

use super::fused::{Fused, Part, tensors};
use super::{Inputs, Kernel, RowWork};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::broadcast;
use crate::backend::cpu::kernels::elementwise::{Operand, Zip};
use crate::backend::cpu::kernels::floats::{Floats, round};
use crate::backend::cpu::kernels::lane::Lane;
use crate::backend::cpu::kernels::program::{From, Stage, Unary};
use crate::backend::cpu::kernels::registers::Op;
use crate::backend::cpu::kernels::row_steps::{self, Change, Place, Reduce, RowSteps};
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::DataType::{self, Bfloat16, Float16, Float32};
use crate::{Result, bail};
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

/// Operators over rows. Part 0 reads the input from outside that the rows are of; every part's value counts from 1.
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
        if tensors(inputs).get(*base).copied().flatten().is_none() {
            return Ok(None);
        }
        let mut x = inputs.take(*base)?;
        let outside = tensors(inputs);
        let Some(program) = Program::bind(&self.0.parts, &outside, *base, &x)? else {
            inputs.put(*base, Val::Tensor(x));
            return Ok(None);
        };
        if x.is_unique() && x.dtype() == program.dtype {
            program.over(cx, None, &mut x)?;
            return Ok(Some(x));
        }
        let mut y = Tensor::new(cx.pool, program.dtype, x.dims().to_vec())?;
        program.over(cx, Floats::of(&x)?, &mut y)?;
        Ok(Some(y))
    }
}

/// An operand of a step.
enum Side<'a> {
    At(Place),
    One(f32),
    /// The same row for each row, widened, repeated for as many as go together.
    Row(Vec<f32>),
    /// A tensor of the shape of the whole, or of its last dimensions: a mask that is the same for all heads.
    Whole(Floats<'a>),
}

enum Action<'a> {
    Unary(&'a Unary, Option<Op>),
    Binary(Zip<f32, f32>, Option<Op>),
    Reduce(&'a dyn Reduce),
    Change(&'a dyn Change),
    /// A cast to a smaller type; one to a larger type is no step.
    Round,
}

struct Step<'a> {
    action: Action<'a>,
    sides: [Side<'a>; 2],
    to: Place,
    /// Of the result.
    dtype: DataType,
}

impl Step<'_> {
    /// BF16 is rounded in blocks.
    fn in_registers(&self) -> Option<row_steps::Step<'_>> {
        let action = match &self.action {
            Action::Unary(_, op) | Action::Binary(_, op) => row_steps::Action::Op((*op)?),
            Action::Reduce(r) => row_steps::Action::Reduce(*r),
            Action::Change(c) => row_steps::Action::Change(*c),
            Action::Round => row_steps::Action::Round,
        };
        let sides = self.sides.each_ref().map(Side::in_registers);
        (self.dtype != Bfloat16).then_some(row_steps::Step { action, sides, to: self.to, dtype: self.dtype })
    }
}

impl Side<'_> {
    fn in_registers(&self) -> row_steps::Side<'_> {
        match self {
            Side::At(place) => row_steps::Side::At(*place),
            Side::One(v) => row_steps::Side::One(*v),
            Side::Row(row) => row_steps::Side::Row(row),
            Side::Whole(all) => row_steps::Side::Whole(*all),
        }
    }
}

/// The type that each value has, the input's first, and the first value that is the same numbers: a cast to a larger type
/// makes no others. `None` where a cast is neither to FP32 nor from it.
fn types(parts: &[Part], base: usize, of_base: DataType) -> Option<Vec<(DataType, usize)>> {
    let mut types = vec![(of_base, 0)];
    for (i, part) in parts.iter().enumerate() {
        let value = part.inputs.iter().flatten().find_map(|f| match f {
            From::Value(v) => Some(*v),
            From::Outside(o) => (*o == base).then_some(0),
        })?;
        let (from, same) = *types.get(value)?;
        types.push(match part.kernel.float_cast() {
            None => (from, i + 1),
            Some(to) if to == from || to == Float32 => (to, same),
            Some(to) if from == Float32 => (to, i + 1),
            Some(_) => return None,
        });
    }
    Some(types)
}

/// The parts bound to the tensors of one run.
struct Program<'a> {
    steps: Vec<Step<'a>>,
    /// Buffers of each kind.
    buffers: [usize; 2],
    /// Length of a row.
    n: usize,
    /// The buffer of the result, and its type.
    result: usize,
    dtype: DataType,
}

impl<'a> Program<'a> {
    /// `None` unless every operand is of its operator's type and fits rows of the input `base`, which is `x`.
    fn bind(parts: &'a [Part], outside: &[Option<&'a Tensor>], base: usize, x: &Tensor) -> Result<Option<Self>> {
        let dims = x.dims();
        let Some(&n) = dims.last() else { return Ok(None) };
        if n > LONGEST || dims.contains(&0) || !matches!(x.dtype(), Float32 | Float16 | Bfloat16) {
            return Ok(None);
        }
        let Some(types) = types(parts, base, x.dtype()) else { return Ok(None) };
        let last = |value: usize| {
            let is = |f: &Option<From>| match f {
                Some(From::Value(v)) => types[*v].1 == value,
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
            let (dtype, same) = types[i + 1];
            if same <= i {
                places.push(places[same]);
                continue;
            }
            let side = |f: Option<From>| -> Result<Option<Side<'a>>> {
                Ok(match f {
                    Some(From::Value(v)) => places.get(v).map(|p| Side::At(*p)),
                    Some(From::Outside(o)) if o == base => Some(Side::At(places[0])),
                    Some(From::Outside(o)) => match outside.get(o).copied().flatten() {
                        Some(t) if t.dtype() == dtype && broadcast::fits(t.dims(), dims) => operand(t, dims)?,
                        _ => None,
                    },
                    None => None,
                })
            };
            let Some(first) = side(part.inputs.first().copied().flatten())? else { return Ok(None) };
            let made = matches!(first, Side::At(_));
            let (action, second) = match (part.kernel.row_work(), part.kernel.stage()) {
                (Some(w), _) if !made || !w.is_last_of(dims.len()) => return Ok(None),
                (Some(RowWork::Reduce(r, _)), _) => (Action::Reduce(r), Side::One(0.0)),
                (Some(RowWork::Change(c, _)), _) => (Action::Change(c), Side::One(0.0)),
                (None, Some(Stage::Unary(f, op))) if made => (Action::Unary(f, *op), Side::One(0.0)),
                (None, Some(Stage::Binary(f, op))) => match side(part.inputs.get(1).copied().flatten())? {
                    Some(second) => (Action::Binary(*f, *op), second),
                    None => return Ok(None),
                },
                (None, None) if made && part.kernel.float_cast().is_some() => (Action::Round, Side::One(0.0)),
                _ => return Ok(None),
            };
            let number = |s: &Side| matches!(s, Side::At(Place::Number(_)) | Side::One(_));
            let kind = match &action {
                // What is done to one number a row is another operator than it was taken for.
                Action::Reduce(_) | Action::Change(_) if number(&first) => return Ok(None),
                Action::Reduce(_) => 1,
                _ => usize::from(number(&first) && number(&second)),
            };
            // A row that nobody reads afterwards is changed where it is.
            if let (Action::Change(_) | Action::Round, Side::At(place @ Place::Row(_))) = (&action, &first)
                && places.iter().zip(&types).enumerate().all(|(v, (p, t))| p != place || t.1 != v || last(v) <= Some(i))
            {
                places.push(*place);
                steps.push(Step { action, to: *place, sides: [first, second], dtype });
                continue;
            }
            let buffer = free[kind].pop().unwrap_or_else(|| {
                buffers[kind] += 1;
                buffers[kind] - 1
            });
            places.push(if kind == 0 { Place::Row(buffer) } else { Place::Number(buffer) });
            for (value, place) in places.iter().enumerate().take(i + 1) {
                if types[value].1 == value && last(value) == Some(i) {
                    match *place {
                        Place::Row(b) => free[0].push(b),
                        Place::Number(b) => free[1].push(b),
                    }
                }
            }
            steps.push(Step { action, sides: [first, second], to: places[i + 1], dtype });
        }
        Ok(match (places.last(), types.last()) {
            (Some(&Place::Row(result)), Some(&(dtype, _))) if !steps.is_empty() => {
                Some(Program { steps, buffers, n, result, dtype })
            }
            _ => None,
        })
    }

    /// All rows, of `from` or of `out` itself, to `out`.
    fn over(&self, cx: &Cx, from: Option<Floats>, out: &mut Tensor) -> Result<()> {
        match out.dtype() {
            Float32 => self.tasks::<f32>(cx, from, out),
            Float16 => self.tasks::<f16>(cx, from, out),
            Bfloat16 => self.tasks::<bf16>(cx, from, out),
            other => bail!(Internal, "rows of {other}"),
        }
    }

    fn tasks<T: Lane<C = f32>>(&self, cx: &Cx, from: Option<Floats>, out: &mut Tensor) -> Result<()> {
        let work = out.len() * 4 * self.steps.len();
        let piece = (PIECE / self.n).max(1) * self.n;
        let (steps, places, n, result) = (self.in_registers(), self.buffers, self.n, self.result);
        let registers = steps.map(|mut steps| {
            // What is stored is rounded then, but that a cast to FP32 may stand behind.
            if let Some(last) = steps.last_mut().filter(|s| s.dtype == self.dtype) {
                last.dtype = Float32;
            }
            RowSteps { steps, places, n, result }
        });
        cx.threads.pieces(out.slice_mut::<T>()?, piece, work, |i, out| match &registers {
            Some(registers) => registers.run(i * piece, from, out),
            None => self.run(i * piece, from, out),
        });
        Ok(())
    }

    /// The same steps in registers, if all of them are known there.
    fn in_registers(&self) -> Option<Vec<row_steps::Step<'_>>> {
        self.steps.iter().map(Step::in_registers).collect()
    }

    /// Rows from element `at` on, of `from` or of `out` itself, to `out`.
    fn run<T: Lane<C = f32>>(&self, at: usize, from: Option<Floats>, out: &mut [T]) {
        let n = self.n;
        let block = block_of(n);
        let mut rows: Vec<Vec<f32>> = vec![vec![0.0; block]; self.buffers[0]];
        let mut numbers: Vec<Vec<f32>> = vec![vec![0.0; block / n]; self.buffers[1]];
        let mut spare = [vec![0.0; block], vec![0.0; block]];
        for (i, out) in out.chunks_mut(block).enumerate() {
            let (at, len) = (at + i * block, out.len());
            match from {
                Some(from) => from.widen(at, &mut rows[0][..len]),
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
                round(step.dtype, &mut made[..count]);
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
        step: &Step,
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
            (Action::Unary(..) | Action::Change(_) | Action::Round, [Side::At(place), _]) => {
                if *place != step.to {
                    made.copy_from_slice(&of(*place)[..count]);
                }
                match &step.action {
                    Action::Unary(f, _) => f(made),
                    Action::Change(c) => c.change(made, n),
                    _ => {}
                }
            }
            (Action::Binary(f, _), sides) => {
                for (side, spare) in sides.iter().zip(spare.iter_mut()) {
                    match *side {
                        Side::Whole(all) => all.widen(at, &mut spare[..count]),
                        Side::Row(ref all) => {
                            spare[..count].chunks_mut(n).for_each(|row| row.copy_from_slice(&all[..n]))
                        }
                        Side::At(Place::Number(b)) if matches!(step.to, Place::Row(_)) => {
                            spare[..count].chunks_mut(n).zip(&numbers[b]).for_each(|(row, &v)| row.fill(v));
                        }
                        _ => {}
                    }
                }
                let side = |i: usize| match &sides[i] {
                    &Side::One(v) => Operand::One(v),
                    &Side::At(place) if std::mem::discriminant(&place) == std::mem::discriminant(&step.to) => {
                        Operand::Many(&of(place)[..count])
                    }
                    Side::Whole(_) | Side::Row(_) | Side::At(_) => Operand::Many(&spare[i][..count]),
                };
                f(side(0), side(1), made);
            }
            // Bound to values of the block alone.
            _ => unreachable!("an operator of one input over an operand"),
        }
    }
}

/// A tensor from outside that broadcasts to rows: one number, one row, all of them, or some that repeat.
fn operand<'a>(t: &'a Tensor, dims: &[usize]) -> Result<Option<Side<'a>>> {
    let Some(all) = Floats::of(t)? else { return Ok(None) };
    let some = |n: usize| {
        let mut wide = vec![0.0; n];
        all.widen(0, &mut wide);
        wide
    };
    let ones = t.dims().iter().take_while(|d| **d == 1).count();
    Ok(match t.len() {
        1 => Some(Side::One(some(1)[0])),
        n if n == dims[dims.len() - 1] && t.dims().last() == dims.last() => {
            Some(Side::Row(some(n).repeat(row_steps::together(n))))
        }
        _ if dims.ends_with(&t.dims()[ones..]) => Some(Side::Whole(all)),
        _ => None,
    })
}
