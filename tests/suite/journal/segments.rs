//! Many segments: sealing, the catalog, readers in other processes, verification.

use ai_factory::journal::{JournalReader, JournalSettings, verify};
use ai_factory_ports::journal::{Append, Head, Journal, JournalHealth, RefusalCause};
use ai_factory_schemas::text::{Blob, BlobHash};

use super::{open, port, small};
use crate::contract::journal::{append, command, notes, texts, whole};

/// Thirty records in four segments: every stream and blob and command crosses from one to the next.
async fn thirty(journal: &std::sync::Arc<dyn Journal>) {
    for n in 0..30u64 {
        let (stream, version) = (notes(u128::from(n % 3)), n / 3);
        let blob = format!("blob {n}").into_bytes();
        let blobs = vec![Blob::new(blob)];
        let key = format!("key {n}");
        let one =
            Append { command: Some(command(&key, &key)), blobs, ..append(stream, version, &["a"]) };
        journal.append(one).await.unwrap();
    }
}

async fn all_is_there(journal: &std::sync::Arc<dyn Journal>) {
    let (events, head) = whole(journal).await;
    assert_eq!((events.len(), head.position), (30, 30));
    for n in 0..30u64 {
        let blob = format!("blob {n}").into_bytes();
        assert_eq!(journal.blob(BlobHash::of(&blob)).await.unwrap(), Some(blob));
        let key = format!("key {n}").parse().unwrap();
        let (_, appended) = journal.command(&key).await.unwrap().unwrap();
        assert_eq!((appended.first, appended.version), (n + 1, n / 3 + 1));
    }
    for stream in 0..3 {
        assert_eq!(texts(journal, notes(stream)).await.len(), 10);
        assert_eq!(journal.load(notes(stream), 7).await.unwrap().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_many_segments_reads_like_one() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(small(dir.path()));
    thirty(&port(&journal)).await;
    all_is_there(&port(&journal)).await;
    journal.close();

    // Again with the catalog as a fresh start finds it, and once more without one.
    for catalog in [true, false] {
        if !catalog {
            std::fs::remove_file(dir.path().join("segments/catalog.redb")).unwrap();
        }
        let journal = open(small(dir.path()));
        all_is_there(&port(&journal)).await;
        let again =
            Append { command: Some(command("key 3", "key 3")), ..append(notes(0), 1, &["a"]) };
        assert!(journal.append(again).await.unwrap().repeated, "I-5 over segments");
        journal.close();
    }
    let verified = verify(dir.path(), None).unwrap();
    assert_eq!((verified.events, verified.segments, verified.blobs), (30, 4, 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_is_rubbish_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(small(dir.path()));
    thirty(&port(&journal)).await;
    journal.close();
    let path = dir.path().join("segments/catalog.redb");
    let stale = std::fs::read(&path).unwrap();
    for rubbish in [b"rubbish".to_vec(), Vec::new(), stale[..4096].to_vec()] {
        std::fs::write(&path, rubbish).unwrap();
        let journal = open(small(dir.path()));
        all_is_there(&port(&journal)).await;
        journal.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_follows_the_writer_from_segment_to_segment() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(small(dir.path()));
    let reader = std::sync::Arc::new(JournalReader::open(dir.path()).unwrap());
    assert_eq!(reader.head(), Head::default());
    for n in 0..40u64 {
        journal.append(append(notes(u128::from(n % 2)), n / 2, &["a"])).await.unwrap();
        assert_eq!(reader.head(), journal.head());
        assert_eq!(reader.read(n, 10).await.unwrap().len(), 1);
        assert_eq!(reader.load(notes(u128::from(n % 2)), 0).await.unwrap().len() as u64, n / 2 + 1);
    }
    let reader: std::sync::Arc<dyn Journal> = reader;
    assert_eq!(whole(&reader).await.0.len(), 40);
    assert!(reader.append(append(notes(0), 20, &["a"])).await.is_err());
    // Verification runs beside the writer.
    assert_eq!(verify(dir.path(), Some(journal.head())).unwrap().head, journal.head());
    journal.close();
    assert_eq!(reader.head().position, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_carries_on_after_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::default();
    for round in 0..5u64 {
        let journal = open(small(dir.path()));
        assert_eq!(journal.head(), head);
        journal.append(append(notes(1), round * 3, &["a", "b", "c"])).await.unwrap();
        head = journal.head();
        journal.close();
        let health = journal.health();
        assert!(
            matches!(health, JournalHealth::Refusing { cause: RefusalCause::Closed, .. }),
            "{health:?}"
        );
        assert_eq!(health.failure(), None);
        assert!(journal.append(append(notes(1), round * 3 + 3, &["z"])).await.is_err());
    }
    assert_eq!(verify(dir.path(), Some(head)).unwrap().events, 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_opens_it_while_segments_are_turned_over_finds_it_every_time() {
    /// Each turns a segment over; some thousand openings fall between.
    const APPENDS: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let narrow = JournalSettings { segment_events_max: 1, ..small(dir.path()) };
    let journal = open(narrow);
    let stream = notes(1);
    port(&journal).append(append(stream, 0, &["a"])).await.unwrap();
    let writing = {
        let journal = port(&journal);
        tokio::spawn(async move {
            for version in 1..APPENDS {
                journal.append(append(stream, version, &["a"])).await.unwrap();
            }
        })
    };
    let mut seen = 0;
    while !writing.is_finished() {
        let reader = JournalReader::open(dir.path()).unwrap();
        let records = reader.read_sync(seen, usize::MAX).unwrap();
        seen += records.len() as u64;
    }
    writing.await.unwrap();
    let reader = JournalReader::open(dir.path()).unwrap();
    assert_eq!(seen + reader.read_sync(seen, usize::MAX).unwrap().len() as u64, APPENDS);
}
