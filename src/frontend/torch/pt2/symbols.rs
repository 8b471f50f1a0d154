//! Sizes as sympy writes them (`Mul(Integer(2), Symbol('s27', positive=True, integer=True))`), and their ranges.

use crate::frontend::torch::lower::SymInt;
use crate::hash::HashMap;
use crate::{Result, bail, err};
use serde_json::Value as Json;

/// Deeper expressions are refused.
const DEPTH: usize = 64;

/// A size: a number or an expression.
pub fn size(json: &Json) -> Result<SymInt> {
    if let Some(v) = json["as_int"].as_i64() {
        return Ok(SymInt::Known(v));
    }
    match json["as_expr"]["expr_str"].as_str() {
        Some(text) => expression(text),
        None => bail!(InvalidFile, "the program is damaged: a size is {}", super::brief(json)),
    }
}

/// Ranges of symbols.
pub fn ranges(json: &Json) -> HashMap<String, (Option<i64>, Option<i64>)> {
    let mut out = HashMap::default();
    if let Some(map) = json.as_object() {
        for (name, range) in map {
            out.insert(name.clone(), (range["min_val"].as_i64(), range["max_val"].as_i64()));
        }
    }
    out
}

/// An expression.
pub fn expression(text: &str) -> Result<SymInt> {
    let mut p = Parser { rest: text };
    let v = p.value(0)?;
    if !p.rest.trim().is_empty() {
        return Err(p.bad());
    }
    Ok(v)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn bad(&self) -> crate::Error {
        let near: String = self.rest.chars().take(40).collect();
        err!(Unsupported, "a size's expression cannot be read at '{near}'")
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, c: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        self.skip();
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.' || c == '-'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn quoted(&mut self) -> Result<&'a str> {
        self.skip();
        let quote = self.rest.chars().next().filter(|c| *c == '\'' || *c == '"').ok_or_else(|| self.bad())?;
        let inner = &self.rest[1..];
        let end = inner.find(quote).ok_or_else(|| self.bad())?;
        self.rest = &inner[end + 1..];
        Ok(&inner[..end])
    }

    fn value(&mut self, depth: usize) -> Result<SymInt> {
        if depth > DEPTH {
            return Err(self.bad());
        }
        let name = self.word();
        if let Ok(v) = name.parse::<i64>() {
            return Ok(SymInt::Known(v));
        }
        if name.is_empty() || !self.eat('(') {
            return Err(self.bad());
        }
        let name = name.rsplit('.').next().unwrap_or(name);
        if name == "Symbol" || name == "Dummy" {
            let symbol = self.quoted()?;
            // Assumptions follow.
            let close = self.rest.find(')').ok_or_else(|| self.bad())?;
            self.rest = &self.rest[close + 1..];
            return Ok(SymInt::symbol(symbol));
        }
        let mut args = Vec::new();
        while !self.eat(')') {
            // Keyword arguments say nothing about the value.
            let before = self.rest;
            let word = self.word();
            if !word.is_empty() && self.eat('=') {
                self.word();
            } else {
                self.rest = before;
                args.push(self.value(depth + 1)?);
            }
            if !self.eat(',') && !self.rest.trim_start().starts_with(')') {
                return Err(self.bad());
            }
        }
        self.apply(name, &args)
    }

    fn apply(&self, name: &str, args: &[SymInt]) -> Result<SymInt> {
        let fold =
            |f: fn(&SymInt, &SymInt) -> SymInt| args.iter().cloned().reduce(|a, b| f(&a, &b)).ok_or_else(|| self.bad());
        let zero = || err!(InvalidFile, "a size is divided by zero");
        match (name, args) {
            ("Integer", [v]) | ("ToFloat" | "TruncToInt" | "Identity", [v]) => Ok(v.clone()),
            ("Add", _) => fold(SymInt::plus),
            ("Mul", _) => fold(SymInt::times),
            ("Max", _) => fold(SymInt::larger),
            ("Min", _) => fold(SymInt::smaller),
            ("FloorDiv" | "IntTrueDiv" | "CleanDiv", [a, b]) => a.floor_div(b).ok_or_else(zero),
            ("CeilDiv", [a, b]) => a.plus(b).minus(&SymInt::Known(1)).floor_div(b).ok_or_else(zero),
            ("Mod" | "PythonMod", [a, b]) => a.modulo(b).ok_or_else(zero),
            ("ModularIndexing", [a, d, m]) => a.floor_div(d).and_then(|q| q.modulo(m)).ok_or_else(zero),
            ("Pow" | "PowByNatural", [a, SymInt::Known(n @ 0..=8)]) => {
                Ok((0..*n).fold(SymInt::Known(1), |p, _| p.times(a)))
            }
            _ => bail!(Unsupported, "sizes computed with sympy's {name} are not supported"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_have_one_normal_form() {
        let s = "Symbol('s0', positive=True, integer=True)";
        let a = expression(&format!("Add(Mul(Integer(2), {s}), Integer(-1))")).unwrap();
        assert_eq!(a.to_string(), "2*s0-1");
        let b = expression(&format!("FloorDiv(Mul(Integer(4), {s}), Integer(2))")).unwrap();
        assert_eq!(b, expression(&format!("Mul({s}, Integer(2))")).unwrap());
        assert_eq!(a.linear(), Some(("s0".into(), 2, -1)));
    }

    #[test]
    fn broken_expressions_are_errors() {
        for text in
            ["", "Add(", "Symbol(", "Add(Integer(1)", "Foo(Integer(1))", "Mod(Integer(1), Integer(0))", "Symbol('a"]
        {
            assert!(expression(text).is_err(), "{text}");
        }
        assert!(expression(&"Add(".repeat(100_000)).is_err());
    }
}
