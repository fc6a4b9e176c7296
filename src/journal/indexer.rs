//! The thread that adds sealed segments to the catalog in the background.
//!
//! *Promises.* Nothing waits for it: a segment that is not in the catalog yet is searched directly.

use std::{io, sync::Arc, thread::JoinHandle};

use super::{
    catalog::{Catalog, CatalogView},
    error::StorageError,
    read::{CatalogSource, SealedSegments},
    signal::Signal,
};

/// Starts the thread: it works when woken, and when stopped ends after its current segment, or
/// after one more if there is work. Opens the catalog before it returns, so that the first append
/// need not scan segments.
pub(super) fn spawn(
    sealed_segments: Arc<SealedSegments>,
    signal: Arc<Signal>,
) -> io::Result<JoinHandle<()>> {
    let mut catalog = None;
    if !sealed_segments.is_empty() {
        match open(&sealed_segments) {
            Ok(opened) => catalog = Some(opened),
            Err(fault) => log_failure(&sealed_segments, &fault),
        }
        signal.wake();
    }
    std::thread::Builder::new().name("journal-catalog".to_owned()).spawn(move || {
        while signal.wait() {
            if let Err(fault) = catch_up(&sealed_segments, &signal, &mut catalog) {
                catalog = None;
                log_failure(&sealed_segments, &fault);
            }
        }
    })
}

fn log_failure(sealed_segments: &SealedSegments, fault: &StorageError) {
    tracing::warn!(%fault, "the journal's catalog cannot be used: searching the segments");
    sealed_segments.set_catalog(CatalogSource::Not);
}

fn open(sealed_segments: &SealedSegments) -> Result<Catalog, StorageError> {
    let (catalog, view) =
        Catalog::open(&sealed_segments.dir, |position| sealed_segments.end_at(position))?;
    sealed_segments.set_catalog(CatalogSource::Own(Arc::new(view)));
    Ok(catalog)
}

fn catch_up(
    sealed_segments: &SealedSegments,
    signal: &Signal,
    slot: &mut Option<Catalog>,
) -> Result<(), StorageError> {
    let catalog = match slot.take() {
        Some(catalog) => catalog,
        None => open(sealed_segments)?,
    };
    let through = |view: &CatalogView| view.through.position;
    let mut entered = sealed_segments.view().map_or(0, |view| through(&view));
    while let Some(first) = sealed_segments.firsts().into_iter().find(|first| *first > entered) {
        let view = catalog.enter(&*sealed_segments.sealed(first)?)?;
        entered = through(&view);
        sealed_segments.set_catalog(CatalogSource::Own(Arc::new(view)));
        // Only after a segment: so each run of the program adds at least one, however short it is.
        if signal.is_stopped() {
            break;
        }
    }
    *slot = Some(catalog);
    Ok(())
}
