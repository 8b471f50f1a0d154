//! Recurrent layers: LSTM, GRU and RNN. Gates are computed in FP32 (FP64 for FP64 tensors); the state that is carried
//! from step to step stays in that type too, and outputs are rounded once.

use super::{Built, Entry, Inputs, NodeCx, entry, kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::gemm::{self, Packed, Product, Source, Strided};
use crate::backend::cpu::kernels::lane::refuse;
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::DataType::Float64;
use crate::{Result, bail, err};

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("LSTM", build), entry("GRU", build), entry("RNN", build)];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Cell {
    Lstm,
    Gru,
    Rnn,
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
            Cell::Rnn => 1,
        }
    }
}

#[derive(Debug, Clone, Copy)]
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
#[derive(Debug, Clone, Copy)]
struct Activation(Function, f32, f32);

impl Activation {
    fn apply<F: Float>(self, x: F) -> F {
        let (a, b) = (F::of(self.1.into()), F::of(self.2.into()));
        match self.0 {
            Function::Sigmoid => x.sigmoid(),
            Function::Tanh => x.tanh(),
            Function::Relu => x.larger(F::ZERO),
            Function::LeakyRelu => {
                if x < F::ZERO {
                    a * x
                } else {
                    x
                }
            }
            Function::ThresholdedRelu => {
                if x > a {
                    x
                } else {
                    F::ZERO
                }
            }
            Function::ScaledTanh => a * (b * x).tanh(),
            Function::HardSigmoid => (a * x + b).larger(F::ZERO).smaller(F::ONE),
            Function::Elu => {
                if x < F::ZERO {
                    a * x.exp_m1()
                } else {
                    x
                }
            }
            Function::Softsign => x / (F::ONE + x.abs()),
            Function::Softplus => x.exp().ln_1p(),
            Function::Affine => a * x + b,
        }
    }
}

fn activation(name: &str, alpha: Option<f32>, beta: Option<f32>) -> Result<Activation> {
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

struct Layer {
    cell: Cell,
    /// For each direction: walks backwards, and its activations.
    directions: Vec<(bool, Vec<Activation>)>,
    clip: Option<f32>,
    input_forget: bool,
    linear_before_reset: bool,
    batch_first: bool,
    hidden: Option<i64>,
}

fn build(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 8)?;
    let cell = match &*cx.node.op_type {
        "LSTM" => Cell::Lstm,
        "GRU" => Cell::Gru,
        _ => Cell::Rnn,
    };
    let reverse = match cx.string("direction", "forward")?.as_str() {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => bail!(InvalidModel, "its attribute 'direction' is '{other}'"),
    };
    let default: &[&str] = match cell {
        Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        Cell::Gru => &["Sigmoid", "Tanh"],
        Cell::Rnn => &["Tanh"],
    };
    let names = cx
        .strings("activations")?
        .unwrap_or_else(|| default.iter().cycle().take(default.len() * reverse.len()).map(|s| s.to_string()).collect());
    if names.len() != default.len() * reverse.len() {
        bail!(InvalidModel, "it has {} activations, but needs {}", names.len(), default.len() * reverse.len());
    }
    let (alphas, betas) = (cx.floats("activation_alpha")?, cx.floats("activation_beta")?);
    // The lists hold values only for the activations that have that parameter, in order.
    let (mut alphas, mut betas) = (alphas.unwrap_or_default().into_iter(), betas.unwrap_or_default().into_iter());
    let all = names
        .iter()
        .map(|n| {
            let plain = activation(n, None, None)?;
            let takes_beta = matches!(plain.0, Function::ScaledTanh | Function::HardSigmoid | Function::Affine);
            let takes_alpha =
                takes_beta || matches!(plain.0, Function::LeakyRelu | Function::ThresholdedRelu | Function::Elu);
            let alpha = if takes_alpha { alphas.next() } else { None };
            let beta = if takes_beta { betas.next() } else { None };
            activation(n, alpha, beta)
        })
        .collect::<Result<Vec<_>>>()?;
    let directions = reverse.iter().zip(all.chunks(default.len())).map(|(&r, a)| (r, a.to_vec())).collect();
    let layer = Layer {
        cell,
        directions,
        clip: cx.opt_float("clip")?,
        input_forget: cx.flag("input_forget", false)?,
        linear_before_reset: cx.flag("linear_before_reset", false)?,
        batch_first: cx.flag("layout", false)?,
        hidden: cx.opt_int("hidden_size")?,
    };
    kernel(move |cx, inputs| match inputs.tensor(0)?.dtype() {
        Float64 => layer.run::<f64>(cx, inputs),
        t if t.is_float() => layer.run::<f32>(cx, inputs),
        other => Err(refuse("recurrent layer", other)),
    })
}

/// Sizes of one call.
struct Sizes {
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
}

/// What one direction reads, in the computing type.
struct Weights<'a, F> {
    w: &'a [F],
    r: &'a [F],
    bias: Option<&'a [F]>,
    peepholes: Option<&'a [F]>,
}

impl Layer {
    fn run<F: Float>(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
        let dtype = inputs.tensor(0)?.dtype();
        let wide = |i: usize| inputs.opt(i)?.map(|t| cast_float(cx, t, F::DTYPE)).transpose();
        let need = |i: usize| wide(i)?.ok_or_else(|| err!(InvalidModel, "its input {i} is missing"));
        let swap = |t: Tensor| super::layout::transpose(cx, &t, &[1, 0, 2]);
        let mut x = need(0)?;
        let (w, r, bias) = (need(1)?, need(2)?, wide(3)?);
        let (mut h0, mut c0, peepholes) = (wide(5)?, wide(6)?, wide(7)?);
        let three = [Some(&x), Some(&w), Some(&r), h0.as_ref(), c0.as_ref()];
        if let Some(t) = three.into_iter().flatten().find(|t| t.rank() != 3) {
            bail!(ShapeMismatch, "an input of shape {:?} must have three dimensions", t.dims());
        }
        if self.batch_first {
            x = swap(x)?;
            h0 = h0.map(swap).transpose()?;
            c0 = c0.map(swap).transpose()?;
        }
        let (gates, directions) = (self.cell.gates(), self.directions.len());
        let sizes = Sizes { steps: x.dims()[0], batch: x.dims()[1], input: x.dims()[2], hidden: r.dims()[2] };
        let (h, n) = (sizes.hidden, sizes.batch);
        let fits = |t: Option<&Tensor>, dims: &[usize], what: &str| match t {
            Some(t) if t.dims() != dims => {
                Err(err!(ShapeMismatch, "its {what} has the shape {:?}, not {dims:?}", t.dims()))
            }
            _ => Ok(()),
        };
        if self.hidden.is_some_and(|s| s != h as i64) {
            bail!(ShapeMismatch, "its attribute 'hidden_size' is {:?}, but the weights are for {h}", self.hidden);
        }
        fits(Some(&w), &[directions, gates * h, sizes.input], "W")?;
        fits(Some(&r), &[directions, gates * h, h], "R")?;
        fits(bias.as_ref(), &[directions, 2 * gates * h], "B")?;
        fits(h0.as_ref(), &[directions, n, h], "initial_h")?;
        fits(c0.as_ref(), &[directions, n, h], "initial_c")?;
        fits(peepholes.as_ref(), &[directions, 3 * h], "P")?;
        // A length for each sequence, and there may be any number of sequences of nothing.
        let _held = cx.pool.charge(n.saturating_mul(size_of::<usize>()))?;
        let lengths = match inputs.opt_ints(4)? {
            None => vec![sizes.steps; n],
            Some(l) if l.len() == n && l.iter().all(|&v| (0..=sizes.steps as i64).contains(&v)) => {
                l.iter().map(|&v| v as usize).collect()
            }
            Some(l) => bail!(Execution, "lengths {l:?} do not fit {n} sequences of {} steps", sizes.steps),
        };
        let mut y = Tensor::new(cx.pool, F::DTYPE, vec![sizes.steps, directions, n, h])?;
        let mut last_h = Tensor::new(cx.pool, F::DTYPE, vec![directions, n, h])?;
        let mut last_c = Tensor::new(cx.pool, F::DTYPE, vec![directions, n, h])?;
        for (d, (reverse, functions)) in self.directions.iter().enumerate() {
            let slice = |t: &'_ Option<Tensor>, size: usize| -> Result<Option<Vec<F>>> {
                t.as_ref().map(|t| Ok(t.slice::<F>()?[d * size..(d + 1) * size].to_vec())).transpose()
            };
            let (bias, holes) = (slice(&bias, 2 * gates * h)?, slice(&peepholes, 3 * h)?);
            let weights = Weights {
                w: &w.slice::<F>()?[d * gates * h * sizes.input..][..gates * h * sizes.input],
                r: &r.slice::<F>()?[d * gates * h * h..][..gates * h * h],
                bias: bias.as_deref(),
                peepholes: holes.as_deref(),
            };
            let mut hidden = slice(&h0, n * h)?.unwrap_or_else(|| vec![F::ZERO; n * h]);
            let mut cell = slice(&c0, n * h)?.unwrap_or_else(|| vec![F::ZERO; n * h]);
            let out = y.slice_mut::<F>()?;
            self.direction(
                cx,
                &sizes,
                x.slice()?,
                &weights,
                *reverse,
                functions,
                &lengths,
                &mut hidden,
                &mut cell,
                |t, b, v| {
                    out[((t * directions + d) * n + b) * h..][..h].copy_from_slice(v);
                },
            )?;
            last_h.slice_mut::<F>()?[d * n * h..][..n * h].copy_from_slice(&hidden);
            last_c.slice_mut::<F>()?[d * n * h..][..n * h].copy_from_slice(&cell);
        }
        if self.batch_first {
            y = super::layout::transpose(cx, &y, &[2, 0, 1, 3])?;
            last_h = swap(last_h)?;
            last_c = swap(last_c)?;
        }
        let mut results = vec![y, last_h];
        if self.cell == Cell::Lstm {
            results.push(last_c);
        }
        results.iter().map(|t| cast_float(cx, t, dtype).map(Val::Tensor)).collect()
    }

    #[allow(clippy::too_many_arguments)]
    fn direction<F: Float>(
        &self,
        cx: &Cx,
        s: &Sizes,
        x: &[F],
        weights: &Weights<F>,
        reverse: bool,
        functions: &[Activation],
        lengths: &[usize],
        hidden: &mut [F],
        cell: &mut [F],
        mut emit: impl FnMut(usize, usize, &[F]),
    ) -> Result<()> {
        let (h, n, width) = (s.hidden, s.batch, self.cell.gates() * s.hidden);
        // What the inputs add to the gates, for all steps at once.
        let mut from_x = Tensor::new(cx.pool, F::DTYPE, vec![s.steps * n, width])?;
        let input = Strided { data: x, lane: s.input, step: 1 };
        let by = Strided { data: weights.w, lane: s.input, step: 1 };
        let product = Product {
            m: s.steps * n,
            n: width,
            k: s.input,
            a: &input,
            b: &by,
            offset: 0,
            row_stride: width,
            epilogue: None,
        };
        gemm::run::<F>(cx, &[product], from_x.slice_mut()?)?;
        let from_x = from_x.slice::<F>()?;
        let plain = Strided { data: weights.r, lane: h, step: 1 };
        let packed = if s.steps > 1 { Some(Packed::new(&plain, width, h, F::micro().nr)?) } else { None };
        let by: &dyn Source<F> = match &packed {
            Some(p) => p,
            None => &plain,
        };
        let mut gates = vec![F::ZERO; n * width];
        let mut next = vec![F::ZERO; h];
        for step in 0..s.steps {
            cx.check_cancelled()?;
            let state = Strided { data: &*hidden, lane: h, step: 1 };
            let product =
                Product { m: n, n: width, k: h, a: &state, b: by, offset: 0, row_stride: width, epilogue: None };
            gemm::run::<F>(cx, &[product], &mut gates)?;
            let before = hidden.to_vec();
            for b in 0..n {
                if step >= lengths[b] {
                    let t = step;
                    next.fill(F::ZERO);
                    emit(t, b, &next);
                    continue;
                }
                let t = if reverse { lengths[b] - 1 - step } else { step };
                let from_x = &from_x[(t * n + b) * width..][..width];
                let from_h = &gates[b * width..(b + 1) * width];
                let old = &before[b * h..(b + 1) * h];
                match self.cell {
                    Cell::Lstm => {
                        let c = &mut cell[b * h..(b + 1) * h];
                        self.lstm(functions, weights, from_x, from_h, c, &mut next);
                    }
                    Cell::Gru => self.gru(cx, functions, weights, from_x, from_h, old, &mut next)?,
                    Cell::Rnn => {
                        for (i, o) in next.iter_mut().enumerate() {
                            *o = functions[0].apply(self.clipped(from_x[i] + from_h[i] + bias(weights, i, width)));
                        }
                    }
                }
                hidden[b * h..(b + 1) * h].copy_from_slice(&next);
                emit(t, b, &next);
            }
        }
        Ok(())
    }

    fn clipped<F: Float>(&self, v: F) -> F {
        match self.clip {
            Some(c) => v.larger(F::of(-f64::from(c))).smaller(F::of(c.into())),
            None => v,
        }
    }

    fn lstm<F: Float>(
        &self,
        functions: &[Activation],
        weights: &Weights<F>,
        from_x: &[F],
        from_h: &[F],
        cell: &mut [F],
        next: &mut [F],
    ) {
        let h = next.len();
        let [f, g, out] = [functions[0], functions[1], functions[2]];
        let hole = |k: usize, i: usize| weights.peepholes.map_or(F::ZERO, |p| p[k * h + i]);
        // Gates are in the order input, output, forget, cell.
        let gate = |k: usize, i: usize| from_x[k * h + i] + from_h[k * h + i] + bias(weights, k * h + i, 4 * h);
        for i in 0..h {
            let c = cell[i];
            let enter = f.apply(self.clipped(gate(0, i) + hole(0, i) * c));
            let keep = match self.input_forget {
                true => F::ONE - enter,
                false => f.apply(self.clipped(gate(2, i) + hole(2, i) * c)),
            };
            let c = keep * c + enter * g.apply(self.clipped(gate(3, i)));
            cell[i] = c;
            next[i] = f.apply(self.clipped(gate(1, i) + hole(1, i) * c)) * out.apply(c);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn gru<F: Float>(
        &self,
        cx: &Cx,
        functions: &[Activation],
        weights: &Weights<F>,
        from_x: &[F],
        from_h: &[F],
        old: &[F],
        next: &mut [F],
    ) -> Result<()> {
        let h = next.len();
        let part = |side: usize, k: usize, i: usize| weights.bias.map_or(F::ZERO, |b| b[side * 3 * h + k * h + i]);
        // Gates are in the order update, reset, hidden.
        let gate = |k: usize, i: usize| {
            let sum = from_x[k * h + i] + from_h[k * h + i] + part(0, k, i) + part(1, k, i);
            functions[0].apply(self.clipped(sum))
        };
        let reset: Vec<F> = (0..h).map(|i| gate(1, i)).collect();
        let candidate: Vec<F> = if self.linear_before_reset {
            (0..h).map(|i| reset[i] * (from_h[2 * h + i] + part(1, 2, i))).collect()
        } else {
            // The reset state goes through the weights again.
            let state: Vec<F> = old.iter().zip(&reset).map(|(&o, &r)| o * r).collect();
            let (a, b) = (
                Strided { data: &state, lane: h, step: 1 },
                Strided { data: &weights.r[2 * h * h..], lane: h, step: 1 },
            );
            let mut out = vec![F::ZERO; h];
            let product = Product { m: 1, n: h, k: h, a: &a, b: &b, offset: 0, row_stride: h, epilogue: None };
            gemm::run::<F>(cx, &[product], &mut out)?;
            (0..h).map(|i| out[i] + part(1, 2, i)).collect()
        };
        for (i, o) in next.iter_mut().enumerate() {
            let update = gate(0, i);
            let new = functions[1].apply(self.clipped(from_x[2 * h + i] + part(0, 2, i) + candidate[i]));
            *o = (F::ONE - update) * new + update * old[i];
        }
        Ok(())
    }
}

/// Both biases of a gate together.
fn bias<F: Float>(w: &Weights<F>, i: usize, width: usize) -> F {
    w.bias.map_or(F::ZERO, |b| b[i] + b[width + i])
}
