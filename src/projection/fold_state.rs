//! How far the projections are folded, and when their files were dropped.
//!
//! Each query reads both, so neither takes a lock. They change here alone.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How far the projections are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoldState {
    /// Not known to be of this journal: queries wait until the files are checked and folded.
    Unchecked,
    /// Everything up to this position is folded.
    Folded(u64),
}

impl FoldState {
    /// The stored form of [`FoldState::Unchecked`].
    const UNCHECKED: u64 = u64::MAX;

    /// Whether everything up to `head` is folded.
    pub(crate) fn reaches(self, head: u64) -> bool {
        matches!(self, Self::Folded(position) if position >= head)
    }
}

/// The fold state of the projections.
#[derive(Debug)]
pub(crate) struct FoldCursor(AtomicU64);

impl Default for FoldCursor {
    fn default() -> Self {
        Self(AtomicU64::new(FoldState::UNCHECKED))
    }
}

impl FoldCursor {
    /// The state.
    pub(crate) fn now(&self) -> FoldState {
        match self.0.load(Ordering::Acquire) {
            FoldState::UNCHECKED => FoldState::Unchecked,
            position => FoldState::Folded(position),
        }
    }

    /// Everything up to a position is folded.
    pub(crate) fn advance(&self, position: u64) {
        self.0.store(position, Ordering::Release);
    }

    /// The files changed: from here on queries wait until everything is checked and folded.
    pub(crate) fn invalidate(&self) {
        self.0.store(FoldState::UNCHECKED, Ordering::Release);
    }
}

/// The drops of failed files.
#[derive(Debug, Default)]
pub(crate) struct FileDrops {
    begun: AtomicU64,
    completed: AtomicU64,
    last: Mutex<Option<Instant>>,
}

/// A moment between drops, to be noted before a query that may meet failing files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DropEpoch {
    begun: u64,
    completed: u64,
}

impl FileDrops {
    /// The present moment.
    pub(crate) fn now(&self) -> DropEpoch {
        DropEpoch {
            begun: self.begun.load(Ordering::Acquire),
            completed: self.completed.load(Ordering::Acquire),
        }
    }

    /// Whether a drop began since: an answer may lack what was dropped.
    pub(crate) fn has_begun_since(&self, epoch: DropEpoch) -> bool {
        self.begun.load(Ordering::Acquire) != epoch.begun
    }

    /// Whether a drop was completed since: what failed is gone.
    pub(crate) fn is_completed_since(&self, epoch: DropEpoch) -> bool {
        self.completed.load(Ordering::Acquire) > epoch.completed
    }

    /// Whether the last drop began less than `pause` ago.
    pub(crate) fn is_within(&self, pause: Duration) -> bool {
        self.last.lock().is_some_and(|last| last.elapsed() < pause)
    }

    /// Notes that a drop begins.
    pub(crate) fn begin(&self) {
        *self.last.lock() = Some(Instant::now());
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that files were dropped. Called only after the drop: a query begun earlier may have
    /// met the old files.
    pub(crate) fn complete(&self) {
        self.completed.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_reached_before_the_files_are_checked() {
        let cursor = FoldCursor::default();
        assert_eq!(cursor.now(), FoldState::Unchecked);
        assert!(!cursor.now().reaches(0));
        cursor.advance(7);
        assert!(cursor.now().reaches(7) && !cursor.now().reaches(8));
        cursor.invalidate();
        assert!(!cursor.now().reaches(7));
    }

    #[test]
    fn a_drop_is_seen_by_those_who_asked_before_it() {
        let drops = FileDrops::default();
        let before = drops.now();
        drops.begin();
        let amid = drops.now();
        assert!(drops.has_begun_since(before) && !drops.is_completed_since(before));
        drops.complete();
        assert!(drops.is_completed_since(before) && drops.is_completed_since(amid));
        assert!(!drops.has_begun_since(amid) && !drops.is_completed_since(drops.now()));
        assert!(drops.is_within(Duration::MAX) && !drops.is_within(Duration::ZERO));
    }
}
