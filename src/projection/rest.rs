//! What is done for the search index while nobody wants anything of it.
//!
//! A flush leaves a piece of the index; how many there are decides how often a search has to look up each word. As long as there is
//! work, only those of one size are put together, which costs a document little; at rest, most of them become one.
//!
//! *Limits.* [`super::ProjectionSettings::rest`] says how long nobody must have wanted anything. What comes while it is under way is
//! answered beside it, and written when it is over, after some seconds at most; only what is more than may wait for the disk waits
//! for that.

use std::sync::Arc;

use ai_factory_actors::ports::views::ViewError;

use super::{Access, Projections, blocking, heal::guarded, index_error};

/// At rest, so many bytes are written anew in one piece at most: some three seconds, as 20 MB take 0.4.
const REST_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// And so many before an orderly end.
const END_BYTES_MAX: u64 = 32 * 1024 * 1024;

impl Projections {
    /// Puts the index in order at rest, whenever something was written since the last time. Needs a runtime that has timers.
    pub(super) async fn keep_tidy(&self) {
        if self.access == Access::Read {
            return std::future::pending().await;
        }
        loop {
            while self.is_busy().await {}
            report(&self.with_files(self.index_tidy(REST_BYTES_MAX)).await);
            self.is_flushed.notified().await;
        }
    }

    /// Whether somebody searches or records something within the time of rest.
    async fn is_busy(&self) -> bool {
        let seen = || (self.turns.begun(), self.journal.head().position);
        let before = seen();
        tokio::time::sleep(self.settings.rest).await;
        seen() != before
    }

    /// Puts the index in order before an end, while nobody writes.
    pub(super) async fn tidy_at_end(&self) {
        report(&blocking(self.index_tidy(END_BYTES_MAX)).await);
    }

    /// Puts the index in order. Blocks.
    fn index_tidy(&self, bytes_max: u64) -> impl FnOnce() -> Result<(), ViewError> + Send + use<> {
        let index = Arc::clone(&self.index);
        // Until the end of it nobody else can open the rows, nor what lies beside them.
        let rows = Arc::clone(&self.rows);
        move || {
            let tidied = guarded(|| index.words().tidy(bytes_max).map_err(index_error));
            drop(rows);
            tidied
        }
    }
}

/// It was worth trying. Whoever needs what is damaged will notice, and have it made anew.
fn report(tidied: &Result<(), ViewError>) {
    if let Err(error) = tidied {
        tracing::warn!(%error, "the search index could not be put in order: it serves as it is");
    }
}
