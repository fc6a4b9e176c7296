//! Search scheduling: a search runs on the calling thread of the runtime or on a thread of its own.
//!
//! Handing a search to another thread and its answer back costs more than a small search itself, so
//! small ones run on the calling thread. So do moderate ones, as long as the runtime has another
//! free thread. Of all others as many run at once as there are processors, first come first served:
//! more of them would only share processors and all end late.

use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::available_parallelism,
};

use ai_factory_fold::{blocking, catch_corruption};
use ai_factory_ports::views::ViewError;
use tokio::{runtime::Handle, sync::Semaphore};

/// Up to this many documents a search takes about as long as a hand-over to another task. One
/// through more lets its caller hand it over first.
const IN_PLACE_DOCUMENTS: u64 = 2_000;
/// Up to this many documents nearly all searches take half a millisecond at most and may block a
/// runtime thread.
const SHORT_DOCUMENTS: u64 = 12_000;
/// Up to this many documents nearly all searches take about a millisecond and may block a runtime
/// thread while another is free.
const MODERATE_DOCUMENTS: u64 = 64_000;

/// The search scheduler.
pub(super) struct SearchScheduler {
    /// Permits for the threads of the runtime in which the projections were opened: all but one.
    runtime_permits: Semaphore,
    /// Permits for threads of their own: as many as there are processors.
    thread_permits: Arc<Semaphore>,
    begun: AtomicU64,
}

impl SearchScheduler {
    /// A scheduler without searches.
    pub(super) fn new() -> Self {
        let runtime = Handle::try_current().map_or(1, |handle| handle.metrics().num_workers());
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self {
            runtime_permits: Semaphore::new(runtime.saturating_sub(1)),
            thread_permits: Arc::new(Semaphore::new(processors)),
            begun: AtomicU64::new(0),
        }
    }

    /// Number of searches begun, for idle detection.
    pub(super) fn searches_begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Runs a search through this many documents in its turn. One that is neither very short nor
    /// waits for a thread yields once before, so that a caller that polls it in place can move it
    /// to a task. A search on a thread of its own runs to its end even if the caller is dropped;
    /// others block the calling thread.
    pub(super) async fn search<T: Send + 'static>(
        &self,
        documents: u64,
        search: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
    ) -> Result<T, ViewError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if (IN_PLACE_DOCUMENTS..MODERATE_DOCUMENTS).contains(&documents) {
            tokio::task::yield_now().await;
        }
        if documents < SHORT_DOCUMENTS {
            return catch_corruption(search);
        }
        if documents < MODERATE_DOCUMENTS
            && let Ok(_permit) = self.runtime_permits.try_acquire()
        {
            return catch_corruption(search);
        }
        let permit = Arc::clone(&self.thread_permits).acquire_owned().await;
        blocking(move || {
            let _permit = permit;
            catch_corruption(search)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, sync::mpsc, task::Poll};

    use super::*;

    async fn is_pending<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> bool {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }

    /// A search that runs until it receives its answer, and reports its beginning.
    struct PausedSearch {
        begun: mpsc::Receiver<()>,
        answer: mpsc::Sender<u32>,
    }

    fn paused() -> (PausedSearch, impl FnOnce() -> Result<u32, ViewError> + Send + 'static) {
        let ((begins, begun), (answer, replies)) = (mpsc::channel(), mpsc::channel());
        let search = move || {
            begins.send(()).unwrap();
            Ok(replies.recv().unwrap())
        };
        (PausedSearch { begun, answer }, search)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn searches_leave_a_thread_of_the_runtime_to_others() {
        let scheduler = Arc::new(SearchScheduler::new());
        let mut searches = Vec::new();
        for _ in 0..2 {
            let (paused, search) = paused();
            let scheduler = Arc::clone(&scheduler);
            let answer =
                tokio::spawn(async move { scheduler.search(MODERATE_DOCUMENTS - 1, search).await });
            // Waits outside the threads of the runtime.
            let paused = tokio::task::spawn_blocking(move || {
                paused.begun.recv().unwrap();
                paused
            });
            searches.push((paused.await.unwrap(), answer));
        }
        assert_eq!(tokio::spawn(async { "there is one" }).await.unwrap(), "there is one");
        for (number, (paused, answer)) in (0..).zip(searches) {
            paused.answer.send(number).unwrap();
            assert_eq!(answer.await.unwrap().unwrap(), number);
        }
        assert_eq!(scheduler.searches_begun(), 2);
    }

    #[tokio::test]
    async fn of_long_searches_as_many_run_at_once_as_there_are_processors_and_the_next_waits_for_a_permit()
     {
        let scheduler = SearchScheduler::new();
        let processors = scheduler.thread_permits.available_permits();
        let mut searches = Vec::new();
        for _ in 0..=processors {
            let (paused, search) = paused();
            let mut answer = Box::pin(scheduler.search(MODERATE_DOCUMENTS, search));
            assert!(is_pending(&mut answer).await);
            searches.push((paused, answer));
        }
        let (waiting, mut waits) = searches.pop().unwrap();
        for (paused, _) in &searches {
            paused.begun.recv().unwrap();
        }
        assert_eq!(scheduler.thread_permits.available_permits(), 0);
        waiting.begun.try_recv().unwrap_err();
        // A caller that gives up does not delay others, and its permit is returned only when its
        // search has ended.
        let (first, answer) = searches.remove(0);
        drop(answer);
        assert!(is_pending(&mut waits).await);
        waiting.begun.try_recv().unwrap_err();
        first.answer.send(0).unwrap();
        waiting.answer.send(7).unwrap();
        assert_eq!(waits.await.unwrap(), 7);
        for (paused, answer) in searches {
            paused.answer.send(1).unwrap();
            assert_eq!(answer.await.unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn a_search_that_meets_damage_is_an_error_and_returns_its_permit() {
        let scheduler = SearchScheduler::new();
        for documents in [0, MODERATE_DOCUMENTS] {
            let free = scheduler.thread_permits.available_permits();
            let failed =
                scheduler.search(documents, || -> Result<(), _> { panic!("damaged") }).await;
            assert!(matches!(failed, Err(ViewError::Storage(_))), "{failed:?}");
            assert_eq!(scheduler.thread_permits.available_permits(), free);
        }
    }
}
