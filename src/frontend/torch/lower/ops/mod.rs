//! The lowerings, one table a file. A handler serves all overloads of its name and, through the call, its in-place form.

mod attention;
mod elementwise;
mod factory;
mod indexing;
mod linear;
mod more;
mod nn;
mod recurrent;
mod reduce;
mod shape;

use super::args::Bound;
use super::value::Value;
use super::{Handler, Out};
use crate::hash::HashMap;
use std::sync::OnceLock;

pub(super) use shape::{part_sizes, permutation};

type Entry = (&'static str, Handler);

const TABLES: [&[Entry]; 10] = [
    attention::TABLE,
    elementwise::TABLE,
    factory::TABLE,
    indexing::TABLE,
    linear::TABLE,
    more::TABLE,
    nn::TABLE,
    recurrent::TABLE,
    reduce::TABLE,
    shape::TABLE,
];

/// The handler of an operator ("aten::add").
pub(super) fn handler(op: &str) -> Option<Handler> {
    static TABLE: OnceLock<HashMap<&'static str, Handler>> = OnceLock::new();
    let table = TABLE.get_or_init(|| TABLES.into_iter().flatten().copied().collect());
    table.get(op.strip_prefix("aten::").unwrap_or(op)).copied()
}

/// The first argument, whatever its name is.
fn first(b: &Bound) -> crate::Result<Value> {
    let name = ["self", "input", "tensor", "a"].into_iter().find(|n| b.opt(n).is_some()).unwrap_or("self");
    b.tensor(name)
}

/// `Out::One`.
fn one(v: crate::Result<Value>) -> crate::Result<Out> {
    v.map(Out::One)
}
