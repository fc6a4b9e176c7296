//! How fast the journal is, each figure beside an fdatasync probe of the same disk in the same
//! seconds.
//!
//! `cargo bench --bench journal -- [--events N] [--dir DIR] [--rounds N]`. Prints a table; asserts
//! nothing.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::{
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ai_factory::journal::{JournalSettings, RedbJournal, fail_points::FaultInjection, verify};
use ai_factory_ports::journal::{Append, Command as Key, Journal as _};
use ai_factory_schemas::{
    envelope::{EventDraft, Trail},
    id::{EventId, MemoryId, StreamId},
    memory::MemoryRemembered,
    text::BlobHash,
    time::Timestamp,
};
use uuid::Uuid;

const SLICE: Duration = Duration::from_millis(500);
/// Events of each append when a large journal is filled.
const FILL_EVENTS: u64 = 250;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name, usual| option(name).map_or(usual, |text| text.parse::<u64>().unwrap());
    let events = number("--events", 1_000_000);
    if let Some(dir) = option("--fill") {
        return fill(Path::new(&dir), events);
    }
    if let Some(dir) = option("--ready") {
        return ready(Path::new(&dir));
    }
    let base = option("--dir").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let scratch = tempfile::Builder::new().prefix("journal-bench-").tempdir_in(base).unwrap();
    let rounds = number("--rounds", 6);

    println!(
        "probe: 4 KiB written and synced, over and over; medians of {rounds} slices of {SLICE:?}"
    );
    let only = option("--writers").map(|text| text.parse::<u64>().unwrap());
    for one_sync in [true, false] {
        if only.is_some() && !one_sync {
            continue;
        }
        let commits = if one_sync { "one sync a commit" } else { "redb's two syncs" };
        for writers in only.map_or(vec![1, 64, 1024], |writers| vec![writers]) {
            throughput(scratch.path(), writers, rounds, one_sync, commits);
        }
    }
    if events == 0 {
        return;
    }
    empty(scratch.path());
    long_stream(scratch.path());
    large(scratch.path(), events);
}

fn seams(one_sync: bool) -> FaultInjection {
    FaultInjection { one_sync, ..FaultInjection::default() }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

fn stream() -> StreamId {
    MemoryId(Uuid::now_v7()).into()
}

/// One event of about 600 bytes as it is stored.
fn note() -> EventDraft {
    EventDraft {
        id: EventId(Uuid::now_v7()),
        time: Timestamp::from_micros(1_780_000_000_000_000),
        event: MemoryRemembered {
            request_id: Uuid::now_v7().into(),
            text: "what an event of ordinary size has to say for itself ".repeat(2),
            tags: Vec::new(),
        }
        .into(),
        trail: Trail { causation: None, correlation: Some(Uuid::now_v7()), traceparent: None },
    }
}

fn append(stream: StreamId, expected: u64, count: u64) -> Append {
    let events = (0..count).map(|_| note()).collect();
    Append { stream, expected, events, command: None, blobs: Vec::new() }
}

fn keyed(append: Append) -> Append {
    let key = Key { id: Uuid::now_v7().into(), fingerprint: BlobHash([7; 32]) };
    Append { command: Some(key), ..append }
}

/// Syncs of one 4 KiB page in `SLICE`: of one in the middle of a file, or of one that makes it
/// longer.
fn probe(dir: &Path, appending: bool) -> f64 {
    let path = dir.join("probe");
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
    if !appending {
        file.write_all_at(&vec![1; 1 << 20], 0).unwrap();
    }
    file.sync_all().unwrap();
    let (begin, mut syncs) = (Instant::now(), 0);
    while begin.elapsed() < SLICE {
        let page = if appending { syncs } else { syncs % 256 };
        file.write_all_at(&[2; 4096], page * 4096).unwrap();
        file.sync_data().unwrap();
        syncs += 1;
    }
    rate(syncs, begin.elapsed())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[allow(clippy::cast_precision_loss)]
fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn throughput(base: &Path, writers: u64, rounds: u64, one_sync: bool, commits: &str) {
    let dir = tempfile::tempdir_in(base).unwrap();
    let runtime = runtime();
    let journal =
        RedbJournal::open_with(JournalSettings::new(dir.path()), seams(one_sync)).unwrap();
    let (mut overwritten, mut appended, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    let (mut events, mut spent, mut writing) = (0, Duration::ZERO, Duration::ZERO);
    for _ in 0..rounds {
        overwritten.push(probe(dir.path(), false));
        appended.push(probe(dir.path(), true));
        let before = cpu();
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let begin = Instant::now();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..writers)
                .map(|_| {
                    let (journal, stop, done) = (journal.clone(), stop.clone(), done.clone());
                    tokio::spawn(async move {
                        let (stream, mut version) = (stream(), 0);
                        while !stop.load(Ordering::Relaxed) {
                            let one = keyed(append(stream, version, 1));
                            version = journal.append(one).await.unwrap().version;
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            tokio::time::sleep(SLICE).await;
            stop.store(true, Ordering::Relaxed);
            for task in tasks {
                task.await.unwrap();
            }
        });
        let done = done.load(Ordering::Relaxed);
        rates.push(rate(done, begin.elapsed()));
        let after = cpu();
        writing += after.0.saturating_sub(before.0);
        spent += after.1.saturating_sub(before.1);
        events += done;
    }
    journal.close();
    let ratio = |probes: &[f64]| {
        median(rates.iter().zip(probes).map(|(rate, probe)| rate / probe).collect())
    };
    println!(
        "{writers:5} writers, {commits}: {:7.2} events a probe sync ({:.2} an appending one); \
         {:.0} events/s, probes {:.0} and {:.0} syncs/s; CPU an event: writer {:.1?}, all {:.1?}",
        ratio(&overwritten),
        ratio(&appended),
        median(rates.clone()),
        median(overwritten),
        median(appended),
        writing / u32::try_from(events).unwrap(),
        spent / u32::try_from(events).unwrap(),
    );
}

fn empty(base: &Path) {
    let runtime = runtime();
    let mut times: Vec<_> = (0..9)
        .map(|_| {
            let dir = tempfile::tempdir_in(base).unwrap();
            let begin = Instant::now();
            let journal = RedbJournal::open(JournalSettings::new(dir.path())).unwrap();
            runtime.block_on(journal.append(append(stream(), 0, 1))).unwrap();
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "open and first append, empty: median {:.1?}, worst {:.1?} (probe {:.0} syncs/s)",
        times[4],
        times[8],
        probe(base, false)
    );
}

fn long_stream(base: &Path) {
    let dir = tempfile::tempdir_in(base).unwrap();
    let runtime = runtime();
    let journal = RedbJournal::open(JournalSettings::new(dir.path())).unwrap();
    let (long, other) = (stream(), stream());
    runtime.block_on(async {
        for n in 0..1000 {
            journal.append(append(long, n, 1)).await.unwrap();
            journal.append(append(other, n * 9, 9)).await.unwrap();
        }
        let mut times = Vec::new();
        for _ in 0..21 {
            let begin = Instant::now();
            assert_eq!(journal.load(long, 0).await.unwrap().len(), 1000);
            times.push(begin.elapsed());
        }
        times.sort();
        println!("load of a 1,000-event stream: median {:?}, worst {:?}", times[10], times[20]);
    });
}

/// A large journal is filled by one process, which is killed, and opened by others.
fn large(base: &Path, events: u64) {
    let dir = tempfile::tempdir_in(base).unwrap();
    let begin = Instant::now();
    let mut child = spawn(dir.path(), "--fill", events);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    println!("{events} events filled in {:.1?}; killed; {}", begin.elapsed(), line.trim());
    let bytes: u64 = fs::read_dir(dir.path().join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512)
        .sum();
    println!("sealed segments and catalog: {} MiB on disk", bytes >> 20);
    for _ in 0..3 {
        let mut child = spawn(dir.path(), "--ready", events);
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        print!("after kill -9: {line}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let begin = Instant::now();
    let verified = verify(dir.path(), None).unwrap();
    println!("verify of {} events: {:.1?}", verified.events, begin.elapsed());
}

fn spawn(dir: &Path, what: &str, events: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .arg(what)
        .arg(dir)
        .arg("--events")
        .arg(events.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn fill(dir: &Path, events: u64) {
    let journal = RedbJournal::open(JournalSettings::new(dir)).unwrap();
    runtime().block_on(async {
        for _ in 0..events / FILL_EVENTS / 8 {
            let tasks = (0..8).map(|_| {
                let journal = journal.clone();
                async move {
                    // Streams of ten events, as those of sessions are.
                    for _ in 0..FILL_EVENTS / 10 {
                        journal.append(keyed(append(stream(), 0, 10))).await.unwrap();
                    }
                }
            });
            futures_util::future::join_all(tasks).await;
        }
        while journal.head().position < events {
            journal.append(append(stream(), 0, 10)).await.unwrap();
        }
    });
    println!("filling took {}", memory());
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

fn ready(dir: &Path) {
    let runtime = runtime();
    let begin = Instant::now();
    let journal = RedbJournal::open(JournalSettings::new(dir)).unwrap();
    let opened = begin.elapsed();
    runtime.block_on(journal.append(append(stream(), 0, 1))).unwrap();
    let first = begin.elapsed();
    println!("open {opened:.1?}, with first append {first:.1?}; {}", memory());
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

/// CPU time of the writer's thread, and of all threads that are alive.
fn cpu() -> (Duration, Duration) {
    let (mut writing, mut all) = (Duration::ZERO, Duration::ZERO);
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let Ok(ran) = fs::read_to_string(task.join("schedstat")) else { continue };
        let ran = ran.split_whitespace().next().and_then(|ran| ran.parse().ok()).unwrap_or(0);
        let ran = Duration::from_nanos(ran);
        all += ran;
        if fs::read_to_string(task.join("comm")).unwrap_or_default().trim() == "journal-writer" {
            writing += ran;
        }
    }
    (writing, all)
}

fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    format!("resident {} MiB, at most {} MiB", field("VmRSS"), field("VmHWM"))
}
