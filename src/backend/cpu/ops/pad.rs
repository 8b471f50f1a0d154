//! Padding.

use super::axes::axis;
use super::{Built, Entry, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::broadcast::strides;
use crate::backend::cpu::kernels::movement::Elem;
use crate::backend::cpu::tensor::{Tensor, count};
use crate::model::DataType;
use crate::{Result, bail, err, with_elem};

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("Pad", pad), entry("CenterCropPad", center)];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

fn pad(cx: &NodeCx) -> Built {
    let mode = match cx.string("mode", "constant")?.as_str() {
        "constant" => Mode::Constant,
        "reflect" => Mode::Reflect,
        "edge" => Mode::Edge,
        "wrap" => Mode::Wrap,
        other => bail!(InvalidModel, "its attribute 'mode' is '{other}'"),
    };
    let attribute = match cx.opset {
        ..11 => Some((cx.required_ints("pads")?, cx.float("value", 0.0)?)),
        _ => {
            cx.check_inputs(2, 4)?;
            None
        }
    };
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let pads = match &attribute {
            Some((p, _)) => p.clone(),
            None => inputs.ints(1)?,
        };
        let axes = match inputs.opt_ints(3)? {
            Some(list) => list.iter().map(|&a| axis(a, x.rank())).collect::<Result<Vec<_>>>()?,
            None => (0..x.rank()).collect(),
        };
        if pads.len() != axes.len() * 2 {
            bail!(ShapeMismatch, "{} paddings do not fit {} axes", pads.len(), axes.len());
        }
        let mut both = vec![(0i64, 0i64); x.rank()];
        for (i, &a) in axes.iter().enumerate() {
            both[a] = (pads[i], pads[axes.len() + i]);
        }
        let value = match (&attribute, inputs.opt(2)?) {
            (Some((_, v)), _) => {
                let v = Tensor::from_slice(cx.pool, DataType::Float32, vec![], &[*v])?;
                Some(super::cast::cast(cx, &v, x.dtype(), true)?)
            }
            (None, Some(v)) if !v.is_empty() => Some(v.clone()),
            _ => None,
        };
        padded(cx, x, &both, mode, value.as_ref())
    })
}

/// Where each element along one dimension comes from; -1 is the constant.
fn sources(n: usize, before: i64, after: i64, mode: Mode) -> Result<Vec<isize>> {
    let size = n as i64;
    let total = before
        .checked_add(after)
        .and_then(|p| p.checked_add(size))
        .filter(|t| (0..1 << 40).contains(t))
        .ok_or_else(|| err!(ShapeMismatch, "paddings {before} and {after} do not fit {n} elements"))?;
    count(&[total as usize])?;
    if n == 0 && mode != Mode::Constant && total > 0 {
        bail!(ShapeMismatch, "a dimension without elements can only be padded with a constant");
    }
    let mut list = Vec::new();
    list.try_reserve_exact(total as usize)
        .map_err(|_| err!(OutOfMemory, "a dimension of {total} elements is too large"))?;
    list.extend((0..total).map(|i| {
        let at = i - before;
        (match mode {
            _ if (0..size).contains(&at) => at,
            Mode::Constant => -1,
            Mode::Edge => at.clamp(0, size - 1),
            Mode::Wrap => at.rem_euclid(size),
            Mode::Reflect if size == 1 => 0,
            Mode::Reflect => {
                let period = 2 * (size - 1);
                let m = at.rem_euclid(period);
                if m < size { m } else { period - m }
            }
        }) as isize
    }));
    Ok(list)
}

fn padded(cx: &Cx, x: &Tensor, pads: &[(i64, i64)], mode: Mode, value: Option<&Tensor>) -> Result<Tensor> {
    if let Some(v) = value
        && v.dtype() != x.dtype()
    {
        bail!(TypeMismatch, "the padding value {v:?} must be of type {}", x.dtype());
    }
    // The size is checked before the lists of sources are made.
    let dims = x
        .dims()
        .iter()
        .zip(pads)
        .map(|(&n, &(b, a))| {
            let total = (n as i64).checked_add(b).and_then(|t| t.checked_add(a)).and_then(|t| usize::try_from(t).ok());
            total.ok_or_else(|| err!(ShapeMismatch, "paddings {b} and {a} do not fit {n} elements"))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
    if y.is_empty() {
        return Ok(y);
    }
    let maps = x.dims().iter().zip(pads).map(|(&n, &(b, a))| sources(n, b, a, mode)).collect::<Result<Vec<_>>>()?;
    with_elem!(x.dtype(), T => fill::<T>(x, &mut y, &maps, value)?);
    Ok(y)
}

fn fill<T: Elem>(x: &Tensor, y: &mut Tensor, maps: &[Vec<isize>], value: Option<&Tensor>) -> Result<()> {
    let constant = match value {
        Some(v) => T::view(v)?.first().cloned().unwrap_or_default(),
        None => T::default(),
    };
    let own = strides(x.dims());
    let from = T::view(x)?;
    let Some((last, outer)) = maps.split_last() else {
        T::view_mut(y)?.clone_from_slice(from);
        return Ok(());
    };
    let mut index = vec![0usize; outer.len()];
    for row in T::view_mut(y)?.chunks_mut(last.len()) {
        let mut base = Some(0usize);
        for ((map, &i), &stride) in outer.iter().zip(&index).zip(&own) {
            base = match map[i] {
                -1 => None,
                s => base.map(|b| b + s as usize * stride),
            };
        }
        match base {
            None => row.fill(constant.clone()),
            Some(base) => row.iter_mut().zip(last).for_each(|(o, &s)| {
                *o = if s < 0 { constant.clone() } else { from[base + s as usize].clone() };
            }),
        }
        for (i, map) in index.iter_mut().zip(outer).rev() {
            *i += 1;
            if *i < map.len() {
                break;
            }
            *i = 0;
        }
    }
    Ok(())
}

fn center(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let list = cx.ints("axes")?;
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let wanted = super::axes::shape(&inputs.ints(1)?)?;
        let axes = match &list {
            Some(l) => l.iter().map(|&a| axis(a, x.rank())).collect::<Result<Vec<_>>>()?,
            None => (0..x.rank()).collect(),
        };
        if axes.len() != wanted.len() {
            bail!(ShapeMismatch, "a shape of {} sizes does not fit {} axes", wanted.len(), axes.len());
        }
        let mut pads = vec![(0, 0); x.rank()];
        for (&a, &w) in axes.iter().zip(&wanted) {
            let more = w as i64 - x.dims()[a] as i64;
            // The odd element is cut or added behind.
            let before = if more >= 0 { more / 2 } else { -(-more / 2) };
            pads[a] = (before, more - before);
        }
        padded(cx, x, &pads, Mode::Constant, None)
    })
}
