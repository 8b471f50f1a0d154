//! Sizes that may depend on named dimensions: polynomials over symbols, kept in one normal form so that equal sizes
//! compare equal.

use crate::model::Name;
use crate::sort::sort_by;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An integer that is known, or an expression over the model's symbolic dimensions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SymInt {
    /// A number.
    Known(i64),
    /// An expression that is not a number.
    Symbolic(Rc<Poly>),
}

/// What a polynomial is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Atom {
    /// A named dimension of an input.
    Symbol(Name),
    /// An int64 value of the graph with one element, known only when the model runs.
    Value(Name),
    /// Division rounded down.
    FloorDiv(SymInt, SymInt),
    /// The rest of that division.
    Mod(SymInt, SymInt),
    /// The larger one.
    Max(SymInt, SymInt),
    /// The smaller one.
    Min(SymInt, SymInt),
    /// In place of an expression that grew too large to be kept; each is equal to itself alone.
    TooLarge(u64),
}

/// Symbols, numbers and operators of one expression, counted as a tree.
const MAX_WEIGHT: usize = 4096;

static TOO_LARGE: AtomicU64 = AtomicU64::new(0);

/// A sum of products of atoms with their factors; the empty product is the constant term.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Poly {
    terms: BTreeMap<Vec<Atom>, i64>,
    weight: usize,
}

impl Poly {
    fn of(terms: BTreeMap<Vec<Atom>, i64>) -> SymInt {
        let weight = terms.keys().map(|atoms| 1 + atoms.iter().map(Atom::weight).sum::<usize>()).sum();
        if weight > MAX_WEIGHT {
            return SymInt::too_large();
        }
        SymInt::Symbolic(Rc::new(Poly { terms, weight }))
    }
}

impl Atom {
    fn weight(&self) -> usize {
        match self {
            Atom::Symbol(_) | Atom::Value(_) | Atom::TooLarge(_) => 1,
            Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Max(a, b) | Atom::Min(a, b) => a.weight() + b.weight(),
        }
    }
}

impl From<i64> for SymInt {
    fn from(v: i64) -> Self {
        SymInt::Known(v)
    }
}

impl SymInt {
    /// A named dimension.
    pub fn symbol(name: impl Into<Name>) -> Self {
        SymInt::atom(Atom::Symbol(name.into()))
    }

    /// One atom.
    pub fn atom(atom: Atom) -> Self {
        Poly::of(BTreeMap::from([(vec![atom], 1)]))
    }

    fn too_large() -> Self {
        let atom = Atom::TooLarge(TOO_LARGE.fetch_add(1, Ordering::Relaxed));
        SymInt::Symbolic(Rc::new(Poly { terms: BTreeMap::from([(vec![atom], 1)]), weight: 1 }))
    }

    fn weight(&self) -> usize {
        match self {
            SymInt::Known(_) => 1,
            SymInt::Symbolic(p) => p.weight,
        }
    }

    /// The number, if it is known.
    pub fn known(&self) -> Option<i64> {
        match self {
            SymInt::Known(v) => Some(*v),
            SymInt::Symbolic(_) => None,
        }
    }

    /// True for that number.
    pub fn is(&self, v: i64) -> bool {
        self.known() == Some(v)
    }

    /// The terms: products of atoms and their factors.
    pub fn terms(&self) -> Vec<(Vec<Atom>, i64)> {
        match self {
            SymInt::Known(0) => Vec::new(),
            SymInt::Known(v) => vec![(Vec::new(), *v)],
            SymInt::Symbolic(p) => p.terms.iter().map(|(a, c)| (a.clone(), *c)).collect(),
        }
    }

    /// The expression with those terms.
    pub fn from_terms(terms: impl IntoIterator<Item = (Vec<Atom>, i64)>) -> Self {
        let mut map: BTreeMap<Vec<Atom>, i64> = BTreeMap::new();
        for (mut atoms, factor) in terms {
            sort_by(&mut atoms, Atom::cmp);
            let sum = map.entry(atoms).or_insert(0);
            *sum = sum.saturating_add(factor);
        }
        map.retain(|_, f| *f != 0);
        match map.len() {
            0 => SymInt::Known(0),
            1 if map.contains_key(&Vec::new()) => SymInt::Known(map.values().sum()),
            _ => Poly::of(map),
        }
    }

    /// The sum.
    pub fn plus(&self, other: &SymInt) -> SymInt {
        match (self, other) {
            (SymInt::Known(a), SymInt::Known(b)) => SymInt::Known(a.saturating_add(*b)),
            _ => SymInt::from_terms(self.terms().into_iter().chain(other.terms())),
        }
    }

    /// The difference.
    pub fn minus(&self, other: &SymInt) -> SymInt {
        self.plus(&other.times(&SymInt::Known(-1)))
    }

    /// The product.
    pub fn times(&self, other: &SymInt) -> SymInt {
        if let (SymInt::Known(a), SymInt::Known(b)) = (self, other) {
            return SymInt::Known(a.saturating_mul(*b));
        }
        // A product has each pair of terms; those that would be too many are not made.
        if self.weight().saturating_mul(other.weight()) > 16 * MAX_WEIGHT {
            return SymInt::too_large();
        }
        let mut terms = Vec::new();
        for (a, x) in self.terms() {
            for (b, y) in other.terms() {
                terms.push((a.iter().chain(&b).cloned().collect(), x.saturating_mul(y)));
            }
        }
        SymInt::from_terms(terms)
    }

    /// The quotient, where every term divides without rest.
    pub fn exact_div(&self, by: &SymInt) -> Option<SymInt> {
        let divisor = by.terms();
        let [(atoms, factor)] = divisor.as_slice() else {
            return if self == by && !by.is(0) { Some(SymInt::Known(1)) } else { None };
        };
        let mut terms = Vec::new();
        for (mut have, f) in self.terms() {
            if f.checked_rem(*factor)? != 0 {
                return None;
            }
            for a in atoms {
                have.remove(have.iter().position(|h| h == a)?);
            }
            terms.push((have, f / factor));
        }
        Some(SymInt::from_terms(terms))
    }

    /// The quotient rounded down; `None` for a division by zero.
    pub fn floor_div(&self, by: &SymInt) -> Option<SymInt> {
        if by.is(0) {
            return None;
        }
        if let (SymInt::Known(a), SymInt::Known(b)) = (self, by) {
            let q = a.checked_div(*b)?;
            return Some(SymInt::Known(if a % b != 0 && ((*a < 0) != (*b < 0)) { q - 1 } else { q }));
        }
        if let Some(q) = self.exact_div(by) {
            return Some(q);
        }
        if let SymInt::Known(b) = by {
            // floor((b*q + r) / b) = q + floor(r / b)
            let (mut whole, mut rest) = (Vec::new(), Vec::new());
            for (atoms, f) in self.terms() {
                let q = f.div_euclid(*b);
                whole.push((atoms.clone(), q));
                rest.push((atoms, f - q * b));
            }
            let (whole, rest) = (SymInt::from_terms(whole), SymInt::from_terms(rest));
            let part = match &rest {
                SymInt::Known(r) => SymInt::Known(*r).floor_div(by)?,
                _ => SymInt::atom(Atom::FloorDiv(rest, by.clone())),
            };
            return Some(whole.plus(&part));
        }
        Some(SymInt::atom(Atom::FloorDiv(self.clone(), by.clone())))
    }

    /// The rest of the division rounded down (Python's `%`).
    pub fn modulo(&self, by: &SymInt) -> Option<SymInt> {
        if let (SymInt::Known(a), SymInt::Known(b)) = (self, by) {
            let r = a.checked_rem(*b)?;
            return Some(SymInt::Known(if r != 0 && ((r < 0) != (*b < 0)) { r + b } else { r }));
        }
        if self.exact_div(by).is_some() {
            return Some(SymInt::Known(0));
        }
        Some(SymInt::atom(Atom::Mod(self.clone(), by.clone())))
    }

    /// True where this is never less than `other`, dimensions being 1 or more.
    fn is_at_least(&self, other: &SymInt) -> bool {
        let mut least = 0i64;
        for (atoms, factor) in self.minus(other).terms() {
            if !atoms.is_empty() && (factor < 0 || !atoms.iter().all(|a| matches!(a, Atom::Symbol(_)))) {
                return false;
            }
            least = least.saturating_add(factor);
        }
        least >= 0
    }

    /// The larger of the two.
    pub fn larger(&self, other: &SymInt) -> SymInt {
        match (self, other) {
            (SymInt::Known(a), SymInt::Known(b)) => SymInt::Known(*a.max(b)),
            _ if self.is_at_least(other) => self.clone(),
            _ if other.is_at_least(self) => other.clone(),
            _ => SymInt::atom(Atom::Max(self.clone(), other.clone())),
        }
    }

    /// The smaller of the two.
    pub fn smaller(&self, other: &SymInt) -> SymInt {
        match (self, other) {
            (SymInt::Known(a), SymInt::Known(b)) => SymInt::Known(*a.min(b)),
            _ if self.is_at_least(other) => other.clone(),
            _ if other.is_at_least(self) => self.clone(),
            _ => SymInt::atom(Atom::Min(self.clone(), other.clone())),
        }
    }

    /// Symbol, factor and offset of `factor * symbol + offset`.
    pub fn linear(&self) -> Option<(Name, i64, i64)> {
        let (mut found, mut offset) = (None, 0);
        for (atoms, factor) in self.terms() {
            match atoms.as_slice() {
                [] => offset = factor,
                [Atom::Symbol(name)] if found.is_none() => found = Some((name.clone(), factor)),
                _ => return None,
            }
        }
        found.map(|(name, factor)| (name, factor, offset))
    }

    /// True if the expression uses a value that only the running model knows.
    pub fn uses_values(&self) -> bool {
        self.terms().iter().any(|(atoms, _)| {
            atoms.iter().any(|a| match a {
                Atom::Symbol(_) => false,
                Atom::Value(_) | Atom::TooLarge(_) => true,
                Atom::FloorDiv(x, y) | Atom::Mod(x, y) | Atom::Max(x, y) | Atom::Min(x, y) => {
                    x.uses_values() || y.uses_values()
                }
            })
        })
    }
}

/// The product of sizes.
pub fn product<'a>(sizes: impl IntoIterator<Item = &'a SymInt>) -> SymInt {
    sizes.into_iter().fold(SymInt::Known(1), |n, s| n.times(s))
}

impl fmt::Display for SymInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let SymInt::Known(v) = self {
            return write!(f, "{v}");
        }
        for (i, (atoms, factor)) in self.terms().into_iter().rev().enumerate() {
            let sign = if factor < 0 {
                "-"
            } else if i > 0 {
                "+"
            } else {
                ""
            };
            f.write_str(sign)?;
            if factor.unsigned_abs() != 1 || atoms.is_empty() {
                write!(f, "{}{}", factor.unsigned_abs(), if atoms.is_empty() { "" } else { "*" })?;
            }
            for (j, a) in atoms.iter().enumerate() {
                if j > 0 {
                    f.write_str("*")?;
                }
                write!(f, "{a}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(n) | Atom::Value(n) => f.write_str(n),
            Atom::TooLarge(n) => write!(f, "(an expression that is too large, {n})"),
            Atom::FloorDiv(a, b) => write!(f, "(({a})//({b}))"),
            Atom::Mod(a, b) => write!(f, "(({a})%({b}))"),
            Atom::Max(a, b) => write!(f, "max({a},{b})"),
            Atom::Min(a, b) => write!(f, "min({a},{b})"),
        }
    }
}
