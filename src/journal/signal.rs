//! Wakes and stops a background thread.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

#[derive(Debug, Default)]
struct SignalState {
    has_work: bool,
    is_stopped: bool,
}

/// The signal to one thread.
#[derive(Debug, Default)]
pub(super) struct Signal {
    state: Mutex<SignalState>,
    changed: Condvar,
}

impl Signal {
    /// Announces work.
    pub(super) fn wake(&self) {
        self.state.lock().has_work = true;
        self.changed.notify_all();
    }

    /// Ends the thread: its waits end at once.
    pub(super) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped
    }

    /// Waits for work or the end; `false` at the end if there is no work left.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| !state.has_work && !state.is_stopped);
        std::mem::take(&mut state.has_work)
    }

    /// Waits for this period; `false` at once at the end.
    pub(super) fn wait_for(&self, period: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.is_stopped, period);
        !state.is_stopped
    }
}
