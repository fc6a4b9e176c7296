//! The commit window: which syncs and header flags of redb's commit change while one is open.
//!
//! *Promises.* After [`SyncWindow::settle`] everything written is synced; a failed sync is not
//! repeated. The reasons are in [`super::storage`].

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use redb::StorageBackend;

/// The offset of the header's flags.
const FLAGS_AT: usize = 9;
/// The flag "the primary slot was committed in two phases".
const TWO_PHASE: u8 = 4;
/// The flag "the primary slot may not be synced yet", for readers in other processes.
const UNFLUSHED: u8 = 8;

/// State shared by the writer and the backend beneath its database.
#[derive(Debug, Default)]
pub(super) struct SyncWindow {
    state: Mutex<SyncWindowState>,
    /// Read on every access, so that the state is locked only inside a window.
    open: AtomicBool,
}

#[derive(Debug, Default)]
struct SyncWindowState {
    headers: u32,
    skipped: bool,
    /// Whether data that a crash must not lose was written since the last sync.
    unsynced: bool,
    last_header: Vec<u8>,
    /// Time of the syncs of this commit.
    synced_in: Duration,
}

impl SyncWindow {
    /// Opens the window around one commit.
    pub(super) fn open(&self) {
        *self.state.lock() = SyncWindowState::default();
        self.open.store(true, Ordering::Release);
    }

    /// Closes the window, and returns how long the commit's syncs took. Syncs if the commit left
    /// unsynced data, which known redb versions do not.
    pub(super) fn settle(
        &self,
        storage: &dyn StorageBackend,
        committed: bool,
    ) -> io::Result<Duration> {
        self.open.store(false, Ordering::Release);
        // A sync after a failed one proves nothing, so a failed commit is left as it is.
        if committed && self.state.lock().unsynced {
            let began = Instant::now();
            storage.sync_data()?;
            self.synced(began.elapsed());
        }
        Ok(self.state.lock().synced_in)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Whether this sync is the one between writing a slot and making it the primary.
    pub(super) fn skips_sync(&self) -> bool {
        let mut state = self.state.lock();
        let skips = state.headers == 1 && !state.skipped;
        state.skipped |= skips;
        skips
    }

    /// Notes that everything written is synced, which took so long.
    pub(super) fn synced(&self, took: Duration) {
        let mut state = self.state.lock();
        state.unsynced = false;
        state.synced_in += took;
    }

    pub(super) fn wrote_pages(&self) {
        self.state.lock().unsynced = true;
    }

    /// The header to write instead of `data`.
    pub(super) fn header(&self, data: &[u8]) -> Vec<u8> {
        let mut header = data.to_vec();
        header[FLAGS_AT] &= !TWO_PHASE;
        let mut state = self.state.lock();
        state.headers += 1;
        // The third header of a commit only clears the flag for other processes.
        let mut unmarked = header.clone();
        unmarked[FLAGS_AT] &= !UNFLUSHED;
        if unmarked != state.last_header {
            state.unsynced = true;
            state.last_header = unmarked;
        }
        header
    }
}
