//! Tensors made of attributes and shapes.

use super::axes::shape;
use super::{Built, Entry, NodeCx, entry, kernel, tensor_kernel};
use crate::backend::cpu::kernels::lane::{Lane, refuse};
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::model::{AttributeValue, DataType};
use crate::{Result, bail, err, with_elem, with_float, with_integer, with_number};

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("Constant", constant),
    entry("ConstantOfShape", constant_of_shape),
    entry("Shape", build_shape),
    entry("Size", size),
    entry("Range", range),
    entry("EyeLike", eye_like),
    entry("Dropout", dropout),
];

fn constant(cx: &NodeCx) -> Built {
    let [attribute] = &cx.node.attributes[..] else {
        bail!(InvalidModel, "it must have exactly one attribute, the value");
    };
    let pool = Pool::new(usize::MAX);
    let tensor = match &attribute.value {
        AttributeValue::Tensor(t) => Tensor::from_model(&pool, &t.tensor)?,
        AttributeValue::Float(v) => Tensor::from_slice(&pool, DataType::Float32, vec![], &[*v])?,
        AttributeValue::Floats(v) => Tensor::from_slice(&pool, DataType::Float32, vec![v.len()], v)?,
        AttributeValue::Int(v) => Tensor::from_slice(&pool, DataType::Int64, vec![], &[*v])?,
        AttributeValue::Ints(v) => Tensor::from_slice(&pool, DataType::Int64, vec![v.len()], v)?,
        AttributeValue::String(v) => Tensor::from_strings(vec![], vec![v.clone()])?,
        AttributeValue::Strings(v) => Tensor::from_strings(vec![v.len()], v.clone())?,
        _ => bail!(Unsupported, "Constant with attribute '{}'", attribute.name),
    };
    let tensor = tensor.detached();
    tensor_kernel(move |_, _| Ok(tensor.clone()))
}

fn constant_of_shape(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let pool = Pool::new(usize::MAX);
    let value = match cx.node.attribute("value") {
        None => Tensor::from_slice(&pool, DataType::Float32, vec![1], &[0f32])?,
        Some(AttributeValue::Tensor(t)) => Tensor::from_model(&pool, &t.tensor)?,
        Some(_) => bail!(InvalidModel, "its attribute 'value' is not a tensor"),
    }
    .detached();
    if value.len() != 1 {
        bail!(InvalidModel, "its attribute 'value' has {} elements, but must have one", value.len());
    }
    tensor_kernel(move |cx, inputs| {
        let mut y = Tensor::new(cx.pool, value.dtype(), shape(&inputs.ints(0)?)?)?;
        with_elem!(value.dtype(), T => fill::<T>(&mut y, &value)?);
        Ok(y)
    })
}

fn fill<T: crate::backend::cpu::kernels::movement::Elem>(y: &mut Tensor, value: &Tensor) -> Result<()> {
    let v = T::view(value)?[0].clone();
    T::view_mut(y)?.fill(v);
    Ok(())
}

fn build_shape(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let (start, end) = (cx.int("start", 0)?, cx.int("end", i64::MAX)?);
    tensor_kernel(move |cx, inputs| {
        let dims = inputs.tensor(0)?.dims();
        let rank = dims.len() as i64;
        let place = |v: i64| if v < 0 { v.saturating_add(rank) } else { v }.clamp(0, rank) as usize;
        let (from, to) = (place(start), place(end));
        let list: Vec<i64> = dims.get(from..to).unwrap_or(&[]).iter().map(|&d| d as i64).collect();
        Tensor::from_slice(cx.pool, DataType::Int64, vec![list.len()], &list)
    })
}

fn size(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    tensor_kernel(|cx, inputs| Tensor::from_slice(cx.pool, DataType::Int64, vec![], &[inputs.tensor(0)?.len() as i64]))
}

fn range(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 3)?;
    tensor_kernel(|cx, inputs| {
        let (start, limit, delta) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        if [start, limit, delta].iter().any(|t| t.len() != 1 || t.dtype() != start.dtype()) {
            bail!(
                ShapeMismatch,
                "start {start:?}, limit {limit:?} and delta {delta:?} must be single values of one type"
            );
        }
        let dtype = start.dtype();
        let too_long = || err!(OutOfMemory, "the range has more elements than memory can hold");
        if dtype.is_integer() {
            return with_integer!(dtype, T => {
                use crate::backend::cpu::kernels::lane::Integer;
                let [a, b, d] = [start, limit, delta].map(|t| t.slice::<T>().map(|s| s[0].wide()));
                let (a, b, d) = (a?, b?, d?);
                if d == 0 {
                    bail!(Execution, "a range with delta 0 has no end");
                }
                let n = ((b - a) + d - d.signum()) / d;
                let n = usize::try_from(n.max(0)).map_err(|_| too_long())?;
                let mut y = Tensor::new(cx.pool, dtype, vec![n])?;
                y.slice_mut::<T>()?.iter_mut().enumerate().for_each(|(i, v)| *v = T::wrap(a + i as i128 * d));
                Ok(y)
            }, else other => Err(refuse("Range", other)));
        }
        with_float!(dtype, T => {
            use crate::backend::cpu::kernels::math::Float;
            let [a, b, d] = [start, limit, delta].map(|t| t.slice::<T>().map(|s| s[0].get().wide()));
            let (a, b, d) = (a?, b?, d?);
            let n = ((b - a) / d).ceil().max(0.0);
            if d == 0.0 || !n.is_finite() || n >= isize::MAX as f64 {
                bail!(Execution, "a range from {a} to {b} by {d} has no end");
            }
            let mut y = Tensor::new(cx.pool, dtype, vec![n as usize])?;
            y.slice_mut::<T>()?.iter_mut().enumerate().for_each(|(i, v)| {
                *v = T::put(<<T as Lane>::C as Float>::of(a + i as f64 * d));
            });
            Ok(y)
        }, else other => Err(refuse("Range", other)))
    })
}

fn eye_like(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let (dtype, k) = (cx.dtype("dtype")?, cx.int("k", 0)?);
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let &[rows, columns] = x.dims() else { bail!(ShapeMismatch, "an input of shape {:?} is no matrix", x.dims()) };
        let dtype = dtype.unwrap_or(x.dtype());
        let mut ones = Tensor::new(cx.pool, DataType::Uint8, vec![rows, columns])?;
        let data = ones.slice_mut::<u8>()?;
        data.fill(0);
        for r in 0..if columns == 0 { 0 } else { rows } {
            if let Some(c) = (r as i64).checked_add(k)
                && (0..columns as i64).contains(&c)
            {
                data[r * columns + c as usize] = 1;
            }
        }
        super::cast::cast(cx, &ones, dtype, true)
    })
}

/// In inference form nothing is dropped.
fn dropout(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 3)?;
    let mask = cx.wants(1);
    kernel(move |cx, inputs| {
        if let Some(t) = inputs.opt(2)?
            && truths(t)?.iter().any(|&v| v != 0)
            && inputs.opt(1)?.is_none_or(|r| ratio(r).unwrap_or(1.0) != 0.0)
        {
            bail!(Unsupported, "Dropout in training mode");
        }
        let x = inputs.take_value(0)?;
        let mut results = vec![x];
        if mask {
            let mut all = Tensor::new(cx.pool, DataType::Bool, results[0].tensor()?.dims().to_vec())?;
            all.slice_mut::<u8>()?.fill(1);
            results.push(Val::Tensor(all));
        }
        Ok(results)
    })
}

fn truths(t: &Tensor) -> Result<&[u8]> {
    if t.dtype() != DataType::Bool {
        bail!(TypeMismatch, "its input 'training_mode' is {t:?}, but must be bool");
    }
    t.slice::<u8>()
}

fn ratio(t: &Tensor) -> Result<f64> {
    with_number!(t.dtype(), T => {
        t.slice::<T>()?.first().map(|v| v.get() as f64).ok_or_else(|| err!(ShapeMismatch, "the ratio has no value"))
    }, else other => Err(refuse("Dropout ratio", other)))
}
