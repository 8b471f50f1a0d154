//! Moving elements about, whatever their type: what matters is only how large they are.

use super::broadcast::Walk;
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::{Tensor, Text};

/// An element that is only moved.
pub trait Elem: Clone + Default + PartialEq + Send + Sync + 'static {
    /// A tensor's elements.
    fn view(t: &Tensor) -> Result<&[Self]>;
    /// A tensor's elements, to be written.
    fn view_mut(t: &mut Tensor) -> Result<&mut [Self]>;
}

macro_rules! elem {
    ($($t:ty),+) => {$(
        impl Elem for $t {
            fn view(t: &Tensor) -> Result<&[$t]> { t.slice() }
            fn view_mut(t: &mut Tensor) -> Result<&mut [$t]> { t.slice_mut() }
        }
    )+};
}

elem!(u8, u16, u32, u64, [u64; 2]);

impl Elem for Text {
    fn view(t: &Tensor) -> Result<&[Text]> {
        t.strings()
    }
    fn view_mut(t: &mut Tensor) -> Result<&mut [Text]> {
        t.strings_mut()
    }
}

/// `with_elem!(dtype, T => body)`: `T` is an [`Elem`] of the type's size.
#[macro_export]
#[doc(hidden)]
macro_rules! with_elem {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $crate::backend::cpu::tensor::element_bytes($dtype) {
            0 => {
                type $T = $crate::backend::cpu::tensor::Text;
                $body
            }
            1 => {
                type $T = u8;
                $body
            }
            2 => {
                type $T = u16;
                $body
            }
            4 => {
                type $T = u32;
                $body
            }
            8 => {
                type $T = u64;
                $body
            }
            _ => {
                type $T = [u64; 2];
                $body
            }
        }
    };
}

/// Elements that a task moves.
const PIECE: usize = 1 << 15;
/// Side of the squares in which two exchanged dimensions are copied.
const SQUARE: usize = 16;

/// A tensor of shape `dims` whose elements are those of `x` at the given strides from `start` on.
pub fn gather_strided(cx: &Cx, x: &Tensor, dims: Vec<usize>, strides: Vec<isize>, start: isize) -> Result<Tensor> {
    let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
    if y.is_empty() {
        return Ok(y);
    }
    let walk = Walk::strided(y.dims(), [strides], [start]);
    with_elem!(x.dtype(), T => copy(cx, &walk, T::view(x)?, T::view_mut(&mut y)?));
    Ok(y)
}

fn copy<T: Elem>(cx: &Cx, walk: &Walk<1>, from: &[T], to: &mut [T]) {
    let work = to.len();
    let rank = walk.dims().len();
    let [step] = walk.inner_strides();
    // Two exchanged dimensions: squares keep both sides in cache.
    if rank >= 2 && step != 1 && walk.strides(rank - 2) == [1] {
        let (rows, columns) = (walk.dims()[rank - 2], walk.dims()[rank - 1]);
        let block = rows * columns;
        cx.threads.pieces(to, block, work, |i, out| {
            walk.runs(i * block, 1, |_, _, [first]| square(&from[first..], step as usize, rows, columns, out));
        });
        return;
    }
    cx.threads.pieces(to, PIECE, work, |i, out| {
        let start = i * PIECE;
        walk.runs(start, out.len(), |at, n, [first]| {
            let out = &mut out[at - start..at - start + n];
            match step {
                1 => out.clone_from_slice(&from[first..first + n]),
                0 => out.fill(from[first].clone()),
                s if s > 0 => {
                    out.iter_mut().zip(from[first..].iter().step_by(s as usize)).for_each(|(o, v)| *o = v.clone())
                }
                s => out
                    .iter_mut()
                    .zip(from[..=first].iter().rev().step_by(s.unsigned_abs()))
                    .for_each(|(o, v)| *o = v.clone()),
            }
        });
    });
}

/// `out[r][c] = from[c * step + r]`.
fn square<T: Elem>(from: &[T], step: usize, rows: usize, columns: usize, out: &mut [T]) {
    for r0 in (0..rows).step_by(SQUARE) {
        for c0 in (0..columns).step_by(SQUARE) {
            for r in r0..(r0 + SQUARE).min(rows) {
                let end = (c0 + SQUARE).min(columns);
                let out = &mut out[r * columns + c0..r * columns + end];
                for (c, o) in (c0..end).zip(out) {
                    *o = from[c * step + r].clone();
                }
            }
        }
    }
}
