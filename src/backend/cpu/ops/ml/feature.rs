//! Operators that choose and scale features.

use super::super::cast::cast;
use super::super::node::integers;
use super::super::{Built, NodeCx, tensor_kernel};
use super::tree_node::{check_len, places};
use crate::backend::cpu::kernels::movement::Elem;
use crate::backend::cpu::tensor::{Tensor, Text};
use crate::hash::HashMap;
use crate::model::DataType::{self, Float32, Float64, Int64};
use crate::{Result, bail, err, with_elem};

pub fn array_feature_extractor(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    tensor_kernel(|cx, inputs| {
        let (x, places) = (inputs.tensor(0)?, inputs.ints(1)?);
        let Some(&size) = x.dims().last() else { bail!(ShapeMismatch, "its input {x:?} has no axis") };
        let places = places
            .iter()
            .map(|&p| usize::try_from(p).ok().filter(|p| *p < size))
            .collect::<Option<Vec<usize>>>()
            .ok_or_else(|| err!(Execution, "the indices {places:?} are not all in a last axis of {size}"))?;
        // A vector is taken as a matrix of one row.
        let mut dims = if x.rank() == 1 { vec![1, 0] } else { x.dims().to_vec() };
        let last = dims.len() - 1;
        dims[last] = places.len();
        let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
        with_elem!(x.dtype(), T => {
            let rows = T::view(x)?.chunks_exact(size.max(1));
            let out = T::view_mut(&mut y)?.chunks_exact_mut(places.len().max(1));
            rows.zip(out).for_each(|(row, out)| out.iter_mut().zip(&places).for_each(|(o, &p)| o.clone_from(&row[p])));
        });
        Ok(y)
    })
}

pub fn binarizer(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let threshold = f64::from(cx.float("threshold", 0.0)?);
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let wide = cast(cx, x, Float64, true)?;
        let mut y = Tensor::new(cx.pool, DataType::Uint8, x.dims().to_vec())?;
        let out = y.slice_mut::<u8>()?.iter_mut();
        out.zip(wide.slice::<f64>()?).for_each(|(o, &v)| *o = (v > threshold).into());
        cast(cx, &y, x.dtype(), true)
    })
}

/// Columns of all inputs, one after the other; each input is cut or filled up with zeros to its declared width.
pub fn feature_vectorizer(cx: &NodeCx) -> Built {
    let widths = places(cx, "inputdimensions")?;
    check_len("inputdimensions", widths.len(), cx.node.inputs.len())?;
    tensor_kernel(move |cx, inputs| {
        let parts = inputs.tensors()?.into_iter().map(|t| cast(cx, t, Float32, true)).collect::<Result<Vec<_>>>()?;
        // A vector is one row.
        let shape = |t: &Tensor| match *t.dims() {
            [columns] => Ok((1, columns)),
            [rows, columns] => Ok((rows, columns)),
            _ => Err(err!(ShapeMismatch, "an input of shape {:?} is neither [C] nor [N, C]", t.dims())),
        };
        let rows = parts.first().map_or(Ok(0), |t| shape(t).map(|s| s.0))?;
        let total = widths.iter().fold(0usize, |n, w| n.saturating_add(*w));
        let mut y = Tensor::new(cx.pool, Float32, vec![rows, total])?;
        let out = y.slice_mut::<f32>()?;
        out.fill(0.0);
        let mut from = 0;
        for (t, &width) in parts.iter().zip(&widths) {
            let (n, own) = shape(t)?;
            if n != rows {
                bail!(ShapeMismatch, "an input of shape {:?} does not have {rows} rows", t.dims());
            }
            let n = own.min(width);
            let data = t.slice::<f32>()?;
            for r in 0..rows {
                out[r * total + from..][..n].copy_from_slice(&data[r * own..][..n]);
            }
            from += width;
        }
        Ok(y)
    })
}

pub fn imputer(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let floats = cx.floats("imputed_value_floats")?.unwrap_or_default();
    let numbers = cx.ints("imputed_value_int64s")?.unwrap_or_default();
    let (old_float, old_number) = (cx.float("replaced_value_float", 0.0)?, cx.int("replaced_value_int64", 0)?);
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let width = x.dims().last().copied().unwrap_or(1);
        let n = if x.dtype().is_float() { floats.len() } else { numbers.len() };
        if n == 0 || (n != 1 && n != width) {
            bail!(
                ShapeMismatch,
                "there are {n} values to put into {width} features of {x:?}: give one, or one for each"
            );
        }
        let at = |i: usize| if n == 1 { 0 } else { i % width };
        // Elements that stay do not pass through another type.
        if x.dtype().is_float() {
            let wide = cast(cx, x, Float64, true)?;
            let old = f64::from(old_float);
            let same = |v: f64| v == old || (v.is_nan() && old.is_nan());
            let values = wide.slice::<f64>()?.iter().enumerate();
            let new: Vec<f64> = values.map(|(i, &v)| if same(v) { floats[at(i)].into() } else { v }).collect();
            return cast(cx, &Tensor::from_slice(cx.pool, Float64, x.dims().to_vec(), &new)?, x.dtype(), true);
        }
        let values = integers(x)?.into_iter().enumerate();
        let new: Vec<i64> = values.map(|(i, v)| if v == old_number { numbers[at(i)] } else { v }).collect();
        cast(cx, &Tensor::from_slice(cx.pool, Int64, x.dims().to_vec(), &new)?, x.dtype(), true)
    })
}

pub fn one_hot_encoder(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let zeros = cx.flag("zeros", true)?;
    let numbers = cx.ints("cats_int64s")?.unwrap_or_default();
    let texts = cx.strings("cats_strings")?.unwrap_or_default();
    let numbers: HashMap<i64, usize> = numbers.into_iter().enumerate().map(|(i, v)| (v, i)).collect();
    let texts: HashMap<Text, usize> = texts.into_iter().enumerate().map(|(i, v)| (Text::from(v), i)).collect();
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let (found, width): (Vec<Option<usize>>, usize) = if x.dtype() == DataType::String {
            (x.strings()?.iter().map(|s| texts.get(s).copied()).collect(), texts.len())
        } else {
            let whole = cast(cx, x, Int64, true)?;
            (whole.slice::<i64>()?.iter().map(|v| numbers.get(v).copied()).collect(), numbers.len())
        };
        if !zeros && let Some(i) = found.iter().position(Option::is_none) {
            bail!(Execution, "element {i} of {x:?} is none of its categories, and its attribute 'zeros' is 0");
        }
        let mut dims = x.dims().to_vec();
        dims.push(width);
        let mut y = Tensor::new(cx.pool, Float32, dims)?;
        let out = y.slice_mut::<f32>()?;
        out.fill(0.0);
        for (row, at) in out.chunks_exact_mut(width.max(1)).zip(found) {
            if let Some(o) = at.and_then(|at| row.get_mut(at)) {
                *o = 1.0;
            }
        }
        Ok(y)
    })
}
