//! Stages in registers, with every width of vectors, against the same stages in pieces.

use super::*;
use crate::backend::cpu::kernels::elementwise::apply;
use crate::backend::cpu::kernels::math::{Float, Fused, Separate};
use crate::backend::cpu::kernels::vector::{Plain, WIDEST, panel, panel_width};
use crate::backend::cpu::memory::Pool;
use half::f16;

fn unary(op: Op, f: fn(f32) -> f32) -> Stage {
    Stage::Unary(Box::new(move |values| values.iter_mut().for_each(|v| *v = f(*v))), Some(op))
}

/// As the operator's own loop computes it with the vectors that a test wants.
fn sigmoid(x: f32) -> f32 {
    if panel_width::<f32>() > panel::<Plain<f32>>() { x.sigmoid_by::<Fused>() } else { x.sigmoid_by::<Separate>() }
}

fn tanh(x: f32) -> f32 {
    if panel_width::<f32>() > panel::<Plain<f32>>() { x.tanh_by::<Fused>() } else { x.tanh_by::<Separate>() }
}

fn erf(x: f32) -> f32 {
    if panel_width::<f32>() > panel::<Plain<f32>>() { x.erf_by::<Fused>() } else { x.erf_by::<Separate>() }
}

fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

fn gelu_by_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh((2.0 / std::f64::consts::PI).sqrt() as f32 * (x + 0.044_715 * x * x * x)))
}

fn stages(channels: usize) -> Vec<Stage> {
    let numbers = |k: f32| (0..channels).map(|c| (c as f32 * k).sin()).collect();
    vec![
        unary(Op::Relu, |x| if x < 0.0 { 0.0 } else { x }),
        Stage::Unary(
            Box::new(|v| v.iter_mut().for_each(|v| *v = if *v < -1.5 { -1.5 } else { *v })),
            Some(Op::Clip(-1.5, f32::INFINITY)),
        ),
        unary(Op::Sigmoid, sigmoid),
        unary(Op::HardSigmoid(0.2, 0.5), |x| (x * 0.2 + 0.5).larger(0.0).smaller(1.0)),
        unary(Op::HardSwish, |x| x * (x * (1.0 / 6.0) + 0.5).larger(0.0).smaller(1.0)),
        Stage::Binary(|a, b, o| apply(a, b, o, |a, b| a + b), Some(Op::Add)),
        Stage::Binary(|a, b, o| apply(a, b, o, |a, b| a - b), Some(Op::Sub)),
        Stage::Binary(|a, b, o| apply(a, b, o, |a, b| a * b), Some(Op::Mul)),
        Stage::Binary(|a, b, o| apply(a, b, o, |a, b| a / b), Some(Op::Div)),
        Stage::Channels { factors: numbers(1.3), addends: numbers(0.7), last: true },
        unary(Op::Square, |x| x * x),
        unary(Op::Sqrt, f32::sqrt),
        unary(Op::Tanh, tanh),
        unary(Op::Erf, erf),
        unary(Op::Gelu { by_tanh: false }, gelu),
        unary(Op::Gelu { by_tanh: true }, gelu_by_tanh),
    ]
}

fn check<T: Lane<C = f32>>(pool: &std::sync::Arc<Pool>, channels: usize) {
    let dims = [1, 5, 7, channels];
    let n = dims.iter().product::<usize>();
    let odd = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        0.0,
        -0.0,
        -3.0,
        3.0,
        100.0,
        -100.0,
        1e-7,
        7e4,
        -2.5,
        0.5,
        -0.89,
        0.9,
    ];
    let number =
        |i: usize| if i % 17 == 3 { odd[i / 17 % odd.len()] } else { ((i * 7919) % 2003) as f32 / 200.0 - 5.0 };
    let tensor = |dims: Vec<usize>, seed: usize| {
        let all: Vec<T> = (0..dims.iter().product()).map(|i| T::put(number(i + seed))).collect();
        Tensor::from_slice(pool, T::DTYPE, dims, &all).unwrap()
    };
    let outside = [tensor(dims.to_vec(), 5), tensor(vec![channels], 9), tensor(vec![1], 1)];
    let outside: Vec<Option<&Tensor>> = outside.iter().map(Some).collect();
    let all = stages(channels);
    let mut programs = vec![
        // Sigmoid and Mul, and a chain with values that are kept.
        vec![(2, [From::Value(0); 2]), (7, [From::Value(0), From::Value(1)])],
        vec![
            (3, [From::Value(0); 2]),
            (7, [From::Value(1), From::Value(0)]),
            (5, [From::Value(2), From::Outside(0)]),
            (9, [From::Value(3); 2]),
            (6, [From::Value(0), From::Value(4)]),
            (0, [From::Value(5); 2]),
        ],
        vec![(6, [From::Outside(2), From::Value(0)]), (8, [From::Outside(1), From::Value(1)])],
    ];
    for stage in 0..all.len() {
        // Alone, and times the value that came in: the loop without operands, for functions.
        programs.push(vec![(stage, [From::Value(0); 2])]);
        programs.push(vec![(stage, [From::Value(0); 2]), (7, [From::Value(1), From::Value(0)])]);
        for with in 0..3 {
            programs
                .push(vec![(stage, [From::Value(0), From::Outside(with)]), (5, [From::Value(1), From::Outside(1)])]);
        }
    }
    for (number_of, parts) in programs.iter().enumerate() {
        let calls: Vec<Call> = parts.iter().map(|&(s, inputs)| Call { stage: &all[s], inputs }).collect();
        for fresh in [true, false] {
            let mut program = Program::<T>::bind(&calls, &outside, &dims, fresh).unwrap().unwrap();
            let registers = program.registers.take();
            assert!(registers.is_some(), "program {number_of}");
            for (at, len) in [(0, n), (channels, channels), (3, 5), (n - 21, 21), (channels + 1, 2 * channels)] {
                let values: Vec<f32> = (at..at + len).map(|i| T::put(number(i)).get() * 1.000_1).collect();
                for widest in [0, 4, 8, 16] {
                    WIDEST.set(widest);
                    let mut expected = values.clone();
                    program.apply(at, &mut expected);
                    let mut got = values.clone();
                    if let Some(r) = &registers {
                        r.apply(at, &mut got);
                    }
                    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                    let bad = got.iter().zip(&expected).position(|pair| !same(pair));
                    assert!(bad.is_none(), "{number_of}, {widest}, {at}: {bad:?}, {} of {channels}", T::DTYPE);
                    // Stored as halves at once.
                    if let Some(r) = registers.as_ref().filter(|r| r.half) {
                        let mut halves = vec![f16::from_f32(77.0); len];
                        r.store(at, &mut values.clone(), &mut halves);
                        for (i, (half, e)) in halves.iter().zip(&expected).enumerate() {
                            let e = f16::from_f32(*e);
                            assert!(
                                half.to_bits() == e.to_bits() || half.is_nan() && e.is_nan(),
                                "{number_of}, {widest}, {at}: {i}"
                            );
                        }
                    }
                }
                WIDEST.set(usize::MAX);
            }
        }
    }
}

#[test]
fn registers_do_what_pieces_do() {
    let pool = Pool::new(1 << 30);
    for channels in [11, 16, 40, 130] {
        check::<f32>(&pool, channels);
        check::<f16>(&pool, channels);
    }
}
