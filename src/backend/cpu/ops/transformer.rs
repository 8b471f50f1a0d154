//! Small operators of transformers: RotaryEmbedding, SwiGLU, TensorScatter.

use super::axes::{around, axis};
use super::node::integers;
use super::wide::computing;
use super::{Built, Entry, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::lane::{FloatLane, Lane, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::movement::Elem;
use crate::backend::cpu::kernels::simd::vectorize;
use crate::backend::cpu::tensor::Tensor;
use crate::{Result, bail, err, with_elem, with_float};

/// The operators of this family.
pub const TABLE: &[Entry] =
    &[entry("RotaryEmbedding", rotary), entry("SwiGLU", swiglu), entry("TensorScatter", tensor_scatter)];

/// Elements that one task works on, about.
const PIECE: usize = 4096;

fn rotary(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 4)?;
    let size = |name: &str| -> Result<usize> {
        let n = cx.int(name, 0)?;
        usize::try_from(n).map_err(|_| err!(InvalidModel, "its attribute '{name}' is {n}"))
    };
    let (heads, turned, interleaved) =
        (size("num_heads")?, size("rotary_embedding_dim")?, cx.flag("interleaved", false)?);
    tensor_kernel(move |cx, inputs| {
        let (x, cos, sin) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let positions = inputs.opt(3)?;
        let heads_apart = x.rank() == 4;
        let (batch, heads, tokens, width) = match *x.dims() {
            [b, h, s, d] => (b, h, s, d),
            [b, s, hidden] if heads > 0 && hidden % heads == 0 => (b, heads, s, hidden / heads),
            _ => bail!(ShapeMismatch, "an input of shape {:?} with 'num_heads' {heads}", x.dims()),
        };
        let turned = if turned == 0 { width } else { turned };
        let half = turned / 2;
        let table: usize = cos.dims().iter().rev().skip(1).product();
        let lead = match positions {
            Some(_) => cos.rank() == 2,
            None => {
                cos.dims().len() == 3 && matches!(cos.dims()[0], b if b == batch || b == 1) && cos.dims()[1] == tokens
            }
        };
        if !lead || cos.dims() != sin.dims() || cos.dims().last() != Some(&half) || turned > width || turned % 2 != 0 {
            bail!(
                ShapeMismatch,
                "caches {cos:?} and {sin:?} do not go with an input {x:?} of which {turned} elements a head are turned"
            );
        }
        if x.is_empty() {
            return Ok(x.clone());
        }
        let places = places(positions, [batch, tokens], table)?;
        with_float!(x.dtype(), T => {
            let turn = Turn { half, interleaved, width };
            let wide = <<T as Lane>::C as Lane>::DTYPE;
            let (cos, sin) = (cast_float(cx, cos, wide)?, cast_float(cx, sin, wide)?);
            let (cos, sin) = (cos.slice::<<T as Lane>::C>()?, sin.slice::<<T as Lane>::C>()?);
            turn.run::<T>(cx, x, |row| {
                let (b, s) = match heads_apart {
                    true => (row / tokens / heads, row % tokens),
                    false => (row / heads / tokens, row / heads % tokens),
                };
                let at = places[b * tokens + s] * half;
                (&cos[at..at + half], &sin[at..at + half])
            })
        }, else other => Err(refuse("RotaryEmbedding", other)))
    })
}

/// The row of the caches for each token.
fn places(positions: Option<&Tensor>, [batch, tokens]: [usize; 2], rows: usize) -> Result<Vec<usize>> {
    let all = batch * tokens;
    let Some(positions) = positions else {
        // A cache of one sample serves all.
        return Ok((0..all).map(|i| i % rows.max(1)).collect());
    };
    let list = integers(positions)?;
    if list.len() != all && list.len() != tokens || positions.dims().last() != Some(&tokens) {
        bail!(ShapeMismatch, "positions of shape {:?} for {batch} samples of {tokens} tokens", positions.dims());
    }
    let place = |&p: &i64| {
        let found = usize::try_from(p).ok().filter(|p| *p < rows);
        found.ok_or_else(|| err!(Execution, "position {p} is beyond the caches, which have {rows} rows"))
    };
    let once = list.iter().map(place).collect::<Result<Vec<_>>>()?;
    Ok(once.iter().cycle().take(all).copied().collect())
}

/// How pairs of elements of a head are turned.
struct Turn {
    half: usize,
    interleaved: bool,
    width: usize,
}

impl Turn {
    /// Turns each row of `width` elements by the angles that `angles` gives for it.
    fn run<'a, T: FloatLane>(
        &self,
        cx: &Cx,
        x: &Tensor,
        angles: impl Fn(usize) -> (&'a [T::C], &'a [T::C]) + Sync,
    ) -> Result<Tensor>
    where
        T::C: 'a,
    {
        let mut y = Tensor::new(cx.pool, x.dtype(), x.dims().to_vec())?;
        if y.is_empty() {
            return Ok(y);
        }
        let (from, n, work) = (x.slice::<T>()?, self.width, x.len() * 4);
        let rows = (PIECE / n).max(1);
        cx.threads.pieces(y.slice_mut::<T>()?, rows * n, work, |i, out| {
            let (mut wide, mut turned) = (vec![T::C::ZERO; n], vec![T::C::ZERO; n]);
            for (k, out) in out.chunks_mut(n).enumerate() {
                let row = i * rows + k;
                T::widen(&from[row * n..(row + 1) * n], &mut wide);
                turned.copy_from_slice(&wide);
                let (cos, sin) = angles(row);
                for (j, (&c, &s)) in cos.iter().zip(sin).enumerate() {
                    let (a, b) = if self.interleaved { (2 * j, 2 * j + 1) } else { (j, self.half + j) };
                    turned[a] = c * wide[a] - s * wide[b];
                    turned[b] = s * wide[a] + c * wide[b];
                }
                T::narrow(&turned, out);
            }
        });
        Ok(y)
    }
}

fn swiglu(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let alpha = f64::from(cx.float("alpha", 1.0)?);
    tensor_kernel(move |cx, inputs| {
        let (a, b) = (inputs.tensor(0)?, inputs.tensor(1)?);
        if a.dtype() != b.dtype() || a.dims() != b.dims() {
            bail!(ShapeMismatch, "a gate {a:?} and values {b:?} must be of one type and shape");
        }
        computing(a.dtype(), "SwiGLU")?;
        let mut y = Tensor::new(cx.pool, a.dtype(), a.dims().to_vec())?;
        with_float!(a.dtype(), T => {
            type C<T> = <T as Lane>::C;
            let (gate, values, alpha) = (a.slice::<T>()?, b.slice::<T>()?, <C<T> as Float>::of(alpha));
            cx.threads.pieces(y.slice_mut::<T>()?, PIECE, gate.len() * 16, |i, out| {
                let (from, n) = (i * PIECE, out.len());
                let (mut g, mut v) = (vec![C::<T>::ZERO; n], vec![C::<T>::ZERO; n]);
                T::widen(&gate[from..from + n], &mut g);
                T::widen(&values[from..from + n], &mut v);
                vectorize(|| v.iter_mut().zip(&g).for_each(|(v, &g)| *v *= g * (alpha * g).sigmoid()));
                T::narrow(&v, out);
            });
        }, else other => return Err(refuse("SwiGLU", other)));
        Ok(y)
    })
}

fn tensor_scatter(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 3)?;
    let at = cx.int("axis", -2)?;
    let circular = match cx.string("mode", "linear")?.as_str() {
        "linear" => false,
        "circular" => true,
        other => bail!(InvalidModel, "its attribute 'mode' is '{other}', but must be linear or circular"),
    };
    tensor_kernel(move |cx, inputs| {
        let starts = inputs.opt_ints(2)?;
        let mut cache = inputs.take(0)?;
        let update = inputs.tensor(1)?;
        let at = axis(at, cache.rank())?;
        if at == 0 {
            bail!(InvalidModel, "its axis is the batch's");
        }
        let fits = |i: usize| match i == at {
            true => update.dims()[i] <= cache.dims()[i],
            false => update.dims()[i] == cache.dims()[i],
        };
        if update.rank() != cache.rank() || update.dtype() != cache.dtype() || !(0..cache.rank()).all(fits) {
            bail!(ShapeMismatch, "an update {update:?} does not go with a cache {cache:?} along axis {at}");
        }
        if update.is_empty() {
            return Ok(cache);
        }
        let batch = cache.dims()[0];
        let starts = starts.unwrap_or_else(|| vec![0; batch]);
        if starts.len() != batch {
            bail!(ShapeMismatch, "{} write indices for {batch} samples", starts.len());
        }
        let (outer, size, inner) = around(cache.dims(), at);
        let n = update.dims()[at];
        // Where each sample's update begins; a circular one may go round the end.
        let starts = starts
            .iter()
            .map(|&s| match circular {
                true if size > 0 => Ok(s.rem_euclid(size as i64) as usize),
                _ => usize::try_from(s).ok().filter(|s| s.saturating_add(n) <= size).ok_or_else(|| {
                    err!(Execution, "{n} elements at write index {s} do not fit a cache of {size}: use mode 'circular'")
                }),
            })
            .collect::<Result<Vec<_>>>()?;
        if !cache.is_unique() {
            let mut copy = Tensor::new(cx.pool, cache.dtype(), cache.dims().to_vec())?;
            with_elem!(cache.dtype(), T => T::view_mut(&mut copy)?.clone_from_slice(T::view(&cache)?));
            cache = copy;
        }
        with_elem!(cache.dtype(), T => {
            let from = T::view(update)?;
            let to = T::view_mut(&mut cache)?;
            for (o, from) in from.chunks_exact(n * inner).enumerate() {
                for (k, from) in from.chunks_exact(inner).enumerate() {
                    let row = (starts[o / (outer / batch)] + k) % size;
                    to[(o * size + row) * inner..][..inner].clone_from_slice(from);
                }
            }
        });
        Ok(cache)
    })
}
