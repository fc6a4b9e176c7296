//! The search index: what memory recalls.
//!
//! One index so far, by words ([`KeywordIndex`], BM25). [`Index`] is what another one (by meaning) has to
//! offer to stand beside it.

use super::Mark;

pub(crate) mod documents;
mod keyword;
mod overlay;
mod scoring;
mod segments;
mod tokens;

pub(crate) use keyword::KeywordIndex;

use documents::Document;

/// Why the index did not answer or was not written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the search index failed: {0}")]
pub(crate) struct IndexError(String);

impl IndexError {
    fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// One result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hit {
    /// The event that the memory was made from.
    pub(crate) id: String,
    /// Its position.
    pub(crate) position: u64,
    /// What is remembered.
    pub(crate) text: String,
    /// 0 = identical with the query, at most 1.
    pub(crate) distance: f64,
}

/// An index over all memories. It contains the documents up to [`Index::applied`] from the moment
/// [`Index::apply`] returns; those that wait for [`Index::flush`] are lost with the process, and derived
/// again from the journal.
pub(crate) trait Index: Send + Sync + 'static {
    /// Up to where it contains everything.
    fn applied(&self) -> Mark;

    /// How many documents wait for a flush, and over how many events.
    fn pending(&self) -> (usize, u64);

    /// What the waiting documents take in memory, roughly, in bytes.
    fn pending_bytes(&self) -> usize;

    /// Whether a search is over before another thread could begin it.
    fn is_small(&self) -> bool;

    /// Adds the documents between [`Index::applied`] and `upto`, in order.
    fn apply(&self, documents: Vec<Document>, upto: Mark);

    /// The documents nearest to `query`, best first, newer first among equals. Blocks while it reads.
    fn search(&self, query: &str, limit: usize) -> Result<Vec<Hit>, IndexError>;

    /// Puts what waits on disk. Blocks; one flush at a time; not for a process that only reads.
    fn flush(&self) -> Result<(), IndexError>;

    /// In a process that only reads: takes over what the writer has flushed, so that less waits here.
    fn reload(&self) -> Result<(), IndexError>;

    /// Drops everything.
    fn reset(&self) -> Result<(), IndexError>;

    /// Shows every document, oldest first.
    fn export(&self, visit: &mut dyn FnMut(&Document)) -> Result<(), IndexError>;
}
