//! The tasks of an actor: work beside it, which ends with it.
//!
//! *Promises.* A panic in a task is logged and does not reach the actor. Each hand-over to another
//! task is noted ([`HAND_OVER`]).

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll, Waker},
};

use futures_util::future::BoxFuture;
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// The target of the trace events that note a hand-over: work that goes on in another task.
/// Messages on the bus and appends are hand-overs too; their ports show them.
pub const HAND_OVER: &str = "ai_factory::hand_over";

/// Notes that work goes on in another task.
pub(crate) fn note_hand_over(to: &'static str) {
    tracing::trace!(target: HAND_OVER, to, "hand-over");
}

/// Runs `work` in the current span, in a task that nobody waits for and that outlives its actor.
pub(crate) fn spawn_detached(work: impl Future<Output = ()> + Send + 'static) {
    note_hand_over("task");
    tokio::spawn(work.in_current_span());
}

/// The tasks of an actor; they end with it.
#[derive(Default)]
pub struct Tasks(JoinSet<()>);

impl Tasks {
    /// Runs `work` beside the actor, in the current span.
    pub fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        while let Some(ended) = self.0.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a task of this actor panicked");
            }
        }
        note_hand_over("task");
        self.0.spawn(work.in_current_span());
    }

    /// Runs `work` in the calling task up to its first wait; what is then left of it runs beside
    /// the actor.
    pub(crate) fn run_in_place(&mut self, mut work: BoxFuture<'static, ()>) {
        // The waker needs no effect: a future that waits is polled again by its own task.
        let mut context = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut context))) {
            Ok(Poll::Ready(())) => {}
            Ok(Poll::Pending) => self.spawn(work),
            Err(_) => tracing::error!("a request of this actor panicked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use futures_util::FutureExt as _;
    use tokio::{sync::oneshot, task};

    use super::*;

    #[tokio::test]
    async fn work_that_need_not_wait_is_done_in_place_and_other_work_goes_on_in_a_task() {
        let mut tasks = Tasks::default();
        let done = Arc::new(AtomicU32::new(0));
        let count = |done: &Arc<AtomicU32>| {
            let done = Arc::clone(done);
            move || done.fetch_add(1, Ordering::Relaxed)
        };
        let at_once = count(&done);
        tasks.run_in_place(
            async move {
                let _ = at_once();
            }
            .boxed(),
        );
        assert_eq!((done.load(Ordering::Relaxed), tasks.0.len()), (1, 0));

        let (opens, opened) = oneshot::channel::<()>();
        let (begun, ended) = (count(&done), count(&done));
        let waits = async move {
            begun();
            opened.await.unwrap();
            ended();
        };
        tasks.run_in_place(waits.boxed());
        assert_eq!((done.load(Ordering::Relaxed), tasks.0.len()), (2, 1));
        opens.send(()).unwrap();
        tasks.0.join_next().await.unwrap().unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_panic_in_place_or_in_a_task_does_not_reach_the_actor() {
        let mut tasks = Tasks::default();
        tasks.run_in_place(async { panic!("in place") }.boxed());
        let later = async {
            task::yield_now().await;
            panic!("in a task");
        };
        tasks.run_in_place(later.boxed());
        assert!(tasks.0.join_next().await.unwrap().unwrap_err().is_panic());
        let (answers, answered) = oneshot::channel();
        tasks.run_in_place(async move { answers.send("still here").unwrap() }.boxed());
        assert_eq!(answered.await.unwrap(), "still here");
    }
}
