//! Elementwise functions of one float tensor, from one table: name, attributes with their defaults, formula.

use super::{Built, Entry, NodeCx, entry, staged, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise;
use crate::backend::cpu::kernels::lane::{Integer, Lane, refuse};
use crate::backend::cpu::kernels::math::{Arithmetic, Float};
use crate::backend::cpu::kernels::program::Stage;
use crate::backend::cpu::kernels::registers::Op;
use crate::backend::cpu::kernels::simd::{Calculation, calculate};
use crate::backend::cpu::tensor::Tensor;
use crate::{Result, with_float, with_integer};

/// A function: its attributes (name, default), its rough cost in additions, and its loops for both computing types.
struct Function {
    attributes: &'static [(&'static str, f32)],
    cost: usize,
    f32_form: fn(&mut [f32], [f64; 3]),
    f64_form: fn(&mut [f64], [f64; 3]),
    /// For signed integers, where ONNX has them.
    integer: Option<fn(i128) -> i128>,
}

macro_rules! functions {
    ($($name:literal $(($($attribute:literal = $default:expr),+))? cost $cost:literal $(integer $integer:expr)? =>
       |$x:ident, $p:ident| $formula:expr;)+) => {
        fn function(op: &str) -> Option<Function> {
            match op {
                $($name => {
                    struct All<'a, F>(&'a mut [F], [F; 3]);
                    impl<F: Float> Calculation for All<'_, F> {
                        // Sure to be compiled for the instructions that are chosen, however long the formula is.
                        #[inline(always)]
                        fn run<A: Arithmetic>(self) {
                            #[allow(unused_variables)]
                            let $p = self.1;
                            for v in self.0 {
                                let $x = *v;
                                *v = $formula;
                            }
                        }
                    }
                    fn form<F: Float>(values: &mut [F], p: [f64; 3]) {
                        calculate(All(values, p.map(F::of)));
                    }
                    #[allow(unused_mut, unused_assignments)]
                    let mut integer: Option<fn(i128) -> i128> = None;
                    $(integer = Some($integer);)?
                    Some(Function {
                        attributes: &[$($(($attribute, $default)),+)?],
                        cost: $cost,
                        f32_form: form::<f32>,
                        f64_form: form::<f64>,
                        integer,
                    })
                })+
                _ => None,
            }
        }
        /// The operators of this family.
        pub const TABLE: &[Entry] = &[$(entry($name, build)),+];
    };
}

functions! {
    "Relu" cost 1 integer |v| v.max(0) => |x, p| if x < F::ZERO { F::ZERO } else { x };
    "LeakyRelu" ("alpha" = 0.01) cost 1 => |x, p| if x < F::ZERO { x * p[0] } else { x };
    "ThresholdedRelu" ("alpha" = 1.0) cost 1 => |x, p| if x > p[0] || x.nan() { x } else { F::ZERO };
    "Sigmoid" cost 16 => |x, p| x.sigmoid_by::<A>();
    "HardSigmoid" ("alpha" = 0.2, "beta" = 0.5) cost 2 => |x, p| (x * p[0] + p[1]).larger(F::ZERO).smaller(F::ONE);
    "HardSwish" cost 2 => |x, p| x * (x * F::of(1.0 / 6.0) + F::of(0.5)).larger(F::ZERO).smaller(F::ONE);
    "Tanh" cost 24 => |x, p| x.tanh_by::<A>();
    "Erf" cost 24 => |x, p| x.erf_by::<A>();
    "Elu" ("alpha" = 1.0) cost 16 => |x, p| if x < F::ZERO { p[0] * x.exp_m1() } else { x };
    "Celu" ("alpha" = 1.0) cost 16 => |x, p| if x < F::ZERO { p[0] * (x / p[0]).exp_m1() } else { x };
    "Selu" ("alpha" = 1.673_263_2, "gamma" = 1.050_701) cost 16 =>
        |x, p| if x > F::ZERO { p[1] * x } else { p[1] * (p[0] * x.exp_m1()) };
    "Softplus" cost 32 => |x, p| softplus::<F, A>(x);
    "Softsign" cost 4 => |x, p| x / (F::ONE + x.abs());
    "Mish" cost 48 => |x, p| x * softplus::<F, A>(x).tanh_by::<A>();
    "Swish" ("alpha" = 1.0) cost 16 => |x, p| x * (x * p[0]).sigmoid_by::<A>();
    "Exp" cost 16 => |x, p| x.exp_by::<A>();
    "Log" cost 16 => |x, p| x.ln();
    "Sqrt" cost 4 => |x, p| x.sqrt();
    "Reciprocal" cost 4 => |x, p| F::ONE / x;
    "Neg" cost 1 integer |v| -v => |x, p| -x;
    "Abs" cost 1 integer i128::abs => |x, p| x.abs();
    "Floor" cost 1 => |x, p| x.floor();
    "Ceil" cost 1 => |x, p| x.ceil();
    "Round" cost 1 => |x, p| x.round_even();
    "Sign" cost 1 integer i128::signum => |x, p| if x > F::ZERO { F::ONE } else if x < F::ZERO { -F::ONE } else { x + F::ZERO };
    "Sin" cost 16 => |x, p| x.apply(f32::sin, f64::sin);
    "Cos" cost 16 => |x, p| x.apply(f32::cos, f64::cos);
    "Tan" cost 16 => |x, p| x.apply(f32::tan, f64::tan);
    "Asin" cost 16 => |x, p| x.apply(f32::asin, f64::asin);
    "Acos" cost 16 => |x, p| x.apply(f32::acos, f64::acos);
    "Atan" cost 16 => |x, p| x.apply(f32::atan, f64::atan);
    "Sinh" cost 16 => |x, p| x.apply(f32::sinh, f64::sinh);
    "Cosh" cost 16 => |x, p| x.apply(f32::cosh, f64::cosh);
    "Asinh" cost 16 => |x, p| x.apply(f32::asinh, f64::asinh);
    "Acosh" cost 16 => |x, p| x.apply(f32::acosh, f64::acosh);
    "Atanh" cost 16 => |x, p| x.apply(f32::atanh, f64::atanh);
    // Gelu has an attribute that is no number: `build` puts 1 for the tanh form.
    "Gelu" cost 32 => |x, p| gelu::<F, A>(x, p[0]);
}

/// log(1 + e^x), without overflow and without losing small results.
#[inline(always)]
fn softplus<F: Float, A: Arithmetic>(x: F) -> F {
    let tail = (-x.abs()).exp_by::<A>().ln_1p();
    if x > F::ZERO {
        x + tail
    } else if x.nan() {
        x
    } else {
        tail
    }
}

#[inline(always)]
fn gelu<F: Float, A: Arithmetic>(x: F, tanh_form: F) -> F {
    let half = F::of(0.5) * x;
    if tanh_form > F::ZERO {
        let inner = F::of((2.0 / std::f64::consts::PI).sqrt()) * (x + F::of(0.044_715) * x * x * x);
        half * (F::ONE + inner.tanh_by::<A>())
    } else {
        half * (F::ONE + (x * F::of(std::f64::consts::FRAC_1_SQRT_2)).erf_by::<A>())
    }
}

fn build(cx: &NodeCx) -> Built {
    let Some(f) = function(&cx.node.op_type) else { return Err(crate::err!(Internal, "no such function")) };
    cx.check_inputs(1, 1)?;
    let mut p = [0f64; 3];
    for (p, (name, default)) in p.iter_mut().zip(f.attributes) {
        *p = cx.float(name, *default)?.into();
    }
    if cx.node.is("Gelu") {
        p[0] = match cx.string("approximate", "none")?.as_str() {
            "none" => 0.0,
            "tanh" => 1.0,
            other => crate::bail!(InvalidModel, "its attribute 'approximate' is '{other}', but must be none or tanh"),
        };
    }
    let name = cx.node.op_type.clone();
    let form = f.f32_form;
    let stage = Stage::Unary(Box::new(move |values| form(values, p)), in_registers(&name, p));
    staged(Some(stage), tensor_kernel(move |cx, inputs| run(cx, &f, &name, p, inputs.take(0)?)))
}

/// The function as stages in registers know it.
fn in_registers(name: &str, p: [f64; 3]) -> Option<Op> {
    Some(match name {
        "Relu" => Op::Relu,
        "Sigmoid" => Op::Sigmoid,
        // -0, which the loop makes 0, can only come about here.
        "HardSigmoid" if p[1] == 0.0 => return None,
        "HardSigmoid" => Op::HardSigmoid(p[0] as f32, p[1] as f32),
        "HardSwish" => Op::HardSwish,
        "Sqrt" => Op::Sqrt,
        "Tanh" => Op::Tanh,
        "Erf" => Op::Erf,
        "Gelu" => Op::Gelu { by_tanh: p[0] > 0.0 },
        _ => return None,
    })
}

fn run(cx: &Cx, f: &Function, name: &str, p: [f64; 3], x: Tensor) -> Result<Tensor> {
    match (x.dtype(), f.integer) {
        (t, _) if t.is_float() => with_float!(t, T => {
            let form = <T as Lane>::C::pick(f.f32_form, f.f64_form);
            elementwise::in_place::<T>(cx, x, f.cost, &|v| form(v, p))
        }, else other => Err(refuse(name, other))),
        (t, Some(integer)) => with_integer!(t, T => {
            elementwise::in_place::<T>(cx, x, 1, &|v| v.iter_mut().for_each(|v| *v = T::wrap(integer(v.wide()))))
        }, else other => Err(refuse(name, other))),
        (other, None) => Err(refuse(name, other)),
    }
}
