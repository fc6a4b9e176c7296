//! A keyword index that is built beside the serving one, which it replaces once complete.

use std::sync::Arc;

use ai_factory_fold::Mark;

use super::{
    documents::IndexChanges,
    error::IndexError,
    keyword_index::KeywordIndex,
    live_index::{FilesLease, SearchSettings},
    search_index::SearchIndex,
};

/// The keyword index being built.
pub struct KeywordShadow {
    index: KeywordIndex,
    settings: SearchSettings,
}

impl KeywordShadow {
    /// Takes over an open index.
    pub(super) fn new(index: KeywordIndex, settings: SearchSettings) -> Self {
        Self { index, settings }
    }

    /// Mark up to which it is folded.
    pub fn applied(&self) -> Mark {
        self.index.applied()
    }

    /// Applies the changes of the events between [`Self::applied`] and `upto`, in order.
    pub fn apply(&self, changes: &IndexChanges, upto: Mark) -> Result<(), IndexError> {
        self.index.apply(changes, upto)
    }

    /// Unflushed data, in units of what makes one flush due.
    pub fn load(&self) -> usize {
        self.settings.load(self.index.pending().0, self.index.pending_bytes())
    }

    /// Writes what waits. Blocks.
    pub fn flush(&self) -> Result<(), IndexError> {
        self.index.flush()
    }

    /// Drops everything.
    pub(super) fn reset(&self) -> Result<(), IndexError> {
        self.index.reset()
    }
}

/// The replacement of the serving keyword index by one that contains as much. With exclusive use of
/// the files.
pub struct KeywordReplacement {
    index: Arc<SearchIndex>,
    shadow: Arc<KeywordShadow>,
    _lease: FilesLease,
}

impl KeywordReplacement {
    /// Of the index by the shadow.
    pub(super) fn new(
        index: Arc<SearchIndex>,
        shadow: Arc<KeywordShadow>,
        lease: FilesLease,
    ) -> Self {
        Self { index, shadow, _lease: lease }
    }

    /// Writes what waits. Blocks.
    pub fn flush(&self) -> Result<(), IndexError> {
        // Vectors first: on disk, they are never behind the keyword index.
        self.index.flush()?;
        self.shadow.flush()
    }

    /// Replaces the index, after [`Self::flush`]. Blocks.
    pub fn replace(self) -> Result<(), IndexError> {
        // Closed before it is moved.
        drop(self.shadow);
        self.index.keyword_index().replace_with_shadow()
    }
}
