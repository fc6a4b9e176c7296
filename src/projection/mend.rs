//! Vectors that are lost or lag far behind: made again from the journal beside everything else.
//!
//! *Promises.* Meanwhile lists and search by words contain all that the journal has acknowledged, and no question waits for
//! the vectors.
//!
//! *Limits.* Only the process that follows the journal mends beside the questions; elsewhere the first one waits for all
//! of it.
//!
//! *Not here.* The vectors of a model that takes its time: [`super::slow`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ai_factory_actors::ports::views::ViewError;
use tokio::sync::Notify;

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
    /// Told when that begins.
    begun: Notify,
    /// How often answers became other ones though nothing was recorded: vectors were complete again, or another model's.
    pub(super) mended: AtomicU64,
    /// Held while some of them are added, so that nobody drops the index below them.
    pub(super) step: tokio::sync::Mutex<()>,
}

impl Projections {
    /// How far the vectors are made again, and what is done meanwhile: a sentence for people.
    pub(super) fn mending(&self) -> Option<String> {
        self.is_mending().then(|| {
            format!(
                "the vectors were lost or lagged, and are made again from the journal, {} of {} events by now: until then search \
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
        // A flush writes vectors before words, so vectors that are behind were lost, or another model's served since.
        if !self.is_mending()
            && self.mend.is_followed.load(Ordering::Acquire)
            && self.index.is_at_hand()
            && self.index.meaning_applied().position < self.index.words_applied().position
        {
            self.mend.is_under_way.store(true, Ordering::Release);
            self.mend.begun.notify_one();
            tracing::warn!("the vectors are behind the words: made again from the journal");
        }
        self.is_mending()
    }

    /// Makes the vectors that are missing, whenever some are.
    pub(super) async fn keep_mended(&self) {
        loop {
            self.mend.begun.notified().await;
            while let Err(error) = self.mend().await {
                tracing::error!(%error, "the vectors are not complete: search is by words");
                if self.journal.watch().changed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Makes the vectors that are missing, some at a time.
    async fn mend(&self) -> Result<(), ViewError> {
        let mut deriver = Deriver::default();
        while self.is_mending() {
            if self.is_mended().await {
                tracing::info!("the vectors are complete again");
                // Not to be made once more at the next start.
                return self.with_files(self.index_flush()).await;
            }
            self.mend_some(&mut deriver).await?;
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
        self.ends_to_mend();
        true
    }

    /// The vectors that serve are complete. Told while folding is locked.
    pub(super) fn ends_to_mend(&self) {
        self.mend.mended.fetch_add(1, Ordering::AcqRel);
        self.mend.is_under_way.store(false, Ordering::Release);
    }

    async fn mend_some(&self, deriver: &mut Deriver) -> Result<(), ViewError> {
        let step = self.mend.step.lock().await;
        if !self.is_mending() {
            return Ok(());
        }
        let meaning = self.index.meanings().serving();
        let (changes, upto) = self.missing(meaning.applied(), deriver).await?;
        // Many texts take a while: no question waits for this thread.
        super::blocking(move || meaning.apply(&changes, upto).map_err(index_error)).await?;
        drop(step);
        self.flush_if_due().await
    }

    /// What some events say that the words contain and vectors up to `from` do not, and up to where they go.
    pub(super) async fn missing(
        &self,
        from: Mark,
        deriver: &mut Deriver,
    ) -> Result<(Changes, Mark), ViewError> {
        let missing = self.index.words_applied().position.saturating_sub(from.position);
        let missing = usize::try_from(missing).unwrap_or(FOLD_EVENTS_MAX);
        let (mut changes, mut upto) = (Changes::default(), from);
        for event in self.read(from.position, missing.min(FOLD_EVENTS_MAX)).await? {
            changes.add(deriver.derive(&event, self.journal.as_ref()).await?);
            upto = Mark { position: event.position, hash: event.hash };
        }
        Ok((changes, upto))
    }
}
