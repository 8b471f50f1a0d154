//! TfIdfVectorizer: counts of n-grams.

use super::node::integers;
use super::{Built, Entry, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::tensor::{Tensor, Text};
use crate::hash::HashMap;
use crate::model::DataType;
use crate::{Result, bail, err};

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("TfIdfVectorizer", build)];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Tf,
    Idf,
    TfIdf,
}

struct Vectorizer {
    mode: Mode,
    min: usize,
    max: usize,
    skips: usize,
    /// Numbers of the tokens that n-grams are made of.
    tokens: HashMap<Text, u32>,
    strings: bool,
    /// The output's column of each n-gram.
    columns: HashMap<Vec<u32>, usize>,
    width: usize,
    /// One a column; none is 1.
    weights: Vec<f32>,
}

fn key(v: i64) -> Text {
    Text::copy_from_slice(&v.to_le_bytes())
}

fn attribute(cx: &NodeCx, name: &str) -> Result<usize> {
    let v = cx.opt_int(name)?.ok_or_else(|| err!(InvalidModel, "its attribute '{name}' is missing"))?;
    usize::try_from(v).map_err(|_| err!(InvalidModel, "its attribute '{name}' is {v}, but must not be negative"))
}

fn list(cx: &NodeCx, name: &str) -> Result<Vec<usize>> {
    let all = cx.required_ints(name)?;
    all.iter()
        .map(|&v| usize::try_from(v).ok().filter(|v| *v < 1 << 31))
        .collect::<Option<_>>()
        .ok_or_else(|| err!(InvalidModel, "its attribute '{name}' has entries that are no places"))
}

impl Vectorizer {
    fn new(cx: &NodeCx) -> Result<Vectorizer> {
        let mode = match cx.string("mode", "")?.as_str() {
            "TF" => Mode::Tf,
            "IDF" => Mode::Idf,
            "TFIDF" => Mode::TfIdf,
            other => bail!(InvalidModel, "its attribute 'mode' is '{other}', but must be TF, IDF or TFIDF"),
        };
        let (texts, numbers) = (cx.strings("pool_strings")?, cx.ints("pool_int64s")?);
        let (pool, strings): (Vec<Text>, bool) = match (texts, numbers) {
            (Some(t), None) => (t.into_iter().map(Text::from).collect(), true),
            (None, Some(n)) => (n.into_iter().map(key).collect(), false),
            _ => bail!(InvalidModel, "it must have one of the attributes 'pool_strings' and 'pool_int64s'"),
        };
        let (starts, places) = (list(cx, "ngram_counts")?, list(cx, "ngram_indexes")?);
        let mut tokens = HashMap::default();
        let mut numbered = Vec::with_capacity(pool.len());
        for token in pool {
            let next = tokens.len() as u32;
            numbered.push(*tokens.entry(token).or_insert(next));
        }
        let mut columns = HashMap::default();
        let mut grams = 0;
        for (i, &start) in starts.iter().enumerate() {
            let end = starts.get(i + 1).copied().unwrap_or(numbered.len());
            let part = numbered.get(start..end).ok_or_else(|| {
                err!(
                    InvalidModel,
                    "its attribute 'ngram_counts' ({starts:?}) does not cut a pool of {} items",
                    numbered.len()
                )
            })?;
            for gram in part.chunks_exact(i + 1) {
                let column = *places.get(grams).ok_or_else(|| {
                    err!(
                        InvalidModel,
                        "its attribute 'ngram_indexes' has {} entries, but there are more n-grams",
                        places.len()
                    )
                })?;
                columns.insert(gram.to_vec(), column);
                grams += 1;
            }
        }
        let width = places.iter().max().map_or(0, |m| m + 1);
        let weights = cx.floats("weights")?.unwrap_or_default();
        if !weights.is_empty() && weights.len() < width {
            bail!(
                InvalidModel,
                "its attribute 'weights' has {} entries, but the output has {width} columns",
                weights.len()
            );
        }
        let (min, max) = (attribute(cx, "min_gram_length")?, attribute(cx, "max_gram_length")?);
        if min == 0 || min > max {
            bail!(InvalidModel, "n-grams of {min} to {max} items are asked for");
        }
        let skips = attribute(cx, "max_skip_count")?;
        Ok(Vectorizer { mode, min, max, skips, tokens, strings, columns, width, weights })
    }

    /// Counts the n-grams of a row; items that are in none are `None`.
    fn count(&self, row: &[Option<u32>], out: &mut [f32]) {
        let mut gram = Vec::new();
        // No distance between items reaches further than the row.
        for distance in 1..=(self.skips + 1).min(row.len().max(1)) {
            // Single items are counted once: distances do not change them.
            let min = if distance > 1 { self.min.max(2) } else { self.min };
            for start in 0..row.len() {
                gram.clear();
                for item in row[start..].iter().step_by(distance).take(self.max) {
                    let Some(item) = item else { break };
                    gram.push(*item);
                    if gram.len() >= min
                        && let Some(o) = self.columns.get(&gram).and_then(|&c| out.get_mut(c))
                    {
                        *o += 1.0;
                    }
                }
            }
        }
        for (i, o) in out.iter_mut().enumerate() {
            let weight = self.weights.get(i).copied().unwrap_or(1.0);
            match self.mode {
                Mode::Tf => {}
                Mode::Idf => *o = if *o > 0.0 { weight } else { 0.0 },
                Mode::TfIdf => *o *= weight,
            }
        }
    }
}

fn build(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let v = Vectorizer::new(cx)?;
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let (rows, mut dims) = match *x.dims() {
            [] | [_] => (1, vec![]),
            [b, _] => (b, vec![b]),
            _ => bail!(ShapeMismatch, "an input of shape {:?} is neither [C] nor [N, C]", x.dims()),
        };
        if v.strings != (x.dtype() == DataType::String) {
            bail!(TypeMismatch, "its input is {x:?}, but its pool has items of the other kind");
        }
        let items: Vec<Option<u32>> = match v.strings {
            true => x.strings()?.iter().map(|s| v.tokens.get(s).copied()).collect(),
            false => integers(x)?.into_iter().map(|i| v.tokens.get(&key(i)).copied()).collect(),
        };
        dims.push(v.width);
        let mut y = Tensor::new(cx.pool, DataType::Float32, dims)?;
        let out = y.slice_mut::<f32>()?;
        out.fill(0.0);
        if !items.is_empty() && v.width > 0 {
            let rows = items.chunks_exact(items.len() / rows.max(1));
            rows.zip(out.chunks_exact_mut(v.width)).for_each(|(row, out)| v.count(row, out));
        }
        Ok(y)
    })
}
