//! The files of a session, from its records: no running factory is needed.

use std::collections::BTreeMap;

use ai_factory_actors::workspace::tree::{SessionTree, changes_of, load_changes};
use ai_factory_ports::journal::Journal;
use ai_factory_schemas::{
    envelope::Recorded,
    event::Event,
    id::SessionId,
    session::SessionEvent,
    session_files::SessionFiles,
    text::{BlobHash, Text},
};

use super::changes;
use crate::cli::exit::CommandError;

/// A session's files at its beginning and now.
#[derive(Debug, Default)]
pub(crate) struct RecordedFiles {
    /// The files.
    pub(crate) tree: SessionTree,
    /// The changes of each event, as lines for people, by the event's position.
    pub(crate) made: BTreeMap<u64, Vec<String>>,
    /// Patterns of the files that it may not change.
    pub(crate) protect: Vec<String>,
}

impl RecordedFiles {
    /// Reads them; `None` if the session has no workspace. `records` are those of the session, in
    /// order; others are passed over.
    pub(crate) async fn load(
        journal: &dyn Journal,
        records: &[Recorded],
    ) -> Result<Option<Self>, CommandError> {
        let mut files: Option<Self> = None;
        for recorded in records {
            let Event::Session(event) = &recorded.event else { continue };
            if let SessionEvent::Opened(opened) = event
                && let Some(workspace) = &opened.workspace
            {
                let tree = SessionTree::opened(journal, workspace).await.map_err(unusable)?;
                let protect = opened.protect.clone();
                files = Some(Self { tree, made: BTreeMap::new(), protect });
            }
            if let (Some(files), Some(list)) = (&mut files, changes_of(event)) {
                let changed = load_changes(journal, list).await.map_err(unusable)?;
                let was_there = |path: &str| files.tree.now.files.contains_key(path);
                files.made.insert(recorded.position, changes::lines(&changed, was_there));
                files.tree.now.apply(changed);
            }
        }
        Ok(files)
    }

    /// The answer of `supervisor.files`.
    pub(crate) fn answer(self, session_id: SessionId) -> SessionFiles {
        SessionFiles::new(session_id, &self.tree.before, self.tree.now)
    }
}

/// A content that a record names.
pub(crate) async fn blob(journal: &dyn Journal, hash: BlobHash) -> Result<Vec<u8>, CommandError> {
    match journal.blob(hash).await? {
        Some(bytes) if BlobHash::of(&bytes) == hash => Ok(bytes),
        Some(_) => Err(altered(hash, &"its bytes have another hash")),
        None => Err(altered(hash, &"it is missing")),
    }
}

/// A whole text of a record.
pub(crate) async fn text(journal: &dyn Journal, text: &Text) -> Result<String, CommandError> {
    match text.blob() {
        Some(hash) => Ok(String::from_utf8_lossy(&blob(journal, hash).await?).into_owned()),
        None => Ok(text.head().to_owned()),
    }
}

fn altered(hash: BlobHash, fault: &dyn std::fmt::Display) -> CommandError {
    unusable(format!("the content {hash} cannot be used: {fault}"))
}

fn unusable(fault: impl std::fmt::Display) -> CommandError {
    CommandError::failed(format_args!("{fault}; `ai-factory verify` tells more"))
}
