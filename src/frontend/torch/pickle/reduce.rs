//! The names that a pickle may use, and the data that each stands for. Nothing else is allowed, and nothing is called.

use super::machine::Machine;
use super::{Id, Object};
use crate::model::DataType;
use crate::{Result, bail, err};
use std::rc::Rc;

/// Dimensions of a tensor; many tensors may share one long tuple, but each has sizes of its own.
const MAX_RANK: usize = 64;

const REBUILD: &str = "torch._utils._rebuild_tensor_v2";
const PARAMETER: &str = "torch._utils._rebuild_parameter";
const ORDERED: &str = "collections.OrderedDict";
const TAG: &str = "torch.jit._pickle.restore_type_tag";
const DEVICE: &str = "torch.device";
const COMPLEX: &str = "builtins.complex";
const LISTS: [&str; 4] = [
    "torch.jit._pickle.build_intlist",
    "torch.jit._pickle.build_tensorlist",
    "torch.jit._pickle.build_doublelist",
    "torch.jit._pickle.build_boollist",
];

/// The element type of a storage class.
fn storage_type(class: &str) -> Option<DataType> {
    use DataType::*;
    Some(match class.strip_prefix("torch.")?.strip_suffix("Storage")? {
        "Double" => Float64,
        "Float" => Float32,
        "Half" => Float16,
        "BFloat16" => Bfloat16,
        "Long" => Int64,
        "Int" => Int32,
        "Short" => Int16,
        "Char" => Int8,
        "Byte" => Uint8,
        "Bool" => Bool,
        "ComplexFloat" => Complex64,
        "ComplexDouble" => Complex128,
        _ => return None,
    })
}

/// Whether a name may occur at all.
pub(super) fn check_global(name: &str) -> Result<()> {
    let known = name.starts_with("__torch__.")
        || [REBUILD, PARAMETER, ORDERED, TAG, DEVICE, COMPLEX].contains(&name)
        || LISTS.contains(&name)
        || storage_type(name).is_some();
    if known {
        return Ok(());
    }
    let shown: String = name.chars().take(200).collect();
    bail!(Unsupported, "it names '{shown}', which would have to be executed; that is never done");
}

fn tuple<'m>(machine: &'m Machine<'_>, id: Id, of: &str) -> Result<&'m [Id]> {
    match machine.get(id) {
        Object::Tuple(items) => Ok(items),
        _ => bail!(InvalidFile, "the arguments of {of} are no tuple: the pickle is damaged"),
    }
}

fn int(machine: &Machine<'_>, id: Option<&Id>) -> Option<i64> {
    match machine.get(*id?) {
        Object::Int(v) => Some(*v),
        _ => None,
    }
}

fn ints(machine: &Machine<'_>, id: Option<&Id>) -> Option<Vec<i64>> {
    match machine.get(*id?) {
        Object::Tuple(items) | Object::List(items) => items.iter().map(|i| int(machine, Some(i))).collect(),
        _ => None,
    }
}

/// REDUCE: what calling the function would have given.
pub(super) fn call(machine: &mut Machine<'_>, function: Id, arguments: Id) -> Result<Id> {
    let Object::Global(name) = machine.get(function) else {
        bail!(InvalidFile, "it calls what is no function: the pickle is damaged");
    };
    let name = name.clone();
    if name.starts_with("__torch__.") {
        // An enumeration's member, named by a bare string or value; or a class made by a call.
        return match machine.get(arguments) {
            Object::Tuple(_) => machine.make(Object::Record { class: name, state: None }),
            _ => machine.make(Object::Enum { class: name, member: arguments }),
        };
    }
    let wrong = || err!(InvalidFile, "the arguments of {name} are not those that torch writes: the pickle is damaged");
    let given = tuple(machine, arguments, &name)?;
    match &*name {
        REBUILD => {
            let storage = *given.first().ok_or_else(wrong)?;
            let offset = int(machine, given.get(1)).ok_or_else(wrong)?;
            let rank = |id: Option<&Id>| id.map_or(0, |id| machine.get(*id).len());
            if rank(given.get(2)) > MAX_RANK || rank(given.get(3)) > MAX_RANK {
                bail!(InvalidFile, "it has a tensor of more than {MAX_RANK} dimensions");
            }
            let sizes = ints(machine, given.get(2)).ok_or_else(wrong)?;
            let strides = ints(machine, given.get(3)).ok_or_else(wrong)?;
            if !matches!(machine.get(storage), Object::Storage { .. }) || sizes.len() != strides.len() {
                return Err(wrong());
            }
            machine.make(Object::Tensor { storage, offset, sizes, strides })
        }
        ORDERED => match given {
            [] => machine.make(Object::Dict(Vec::new())),
            _ => Err(wrong()),
        },
        COMPLEX => match given {
            [re, im] => match (machine.get(*re), machine.get(*im)) {
                (Object::Float(re), Object::Float(im)) => {
                    let (re, im) = (*re, *im);
                    machine.make(Object::Complex(re, im))
                }
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        },
        // Lists, tagged objects, parameters and devices are their first argument.
        PARAMETER | TAG | DEVICE => given.first().copied().ok_or_else(wrong),
        _ if LISTS.contains(&&*name) => match given.first() {
            Some(list) if matches!(machine.get(*list), Object::List(_)) => Ok(*list),
            _ => Err(wrong()),
        },
        _ => bail!(InvalidFile, "it calls '{name}', which is no function: the pickle is damaged"),
    }
}

/// NEWOBJ: an inert record.
pub(super) fn instance(machine: &mut Machine<'_>, class: Id, arguments: Id) -> Result<Id> {
    match (machine.get(class), machine.get(arguments)) {
        (Object::Global(name), Object::Tuple(items)) if name.starts_with("__torch__.") && items.is_empty() => {
            let class = name.clone();
            machine.make(Object::Record { class, state: None })
        }
        (Object::Global(name), _) => bail!(Unsupported, "it makes an instance of '{name}' with arguments"),
        _ => bail!(InvalidFile, "it makes an instance of what is no class: the pickle is damaged"),
    }
}

/// BUILD: a record's state.
pub(super) fn build(machine: &mut Machine<'_>, object: Id, state: Id) -> Result<()> {
    match machine.get_mut(object) {
        Some(Object::Record { state: slot, .. }) => {
            *slot = Some(state);
            Ok(())
        }
        // torch gives state dicts an attribute `_metadata`; it does not matter here.
        Some(Object::Dict(_)) => Ok(()),
        _ => bail!(InvalidFile, "it gives a state to what has none: the pickle is damaged"),
    }
}

/// BINPERSID: a storage, by `('storage', class, key, device, elements)`.
pub(super) fn persistent(machine: &mut Machine<'_>, id: Id) -> Result<Id> {
    let wrong = || err!(InvalidFile, "it refers to a storage in a way that torch does not: the pickle is damaged");
    let [kind, class, key, _device, elements, ..] = tuple(machine, id, "a persistent id")? else { return Err(wrong()) };
    let (Object::Str(kind), Object::Global(class), Object::Str(key), Object::Int(elements)) =
        (machine.get(*kind), machine.get(*class), machine.get(*key), machine.get(*elements))
    else {
        return Err(wrong());
    };
    let dtype = storage_type(class).ok_or_else(wrong)?;
    let elements = u64::try_from(*elements).map_err(|_| wrong())?;
    if &**kind != "storage" || key.contains('/') || key.len() > 200 {
        return Err(wrong());
    }
    let key: Rc<str> = key.clone();
    machine.make(Object::Storage { dtype, key, elements })
}
