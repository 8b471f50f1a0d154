//! Recurrent layers: LSTM, GRU and RNN. Gates are computed in FP32 (FP64 for FP64 tensors); the state that is carried
//! from step to step stays in that type too, and outputs are rounded once.

use super::{Built, Entry, Inputs, NodeCx, entry, kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::gemm::{self, Packed, Product, Source, Strided};
use crate::backend::cpu::kernels::lane::{FloatLane, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::simd::vectorize;
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::DataType::Float64;
use crate::{Result, bail, err, with_float};
use half::{bf16, f16};
use std::any::Any;
use std::borrow::Cow;
use std::ops::Range;

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

/// Changes every value, with vector instructions.
#[inline(always)]
fn each<F: Float>(values: &mut [F], f: impl Fn(F) -> F) {
    vectorize(|| values.iter_mut().for_each(|v| *v = f(*v)));
}

impl Activation {
    fn apply<F: Float>(self, values: &mut [F]) {
        let (a, b) = (F::of(self.1.into()), F::of(self.2.into()));
        match self.0 {
            Function::Sigmoid => each(values, |x| x.sigmoid()),
            Function::Tanh => each(values, |x| x.tanh()),
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
    /// Constant weights and recurrent weights, packed when the engine was built.
    packed: [AnyPacked; 2],
}

/// One matrix a direction, in the weights' own type.
type AnyPacked = Option<Box<dyn Any + Send + Sync>>;

fn pack<T: FloatLane>(t: &Tensor) -> Result<AnyPacked> {
    let &[directions, rows, k] = t.dims() else { return Ok(None) };
    let data = t.slice::<T>()?;
    let all = (0..directions)
        .map(|d| {
            let matrix = Strided { data: &data[d * rows * k..(d + 1) * rows * k], lane: k, step: 1 };
            Packed::new(&matrix, rows, k, T::C::micro().nr)
        })
        .collect::<Result<Vec<Packed<T>>>>()?;
    Ok(Some(Box::new(all)))
}

fn pack_constant(cx: &NodeCx, input: usize) -> Result<AnyPacked> {
    match cx.constant(input) {
        Some(t) if !t.is_empty() => with_float!(t.dtype(), T => pack::<T>(t), else _other => Ok(None)),
        _ => Ok(None),
    }
}

/// The packed matrix of a direction in the computing type: halves are widened once for all steps.
fn computing<F: Float>(packed: &AnyPacked, direction: usize) -> Result<Option<Cow<'_, Packed<F>>>> {
    fn find<T: FloatLane>(packed: &AnyPacked, direction: usize) -> Option<&Packed<T>> {
        packed.as_ref()?.downcast_ref::<Vec<Packed<T>>>()?.get(direction)
    }
    if let Some(own) = find::<F>(packed, direction) {
        return Ok(Some(Cow::Borrowed(own)));
    }
    let wide = match (find::<f16>(packed, direction), find::<bf16>(packed, direction)) {
        (Some(p), _) => p.cast::<F>()?,
        (_, Some(p)) => p.cast::<F>()?,
        _ => return Ok(None),
    };
    Ok(Some(Cow::Owned(wide)))
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
        packed: [pack_constant(cx, 1)?, pack_constant(cx, 2)?],
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
    w: &'a dyn Source<F>,
    r: &'a dyn Source<F>,
    /// The recurrent weights of a GRU's candidate by themselves, where they see the reset state.
    candidate: Option<&'a dyn Source<F>>,
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
        let (w, r, bias) = (inputs.tensor(1)?, inputs.tensor(2)?, wide(3)?);
        let (mut h0, mut c0, peepholes) = (wide(5)?, wide(6)?, wide(7)?);
        let three = [Some(&x), Some(w), Some(r), h0.as_ref(), c0.as_ref()];
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
        fits(Some(w), &[directions, gates * h, sizes.input], "W")?;
        fits(Some(r), &[directions, gates * h, h], "R")?;
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
            // What was not packed when the engine was built is widened and packed now.
            let matrix = |t: &Tensor, which: usize, rows: Range<usize>, k: usize| -> Result<Cow<'_, Packed<F>>> {
                if let (Some(p), true) = (computing::<F>(&self.packed[which], d)?, rows.len() == gates * h) {
                    return Ok(p);
                }
                let t = cast_float(cx, t, F::DTYPE)?;
                let data = &t.slice::<F>()?[d * gates * h * k..][rows.start * k..rows.end * k];
                Ok(Cow::Owned(Packed::new(&Strided { data, lane: k, step: 1 }, rows.len(), k, F::micro().nr)?))
            };
            let (from_input, from_state) = (matrix(w, 0, 0..gates * h, sizes.input)?, matrix(r, 1, 0..gates * h, h)?);
            let candidate = match self.cell == Cell::Gru && !self.linear_before_reset {
                true => Some(matrix(r, 1, 2 * h..3 * h, h)?),
                false => None,
            };
            let weights = Weights {
                w: &*from_input,
                r: &*from_state,
                candidate: candidate.as_ref().map(|c| &**c as &dyn Source<F>),
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
        let product = Product {
            m: s.steps * n,
            n: width,
            k: s.input,
            a: &input,
            b: weights.w,
            offset: 0,
            row_stride: width,
            epilogue: None,
        };
        gemm::run::<F>(cx, &[product], from_x.slice_mut()?)?;
        let from_x = from_x.slice::<F>()?;
        let mut gates = vec![F::ZERO; n * width];
        let mut sums = vec![F::ZERO; width];
        let mut next = vec![F::ZERO; n * h];
        for step in 0..s.steps {
            cx.check_cancelled()?;
            multiply(cx, hidden, weights.r, n, width, h, &mut gates)?;
            let time = |b: usize| if reverse { lengths[b].saturating_sub(1 + step) } else { step };
            let row = |b: usize| &from_x[(time(b) * n + b) * width..][..width];
            if self.cell == Cell::Gru {
                self.gru(cx, s, functions, weights, &row, &gates, hidden, &mut next)?;
            }
            for (b, next) in next.chunks_exact_mut(h.max(1)).enumerate() {
                if step >= lengths[b] {
                    next.fill(F::ZERO);
                    emit(step, b, next);
                    continue;
                }
                let from_h = &gates[b * width..(b + 1) * width];
                match self.cell {
                    Cell::Lstm => {
                        let c = &mut cell[b * h..(b + 1) * h];
                        add(&mut sums, row(b), from_h, weights.bias);
                        self.lstm(functions, weights, &mut sums, c, next);
                    }
                    Cell::Gru => {}
                    Cell::Rnn => {
                        add(next, row(b), from_h, weights.bias);
                        self.clip(next);
                        functions[0].apply(next);
                    }
                }
                hidden[b * h..(b + 1) * h].copy_from_slice(next);
                emit(time(b), b, next);
            }
        }
        Ok(())
    }

    fn clip<F: Float>(&self, values: &mut [F]) {
        if let Some(c) = self.clip {
            let (low, high) = (F::of(-f64::from(c)), F::of(c.into()));
            each(values, |v| v.larger(low).smaller(high));
        }
    }

    /// `sums` has the gates' sums, in the order input, output, forget, cell.
    fn lstm<F: Float>(
        &self,
        functions: &[Activation],
        weights: &Weights<F>,
        sums: &mut [F],
        cell: &mut [F],
        next: &mut [F],
    ) {
        let h = next.len();
        let [f, g, last] = [functions[0], functions[1], functions[2]];
        let (enter, rest) = sums.split_at_mut(h);
        let (out, rest) = rest.split_at_mut(h);
        let (keep, new) = rest.split_at_mut(h);
        // What the cell adds to the gates, in the order of the peepholes: input, output, forget.
        let hole = |gate: &mut [F], k: usize, cell: &[F]| {
            if let Some(p) = weights.peepholes {
                let p = &p[k * h..(k + 1) * h];
                vectorize(|| gate.iter_mut().zip(p).zip(cell).for_each(|((v, &p), &c)| *v += p * c));
            }
        };
        hole(enter, 0, cell);
        self.clip(enter);
        f.apply(enter);
        if self.input_forget {
            keep.iter_mut().zip(&*enter).for_each(|(k, &e)| *k = F::ONE - e);
        } else {
            hole(keep, 2, cell);
            self.clip(keep);
            f.apply(keep);
        }
        self.clip(new);
        g.apply(new);
        let gates = enter.iter().zip(&*keep).zip(&*new);
        vectorize(|| cell.iter_mut().zip(gates).for_each(|(c, ((&e, &k), &n))| *c = k * *c + e * n));
        hole(out, 1, cell);
        self.clip(out);
        f.apply(out);
        next.copy_from_slice(cell);
        last.apply(next);
        vectorize(|| next.iter_mut().zip(&*out).for_each(|(n, &o)| *n = o * *n));
    }

    /// One step of all sequences. Gates are in the order update, reset, hidden.
    #[allow(clippy::too_many_arguments)]
    fn gru<'x, F: Float>(
        &self,
        cx: &Cx,
        s: &Sizes,
        functions: &[Activation],
        weights: &Weights<F>,
        from_x: &dyn Fn(usize) -> &'x [F],
        from_h: &[F],
        old: &[F],
        next: &mut [F],
    ) -> Result<()> {
        let (n, h) = (s.batch, s.hidden);
        let width = 3 * h;
        if h == 0 {
            return Ok(());
        }
        let bias = |side: usize, k: usize| weights.bias.map(|b| &b[side * width + k * h..][..h]);
        let mut sums = vec![F::ZERO; n * 2 * h];
        let mut candidate = vec![F::ZERO; n * h];
        for (b, sums) in sums.chunks_exact_mut(2 * h).enumerate() {
            let from_h = &from_h[b * width..(b + 1) * width];
            for (k, sums) in sums.chunks_exact_mut(h).enumerate() {
                let (x, s) = (&from_x(b)[k * h..(k + 1) * h], &from_h[k * h..(k + 1) * h]);
                sums.iter_mut().zip(x).zip(s).for_each(|((v, &x), &s)| *v = x + s);
                for side in [bias(0, k), bias(1, k)].into_iter().flatten() {
                    sums.iter_mut().zip(side).for_each(|(v, &b)| *v += b);
                }
            }
            self.clip(sums);
            functions[0].apply(sums);
            let (reset, out) = (&sums[h..], &mut candidate[b * h..(b + 1) * h]);
            let from = if self.linear_before_reset { &from_h[2 * h..] } else { &old[b * h..(b + 1) * h] };
            out.copy_from_slice(from);
            if self.linear_before_reset {
                bias(1, 2).into_iter().for_each(|b| out.iter_mut().zip(b).for_each(|(o, &b)| *o += b));
            }
            out.iter_mut().zip(reset).for_each(|(o, &r)| *o *= r);
        }
        if let Some(by) = weights.candidate {
            // The reset state goes through the weights.
            let state = candidate.clone();
            multiply(cx, &state, by, n, h, h, &mut candidate)?;
            for out in candidate.chunks_exact_mut(h) {
                bias(1, 2).into_iter().for_each(|b| out.iter_mut().zip(b).for_each(|(o, &b)| *o += b));
            }
        }
        for (b, new) in candidate.chunks_exact_mut(h).enumerate() {
            new.iter_mut().zip(&from_x(b)[2 * h..]).for_each(|(v, &x)| *v += x);
            bias(0, 2).into_iter().for_each(|b| new.iter_mut().zip(b).for_each(|(v, &b)| *v += b));
            self.clip(new);
            functions[1].apply(new);
            let update = &sums[b * 2 * h..][..h];
            let out = next[b * h..(b + 1) * h].iter_mut();
            for (((o, &u), &new), &old) in out.zip(update).zip(&*new).zip(&old[b * h..]) {
                *o = (F::ONE - u) * new + u * old;
            }
        }
        Ok(())
    }
}

/// `out = state by`, of `n` rows.
fn multiply<F: Float>(
    cx: &Cx,
    state: &[F],
    by: &dyn Source<F>,
    n: usize,
    width: usize,
    k: usize,
    out: &mut [F],
) -> Result<()> {
    let state = Strided { data: state, lane: k, step: 1 };
    let product = Product { m: n, n: width, k, a: &state, b: by, offset: 0, row_stride: width, epilogue: None };
    gemm::run::<F>(cx, &[product], out)
}

/// Sums of the gates: what comes from the input, from the state, and both biases.
fn add<F: Float>(sums: &mut [F], x: &[F], h: &[F], bias: Option<&[F]>) {
    vectorize(|| sums.iter_mut().zip(x).zip(h).for_each(|((s, &x), &h)| *s = x + h));
    if let Some((first, second)) = bias.map(|b| b.split_at(b.len() / 2)) {
        vectorize(|| sums.iter_mut().zip(first).zip(second).for_each(|((s, &a), &b)| *s += a + b));
    }
}
