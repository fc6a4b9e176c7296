//! The process is killed at each numbered point of the append path: no acknowledged record is lost
//! (I-4).
//!
//! The test starts itself again as a child; the child kills itself and has told of each
//! acknowledgement before.

use std::{
    collections::HashMap,
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ai_factory::journal::{
    JournalReader, JournalSettings, OpenJournalError, RedbJournal,
    fail_points::{FailPoint, FailPoints, FaultInjection},
    verify,
};
use ai_factory_ports::journal::Journal;
use rustix::process::{Signal, getpid, kill_process};

use super::left::files;
use crate::contract::journal::{append, notes, texts};

const DIR: &str = "AI_FACTORY_TEST_JOURNAL_DIR";
const POINT: &str = "AI_FACTORY_TEST_JOURNAL_POINT";
const PASS: &str = "AI_FACTORY_TEST_JOURNAL_PASS";
const WRITERS: u64 = 3;
const ROUNDS: u64 = 8;

fn settings(dir: &Path) -> JournalSettings {
    JournalSettings { segment_events_max: 16, ..JournalSettings::new(dir) }
}

struct KillAt {
    point: FailPoint,
    passes: AtomicU32,
}

impl FailPoints for KillAt {
    fn at(&self, point: FailPoint) {
        if point == self.point && self.passes.fetch_sub(1, Ordering::SeqCst) == 1 {
            kill_process(getpid(), Signal::KILL).unwrap();
            // The signal ends the process before anything else of this thread happens.
            loop {
                std::thread::park();
            }
        }
    }
}

/// Not a test of its own: does nothing unless it runs as the child.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_a_child_it_appends_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let number = |name| std::env::var(name).unwrap().parse::<u32>().unwrap();
    let point = FailPoint::ALL[number(POINT) as usize];
    let fail_points = Arc::new(KillAt { point, passes: AtomicU32::new(number(PASS)) });
    let seams = FaultInjection { fail_points, ..FaultInjection::default() };
    let journal = RedbJournal::open_with(settings(Path::new(&dir)), seams).unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let journal = journal.clone();
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let two = append(notes(u128::from(writer)), round * 2, &["one", "two"]);
                let appended = journal.append(two).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {writer} {} {}", appended.first, appended.version)
                    .unwrap();
                out.flush().unwrap();
            }
        })
    });
    for writer in futures_util::future::join_all(writers).await {
        writer.unwrap();
    }
}

fn child(dir: &Path, point: usize, pass: u32) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "journal::kill::as_a_child_it_appends_until_it_is_killed", "--nocapture"])
        .env(DIR, dir)
        .env(POINT, point.to_string())
        .env(PASS, pass.to_string())
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_nothing_acknowledged_is_lost() {
    for (at, point) in FailPoint::ALL.into_iter().enumerate() {
        for pass in [1, 2, 7] {
            let seals = at >= 10;
            // Opening makes the first segment, so these two are passed before the first append.
            if seals && pass == 7 {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let output = child(dir.path(), at, pass);
            let what = format!("{point:?}, pass {pass}");
            let said = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.signal(), Some(9), "{what}: {said}{errors}");

            let mut acknowledged: HashMap<u128, u64> = HashMap::new();
            for line in said.lines().filter(|line| line.starts_with("acknowledged ")) {
                let words: Vec<u64> =
                    line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
                acknowledged.insert(u128::from(words[0]), words[2]);
            }
            // Readers come back first, see all of it, and change nothing.
            let left = files(dir.path());
            match JournalReader::open(dir.path()) {
                Err(OpenJournalError::Missing(_)) => assert!(acknowledged.is_empty(), "{what}"),
                opened => {
                    let reader = opened.unwrap();
                    for (writer, version) in &acknowledged {
                        let found = reader.load(notes(*writer), 0).await.unwrap().len() as u64;
                        assert!(found >= *version, "{what}");
                    }
                    let verified = verify(dir.path(), Some(reader.head())).unwrap();
                    assert_eq!(verified.events, reader.head().position, "{what}");
                }
            }
            assert!(files(dir.path()) == left, "{what}: a reader wrote");
            let journal = RedbJournal::open(settings(dir.path())).unwrap();
            let port: Arc<dyn Journal> = journal.clone();
            let mut events = 0;
            for writer in 0..u128::from(WRITERS) {
                let found = texts(&port, notes(writer)).await.len() as u64;
                let told = acknowledged.get(&writer).copied().unwrap_or(0);
                assert!(found >= told, "{what}: writer {writer} has {found} of {told}");
                assert!(found.is_multiple_of(2), "{what}: an append is whole or absent");
                events += found;
            }
            assert_eq!(journal.head().position, events, "{what}");
            journal.close();
            assert_eq!(verify(dir.path(), None).unwrap().events, events, "{what}");
        }
    }
}

/// Panics in the writer's thread once.
struct PanicAt(FailPoint);

impl FailPoints for PanicAt {
    fn at(&self, point: FailPoint) {
        assert!(point != self.0, "a panic at {point:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_writer_leaves_nobody_waiting() {
    for point in FailPoint::ALL.into_iter().skip(2).take(8) {
        let dir = tempfile::tempdir().unwrap();
        let seams =
            FaultInjection { fail_points: Arc::new(PanicAt(point)), ..FaultInjection::default() };
        let journal = RedbJournal::open_with(settings(dir.path()), seams).unwrap();
        let appends = (0..8).map(|n| journal.append(append(notes(n), 0, &["a"])));
        for answer in futures_util::future::join_all(appends).await {
            assert!(answer.is_err(), "{point:?}");
        }
        journal.watch_health().wait_for(|health| !health.is_accepting()).await.unwrap();
        assert!(journal.health().failure().unwrap().contains("panic"), "{point:?}");
        journal.close();
        drop(journal);
        let journal = RedbJournal::open(settings(dir.path())).unwrap();
        journal.append(append(notes(100), 0, &["a"])).await.unwrap();
        journal.close();
        verify(dir.path(), None).unwrap();
    }
}
