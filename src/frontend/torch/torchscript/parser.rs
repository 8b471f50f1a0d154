//! Tokens to definitions; what TorchScript's writer does not write is an error that names it.

use super::ast::{Class, Definition, Expr, Field, Function, Kind, Parameter, Statement};
use super::lexer::{Token, tokens};
use crate::{Error, Result, bail, err};
use std::rc::Rc;

/// Nesting of expressions and blocks.
const MAX_DEPTH: usize = 500;

/// Positional and named arguments.
type Arguments = (Vec<Expr>, Vec<(Rc<str>, Expr)>);

struct Parser {
    tokens: Vec<(Token, u32)>,
    at: usize,
    depth: usize,
    file: Rc<str>,
}

/// Reads a source file.
pub fn parse(text: &str, file: &str) -> Result<Vec<Definition>> {
    let place = |e: Error| e.context(format_args!("'{file}'"));
    let mut parser = Parser { tokens: tokens(text).map_err(place)?, at: 0, depth: 0, file: file.into() };
    let done = parser.file_definitions();
    done.map_err(|e| place(e.context(format_args!("line {}", parser.line()))))
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(t, _)| t)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |(_, l)| *l)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn is(&self, sign: u8) -> bool {
        *self.peek() == Token::Sign(sign)
    }

    fn eat(&mut self, sign: u8) -> bool {
        let found = self.is(sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: u8) -> Result<()> {
        if self.eat(sign) {
            return Ok(());
        }
        bail!(InvalidFile, "'{}' expected, not {}", char::from(sign), describe(self.peek()))
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Name(n) if &**n == word);
        self.at += usize::from(found);
        found
    }

    fn name(&mut self) -> Result<Rc<str>> {
        match self.next() {
            Token::Name(name) => Ok(name),
            other => bail!(InvalidFile, "a name expected, not {}", describe(&other)),
        }
    }

    fn newline(&mut self) -> Result<()> {
        match self.next() {
            Token::Newline => Ok(()),
            other => bail!(InvalidFile, "the end of the line expected, not {}", describe(&other)),
        }
    }

    fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            bail!(InvalidFile, "nested deeper than {MAX_DEPTH}");
        }
        self.depth += 1;
        let done = f(self);
        self.depth -= 1;
        done
    }

    fn file_definitions(&mut self) -> Result<Vec<Definition>> {
        let mut out = Vec::new();
        loop {
            if *self.peek() == Token::End {
                return Ok(out);
            }
            if *self.peek() == Token::Newline {
                self.at += 1;
            } else if self.eat_word("def") {
                out.push(Definition::Function(Rc::new(self.function()?)));
            } else if self.eat_word("class") {
                out.push(Definition::Class(Rc::new(self.class()?)));
            } else if self.eat_word("import") {
                // Files of version 2 import the others; names are absolute, so nothing follows from it.
                while !matches!(self.peek(), Token::Newline | Token::End) {
                    self.at += 1;
                }
            } else {
                // `op_version_set = 1` of the first versions.
                let statement = self.statement()?;
                if !matches!(statement.kind, Kind::Assign { .. } | Kind::Pass) {
                    bail!(InvalidFile, "a function or a class expected");
                }
            }
        }
    }

    fn function(&mut self) -> Result<Function> {
        let name = self.name()?;
        self.expect(b'(')?;
        let mut parameters = Vec::new();
        while !self.eat(b')') {
            let name = self.name()?;
            let ty = if self.eat(b':') { Some(self.expr()?) } else { None };
            let default = if self.eat(b'=') { Some(self.expr()?) } else { None };
            parameters.push(Parameter { name, ty, default });
            if !self.eat(b',') {
                self.expect(b')')?;
                break;
            }
        }
        if self.eat(b'>') {
            self.expr()?;
        }
        self.expect(b':')?;
        let body = self.block()?;
        Ok(Function { name, parameters, body, file: self.file.clone() })
    }

    fn class(&mut self) -> Result<Class> {
        let name = self.name()?;
        let mut base = Rc::from("");
        if self.eat(b'(') && !self.eat(b')') {
            base = self.name()?;
            while self.eat(b'.') {
                base = self.name()?;
            }
            self.expect(b')')?;
        }
        self.expect(b':')?;
        self.newline()?;
        let (mut fields, mut methods) = (Vec::new(), Vec::new());
        if *self.peek() != Token::Indent {
            return Ok(Class { name, base, fields, methods });
        }
        self.at += 1;
        while *self.peek() != Token::Dedent {
            if self.eat_word("def") {
                methods.push(Rc::new(self.function()?));
            } else if self.eat_word("pass") {
                self.newline()?;
            } else {
                fields.push(self.field()?);
            }
        }
        self.at += 1;
        Ok(Class { name, base, fields, methods })
    }

    /// `name : type`, `name : Final[type] = value`, `NAME = value` or `__annotations__["0"] = type`.
    fn field(&mut self) -> Result<Field> {
        let target = self.expr()?;
        if self.eat(b':') {
            self.expr()?;
        }
        let value = if self.eat(b'=') { Some(self.expr()?) } else { None };
        self.newline()?;
        match target {
            Expr::Name(name) => Ok(Field { name, value }),
            Expr::Subscript(of, index) if *of == Expr::Name("__annotations__".into()) => match index.as_slice() {
                [Expr::Str(name)] => Ok(Field { name: name.clone(), value: None }),
                _ => bail!(InvalidFile, "an attribute's name must be a string"),
            },
            _ => bail!(InvalidFile, "an attribute or a method expected"),
        }
    }

    fn block(&mut self) -> Result<Vec<Statement>> {
        self.newline()?;
        match self.next() {
            Token::Indent => {}
            other => bail!(InvalidFile, "an indented block expected, not {}", describe(&other)),
        }
        self.nested(|p| {
            let mut out = Vec::new();
            while *p.peek() != Token::Dedent {
                if *p.peek() == Token::End {
                    bail!(InvalidFile, "the block does not end");
                }
                out.push(p.statement()?);
            }
            p.at += 1;
            Ok(out)
        })
    }

    fn statement(&mut self) -> Result<Statement> {
        let line = self.line();
        let kind = self.statement_kind()?;
        Ok(Statement { line, kind })
    }

    fn statement_kind(&mut self) -> Result<Kind> {
        if self.eat_word("if") {
            return self.branches();
        }
        if self.eat_word("while") {
            let condition = self.expr()?;
            self.expect(b':')?;
            return Ok(Kind::While { condition, body: self.block()? });
        }
        if self.eat_word("for") {
            let target = self.targets()?;
            if !self.eat_word("in") {
                bail!(InvalidFile, "'in' expected");
            }
            let items = self.expr()?;
            self.expect(b':')?;
            return Ok(Kind::For { target, items, body: self.block()? });
        }
        if self.eat_word("with") {
            loop {
                self.expr()?;
                if self.eat_word("as") {
                    self.expr()?;
                }
                if !self.eat(b',') {
                    break;
                }
            }
            self.expect(b':')?;
            return Ok(Kind::With { body: self.block()? });
        }
        let kind = self.simple()?;
        self.newline()?;
        Ok(kind)
    }

    fn branches(&mut self) -> Result<Kind> {
        let condition = self.expr()?;
        self.expect(b':')?;
        let yes = self.block()?;
        let line = self.line();
        let no = if self.eat_word("else") {
            self.expect(b':')?;
            self.block()?
        } else if self.eat_word("elif") {
            let kind = self.nested(Self::branches)?;
            vec![Statement { line, kind }]
        } else {
            Vec::new()
        };
        Ok(Kind::If { condition, yes, no })
    }

    fn simple(&mut self) -> Result<Kind> {
        if self.eat_word("pass") {
            return Ok(Kind::Pass);
        }
        if self.eat_word("return") {
            let value = if *self.peek() == Token::Newline { None } else { Some(self.list_or_expr()?) };
            return Ok(Kind::Return(value));
        }
        for word in
            ["def", "class", "lambda", "import", "from", "try", "raise", "assert", "global", "del", "async", "yield"]
        {
            if matches!(self.peek(), Token::Name(n) if &**n == word) {
                bail!(Unsupported, "'{word}' does not occur in the functions of TorchScript");
            }
        }
        let target = self.list_or_expr()?;
        if self.eat(b':') {
            self.expr()?;
        }
        if !self.eat(b'=') {
            return Ok(Kind::Evaluate(target));
        }
        check_target(&target)?;
        let value = self.list_or_expr()?;
        Ok(Kind::Assign { target, value })
    }

    fn targets(&mut self) -> Result<Expr> {
        let target = self.list_or_expr()?;
        check_target(&target)?;
        Ok(target)
    }

    /// `a, b, c`: a tuple without parentheses, or one expression.
    fn list_or_expr(&mut self) -> Result<Expr> {
        let first = self.expr()?;
        if !self.is(b',') {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.eat(b',') {
            let ends = match self.peek() {
                Token::Newline | Token::Sign(b'=') => true,
                Token::Name(n) => &**n == "in",
                _ => false,
            };
            if ends {
                break;
            }
            items.push(self.expr()?);
        }
        Ok(Expr::Tuple(items))
    }

    fn expr(&mut self) -> Result<Expr> {
        self.nested(|p| {
            let mut e = p.atom()?;
            loop {
                if p.eat(b'.') {
                    e = Expr::Attribute(Box::new(e), p.name()?);
                } else if p.eat(b'(') {
                    let (positional, keyword) = p.arguments()?;
                    e = Expr::Call { function: Box::new(e), positional, keyword };
                } else if p.eat(b'[') {
                    let (index, _) = p.items(b']')?;
                    e = Expr::Subscript(Box::new(e), index);
                } else {
                    return Ok(e);
                }
            }
        })
    }

    fn arguments(&mut self) -> Result<Arguments> {
        let (mut positional, mut keyword) = (Vec::new(), Vec::new());
        while !self.eat(b')') {
            let value = self.expr()?;
            match value {
                Expr::Name(name) if self.eat(b'=') => keyword.push((name, self.expr()?)),
                value if keyword.is_empty() => positional.push(value),
                _ => bail!(InvalidFile, "an argument without a name follows one with a name"),
            }
            if !self.eat(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok((positional, keyword))
    }

    /// Expressions up to a closing sign, and whether a comma followed the last one.
    fn items(&mut self, close: u8) -> Result<(Vec<Expr>, bool)> {
        let mut items = Vec::new();
        let mut comma = false;
        while !self.eat(close) {
            items.push(self.expr()?);
            comma = self.eat(b',');
            if !comma {
                self.expect(close)?;
                break;
            }
        }
        Ok((items, comma))
    }

    fn atom(&mut self) -> Result<Expr> {
        Ok(match self.next() {
            Token::Name(name) => match &*name {
                "None" => Expr::None,
                "True" => Expr::Bool(true),
                "False" => Expr::Bool(false),
                _ => Expr::Name(name),
            },
            Token::Int(v) => Expr::Int(v),
            Token::Float(v) => Expr::Float(v),
            Token::Str(text) => Expr::Str(text),
            Token::Sign(b'-') => Expr::Negative(Box::new(self.expr()?)),
            Token::Sign(b'[') => Expr::List(self.items(b']')?.0),
            Token::Sign(b'(') => {
                let (mut items, comma) = self.items(b')')?;
                match (items.len(), comma) {
                    (1, false) => items.remove(0),
                    _ => Expr::Tuple(items),
                }
            }
            Token::Sign(b'{') => {
                let mut items = Vec::new();
                while !self.eat(b'}') {
                    let key = self.expr()?;
                    self.expect(b':')?;
                    items.push((key, self.expr()?));
                    if !self.eat(b',') {
                        self.expect(b'}')?;
                        break;
                    }
                }
                Expr::Dict(items)
            }
            other => return Err(err!(InvalidFile, "an expression expected, not {}", describe(&other))),
        })
    }
}

fn check_target(target: &Expr) -> Result<()> {
    match target {
        Expr::Name(_) | Expr::Attribute(..) => Ok(()),
        Expr::Tuple(items) => items.iter().try_for_each(check_target),
        _ => bail!(Unsupported, "only names and attributes can be assigned to"),
    }
}

fn describe(token: &Token) -> String {
    match token {
        Token::Name(n) => format!("'{}'", n.chars().take(60).collect::<String>()),
        Token::Int(v) => v.to_string(),
        Token::Float(v) => v.to_string(),
        Token::Str(_) => "a string".into(),
        Token::Sign(s) => format!("'{}'", char::from(*s)),
        Token::Newline => "the end of the line".into(),
        Token::Indent | Token::Dedent => "another indentation".into(),
        Token::End => "the end of the file".into(),
    }
}
