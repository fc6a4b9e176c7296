//! The port's contract, for the journal in redb with usual and with tiny segments.

use super::{open, small};
use crate::contract::journal::{Made, journal_contract};
use ai_factory::journal::JournalSettings;

fn make(settings: impl FnOnce(&std::path::Path) -> JournalSettings) -> Made {
    let dir = tempfile::tempdir().unwrap();
    Made { journal: open(settings(dir.path())), _keep: Box::new(dir) }
}

journal_contract!(redb, super::make(|dir| super::JournalSettings::new(dir)));
journal_contract!(redb_in_tiny_segments, super::make(super::small));
