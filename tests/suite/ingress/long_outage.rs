//! The NATS server is away for a long time, dead or only not answering, and the factory works on.
//!
//! How long is told by what is done meanwhile: by `SESSIONS` sessions over HTTP, and until the
//! factory says that its events wait.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use ai_factory_schemas::envelope::Recorded;
use async_nats::jetstream;
use serde_json::json;

use super::{
    Http, LOOK, Up, Watcher, head,
    streams::{positions, wait_until_kept},
};
use crate::{
    crash::account::Account,
    support::{
        nats::TestServer,
        process::{Bell, TestHome},
    },
};

/// How many sessions are done while the server is away, and as many before: each leaves five
/// events.
const SESSIONS: usize = 640;
/// How many bytes a goal has beside its words: messages that are kept back are to be seen in the
/// memory.
const GOAL_BYTES: usize = 4 * 1024;
/// How many clients ask for them at once.
const CLIENTS: usize = 8;
/// The most goals that are published meanwhile.
const PUBLISHED_MAX: usize = 1_000;
/// How much more memory those sessions may cost without the server than with it, in bytes. A queue
/// with the messages of their 3,200 events takes 15 MB more.
const MEMORY_BYTES_MORE_MAX: u64 = 2 * 1024 * 1024;
/// How often the memory is looked at: for longer than the allocator takes to give back what is not
/// in use.
const LOOKS: usize = 150;

/// How a server goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    /// Its process is killed: connections break.
    Dead,
    /// Its process is stopped: connections stay, and nothing comes.
    Silent,
}

impl Away {
    fn begin(self, server: &mut TestServer) {
        match self {
            Self::Dead => server.kill(),
            Self::Silent => server.stop(),
        }
    }

    fn end(self, server: &mut TestServer) {
        match self {
            Self::Dead => server.again(),
            Self::Silent => server.go_on(),
        }
    }
}

/// Has so many sessions done over HTTP.
fn load(http: &Http, part: &str, sessions: usize) {
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for number in 0..sessions / CLIENTS {
                    let key = format!("{part}-{client}-{number}");
                    let goal =
                        json!({ "goal": format!("Think about {key} {}", "=".repeat(GOAL_BYTES)) });
                    let (status, answer) = http.post("/supervisor/run", &key, &goal).unwrap();
                    assert_eq!(status, 200, "{answer}");
                }
            });
        }
    });
}

/// What a process has in memory of its own, in bytes.
fn own_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kibibytes: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    kibibytes * 1024
}

/// The same, once the allocator has given back what is not in use any more: the least of `LOOKS`.
fn settled_bytes(pid: u32) -> u64 {
    let look = |_| {
        thread::park_timeout(LOOK);
        own_bytes(pid)
    };
    (0..LOOKS).map(look).min().unwrap()
}

/// Publishes goals, each again under its key until the stream has it, until it is told to end.
/// Counts them.
fn publish_until_accepted(patient: &Watcher, published: &AtomicUsize, is_over: &AtomicBool) {
    let context: jetstream::Context = patient.jetstream();
    for number in 0..PUBLISHED_MAX {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        patient.wait(async {
            loop {
                let mut headers = async_nats::HeaderMap::new();
                headers.insert("Nats-Msg-Id", format!("patient-{number}"));
                let goal = format!("Published patiently {number}");
                let sent = context.publish_with_headers("factory.goals", headers, goal.into());
                if let Ok(ack) = sent.await
                    && ack.await.is_ok()
                {
                    return;
                }
            }
        });
        published.fetch_add(1, Ordering::Relaxed);
    }
}

/// `ai-factory tail` of the stream of events, from the first one on. It does not outlive its test.
struct Subscriber {
    child: Child,
    printed: PathBuf,
}

impl Subscriber {
    fn start(home: &TestHome, server: &TestServer) -> Self {
        let printed = home.path().join("printed");
        let url = server.url();
        let mut command = home.command(&["tail", "--nats", &url, "--from", "1", "--json"]);
        command.stdout(File::create(&printed).unwrap()).stdin(Stdio::null());
        Self { child: command.spawn().unwrap(), printed }
    }

    /// The positions that it has printed in whole lines.
    fn positions(&self) -> Vec<u64> {
        let printed = fs::read_to_string(&self.printed).unwrap();
        let whole = printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let record = |line: &str| Recorded::decode(line.as_bytes()).unwrap();
        whole.lines().map(|line| record(line).position).collect()
    }

    /// Waits until it has printed so many events: each once and in order.
    fn prints(&mut self, end: u64) {
        let all: Vec<_> = (1..=end).collect();
        while self.positions().len() < all.len() {
            assert!(self.child.try_wait().unwrap().is_none(), "the subscriber gave up");
            thread::park_timeout(LOOK);
        }
        assert_eq!(self.positions(), all, "for a subscriber, each once and in order");
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn outage(away: Away) {
    let (home, mut server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    load(&up.http, "first", SESSIONS / 4);
    wait_until_kept(&watcher, head(&home));
    let mut subscriber = Subscriber::start(&home, &server);
    let before = settled_bytes(up.pid());
    load(&up.http, "with", SESSIONS);
    wait_until_kept(&watcher, head(&home));
    let with = settled_bytes(up.pid()).saturating_sub(before);

    // Two sessions are in the middle of a step when the server goes away, and goals are being
    // published.
    let bells = [Bell::named(&home, "early"), Bell::named(&home, "late")];
    watcher.publish(Some("early"), bells[0].goal());
    let early = bells[0].rung();
    let goal = json!({ "goal": bells[1].goal() });
    assert_eq!(up.http.post("/supervisor/submit", "late", &goal).unwrap().0, 202);
    let late = bells[1].rung();
    let (published, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let patient = Watcher::at(&server);
    thread::scope(|scope| {
        let publishing = scope.spawn(|| publish_until_accepted(&patient, &published, &is_over));
        while published.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        away.begin(&mut server);
        drop(early);
        let before = settled_bytes(up.pid());
        load(&up.http, "without", SESSIONS);
        while up.http.get("/healthcheck")["status"] != "degraded" {
            thread::park_timeout(LOOK);
        }
        let without = settled_bytes(up.pid()).saturating_sub(before);
        away.end(&mut server);
        drop(late);
        load(&up.http, "after", SESSIONS / 4);
        is_over.store(true, Ordering::Relaxed);
        publishing.join().unwrap();
        assert!(
            without <= with + MEMORY_BYTES_MORE_MAX,
            "{SESSIONS} sessions cost {without} bytes without the server, and {with} with it"
        );
    });
    watcher.goals_are_settled();
    while up.http.get("/healthcheck")["status"] != "ok" {
        thread::park_timeout(LOOK);
    }
    let is_over = || Account::of(&home).sessions.values().all(|one| one.concluded.is_some());
    while !is_over() {
        thread::park_timeout(LOOK);
    }
    let end = head(&home);
    wait_until_kept(&watcher, end);
    assert_eq!(
        positions(&watcher, end),
        (1..=end).collect::<Vec<_>>(),
        "in the stream, each once and in order"
    );
    subscriber.prints(end);
    up.terminate();

    let account = Account::of(&home);
    account.assert_all_is_over();
    assert_eq!(account.repetitions(), 0, "no program ran twice");
    let sessions = account.sessions.values();
    let goals: Vec<_> = sessions.filter_map(|it| Some(&it.opened.as_ref()?.goal)).collect();
    let expected = SESSIONS * 2 + SESSIONS / 2 + bells.len() + published.into_inner();
    assert_eq!(goals.len(), expected, "each goal has a session");
    assert_eq!(goals.into_iter().collect::<BTreeSet<_>>().len(), expected, "each has one");
}

#[test]
fn a_server_that_was_dead_for_a_long_time_has_cost_no_memory_no_session_and_no_event() {
    outage(Away::Dead);
}

#[test]
fn a_server_that_was_silent_for_a_long_time_has_cost_no_memory_no_session_and_no_event() {
    outage(Away::Silent);
}

#[test]
fn a_subscriber_of_a_server_that_lost_its_store_is_told_each_event_once_and_in_order() {
    let (home, mut server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    load(&up.http, "before", CLIENTS);
    wait_until_kept(&watcher, head(&home));
    let mut subscriber = Subscriber::start(&home, &server);
    subscriber.prints(head(&home));
    server.kill();
    server.with_store(None);
    server.again();
    load(&up.http, "after", CLIENTS);
    subscriber.prints(head(&home));
    up.terminate();
}
