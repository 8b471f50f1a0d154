//! The new model: the old one with its FP32 values under their assigned types, and a Cast wherever both types of a value
//! are wanted.

use super::decide::in_half;
use super::facts::{Body, Facts, GraphId, NodeId, Source, ValueId};
use super::functions::Variants;
use super::names::Takens;
use super::retype::{self, set_attribute, tensor_attribute};
use super::types::{Chosen, Types, Wide, half_constant};
use crate::Result;
use crate::hash::{HashMap, HashSet};
use crate::model::{
    Attribute, AttributeValue, DataType, Function, Graph, Initializer, Model, Name, Node, OpsetId, ValueInfo, ValueType,
};

/// Casts counted while rewriting.
#[derive(Default, Clone, Copy)]
pub(super) struct Casts {
    pub added: u64,
    pub removed: u64,
}

struct Rewriter<'a, 'm> {
    facts: &'a Facts<'m>,
    chosen: &'a Chosen<'a, 'm>,
    types: &'a mut Types,
    taken: &'a mut Takens,
    variants: Variants<'m>,
    casts: Casts,
    /// Values that are not FP32 and were replaced by another: outputs of Casts that do nothing any more.
    renamed: HashMap<ValueId, Name>,
    /// Results of Casts from half to FP32, whose half form is what was cast.
    undone: HashSet<ValueId>,
}

/// Builds the new model.
pub(super) fn rewrite(chosen: &Chosen, types: &mut Types, taken: &mut Takens) -> Result<(Model, Casts)> {
    let (facts, old) = (chosen.facts, chosen.facts.model);
    let variants = Variants::new(old, chosen.options.precision);
    let casts = Casts::default();
    let mut r = Rewriter {
        facts,
        chosen,
        types,
        taken,
        variants,
        casts,
        renamed: HashMap::default(),
        undone: HashSet::default(),
    };
    let graph = r.graph(0, &old.graph)?;
    let casts = r.casts;
    let functions = r.variants.finish(&graph);
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
        functions,
        device_configurations: old.device_configurations.clone(),
        graph,
    };
    Ok((model, casts))
}

impl<'m> Rewriter<'_, 'm> {
    fn dtype(&self, ty: Wide) -> DataType {
        if ty == Wide::Half { self.chosen.options.precision } else { DataType::Float32 }
    }

    fn graph(&mut self, id: GraphId, old: &'m Graph) -> Result<Graph> {
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
        for (info, &v) in old.inputs.iter().zip(&self.facts.graphs[id].inputs) {
            let mut info = info.clone();
            if let Some(a) = &self.types.values[v] {
                self.set_dtype(&mut info, a.native);
            }
            new.inputs.push(info);
        }
        self.initializers(id, old, &mut new)?;
        self.nodes(id, &mut new.nodes)?;
        let outputs = old.outputs.iter().enumerate().zip(&self.facts.graphs[id].outputs);
        new.outputs.extend(outputs.map(|((k, info), &v)| {
            let mut info = info.clone();
            if self.types.values[v].is_some() {
                self.set_dtype(&mut info, self.chosen.output(id, k, v));
            }
            info.name = self.output_name(id, k, v, &info.name);
            info
        }));
        new.value_info = self.value_info(id, &new.outputs);
        Ok(new)
    }

    /// The body of a function as this call needs it. Its name is not set yet.
    fn function(&mut self, id: GraphId, old: &'m Function) -> Result<Function> {
        let mut nodes = Vec::with_capacity(old.nodes.len());
        self.nodes(id, &mut nodes)?;
        let outputs = old.outputs.iter().enumerate().zip(&self.facts.graphs[id].outputs);
        let outputs = outputs.map(|((k, name), &v)| self.output_name(id, k, v, name)).collect();
        let mut opset_imports = old.opset_imports.clone();
        if nodes.len() > old.nodes.len() && crate::model::graph::find_opset(&opset_imports, "").is_none() {
            // Casts were added to a body without standard operators.
            opset_imports.extend(self.facts.model.opset("").map(|version| OpsetId { domain: "".into(), version }));
        }
        Ok(Function { nodes, outputs, opset_imports, value_info: self.value_info(id, &[]), ..old.clone() })
    }

    fn nodes(&mut self, id: GraphId, out: &mut Vec<Node>) -> Result<()> {
        // Callers may replace an initializer that is listed as an input, so both its types follow from one.
        for &v in &self.facts.graphs[id].inputs {
            self.cast_after(v, out);
        }
        for node in self.facts.graphs[id].nodes.clone() {
            self.node(node, out)?;
        }
        Ok(())
    }

    fn initializers(&mut self, id: GraphId, old: &Graph, new: &mut Graph) -> Result<()> {
        let overridable: HashSet<ValueId> = self.facts.graphs[id].inputs.iter().copied().collect();
        for init in &old.initializers {
            let v = self.facts.resolve(id, &init.name);
            let Some((v, native)) = v.and_then(|v| Some((v, self.types.values[v].as_ref()?.native))) else {
                new.initializers.push(init.clone());
                continue;
            };
            for ty in [Wide::Float, Wide::Half] {
                let Some(name) = self.types.name_of(v, ty).cloned() else { continue };
                if overridable.contains(&v) && ty != native {
                    continue;
                }
                let tensor = match ty {
                    Wide::Float => init.tensor.clone(),
                    Wide::Half => half_constant(self.facts, self.chosen.d, self.chosen.options, v)?,
                };
                new.initializers.push(Initializer { name, tensor, ..init.clone() });
            }
        }
        Ok(())
    }

    fn output_name(&self, id: GraphId, k: usize, v: ValueId, name: &Name) -> Name {
        let found = match &self.types.values[v] {
            Some(_) => self.types.name_of(v, self.chosen.output(id, k, v)),
            None => self.renamed.get(&v),
        };
        found.unwrap_or(name).clone()
    }

    /// Declared types of inner values: the old ones, as far as they still are what they were, and what was stated of values
    /// that have a new name.
    fn value_info(&self, id: GraphId, outputs: &[ValueInfo]) -> Vec<ValueInfo> {
        let facts = self.facts;
        let mut infos = Vec::new();
        for info in facts.graphs[id].source.value_info() {
            let mut info = info.clone();
            if let Some(v) = facts.resolve(id, &info.name) {
                if self.renamed.contains_key(&v) || self.types.values[v].as_ref().is_some_and(|a| a.alias) {
                    continue;
                }
                for ty in [Wide::Float, Wide::Half] {
                    if self.types.name_of(v, ty) == Some(&info.name) {
                        self.set_dtype(&mut info, ty);
                    }
                }
            }
            infos.push(info);
        }
        let declared: HashSet<Name> = infos.iter().chain(outputs).map(|i| i.name.clone()).collect();
        for n in facts.graphs[id].nodes.clone() {
            // Shapes are worth stating; without them only what no schema says.
            let unknown = facts.nodes[n].schema.is_none() && facts.function_of(facts.nodes[n].node).is_none();
            for &v in facts.nodes[n].outputs.iter().flatten() {
                let Some(a) = self.types.values[v].as_ref().filter(|a| !a.alias) else { continue };
                let Some(name) = self.types.name_of(v, a.native).filter(|name| !declared.contains(*name)) else {
                    continue;
                };
                let value = &facts.values[v];
                let shaped = |ty: &&ValueType| ty.tensor_shape().is_some() || unknown;
                let stated = value.ty.as_ref().filter(shaped).filter(|_| *name != value.name);
                if let Some(ty) = stated {
                    let mut info = ValueInfo::new(name.clone(), ty.clone());
                    self.set_dtype(&mut info, a.native);
                    infos.push(info);
                }
            }
        }
        infos
    }

    fn set_dtype(&self, info: &mut ValueInfo, to: Wide) {
        if let Some(ty) = &mut info.ty
            && to == Wide::Half
        {
            *ty = in_half(ty, self.chosen.options.precision);
        }
    }

    fn node(&mut self, id: NodeId, out: &mut Vec<Node>) -> Result<()> {
        let facts = self.facts;
        let old = facts.nodes[id].node;
        if facts.op(id) == "Constant" && facts.touches_f32(id) {
            return self.constant(id, out);
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
            node.outputs[i] = name.clone();
        }
        if self.chosen.d.is_half(id) && !facts.has_linked_bodies(id) {
            retype::attributes(self.chosen, self.types, id, &mut node)?;
        }
        for (body, graph) in &facts.nodes[id].bodies {
            match (body, facts.graphs[*graph].source) {
                (Body::Attribute(attribute, index), Source::Graph(g)) => {
                    let body = self.graph(*graph, g)?;
                    put_body(&mut node, attribute, *index, body);
                }
                (_, Source::Function(f)) => {
                    let body = self.function(*graph, f)?;
                    node.op_type = self.variants.name_for(f, body);
                }
                _ => {}
            }
        }
        out.push(node);
        for v in facts.nodes[id].outputs.iter().flatten() {
            self.cast_after(*v, out);
        }
        Ok(())
    }

    /// The name under which a node reads a value.
    fn read_name(&self, node: NodeId, i: usize, v: ValueId) -> Name {
        let Some(a) = &self.types.values[v] else {
            return self.renamed.get(&v).unwrap_or(&self.facts.values[v].name).clone();
        };
        let ty = self.chosen.wanted_input(node, i).filter(|_| self.facts.values[v].is_f32()).unwrap_or(a.native);
        self.types.name_of(v, ty).unwrap_or(&self.facts.values[v].name).clone()
    }

    /// Puts the Cast to the other type of a value behind its definition, where somebody wants it.
    fn cast_after(&mut self, v: ValueId, out: &mut Vec<Node>) {
        let Some(a) = &self.types.values[v] else { return };
        let (native, other) = (a.native, a.native.other());
        if self.undone.contains(&v) {
            return;
        }
        if let (Some(from), Some(to)) = (self.types.name_of(v, native), self.types.name_of(v, other)) {
            let (from, to) = (from.clone(), to.clone());
            let root = self.facts.graphs[self.facts.values[v].graph].root;
            let name = self.taken.of(root).unique(&to, "_cast");
            out.push(cast_node(name, from, to, self.dtype(other)));
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
        if let (Some(a), Some(to)) = (&self.types.values[output], to) {
            set_attribute(node, "to", AttributeValue::Int(to.to_onnx().into()));
            // Where the input is what the other readers want, they read it: a second Cast would only undo this one.
            let other = a.native.other();
            let lossless = other == Wide::Half && !facts.values[output].is_output;
            if both && lossless && from == Some(self.dtype(other)) {
                self.types.set_name(output, other, node.inputs[0].clone());
                self.undone.insert(output);
            }
        }
        Ok(false)
    }

    fn constant(&mut self, id: NodeId, out: &mut Vec<Node>) -> Result<()> {
        let facts = self.facts;
        let old = facts.nodes[id].node;
        let Some(v) = facts.nodes[id].outputs.first().copied().flatten() else { return Ok(()) };
        for ty in [Wide::Float, Wide::Half] {
            let Some(name) = self.types.name_of(v, ty).cloned() else { continue };
            let mut node = old.clone();
            if name != facts.values[v].name && !node.name.is_empty() {
                let root = facts.graphs[facts.nodes[id].graph].root;
                node.name = self.taken.of(root).unique(&old.name, "_copy");
            }
            node.outputs[0] = name;
            if ty == Wide::Half {
                let tensor = half_constant(facts, self.chosen.d, self.chosen.options, v)?;
                node.attributes = vec![tensor_attribute(&old.attributes, tensor)];
            }
            out.push(node);
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
