//! The walk over `forward`: what the host knows is computed, what are tensors goes to the lowering.

use super::ast::{Expr, Function, Kind, Statement};
use super::attributes::{Shared, Source};
use super::program::Program;
use super::value::{Instance, Val};
use crate::frontend::torch::lower::{Location, Lowering, SymInt};
use crate::frontend::torch::pickle::Id;
use crate::hash::HashMap;
use crate::{Result, bail, err};
use std::cell::RefCell;
use std::rc::Rc;

/// Nested calls and expressions.
const MAX_DEPTH: usize = 1500;
/// Rounds of one loop.
const MAX_ROUNDS: i64 = 100_000;

/// The variables of a call.
pub struct Frame {
    pub vars: HashMap<Rc<str>, Val>,
    file: Rc<str>,
    /// The module whose method runs.
    module: String,
}

impl Frame {
    /// The same call with other variables.
    pub fn with(&self, vars: HashMap<Rc<str>, Val>) -> Frame {
        Frame { vars, file: self.file.clone(), module: self.module.clone() }
    }
}

/// How a block ended.
pub enum Flow {
    /// At its end.
    Next,
    /// With a return.
    Return(Val),
}

/// See the module's description.
pub struct Evaluator {
    pub program: Program,
    pub low: Lowering,
    pub unpickled: HashMap<(Source, Id), Val>,
    pub shared: Shared,
    pub at: Location,
    /// Train-mode flags that a trace baked are turned off instead of refused.
    pub allow_training: bool,
    /// The error on its way is one that the program raises itself.
    pub raised: bool,
    /// Branches open whose condition only the running model knows.
    pub open_branches: usize,
    /// Attributes set, with what they were before, while branches are open.
    pub sets: Vec<(Rc<Instance>, Rc<str>, Option<Val>)>,
    /// Every attribute of a module that was set to a tensor, for the model's state.
    pub state: Vec<(Rc<Instance>, Rc<str>)>,
    depth: usize,
    /// Expressions evaluated, and containers put into containers (limits.rs).
    pub steps: u64,
    pub nested: usize,
}

impl Evaluator {
    pub fn new(program: Program) -> Evaluator {
        Evaluator {
            program,
            low: Lowering::new(),
            unpickled: HashMap::default(),
            shared: HashMap::default(),
            at: Location::default(),
            allow_training: false,
            raised: false,
            open_branches: 0,
            sets: Vec::new(),
            state: Vec::new(),
            depth: 0,
            steps: 0,
            nested: 0,
        }
    }

    /// The same program from the start.
    pub fn again(mut self) -> Evaluator {
        self.release();
        Evaluator { allow_training: self.allow_training, ..Evaluator::new(self.program) }
    }

    /// Lets go of what modules hold: they may refer to each other in circles.
    pub fn release(&mut self) {
        for val in self.unpickled.values() {
            if let Val::Object(object) = val {
                object.fields.borrow_mut().clear();
            }
        }
    }

    /// An expression that stands outside any function.
    pub fn in_new_frame(&mut self, expr: &Expr) -> Result<Val> {
        let mut frame = Frame { vars: HashMap::default(), file: "".into(), module: String::new() };
        self.expr(expr, &mut frame)
    }

    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        self.charge(1)?;
        if self.depth > MAX_DEPTH {
            bail!(InvalidModel, "calls are nested deeper than {MAX_DEPTH}: endless recursion?");
        }
        Ok(())
    }

    /// Calls a function of the archive.
    pub fn call(&mut self, f: &Rc<Function>, given: Vec<Val>, named: Vec<(Rc<str>, Val)>) -> Result<Val> {
        let module = match given.first() {
            Some(Val::Object(o)) if f.parameters.first().is_some_and(|p| &*p.name == "self") => o.path.clone(),
            Some(Val::Object(o)) if self.program.class(&o.class)?.is_some() => o.path.clone(),
            _ => self.at.module.clone(),
        };
        let mut frame = Frame { vars: HashMap::default(), file: f.file.clone(), module };
        if given.len() > f.parameters.len() {
            bail!(InvalidFile, "'{}' takes {} arguments and is given {}", f.name, f.parameters.len(), given.len());
        }
        for (parameter, val) in f.parameters.iter().zip(given) {
            frame.vars.insert(parameter.name.clone(), val);
        }
        for (name, val) in named {
            frame.vars.insert(name, val);
        }
        for parameter in &f.parameters {
            if frame.vars.contains_key(&parameter.name) {
                continue;
            }
            match &parameter.default {
                Some(value) => {
                    let val = self.expr(value, &mut frame)?;
                    frame.vars.insert(parameter.name.clone(), val);
                }
                None => bail!(InvalidFile, "'{}' is called without its argument '{}'", f.name, parameter.name),
            }
        }
        self.enter()?;
        let before = self.at.clone();
        let flow = self.block(&f.body, &mut frame);
        self.depth -= 1;
        let val = match flow? {
            Flow::Return(val) => val,
            Flow::Next => Val::None,
        };
        self.at = before;
        Ok(val)
    }

    pub fn block(&mut self, statements: &[Statement], frame: &mut Frame) -> Result<Flow> {
        for statement in statements {
            self.charge(1)?;
            self.at.module.clone_from(&frame.module);
            self.at.source = format!("{}:{}", frame.file, statement.line);
            if let Flow::Return(val) = self.statement(statement, frame)? {
                return Ok(Flow::Return(val));
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &Statement, frame: &mut Frame) -> Result<Flow> {
        match &statement.kind {
            Kind::Pass => {}
            Kind::Evaluate(e) => {
                self.expr(e, frame)?;
            }
            Kind::Assign { target, value } => {
                let val = self.expr(value, frame)?;
                self.assign(target, val, frame)?;
            }
            Kind::Return(value) => {
                let val = match value {
                    Some(e) => self.expr(e, frame)?,
                    None => Val::None,
                };
                return Ok(Flow::Return(val));
            }
            Kind::If { condition, yes, no } => {
                let val = self.expr(condition, frame)?;
                let val = self.truth(val)?;
                return match val {
                    Val::Bool(true) => self.block(yes, frame),
                    Val::Bool(false) => self.block(no, frame),
                    Val::Tensor(t) => self.branch(&t, yes, no, frame),
                    other => bail!(InvalidFile, "{} is no condition", other.kind()),
                };
            }
            Kind::While { condition, body } => {
                for _ in 0..MAX_ROUNDS {
                    self.charge(1)?;
                    let val = self.expr(condition, frame)?;
                    match self.truth(val)? {
                        Val::Bool(true) => {}
                        Val::Bool(false) => return Ok(Flow::Next),
                        _ => bail!(
                            Unsupported,
                            "the loop at {} ends by the values of tensors; such a loop is not lowered",
                            self.at.source
                        ),
                    }
                    if let Flow::Return(val) = self.block(body, frame)? {
                        return Ok(Flow::Return(val));
                    }
                }
                bail!(Unsupported, "the loop at {} takes more than {MAX_ROUNDS} rounds", self.at.source);
            }
            Kind::For { target, items, body } => {
                let items = self.expr(items, frame)?;
                for item in self.iterated(items)? {
                    self.charge(1)?;
                    self.assign(target, item, frame)?;
                    if let Flow::Return(val) = self.block(body, frame)? {
                        return Ok(Flow::Return(val));
                    }
                }
            }
            // Contexts (no_grad, profiler records) change nothing in inference.
            Kind::With { body, .. } => return self.block(body, frame),
        }
        Ok(Flow::Next)
    }

    /// What a `for` runs over.
    pub fn iterated(&mut self, items: Val) -> Result<Vec<Val>> {
        match items {
            Val::Int(n) => {
                let n = self.whole(&n)?;
                if n > MAX_ROUNDS {
                    bail!(Unsupported, "the loop at {} takes {n} rounds; {MAX_ROUNDS} are the most", self.at.source);
                }
                Ok((0..n).map(Val::int).collect())
            }
            Val::List(_) | Val::Tuple(..) => {
                self.charge(items.len() / 16)?;
                Ok(items.items().unwrap_or_default())
            }
            Val::Dict(items) => Ok(items.borrow().iter().map(|(k, _)| k.clone()).collect()),
            Val::Str(s) => Ok(s.chars().map(|c| Val::str(&c.to_string())).collect()),
            Val::Tensor(t) => {
                let n = t.shape().first().cloned().unwrap_or(SymInt::Known(0));
                let n = self.whole(&n)?;
                if n > MAX_ROUNDS {
                    bail!(Unsupported, "the loop at {} takes {n} rounds; {MAX_ROUNDS} are the most", self.at.source);
                }
                (0..n).map(|i| self.aten("select", vec![Val::Tensor(t.clone()), Val::int(0), Val::int(i)])).collect()
            }
            other => bail!(Unsupported, "a loop over {} is not lowered", other.kind()),
        }
    }

    /// A size that must be a number.
    pub fn whole(&self, v: &SymInt) -> Result<i64> {
        v.known().ok_or_else(|| {
            err!(
                Unsupported,
                "{} needs the number of the dynamic size {v}: give this dimension a fixed size in the input shapes",
                self.at.source
            )
        })
    }

    fn assign(&mut self, target: &Expr, val: Val, frame: &mut Frame) -> Result<()> {
        match target {
            Expr::Name(name) => {
                frame.vars.insert(name.clone(), val);
                Ok(())
            }
            Expr::Tuple(targets) => {
                let Some(items) = val.items() else {
                    bail!(InvalidFile, "{} cannot be taken apart", val.kind());
                };
                if items.len() != targets.len() {
                    bail!(
                        InvalidModel,
                        "{} of {} items cannot be taken apart into {}: the input shapes may have another rank than the model's",
                        val.kind(),
                        items.len(),
                        targets.len()
                    );
                }
                targets.iter().zip(items).try_for_each(|(target, item)| self.assign(target, item, frame))
            }
            Expr::Attribute(of, name) => match self.expr(of, frame)? {
                Val::Object(object) => self.set_attribute(&object, name, val),
                other => bail!(InvalidFile, "{} has no attributes to set", other.kind()),
            },
            _ => bail!(InvalidFile, "this cannot be assigned to"),
        }
    }

    fn set_attribute(&mut self, object: &Rc<Instance>, name: &Rc<str>, val: Val) -> Result<()> {
        // What it was is needed to undo the one branch before the other one runs.
        if self.open_branches > 0 {
            let before = self.attribute(object, name).ok();
            self.sets.push((object.clone(), name.clone(), before));
        }
        self.charge(self.state.len() / 16)?;
        if !self.state.iter().any(|(o, n)| Rc::ptr_eq(o, object) && n == name) {
            self.state.push((object.clone(), name.clone()));
        }
        object.fields.borrow_mut().insert(name.clone(), val);
        Ok(())
    }

    pub fn expr(&mut self, e: &Expr, frame: &mut Frame) -> Result<Val> {
        self.enter()?;
        let done = self.expr_inner(e, frame);
        self.depth -= 1;
        done
    }

    fn expr_inner(&mut self, e: &Expr, frame: &mut Frame) -> Result<Val> {
        Ok(match e {
            Expr::None => Val::None,
            Expr::Bool(b) => Val::Bool(*b),
            Expr::Int(v) => Val::int(*v),
            Expr::Float(v) => Val::Float(*v),
            Expr::Str(s) => Val::Str(s.clone()),
            Expr::Name(name) => match frame.vars.get(name) {
                Some(Val::Unset) => {
                    bail!(Unsupported, "'{name}' has a value on one side of a condition only; its use is not lowered")
                }
                Some(val) => val.clone(),
                None => match &**name {
                    "inf" => Val::Float(f64::INFINITY),
                    "nan" => Val::Float(f64::NAN),
                    _ => Val::Path(name.clone()),
                },
            },
            Expr::Attribute(of, name) => {
                let base = self.expr(of, frame)?;
                self.member(base, name)?
            }
            Expr::Subscript(of, index) => {
                let base = self.expr(of, frame)?;
                let [index] = index.as_slice() else { bail!(InvalidFile, "an index must be one value") };
                let index = self.expr(index, frame)?;
                self.indexed(&base, &index)?
            }
            Expr::List(items) => Val::list(self.nested_exprs(items, frame)?),
            Expr::Tuple(items) => Val::tuple(self.nested_exprs(items, frame)?),
            Expr::Dict(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (key, value) in items {
                    let (key, value) = (self.expr(key, frame)?, self.expr(value, frame)?);
                    self.nest(&key, None)?;
                    self.nest(&value, None)?;
                    out.push((key, value));
                }
                Val::Dict(Rc::new(RefCell::new(out)))
            }
            Expr::Negative(of) => match &**of {
                Expr::Int(v) => Val::int(v.wrapping_neg()),
                _ => {
                    let val = self.expr(of, frame)?;
                    self.aten("neg", vec![val])?
                }
            },
            Expr::Call { function, positional, keyword } => self.called(function, positional, keyword, frame)?,
        })
    }

    fn exprs(&mut self, items: &[Expr], frame: &mut Frame) -> Result<Vec<Val>> {
        items.iter().map(|e| self.expr(e, frame)).collect()
    }

    /// The members of a container that is made.
    fn nested_exprs(&mut self, items: &[Expr], frame: &mut Frame) -> Result<Vec<Val>> {
        let items = self.exprs(items, frame)?;
        for item in &items {
            self.nest(item, None)?;
        }
        Ok(items)
    }

    /// `base.name`
    fn member(&mut self, base: Val, name: &Rc<str>) -> Result<Val> {
        match base {
            Val::Path(path) if &*path == "CONSTANTS" => {
                let id = self.program.constant(name)?.1;
                self.unpickled(Source::Constants, id, &format!("CONSTANTS.{name}"), 0)
            }
            Val::Path(path) => match self.enum_member(&path, name)? {
                Some(member) => Ok(member),
                None => Ok(Val::Path(format!("{path}.{name}").into())),
            },
            Val::Object(object) => self.attribute(&object, name),
            Val::Tuple(items, Some(class)) => {
                let at = class.fields.iter().position(|f| f.name == *name);
                at.and_then(|i| items.get(i).cloned())
                    .ok_or_else(|| err!(InvalidFile, "{} has no field '{name}'", class.name))
            }
            Val::Enum(_, own, value) => match &**name {
                "name" => Ok(Val::Str(own)),
                "value" => Ok((*value).clone()),
                _ => bail!(InvalidFile, "a member of an enumeration has no '{name}'"),
            },
            other => bail!(InvalidFile, "{} has no attribute '{name}'", other.kind()),
        }
    }

    fn called(
        &mut self,
        function: &Expr,
        positional: &[Expr],
        keyword: &[(Rc<str>, Expr)],
        frame: &mut Frame,
    ) -> Result<Val> {
        // Some built-in functions take types, which are no values.
        if let Expr::Name(name) = function
            && !frame.vars.contains_key(name)
        {
            match (&**name, positional) {
                ("annotate", [ty, value]) => {
                    let val = self.expr(value, frame)?;
                    return self.annotated(ty, val);
                }
                ("unchecked_cast", [_, value]) => return self.expr(value, frame),
                ("uninitialized", [_]) => return Ok(Val::None),
                ("isinstance", [value, ty]) => {
                    let val = self.expr(value, frame)?;
                    return Ok(Val::Bool(super::types::is_instance(&val, ty)));
                }
                _ => {}
            }
        }
        let mut target = None;
        let callee = match function {
            Expr::Attribute(of, name) => match self.expr(of, frame)? {
                Val::Object(object) => {
                    target = Some(object);
                    Val::Path(name.clone())
                }
                base => self.member(base, name)?,
            },
            _ => self.expr(function, frame)?,
        };
        let given = self.exprs(positional, frame)?;
        let mut named = Vec::with_capacity(keyword.len());
        for (name, value) in keyword {
            named.push((name.clone(), self.expr(value, frame)?));
        }
        let Val::Path(path) = callee else { bail!(InvalidFile, "{} cannot be called", callee.kind()) };
        match target {
            Some(object) => self.method(&object, &path, given, named),
            None => self.named(&path, given, named),
        }
    }

    fn method(
        &mut self,
        object: &Rc<Instance>,
        name: &str,
        given: Vec<Val>,
        named: Vec<(Rc<str>, Val)>,
    ) -> Result<Val> {
        if let Some(class) = self.program.class(&object.class)? {
            self.charge(class.methods.len() / 16)?;
        }
        let Some(method) = self.program.method(&object.class, name)? else {
            bail!(InvalidFile, "'{}' of class {} has no method '{name}'", object.path, object.class);
        };
        let mut all = vec![Val::Object(object.clone())];
        all.extend(given);
        self.call(&method, all, named)
    }

    /// A call by a full name: a function or class of the archive, an operator, or a built-in function.
    fn named(&mut self, path: &str, given: Vec<Val>, named: Vec<(Rc<str>, Val)>) -> Result<Val> {
        if path.starts_with("__torch__.") {
            if let Some(function) = self.program.function(path)? {
                return self.call(&function, given, named);
            }
            let class = path.strip_suffix(".__new__").unwrap_or(path);
            let Some(found) = self.program.class(class)? else {
                bail!(InvalidFile, "the archive has no function or class '{path}': it is incomplete");
            };
            if &*found.base == "NamedTuple" {
                for item in &given {
                    self.nest(item, None)?;
                }
                return Ok(Val::Tuple(given.into(), Some(found)));
            }
            let fields = RefCell::new(HashMap::default());
            return Ok(Val::Object(Rc::new(Instance {
                class: class.into(),
                path: String::new(),
                fields,
                state: None,
            })));
        }
        if let Some(name) = path.strip_prefix("ops.prim.") {
            return self.prim(name, given, named);
        }
        if let Some(name) = path.strip_prefix("torch.").or(path.strip_prefix("ops.aten.")) {
            let name = name.rsplit('.').next().unwrap_or(name);
            return self.operator(name, given, named);
        }
        if let Some(name) = path.strip_prefix("ops.") {
            return self.lowered(&name.replacen('.', "::", 1), given, named);
        }
        self.builtin(path, given)
    }
}
