//! Operators whose result depends on the order or the truth of elements: TopK, NonZero, Unique, Compress, and their like.

use super::axes::{around, axis};
use super::node::integers;
use super::{Built, Entry, NodeCx, entry, kernel, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::lane::{Lane, refuse};
use crate::backend::cpu::kernels::movement::Elem;
use crate::backend::cpu::tensor::{Tensor, count};
use crate::backend::cpu::value::Val;
use crate::model::DataType::{self, Bool, Int64};
use crate::sort::sort_by;
use crate::{Result, bail, err, with_elem, with_number};
use std::cmp::Ordering;

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("TopK", top_k),
    entry("NonZero", non_zero),
    entry("OneHot", one_hot),
    entry("Unique", unique),
    entry("Compress", compress),
    entry("Trilu", trilu),
    entry("ReverseSequence", reverse_sequence),
];

/// A type whose elements are told apart by number only.
fn number_type(t: DataType) -> DataType {
    if t == Bool { DataType::Uint8 } else { t }
}

/// Ascending, NaN last.
fn order<C: PartialOrd>(a: &C, b: &C) -> Ordering {
    #[allow(clippy::eq_op)] // only NaN differs from itself
    a.partial_cmp(b).unwrap_or_else(|| (a != a).cmp(&(b != b)))
}

/// Numbers as unsigned ones in the same order: NaN last, both zeros alike.
trait Rank {
    /// Its place among all values of the type.
    fn rank(self) -> u64;
}

/// The highest bit: signed numbers are in order when it is turned over.
const SIGN: u64 = 1 << 63;

impl Rank for f64 {
    fn rank(self) -> u64 {
        if self.is_nan() {
            return u64::MAX;
        }
        // Adding zero makes the negative zero positive.
        let bits = (self + 0.0).to_bits();
        if bits & SIGN == 0 { bits | SIGN } else { !bits }
    }
}

impl Rank for f32 {
    fn rank(self) -> u64 {
        f64::from(self).rank()
    }
}

macro_rules! rank {
    ($($t:ty)+) => {$(
        impl Rank for $t {
            fn rank(self) -> u64 {
                i64::from(self) as u64 ^ SIGN
            }
        }
    )+};
}

rank!(i8 i16 i32 i64 u8 u16 u32);

impl Rank for u64 {
    fn rank(self) -> u64 {
        self
    }
}

fn top_k(cx: &NodeCx) -> Built {
    let at = cx.int("axis", -1)?;
    let largest = cx.flag("largest", true)?;
    // Unsorted output may be in any order, and sorted is one.
    let fixed = match cx.opset {
        ..10 => Some(cx.opt_int("k")?.ok_or_else(|| err!(InvalidModel, "its attribute 'k' is missing"))?),
        _ => {
            cx.check_inputs(2, 2)?;
            None
        }
    };
    kernel(move |cx, inputs| {
        let k = match fixed {
            Some(k) => k,
            None => match inputs.ints(1)?[..] {
                [k] => k,
                _ => bail!(ShapeMismatch, "its k must be a single number"),
            },
        };
        let x = inputs.tensor(0)?;
        let at = axis(at, x.rank())?;
        let (_, n, inner) = around(x.dims(), at);
        let k = usize::try_from(k).ok().filter(|k| *k <= n).ok_or_else(|| {
            err!(Execution, "{k} of {n} elements cannot be chosen on axis {at} of shape {:?}", x.dims())
        })?;
        let mut dims = x.dims().to_vec();
        dims[at] = k;
        let mut values = Tensor::new(cx.pool, x.dtype(), dims.clone())?;
        let mut places = Tensor::new(cx.pool, Int64, dims)?;
        if values.is_empty() {
            return Ok(vec![Val::Tensor(values), Val::Tensor(places)]);
        }
        with_number!(x.dtype(), T => {
            let data = x.slice::<T>()?;
            let (out, index) = (values.slice_mut::<T>()?, places.slice_mut::<i64>()?);
            // Sorted as numbers of one type, so that sorting is compiled once.
            let mut list: Vec<(u64, usize)> = Vec::with_capacity(n);
            for line in 0..x.len() / n {
                let (o, i) = (line / inner, line % inner);
                list.clear();
                list.extend((0..n).map(|j| {
                    let rank = data[(o * n + j) * inner + i].get().rank();
                    (if largest { !rank } else { rank }, j)
                }));
                // Equal values keep their order.
                if k < n {
                    list.select_nth_unstable(k - 1);
                    list.truncate(k);
                }
                list.sort_unstable();
                for (j, &(_, p)) in list.iter().enumerate() {
                    out[(o * k + j) * inner + i] = data[(o * n + p) * inner + i];
                    index[(o * k + j) * inner + i] = p as i64;
                }
            }
        }, else other => return Err(refuse("TopK", other)));
        Ok(vec![Val::Tensor(values), Val::Tensor(places)])
    })
}

/// True for each element that is not zero.
fn truths(x: &Tensor) -> Result<Vec<bool>> {
    with_number!(number_type(x.dtype()), T => {
        Ok(x.slice::<T>()?.iter().map(|v| v.get() != <T as Lane>::C::default()).collect())
    }, else other => Err(refuse("NonZero", other)))
}

fn non_zero(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    tensor_kernel(|cx, inputs| {
        let x = inputs.tensor(0)?;
        let found: Vec<usize> = truths(x)?.iter().enumerate().filter(|(_, t)| **t).map(|(i, _)| i).collect();
        // A scalar counts as a vector of one element, as in NumPy.
        let dims = if x.rank() == 0 { vec![1] } else { x.dims().to_vec() };
        let mut y = Tensor::new(cx.pool, Int64, vec![dims.len(), found.len()])?;
        let out = y.slice_mut::<i64>()?;
        for (k, &f) in found.iter().enumerate() {
            let mut rest = f;
            for (d, &n) in dims.iter().enumerate().rev() {
                out[d * found.len() + k] = (rest % n) as i64;
                rest /= n;
            }
        }
        Ok(y)
    })
}

fn one_hot(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 3)?;
    let at = cx.int("axis", -1)?;
    tensor_kernel(move |cx, inputs| {
        let (indices, values) = (inputs.tensor(0)?, inputs.tensor(2)?);
        let whole = |t: &Tensor| integers(&super::cast::cast(cx, t, Int64, true)?);
        let [depth] = whole(inputs.tensor(1)?)?[..] else { bail!(ShapeMismatch, "its depth must be a single number") };
        let size = usize::try_from(depth).map_err(|_| err!(Execution, "a depth of {depth} is not possible"))?;
        if values.len() != 2 {
            bail!(ShapeMismatch, "its values must be two, off and on, but are {values:?}");
        }
        let at = axis(at, indices.rank() + 1)?;
        let mut dims = indices.dims().to_vec();
        dims.insert(at, size);
        let mut y = Tensor::new(cx.pool, values.dtype(), dims)?;
        let inner: usize = indices.dims()[at..].iter().product();
        let list = whole(indices)?;
        with_elem!(values.dtype(), T => {
            let pair = T::view(values)?.to_vec();
            let out = T::view_mut(&mut y)?;
            out.fill(pair[0].clone());
            for (i, &p) in list.iter().enumerate() {
                // Places outside the depth are off everywhere.
                let p = if p < 0 { p.saturating_add(depth) } else { p };
                if (0..depth).contains(&p) {
                    out[(i / inner * size + p as usize) * inner + i % inner] = pair[1].clone();
                }
            }
        });
        Ok(y)
    })
}

/// What Unique needs for each row: its places in the orders, its group, and its entries in three lists.
const UNIQUE_ROW: usize = 80;

fn unique(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let at = cx.opt_int("axis")?;
    let sorted = cx.flag("sorted", true)?;
    kernel(move |cx, inputs| {
        let x = inputs.take(0)?;
        let n = x.len();
        let (x, at) = match at {
            Some(a) => {
                let a = axis(a, x.rank())?;
                (x, a)
            }
            None => (x.reshaped(vec![n])?, 0),
        };
        // Slices along the axis are compared as rows.
        let mut order_of: Vec<usize> = (0..x.rank()).collect();
        order_of.remove(at);
        order_of.insert(0, at);
        let rows = super::layout::transpose(cx, &x, &order_of)?;
        let count = rows.dims()[0];
        // Rows without elements are rows too: their number is bounded by nothing else.
        let _held = cx.pool.charge(count.saturating_mul(UNIQUE_ROW))?;
        let width = rows.len().checked_div(count).unwrap_or(0);
        let compare = comparison(&rows, width)?;
        let mut by_value: Vec<usize> = (0..count).collect();
        by_value.sort_by(|&a, &b| compare(a, b).then(a.cmp(&b)));
        // Groups of equal rows: the first of each, its members.
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for &i in &by_value {
            match groups.last_mut() {
                Some(g) if compare(g[0], i) == Ordering::Equal => g.push(i),
                _ => groups.push(vec![i]),
            }
        }
        if !sorted {
            sort_by(&mut groups, |a, b| a[0].cmp(&b[0]));
        }
        let first: Vec<i64> = groups.iter().map(|g| g[0] as i64).collect();
        let mut inverse = vec![0i64; count];
        for (k, g) in groups.iter().enumerate() {
            g.iter().for_each(|&i| inverse[i] = k as i64);
        }
        let counts: Vec<i64> = groups.iter().map(|g| g.len() as i64).collect();
        let y = take_along(cx, &x, at, &first.iter().map(|&i| i as usize).collect::<Vec<_>>())?;
        let list = |v: &[i64]| Tensor::from_slice(cx.pool, Int64, vec![v.len()], v).map(Val::Tensor);
        Ok(vec![Val::Tensor(y), list(&first)?, list(&inverse)?, list(&counts)?])
    })
}

/// How two rows of `width` elements compare.
#[allow(clippy::type_complexity)]
fn comparison(rows: &Tensor, width: usize) -> Result<Box<dyn Fn(usize, usize) -> Ordering + '_>> {
    if rows.dtype() == DataType::String {
        let data = rows.strings()?;
        return Ok(Box::new(move |a, b| data[a * width..(a + 1) * width].cmp(&data[b * width..(b + 1) * width])));
    }
    with_number!(number_type(rows.dtype()), T => {
        let data = rows.slice::<T>()?;
        Ok(Box::new(move |a: usize, b: usize| {
            let pairs = data[a * width..(a + 1) * width].iter().zip(&data[b * width..(b + 1) * width]);
            pairs.map(|(x, y)| order(&x.get(), &y.get())).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        }))
    }, else other => Err(refuse("Unique", other)))
}

/// The slices at these places of an axis.
pub fn take_along(cx: &Cx, x: &Tensor, at: usize, places: &[usize]) -> Result<Tensor> {
    let (outer, n, inner) = around(x.dims(), at);
    let mut dims = x.dims().to_vec();
    dims[at] = places.len();
    let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
    if y.is_empty() {
        return Ok(y);
    }
    with_elem!(x.dtype(), T => {
        let data = T::view(x)?;
        let mut out = T::view_mut(&mut y)?.chunks_exact_mut(inner);
        for o in 0..outer {
            for (&p, out) in places.iter().zip(&mut out) {
                out.clone_from_slice(&data[(o * n + p) * inner..][..inner]);
            }
        }
    });
    Ok(y)
}

fn compress(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let at = cx.opt_int("axis")?;
    tensor_kernel(move |cx, inputs| {
        let condition = truths(inputs.tensor(1)?)?;
        let x = inputs.take(0)?;
        let (x, at) = match at {
            Some(a) => {
                let a = axis(a, x.rank())?;
                (x, a)
            }
            None => {
                let n = x.len();
                (x.reshaped(vec![n])?, 0)
            }
        };
        let n = x.dims()[at];
        let places: Vec<usize> = (0..n.min(condition.len())).filter(|&i| condition[i]).collect();
        take_along(cx, &x, at, &places)
    })
}

fn trilu(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 2)?;
    let upper = cx.flag("upper", true)?;
    tensor_kernel(move |cx, inputs| {
        let k = match inputs.opt_ints(1)?.as_deref() {
            None => 0,
            Some([k]) => *k,
            Some(_) => bail!(ShapeMismatch, "its k must be a single number"),
        };
        let mut x = inputs.take(0)?;
        let &[.., rows, columns] = x.dims() else {
            bail!(ShapeMismatch, "an input of shape {:?} is no matrix", x.dims())
        };
        count(x.dims())?;
        if !x.is_unique() {
            let mut copy = Tensor::new(cx.pool, x.dtype(), x.dims().to_vec())?;
            with_elem!(x.dtype(), T => T::view_mut(&mut copy)?.clone_from_slice(T::view(&x)?));
            x = copy;
        }
        if x.is_empty() {
            return Ok(x);
        }
        with_elem!(x.dtype(), T => {
            for (i, row) in T::view_mut(&mut x)?.chunks_exact_mut(columns).enumerate() {
                // The first column of the upper part.
                let edge = ((i % rows) as i64).saturating_add(k).saturating_add(i64::from(!upper)).clamp(0, columns as i64) as usize;
                if upper { row[..edge].fill(T::default()) } else { row[edge..].fill(T::default()) }
            }
        });
        Ok(x)
    })
}

fn reverse_sequence(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let (batch, time) = (cx.int("batch_axis", 1)?, cx.int("time_axis", 0)?);
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let lengths = inputs.ints(1)?;
        let (batch, time) = (axis(batch, x.rank())?, axis(time, x.rank())?);
        if batch == time || batch > 1 || time > 1 {
            bail!(InvalidModel, "its batch axis {batch} and time axis {time} must be 0 and 1");
        }
        let (n, t) = (x.dims()[batch], x.dims()[time]);
        if lengths.len() != n || lengths.iter().any(|&l| !(0..=t as i64).contains(&l)) {
            bail!(Execution, "lengths {lengths:?} do not fit {n} sequences of {t} elements");
        }
        let inner: usize = x.dims()[2..].iter().product();
        let mut y = Tensor::new(cx.pool, x.dtype(), x.dims().to_vec())?;
        if y.is_empty() {
            return Ok(y);
        }
        let place = |b: usize, s: usize| if batch == 0 { (b * t + s) * inner } else { (s * n + b) * inner };
        with_elem!(x.dtype(), T => {
            let data = T::view(x)?;
            let out = T::view_mut(&mut y)?;
            for (b, &l) in lengths.iter().enumerate() {
                for s in 0..t {
                    let from = if s < l as usize { l as usize - 1 - s } else { s };
                    out[place(b, s)..][..inner].clone_from_slice(&data[place(b, from)..][..inner]);
                }
            }
        });
        Ok(y)
    })
}
