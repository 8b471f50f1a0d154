//! The type every FP32 value gets: what makes it, what its readers want, and under which names it exists.

use super::constants;
use super::decide::{Choice, Decisions, is_bound, is_mask_operator, slot_gives, slot_takes};
use super::facts::{Facts, GraphId, NodeId, Origin, ValueId};
use super::links::Links;
use super::names::Takens;
use super::{ConstantPolicy, ConvertOptions, io};
use crate::Result;
use crate::model::{DataType, Name, OutOfRange, Tensor, ValueType};

/// One of the two types that an FP32 value can have after the conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wide {
    Float,
    Half,
}

use Wide::{Float, Half};

impl Wide {
    fn of(half: bool) -> Wide {
        if half { Half } else { Float }
    }

    pub fn other(self) -> Wide {
        Wide::of(self == Float)
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What becomes of one FP32 value.
#[derive(Debug, Clone)]
pub(super) struct Assigned {
    /// The type that its producer gives it.
    pub native: Wide,
    /// The types that readers want.
    wanted: [bool; 2],
    /// Its name in each type, where it exists in that type.
    names: [Option<Name>; 2],
    /// A Cast made superfluous: the value is another one under that name.
    pub alias: bool,
}

/// The types of all FP32 values; `None` for others.
pub(super) struct Types {
    pub values: Vec<Option<Assigned>>,
}

/// What decides the types of values.
pub(super) struct Chosen<'a, 'm> {
    pub facts: &'a Facts<'m>,
    pub d: &'a Decisions,
    pub links: &'a Links,
    pub options: &'a ConvertOptions,
}

impl Chosen<'_, '_> {
    /// The type under which node input `i`, a tensor, is read, or `None` where any will do.
    pub fn wanted_input(&self, node: NodeId, i: usize) -> Option<Wide> {
        let facts = self.facts;
        if facts.has_linked_bodies(node) {
            return Some(Wide::of(self.links.slot_is_half(node, i)));
        }
        match self.d.choices[node] {
            Choice::Half if matches!(facts.op(node), "Shape" | "Size") => None,
            Choice::Half => Some(Wide::of(slot_takes(facts, node, i, self.options.precision))),
            Choice::Float(_) => Some(Float),
            Choice::Free | Choice::Untouched => None,
        }
    }

    /// The type of output `k` of a graph, an FP32 tensor `v`.
    pub fn output(&self, graph: GraphId, k: usize, v: ValueId) -> Wide {
        if self.facts.values[v].is_container() {
            return Wide::of(self.links.value_is_half(v));
        }
        Wide::of(match graph {
            0 => !io::is_kept(self.options, &self.facts.values[v].name),
            _ => self.links.out_is_half(graph, k),
        })
    }

    /// The type in which a value is made; `demand` where its producer can give any.
    fn native(&self, v: ValueId, demand: Wide) -> Wide {
        let value = &self.facts.values[v];
        if value.is_container() {
            return Wide::of(self.links.value_is_half(v));
        }
        match value.origin {
            Origin::Input if value.graph == 0 => Wide::of(!io::is_kept(self.options, &value.name)),
            Origin::Input => Wide::of(self.links.value_is_half(v)),
            Origin::Initializer(_) => demand,
            Origin::Node(n) if self.facts.has_linked_bodies(n) => Wide::of(self.links.value_is_half(v)),
            Origin::Node(n) => match self.d.choices[n] {
                Choice::Half => {
                    let i = self.facts.nodes[n].outputs.iter().position(|o| *o == Some(v));
                    Wide::of(i.is_some_and(|i| slot_gives(self.facts, n, i, self.options.precision)))
                }
                Choice::Free => demand,
                Choice::Float(_) | Choice::Untouched => Float,
            },
        }
    }
}

impl Types {
    /// Assigns types and names.
    pub fn assign(chosen: &Chosen, taken: &mut Takens) -> Types {
        let facts = chosen.facts;
        let mut types = Types { values: vec![None; facts.values.len()] };
        for (v, value) in facts.values.iter().enumerate() {
            if value.is_f32() || value.is_container() {
                types.values[v] =
                    Some(Assigned { native: Float, wanted: [false; 2], names: [None, None], alias: false });
            }
        }
        for node in 0..facts.nodes.len() {
            for i in 0..facts.nodes[node].inputs.len() {
                if let Some(v) = facts.input(node, i).filter(|v| facts.values[*v].is_f32())
                    && let Some(want) = chosen.wanted_input(node, i)
                {
                    types.want(v, want);
                }
            }
        }
        for (g, graph) in facts.graphs.iter().enumerate() {
            for (k, &v) in graph.outputs.iter().enumerate() {
                types.want(v, chosen.output(g, k, v));
            }
        }
        for v in 0..facts.values.len() {
            if let Some(a) = &types.values[v] {
                let demand = match a.wanted {
                    [false, false] => types.undemanded(chosen, v),
                    wanted => Wide::of(wanted == [false, true]),
                };
                let native = chosen.native(v, demand);
                types.name(chosen, v, native, taken);
            }
        }
        types
    }

    /// The type of what only Casts read: after a Cast that of its input, so that it does nothing and goes.
    fn undemanded(&self, chosen: &Chosen, v: ValueId) -> Wide {
        let facts = chosen.facts;
        let cast = facts.producer(v).filter(|n| facts.op(*n) == "Cast" && !chosen.d.kept_casts.contains(n));
        let Some(input) = cast.and_then(|n| facts.input(n, 0)) else { return Float };
        match &self.values[input] {
            Some(a) => a.native,
            None => {
                let dtype = facts.values[input].ty.as_ref().and_then(ValueType::tensor_dtype);
                Wide::of(dtype == Some(chosen.options.precision))
            }
        }
    }

    fn want(&mut self, v: ValueId, want: Wide) {
        if let Some(a) = &mut self.values[v] {
            a.wanted[want.index()] = true;
        }
    }

    fn name(&mut self, chosen: &Chosen, v: ValueId, native: Wide, taken: &mut Takens) {
        let value = &chosen.facts.values[v];
        // The name of a model's output belongs to the type that the caller was promised.
        let promised = (value.is_output && value.graph == 0).then(|| chosen.output(0, 0, v));
        let primary = promised.unwrap_or(native);
        let Some(a) = &mut self.values[v] else { return };
        a.native = native;
        a.names[primary.index()] = Some(value.name.clone());
        let other = primary.other();
        if native == other || a.wanted[other.index()] {
            let suffix = if other == Float { "fp32" } else { chosen.options.precision.name() };
            let root = chosen.facts.graphs[value.graph].root;
            a.names[other.index()] = Some(taken.of(root).unique(&value.name, &format!("_{suffix}")));
        }
    }

    /// The value's name in a type, if it exists in it.
    pub fn name_of(&self, v: ValueId, ty: Wide) -> Option<&Name> {
        self.values[v].as_ref()?.names[ty.index()].as_ref()
    }

    /// Gives a value the name that it has in a type.
    pub fn set_name(&mut self, v: ValueId, ty: Wide, name: Name) {
        if let Some(a) = &mut self.values[v] {
            a.names[ty.index()] = Some(name);
        }
    }

    /// Makes a value another name of `of`.
    pub fn set_alias(&mut self, v: ValueId, name: Name) {
        if let Some(a) = &mut self.values[v] {
            a.names[a.native.index()] = Some(name);
            a.alias = true;
        }
    }
}

/// A constant in half. Numbers beyond half's range become infinities where they only bound values; elsewhere the policy has
/// kept such constants in FP32, or asked for clamping.
pub(super) fn half_constant(facts: &Facts, d: &Decisions, options: &ConvertOptions, v: ValueId) -> Result<Tensor> {
    let value = &facts.values[v];
    let Some(tensor) = &value.constant else {
        if let Origin::Node(node) = value.origin
            && facts.attribute(node, "sparse_value").is_some()
        {
            crate::bail!(Unsupported, "the constant '{}' is sparse: the conversion takes dense ones", value.name);
        }
        crate::bail!(
            InvalidModel,
            "'{}' is made by a Constant without a value: it must have exactly one attribute, the value",
            value.name
        );
    };
    let target = options.precision;
    let mut rule = OutOfRange::Infinity;
    let mut masks = false;
    if options.constants == ConstantPolicy::Clamp {
        for &n in value.consumers.iter().filter(|n| d.is_half(**n)) {
            let bounds =
                (0..facts.nodes[n].inputs.len()).all(|i| facts.input(n, i) != Some(v) || is_bound(facts, n, i));
            if !bounds {
                rule = OutOfRange::Clamp;
                masks |= is_mask_operator(facts.op(n));
            }
        }
        if masks && target == DataType::Float16 && constants::stats(tensor, target)?.overflows > 0 {
            return constants::limited(tensor, MASK)?.converted(target, rule);
        }
    }
    tensor.converted(target, rule)
}

/// What clamped masks become: two of them and a score of up to 32,736 still fit half.
pub(super) const MASK: f32 = 16384.0;
