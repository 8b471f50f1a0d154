//! Matrix products: linear, addmm, matmul, baddbmm, einsum.

use super::super::emit::{float, int, string};
use super::super::promote::result_type;
use super::super::shapes::broadcast;
use super::super::sym::{SymInt, product};
use super::super::value::Value;
use super::super::{Bound, Lowering, Out};
use super::elementwise::binary;
use super::{Entry, one};
use crate::{Result, bail, err};

pub(super) const TABLE: &[Entry] = &[
    ("linear", linear),
    ("addmm", addmm),
    ("addmv", |l, b| added(l, b, "mat", "vec")),
    ("baddbmm", |l, b| added(l, b, "batch1", "batch2")),
    ("matmul", |l, b| product_of(l, b, "self", "other")),
    ("mm", |l, b| product_of(l, b, "self", "mat2")),
    ("bmm", |l, b| product_of(l, b, "self", "mat2")),
    ("mv", |l, b| product_of(l, b, "self", "vec")),
    ("dot", |l, b| product_of(l, b, "self", "tensor")),
    ("inner", |l, b| {
        let (x, y) = (b.tensor("self")?, b.tensor("other")?);
        let y = l.swap_last(&y)?;
        one(matmul(l, &x, &y))
    }),
    ("outer", |l, b| {
        let (x, y) = (b.tensor("self")?, b.tensor("vec2")?);
        let x = l.unsqueeze(&x, &[1])?;
        let dtype = result_type(&[&x, &y]);
        let (x, y) = (l.operand(&x, dtype)?, l.operand(&y, dtype)?);
        one(binary(l, "Mul", &x, &y, dtype))
    }),
    ("einsum", einsum),
    ("bilinear", bilinear),
];

/// `x @ y`, with all of matmul's cases of ranks.
pub(super) fn matmul(l: &mut Lowering, x: &Value, y: &Value) -> Result<Value> {
    let (rx, ry) = (x.rank(), y.rank());
    if rx == 0 || ry == 0 {
        bail!(ShapeMismatch, "a matrix product needs operands with dimensions");
    }
    let inner = (&x.shape[rx - 1], &y.shape[ry.saturating_sub(2)]);
    if let (Some(a), Some(b)) = (inner.0.known(), inner.1.known())
        && a != b
    {
        bail!(ShapeMismatch, "a matrix product over {a} columns needs {a} rows, not {b}");
    }
    let batch = broadcast(&[&x.shape[..rx.saturating_sub(2)], &y.shape[..ry.saturating_sub(2)]])?;
    let mut shape = batch;
    if rx > 1 {
        shape.push(x.shape[rx - 2].clone());
    }
    if ry > 1 {
        shape.push(y.shape[ry - 1].clone());
    }
    l.node("MatMul", &[x, y], vec![], x.dtype, shape)
}

/// `x @ weight.T + bias`.
pub(super) fn linear_values(l: &mut Lowering, x: &Value, weight: &Value, bias: Option<&Value>) -> Result<Value> {
    if weight.rank() == 1 {
        let v = matmul(l, x, weight)?;
        return match bias {
            Some(b) => binary(l, "Add", &v, b, x.dtype),
            None => Ok(v),
        };
    }
    if let [rows, columns] = weight.shape.as_slice()
        && x.rank() == 2
    {
        let shape = vec![x.shape[0].clone(), rows.clone()];
        if let (Some(a), Some(b)) = (x.shape[1].known(), columns.known())
            && a != b
        {
            bail!(ShapeMismatch, "a linear layer over {b} features is given {a}");
        }
        let out = vec![(x.dtype, shape)];
        return Ok(l.node_n("Gemm", &[Some(x), Some(weight), bias], vec![int("transB", 1)], out)?.remove(0));
    }
    let transposed = l.swap_last(weight)?;
    let v = matmul(l, x, &transposed)?;
    match bias {
        Some(b) => binary(l, "Add", &v, b, x.dtype),
        None => Ok(v),
    }
}

fn linear(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, w) = (b.tensor("input")?, b.tensor("weight")?);
    one(linear_values(l, &x, &w, b.opt("bias").as_ref()))
}

fn product_of(l: &mut Lowering, b: &Bound, x: &str, y: &str) -> Result<Out> {
    let (x, y) = (b.tensor(x)?, b.tensor(y)?);
    one(matmul(l, &x, &y))
}

fn addmm(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (c, x, y) = (b.tensor("self")?, b.tensor("mat1")?, b.tensor("mat2")?);
    let (alpha, beta) = (b.float("alpha")?, b.float("beta")?);
    let (Some(rows), Some(columns)) = (x.shape.first(), y.shape.get(1)) else {
        bail!(ShapeMismatch, "addmm needs two matrices");
    };
    let shape = vec![rows.clone(), columns.clone()];
    let attributes = vec![float("alpha", alpha), float("beta", beta)];
    one(l.node("Gemm", &[&x, &y, &c], attributes, x.dtype, shape))
}

/// `beta * self + alpha * (x @ y)`.
fn added(l: &mut Lowering, b: &Bound, x: &str, y: &str) -> Result<Out> {
    let (c, x, y) = (b.tensor("self")?, b.tensor(x)?, b.tensor(y)?);
    let (alpha, beta) = (b.float("alpha")?, b.float("beta")?);
    let mut v = matmul(l, &x, &y)?;
    if alpha != 1.0 {
        let alpha = l.scalar(alpha, v.dtype);
        v = binary(l, "Mul", &v, &alpha, v.dtype)?;
    }
    if beta == 0.0 {
        return Ok(Out::One(v));
    }
    let mut c = c;
    if beta != 1.0 {
        let beta = l.scalar(beta, v.dtype);
        c = binary(l, "Mul", &c, &beta, v.dtype)?;
    }
    one(binary(l, "Add", &c, &v, v.dtype))
}

fn einsum(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let tensors = b.tensors("tensors")?;
    let equation: String = b.str("equation").chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_owned(), right.to_owned()),
        None => {
            let mut letters: Vec<char> = equation.chars().filter(|c| c.is_alphabetic()).collect();
            letters.sort_unstable();
            let once = |c: &char| equation.matches(*c).count() == 1;
            let mut right: Vec<char> = letters.iter().filter(|c| once(c)).copied().collect();
            right.dedup();
            let dots = if equation.contains("...") { "..." } else { "" };
            (equation.clone(), format!("{dots}{}", right.into_iter().collect::<String>()))
        }
    };
    let mut sizes: Vec<(char, SymInt)> = Vec::new();
    let mut dots: Vec<SymInt> = Vec::new();
    for (term, t) in left.split(',').zip(&tensors) {
        let letters: Vec<char> = term.chars().filter(|c| *c != '.').collect();
        let extra = t.rank().checked_sub(letters.len());
        let Some(extra) = extra else { bail!(ShapeMismatch, "'{equation}' does not fit its operands") };
        let at = term.find("...").unwrap_or(letters.len());
        if extra > 0 {
            dots = broadcast(&[&dots, &t.shape[at..at + extra]])?;
        }
        for (i, c) in letters.into_iter().enumerate() {
            let size = t.shape[if i < at { i } else { i + extra }].clone();
            match sizes.iter_mut().find(|(k, _)| *k == c) {
                Some((_, s)) if s.is(1) => *s = size,
                Some(_) => {}
                None => sizes.push((c, size)),
            }
        }
    }
    let mut shape = Vec::new();
    let mut rest = right.as_str();
    while let Some(c) = rest.chars().next() {
        if let Some(r) = rest.strip_prefix("...") {
            shape.extend(dots.iter().cloned());
            rest = r;
            continue;
        }
        let found =
            sizes.iter().find(|(k, _)| *k == c).ok_or_else(|| err!(InvalidModel, "'{equation}' is not valid"))?;
        shape.push(found.1.clone());
        rest = &rest[c.len_utf8()..];
    }
    let Some(dtype) = tensors.first().map(|t| t.dtype) else { bail!(InvalidModel, "einsum needs operands") };
    let refs: Vec<&Value> = tensors.iter().collect();
    one(l.node("Einsum", &refs, vec![string("equation", &format!("{left}->{right}"))], dtype, shape))
}

/// `x1[..., i] * weight[o, i, j] * x2[..., j] + bias[o]`.
fn bilinear(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let (x, y, w) = (b.tensor("input1")?, b.tensor("input2")?, b.tensor("weight")?);
    let [out, i, j] = w.shape.clone().try_into().map_err(|_| err!(ShapeMismatch, "the weight needs 3 dimensions"))?;
    let rows = product(&x.shape[..x.rank().saturating_sub(1)]);
    let a = l.reshape(&x, &[rows.clone(), i])?;
    let c = l.reshape(&y, &[rows.clone(), j])?;
    let shape = vec![rows, out.clone()];
    let v = l.node("Einsum", &[&a, &w, &c], vec![string("equation", "bi,oij,bj->bo")], x.dtype, shape)?;
    let mut full = x.shape[..x.rank().saturating_sub(1)].to_vec();
    full.push(out);
    let v = l.reshape(&v, &full)?;
    match b.opt("bias") {
        Some(bias) => one(binary(l, "Add", &v, &bias, x.dtype)),
        None => Ok(Out::One(v)),
    }
}
