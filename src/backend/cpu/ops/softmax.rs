//! Softmax, LogSoftmax and Hardmax along an axis (from version 13) or over all dimensions from an axis on (before).

use super::axes::{around, axis, split_point};
use super::{Built, Entry, Inputs, Kernel, NodeCx, RowWork, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::lane::{FloatLane, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::row_steps::Change;
use crate::backend::cpu::kernels::rows::{self, Kind};
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::{Result, with_float};

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("Softmax", build), entry("LogSoftmax", build), entry("Hardmax", build)];

fn build(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let flat = cx.opset < 13;
    let at = cx.int("axis", if flat { 1 } else { -1 })?;
    let kind = match &*cx.node.op_type {
        "Softmax" => Kind::Softmax,
        "LogSoftmax" => Kind::Log,
        _ => Kind::Hard,
    };
    let kernel = tensor_kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        if x.rank() == 0 && !flat {
            let one = x.reshaped(vec![1])?;
            return along(cx, kind, one, (1, 1, 1))?.reshaped(vec![]);
        }
        let view = if flat {
            let at = split_point(at, x.rank())?;
            (x.dims()[..at].iter().product(), x.dims()[at..].iter().product(), 1)
        } else {
            around(x.dims(), axis(at, x.rank())?)
        };
        along(cx, kind, x, view)
    })?;
    Ok(Box::new(Along { kind, at, kernel }))
}

/// A kernel that other steps may take over where its axis is the last one.
struct Along {
    kind: Kind,
    at: i64,
    kernel: Box<dyn Kernel>,
}

impl Kernel for Along {
    fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
        self.kernel.run(cx, inputs)
    }

    fn row_work(&self) -> Option<RowWork<'_>> {
        Some(RowWork::Change(&self.kind, self.at))
    }
}

impl Change for Kind {
    fn change(&self, rows: &mut [f32], n: usize) {
        rows::softmax(*self, rows, n);
    }
}

/// Logarithms of the softmax along an axis.
pub fn log_softmax(cx: &Cx, x: Tensor, at: i64) -> Result<Tensor> {
    let view = around(x.dims(), axis(at, x.rank())?);
    along(cx, Kind::Log, x, view)
}

/// The softmax along the last axis.
pub fn softmax_last(cx: &Cx, x: Tensor) -> Result<Tensor> {
    let view = around(x.dims(), axis(-1, x.rank())?);
    along(cx, Kind::Softmax, x, view)
}

fn along(cx: &Cx, kind: Kind, x: Tensor, view: (usize, usize, usize)) -> Result<Tensor> {
    if x.is_empty() {
        return Ok(x);
    }
    with_float!(x.dtype(), T => softmax::<T>(cx, kind, x, view), else other => Err(refuse("Softmax", other)))
}

fn softmax<T: FloatLane>(cx: &Cx, kind: Kind, x: Tensor, (_, n, inner): (usize, usize, usize)) -> Result<Tensor> {
    let mut x = x;
    if !x.is_unique() {
        let mut copy = Tensor::new(cx.pool, x.dtype(), x.dims().to_vec())?;
        copy.bytes_mut()?.copy_from_slice(x.bytes());
        x = copy;
    }
    let work = x.len() * 16;
    let block = n * inner;
    // Enough rows a task that one is not lost in the noise.
    let rows = (4096 / block).max(1);
    cx.threads.pieces(x.slice_mut::<T>()?, block * rows, work, |_, piece| {
        let run = |values: &mut [T::C]| match inner {
            1 => rows::softmax(kind, values, n),
            _ => rows::softmax_inner(kind, values, n, inner),
        };
        if let Some(values) = T::direct_mut(piece) {
            return run(values);
        }
        let mut wide = vec![T::C::ZERO; block];
        for piece in piece.chunks_mut(block) {
            T::widen(piece, &mut wide);
            run(&mut wide);
            T::narrow(&wide, piece);
        }
    });
    Ok(x)
}
