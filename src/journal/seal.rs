//! Sealing the active segment, and recovery of the files when a journal opens.
//!
//! The steps of sealing, after any of which a crash may come: mark the segment as sealed; close its
//! file cleanly; rename it into `segments/`; create the next active segment under a temporary name;
//! rename that. [`recover`] continues from wherever they stopped.

use std::{fs, io, path::Path};

use ai_factory_ports::journal::Head;

use super::{
    error::{OpenJournalError, StorageError},
    fail_points::{FailPoint, FaultInjection},
    layout,
    segment::{ActiveSegment, SealedSegment},
    settings::JournalSettings,
};

/// Gives a marked and closed segment its final name.
fn add_sealed(dir: &Path, first: u64) -> io::Result<()> {
    fs::rename(layout::active(dir), layout::sealed(dir, first))?;
    layout::sync_dir(&layout::segments(dir))?;
    layout::sync_dir(dir)
}

/// Creates the active segment that follows `after`.
fn next(
    settings: &JournalSettings,
    faults: &FaultInjection,
    after: Head,
) -> Result<ActiveSegment, OpenJournalError> {
    let (dir, path) = (&settings.dir, layout::next(&settings.dir));
    let refused = |error: io::Error| OpenJournalError::io(&path, &error);
    // A file left here by an interrupted start was never part of the journal.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
        _ => {}
    }
    let active = ActiveSegment::create(&path, after, settings.cache_bytes_max, faults)?;
    faults.fail_points.at(FailPoint::NextReady);
    fs::rename(&path, layout::active(dir)).map_err(refused)?;
    layout::sync_dir(dir).map_err(refused)?;
    faults.fail_points.at(FailPoint::NextRenamed);
    Ok(active)
}

/// Closes the sealed segment's file, moves it to the others and creates the next one.
pub(super) fn roll_segment(
    active: ActiveSegment,
    last: Head,
    settings: &JournalSettings,
    faults: &FaultInjection,
) -> Result<ActiveSegment, StorageError> {
    let first = active.meta.first;
    active.close()?;
    faults.fail_points.at(FailPoint::SealClosed);
    add_sealed(&settings.dir, first)
        .map_err(|error| StorageError::io("the sealed segment cannot be moved", &error))?;
    faults.fail_points.at(FailPoint::SealRenamed);
    Ok(next(settings, faults, last)?)
}

/// Completes what a crash interrupted. Returns the active segment and the first positions of the
/// sealed ones.
pub(super) fn recover(
    settings: &JournalSettings,
    faults: &FaultInjection,
) -> Result<(ActiveSegment, Vec<u64>), OpenJournalError> {
    let dir = &settings.dir;
    let path = layout::active(dir);
    let shelved = || layout::list_sealed(dir).map_err(|error| OpenJournalError::io(dir, &error));
    let mut firsts = shelved()?;
    let present = path.try_exists().map_err(|error| OpenJournalError::io(&path, &error))?;
    let active = if present {
        let active = ActiveSegment::open(&path, settings.cache_bytes_max, faults)?;
        match active.meta.sealed {
            None => active,
            Some(last) => {
                let done = roll_segment(active, last, settings, faults);
                let active = done.map_err(|fault| OpenJournalError::Storage {
                    path: path.clone(),
                    reason: fault.reason,
                })?;
                firsts = shelved()?;
                active
            }
        }
    } else {
        next(settings, faults, end_of(dir, &firsts)?)?
    };
    let end = end_of(dir, &firsts)?;
    if active.meta.before() != end {
        return Err(OpenJournalError::Damaged {
            dir: dir.clone(),
            reason: format!(
                "journal.redb begins at position {}, but the sealed segments end at {}",
                active.meta.first, end.position
            ),
        });
    }
    Ok((active, firsts))
}

fn end_of(dir: &Path, firsts: &[u64]) -> Result<Head, OpenJournalError> {
    match firsts.last() {
        Some(first) => Ok(SealedSegment::open(dir, *first)?.last),
        None => Ok(Head::default()),
    }
}
