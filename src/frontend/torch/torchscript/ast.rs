//! The part of Python that TorchScript's archives are written in.

use std::rc::Rc;

/// An expression; types are written as expressions too.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // Python's own
pub enum Expr {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    Name(Rc<str>),
    Attribute(Box<Expr>, Rc<str>),
    Subscript(Box<Expr>, Vec<Expr>),
    Call { function: Box<Expr>, positional: Vec<Expr>, keyword: Vec<(Rc<str>, Expr)> },
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Negative(Box<Expr>),
}

impl Expr {
    /// A dotted name in one string ("__torch__.torch.nn.functional.pad").
    pub fn dotted(&self) -> Option<String> {
        match self {
            Expr::Name(name) => Some(name.to_string()),
            Expr::Attribute(of, name) => Some(format!("{}.{name}", of.dotted()?)),
            _ => None,
        }
    }
}

/// A statement with its line.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Line in its file, from 1.
    pub line: u32,
    /// What it does.
    pub kind: Kind,
}

/// See [`Statement`].
#[derive(Debug, Clone)]
#[allow(missing_docs)] // Python's own
pub enum Kind {
    Pass,
    Evaluate(Expr),
    Assign { target: Expr, value: Expr },
    If { condition: Expr, yes: Vec<Statement>, no: Vec<Statement> },
    While { condition: Expr, body: Vec<Statement> },
    For { target: Expr, items: Expr, body: Vec<Statement> },
    With { body: Vec<Statement> },
    Return(Option<Expr>),
}

/// A parameter of a function.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name.
    pub name: Rc<str>,
    /// Its declared type.
    pub ty: Option<Expr>,
    /// Its default value.
    pub default: Option<Expr>,
}

/// A function or method.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: Rc<str>,
    /// Its parameters, `self` included.
    pub parameters: Vec<Parameter>,
    /// Its statements.
    pub body: Vec<Statement>,
    /// The file it stands in.
    pub file: Rc<str>,
}

/// A declared attribute of a class.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: Rc<str>,
    /// Its value, for `Final` ones and members of enumerations.
    pub value: Option<Expr>,
}

/// A class.
#[derive(Debug)]
pub struct Class {
    /// Its name.
    pub name: Rc<str>,
    /// Its base (Module, NamedTuple, Enum, Interface) or "".
    pub base: Rc<str>,
    /// Attributes in order.
    pub fields: Vec<Field>,
    /// Methods.
    pub methods: Vec<Rc<Function>>,
}

/// What a file defines.
#[derive(Debug, Clone)]
pub enum Definition {
    /// A function.
    Function(Rc<Function>),
    /// A class.
    Class(Rc<Class>),
}
