//! Sealing the active segment, and recovery of the files when a journal opens.
//!
//! The steps of sealing, after any of which a crash may come: mark the segment as sealed; close its
//! file cleanly; rename it into `segments/`; create the next active segment under a temporary name;
//! rename that. [`recover`] continues from wherever they stopped.

use std::{fs, io, path::Path};

use ai_factory_actors::ports::journal::Head;

use super::{
    error::{Fault, OpenError},
    layout,
    seam::{Point, Seams},
    segment::{Active, Sealed},
    settings::JournalSettings,
};

/// Gives a marked and closed segment its final name.
fn shelve(dir: &Path, first: u64) -> io::Result<()> {
    fs::rename(layout::active(dir), layout::sealed(dir, first))?;
    layout::sync_dir(&layout::segments(dir))?;
    layout::sync_dir(dir)
}

/// Creates the active segment that follows `after`.
fn next(settings: &JournalSettings, seams: &Seams, after: Head) -> Result<Active, OpenError> {
    let (dir, path) = (&settings.dir, layout::next(&settings.dir));
    let refused = |error: io::Error| OpenError::io(&path, &error);
    // A file left here by an interrupted start was never part of the journal.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
        _ => {}
    }
    let active = Active::create(&path, after, settings.cache_bytes_max, seams)?;
    seams.points.at(Point::NextReady);
    fs::rename(&path, layout::active(dir)).map_err(refused)?;
    layout::sync_dir(dir).map_err(refused)?;
    seams.points.at(Point::NextRenamed);
    Ok(active)
}

/// Closes the sealed segment's file, moves it to the others and creates the next one.
pub(super) fn turn_over(
    active: Active,
    last: Head,
    settings: &JournalSettings,
    seams: &Seams,
) -> Result<Active, Fault> {
    let first = active.meta.first;
    active.close()?;
    seams.points.at(Point::SealClosed);
    shelve(&settings.dir, first)
        .map_err(|error| Fault::io("the sealed segment cannot be moved", &error))?;
    seams.points.at(Point::SealRenamed);
    Ok(next(settings, seams, last)?)
}

/// Completes what a crash interrupted. Returns the active segment and the first positions of the
/// sealed ones.
pub(super) fn recover(
    settings: &JournalSettings,
    seams: &Seams,
) -> Result<(Active, Vec<u64>), OpenError> {
    let dir = &settings.dir;
    let path = layout::active(dir);
    let shelved = || layout::list_sealed(dir).map_err(|error| OpenError::io(dir, &error));
    let mut firsts = shelved()?;
    let present = path.try_exists().map_err(|error| OpenError::io(&path, &error))?;
    let active = if present {
        let active = Active::open(&path, settings.cache_bytes_max, seams)?;
        match active.meta.sealed {
            None => active,
            Some(last) => {
                let done = turn_over(active, last, settings, seams);
                let active = done
                    .map_err(|fault| OpenError::Storage { path: path.clone(), reason: fault.0 })?;
                firsts = shelved()?;
                active
            }
        }
    } else {
        next(settings, seams, end_of(dir, &firsts)?)?
    };
    let end = end_of(dir, &firsts)?;
    if active.meta.before() != end {
        return Err(OpenError::Damaged {
            dir: dir.clone(),
            reason: format!(
                "journal.redb begins at position {}, but the sealed segments end at {}",
                active.meta.first, end.position
            ),
        });
    }
    Ok((active, firsts))
}

fn end_of(dir: &Path, firsts: &[u64]) -> Result<Head, OpenError> {
    match firsts.last() {
        Some(first) => Ok(Sealed::open(dir, *first)?.last),
        None => Ok(Head::default()),
    }
}
