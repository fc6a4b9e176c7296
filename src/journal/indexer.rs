//! The thread that adds sealed segments to the catalog in the background.
//!
//! *Promises.* Nothing waits for it: a segment that is not in the catalog yet is searched directly.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
};

use super::{
    Shared,
    catalog::{Catalog, View},
    error::Fault,
    read::Catalogued,
};

#[derive(Default)]
struct Signal {
    work: bool,
    stop: bool,
}

/// Wakes and stops the thread.
#[derive(Default)]
pub(super) struct Indexer {
    signal: Mutex<Signal>,
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

    fn set(&self, change: impl FnOnce(&mut Signal)) {
        change(&mut self.signal.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    fn stopped(&self) -> bool {
        self.signal.lock().unwrap_or_else(PoisonError::into_inner).stop
    }

    /// Waits for work; `false` at the end.
    fn wait(&self) -> bool {
        let signal = self.signal.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |signal: &mut Signal| !signal.work && !signal.stop;
        let waited = self.changed.wait_while(signal, idle);
        let mut signal = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut signal.work)
    }
}

/// Starts the thread. Opens the catalog before it returns, so that the first append need not scan
/// segments.
pub(super) fn spawn(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let mut catalog = None;
    if !shared.shelf.is_empty() {
        match open(&shared) {
            Ok(opened) => catalog = Some(opened),
            Err(fault) => lost(&shared, &fault),
        }
        shared.indexer.wake();
    }
    std::thread::Builder::new().name("journal-catalog".to_owned()).spawn(move || {
        while shared.indexer.wait() {
            if let Err(fault) = catch_up(&shared, &mut catalog) {
                catalog = None;
                lost(&shared, &fault);
            }
        }
    })
}

fn lost(shared: &Shared, fault: &Fault) {
    tracing::warn!(%fault, "the journal's catalog cannot be used: searching the segments");
    shared.shelf.set_catalog(Catalogued::Not);
}

fn open(shared: &Shared) -> Result<Catalog, Fault> {
    let shelf = &shared.shelf;
    let (catalog, view) = Catalog::open(&shelf.dir, |position| shelf.end_at(position))?;
    shelf.set_catalog(Catalogued::Own(Arc::new(view)));
    Ok(catalog)
}

fn catch_up(shared: &Shared, slot: &mut Option<Catalog>) -> Result<(), Fault> {
    let shelf = &shared.shelf;
    let catalog = match slot.take() {
        Some(catalog) => catalog,
        None => open(shared)?,
    };
    let through = |view: &View| view.through.position;
    let mut entered = shelf.view().map_or(0, |view| through(&view));
    while let Some(first) = shelf.firsts().into_iter().find(|first| *first > entered) {
        let view = catalog.enter(&*shelf.sealed(first)?)?;
        entered = through(&view);
        shelf.set_catalog(Catalogued::Own(Arc::new(view)));
        // Only after a segment: so each run of the program adds at least one, however short it is.
        if shared.indexer.stopped() {
            break;
        }
    }
    *slot = Some(catalog);
    Ok(())
}
