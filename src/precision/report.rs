//! The account of a conversion: machine-readable, complete, and short for people.

use crate::{Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a conversion did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// "fp16" or "bf16".
    pub precision: String,
    /// "safe" or "pure".
    pub policy: String,
    /// Every node of the converted model that touches float values, in order.
    pub nodes: Vec<NodeReport>,
    /// Float values (edges and constants) of half type after the conversion.
    pub half_tensors: u64,
    /// Float values of FP32 or FP64 type after the conversion.
    pub float_tensors: u64,
    /// Nodes that compute in half.
    pub half_nodes: u64,
    /// Nodes that stayed FP32.
    pub float_nodes: u64,
    /// Casts that the conversion added.
    pub casts_added: u64,
    /// Casts that it removed or retargeted.
    pub casts_removed: u64,
    /// Constants with clamped, flushed or subnormal values.
    pub constants: Vec<ConstantReport>,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors after.
    pub bytes_after: u64,
    /// Nodes that stayed FP32 though their operator could compute in half.
    pub kept_nodes: u64,
    /// The ranges on samples that the conversion went by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranges: Option<super::Ranges>,
    /// Anything else a person should know (Dropout removed, ...).
    pub notes: Vec<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node's name (may be empty).
    pub name: String,
    /// Its first output.
    pub output: String,
    /// Operator type, with its domain where it is not ai.onnx.
    pub op_type: String,
    /// The path of the subgraphs or functions it stands in; empty for the main graph.
    pub scope: String,
    /// "fp16", "bf16" or "fp32".
    pub precision: String,
    /// Why it is not half: the rule's short stable name ("schema", "constant_out_of_range", "mask", "kept_by_user"...);
    /// empty for half nodes.
    pub rule: String,
    /// The tensor the rule speaks of.
    pub tensor: String,
    /// The value the rule speaks of.
    pub value: Option<f64>,
    /// The rule as a sentence for people.
    pub reason: String,
}

/// One constant that changed in value beyond rounding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConstantReport {
    /// Its name.
    pub name: String,
    /// Elements.
    pub elements: u64,
    /// Elements clamped to the largest finite value.
    pub clamped: u64,
    /// Non-zero elements that became zero.
    pub flushed: u64,
    /// Normal elements that became subnormal.
    pub subnormal: u64,
    /// Largest magnitude of a finite element before.
    pub max_abs: f64,
}

/// Rows of one kind that the short text lists; the JSON form has them all.
const LISTED: usize = 8;

impl Report {
    /// The whole report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"))
    }

    /// The report in short: totals, then the nodes left in FP32 by rule, the constants that changed, and the notes.
    pub fn to_text(&self) -> String {
        let half = &self.precision;
        let mut lines = vec![
            format!(
                "{} of {} float nodes compute in {half}, {} in fp32 (policy {})",
                self.half_nodes,
                self.half_nodes + self.float_nodes,
                self.float_nodes,
                self.policy
            ),
            format!(
                "{} float tensors are {half}, {} fp32; {} casts added, {} removed",
                self.half_tensors, self.float_tensors, self.casts_added, self.casts_removed
            ),
            format!("{} bytes of constants before, {} after", self.bytes_before, self.bytes_after),
        ];
        let mut rules: Vec<(&str, Vec<&NodeReport>)> = Vec::new();
        for node in self.nodes.iter().filter(|n| !n.rule.is_empty()) {
            match rules.iter_mut().find(|(rule, _)| *rule == node.rule) {
                Some((_, nodes)) => nodes.push(node),
                None => rules.push((&node.rule, vec![node])),
            }
        }
        for (rule, nodes) in rules {
            lines.push(format!("kept in fp32 by '{rule}', {}:", plural(nodes.len(), "node")));
            list(&mut lines, &nodes, |n| format!("{}: {}", n.label(), n.reason));
        }
        if !self.constants.is_empty() {
            lines.push(format!("{} changed by more than rounding:", plural(self.constants.len(), "constant")));
            list(&mut lines, &self.constants, |c| {
                format!(
                    "'{}', {} elements up to {}: {} clamped, {} became zero, {} became subnormal",
                    c.name, c.elements, c.max_abs, c.clamped, c.flushed, c.subnormal
                )
            });
        }
        if let Some(ranges) = &self.ranges
            && let Some((name, largest)) = ranges.largest()
        {
            lines.push(format!(
                "ranges of {} over {}; the largest value is {largest} in '{name}'",
                plural(ranges.tensors.len(), "tensor"),
                plural(ranges.samples as usize, "sample")
            ));
        }
        lines.extend(self.notes.iter().map(|n| format!("note: {n}")));
        lines.join("\n")
    }
}

impl NodeReport {
    fn label(&self) -> String {
        let place = if self.scope.is_empty() { String::new() } else { format!(" in {}", self.scope) };
        match self.name.is_empty() {
            false => format!("'{}' ({}){place}", self.name, self.op_type),
            true => format!("{} that makes '{}'{place}", self.op_type, self.output),
        }
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn list<T>(lines: &mut Vec<String>, rows: &[T], text: impl Fn(&T) -> String) {
    lines.extend(rows.iter().take(LISTED).map(|row| format!("  {}", text(row))));
    if rows.len() > LISTED {
        lines.push(format!("  and {} more", rows.len() - LISTED));
    }
}

impl Report {
    /// An error if fewer than `minimum` (0 to 1) of the nodes that can compute in half do so.
    pub(super) fn check_share(&self, minimum: f64) -> Result<()> {
        let share = self.half_share();
        if share < minimum {
            bail!(
                Precision,
                "only {:.1} % of the nodes that can compute in {} do so, and at least {:.1} % were asked for. Kept in \
                 FP32: {}",
                share * 100.0,
                self.precision,
                minimum * 100.0,
                self.reasons().into_iter().map(|(r, n)| format!("{n} by rule {r}")).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(())
    }

    /// The share of the nodes that can compute in half which do so; 1 where there are none.
    pub fn half_share(&self) -> f64 {
        let capable = self.half_nodes + self.kept_nodes;
        if capable == 0 { 1.0 } else { self.half_nodes as f64 / capable as f64 }
    }

    /// The rules that kept nodes in FP32, with how many each.
    fn reasons(&self) -> BTreeMap<&str, usize> {
        let mut count = BTreeMap::new();
        for n in self.nodes.iter().filter(|n| !n.rule.is_empty()) {
            *count.entry(n.rule.as_str()).or_default() += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_groups_by_rule_and_stays_short() {
        let node = |i: usize| NodeReport {
            name: format!("n{i}"),
            output: format!("o{i}"),
            op_type: "Add".into(),
            scope: String::new(),
            precision: "fp32".into(),
            rule: if i == 3 { "schema".into() } else { "mask".into() },
            tensor: String::new(),
            value: None,
            reason: format!("because of {i}"),
        };
        let report = Report {
            precision: "fp16".into(),
            policy: "safe".into(),
            half_nodes: 5,
            float_nodes: 20,
            nodes: (0..20).map(node).collect(),
            notes: vec!["Dropout removed".into()],
            ..Report::default()
        };
        let text = report.to_text();
        assert!(text.starts_with("5 of 25 float nodes compute in fp16, 20 in fp32 (policy safe)\n"), "{text}");
        assert!(text.contains("by 'mask', 19 nodes:\n  'n0' (Add): because of 0\n"), "{text}");
        assert!(text.contains("  and 11 more\n") && text.contains("by 'schema', 1 node:\n  'n3'"), "{text}");
        assert!(text.ends_with("note: Dropout removed"), "{text}");
        let back: Report = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(back, report);
    }
}
