//! Operators on strings.

use super::{Built, Entry, NodeCx, entry, kernel, re2, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::broadcast::{self, Walk};
use crate::backend::cpu::memory::Charge;
use crate::backend::cpu::tensor::{Tensor, Text, count};
use crate::backend::cpu::value::Val;
use crate::hash::HashSet;
use crate::model::DataType;
use crate::{Result, bail, err};

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    entry("StringConcat", build_concat),
    entry("StringSplit", build_split),
    entry("StringNormalizer", build_normalizer),
    entry("RegexFullMatch", build_full_match),
];

/// Elementwise equality.
pub fn equal(cx: &Cx, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let mut y = Tensor::new(cx.pool, DataType::Bool, broadcast::shape(&[a.dims(), b.dims()])?)?;
    let out = y.slice_mut::<u8>()?.iter_mut();
    pairs(cx, a, b)?.0.into_iter().zip(out).for_each(|((a, b), o)| *o = (a == b).into());
    Ok(y)
}

/// The share of the memory limit that `n` strings of `bytes` bytes in all take.
fn room(cx: &Cx, n: usize, bytes: usize) -> Result<Charge> {
    let charge = cx.pool.charge(n.saturating_mul(size_of::<Text>()).saturating_add(bytes));
    charge.map_err(|e| e.context(format_args!("{n} strings")))
}

/// The pairs of two broadcast string tensors, in the order of the result's elements, and their share of the memory limit.
fn pairs<'a>(cx: &Cx, a: &'a Tensor, b: &'a Tensor) -> Result<(Vec<(&'a Text, &'a Text)>, Charge)> {
    let dims = broadcast::shape(&[a.dims(), b.dims()])?;
    let walk = Walk::new(&dims, [a.dims(), b.dims()]);
    let (xa, xb) = (a.strings()?, b.strings()?);
    let n = count(&dims)?;
    let charge = room(cx, n, 0)?;
    let [step_a, step_b] = walk.inner_strides();
    let mut all = Vec::new();
    walk.runs(0, n, |_, n, [oa, ob]| {
        all.extend((0..n).map(|i| (&xa[oa + i * step_a as usize], &xb[ob + i * step_b as usize])));
    });
    Ok((all, charge))
}

/// The UTF-8 text of an element.
fn text(element: &Text) -> Result<&str> {
    std::str::from_utf8(element).map_err(|_| err!(Execution, "a string is not UTF-8: {:?}", &element[..]))
}

fn build_concat(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    tensor_kernel(|cx, inputs| {
        let (a, b) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let (pairs, _held) = pairs(cx, a, b)?;
        let bytes = pairs.iter().fold(0usize, |n, (a, b)| n.saturating_add(a.len() + b.len()));
        let charge = room(cx, pairs.len(), bytes)?;
        let joined = pairs.into_iter().map(|(a, b)| Text::from([&a[..], &b[..]].concat())).collect();
        Tensor::from_charged(broadcast::shape(&[a.dims(), b.dims()])?, joined, charge)
    })
}

fn build_split(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let delimiter = cx.string("delimiter", "")?;
    // A negative limit is none.
    let limit = cx.opt_int("maxsplit")?.and_then(|m| usize::try_from(m).ok());
    kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let parts = x
            .strings()?
            .iter()
            .map(|s| Ok(if delimiter.is_empty() { words(text(s)?, limit) } else { split(text(s)?, &delimiter, limit) }))
            .collect::<Result<Vec<Vec<&str>>>>()?;
        let width = parts.iter().map(Vec::len).max().unwrap_or(0);
        let mut dims = x.dims().to_vec();
        dims.push(width);
        let charge = room(cx, count(&dims)?, x.byte_len())?;
        let filled = parts.iter().flat_map(|p| {
            p.iter()
                .copied()
                .chain(std::iter::repeat_n("", width - p.len()))
                .map(|s| Text::copy_from_slice(s.as_bytes()))
        });
        let y = Tensor::from_charged(dims, filled.collect(), charge)?;
        let counts: Vec<i64> = parts.iter().map(|p| p.len() as i64).collect();
        Ok(vec![Val::Tensor(y), Val::Tensor(Tensor::from_slice(cx.pool, DataType::Int64, x.dims().to_vec(), &counts)?)])
    })
}

fn split<'a>(s: &'a str, delimiter: &str, limit: Option<usize>) -> Vec<&'a str> {
    match limit {
        Some(m) => s.splitn(m.saturating_add(1), delimiter).collect(),
        None => s.split(delimiter).collect(),
    }
}

/// Words between white space; after `limit` of them, the rest as it stands.
fn words(s: &str, limit: Option<usize>) -> Vec<&str> {
    let mut all = Vec::new();
    let mut rest = s.trim_start();
    while !rest.is_empty() {
        let end = match limit {
            Some(m) if all.len() == m => rest.len(),
            _ => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (word, tail) = rest.split_at(end);
        all.push(word);
        rest = tail.trim_start();
    }
    all
}

fn build_normalizer(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let change: fn(&str) -> String = match cx.string("case_change_action", "NONE")?.as_str() {
        "LOWER" => str::to_lowercase,
        "UPPER" => str::to_uppercase,
        "NONE" => str::to_string,
        other => {
            bail!(InvalidModel, "its attribute 'case_change_action' is '{other}', but must be LOWER, UPPER or NONE")
        }
    };
    let fold: fn(&str) -> String =
        if cx.flag("is_case_sensitive", false)? { str::to_string } else { str::to_lowercase };
    let stopwords: HashSet<String> = cx.strings("stopwords")?.unwrap_or_default().iter().map(|w| fold(w)).collect();
    tensor_kernel(move |_, inputs| {
        let x = inputs.tensor(0)?;
        if !matches!(x.dims(), [_] | [1, _]) {
            bail!(ShapeMismatch, "an input of shape {:?} is neither [C] nor [1, C]", x.dims());
        }
        let mut kept = Vec::new();
        for element in x.strings()? {
            let s = text(element)?;
            if !stopwords.contains(&fold(s)) {
                kept.push(Text::from(change(s)));
            }
        }
        if kept.is_empty() {
            kept.push(Text::new());
        }
        let mut dims = x.dims().to_vec();
        dims[x.rank() - 1] = kept.len();
        Tensor::from_strings(dims, kept)
    })
}

fn build_full_match(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    let pattern = re2::full_match(&cx.string("pattern", "")?)?;
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        let found: Vec<u8> = x.strings()?.iter().map(|s| pattern.is_match(s).into()).collect();
        Tensor::from_slice(cx.pool, DataType::Bool, x.dims().to_vec(), &found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting_follows_the_limit() {
        assert_eq!(words(" a b  c ", None), ["a", "b", "c"]);
        assert_eq!(words(" a b  c ", Some(1)), ["a", "b  c "]);
        assert_eq!(words("  ", None), [""; 0]);
        assert_eq!(split("a,,b", ",", None), ["a", "", "b"]);
        assert_eq!(split("a,,b", ",", Some(1)), ["a", ",b"]);
        assert_eq!(split("", ",", None), [""]);
    }
}
