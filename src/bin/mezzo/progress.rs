//! Progress of long work on stderr, when that is a terminal: a line that appears after a moment and leaves no trace.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Work that is shorter than this shows nothing.
const PATIENCE: Duration = Duration::from_millis(400);

/// The line, for those who write to stderr beside it. A process shows one.
static LINE: OnceLock<ProgressBar> = OnceLock::new();

/// Writes to stderr with the line out of the way.
pub fn beside(write: impl FnOnce()) {
    match LINE.get() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// A progress line; gone when it is dropped.
pub struct Progress {
    bar: ProgressBar,
    /// Dropped with the line, which ends the thread that waits to show it.
    _shown: Option<Sender<()>>,
}

impl Progress {
    /// Starts with the name of the first phase.
    pub fn start(phase: &str) -> Progress {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_message(phase.to_string());
        if !std::io::stderr().is_terminal() {
            return Progress { bar, _shown: None };
        }
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        let _ = LINE.set(bar.clone());
        let (sender, receiver) = channel::<()>();
        let late = bar.clone();
        std::thread::spawn(move || {
            if receiver.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                late.set_draw_target(ProgressDrawTarget::stderr());
                late.enable_steady_tick(Duration::from_millis(100));
            }
        });
        Progress { bar, _shown: Some(sender) }
    }

    /// The next phase.
    pub fn phase(&self, phase: &str) {
        self.bar.set_message(phase.to_string());
    }

    /// A phase of known length: how much of it is done, 0 to 1.
    pub fn fraction(&self, phase: &str, fraction: f32) {
        self.bar.set_message(format!("{phase} {:.0} %", f64::from(fraction.clamp(0.0, 1.0)) * 100.0));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
