//! The thread that checks the journal's files while nothing is appended.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use super::{signal::Signal, state::JournalState};

/// Interval of the checks between appends: twice within the second in which a loss must be
/// detected.
const PERIOD: Duration = Duration::from_millis(500);

/// Starts the thread. It ends when stopped, or once the journal has failed.
pub(super) fn spawn(state: Arc<JournalState>, signal: Arc<Signal>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("journal-presence".to_owned()).spawn(move || {
        while signal.wait_for(PERIOD) && state.failure().is_none() {
            if let Err(fault) = state.check_files() {
                state.fail(&fault);
            }
        }
    })
}
