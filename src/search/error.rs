//! Failures of the search index.

use ai_factory_ports::views::ViewError;

/// Why the index failed to answer or to be written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the search index failed: {0}")]
pub struct IndexError(String);

impl IndexError {
    /// The failure of a library or of the file system.
    pub(super) fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl From<IndexError> for ViewError {
    fn from(error: IndexError) -> Self {
        Self::Storage(error.to_string())
    }
}
