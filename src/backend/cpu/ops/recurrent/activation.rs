//! Activations of recurrent layers.

use crate::backend::cpu::kernels::math::{Arithmetic, Float};
use crate::backend::cpu::kernels::simd::{Calculation, calculate, vectorize};
use crate::{Result, bail};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    Sigmoid,
    Tanh,
    Relu,
    LeakyRelu,
    ThresholdedRelu,
    ScaledTanh,
    HardSigmoid,
    Elu,
    Softsign,
    Softplus,
    Affine,
}

/// An activation and its two parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation(Function, f32, f32);

/// Changes every value, with vector instructions.
#[inline(always)]
pub fn each<F: Float>(values: &mut [F], f: impl Fn(F) -> F) {
    vectorize(|| values.iter_mut().for_each(|v| *v = f(*v)));
}

/// The two that nearly every layer has are compiled for the widest vectors.
struct Sigmoid<'a, F>(&'a mut [F]);
struct Tanh<'a, F>(&'a mut [F]);

impl<F: Float> Calculation for Sigmoid<'_, F> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        self.0.iter_mut().for_each(|v| *v = v.sigmoid_by::<A>());
    }
}

impl<F: Float> Calculation for Tanh<'_, F> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        self.0.iter_mut().for_each(|v| *v = v.tanh_by::<A>());
    }
}

impl Activation {
    /// The activation with this name; parameters that are not given have their defaults.
    pub fn new(name: &str, alpha: Option<f32>, beta: Option<f32>) -> Result<Activation> {
        let (f, a, b) = match name.to_ascii_lowercase().as_str() {
            "sigmoid" => (Function::Sigmoid, 0.0, 0.0),
            "tanh" => (Function::Tanh, 0.0, 0.0),
            "relu" => (Function::Relu, 0.0, 0.0),
            "leakyrelu" => (Function::LeakyRelu, 0.01, 0.0),
            "thresholdedrelu" => (Function::ThresholdedRelu, 1.0, 0.0),
            "scaledtanh" => (Function::ScaledTanh, 1.0, 1.0),
            "hardsigmoid" => (Function::HardSigmoid, 0.2, 0.5),
            "elu" => (Function::Elu, 1.0, 0.0),
            "softsign" => (Function::Softsign, 0.0, 0.0),
            "softplus" => (Function::Softplus, 0.0, 0.0),
            "affine" => (Function::Affine, 1.0, 0.0),
            other => bail!(InvalidModel, "its activation '{other}' does not exist"),
        };
        Ok(Activation(f, alpha.unwrap_or(a), beta.unwrap_or(b)))
    }

    /// Whether the lists of parameters hold an alpha and a beta for it.
    pub fn takes(self) -> (bool, bool) {
        let both = matches!(self.0, Function::ScaledTanh | Function::HardSigmoid | Function::Affine);
        (both || matches!(self.0, Function::LeakyRelu | Function::ThresholdedRelu | Function::Elu), both)
    }

    /// Changes every value.
    pub fn apply<F: Float>(self, values: &mut [F]) {
        let (a, b) = (F::of(self.1.into()), F::of(self.2.into()));
        match self.0 {
            Function::Sigmoid => calculate(Sigmoid(values)),
            Function::Tanh => calculate(Tanh(values)),
            Function::Relu => each(values, |x| x.larger(F::ZERO)),
            Function::LeakyRelu => each(values, |x| if x < F::ZERO { a * x } else { x }),
            Function::ThresholdedRelu => each(values, |x| if x > a { x } else { F::ZERO }),
            Function::ScaledTanh => each(values, |x| a * (b * x).tanh()),
            Function::HardSigmoid => each(values, |x| (a * x + b).larger(F::ZERO).smaller(F::ONE)),
            Function::Elu => each(values, |x| if x < F::ZERO { a * x.exp_m1() } else { x }),
            Function::Softsign => each(values, |x| x / (F::ONE + x.abs())),
            Function::Softplus => each(values, |x| x.exp().ln_1p()),
            Function::Affine => each(values, |x| a * x + b),
        }
    }
}
