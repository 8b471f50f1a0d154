//! LSTM, GRU and RNN layers as ONNX's operators: gates reordered, weights of both directions stacked.

use super::super::emit::{attribute, int, string};
use super::super::sym::SymInt;
use super::super::value::Value;
use super::super::{Bound, Lowering, Out};
use super::Entry;
use super::elementwise::{binary, unary};
use super::linear::linear_values;
use crate::model::AttributeValue;
use crate::{Result, bail, err};
use bytes::Bytes;

pub(super) const TABLE: &[Entry] = &[
    ("lstm", |l, b| layers(l, b, "LSTM", "")),
    ("gru", |l, b| layers(l, b, "GRU", "")),
    ("rnn_tanh", |l, b| layers(l, b, "RNN", "Tanh")),
    ("rnn_relu", |l, b| layers(l, b, "RNN", "Relu")),
    ("lstm_cell", lstm_cell),
    ("gru_cell", gru_cell),
    ("rnn_tanh_cell", |l, b| rnn_cell(l, b, "Tanh")),
    ("rnn_relu_cell", |l, b| rnn_cell(l, b, "Relu")),
];

/// PyTorch's order of gates to ONNX's: LSTM i f g o to i o f g, GRU r z n to z r n.
fn gate_order(op: &str) -> &'static [i64] {
    match op {
        "LSTM" => &[0, 3, 1, 2],
        "GRU" => &[1, 0, 2],
        _ => &[0],
    }
}

/// The gates' rows in ONNX's order.
fn reorder(l: &mut Lowering, w: &Value, order: &[i64]) -> Result<Value> {
    if order.len() == 1 {
        return Ok(w.clone());
    }
    let gates = SymInt::Known(order.len() as i64);
    let each = w.shape[0].floor_div(&gates).ok_or_else(|| err!(ShapeMismatch, "no gates"))?;
    let mut parts = Vec::new();
    for g in order {
        let from = each.times(&SymInt::Known(*g));
        parts.push(l.slice(w, 0, &from, &from.plus(&each), 1)?);
    }
    l.concat(&parts, 0)
}

fn stack(l: &mut Lowering, parts: &[Value]) -> Result<Value> {
    let mut all = Vec::new();
    for p in parts {
        all.push(l.unsqueeze(p, &[0])?);
    }
    l.concat(&all, 0)
}

fn layers(l: &mut Lowering, b: &Bound, op: &str, activation: &str) -> Result<Out> {
    if &*b.overload == "data" {
        bail!(Unsupported, "packed sequences have no ONNX form: give the padded tensor");
    }
    let x = b.tensor("input")?;
    let states = if op == "LSTM" { b.tensors("hx")? } else { vec![b.tensor("hx")?] };
    let params = b.tensors("params")?;
    let (biases, depth) = (b.bool("has_biases")?, b.int("num_layers")?);
    let directions = if b.bool("bidirectional")? { 2 } else { 1 };
    if b.bool("train")? && b.float("dropout")? > 0.0 {
        bail!(Unsupported, "it is in training mode; call eval() on the model before saving it");
    }
    let batch_first = b.bool("batch_first")?;
    if x.rank() < 2 {
        bail!(ShapeMismatch, "a recurrent layer needs 2 or 3 dimensions");
    }
    let flat = x.rank() == 2;
    let mut v = if flat { l.unsqueeze(&x, &[1])? } else { x.clone() };
    if batch_first && !flat {
        v = l.transpose(&v, &[1, 0, 2])?;
    }
    let states: Vec<Value> =
        states.iter().map(|s| if flat { l.unsqueeze(s, &[1]) } else { Ok(s.clone()) }).collect::<Result<_>>()?;
    let per = params.len() / usize::try_from(depth * directions).ok().filter(|n| *n > 0).unwrap_or(1);
    if per != if biases { 4 } else { 2 } {
        bail!(Unsupported, "projections of the hidden state (proj_size) have no ONNX form");
    }
    let order = gate_order(op);
    let hidden = params.get(1).and_then(|w| w.shape.get(1)?.known());
    let hidden = hidden.ok_or_else(|| err!(ShapeMismatch, "the hidden size is not known"))?;
    let mut finals: Vec<Vec<Value>> = vec![Vec::new(); states.len()];
    for layer in 0..depth as usize {
        let (mut w, mut r, mut bias) = (Vec::new(), Vec::new(), Vec::new());
        for d in 0..directions as usize {
            let at = (layer * directions as usize + d) * per;
            let get = |i: usize| params.get(at + i).cloned().ok_or_else(|| err!(ShapeMismatch, "weights are missing"));
            w.push(reorder(l, &get(0)?, order)?);
            r.push(reorder(l, &get(1)?, order)?);
            if biases {
                let (i, h) = (reorder(l, &get(2)?, order)?, reorder(l, &get(3)?, order)?);
                bias.push(l.concat(&[i, h], 0)?);
            }
        }
        let (w, r) = (stack(l, &w)?, stack(l, &r)?);
        let bias = if biases { Some(stack(l, &bias)?) } else { None };
        let first = SymInt::Known(layer as i64 * directions);
        let last = first.plus(&SymInt::Known(directions));
        let mut starts = Vec::new();
        for s in &states {
            starts.push(l.slice(s, 0, &first, &last, 1)?);
        }
        let (steps, batch) = (v.shape[0].clone(), v.shape[1].clone());
        let (n, h) = (SymInt::Known(directions), SymInt::Known(hidden));
        let state_shape = vec![n.clone(), batch.clone(), h.clone()];
        let mut outputs = vec![(v.dtype, vec![steps.clone(), n.clone(), batch.clone(), h])];
        outputs.extend(states.iter().map(|_| (v.dtype, state_shape.clone())));
        let mut attributes = vec![
            string("direction", if directions == 2 { "bidirectional" } else { "forward" }),
            int("hidden_size", hidden),
        ];
        if op == "GRU" {
            attributes.push(int("linear_before_reset", 1));
        }
        if !activation.is_empty() {
            let names = vec![Bytes::copy_from_slice(activation.as_bytes()); directions as usize];
            attributes.push(attribute("activations", AttributeValue::Strings(names)));
        }
        let inputs = [Some(&v), Some(&w), Some(&r), bias.as_ref(), None, starts.first(), starts.get(1)];
        let out = l.node_n(op, &inputs, attributes, outputs)?;
        let y = l.transpose(&out[0], &[0, 2, 1, 3])?;
        v = l.reshape(&y, &[steps, batch, SymInt::Known(hidden * directions)])?;
        for (list, s) in finals.iter_mut().zip(&out[1..]) {
            list.push(s.clone());
        }
    }
    if batch_first && !flat {
        v = l.transpose(&v, &[1, 0, 2])?;
    }
    if flat {
        v = l.squeeze(&v, &[1])?;
    }
    let mut out = vec![v];
    for list in finals {
        let s = l.concat(&list, 0)?;
        out.push(if flat { l.squeeze(&s, &[1])? } else { s });
    }
    Ok(Out::Many(out))
}

/// The input's and the hidden state's share of the gates.
fn shares(l: &mut Lowering, b: &Bound, h: &Value) -> Result<(Value, Value)> {
    let (x, wi, wh) = (b.tensor("input")?, b.tensor("w_ih")?, b.tensor("w_hh")?);
    let i = linear_values(l, &x, &wi, b.opt("b_ih").as_ref())?;
    let r = linear_values(l, h, &wh, b.opt("b_hh").as_ref())?;
    Ok((i, r))
}

fn lstm_cell(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let states = b.tensors("hx")?;
    let [h, c] = states.as_slice() else { bail!(ShapeMismatch, "an LSTM cell has two states") };
    let (i, r) = shares(l, b, h)?;
    let gates = binary(l, "Add", &i, &r, i.dtype)?;
    let axis = gates.rank() - 1;
    let each = gates.shape[axis].floor_div(&SymInt::Known(4)).ok_or_else(|| err!(ShapeMismatch, "no gates"))?;
    let parts = super::shape::one_split(l, &gates, axis, &[each.clone(), each.clone(), each.clone(), each])?;
    let (i, f) = (unary(l, "Sigmoid", &parts[0])?, unary(l, "Sigmoid", &parts[1])?);
    let (g, o) = (unary(l, "Tanh", &parts[2])?, unary(l, "Sigmoid", &parts[3])?);
    let (kept, new) = (binary(l, "Mul", &f, c, c.dtype)?, binary(l, "Mul", &i, &g, c.dtype)?);
    let c = binary(l, "Add", &kept, &new, new.dtype)?;
    let t = unary(l, "Tanh", &c)?;
    let h = binary(l, "Mul", &o, &t, t.dtype)?;
    Ok(Out::Many(vec![h, c]))
}

fn gru_cell(l: &mut Lowering, b: &Bound) -> Result<Out> {
    let h = b.tensor("hx")?;
    let (i, r) = shares(l, b, &h)?;
    let axis = i.rank() - 1;
    let each = i.shape[axis].floor_div(&SymInt::Known(3)).ok_or_else(|| err!(ShapeMismatch, "no gates"))?;
    let sizes = [each.clone(), each.clone(), each];
    let (i, r) = (super::shape::one_split(l, &i, axis, &sizes)?, super::shape::one_split(l, &r, axis, &sizes)?);
    let reset = binary(l, "Add", &i[0], &r[0], h.dtype)?;
    let reset = unary(l, "Sigmoid", &reset)?;
    let update = binary(l, "Add", &i[1], &r[1], h.dtype)?;
    let update = unary(l, "Sigmoid", &update)?;
    let inner = binary(l, "Mul", &reset, &r[2], h.dtype)?;
    let new = binary(l, "Add", &i[2], &inner, h.dtype)?;
    let new = unary(l, "Tanh", &new)?;
    let off = binary(l, "Sub", &h, &new, h.dtype)?;
    let part = binary(l, "Mul", &update, &off, h.dtype)?;
    Ok(Out::One(binary(l, "Add", &new, &part, h.dtype)?))
}

fn rnn_cell(l: &mut Lowering, b: &Bound, op: &str) -> Result<Out> {
    let h = b.tensor("hx")?;
    let (i, r) = shares(l, b, &h)?;
    let sum = binary(l, "Add", &i, &r, h.dtype)?;
    Ok(Out::One(unary(l, op, &sum)?))
}
