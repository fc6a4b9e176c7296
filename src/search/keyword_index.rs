//! The keyword index: segments on disk and documents that wait for a commit. It also stores the
//! documents.
//!
//! *Promises.* A search sees every document from the moment it is applied, and a flush changes
//! neither scores nor order.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use ai_factory_fold::{Access, Mark, atomic_replace};
use ai_factory_ports::views::{ExpiredRange, RetentionPolicy};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{
    candidate_search::{CandidateSearch, CandidateSet},
    committed::CommittedIndex,
    documents::{Document, IndexChanges},
    error::IndexError,
    keyword_state::KeywordState,
    overlay::Overlay,
    payload::Payload,
    position_filter::PositionFilter,
    query::{MemoryFilter, ParsedQuery},
    scoring::ScoreTarget,
    segments::Segments,
};

/// The keyword index.
pub(crate) struct KeywordIndex {
    directory: PathBuf,
    access: Access,
    state: RwLock<KeywordState>,
}

impl KeywordIndex {
    /// Opens the directory. A writer replaces an index that is missing, damaged or of another
    /// layout by an empty one; a reader then works without it.
    pub(crate) fn open(directory: &Path, access: Access) -> Result<Self, IndexError> {
        if access == Access::Write {
            atomic_replace::recover(directory).map_err(IndexError::new)?;
        }
        let state = match Segments::open(directory, access).and_then(KeywordState::new) {
            Ok(state) => state,
            Err(error) if access == Access::Read => {
                tracing::debug!(path = %directory.display(), %error, "no readable search index: folding the journal in memory");
                Segments::none().and_then(KeywordState::new).map_err(IndexError::new)?
            }
            Err(error) => {
                if directory.exists() {
                    tracing::warn!(path = %directory.display(), %error, "search index dropped, to be rebuilt from the journal");
                }
                recreate(directory)?
            }
        };
        Ok(Self { directory: directory.to_owned(), access, state: RwLock::new(state) })
    }

    fn read(&self) -> RwLockReadGuard<'_, KeywordState> {
        self.state.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, KeywordState> {
        self.state.write()
    }

    /// Switches to a commit and drops from the overlays what it contains.
    fn adopt(&self, committed: CommittedIndex) -> Result<(), IndexError> {
        let mut state = self.write();
        let known = Arc::clone(&state.committed.tombstones);
        let mark = committed.mark;
        let frozen = std::mem::take(&mut state.frozen);
        let active = std::mem::take(&mut state.active);
        let is_contained = |overlay: &Overlay| {
            overlay.documents().iter().all(|document| document.position <= mark.position)
        };
        if !is_contained(&frozen)
            || active.documents().first().is_some_and(|d| d.position <= mark.position)
        {
            for document in frozen.documents().iter().chain(active.documents()) {
                if document.position > mark.position {
                    state.active.add(Arc::clone(document));
                }
            }
        } else {
            state.active = active;
        }
        state.committed = committed;
        if state.applied.position < mark.position {
            state.applied = mark;
        }
        state.apply_tombstones(&known).map_err(IndexError::new)
    }

    /// Mark up to which everything is folded.
    pub(crate) fn applied(&self) -> Mark {
        self.read().applied
    }

    /// Whether some of its documents were tokenized in another way than this program does.
    pub(crate) fn is_outdated(&self) -> bool {
        !Payload::is_of_this_cut(self.read().committed.cut)
    }

    /// Whether a replacement is being built, or was when the process ended.
    pub(crate) fn has_shadow(&self) -> bool {
        atomic_replace::shadow_path(&self.directory).exists()
    }

    /// Opens the replacement, as far as it is built.
    pub(crate) fn shadow(&self) -> Result<Self, IndexError> {
        let next = Self::open(&atomic_replace::shadow_path(&self.directory), Access::Write)?;
        if next.is_outdated() {
            next.reset()?;
        }
        Ok(next)
    }

    /// Drops the replacement.
    pub(crate) fn drop_shadow(&self) -> Result<(), IndexError> {
        atomic_replace::remove(&atomic_replace::shadow_path(&self.directory))
            .map_err(IndexError::new)
    }

    /// Replaces this index by the one built [`Self::shadow`], which contains as much, is flushed
    /// and no longer in use. Blocks; must not run during a flush.
    pub(crate) fn replace_with_shadow(&self) -> Result<(), IndexError> {
        atomic_replace::replace_directory(&self.directory).map_err(IndexError::new)?;
        let reopened = Segments::open(&self.directory, self.access)
            .and_then(KeywordState::new)
            .map_err(IndexError::new)?;
        *self.write() = reopened;
        Ok(())
    }

    /// Number of documents waiting for a flush, to be added or forgotten, and of the events in
    /// which they came.
    pub(crate) fn pending(&self) -> (usize, u64) {
        let state = self.read();
        (
            state.waiting().count() + state.forgotten,
            state.applied.position - state.committed.mark.position,
        )
    }

    /// Approximate memory of the waiting documents, in bytes.
    pub(crate) fn pending_bytes(&self) -> usize {
        let state = self.read();
        state.frozen.bytes() + state.active.bytes()
    }

    /// Number of documents on disk.
    pub(crate) fn committed_documents(&self) -> u64 {
        self.read().committed.documents()
    }

    /// Applies `changes`, as far as they are newer than the applied mark.
    pub(crate) fn apply(&self, changes: &IndexChanges, upto: Mark) -> Result<(), IndexError> {
        let mut state = self.write();
        let applied = state.applied.position;
        for document in &changes.documents {
            // A reader may have switched to a newer commit that contains it.
            if document.position > applied {
                state.active.add(Arc::clone(document));
            }
        }
        if changes.is_forgetting() {
            state.forget(changes.forgotten.iter().copied()).map_err(IndexError::new)?;
            state.expire(changes.expired).map_err(IndexError::new)?;
        }
        if upto.position > applied {
            state.applied = upto;
        }
        Ok(())
    }

    /// The oldest memories beyond the retention policy, at most `limit`.
    pub(crate) fn expired_range(
        &self,
        policy: &RetentionPolicy,
        limit: u64,
    ) -> Option<ExpiredRange> {
        let state = self.read();
        let memories_max = policy.memories_max.unwrap_or(u64::MAX);
        let surplus = state.corpus().documents.saturating_sub(memories_max);
        let mut expired_range = None;
        state.oldest(|upto, time| {
            let memories =
                expired_range.map_or(0, |expired_range: ExpiredRange| expired_range.memories);
            let is_old = policy.since.is_some_and(|since| time < since);
            if memories >= limit || !(is_old || memories < surplus) {
                return ControlFlow::Break(());
            }
            expired_range = Some(ExpiredRange { upto, memories: memories + 1 });
            ControlFlow::Continue(())
        });
        expired_range
    }

    /// The memories that a filter admits. Blocks while it reads.
    pub(crate) fn allowed(&self, filter: &MemoryFilter) -> Result<PositionFilter, IndexError> {
        let state = self.read();
        let (committed, upto) = (state.committed.clone(), state.applied.position);
        let only_leaves_out = filter.only_leaves_out();
        let waiting = state.overlays().map(|overlay| overlay.sorted_out(filter, !only_leaves_out));
        drop(state);
        let waiting = waiting.into_iter().flatten();
        let allowed = if only_leaves_out {
            PositionFilter::all_but(filter, &committed, waiting, upto)
        } else {
            PositionFilter::only(filter, &committed, waiting)
        };
        allowed.map_err(IndexError::new)
    }

    /// Collects candidates: memories that equal or contain the query, the best by score according
    /// to `wanted`, and those at the positions `near`. Blocks while it reads.
    pub(crate) fn candidates(
        &self,
        question: &ParsedQuery,
        near: &[u64],
        wanted: &ScoreTarget,
        allowed: Option<&PositionFilter>,
    ) -> Result<CandidateSet, IndexError> {
        // The part on disk is searched without the lock, so that writers do not wait for a long
        // search.
        let looking = CandidateSearch::begin(&self.read(), question, near, wanted, allowed);
        looking.and_then(CandidateSearch::finish).map_err(IndexError::new)
    }

    /// The memory with this id. Blocks while it reads.
    pub(crate) fn document(&self, id: &str) -> Result<Option<Document>, IndexError> {
        let committed = {
            let state = self.read();
            if let Some(found) = state.waiting().find(|document| document.id == id) {
                let is_gone = state.committed.tombstones.contains(found.position);
                return Ok((!is_gone).then(|| Document::clone(found)));
            }
            state.committed.clone()
        };
        committed.with_id(id).map_err(IndexError::new)
    }

    /// Writes waiting documents. Blocks; one flush at a time; only in a writing process.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        if !self.read().frozen.documents().is_empty() {
            // The previous flush failed, perhaps after its commit: documents on disk must not be
            // written again.
            self.reload()?;
        }
        let (segments, frozen, payload, forgotten) = {
            let mut state = self.write();
            if state.applied == state.committed.mark && state.waiting().next().is_none() {
                return Ok(());
            }
            let active = std::mem::take(&mut state.active);
            if state.frozen.documents().is_empty() {
                state.frozen = Arc::new(active);
            } else {
                // Documents that an earlier flush failed to write are written with newer ones.
                let mut all = Overlay::default();
                for document in state.frozen.documents().iter().chain(active.documents()) {
                    all.add(Arc::clone(document));
                }
                state.frozen = Arc::new(all);
            }
            let tombstones = state.committed.tombstones.positions().collect();
            let cut = state.committed.cut;
            let payload = Payload { cut, mark: state.applied, corpus: state.corpus(), tombstones };
            (Arc::clone(&state.segments), Arc::clone(&state.frozen), payload, state.forgotten)
        };
        segments.commit(frozen.documents().iter(), &payload).map_err(IndexError::new)?;
        self.adopt(segments.committed().map_err(IndexError::new)?)?;
        self.write().forgotten -= forgotten;
        while segments.merge(&self.committed()).map_err(IndexError::new)? {
            self.adopt(segments.committed().map_err(IndexError::new)?)?;
        }
        if segments.purge(&self.committed()).map_err(IndexError::new)? {
            self.adopt(segments.committed().map_err(IndexError::new)?)?;
        }
        Ok(())
    }

    /// Merges segments for faster searches, each result at most `bytes_max` large. Blocks; must not
    /// run during a flush; only in a writing process.
    pub(crate) fn merge_idle(&self, bytes_max: u64) -> Result<(), IndexError> {
        let segments = Arc::clone(&self.read().segments);
        while segments.merge_idle(&self.committed(), bytes_max).map_err(IndexError::new)? {
            self.adopt(segments.committed().map_err(IndexError::new)?)?;
        }
        Ok(())
    }

    fn committed(&self) -> CommittedIndex {
        self.read().committed.clone()
    }

    /// Switches to the newest commit on disk, by a writer in another process or a failed flush, so
    /// that fewer documents wait here.
    pub(crate) fn reload(&self) -> Result<(), IndexError> {
        let segments = Arc::clone(&self.read().segments);
        self.adopt(segments.committed().map_err(IndexError::new)?)
    }

    /// Makes the directory if it was taken away; returns whether the files are gone.
    pub(crate) fn ensure_directory(&self) -> Result<bool, IndexError> {
        let is_gone = !self.read().segments.are_there().map_err(IndexError::new)?;
        if is_gone {
            atomic_replace::make_directory(&self.directory).map_err(IndexError::new)?;
        }
        Ok(is_gone)
    }

    /// Drops everything.
    pub(crate) fn reset(&self) -> Result<(), IndexError> {
        let reopened = match self.access {
            Access::Write => recreate(&self.directory)?,
            Access::Read => {
                Segments::none().and_then(KeywordState::new).map_err(IndexError::new)?
            }
        };
        *self.write() = reopened;
        Ok(())
    }

    /// Calls `visit` with every document, oldest first.
    pub(crate) fn export(&self, visit: &mut dyn FnMut(&Document)) -> Result<(), IndexError> {
        let state = self.read();
        state.committed.export(visit).map_err(IndexError::new)?;
        let tombstones = &state.committed.tombstones;
        let waiting = state.waiting().filter(|document| !tombstones.contains(document.position));
        waiting.for_each(|document| visit(document));
        Ok(())
    }
}

fn recreate(directory: &Path) -> Result<KeywordState, IndexError> {
    atomic_replace::remove(directory).map_err(IndexError::new)?;
    atomic_replace::make_directory(directory).map_err(IndexError::new)?;
    Segments::create(directory).and_then(KeywordState::new).map_err(IndexError::new)
}

#[cfg(test)]
mod samples {
    use super::*;

    impl KeywordIndex {
        /// An index of notes at the positions from 1 on, for tests: half of them on disk, half
        /// waiting.
        pub(in super::super) fn sample(texts: &[String]) -> (tempfile::TempDir, Self) {
            let directory = tempfile::tempdir().unwrap();
            let index = Self::open(&directory.path().join("words"), Access::Write).unwrap();
            let documents: Vec<_> =
                (1..).zip(texts).map(|(position, text)| Document::sample(position, text)).collect();
            for some in documents.chunks(texts.len() / 2 + 1) {
                index.flush().unwrap();
                let mark = Mark { position: some.last().unwrap().position, ..Mark::default() };
                index
                    .apply(
                        &IndexChanges { documents: some.to_vec(), ..IndexChanges::default() },
                        mark,
                    )
                    .unwrap();
            }
            (directory, index)
        }
    }
}
