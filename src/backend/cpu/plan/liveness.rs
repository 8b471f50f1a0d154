//! Who reads a slot last: from there its memory is free, or may be written in place.

use super::{Plan, Source};

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
    for step in plan.steps.iter_mut().rev() {
        step.unread = step.outputs.iter().flatten().map(|o| o.0).filter(|&slot| !needed[slot]).collect();
        for source in step.inputs.iter_mut().rev() {
            if let Source::Slot { index, last } = source {
                *last = !needed[*index];
                needed[*index] = true;
            }
        }
    }
}
