//! Constants computed once, when the engine is built.

use super::build::Binding;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::ops::{Inputs, Kernel};
use crate::backend::cpu::threads::Threads;
use crate::backend::cpu::value::Val;
use crate::model::{Name, Node};
use std::sync::Arc;

/// Where folding computes.
pub struct Folding {
    /// Memory of constants.
    pub pool: Arc<Pool>,
    scratch: Arc<Pool>,
    /// False: only the values of Constant nodes are constants.
    pub enabled: bool,
    pub threads: Threads,
}

impl Folding {
    /// Folding on the calling thread.
    pub fn new(pool: &Arc<Pool>, enabled: bool) -> Self {
        Folding { enabled, pool: pool.clone(), scratch: Pool::new(SCRATCH_BYTES), threads: Threads::inline() }
    }
}

/// Results above this are computed in every run, unless they only move elements: a weight that is stored small
/// (quantized, half, or as a repeated pattern) stays small.
const MAX_BYTES: usize = 1 << 20;

/// What computing one constant may need.
const SCRATCH_BYTES: usize = 256 << 20;

/// The node's outputs, if all its inputs are constant and they can be computed now. An operator that fails on its
/// constants stays in the plan: its error belongs to the run that reaches it.
pub fn try_fold(
    folding: &Folding,
    node: &Node,
    kernel: &dyn Kernel,
    inputs: &[Binding],
    constants: &[Option<Val>],
) -> Option<Vec<Val>> {
    let constant = inputs.iter().all(|b| matches!(b, Binding::Constant(_) | Binding::Absent));
    if !constant || is_random(node) || !folding.enabled && !node.is("Constant") {
        return None;
    }
    let given: usize = constants.iter().flatten().map(size).sum();
    if is_growing(node) && given > MAX_BYTES {
        return None;
    }
    let cx = Cx { pool: &folding.scratch, threads: &folding.threads, cancel: None, tap: None };
    let results = kernel.run(&cx, &mut Inputs::new(constants.to_vec())).ok()?;
    if results.len() < node.outputs.iter().rposition(|o: &Name| !o.is_empty()).map_or(0, |i| i + 1) {
        return None;
    }
    let made: usize = results.iter().map(size).sum();
    let moved = matches!(
        &*node.op_type,
        "Constant" | "Identity" | "Transpose" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Slice" | "Split"
    );
    (made <= MAX_BYTES || (moved && made <= given.max(MAX_BYTES)) || &*node.op_type == "Constant")
        .then(|| results.iter().map(Val::detached).collect())
}

fn is_random(node: &Node) -> bool {
    node.op_type.starts_with("Random") || matches!(&*node.op_type, "Bernoulli" | "Multinomial" | "Dropout")
}

/// Worth computing only for small inputs, because the result would be dropped for its size.
fn is_growing(node: &Node) -> bool {
    matches!(&*node.op_type, "Cast" | "DequantizeLinear" | "Tile" | "Expand" | "MatMul" | "Conv" | "Gemm")
}

fn size(value: &Val) -> usize {
    match value {
        Val::Tensor(t) => t.byte_len(),
        Val::Sequence(s) => s.iter().map(size).sum(),
        Val::Optional(o) => o.as_ref().map_or(0, |v| size(v)),
    }
}
