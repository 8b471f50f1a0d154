//! The table of ATen schemas: argument names, types, defaults, aliasing; and the choice of an overload.

use super::args::{Arg, Bound};
use super::sym::SymInt;
use crate::hash::HashMap;
use crate::{Result, bail};
use std::rc::Rc;
use std::sync::OnceLock;

/// One argument of a schema.
#[derive(Debug, Clone)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// Its type without aliasing ("Tensor", "SymInt[2]", "Scalar?").
    pub ty: String,
    /// Its default, as written.
    pub default: Option<&'static str>,
    /// It can only be given by name.
    pub keyword_only: bool,
    /// The call writes to it.
    pub written: bool,
}

/// An operator's schema.
#[derive(Debug, Clone)]
pub struct Schema {
    /// "" for the default overload.
    pub overload: &'static str,
    /// Arguments in order.
    pub params: Vec<Param>,
    /// Types of the results.
    pub returns: Vec<String>,
}

const TABLE: &str = include_str!("schemas.txt");

/// Name without overload, to its overloads' lines in the table's order.
fn index() -> &'static HashMap<&'static str, Vec<&'static str>> {
    static INDEX: OnceLock<HashMap<&'static str, Vec<&'static str>>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut map: HashMap<&'static str, Vec<&'static str>> = HashMap::default();
        for line in TABLE.lines().filter(|l| !l.starts_with('#')) {
            let full = line.split('(').next().unwrap_or(line);
            map.entry(full.split('.').next().unwrap_or(full)).or_default().push(line);
        }
        map
    })
}

/// The overloads of an operator ("aten::add"); empty for one that the table does not have.
pub fn overloads(op: &str) -> Vec<Schema> {
    index().get(op).into_iter().flatten().filter_map(|l| parse(l)).collect()
}

fn parse(line: &'static str) -> Option<Schema> {
    let (full, rest) = line.split_once('(')?;
    let (params, returns) = rest.rsplit_once(" -> ")?;
    let params = params.strip_suffix(')')?;
    let mut out = Vec::new();
    let mut keyword_only = false;
    for part in split_top(params) {
        let part = part.trim();
        if part == "*" {
            keyword_only = true;
        } else if !part.is_empty() {
            let (decl, default) = match part.split_once('=') {
                Some((d, v)) => (d, Some(v)),
                None => (part, None),
            };
            let (ty, name) = decl.rsplit_once(' ')?;
            out.push(Param { name, ty: strip_alias(ty), default, keyword_only, written: ty.contains('!') });
        }
    }
    let inner = returns.strip_prefix('(').and_then(|r| r.strip_suffix(')'));
    let returns = match inner {
        Some(list) => {
            split_top(list).into_iter().filter(|r| !r.trim().is_empty()).map(|r| strip_alias(r.trim())).collect()
        }
        None => vec![strip_alias(returns)],
    };
    Some(Schema { overload: full.split_once('.').map_or("", |(_, o)| o), params: out, returns })
}

/// Splits at commas outside brackets and quotes.
fn split_top(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut quoted, mut out) = (0i32, 0, false, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' | '[' if !quoted => depth += 1,
            ')' | ']' if !quoted => depth -= 1,
            ',' if depth == 0 && !quoted => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn strip_alias(ty: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    for c in ty.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

impl Param {
    fn base(&self) -> &str {
        self.ty.trim_end_matches('?').split('[').next().unwrap_or("")
    }

    fn is_list(&self) -> bool {
        self.ty.contains('[')
    }

    /// 0: the argument does not fit; 1: it fits by conversion; 2: it fits.
    fn fits(&self, arg: &Arg) -> u32 {
        if matches!(arg, Arg::None) {
            return if self.ty.ends_with('?') { 2 } else { u32::from(self.base() == "Generator") };
        }
        if self.is_list() {
            return match arg {
                Arg::List(items) => items.iter().map(|i| self.fits_one(i)).min().unwrap_or(2),
                // `int[2]` takes one int for both.
                Arg::Int(_) | Arg::Float(_) if !self.ty.contains("[]") => self.fits_one(arg).min(1),
                _ => 0,
            };
        }
        self.fits_one(arg)
    }

    fn fits_one(&self, arg: &Arg) -> u32 {
        let (exact, loose) = match (self.base(), arg) {
            ("Tensor", Arg::Tensor(_)) => (true, true),
            ("Tensor", Arg::None) => (self.ty.contains('?'), false),
            ("Tensor", Arg::Int(_) | Arg::Float(_) | Arg::Bool(_)) => (false, true),
            ("int" | "SymInt", Arg::Int(_)) => (true, true),
            ("int" | "SymInt", Arg::Bool(_) | Arg::DType(_)) => (false, true),
            ("int" | "SymInt" | "float" | "bool", Arg::Tensor(t)) => (false, t.shape().is_empty()),
            ("int" | "SymInt", Arg::Float(v)) => (false, v.fract() == 0.0),
            ("float", Arg::Float(_)) => (true, true),
            ("float", Arg::Int(_)) => (false, true),
            ("Scalar", Arg::Int(_) | Arg::Float(_) | Arg::Bool(_) | Arg::Complex(..)) => (true, true),
            ("Scalar", Arg::Tensor(t)) => (false, t.shape().is_empty()),
            ("bool", Arg::Bool(_)) => (true, true),
            ("bool", Arg::Int(_)) => (false, true),
            ("str", Arg::Str(_)) => (true, true),
            ("ScalarType", Arg::DType(_) | Arg::Int(_)) => (true, true),
            ("Device", Arg::Device | Arg::Str(_)) => (true, true),
            ("Layout", Arg::Layout | Arg::Int(_)) => (true, true),
            ("MemoryFormat", Arg::MemoryFormat(_) | Arg::Int(_)) => (true, true),
            ("complex", Arg::Complex(..)) => (true, true),
            _ => (false, false),
        };
        if exact { 2 } else { u32::from(loose) }
    }

    /// The default value.
    fn default_value(&self) -> Option<Arg> {
        let text = self.default?;
        Some(literal(text, &self.ty))
    }
}

fn literal(text: &str, ty: &str) -> Arg {
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return Arg::List(
            split_top(inner).into_iter().filter(|i| !i.trim().is_empty()).map(|i| literal(i.trim(), ty)).collect(),
        );
    }
    match text {
        "None" => return Arg::None,
        "True" => return Arg::Bool(true),
        "False" => return Arg::Bool(false),
        "contiguous_format" => return Arg::MemoryFormat(0),
        "inf" => return Arg::Float(f64::INFINITY),
        _ => {}
    }
    if let Ok(v) = text.parse::<i64>() {
        return if ty.starts_with("float") { Arg::Float(v as f64) } else { Arg::Int(SymInt::Known(v)) };
    }
    match text.parse::<f64>() {
        Ok(v) => Arg::Float(v),
        Err(_) => Arg::Str(text.trim_matches('"').trim_matches('\'').to_owned()),
    }
}

impl Schema {
    /// How well the arguments fit: `None` not at all, else the number of conversions that are needed.
    fn cost(&self, positional: &[Arg], keyword: &[(String, Arg)]) -> Option<u32> {
        let mut cost = 0;
        let mut given = vec![false; self.params.len()];
        for (i, arg) in positional.iter().enumerate() {
            let p = self.params.get(i).filter(|p| !p.keyword_only)?;
            match p.fits(arg) {
                0 => return None,
                fit => cost += 2 - fit,
            }
            given[i] = true;
        }
        for (name, arg) in keyword {
            let i = self.params.iter().position(|p| p.name == name)?;
            match self.params[i].fits(arg) {
                0 => return None,
                fit => cost += 2 - fit,
            }
            given[i] = true;
        }
        self.params.iter().zip(&given).all(|(p, g)| *g || p.default.is_some()).then_some(cost)
    }

    fn bind(&self, op: &str, positional: &[Arg], keyword: &[(String, Arg)]) -> Result<Bound> {
        let mut args: Vec<(Rc<str>, Arg)> = Vec::with_capacity(self.params.len());
        for (i, p) in self.params.iter().enumerate() {
            let by_name = || keyword.iter().find(|(n, _)| n == p.name).map(|(_, a)| a.clone());
            let arg = positional.get(i).cloned().or_else(by_name).or_else(|| p.default_value());
            match arg {
                Some(a) => args.push((p.name.into(), a)),
                None if p.ty.ends_with('?') => args.push((p.name.into(), Arg::None)),
                None => bail!(InvalidModel, "{op}: argument '{}' is missing", p.name),
            }
        }
        Ok(Bound { op: op.into(), overload: self.overload.into(), args })
    }
}

/// Chooses the overload (the named one; else the first that fits with the fewest conversions) and fills in defaults.
/// Returns `None` for an operator that the table does not have.
pub fn resolve(
    op: &str,
    overload: &str,
    positional: &[Arg],
    keyword: &[(String, Arg)],
) -> Result<Option<(Schema, Bound)>> {
    let all = overloads(op);
    if all.is_empty() {
        return Ok(None);
    }
    let named = if overload == "default" { Some("") } else { Some(overload).filter(|o| !o.is_empty()) };
    let chosen = match named {
        Some(name) => all.iter().find(|s| s.overload == name),
        None => all
            .iter()
            .filter_map(|s| s.cost(positional, keyword).map(|c| (c, s)))
            .min_by_key(|(c, _)| *c)
            .map(|(_, s)| s),
    };
    let Some(schema) = chosen else {
        let given: Vec<&str> = positional.iter().map(Arg::kind).collect();
        let names: Vec<&str> = keyword.iter().map(|(n, _)| n.as_str()).collect();
        bail!(
            Unsupported,
            "no overload of {op}{} in the table of torch's operators takes the arguments ({}; by name: {})",
            if overload.is_empty() { String::new() } else { format!(".{overload}") },
            given.join(", "),
            names.join(", ")
        );
    };
    let bound = schema.bind(op, positional, keyword)?;
    Ok(Some((schema.clone(), bound)))
}
