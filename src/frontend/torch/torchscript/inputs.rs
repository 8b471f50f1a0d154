//! The model's inputs and outputs: parameters and results of `forward`, containers flattened to dotted names, and
//! attributes that the program changes.

use super::ast::{Expr, Function};
use super::eval::Evaluator;
use super::types::head;
use super::value::{Instance, Val};
use crate::frontend::torch::lower::{Dim, SymInt, Tensor};
use crate::frontend::torch::options::{InputSpec, Options};
use crate::model::DataType;
use crate::sort::sort_by;
use crate::{Result, bail, err};
use std::cell::RefCell;
use std::rc::Rc;

const MAX_DEPTH: usize = 50;

/// An attribute that the program sets.
pub struct State {
    path: String,
    name: Rc<str>,
    kind: Held,
}

/// What it holds after a walk.
enum Held {
    Tensor(DataType, Vec<Dim>),
    Other(Val),
}

/// A module, its attribute that is an input of the model, and the full name.
pub type HeldTensor = (Rc<Instance>, Rc<str>, String);

/// What is given and still unused.
struct Given<'a> {
    specs: Vec<(&'a InputSpec, bool)>,
}

impl<'a> Given<'a> {
    /// The spec of a name, or of a position for parameters themselves, or the next one without a name.
    fn find(&mut self, name: &str, position: Option<usize>) -> Option<&'a InputSpec> {
        let position = position.map(|p| p.to_string());
        let named = self.specs.iter().position(|(s, used)| !used && s.key == name);
        let placed = || self.specs.iter().position(|(s, used)| !used && Some(&s.key) == position.as_ref());
        let next = || position.as_ref().and_then(|_| self.specs.iter().position(|(s, used)| !used && s.key.is_empty()));
        let at = named.or_else(placed).or_else(next)?;
        let (spec, used) = self.specs.get_mut(at)?;
        *used = true;
        Some(spec)
    }

    /// The first parts of the names below a name: `0` and `1` for `x.0` and `x.1.a`.
    fn below(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}.");
        let mut out: Vec<String> = Vec::new();
        for (spec, _) in &self.specs {
            if let Some(rest) = spec.key.strip_prefix(&prefix) {
                let part = rest.split('.').next().unwrap_or(rest).to_owned();
                if !out.contains(&part) {
                    out.push(part);
                }
            }
        }
        out
    }

    fn has(&self, name: &str) -> bool {
        self.specs.iter().any(|(s, _)| s.key == name) || !self.below(name).is_empty()
    }
}

/// The arguments of `forward` after `self`.
pub fn make(e: &mut Evaluator, forward: &Function, options: &Options) -> Result<Vec<Val>> {
    let mut given = Given { specs: options.inputs.iter().map(|s| (s, false)).collect() };
    let mut out = Vec::new();
    for (position, parameter) in forward.parameters.iter().skip(1).enumerate() {
        let tensor = Expr::Name("Tensor".into());
        let ty = parameter.ty.as_ref().unwrap_or(&tensor);
        let name = parameter.name.to_string();
        // What has a default is given only by its name.
        if let Some(default) = &parameter.default
            && !given.has(&name)
        {
            out.push(e.in_new_frame(default)?);
            continue;
        }
        let val = input(e, &mut given, &name, Some(position), ty, 0)?;
        out.push(val.ok_or_else(|| missing(forward, &name, options))?);
    }
    if let Some((spec, _)) = given.specs.iter().find(|(_, used)| !used) {
        let names: Vec<&str> = forward.parameters.iter().skip(1).map(|p| &*p.name).collect();
        bail!(
            InvalidArgument,
            "the input shape '{}={}' fits no input of the model: forward() takes {}",
            spec.key,
            spec.text,
            names.join(", ")
        );
    }
    Ok(out)
}

/// The error for an input whose shape is not given.
fn missing(forward: &Function, name: &str, options: &Options) -> crate::Error {
    let all: Vec<String> = forward
        .parameters
        .iter()
        .skip(1)
        .map(|p| format!("{}: {}", p.name, p.ty.as_ref().map_or("Tensor".into(), shown)))
        .collect();
    let given = match options.inputs.len() {
        0 => "none is given".to_owned(),
        n => format!("{n} are given"),
    };
    err!(
        InvalidArgument,
        "a TorchScript archive does not say which shapes it takes: the shape of the input '{name}' is needed ({given}). \
         forward() takes ({}). Give --input-shape NAME=1x3x224x224:fp32 for each, or mezzo_load_options_add_input(); parts of \
         lists, tuples and dicts are NAME.0, NAME.key",
        all.join(", ")
    )
}

/// A type as the source writes it.
fn shown(ty: &Expr) -> String {
    let (name, inner) = head(ty);
    match inner {
        [] => name,
        _ => format!("{name}[{}]", inner.iter().map(shown).collect::<Vec<_>>().join(", ")),
    }
}

/// One argument, or a part of one; `None` if nothing is given for it.
fn input(
    e: &mut Evaluator,
    given: &mut Given<'_>,
    name: &str,
    position: Option<usize>,
    ty: &Expr,
    depth: usize,
) -> Result<Option<Val>> {
    if depth > MAX_DEPTH {
        bail!(InvalidFile, "the type of input '{name}' is nested deeper than {MAX_DEPTH}");
    }
    let (kind, inner) = head(ty);
    let inner_type = inner.first();
    match (kind.as_str(), inner_type) {
        ("Optional", Some(of)) => match given.has(name) || position.is_some_and(|p| given.has(&p.to_string())) {
            true => input(e, given, name, position, of, depth + 1),
            false => Ok(Some(Val::None)),
        },
        ("Tuple", _) => {
            let mut items = Vec::new();
            for (i, ty) in inner.iter().enumerate() {
                match input(e, given, &format!("{name}.{i}"), None, ty, depth + 1)? {
                    Some(val) => items.push(val),
                    None => return Ok(None),
                }
            }
            Ok(Some(Val::tuple(items)))
        }
        ("List", Some(of)) => {
            if head(of).0 == "int" || head(of).0 == "float" {
                return number_list(given, name, position, &head(of).0);
            }
            let mut items = Vec::new();
            while given.has(&format!("{name}.{}", items.len())) {
                match input(e, given, &format!("{name}.{}", items.len()), None, of, depth + 1)? {
                    Some(val) => items.push(val),
                    None => return Ok(None),
                }
            }
            Ok(if items.is_empty() { None } else { Some(Val::list(items)) })
        }
        ("Dict", _) => {
            let of = inner.get(1).cloned().unwrap_or(Expr::Name("Tensor".into()));
            let mut items = Vec::new();
            for key in given.below(name) {
                match input(e, given, &format!("{name}.{key}"), None, &of, depth + 1)? {
                    Some(val) => items.push((Val::str(&key), val)),
                    None => return Ok(None),
                }
            }
            Ok(if items.is_empty() { None } else { Some(Val::Dict(Rc::new(RefCell::new(items)))) })
        }
        ("int" | "float" | "bool" | "str", _) => match given.find(name, position) {
            Some(spec) => scalar(&kind, name, &spec.text).map(Some),
            None => Ok(None),
        },
        ("Tensor", _) => {
            let Some(spec) = given.find(name, position) else { return Ok(None) };
            let (dims, dtype) = spec.tensor()?;
            Ok(Some(Val::Tensor(e.low.input(name, dtype, &dims))))
        }
        _ => bail!(Unsupported, "the input '{name}' is of type {}, which cannot be an input of a model", shown(ty)),
    }
}

/// A number or a text that becomes part of the model.
fn scalar(kind: &str, name: &str, text: &str) -> Result<Val> {
    let val = match kind {
        "int" => text.parse().ok().map(Val::int),
        "float" => text.parse().ok().map(Val::Float),
        "bool" => match text {
            "true" | "True" | "1" => Some(Val::Bool(true)),
            "false" | "False" | "0" => Some(Val::Bool(false)),
            _ => None,
        },
        _ => Some(Val::str(text)),
    };
    val.ok_or_else(|| err!(InvalidArgument, "the input '{name}' is a {kind}, and '{text}' is none: write {name}=VALUE"))
}

fn number_list(given: &mut Given<'_>, name: &str, position: Option<usize>, kind: &str) -> Result<Option<Val>> {
    let Some(spec) = given.find(name, position) else { return Ok(None) };
    let items = spec.text.split(',').map(|part| scalar(kind, name, part.trim()));
    Ok(Some(Val::list(items.collect::<Result<_>>()?)))
}

/// The tensors of a result by their names: items of lists and tuples by number, of named tuples by field, of dicts by key.
pub fn flatten(e: &mut Evaluator, val: &Val, name: &str, out: &mut Vec<(String, Tensor)>, depth: usize) -> Result<()> {
    e.charge(1)?;
    if depth > MAX_DEPTH {
        bail!(Unsupported, "the result '{name}' is nested deeper than {MAX_DEPTH}");
    }
    match val {
        Val::Tensor(t) => out.push((name.to_owned(), t.clone())),
        Val::List(items) => {
            for (i, item) in items.borrow().iter().enumerate() {
                flatten(e, item, &format!("{name}.{i}"), out, depth + 1)?;
            }
        }
        Val::Tuple(items, class) => {
            for (i, item) in items.iter().enumerate() {
                let field = class.as_ref().and_then(|c| c.fields.get(i)).map_or(i.to_string(), |f| f.name.to_string());
                flatten(e, item, &format!("{name}.{field}"), out, depth + 1)?;
            }
        }
        Val::Dict(items) => {
            for (key, item) in items.borrow().iter() {
                flatten(e, item, &format!("{name}.{}", super::lists::text(key)), out, depth + 1)?;
            }
        }
        Val::Object(object) => {
            // A dataclass-like result; its attributes in order of their names.
            let mut fields: Vec<(Rc<str>, Val)> =
                object.fields.borrow().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            sort_by(&mut fields, |a, b| a.0.cmp(&b.0));
            for (field, item) in fields {
                flatten(e, &item, &format!("{name}.{field}"), out, depth + 1)?;
            }
        }
        other => {
            if let Some(n) = other.number() {
                let tensor = e.low.number(n);
                out.push((name.to_owned(), tensor));
            }
        }
    }
    Ok(())
}

/// What the attributes that the program set hold after the walk.
pub fn state(e: &mut Evaluator) -> Result<Vec<State>> {
    let mut out = Vec::new();
    let mut set = Vec::new();
    for (object, name) in std::mem::take(&mut e.state) {
        let val = object.fields.borrow().get(&name).cloned().unwrap_or(Val::Unset);
        set.push((object, name, val));
    }
    for (object, name, val) in set {
        let kind = match &val {
            Val::Tensor(t) => {
                let dims = t.shape().iter().map(|d| dim(&object.path, &name, d)).collect::<Result<_>>()?;
                Held::Tensor(t.dtype(), dims)
            }
            val if val.has_tensor() => bail!(
                Unsupported,
                "the program keeps tensors in the list '{}.{name}' between runs; only attributes that are tensors are lowered",
                object.path
            ),
            val => Held::Other(val.clone()),
        };
        out.push(State { path: object.path.clone(), name, kind });
    }
    Ok(out)
}

fn dim(path: &str, name: &str, d: &SymInt) -> Result<Dim> {
    match d {
        SymInt::Known(n) => Ok(Dim::Fixed(*n)),
        other => {
            let text = other.to_string();
            if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Ok(Dim::Symbol { name: text.as_str().into(), range: (None, None) });
            }
            bail!(
                Unsupported,
                "the state '{path}.{name}' has a dimension of size {other}: give the input shapes in numbers"
            )
        }
    }
}

/// Makes the attributes what they were after the first walk, tensors as inputs of the model.
pub fn set_state(e: &mut Evaluator, root: &Rc<Instance>, state: &[State]) -> Result<Vec<HeldTensor>> {
    let mut held = Vec::new();
    for item in state {
        let mut object = root.clone();
        for part in item.path.split('.').filter(|p| !p.is_empty()) {
            let Val::Object(next) = e.attribute(&object, part)? else {
                bail!(Internal, "the module '{}' is gone in the second walk", item.path);
            };
            object = next;
        }
        let full = format!("{}{}{}", item.path, if item.path.is_empty() { "" } else { "." }, item.name);
        let val = match &item.kind {
            Held::Tensor(dtype, dims) => {
                held.push((object.clone(), item.name.clone(), full.clone()));
                Val::Tensor(e.low.input(&format!("state.{full}"), *dtype, dims))
            }
            Held::Other(val) => val.clone(),
        };
        object.fields.borrow_mut().insert(item.name.clone(), val);
    }
    Ok(held)
}

/// What the program made of its state, as outputs.
pub fn state_outputs(e: &mut Evaluator, held: &[HeldTensor], out: &mut Vec<(String, Tensor)>) -> Result<()> {
    for (object, name, full) in held {
        match e.attribute(object, name)? {
            Val::Tensor(t) => out.push((format!("state.{full}.next"), t)),
            other => bail!(Unsupported, "the state '{full}' becomes {} in the second run", other.kind()),
        }
    }
    Ok(())
}
