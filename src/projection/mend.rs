//! Vectors that were lost, damaged or made by another model: made again from the journal beside everything else.
//!
//! *Promises.* Meanwhile lists and search by words contain all that the journal has acknowledged, and no question waits for
//! the vectors.
//!
//! *Limits.* Only the process that follows the journal mends beside the questions; elsewhere the first one waits for all
//! of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use ai_factory_actors::ports::views::ViewError;

use super::{
    FOLD_EVENTS_MAX, Mark, Projections, index_error,
    search::documents::{Changes, Deriver},
};

/// Whether vectors are made again, and by whom.
#[derive(Default)]
pub(super) struct Mend {
    /// Whether there is somebody to do it beside everything else.
    pub(super) is_followed: AtomicBool,
    /// Whether vectors are behind the words. Changed only while folding is locked.
    pub(super) is_under_way: AtomicBool,
    /// How often vectors were complete again.
    pub(super) mended: AtomicU64,
    /// Held while some of them are made, so that nobody drops the index below them.
    pub(super) step: tokio::sync::Mutex<()>,
}

impl Projections {
    /// How far the vectors are made again, and what is done meanwhile: a sentence for people.
    pub(super) fn mending(&self) -> Option<String> {
        self.is_mending().then(|| {
            format!(
                "the vectors were lost and are made again from the journal, {} of {} events by now: until then search \
                 is by words alone",
                self.index.meaning_applied().position,
                self.index.words_applied().position,
            )
        })
    }

    pub(super) fn is_mending(&self) -> bool {
        self.mend.is_under_way.load(Ordering::Acquire)
    }

    /// Whether vectors are behind the words and somebody else makes them. Asked while folding is locked.
    pub(super) fn begins_to_mend(&self) -> bool {
        // A flush writes vectors before words, so vectors that are behind were lost.
        if !self.is_mending()
            && self.mend.is_followed.load(Ordering::Acquire)
            && self.index.meaning_applied().position < self.index.words_applied().position
        {
            self.mend.is_under_way.store(true, Ordering::Release);
            tracing::warn!("the vectors are behind the words: made again from the journal");
        }
        self.is_mending()
    }

    /// Makes the vectors that are missing, some at a time.
    pub(super) async fn mend(&self) -> Result<(), ViewError> {
        let mut deriver = Deriver::default();
        while self.is_mending() {
            if self.is_mended().await {
                tracing::info!("the vectors are complete again");
                // Not to be made once more at the next start.
                let _flushing = Arc::clone(&self.flushing).lock_owned().await;
                return self.flush_index().await;
            }
            self.mend_some(&mut deriver).await?;
            // Mending may take long: the journal is followed on.
            self.catch_up().await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Whether nothing is missing any more; then the vectors are used again.
    async fn is_mended(&self) -> bool {
        let _folding = self.folding.lock().await;
        let (words, meaning) = (self.index.words_applied(), self.index.meaning_applied());
        if meaning.position < words.position {
            return false;
        }
        self.mend.mended.fetch_add(1, Ordering::AcqRel);
        self.mend.is_under_way.store(false, Ordering::Release);
        true
    }

    async fn mend_some(&self, deriver: &mut Deriver) -> Result<(), ViewError> {
        let step = self.mend.step.lock().await;
        if !self.is_mending() {
            return Ok(());
        }
        let mut upto = self.index.meaning_applied();
        let missing = self.index.words_applied().position.saturating_sub(upto.position);
        let missing = usize::try_from(missing).unwrap_or(FOLD_EVENTS_MAX);
        let mut changes = Changes::default();
        for event in self.read(upto.position, missing.min(FOLD_EVENTS_MAX)).await? {
            changes.add(deriver.derive(&event, self.journal.as_ref()).await?);
            upto = Mark { position: event.position, hash: event.hash };
        }
        // Many texts take a while: no question waits for this thread.
        let index = Arc::clone(&self.index);
        super::blocking(move || index.apply_meaning(&changes, upto).map_err(index_error)).await?;
        drop(step);
        self.flush_if_due().await
    }
}
