//! docs/cpu.md lists the operators that there are.

use crate::backend::cpu::ops::operators;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn the_list_of_operators_is_in_step() {
    let mut by_domain: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (domain, op) in operators() {
        by_domain.entry(domain).or_default().insert(op);
    }
    let list: String = by_domain
        .iter()
        .map(|(domain, ops)| {
            let names: Vec<&str> = ops.iter().copied().collect();
            let domain = if domain.is_empty() { "ai.onnx" } else { domain };
            format!("- `{domain}` ({}): {}\n", names.len(), names.join(", "))
        })
        .collect();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let page = include_str!("../../../../docs/cpu.md");
    assert!(words(page).contains(&words(&list)), "docs/cpu.md should list under 'Operators':\n{list}");
}
