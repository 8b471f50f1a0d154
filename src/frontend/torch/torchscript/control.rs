//! Conditions that only the running model knows: both branches are walked into graphs, and what they leave in variables
//! and attributes becomes the outputs of an `If`.

use super::ast::{Expr, Kind, Statement};
use super::eval::{Evaluator, Flow, Frame};
use super::limits::Walk;
use super::value::{Instance, Val};
use crate::frontend::torch::lower::Tensor;
use crate::hash::HashMap;
use crate::model::Graph;
use crate::sort::sort_by;
use crate::{Result, bail};
use std::collections::BTreeSet;
use std::rc::Rc;

type Sets = Vec<(Rc<Instance>, Rc<str>, Val)>;

/// What one branch left.
struct Branch {
    graph: Graph,
    tensors: Vec<Tensor>,
    vars: HashMap<Rc<str>, Val>,
    sets: Sets,
}

impl Evaluator {
    /// An `if` over a tensor.
    pub fn branch(
        &mut self,
        condition: &Tensor,
        yes: &[Statement],
        no: &[Statement],
        frame: &mut Frame,
    ) -> Result<Flow> {
        let mut names = BTreeSet::new();
        assigned(yes, &mut names);
        assigned(no, &mut names);
        let names: Vec<Rc<str>> = names.into_iter().collect();
        // A branch that raises is a check of the inputs; the graph goes the other way.
        let Some(a) = self.one_branch(yes, frame, &names)? else { return self.block(no, frame) };
        let Some(b) = self.one_branch(no, frame, &names)? else { return self.block(yes, frame) };
        // Attributes set on one side only keep on the other what they were.
        let mut objects: Vec<(Rc<Instance>, Rc<str>)> = Vec::new();
        for (object, name, _) in a.sets.iter().chain(&b.sets) {
            if !objects.iter().any(|(o, n)| Rc::ptr_eq(o, object) && n == name) {
                objects.push((object.clone(), name.clone()));
            }
        }
        if objects.iter().any(|(o, n)| last(&a.sets, o, n).is_none() || last(&b.sets, o, n).is_none()) {
            bail!(
                Unsupported,
                "an attribute is set at {} on one side of a condition that depends on tensors; that is not lowered",
                self.at.source
            );
        }
        // The outputs of both sides, in the same order: leaves of variables, then of attributes.
        let pairs: Vec<(Val, Val)> = names
            .iter()
            .map(|n| (value_of(&a.vars, n), value_of(&b.vars, n)))
            .chain(objects.iter().map(|(o, n)| {
                let side = |sets: &Sets| last(sets, o, n).unwrap_or(Val::Unset);
                (side(&a.sets), side(&b.sets))
            }))
            .collect();
        let (mut left, mut right) = (Side::new(a.graph, a.tensors), Side::new(b.graph, b.tensors));
        let mut kept = Vec::new();
        for (x, y) in &pairs {
            let (mut p, mut q) = (Vec::new(), Vec::new());
            leaves(x, &mut p, &mut Walk::new())?;
            leaves(y, &mut q, &mut Walk::new())?;
            let fits = p.len() == q.len() && alike(x, y) && !x.same(y);
            left.take(p.len(), fits);
            right.take(q.len(), fits);
            kept.push(fits);
        }
        let outputs = if left.tensors.is_empty() {
            Vec::new()
        } else {
            self.low.branch(condition, (left.graph, left.tensors), (right.graph, right.tensors))?
        };
        let mut outputs = outputs.into_iter();
        let mut merged = Vec::new();
        for ((x, y), fits) in pairs.iter().zip(kept) {
            merged.push(match (fits, x.same(y)) {
                (true, _) => self.rebuilt(x, &mut outputs)?,
                (false, true) => x.clone(),
                (false, false) => Val::Unset,
            });
        }
        let mut merged = merged.into_iter();
        for name in names {
            frame.vars.insert(name, merged.next().unwrap_or(Val::Unset));
        }
        for (object, name) in objects {
            object.fields.borrow_mut().insert(name, merged.next().unwrap_or(Val::Unset));
        }
        Ok(Flow::Next)
    }

    /// Walks one side into a graph of its own; `None` when it raises.
    fn one_branch(&mut self, body: &[Statement], frame: &Frame, names: &[Rc<str>]) -> Result<Option<Branch>> {
        self.charge(frame.vars.len() / 8)?;
        let mut inner = frame.copy();
        let before = self.sets.len();
        self.open_branches += 1;
        let mut sets = Sets::new();
        let mut low = std::mem::take(&mut self.low);
        let done = low.subgraph("branch", |l| {
            std::mem::swap(l, &mut self.low);
            let done = self.side_outputs(body, &mut inner, names, before, &mut sets);
            std::mem::swap(l, &mut self.low);
            done
        });
        self.low = low;
        self.open_branches -= 1;
        // Attributes are as before for the other side.
        for (object, name, old) in self.sets.drain(before..).rev() {
            match old {
                Some(val) => object.fields.borrow_mut().insert(name, val),
                None => object.fields.borrow_mut().remove(&name),
            };
        }
        match done {
            Ok((graph, tensors)) => Ok(Some(Branch { graph, tensors, vars: inner.vars, sets })),
            Err(_) if self.raised => {
                self.raised = false;
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn side_outputs(
        &mut self,
        body: &[Statement],
        inner: &mut Frame,
        names: &[Rc<str>],
        before: usize,
        sets: &mut Sets,
    ) -> Result<Vec<Tensor>> {
        if let Flow::Return(_) = self.block(body, inner)? {
            bail!(
                Unsupported,
                "a return at {} under a condition that depends on tensors is not lowered",
                self.at.source
            );
        }
        for (object, name, _) in self.sets.get(before..).unwrap_or_default() {
            if !sets.iter().any(|(o, n, _)| Rc::ptr_eq(o, object) && n == name) {
                let now = object.fields.borrow().get(name).cloned().unwrap_or(Val::Unset);
                sets.push((object.clone(), name.clone(), now));
            }
        }
        // Both sides in one order.
        sort_by(sets, |a, b| (&a.0.path, &a.1).cmp(&(&b.0.path, &b.1)));
        let mut out = Vec::new();
        let values = names.iter().map(|n| value_of(&inner.vars, n)).chain(sets.iter().map(|s| s.2.clone()));
        for val in values {
            let mut all = Vec::new();
            leaves(&val, &mut all, &mut Walk::new())?;
            self.charge(all.len())?;
            for leaf in all {
                out.push(match leaf {
                    Val::Tensor(t) => t,
                    other => match other.number() {
                        Some(n) => self.low.number(n),
                        None => bail!(Internal, "a leaf of a branch is no tensor"),
                    },
                });
            }
        }
        Ok(out)
    }

    /// The value with its leaves taken from the outputs of the `If`.
    fn rebuilt(&mut self, like: &Val, outputs: &mut impl Iterator<Item = Tensor>) -> Result<Val> {
        Ok(match like {
            Val::Tensor(_) => outputs.next().map_or(Val::Unset, Val::Tensor),
            Val::Int(_) => match outputs.next() {
                Some(t) => Val::Int(self.low.size_of(&t)?),
                None => Val::Unset,
            },
            Val::Bool(_) | Val::Float(_) => outputs.next().map_or(Val::Unset, Val::Tensor),
            Val::List(items) => {
                let items = items.borrow().clone();
                Val::list(items.iter().map(|v| self.rebuilt(v, outputs)).collect::<Result<_>>()?)
            }
            Val::Tuple(items, class) => {
                let items: Vec<Val> = items.iter().map(|v| self.rebuilt(v, outputs)).collect::<Result<_>>()?;
                Val::Tuple(items.into(), class.clone())
            }
            other => other.clone(),
        })
    }
}

impl Frame {
    fn copy(&self) -> Frame {
        self.with(self.vars.clone())
    }
}

/// A branch's outputs while those that do not fit are dropped.
struct Side {
    graph: Graph,
    tensors: Vec<Tensor>,
    at: usize,
}

impl Side {
    fn new(graph: Graph, tensors: Vec<Tensor>) -> Side {
        Side { graph, tensors, at: 0 }
    }

    /// Keeps or drops the next outputs.
    fn take(&mut self, count: usize, keep: bool) {
        if keep {
            self.at += count;
            return;
        }
        let end = (self.at + count).min(self.tensors.len());
        self.tensors.drain(self.at.min(end)..end);
        let end = (self.at + count).min(self.graph.outputs.len());
        self.graph.outputs.drain(self.at.min(end)..end);
    }
}

fn value_of(vars: &HashMap<Rc<str>, Val>, name: &Rc<str>) -> Val {
    vars.get(name).cloned().unwrap_or(Val::Unset)
}

fn last(sets: &Sets, object: &Rc<Instance>, name: &Rc<str>) -> Option<Val> {
    sets.iter().find(|(o, n, _)| Rc::ptr_eq(o, object) && n == name).map(|(_, _, v)| v.clone())
}

/// Tensors and numbers inside a value, in order.
fn leaves(val: &Val, out: &mut Vec<Val>, walk: &mut Walk) -> Result<()> {
    if !walk.enter() {
        bail!(InvalidModel, "a branch leaves a list of more than a million items, or nested too deep");
    }
    match val {
        Val::Tensor(_) | Val::Int(_) | Val::Float(_) | Val::Bool(_) => out.push(val.clone()),
        Val::List(items) => items.borrow().iter().try_for_each(|v| leaves(v, out, walk))?,
        Val::Tuple(items, _) => items.iter().try_for_each(|v| leaves(v, out, walk))?,
        _ => {}
    }
    walk.leave();
    Ok(())
}

/// Whether two values differ in their leaves only.
fn alike(a: &Val, b: &Val) -> bool {
    match (a, b) {
        (Val::Tensor(_) | Val::Float(_), Val::Tensor(_) | Val::Float(_)) => true,
        (Val::Int(_), Val::Int(_)) | (Val::Bool(_), Val::Bool(_) | Val::Tensor(_)) | (Val::Tensor(_), Val::Bool(_)) => {
            true
        }
        (Val::List(_), Val::List(_)) | (Val::Tuple(..), Val::Tuple(..)) => {
            let (a, b) = (a.items().unwrap_or_default(), b.items().unwrap_or_default());
            a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| alike(x, y))
        }
        (Val::None, Val::None) => true,
        _ => a.same(b),
    }
}

/// Names that the statements give values to.
fn assigned(body: &[Statement], out: &mut BTreeSet<Rc<str>>) {
    fn target(e: &Expr, out: &mut BTreeSet<Rc<str>>) {
        match e {
            Expr::Name(name) => {
                out.insert(name.clone());
            }
            Expr::Tuple(items) => items.iter().for_each(|i| target(i, out)),
            _ => {}
        }
    }
    for statement in body {
        match &statement.kind {
            Kind::Assign { target: to, .. } => target(to, out),
            Kind::If { yes, no, .. } => {
                assigned(yes, out);
                assigned(no, out);
            }
            Kind::For { target: to, body, .. } => {
                target(to, out);
                assigned(body, out);
            }
            Kind::While { body, .. } | Kind::With { body, .. } => assigned(body, out),
            _ => {}
        }
    }
}
