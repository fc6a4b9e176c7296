//! The tail's contract: order, no gap, no duplicate, decoded once, bounded, in nobody's way.

use std::{
    future::Future,
    pin::{Pin, pin},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use ai_factory_ports::journal::{
    Append, AppendError, Appended, Command, Head, Journal, JournalHealth, RawRecord, ReadError,
    RefusalCause,
};
use ai_factory_schemas::{
    envelope::{ChainHash, EventDraft, Recorded, Trail, seal},
    id::{CommandId, EventId, MemoryId, StreamId},
    memory::MemoryRemembered,
    text::BlobHash,
    time::Timestamp,
};
use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::{
    sync::{Semaphore, watch},
    task::yield_now,
};
use uuid::Uuid;

use super::*;

/// Records in a list, read when the test allows it.
struct ListJournal {
    records: Mutex<Vec<Bytes>>,
    head: watch::Sender<Head>,
    health: watch::Sender<JournalHealth>,
    reads: AtomicUsize,
    is_broken: AtomicBool,
    /// Reads below the first of these positions wait for a permit.
    gate: (u64, Semaphore),
}

impl ListJournal {
    fn new(gated_below: u64) -> Arc<Self> {
        let reason = "a list".into();
        let health = JournalHealth::Refusing { cause: RefusalCause::ReadOnly, reason };
        Arc::new(Self {
            records: Mutex::default(),
            head: watch::Sender::new(Head::default()),
            health: watch::Sender::new(health),
            reads: AtomicUsize::new(0),
            is_broken: AtomicBool::new(false),
            gate: (gated_below, Semaphore::new(0)),
        })
    }

    /// Adds this many records, each with a text of this many bytes.
    fn add(&self, count: usize, text_bytes: usize) {
        let mut records = self.records.lock();
        for _ in 0..count {
            let position = records.len() as u64 + 1;
            let stream: StreamId = MemoryId(Uuid::from_u128(1)).into();
            let event = MemoryRemembered {
                request_id: Uuid::from_u128(9).into(),
                text: "x".repeat(text_bytes),
                tags: Vec::new(),
            };
            let draft = EventDraft {
                id: EventId(Uuid::from_u128(position.into())),
                time: Timestamp::from_micros(1),
                event: event.into(),
                trail: Trail::default(),
            };
            let mut json = draft.encode("/ai-factory/test", stream).unwrap();
            seal(&mut json, position, position, ChainHash::GENESIS);
            records.push(json.into());
        }
        let position = records.len() as u64;
        self.head.send_replace(Head { position, hash: ChainHash::GENESIS });
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl Journal for ListJournal {
    async fn append(&self, _: Append) -> Result<Appended, AppendError> {
        Err(AppendError::Refused("a list".to_owned()))
    }

    async fn load(&self, _: StreamId, _: u64) -> Result<Vec<Recorded>, ReadError> {
        Ok(Vec::new())
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RawRecord>, ReadError> {
        if after < self.gate.0 {
            self.gate.1.acquire().await.unwrap().forget();
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.is_broken.load(Ordering::SeqCst) {
            return Err(ReadError::Storage("broken".into()));
        }
        let records = self.records.lock();
        let from = usize::try_from(after).unwrap().min(records.len());
        let found = (after + 1..).zip(&records[from..]).take(limit);
        Ok(found.map(|(position, bytes)| RawRecord { position, bytes: bytes.clone() }).collect())
    }

    async fn command(&self, _: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        Ok(None)
    }

    async fn blob(&self, _: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(None)
    }

    fn head(&self) -> Head {
        *self.head.borrow()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    fn watch_health(&self) -> watch::Receiver<JournalHealth> {
        self.health.subscribe()
    }
}

fn tail(journal: &Arc<ListJournal>, records_max: usize, bytes_max: usize) -> Arc<Tail> {
    let journal = Arc::clone(journal) as Arc<dyn Journal>;
    Tail::with_limits(journal, TailLimits { records_max, bytes_max })
}

fn positions(records: &[TailRecord]) -> Vec<u64> {
    records.iter().map(TailRecord::position).collect()
}

/// Polls a future once, which must not be ready.
fn begin(future: Pin<&mut impl Future>) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(future.poll(&mut context), Poll::Pending));
}

/// How a cursor goes about it.
#[derive(Clone, Debug)]
struct Pace {
    starts_after: u64,
    limit: usize,
    /// How often the others may run between two reads.
    rests: usize,
    /// Whether some reads are begun and dropped.
    drops_reads: bool,
}

fn pace() -> impl Strategy<Value = Pace> {
    (0..20u64, 1..20usize, 0..6usize, any::<bool>()).prop_map(
        |(starts_after, limit, rests, drops_reads)| Pace {
            starts_after,
            limit,
            rests,
            drops_reads,
        },
    )
}

/// Reads up to a position.
async fn follow(tail: Arc<Tail>, pace: Pace, last: u64) -> Vec<TailRecord> {
    let mut cursor = tail.cursor(pace.starts_after);
    let mut all = Vec::new();
    while cursor.position() < last {
        assert!(cursor.changed().await);
        if pace.drops_reads {
            {
                let mut read = pin!(cursor.read(pace.limit));
                let _ = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            }
            // Ready or not: what it gave is not looked at, so the cursor goes back.
            let position = all.last().map_or(pace.starts_after, TailRecord::position);
            cursor.move_to(position);
        }
        let records = cursor.read(pace.limit).await.unwrap();
        assert!(records.len() <= pace.limit);
        all.extend(records);
        for _ in 0..pace.rests {
            yield_now().await;
        }
    }
    all
}

proptest! {
    #[test]
    fn each_cursor_gets_each_record_once_and_in_order_at_whatever_pace(
        bursts in prop::collection::vec((1..9usize, 0..4usize), 1..20),
        paces in prop::collection::vec(pace(), 1..6),
        (records_max, bytes_max) in (1..30usize, 1..30_000usize),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let journal = ListJournal::new(0);
            let tail = tail(&journal, records_max, bytes_max);
            let last = 20 + bursts.iter().map(|(count, _)| *count as u64).sum::<u64>();
            journal.add(20, 10);
            let followers: Vec<_> = paces
                .iter()
                .map(|pace| tokio::spawn(follow(Arc::clone(&tail), pace.clone(), last)))
                .collect();
            for (count, rests) in bursts {
                journal.add(count, 10);
                for _ in 0..rests {
                    yield_now().await;
                }
                let (records, bytes) = tail.recent.lock().size();
                assert!(records <= records_max && bytes <= bytes_max);
            }
            for (pace, follower) in paces.iter().zip(followers) {
                let all = follower.await.unwrap();
                let expected: Vec<_> = (pace.starts_after + 1..=last).collect();
                assert_eq!(positions(&all), expected, "{pace:?}");
                for record in all {
                    assert_eq!(record.event().unwrap().position, record.position());
                }
            }
        });
    }
}

#[tokio::test]
async fn who_follows_closely_shares_what_was_read_and_decoded() {
    let journal = ListJournal::new(0);
    let tail = tail(&journal, 100, 1_000_000);
    let mut cursors = [tail.cursor(0), tail.cursor(0), tail.cursor(0)];
    for round in 0..10 {
        journal.add(3, 10);
        let mut all = Vec::new();
        for cursor in &mut cursors {
            assert!(cursor.changed().await);
            all.push(cursor.read(16).await.unwrap());
        }
        assert_eq!(journal.reads(), round + 1);
        for other in &all[1..] {
            for (one, other) in all[0].iter().zip(other) {
                assert!(ptr::eq(one.routing().unwrap(), other.routing().unwrap()));
                assert!(ptr::eq(one.event().unwrap(), other.event().unwrap()));
            }
        }
    }
}

#[tokio::test]
async fn two_who_read_at_the_same_moment_share_too() {
    let journal = ListJournal::new(1);
    let tail = tail(&journal, 100, 1_000_000);
    journal.add(3, 10);
    let (mut one, mut other) = (Box::pin(tail.read(0, 9)), Box::pin(tail.read(0, 9)));
    begin(one.as_mut());
    begin(other.as_mut());
    journal.gate.1.add_permits(2);
    let (one, other) = (one.await.unwrap(), other.await.unwrap());
    assert_eq!((journal.reads(), one.len()), (2, 3));
    for (one, other) in one.iter().zip(&other) {
        assert!(ptr::eq(one.routing().unwrap(), other.routing().unwrap()));
    }
}

#[tokio::test]
async fn who_lags_reads_the_journal_and_leaves_the_shared_records_alone() {
    let journal = ListJournal::new(0);
    let tail = tail(&journal, 10, 1_000_000);
    journal.add(100, 10);
    let mut close = tail.cursor(95);
    assert_eq!(positions(&close.read(16).await.unwrap()), [96, 97, 98, 99, 100]);
    let mut lagging = tail.cursor(0);
    while !lagging.read(7).await.unwrap().is_empty() {
        assert_eq!(tail.recent.lock().get(100).map(TailRecord::position), Some(100));
    }
    assert_eq!(lagging.position(), 100);
    let before = journal.reads();
    let mut closer = tail.cursor(96);
    assert_eq!(closer.read(16).await.unwrap().len(), 4);
    assert_eq!(journal.reads(), before);
}

#[tokio::test]
async fn what_is_shared_is_bounded_in_records_and_bytes() {
    let journal = ListJournal::new(0);
    let tail = tail(&journal, 8, 20_000);
    let mut cursor = tail.cursor(0);
    for (count, text_bytes) in [(100, 10), (6, 10_000), (1, 100_000), (20, 10)] {
        journal.add(count, text_bytes);
        while !cursor.read(64).await.unwrap().is_empty() {}
        let (records, bytes) = tail.recent.lock().size();
        assert!(records <= 8 && bytes <= 20_000, "{records} records, {bytes} bytes");
    }
    assert_eq!((cursor.position(), tail.recent.lock().size().0), (127, 8));
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_nothing() {
    let journal = ListJournal::new(1);
    let tail = tail(&journal, 8, 20_000);
    let mut cursor = tail.cursor(0);
    journal.add(3, 10);
    for _ in 0..3 {
        begin(pin!(cursor.read(9)));
        assert_eq!(cursor.position(), 0);
    }
    journal.gate.1.add_permits(1);
    assert_eq!(positions(&cursor.read(9).await.unwrap()), [1, 2, 3]);
    begin(pin!(cursor.changed()));
    journal.add(1, 10);
    assert!(cursor.changed().await);
    assert_eq!(positions(&cursor.read(9).await.unwrap()), [4]);
}

#[tokio::test]
async fn a_read_that_nobody_drives_hinders_nobody() {
    let journal = ListJournal::new(3);
    let tail = tail(&journal, 8, 20_000);
    let mut slow = tail.cursor(0);
    journal.add(3, 10);
    let mut stuck = Box::pin(slow.read(9));
    begin(stuck.as_mut());
    let mut quick = tail.cursor(3);
    for position in 4..10 {
        journal.add(1, 10);
        assert!(quick.changed().await);
        assert_eq!(positions(&quick.read(9).await.unwrap()), [position]);
    }
    journal.gate.1.add_permits(1);
    assert_eq!(positions(&stuck.await.unwrap()), [1, 2, 3]);
}

#[tokio::test]
async fn a_cursor_waits_for_more_and_after_a_failure_for_a_new_end() {
    let journal = ListJournal::new(0);
    let tail = tail(&journal, 8, 20_000);
    let mut cursor = tail.cursor(0);
    begin(pin!(cursor.changed()));
    journal.add(5, 10);
    assert!(cursor.changed().await);
    assert_eq!(cursor.read(2).await.unwrap().len(), 2);
    assert!(cursor.read(0).await.unwrap().is_empty());
    assert!(cursor.changed().await, "three are left");
    journal.is_broken.store(true, Ordering::SeqCst);
    assert!(cursor.read(2).await.is_err());
    begin(pin!(cursor.changed()));
    journal.add(1, 10);
    assert!(cursor.changed().await);
    journal.is_broken.store(false, Ordering::SeqCst);
    assert_eq!(positions(&cursor.read(2).await.unwrap()), [3, 4]);
    cursor.move_to(6);
    assert!(cursor.read(2).await.unwrap().is_empty());
    begin(pin!(cursor.changed()));
    assert_eq!((cursor.head(), cursor.position()), (6, 6));
}
