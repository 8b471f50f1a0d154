//! Recurrent layers: LSTM, GRU and RNN. Gates are computed in FP32 (FP64 for FP64 tensors); the state that is carried
//! from step to step stays in that type too, and outputs are rounded once.

mod activation;
mod direction;

use super::{Built, Entry, Inputs, NodeCx, entry, kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::gemm::rows::{Matrix, Packed};
use crate::backend::cpu::kernels::lane::{FloatLane, refuse};
use crate::backend::cpu::kernels::vector::Dispatch;
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::DataType::Float64;
use crate::{Result, bail, err, with_float};
use activation::Activation;
use direction::{Direction, Results, Sizes, Weights};
use parking_lot::Mutex;
use std::any::Any;

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

/// A recurrent layer's attributes and constants.
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

/// Matrices of the type that the weights compute in: one a direction, or two, one after the other.
type Matrices<F> = Vec<Box<dyn Matrix<F>>>;
type AnyPacked = Option<Box<dyn Any + Send + Sync>>;

/// Packs weights; the candidate's rows of a GRU by themselves if it is so wanted.
fn pack(t: &Tensor, candidate: bool) -> Result<AnyPacked> {
    fn typed<T: FloatLane<C: Dispatch>>(t: &Tensor, candidate: bool) -> Result<AnyPacked> {
        let &[directions, rows, k] = t.dims() else { return Ok(None) };
        let data = t.slice::<T>()?;
        let cut = if candidate { rows / 3 * 2 } else { rows };
        let mut all: Matrices<T::C> = Vec::new();
        for d in 0..directions {
            let (most, rest) = data[d * rows * k..(d + 1) * rows * k].split_at(cut * k);
            all.push(Box::new(Packed::of_columns(most, cut, k)?));
            if candidate {
                all.push(Box::new(Packed::of_columns(rest, rows - cut, k)?));
            }
        }
        Ok(Some(Box::new(all)))
    }
    with_float!(t.dtype(), T => typed::<T>(t, candidate), else other => Err(refuse("recurrent layer", other)))
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
            let (alpha, beta) = Activation::new(n, None, None)?.takes();
            let alpha = if alpha { alphas.next() } else { None };
            let beta = if beta { betas.next() } else { None };
            Activation::new(n, alpha, beta)
        })
        .collect::<Result<Vec<_>>>()?;
    let directions = reverse.iter().zip(all.chunks(default.len())).map(|(&r, a)| (r, a.to_vec())).collect();
    let linear_before_reset = cx.flag("linear_before_reset", false)?;
    let mut layer = Layer {
        cell,
        directions,
        clip: cx.opt_float("clip")?,
        input_forget: cx.flag("input_forget", false)?,
        linear_before_reset,
        batch_first: cx.flag("layout", false)?,
        hidden: cx.opt_int("hidden_size")?,
        packed: [None, None],
    };
    for (i, packed) in layer.packed.iter_mut().enumerate() {
        *packed = match cx.constant(1 + i) {
            Some(t) if t.dtype().is_float() => pack(t, i == 1 && cell == Cell::Gru && !linear_before_reset)?,
            _ => None,
        };
    }
    kernel(move |cx, inputs| match inputs.tensor(0)?.dtype() {
        Float64 => layer.run::<f64>(cx, inputs),
        t if t.is_float() => layer.run::<f32>(cx, inputs),
        other => Err(refuse("recurrent layer", other)),
    })
}

impl Layer {
    fn run<F: Dispatch>(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
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
        let candidate = self.cell == Cell::Gru && !self.linear_before_reset;
        // What was not packed when the engine was built is packed now.
        let matrices = |t: &Tensor, i: usize| match self.packed[i] {
            None => pack(t, i == 1 && candidate),
            Some(_) => Ok(None),
        };
        let now = [matrices(w, 0)?, matrices(r, 1)?];
        let find = |i: usize, at: usize| {
            let all = self.packed[i].as_ref().or(now[i].as_ref()).and_then(|p| p.downcast_ref::<Matrices<F>>());
            let found = all.and_then(|all| all.get(at)).map(|m| &**m);
            found.ok_or_else(|| err!(TypeMismatch, "its weights do not compute in {}", F::DTYPE))
        };
        let part = |t: &'_ Option<Tensor>, d: usize, size: usize| -> Result<Option<Vec<F>>> {
            t.as_ref().map(|t| Ok(t.slice::<F>()?[d * size..(d + 1) * size].to_vec())).transpose()
        };
        let state = |t: &Option<Tensor>, d: usize| -> Result<Tensor> {
            let mut own = Tensor::new(cx.pool, F::DTYPE, vec![n, h])?;
            let to = own.slice_mut::<F>()?;
            match t {
                Some(t) => to.copy_from_slice(&t.slice::<F>()?[d * n * h..(d + 1) * n * h]),
                None => to.fill(F::ZERO),
            }
            Ok(own)
        };
        let xs = x.slice::<F>()?;
        let one = |d: usize| -> Result<Results> {
            let (reverse, functions) = &self.directions[d];
            let holes = part(&peepholes, d, 3 * h)?;
            let (from_x, from_h) = (find(0, d)?, find(1, if candidate { 2 * d } else { d })?);
            let by = if candidate { Some(find(1, 2 * d + 1)?) } else { None };
            let cut = if candidate { 2 * h } else { gates * h };
            let biases = match part(&bias, d, 2 * gates * h)? {
                None => [Vec::new(), Vec::new(), Vec::new()],
                Some(all) => {
                    let (first, second) = all.split_at(gates * h);
                    let padded = |part: &[F], len: usize| {
                        let mut part = part.to_vec();
                        part.resize(len, F::ZERO);
                        part
                    };
                    let last = padded(&second[cut..], by.map_or(0, |m| m.padded()));
                    [padded(first, from_x.padded()), padded(&second[..cut], from_h.padded()), last]
                }
            };
            let weights = Weights { w: from_x, r: from_h, candidate: by, biases, peepholes: holes.as_deref() };
            let (sizes, lengths) = (&sizes, &lengths[..]);
            let one = Direction { layer: self, sizes, weights, reverse: *reverse, functions, lengths };
            one.run(cx, xs, state(&h0, d)?, state(&c0, d)?)
        };
        // Directions do not wait for each other; where there are more threads, or steps are large, each step is shared
        // among all threads instead.
        let slots: Vec<Mutex<Option<Results>>> = (0..directions).map(|_| Mutex::new(None)).collect();
        let step = n.saturating_mul(gates * h).saturating_mul(h);
        let fill = |d: usize| -> Result<()> {
            *slots[d].lock() = Some(one(d)?);
            Ok(())
        };
        match cx.threads.count() <= directions || !cx.threads.pays(step) {
            true => cx.threads.try_each(directions, step.saturating_mul(2 * sizes.steps), &fill)?,
            false => (0..directions).try_for_each(fill)?,
        }
        let mut all = slots.into_iter().filter_map(Mutex::into_inner).collect::<Vec<_>>();
        let one = if directions == 1 { all.pop() } else { None };
        let (mut y, mut last_h, mut last_c) = match one {
            Some(one) => (
                one.y.reshaped(vec![sizes.steps, 1, n, h])?,
                one.hidden.reshaped(vec![1, n, h])?,
                one.cell.reshaped(vec![1, n, h])?,
            ),
            None => {
                let mut y = Tensor::new(cx.pool, F::DTYPE, vec![sizes.steps, directions, n, h])?;
                let mut last_h = Tensor::new(cx.pool, F::DTYPE, vec![directions, n, h])?;
                let mut last_c = Tensor::new(cx.pool, F::DTYPE, vec![directions, n, h])?;
                for (d, one) in all.iter().enumerate() {
                    let rows = one.y.slice::<F>()?.chunks_exact((n * h).max(1));
                    let places = y.slice_mut::<F>()?.chunks_exact_mut((n * h).max(1)).skip(d).step_by(directions);
                    places.zip(rows).for_each(|(to, from)| to.copy_from_slice(from));
                    last_h.slice_mut::<F>()?[d * n * h..][..n * h].copy_from_slice(one.hidden.slice()?);
                    last_c.slice_mut::<F>()?[d * n * h..][..n * h].copy_from_slice(one.cell.slice()?);
                }
                (y, last_h, last_c)
            }
        };
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
}
