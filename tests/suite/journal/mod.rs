//! The journal in redb: its contract, its segments, its crashes, its faults.

mod contract;
mod disk;
mod faults;
mod faulty_disk;
mod kill;
pub mod left;
mod queue;
mod segments;
mod taken;
mod workspaces;

use std::{path::Path, sync::Arc};

use ai_factory::journal::{JournalSettings, RedbJournal};
use ai_factory_ports::journal::Journal;

/// Segments of a few records, so that a short test sees many.
pub fn small(dir: &Path) -> JournalSettings {
    JournalSettings { segment_events_max: 8, ..JournalSettings::new(dir) }
}

pub fn open(settings: JournalSettings) -> Arc<RedbJournal> {
    RedbJournal::open(settings).unwrap()
}

pub fn port(journal: &Arc<RedbJournal>) -> Arc<dyn Journal> {
    journal.clone()
}
