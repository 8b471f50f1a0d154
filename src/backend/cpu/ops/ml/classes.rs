//! The labels of a classifier.

use super::super::NodeCx;
use super::super::cast::cast;
use super::post::Post;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::{Tensor, Text};
use crate::backend::cpu::value::Val;
use crate::model::DataType::{Float32, Int64};
use crate::{Result, bail};

/// Labels, one a class.
pub enum Classes {
    /// Numbers.
    Integers(Vec<i64>),
    /// Texts.
    Texts(Vec<Text>),
}

impl Classes {
    /// The labels of a node; `integers` is the name of the attribute that holds numbers.
    pub fn read(cx: &NodeCx, integers: &str) -> Result<Classes> {
        let numbers = cx.ints(integers)?.unwrap_or_default();
        let texts = cx.strings("classlabels_strings")?.unwrap_or_default();
        match (numbers.is_empty(), texts.is_empty()) {
            (false, true) => Ok(Classes::Integers(numbers)),
            (true, false) => Ok(Classes::Texts(texts.into_iter().map(Text::from).collect())),
            _ => bail!(InvalidModel, "it must have one of the attributes '{integers}' and 'classlabels_strings'"),
        }
    }

    /// How many classes there are.
    pub fn len(&self) -> usize {
        match self {
            Classes::Integers(v) => v.len(),
            Classes::Texts(v) => v.len(),
        }
    }

    /// The labels of the rows' highest scores (the first of equal ones), and the scores, transformed.
    pub fn choose(&self, cx: &Cx, mut scores: Tensor, post: Post) -> Result<Vec<Val>> {
        let rows = scores.dims()[0];
        let mut best = Vec::with_capacity(rows);
        for row in scores.slice_mut::<f64>()?.chunks_exact_mut(self.len()) {
            best.push((0..row.len()).fold(0, |b, i| if row[i] > row[b] { i } else { b }));
            post.apply(row);
        }
        let labels = match self {
            Classes::Integers(v) => {
                let chosen: Vec<i64> = best.into_iter().map(|b| v[b]).collect();
                Tensor::from_slice(cx.pool, Int64, vec![rows], &chosen)?
            }
            Classes::Texts(v) => Tensor::from_strings(vec![rows], best.into_iter().map(|b| v[b].clone()).collect())?,
        };
        Ok(vec![Val::Tensor(labels), Val::Tensor(cast(cx, &scores, Float32, true)?)])
    }
}
