//! What types every operator of every version takes and gives: ONNX's own schemas, from a generated table.
//!
//! `table.txt` is written by `tools/gen_schemas.py`. A line `=HEX` is a set of types; `@DOMAIN` starts a domain; every other
//! line is one operator version: `Name|since|flags|inputs|outputs|variables`. A parameter is `name:` followed by `v` and the
//! number of a type variable, or `s` and the number of a set, then `?` for optional, `*N` for variadic of one type, `+N` for
//! variadic of any types, N being the least number. A variable is `name:SET`. Flags: `d` deprecated, `f` has a function body.

mod set;

pub use set::TypeSet;

use super::graph::norm_domain;
use crate::hash::HashMap;
use std::sync::OnceLock;

/// One version of an operator.
#[derive(Debug)]
pub struct Schema {
    /// Domain; "" is ai.onnx.
    pub domain: &'static str,
    /// Operator type.
    pub name: &'static str,
    /// The opset version that brought this version of the operator.
    pub since_version: i64,
    /// The operator is withdrawn from this version on.
    pub deprecated: bool,
    /// ONNX defines it through other operators.
    pub has_function: bool,
    /// Inputs; the last may stand for several.
    pub inputs: Vec<Param>,
    /// Outputs; the last may stand for several.
    pub outputs: Vec<Param>,
    /// Type variables.
    pub type_vars: Vec<TypeVar>,
}

/// An input or output.
#[derive(Debug)]
pub struct Param {
    /// Its name in the schema.
    pub name: &'static str,
    /// What types it takes.
    pub ty: ParamType,
    /// How often it stands.
    pub option: ParamOption,
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamType {
    /// The type variable of that index: all parameters of one variable have one type.
    Var(usize),
    /// One of these types.
    Fixed(TypeSet),
}

/// How often a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamOption {
    /// Once.
    Single,
    /// Once or not.
    Optional,
    /// Any number of times from `min` on.
    Variadic {
        /// All have one type.
        homogeneous: bool,
        /// The least number.
        min: usize,
    },
}

/// A type variable.
#[derive(Debug)]
pub struct TypeVar {
    /// Its name ("T").
    pub name: &'static str,
    /// What it may stand for.
    pub allowed: TypeSet,
}

impl Schema {
    /// The parameter that input `i` belongs to.
    pub fn input(&self, i: usize) -> Option<&Param> {
        nth(&self.inputs, i)
    }

    /// The parameter that output `i` belongs to.
    pub fn output(&self, i: usize) -> Option<&Param> {
        nth(&self.outputs, i)
    }

    /// The types a parameter takes.
    pub fn allowed(&self, param: &Param) -> TypeSet {
        match param.ty {
            ParamType::Var(v) => self.type_vars[v].allowed,
            ParamType::Fixed(set) => set,
        }
    }
}

fn nth(params: &[Param], i: usize) -> Option<&Param> {
    params.get(i).or_else(|| params.last().filter(|p| matches!(p.option, ParamOption::Variadic { .. })))
}

/// The version of an operator that a model of that opset means; `None` for unknown and withdrawn operators.
pub fn lookup(domain: &str, op_type: &str, opset: i64) -> Option<&'static Schema> {
    find(domain, op_type, opset).filter(|s| !s.deprecated)
}

/// The same, but withdrawn operators are found too.
pub fn find(domain: &str, op_type: &str, opset: i64) -> Option<&'static Schema> {
    let versions = table().get(norm_domain(domain))?.get(op_type)?;
    versions.iter().rev().find(|s| s.since_version <= opset)
}

/// True if some version of the operator exists in the domain.
pub fn is_known(domain: &str, op_type: &str) -> bool {
    table().get(norm_domain(domain)).is_some_and(|ops| ops.contains_key(op_type))
}

/// The operators of a domain.
#[cfg(test)]
pub(crate) fn names(domain: &str) -> impl Iterator<Item = &'static str> {
    table().get(norm_domain(domain)).into_iter().flat_map(|ops| ops.keys().copied())
}

type Table = HashMap<&'static str, HashMap<&'static str, Vec<Schema>>>;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| parse(include_str!("table.txt")))
}

/// Reads the table. It is part of the program: whatever is wrong with it is a bug that the first test finds.
fn parse(text: &'static str) -> Table {
    let mut sets = Vec::new();
    let mut table = Table::default();
    let mut domain = "";
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        if let Some(hex) = line.strip_prefix('=') {
            sets.push(TypeSet::from_bits(u128::from_str_radix(hex, 16).expect("a set is a hexadecimal number")));
        } else if let Some(name) = line.strip_prefix('@') {
            domain = name;
        } else {
            let schema = parse_schema(domain, line, &sets);
            table.entry(domain).or_default().entry(schema.name).or_default().push(schema);
        }
    }
    table
}

fn parse_schema(domain: &'static str, line: &'static str, sets: &[TypeSet]) -> Schema {
    let mut fields = line.split('|');
    let mut field = || fields.next().expect("an operator line has six fields");
    let (name, since, flags) = (field(), field(), field());
    let (inputs, outputs) = (params(field(), sets), params(field(), sets));
    let type_vars = list(field())
        .map(|part| {
            let (name, set) = part.rsplit_once(':').expect("a variable is name:set");
            TypeVar { name, allowed: sets[index(set)] }
        })
        .collect();
    Schema {
        domain,
        name,
        since_version: index(since) as i64,
        deprecated: flags.contains('d'),
        has_function: flags.contains('f'),
        inputs,
        outputs,
        type_vars,
    }
}

fn list(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split(',').filter(|part| !part.is_empty())
}

fn params(text: &'static str, sets: &[TypeSet]) -> Vec<Param> {
    list(text)
        .map(|part| {
            let (name, rest) = part.rsplit_once(':').expect("a parameter is name:type");
            let digits = rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |at| at + 1);
            let number = index(&rest[1..digits]);
            let ty = if rest.starts_with('v') { ParamType::Var(number) } else { ParamType::Fixed(sets[number]) };
            let option = match rest.as_bytes().get(digits) {
                None => ParamOption::Single,
                Some(b'?') => ParamOption::Optional,
                Some(c) => ParamOption::Variadic { homogeneous: *c == b'*', min: index(&rest[digits + 1..]) },
            };
            Param { name, ty, option }
        })
        .collect()
}

fn index(text: &str) -> usize {
    text.parse().expect("the table's numbers are decimal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DataType;

    #[test]
    fn every_line_is_read_and_versions_ascend() {
        let table = table();
        let versions = || table.values().flat_map(|ops| ops.values());
        assert!(versions().map(Vec::len).sum::<usize>() > 500);
        for v in versions() {
            assert!(v.is_sorted_by(|a, b| a.since_version < b.since_version), "{}", v[0].name);
        }
    }

    #[test]
    fn what_everybody_knows() {
        let conv = lookup("", "Conv", 17).unwrap();
        assert_eq!((conv.since_version, conv.inputs.len(), conv.inputs[2].option), (11, 3, ParamOption::Optional));
        assert!(conv.allowed(&conv.inputs[0]).has_tensor(DataType::Float16));
        assert!(!conv.allowed(&conv.inputs[0]).has_tensor(DataType::Bfloat16));
        let conv22 = lookup("ai.onnx", "Conv", 22).unwrap();
        assert!(conv22.allowed(&conv22.inputs[0]).has_tensor(DataType::Bfloat16));
        let resize = lookup("", "Resize", 13).unwrap();
        assert!(!resize.allowed(&resize.inputs[2]).has_tensor(DataType::Float16), "scales are FP32");
        let max = lookup("", "Max", 7).unwrap();
        assert!(matches!(max.input(5).unwrap().option, ParamOption::Variadic { homogeneous: true, min: 1 }));
        assert!(lookup("", "Upsample", 10).is_none() && find("", "Upsample", 10).unwrap().deprecated);
        assert!(lookup("", "Upsample", 9).is_some());
        assert!(lookup("", "Gelu", 19).is_none() && lookup("", "Gelu", 20).unwrap().has_function);
        assert!(lookup("com.example", "Conv", 17).is_none());
    }
}
