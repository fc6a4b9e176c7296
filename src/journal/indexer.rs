//! The thread that adds sealed segments to the catalog in the background.
//!
//! *Promises.* Nothing waits for it: a segment that is not in the catalog yet is searched directly.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
};

use super::{
    JournalState,
    catalog::{Catalog, CatalogView},
    error::StorageError,
    read::CatalogSource,
};

#[derive(Default)]
struct IndexerSignal {
    work: bool,
    stop: bool,
}

/// Wakes and stops the thread.
#[derive(Default)]
pub(super) struct Indexer {
    signal: Mutex<IndexerSignal>,
    changed: Condvar,
}

impl Indexer {
    /// Announces a sealed segment.
    pub(super) fn wake(&self) {
        self.set(|signal| signal.work = true);
    }

    /// Ends the thread after its current segment, or after one more if there is work.
    pub(super) fn stop(&self) {
        self.set(|signal| signal.stop = true);
    }

    fn set(&self, change: impl FnOnce(&mut IndexerSignal)) {
        change(&mut self.signal.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    fn is_stopped(&self) -> bool {
        self.signal.lock().unwrap_or_else(PoisonError::into_inner).stop
    }

    /// Waits for work; `false` at the end.
    fn wait(&self) -> bool {
        let signal = self.signal.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |signal: &mut IndexerSignal| !signal.work && !signal.stop;
        let waited = self.changed.wait_while(signal, idle);
        let mut signal = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut signal.work)
    }
}

/// Starts the thread. Opens the catalog before it returns, so that the first append need not scan
/// segments.
pub(super) fn spawn(shared: Arc<JournalState>) -> io::Result<JoinHandle<()>> {
    let mut catalog = None;
    if !shared.sealed_segments.is_empty() {
        match open(&shared) {
            Ok(opened) => catalog = Some(opened),
            Err(fault) => log_failure(&shared, &fault),
        }
        shared.indexer.wake();
    }
    std::thread::Builder::new().name("journal-catalog".to_owned()).spawn(move || {
        while shared.indexer.wait() {
            if let Err(fault) = catch_up(&shared, &mut catalog) {
                catalog = None;
                log_failure(&shared, &fault);
            }
        }
    })
}

fn log_failure(shared: &JournalState, fault: &StorageError) {
    tracing::warn!(%fault, "the journal's catalog cannot be used: searching the segments");
    shared.sealed_segments.set_catalog(CatalogSource::Not);
}

fn open(shared: &JournalState) -> Result<Catalog, StorageError> {
    let sealed_segments = &shared.sealed_segments;
    let (catalog, view) =
        Catalog::open(&sealed_segments.dir, |position| sealed_segments.end_at(position))?;
    sealed_segments.set_catalog(CatalogSource::Own(Arc::new(view)));
    Ok(catalog)
}

fn catch_up(shared: &JournalState, slot: &mut Option<Catalog>) -> Result<(), StorageError> {
    let sealed_segments = &shared.sealed_segments;
    let catalog = match slot.take() {
        Some(catalog) => catalog,
        None => open(shared)?,
    };
    let through = |view: &CatalogView| view.through.position;
    let mut entered = sealed_segments.view().map_or(0, |view| through(&view));
    while let Some(first) = sealed_segments.firsts().into_iter().find(|first| *first > entered) {
        let view = catalog.enter(&*sealed_segments.sealed(first)?)?;
        entered = through(&view);
        sealed_segments.set_catalog(CatalogSource::Own(Arc::new(view)));
        // Only after a segment: so each run of the program adds at least one, however short it is.
        if shared.indexer.is_stopped() {
            break;
        }
    }
    *slot = Some(catalog);
    Ok(())
}
