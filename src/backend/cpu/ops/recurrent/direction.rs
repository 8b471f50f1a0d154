//! One direction of a recurrent layer, step by step.

use super::activation::{Activation, each};
use super::{Cell, Layer};
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::gemm::rows::{Matrix, multiply};
use crate::backend::cpu::kernels::simd::vectorize;
use crate::backend::cpu::kernels::vector::Dispatch;
use crate::backend::cpu::tensor::Tensor;

/// Sizes of one call.
pub struct Sizes {
    pub steps: usize,
    pub batch: usize,
    pub input: usize,
    pub hidden: usize,
}

/// What one direction reads.
pub struct Weights<'a, F> {
    pub w: &'a dyn Matrix<F>,
    pub r: &'a dyn Matrix<F>,
    /// The recurrent weights of a GRU's candidate, where they see the reset state; then `r` has the other gates alone.
    pub candidate: Option<&'a dyn Matrix<F>>,
    /// What is added to the products of `w`, of `r` and of `candidate`: as long as their rows, or empty.
    pub biases: [Vec<F>; 3],
    pub peepholes: Option<&'a [F]>,
}

/// What one direction has computed: all steps, the last state, the last cell.
pub struct Results {
    pub y: Tensor,
    pub hidden: Tensor,
    pub cell: Tensor,
}

/// Memory of the steps, for all sequences.
struct Work<F> {
    /// Products of the state with the recurrent weights.
    gates: Vec<F>,
    /// Sums of one sequence's gates (LSTM), or of all sequences' update and reset gates (GRU).
    sums: Vec<F>,
    /// What goes through the candidate's weights.
    state: Vec<F>,
    candidate: Vec<F>,
}

/// One direction's run.
pub struct Direction<'a, F> {
    pub layer: &'a Layer,
    pub sizes: &'a Sizes,
    pub weights: Weights<'a, F>,
    pub reverse: bool,
    pub functions: &'a [Activation],
    pub lengths: &'a [usize],
}

impl<F: Dispatch> Direction<'_, F> {
    /// Walks over the steps of `x`, from the state in `hidden` and `cell` on.
    pub fn run(&self, cx: &Cx, x: &[F], mut hidden: Tensor, mut cell: Tensor) -> Result<Results> {
        let (s, weights, lengths) = (self.sizes, &self.weights, self.lengths);
        let (h, n) = (s.hidden, s.batch);
        let mut y = Tensor::new(cx.pool, F::DTYPE, vec![s.steps, n, h])?;
        let out = y.slice_mut::<F>()?;
        // What the inputs add to the gates, for all steps at once.
        let apart = weights.w.padded();
        let mut from_x = Tensor::new(cx.pool, F::DTYPE, vec![s.steps * n, apart])?;
        multiply(cx.threads, weights.w, x, s.steps * n, &weights.biases[0], from_x.slice_mut()?);
        let from_x = from_x.slice::<F>()?;
        let zeros = |len: usize| vec![F::ZERO; len];
        let several = self.layer.cell == Cell::Gru;
        let mut work = Work {
            gates: zeros(n * weights.r.padded()),
            sums: zeros(if several { n * 2 * h } else { 4 * h }),
            state: zeros(if weights.candidate.is_some() { n * h } else { 0 }),
            candidate: zeros(weights.candidate.map_or(if several { n * h } else { 0 }, |c| n * c.padded())),
        };
        let (state, cells) = (hidden.slice_mut::<F>()?, cell.slice_mut::<F>()?);
        for step in 0..s.steps {
            cx.check_cancelled()?;
            multiply(cx.threads, weights.r, state, n, &weights.biases[1], &mut work.gates);
            let time = |b: usize| if self.reverse { lengths[b].saturating_sub(1 + step) } else { step };
            let row = |b: usize| &from_x[(time(b) * n + b) * apart..][..apart];
            if several && h > 0 {
                self.candidates(cx, &row, state, &mut work);
            }
            for b in 0..n {
                let next = |at: usize| (at * n + b) * h..(at * n + b + 1) * h;
                if step >= lengths[b] {
                    out[next(step)].fill(F::ZERO);
                    continue;
                }
                let next = &mut out[next(time(b))];
                let from_h = &work.gates[b * weights.r.padded()..];
                match self.layer.cell {
                    Cell::Lstm => {
                        add(&mut work.sums, row(b), from_h);
                        self.lstm(&mut work.sums, &mut cells[b * h..(b + 1) * h], next);
                    }
                    Cell::Gru if h > 0 => {
                        let apart = work.candidate.len() / n;
                        let (new, update) = (&work.candidate[b * apart..][..h], &work.sums[b * 2 * h..][..h]);
                        let old = &state[b * h..(b + 1) * h];
                        vectorize(|| {
                            for (((o, &u), &new), &old) in next.iter_mut().zip(update).zip(new).zip(old) {
                                *o = (F::ONE - u) * new + u * old;
                            }
                        });
                    }
                    Cell::Gru => {}
                    Cell::Rnn => {
                        add(next, row(b), from_h);
                        self.clip(next);
                        self.functions[0].apply(next);
                    }
                }
                state[b * h..(b + 1) * h].copy_from_slice(next);
            }
        }
        Ok(Results { y, hidden, cell })
    }

    fn clip(&self, values: &mut [F]) {
        if let Some(c) = self.layer.clip {
            let (low, high) = (F::of(-f64::from(c)), F::of(c.into()));
            each(values, |v| v.larger(low).smaller(high));
        }
    }

    /// `sums` has the gates' sums, in the order input, output, forget, cell.
    fn lstm(&self, sums: &mut [F], cell: &mut [F], next: &mut [F]) {
        let h = next.len();
        let &[f, g, last] = self.functions else { return };
        // Without peepholes three gates are one piece.
        let together = self.weights.peepholes.is_none() && !self.layer.input_forget;
        if together {
            self.clip(&mut sums[..3 * h]);
            f.apply(&mut sums[..3 * h]);
        }
        let (enter, rest) = sums.split_at_mut(h);
        let (out, rest) = rest.split_at_mut(h);
        let (keep, new) = rest.split_at_mut(h);
        // What the cell adds to the gates, in the order of the peepholes: input, output, forget.
        let hole = |gate: &mut [F], k: usize, cell: &[F]| {
            if let Some(p) = self.weights.peepholes {
                let p = &p[k * h..(k + 1) * h];
                vectorize(|| gate.iter_mut().zip(p).zip(cell).for_each(|((v, &p), &c)| *v += p * c));
            }
        };
        if !together {
            hole(enter, 0, cell);
            self.clip(enter);
            f.apply(enter);
            if self.layer.input_forget {
                keep.iter_mut().zip(&*enter).for_each(|(k, &e)| *k = F::ONE - e);
            } else {
                hole(keep, 2, cell);
                self.clip(keep);
                f.apply(keep);
            }
        }
        self.clip(new);
        g.apply(new);
        let gates = enter.iter().zip(&*keep).zip(&*new);
        vectorize(|| cell.iter_mut().zip(gates).for_each(|(c, ((&e, &k), &n))| *c = k * *c + e * n));
        if !together {
            hole(out, 1, cell);
            self.clip(out);
            f.apply(out);
        }
        next.copy_from_slice(cell);
        last.apply(next);
        vectorize(|| next.iter_mut().zip(&*out).for_each(|(n, &o)| *n = o * *n));
    }

    /// The gates and candidates of a GRU, of all sequences. Gates are in the order update, reset, hidden.
    fn candidates<'x>(&self, cx: &Cx, from_x: &dyn Fn(usize) -> &'x [F], old: &[F], work: &mut Work<F>) {
        let (n, h, apart) = (self.sizes.batch, self.sizes.hidden, self.weights.r.padded());
        for (b, sums) in work.sums.chunks_exact_mut(2 * h).enumerate() {
            let from_h = &work.gates[b * apart..(b + 1) * apart];
            add(sums, from_x(b), from_h);
            self.clip(sums);
            self.functions[0].apply(sums);
            let (from, to) = match self.weights.candidate {
                Some(_) => (&old[b * h..(b + 1) * h], &mut work.state[b * h..(b + 1) * h]),
                None => (&from_h[2 * h..3 * h], &mut work.candidate[b * h..(b + 1) * h]),
            };
            let reset = &sums[h..];
            vectorize(|| to.iter_mut().zip(from).zip(reset).for_each(|((o, &v), &r)| *o = v * r));
        }
        if let Some(by) = self.weights.candidate {
            // The reset state goes through the weights.
            multiply(cx.threads, by, &work.state, n, &self.weights.biases[2], &mut work.candidate);
        }
        let apart = work.candidate.len() / n.max(1);
        for (b, new) in work.candidate.chunks_exact_mut(apart.max(1)).enumerate() {
            let new = &mut new[..h];
            let from = &from_x(b)[2 * h..];
            vectorize(|| new.iter_mut().zip(from).for_each(|(v, &x)| *v += x));
            self.clip(new);
            self.functions[1].apply(new);
        }
    }
}

/// What comes from the input and from the state; both have their biases.
fn add<F: Dispatch>(sums: &mut [F], x: &[F], h: &[F]) {
    vectorize(|| sums.iter_mut().zip(x).zip(h).for_each(|((s, &x), &h)| *s = x + h));
}
