//! Calls of `torch.*`, `ops.prim.*` and Python's own functions: on the host where no tensor takes part, else lowered.

use super::ast::Expr;
use super::eval::Evaluator;
use super::limits::Walk;
use super::numbers;
use super::types;
use super::value::Val;
use crate::frontend::torch::lower::{self, Arg, Num, SymInt, Tensor};
use crate::{Result, bail, err};
use std::rc::Rc;

type Named = Vec<(Rc<str>, Val)>;

impl Evaluator {
    /// An ATen operator over plain arguments.
    pub fn aten(&mut self, name: &str, given: Vec<Val>) -> Result<Val> {
        self.operator(name, given, Vec::new())
    }

    /// `torch.<name>(...)`
    pub fn operator(&mut self, name: &str, given: Vec<Val>, named: Named) -> Result<Val> {
        if let Some(val) = self.on_host(name, &given, &named)? {
            return Ok(val);
        }
        self.lowered(&format!("aten::{name}"), given, named)
    }

    /// A call that only the lowering can make.
    pub fn lowered(&mut self, op: &str, mut given: Vec<Val>, mut named: Named) -> Result<Val> {
        if let Some(val) = self.composed(op, &given, &named)? {
            return Ok(val);
        }
        self.inference_form(op, &mut given)?;
        super::upgrade::adapt(self.program.version, op, &mut given, &mut named);
        let mut walk = Walk::new();
        let positional =
            given.iter().map(|v| v.arg(&mut walk)).collect::<Result<Vec<_>>>().map_err(|e| e.context(op))?;
        let keyword =
            named.iter().map(|(n, v)| Ok((n.to_string(), v.arg(&mut walk)?))).collect::<Result<Vec<(String, Arg)>>>();
        let keyword = keyword.map_err(|e| e.context(op))?;
        self.charge(walk.seen() / 4)?;
        let at = self.at.clone();
        let mut results = self.low.call(op, "", &positional, &keyword, &at)?;
        Ok(match results.len() {
            0 => Val::None,
            1 => Val::of(results.remove(0)),
            _ => Val::tuple(results.into_iter().map(Val::of).collect()),
        })
    }

    /// Refuses, or by the caller's wish corrects, operators whose trace has training mode baked in.
    fn inference_form(&mut self, op: &str, given: &mut [Val]) -> Result<()> {
        let flag = match op {
            "aten::dropout" | "aten::dropout_" | "aten::feature_dropout" | "aten::alpha_dropout" => 2,
            "aten::feature_alpha_dropout" | "aten::dropout1d" | "aten::feature_dropout_" | "aten::alpha_dropout_" => 2,
            "aten::batch_norm" | "aten::native_batch_norm" | "aten::cudnn_batch_norm" => 5,
            "aten::rrelu" => 3,
            _ => return Ok(()),
        };
        // Without running statistics, a normalisation by the batch is what the model means.
        let meant = op.contains("batch_norm") && matches!(given.get(3), Some(Val::None));
        match given.get_mut(flag) {
            Some(val @ Val::Bool(true)) if !meant => {
                if !self.allow_training {
                    bail!(
                        InvalidModel,
                        "{op} in module '{}' ({}) runs in training mode: the model was traced before model.eval(). Call model.eval(), \
                         trace it again; or load it with training mode turned off (--force-eval)",
                        self.at.module,
                        self.at.source
                    );
                }
                *val = Val::Bool(false);
            }
            _ => {}
        }
        Ok(())
    }

    /// A condition: a bool of the host, or a tensor that only the running model knows.
    pub fn truth(&mut self, val: Val) -> Result<Val> {
        Ok(match val {
            Val::Tensor(t) => match self.element(&t)? {
                Some(n) => match n.as_f64() {
                    Some(v) => Val::Bool(v != 0.0),
                    None => Val::Tensor(t),
                },
                None => Val::Tensor(t),
            },
            Val::Bool(b) => Val::Bool(b),
            Val::None => Val::Bool(false),
            Val::Str(s) => Val::Bool(!s.is_empty()),
            Val::List(items) => Val::Bool(!items.borrow().is_empty()),
            other => match other.number() {
                Some(n) => match numbers::compare(&n, &Num::Int(SymInt::Known(0))) {
                    Some(order) => Val::Bool(order.is_ne()),
                    None => bail!(Unsupported, "a condition at {} depends on a dynamic size", self.at.source),
                },
                None => bail!(InvalidFile, "{} is no condition", other.kind()),
            },
        })
    }

    /// The only element of a tensor, if the host knows it.
    pub fn element(&mut self, t: &Tensor) -> Result<Option<Num>> {
        Ok(self.low.known_elements(t)?.and_then(|mut all| if all.len() == 1 { all.pop() } else { None }))
    }

    /// A tensor's element as a number of the host: an int where the graph can compute it, else the tensor itself.
    fn item(&mut self, t: &Tensor) -> Result<Val> {
        if let Some(n) = self.element(t)? {
            return Ok(Val::of_number(n));
        }
        if t.dtype().is_integer() && !t.is_poisoned() {
            return Ok(Val::Int(self.low.size_of(t)?));
        }
        Ok(Val::Tensor(t.clone()))
    }

    /// `annotate(type, value)`: a tensor that is annotated as a number is an implicit item().
    pub fn annotated(&mut self, ty: &Expr, val: Val) -> Result<Val> {
        match (types::head(ty).0.as_str(), &val) {
            ("int", Val::Tensor(_)) => self.builtin("int", vec![val]),
            ("float", Val::Tensor(_)) => self.builtin("float", vec![val]),
            ("bool", Val::Tensor(_)) => self.truth(val),
            ("number", Val::Tensor(t)) => self.item(&t.clone()),
            _ => Ok(val),
        }
    }

    /// Functions of Python that the source calls by their bare names.
    pub fn builtin(&mut self, name: &str, mut given: Vec<Val>) -> Result<Val> {
        let first = given.first().cloned().unwrap_or(Val::None);
        match (name, &first) {
            ("int", Val::Tensor(t)) => match self.item(t)? {
                Val::Tensor(t) => {
                    let cast = self.aten("to", vec![Val::Tensor(t), Val::int(4)])?;
                    match cast {
                        Val::Tensor(t) => self.item(&t),
                        other => Ok(other),
                    }
                }
                Val::Float(v) => Ok(Val::int(v as i64)),
                Val::Bool(b) => Ok(Val::int(i64::from(b))),
                other => Ok(other),
            },
            ("float", Val::Tensor(t)) => match self.element(t)?.and_then(|n| n.as_f64()) {
                Some(v) => Ok(Val::Float(v)),
                None if t.dtype().is_float() => Ok(first),
                None => self.aten("to", vec![first, Val::int(6)]),
            },
            ("bool", _) => self.truth(first),
            ("int", _) => match first.number() {
                Some(Num::Int(v)) => Ok(Val::Int(v)),
                Some(n) => n.as_f64().map(|v| Val::int(v as i64)).ok_or_else(|| err!(Internal, "no number")),
                None => match &first {
                    Val::Str(s) => s.trim().parse().map(Val::int).map_err(|_| err!(InvalidModel, "int('{s}') fails")),
                    other => bail!(InvalidFile, "int() of {}", other.kind()),
                },
            },
            ("float", _) => match (&first, first.number().and_then(|n| n.as_f64())) {
                (_, Some(v)) => Ok(Val::Float(v)),
                (Val::Int(v), _) => {
                    bail!(Unsupported, "float({v}) of a dynamic size at {} is not lowered", self.at.source)
                }
                (Val::Str(s), _) => {
                    s.trim().parse().map(Val::Float).map_err(|_| err!(InvalidModel, "float('{s}') fails"))
                }
                (other, _) => bail!(InvalidFile, "float() of {}", other.kind()),
            },
            ("str", _) => self.charge_text(Val::str(&super::lists::text(&first))),
            ("getattr", Val::Object(object)) => match given.get(1) {
                Some(Val::Str(attribute)) => self.attribute(object, &attribute.clone()),
                _ => bail!(InvalidFile, "getattr() needs a name"),
            },
            ("hasattr", Val::Object(object)) => match given.get(1) {
                Some(Val::Str(attribute)) => Ok(Val::Bool(self.attribute(object, &attribute.clone()).is_ok())),
                _ => bail!(InvalidFile, "hasattr() needs a name"),
            },
            ("print", _) => Ok(Val::None),
            ("range", _) => {
                let numbers = given.iter().map(|v| match v {
                    Val::Int(v) => self.whole(v),
                    other => bail!(InvalidFile, "range() of {}", other.kind()),
                });
                let numbers = numbers.collect::<Result<Vec<_>>>()?;
                let items = super::lists::range(&numbers)?;
                self.charge(items.len())?;
                Ok(Val::list(items))
            }
            ("tuple", _) => match first.items() {
                Some(items) => {
                    self.charge(items.len())?;
                    items.iter().try_for_each(|item| self.nest(item, None))?;
                    Ok(Val::tuple(items))
                }
                None => bail!(InvalidFile, "tuple() of {}", first.kind()),
            },
            ("dict", _) if given.is_empty() => Ok(Val::Dict(Rc::default())),
            ("len" | "list" | "min" | "max" | "abs" | "ord" | "round", _) => {
                self.aten(name, std::mem::take(&mut given))
            }
            _ => bail!(Unsupported, "the function '{name}' at {} is not known", self.at.source),
        }
    }

    /// `ops.prim.<name>(...)`
    pub fn prim(&mut self, name: &str, given: Vec<Val>, named: Named) -> Result<Val> {
        let first = given.first().cloned().unwrap_or(Val::None);
        match (name, &first) {
            ("NumToTensor", Val::Tensor(_)) => Ok(first),
            ("NumToTensor", _) => match first.number() {
                Some(n) => Ok(Val::Tensor(self.low.number(n))),
                None => bail!(InvalidFile, "NumToTensor of {}", first.kind()),
            },
            ("dtype", Val::Tensor(t)) => match lower::scalar_type_code(t.dtype()) {
                Some(code) => Ok(Val::int(code)),
                None => bail!(Unsupported, "{} is no type of PyTorch", t.dtype()),
            },
            ("device", _) => Ok(Val::Device("cpu".into())),
            ("type", Val::Device(d)) => Ok(Val::Str(d.clone())),
            ("index", Val::Device(_)) => Ok(Val::None),
            ("layout", _) => Ok(Val::int(0)),
            ("shape", Val::Tensor(_)) => self.aten("size", vec![first]),
            ("ndim", Val::Tensor(_)) => self.aten("dim", vec![first]),
            ("data" | "grad" | "unchecked_unwrap_optional" | "unchecked_cast" | "itemsize", _) => Ok(first),
            ("requires_grad", _) => Ok(Val::Bool(true)),
            (
                "is_cuda" | "is_nested" | "is_sparse" | "is_quantized" | "is_mkldnn" | "is_meta" | "is_mps" | "is_xpu",
                _,
            ) => Ok(Val::Bool(false)),
            ("is_cpu", _) => Ok(Val::Bool(true)),
            ("T" | "mT", Val::Tensor(t)) => {
                let rank = t.shape().len() as i64;
                match (name, rank) {
                    ("T", 0 | 1) => Ok(first),
                    ("T", _) => self.aten("permute", vec![first, Val::list((0..rank).rev().map(Val::int).collect())]),
                    _ => self.aten("transpose", vec![first, Val::int(-2), Val::int(-1)]),
                }
            }
            ("RaiseException", _) => {
                self.raised = true;
                bail!(
                    InvalidModel,
                    "the model itself refuses these inputs in module '{}' ({}): {}",
                    self.at.module,
                    self.at.source,
                    super::lists::text(&first)
                );
            }
            ("TupleIndex" | "TupleUnpack", _) => match given.get(1) {
                Some(index) => self.indexed(&first, &index.clone()),
                None => Ok(first),
            },
            ("rangelist", Val::Int(n)) => {
                let n = self.whole(n)?;
                let items = super::lists::range(&[n])?;
                self.charge(items.len())?;
                Ok(Val::list(items))
            }
            ("Print", _) => Ok(Val::None),
            _ => self.operator(name, given, named),
        }
    }
}
