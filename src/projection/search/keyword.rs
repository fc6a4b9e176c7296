//! The index by words: segments on disk, and the documents that wait beside them. It also holds the documents
//! themselves.
//!
//! *Promises.* A search sees every document from the moment it is applied, and a flush changes neither
//! scores nor order.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{
    IndexError,
    allowed::Allowed,
    documents::Document,
    lookup::{Looked, Looking},
    overlay::Overlay,
    query::{Filter, Question},
    segments::{Committed, Segments},
};
use crate::projection::{Access, Mark};

/// The index by words.
pub(crate) struct KeywordIndex {
    directory: PathBuf,
    access: Access,
    parts: RwLock<Parts>,
}

/// What there is to search.
pub(super) struct Parts {
    segments: Arc<Segments>,
    /// What is on disk.
    pub(super) committed: Committed,
    /// What is being flushed.
    frozen: Arc<Overlay>,
    /// What came since.
    active: Overlay,
    applied: Mark,
}

impl Parts {
    fn new(segments: Segments) -> tantivy::Result<Self> {
        let committed = segments.committed()?;
        let applied = committed.mark;
        Ok(Self {
            segments: Arc::new(segments),
            committed,
            frozen: Arc::default(),
            active: Overlay::default(),
            applied,
        })
    }

    /// What waits, newest first, so that newer documents win among equals.
    pub(super) fn overlays(&self) -> [&Overlay; 2] {
        [&self.active, &self.frozen]
    }

    fn waiting(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.frozen.documents().iter().chain(self.active.documents())
    }
}

impl KeywordIndex {
    /// Opens the directory. A writer makes it anew where it is missing, damaged or of another version; a
    /// reader does without it then.
    pub(crate) fn open(directory: &Path, access: Access) -> Result<Self, IndexError> {
        let parts = match Segments::open(directory).and_then(Parts::new) {
            Ok(parts) => parts,
            Err(error) if access == Access::Read => {
                tracing::debug!(path = %directory.display(), %error, "no readable search index: folding the journal in memory");
                Segments::none().and_then(Parts::new).map_err(IndexError::new)?
            }
            Err(error) => {
                if directory.exists() {
                    tracing::warn!(path = %directory.display(), %error, "search index dropped, to be rebuilt from the journal");
                }
                make_anew(directory)?
            }
        };
        Ok(Self { directory: directory.to_owned(), access, parts: RwLock::new(parts) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Parts> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Parts> {
        self.parts.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a commit; what it contains waits no longer.
    fn take_over(&self, committed: Committed) {
        let mut parts = self.write();
        let mark = committed.mark;
        let frozen = std::mem::take(&mut parts.frozen);
        let active = std::mem::take(&mut parts.active);
        let is_contained = |overlay: &Overlay| {
            overlay.documents().iter().all(|document| document.position <= mark.position)
        };
        if !is_contained(&frozen)
            || active.documents().first().is_some_and(|d| d.position <= mark.position)
        {
            for document in frozen.documents().iter().chain(active.documents()) {
                if document.position > mark.position {
                    parts.active.add(Arc::clone(document));
                }
            }
        } else {
            parts.active = active;
        }
        parts.committed = committed;
        if parts.applied.position < mark.position {
            parts.applied = mark;
        }
    }

    /// Up to where it contains everything.
    pub(crate) fn applied(&self) -> Mark {
        self.read().applied
    }

    /// How many documents wait for a flush, and over how many events.
    pub(crate) fn pending(&self) -> (usize, u64) {
        let parts = self.read();
        (parts.waiting().count(), parts.applied.position - parts.committed.mark.position)
    }

    /// What the waiting documents take in memory, roughly, in bytes.
    pub(crate) fn pending_bytes(&self) -> usize {
        let parts = self.read();
        parts.frozen.bytes() + parts.active.bytes()
    }

    /// How many documents there are on disk.
    pub(crate) fn committed_documents(&self) -> u64 {
        self.read().committed.documents()
    }

    /// Adds those of `documents` that are newer than what it contains, in order.
    pub(crate) fn apply(&self, documents: &[Arc<Document>], upto: Mark) {
        let mut parts = self.write();
        let applied = parts.applied.position;
        for document in documents {
            // A reader may have taken over a commit in between that has it already.
            if document.position > applied {
                parts.active.add(Arc::clone(document));
            }
        }
        if upto.position > applied {
            parts.applied = upto;
        }
    }

    /// The memories that a filter lets through. Blocks while it reads.
    pub(crate) fn allowed(&self, filter: &Filter) -> Result<Allowed, IndexError> {
        let (committed, waiting) = {
            let parts = self.read();
            (parts.committed.clone(), parts.waiting().cloned().collect::<Vec<_>>())
        };
        Allowed::new(filter, &committed, &waiting).map_err(IndexError::new)
    }

    /// The memories that have the query's words, and those at the positions `wanted`, each with its score. Blocks
    /// while it reads.
    pub(crate) fn look(
        &self,
        question: &Question,
        wanted: &[u64],
        allowed: Option<&Allowed>,
    ) -> Result<Looked, IndexError> {
        // The part on disk is searched without the lock: writers do not wait for a long search.
        let looking = Looking::begin(&self.read(), question, wanted, allowed);
        looking.and_then(Looking::finish).map_err(IndexError::new)
    }

    /// The memory of that id. Blocks while it reads.
    pub(crate) fn document(&self, id: &str) -> Result<Option<Document>, IndexError> {
        let committed = {
            let parts = self.read();
            if let Some(found) = parts.waiting().find(|document| document.id == id) {
                return Ok(Some(Document::clone(found)));
            }
            parts.committed.clone()
        };
        committed.with_id(id).map_err(IndexError::new)
    }

    /// Puts what waits on disk. Blocks; one flush at a time; not for a process that only reads.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        let (segments, frozen, upto) = {
            let mut parts = self.write();
            let active = std::mem::take(&mut parts.active);
            if parts.frozen.documents().is_empty() {
                parts.frozen = Arc::new(active);
            } else {
                // An earlier flush failed: what it was to write is written with what has come since.
                let mut all = Overlay::default();
                for document in parts.frozen.documents().iter().chain(active.documents()) {
                    all.add(Arc::clone(document));
                }
                parts.frozen = Arc::new(all);
            }
            (Arc::clone(&parts.segments), Arc::clone(&parts.frozen), parts.applied)
        };
        segments.commit(frozen.documents().iter(), upto).map_err(IndexError::new)?;
        let mut committed = segments.committed().map_err(IndexError::new)?;
        self.take_over(committed.clone());
        while segments.merge(&committed).map_err(IndexError::new)? {
            committed = segments.committed().map_err(IndexError::new)?;
            self.take_over(committed.clone());
        }
        Ok(())
    }

    /// In a process that only reads: takes over what the writer has flushed, so that less waits here.
    pub(crate) fn reload(&self) -> Result<(), IndexError> {
        let segments = Arc::clone(&self.read().segments);
        let committed = segments.committed().map_err(IndexError::new)?;
        self.take_over(committed);
        Ok(())
    }

    /// Drops everything.
    pub(crate) fn reset(&self) -> Result<(), IndexError> {
        let anew = match self.access {
            Access::Write => make_anew(&self.directory)?,
            Access::Read => Segments::none().and_then(Parts::new).map_err(IndexError::new)?,
        };
        *self.write() = anew;
        Ok(())
    }

    /// Shows every document, oldest first.
    pub(crate) fn export(&self, visit: &mut dyn FnMut(&Document)) -> Result<(), IndexError> {
        let parts = self.read();
        parts.committed.export(visit).map_err(IndexError::new)?;
        parts.waiting().for_each(|document| visit(document));
        Ok(())
    }
}

fn make_anew(directory: &Path) -> Result<Parts, IndexError> {
    if directory.is_dir() {
        std::fs::remove_dir_all(directory).map_err(IndexError::new)?;
    } else if directory.exists() {
        std::fs::remove_file(directory).map_err(IndexError::new)?;
    }
    std::fs::create_dir_all(directory).map_err(IndexError::new)?;
    Segments::create(directory).and_then(Parts::new).map_err(IndexError::new)
}
