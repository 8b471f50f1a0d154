//! Elementwise operators of two tensors, and of any number of them, with broadcasting.

use super::cast::cast;
use super::{Built, Entry, Inputs, NodeCx, entry, staged, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::broadcast;
use crate::backend::cpu::kernels::elementwise::{Operand, Zip, apply, cast_float, zip, zip_to};
use crate::backend::cpu::kernels::lane::{FloatLane, Integer, Lane, is_narrow, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::program::{Call, From, Stage};
use crate::backend::cpu::kernels::registers;
use crate::backend::cpu::kernels::simd::vectorize;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType::{self, Bool, Float32, Float64, Int64};
use crate::{Result, bail, with_float, with_wide_integer};

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("Add", arithmetic),
    entry("Sub", arithmetic),
    entry("Mul", arithmetic),
    entry("Div", arithmetic),
    entry("Mod", arithmetic),
    entry("Pow", arithmetic),
    entry("PRelu", arithmetic),
    entry("BitwiseAnd", arithmetic),
    entry("BitwiseOr", arithmetic),
    entry("BitwiseXor", arithmetic),
    entry("BitShift", arithmetic),
    entry("Max", variadic),
    entry("Min", variadic),
    entry("Sum", variadic),
    entry("Mean", variadic),
    entry("Equal", compare),
    entry("Greater", compare),
    entry("GreaterOrEqual", compare),
    entry("Less", compare),
    entry("LessOrEqual", compare),
    entry("And", logical),
    entry("Or", logical),
    entry("Xor", logical),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Add,
    Sub,
    Mul,
    Div,
    /// The remainder with the divisor's sign.
    Mod,
    /// The remainder with the dividend's sign.
    Fmod,
    Pow,
    PRelu,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
    Max,
    Min,
}

fn arithmetic(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let op = match &*cx.node.op_type {
        "Add" => Op::Add,
        "Sub" => Op::Sub,
        "Mul" => Op::Mul,
        "Div" => Op::Div,
        "Mod" if cx.flag("fmod", false)? => Op::Fmod,
        "Mod" => Op::Mod,
        "Pow" => Op::Pow,
        "PRelu" => Op::PRelu,
        "BitwiseAnd" => Op::And,
        "BitwiseOr" => Op::Or,
        "BitwiseXor" => Op::Xor,
        _ => match cx.string("direction", "")?.as_str() {
            "LEFT" => Op::ShiftLeft,
            "RIGHT" => Op::ShiftRight,
            other => bail!(InvalidModel, "its attribute 'direction' is '{other}', but must be LEFT or RIGHT"),
        },
    };
    let stage = match op {
        Op::Pow => constant_power(cx),
        _ => float_loop::<f32>(op).map(|f| Stage::Binary(f, in_registers(op))),
    };
    let kernel = tensor_kernel(move |cx, inputs| {
        let (a, mut b) = (inputs.take(0)?, inputs.take(1)?);
        if op == Op::Pow && a.dtype() != b.dtype() {
            return mixed_power(cx, a, b);
        }
        if op == Op::PRelu {
            b = channel_slope(&a, b)?;
        }
        calculate(cx, op, a, b)
    });
    staged(stage, kernel)
}

/// The stage of a power with a constant exponent.
fn constant_power(cx: &NodeCx) -> Option<Stage> {
    let b = cx.constant(1).filter(|b| b.rank() == 0)?;
    let exponent = with_float!(b.dtype(), T => b.slice::<T>().ok()?[0].get().wide(), else _other => return None) as f32;
    let f = special_power::<f32>(exponent).unwrap_or(|a, b, o| apply(a, b, o, f32::pow));
    let run = Box::new(move |values: &mut [f32]| {
        let mut bases = [0f32; 64];
        for part in values.chunks_mut(64) {
            let bases = &mut bases[..part.len()];
            bases.copy_from_slice(part);
            f(Operand::Many(bases), Operand::One(exponent), part);
        }
    });
    Some(Stage::Unary(run, (exponent == 2.0).then_some(registers::Op::Square)))
}

/// The operator as stages in registers know it.
fn in_registers(op: Op) -> Option<registers::Op> {
    Some(match op {
        Op::Add => registers::Op::Add,
        Op::Sub => registers::Op::Sub,
        Op::Mul => registers::Op::Mul,
        Op::Div => registers::Op::Div,
        _ => return None,
    })
}

/// Elements of a result from which on it pays to bind its operands for registers.
const LARGE: usize = 1 << 12;

/// A large result in registers, if one of the operands is as large and the other one is known there.
fn at_once(cx: &Cx, op: Op, a: &mut Tensor, b: &mut Tensor) -> Result<Option<Tensor>> {
    let (Some(known), Some(f)) = (in_registers(op), float_loop::<f32>(op)) else { return Ok(None) };
    if a.len().max(b.len()) < LARGE {
        return Ok(None);
    }
    let dims = broadcast::shape(&[a.dims(), b.dims()])?;
    let stage = Stage::Binary(f, Some(known));
    let (first, second) = (From::Value(0), From::Outside(0));
    // The one that can be written over, if one can.
    match (a.dims() == dims, b.dims() == dims) {
        (true, whole) if !whole || a.is_unique() || !b.is_unique() => {
            super::fused::pair(cx, Call { stage: &stage, inputs: [first, second] }, a, b)
        }
        (_, true) => super::fused::pair(cx, Call { stage: &stage, inputs: [second, first] }, b, a),
        _ => Ok(None),
    }
}

fn calculate(cx: &Cx, op: Op, mut a: Tensor, mut b: Tensor) -> Result<Tensor> {
    if a.dtype() != b.dtype() {
        bail!(TypeMismatch, "its inputs are of types {} and {}, but must be of one type", a.dtype(), b.dtype());
    }
    let dtype = a.dtype();
    if dtype.is_float() {
        if let Some(y) = at_once(cx, op, &mut a, &mut b)? {
            return Ok(y);
        }
        return with_float!(dtype, T => floats::<T>(cx, op, a, b), else other => Err(refuse(&format!("{op:?}"), other)));
    }
    if is_narrow(dtype) {
        let wide = integers::<i64>(cx, op, cast(cx, &a, Int64, true)?, cast(cx, &b, Int64, true)?)?;
        return cast(cx, &wide, dtype, true);
    }
    with_wide_integer!(dtype, T => integers::<T>(cx, op, a, b), else other => Err(refuse(&format!("{op:?}"), other)))
}

fn floats<T: FloatLane>(cx: &Cx, op: Op, a: Tensor, b: Tensor) -> Result<Tensor> {
    match op {
        Op::Pow => power::<T>(cx, a, b),
        _ => match float_loop::<T::C>(op) {
            Some(f) => zip::<T>(cx, a, b, f),
            None => Err(refuse(&format!("{op:?}"), a.dtype())),
        },
    }
}

fn float_loop<F: Float>(op: Op) -> Option<Zip<F, F>> {
    Some(match op {
        Op::Add => |a, b, o| apply(a, b, o, |a, b| a + b),
        Op::Sub => |a, b, o| apply(a, b, o, |a, b| a - b),
        Op::Mul => |a, b, o| apply(a, b, o, |a, b| a * b),
        Op::Div => |a, b, o| apply(a, b, o, |a, b| a / b),
        Op::Mod => |a, b, o| {
            apply(a, b, o, |a, b| {
                let r = F::of(a.wide() % b.wide());
                if r != F::ZERO && (r < F::ZERO) != (b < F::ZERO) { r + b } else { r }
            });
        },
        Op::Fmod => |a, b, o| apply(a, b, o, |a, b| F::of(a.wide() % b.wide())),
        Op::Pow => |a, b, o| apply(a, b, o, F::pow),
        Op::PRelu => |a, b, o| apply(a, b, o, |a, b| if a < F::ZERO { a * b } else { a }),
        Op::Max => |a, b, o| apply(a, b, o, F::larger),
        Op::Min => |a, b, o| apply(a, b, o, F::smaller),
        Op::And | Op::Or | Op::Xor | Op::ShiftLeft | Op::ShiftRight => return None,
    })
}

/// Powers whose exponent is one number are mostly squares, cubes and roots.
fn power<T: FloatLane>(cx: &Cx, a: Tensor, b: Tensor) -> Result<Tensor> {
    let one = b.len() == 1 && b.rank() <= a.rank();
    let special = if one { special_power(b.slice::<T>()?[0].get()) } else { None };
    zip::<T>(cx, a, b, special.unwrap_or(|a, b, o| apply(a, b, o, T::C::pow)))
}

fn special_power<F: Float>(exponent: F) -> Option<Zip<F, F>> {
    Some(if exponent == F::of(2.0) {
        |a, b, o| apply(a, b, o, |a, _| a * a)
    } else if exponent == F::ONE {
        |a, b, o| apply(a, b, o, |a, _| a)
    } else if exponent == F::of(0.5) {
        // pow(-inf, 0.5) is +inf, pow(-0, 0.5) is +0.
        |a, b, o| apply(a, b, o, |a, _| if a == F::LOWEST { F::HIGHEST } else { a.sqrt() + F::ZERO })
    } else {
        return None;
    })
}

fn integers<T: Integer>(cx: &Cx, op: Op, a: Tensor, b: Tensor) -> Result<Tensor> {
    if matches!(op, Op::Div | Op::Mod | Op::Fmod) && !a.is_empty() && b.slice::<T>()?.contains(&T::default()) {
        bail!(Execution, "integer division by zero");
    }
    // The common ones in the type itself; the others by way of the widest integer.
    let f: Zip<T, T> = match op {
        Op::Add => |a, b, o| apply(a, b, o, |a, b| T::wrap(a.wide() + b.wide())),
        Op::Sub => |a, b, o| apply(a, b, o, |a, b| T::wrap(a.wide() - b.wide())),
        Op::Mul => |a, b, o| apply(a, b, o, |a, b| T::wrap(a.wide().wrapping_mul(b.wide()))),
        Op::Max => |a, b, o| apply(a, b, o, T::max),
        Op::Min => |a, b, o| apply(a, b, o, T::min),
        Op::Div => |a, b, o| slow(a, b, o, |a, b| a / b),
        Op::Mod => |a, b, o| slow(a, b, o, |a, b| ((a % b) + b) % b),
        Op::Fmod => |a, b, o| slow(a, b, o, |a, b| a % b),
        Op::Pow => |a, b, o| slow(a, b, o, integer_power),
        Op::PRelu => |a, b, o| slow(a, b, o, |a, b| if a < 0 { a.wrapping_mul(b) } else { a }),
        Op::And => |a, b, o| slow(a, b, o, |a, b| a & b),
        Op::Or => |a, b, o| slow(a, b, o, |a, b| a | b),
        Op::Xor => |a, b, o| slow(a, b, o, |a, b| a ^ b),
        Op::ShiftLeft => |a, b, o| slow(a, b, o, |a, b| if (0..64).contains(&b) { a << b } else { 0 }),
        Op::ShiftRight => |a, b, o| slow(a, b, o, shift_right),
    };
    zip::<T>(cx, a, b, f)
}

/// With the sign filled in; a distance outside the type leaves nothing but the sign.
fn shift_right(a: i128, b: i128) -> i128 {
    a >> if (0..127).contains(&b) { b } else { 127 }
}

/// One loop a type for the rarer operators.
fn slow<T: Integer>(a: Operand<T>, b: Operand<T>, out: &mut [T], f: fn(i128, i128) -> i128) {
    let at = |x: &Operand<T>, i: usize| match x {
        Operand::One(v) => v.wide(),
        Operand::Many(v) => v[i].wide(),
    };
    for (i, o) in out.iter_mut().enumerate() {
        *o = T::wrap(f(at(&a, i), at(&b, i)));
    }
}

/// By squaring, wrapping; a negative exponent gives what truncating the real power gives.
fn integer_power(base: i128, exponent: i128) -> i128 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 if exponent % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let (mut result, mut square, mut left) = (1i128, base, exponent);
    while left > 0 {
        if left & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        left >>= 1;
    }
    result
}

/// Base and exponent of different types: the result has the base's.
fn mixed_power(cx: &Cx, a: Tensor, b: Tensor) -> Result<Tensor> {
    let dtype = a.dtype();
    if dtype.is_half() || dtype == Float32 {
        // In FP32, rounded once.
        let exponent = to_float(cx, &b, Float32)?;
        let wide = cast_float(cx, &a, Float32)?;
        return cast_float(cx, &power::<f32>(cx, wide, exponent)?, dtype);
    }
    if dtype == Float64 || b.dtype().is_float() {
        let exponent = to_float(cx, &b, Float64)?;
        let result = power::<f64>(cx, to_float(cx, &a, Float64)?, exponent)?;
        return cast(cx, &result, dtype, true);
    }
    let exponent = cast(cx, &b, dtype, true)?;
    calculate(cx, Op::Pow, a, exponent)
}

fn to_float(cx: &Cx, t: &Tensor, to: DataType) -> Result<Tensor> {
    cast(cx, t, to, true)
}

/// A slope of shape [C] belongs to the channels of [N, C, ...] where it does not broadcast as it stands (opset 7 and 8
/// models of some exporters have it so).
fn channel_slope(x: &Tensor, slope: Tensor) -> Result<Tensor> {
    use crate::backend::cpu::kernels::broadcast::fits;
    if fits(slope.dims(), x.dims()) || slope.rank() != 1 || x.rank() < 2 || x.dims()[1] != slope.len() {
        return Ok(slope);
    }
    let mut dims = vec![1; x.rank() - 1];
    dims[0] = slope.len();
    slope.reshaped(dims)
}

fn variadic(cx: &NodeCx) -> Built {
    let name = cx.node.op_type.clone();
    let op = match &*name {
        "Max" => Op::Max,
        "Min" => Op::Min,
        _ => Op::Add,
    };
    let mean = &*name == "Mean";
    cx.check_inputs(1, usize::MAX)?;
    let stage = if cx.node.inputs.len() == 2 && !mean {
        float_loop::<f32>(op).map(|f| Stage::Binary(f, in_registers(op)))
    } else {
        None
    };
    let kernel = tensor_kernel(move |cx, inputs| {
        let count = inputs.len();
        let dtype = inputs.tensor(0)?.dtype();
        // Halves are summed in FP32 and rounded once.
        let wide = dtype.is_half() && (count > 2 || mean);
        let next = |inputs: &mut Inputs, i: usize| -> Result<Tensor> {
            let t = inputs.take(i)?;
            if t.dtype() != dtype {
                bail!(TypeMismatch, "its inputs are of types {dtype} and {}, but must be of one type", t.dtype());
            }
            if wide { cast_float(cx, &t, Float32) } else { Ok(t) }
        };
        let mut sum = next(inputs, 0)?;
        for i in 1..count {
            let t = next(inputs, i)?;
            sum = calculate(cx, op, sum, t)?;
        }
        if mean {
            let n = Tensor::from_slice(cx.pool, Float64, vec![], &[count as f64])?;
            let n = cast_float(cx, &n, sum.dtype())?;
            sum = calculate(cx, Op::Div, sum, n)?;
        }
        if wide { cast_float(cx, &sum, dtype) } else { Ok(sum) }
    });
    staged(stage, kernel)
}

fn compare(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let name = cx.node.op_type.clone();
    let wanted = match &*name {
        "Equal" => EQUAL,
        "Greater" => GREATER,
        "GreaterOrEqual" => GREATER | EQUAL,
        "Less" => LESS,
        _ => LESS | EQUAL,
    };
    tensor_kernel(move |cx, inputs| {
        let (a, b) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let dtype = a.dtype();
        if dtype != b.dtype() {
            bail!(TypeMismatch, "its inputs are of types {dtype} and {}, but must be of one type", b.dtype());
        }
        let through = |wide: DataType| Ok::<_, crate::Error>((cast(cx, a, wide, true)?, cast(cx, b, wide, true)?));
        let mut y = match dtype {
            DataType::String if &*name == "Equal" => return super::strings::equal(cx, a, b),
            Float32 => relations::<f32>(cx, a, b),
            Float64 => relations::<f64>(cx, a, b),
            Int64 => relations::<i64>(cx, a, b),
            DataType::Uint64 => relations::<u64>(cx, a, b),
            half if half.is_half() => through(Float32).and_then(|(a, b)| relations::<f32>(cx, &a, &b)),
            Bool | DataType::Int32 => through(Int64).and_then(|(a, b)| relations::<i64>(cx, &a, &b)),
            narrow if is_narrow(narrow) => through(Int64).and_then(|(a, b)| relations::<i64>(cx, &a, &b)),
            other => Err(refuse(&name, other)),
        }?;
        let all = y.slice_mut::<u8>()?;
        vectorize(|| all.iter_mut().for_each(|v| *v = (*v & wanted != 0).into()));
        Ok(y)
    })
}

// How two numbers relate; none of it if one is NaN.
const EQUAL: u8 = 1;
const GREATER: u8 = 2;
const LESS: u8 = 4;

/// How each pair relates: one loop a type for all comparisons.
fn relations<T: Lane<C: PartialOrd>>(cx: &Cx, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    zip_to::<T, u8>(cx, a, b, Bool, |a, b, o| {
        apply(a, b, o, |a, b| (u8::from(a == b) * EQUAL) | (u8::from(a > b) * GREATER) | (u8::from(a < b) * LESS));
    })
}

fn logical(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let f: Zip<u8, u8> = match &*cx.node.op_type {
        "And" => |a, b, o| apply(a, b, o, |a, b| (a != 0 && b != 0).into()),
        "Or" => |a, b, o| apply(a, b, o, |a, b| (a != 0 || b != 0).into()),
        _ => |a, b, o| apply(a, b, o, |a, b| ((a != 0) != (b != 0)).into()),
    };
    tensor_kernel(move |cx, inputs| {
        let (a, b) = (inputs.tensor(0)?, inputs.tensor(1)?);
        if a.dtype() != Bool || b.dtype() != Bool {
            bail!(TypeMismatch, "its inputs are of types {} and {}, but must be bool", a.dtype(), b.dtype());
        }
        zip_to::<u8, u8>(cx, a, b, Bool, f)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::memory::Pool;
    use crate::backend::cpu::threads::Threads;
    use half::f16;

    /// Large results, which are made in registers where the operands are known there, against one element after the other.
    fn check<T: Lane<C = f32>>() {
        let pool = Pool::new(1 << 30);
        let number = |i: usize| ((i * 7919) % 2003) as f32 / 200.0 - 5.0;
        let tensor = |dims: &[usize], seed: usize| {
            let all: Vec<T> = (0..dims.iter().product()).map(|i| T::put(number(i + seed))).collect();
            Tensor::from_slice(&pool, T::DTYPE, dims.to_vec(), &all).unwrap()
        };
        let whole = [2, 9, 11, 33];
        let others: [&[usize]; 7] = [&whole, &[33], &[1, 1, 1, 33], &[], &[9, 11, 33], &[2, 1, 1, 33], &[9, 1, 1]];
        for threads in [Threads::inline(), Threads::new(3).unwrap()] {
            let cx = Cx { pool: &pool, threads: &threads, cancel: None, tap: None };
            for (op, f) in [
                (Op::Add, (|a, b| a + b) as fn(f32, f32) -> f32),
                (Op::Sub, |a, b| a - b),
                (Op::Mul, |a, b| a * b),
                (Op::Div, |a, b| a / b),
            ] {
                for dims in others {
                    // What is shared may not be written over.
                    for (turned, shared) in [(false, false), (true, false), (false, true), (true, true)] {
                        let (x, other) = (tensor(&whole, 3), tensor(dims, 11));
                        let held = shared.then(|| (x.clone(), other.clone()));
                        let (all_x, all_other) =
                            (x.slice::<T>().unwrap().to_vec(), other.slice::<T>().unwrap().to_vec());
                        let walk = broadcast::Walk::new(&whole, [dims]);
                        let mut want = Vec::with_capacity(all_x.len());
                        let [step] = walk.inner_strides();
                        walk.runs(0, all_x.len(), |at, n, [offset]| {
                            for k in 0..n {
                                let b = all_other[offset + k * usize::from(step != 0)].get();
                                let a = all_x[at + k].get();
                                want.push(T::put(if turned { f(b, a) } else { f(a, b) }));
                            }
                        });
                        let (a, b) = if turned { (other, x) } else { (x, other) };
                        let got = calculate(&cx, op, a, b).unwrap();
                        assert_eq!(got.dims(), whole);
                        for (i, (g, w)) in got.slice::<T>().unwrap().iter().zip(&want).enumerate() {
                            assert_eq!(g.get().to_bits(), w.get().to_bits(), "{op:?} {dims:?} {turned} {shared}: {i}");
                        }
                        if let Some((x, other)) = held {
                            let same = |t: &Tensor, all: &[T]| {
                                t.slice::<T>()
                                    .unwrap()
                                    .iter()
                                    .zip(all)
                                    .all(|(a, b)| a.get().to_bits() == b.get().to_bits())
                            };
                            assert!(same(&x, &all_x) && same(&other, &all_other), "{op:?} {dims:?}: written over");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn large_results_are_those_of_single_elements() {
        check::<f32>();
        check::<f16>();
    }
}
