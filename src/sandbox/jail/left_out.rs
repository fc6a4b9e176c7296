//! Files that stay out of an answer, each with the reason, in a list of limited size.

use ai_factory_schemas::run::FileLeftOut;

use super::search::MORE;

/// Size of the list, names and reasons together, in bytes; further files are only counted.
pub(crate) const LEFT_OUT_BYTES_MAX: usize = 64 * 1024;

/// The list under construction.
pub(super) struct LeftOutList {
    listed: Vec<FileLeftOut>,
    /// Remaining size, in bytes.
    room: usize,
    /// Number of files that are not listed.
    unlisted: usize,
}

impl LeftOutList {
    pub(super) fn new() -> Self {
        Self { listed: Vec::new(), room: LEFT_OUT_BYTES_MAX, unlisted: 0 }
    }

    pub(super) fn add(&mut self, name: String, reason: String) {
        if let Some(room) = self.room.checked_sub(name.len() + reason.len()) {
            self.room = room;
            self.listed.push(FileLeftOut { name, reason });
        } else {
            self.room = 0;
            self.unlisted += 1;
        }
    }

    /// Adds what another list names, and counts what it counts.
    pub(super) fn append(&mut self, other: Self) {
        for FileLeftOut { name, reason } in other.listed {
            self.add(name, reason);
        }
        self.unlisted += other.unlisted;
    }

    /// The list, with the number of files that are not listed and a remedy.
    pub(super) fn complete(mut self, remedy: &str) -> Vec<FileLeftOut> {
        if self.unlisted > 0 {
            let reason = format!("{} more files were left out: {remedy}", self.unlisted);
            self.listed.push(FileLeftOut { name: MORE.to_owned(), reason });
        }
        self.listed
    }
}
