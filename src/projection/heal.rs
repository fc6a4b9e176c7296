//! Files that fail while they are used: dropped, and made anew from the journal; and those that cannot be written: tried again.
//!
//! *Promises.* A question that files fail is answered from what was made anew, and so is every other one that waits meanwhile.
//! A file that does not hold together fails a question, never the program. What could not be written is tried again every
//! [`WRITE_PAUSE`] until it can be, whether or not anybody wants anything.
//!
//! *Limits.* What was made anew and could not be written since is dropped again after [`DROP_PAUSE`] only: then the fault is not
//! the files' alone, and [`Projections::write_ailment`] says what it is.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ai_factory_actors::ports::views::ViewError;
use tokio::{sync::Notify, time::Instant};

use super::{
    Access, Projections, UNCHECKED, blocking, index_error,
    search::{IndexError, SearchIndex},
    view_error,
};

/// How long what could not be written is left alone.
const DROP_PAUSE: Duration = Duration::from_mins(1);
/// How long what could not be written waits before that is tried again.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// What is written in one go.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Rows,
    Index,
}

/// How it is with the files.
#[derive(Default)]
pub(super) struct Healing {
    /// How often they were dropped.
    drops: AtomicU64,
    /// How often that was begun.
    begun: AtomicU64,
    /// When that was the last time.
    dropped: Mutex<Option<Instant>>,
    rows: Writing,
    index: Writing,
    /// Told when something could not be written.
    is_failed: Notify,
}

#[derive(Default)]
struct Writing {
    /// Whether it was dropped, and nothing was written since.
    is_unproven: AtomicBool,
    /// Why it could not be written the last time, if so.
    failure: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Healing {
    fn of(&self, part: Part) -> &Writing {
        match part {
            Part::Rows => &self.rows,
            Part::Index => &self.index,
        }
    }

    /// Writes a part, and remembers what became of it.
    pub(super) fn writes(
        &self,
        part: Part,
        write: impl FnOnce() -> Result<(), ViewError>,
    ) -> Result<(), ViewError> {
        let written = guarded(write);
        let writing = self.of(part);
        let failure = written.as_ref().err().map(reason);
        let before = std::mem::replace(&mut *lock(&writing.failure), failure);
        if let (Err(error), None) = (&written, before) {
            tracing::error!(%error, "the projections could not be written: tried again until they can be");
        }
        if written.is_ok() {
            writing.is_unproven.store(false, Ordering::Release);
        } else {
            // Whoever is told finds the reason there.
            self.is_failed.notify_one();
        }
        written
    }

    /// Whether a part was dropped, and nobody has tried to write it since.
    pub(super) fn is_untried(&self, part: Part) -> bool {
        let writing = self.of(part);
        writing.is_unproven.load(Ordering::Acquire) && lock(&writing.failure).is_none()
    }

    /// Whether dropping them would not help.
    fn is_in_vain(&self) -> bool {
        let mut parts = [&self.rows, &self.index].into_iter();
        let is_unproven = parts.any(|part| part.is_unproven.load(Ordering::Acquire));
        is_unproven && lock(&self.dropped).is_some_and(|dropped| dropped.elapsed() < DROP_PAUSE)
    }

    /// These are about to be dropped.
    fn begins_to_drop(&self, parts: &[Part]) {
        for part in parts {
            self.of(*part).is_unproven.store(true, Ordering::Release);
        }
        *lock(&self.dropped) = Some(Instant::now());
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// How often they were about to be dropped by now: an answer in which it changes may lack what was dropped.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// These were dropped. Only now: a question that was begun before may have met what was there.
    fn has_dropped(&self, parts: &[Part]) {
        for part in parts.iter().map(|part| self.of(*part)) {
            // Something may have been written in between, of what was there.
            part.is_unproven.store(true, Ordering::Release);
            *lock(&part.failure) = None;
        }
        self.drops.fetch_add(1, Ordering::AcqRel);
    }
}

impl Projections {
    /// Why what is new is not on disk, if that is so: a sentence for people.
    pub(super) fn write_ailment(&self) -> Option<String> {
        let parts = [("lists", &self.healing.rows), ("the search index", &self.healing.index)];
        parts.into_iter().find_map(|(name, part)| {
            let reason = lock(&part.failure).clone()?;
            Some(format!(
                "{name} cannot be written ({reason}): what is new is kept in memory and tried again; see that there is room, and that \
                 {} may be written to",
                self.settings.data_dir.display()
            ))
        })
    }

    /// Writes again what could not be written, until it can be. Needs a runtime that has timers.
    pub(super) async fn keep_written(&self) {
        if self.access == Access::Read {
            return std::future::pending().await;
        }
        loop {
            self.healing.is_failed.notified().await;
            while self.write_ailment().is_some() {
                tokio::time::sleep(WRITE_PAUSE).await;
                if let Err(error) = self.write_again().await {
                    tracing::debug!(%error, "they still cannot be written");
                }
            }
        }
    }

    /// Writes what waits.
    async fn write_again(&self) -> Result<(), ViewError> {
        let mut written = Ok(());
        if self.rows.has_unflushed() {
            written = self.with_files(self.rows_flush()).await;
        }
        written.and(self.write_index_again().await)
    }

    /// Writes what waits of the index. Where somebody took it away, it is made anew.
    async fn write_index_again(&self) -> Result<(), ViewError> {
        let index = Arc::clone(&self.index);
        let is_gone = blocking(move || index.ensure_place().map_err(index_error)).await?;
        if is_gone && !self.healing.is_in_vain() {
            tracing::warn!("the search index is not where it was: to be rebuilt from the journal");
            let folding = self.folding.lock().await;
            self.applied.store(UNCHECKED, Ordering::Release);
            self.healing.begins_to_drop(&[Part::Index]);
            self.drop_index().await?;
            self.healing.has_dropped(&[Part::Index]);
            drop(folding);
            self.catch_up().await?;
        }
        self.with_files(self.index_flush()).await
    }

    /// How often files were dropped by now: to be known before a question that they may fail.
    pub(super) fn drops(&self) -> u64 {
        self.healing.drops.load(Ordering::Acquire)
    }

    /// Drops files that failed a question which was begun after `drops` of them, so that the next try folds them anew from the
    /// journal; unless somebody else has done so since.
    pub(super) async fn heal(&self, error: ViewError, drops: u64) -> Result<(), ViewError> {
        if !matches!(error, ViewError::Storage(_)) {
            return Err(error);
        }
        let _folding = self.folding.lock().await;
        if self.drops() > drops {
            return Ok(());
        }
        if self.healing.is_in_vain() {
            return Err(error);
        }
        tracing::warn!(%error, "the projections failed: dropped, to be rebuilt from the journal");
        self.drop_all().await
    }

    /// Drops rows and index. Told while folding is locked.
    pub(super) async fn drop_all(&self) -> Result<(), ViewError> {
        let flushing = Arc::clone(&self.flushing).lock_owned().await;
        // Whoever asks from now on waits until all is folded again.
        self.applied.store(UNCHECKED, Ordering::Release);
        self.healing.begins_to_drop(&[Part::Rows, Part::Index]);
        self.rows.reset().map_err(view_error)?;
        drop(flushing);
        self.drop_index().await?;
        self.healing.has_dropped(&[Part::Rows, Part::Index]);
        self.forget_remake_failure();
        Ok(())
    }

    async fn drop_index(&self) -> Result<(), ViewError> {
        self.change_whole(SearchIndex::reset).await?;
        self.mend.is_under_way.store(false, Ordering::Release);
        Ok(())
    }

    /// Changes the index while nobody adds vectors or flushes.
    pub(super) async fn change_whole(
        &self,
        change: impl FnOnce(&SearchIndex) -> Result<(), IndexError> + Send + 'static,
    ) -> Result<(), ViewError> {
        let _mending = self.mend.step.lock().await;
        let index = Arc::clone(&self.index);
        self.with_files(move || change(&index).map_err(index_error)).await
    }
}

/// What went wrong with files, without what people are told to do about it.
pub(super) fn reason(error: &ViewError) -> String {
    match error {
        ViewError::Storage(reason) => reason.clone(),
        error => error.to_string(),
    }
}

/// A file is not as it was written.
#[derive(Debug, thiserror::Error)]
#[error("a file does not hold together")]
pub(super) struct Broken;

impl From<Broken> for ViewError {
    fn from(broken: Broken) -> Self {
        Self::Storage(broken.to_string())
    }
}

/// Does what a damaged file can make panic: who reads it takes what is there for what was written.
pub(super) fn guarded<T, E: From<Broken>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Broken.into()))
}
