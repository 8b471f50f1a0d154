//! Graph to plan: names become slots and constants, operators become kernels, constants are folded.

use super::fold::{self, Folding};
use super::{Plan, Source, Step, body, channels, fuse, inline, liveness, same, types};
use crate::backend::Progress;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::ops::{self, NodeCx};
use crate::backend::cpu::tensor::Tensor;
use crate::backend::cpu::value::Val;
use crate::hash::HashMap;
use crate::model::{DataType, Graph, Model, Name, Node, OpsetId, ValueInfo, ValueType};
use crate::{Error, ErrorCode, Result, bail, err};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Plans that would have more steps than this are refused; functions that call functions can grow without bound.
const MAX_STEPS: usize = 2_000_000;
/// Graphs may be nested this deep.
pub(super) const MAX_DEPTH: usize = 32;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Binding {
    Slot(usize),
    Constant(usize),
    /// An optional input of a function that the caller left out.
    Absent,
}

/// A plan in the making, and the names seen in it.
#[derive(Default)]
pub(super) struct Level {
    pub plan: Plan,
    pub slot_types: Vec<Option<DataType>>,
    pub names: HashMap<Name, Binding>,
    /// Declared types of names, for slots whose type the operators do not tell.
    pub declared: HashMap<Name, DataType>,
    /// A subgraph sees the names around it; a function does not.
    pub sees_outer: bool,
    /// What was captured from the level outside, in the order of the slots that take it.
    pub captured: Vec<Binding>,
    pub capture_slots: Vec<usize>,
}

pub(super) struct Builder<'m> {
    pub model: &'m Model,
    pub levels: Vec<Level>,
    pub functions: Vec<(Name, Name)>,
    pub unsupported: BTreeMap<String, Vec<String>>,
    pub folding: Folding,
    pub steps: usize,
}

/// The plan of a model's main graph.
///
/// `whole` keeps every node as a step of each run, so that a tap sees every value; else what is constant is computed now.
pub fn build(model: &Model, pool: &Arc<Pool>, whole: bool, progress: &Progress) -> Result<Plan> {
    let mut b = Builder {
        model,
        levels: vec![Level::default()],
        functions: Vec::new(),
        unsupported: BTreeMap::new(),
        folding: Folding::new(pool, !whole),
        steps: 0,
    };
    b.inputs(model.graph.real_inputs())?;
    b.graph(&model.graph, &model.opset_imports, None, Some(progress))?;
    let level = b.levels.pop().unwrap_or_default();
    if !b.unsupported.is_empty() {
        let list: Vec<String> = b.unsupported.iter().map(|(what, nodes)| describe(what, nodes)).collect();
        bail!(Unsupported, "the CPU backend cannot run {} of the model's operators: {}", list.len(), list.join("; "));
    }
    Ok(level.plan)
}

fn describe(what: &str, nodes: &[String]) -> String {
    match nodes {
        [one] => format!("{what} (node {one})"),
        [first, ..] => format!("{what} ({} nodes, the first is {first})", nodes.len()),
        [] => what.to_string(),
    }
}

impl Level {
    pub fn new_slot(&mut self, dtype: Option<DataType>) -> usize {
        self.slot_types.push(dtype);
        self.plan.slots += 1;
        self.plan.slots - 1
    }

    pub fn constant(&mut self, value: Val) -> Binding {
        self.plan.constants.push(value);
        Binding::Constant(self.plan.constants.len() - 1)
    }

    pub fn define(&mut self, name: &Name, binding: Binding) -> Result<()> {
        if self.names.insert(name.clone(), binding).is_some() {
            bail!(InvalidModel, "the value '{name}' is defined twice: names are unique in a graph");
        }
        Ok(())
    }

    pub fn dtype(&self, binding: Binding) -> Option<DataType> {
        match binding {
            Binding::Slot(i) => self.slot_types.get(i).copied().flatten(),
            Binding::Constant(i) => match self.plan.constants.get(i) {
                Some(Val::Tensor(t)) => Some(t.dtype()),
                _ => None,
            },
            Binding::Absent => None,
        }
    }
}

impl Binding {
    pub fn source(self) -> Source {
        match self {
            Binding::Slot(index) => Source::Slot { index, last: false },
            Binding::Constant(i) => Source::Constant(i),
            Binding::Absent => Source::Absent,
        }
    }
}

impl<'m> Builder<'m> {
    /// The plan being built.
    pub fn top(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    /// Makes slots of a graph's inputs.
    pub fn inputs<'v>(&mut self, inputs: impl Iterator<Item = &'v ValueInfo>) -> Result<()> {
        for input in inputs {
            let level = self.top();
            let slot = level.new_slot(input.ty.as_ref().and_then(ValueType::tensor_dtype));
            level.plan.inputs.push(slot);
            level.define(&input.name, Binding::Slot(slot))?;
        }
        Ok(())
    }

    /// Adds a graph's constants, nodes and outputs; its inputs have been added.
    pub fn graph(
        &mut self,
        graph: &Graph,
        opsets: &[OpsetId],
        attributes: Option<&inline::Attributes>,
        progress: Option<&Progress>,
    ) -> Result<()> {
        if let Some(sparse) = graph.sparse_initializers.first() {
            let what = "sparse initializers".to_string();
            self.unsupported.entry(what).or_default().push(format!("'{}'", sparse.values.name));
        }
        for info in graph.value_info.iter().chain(&graph.outputs) {
            if let Some(t) = info.ty.as_ref().and_then(ValueType::tensor_dtype) {
                self.top().declared.insert(info.name.clone(), t);
            }
        }
        for init in &graph.initializers {
            let tensor = Tensor::from_model(&self.folding.pool, &init.tensor)
                .map_err(|e| e.context(format_args!("constant '{}'", init.name)))?;
            let level = self.top();
            let binding = level.constant(Val::Tensor(tensor));
            level.define(&init.name, binding)?;
        }
        for (i, node) in graph.nodes.iter().enumerate() {
            if let Some(p) = progress
                && i % 16 == 0
            {
                p.step("plan", i as f32 / graph.nodes.len() as f32)?;
            }
            match attributes {
                Some(a) => self.node(&inline::substitute(node, a)?, opsets)?,
                None => self.node(node, opsets)?,
            }
        }
        for output in &graph.outputs {
            let source = self
                .lookup(&output.name)
                .map(Binding::source)
                .ok_or_else(|| err!(InvalidModel, "the graph's output '{}' is not defined by any node", output.name))?;
            self.top().plan.outputs.push(source);
        }
        let enabled = self.folding.enabled;
        let pool = self.folding.pool.clone();
        let plan = &mut self.top().plan;
        if enabled {
            let once = same::once(&plan.steps, &plan.constants, plan.slots, &plan.outputs);
            let turned = channels::turn(plan, once.as_deref(), &pool)?.or(once);
            let steps = turned.as_deref().unwrap_or(&plan.steps);
            plan.fused = fuse::fuse(steps, plan.slots, &plan.outputs).or(turned).unwrap_or_default();
        }
        liveness::mark(plan);
        Ok(())
    }

    /// What a name stands for here; a name from around a subgraph becomes an input of its plan.
    pub fn lookup(&mut self, name: &str) -> Option<Binding> {
        self.lookup_at(self.levels.len().checked_sub(1)?, name)
    }

    fn lookup_at(&mut self, at: usize, name: &str) -> Option<Binding> {
        if let Some(b) = self.levels[at].names.get(name) {
            return Some(*b);
        }
        if at == 0 || !self.levels[at].sees_outer {
            return None;
        }
        let outer = self.lookup_at(at - 1, name)?;
        let dtype = self.levels[at - 1].dtype(outer);
        let constant = match outer {
            Binding::Constant(i) => self.levels[at - 1].plan.constants.get(i).cloned(),
            _ => None,
        };
        let level = &mut self.levels[at];
        let binding = match constant {
            Some(value) => level.constant(value),
            None if outer == Binding::Absent => Binding::Absent,
            None => {
                let slot = level.new_slot(dtype);
                level.captured.push(outer);
                level.capture_slots.push(slot);
                Binding::Slot(slot)
            }
        };
        level.names.insert(name.into(), binding);
        Some(binding)
    }

    /// Adds a node.
    pub fn node(&mut self, node: &Node, opsets: &[OpsetId]) -> Result<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            bail!(
                Unsupported,
                "the model unfolds to more than {MAX_STEPS} nodes: its functions call each other too often"
            );
        }
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            inputs.push(match &**name {
                "" => Binding::Absent,
                name => self.lookup(name).ok_or_else(|| {
                    err!(
                        InvalidModel,
                        "node {} reads '{name}', which nothing before it defines: nodes must be in topological order",
                        node.label()
                    )
                })?,
            });
        }
        let model = self.model;
        if let Some(function) = model.function_of(node) {
            return inline::call(self, node, function, &inputs);
        }
        let opset = crate::model::graph::find_opset(opsets, node.domain()).unwrap_or(1);
        let bodies =
            body::build_all(self, node, opsets).map_err(|e| e.context(format_args!("node {}", node.label())))?;
        let level = self.top();
        let input_types: Vec<_> = inputs.iter().map(|&b| level.dtype(b)).collect();
        let constants: Vec<Option<Val>> = inputs
            .iter()
            .map(|&b| match b {
                Binding::Constant(i) => level.plan.constants.get(i).cloned(),
                _ => None,
            })
            .collect();
        let mut output_types = types::outputs(node, &input_types);
        for (t, name) in output_types.iter_mut().zip(&node.outputs) {
            *t = t.or_else(|| level.declared.get(name).copied());
        }
        let cx = NodeCx { node, opset, constants: &constants, input_types: &input_types, bodies: &bodies };
        let kernel = match ops::build(&cx) {
            Ok(kernel) => kernel,
            Err(e) if e.code() == ErrorCode::Unsupported => {
                self.unsupported.entry(e.message().to_string()).or_default().push(node.label());
                return self.define_outputs(node, &output_types).map(drop);
            }
            Err(e) => return Err(at_node(node)(e)),
        };
        if bodies.is_empty()
            && let Some(results) = fold::try_fold(&self.folding, node, &*kernel, &inputs, &constants)
        {
            let level = self.top();
            for (name, value) in node.outputs.iter().zip(results) {
                if !name.is_empty() {
                    let binding = level.constant(value);
                    level.define(name, binding)?;
                }
            }
            return Ok(());
        }
        let deed = same::deed(node, opset, &output_types);
        let outputs = self.define_outputs(node, &output_types)?;
        let mut sources: Vec<Source> = inputs.iter().map(|b| b.source()).collect();
        sources.extend(bodies.iter().flat_map(|b| b.captured.iter().map(|c| c.source())));
        let op = if node.domain().is_empty() {
            node.op_type.to_string()
        } else {
            format!("{}::{}", node.domain, node.op_type)
        };
        self.top().plan.steps.push(Step {
            kernel: Arc::from(kernel),
            label: node.label(),
            name: node.name.clone(),
            op,
            inputs: sources,
            outputs,
            unread: Vec::new(),
            input_types,
            output_types,
            bodies: bodies.into_iter().map(|b| b.plan).collect(),
            deed,
            parts: Vec::new(),
        });
        Ok(())
    }

    fn define_outputs(&mut self, node: &Node, types: &[Option<DataType>]) -> Result<Vec<Option<(usize, Name)>>> {
        let mut outputs = Vec::with_capacity(node.outputs.len());
        for (i, name) in node.outputs.iter().enumerate() {
            if name.is_empty() {
                outputs.push(None);
                continue;
            }
            let level = self.top();
            let slot = level.new_slot(types.get(i).copied().flatten());
            level.define(name, Binding::Slot(slot)).map_err(at_node(node))?;
            outputs.push(Some((slot, name.clone())));
        }
        Ok(outputs)
    }
}

fn at_node(node: &Node) -> impl Fn(Error) -> Error + '_ {
    move |e| e.context(format_args!("node {}", node.label()))
}
