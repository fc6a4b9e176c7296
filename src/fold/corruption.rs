//! Damaged files: libraries that read one may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ai_factory_ports::views::ViewError;

/// A file's content is damaged.
#[derive(Debug, thiserror::Error)]
#[error("a file is damaged")]
pub struct CorruptFile;

impl From<CorruptFile> for ViewError {
    fn from(broken: CorruptFile) -> Self {
        Self::Storage(broken.to_string())
    }
}

/// Runs `work` and turns a panic into an error.
pub fn catch_corruption<T, E: From<CorruptFile>>(
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(CorruptFile.into()))
}
