//! Python's arithmetic over numbers of the host. Sizes may be symbolic; what a dynamic size leaves open is `None`.

use super::value::Val;
use crate::frontend::torch::lower::{Atom, Num, SymInt};
use std::cmp::Ordering;

/// Sizes that a dynamic dimension is tried with: a condition is taken as decided when it comes out alike for all. They
/// are of no particular form, so a comparison with a particular size counts as unequal.
const SAMPLES: [i64; 4] = [3, 7, 61, 1009];

/// How two numbers compare.
pub fn compare(a: &Num, b: &Num) -> Option<Ordering> {
    if let (Num::Int(x), Num::Int(y)) = (a, b) {
        return compare_sizes(x, y);
    }
    if let (Num::Int(SymInt::Symbolic(_)), _) | (_, Num::Int(SymInt::Symbolic(_))) = (a, b) {
        return None;
    }
    a.as_f64()?.partial_cmp(&b.as_f64()?)
}

fn compare_sizes(x: &SymInt, y: &SymInt) -> Option<Ordering> {
    if x == y {
        return Some(Ordering::Equal);
    }
    if let (Some(x), Some(y)) = (x.known(), y.known()) {
        return Some(x.cmp(&y));
    }
    let difference = x.minus(y);
    let mut found = None;
    for sample in SAMPLES {
        let now = sampled(&difference, sample, 0)?.cmp(&0);
        if found.is_some_and(|before| before != now) {
            return None;
        }
        found = Some(now);
    }
    found
}

/// The expression's value with every dimension near that size; each gets another one, so that two are not equal by
/// chance.
fn sampled(v: &SymInt, sample: i64, depth: usize) -> Option<i64> {
    if depth > 20 {
        return None;
    }
    let mut sum = 0i64;
    for (atoms, factor) in v.terms() {
        let mut product = factor;
        for atom in &atoms {
            let pair = |a: &SymInt, b: &SymInt| Some((sampled(a, sample, depth + 1)?, sampled(b, sample, depth + 1)?));
            let value = match atom {
                Atom::Symbol(name) => sample + name.bytes().fold(0, |h, b| (h * 31 + i64::from(b)) % 13),
                Atom::Value(_) | Atom::TooLarge(_) => return None,
                Atom::FloorDiv(a, b) => pair(a, b).and_then(|(a, b)| a.checked_div_euclid(b))?,
                Atom::Mod(a, b) => pair(a, b).and_then(|(a, b)| a.checked_rem_euclid(b))?,
                Atom::Max(a, b) => pair(a, b).map(|(a, b)| a.max(b))?,
                Atom::Min(a, b) => pair(a, b).map(|(a, b)| a.min(b))?,
            };
            product = product.checked_mul(value)?;
        }
        sum = sum.checked_add(product)?;
    }
    Some(sum)
}

/// The operator of two numbers; the outer `None` when there is no such operator, the inner when it has no known result.
pub fn binary(name: &str, a: &Num, b: &Num) -> Option<Option<Val>> {
    let compared = |f: fn(Ordering) -> bool| Some(compare(a, b).map(|o| Val::Bool(f(o))));
    match name {
        "eq" => return compared(Ordering::is_eq),
        "ne" => return compared(Ordering::is_ne),
        "lt" => return compared(Ordering::is_lt),
        "le" => return compared(Ordering::is_le),
        "gt" => return compared(Ordering::is_gt),
        "ge" => return compared(Ordering::is_ge),
        _ => {}
    }
    let whole = |n: &Num| match n {
        Num::Int(v) => Some(v.clone()),
        Num::Bool(b) => Some(SymInt::Known(i64::from(*b))),
        Num::Float(_) => None,
    };
    if let (Some(x), Some(y)) = (whole(a), whole(b))
        && let Some(v) = integers(name, &x, &y)
    {
        return Some(v);
    }
    let (x, y) = (a.as_f64(), b.as_f64());
    let float = |f: fn(f64, f64) -> f64| Some(x.zip(y).map(|(x, y)| Val::Float(f(x, y))));
    match name {
        "add" => float(|x, y| x + y),
        "sub" => float(|x, y| x - y),
        "mul" => float(|x, y| x * y),
        "div" | "truediv" => float(|x, y| x / y),
        "floordiv" | "floor_divide" => float(|x, y| (x / y).floor()),
        "remainder" => float(|x, y| x - y * (x / y).floor()),
        "fmod" => float(|x, y| x % y),
        "pow" => float(f64::powf),
        "max" => float(f64::max),
        "min" => float(f64::min),
        "atan2" => float(f64::atan2),
        _ => None,
    }
}

fn integers(name: &str, x: &SymInt, y: &SymInt) -> Option<Option<Val>> {
    let known = x.known().zip(y.known());
    Some(match name {
        "add" => Some(Val::Int(x.plus(y))),
        "sub" => Some(Val::Int(x.minus(y))),
        "mul" => Some(Val::Int(x.times(y))),
        "floordiv" | "floor_divide" => x.floor_div(y).map(Val::Int),
        "remainder" => x.modulo(y).map(Val::Int),
        "max" => Some(Val::Int(x.larger(y))),
        "min" => Some(Val::Int(x.smaller(y))),
        "pow" => match known {
            Some((x, y)) => match u32::try_from(y) {
                Ok(y) => x.checked_pow(y).map(Val::int),
                Err(_) => Some(Val::Float((x as f64).powf(y as f64))),
            },
            None if y.is(2) => Some(Val::Int(x.times(x))),
            None if y.is(1) => Some(Val::Int(x.clone())),
            None => None,
        },
        "__and__" => known.map(|(x, y)| Val::int(x & y)),
        "__or__" => known.map(|(x, y)| Val::int(x | y)),
        "__xor__" => known.map(|(x, y)| Val::int(x ^ y)),
        "__lshift__" => known.and_then(|(x, y)| x.checked_shl(u32::try_from(y).ok()?)).map(Val::int),
        "__rshift__" => known.and_then(|(x, y)| x.checked_shr(u32::try_from(y).ok()?)).map(Val::int),
        "gcd" => known.map(|(x, y)| Val::int(gcd(x.unsigned_abs(), y.unsigned_abs()))),
        _ => return None,
    })
}

fn gcd(mut a: u64, mut b: u64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i64::try_from(a).unwrap_or(i64::MAX)
}

/// The operator of one number, as [`binary`].
pub fn unary(name: &str, a: &Num) -> Option<Option<Val>> {
    let float = |f: fn(f64) -> f64| Some(a.as_f64().map(|x| Val::Float(f(x))));
    let rounded = |f: fn(f64) -> f64| {
        Some(match a {
            Num::Int(v) => Some(Val::Int(v.clone())),
            _ => a.as_f64().map(f).filter(|x| x.abs() < 9e15).map(|x| Val::int(x as i64)),
        })
    };
    match name {
        "neg" => match a {
            Num::Int(v) => Some(Some(Val::Int(SymInt::Known(0).minus(v)))),
            _ => float(|x| -x),
        },
        "abs" | "fabs" => match a {
            Num::Int(v) => Some(match v.known() {
                Some(v) => Some(Val::int(v.saturating_abs())),
                None => Some(Val::Int(v.clone())),
            }),
            _ => float(f64::abs),
        },
        "floor" => rounded(f64::floor),
        "ceil" => rounded(f64::ceil),
        "round" => match a {
            Num::Int(v) => Some(Some(Val::Int(v.clone()))),
            _ => float(f64::round_ties_even),
        },
        "trunc" => rounded(f64::trunc),
        "sqrt" => float(f64::sqrt),
        "exp" => float(f64::exp),
        "log" => float(f64::ln),
        "log2" => float(f64::log2),
        "log10" => float(f64::log10),
        "log1p" => float(f64::ln_1p),
        "expm1" => float(f64::exp_m1),
        "sin" => float(f64::sin),
        "cos" => float(f64::cos),
        "tan" => float(f64::tan),
        "tanh" => float(f64::tanh),
        "atan" => float(f64::atan),
        "degrees" => float(f64::to_degrees),
        "radians" => float(f64::to_radians),
        "isnan" => Some(a.as_f64().map(|x| Val::Bool(x.is_nan()))),
        "isinf" => Some(a.as_f64().map(|x| Val::Bool(x.is_infinite()))),
        "isfinite" => Some(a.as_f64().map(|x| Val::Bool(x.is_finite()))),
        _ => None,
    }
}
