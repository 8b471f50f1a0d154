//! Axes and shapes given as signed numbers.

use crate::backend::cpu::tensor::count;
use crate::{Result, bail, err};

/// The axis as a position, for a tensor of that rank.
pub fn axis(axis: i64, rank: usize) -> Result<usize> {
    let r = rank as i64;
    match axis {
        a if (-r..r).contains(&a) => Ok(if a < 0 { a + r } else { a } as usize),
        _ => Err(err!(ShapeMismatch, "axis {axis} does not exist in a tensor of rank {rank}")),
    }
}

/// The same for an axis that may also stand after the last (a split point between axes).
pub fn split_point(axis: i64, rank: usize) -> Result<usize> {
    if axis == rank as i64 { Ok(rank) } else { self::axis(axis, rank) }
}

/// Distinct axes, in ascending order.
pub fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut all = list.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?;
    all.sort_unstable();
    if all.windows(2).any(|w| w[0] == w[1]) {
        bail!(ShapeMismatch, "axes {list:?} name one axis twice");
    }
    Ok(all)
}

/// A shape given as numbers, all of which must be sizes.
pub fn shape(list: &[i64]) -> Result<Vec<usize>> {
    let dims = list
        .iter()
        .map(|&d| usize::try_from(d).map_err(|_| err!(ShapeMismatch, "the shape {list:?} has a negative size")))
        .collect::<Result<Vec<_>>>()?;
    count(&dims)?;
    Ok(dims)
}

/// A tensor's shape seen as outer dimensions, one axis, inner dimensions.
pub fn around(dims: &[usize], axis: usize) -> (usize, usize, usize) {
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}
