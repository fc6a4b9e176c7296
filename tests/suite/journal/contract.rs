//! The port's contract: for the journal in redb with usual and with tiny segments, and for the one
//! in memory that other tests use.

use std::{fs, sync::Arc};

use super::{open, small};
use crate::{
    contract::journal::{Made, journal_contract},
    support::memory_journal::MemoryJournal,
};
use ai_factory::journal::JournalSettings;

fn make(settings: impl FnOnce(&std::path::Path) -> JournalSettings) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let active = dir.path().join("journal.redb");
    Made {
        journal: open(settings(dir.path())),
        breaks: Box::new(move || fs::remove_file(&active).unwrap()),
        _keep: Box::new(dir),
    }
}

fn memory() -> Made {
    let journal = Arc::new(MemoryJournal::default());
    let broken = Arc::clone(&journal);
    let breaks = Box::new(move || broken.fail("the test broke it"));
    Made { journal, breaks, _keep: Box::new(()) }
}

journal_contract!(redb, super::make(|dir| super::JournalSettings::new(dir)));
journal_contract!(redb_in_tiny_segments, super::make(super::small));
journal_contract!(memory, super::memory());
