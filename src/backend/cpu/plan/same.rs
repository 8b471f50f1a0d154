//! Computations on shapes that a model repeats (exporters write Shape, Gather and Concat anew for each Reshape) are done
//! once: steps with integer results that do the same to the same inputs.

use super::{Source, Step};
use crate::backend::cpu::value::Val;
use crate::hash::HashMap;
use crate::model::{AttributeValue, DataType, Node};
use std::fmt::Write;

/// Bytes of a constant that is compared by what it holds, not by which one it is.
const SMALL: usize = 64;

/// What a node does, in words that are equal only for nodes that do the same; `None` where that is not told.
pub fn deed(node: &Node, opset: i64, outputs: &[Option<DataType>]) -> Option<String> {
    let integers = |t: &Option<DataType>| t.is_some_and(|t| t.is_integer() || t == DataType::Bool);
    // Random numbers are drawn anew by each.
    let random = node.op_type.starts_with("Random") || matches!(&*node.op_type, "Bernoulli" | "Multinomial");
    if outputs.len() != 1 || !integers(&outputs[0]) || random {
        return None;
    }
    let mut text = format!("{}.{}.{opset}", node.domain, node.op_type);
    for attribute in &node.attributes {
        match &attribute.value {
            value @ (AttributeValue::Int(_) | AttributeValue::Ints(_) | AttributeValue::String(_)) => {
                write!(text, " {}={value:?}", attribute.name).ok()?;
            }
            _ => return None,
        }
    }
    Some(text)
}

/// The steps without those that repeat another one; `None` if there are none.
pub fn once(steps: &[Step], constants: &[Val], slots: usize, outputs: &[Source]) -> Option<Vec<Step>> {
    let mut kept = vec![false; slots];
    for source in outputs {
        if let Source::Slot { index, .. } = source {
            kept[*index] = true;
        }
    }
    let mut alias: Vec<usize> = (0..slots).collect();
    let mut seen: HashMap<String, usize> = HashMap::default();
    let mut made = Vec::with_capacity(steps.len());
    for step in steps {
        let mut step = step.clone();
        for source in &mut step.inputs {
            if let Source::Slot { index, .. } = source {
                *index = alias[*index];
            }
        }
        if let (Some(deed), [Some((slot, _))]) = (&step.deed, &step.outputs[..])
            && step.bodies.is_empty()
            && !kept[*slot]
        {
            let first = *seen.entry(format!("{deed}{}", given(&step.inputs, constants))).or_insert(*slot);
            if first != *slot {
                alias[*slot] = first;
                continue;
            }
        }
        made.push(step);
    }
    (made.len() < steps.len()).then_some(made)
}

/// The inputs, in words.
fn given(inputs: &[Source], constants: &[Val]) -> String {
    let mut text = String::new();
    for source in inputs {
        text += &match source {
            Source::Absent => " -".to_string(),
            Source::Slot { index, .. } => format!(" s{index}"),
            Source::Constant(i) => match constants.get(*i) {
                Some(Val::Tensor(t)) if t.dtype() != DataType::String && t.bytes().len() <= SMALL => {
                    format!(" {t:?}{:?}", t.bytes())
                }
                _ => format!(" c{i}"),
            },
        };
    }
    text
}
