//! The files of a session now: those that came in, with the recorded changes in their order.

use ai_factory_ports::journal::Journal;
use ai_factory_schemas::{
    session::SessionEvent,
    text::BlobHash,
    workspace::{ChangeList, FileChange, WorkspaceManifest, WorkspaceRef},
};
use serde::de::DeserializeOwned;

use super::contents;

/// A session's workspace as its stream tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionWorkspace {
    /// The files that came in.
    pub(crate) opened: WorkspaceRef,
    /// The changes since, in order.
    pub(crate) changes: Vec<ChangeList>,
}

/// A session's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionTree {
    /// Those that came in.
    pub before: WorkspaceManifest,
    /// Those that are there now.
    pub now: WorkspaceManifest,
}

/// The changes to the files that an event of a session records.
pub fn changes_of(event: &SessionEvent) -> Option<&ChangeList> {
    match event {
        SessionEvent::StepFinished(finished) => finished.workspace.as_ref()?.changes.as_ref(),
        SessionEvent::ToolFinished(finished) => finished.workspace.as_ref()?.changes.as_ref(),
        SessionEvent::CheckFinished(finished) => finished.restored.as_ref(),
        _ => None,
    }
}

/// The changes of a list that a record names.
///
/// # Errors
/// A sentence, if the list is a blob that is missing, altered or cannot be read.
pub async fn load_changes(
    journal: &dyn Journal,
    changes: &ChangeList,
) -> Result<Vec<FileChange>, String> {
    match changes {
        ChangeList::Inline(changes) => Ok(changes.clone()),
        ChangeList::Blob { blob, .. } => list(journal, *blob, "a list of changed files").await,
    }
}

impl SessionTree {
    /// The files that came in, unchanged.
    ///
    /// # Errors
    /// A sentence, if their list is missing, altered or cannot be read.
    pub async fn opened(journal: &dyn Journal, workspace: &WorkspaceRef) -> Result<Self, String> {
        let what = "the list of the session's files";
        let before: WorkspaceManifest = list(journal, workspace.blob, what).await?;
        Ok(Self { now: before.clone(), before })
    }

    /// Applies recorded changes.
    ///
    /// # Errors
    /// A sentence, if their list is a blob that is missing, altered or cannot be read.
    pub(crate) async fn change(
        &mut self,
        journal: &dyn Journal,
        changes: &ChangeList,
    ) -> Result<(), String> {
        self.now.apply(load_changes(journal, changes).await?);
        Ok(())
    }

    /// What differs from what came in, sorted by path.
    pub fn changes(&self) -> Vec<FileChange> {
        self.before.changes_to(&self.now)
    }
}

impl SessionWorkspace {
    /// The files, with the lists that are blobs loaded from the journal.
    ///
    /// # Errors
    /// A sentence, if a list is missing, altered or cannot be read.
    pub(crate) async fn tree(&self, journal: &dyn Journal) -> Result<SessionTree, String> {
        let mut tree = SessionTree::opened(journal, &self.opened).await?;
        for changes in &self.changes {
            tree.change(journal, changes).await?;
        }
        Ok(tree)
    }
}

async fn list<T: DeserializeOwned>(
    journal: &dyn Journal,
    hash: BlobHash,
    what: &str,
) -> Result<T, String> {
    let bytes = contents::load(journal, hash, what).await?;
    serde_json::from_slice(&bytes)
        .map_err(|fault| format!("{what} ({hash}) is unreadable: {fault}"))
}
