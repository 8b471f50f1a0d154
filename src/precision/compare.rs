//! Two engines on the same inputs: what the second one's outputs differ by.

use crate::backend::{IoInfo, RunControl, TensorValue, Value};
use crate::engine::{Context, Engine};
use crate::{Result, bail, err};
use serde::Serialize;
use std::sync::Arc;

/// How the outputs of engine B differ from those of engine A.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// One entry per output, in A's order.
    pub outputs: Vec<OutputComparison>,
}

/// One output.
#[derive(Debug, Clone, Serialize)]
pub struct OutputComparison {
    /// Its name in A.
    pub name: String,
    /// Type in A ("fp32").
    pub dtype_a: String,
    /// Type in B ("fp16").
    pub dtype_b: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Number of elements.
    pub elements: usize,
    /// Largest |a - b| over elements that are finite in both; 0 without such elements.
    pub max_abs: f64,
    /// Largest |a| of a finite element.
    pub max_a: f64,
    /// `max_abs / max_a`; 0 where both are 0, infinite where only `max_a` is.
    pub max_rel: f64,
    /// Root of the mean square of a - b.
    pub rms: f64,
    /// Cosine of the angle between a and b as vectors; 1 where both are zero.
    pub cosine: f64,
    /// NaN elements of A.
    pub nan_a: usize,
    /// NaN elements of B.
    pub nan_b: usize,
    /// Infinite elements of A.
    pub inf_a: usize,
    /// Infinite elements of B.
    pub inf_b: usize,
    /// Elements that are NaN, or the same infinity, in one of the two only.
    pub non_finite_mismatches: usize,
    /// Rows along the last dimension whose largest element is at the same place, divided by all rows; `None` for
    /// outputs without rows of at least two elements.
    pub top1_agreement: Option<f64>,
}

impl Comparison {
    /// The comparison as JSON.
    pub fn to_json(&self) -> String {
        // Infinities have no JSON form; serde_json writes null for them.
        serde_json::to_string(self).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"))
    }
}

/// Runs both engines on the inputs and compares their outputs.
///
/// Inputs and outputs go together by name, or by position where names differ and the counts agree. Float inputs are
/// converted to the type each engine expects; outputs are compared as numbers, whatever their types.
pub fn compare(a: &Arc<Engine>, b: &Arc<Engine>, inputs: &[(String, Value)]) -> Result<Comparison> {
    let outputs_a = run(a, inputs, &a.info().inputs)?;
    let outputs_b = run(b, inputs, &a.info().inputs)?;
    if outputs_a.len() != outputs_b.len() {
        bail!(
            InvalidArgument,
            "the engines cannot be compared: one has {} outputs, the other {}",
            outputs_a.len(),
            outputs_b.len()
        );
    }
    let names_b: Vec<&str> = b.info().outputs.iter().map(|io| io.name.as_str()).collect();
    let outputs = a
        .info()
        .outputs
        .iter()
        .enumerate()
        .map(|(i, io)| {
            let j = names_b.iter().position(|n| *n == io.name).unwrap_or(i);
            compare_output(&io.name, &outputs_a[i], &outputs_b[j])
                .map_err(|e| e.context(format_args!("output '{}'", io.name)))
        })
        .collect::<Result<_>>()?;
    Ok(Comparison { outputs })
}

fn run(engine: &Arc<Engine>, inputs: &[(String, Value)], order: &[IoInfo]) -> Result<Vec<Value>> {
    let info = engine.info();
    let mut context = Context::new(engine)?;
    for (name, value) in inputs {
        let io = info.inputs.iter().find(|io| io.name == *name).or_else(|| {
            let position = order.iter().position(|io| io.name == *name)?;
            if info.inputs.len() == order.len() { info.inputs.get(position) } else { None }
        });
        let io = io.ok_or_else(|| err!(NotFound, "an engine has no input '{name}'"))?;
        let value = match (value, io.data_type()) {
            (Value::Tensor(t), Some(want)) if want.is_float() && t.dtype().is_float() => {
                Value::Tensor(t.to_float(want)?)
            }
            _ => value.clone(),
        };
        context.bind(&io.name, value)?;
    }
    context.run(&RunControl::default())?;
    info.outputs.iter().map(|io| context.output(&io.name)).collect()
}

fn compare_output(name: &str, a: &Value, b: &Value) -> Result<OutputComparison> {
    let (a, b) = (a.as_tensor()?, b.as_tensor()?);
    if a.dims() != b.dims() {
        bail!(ShapeMismatch, "the shapes differ: {:?} and {:?}", a.dims(), b.dims());
    }
    compare_tensors(name, a, b)
}

/// Compares two tensors of the same shape.
pub fn compare_tensors(name: &str, a: &TensorValue, b: &TensorValue) -> Result<OutputComparison> {
    let (x, y) = (a.to_f64()?, b.to_f64()?);
    let mut sums = Sums::default();
    x.iter().zip(&y).for_each(|(&x, &y)| sums.add(x, y));
    let norm = (sums.aa * sums.bb).sqrt();
    Ok(OutputComparison {
        name: name.to_string(),
        dtype_a: a.dtype().to_string(),
        dtype_b: b.dtype().to_string(),
        shape: a.dims().to_vec(),
        elements: x.len(),
        max_abs: sums.max_abs,
        max_a: sums.max_a,
        max_rel: if sums.max_abs == 0.0 { 0.0 } else { sums.max_abs / sums.max_a },
        rms: if sums.finite == 0 { 0.0 } else { (sums.dd / sums.finite as f64).sqrt() },
        cosine: if norm > 0.0 { sums.ab / norm } else { f64::from(u8::from(sums.aa == sums.bb)) },
        nan_a: x.iter().filter(|v| v.is_nan()).count(),
        nan_b: y.iter().filter(|v| v.is_nan()).count(),
        inf_a: x.iter().filter(|v| v.is_infinite()).count(),
        inf_b: y.iter().filter(|v| v.is_infinite()).count(),
        non_finite_mismatches: sums.mismatches,
        top1_agreement: top1_agreement(&x, &y, a.dims()),
    })
}

#[derive(Default)]
struct Sums {
    finite: usize,
    max_abs: f64,
    max_a: f64,
    aa: f64,
    bb: f64,
    ab: f64,
    dd: f64,
    mismatches: usize,
}

impl Sums {
    fn add(&mut self, a: f64, b: f64) {
        if a.is_finite() {
            self.max_a = self.max_a.max(a.abs());
        }
        if a.is_finite() && b.is_finite() {
            self.finite += 1;
            self.max_abs = self.max_abs.max((a - b).abs());
            self.dd += (a - b) * (a - b);
            self.aa += a * a;
            self.bb += b * b;
            self.ab += a * b;
        } else if !(a == b || a.is_nan() && b.is_nan()) {
            self.mismatches += 1;
        }
    }
}

fn top1_agreement(a: &[f64], b: &[f64], dims: &[usize]) -> Option<f64> {
    let classes = *dims.last()?;
    if classes < 2 || a.is_empty() {
        return None;
    }
    let rows = a.len() / classes;
    let same = a.chunks(classes).zip(b.chunks(classes)).filter(|(x, y)| largest(x) == largest(y)).count();
    Some(same as f64 / rows as f64)
}

/// The place of the first largest element; NaN is never the largest unless all are.
fn largest(row: &[f64]) -> usize {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[best] || row[best].is_nan() && !v.is_nan() {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DataType;

    fn tensor(values: &[f32], dims: Vec<usize>) -> TensorValue {
        TensorValue::copy_of(DataType::Float32, dims, bytemuck::cast_slice(values)).unwrap()
    }

    #[test]
    fn differences_are_what_they_are() {
        let a = tensor(&[1.0, 2.0, 3.0, 8.0, 5.0, 6.0], vec![2, 3]);
        let b = tensor(&[1.0, 2.5, 3.0, 8.0, 5.0, 9.0], vec![2, 3]);
        let c = compare_tensors("y", &a, &b).unwrap();
        assert_eq!((c.max_abs, c.max_a, c.max_rel), (3.0, 8.0, 0.375));
        assert!((c.rms - ((0.25f64 + 9.0) / 6.0).sqrt()).abs() < 1e-12);
        assert_eq!(c.top1_agreement, Some(0.5));
        assert!(c.cosine < 1.0 && c.cosine > 0.9);
    }

    #[test]
    fn non_finite_values_are_counted_and_never_hidden() {
        let inf = f32::INFINITY;
        let a = tensor(&[f32::NAN, inf, inf, -inf, 1.0, 2.0], vec![6]);
        let b = tensor(&[f32::NAN, inf, -inf, 1.0, f32::NAN, 2.0], vec![6]);
        let c = compare_tensors("y", &a, &b).unwrap();
        assert_eq!((c.nan_a, c.nan_b, c.inf_a, c.inf_b), (1, 2, 3, 2));
        assert_eq!(c.non_finite_mismatches, 3);
        assert_eq!(c.max_abs, 0.0);
    }

    #[test]
    fn zeros_agree_with_zeros_only() {
        let z = tensor(&[0.0, 0.0], vec![2]);
        assert_eq!(compare_tensors("y", &z, &z).unwrap().cosine, 1.0);
        let c = compare_tensors("y", &z, &tensor(&[1.0, 0.0], vec![2])).unwrap();
        assert_eq!(c.cosine, 0.0);
        assert_eq!(c.max_rel, f64::INFINITY);
    }
}
