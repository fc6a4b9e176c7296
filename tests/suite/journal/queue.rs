//! The writer's queue: it is bounded, and what waits in it shares a commit.

use std::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicU64, Ordering},
};

use ai_factory::journal::{
    JournalSettings, RedbJournal,
    fail_points::{FailPoint, FailPoints, FaultInjection},
};
use ai_factory_ports::{
    journal::{Append, AppendError, Journal},
    metrics::MetricsRegistry,
};
use ai_factory_schemas::{limit::BLOB_BYTES_MAX, text::Blob};

use crate::contract::journal::{append, notes};

/// Holds the writer before it commits until it is let go; counts syncs and batches.
#[derive(Default)]
struct Gate {
    held: Mutex<bool>,
    changed: Condvar,
    syncs: AtomicU64,
    batches: AtomicU64,
}

impl Gate {
    fn hold(&self, hold: bool) {
        *self.held.lock().unwrap() = hold;
        self.changed.notify_all();
    }
}

impl FailPoints for Gate {
    fn at(&self, point: FailPoint) {
        match point {
            FailPoint::Validated => {
                self.batches.fetch_add(1, Ordering::SeqCst);
                let held = self.held.lock().unwrap();
                drop(self.changed.wait_while(held, |held| *held).unwrap());
            }
            FailPoint::AfterSync => {
                self.syncs.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
    }
}

fn gated(dir: &std::path::Path, queue_appends_max: usize) -> (Arc<RedbJournal>, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let seams = FaultInjection { fail_points: gate.clone(), ..FaultInjection::default() };
    let settings = JournalSettings { queue_appends_max, ..JournalSettings::new(dir) };
    (RedbJournal::open_with(settings, seams).unwrap(), gate)
}

/// Lets the writer take one append and stop before committing it.
async fn occupy(journal: &Arc<RedbJournal>, gate: &Gate) -> tokio::task::JoinHandle<()> {
    gate.hold(true);
    let before = gate.batches.load(Ordering::SeqCst);
    let task = tokio::spawn({
        let journal = journal.clone();
        async move {
            journal.append(append(notes(1000), 0, &["first"])).await.unwrap();
        }
    });
    while gate.batches.load(Ordering::SeqCst) == before {
        tokio::task::yield_now().await;
    }
    task
}

/// Whether the journal's metrics have these lines, each without `ai_factory_journal_`.
fn assert_counted(journal: &RedbJournal, lines: &[&str]) {
    let text = MetricsRegistry::of(&[journal]).encode().unwrap();
    for line in lines {
        let line = format!("ai_factory_journal_{line}");
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_together_is_committed_with_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, gate) = gated(dir.path(), 1024);
    let first = occupy(&journal, &gate).await;
    // All of them wait before the gate opens: joined futures run up to their answer one after the
    // other.
    let waiting = futures_util::future::join_all(
        (0..100).map(|n| journal.append(append(notes(n), 0, &["a", "b"]))),
    );
    let opened = async {
        assert_counted(&journal, &["queue_appends 100", "appends_total 0", "position 0"]);
        gate.hold(false);
    };
    let (answers, ()) = futures_util::future::join(waiting, opened).await;
    first.await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(journal.head().position, 201);
    assert_counted(
        &journal,
        &[
            "queue_appends 0",
            "queue_bytes 0",
            "appends_total 101",
            "position 201",
            "commit_events_sum 201.0",
            "commit_events_bucket{le=\"1.0\"} 1",
            "commit_events_count 2",
            "sync_seconds_count 2",
        ],
    );
    assert_eq!((gate.batches.load(Ordering::SeqCst), gate.syncs.load(Ordering::SeqCst)), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_takes_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, gate) = gated(dir.path(), 16);
    for n in 0..20 {
        journal.append(append(notes(1), n, &["a"])).await.unwrap();
    }
    // The file grows now and then inside a commit, and such a length is synced as well.
    let syncs = gate.syncs.load(Ordering::SeqCst);
    assert!((20..=22).contains(&syncs), "{syncs} syncs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_so_and_takes_more_later() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, gate) = gated(dir.path(), 4);
    let first = occupy(&journal, &gate).await;
    let waiting: Vec<_> = (0..4)
        .map(|n| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.append(append(notes(n), 0, &["a"])).await })
        })
        .collect();
    // Sooner or later the four are in the queue and there is no room for a fifth.
    let mut tries = 0;
    let error = loop {
        let probe = append(notes(500 + tries), 7, &["never right"]);
        tries += 1;
        let full = tokio::select! {
            biased;
            answer = journal.append(probe) => answer.unwrap_err(),
            () = tokio::task::yield_now() => continue,
        };
        break full;
    };
    assert!(
        matches!(error, AppendError::Busy { retry_after } if !retry_after.is_zero()),
        "{error:?}"
    );
    assert!(error.is_transient());
    gate.hold(false);
    first.await.unwrap();
    for task in waiting {
        let answer = task.await.unwrap();
        assert!(matches!(answer, Ok(_) | Err(AppendError::Busy { .. })), "{answer:?}");
    }
    // The writer may still be busy with what was asked in between and nobody waits for.
    while let Err(error) = journal.append(append(notes(2000), 0, &["a"])).await {
        assert!(error.is_transient(), "{error:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_bounded_in_bytes_too() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, gate) = gated(dir.path(), 1024);
    let first = occupy(&journal, &gate).await;
    let blob = vec![0; BLOB_BYTES_MAX];
    let large = (0..32).map(|n| {
        let blobs = vec![Blob::new(blob.clone())];
        journal.append(Append { blobs, ..append(notes(n), 0, &["a"]) })
    });
    let opened = async {
        gate.hold(false);
    };
    let (answers, ()) =
        futures_util::future::join(futures_util::future::join_all(large), opened).await;
    first.await.unwrap();
    let busy = answers.iter().filter(|answer| matches!(answer, Err(AppendError::Busy { .. })));
    // 64 MiB hold fifteen of a little over 4 MiB, and the one that the writer has counts as well.
    assert_eq!(busy.count(), 17);
    assert_counted(&journal, &["appends_refused_total 17", "appends_total 16"]);
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_writes_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, gate) = gated(dir.path(), 1024);
    let first = occupy(&journal, &gate).await;
    let waiting = futures_util::future::join_all(
        (0..10).map(|n| journal.append(append(notes(n), 0, &["a"]))),
    );
    let closed = async {
        gate.hold(false);
        let journal = journal.clone();
        tokio::task::spawn_blocking(move || journal.close()).await.unwrap();
    };
    let (answers, ()) = futures_util::future::join(waiting, closed).await;
    first.await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(RedbJournal::open(JournalSettings::new(dir.path())).unwrap().head().position, 11);
}
