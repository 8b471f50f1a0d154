//! Broadcasting: NumPy's rule, and walks over several tensors at once.

use crate::{Result, bail};

/// The shape that all of `shapes` broadcast to.
pub fn shape(shapes: &[&[usize]]) -> Result<Vec<usize>> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![1usize; rank];
    for s in shapes {
        for (o, &d) in out[rank - s.len()..].iter_mut().zip(*s) {
            match (*o, d) {
                (a, b) if a == b => {}
                (1, b) => *o = b,
                (_, 1) => {}
                _ => bail!(ShapeMismatch, "the shapes {shapes:?} do not broadcast together"),
            }
        }
    }
    Ok(out)
}

/// True if `from` broadcasts to `to` without changing it.
pub fn fits(from: &[usize], to: &[usize]) -> bool {
    from.len() <= to.len() && from.iter().zip(&to[to.len() - from.len()..]).all(|(&f, &t)| f == t || f == 1)
}

/// Row-major strides, in elements.
pub fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    strides
}

/// A walk over the elements of an output in order, with the matching element of each of `N` operands.
pub struct Walk<const N: usize> {
    /// Merged dimensions, the innermost last; never empty.
    dims: Vec<usize>,
    /// Strides of each operand in each merged dimension.
    strides: Vec<[isize; N]>,
    /// Where each operand starts.
    start: [isize; N],
}

impl<const N: usize> Walk<N> {
    /// A walk over `out`; every operand broadcasts to it.
    pub fn new(out: &[usize], operands: [&[usize]; N]) -> Self {
        let all = operands.map(|dims| {
            let own = strides(dims);
            let lead = out.len().saturating_sub(dims.len());
            let stride = |i: usize| if i < lead || dims[i - lead] == 1 { 0 } else { own[i - lead] as isize };
            (0..out.len()).map(stride).collect()
        });
        Walk::strided(out, all, [0; N])
    }

    /// A walk over operands of any strides and starting points.
    pub fn strided(out: &[usize], strides: [Vec<isize>; N], start: [isize; N]) -> Self {
        let mut dims: Vec<usize> = Vec::new();
        let mut merged: Vec<[isize; N]> = Vec::new();
        for i in (0..out.len()).rev() {
            let here: [isize; N] = std::array::from_fn(|k| strides[k][i]);
            if out[i] == 1 {
                continue;
            }
            // The dimension joins the one inside it if every operand steps over that one evenly.
            if let (Some(d), Some(s)) = (dims.last_mut(), merged.last())
                && (0..N).all(|k| here[k] == s[k] * *d as isize)
            {
                *d *= out[i];
                continue;
            }
            dims.push(out[i]);
            merged.push(here);
        }
        if dims.is_empty() {
            dims.push(1);
            merged.push([0; N]);
        }
        dims.reverse();
        merged.reverse();
        Walk { dims, strides: merged, start }
    }

    /// Merged dimensions, the innermost last.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Strides of the operands in a merged dimension.
    pub fn strides(&self, dim: usize) -> [isize; N] {
        self.strides[dim]
    }

    /// Length of the innermost run.
    pub fn inner(&self) -> usize {
        self.dims[self.dims.len() - 1]
    }

    /// Strides of the operands within a run.
    pub fn inner_strides(&self) -> [isize; N] {
        self.strides[self.strides.len() - 1]
    }

    /// Calls `f(first element of the output, number of elements, first element of each operand)` for the runs that
    /// cover the output's elements `start..start + len`.
    pub fn runs(&self, start: usize, len: usize, mut f: impl FnMut(usize, usize, [usize; N])) {
        if len == 0 || self.dims.contains(&0) {
            return;
        }
        let (inner, last) = (self.inner(), self.dims.len() - 1);
        let mut index = vec![0usize; self.dims.len()];
        let mut rest = start;
        let mut offsets = self.start;
        let shift = |offsets: &mut [isize; N], d: usize, by: isize| {
            for (o, s) in offsets.iter_mut().zip(self.strides[d]) {
                *o += by * s;
            }
        };
        for d in (0..=last).rev() {
            index[d] = rest % self.dims[d];
            rest /= self.dims[d];
            shift(&mut offsets, d, index[d] as isize);
        }
        let (mut at, end) = (start, start + len);
        loop {
            let n = (inner - index[last]).min(end - at);
            f(at, n, offsets.map(|o| o as usize));
            at += n;
            if at >= end {
                return;
            }
            shift(&mut offsets, last, -(index[last] as isize));
            index[last] = 0;
            for d in (0..last).rev() {
                index[d] += 1;
                if index[d] < self.dims[d] {
                    shift(&mut offsets, d, 1);
                    break;
                }
                shift(&mut offsets, d, 1 - self.dims[d] as isize);
                index[d] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_as_numpy_says() {
        assert_eq!(shape(&[&[2, 3], &[3]]).unwrap(), [2, 3]);
        assert_eq!(shape(&[&[2, 1], &[1, 3], &[]]).unwrap(), [2, 3]);
        assert_eq!(shape(&[&[0, 1], &[1, 3]]).unwrap(), [0, 3]);
        assert!(shape(&[&[2], &[3]]).is_err());
        assert!(fits(&[1, 3], &[2, 3]) && !fits(&[2, 3], &[1, 3]) && !fits(&[1, 2, 3], &[2, 3]));
    }

    /// Every element is visited once, in order, with the right operand elements, from any start.
    #[test]
    fn walks_visit_the_right_elements() {
        for (out, a, b) in [
            (vec![2, 3, 4], vec![2, 3, 4], vec![4]),
            (vec![2, 3, 4], vec![3, 1], vec![2, 1, 4]),
            (vec![5], vec![1], vec![5]),
            (vec![], vec![], vec![]),
            (vec![2, 1, 3, 2], vec![1, 3, 1], vec![2, 1, 1, 1]),
        ] {
            let walk = Walk::new(&out, [&a, &b]);
            let total: usize = out.iter().product();
            let want = |dims: &[usize], i: usize| {
                let (mut rest, mut offset, mut step) = (i, 0, 1);
                for (k, &d) in out.iter().enumerate().rev() {
                    let at = rest % d;
                    rest /= d;
                    if let Some(own) = (k + dims.len()).checked_sub(out.len()) {
                        offset += if dims[own] == 1 { 0 } else { at * step };
                        step *= dims[own];
                    }
                }
                offset
            };
            for start in 0..total {
                let mut next = start;
                walk.runs(start, total - start, |at, n, [oa, ob]| {
                    assert_eq!(at, next);
                    let [sa, sb] = walk.inner_strides();
                    for i in 0..n {
                        assert_eq!(oa + i * sa as usize, want(&a, at + i));
                        assert_eq!(ob + i * sb as usize, want(&b, at + i));
                    }
                    next += n;
                });
                assert_eq!(next, total);
            }
        }
        Walk::new(&[2, 0], [&[2, 0]]).runs(0, 0, |_, _, _| panic!("an empty walk has no run"));
    }
}
