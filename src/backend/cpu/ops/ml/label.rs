//! LabelEncoder: a map from elements to elements.

use super::super::cast::cast;
use super::super::node::integers;
use super::super::{Built, NodeCx, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::movement::Elem;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::tensor::{Tensor, Text};
use crate::backend::cpu::threads::Threads;
use crate::hash::HashMap;
use crate::model::DataType::{self, Float32, Float64, Int64};
use crate::{Result, bail, err, with_elem};
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Text(Text),
    Integer(i64),
    /// The bits of a double; all NaN are one key, and both zeros.
    Float(u64),
}

impl Key {
    fn float(v: f64) -> Key {
        Key::Float(if v.is_nan() { f64::NAN.to_bits() } else { (v + 0.0).to_bits() })
    }
}

/// The elements of a tensor as keys.
fn keys(cx: &Cx, t: &Tensor) -> Result<Vec<Key>> {
    Ok(match t.dtype() {
        DataType::String => t.strings()?.iter().cloned().map(Key::Text).collect(),
        d if d.is_float() => cast(cx, t, Float64, true)?.slice::<f64>()?.iter().map(|&v| Key::float(v)).collect(),
        _ => integers(t)?.into_iter().map(Key::Integer).collect(),
    })
}

/// The one list that a node gives for its keys or values.
fn list(cx: &NodeCx, pool: &Arc<Pool>, what: &str) -> Result<Tensor> {
    let mut found = Vec::new();
    if let Some(t) = cx.tensor(&format!("{what}_tensor"))? {
        found.push(t);
    }
    if let Some(v) = cx.ints(&format!("{what}_int64s"))? {
        found.push(Tensor::from_slice(pool, Int64, vec![v.len()], &v)?);
    }
    if let Some(v) = cx.floats(&format!("{what}_floats"))? {
        found.push(Tensor::from_slice(pool, Float32, vec![v.len()], &v)?);
    }
    if let Some(v) = cx.strings(&format!("{what}_strings"))? {
        found.push(Tensor::from_strings(vec![v.len()], v.into_iter().map(Text::from).collect())?);
    }
    match (found.pop(), found.is_empty()) {
        (Some(t), true) => Ok(t),
        _ => Err(err!(InvalidModel, "it must have one of the attributes '{what}_*'")),
    }
}

/// What elements become that are no key, as a tensor of one element.
fn default(cx: &NodeCx, run: &Cx, dtype: DataType) -> Result<Tensor> {
    if let Some(t) = cx.tensor("default_tensor")? {
        if t.len() != 1 || t.dtype() != dtype {
            bail!(InvalidModel, "its attribute 'default_tensor' is {t:?}, but must be one {dtype}");
        }
        return t.reshaped(vec![]);
    }
    let t = match dtype {
        DataType::String => {
            return Tensor::from_strings(vec![], vec![Text::from(cx.string("default_string", "_Unused")?)]);
        }
        d if d.is_float() => Tensor::from_slice(run.pool, Float32, vec![], &[cx.float("default_float", -0.0)?])?,
        _ => Tensor::from_slice(run.pool, Int64, vec![], &[cx.int("default_int64", -1)?])?,
    };
    cast(run, &t, dtype, true)
}

/// A map and what stands for everything else.
struct Map {
    keys: DataType,
    places: HashMap<Key, usize>,
    values: Tensor,
    default: Tensor,
}

impl Map {
    fn new(run: &Cx, keys: &Tensor, values: &Tensor, default: Tensor) -> Result<Map> {
        if keys.len() != values.len() {
            bail!(
                InvalidModel,
                "it has {} keys and {} values, but needs a value for each key",
                keys.len(),
                values.len()
            );
        }
        // The last of equal keys stays.
        let places = self::keys(run, keys)?.into_iter().enumerate().map(|(i, k)| (k, i)).collect();
        Ok(Map { keys: keys.dtype(), places, values: values.detached(), default: default.detached() })
    }

    fn apply(&self, cx: &Cx, x: &Tensor) -> Result<Tensor> {
        if x.dtype() != self.keys {
            bail!(TypeMismatch, "its input is {x:?}, but its keys are of type {}", self.keys);
        }
        let mut y = Tensor::new(cx.pool, self.values.dtype(), x.dims().to_vec())?;
        with_elem!(self.values.dtype(), T => {
            let (values, default) = (T::view(&self.values)?, T::view(&self.default)?);
            let found = keys(cx, x)?.into_iter().map(|k| self.places.get(&k).and_then(|&p| values.get(p)));
            let rest = default.first().ok_or_else(|| err!(Internal, "a map has no default"))?;
            T::view_mut(&mut y)?.iter_mut().zip(found).for_each(|(o, v)| o.clone_from(v.unwrap_or(rest)));
        });
        Ok(y)
    }
}

pub fn build(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    if let Some(classes) = cx.strings("classes_strings")? {
        // Version 1: texts and their numbers.
        let numbers = (0..classes.len() as i64).collect();
        return both_ways(cx, numbers, classes);
    }
    let (pool, threads) = (Pool::new(usize::MAX), Threads::inline());
    let run = Cx { pool: &pool, threads: &threads, cancel: None, tap: None };
    let values = list(cx, &pool, "values")?;
    let default = default(cx, &run, values.dtype())?;
    let map = Map::new(&run, &list(cx, &pool, "keys")?, &values, default)?;
    tensor_kernel(move |cx, inputs| map.apply(cx, inputs.tensor(0)?))
}

pub fn category_mapper(cx: &NodeCx) -> Built {
    cx.check_inputs(1, 1)?;
    both_ways(cx, cx.required_ints("cats_int64s")?, cx.strings("cats_strings")?.unwrap_or_default())
}

/// Texts to numbers, or numbers to texts, as the input is.
fn both_ways(cx: &NodeCx, numbers: Vec<i64>, texts: Vec<String>) -> Built {
    let (pool, threads) = (Pool::new(usize::MAX), Threads::inline());
    let run = Cx { pool: &pool, threads: &threads, cancel: None, tap: None };
    let numbers = Tensor::from_slice(&pool, Int64, vec![numbers.len()], &numbers)?;
    let texts = Tensor::from_strings(vec![texts.len()], texts.into_iter().map(Text::from).collect())?;
    let to_numbers = Map::new(&run, &texts, &numbers, default(cx, &run, Int64)?)?;
    let to_texts = Map::new(&run, &numbers, &texts, default(cx, &run, DataType::String)?)?;
    tensor_kernel(move |cx, inputs| {
        let x = inputs.tensor(0)?;
        if x.dtype() == DataType::String { to_numbers.apply(cx, x) } else { to_texts.apply(cx, x) }
    })
}
