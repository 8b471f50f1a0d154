//! RE2's syntax for the `regex` crate. Both are engines without backtracking and mostly spell things alike; where they do
//! not, the pattern is rewritten: RE2's `\d`, `\w`, `\s` and `\b` are ASCII, its classes know no set operations, a `{` that
//! starts no repetition stands for itself, any punctuation may be escaped, and there are `\Q...\E`, `\C` and octal escapes.
//! `(?i)` never reaches the engine: letters and classes are written out with all that they stand for.

mod fold;

use crate::{Result, err};
use regex::bytes::Regex;
use std::fmt::Write;

/// A pattern that matches whole strings.
pub fn full_match(pattern: &str) -> Result<Regex> {
    let bad = |why: &str| err!(InvalidModel, "the pattern '{pattern}' is not valid RE2 syntax: {why}");
    let translator = Translator { rest: pattern, out: String::new(), fold: false, outer: vec![] };
    let inner = translator.run().map_err(&bad)?;
    Regex::new(&format!(r"\A(?:{inner})\z")).map_err(|e| bad(&e.to_string()))
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    /// `(?i)` is on here.
    fold: bool,
    /// Whether it is on around each open group.
    outer: Vec<bool>,
}

type Step<T> = std::result::Result<T, &'static str>;

/// What an escape stands for.
enum Escape<'a> {
    Char(char),
    /// The inside of a class, and whether it is negated.
    Class(&'static str, bool),
    /// A Unicode class by name.
    Unicode(&'a str, bool),
    /// A letter that only stands outside classes.
    Outside(char),
}

impl<'a> Translator<'a> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn eat(&mut self, what: &str) -> bool {
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Everything up to `end`, which is eaten too.
    fn until(&mut self, end: &str) -> Option<&'a str> {
        let (found, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(found)
    }

    /// A character outside classes.
    fn literal(&mut self, c: char) {
        let mut alike = fold::of_letter(c).filter(|_| self.fold).peekable();
        if alike.peek().is_none() {
            return self.out.push_str(&escaped(c));
        }
        self.out.push('[');
        alike.for_each(|c| self.out.push_str(&escaped(c)));
        self.out.push(']');
    }

    fn class(&mut self, inside: &str, negated: bool) {
        let _ = write!(self.out, "[{}{inside}", if negated { "^" } else { "" });
        if self.fold {
            // A class that is negated lacks what its members stand for.
            fold::missing_in(inside).into_iter().for_each(|c| self.out.push_str(&escaped(c)));
        }
        self.out.push(']');
    }

    fn unicode(&mut self, name: &str, negated: bool) {
        self.class(&format!("\\p{{{name}}}"), negated);
    }

    /// What follows an opening parenthesis: the name of a group or flags.
    fn group(&mut self) -> Step<()> {
        let outer = self.fold;
        self.out.push('(');
        if self.eat("?P<") || self.eat("?<") {
            let name = self.until(">").ok_or("a group's name has no end")?;
            let _ = write!(self.out, "?P<{name}>");
        }
        if !self.eat("?") {
            self.outer.push(outer);
            return Ok(());
        }
        self.out.pop();
        let (mut on, mut off, mut sign) = (String::new(), String::new(), true);
        let end = loop {
            match self.next().ok_or("a group has no end")? {
                'i' => self.fold = sign,
                '-' if sign => sign = false,
                c @ ('m' | 's' | 'U') => if sign { &mut on } else { &mut off }.push(c),
                end @ (':' | ')') => break end,
                _ => return Err("a group has an unknown flag"),
            }
        };
        if end == ':' {
            self.outer.push(outer);
        }
        if end == ':' || !on.is_empty() || !off.is_empty() {
            let _ = write!(self.out, "(?{on}{}{off}{end}", if off.is_empty() { "" } else { "-" });
        }
        Ok(())
    }

    fn run(mut self) -> Step<String> {
        while let Some(c) = self.next() {
            match c {
                '\\' if self.eat("Q") => {
                    let all = self.until("\\E").unwrap_or_else(|| std::mem::take(&mut self.rest));
                    all.chars().for_each(|c| self.literal(c));
                }
                '\\' => match self.escape()? {
                    Escape::Char(c) => self.literal(c),
                    Escape::Class(inside, negated) => self.class(inside, negated),
                    Escape::Unicode(name, negated) => self.unicode(name, negated),
                    Escape::Outside('C') => self.out.push_str("(?s-u:.)"),
                    Escape::Outside(c @ ('b' | 'B')) => {
                        let _ = write!(self.out, "(?-u:\\{c})");
                    }
                    Escape::Outside(c) => {
                        let _ = write!(self.out, "\\{c}");
                    }
                },
                '[' => self.brackets()?,
                '(' => self.group()?,
                ')' => {
                    // One too many is refused by the engine.
                    self.fold = self.outer.pop().unwrap_or(false);
                    self.out.push(')');
                }
                c if self.fold && c.is_alphabetic() => self.literal(c),
                '{' if !is_repetition(self.rest) => self.out.push_str("\\{"),
                ']' => self.out.push_str("\\]"),
                c => self.out.push(c),
            }
        }
        Ok(self.out)
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Step<Escape<'a>> {
        let c = self.next().ok_or("it ends in a backslash")?;
        Ok(match c {
            'd' | 'D' => Escape::Class("0-9", c == 'D'),
            'w' | 'W' => Escape::Class("0-9A-Za-z_", c == 'W'),
            's' | 'S' => Escape::Class(r"\t\n\f\r ", c == 'S'),
            'p' | 'P' => {
                let name = if self.eat("{") {
                    self.until("}").ok_or("a class name has no end")?
                } else {
                    let start = self.rest;
                    let c = self.next().ok_or("a class name is missing")?;
                    &start[..c.len_utf8()]
                };
                match name.strip_prefix('^') {
                    Some(name) => Escape::Unicode(name, c == 'p'),
                    None => Escape::Unicode(name, c == 'P'),
                }
            }
            'a' => Escape::Char('\x07'),
            'f' => Escape::Char('\x0C'),
            't' => Escape::Char('\t'),
            'n' => Escape::Char('\n'),
            'r' => Escape::Char('\r'),
            'v' => Escape::Char('\x0B'),
            'x' => Escape::Char(self.hexadecimal()?),
            // A digit alone would be a back reference, which RE2 does not have.
            '1'..='7' if !self.rest.starts_with(|c| ('0'..='7').contains(&c)) => {
                return Err("back references are not possible");
            }
            '0'..='7' => Escape::Char(self.octal(c)),
            'A' | 'z' | 'b' | 'B' | 'C' => Escape::Outside(c),
            c if c.is_ascii_punctuation() || c == ' ' || c.is_ascii_control() || !c.is_ascii() => Escape::Char(c),
            _ => return Err("an escape has no meaning"),
        })
    }

    fn hexadecimal(&mut self) -> Step<char> {
        let digits = match self.eat("{") {
            true => self.until("}"),
            false => self.rest.get(..2).inspect(|d| self.rest = &self.rest[d.len()..]),
        };
        let code =
            digits.filter(|d| d.chars().all(|c| c.is_ascii_hexdigit())).and_then(|d| u32::from_str_radix(d, 16).ok());
        code.and_then(char::from_u32).ok_or("a hexadecimal escape is no character")
    }

    /// Up to three octal digits, the first of which has been read.
    fn octal(&mut self, first: char) -> char {
        let mut code = first.to_digit(8).unwrap_or(0);
        for _ in 0..2 {
            let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else { break };
            code = code * 8 + digit;
            self.next();
        }
        char::from_u32(code).unwrap_or('\0')
    }

    /// A class in brackets, the first of which has been read.
    fn brackets(&mut self) -> Step<()> {
        const OPEN: &str = "a bracket is not closed";
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let (mut first, start) = (true, self.out.len());
        loop {
            if !std::mem::take(&mut first) && self.eat("]") {
                if self.fold {
                    let missing = fold::missing_in(&self.out[start..]);
                    missing.into_iter().for_each(|c| self.out.push_str(&escaped(c)));
                }
                self.out.push(']');
                return Ok(());
            }
            if self.rest.starts_with("[:")
                && let Some((name, rest)) = self.rest[2..].split_once(":]")
                && name.trim_start_matches('^').chars().all(|c| c.is_ascii_lowercase())
            {
                let _ = write!(self.out, "[:{name}:]");
                self.rest = rest;
                continue;
            }
            let Some(low) = self.item().ok_or(OPEN)?? else { continue };
            self.out.push_str(&escaped(low));
            let mut ahead = self.rest.chars();
            if ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']') {
                self.next();
                let high = self.item().ok_or(OPEN)??.ok_or("a range ends in a class")?;
                self.out.push('-');
                self.out.push_str(&escaped(high));
            }
        }
    }

    /// One character of a class, or `None` where a whole class stood there and was written.
    fn item(&mut self) -> Option<Step<Option<char>>> {
        let c = self.next()?;
        if c != '\\' {
            return Some(Ok(Some(c)));
        }
        Some(self.escape().and_then(|escape| match escape {
            Escape::Char(c) => Ok(Some(c)),
            Escape::Class(inside, negated) => {
                self.class(inside, negated);
                Ok(None)
            }
            Escape::Unicode(name, negated) => {
                self.unicode(name, negated);
                Ok(None)
            }
            Escape::Outside(_) => Err("an escape has no meaning in a class"),
        }))
    }
}

/// A character as itself, in and outside classes.
fn escaped(c: char) -> String {
    format!("\\x{{{:X}}}", u32::from(c))
}

/// True if this, after a `{`, says how often something is repeated.
fn is_repetition(rest: &str) -> bool {
    let Some((inside, _)) = rest.split_once('}') else { return false };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    !low.is_empty() && low.chars().chain(high.chars()).all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_re2_says() {
        for (pattern, yes, no) in [
            (r"a|ab", vec!["a", "ab"], vec!["abc", ""]),
            (r"\d+", vec!["019"], vec!["٣", ""]),
            (r"\D", vec!["٣", "x"], vec!["1"]),
            (r"[\d\-x]+", vec!["1-x"], vec!["a"]),
            (r"[^\D]+", vec!["12"], vec!["1a"]),
            (r"[[a]", vec!["[", "a"], vec!["]"]),
            (r"[a&&b]+", vec!["a&b"], vec!["c"]),
            (r"[]a]+", vec!["]a"], vec!["b"]),
            (r"[^]a]", vec!["b"], vec!["]"]),
            (r"[+--]+", vec!["+,-"], vec!["."]),
            (r"[a-]+", vec!["a-"], vec!["b"]),
            (r"[[:alpha:][:digit:]]+", vec!["a1"], vec!["_"]),
            (r"\Qa.b\E+", vec!["a.bb"], vec!["axb"]),
            (r"\<\_\>", vec!["<_>"], vec!["_"]),
            (r"a{,2}", vec!["a{,2}"], vec!["aa"]),
            (r"a{1,2}{", vec!["a{", "aa{"], vec!["a"]),
            (r"\101\x42\x{43}", vec!["ABC"], vec!["abc"]),
            (r"\pL\p{Greek}\p{^Lu}\PN", vec!["éλaa"], vec!["1λaa", "éaaa", "éλAa", "éλa1"]),
            (r"(?i)straße", vec!["STRAßE"], vec!["STRASSE"]),
            (r"(?i)[^k]", vec!["s"], vec!["K", "\u{212A}"]),
            (r"(?i)[s-t]\w+", vec!["ſK", "S\u{212A}"], vec!["ſ-", "r1"]),
            (r"(?i)\W", vec!["-"], vec!["ſ", "k"]),
            (r"(?i)\p{Lu}\PL[^\pN]", vec!["a1b", "Ä-ä"], vec!["aaa", "aa1"]),
            (r"(?i)[[:upper:]_]+", vec!["aB_ſ"], vec!["1"]),
            (r"a((?i)b)c(?i:d|é)e", vec!["abcde", "aBcDe", "abcÉe"], vec!["Abcde", "abCde", "abcdE"]),
            (r"(?i)a(?-i)b(?is:c.)(?P<na>d)", vec!["AbC\nd", "abcxd"], vec!["aBcxd", "abcxD", "abcx\n"]),
            (r"(?i)\Qσ.\E{2}\x{df}", vec!["Σ..ß", "ς..ẞ"], vec!["σ.σ.ß", "σaaß"]),
            (r"(?i:a)(?U)(b)(?m-s)$", vec!["Ab"], vec!["aB"]),
            (r"a\b.\B.", vec!["a-é"], vec!["a-b"]),
            (r"(?P<x>a)(?s:.)", vec!["a\n"], vec!["a"]),
            (r".", vec!["é"], vec!["\n"]),
            (r"\C\C", vec!["é"], vec!["a"]),
            (r"(?m)^a$\nb", vec!["a\nb"], vec!["a"]),
        ] {
            let re = full_match(pattern).unwrap();
            for s in yes {
                assert!(re.is_match(s.as_bytes()), "{pattern} {s}");
            }
            for s in no {
                assert!(!re.is_match(s.as_bytes()), "{pattern} {s}");
            }
        }
        for wrong in [
            r"(",
            r"a\",
            r"\1",
            r"[a",
            r"[b-a]",
            r"\y",
            r"\x{110000}",
            r"*",
            r"(?=a)",
            r"(?x)a",
            r"(?i",
            r"(?i)(",
            r"a)",
            r"(?i)[b-a]",
            r"(?i)\p{No such}",
        ] {
            let e = full_match(wrong).unwrap_err();
            assert!(e.message().contains("RE2"), "{wrong}: {e}");
        }
    }
}
