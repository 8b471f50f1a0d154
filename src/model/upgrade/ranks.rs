//! Ranks of values that the model does not state, so that simple forms can be chosen.
//!
//! Only operators that stand in common models, in their forms of version 12, where alone ranks matter (Softmax). Of values
//! of rank 1 the length is followed too: shapes that Reshape reads are put together from such.

use super::scope::Scope;
use crate::model::{AttributeValue, Name, Node, Tensor};

/// What is known of a value's dimensions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rank {
    pub rank: usize,
    /// Of a value of rank 1, its length.
    pub length: Option<i64>,
}

/// Ranks above this are not followed.
const MAX_RANK: usize = 64;

impl Rank {
    fn of(rank: usize) -> Option<Rank> {
        (rank <= MAX_RANK).then_some(Rank { rank, length: None })
    }

    fn list(length: Option<i64>) -> Option<Rank> {
        Some(Rank { rank: 1, length })
    }

    pub fn of_dims(dims: &[i64]) -> Option<Rank> {
        match dims {
            [length] => Rank::list(Some(*length)),
            _ => Rank::of(dims.len()),
        }
    }
}

/// The ranks of what a graph's nodes make.
pub(super) fn infer(scope: &mut Scope) {
    for node in scope.body.nodes().iter().filter(|n| n.domain().is_empty()) {
        let found: Vec<(Name, Rank)> = node
            .outputs
            .iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty())
            .filter_map(|(i, name)| Some((name.clone(), output(node, i, scope)?)))
            .collect();
        scope.ranks.extend(found);
    }
}

fn output(node: &Node, i: usize, scope: &Scope) -> Option<Rank> {
    let of = |i: usize| scope.rank(node.inputs.get(i).filter(|n| !n.is_empty())?);
    let axes = || node.ints("axes").map(<[i64]>::len);
    match &*node.op_type {
        "Abs"
        | "AveragePool"
        | "BatchNormalization"
        | "Cast"
        | "Ceil"
        | "Clip"
        | "Conv"
        | "ConvTranspose"
        | "CumSum"
        | "DepthToSpace"
        | "Dropout"
        | "Elu"
        | "Erf"
        | "Exp"
        | "Floor"
        | "GlobalAveragePool"
        | "GlobalMaxPool"
        | "HardSigmoid"
        | "Hardmax"
        | "Identity"
        | "InstanceNormalization"
        | "LRN"
        | "LeakyRelu"
        | "Log"
        | "LogSoftmax"
        | "LpNormalization"
        | "MaxPool"
        | "Neg"
        | "Not"
        | "Reciprocal"
        | "Relu"
        | "Round"
        | "Selu"
        | "Sigmoid"
        | "Sign"
        | "Softmax"
        | "Softplus"
        | "Softsign"
        | "SpaceToDepth"
        | "Sqrt"
        | "Tanh"
        | "ThresholdedRelu"
        | "DequantizeLinear"
        | "QuantizeLinear"
            if i == 0 =>
        {
            // A convolution keeps no length, but its input has more than one dimension.
            of(0)
        }
        "Pad" | "Slice" | "Split" | "TopK" | "Tile" | "Resize" | "Transpose" | "GatherElements" | "ScatterElements"
        | "ScatterND" | "ReverseSequence" => Rank::of(of(0)?.rank),
        "Add" | "And" | "Div" | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Max" | "Mean"
        | "Min" | "Mod" | "Mul" | "Or" | "PRelu" | "Pow" | "Sub" | "Sum" | "Where" | "Xor" => {
            let all: Vec<Rank> = (0..node.inputs.len()).map(of).collect::<Option<_>>()?;
            broadcast(&all)
        }
        "MatMul" => {
            let (a, b) = (of(0)?.rank, of(1)?.rank);
            let vectors = usize::from(a == 1) + usize::from(b == 1);
            Rank::of(a.max(b).max(2).checked_sub(vectors)?)
        }
        "Gemm" | "Flatten" | "NonZero" => Rank::of(2),
        "Size" => Rank::of(0),
        "Shape" => Rank::list(of(0).and_then(|r| i64::try_from(r.rank).ok())),
        "Constant" => constant(node),
        "Reshape" | "ConstantOfShape" => {
            let shape = if &*node.op_type == "Reshape" { of(1)? } else { of(0)? };
            Rank::of(usize::try_from(shape.length?).ok()?)
        }
        "Expand" => Rank::of(of(0)?.rank.max(usize::try_from(of(1)?.length?).ok()?)),
        "Concat" => concat(node, &(0..node.inputs.len()).map(of).collect::<Option<Vec<_>>>()?),
        "Gather" => match (of(0)?.rank, of(1)?) {
            (1, indices) => Some(indices),
            (data, indices) => Rank::of((data + indices.rank).checked_sub(1)?),
        },
        "Unsqueeze" => match (of(0)?.rank, axes()?) {
            (0, 1) => Rank::list(Some(1)),
            (rank, new) => Rank::of(rank + new),
        },
        "Squeeze" => Rank::of(of(0)?.rank.checked_sub(axes()?)?),
        "ArgMax" | "ArgMin" => Rank::of(of(0)?.rank.checked_sub(usize::from(node.int("keepdims") == Some(0)))?),
        op if op.starts_with("Reduce") => match (node.int("keepdims"), axes()) {
            (Some(0), Some(axes)) => Rank::of(of(0)?.rank.checked_sub(axes)?),
            (Some(0), None) => Rank::of(0),
            _ => Rank::of(of(0)?.rank),
        },
        "OneHot" => Rank::of(of(0)?.rank + 1),
        "LSTM" | "GRU" | "RNN" => Rank::of(if i == 0 { 4 } else { 3 }),
        _ => None,
    }
}

fn broadcast(all: &[Rank]) -> Option<Rank> {
    let rank = all.iter().map(|r| r.rank).max()?;
    let lists: Option<Vec<i64>> = all.iter().filter(|r| r.rank == 1).map(|r| r.length).collect();
    match rank {
        // Lengths are equal, or 1.
        1 => Rank::list(lists.and_then(|l| l.into_iter().find(|n| *n != 1).or(Some(1)))),
        _ => Rank::of(rank),
    }
}

fn concat(node: &Node, all: &[Rank]) -> Option<Rank> {
    let first = all.first()?;
    if first.rank != 1 {
        return Rank::of(first.rank);
    }
    let axis = node.int("axis").is_some_and(|a| a == 0 || a == -1);
    let sum = all.iter().try_fold(0i64, |sum, r| sum.checked_add(r.length?));
    Rank::list(sum.filter(|_| axis))
}

fn constant(node: &Node) -> Option<Rank> {
    let dims = |t: &Tensor| Rank::of_dims(t.dims());
    node.attributes.iter().find_map(|a| match &a.value {
        AttributeValue::Tensor(t) => dims(&t.tensor),
        AttributeValue::Ints(v) => Rank::list(i64::try_from(v.len()).ok()),
        AttributeValue::Floats(v) => Rank::list(i64::try_from(v.len()).ok()),
        AttributeValue::Int(_) | AttributeValue::Float(_) | AttributeValue::String(_) => Rank::of(0),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::scope::Body;
    use super::*;
    use crate::model::{DataType, Dim, Graph, ValueInfo, ValueType};

    fn node(op: &str, inputs: &[&str], output: &str, ints: &[(&str, &[i64])]) -> Node {
        let attributes =
            ints.iter().map(|(n, v)| super::super::context::attribute(n, AttributeValue::Ints(v.to_vec())));
        Node {
            op_type: op.into(),
            inputs: inputs.iter().map(|i| Name::from(*i)).collect(),
            outputs: vec![output.into()],
            attributes: attributes.collect(),
            ..Node::default()
        }
    }

    #[test]
    fn a_shape_put_together_from_parts() {
        let input = ValueInfo::new("x", ValueType::tensor(DataType::Float32, Some(vec![Dim::unknown(); 3])));
        let scalar = ValueInfo::new("i", ValueType::tensor(DataType::Int64, Some(vec![])));
        let mut concat = node("Concat", &["part", "shape", "part"], "all", &[]);
        concat.attributes.push(super::super::context::attribute("axis", AttributeValue::Int(0)));
        let graph = Graph {
            inputs: vec![input, scalar],
            nodes: vec![
                node("Shape", &["x"], "shape", &[]),
                node("Gather", &["shape", "i"], "one", &[]),
                node("Unsqueeze", &["one"], "part", &[("axes", &[0])]),
                concat,
                node("Reshape", &["x", "all"], "y", &[]),
                node("MatMul", &["y", "x"], "z", &[]),
                node("Unknown", &["z"], "w", &[]),
            ],
            ..Graph::default()
        };
        let mut typing = crate::model::infer::Typing::default();
        for v in &graph.inputs {
            typing.values.extend(v.ty.clone().map(|t| (v.name.clone(), t)));
        }
        let scope = Scope::new(Body::Graph(&graph), vec![&typing], None, true);
        let rank = |name: &str| scope.rank(name).map(|r| (r.rank, r.length));
        assert_eq!(rank("shape"), Some((1, Some(3))));
        assert_eq!(rank("one"), Some((0, None)));
        assert_eq!(rank("all"), Some((1, Some(5))));
        assert_eq!((rank("y"), rank("z"), rank("w")), (Some((5, None)), Some((5, None)), None));
        assert_eq!(scope.shape("z").map(|s| s.len()), Some(5));
    }
}
