//! Operators of TorchScript that are said by others here: tensors made of Python's numbers, and the fused attention of
//! traced encoders when its weights are asked for.

use super::eval::Evaluator;
use super::value::Val;
use crate::frontend::torch::lower::Num;
use crate::{Result, bail};
use std::rc::Rc;

/// Nesting of lists.
const MAX_DEPTH: usize = 16;

impl Evaluator {
    /// The result, if the operator is one of these.
    pub fn composed(&mut self, op: &str, given: &[Val], named: &[(Rc<str>, Val)]) -> Result<Option<Val>> {
        let option = |at: usize, name: &str| {
            let named = named.iter().find(|(n, _)| &**n == name).map(|(_, v)| v.clone());
            named.or_else(|| given.get(at).cloned()).unwrap_or(Val::None)
        };
        match (op, given.first()) {
            ("aten::tensor" | "aten::as_tensor" | "aten::scalar_tensor", Some(data)) => {
                let dtype = if op == "aten::scalar_tensor" { option(9, "dtype") } else { option(1, "dtype") };
                self.tensor_of(data, &dtype, 0).map(Some)
            }
            ("aten::_native_multi_head_attention", Some(_)) => {
                let (mask, weights) = (option(9, "mask"), option(10, "need_weights"));
                if !matches!(mask, Val::None) || matches!(weights, Val::Bool(false)) || given.len() < 9 {
                    return Ok(None);
                }
                let averaged = !matches!(option(11, "average_attn_weights"), Val::Bool(false));
                self.attention(given, averaged).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// `torch.tensor(numbers)`
    fn tensor_of(&mut self, data: &Val, dtype: &Val, depth: usize) -> Result<Val> {
        if depth > MAX_DEPTH {
            bail!(Unsupported, "a list is nested deeper than {MAX_DEPTH} at {}", self.at.source);
        }
        if let Some(items) = data.items() {
            if items.is_empty() {
                let dtype = if matches!(dtype, Val::None) { Val::int(6) } else { dtype.clone() };
                return self.operator("zeros", vec![Val::list(vec![Val::int(0)])], vec![("dtype".into(), dtype)]);
            }
            let rows = items.iter().map(|item| self.tensor_of(item, dtype, depth + 1)).collect::<Result<Vec<_>>>()?;
            return self.aten("stack", vec![Val::list(rows)]);
        }
        let (tensor, own) = match data {
            Val::Tensor(t) => (t.clone(), -1),
            _ => match data.number() {
                Some(n) => {
                    let own = match n {
                        Num::Int(_) => 4,
                        Num::Float(_) => 6,
                        Num::Bool(_) => 11,
                    };
                    (self.low.number(n), own)
                }
                None => bail!(InvalidFile, "a tensor of {}", data.kind()),
            },
        };
        match dtype {
            Val::Int(to) if !to.is(own) => self.aten("to", vec![Val::Tensor(tensor), dtype.clone()]),
            _ => Ok(Val::Tensor(tensor)),
        }
    }

    /// Attention over heads with its weights: query, key, value, width, heads, and the two projections.
    fn attention(&mut self, given: &[Val], averaged: bool) -> Result<Val> {
        let at = |i: usize| given.get(i).cloned().unwrap_or(Val::None);
        let (Val::Int(width), Val::Int(heads)) = (at(3), at(4)) else {
            bail!(InvalidFile, "attention needs the numbers of its width and heads");
        };
        let (width, heads) = (self.whole(&width)?, self.whole(&heads)?);
        if heads < 1 || width < 1 {
            bail!(InvalidFile, "attention of width {width} and {heads} heads");
        }
        let mut parts = Vec::new();
        for i in 0..3 {
            let bounds = [Val::int(0), Val::int(width * i), Val::int(width * (i + 1)), Val::int(1)];
            let rows = |e: &mut Evaluator, of: Val| {
                e.aten("slice", std::iter::once(of).chain(bounds.iter().cloned()).collect())
            };
            let (weight, bias) = (rows(self, at(5))?, rows(self, at(6))?);
            let all = self.aten("linear", vec![at(i as usize), weight, bias])?;
            let shape = Val::list([0, 0, heads, width / heads].map(Val::int).to_vec());
            let sizes = Val::list(vec![
                self.aten("size", vec![all.clone(), Val::int(0)])?,
                self.aten("size", vec![all.clone(), Val::int(1)])?,
            ]);
            let tail = self.aten("slice", vec![shape, Val::int(2)])?;
            let shape = self.aten("add", vec![sizes, tail])?;
            let split = self.aten("view", vec![all, shape])?;
            parts.push(self.aten("transpose", vec![split, Val::int(1), Val::int(2)])?);
        }
        let [q, k, v] = parts.as_slice() else { bail!(Internal, "attention has three parts") };
        let scale = 1.0 / ((width / heads) as f64).sqrt();
        let q = self.aten("mul", vec![q.clone(), Val::Float(scale)])?;
        let k = self.aten("transpose", vec![k.clone(), Val::int(-2), Val::int(-1)])?;
        let scores = self.aten("matmul", vec![q, k])?;
        let weights = self.aten("softmax", vec![scores, Val::int(-1)])?;
        let mixed = self.aten("matmul", vec![weights.clone(), v.clone()])?;
        let mixed = self.aten("transpose", vec![mixed, Val::int(1), Val::int(2)])?;
        let joined = self.aten("flatten", vec![mixed, Val::int(2), Val::int(3)])?;
        let out = self.aten("linear", vec![joined, at(7), at(8)])?;
        let weights = match averaged {
            true => self.aten("mean", vec![weights, Val::list(vec![Val::int(1)])])?,
            false => weights,
        };
        Ok(Val::tuple(vec![out, weights]))
    }
}
