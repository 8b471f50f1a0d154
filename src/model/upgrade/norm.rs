//! BatchNormalization and GroupNormalization.

use super::context::{Adapted, Context, decided, input, needed, set, take_float, take_int};
use crate::model::{AttributeValue, DataType, Name, Node, Storage, Tensor};

/// BatchNormalization: `spatial` is withdrawn. With 0, statistics stand for every element of a sample, which other operators
/// do as well.
pub(super) fn batch_9(mut node: Node, c: &mut Context) -> Adapted {
    if decided(take_int(&mut node, "spatial")?, "spatial", 1)? != 0 {
        c.push(node);
        return Ok(());
    }
    if node.outputs.iter().skip(1).any(|o| !o.is_empty()) {
        return Err(
            "it trains with statistics for every element (spatial is 0), which has no newer form: export the model \
                    in inference (eval) form"
                .into(),
        );
    }
    let [x, scale, bias, mean, var] = [0, 1, 2, 3, 4].map(|i| needed(&node, i));
    let (x, scale, bias, mean, var) = (x?, scale?, bias?, mean?, var?);
    let output = node.outputs.first().cloned().unwrap_or_default();
    let epsilon = decided(take_float(&mut node, "epsilon")?, "epsilon", 1e-5)?;
    let Some(epsilon) = c.float_of("_epsilon", super::context::Given::Value(epsilon), &x)? else { return Ok(()) };
    let centred = c.op("Sub", "_centred", &[&x, &mean], &[]);
    let sum = c.op("Add", "_var", &[&var, &epsilon], &[]);
    let root = c.op("Sqrt", "_std", &[&sum], &[]);
    let normal = c.op("Div", "_normal", &[&centred, &root], &[]);
    let scaled = c.op("Mul", "_scaled", &[&normal, &scale], &[]);
    c.op_to("Add", &output, &[&scaled, &bias], &[]);
    Ok(())
}

/// BatchNormalization: training is said by an attribute, no longer by the number of outputs; two outputs are gone.
pub(super) fn batch_14(mut node: Node, c: &mut Context) -> Adapted {
    if node.outputs.iter().skip(1).any(|o| !o.is_empty()) {
        if let Some(saved) = node.outputs.iter().skip(3).find(|o| !o.is_empty() && c.scope.is_read(o)) {
            return Err(format!(
                "its output '{saved}' (a batch's statistics, saved for training) is withdrawn: export the model in \
                 inference (eval) form, or do not read the output"
            ));
        }
        set(&mut node, "training_mode", AttributeValue::Int(1));
        node.outputs.truncate(3);
    } else {
        node.outputs.truncate(1);
    }
    c.push(node);
    Ok(())
}

/// GroupNormalization: scale and bias stand for each channel instead of each group.
pub(super) fn group_21(mut node: Node, c: &mut Context) -> Adapted {
    let data = needed(&node, 0)?;
    let groups = match node.attribute("num_groups") {
        Some(AttributeValue::Int(g)) if *g > 0 => *g,
        Some(AttributeValue::Reference { .. }) => {
            return Err(
                "its attribute 'num_groups' comes from the function's caller, but decides the new form: inline the \
                        function"
                    .into(),
            );
        }
        _ => return Err("its attribute 'num_groups' is missing or not positive: correct the model".into()),
    };
    let channels = c.shape(&data).and_then(|s| s.get(1)?.size()).filter(|n| *n > 0 && n % groups == 0);
    // What the shape of one parameter becomes on the way, for those that are no constants.
    let mut expanded: Option<Name> = None;
    for i in [1, 2] {
        let Some(old) = input(&node, i).cloned() else { continue };
        let constant = channels.and_then(|n| repeated(c.scope.constant(&old)?, groups, n / groups));
        node.inputs[i] = match constant {
            Some(tensor) => c.constant(if i == 1 { "_scale" } else { "_bias" }, tensor),
            None => {
                let shape = match &expanded {
                    Some(shape) => shape.clone(),
                    None => group_shape(&data, groups, channels, c),
                };
                expanded = Some(shape.clone());
                let column = c.ints("_column", vec![groups, 1]);
                let column = c.op("Reshape", "_per_group", &[&old, &column], &[]);
                let all = c.op("Expand", "_in_groups", &[&column, &shape], &[]);
                let flat = c.ints("_flat", vec![-1]);
                c.op("Reshape", "_per_channel", &[&all, &flat], &[])
            }
        };
    }
    if c.scope.dtype(&data) == Some(DataType::Float64) {
        // The new default would round the statistics of doubles.
        set(&mut node, "stash_type", AttributeValue::Int(DataType::Float64.to_onnx().into()));
    }
    c.push(node);
    Ok(())
}

/// The shape [groups, channels / groups], as a value.
fn group_shape(data: &Name, groups: i64, channels: Option<i64>, c: &mut Context) -> Name {
    if let Some(n) = channels {
        return c.ints("_groups", vec![groups, n / groups]);
    }
    let (one, two) = (AttributeValue::Int(1), AttributeValue::Int(2));
    let channels = c.op("Shape", "_channels", &[data], &[("start", one), ("end", two)]);
    let groups = c.ints("_groups", vec![groups]);
    let each = c.op("Div", "_group_size", &[&channels, &groups], &[]);
    c.op("Concat", "_group_shape", &[&groups, &each], &[("axis", AttributeValue::Int(0))])
}

/// Constants up to this many elements are repeated here; nodes do it for others.
const MAX_REPEATED: usize = 1 << 20;

/// A constant with each of its `groups` elements `times` in a row.
fn repeated(old: &Tensor, groups: i64, times: i64) -> Option<Tensor> {
    let (groups, times) = (usize::try_from(groups).ok()?, usize::try_from(times).ok()?);
    let count = groups.checked_mul(times).filter(|n| *n <= MAX_REPEATED)?;
    if old.len() != groups {
        return None;
    }
    let size = old.dtype().element_size()?;
    let old_bytes = old.bytes().ok()?;
    let bytes: Vec<u8> = old_bytes.chunks(size).flat_map(|one| one.repeat(times)).collect();
    let dims = vec![i64::try_from(count).ok()?];
    Tensor::new(old.dtype(), dims, Storage::Bytes(bytes.into())).ok()
}
