//! What must live until a device has done the work that uses it: freeing a buffer or a context right after an enqueue is
//! allowed, and its destruction waits here for the event that follows the work.

use super::Event;
use parking_lot::Mutex;
use std::sync::Arc;

type Kept = (Arc<Event>, Box<dyn Send>);

static LIST: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// Keeps something until the event has passed. What has passed already goes at once.
pub fn until(event: Arc<Event>, kept: impl Send + 'static) {
    LIST.lock().push((event, Box::new(kept)));
    reap();
}

/// Drops what is no longer used. Called wherever memory is allocated or missed.
pub fn reap() {
    let done: Vec<Kept> = {
        let mut list = LIST.lock();
        if list.is_empty() {
            return;
        }
        // An event that cannot be asked belongs to a device that failed: nothing on it works any more.
        list.extract_if(.., |(event, _)| event.is_done().unwrap_or(true)).collect()
    };
    // Outside the lock: dropping may free memory, which may reap again.
    drop(done);
}

/// How many things wait.
pub fn waiting() -> usize {
    LIST.lock().len()
}
