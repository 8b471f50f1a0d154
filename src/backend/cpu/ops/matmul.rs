//! MatMul and Gemm.

use super::fused::{Finishing, finish};
use super::{Built, Entry, NodeCx, Then, entry, head_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::broadcast::{self, Walk};
use crate::backend::cpu::kernels::channels_last::dense::Dense;
use crate::backend::cpu::kernels::channels_last::weights::Weights;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::gemm::{self, Operand, Product};
use crate::backend::cpu::kernels::lane::{FloatLane, Integer, Lane, refuse};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::kernels::vector::Dispatch;
use crate::backend::cpu::tensor::Tensor;
use crate::{Result, bail, err, with_float, with_integer};
use std::any::Any;

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("MatMul", build_matmul), entry("Gemm", build_gemm)];

/// A constant right-hand matrix, packed in its own type.
type AnyPacked = Option<Box<dyn Any + Send + Sync>>;

/// Packs a constant matrix of `k` rows and `n` columns, or, turned, of `n` rows.
fn pack<T: FloatLane<C: Dispatch>>(data: &[T], n: usize, k: usize, turned: bool) -> Result<AnyPacked> {
    Ok(Some(Box::new(Weights::of_matrix(data, n, k, turned)?)))
}

fn build_matmul(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let packed: AnyPacked = match cx.constant(1) {
        Some(b) if b.rank() == 2 && !b.is_empty() => {
            let (k, n) = (b.dims()[0], b.dims()[1]);
            with_float!(b.dtype(), T => pack::<T>(b.slice::<T>()?, n, k, false)?, else _other => None)
        }
        _ => None,
    };
    head_kernel(move |cx, inputs, then| {
        let (a, b) = (inputs.tensor(0)?, inputs.tensor(1)?);
        if a.dtype() != b.dtype() {
            bail!(TypeMismatch, "its inputs are of types {} and {}, but must be of one type", a.dtype(), b.dtype());
        }
        product(cx, a, b, &packed, then)
    })
}

/// The product of two stacks of matrices.
pub fn multiply(cx: &Cx, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    product(cx, a, b, &None, None)?.ok_or_else(|| err!(Internal, "a product gave no result"))
}

fn product(cx: &Cx, a: &Tensor, b: &Tensor, packed: &AnyPacked, then: Option<&Then>) -> Result<Option<Tensor>> {
    let shapes = Shapes::new(cx, a, b)?;
    let Some(finish) = finish(then, a.dtype(), &shapes.output)? else { return Ok(None) };
    let mut y = Tensor::new(cx.pool, a.dtype(), shapes.output.clone())?;
    if y.is_empty() {
        return Ok(Some(y));
    }
    if a.dtype().is_float() {
        with_float!(a.dtype(), T => {
            let packed = packed.as_ref().and_then(|p| p.downcast_ref::<Weights<T>>());
            float_matmul::<T>(cx, &shapes, a.slice()?, b.slice()?, packed, &finish, y.slice_mut()?)?;
        }, else other => return Err(refuse("MatMul", other)));
    } else {
        with_integer!(a.dtype(), T => {
            integer_matmul::<T>(&shapes, a.slice()?, b.slice()?, y.slice_mut()?);
        }, else other => return Err(refuse("MatMul", other)));
    }
    Ok(Some(y))
}

/// Shapes of a product of stacks of matrices.
pub struct Shapes {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    /// Shape of the result.
    pub output: Vec<usize>,
    /// For each matrix of the result, the numbers of the matrices of A and B.
    pub batches: Vec<(usize, usize)>,
}

impl Shapes {
    /// NumPy's matmul rule.
    pub fn new(cx: &Cx, a: &Tensor, b: &Tensor) -> Result<Shapes> {
        let (da, db) = (a.dims(), b.dims());
        let wrong = || err!(ShapeMismatch, "matrices of shapes {da:?} and {db:?} cannot be multiplied");
        if da.is_empty() || db.is_empty() {
            return Err(wrong());
        }
        // A vector on the left is a row, one on the right a column, and the result loses that dimension.
        let (fa, fb) = (
            if da.len() == 1 { vec![1, da[0]] } else { da.to_vec() },
            if db.len() == 1 { vec![db[0], 1] } else { db.to_vec() },
        );
        let (batch_a, batch_b) = (&fa[..fa.len() - 2], &fb[..fb.len() - 2]);
        let (m, k, n) = (fa[fa.len() - 2], fa[fa.len() - 1], fb[fb.len() - 1]);
        if fb[fb.len() - 2] != k {
            return Err(wrong());
        }
        let batch = broadcast::shape(&[batch_a, batch_b]).map_err(|_| wrong())?;
        let mut output = batch.clone();
        if da.len() > 1 {
            output.push(m);
        }
        if db.len() > 1 {
            output.push(n);
        }
        let total = crate::backend::cpu::tensor::count(&batch)?;
        crate::backend::cpu::tensor::count(&output)?;
        let mut batches = Vec::with_capacity(total.min(1 << 20));
        let _room = cx.pool.charge(total.saturating_mul(size_of::<(usize, usize)>()))?;
        if total > 0 && m > 0 && n > 0 {
            let walk = Walk::new(&batch, [batch_a, batch_b]);
            let [sa, sb] = walk.inner_strides();
            walk.runs(0, total, |_, run, [oa, ob]| {
                batches.extend((0..run).map(|i| (oa + i * sa as usize, ob + i * sb as usize)));
            });
        }
        // One matrix on the right for a stack on the left: one product with all rows.
        if batch_b.iter().all(|&d| d == 1) && batches.len() > 1 {
            return Ok(Shapes { m: m * batches.len(), k, n, output, batches: vec![(0, 0)] });
        }
        Ok(Shapes { m, k, n, output, batches })
    }
}

fn float_matmul<T: FloatLane<C: Dispatch>>(
    cx: &Cx,
    s: &Shapes,
    a: &[T],
    b: &[T],
    packed: Option<&Weights<T>>,
    finish: &Finishing,
    y: &mut [T],
) -> Result<()> {
    let (m, k, n) = (s.m, s.k, s.n);
    if let (Some(weights), [(0, 0)]) = (packed, &s.batches[..]) {
        return Dense::product(m, weights, finish).run(cx, &a[..m * k], y);
    }
    // A product with few columns is turned around, so that the wide side fills the lanes.
    let turned = n == 1 && m > 1;
    let left = |i: usize| &a[i * m * k..(i + 1) * m * k];
    let right = |i: usize| &b[i * k * n..(i + 1) * k * n];
    let epilogues: Vec<_> = (0..s.batches.len())
        .map(|i| move |at: usize, values: &mut [T::C]| finish.work_on(i * m * n + at, values))
        .collect();
    let product = |(i, &(of_a, of_b)): (usize, &(usize, usize))| {
        let epilogue = (!finish.is_nothing()).then_some(&epilogues[i] as gemm::Epilogue<T::C>);
        let (a, b) = match turned {
            false => (Operand::by_lanes(left(of_a), k), Operand::by_steps(right(of_b), n)),
            // The one row is the column.
            true => (Operand::by_lanes(right(of_b), k), Operand::by_lanes(left(of_a), k)),
        };
        let (m, n) = if turned { (1, m) } else { (m, n) };
        Product { m, n, k, a, b, offset: i * m * n, row_stride: n, epilogue }
    };
    let products: Vec<Product<T::C>> = s.batches.iter().enumerate().map(product).collect();
    gemm::run(cx, &products, y)
}

fn integer_matmul<T: Integer>(s: &Shapes, a: &[T], b: &[T], y: &mut [T]) {
    for (t, &(i, j)) in s.batches.iter().enumerate() {
        for r in 0..s.m {
            let mut sums = vec![0i128; s.n];
            for k in 0..s.k {
                let x = a[(i * s.m + r) * s.k + k].wide();
                let row = &b[(j * s.k + k) * s.n..(j * s.k + k + 1) * s.n];
                sums.iter_mut().zip(row).for_each(|(s, v)| *s = s.wrapping_add(x.wrapping_mul(v.wide())));
            }
            y[(t * s.m + r) * s.n..(t * s.m + r + 1) * s.n].iter_mut().zip(sums).for_each(|(o, v)| *o = T::wrap(v));
        }
    }
}

#[derive(Clone, Copy)]
struct Gemm {
    alpha: f32,
    beta: f32,
    trans_a: bool,
    trans_b: bool,
}

fn build_gemm(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 3)?;
    let g = Gemm {
        alpha: cx.float("alpha", 1.0)?,
        beta: cx.float("beta", 1.0)?,
        trans_a: cx.flag("transA", false)?,
        trans_b: cx.flag("transB", false)?,
    };
    let packed: AnyPacked = match cx.constant(1) {
        Some(b) if b.rank() == 2 && !b.is_empty() => {
            let (rows, columns) = (b.dims()[0], b.dims()[1]);
            with_float!(b.dtype(), T => match g.trans_b {
                true => pack::<T>(b.slice::<T>()?, rows, columns, true)?,
                false => pack::<T>(b.slice::<T>()?, columns, rows, false)?,
            }, else _other => None)
        }
        _ => None,
    };
    head_kernel(move |cx, inputs, then| {
        let (a, b, c) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.opt(2)?);
        if a.dtype() != b.dtype() || c.is_some_and(|c| c.dtype() != a.dtype()) {
            bail!(TypeMismatch, "its inputs are of different types: {a:?}, {b:?}, {c:?}");
        }
        let dtype = a.dtype();
        if dtype.is_integer() {
            return with_integer!(dtype, T => integer_gemm::<T>(cx, &g, a, b, c).map(Some),
                else other => Err(refuse("Gemm", other)));
        }
        with_float!(dtype, T => {
            let packed = packed.as_ref().and_then(|p| p.downcast_ref::<Weights<T>>());
            float_gemm::<T>(cx, &g, [Some(a), Some(b), c], packed, then)
        }, else other => Err(refuse("Gemm", other)))
    })
}

/// Rows, depth and columns.
fn gemm_shape(g: &Gemm, a: &Tensor, b: &Tensor, c: Option<&Tensor>) -> Result<(usize, usize, usize)> {
    let wrong = || {
        err!(
            ShapeMismatch,
            "matrices of shapes {:?} (transA {}) and {:?} (transB {}) and a C of shape {:?} do not go together",
            a.dims(),
            g.trans_a,
            b.dims(),
            g.trans_b,
            c.map(Tensor::dims)
        )
    };
    let (&[a0, a1], &[b0, b1]) = (a.dims(), b.dims()) else { return Err(wrong()) };
    let (m, k) = if g.trans_a { (a1, a0) } else { (a0, a1) };
    let (kb, n) = if g.trans_b { (b1, b0) } else { (b0, b1) };
    if k != kb || c.is_some_and(|c| !broadcast::fits(c.dims(), &[m, n])) {
        return Err(wrong());
    }
    Ok((m, k, n))
}

fn float_gemm<T: FloatLane<C: Dispatch>>(
    cx: &Cx,
    g: &Gemm,
    inputs: [Option<&Tensor>; 3],
    packed: Option<&Weights<T>>,
    then: Option<&Then>,
) -> Result<Option<Tensor>> {
    let [Some(a), Some(b), c] = inputs else { bail!(Internal, "a product without its matrices") };
    let (m, k, n) = gemm_shape(g, a, b, c)?;
    let Some(finish) = finish(then, a.dtype(), &[m, n])? else { return Ok(None) };
    let mut y = Tensor::new(cx.pool, a.dtype(), vec![m, n])?;
    let addend = c.map(|c| cast_float(cx, c, <T::C as Lane>::DTYPE)).transpose()?;
    let values = addend.as_ref().map(|c| c.slice::<T::C>()).transpose()?;
    // Steps of C from row to row and from column to column.
    let (down, across) = match c.map(Tensor::dims) {
        Some(&[rows, columns]) => (if rows == 1 { 0 } else { columns }, usize::from(columns != 1)),
        Some(&[columns]) => (0, usize::from(columns != 1)),
        _ => (0, 0),
    };
    let (alpha, beta) = (T::C::of(g.alpha.into()), T::C::of(g.beta.into()));
    let row_epilogue = |row: usize, column: usize, out: &mut [T::C]| {
        if g.alpha != 1.0 {
            out.iter_mut().for_each(|v| *v *= alpha);
        }
        match (values, across) {
            (None, _) => {}
            (Some(c), 0) => {
                let v = beta * c[row * down];
                out.iter_mut().for_each(|o| *o += v);
            }
            (Some(c), _) => {
                let from = &c[row * down + column..];
                match g.beta == 1.0 {
                    true => out.iter_mut().zip(from).for_each(|(o, &v)| *o += v),
                    false => out.iter_mut().zip(from).for_each(|(o, &v)| *o += beta * v),
                }
            }
        }
        finish.work_on(row * n + column, out);
    };
    let epilogue = |at: usize, values: &mut [T::C]| {
        // Whole rows, or a piece of one.
        let column = at % n;
        for (i, row) in values.chunks_mut(n - column).enumerate() {
            row_epilogue(at / n + i, if i == 0 { column } else { 0 }, row);
        }
    };
    if let (Some(weights), false) = (packed, g.trans_a) {
        Dense::product(m, weights, &epilogue).run(cx, a.slice::<T>()?, y.slice_mut::<T>()?)?;
        return Ok(Some(y));
    }
    let (a0, b0) = (a.dims()[1], b.dims()[1]);
    let (left, right) = (a.slice::<T>()?, b.slice::<T>()?);
    let a = if g.trans_a { Operand::by_steps(left, a0) } else { Operand::by_lanes(left, a0) };
    let b = if g.trans_b { Operand::by_lanes(right, b0) } else { Operand::by_steps(right, b0) };
    let product = Product { m, n, k, a, b, offset: 0, row_stride: n, epilogue: Some(&epilogue) };
    gemm::run(cx, &[product], y.slice_mut::<T>()?)?;
    Ok(Some(y))
}

fn integer_gemm<T: Integer>(cx: &Cx, g: &Gemm, a: &Tensor, b: &Tensor, c: Option<&Tensor>) -> Result<Tensor> {
    let (m, k, n) = gemm_shape(g, a, b, c)?;
    let mut y = Tensor::new(cx.pool, a.dtype(), vec![m, n])?;
    let (xa, xb) = (a.slice::<T>()?, b.slice::<T>()?);
    let xc = c.map(|c| c.slice::<T>()).transpose()?;
    let cd = c.map(Tensor::dims).unwrap_or_default();
    let (wa, wb) = (a.dims()[1], b.dims()[1]);
    let scaled = |v: i128, f: f32| if f == 1.0 { v } else { (f64::from(f) * v as f64) as i128 };
    for (i, row) in y.slice_mut::<T>()?.chunks_mut(n.max(1)).enumerate().take(m) {
        for (j, o) in row.iter_mut().enumerate() {
            let mut sum = 0i128;
            for s in 0..k {
                let x = if g.trans_a { xa[s * wa + i] } else { xa[i * wa + s] };
                let z = if g.trans_b { xb[j * wb + s] } else { xb[s * wb + j] };
                sum = sum.wrapping_add(x.wide().wrapping_mul(z.wide()));
            }
            let add = xc.map_or(0, |c| {
                let at = match *cd {
                    [rows, columns] => (if rows == 1 { 0 } else { i * columns }) + if columns == 1 { 0 } else { j },
                    [columns] if columns != 1 => j,
                    _ => 0,
                };
                scaled(c[at].wide(), g.beta)
            });
            *o = T::wrap(scaled(sum, g.alpha).wrapping_add(add));
        }
    }
    Ok(y)
}
