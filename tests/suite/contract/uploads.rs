//! What every implementation of uploads must do.
//!
//! An implementation passes by implementing [`UploadsFixture`] and adding one `uploads_contract!`
//! line.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use ai_factory::spool::{SPOOL_AGE_MAX, SPOOL_BYTES_MAX, Spool};
use ai_factory_ports::{
    clock::Clock,
    uploads::{UploadError, Uploads},
};
use ai_factory_schemas::{answer::Uploaded, text::BlobHash, time::Timestamp};
use tempfile::TempDir;

use crate::support::memory_uploads::MemoryUploads;

/// A clock that stands where the test puts it.
#[derive(Default)]
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_770_000_000_000_000 + self.0.load(Ordering::SeqCst))
    }
}

/// Uploads whose clock and process the test has in its hand.
trait UploadsFixture {
    fn start(clock: Arc<dyn Clock>) -> Self;
    fn uploads(&self) -> Arc<dyn Uploads>;
    /// What another process finds after this one has ended.
    fn restart(&mut self, clock: Arc<dyn Clock>);
}

struct OnDisk {
    spool: Option<Arc<Spool>>,
    dir: TempDir,
}

impl OnDisk {
    fn open(&mut self, clock: Arc<dyn Clock>) {
        self.spool = None;
        self.spool = Some(Spool::open(self.dir.path().join("spool"), clock).unwrap());
    }
}

impl UploadsFixture for OnDisk {
    fn start(clock: Arc<dyn Clock>) -> Self {
        let mut made = Self { spool: None, dir: TempDir::new().unwrap() };
        made.open(clock);
        made
    }

    fn uploads(&self) -> Arc<dyn Uploads> {
        self.spool.clone().unwrap()
    }

    fn restart(&mut self, clock: Arc<dyn Clock>) {
        self.open(clock);
    }
}

struct InMemory(Arc<MemoryUploads>);

impl UploadsFixture for InMemory {
    fn start(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(MemoryUploads::new(clock)))
    }

    fn uploads(&self) -> Arc<dyn Uploads> {
        Arc::clone(&self.0) as Arc<dyn Uploads>
    }

    fn restart(&mut self, _: Arc<dyn Clock>) {}
}

macro_rules! uploads_contract {
    ($name:ident, $fixture:ident, [$($case:ident),* $(,)?]) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case::<super::$fixture>().await;
                }
            )*
        }
    };
    ($name:ident, $fixture:ident) => {
        uploads_contract!($name, $fixture, [
            a_content_sent_in_parts_is_there_when_its_last_byte_is,
            an_upload_that_broke_off_is_taken_up_where_it_ended_by_another_process,
            what_was_received_before_is_ignored_and_a_gap_is_refused_with_the_place_to_go_on_from,
            bytes_without_their_hash_are_dropped_and_refused,
            a_content_is_never_longer_than_was_said,
            what_does_not_fit_is_refused_before_a_byte_of_it_is_stored,
            a_content_is_dropped_an_hour_after_it_was_last_asked_for,
            the_empty_content_is_a_content,
            concurrent_uploads_of_one_content_complete_it,
        ]);
    };
}

uploads_contract!(spool, OnDisk);
uploads_contract!(memory, InMemory);

fn started<F: UploadsFixture>() -> (Arc<HandClock>, F) {
    let clock = Arc::new(HandClock::default());
    (Arc::clone(&clock), F::start(clock))
}

fn pass(clock: &HandClock, time: Duration) {
    clock.0.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
}

/// Bytes that differ from place to place.
fn sample(bytes: usize) -> (BlobHash, Vec<u8>) {
    let content: Vec<_> = (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect();
    (BlobHash::of(&content), content)
}

fn refusal(answer: Result<Uploaded, UploadError>) -> String {
    match answer {
        Err(UploadError::Refused(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

async fn has(uploads: &Arc<dyn Uploads>, hash: BlobHash) -> bool {
    uploads.has(vec![hash]).await.unwrap()[0]
}

async fn a_content_sent_in_parts_is_there_when_its_last_byte_is<F: UploadsFixture>() {
    let (_clock, fixture) = started::<F>();
    let uploads = fixture.uploads();
    let (hash, content) = sample(100_000);
    for (offset, end) in [(0, 1), (1, 65_536), (65_536, 100_000)] {
        assert!(!has(&uploads, hash).await);
        assert_eq!(uploads.content(hash).await, Ok(None));
        let part = content[offset..end].to_vec();
        let answer = uploads.put(hash, 100_000, offset as u64, part).await.unwrap();
        let complete = end == 100_000;
        assert_eq!(answer, Uploaded { hash, received: end as u64, complete });
    }
    assert_eq!(uploads.content(hash).await.unwrap(), Some(content));
    let (other, _) = sample(3);
    assert_eq!(uploads.has(vec![other, hash, other]).await, Ok(vec![false, true, false]));
}

async fn an_upload_that_broke_off_is_taken_up_where_it_ended_by_another_process<
    F: UploadsFixture,
>() {
    let (clock, mut fixture) = started::<F>();
    let (hash, content) = sample(5_000);
    fixture.uploads().put(hash, 5_000, 0, content[..2_000].to_vec()).await.unwrap();
    fixture.restart(clock.clone());
    // A part without a byte asks how far it is.
    let uploads = fixture.uploads();
    let answer = uploads.put(hash, 5_000, 0, Vec::new()).await.unwrap();
    assert_eq!(answer, Uploaded { hash, received: 2_000, complete: false });
    let answer = uploads.put(hash, 5_000, 2_000, content[2_000..].to_vec()).await.unwrap();
    assert!(answer.complete);
    drop(uploads);
    fixture.restart(clock);
    assert_eq!(fixture.uploads().content(hash).await.unwrap(), Some(content));
}

async fn what_was_received_before_is_ignored_and_a_gap_is_refused_with_the_place_to_go_on_from<
    F: UploadsFixture,
>() {
    let (_clock, fixture) = started::<F>();
    let uploads = fixture.uploads();
    let (hash, content) = sample(100);
    uploads.put(hash, 100, 0, content[..40].to_vec()).await.unwrap();
    let told = refusal(uploads.put(hash, 100, 41, content[41..].to_vec()).await);
    assert!(told.contains("offset 40"), "{told}");
    for (from, to, received) in [(0, 40, 40), (10, 20, 40), (30, 60, 60), (60, 60, 60)] {
        let part = content[from..to].to_vec();
        let answer = uploads.put(hash, 100, from as u64, part).await.unwrap();
        assert_eq!(answer, Uploaded { hash, received, complete: false });
    }
    assert!(uploads.put(hash, 100, 0, content.clone()).await.unwrap().complete);
    // Once it is complete, whatever is sent changes nothing.
    let answer = uploads.put(hash, 7, 90, vec![0; 50]).await.unwrap();
    assert_eq!(answer, Uploaded { hash, received: 100, complete: true });
    assert_eq!(uploads.content(hash).await.unwrap(), Some(content));
}

async fn bytes_without_their_hash_are_dropped_and_refused<F: UploadsFixture>() {
    let (_clock, fixture) = started::<F>();
    let uploads = fixture.uploads();
    let (hash, content) = sample(10);
    uploads.put(hash, 10, 0, vec![0; 4]).await.unwrap();
    let told = refusal(uploads.put(hash, 10, 4, content[4..].to_vec()).await);
    assert!(told.contains("again from offset 0"), "{told}");
    assert!(!has(&uploads, hash).await);
    let answer = uploads.put(hash, 10, 0, content[..4].to_vec()).await.unwrap();
    assert_eq!(answer.received, 4, "nothing is left of what was wrong");
    assert!(uploads.put(hash, 10, 4, content[4..].to_vec()).await.unwrap().complete);
}

async fn a_content_is_never_longer_than_was_said<F: UploadsFixture>() {
    let (_clock, fixture) = started::<F>();
    let uploads = fixture.uploads();
    let (hash, content) = sample(10);
    let told = refusal(uploads.put(hash, 9, 0, content.clone()).await);
    assert!(told.contains("9 bytes") && told.contains("10 were sent"), "{told}");
    uploads.put(hash, 10, 0, content[..8].to_vec()).await.unwrap();
    let told = refusal(uploads.put(hash, 7, 0, content[..2].to_vec()).await);
    assert!(told.contains("7 bytes") && told.contains("8 were sent"), "{told}");
    assert!(uploads.put(hash, 10, 8, content[8..].to_vec()).await.unwrap().complete);
}

async fn what_does_not_fit_is_refused_before_a_byte_of_it_is_stored<F: UploadsFixture>() {
    let (_clock, fixture) = started::<F>();
    let uploads = fixture.uploads();
    let (hash, content) = sample(1024 * 1024);
    assert!(uploads.put(hash, content.len() as u64, 0, content.clone()).await.unwrap().complete);
    let (other, _) = sample(3);
    for bytes in [SPOOL_BYTES_MAX, u64::MAX] {
        let full = uploads.put(other, bytes, 0, vec![0]).await.unwrap_err();
        assert_eq!(full, UploadError::Full { bytes: 1024 * 1024, bytes_max: SPOOL_BYTES_MAX });
    }
    let answer = uploads.put(other, SPOOL_BYTES_MAX - 1024 * 1024, 0, vec![0]).await.unwrap();
    assert_eq!(answer, Uploaded { hash: other, received: 1, complete: false });
}

async fn a_content_is_dropped_an_hour_after_it_was_last_asked_for<F: UploadsFixture>() {
    let moment = Duration::from_secs(1);
    let (clock, mut fixture) = started::<F>();
    let contents = [10, 20, 30, 40, 50].map(sample);
    let [asked, read, put, part, forgotten] = &contents;
    for (hash, content) in [asked, read, put, forgotten] {
        let bytes = content.len() as u64;
        fixture.uploads().put(*hash, bytes, 0, content.clone()).await.unwrap();
    }
    fixture.uploads().put(part.0, 40, 0, part.1[..9].to_vec()).await.unwrap();
    pass(&clock, SPOOL_AGE_MAX.saturating_sub(moment));
    let uploads = fixture.uploads();
    assert!(has(&uploads, asked.0).await);
    assert!(uploads.content(read.0).await.unwrap().is_some());
    assert!(uploads.put(put.0, 30, 0, Vec::new()).await.unwrap().complete);
    assert!(!has(&uploads, part.0).await);
    drop(uploads);
    // Neither a restart nor the time until it ends an age.
    pass(&clock, moment);
    fixture.restart(clock.clone());
    let uploads = fixture.uploads();
    assert!(!has(&uploads, forgotten.0).await, "an hour has passed");
    pass(&clock, SPOOL_AGE_MAX.saturating_sub(2 * moment));
    assert_eq!(uploads.put(part.0, 40, 0, Vec::new()).await.unwrap().received, 9);
    for (hash, content) in [asked, read, put] {
        assert_eq!(uploads.content(*hash).await.unwrap().as_ref(), Some(content));
    }
    pass(&clock, SPOOL_AGE_MAX);
    for (hash, _) in &contents {
        assert_eq!(uploads.content(*hash).await, Ok(None));
    }
    let answer = uploads.put(part.0, 40, 0, Vec::new()).await.unwrap();
    assert_eq!(answer.received, 0, "a part expires as well");
}

async fn the_empty_content_is_a_content<F: UploadsFixture>() {
    let (clock, mut fixture) = started::<F>();
    let hash = BlobHash::of(b"");
    let answer = fixture.uploads().put(hash, 0, 0, Vec::new()).await.unwrap();
    assert_eq!(answer, Uploaded { hash, received: 0, complete: true });
    fixture.restart(clock);
    assert_eq!(fixture.uploads().content(hash).await.unwrap(), Some(Vec::new()));
}

async fn concurrent_uploads_of_one_content_complete_it<F: UploadsFixture>() {
    let (_clock, fixture) = started::<F>();
    let (hash, content) = sample(64 * 1024);
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (uploads, content) = (fixture.uploads(), content.clone());
            tokio::spawn(async move {
                for (number, part) in content.chunks(4 * 1024).enumerate() {
                    let offset = (number * 4 * 1024) as u64;
                    uploads.put(hash, 64 * 1024, offset, part.to_vec()).await.unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!(fixture.uploads().content(hash).await.unwrap(), Some(content));
}
