//! The files of the sessions that were asked for last, so that reading file after file of a session
//! does not begin with its first event each time.
//!
//! *Promises.* An answer holds every event that was on disk when it was asked for: what is kept is
//! a version of the stream, and the events after it are loaded each time.
//!
//! *Limits.* [`SESSION_TREES_MAX`], [`SESSION_TREES_FILES_MAX`]; the ones asked for last are kept.

use std::sync::Arc;

use ai_factory_ports::journal::Journal;
use ai_factory_schemas::{
    envelope::Recorded, event::Event, id::SessionId, problem::Problem, session::SessionEvent,
};
use parking_lot::Mutex;

use super::tree::{SessionTree, changes_of};

/// Sessions whose files are kept.
pub const SESSION_TREES_MAX: usize = 8;
/// Files of these sessions together; each that came in and each that is there now counts. Two of
/// the largest workspaces.
pub const SESSION_TREES_FILES_MAX: usize = 8_000;

/// The files of a session at a version of its stream.
#[derive(Clone)]
struct VersionedTree {
    id: SessionId,
    version: u64,
    tree: Arc<SessionTree>,
}

/// The kept files, those asked for last at the end.
#[derive(Default)]
pub(crate) struct SessionTrees(Mutex<Vec<VersionedTree>>);

impl SessionTrees {
    /// The files of a session; a session without a workspace has none.
    ///
    /// # Errors
    /// If there is no such session, or the journal cannot be read.
    pub(crate) async fn of(
        &self,
        journal: &dyn Journal,
        id: SessionId,
    ) -> Result<Arc<SessionTree>, Problem> {
        let mut kept = self.kept(id);
        let new = journal.load(id.into(), kept.version).await.map_err(Problem::from)?;
        let Some(last) = new.last() else {
            let is_known = kept.version > 0;
            return is_known
                .then_some(kept.tree)
                .ok_or_else(|| Problem::not_found(format!("there is no session {id}")));
        };
        kept.version = last.version;
        fold(journal, &mut kept.tree, &new).await.map_err(Problem::internal)?;
        let tree = Arc::clone(&kept.tree);
        self.keep(kept);
        Ok(tree)
    }

    /// What is kept of a session: nothing at version 0.
    fn kept(&self, id: SessionId) -> VersionedTree {
        let mut kept = self.0.lock();
        let Some(at) = kept.iter().position(|kept| kept.id == id) else {
            return VersionedTree { id, version: 0, tree: Arc::default() };
        };
        // The one asked for last goes to the end.
        kept[at..].rotate_left(1);
        kept[kept.len() - 1].clone()
    }

    /// Keeps a session's files, unless a newer version of them is kept.
    fn keep(&self, new: VersionedTree) {
        let mut kept = self.0.lock();
        if kept.iter().any(|kept| kept.id == new.id && kept.version > new.version) {
            return;
        }
        kept.retain(|kept| kept.id != new.id);
        kept.push(new);
        let files = |kept: &VersionedTree| kept.tree.before.files.len() + kept.tree.now.files.len();
        let mut count: usize = kept.iter().map(files).sum();
        while kept.len() > SESSION_TREES_MAX || count > SESSION_TREES_FILES_MAX {
            count -= files(&kept.remove(0));
        }
    }
}

/// Applies further events of a session's stream to its files.
async fn fold(
    journal: &dyn Journal,
    tree: &mut Arc<SessionTree>,
    events: &[Recorded],
) -> Result<(), String> {
    for recorded in events {
        let Event::Session(event) = &recorded.event else { continue };
        if let SessionEvent::Opened(opened) = event
            && let Some(workspace) = &opened.workspace
        {
            *tree = Arc::new(SessionTree::opened(journal, workspace).await?);
        }
        if let Some(changes) = changes_of(event) {
            Arc::make_mut(tree).change(journal, changes).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{
        text::BlobHash,
        workspace::{WorkspaceFile, WorkspaceManifest},
    };
    use uuid::Uuid;

    use super::*;

    fn id(n: usize) -> SessionId {
        SessionId(Uuid::from_u128(n as u128))
    }

    fn versioned(session: usize, version: u64, files: usize) -> VersionedTree {
        let file = WorkspaceFile { blob: BlobHash::of(b""), bytes: 0, executable: false };
        let files = (0..files).map(|n| (n.to_string(), file)).collect();
        let tree = SessionTree { now: WorkspaceManifest { files }, ..SessionTree::default() };
        VersionedTree { id: id(session), version, tree: Arc::new(tree) }
    }

    #[test]
    fn the_sessions_asked_for_last_are_kept_within_both_limits() {
        let trees = SessionTrees::default();
        for n in 0..SESSION_TREES_MAX {
            trees.keep(versioned(n, 1, 1));
        }
        assert_eq!(trees.kept(id(0)).version, 1, "it is asked for again");
        trees.keep(versioned(100, 1, 1));
        assert_eq!((trees.kept(id(0)).version, trees.kept(id(1)).version), (1, 0));
        trees.keep(versioned(101, 1, SESSION_TREES_FILES_MAX - 1));
        let kept: Vec<_> = trees.0.lock().iter().map(|kept| kept.id).collect();
        assert_eq!(kept, [id(0), id(101)]);
        trees.keep(versioned(102, 1, SESSION_TREES_FILES_MAX + 1));
        assert!(trees.0.lock().is_empty(), "the one that is too large is not kept either");
    }

    #[test]
    fn a_newer_version_stays() {
        let trees = SessionTrees::default();
        for (version, files) in [(2, 2), (1, 1)] {
            trees.keep(versioned(0, version, files));
        }
        let kept = trees.kept(id(0));
        assert_eq!((kept.version, kept.tree.now.files.len(), trees.0.lock().len()), (2, 2, 1));
    }
}
