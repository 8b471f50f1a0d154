//! Operators that choose and scale features.

use super::super::cast::cast;
use super::super::{Built, NodeCx, tensor_kernel};
use crate::backend::cpu::kernels::lane::{Lane, refuse};
use crate::backend::cpu::kernels::movement::Elem;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType;
use crate::{bail, err, with_elem, with_number};

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
            rows.zip(out).for_each(|(row, out)| out.iter_mut().zip(&places).for_each(|(o, &p)| *o = row[p].clone()));
        });
        Ok(y)
    })
}

pub fn binarizer(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let threshold = f64::from(cx.float("threshold", 0.0)?);
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let mut y = Tensor::new(cx.pool, DataType::Uint8, x.dims().to_vec())?;
        let out = y.slice_mut::<u8>()?.iter_mut();
        with_number!(x.dtype(), T => {
            out.zip(x.slice::<T>()?).for_each(|(o, v)| *o = (v.get() as f64 > threshold).into());
        }, else other => return Err(refuse("Binarizer", other)));
        cast(cx, &y, x.dtype(), true)
    })
}
