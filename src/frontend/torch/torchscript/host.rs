//! `torch.*` calls that the host answers: sizes of tensors, numbers, strings and containers.

use super::eval::Evaluator;
use super::value::Val;
use super::{lists, numbers};
use crate::frontend::torch::lower::{Num, SymInt, product};
use crate::{Result, bail, err};
use std::rc::Rc;

/// Items that a list may have.
const MAX_LIST: usize = 1 << 20;

impl Evaluator {
    /// The result, where the call needs no operator of the graph.
    pub fn on_host(&mut self, name: &str, given: &[Val], named: &[(Rc<str>, Val)]) -> Result<Option<Val>> {
        match name {
            "__is__" | "__isnot__" => {
                let [a, b] = given else { bail!(InvalidFile, "{name} takes two values") };
                return Ok(Some(Val::Bool(a.same(b) == (name == "__is__"))));
            }
            "is_grad_enabled" => return Ok(Some(Val::Bool(true))),
            "is_autocast_enabled" | "is_autocast_cpu_enabled" | "is_scripting" | "is_tracing" => {
                return Ok(Some(Val::Bool(false)));
            }
            "_get_tracing_state" | "set_grad_enabled" | "warn" | "manual_seed" => return Ok(Some(Val::None)),
            "device" => return Ok(Some(Val::Device(lists::text(given.first().unwrap_or(&Val::None)).as_str().into()))),
            "format" => return self.charge_text(Val::str(&lists::format(given))).map(Some),
            "ScalarImplicit" | "IntImplicit" | "Int" => return self.builtin("int", given.to_vec()).map(Some),
            "FloatImplicit" | "Float" => return self.builtin("float", given.to_vec()).map(Some),
            "Bool" => return self.builtin("bool", given.to_vec()).map(Some),
            "item" => {
                if let Some(val @ Val::Tensor(_)) = given.first() {
                    let number = super::ast::Expr::Name("number".into());
                    return self.annotated(&number, val.clone()).map(Some);
                }
            }
            "dict" if matches!(given, [] | [Val::List(_)]) => {
                let pairs = given.first().and_then(Val::items).unwrap_or_default();
                let pairs = pairs.iter().filter_map(|p| match p.items()?.as_slice() {
                    [key, value] => Some((key.clone(), value.clone())),
                    _ => None,
                });
                return Ok(Some(Val::Dict(Rc::new(std::cell::RefCell::new(pairs.collect())))));
            }
            "_unwrap_optional" => return Ok(given.first().cloned()),
            "__range_length" | "__derive_index" => return self.range_part(name, given).map(Some),
            "__not__" => {
                let val = given.first().cloned().unwrap_or(Val::None);
                return Ok(Some(match self.truth(val)? {
                    Val::Bool(b) => Val::Bool(!b),
                    other => self.lowered("aten::logical_not", vec![other], Vec::new())?,
                }));
            }
            _ => {}
        }
        if !named.is_empty() && !matches!(name, "sort" | "size") {
            return Ok(None);
        }
        match given {
            [Val::Tensor(t), rest @ ..] => {
                let t = t.clone();
                self.of_tensor(name, &t, rest)
            }
            [Val::List(_) | Val::Tuple(..), ..] => self.of_list(name, given),
            [Val::Dict(items), rest @ ..] => self.of_dict(name, &items.clone(), rest),
            [Val::Str(s), rest @ ..] => match lists::of_string(name, s, rest)? {
                Some(made) => self.charge_text(made).map(Some),
                None => Ok(None),
            },
            _ => self.of_numbers(name, given),
        }
    }

    fn of_tensor(
        &mut self,
        name: &str,
        t: &crate::frontend::torch::lower::Tensor,
        rest: &[Val],
    ) -> Result<Option<Val>> {
        // What is unknown about a poisoned tensor must not decide anything; the walk cannot go on without its rank.
        if t.is_poisoned() && matches!(name, "size" | "dim" | "numel" | "len" | "sym_size") {
            self.low.refuse_all()?;
        }
        Ok(Some(match (name, rest) {
            ("dim", []) => Val::int(t.shape().len() as i64),
            ("numel", []) => Val::Int(product(&t.shape())),
            ("size", []) => Val::list(t.shape().into_iter().map(Val::Int).collect()),
            ("size" | "sym_size", [Val::Int(axis)]) => {
                let shape = t.shape();
                let axis = self.whole(axis)?;
                let at = if axis < 0 { axis + shape.len() as i64 } else { axis };
                let size = usize::try_from(at).ok().and_then(|i| shape.get(i).cloned());
                Val::Int(size.ok_or_else(|| {
                    err!(
                        InvalidModel,
                        "{} takes the size of dimension {axis} of a tensor of {} dimensions: do the input shapes have the model's rank?",
                        self.at.source,
                        shape.len()
                    )
                })?)
            }
            ("len", []) => Val::Int(t.shape().first().cloned().unwrap_or(SymInt::Known(0))),
            ("is_floating_point", []) => Val::Bool(t.dtype().is_float()),
            ("is_complex", []) => Val::Bool(t.dtype().name().contains("complex")),
            ("requires_grad_", _) => Val::Tensor(t.clone()),
            ("is_contiguous", _) => Val::Bool(true),
            ("get_device", []) => Val::int(-1),
            ("__contains__", _) => bail!(Unsupported, "'in' over a tensor at {} is not lowered", self.at.source),
            // A flag of the host beside a tensor of one truth value.
            ("__and__" | "__or__", [Val::Bool(b)]) => match (name, b) {
                ("__and__", true) | ("__or__", false) => Val::Tensor(t.clone()),
                _ => Val::Bool(*b),
            },
            _ => return Ok(None),
        }))
    }

    fn of_numbers(&mut self, name: &str, given: &[Val]) -> Result<Option<Val>> {
        let open =
            || err!(Unsupported, "'{name}' at {} depends on a dynamic size: give it a fixed size", self.at.source);
        match given {
            [Val::Device(d), Val::Device(e)] => Ok(match name {
                "eq" => Some(Val::Bool(d == e)),
                "ne" => Some(Val::Bool(d != e)),
                _ => None,
            }),
            [Val::Enum(..), _] if matches!(name, "eq" | "ne") => {
                let same = given.first().zip(given.get(1)).and_then(|(a, b)| a.equal(b));
                Ok(Some(Val::Bool((same == Some(true)) == (name == "eq"))))
            }
            [Val::None, _] | [_, Val::None] if matches!(name, "eq" | "ne") => {
                let same = given.iter().all(|v| matches!(v, Val::None));
                Ok(Some(Val::Bool(same == (name == "eq"))))
            }
            [Val::Bool(a), Val::Bool(b)] if matches!(name, "__and__" | "__or__" | "__xor__") => {
                Ok(Some(Val::Bool(match name {
                    "__and__" => *a && *b,
                    "__or__" => *a || *b,
                    _ => a != b,
                })))
            }
            [Val::Bool(b), tensor @ Val::Tensor(_)] if matches!(name, "__and__" | "__or__") => {
                Ok(Some(if (name == "__and__") == *b { tensor.clone() } else { Val::Bool(*b) }))
            }
            [a, b] => match a.number().zip(b.number()) {
                Some((a, b)) => numbers::binary(name, &a, &b).map(|v| v.ok_or_else(open)).transpose(),
                None => Ok(None),
            },
            [a] => match a.number() {
                Some(a) => numbers::unary(name, &a).map(|v| v.ok_or_else(open)).transpose(),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    fn of_list(&mut self, name: &str, given: &[Val]) -> Result<Option<Val>> {
        let Some(first) = given.first() else { return Ok(None) };
        // Each of these looks at the whole list.
        self.charge(first.len() / 16)?;
        let items = first.items().unwrap_or_default();
        let rest = given.get(1..).unwrap_or_default();
        if let Val::List(list) = first {
            let at = self.at.source.clone();
            let limit = |n: usize| match n {
                n if n > MAX_LIST => Err(err!(Unsupported, "a list grows above {MAX_LIST} items at {at}")),
                _ => Ok(()),
            };
            let changed = match (name, rest) {
                ("append", [item]) => {
                    self.nest(item, Some(first))?;
                    limit(items.len())?;
                    list.borrow_mut().push(item.clone());
                    Some(first.clone())
                }
                ("extend" | "add_", [more]) => {
                    let more = more.items().unwrap_or_default();
                    limit(items.len() + more.len())?;
                    self.charge(more.len())?;
                    more.iter().try_for_each(|item| self.nest(item, Some(first)))?;
                    list.borrow_mut().extend(more);
                    Some(first.clone())
                }
                ("insert", [Val::Int(at), item]) => {
                    self.nest(item, Some(first))?;
                    limit(items.len())?;
                    let at = lists::clamp(self.whole(at)?, items.len());
                    list.borrow_mut().insert(at, item.clone());
                    Some(Val::None)
                }
                ("clear", []) => {
                    list.borrow_mut().clear();
                    Some(Val::None)
                }
                ("reverse", []) => {
                    list.borrow_mut().reverse();
                    Some(Val::None)
                }
                ("pop" | "Delete", _) => {
                    let at = match rest {
                        [Val::Int(at)] => self.whole(at)?,
                        _ => -1,
                    };
                    let at = lists::position(at, items.len())?;
                    Some(list.borrow_mut().remove(at))
                }
                ("_set_item", [Val::Int(at), item]) => {
                    self.nest(item, Some(first))?;
                    let at = lists::position(self.whole(at)?, items.len())?;
                    if let Some(slot) = list.borrow_mut().get_mut(at) {
                        *slot = item.clone();
                    }
                    Some(first.clone())
                }
                ("sort", _) => {
                    let sorted = lists::sorted(&items, matches!(rest, [Val::Bool(true)]))?;
                    *list.borrow_mut() = sorted;
                    Some(Val::None)
                }
                _ => None,
            };
            if changed.is_some() {
                if self.open_branches > 0 && first.has_tensor() {
                    bail!(
                        Unsupported,
                        "a list is changed at {} under a condition that depends on tensors; that is not lowered",
                        self.at.source
                    );
                }
                return Ok(changed);
            }
        }
        Ok(Some(match (name, rest) {
            ("len", []) => Val::int(items.len() as i64),
            ("copy" | "list", []) => {
                self.charge(items.len())?;
                items.iter().try_for_each(|item| self.nest(item, None))?;
                Val::list(items)
            }
            ("__getitem__", [index]) => self.indexed(first, &index.clone())?,
            ("slice", bounds) => {
                let mut parts = Vec::new();
                for bound in bounds {
                    parts.push(match bound {
                        Val::Int(v) => Some(self.whole(v)?),
                        _ => None,
                    });
                }
                let out = lists::slice(&items, &parts);
                self.charge(out.len())?;
                out.iter().try_for_each(|item| self.nest(item, None))?;
                if matches!(first, Val::Tuple(..)) { Val::tuple(out) } else { Val::list(out) }
            }
            ("add", [more @ (Val::List(_) | Val::Tuple(..))]) => {
                let out: Vec<Val> = items.into_iter().chain(more.items().unwrap_or_default()).collect();
                if out.len() > MAX_LIST {
                    bail!(Unsupported, "a list grows above {MAX_LIST} items at {}", self.at.source);
                }
                self.charge(out.len())?;
                out.iter().try_for_each(|item| self.nest(item, None))?;
                if matches!(first, Val::Tuple(..)) { Val::tuple(out) } else { Val::list(out) }
            }
            ("mul", [Val::Int(n)]) => {
                let n = usize::try_from(self.whole(n)?.max(0)).unwrap_or(0);
                if n.saturating_mul(items.len()) > MAX_LIST {
                    bail!(Unsupported, "a list grows above {MAX_LIST} items at {}", self.at.source);
                }
                self.charge(n * items.len())?;
                items.iter().try_for_each(|item| self.nest(item, None))?;
                Val::list(items.iter().cloned().cycle().take(n * items.len()).collect())
            }
            ("eq" | "ne", [other @ (Val::List(_) | Val::Tuple(..))]) => match first.equal(other) {
                Some(same) => Val::Bool(same == (name == "eq")),
                None => bail!(
                    Unsupported,
                    "a comparison of lists at {} depends on dynamic sizes or tensors",
                    self.at.source
                ),
            },
            ("__contains__", [item]) => Val::Bool(items.iter().any(|i| i.equal(item) == Some(true))),
            ("count", [item]) => Val::int(items.iter().filter(|i| i.equal(item) == Some(true)).count() as i64),
            ("index", [item]) if !first.has_tensor() => match items.iter().position(|i| i.equal(item) == Some(true)) {
                Some(at) => Val::int(at as i64),
                None => bail!(InvalidModel, "a list at {} does not hold the value looked for", self.at.source),
            },
            ("any" | "all", []) if !first.has_tensor() => {
                let mut truths = Vec::new();
                for item in items {
                    truths.push(matches!(self.truth(item)?, Val::Bool(true)));
                }
                Val::Bool(if name == "any" { truths.contains(&true) } else { !truths.contains(&false) })
            }
            ("sum" | "max" | "min" | "prod", []) if !first.has_tensor() => {
                let name = match name {
                    "sum" => "add",
                    "prod" => "mul",
                    other => other,
                };
                let mut rest = items.into_iter();
                let mut total = rest.next().unwrap_or(Val::int(0));
                for item in rest {
                    total = self.aten(name, vec![total, item])?;
                }
                total
            }
            ("sorted", _) => Val::list(lists::sorted(&items, false)?),
            _ => return Ok(None),
        }))
    }

    fn of_dict(
        &mut self,
        name: &str,
        dict: &Rc<std::cell::RefCell<Vec<(Val, Val)>>>,
        rest: &[Val],
    ) -> Result<Option<Val>> {
        self.charge(dict.borrow().len() / 8)?;
        let find = |key: &Val| dict.borrow().iter().position(|(k, _)| k.equal(key) == Some(true));
        let value = |at: usize| dict.borrow().get(at).map(|(_, v)| v.clone());
        Ok(Some(match (name, rest) {
            ("len", []) => Val::int(dict.borrow().len() as i64),
            ("keys" | "values" | "items" | "copy" | "dict", []) => {
                let all = dict.borrow().clone();
                self.charge(all.len())?;
                for (key, value) in &all {
                    self.nest(key, None)?;
                    self.nest(value, None)?;
                }
                match name {
                    "keys" => Val::list(all.into_iter().map(|(k, _)| k).collect()),
                    "values" => Val::list(all.into_iter().map(|(_, v)| v).collect()),
                    "items" => Val::list(all.into_iter().map(|(k, v)| Val::tuple(vec![k, v])).collect()),
                    _ => Val::Dict(Rc::new(std::cell::RefCell::new(all))),
                }
            }
            ("clear", []) => {
                dict.borrow_mut().clear();
                Val::None
            }
            ("__contains__", [key]) => Val::Bool(find(key).is_some()),
            ("__getitem__", [key]) => self.indexed(&Val::Dict(dict.clone()), key)?,
            ("get", [key, ..]) => find(key).and_then(value).unwrap_or(rest.get(1).cloned().unwrap_or(Val::None)),
            ("_set_item", [key, new]) => {
                let whole = Val::Dict(dict.clone());
                self.nest(key, Some(&whole))?;
                self.nest(new, Some(&whole))?;
                match find(key) {
                    Some(at) => {
                        if let Some(slot) = dict.borrow_mut().get_mut(at) {
                            slot.1 = new.clone();
                        }
                    }
                    None => dict.borrow_mut().push((key.clone(), new.clone())),
                }
                Val::None
            }
            ("pop" | "Delete", [key, ..]) => match find(key) {
                Some(at) => dict.borrow_mut().remove(at).1,
                None => rest.get(1).cloned().unwrap_or(Val::None),
            },
            ("update", [Val::Dict(more)]) => {
                for (key, new) in more.borrow().clone() {
                    self.of_dict("_set_item", dict, &[key, new])?;
                }
                Val::None
            }
            _ => return Ok(None),
        }))
    }

    /// `base[index]`
    pub fn indexed(&mut self, base: &Val, index: &Val) -> Result<Val> {
        if let Val::Dict(items) = base {
            self.charge(base.len() / 8)?;
            let found = items.borrow().iter().find(|(k, _)| k.equal(index) == Some(true)).map(|(_, v)| v.clone());
            return found.ok_or_else(|| err!(InvalidModel, "a dict at {} has no such key", self.at.source));
        }
        let Val::Int(at) = index else { bail!(InvalidFile, "{} is no index", index.kind()) };
        let at = self.whole(at)?;
        match base {
            Val::List(_) | Val::Tuple(..) => {
                let at = lists::position(at, base.len())?;
                Ok(base.item(at).unwrap_or(Val::None))
            }
            Val::Str(s) => {
                let all: Vec<char> = s.chars().collect();
                let at = lists::position(at, all.len())?;
                Ok(Val::str(&all.get(at).map(char::to_string).unwrap_or_default()))
            }
            Val::Tensor(_) => self.aten("select", vec![base.clone(), Val::int(0), Val::int(at)]),
            other => bail!(InvalidFile, "{} has no items", other.kind()),
        }
    }

    fn range_part(&mut self, name: &str, given: &[Val]) -> Result<Val> {
        let mut n = Vec::new();
        for v in given {
            match v.number() {
                Some(Num::Int(v)) => n.push(self.whole(&v)?),
                _ => bail!(InvalidFile, "a range over {}", v.kind()),
            }
        }
        let &[a, b, c] = n.as_slice() else { bail!(InvalidFile, "{name} takes three numbers") };
        if name == "__derive_index" {
            return Ok(Val::int(b.saturating_add(a.saturating_mul(c))));
        }
        let (low, high, step) = (i128::from(a), i128::from(b), i128::from(c));
        let rounds = match step {
            0 => bail!(InvalidModel, "a range has step 0"),
            s if s > 0 => (high - low + s - 1).div_euclid(s),
            s => (low - high - s - 1).div_euclid(-s),
        };
        Ok(Val::int(i64::try_from(rounds.max(0)).unwrap_or(i64::MAX)))
    }
}
