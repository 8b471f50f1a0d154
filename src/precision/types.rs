//! The type every FP32 value gets: what makes it, what its readers want, and under which names it exists.

use super::constants;
use super::decide::{Choice, Decisions, is_bound, is_mask_operator, slot_gives, slot_takes};
use super::facts::{Facts, GraphId, NodeId, Origin, ValueId};
use super::names::Taken;
use super::{ConstantPolicy, ConvertOptions, io};
use crate::Result;
use crate::model::{DataType, Name, OutOfRange, Tensor};

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

impl Types {
    /// The type under which node input `i` is read, or `None` where any will do.
    pub fn wanted_input(facts: &Facts, d: &Decisions, target: DataType, node: NodeId, i: usize) -> Option<Wide> {
        match d.choices[node] {
            Choice::Half if matches!(facts.op(node), "Shape" | "Size") => None,
            Choice::Half => Some(Wide::of(slot_takes(facts, node, i, target))),
            Choice::Float(_) => Some(Float),
            Choice::Free | Choice::Untouched => None,
        }
    }

    /// The type of an FP32 output of a graph.
    pub fn output(facts: &Facts, d: &Decisions, options: &ConvertOptions, owner: Option<NodeId>, v: ValueId) -> Wide {
        match owner {
            None => Wide::of(!io::is_kept(options, &facts.values[v].name)),
            Some(node) => Wide::of(d.is_half(node)),
        }
    }

    /// Assigns types and names.
    pub fn assign(
        facts: &Facts,
        d: &Decisions,
        options: &ConvertOptions,
        owners: &[Option<NodeId>],
        taken: &mut Taken,
    ) -> Types {
        let target = options.precision;
        let mut types = Types { values: vec![None; facts.values.len()] };
        for (v, value) in facts.values.iter().enumerate() {
            if value.is_f32() {
                types.values[v] =
                    Some(Assigned { native: Float, wanted: [false; 2], names: [None, None], alias: false });
            }
        }
        for node in 0..facts.nodes.len() {
            for i in 0..facts.nodes[node].inputs.len() {
                if let (Some(v), Some(want)) = (facts.input(node, i), Types::wanted_input(facts, d, target, node, i)) {
                    types.want(v, want);
                }
            }
        }
        for (g, graph) in facts.graphs.iter().enumerate() {
            for &v in &graph.outputs {
                types.want(v, Types::output(facts, d, options, owners[g], v));
            }
        }
        for v in 0..facts.values.len() {
            if types.values[v].is_some() {
                let native = types.native(facts, d, options, owners, v);
                types.name(facts, d, options, v, native, target, taken);
            }
        }
        types
    }

    fn want(&mut self, v: ValueId, want: Wide) {
        if let Some(a) = &mut self.values[v] {
            a.wanted[want.index()] = true;
        }
    }

    fn native(
        &self,
        facts: &Facts,
        d: &Decisions,
        options: &ConvertOptions,
        owners: &[Option<NodeId>],
        v: ValueId,
    ) -> Wide {
        let value = &facts.values[v];
        let by_demand = || {
            let wanted = self.values[v].as_ref().map_or([false; 2], |a| a.wanted);
            Wide::of(wanted == [false, true])
        };
        match value.origin {
            Origin::Input => match owners[value.graph] {
                None => Wide::of(!io::is_kept(options, &value.name)),
                Some(node) => Wide::of(d.is_half(node)),
            },
            Origin::Initializer(_) => by_demand(),
            Origin::Node(n) => match d.choices[n] {
                Choice::Half => {
                    let i = facts.nodes[n].outputs.iter().position(|o| *o == Some(v));
                    Wide::of(i.is_some_and(|i| slot_gives(facts, n, i, options.precision)))
                }
                Choice::Free => by_demand(),
                Choice::Float(_) | Choice::Untouched => Float,
            },
        }
    }

    #[allow(clippy::too_many_arguments)] // one call site, and each is its own thing
    fn name(
        &mut self,
        facts: &Facts,
        d: &Decisions,
        options: &ConvertOptions,
        v: ValueId,
        native: Wide,
        target: DataType,
        taken: &mut Taken,
    ) {
        let value = &facts.values[v];
        // The name of a model's output belongs to the type that the caller was promised.
        let promised = (value.is_output && value.graph == 0).then(|| Types::output(facts, d, options, None, v));
        let primary = promised.unwrap_or(native);
        let Some(a) = &mut self.values[v] else { return };
        a.native = native;
        a.names[primary.index()] = Some(value.name.clone());
        let other = primary.other();
        if native == other || a.wanted[other.index()] {
            let suffix = if other == Float { "fp32" } else { target.name() };
            a.names[other.index()] = Some(taken.unique(&value.name, &format!("_{suffix}")));
        }
    }

    /// The value's name in a type, if it exists in it.
    pub fn name_of(&self, v: ValueId, ty: Wide) -> Option<&Name> {
        self.values[v].as_ref()?.names[ty.index()].as_ref()
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
        crate::bail!(Internal, "'{}' is no constant", value.name);
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
const MASK: f32 = 16384.0;

/// The node that holds each graph; `None` for the main graph.
pub(super) fn owners(facts: &Facts) -> Vec<Option<NodeId>> {
    let mut owners: Vec<Option<NodeId>> = vec![None; facts.graphs.len()];
    for (n, node) in facts.nodes.iter().enumerate() {
        for (_, _, body) in &node.bodies {
            let body: GraphId = *body;
            owners[body] = Some(n);
        }
    }
    owners
}
