//! Memory in the real program, killed while it writes and while its index is made.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde_json::json;

use super::{Http, Up};
use crate::support::process::TestHome;

/// Enough for many flushes and merges of [`FLUSHING`].
const NOTES: usize = 2_000;
const FLUSHING: [&str; 2] = ["--set", "flush_documents_max=64"];

type Damage = fn(&Path) -> io::Result<()>;

fn note(number: usize) -> String {
    format!("the kettle of room {number} stands on shelf {}", number * 7)
}

fn assert_found(http: &Http, text: &str) {
    let found = http.get(&format!("/memory/search?n=1&q={}", text.replace(' ', "+")));
    assert_eq!(found["results"][0]["text"], *text, "{found}");
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

#[test]
fn an_index_whose_making_is_killed_anywhere_or_that_is_damaged_is_whole_in_the_end() {
    let home = TestHome::new();
    let path = home.path().join("notes.jsonl");
    let lines: Vec<String> = (0..NOTES).map(|n| json!({ "text": note(n) }).to_string()).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    home.printed(0, &["remember", "--jsonl", path.to_str().unwrap()]);
    let index = home.data().join("index");
    let (vectors, meta) = (index.join("vectors"), index.join("words/meta.json"));
    fs::remove_dir_all(&index).unwrap();
    // Killed when the file of vectors has so many bytes, then damaged.
    let nothing: Damage = |_| Ok(());
    let cut: Damage =
        |path| fs::write(path, &fs::read(path)?[..usize::try_from(length(path) / 2).unwrap()]);
    let garbage: Damage = |path| fs::write(path, b"garbage ".repeat(512));
    let rounds = [
        (1, nothing, &index),
        (40_000, nothing, &index),
        (120_000, cut, &vectors),
        (120_000, garbage, &meta),
        (200_000, |path| fs::remove_file(path), &vectors),
        (250_000, |path| fs::remove_dir_all(path), &index),
        (300_000, nothing, &index),
    ];
    for (bytes, damage, damaged) in rounds {
        let up = Up::start(&home, &FLUSHING);
        while length(&vectors) < bytes {
            thread::yield_now();
        }
        // Dropped: SIGKILL.
        drop(up);
        damage(damaged).unwrap();
    }
    let up = Up::start(&home, &FLUSHING);
    for number in (0..NOTES).step_by(41).chain([NOTES - 1]) {
        assert_found(&up.http, &note(number));
    }
    while up.http.get("/healthcheck")["status"] != "ok" {
        thread::yield_now();
    }
    let meant = up.http.get("/memory/search?mode=semantic&n=20&q=where+is+the+tea+pot");
    assert_eq!(meant["results"].as_array().unwrap().len(), 20);
    up.terminate();
}

/// What can happen to a file that somebody has open.
const DAMAGES: [(&str, Damage); 4] = [
    ("cut", |path| open(path)?.set_len(length(path) / 2)),
    ("empty", |path| open(path)?.set_len(0)),
    ("garbage", |path| open(path)?.write_all(&b"garbage ".repeat(8 * 1024))),
    ("gone", |path| fs::remove_file(path)),
];

fn open(path: &Path) -> io::Result<File> {
    File::options().write(true).open(path)
}

/// The largest file of a kind, or the one of that name.
fn file_of(directory: &Path, kind: &str) -> Option<PathBuf> {
    let files = fs::read_dir(directory).ok()?.filter_map(|file| Some(file.ok()?.path()));
    let of_kind = files.filter(|path| path.to_str().is_some_and(|path| path.ends_with(kind)));
    of_kind.max_by_key(|path| length(path))
}

/// A factory that remembers notes and a plan, whatever happens to its files.
struct Remembering {
    up: Up,
    notes: usize,
}

impl Remembering {
    fn remember(&mut self, count: usize) {
        let more: Vec<_> =
            (self.notes..self.notes + count).map(|n| json!({ "text": note(n) })).collect();
        let (status, answer) =
            self.up.http.post_plain("/memory/import", &json!({ "notes": more })).unwrap();
        assert_eq!(status, 200, "{answer}");
        self.notes += count;
    }

    fn dispatch(&self) {
        let task = json!({ "task_type": "coding", "prompt": "Build a shop" });
        assert_eq!(self.up.http.post_plain("/planner/dispatch", &task).unwrap().0, 200);
    }

    /// Everything is there, and so is what comes now: enough for a flush.
    fn goes_on(&mut self, what: &str) {
        println!("{what}");
        self.has([0, self.notes / 2, self.notes - 1]);
        self.remember(70);
        self.has([1, self.notes / 3, self.notes - 70, self.notes - 1]);
    }

    fn has(&self, notes: impl IntoIterator<Item = usize>) {
        for number in notes {
            assert_found(&self.up.http, &note(number));
        }
        assert_eq!(self.up.http.get("/memory/logs")[0]["prompt"], "Build a shop");
    }

    /// Damages a file of that kind as soon as a flush has made one and no merge takes it away.
    fn damage(&mut self, directory: &Path, kind: &str, damage: Damage) {
        loop {
            self.has([self.notes - 1]);
            let file = file_of(directory, kind).filter(|path| length(path) > 64);
            match file.map(|file| damage(&file)) {
                Some(Ok(())) => return,
                Some(Err(error)) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
                // What could not be written is tried again when there is more of it.
                None => self.remember(70),
            }
        }
    }

    fn starts_again(self, home: &TestHome) -> Self {
        self.up.terminate();
        Self { up: Up::start(home, &FLUSHING), ..self }
    }
}

#[test]
fn files_that_are_damaged_beneath_a_running_factory_cost_no_answer() {
    let home = TestHome::new();
    let mut factory = Remembering { up: Up::start(&home, &FLUSHING), notes: 0 };
    factory.dispatch();
    factory.remember(500);
    let index = home.data().join("index");
    let words = index.join("words");
    let kinds = [".idx", ".pos", ".term", ".fast", ".fieldnorm", ".store", "meta.json"];
    let kinds = kinds.map(|kind| (&words, kind)).into_iter().chain([(&index, "vectors")]);
    for (directory, kind) in kinds {
        for (how, damage) in DAMAGES {
            factory.damage(directory, kind, damage);
            factory.goes_on(&format!("{kind} {how}"));
        }
    }
    for (how, damage) in DAMAGES {
        // Hardly ever written: all of it may happen to the same one.
        damage(&home.data().join("projections.redb")).unwrap();
        factory.goes_on(&format!("projections.redb {how}"));
    }
    for kind in [".idx", ".pos"] {
        // In memory: the next start reads them.
        factory.damage(&words, kind, DAMAGES[0].1);
    }
    factory = factory.starts_again(&home);
    factory.goes_on("started again");
    fs::rename(&index, home.path().join("away")).unwrap();
    factory.goes_on("index away");
    // What cannot be written is tried again when there is more of it.
    while factory.up.http.get("/healthcheck")["status"] != "ok" {
        factory.goes_on("not well yet");
    }
    factory = factory.starts_again(&home);
    factory.has((0..factory.notes).step_by(41));
    factory.up.terminate();
}

#[test]
fn everything_that_was_remembered_before_a_kill_is_found_after_it() {
    const WRITERS: usize = 4;
    let home = TestHome::new();
    let next = AtomicUsize::new(0);
    let kept = AtomicUsize::new(0);
    for kill_after in [1, 50, 150] {
        let up = Up::start(&home, &FLUSHING);
        let goal = kept.load(Ordering::SeqCst) + kill_after;
        let acknowledged: Vec<usize> = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut mine = Vec::new();
                        loop {
                            let number = next.fetch_add(1, Ordering::SeqCst);
                            let body = json!({ "text": note(number) });
                            let Ok((200, _)) = up.http.post_plain("/memory/remember", &body) else {
                                return mine;
                            };
                            kept.fetch_add(1, Ordering::SeqCst);
                            mine.push(number);
                        }
                    })
                })
                .collect();
            while kept.load(Ordering::SeqCst) < goal {
                thread::yield_now();
            }
            let pid = rustix::process::Pid::from_raw(i32::try_from(up.pid()).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
        });
        drop(up);
        let up = Up::start(&home, &FLUSHING);
        for number in &acknowledged {
            assert_found(&up.http, &note(*number));
        }
        up.terminate();
    }
    assert!(kept.load(Ordering::SeqCst) > 200);
}

#[test]
fn a_rebuild_that_is_asked_for_is_ended_after_a_kill_and_everything_is_found_meanwhile() {
    let home = TestHome::new();
    let path = home.path().join("notes.jsonl");
    let lines: Vec<String> = (0..NOTES).map(|n| json!({ "text": note(n) }).to_string()).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    home.printed(0, &["remember", "--jsonl", path.to_str().unwrap()]);
    let up = Up::start(&home, &FLUSHING);
    let server = up.http.base.clone();
    let (begun, _) = home.printed(0, &["rebuild", "--server", &server, "--json"]);
    assert!(begun.contains("\"begun\""), "{begun}");
    let health = up.http.get("/healthcheck");
    assert_eq!(health["status"], "ok", "what there is serves on: {health}");
    // Dropped: SIGKILL, wherever it is.
    drop(up);
    let up = Up::start(&home, &FLUSHING);
    let (status, answer) = up.http.post_plain("/memory/rebuild", &json!({})).unwrap();
    assert_eq!(status, 202, "{answer}");
    let mut number = 0;
    loop {
        assert_found(&up.http, &note(number % NOTES));
        number += 41;
        let health = up.http.get("/healthcheck");
        assert_eq!(health["status"], "ok", "{health}");
        if health["under_way"].is_null() {
            break;
        }
    }
    assert_found(&up.http, &note(NOTES - 1));
    up.terminate();
    for left in ["index/words.next", "index/words.old", "projections.next"] {
        assert!(!home.data().join(left).exists(), "{left}");
    }
}
