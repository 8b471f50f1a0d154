//! Indexing: index, index_put, gather, scatter, embedding, nonzero, topk, sort.

use super::super::Lowering;
use super::super::emit::ints;
use super::super::sym::{SymInt, product};
use super::super::value::Value;
use super::Entry;
use crate::Result;
use crate::model::DataType;

pub(super) const TABLE: &[Entry] = &[];

/// For each dimension, the indices of the elements that are not zero.
pub(super) fn nonzero_columns(l: &mut Lowering, x: &Value) -> Result<Vec<Value>> {
    let found = nonzero(l, x)?;
    (0..x.rank()).map(|i| l.select(&found, 0, &SymInt::Known(i as i64))).collect()
}

/// ONNX's NonZero: one row for each dimension.
pub(super) fn nonzero(l: &mut Lowering, x: &Value) -> Result<Value> {
    let count = l.fresh("nonzero");
    let rank = SymInt::Known(x.rank() as i64);
    let total = product(&x.shape);
    let _ = total;
    let shape = vec![rank, SymInt::atom(super::super::Atom::Value(count.clone()))];
    let found = l.node("NonZero", &[x], vec![], DataType::Int64, shape)?;
    let size = l.node(
        "Shape",
        &[&found],
        vec![super::super::emit::int("start", 1), super::super::emit::int("end", 2)],
        DataType::Int64,
        vec![SymInt::Known(1)],
    )?;
    l.run_time.insert(count, size);
    let _ = ints;
    Ok(found)
}
