//! One ATen call: overload and defaults from the table, operands brought up to date, in-place forms turned into
//! functional ones, results given identity.

use super::args::{Arg, Bound, Location};
use super::value::{Tensor, Value};
use super::views::{self, Kind};
use super::{Handler, Lowering, Out, ops, promote, schema};
use crate::error::ErrorCode;
use crate::{Result, err};
use std::rc::Rc;

/// Arithmetic whose result may be of a higher category than the tensor that it would be written to, which torch refuses;
/// copies and fills convert.
const PROMOTING: [&str; 9] = ["add", "sub", "mul", "div", "true_divide", "pow", "remainder", "fmod", "clamp"];

impl Lowering {
    /// Makes a call. `op` is the name with its namespace ("aten::conv2d"); `overload` may be "" or "default", and is
    /// then chosen by the arguments. The results are those of the schema; an operator that cannot be lowered gives
    /// poisoned tensors (one for each result, and one in place of a list).
    pub fn call(
        &mut self,
        op: &str,
        overload: &str,
        positional: &[Arg],
        keyword: &[(String, Arg)],
        at: &Location,
    ) -> Result<Vec<Arg>> {
        self.at = at.clone();
        self.budget.check()?;
        let full =
            if overload.is_empty() || overload == "default" { op.to_owned() } else { format!("{op}.{overload}") };
        let (schema, bound) = match schema::resolve(op, overload, positional, keyword) {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.refuse(&full, "it is not known", at);
                return Ok(vec![Arg::Tensor(self.poison())]);
            }
            Err(e) => return self.failed(&full, e, 1, at),
        };
        let results = schema.returns.len();
        let base = op.strip_suffix('_').filter(|b| !b.ends_with('_'));
        let written = schema.params.iter().find(|p| p.written).map(|p| p.name);
        let (handler, name) = match (ops::handler(op), base) {
            (Some(h), _) => (h, op),
            (None, Some(b)) if written.is_some() && Kind::of(b) == Kind::Fresh => match ops::handler(b) {
                Some(h) => (h, b),
                None => {
                    self.refuse(&full, "it has no lowering", at);
                    return Ok(self.poisoned(results));
                }
            },
            _ => {
                self.refuse(&full, "it has no lowering", at);
                return Ok(self.poisoned(results));
            }
        };
        let tensors = bound.each_tensor();
        for t in &tensors {
            self.current(t)?;
        }
        if tensors.iter().any(Tensor::is_poisoned) {
            if let Some(target) = written.and_then(|w| bound.get(w)).and_then(Arg::tensor) {
                let poison = self.poison().0.borrow().value.clone();
                views::poison(target, poison);
                return Ok(vec![Arg::Tensor(target.clone()); results]);
            }
            return Ok(self.poisoned(results));
        }
        let bound = match self.numbers_to_tensors(bound, &schema) {
            Ok(b) => b,
            Err(e) => return self.failed(&full, e, results, at),
        };
        match self.perform(handler, name, bound, written) {
            Ok(out) => Ok(out),
            Err(e) => self.failed(&full, e, results, at),
        }
    }

    fn poisoned(&mut self, results: usize) -> Vec<Arg> {
        (0..results).map(|_| Arg::Tensor(self.poison())).collect()
    }

    /// What is not supported is recorded and the walk goes on; everything else ends it.
    fn failed(&mut self, op: &str, e: crate::Error, results: usize, at: &Location) -> Result<Vec<Arg>> {
        if e.code() == ErrorCode::Unsupported {
            self.refuse(op, e.message(), at);
            return Ok(self.poisoned(results));
        }
        let place = if at.module.is_empty() { String::new() } else { format!(" in module '{}'", at.module) };
        let line = if at.source.is_empty() { String::new() } else { format!(" ({})", at.source) };
        Err(e.context(format!("{op}{place}{line}")))
    }

    /// Python numbers given for tensor parameters become 0-d tensors that promote by their category only.
    fn numbers_to_tensors(&mut self, mut bound: Bound, schema: &schema::Schema) -> Result<Bound> {
        for p in schema.params.iter().filter(|p| p.ty == "Tensor" || p.ty == "Tensor?") {
            if let Some(n) = bound.get(p.name).filter(|a| !matches!(a, Arg::Tensor(_))).and_then(super::promote::number)
            {
                bound.set(p.name, Arg::Tensor(Tensor::of(self.wrapped(n))));
            }
        }
        Ok(bound)
    }

    fn perform(&mut self, handler: Handler, name: &str, bound: Bound, written: Option<&str>) -> Result<Vec<Arg>> {
        let out = handler(self, &bound)?;
        if let Some(target) = written.and_then(|w| bound.get(w)).and_then(Arg::tensor) {
            let target = target.clone();
            let mut out = match out {
                Out::One(v) => vec![v],
                Out::Same(_) => return Ok(vec![Arg::Tensor(target)]),
                Out::Many(v) => v,
                Out::List(_) | Out::Args(_) => {
                    return Err(err!(Unsupported, "this form cannot be made in place"));
                }
            };
            let old = self.current(&target)?;
            let value = out.remove(0);
            let promotes = name.strip_prefix("aten::").is_some_and(|n| PROMOTING.contains(&n));
            if promotes && promote::category(value.dtype) > promote::category(old.dtype) {
                let (from, to) = (value.dtype.name(), old.dtype.name());
                return Err(err!(Unsupported, "the result is {from}, which torch does not store in a tensor of {to}"));
            }
            let value = self.cast(&value, old.dtype)?;
            let value = self.expand_to(&value, &old.shape)?;
            views::assign(self, &target, value)?;
            let mut results = vec![Arg::Tensor(target)];
            results.extend(out.into_iter().map(|v| Arg::Tensor(Tensor::of(v))));
            return Ok(results);
        }
        let kind = Kind::of(name);
        let bound = Rc::new(bound);
        let wrap = |v: Value, index: usize| views::result(name, kind, handler, &bound, v, index).map(Arg::Tensor);
        Ok(match out {
            Out::One(v) => vec![wrap(v, 0)?],
            Out::Same(p) => vec![bound.get(p).cloned().unwrap_or(Arg::None)],
            Out::Many(vs) => vs.into_iter().enumerate().map(|(i, v)| wrap(v, i)).collect::<Result<_>>()?,
            Out::List(vs) => {
                let parts = vs.into_iter().enumerate().map(|(i, v)| wrap(v, i));
                vec![Arg::List(parts.collect::<Result<_>>()?)]
            }
            Out::Args(args) => args,
        })
    }
}
