//! The searchable parts of the keyword index at one moment.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

use ai_factory_fold::Mark;
use ai_factory_schemas::time::Timestamp;

use super::{
    committed::CommittedIndex, corpus::Corpus, documents::Document, overlay::Overlay,
    segments::Segments, tombstones::Tombstones,
};

/// The searchable parts.
pub(super) struct KeywordState {
    pub(super) segments: Arc<Segments>,
    /// Documents on disk.
    pub(super) committed: CommittedIndex,
    /// Documents being flushed.
    pub(super) frozen: Arc<Overlay>,
    /// Newer documents.
    pub(super) active: Overlay,
    pub(super) applied: Mark,
    /// Documents forgotten since the last flush.
    pub(super) forgotten: usize,
}

impl KeywordState {
    /// What the newest commit of these segments contains.
    pub(super) fn new(segments: Segments) -> tantivy::Result<Self> {
        let committed = segments.committed()?;
        let applied = committed.mark;
        let mut state = Self {
            segments: Arc::new(segments),
            committed,
            frozen: Arc::default(),
            active: Overlay::default(),
            applied,
            forgotten: 0,
        };
        state.apply_tombstones(&Arc::default())?;
        Ok(state)
    }

    /// Sets the tombstones: those of the memories forgotten according to `known` and the commit
    /// that are still in commit or overlays.
    pub(super) fn apply_tombstones(&mut self, known: &Arc<Tombstones>) -> tantivy::Result<()> {
        let is_here =
            |position| self.committed.has(position) || self.waiting_at(position).is_some();
        let is_known = |position: &u64| known.contains(*position);
        if self.committed.known_forgotten().iter().all(is_known) && known.positions().all(is_here) {
            self.committed.forget(Arc::clone(known));
            return Ok(());
        }
        let mut tombstones = Tombstones::default();
        let listed = self.committed.known_forgotten().iter().copied();
        for position in listed.chain(known.positions()).collect::<BTreeSet<u64>>() {
            if let Some(document) = self.at(position)? {
                tombstones.add(&document);
            }
        }
        self.committed.forget(Arc::new(tombstones));
        Ok(())
    }

    fn waiting_at(&self, position: u64) -> Option<&Arc<Document>> {
        self.overlays().into_iter().find_map(|overlay| overlay.at(position))
    }

    /// The memory at a position, forgotten or not.
    fn at(&self, position: u64) -> tantivy::Result<Option<Document>> {
        match self.waiting_at(position) {
            Some(document) => Ok(Some(Document::clone(document))),
            None => self.committed.at(position),
        }
    }

    /// Calls `visit` with position and time of each memory that is not forgotten, oldest first,
    /// until it breaks.
    pub(super) fn oldest(&self, mut visit: impl FnMut(u64, Timestamp) -> ControlFlow<()>) {
        let waiting = self.waiting().map(|document| (document.position, document.time));
        for (position, time) in self.committed.ages().chain(waiting) {
            if !self.committed.tombstones.contains(position) && visit(position, time).is_break() {
                break;
            }
        }
    }

    /// Forgets the memories at these positions.
    pub(super) fn forget(&mut self, positions: impl Iterator<Item = u64>) -> tantivy::Result<()> {
        let mut tombstones = Arc::clone(&self.committed.tombstones);
        for position in positions {
            if let Some(document) = self.at(position)?
                && !tombstones.contains(position)
            {
                Arc::make_mut(&mut tombstones).add(&document);
                self.forgotten += 1;
            }
        }
        self.committed.forget(tombstones);
        Ok(())
    }

    /// Forgets every memory up to a position.
    pub(super) fn expire(&mut self, upto: u64) -> tantivy::Result<()> {
        let mut positions = Vec::new();
        self.oldest(|position, _| {
            if position > upto {
                return ControlFlow::Break(());
            }
            positions.push(position);
            ControlFlow::Continue(())
        });
        self.forget(positions.into_iter())
    }

    /// Size of the memories that are not forgotten.
    pub(super) fn corpus(&self) -> Corpus {
        self.committed.corpus(self.overlays().into_iter().map(Overlay::corpus))
    }

    /// The overlays, newest first, so that newer documents win among equals.
    pub(super) fn overlays(&self) -> [&Overlay; 2] {
        [&self.active, &self.frozen]
    }

    /// The documents of the overlays, oldest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.frozen.documents().iter().chain(self.active.documents())
    }
}
