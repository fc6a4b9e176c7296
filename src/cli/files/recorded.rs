//! The files of a session, from its records: no running factory is needed.

use std::collections::BTreeMap;

use ai_factory_ports::journal::Journal;
use ai_factory_schemas::{
    answer::SessionFiles,
    envelope::Recorded,
    event::Event,
    id::SessionId,
    session::SessionEvent,
    text::{BlobHash, Text},
    workspace::{ChangeList, FileChange, WorkspaceManifest},
};

use super::changes;
use crate::cli::exit::CommandError;

/// A session's files at its beginning and now.
#[derive(Debug, Default)]
pub(crate) struct RecordedFiles {
    /// What came in.
    pub(crate) came_in: WorkspaceManifest,
    /// What is there now.
    pub(crate) now: WorkspaceManifest,
    /// The changes of each event, as lines for people, by the event's position.
    pub(crate) made: BTreeMap<u64, Vec<String>>,
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
                && let Some(workspace) = opened.workspace
            {
                let came_in = WorkspaceManifest::from_bytes(&blob(journal, workspace.blob).await?)
                    .map_err(|error| altered(workspace.blob, &error))?;
                files = Some(Self { now: came_in.clone(), came_in, made: BTreeMap::new() });
            }
            if let (Some(files), Some(list)) = (&mut files, changes_in(event)) {
                let changed = load_changes(journal, list).await?;
                let was_there = |path: &str| files.now.files.contains_key(path);
                files.made.insert(recorded.position, changes::lines(&changed, was_there));
                files.now.apply(changed);
            }
        }
        Ok(files)
    }

    /// What differs from what came in.
    pub(crate) fn changes(&self) -> Vec<FileChange> {
        self.came_in.changes_to(&self.now)
    }

    /// The answer of `supervisor.files`.
    pub(crate) fn answer(self, session_id: SessionId) -> SessionFiles {
        SessionFiles::new(session_id, &self.came_in, self.now)
    }
}

/// The changes that an event records.
fn changes_in(event: &SessionEvent) -> Option<&ChangeList> {
    match event {
        SessionEvent::StepFinished(finished) => finished.workspace.as_ref()?.changes.as_ref(),
        SessionEvent::CheckFinished(finished) => finished.restored.as_ref(),
        _ => None,
    }
}

async fn load_changes(
    journal: &dyn Journal,
    list: &ChangeList,
) -> Result<Vec<FileChange>, CommandError> {
    match list {
        ChangeList::Inline(changes) => Ok(changes.clone()),
        ChangeList::Blob { blob: hash, .. } => {
            let bytes = blob(journal, *hash).await?;
            serde_json::from_slice(&bytes).map_err(|error| altered(*hash, &error))
        }
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
    CommandError::failed(format_args!(
        "the content {hash} in the journal cannot be used: {fault}; `ai-factory verify` tells more"
    ))
}
