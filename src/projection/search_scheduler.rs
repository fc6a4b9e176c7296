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

use ai_factory_actors::ports::views::ViewError;
use tokio::{runtime::Handle, sync::Semaphore};

use super::{blocking, heal::guarded};

/// Up to this many documents nearly all searches take half a millisecond at most and may block a
/// runtime thread.
const SHORT_DOCUMENTS: u64 = 12_000;
/// Up to this many documents nearly all searches take about a millisecond and may block a runtime
/// thread while another is free.
const MODERATE_DOCUMENTS: u64 = 64_000;

/// The search scheduler.
pub(super) struct Turns {
    /// Permits for the threads of the runtime in which the projections were opened: all but one.
    here: Semaphore,
    /// Permits for threads of their own: as many as there are processors.
    elsewhere: Arc<Semaphore>,
    begun: AtomicU64,
}

impl Turns {
    /// A scheduler without searches.
    pub(super) fn new() -> Self {
        let runtime = Handle::try_current().map_or(1, |handle| handle.metrics().num_workers());
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self {
            here: Semaphore::new(runtime.saturating_sub(1)),
            elsewhere: Arc::new(Semaphore::new(processors)),
            begun: AtomicU64::new(0),
        }
    }

    /// Number of searches begun, for idle detection.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Runs a search through this many documents in its turn. A search on a thread of its own runs
    /// to its end even if the caller is dropped; others block the calling thread.
    pub(super) async fn search<T: Send + 'static>(
        &self,
        documents: u64,
        search: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
    ) -> Result<T, ViewError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if documents < SHORT_DOCUMENTS {
            return guarded(search);
        }
        if documents < MODERATE_DOCUMENTS
            && let Ok(_turn) = self.here.try_acquire()
        {
            return guarded(search);
        }
        let turn = Arc::clone(&self.elsewhere).acquire_owned().await;
        blocking(move || {
            let _turn = turn;
            guarded(search)
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
    struct Held {
        begun: mpsc::Receiver<()>,
        answer: mpsc::Sender<u32>,
    }

    fn held() -> (Held, impl FnOnce() -> Result<u32, ViewError> + Send + 'static) {
        let ((begins, begun), (answer, told)) = (mpsc::channel(), mpsc::channel());
        let search = move || {
            begins.send(()).unwrap();
            Ok(told.recv().unwrap())
        };
        (Held { begun, answer }, search)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn searches_leave_a_thread_of_the_runtime_to_others() {
        let turns = Arc::new(Turns::new());
        let mut searches = Vec::new();
        for _ in 0..2 {
            let (held, search) = held();
            let turns = Arc::clone(&turns);
            let answer =
                tokio::spawn(async move { turns.search(MODERATE_DOCUMENTS - 1, search).await });
            // Waits outside the threads of the runtime.
            let held = tokio::task::spawn_blocking(move || {
                held.begun.recv().unwrap();
                held
            });
            searches.push((held.await.unwrap(), answer));
        }
        assert_eq!(tokio::spawn(async { "there is one" }).await.unwrap(), "there is one");
        for (number, (held, answer)) in (0..).zip(searches) {
            held.answer.send(number).unwrap();
            assert_eq!(answer.await.unwrap().unwrap(), number);
        }
        assert_eq!(turns.begun(), 2);
    }

    #[tokio::test]
    async fn of_long_searches_as_many_run_at_once_as_there_are_processors_and_the_next_has_its_turn()
     {
        let turns = Turns::new();
        let processors = turns.elsewhere.available_permits();
        let mut searches = Vec::new();
        for _ in 0..=processors {
            let (held, search) = held();
            let mut answer = Box::pin(turns.search(MODERATE_DOCUMENTS, search));
            assert!(is_pending(&mut answer).await);
            searches.push((held, answer));
        }
        let (waiting, mut waits) = searches.pop().unwrap();
        for (held, _) in &searches {
            held.begun.recv().unwrap();
        }
        assert_eq!(turns.elsewhere.available_permits(), 0);
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
        for (held, answer) in searches {
            held.answer.send(1).unwrap();
            assert_eq!(answer.await.unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn a_search_that_meets_damage_is_an_error_and_gives_its_turn_back() {
        let turns = Turns::new();
        for documents in [0, MODERATE_DOCUMENTS] {
            let free = turns.elsewhere.available_permits();
            let failed = turns.search(documents, || -> Result<(), _> { panic!("damaged") }).await;
            assert!(matches!(failed, Err(ViewError::Storage(_))), "{failed:?}");
            assert_eq!(turns.elsewhere.available_permits(), free);
        }
    }
}
