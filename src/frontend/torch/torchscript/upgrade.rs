//! Operators whose meaning changed: calls of old archives are made to say what they meant then.

use super::value::Val;
use std::rc::Rc;

/// Changes the arguments of a call by the archive's version, as torch's own upgraders do.
pub fn adapt(version: i64, op: &str, given: &mut Vec<Val>, named: &mut Vec<(Rc<str>, Val)>) {
    let has = |named: &[(Rc<str>, Val)], name: &str| named.iter().any(|(n, v)| &**n == name && !matches!(v, Val::None));
    match op {
        // Integers were divided like integers.
        "aten::div" | "aten::div_" if version < 4 && !has(named, "rounding_mode") => {
            let whole = |v: &Val| match v {
                Val::Tensor(t) => !t.dtype().is_float(),
                Val::Int(_) | Val::Bool(_) => true,
                _ => false,
            };
            if given.len() == 2 && given.iter().all(whole) {
                named.push(("rounding_mode".into(), Val::str("trunc")));
            }
        }
        // Whatever the value, the result was a float tensor.
        "aten::full" if version < 5 && !has(named, "dtype") => {
            if let Some(value) = given.get_mut(1)
                && let Some(v) = value.number().and_then(|n| n.as_f64())
            {
                *value = Val::Float(v);
            }
        }
        "aten::linspace" if version < 8 => steps(given, named),
        "aten::logspace" if version < 9 => steps(given, named),
        _ => {}
    }
}

/// The number of steps could be left out.
fn steps(given: &mut Vec<Val>, named: &mut [(Rc<str>, Val)]) {
    if let Some((_, steps)) = named.iter_mut().find(|(n, _)| &**n == "steps") {
        if matches!(steps, Val::None) {
            *steps = Val::int(100);
        }
        return;
    }
    match given.get_mut(2) {
        Some(steps @ Val::None) => *steps = Val::int(100),
        Some(_) => {}
        None => given.push(Val::int(100)),
    }
}
