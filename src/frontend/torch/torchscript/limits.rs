//! What keeps a program that is made to do harm within bounds: steps stand for time and for memory alike, and containers
//! cannot hold themselves or be nested without end (walks over them, and their release, are recursive).

use super::eval::Evaluator;
use super::value::Val;
use crate::{Result, bail};
use std::rc::Rc;

/// Expressions evaluated in all, or values moved; unrolled loops of real models take some hundred thousand.
const MAX_STEPS: u64 = 20_000_000;
/// Containers put into containers.
const MAX_NESTED: usize = 100_000;
/// Values looked at in one walk over a container.
const MAX_WALK: usize = 1 << 20;
/// Nesting of one container that is given to an operator.
const MAX_DEPTH: usize = 200;

/// A walk over the values inside a value.
pub struct Walk {
    left: usize,
    depth: usize,
}

impl Walk {
    pub fn new() -> Walk {
        Walk { left: MAX_WALK, depth: MAX_DEPTH }
    }

    /// One value more, a level deeper; false when the walk must end.
    pub fn enter(&mut self) -> bool {
        if self.left == 0 || self.depth == 0 {
            return false;
        }
        self.left -= 1;
        self.depth -= 1;
        true
    }

    /// Back from that level.
    pub fn leave(&mut self) {
        self.depth += 1;
    }

    /// How many values were looked at.
    pub fn seen(&self) -> usize {
        MAX_WALK - self.left
    }
}

impl Evaluator {
    /// Counts steps; an error when there were too many.
    pub fn charge(&mut self, steps: usize) -> Result<()> {
        self.steps = self.steps.saturating_add(steps as u64);
        if self.steps > MAX_STEPS {
            bail!(InvalidModel, "the program takes more than {MAX_STEPS} steps: an endless loop?");
        }
        Ok(())
    }

    /// Counts the text made.
    pub fn charge_text(&mut self, val: Val) -> Result<Val> {
        match &val {
            Val::Str(s) => self.charge(s.len() / 32)?,
            Val::List(_) | Val::Tuple(..) => self.charge(val.len())?,
            _ => {}
        }
        Ok(val)
    }

    /// Checks a value that is to be put into a container, which is `into` if it exists already.
    pub fn nest(&mut self, item: &Val, into: Option<&Val>) -> Result<()> {
        if !item.is_container() {
            return Ok(());
        }
        self.nested += 1;
        if self.nested > MAX_NESTED {
            bail!(InvalidModel, "the program puts more than {MAX_NESTED} containers into others");
        }
        let Some(into) = into else { return Ok(()) };
        let mut walk = Walk::new();
        let holds = holds(item, into, &mut walk);
        self.charge(walk.seen() / 4)?;
        if holds {
            bail!(InvalidModel, "a container at {} would hold itself, or is nested too deep", self.at.source);
        }
        Ok(())
    }
}

/// Whether a container is inside a value, or the value is too large to tell.
fn holds(val: &Val, target: &Val, walk: &mut Walk) -> bool {
    if !walk.enter() {
        return true;
    }
    let found = match (val, target) {
        (Val::List(a), Val::List(b)) if Rc::ptr_eq(a, b) => true,
        (Val::Dict(a), Val::Dict(b)) if Rc::ptr_eq(a, b) => true,
        (Val::List(items), _) => items.borrow().iter().any(|v| v.is_container() && holds(v, target, walk)),
        (Val::Tuple(items, _), _) => items.iter().any(|v| v.is_container() && holds(v, target, walk)),
        (Val::Dict(items), _) => items.borrow().iter().any(|(k, v)| holds(k, target, walk) || holds(v, target, walk)),
        _ => false,
    };
    walk.leave();
    found
}
