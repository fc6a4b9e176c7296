//! The disk fails at every single write, change of length or sync of a scenario (I-4).
//!
//! The scenario opens a new journal, appends twice as much as a segment holds, and closes it.

use std::{io, path::Path, sync::Arc};

use ai_factory::journal::{JournalSettings, RedbJournal, fail_points::FaultInjection, verify};
use ai_factory_ports::journal::{Append, AppendError, Appended, Head, Journal};
use ai_factory_schemas::text::Blob;

use super::{
    faulty_disk::{Flaky, Mode, Mounted},
    open, port,
};
use crate::contract::journal::{append, command, notes, texts};

const APPENDS: u64 = 7;

fn settings(dir: &Path) -> JournalSettings {
    JournalSettings { segment_events_max: 6, ..JournalSettings::new(dir) }
}

fn seams(disk: &Arc<Flaky>) -> FaultInjection {
    FaultInjection { disk: Arc::new(Mounted(disk.clone())), ..FaultInjection::default() }
}

/// These tests open thousands of journals: in memory, where that is to be had, a sync costs
/// nothing.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The append number `n`: two events in a stream of its own, with a blob and a key.
fn nth(n: u64) -> Append {
    let key = format!("key {n}");
    let blob = format!("blob {n}").repeat(1000).into_bytes();
    Append {
        command: Some(command(&key, &key)),
        blobs: vec![Blob::new(blob)],
        ..append(notes(u128::from(n)), 0, &["one", "two"])
    }
}

/// Runs the scenario as far as it goes; returns what was acknowledged, and the journal if it
/// opened.
async fn run(dir: &Path, disk: &Arc<Flaky>) -> (Vec<Appended>, Head, Option<Arc<RedbJournal>>) {
    let (mut acknowledged, mut head) = (Vec::new(), Head::default());
    let Ok(journal) = RedbJournal::open_with(settings(dir), seams(disk)) else {
        return (acknowledged, head, None);
    };
    let mut refused = false;
    for n in 0..APPENDS {
        match journal.append(nth(n)).await {
            Ok(appended) => {
                assert!(!refused, "I-4: acknowledged after a failure");
                assert_eq!(appended.last, acknowledged.len() as u64 * 2 + 2);
                acknowledged.push(appended);
                head = journal.head();
            }
            Err(AppendError::Storage(_)) => {
                assert!(disk.has_failed());
                refused = true;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    (acknowledged, head, Some(journal))
}

/// Opens the journal on a healthy disk: what was acknowledged is there, the rest whole or absent.
async fn check(dir: &Path, acknowledged: &[Appended], head: Head, what: &str) {
    let verified = verify(dir, Some(head));
    let journal = match RedbJournal::open(settings(dir)) {
        Ok(journal) => journal,
        Err(error) => panic!("{what}: {error}"),
    };
    // A journal that was never made has nothing to verify.
    if !acknowledged.is_empty() {
        verified.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let events = journal.head().position;
    assert!(events.is_multiple_of(2) && events >= head.position, "{what}: {events} events");
    for n in 0..events / 2 {
        assert_eq!(texts(&port(&journal), notes(u128::from(n))).await, ["one", "two"], "{what}");
        let again = journal.append(nth(n)).await.unwrap();
        assert!(again.repeated && again.last == n * 2 + 2, "{what}: I-5");
        let blob = nth(n).blobs.remove(0);
        assert_eq!(journal.blob(blob.hash()).await.unwrap(), Some(blob.into_bytes()), "{what}");
    }
    for (n, appended) in acknowledged.iter().enumerate() {
        assert_eq!(appended.first, n as u64 * 2 + 1, "{what}");
    }
    let next = journal.append(nth(100)).await.unwrap();
    assert_eq!(next.first, events + 1, "{what}: I-6");
    journal.close();
    let verified = verify(dir, Some(head)).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(verified.events, events + 2, "{what}");
}

/// Runs `case` for every operation of the scenario.
async fn for_every_operation(case: impl AsyncFn(u64) -> Arc<Flaky>) {
    for at in 1.. {
        if !case(at).await.has_failed() {
            assert!(at > 100, "the scenario has only {at} operations");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_at_any_write_or_sync_an_append_is_whole_or_absent() {
    for_every_operation(async |at| {
        let dir = scratch();
        let disk = Flaky::new(Mode::Stops, at);
        let (acknowledged, head, journal) = run(dir.path(), &disk).await;
        drop(journal);
        check(dir.path(), &acknowledged, head, &format!("stopped at {at}")).await;
        disk
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_failure_at_any_write_or_sync_loses_nothing_acknowledged() {
    for_every_operation(async |at| {
        let mut last = None;
        for seed in 0..3 {
            let dir = scratch();
            let disk = Flaky::new(Mode::Stops, at);
            let (acknowledged, head, journal) = run(dir.path(), &disk).await;
            drop(journal);
            disk.lose_power(at * 31 + seed);
            let what = format!("power lost at {at}, seed {seed}");
            check(dir.path(), &acknowledged, head, &what).await;
            last = Some(disk);
        }
        last.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_one_failed_write_or_sync_nothing_is_acknowledged_and_all_stays_readable() {
    let read_only = io::ErrorKind::ReadOnlyFilesystem;
    for kind in [io::ErrorKind::StorageFull, read_only, io::ErrorKind::Other] {
        for_every_operation(async |at| {
            let dir = scratch();
            let disk = Flaky::new(Mode::FailsOnce(kind), at);
            let what = format!("{kind:?} at {at}");
            let (acknowledged, head, journal) = run(dir.path(), &disk).await;
            if let Some(journal) = journal {
                // While a segment is turned over, only the sealed ones are readable.
                if let Ok(raw) = journal.read(0, 100).await {
                    assert!(raw.len() as u64 >= head.position, "{what}");
                }
                if (acknowledged.len() as u64) < APPENDS {
                    assert!(journal.health().failure().is_some(), "{what}");
                    assert_eq!(journal.head(), head, "{what}");
                }
                journal.close();
            }
            check(dir.path(), &acknowledged, head, &what).await;
            disk
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_says_what_to_do() {
    for (kind, advice) in [
        (io::ErrorKind::StorageFull, "free some space"),
        (io::ErrorKind::QuotaExceeded, "free some space"),
        (io::ErrorKind::ReadOnlyFilesystem, "mount it for writing"),
    ] {
        says_what_to_do(kind, advice).await;
    }
}

async fn says_what_to_do(kind: io::ErrorKind, advice: &str) {
    let dir = scratch();
    let journal = open(settings(dir.path()));
    journal.append(nth(0)).await.unwrap();
    journal.close();
    drop(journal);

    let disk = Flaky::new(Mode::FailsOnce(kind), 30);
    let journal = RedbJournal::open_with(settings(dir.path()), seams(&disk)).unwrap();
    let mut errors = Vec::new();
    for n in 1..APPENDS {
        errors.extend(journal.append(nth(n)).await.err());
    }
    let text = errors[0].to_string();
    assert!(text.contains("cannot be written") && text.contains(advice), "{text}");
    assert!(journal.health().failure().unwrap().contains(advice));
    // What was acknowledged can still be read, here and in another process.
    let head = journal.head();
    assert_eq!(journal.read(0, 100).await.unwrap().len() as u64, head.position);
    let reader = ai_factory::journal::JournalReader::open(dir.path()).unwrap();
    assert_eq!(reader.head(), head);
}
