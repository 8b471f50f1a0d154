//! Elementwise loops: one and two operands, broadcasting, halves widened chunk by chunk, outputs over an operand's own
//! memory where nobody else needs it.

use super::broadcast::{self, Walk};
use super::lane::Lane;
use super::simd::vectorize;
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType;

/// Elements that a task works on; fixed, so that results do not depend on threads.
const PIECE: usize = 1 << 14;
/// Elements widened at a time, on the stack.
const CHUNK: usize = 512;

/// Applies `f`, which works on slices in place, to every element.
pub fn in_place<T: Lane>(cx: &Cx, x: Tensor, cost: usize, f: &(dyn Fn(&mut [T::C]) + Sync)) -> Result<Tensor> {
    let mut x = x;
    let n = x.len();
    if x.is_unique() {
        let all = x.slice_mut::<T>()?;
        cx.threads.pieces(all, PIECE, n * cost, |_, piece| transform(piece, f));
        return Ok(x);
    }
    let mut out = Tensor::new(cx.pool, x.dtype(), x.dims().to_vec())?;
    let from = x.slice::<T>()?;
    cx.threads.pieces(out.slice_mut::<T>()?, PIECE, n * cost, |i, piece| {
        let part = &from[i * PIECE..i * PIECE + piece.len()];
        for (part, piece) in part.chunks(CHUNK).zip(piece.chunks_mut(CHUNK)) {
            piece.copy_from_slice(part);
            transform(piece, f);
        }
    });
    Ok(out)
}

fn transform<T: Lane>(piece: &mut [T], f: &dyn Fn(&mut [T::C])) {
    if let Some(direct) = T::direct_mut(piece) {
        return f(direct);
    }
    let mut wide = [T::C::default(); CHUNK];
    for part in piece.chunks_mut(CHUNK) {
        let wide = &mut wide[..part.len()];
        T::widen(part, wide);
        f(wide);
        T::narrow(wide, part);
    }
}

/// A loop that makes a slice of one type out of a slice of another.
pub type Map<A, B> = fn(&[A], &mut [B]);

/// `f` of every element, in another element type.
pub fn map<T: Lane, R: Lane>(cx: &Cx, x: &Tensor, out: DataType, f: Map<T::C, R::C>) -> Result<Tensor> {
    let mut y = Tensor::new(cx.pool, out, x.dims().to_vec())?;
    let from = x.slice::<T>()?;
    cx.threads.pieces(y.slice_mut::<R>()?, PIECE, from.len() * 2, |i, piece| {
        let part = &from[i * PIECE..i * PIECE + piece.len()];
        let mut wide = [T::C::default(); CHUNK];
        let mut made = [R::C::default(); CHUNK];
        for (part, piece) in part.chunks(CHUNK).zip(piece.chunks_mut(CHUNK)) {
            let a = widened(part, &mut wide);
            match R::direct_mut(piece) {
                Some(o) => f(a, o),
                None => {
                    f(a, &mut made[..part.len()]);
                    R::narrow(&made[..part.len()], piece);
                }
            }
        }
    });
    Ok(y)
}

fn widened<'a, T: Lane>(part: &'a [T], buffer: &'a mut [T::C; CHUNK]) -> &'a [T::C] {
    match T::direct(part) {
        Some(direct) => direct,
        None => {
            let wide = &mut buffer[..part.len()];
            T::widen(part, wide);
            wide
        }
    }
}

/// One side of a chunk of pairs.
pub enum Operand<'a, C> {
    /// The same value for the whole chunk.
    One(C),
    /// A value for each element.
    Many(&'a [C]),
}

impl<C: Copy> Clone for Operand<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Copy> Copy for Operand<'_, C> {}

/// A loop over a chunk of pairs. Loops are function pointers, so that broadcasting is compiled once a type and not once
/// an operator.
pub type Zip<A, R> = fn(Operand<A>, Operand<A>, &mut [R]);

/// The loop over a chunk that applies `f` to each pair.
#[inline(always)]
pub fn apply<A: Copy, R: Copy>(a: Operand<A>, b: Operand<A>, out: &mut [R], f: impl Fn(A, A) -> R) {
    vectorize(|| match (a, b) {
        (Operand::One(a), Operand::One(b)) => out.fill(f(a, b)),
        (Operand::One(a), Operand::Many(b)) => out.iter_mut().zip(b).for_each(|(o, &b)| *o = f(a, b)),
        (Operand::Many(a), Operand::One(b)) => out.iter_mut().zip(a).for_each(|(o, &a)| *o = f(a, b)),
        (Operand::Many(a), Operand::Many(b)) => {
            out.iter_mut().zip(a).zip(b).for_each(|((o, &a), &b)| *o = f(a, b));
        }
    });
}

/// `f(a, b)` for every pair of elements, broadcast; the output takes the memory of `a` or `b` where it may.
pub fn zip<T: Lane>(cx: &Cx, a: Tensor, b: Tensor, f: Zip<T::C, T::C>) -> Result<Tensor> {
    let (mut a, mut b) = (a, b);
    let dims = broadcast::shape(&[a.dims(), b.dims()])?;
    if a.dims() == dims && a.is_unique() {
        let walk = Walk::new(&dims, [b.dims()]);
        over::<T>(cx, &walk, &mut a, &b, f, false)?;
        return Ok(a);
    }
    if b.dims() == dims && b.is_unique() {
        let walk = Walk::new(&dims, [a.dims()]);
        over::<T>(cx, &walk, &mut b, &a, f, true)?;
        return Ok(b);
    }
    zip_to::<T, T>(cx, &a, &b, a.dtype(), f)
}

/// `f(a, b)` for every pair of elements, broadcast, in another element type.
pub fn zip_to<T: Lane, R: Lane>(cx: &Cx, a: &Tensor, b: &Tensor, out: DataType, f: Zip<T::C, R::C>) -> Result<Tensor> {
    let dims = broadcast::shape(&[a.dims(), b.dims()])?;
    let walk = Walk::new(&dims, [a.dims(), b.dims()]);
    let mut y = Tensor::new(cx.pool, out, dims)?;
    let (xa, xb) = (a.slice::<T>()?, b.slice::<T>()?);
    let n = y.len();
    let [step_a, step_b] = walk.inner_strides();
    cx.threads.pieces(y.slice_mut::<R>()?, PIECE, n, |i, piece| {
        let (mut wide_a, mut wide_b) = ([T::C::default(); CHUNK], [T::C::default(); CHUNK]);
        let mut made = [R::C::default(); CHUNK];
        let start = i * PIECE;
        walk.runs(start, piece.len(), |at, n, [from_a, from_b]| {
            let run = &mut piece[at - start..at - start + n];
            for (k, part) in run.chunks_mut(CHUNK).enumerate() {
                let m = part.len();
                let a = operand(xa, from_a, step_a, k * CHUNK, m, &mut wide_a);
                let b = operand(xb, from_b, step_b, k * CHUNK, m, &mut wide_b);
                match R::direct_mut(part) {
                    Some(o) => f(a, b, o),
                    None => {
                        f(a, b, &mut made[..m]);
                        R::narrow(&made[..m], part);
                    }
                }
            }
        });
    });
    Ok(y)
}

/// `own` becomes `f(own, other)`, or `f(other, own)` if they change places.
fn over<T: Lane>(
    cx: &Cx,
    walk: &Walk<1>,
    own: &mut Tensor,
    other: &Tensor,
    f: Zip<T::C, T::C>,
    swap: bool,
) -> Result<()> {
    let (n, from) = (own.len(), other.slice::<T>()?);
    let [step] = walk.inner_strides();
    cx.threads.pieces(own.slice_mut::<T>()?, PIECE, n, |i, piece| {
        let (mut wide, mut side) = ([T::C::default(); CHUNK], [T::C::default(); CHUNK]);
        let mut made = [T::C::default(); CHUNK];
        let start = i * PIECE;
        walk.runs(start, piece.len(), |at, n, [offset]| {
            let run = &mut piece[at - start..at - start + n];
            for (k, part) in run.chunks_mut(CHUNK).enumerate() {
                let m = part.len();
                let b = operand(from, offset, step, k * CHUNK, m, &mut side);
                // The chunk is read from a copy, which stays in the first-level cache.
                T::widen(part, &mut wide[..m]);
                let a = Operand::Many(&wide[..m]);
                let (a, b) = if swap { (b, a) } else { (a, b) };
                match T::direct_mut(part) {
                    Some(o) => f(a, b, o),
                    None => {
                        f(a, b, &mut made[..m]);
                        T::narrow(&made[..m], part);
                    }
                }
            }
        });
    });
    Ok(())
}

fn operand<'a, T: Lane>(
    all: &'a [T],
    offset: usize,
    step: isize,
    from: usize,
    n: usize,
    buffer: &'a mut [T::C; CHUNK],
) -> Operand<'a, T::C> {
    match step {
        0 => Operand::One(all[offset].get()),
        // A merged walk over dense operands has no other step than one.
        _ => Operand::Many(widened(&all[offset + from..offset + from + n], buffer)),
    }
}

/// The tensor in another float type, rounded to nearest even once.
pub fn cast_float(cx: &Cx, x: &Tensor, to: DataType) -> Result<Tensor> {
    use super::math::Float;
    crate::with_float!(x.dtype(), T => crate::with_float!(to, R => {
        if T::DTYPE == R::DTYPE {
            return Ok(x.clone());
        }
        // The tensor crate's own step rounds doubles once; through FP32 they would be rounded twice.
        if T::DTYPE == DataType::Float64 && R::DTYPE.is_half() {
            return halves_of_doubles(cx, x, to);
        }
        map::<T, R>(cx, x, to, |from, out| {
            vectorize(|| out.iter_mut().zip(from).for_each(|(o, v)| *o = <<R as Lane>::C as Float>::of(v.wide())));
        })
    }, else other => Err(super::lane::refuse("Cast to a float", other))), else other => Err(super::lane::refuse("Cast of a float", other)))
}

fn halves_of_doubles(cx: &Cx, x: &Tensor, to: DataType) -> Result<Tensor> {
    use crate::model::{OutOfRange, Storage};
    let dims = x.dims().iter().map(|&d| d as i64).collect();
    let source = crate::model::Tensor::new(x.dtype(), dims, Storage::Bytes(bytes::Bytes::copy_from_slice(x.bytes())))?;
    Tensor::from_slice(cx.pool, to, x.dims().to_vec(), &source.converted(to, OutOfRange::Infinity)?.bytes()?)
}
