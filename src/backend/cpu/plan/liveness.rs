//! Who reads a slot last: from there its memory is free, or may be written in place.

use super::{Plan, Source, Step};

/// Marks last readers and slots that nobody reads.
pub fn mark(plan: &mut Plan) {
    let mut needed = vec![false; plan.slots];
    for source in &mut plan.outputs {
        // An output that stands twice is cloned for all but the last.
        if let Source::Slot { index, last } = source {
            *last = false;
            needed[*index] = true;
        }
    }
    let outputs = needed.clone();
    mark_steps(&mut plan.steps, needed);
    mark_steps(&mut plan.fused, outputs);
}

fn mark_steps(steps: &mut [Step], mut needed: Vec<bool>) {
    for step in steps.iter_mut().rev() {
        step.unread = step.outputs.iter().flatten().map(|o| o.0).filter(|&slot| !needed[slot]).collect();
        for source in step.inputs.iter_mut().rev() {
            if let Source::Slot { index, last } = source {
                *last = !needed[*index];
                needed[*index] = true;
            }
        }
    }
}
