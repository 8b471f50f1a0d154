//! Source text to tokens, indentation included.

use crate::{Error, Result, bail, err};
use std::rc::Rc;

/// Bytes of one source file.
const MAX_SOURCE: usize = 64 << 20;
/// Levels of indentation.
const MAX_INDENT: usize = 400;

/// A token.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Token {
    Name(Rc<str>),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    /// Punctuation; `->` is `>`.
    Sign(u8),
    Newline,
    Indent,
    Dedent,
    End,
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
    indents: Vec<usize>,
    open: usize,
    out: Vec<(Token, u32)>,
}

/// The tokens of a file with their lines; the last one is `End`.
pub fn tokens(text: &str) -> Result<Vec<(Token, u32)>> {
    if text.len() > MAX_SOURCE {
        bail!(InvalidFile, "the source has {} bytes; {MAX_SOURCE} is the most that is read", text.len());
    }
    let mut lexer = Lexer { text: text.as_bytes(), at: 0, line: 1, indents: vec![0], open: 0, out: Vec::new() };
    lexer.run().map_err(|e| e.context(format_args!("line {}", lexer.line)))?;
    Ok(lexer.out)
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn push(&mut self, token: Token) {
        self.out.push((token, self.line));
    }

    fn run(&mut self) -> Result<()> {
        let mut fresh = true;
        while self.at < self.text.len() {
            if fresh && self.open == 0 {
                fresh = false;
                if !self.indentation()? {
                    fresh = true;
                    continue;
                }
            }
            match self.peek(0) {
                b'\n' => {
                    if self.open == 0 {
                        self.push(Token::Newline);
                        fresh = true;
                    }
                    self.at += 1;
                    self.line += 1;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'#' => self.comment(),
                b'\\' if self.peek(1) == b'\n' => {
                    self.at += 2;
                    self.line += 1;
                }
                b'"' | b'\'' => self.string()?,
                b'0'..=b'9' => self.number()?,
                b'.' if self.peek(1).is_ascii_digit() => self.number()?,
                b'_' | b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => self.name()?,
                b'-' if self.peek(1) == b'>' => {
                    self.push(Token::Sign(b'>'));
                    self.at += 2;
                }
                sign @ (b'(' | b')' | b'[' | b']' | b'{' | b'}' | b',' | b':' | b'.' | b'=' | b'-') => {
                    match sign {
                        b'(' | b'[' | b'{' => self.open += 1,
                        b')' | b']' | b'}' => self.open = self.open.saturating_sub(1),
                        _ => {}
                    }
                    self.push(Token::Sign(sign));
                    self.at += 1;
                }
                other => {
                    bail!(
                        InvalidFile,
                        "'{}' does not occur in TorchScript's source",
                        char::from(other).escape_default()
                    );
                }
            }
        }
        if self.out.last().is_some_and(|(t, _)| *t != Token::Newline) {
            self.push(Token::Newline);
        }
        for _ in 1..self.indents.len() {
            self.push(Token::Dedent);
        }
        self.push(Token::End);
        Ok(())
    }

    fn comment(&mut self) {
        while self.at < self.text.len() && self.peek(0) != b'\n' {
            self.at += 1;
        }
    }

    /// The start of a line; false for an empty one, which is skipped.
    fn indentation(&mut self) -> Result<bool> {
        let start = self.at;
        while matches!(self.peek(0), b' ' | b'\t' | b'\r') {
            self.at += 1;
        }
        let width = self.at - start;
        if self.peek(0) == b'#' {
            self.comment();
        }
        if self.peek(0) == b'\n' {
            self.at += 1;
            self.line += 1;
            return Ok(false);
        }
        if self.at >= self.text.len() {
            return Ok(false);
        }
        let now = self.indents.last().copied().unwrap_or(0);
        if width > now {
            if self.indents.len() >= MAX_INDENT {
                bail!(InvalidFile, "blocks are nested deeper than {MAX_INDENT}");
            }
            self.indents.push(width);
            self.push(Token::Indent);
        }
        while self.indents.last().is_some_and(|top| width < *top) {
            self.indents.pop();
            self.push(Token::Dedent);
        }
        if self.indents.last() != Some(&width) {
            bail!(InvalidFile, "the indentation fits no open block");
        }
        Ok(true)
    }

    fn name(&mut self) -> Result<()> {
        let start = self.at;
        while matches!(self.peek(0), b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | 0x80..) {
            self.at += 1;
        }
        let name = self.text_of(start)?;
        self.push(Token::Name(name));
        Ok(())
    }

    fn text_of(&self, start: usize) -> Result<Rc<str>> {
        let bytes = self.text.get(start..self.at).unwrap_or_default();
        std::str::from_utf8(bytes).map(Rc::from).map_err(|_| err!(InvalidFile, "a name is not UTF-8"))
    }

    fn number(&mut self) -> Result<()> {
        let start = self.at;
        let mut float = false;
        loop {
            match self.peek(0) {
                b'0'..=b'9' => {}
                b'.' => float = true,
                b'e' | b'E' => {
                    float = true;
                    if matches!(self.peek(1), b'+' | b'-') {
                        self.at += 1;
                    }
                }
                _ => break,
            }
            self.at += 1;
        }
        let text = self.text_of(start)?;
        let wrong = || -> Error { err!(InvalidFile, "'{text}' is no number") };
        if matches!(self.peek(0), b'_' | b'a'..=b'z' | b'A'..=b'Z') {
            bail!(Unsupported, "numbers like '{text}{}' are not read", char::from(self.peek(0)));
        }
        let token = if float {
            Token::Float(text.parse().map_err(|_| wrong())?)
        } else {
            // 2^63 occurs as the operand of the minus of the smallest integer.
            let value: u64 = text.parse().map_err(|_| wrong())?;
            if value > 1 << 63 {
                return Err(wrong());
            }
            Token::Int(value as i64)
        };
        self.push(token);
        Ok(())
    }

    fn string(&mut self) -> Result<()> {
        let quote = self.peek(0);
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let c = self.peek(0);
            if self.at >= self.text.len() || c == b'\n' {
                bail!(InvalidFile, "a string is not closed");
            }
            self.at += 1;
            match c {
                c if c == quote => break,
                b'\\' => self.escape(&mut bytes)?,
                c => bytes.push(c),
            }
        }
        let text = String::from_utf8(bytes).map_err(|_| err!(InvalidFile, "a string is not UTF-8"))?;
        self.push(Token::Str(text.into()));
        Ok(())
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let c = self.peek(0);
        self.at += 1;
        out.push(match c {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'a' => 7,
            b'b' => 8,
            b'v' => 11,
            b'f' => 12,
            b'\\' | b'\'' | b'"' => c,
            b'x' => self.digits(2, 16)?,
            b'0'..=b'7' => {
                self.at -= 1;
                self.digits(3, 8)?
            }
            _ => bail!(InvalidFile, "a string has an unknown escape"),
        });
        Ok(())
    }

    fn digits(&mut self, most: usize, base: u32) -> Result<u8> {
        let mut value = 0;
        for _ in 0..most {
            let Some(digit) = char::from(self.peek(0)).to_digit(base) else { break };
            value = value * base + digit;
            self.at += 1;
        }
        u8::try_from(value).map_err(|_| err!(InvalidFile, "a string has an unknown escape"))
    }
}
