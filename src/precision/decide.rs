//! Which nodes compute in half, and why the others do not.
//!
//! The order matters for the reasons in the report only: a node that is kept keeps its first reason.

use super::constants::{self, Stats};
use super::facts::{Facts, NodeId, ValueId};
use super::links::Links;
use super::names::Globs;
use super::{ConstantPolicy, ConvertOptions, Policy};
use super::{explicit, in_range, meaning, norms, passthrough, wide};
use crate::hash::{HashMap, HashSet};
use crate::model::schema::{Param, ParamType, Schema};
use crate::model::{AttributeValue, DataType, Tensor, TypeKind, ValueType};
use crate::{Result, bail};

/// What becomes of a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Choice {
    /// It touches no FP32 tensor.
    Untouched,
    /// It has no precision of its own: a Constant or a Cast takes the types that its neighbours want.
    Free,
    /// It computes in half.
    Half,
    /// It stays FP32.
    Float(Reason),
}

/// Why a node stays FP32.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reason {
    /// Short stable name.
    pub rule: &'static str,
    /// The tensor it is about.
    pub tensor: String,
    /// The value it is about.
    pub value: Option<f64>,
    /// A sentence.
    pub text: String,
}

/// The choices of all nodes.
pub(super) struct Decisions {
    pub choices: Vec<Choice>,
    /// Nodes whose schema lets them compute in half.
    pub legal: Vec<bool>,
    /// Casts that the user named: they stay even where they do nothing.
    pub kept_casts: HashSet<NodeId>,
    stats: HashMap<ValueId, Stats>,
    target: DataType,
}

/// Elements up to which a constant counts as a parameter of its operator (an epsilon, a scale), whose every value
/// matters, rather than as weights, where one that rounds to zero is only reported.
const FEW: u64 = 64;

impl Decisions {
    pub fn is_half(&self, node: NodeId) -> bool {
        self.choices[node] == Choice::Half
    }

    /// Keeps a half node in FP32; others keep what they have.
    pub fn keep(&mut self, node: NodeId, rule: &'static str, tensor: &str, value: Option<f64>, text: String) -> bool {
        let half = self.is_half(node);
        if half {
            self.choices[node] = Choice::Float(Reason { rule, tensor: tensor.to_string(), value, text });
        }
        half
    }

    /// True if the node stays FP32 for that reason.
    pub fn is_kept_by(&self, node: NodeId, rule: &str) -> bool {
        matches!(&self.choices[node], Choice::Float(reason) if reason.rule == rule)
    }

    /// What half does to a constant value, where somebody asked.
    pub fn known_stats(&self, value: ValueId) -> Option<Stats> {
        self.stats.get(&value).copied()
    }

    /// What half would do to a constant value; computed once.
    pub fn stats(&mut self, facts: &Facts, value: ValueId) -> Result<Stats> {
        let value = facts.values[value].root;
        if let Some(s) = self.stats.get(&value) {
            return Ok(*s);
        }
        let s = match &facts.values[value].constant {
            Some(t) => constants::stats(t, self.target)?,
            None => Stats::default(),
        };
        self.stats.insert(value, s);
        Ok(s)
    }
}

/// Decides for every node.
pub(super) fn decide(facts: &Facts, options: &ConvertOptions, links: &mut Links) -> Result<Decisions> {
    let count = facts.nodes.len();
    let mut d = Decisions {
        choices: vec![Choice::Untouched; count],
        legal: vec![false; count],
        kept_casts: HashSet::default(),
        stats: HashMap::default(),
        target: options.precision,
    };
    for node in 0..count {
        d.choices[node] = by_schema(facts, node, options.precision);
        d.legal[node] = d.choices[node] == Choice::Half;
    }
    by_user(facts, options, &mut d)?;
    by_constants(facts, options, &mut d)?;
    // Whoever gives samples wants their ranges looked at, whatever the policy.
    if let Some(ranges) = options.ranges.as_ref().filter(|_| options.precision == DataType::Float16) {
        in_range::keep(facts, ranges, &mut d, links);
    }
    if options.policy == Policy::Safe {
        if options.precision == DataType::Float16 {
            wide::keep(facts, options, &mut d)?;
        }
        explicit::keep(facts, &mut d);
        norms::keep(facts, &mut d);
        meaning::keep(facts, &mut d, links);
    }
    links.settle(facts, options, &mut d);
    passthrough::keep(facts, options, &mut d);
    links.settle(facts, options, &mut d);
    Ok(d)
}

/// Where a node may be half by the rules of its operator alone.
fn by_schema(facts: &Facts, node: NodeId, target: DataType) -> Choice {
    if !facts.touches_f32(node) {
        return Choice::Untouched;
    }
    let n = &facts.nodes[node];
    let reason = |rule, tensor: &str, text: String| {
        Choice::Float(Reason { rule, tensor: tensor.to_string(), value: None, text })
    };
    match facts.op(node) {
        // A Constant that is sparse, or that a call of the function leaves open, has no half form.
        "Constant" if n.outputs.iter().flatten().any(|v| facts.values[*v].constant.is_none()) => {
            return reason("container", "", "its value is no dense tensor".into());
        }
        "Constant" | "Cast" => return Choice::Free,
        "BitCast" => {
            return reason("bits", "", "BitCast looks at the bits of its input, which are others in half".into());
        }
        _ => {}
    }
    if let Some(v) = facts.touched(node).map(|v| &facts.values[v]).find(|v| v.is_fixed_f32()) {
        return reason("container", &v.name, format!("'{}' is a map or sparse tensor of FP32", v.name));
    }
    let Some(schema) = n.schema else {
        let name = &n.node.op_type;
        return match facts.function_of(n.node) {
            Some(_) if facts.has_linked_bodies(node) => Choice::Half,
            Some(_) => {
                let text =
                    format!("the body of local function '{name}' cannot be looked into: its calls unfold too far");
                reason("local_function", "", text)
            }
            None => reason("unknown_operator", "", format!("'{}::{name}' is not in the operator table", n.node.domain)),
        };
    };
    if let Some(a) = fp32_attribute(facts, node) {
        return reason(
            "attribute",
            "",
            format!("its attribute '{a}' holds FP32 tensors that the operator compares with"),
        );
    }
    let capable = (0..n.inputs.len()).any(|i| slot_takes(facts, node, i, target))
        || (0..n.outputs.len()).any(|i| slot_gives(facts, node, i, target));
    let allows = |v: Option<ValueId>, param: Option<&Param>| allows_container(facts, schema, v, param, target);
    let contains = n.inputs.iter().enumerate().all(|(i, v)| allows(*v, schema.input(i)))
        && n.outputs.iter().enumerate().all(|(i, v)| allows(*v, schema.output(i)));
    let has_container = facts.touched(node).any(|v| facts.values[v].is_container());
    if contains && (capable || has_container) {
        return Choice::Half;
    }
    let opset = facts.opset(node).unwrap_or_default();
    reason(
        "schema",
        "",
        format!("{} of opset {opset} (since {}) has no {target}", n.node.op_type, schema.since_version),
    )
}

/// An attribute that holds FP32 tensors beside the inputs. (Constants are another matter.)
fn fp32_attribute(facts: &Facts, node: NodeId) -> Option<String> {
    if facts.op(node) == "ConstantOfShape" {
        return None;
    }
    let is_f32 = |t: &Tensor| t.dtype() == DataType::Float32;
    let n = facts.nodes[node].node;
    let found = n.attributes.iter().find(|a| match facts.attribute(node, &a.name) {
        Some(AttributeValue::Tensor(t)) => is_f32(&t.tensor),
        Some(AttributeValue::Tensors(ts)) => ts.iter().any(|t| is_f32(&t.tensor)),
        Some(AttributeValue::SparseTensor(s)) => is_f32(&s.values.tensor),
        _ => false,
    });
    found.map(|a| a.name.to_string())
}

/// True if a value is no sequence or optional of FP32 tensors, or may be one of half tensors there.
fn allows_container(
    facts: &Facts,
    schema: &Schema,
    v: Option<ValueId>,
    param: Option<&Param>,
    target: DataType,
) -> bool {
    let Some(value) = v.map(|v| &facts.values[v]).filter(|v| v.is_container()) else { return true };
    let Some(ty) = &value.ty else { return true };
    param.is_some_and(|p| schema.allowed(p).has(&in_half(ty, target)))
}

/// A type with half in place of FP32.
pub(super) fn in_half(ty: &ValueType, target: DataType) -> ValueType {
    let kind = match &ty.kind {
        TypeKind::Tensor { dtype: DataType::Float32, shape } => {
            TypeKind::Tensor { dtype: target, shape: shape.clone() }
        }
        TypeKind::Sequence(t) => TypeKind::Sequence(Box::new(in_half(t, target))),
        TypeKind::Optional(t) => TypeKind::Optional(Box::new(in_half(t, target))),
        other => other.clone(),
    };
    ValueType { kind, denotation: ty.denotation.clone() }
}

/// True if input `i` of the node is an FP32 tensor that the operator would also take in half.
pub(super) fn slot_takes(facts: &Facts, node: NodeId, i: usize, target: DataType) -> bool {
    let n = &facts.nodes[node];
    let is_f32 = n.inputs.get(i).copied().flatten().is_some_and(|v| facts.values[v].is_f32());
    if !is_f32 {
        return false;
    }
    if n.schema.is_none() {
        return facts.has_linked_bodies(node);
    }
    n.schema.and_then(|s| Some((s, s.input(i)?))).is_some_and(|(s, p)| s.allowed(p).has_tensor(target))
}

/// True if output `i` of the node is an FP32 tensor that the operator would also give in half.
pub(super) fn slot_gives(facts: &Facts, node: NodeId, i: usize, target: DataType) -> bool {
    let n = &facts.nodes[node];
    let is_f32 = n.outputs.get(i).copied().flatten().is_some_and(|v| facts.values[v].is_f32());
    if !is_f32 {
        return false;
    }
    if n.schema.is_none() {
        return facts.has_linked_bodies(node);
    }
    let Some((schema, param)) = n.schema.and_then(|s| Some((s, s.output(i)?))) else { return false };
    // The mean and deviation that a LayerNormalization gives have the type of its inner sums.
    if !schema.allowed(param).has_tensor(target) || facts.op(node) == "LayerNormalization" && i > 0 {
        return false;
    }
    if facts.has_linked_bodies(node) {
        return true;
    }
    // An output whose type follows an input is half only if that input can be; all inputs of one variable are alike.
    let ParamType::Var(var) = param.ty else { return true };
    !(0..n.inputs.len()).any(|k| {
        let same = schema.input(k).is_some_and(|p| matches!(p.ty, ParamType::Var(v) if v == var));
        let kept = n.inputs[k].is_some_and(|v| {
            matches!(
                facts.values[v].ty.as_ref().map(|t: &ValueType| &t.kind),
                Some(TypeKind::Tensor { dtype, .. }) if *dtype != DataType::Float32
            )
        });
        same && kept
    })
}

fn by_user(facts: &Facts, options: &ConvertOptions, d: &mut Decisions) -> Result<()> {
    let globs = Globs::new(&options.keep_node_names);
    let mut wanted: HashMap<&str, bool> = options.keep_outputs.iter().map(|o| (o.as_str(), false)).collect();
    for node in 0..facts.nodes.len() {
        let n = &facts.nodes[node];
        let full = format!("{}::{}", n.node.domain, n.node.op_type);
        let mut keep = |tensor: &str, text: String| {
            if facts.op(node) == "Cast" {
                d.kept_casts.insert(node);
            }
            d.keep(node, "kept_by_user", tensor, None, text);
        };
        if let Some(op) = options.keep_op_types.iter().find(|op| ***op == *n.node.op_type || ***op == full) {
            keep("", format!("operator type '{op}' is kept in FP32 on request"));
        }
        if let Some(glob) = globs.find(&n.node.name) {
            keep("", format!("node name pattern '{glob}' is kept in FP32 on request"));
        }
        for output in &n.node.outputs {
            if let Some(seen) = wanted.get_mut(&**output) {
                *seen = true;
                keep(output, format!("output '{output}' is kept in FP32 on request"));
            }
        }
    }
    if let Some((missing, _)) = wanted.iter().find(|(_, seen)| !**seen) {
        bail!(NotFound, "no node makes the output '{missing}' that was to stay FP32: give the name of a node's output");
    }
    Ok(())
}

/// True where a constant input only bounds values: there an infinity serves as well as any number beyond half's range.
pub(super) fn is_bound(facts: &Facts, node: NodeId, input: usize) -> bool {
    match facts.op(node) {
        "Clip" => input > 0,
        "Min" | "Max" => true,
        _ => false,
    }
}

/// Operators that add or blend constants into values: where half has to clamp such a constant, the sum of two of them and
/// a score must stay finite.
pub(super) fn is_mask_operator(op: &str) -> bool {
    matches!(op, "Add" | "Sub" | "Mul" | "Where" | "Sum")
}

fn by_constants(facts: &Facts, options: &ConvertOptions, d: &mut Decisions) -> Result<()> {
    let target = options.precision;
    for node in 0..facts.nodes.len() {
        if !d.is_half(node) {
            continue;
        }
        for i in 0..facts.nodes[node].inputs.len() {
            let Some(v) = facts.input(node, i) else { continue };
            if facts.values[v].constant.is_none()
                || !slot_takes(facts, node, i, target)
                || facts.has_linked_bodies(node)
            {
                continue;
            }
            let s = d.stats(facts, v)?;
            let name = facts.values[v].name.clone();
            if s.overflows > 0 && !is_bound(facts, node, i) {
                out_of_range(facts, options, d, node, &name, s.worst)?;
            }
            if s.flushed > 0 && s.elements <= FEW && options.constants == ConstantPolicy::KeepFp32 {
                let text = format!("{target} would make {} of constant '{name}' zero", number(s.smallest));
                d.keep(node, "constant_flushed", &name, Some(s.smallest), text);
            }
        }
        if let Some(tensor) = attribute_constant(facts, node) {
            let s = constants::stats(&tensor, target)?;
            if s.overflows > 0 {
                out_of_range(facts, options, d, node, "value", s.worst)?;
            }
            if s.flushed > 0 && options.constants == ConstantPolicy::KeepFp32 {
                let text = format!("{target} would make its value {} zero", number(s.smallest));
                d.keep(node, "constant_flushed", "value", Some(s.smallest), text);
            }
        }
    }
    Ok(())
}

fn out_of_range(
    facts: &Facts,
    options: &ConvertOptions,
    d: &mut Decisions,
    node: NodeId,
    name: &str,
    worst: f64,
) -> Result<()> {
    let target = options.precision;
    match options.constants {
        ConstantPolicy::KeepFp32 => {
            let text = format!("constant '{name}' holds {}, which {target} cannot", number(worst));
            d.keep(node, "constant_out_of_range", name, Some(worst), text);
        }
        ConstantPolicy::Clamp => {}
        ConstantPolicy::Error => bail!(
            Precision,
            "constant '{name}' of node {} holds {}, which {target} cannot: let it be clamped (constants = clamp), keep \
             its operator in FP32 (constants = keep), or keep that node by name",
            facts.nodes[node].node.label(),
            number(worst)
        ),
    }
    Ok(())
}

/// The FP32 tensor in the attribute of a ConstantOfShape.
pub(super) fn attribute_constant(facts: &Facts, node: NodeId) -> Option<Tensor> {
    if facts.op(node) != "ConstantOfShape" {
        return None;
    }
    match facts.attribute(node, "value") {
        Some(AttributeValue::Tensor(t)) => Some(t.tensor.clone()),
        _ => None,
    }
}

/// A number for people: short, and exact enough to recognise.
pub(super) fn number(v: f64) -> String {
    if v != 0.0 && (v.abs() >= 1e6 || v.abs() < 1e-3) { format!("{v:e}") } else { format!("{v}") }
}
