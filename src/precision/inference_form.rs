//! Inference form: Dropout is removed, and a model that would still train is refused.

use crate::hash::{HashMap, HashSet};
use crate::model::{Function, Graph, Model, Name, Node};
use crate::{Result, bail};

/// Brings a model into inference form. Returns what was done, for the report.
pub(super) fn apply(model: &mut Model) -> Result<Vec<String>> {
    let opset = model.opset("").unwrap_or(1);
    let mut removed = 0;
    apply_graph(&mut model.graph, opset, &HashMap::default(), &mut removed)?;
    for Function { nodes, .. } in &model.functions {
        nodes.iter().try_for_each(|n| refuse_training(n, opset, &HashMap::default()))?;
    }
    Ok(if removed == 0 {
        Vec::new()
    } else {
        vec![format!("removed {removed} Dropout, which does nothing in inference")]
    })
}

/// Values known to be false, among those in scope: constants that switch training off.
type Known = HashMap<Name, bool>;

fn apply_graph(graph: &mut Graph, opset: i64, outer: &Known, removed: &mut usize) -> Result<()> {
    let mut known = outer.clone();
    known.extend(graph.initializers.iter().filter_map(|i| Some((i.name.clone(), as_bool(&i.tensor)?))));
    let outputs: HashSet<Name> = graph.outputs.iter().map(|o| o.name.clone()).collect();
    let mut renamed: HashMap<Name, Name> = HashMap::default();
    let read = masks_read(graph);
    let mut kept = Vec::with_capacity(graph.nodes.len());
    for mut node in std::mem::take(&mut graph.nodes) {
        rename_inputs(&mut node, &renamed);
        if node.is("Constant")
            && let Some(crate::model::AttributeValue::Tensor(t)) = node.attribute("value")
            && let (Some(value), Some(output)) = (as_bool(&t.tensor), node.outputs.first())
        {
            known.insert(output.clone(), value);
        }
        refuse_training(&node, opset, &known)?;
        let mask_wanted = node.outputs.get(1).is_some_and(|m| read.contains(m) || outputs.contains(m));
        // One without an input is left to the type checker, which names it.
        if node.is("Dropout")
            && !mask_wanted
            && let (Some(input), Some(output)) = (node.inputs.first().cloned(), node.outputs.first().cloned())
            && !input.is_empty()
            && !output.is_empty()
        {
            *removed += 1;
            if outputs.contains(&output) {
                // The graph's output keeps its name.
                node.op_type = "Identity".into();
                node.inputs.truncate(1);
                node.outputs.truncate(1);
                node.attributes.clear();
            } else {
                renamed.insert(output, input);
                continue;
            }
        }
        for body in node.subgraphs_mut() {
            rename_captures(body, &renamed);
            apply_graph(body, opset, &known, removed)?;
        }
        kept.push(node);
    }
    graph.nodes = kept;
    graph.value_info.retain(|v| !renamed.contains_key(&v.name));
    Ok(())
}

/// Second outputs of Dropouts that some node reads.
fn masks_read(graph: &Graph) -> HashSet<Name> {
    let masks: HashSet<&Name> =
        graph.nodes.iter().filter(|n| n.is("Dropout")).filter_map(|n| n.outputs.get(1)).collect();
    let mut read = HashSet::default();
    if !masks.is_empty() {
        collect_reads(graph, &masks, &mut read);
    }
    read
}

fn collect_reads(graph: &Graph, names: &HashSet<&Name>, read: &mut HashSet<Name>) {
    read.extend(graph.outputs.iter().map(|o| &o.name).filter(|n| names.contains(n)).cloned());
    for node in &graph.nodes {
        read.extend(node.inputs.iter().filter(|n| !n.is_empty() && names.contains(n)).cloned());
        node.subgraphs().for_each(|(_, g)| collect_reads(g, names, read));
    }
}

fn rename_inputs(node: &mut Node, renamed: &HashMap<Name, Name>) {
    for input in &mut node.inputs {
        if let Some(to) = renamed.get(input) {
            *input = to.clone();
        }
    }
}

fn rename_captures(graph: &mut Graph, renamed: &HashMap<Name, Name>) {
    if renamed.is_empty() {
        return;
    }
    // Inputs and initializers of a subgraph may hide names of the graphs around it.
    let hidden: HashSet<&Name> =
        graph.inputs.iter().map(|v| &v.name).chain(graph.initializers.iter().map(|i| &i.name)).collect();
    let seen: HashMap<Name, Name>;
    let renamed = if renamed.keys().any(|n| hidden.contains(n)) {
        seen = renamed.iter().filter(|(n, _)| !hidden.contains(n)).map(|(n, to)| (n.clone(), to.clone())).collect();
        &seen
    } else {
        renamed
    };
    for node in &mut graph.nodes {
        rename_inputs(node, renamed);
        node.subgraphs_mut().for_each(|g| rename_captures(g, renamed));
    }
    for output in &mut graph.outputs {
        if let Some(to) = renamed.get(&output.name) {
            output.name = to.clone();
        }
    }
}

fn refuse_training(node: &Node, opset: i64, known: &Known) -> Result<()> {
    let remedy = "export the model in inference (eval) form";
    if node.is("Dropout") && opset >= 12 {
        match node.inputs.get(2).filter(|n| !n.is_empty()).map(|n| known.get(n)) {
            None | Some(Some(false)) => {}
            Some(Some(true)) => bail!(InvalidModel, "node {} is a Dropout in training mode: {remedy}", node.label()),
            Some(None) => bail!(
                InvalidModel,
                "node {} is a Dropout whose training mode is decided when it runs, by '{}': {remedy}",
                node.label(),
                node.inputs[2]
            ),
        }
    }
    let training = node.is("BatchNormalization")
        && if opset >= 14 {
            node.int("training_mode").unwrap_or(0) != 0
        } else {
            node.outputs.iter().skip(1).any(|o| !o.is_empty())
        };
    if training {
        bail!(InvalidModel, "node {} is a BatchNormalization in training mode: {remedy}", node.label());
    }
    Ok(())
}

fn as_bool(tensor: &crate::model::Tensor) -> Option<bool> {
    if tensor.len() != 1 || tensor.dtype() != crate::model::DataType::Bool {
        return None;
    }
    tensor.to_i64()?.first().map(|v| *v != 0)
}
