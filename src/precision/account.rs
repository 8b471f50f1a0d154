//! Writes the account of a conversion from its choices.

use super::decide::{Choice, Decisions};
use super::facts::Facts;
use super::report::{ConstantReport, NodeReport, Report};
use super::types::{Types, Wide};
use super::{ConvertOptions, Policy};

/// Writes the account of all choices. Casts and bytes are added by the caller, who knows them later.
pub(super) fn account(
    facts: &Facts,
    d: &Decisions,
    types: &Types,
    options: &ConvertOptions,
    notes: Vec<String>,
) -> Report {
    let mut report = Report {
        precision: options.precision.name().into(),
        policy: if options.policy == Policy::Safe { "safe" } else { "pure" }.into(),
        notes,
        ..Report::default()
    };
    for node in 0..facts.nodes.len() {
        let half = match &d.choices[node] {
            Choice::Half => true,
            Choice::Float(_) => false,
            Choice::Free | Choice::Untouched => continue,
        };
        report.half_nodes += u64::from(half);
        report.float_nodes += u64::from(!half);
        report.kept_nodes += u64::from(!half && d.legal[node]);
        report.nodes.push(node_report(facts, d, node, &report.precision));
    }
    for (v, assigned) in types.values.iter().enumerate() {
        if assigned.is_none() {
            continue;
        }
        report.float_tensors += u64::from(types.name_of(v, Wide::Float).is_some());
        if types.name_of(v, Wide::Half).is_some() {
            report.half_tensors += 1;
            report.constants.extend(constant_report(facts, d, v));
        }
    }
    report
}

fn node_report(facts: &Facts, d: &Decisions, node: usize, half: &str) -> NodeReport {
    let n = facts.nodes[node].node;
    let domain = n.domain();
    let mut row = NodeReport {
        name: n.name.to_string(),
        output: n.outputs.iter().find(|o| !o.is_empty()).map(ToString::to_string).unwrap_or_default(),
        op_type: if domain.is_empty() { n.op_type.to_string() } else { format!("{domain}::{}", n.op_type) },
        scope: facts.graphs[facts.nodes[node].graph].scope.clone(),
        precision: half.into(),
        rule: String::new(),
        tensor: String::new(),
        value: None,
        reason: String::new(),
    };
    if let Choice::Float(why) = &d.choices[node] {
        row.precision = "fp32".into();
        row.rule = why.rule.into();
        row.tensor = why.tensor.clone();
        row.value = why.value;
        row.reason = why.text.clone();
    }
    row
}

fn constant_report(facts: &Facts, d: &Decisions, v: usize) -> Option<ConstantReport> {
    let s = d.known_stats(v)?;
    (s.overflows + s.flushed + s.subnormal > 0).then(|| ConstantReport {
        name: facts.values[v].name.to_string(),
        elements: s.elements,
        clamped: s.overflows,
        flushed: s.flushed,
        subnormal: s.subnormal,
        max_abs: s.max_abs,
    })
}
