//! Types as the source writes them, where values depend on them.

use super::ast::Expr;
use super::value::Val;

/// The head of a type and its parameters: `List[int]` is `("List", [int])`.
pub fn head(ty: &Expr) -> (String, &[Expr]) {
    match ty {
        Expr::Subscript(of, items) => (of.dotted().unwrap_or_default(), items),
        Expr::None => ("NoneType".into(), &[]),
        _ => (ty.dotted().unwrap_or_default(), &[]),
    }
}

/// Python's isinstance; containers are told apart by their first item.
pub fn is_instance(val: &Val, ty: &Expr) -> bool {
    if let Expr::List(any) | Expr::Tuple(any) = ty {
        return any.iter().any(|ty| is_instance(val, ty));
    }
    let (name, inner) = head(ty);
    match (name.as_str(), val) {
        ("Any" | "t", _) => true,
        ("Optional", Val::None) => true,
        ("Optional", _) | ("Final", _) => inner.first().is_some_and(|ty| is_instance(val, ty)),
        ("Union", _) => inner.iter().any(|ty| is_instance(val, ty)),
        ("NoneType" | "None", Val::None) => true,
        ("Tensor", Val::Tensor(_)) => true,
        ("int", Val::Int(_)) | ("float", Val::Float(_)) | ("bool", Val::Bool(_)) | ("str", Val::Str(_)) => true,
        ("number", Val::Int(_) | Val::Float(_)) | ("Device" | "device", Val::Device(_)) => true,
        ("List" | "list", Val::List(items)) => {
            let items = items.borrow();
            match (items.first(), inner.first()) {
                (Some(item), Some(ty)) => is_instance(item, ty),
                _ => true,
            }
        }
        ("Tuple" | "tuple", Val::Tuple(items, _)) => {
            inner.is_empty() || inner.len() == items.len() && items.iter().zip(inner).all(|(v, ty)| is_instance(v, ty))
        }
        ("Dict" | "dict", Val::Dict(items)) => match (items.borrow().first(), inner) {
            (Some((k, v)), [key, value]) => is_instance(k, key) && is_instance(v, value),
            _ => true,
        },
        (name, Val::Object(object)) => *object.class == *name,
        (name, Val::Tuple(_, Some(class))) => name.rsplit('.').next() == Some(&*class.name),
        (name, Val::Enum(class, ..)) => **class == *name,
        _ => false,
    }
}
