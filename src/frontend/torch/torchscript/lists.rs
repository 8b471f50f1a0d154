//! Python's lists and strings, as functions of host values.

use super::numbers;
use super::value::Val;
use crate::sort::sort_by;
use crate::{Result, bail, err};

/// Items of one range.
const MAX_RANGE: usize = 1 << 20;
/// Bytes of one string.
const MAX_TEXT: usize = 1 << 20;

/// An index, negative ones from the end.
pub fn position(at: i64, len: usize) -> Result<usize> {
    let from_start = if at < 0 { at.saturating_add(len as i64) } else { at };
    match usize::try_from(from_start) {
        Ok(i) if i < len => Ok(i),
        _ => bail!(InvalidModel, "item {at} is asked of a list of {len}: do the input shapes fit the model?"),
    }
}

/// A bound of a slice, as Python clamps it.
pub fn clamp(at: i64, len: usize) -> usize {
    let from_start = if at < 0 { at.saturating_add(len as i64) } else { at };
    usize::try_from(from_start.max(0)).unwrap_or(0).min(len)
}

/// `items[start:end:step]`
pub fn slice<T: Clone>(items: &[T], bounds: &[Option<i64>]) -> Vec<T> {
    let bound = |i: usize| bounds.get(i).copied().flatten();
    let step = bound(2).unwrap_or(1);
    if step < 0 {
        let start = bound(0).map_or(items.len(), |v| clamp(v, items.len()).saturating_add(1)).min(items.len());
        let end = bound(1).map_or(0, |v| clamp(v, items.len()) + 1).min(start);
        let step = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
        return items.get(end..start).unwrap_or_default().iter().rev().step_by(step.max(1)).cloned().collect();
    }
    let start = bound(0).map_or(0, |v| clamp(v, items.len()));
    let end = bound(1).map_or(items.len(), |v| clamp(v, items.len()));
    let step = usize::try_from(step).unwrap_or(usize::MAX).max(1);
    items.get(start..end.max(start)).unwrap_or_default().iter().step_by(step).cloned().collect()
}

/// `range(...)` as a list.
pub fn range(bounds: &[i64]) -> Result<Vec<Val>> {
    let (start, end, step) = match *bounds {
        [end] => (0, end, 1),
        [start, end] => (start, end, 1),
        [start, end, step] if step != 0 => (start, end, step),
        _ => bail!(InvalidModel, "a range needs an end and a step other than 0"),
    };
    let mut out = Vec::new();
    let mut at = start;
    while (step > 0 && at < end) || (step < 0 && at > end) {
        if out.len() >= MAX_RANGE {
            bail!(Unsupported, "a range has more than {MAX_RANGE} items");
        }
        out.push(Val::int(at));
        at = at.checked_add(step).ok_or_else(|| err!(InvalidModel, "a range leaves the integers"))?;
    }
    Ok(out)
}

/// The items in order.
pub fn sorted(items: &[Val], reverse: bool) -> Result<Vec<Val>> {
    let mut out = items.to_vec();
    let open = std::cell::Cell::new(false);
    sort_by(&mut out, |a, b| match (a, b) {
        (Val::Str(a), Val::Str(b)) => a.cmp(b),
        _ => match a.number().zip(b.number()).and_then(|(a, b)| numbers::compare(&a, &b)) {
            Some(order) => order,
            None => {
                open.set(true);
                std::cmp::Ordering::Equal
            }
        },
    });
    if open.get() {
        bail!(Unsupported, "a list of tensors or dynamic sizes cannot be sorted");
    }
    if reverse {
        out.reverse();
    }
    Ok(out)
}

/// The text of a value, as messages show it.
pub fn text(val: &Val) -> String {
    fn write(val: &Val, out: &mut String, depth: usize) {
        if out.len() > MAX_TEXT || depth > 10 {
            return;
        }
        let mut all = |open: &str, items: &[Val], close: &str| {
            out.push_str(open);
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write(item, out, depth + 1);
            }
            out.push_str(close);
        };
        match val {
            Val::Bool(b) => out.push_str(if *b { "True" } else { "False" }),
            Val::Int(v) => out.push_str(&v.to_string()),
            Val::Float(v) => out.push_str(&format!("{v:?}")),
            Val::Str(s) | Val::Device(s) | Val::Path(s) => out.push_str(s),
            Val::List(items) => all("[", &items.borrow(), "]"),
            Val::Tuple(items, _) => all("(", items, ")"),
            Val::Enum(class, name, _) => out.push_str(&format!("{class}.{name}")),
            Val::None => out.push_str("None"),
            other => out.push_str(other.kind()),
        }
    }
    let mut out = String::new();
    write(val, &mut out, 0);
    out
}

/// `"...{}...".format(...)`
pub fn format(given: &[Val]) -> String {
    let Some((Val::Str(pattern), values)) = given.split_first() else { return String::new() };
    let mut values = values.iter();
    let mut out = String::new();
    for (i, part) in pattern.split("{}").enumerate() {
        if i > 0 && out.len() < MAX_TEXT {
            out.push_str(&values.next().map_or_else(|| "{}".to_owned(), text));
        }
        out.push_str(part);
    }
    // It is for messages; a longer one is cut.
    if let Some((at, _)) = out.char_indices().find(|(at, _)| *at >= MAX_TEXT) {
        out.truncate(at);
    }
    out
}

/// A string's method or operator.
pub fn of_string(name: &str, s: &str, rest: &[Val]) -> Result<Option<Val>> {
    let strs: Vec<&str> = rest
        .iter()
        .filter_map(|v| match v {
            Val::Str(s) => Some(&**s),
            _ => None,
        })
        .collect();
    Ok(Some(match (name, strs.as_slice()) {
        ("eq", [other]) => Val::Bool(s == *other),
        ("eq", []) => Val::Bool(false),
        ("ne", [other]) => Val::Bool(s != *other),
        ("ne", []) => Val::Bool(true),
        ("lt", [other]) => Val::Bool(s < *other),
        ("gt", [other]) => Val::Bool(s > *other),
        ("len", []) => Val::int(s.chars().count() as i64),
        ("add", [other]) if s.len() + other.len() <= MAX_TEXT => Val::str(&format!("{s}{other}")),
        ("__contains__", [other]) => Val::Bool(s.contains(other)),
        ("startswith", [other, ..]) => Val::Bool(s.starts_with(other)),
        ("endswith", [other, ..]) => Val::Bool(s.ends_with(other)),
        ("lower", []) => Val::str(&s.to_lowercase()),
        ("upper", []) => Val::str(&s.to_uppercase()),
        ("strip", []) => Val::str(s.trim()),
        ("split", [by, ..]) if !by.is_empty() => Val::list(s.split(by).map(Val::str).collect()),
        ("split", []) => Val::list(s.split_whitespace().map(Val::str).collect()),
        ("replace", [from, to]) if s.len().saturating_mul(to.len().max(1)) <= MAX_TEXT => {
            Val::str(&s.replace(from, to))
        }
        ("join", []) => match rest.first().and_then(Val::items) {
            Some(items) => {
                let mut out = String::new();
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(s);
                    }
                    out.push_str(&text(item));
                    if out.len() > MAX_TEXT {
                        bail!(Unsupported, "a text grows above {MAX_TEXT} bytes");
                    }
                }
                Val::str(&out)
            }
            None => return Ok(None),
        },
        ("ord", []) => Val::int(s.chars().next().map_or(0, |c| i64::from(u32::from(c)))),
        ("copy", []) => Val::str(s),
        _ => return Ok(None),
    }))
}
