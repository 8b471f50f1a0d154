//! Einsum: operands are joined from left to right, each pair as a stack of matrix products.

use super::matmul::multiply;
use super::{Built, Entry, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::broadcast::strides;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::movement::gather_strided;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType::Float32;
use crate::{Result, bail, err};

/// The operators of this family.
pub const TABLE: &[Entry] = &[entry("Einsum", build)];

/// A label: a letter, or the number of a dimension that an ellipsis stands for.
type Label = u32;
/// Ellipsis labels are above all letters, counted from the last dimension.
const ELLIPSIS: Label = 1 << 24;

#[derive(Debug, Clone)]
struct Equation {
    inputs: Vec<Term>,
    output: Option<Term>,
}

/// Letters, with `None` for an ellipsis.
type Term = Vec<Option<char>>;

fn term(text: &str) -> Result<Term> {
    let mut list = Vec::new();
    let mut rest = text.trim();
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            if list.contains(&None) {
                bail!(InvalidModel, "the term '{text}' has two ellipses");
            }
            list.push(None);
            rest = after;
        } else if c.is_ascii_alphabetic() {
            list.push(Some(c));
            rest = &rest[1..];
        } else if c == ' ' {
            rest = &rest[1..];
        } else {
            bail!(InvalidModel, "the term '{text}' of its equation has the character '{c}'");
        }
    }
    Ok(list)
}

fn build(cx: &NodeCx) -> Built {
    cx.check_inputs(1, usize::MAX)?;
    let text = cx.string("equation", "")?;
    let (left, right) = match text.split_once("->") {
        Some((l, r)) => (l, Some(r)),
        None => (text.as_str(), None),
    };
    let equation =
        Equation { inputs: left.split(',').map(term).collect::<Result<_>>()?, output: right.map(term).transpose()? };
    if equation.inputs.len() != cx.node.inputs.len() {
        bail!(InvalidModel, "its equation has {} terms for {} inputs", equation.inputs.len(), cx.node.inputs.len());
    }
    tensor_kernel(move |cx, inputs| {
        let operands = inputs.tensors()?;
        run(cx, &equation, &operands)
    })
}

/// A tensor whose dimensions have distinct labels.
struct Operand {
    tensor: Tensor,
    labels: Vec<Label>,
}

fn labels(t: &Term, rank: usize) -> Result<Vec<Label>> {
    let letters = t.iter().flatten().count();
    let hidden = match (t.contains(&None), rank.checked_sub(letters)) {
        (true, Some(h)) => h,
        (false, Some(0)) => 0,
        _ => bail!(ShapeMismatch, "a term of {letters} letters does not fit an input of rank {rank}"),
    };
    let mut list = Vec::with_capacity(rank);
    for l in t {
        match l {
            Some(c) => list.push(*c as Label),
            None => list.extend((0..hidden).rev().map(|i| ELLIPSIS + i as Label)),
        }
    }
    Ok(list)
}

fn run(cx: &Cx, equation: &Equation, inputs: &[&Tensor]) -> Result<Tensor> {
    let dtype = inputs[0].dtype();
    let all: Vec<Vec<Label>> =
        equation.inputs.iter().zip(inputs).map(|(t, x)| labels(t, x.rank())).collect::<Result<_>>()?;
    let output = match &equation.output {
        Some(t) => {
            let hidden =
                all.iter().flatten().filter(|l| **l >= ELLIPSIS).max().map_or(0, |l| (l - ELLIPSIS + 1) as usize);
            let hidden = if t.contains(&None) { hidden } else { 0 };
            labels(t, t.iter().flatten().count() + hidden)?
        }
        None => {
            // Hidden dimensions, then the letters that stand once, in alphabetical order.
            let mut list: Vec<Label> = all.iter().flatten().copied().collect();
            list.sort_unstable();
            let once = |l: &Label| *l >= ELLIPSIS || list.iter().filter(|o| *o == l).count() == 1;
            let mut kept: Vec<Label> = list.iter().copied().filter(once).collect();
            kept.dedup();
            let split = kept.partition_point(|l| *l < ELLIPSIS);
            let mut order: Vec<Label> = kept[split..].iter().rev().copied().collect();
            order.extend(&kept[..split]);
            order
        }
    };
    // Halves are joined in FP32 and rounded once.
    let mut operands = Vec::with_capacity(inputs.len());
    for (x, l) in inputs.iter().zip(all) {
        if x.dtype() != dtype {
            bail!(TypeMismatch, "its inputs are of types {dtype} and {}, but must be of one type", x.dtype());
        }
        let wide = if dtype.is_half() { cast_float(cx, x, Float32)? } else { (*x).clone() };
        operands.push(diagonal(cx, wide, &l)?);
    }
    let mut rest = operands.into_iter();
    let mut joined = rest.next().ok_or_else(|| err!(InvalidModel, "it has no inputs"))?;
    let mut rest: Vec<Operand> = rest.collect();
    while !rest.is_empty() {
        let next = rest.remove(0);
        let needed = |l: Label| output.contains(&l) || rest.iter().any(|o| o.labels.contains(&l));
        joined = pair(cx, joined, next, &needed)?;
    }
    let order: Vec<Label> = output.iter().copied().filter(|l| joined.labels.contains(l)).collect();
    if order.len() != output.len() {
        bail!(InvalidModel, "its output has a letter that no input has");
    }
    let joined = sum_out(cx, joined, &|l| output.contains(&l))?;
    let y = permuted(cx, &joined, &order)?;
    if dtype.is_half() { cast_float(cx, &y, dtype) } else { Ok(y) }
}

/// Repeated labels of one operand select its diagonal.
fn diagonal(cx: &Cx, x: Tensor, list: &[Label]) -> Result<Operand> {
    let own = strides(x.dims());
    let (mut labels, mut dims, mut steps): (Vec<Label>, Vec<usize>, Vec<isize>) = Default::default();
    for (i, &l) in list.iter().enumerate() {
        match labels.iter().position(|k| *k == l) {
            Some(k) if dims[k] == x.dims()[i] => steps[k] += own[i] as isize,
            Some(_) => bail!(ShapeMismatch, "one letter stands for different sizes of shape {:?}", x.dims()),
            None => {
                labels.push(l);
                dims.push(x.dims()[i]);
                steps.push(own[i] as isize);
            }
        }
    }
    let tensor = if labels.len() == list.len() { x } else { gather_strided(cx, &x, dims, steps, 0)? };
    Ok(Operand { tensor, labels })
}

fn permuted(cx: &Cx, o: &Operand, order: &[Label]) -> Result<Tensor> {
    let places = order
        .iter()
        .map(|l| o.labels.iter().position(|k| k == l).ok_or_else(|| err!(Internal, "a label is missing")))
        .collect::<Result<Vec<_>>>()?;
    super::layout::transpose(cx, &o.tensor, &places)
}

/// Sums over the dimensions that are not needed.
fn sum_out(cx: &Cx, o: Operand, needed: &dyn Fn(Label) -> bool) -> Result<Operand> {
    let gone: Vec<usize> = (0..o.labels.len()).filter(|&i| !needed(o.labels[i])).collect();
    if gone.is_empty() {
        return Ok(o);
    }
    let labels = o.labels.iter().copied().filter(|l| needed(*l)).collect();
    Ok(Operand { tensor: super::reduce::sum_over(cx, &o.tensor, &gone)?, labels })
}

/// Joins two operands; labels that nobody needs afterwards are summed over.
fn pair(cx: &Cx, a: Operand, b: Operand, needed: &dyn Fn(Label) -> bool) -> Result<Operand> {
    let (la, lb) = (a.labels.clone(), b.labels.clone());
    let a = sum_out(cx, a, &|l| needed(l) || lb.contains(&l))?;
    let b = sum_out(cx, b, &|l| needed(l) || la.contains(&l))?;
    let size = |o: &Operand, l: Label| o.labels.iter().position(|k| *k == l).map(|i| o.tensor.dims()[i]);
    let (mut batch, mut inner, mut left, mut right) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for &l in &a.labels {
        match (size(&a, l), size(&b, l)) {
            (Some(x), Some(y)) if x == y && needed(l) => batch.push(l),
            (Some(x), Some(y)) if x == y => inner.push(l),
            // A size of 1 stretches to the other's.
            (Some(1), Some(_)) => {}
            (Some(_), Some(1)) | (Some(_), None) => left.push(l),
            (x, y) => bail!(ShapeMismatch, "one letter stands for the sizes {x:?} and {y:?}"),
        }
    }
    right.extend(b.labels.iter().copied().filter(|l| {
        let mine = size(&b, *l);
        match size(&a, *l) {
            None => true,
            Some(1) => mine != Some(1),
            Some(_) => false,
        }
    }));
    // Labels that only stretch are dropped where their size is 1.
    let squeeze = |o: Operand, keep: &dyn Fn(Label) -> bool| -> Result<Operand> {
        let labels: Vec<Label> = o.labels.iter().copied().filter(|l| keep(*l)).collect();
        let dims = o.labels.iter().zip(o.tensor.dims()).filter(|(l, _)| keep(**l)).map(|(_, d)| *d).collect();
        Ok(Operand { tensor: o.tensor.reshaped(dims)?, labels })
    };
    let a = squeeze(a, &|l| batch.contains(&l) || inner.contains(&l) || left.contains(&l))?;
    let b = squeeze(b, &|l| batch.contains(&l) || inner.contains(&l) || right.contains(&l))?;
    let sizes = |o: &Operand, list: &[Label]| -> Vec<usize> { list.iter().filter_map(|l| size(o, *l)).collect() };
    let product = |v: &[usize]| v.iter().product::<usize>();
    let (ds, dl, dr, di) = (sizes(&a, &batch), sizes(&a, &left), sizes(&b, &right), sizes(&a, &inner));
    let order = |first: &[Label], second: &[Label]| -> Vec<Label> {
        batch.iter().chain(first).chain(second).copied().collect()
    };
    let x = permuted(cx, &a, &order(&left, &inner))?.reshaped(vec![product(&ds), product(&dl), product(&di)])?;
    let y = permuted(cx, &b, &order(&inner, &right))?.reshaped(vec![product(&ds), product(&di), product(&dr)])?;
    let dims = ds.iter().chain(&dl).chain(&dr).copied().collect();
    let z = multiply(cx, &x, &y)?.reshaped(dims)?;
    let joined = Operand { tensor: z, labels: order(&left, &right) };
    // A stretched label that nobody needs is still there, and is summed over now.
    sum_out(cx, joined, needed)
}
