//! Operators on strings.

use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::broadcast::{self, Walk};
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType;

/// Elementwise equality.
pub fn equal(cx: &Cx, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dims = broadcast::shape(&[a.dims(), b.dims()])?;
    let walk = Walk::new(&dims, [a.dims(), b.dims()]);
    let mut y = Tensor::new(cx.pool, DataType::Bool, dims)?;
    let (xa, xb) = (a.strings()?, b.strings()?);
    let n = y.len();
    let out = y.slice_mut::<u8>()?;
    let [step_a, step_b] = walk.inner_strides();
    walk.runs(0, n, |at, n, [oa, ob]| {
        for (i, o) in out[at..at + n].iter_mut().enumerate() {
            *o = (xa[oa + i * step_a as usize] == xb[ob + i * step_b as usize]).into();
        }
    });
    Ok(y)
}
