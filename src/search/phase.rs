//! The phase of the index: which of its parts a search may use, and whether results are complete.
//!
//! *Promises.* The phase changes here alone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;

/// What a search may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Keywords and vectors contain everything that is folded.
    Ready,
    /// The index was far behind the journal at opening: it serves as far as it goes, and is
    /// complete at a position.
    Rebuilding {
        /// That position.
        upto: u64,
    },
    /// The vectors are behind the keywords and made in the background: keywords alone serve.
    Backfilling {
        /// Position up to which the index was being rebuilt when the backfill began, if it was.
        rebuilding_upto: Option<u64>,
    },
    /// Everything was dropped, and queries wait until it is folded again, keywords and vectors
    /// together: until then no other vectors begin to serve.
    Refolding {
        /// Position up to which it was folded.
        upto: u64,
    },
}

impl Phase {
    /// Whether vectors are made in the background.
    pub(crate) fn is_backfilling(self) -> bool {
        matches!(self, Self::Backfilling { .. })
    }
}

/// The phase of one index.
pub(crate) struct IndexPhase {
    now: RwLock<Phase>,
    /// Whether a worker runs that makes vectors in the background.
    has_worker: AtomicBool,
    /// Number of times answers changed without a new event.
    revision: AtomicU64,
}

impl IndexPhase {
    /// At opening; `rebuilding_upto` is the end of the journal if the index is far behind it.
    pub(crate) fn new(rebuilding_upto: Option<u64>) -> Self {
        let phase = rebuilding_upto.map_or(Phase::Ready, |upto| Phase::Rebuilding { upto });
        Self {
            now: RwLock::new(phase),
            has_worker: AtomicBool::new(false),
            revision: AtomicU64::new(0),
        }
    }

    /// The phase.
    pub(crate) fn now(&self) -> Phase {
        *self.now.read()
    }

    /// Number of times answers changed without a new event: vectors were complete again, or another
    /// model's began to serve, or a query got no vector.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Notes that an answer is not to be given again, though no event is new.
    pub(crate) fn revise(&self) {
        self.revision.fetch_add(1, Ordering::AcqRel);
    }

    /// From now on missing vectors are made in the background.
    pub(crate) fn start_worker(&self) {
        self.has_worker.store(true, Ordering::Release);
    }

    /// The vectors are behind the keywords. Returns whether a backfill begins; without a worker,
    /// during a backfill or after a drop none does.
    pub(crate) fn begin_backfill(&self) -> bool {
        if !self.has_worker.load(Ordering::Acquire) {
            return false;
        }
        let mut now = self.now.write();
        let rebuilding_upto = match *now {
            Phase::Ready => None,
            Phase::Rebuilding { upto } => Some(upto),
            Phase::Backfilling { .. } | Phase::Refolding { .. } => return false,
        };
        *now = Phase::Backfilling { rebuilding_upto };
        true
    }

    /// The vectors that serve contain as much as the keywords, which go up to `folded`.
    pub(crate) fn end_backfill(&self, folded: u64) {
        self.revise();
        let mut now = self.now.write();
        if let Phase::Backfilling { rebuilding_upto } = *now {
            let left = rebuilding_upto.filter(|upto| *upto > folded);
            *now = left.map_or(Phase::Ready, |upto| Phase::Rebuilding { upto });
        }
    }

    /// Everything was dropped, and is to be folded again up to `upto`. A rebuild that began
    /// at opening goes on.
    pub(crate) fn note_dropped(&self, upto: u64) {
        let mut now = self.now.write();
        *now = match *now {
            Phase::Rebuilding { upto } | Phase::Backfilling { rebuilding_upto: Some(upto) } => {
                Phase::Rebuilding { upto }
            }
            Phase::Ready | Phase::Backfilling { .. } | Phase::Refolding { .. } => {
                Phase::Refolding { upto }
            }
        };
    }

    /// Everything up to `folded` is in the index. Returns whether that completes a rebuild that
    /// began at opening.
    pub(crate) fn complete(&self, folded: u64) -> bool {
        let mut now = self.now.write();
        match *now {
            Phase::Rebuilding { upto } if upto <= folded => {
                *now = Phase::Ready;
                true
            }
            Phase::Refolding { upto } if upto <= folded => {
                *now = Phase::Ready;
                false
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backfill_begins_only_where_a_worker_ends_it() {
        let phase = IndexPhase::new(None);
        assert!(!phase.begin_backfill());
        assert_eq!(phase.now(), Phase::Ready);
        phase.start_worker();
        assert!(phase.begin_backfill());
        assert!(!phase.begin_backfill(), "it is under way");
        assert!(phase.now().is_backfilling());
        phase.end_backfill(7);
        assert_eq!((phase.now(), phase.revision()), (Phase::Ready, 1));
    }

    #[test]
    fn a_rebuild_goes_on_behind_a_backfill_that_ends_before_it() {
        for (folded, expected) in
            [(99, Phase::Rebuilding { upto: 100 }), (100, Phase::Ready), (101, Phase::Ready)]
        {
            let phase = IndexPhase::new(Some(100));
            phase.start_worker();
            assert!(phase.begin_backfill());
            assert!(!phase.complete(100), "vectors are missing");
            phase.end_backfill(folded);
            assert_eq!(phase.now(), expected, "{folded}");
        }
    }

    #[test]
    fn a_rebuild_is_complete_once() {
        let phase = IndexPhase::new(Some(100));
        assert!(!phase.complete(99));
        assert!(phase.complete(128));
        assert!(!phase.complete(128));
        assert_eq!((phase.now(), phase.revision()), (Phase::Ready, 0));
    }

    #[test]
    fn what_is_dropped_during_a_backfill_is_folded_with_its_vectors() {
        let phase = IndexPhase::new(None);
        phase.start_worker();
        phase.begin_backfill();
        phase.note_dropped(7);
        assert_eq!((phase.now(), phase.revision()), (Phase::Refolding { upto: 7 }, 0));
        assert!(!phase.begin_backfill());
        for (folded, expected) in [(6, Phase::Refolding { upto: 7 }), (7, Phase::Ready)] {
            assert!(!phase.complete(folded));
            assert_eq!(phase.now(), expected, "{folded}");
        }
    }

    #[test]
    fn a_rebuild_goes_on_after_a_drop() {
        for is_backfilling in [false, true] {
            let phase = IndexPhase::new(Some(100));
            if is_backfilling {
                phase.start_worker();
                phase.begin_backfill();
            }
            phase.note_dropped(7);
            assert_eq!(phase.now(), Phase::Rebuilding { upto: 100 });
        }
    }
}
