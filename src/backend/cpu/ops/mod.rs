//! Operators: one file a family. Each family has a table that says which operators it has and how a node of that type
//! becomes a kernel; attributes are read once, when the engine is built, for the opset version the model imports.

pub mod along_rows;
mod attention;
mod axes;
mod binary;
mod cast;
mod cast_small;
mod construct;
mod control;
mod conv;
mod deform_conv;
mod einsum;
pub mod fused;
mod gather;
mod grid_sample;
mod layout;
mod limits;
mod logic;
mod loss;
mod matmul;
mod ml;
mod node;
mod norm;
mod pad;
mod pool;
mod quantize;
mod quantized;
mod re2;
mod recurrent;
mod reduce;
mod resize;
mod roi;
mod sample;
mod select;
mod sequence;
mod signal;
mod softmax;
mod stateful;
mod strings;
mod tfidf;
mod transformer;
mod unary;
mod unpool;
mod wide;
mod window;

pub use fused::Then;
pub use node::{Inputs, NodeCx};

use super::exec::Cx;
use super::kernels::program::Stage;
use super::kernels::row_steps::{Change, Reduce};
use super::tensor::Tensor;
use super::value::Val;
use crate::model::DataType;
use crate::{Result, bail};
use std::sync::Arc;

/// An operator with its attributes, ready to run. Shared by all contexts of an engine.
pub trait Kernel: Send + Sync {
    /// Computes the outputs, in the operator's order; trailing outputs that the node does not name may be left out.
    fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>>;

    /// What it does to each element, if that is all it does.
    fn stage(&self) -> Option<&Stage> {
        None
    }

    /// What it does along one dimension, if it works on that alone and keeps it.
    fn row_work(&self) -> Option<RowWork<'_>> {
        None
    }

    /// The type it converts to, if it converts between FP32, FP16 and BF16 as far as its node says.
    fn float_cast(&self) -> Option<DataType> {
        None
    }

    /// True if it can finish its results with stages while they are in the caches.
    fn is_head(&self) -> bool {
        false
    }

    /// The same over tensors whose channels lie side by side, if there is such a kernel.
    fn channels_last(&self) -> Option<&ChannelsLast> {
        None
    }

    /// The order of dimensions, if all it does is to transpose.
    fn permutation(&self) -> Option<&[i64]> {
        None
    }

    /// Computes its output and finishes it; `None` if it cannot, or the stages do not fit what it makes.
    fn run_then(&self, _cx: &Cx, _inputs: &Inputs, _then: &Then) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// What an operator does along one dimension, which it names as its node does.
#[derive(Clone, Copy)]
pub enum RowWork<'a> {
    /// Makes a number of a row.
    Reduce(&'a dyn Reduce, i64),
    /// Makes a row of a row.
    Change(&'a dyn Change, i64),
}

impl RowWork<'_> {
    /// True if it is the last dimension, or likely to be where the rank is not known: the second one mostly is that of
    /// channels.
    pub fn is_likely_last(self) -> bool {
        let (RowWork::Reduce(_, axis) | RowWork::Change(_, axis)) = self;
        axis == -1 || axis >= 2
    }

    /// True if it is the last of `rank` dimensions.
    pub fn is_last_of(self, rank: usize) -> bool {
        let (RowWork::Reduce(_, axis) | RowWork::Change(_, axis)) = self;
        axis == -1 || usize::try_from(axis).is_ok_and(|a| a + 1 == rank)
    }
}

/// A kernel that takes and gives images with their channels in the last dimension instead of the second.
#[derive(Clone)]
pub struct ChannelsLast {
    /// The kernel.
    pub kernel: Arc<dyn Kernel>,
    /// Rank of the image that input 0 is, where the node says it; its other inputs are as they were. `None`: all inputs
    /// are images of one rank.
    pub rank: Option<usize>,
    /// Images are turned for it; others only take what is turned already.
    pub draws: bool,
}

/// A kernel that has a form for channels side by side.
pub fn with_channels_last(planes: Box<dyn Kernel>, last: ChannelsLast) -> Box<dyn Kernel> {
    struct Both(Box<dyn Kernel>, ChannelsLast);
    impl Kernel for Both {
        fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
            self.0.run(cx, inputs)
        }
        fn stage(&self) -> Option<&Stage> {
            self.0.stage()
        }
        fn channels_last(&self) -> Option<&ChannelsLast> {
            Some(&self.1)
        }
    }
    Box::new(Both(planes, last))
}

/// A built kernel.
pub type Built = Result<Box<dyn Kernel>>;

/// An operator of a family's table.
pub struct Entry {
    /// Its domain; empty for the standard one.
    pub domain: &'static str,
    /// Its type.
    pub op: &'static str,
    /// Makes a kernel of a node.
    pub build: fn(&NodeCx) -> Built,
}

/// A table's line for an operator of the standard domain.
pub const fn entry(op: &'static str, build: fn(&NodeCx) -> Built) -> Entry {
    entry_in("", op, build)
}

/// A table's line for an operator of another domain.
pub const fn entry_in(domain: &'static str, op: &'static str, build: fn(&NodeCx) -> Built) -> Entry {
    Entry { domain, op, build }
}

/// A kernel out of a closure that gives all outputs.
pub fn kernel(f: impl Fn(&Cx, &mut Inputs) -> Result<Vec<Val>> + Send + Sync + 'static) -> Built {
    struct Closure<F>(F);
    impl<F: Fn(&Cx, &mut Inputs) -> Result<Vec<Val>> + Send + Sync> Kernel for Closure<F> {
        fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
            (self.0)(cx, inputs)
        }
    }
    Ok(Box::new(Closure(f)))
}

/// A kernel that does nothing but what the stage does to each element.
pub fn staged(stage: Option<Stage>, kernel: Built) -> Built {
    struct Staged(Stage, Box<dyn Kernel>);
    impl Kernel for Staged {
        fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
            self.1.run(cx, inputs)
        }
        fn stage(&self) -> Option<&Stage> {
            Some(&self.0)
        }
    }
    match stage {
        Some(stage) => kernel.map(|k| Box::new(Staged(stage, k)) as Box<dyn Kernel>),
        None => kernel,
    }
}

/// A kernel that can finish its results with stages: the closure gets them where it is to do so, and then gives `None`
/// if they do not fit.
pub fn head_kernel(f: impl Fn(&Cx, &Inputs, Option<&Then>) -> Result<Option<Tensor>> + Send + Sync + 'static) -> Built {
    struct Head<F>(F);
    impl<F: Fn(&Cx, &Inputs, Option<&Then>) -> Result<Option<Tensor>> + Send + Sync> Kernel for Head<F> {
        fn run(&self, cx: &Cx, inputs: &mut Inputs) -> Result<Vec<Val>> {
            match (self.0)(cx, inputs, None)? {
                Some(y) => Ok(vec![Val::Tensor(y)]),
                None => bail!(Internal, "a product gave no result"),
            }
        }
        fn is_head(&self) -> bool {
            true
        }
        fn run_then(&self, cx: &Cx, inputs: &Inputs, then: &Then) -> Result<Option<Tensor>> {
            (self.0)(cx, inputs, Some(then))
        }
    }
    Ok(Box::new(Head(f)))
}

/// A kernel out of a closure that gives one tensor.
pub fn tensor_kernel(f: impl Fn(&Cx, &mut Inputs) -> Result<Tensor> + Send + Sync + 'static) -> Built {
    kernel(move |cx, inputs| Ok(vec![Val::Tensor(f(cx, inputs)?)]))
}

const FAMILIES: &[&[Entry]] = &[
    unary::TABLE,
    binary::TABLE,
    logic::TABLE,
    cast::TABLE,
    conv::TABLE,
    pool::TABLE,
    matmul::TABLE,
    softmax::TABLE,
    norm::TABLE,
    reduce::TABLE,
    layout::TABLE,
    gather::TABLE,
    construct::TABLE,
    pad::TABLE,
    resize::TABLE,
    select::TABLE,
    einsum::TABLE,
    recurrent::TABLE,
    quantize::TABLE,
    quantized::TABLE,
    signal::TABLE,
    strings::TABLE,
    tfidf::TABLE,
    ml::TABLE,
    control::TABLE,
    sequence::TABLE,
    loss::TABLE,
    attention::TABLE,
    transformer::TABLE,
    stateful::TABLE,
    grid_sample::TABLE,
    roi::TABLE,
    unpool::TABLE,
    deform_conv::TABLE,
];

/// Domain and type of every operator there is; ai.onnx is the empty domain.
pub fn operators() -> impl Iterator<Item = (&'static str, &'static str)> {
    FAMILIES.iter().flat_map(|family| family.iter()).map(|e| (e.domain, e.op))
}

/// The kernel of a node; `Unsupported` names the operator where there is none.
pub fn build(cx: &NodeCx) -> Built {
    let (domain, op) = (cx.node.domain(), &*cx.node.op_type);
    for family in FAMILIES {
        if let Some(entry) = family.iter().find(|e| e.op == op && e.domain == domain) {
            return (entry.build)(cx);
        }
    }
    let prefix = if domain.is_empty() { String::new() } else { format!("{domain}::") };
    bail!(Unsupported, "{prefix}{op} version {}", cx.opset)
}
