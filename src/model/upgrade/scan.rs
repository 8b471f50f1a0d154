//! Scan 8, which has a batch axis, as two Scans of version 9 in each other: over the batch, and over the sequence.

use super::context::{Adapted, Context, attribute, decided, input, take_int, take_ints};
use crate::model::{AttributeValue, Dim, Graph, Name, Node, TypeKind, ValueInfo, ValueType};

pub(super) fn scan_9(mut node: Node, c: &mut Context) -> Adapted {
    if input(&node, 0).is_some() {
        return Err(
            "it has lengths for the sequences of a batch (sequence_lens), which have no newer form: export the model \
                    without them"
                .into(),
        );
    }
    let scanned = decided(take_int(&mut node, "num_scan_inputs")?, "num_scan_inputs", 0)?;
    let directions = decided(take_ints(&mut node, "directions")?, "directions", Vec::new())?;
    let Some(count) = node.inputs.len().checked_sub(1) else {
        return Err("it has no inputs: correct the model".into());
    };
    let Some(body) = node.attributes.iter().find_map(|a| match &a.value {
        AttributeValue::Graph(g) if &*a.name == "body" => Some(g),
        _ => None,
    }) else {
        return Err("its attribute 'body' is missing: correct the model".into());
    };
    let Some(states) = usize::try_from(scanned).ok().and_then(|m| count.checked_sub(m)) else {
        return Err(format!("it has {count} inputs, of which {scanned} are to be scanned: correct the model"));
    };
    // What the inner Scan reads and makes, of one sample of the batch.
    let mut typed = |list: &[ValueInfo], total: usize, suffix: &str| -> Vec<ValueInfo> {
        (0..total)
            .map(|i| {
                let ty = list.get(i).and_then(|v| v.ty.clone());
                let ty = if i < states { ty } else { ty.map(along_sequence) };
                ValueInfo { name: c.name(suffix), ty, doc_string: None, metadata: Vec::new() }
            })
            .collect()
    };
    let inputs = typed(&body.inputs, count, "_sample");
    let outputs = typed(&body.outputs, node.outputs.len(), "_result");
    let names = |list: &[ValueInfo]| -> Vec<Name> { list.iter().map(|v| v.name.clone()).collect() };
    let mut inner = Node {
        name: c.name("_sequence"),
        op_type: "Scan".into(),
        inputs: names(&inputs),
        outputs: names(&outputs),
        attributes: std::mem::take(&mut node.attributes),
        ..Node::default()
    };
    inner.attributes.push(attribute("num_scan_inputs", AttributeValue::Int(scanned)));
    if !directions.is_empty() {
        inner.attributes.push(attribute("scan_input_directions", AttributeValue::Ints(directions)));
    }
    let batch = Graph { name: Some(c.name("_batch")), nodes: vec![inner], inputs, outputs, ..Graph::default() };
    node.inputs.remove(0);
    node.attributes = vec![
        attribute("body", AttributeValue::Graph(Box::new(batch))),
        attribute("num_scan_inputs", AttributeValue::Int(count as i64)),
    ];
    c.push(node);
    Ok(())
}

/// The type of a sequence of such elements.
fn along_sequence(ty: ValueType) -> ValueType {
    match ty.kind {
        TypeKind::Tensor { dtype, shape: Some(mut shape) } => {
            shape.insert(0, Dim::unknown());
            ValueType::tensor(dtype, Some(shape))
        }
        kind => ValueType::new(kind),
    }
}
