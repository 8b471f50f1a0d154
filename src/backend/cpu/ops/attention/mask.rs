//! Which keys a query sees.

use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::broadcast::{fits, strides};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::ops::cast::cast;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType;
use crate::{Result, bail};

/// Keys from a first to before a last, for each query: what causality, windows and lengths leave.
pub struct Span {
    /// Position of each sample's first query among the keys.
    pub offsets: Vec<i64>,
    pub causal: bool,
    /// How far a query looks to the left and to the right.
    pub left: Option<i64>,
    pub right: Option<i64>,
    /// Valid keys of each sample.
    pub valid: Option<Vec<i64>>,
    /// All keys.
    pub total: usize,
}

impl Span {
    /// The keys that a query of a sample may see.
    pub fn range(&self, sample: usize, query: usize) -> std::ops::Range<usize> {
        let position = self.offsets.get(sample).copied().unwrap_or(0).saturating_add(query as i64);
        let mut end = self.total as i64;
        if self.causal {
            end = end.min(position.saturating_add(1));
        }
        if let Some(right) = self.right {
            end = end.min(position.saturating_add(right).saturating_add(1));
        }
        if let Some(valid) = &self.valid {
            end = end.min(valid.get(sample).copied().unwrap_or(0));
        }
        let start = self.left.map_or(0, |left| position.saturating_sub(left)).max(0);
        let (start, end) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
        start.min(end)..end
    }
}

/// The mask that a model gives, in its own type if it is boolean, else in the computing type.
pub struct Mask {
    values: Tensor,
    strides: [usize; 4],
    /// Keys beyond are not seen.
    width: usize,
}

impl Mask {
    /// A mask over [batch, heads, queries, keys]; its last dimension may be shorter than the keys are.
    pub fn new(cx: &Cx, mask: &Tensor, over: [usize; 4], wide: DataType) -> Result<Mask> {
        // A last dimension of one key is one key, too: it is not repeated.
        let Some(&width) = mask.dims().last() else { bail!(ShapeMismatch, "a mask of rank 0 has no keys") };
        let width = width.min(over[3]);
        let own = mask.dims();
        let lead = own.len() - 1;
        if own[lead] > over[3] && own[lead] != 1 || !fits(&own[..lead], &over[..3]) {
            bail!(ShapeMismatch, "a mask of shape {own:?} does not go with scores of shape {over:?}");
        }
        let mut at = [0; 4];
        for (i, (&step, &size)) in strides(own).iter().zip(own).enumerate() {
            at[4 - own.len() + i] = if size == 1 { 0 } else { step };
        }
        let values = if mask.dtype() == DataType::Bool { mask.clone() } else { cast(cx, mask, wide, true)? };
        Ok(Mask { values, strides: at, width })
    }

    /// Keys beyond which nothing is seen.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Adds the mask to the scores of keys from `first` on; false if it leaves none of them.
    pub fn apply<F: Float>(&self, [b, h, q]: [usize; 3], first: usize, scores: &mut [F]) -> bool {
        let at = b * self.strides[0] + h * self.strides[1] + q * self.strides[2] + first;
        let mut some = false;
        if self.values.dtype() == DataType::Bool {
            let seen = self.values.bytes().get(at..).unwrap_or_default();
            for (s, &m) in scores.iter_mut().zip(seen) {
                some |= m != 0;
                if m == 0 {
                    *s = F::LOWEST;
                }
            }
        } else if let Ok(bias) = self.values.slice::<F>() {
            for (s, &m) in scores.iter_mut().zip(bias.get(at..).unwrap_or_default()) {
                let hidden = m == F::LOWEST;
                some |= !hidden;
                // Selected, not added: a score that is infinite or NaN must not come through.
                *s = if hidden { F::LOWEST } else { *s + m };
            }
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_join_causality_windows_and_lengths() {
        let plain = || Span { offsets: vec![2, -2], causal: false, left: None, right: None, valid: None, total: 6 };
        assert_eq!(plain().range(0, 1), 0..6);
        let causal = Span { causal: true, ..plain() };
        assert_eq!(causal.range(0, 1), 0..4);
        assert!(causal.range(1, 0).is_empty() && causal.range(1, 1).is_empty(), "before the first key");
        assert_eq!(causal.range(1, 2), 0..1);
        let window = Span { left: Some(1), right: Some(2), ..plain() };
        assert_eq!(window.range(0, 0), 1..5);
        assert_eq!(window.range(0, 9), 6..6, "beyond the last key");
        let short = Span { valid: Some(vec![3, -7]), left: Some(i64::MAX), ..plain() };
        assert_eq!(short.range(0, 1), 0..3);
        assert!(short.range(1, 1).is_empty());
    }
}
