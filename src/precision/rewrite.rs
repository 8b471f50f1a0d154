//! The new model: the old one with its FP32 values under their assigned types, and a Cast wherever both types of a value
//! are wanted.

use super::decide::{Decisions, attribute_constant};
use super::facts::{Facts, GraphId, NodeId, Origin, ValueId};
use super::names::Taken;
use super::types::{Types, Wide, half_constant};
use super::{ConvertOptions, constants};
use crate::Result;
use crate::model::{
    Attribute, AttributeValue, DataType, Graph, Initializer, Model, Name, Node, OpsetId, OutOfRange, Tensor, TypeKind,
    ValueInfo,
};
use std::collections::HashMap;

/// Casts counted while rewriting.
#[derive(Default)]
pub(super) struct Casts {
    pub added: u64,
    pub removed: u64,
}

struct Rewriter<'a, 'm> {
    facts: &'a Facts<'m>,
    d: &'a Decisions,
    options: &'a ConvertOptions,
    types: &'a mut Types,
    owners: &'a [Option<NodeId>],
    taken: &'a mut Taken,
    casts: Casts,
    /// Values that are not FP32 and were replaced by another: outputs of Casts that do nothing any more.
    renamed: HashMap<ValueId, Name>,
}

/// Builds the new model.
pub(super) fn rewrite(
    facts: &Facts,
    d: &Decisions,
    options: &ConvertOptions,
    types: &mut Types,
    owners: &[Option<NodeId>],
    taken: &mut Taken,
) -> Result<(Model, Casts)> {
    let mut r = Rewriter { facts, d, options, types, owners, taken, casts: Casts::default(), renamed: HashMap::new() };
    let graph = r.graph(0)?;
    let casts = r.casts;
    // Only the main graph is rebuilt; the rest of the model is as it was.
    let old = facts.model;
    let mut opset_imports = old.opset_imports.clone();
    if old.opset("").is_none() && casts.added > 0 {
        // The model had operators of other domains only; Cast needs the standard one. IR 7 came with opset 12, IR 8 with
        // opset 15: 13 is the first whose Cast has bfloat16.
        opset_imports.push(OpsetId { domain: "".into(), version: if old.ir_version < 8 { 9 } else { 13 } });
    }
    let model = Model {
        ir_version: old.ir_version,
        opset_imports,
        producer_name: old.producer_name.clone(),
        producer_version: old.producer_version.clone(),
        domain: old.domain.clone(),
        model_version: old.model_version,
        doc_string: old.doc_string.clone(),
        metadata: old.metadata.clone(),
        functions: old.functions.clone(),
        device_configurations: old.device_configurations.clone(),
        graph,
    };
    Ok((model, casts))
}

impl Rewriter<'_, '_> {
    fn dtype(&self, ty: Wide) -> DataType {
        if ty == Wide::Half { self.options.precision } else { DataType::Float32 }
    }

    fn graph(&mut self, id: GraphId) -> Result<Graph> {
        let old = self.facts.graphs[id].graph;
        let mut new = Graph {
            name: old.name.clone(),
            doc_string: old.doc_string.clone(),
            metadata: old.metadata.clone(),
            nodes: Vec::with_capacity(old.nodes.len()),
            inputs: Vec::with_capacity(old.inputs.len()),
            outputs: Vec::with_capacity(old.outputs.len()),
            value_info: Vec::with_capacity(old.value_info.len()),
            initializers: Vec::with_capacity(old.initializers.len()),
            sparse_initializers: old.sparse_initializers.clone(),
            quantization: old.quantization.clone(),
        };
        self.inputs(id, &mut new)?;
        self.initializers(id, &mut new)?;
        for node in self.facts.graphs[id].nodes.clone() {
            self.node(node, &mut new)?;
        }
        self.outputs(id, &mut new);
        Ok(new)
    }

    fn inputs(&mut self, id: GraphId, new: &mut Graph) -> Result<()> {
        for (info, &v) in self.facts.graphs[id].graph.inputs.iter().zip(&self.facts.graphs[id].inputs) {
            let mut info = info.clone();
            if let Some(a) = &self.types.values[v] {
                set_dtype(&mut info, self.dtype(a.native));
            }
            new.inputs.push(info);
            if self.facts.values[v].origin == Origin::Input {
                self.cast_after(v, new);
            }
        }
        Ok(())
    }

    fn initializers(&mut self, id: GraphId, new: &mut Graph) -> Result<()> {
        for init in &self.facts.graphs[id].graph.initializers {
            let v = self.facts.resolve(id, &init.name);
            let Some(v) = v.filter(|v| self.types.values[*v].is_some()) else {
                new.initializers.push(init.clone());
                continue;
            };
            let native = self.types.values[v].as_ref().map_or(Wide::Float, |a| a.native);
            // Callers may replace an initializer that is listed as an input; then both types must follow from one.
            let overridable = self.facts.graphs[id].inputs.contains(&v);
            for ty in [Wide::Float, Wide::Half] {
                let Some(name) = self.types.name_of(v, ty).cloned() else { continue };
                if overridable && ty != native {
                    continue;
                }
                let tensor = match ty {
                    Wide::Float => init.tensor.clone(),
                    Wide::Half => half_constant(self.facts, self.d, self.options, v)?,
                };
                new.initializers.push(Initializer { name, tensor, ..init.clone() });
            }
            if overridable {
                self.cast_after(v, new);
            }
        }
        Ok(())
    }

    fn outputs(&mut self, id: GraphId, new: &mut Graph) {
        let facts = self.facts;
        for (info, &v) in facts.graphs[id].graph.outputs.iter().zip(&facts.graphs[id].outputs) {
            let mut info = info.clone();
            if self.types.values[v].is_some() {
                let ty = Types::output(facts, self.d, self.options, self.owners[id], v);
                set_dtype(&mut info, self.dtype(ty));
                if let Some(name) = self.types.name_of(v, ty) {
                    info.name = name.clone();
                }
            } else if let Some(name) = self.renamed.get(&v) {
                info.name = name.clone();
            }
            new.outputs.push(info);
        }
        for info in &facts.graphs[id].graph.value_info {
            let mut info = info.clone();
            if let Some(v) = facts.resolve(id, &info.name) {
                if self.renamed.contains_key(&v) || self.types.values[v].as_ref().is_some_and(|a| a.alias) {
                    continue;
                }
                for ty in [Wide::Float, Wide::Half] {
                    if self.types.name_of(v, ty) == Some(&info.name) {
                        set_dtype(&mut info, self.dtype(ty));
                    }
                }
            }
            new.value_info.push(info);
        }
    }

    fn node(&mut self, id: NodeId, new: &mut Graph) -> Result<()> {
        let facts = self.facts;
        let old = facts.nodes[id].node;
        if facts.op(id) == "Constant" && facts.touches_f32(id) {
            return self.constant(id, new);
        }
        let mut node = old.clone();
        for (i, v) in facts.nodes[id].inputs.iter().enumerate() {
            let Some(v) = *v else { continue };
            node.inputs[i] = self.read_name(id, i, v);
        }
        if facts.op(id) == "Cast" && self.cast(id, &mut node)? {
            return Ok(());
        }
        for (i, v) in facts.nodes[id].outputs.iter().enumerate() {
            let Some(v) = *v else { continue };
            let Some(a) = &self.types.values[v] else { continue };
            let Some(name) = self.types.name_of(v, a.native) else { continue };
            if *name != facts.values[v].name {
                // What the model stated of the old name holds for the new one too, but for the element type.
                let mut ty = facts.values[v].ty.clone();
                if let Some(TypeKind::Tensor { dtype, .. }) = ty.as_mut().map(|t| &mut t.kind) {
                    *dtype = self.dtype(a.native);
                }
                new.value_info.extend(ty.map(|ty| ValueInfo::new(name.clone(), ty)));
            }
            node.outputs[i] = name.clone();
        }
        if self.d.is_half(id) {
            self.type_attributes(id, &mut node)?;
        }
        for (attribute, index, body) in &facts.nodes[id].bodies {
            let body = self.graph(*body)?;
            put_body(&mut node, attribute, *index, body);
        }
        new.nodes.push(node);
        for v in facts.nodes[id].outputs.iter().flatten() {
            self.cast_after(*v, new);
        }
        Ok(())
    }

    /// The name under which a node reads a value.
    fn read_name(&self, node: NodeId, i: usize, v: ValueId) -> Name {
        let Some(a) = &self.types.values[v] else {
            return self.renamed.get(&v).unwrap_or(&self.facts.values[v].name).clone();
        };
        let ty = Types::wanted_input(self.facts, self.d, self.options.precision, node, i).unwrap_or(a.native);
        self.types.name_of(v, ty).unwrap_or(&self.facts.values[v].name).clone()
    }

    /// Puts the Cast to the other type of a value behind its definition, where somebody wants it.
    fn cast_after(&mut self, v: ValueId, new: &mut Graph) {
        let Some(a) = &self.types.values[v] else { return };
        let (native, other) = (a.native, a.native.other());
        if let (Some(from), Some(to)) = (self.types.name_of(v, native), self.types.name_of(v, other)) {
            let (from, to) = (from.clone(), to.clone());
            let name = self.taken.unique(&to, "_cast");
            new.nodes.push(cast_node(name, from, to, self.dtype(other)));
            self.casts.added += 1;
        }
    }

    /// Retargets a Cast of the old model. True if it is not needed any more.
    fn cast(&mut self, id: NodeId, node: &mut Node) -> Result<bool> {
        let facts = self.facts;
        let Some(output) = facts.nodes[id].outputs.first().copied().flatten() else { return Ok(false) };
        let Some(input) = facts.input(id, 0) else { return Ok(false) };
        let type_of = |v: ValueId| match &self.types.values[v] {
            Some(a) => Some(self.dtype(a.native)),
            None => facts.values[v].ty.as_ref().and_then(crate::model::ValueType::tensor_dtype),
        };
        let (from, to) = (type_of(input), type_of(output));
        let both =
            self.types.name_of(output, Wide::Float).is_some() && self.types.name_of(output, Wide::Half).is_some();
        let was = facts.values[input].ty.as_ref().and_then(crate::model::ValueType::tensor_dtype);
        let changed = self.types.values[output].as_ref().is_some_and(|a| a.native == Wide::Half) || from != was;
        if from == to && changed && !facts.values[output].is_output && !both {
            let name = node.inputs[0].clone();
            match &self.types.values[output] {
                Some(_) => self.types.set_alias(output, name),
                None => drop(self.renamed.insert(output, name)),
            }
            self.casts.removed += 1;
            return Ok(true);
        }
        if let (Some(_), Some(to)) = (&self.types.values[output], to) {
            set_attribute(node, "to", AttributeValue::Int(to.to_onnx().into()));
        }
        Ok(false)
    }

    fn constant(&mut self, id: NodeId, new: &mut Graph) -> Result<()> {
        let facts = self.facts;
        let old = facts.nodes[id].node;
        let Some(v) = facts.nodes[id].outputs.first().copied().flatten() else { return Ok(()) };
        for ty in [Wide::Float, Wide::Half] {
            let Some(name) = self.types.name_of(v, ty).cloned() else { continue };
            let mut node = old.clone();
            if name != facts.values[v].name && !node.name.is_empty() {
                node.name = self.taken.unique(&old.name, "_copy");
            }
            node.outputs[0] = name;
            if ty == Wide::Half {
                let tensor = half_constant(facts, self.d, self.options, v)?;
                node.attributes = vec![tensor_attribute(&old.attributes, tensor)];
            }
            new.nodes.push(node);
        }
        Ok(())
    }

    /// Attributes that say the type of an output.
    fn type_attributes(&mut self, id: NodeId, node: &mut Node) -> Result<()> {
        let facts = self.facts;
        let half = facts.nodes[id]
            .outputs
            .iter()
            .flatten()
            .any(|v| self.types.values[*v].as_ref().is_some_and(|a| a.native == Wide::Half));
        if !half {
            return Ok(());
        }
        let target = i64::from(self.options.precision.to_onnx());
        let float = i64::from(DataType::Float32.to_onnx());
        match facts.op(id) {
            "ConstantOfShape" => {
                let wide = attribute_constant(facts, id)
                    .unwrap_or_else(|| Tensor::from_vec(DataType::Float32, vec![1], vec![0f32]));
                let clamped = if self.options.constants == super::ConstantPolicy::Clamp {
                    constants::limited(&wide, 16384.0)?
                } else {
                    wide
                };
                let tensor = clamped.converted(self.options.precision, OutOfRange::Infinity)?;
                node.attributes = vec![tensor_attribute(&node.attributes, tensor)];
            }
            "RandomNormal" | "RandomUniform" => set_attribute(node, "dtype", AttributeValue::Int(target)),
            "HannWindow" | "HammingWindow" | "BlackmanWindow" | "MelWeightMatrix" => {
                set_attribute(node, "output_datatype", AttributeValue::Int(target));
            }
            _ => {
                for name in ["dtype", "output_dtype"] {
                    if node.int(name) == Some(float) {
                        set_attribute(node, name, AttributeValue::Int(target));
                    }
                }
            }
        }
        Ok(())
    }
}

fn cast_node(name: Name, from: Name, to: Name, dtype: DataType) -> Node {
    Node {
        name,
        op_type: "Cast".into(),
        inputs: vec![from],
        outputs: vec![to],
        attributes: vec![Attribute {
            name: "to".into(),
            value: AttributeValue::Int(dtype.to_onnx().into()),
            doc_string: None,
        }],
        ..Node::default()
    }
}

fn set_dtype(info: &mut ValueInfo, to: DataType) {
    if let Some(ty) = &mut info.ty
        && let TypeKind::Tensor { dtype, .. } = &mut ty.kind
        && *dtype == DataType::Float32
    {
        *dtype = to;
    }
}

fn set_attribute(node: &mut Node, name: &str, value: AttributeValue) {
    match node.attributes.iter_mut().find(|a| &*a.name == name) {
        Some(a) => a.value = value,
        None => node.attributes.push(Attribute { name: name.into(), value, doc_string: None }),
    }
}

/// The attribute `value` with a new tensor; a tensor's own name is kept.
fn tensor_attribute(old: &[Attribute], tensor: Tensor) -> Attribute {
    let named = match old.first().map(|a| &a.value) {
        Some(AttributeValue::Tensor(t)) => Initializer { tensor, ..t.clone() },
        _ => Initializer { name: "".into(), tensor, doc_string: None, metadata: Vec::new() },
    };
    Attribute { name: "value".into(), value: AttributeValue::Tensor(named), doc_string: None }
}

fn put_body(node: &mut Node, attribute: &Name, index: usize, body: Graph) {
    for a in &mut node.attributes {
        if a.name != *attribute {
            continue;
        }
        match &mut a.value {
            AttributeValue::Graph(g) => **g = body,
            AttributeValue::Graphs(gs) => {
                if let Some(g) = gs.get_mut(index) {
                    *g = body;
                }
            }
            _ => {}
        }
        return;
    }
}
