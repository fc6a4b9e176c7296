//! The relay with a destination that refuses, on paused time.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use ai_factory_ports::journal::{
    Append, AppendError, Appended, Command, Head, Journal, JournalHealth, RawRecord, ReadError,
};
use ai_factory_schemas::{
    envelope::{ChainHash, Recorded},
    id::{CommandId, StreamId},
    text::BlobHash,
};
use ai_factory_tail::TailRecord;
use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, advance},
};

use super::*;

/// The number of records.
const HEAD: u64 = 10;

/// A journal of which only positions matter.
struct PositionJournal(watch::Sender<Head>, watch::Sender<JournalHealth>);

#[async_trait::async_trait]
impl Journal for PositionJournal {
    async fn append(&self, _: Append) -> Result<Appended, AppendError> {
        Err(AppendError::Refused("nothing is written here".to_owned()))
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RawRecord>, ReadError> {
        let positions = (after + 1..=HEAD).take(limit);
        Ok(positions.map(|position| RawRecord { position, bytes: Bytes::new() }).collect())
    }

    async fn load(&self, _: StreamId, _: u64) -> Result<Vec<Recorded>, ReadError> {
        Ok(Vec::new())
    }

    async fn command(&self, _: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        Ok(None)
    }

    async fn blob(&self, _: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(None)
    }

    fn head(&self) -> Head {
        *self.0.borrow()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.0.subscribe()
    }

    fn watch_health(&self) -> watch::Receiver<JournalHealth> {
        self.1.subscribe()
    }
}

#[derive(Default)]
struct RecordedCheckpoint(AtomicU64);

impl Checkpoint for RecordedCheckpoint {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn note(&self, position: u64) {
        self.0.store(position, Ordering::Relaxed);
    }
}

/// The behaviour of a destination.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// It accepts everything.
    Willing,
    /// It refuses everything from this position on.
    Full(u64),
    /// It restarts every time.
    Restless,
}

/// State shared by the test and the destination.
struct TestState {
    mood: Mood,
    /// How often it was started.
    begun: u32,
    troubles: Vec<Option<String>>,
}

struct FarSide {
    shared: Arc<Mutex<TestState>>,
    taken: u64,
    arrived: Option<u64>,
    has_taken: bool,
}

#[async_trait::async_trait]
impl Sink for FarSide {
    async fn resume(&mut self, _: u64) -> Result<u64, Interruption> {
        self.shared.lock().unwrap().begun += 1;
        self.arrived = None;
        Ok(self.taken)
    }

    fn room(&self) -> usize {
        if self.arrived.is_none() { 4 } else { 0 }
    }

    async fn send(&mut self, records: Vec<TailRecord>) -> Result<(), Interruption> {
        for record in records {
            match self.shared.lock().unwrap().mood {
                Mood::Full(from) if record.position() >= from => {
                    return Err(Interruption::Failed("full".to_owned()));
                }
                Mood::Restless => return Err(Interruption::Restart),
                _ => {}
            }
            self.taken = record.position();
            self.arrived = Some(record.position());
            self.has_taken = true;
        }
        Ok(())
    }

    async fn arrived(&mut self) -> Result<u64, Interruption> {
        match self.arrived.take() {
            Some(position) => Ok(position),
            None => std::future::pending().await,
        }
    }

    fn has_taken(&mut self) -> bool {
        std::mem::take(&mut self.has_taken)
    }

    fn report(&mut self, trouble: Option<&str>) {
        self.shared.lock().unwrap().troubles.push(trouble.map(str::to_owned));
    }
}

/// A running relay to a destination with this behaviour.
fn start(mood: Mood) -> (Arc<Mutex<TestState>>, Arc<RecordedCheckpoint>) {
    start_counting(mood, RelayCounters::default())
}

fn start_counting(
    mood: Mood,
    counters: RelayCounters,
) -> (Arc<Mutex<TestState>>, Arc<RecordedCheckpoint>) {
    let shared = Arc::new(Mutex::new(TestState { mood, begun: 0, troubles: Vec::new() }));
    let head = Head { position: HEAD, hash: ChainHash::GENESIS };
    let noted = Arc::new(RecordedCheckpoint::default());
    let sink = FarSide { shared: Arc::clone(&shared), taken: 0, arrived: None, has_taken: false };
    let checkpoint = Arc::clone(&noted) as Arc<dyn Checkpoint>;
    let journal = PositionJournal(watch::Sender::new(head), watch::Sender::default());
    let tail = Tail::new(Arc::new(journal));
    tokio::spawn(Relay { tail, sink, checkpoint }.run_counting(counters));
    (shared, noted)
}

/// Advances the time in small steps.
async fn pass(seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        advance(Duration::from_millis(10)).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_far_side_that_refuses_is_tried_ever_more_seldom_and_its_reason_is_told() {
    let counters = RelayMetrics::default().of("test");
    let (shared, noted) = start_counting(Mood::Full(5), counters.clone());
    pass(60).await;
    let failures = counters.retry.failures.get();
    {
        let shared = shared.lock().unwrap();
        assert_eq!(u64::from(shared.begun), failures, "each attempt failed");
        assert!((10..=24).contains(&shared.begun), "{}", shared.begun);
        assert!(shared.troubles.iter().all(|told| told.as_deref() == Some("full")));
    }
    assert_eq!(noted.load(), 4, "what was taken before is not in doubt");
    assert_eq!((counters.position.get(), counters.retry.recoveries.get()), (4, 0));
    shared.lock().unwrap().mood = Mood::Willing;
    pass(6).await;
    assert_eq!(noted.load(), HEAD);
    assert_eq!(shared.lock().unwrap().troubles.last(), Some(&None));
    assert_eq!(u64::try_from(counters.position.get()), Ok(HEAD));
    let counted = (counters.retry.failures.get(), counters.retry.recoveries.get());
    assert_eq!(counted, (failures, 1));
}

#[tokio::test(start_paused = true)]
async fn a_far_side_that_begins_anew_without_end_counts_as_one_that_fails() {
    let (shared, noted) = start(Mood::Restless);
    pass(60).await;
    {
        let shared = shared.lock().unwrap();
        assert!(shared.begun <= RESTARTS_MAX + 24, "{}", shared.begun);
        assert!(shared.troubles.last().unwrap().as_ref().unwrap().contains("in a row"));
    }
    shared.lock().unwrap().mood = Mood::Willing;
    pass(6).await;
    assert_eq!((noted.load(), shared.lock().unwrap().troubles.last()), (HEAD, Some(&None)));
}

#[tokio::test(start_paused = true)]
async fn a_far_side_that_works_is_told_of_no_trouble() {
    let (shared, noted) = start(Mood::Willing);
    pass(1).await;
    assert_eq!((noted.load(), shared.lock().unwrap().troubles.len()), (HEAD, 0));
}
