//! SIGKILL in the middle of many sessions, again and again, at moments that a seed chooses.
//!
//! Whatever another process saw before the kill counts as acknowledged: records that a reader read,
//! answers that were printed. `AI_FACTORY_TEST_SEED=N` adds N to the seeds; a failure prints what
//! it needs to happen again.

#![expect(clippy::print_stdout, reason = "what a failure needs to happen again")]

use std::{fs, os::unix::process::ExitStatusExt as _};

use ai_factory::journal::JournalReader;
use ai_factory_ports::journal::RawRecord;
use ai_factory_schemas::session::{SessionEnd, SessionStatus};
use serde_json::{Value, json};

use super::account::{Account, MARK, marks};
use crate::support::process::{Chance, Ended, Running, TestHome};

/// 5 tests of this many are the 50 kills. A round whose goals end before their kill does not count.
const KILLS: u64 = 10;
/// Somewhat fewer events than the goals of a round leave, and fewer lines than are said of them.
const EVENTS: u64 = 70;
const LINES: u64 = 36;
/// Patient limits, for a machine that is busy; small segments, so that some kills hit a turn-over.
const SETTINGS: [&str; 4] = ["--set", "run_wall_ms_max=60000", "--set", "segment_events_max=64"];

/// When a process is killed.
#[derive(Debug)]
enum Moment {
    /// As soon as it has said this many lines.
    Lines(u64),
    /// As soon as a reader sees this many more records.
    Records(u64),
}

impl Moment {
    fn choose(chance: &mut Chance) -> Self {
        if chance.coin() {
            Self::Lines(chance.below(LINES))
        } else {
            Self::Records(chance.below(EVENTS))
        }
    }

    /// Waits for it, or for the end of the process if that comes first.
    fn wait(&self, home: &TestHome, running: &mut Running, before: u64) {
        match self {
            Self::Lines(count) => {
                for _ in 0..*count {
                    if running.line().is_none() {
                        break;
                    }
                }
            }
            Self::Records(count) => {
                let mut reader = None;
                while !running.has_ended() {
                    reader = reader.or_else(|| JournalReader::open(home.data()).ok());
                    let page = reader.as_ref().map(|it| it.read_sync(before + count, 1).unwrap());
                    if page.is_some_and(|records| *count == 0 || !records.is_empty()) {
                        break;
                    }
                    std::thread::yield_now();
                }
            }
        }
    }
}

/// A goal whose steps leave a mark each, then do what `body` says.
fn marking(home: &TestHome, name: &str, bodies: &[&str]) -> String {
    let marks = home.path().join("marks");
    let marks = marks.to_str().unwrap();
    let step = |(step, body): (usize, &&str)| {
        format!(
            "```python\nwith open({marks:?}, 'a') as marks:\n    \
             marks.write('{MARK}{name}-{step}\\n')\n{body}\n```\n"
        )
    };
    let steps: String = bodies.iter().enumerate().map(step).collect();
    format!("Mark {name}:\n{steps}")
}

/// The goals of a round, and how each ends however often its process is killed.
fn goals(home: &TestHome, round: u64) -> Vec<(String, SessionStatus)> {
    let name = |goal: u64| format!("{round}-{goal}");
    let marking = |goal: u64, bodies: &[&str]| marking(home, &name(goal), bodies);
    let short = "import time\ntime.sleep(0.05)";
    let child = "import subprocess, time\n\
                 subprocess.Popen(['sleep', '1000'], start_new_session=True)\ntime.sleep(0.05)";
    vec![
        (marking(0, &["print('done')"]), SessionStatus::Success),
        (marking(1, &[short]), SessionStatus::Success),
        (marking(2, &["raise SystemExit(3)"]), SessionStatus::Error),
        (marking(3, &["print(1)", "print(2)"]), SessionStatus::Success),
        (marking(4, &[child]), SessionStatus::Success),
        (marking(5, &["print(1)", "raise SystemExit(1)"]), SessionStatus::Partial),
        (format!("Think about {}", name(6)), SessionStatus::Success),
        (format!("Remember {}", name(7)), SessionStatus::Success),
    ]
}

/// The records there were are there still, byte for byte.
fn assert_kept(seen: &[RawRecord], now: &[RawRecord]) {
    assert!(now.len() >= seen.len(), "{} records of {} are left", now.len(), seen.len());
    for (was, is) in seen.iter().zip(now) {
        assert_eq!((was.position, &was.bytes), (is.position, &is.bytes));
    }
}

/// `verify` finds the journal sound and the last of `seen` at its place in the chain.
fn assert_sound(home: &TestHome, seen: &[RawRecord]) {
    let Some(last) = seen.last() else { return };
    let envelope: Value = serde_json::from_slice(&last.bytes).unwrap();
    let head = format!("{}:{}", last.position, envelope["chainhash"].as_str().unwrap());
    home.printed(0, &["verify", "--head", &head]);
}

/// Lets a command begin, kills it at the moment, answers what anybody had seen until then.
fn killed(home: &TestHome, arguments: &[&str], moment: &Moment) -> (Vec<RawRecord>, Ended) {
    let before = home.records().len() as u64;
    let mut arguments = arguments.to_vec();
    arguments.extend(SETTINGS);
    let mut running = home.started(&arguments);
    moment.wait(home, &mut running, before);
    let journal = JournalReader::open(home.data());
    let seen = journal.map_or_else(|_| Vec::new(), |it| it.read_sync(0, usize::MAX).unwrap());
    let ended = running.killed();
    (seen, ended)
}

/// One run of goals, killed; answers whether the kill came before its end.
fn round(home: &TestHome, round: u64, chance: &mut Chance) -> bool {
    let goals = goals(home, round);
    let lines = goals.iter().zip(0..).map(|((goal, _), number)| {
        json!({ "goal": goal, "key": format!("{round}-{number}") }).to_string() + "\n"
    });
    fs::write(home.path().join("goals"), lines.collect::<String>()).unwrap();
    let run = ["run", "--file", "goals", "--json"];

    let moment = Moment::choose(chance);
    let (mut seen, ended) = killed(home, &run, &moment);
    println!("round {round}: {moment:?}, {} records, {}", seen.len(), ended.status);
    if chance.coin() {
        home.assert_nothing_is_left("after the kill");
    }
    assert_sound(home, &seen);
    assert_kept(&seen, &home.records());

    let resume = ["resume", SETTINGS[0], SETTINGS[1], SETTINGS[2], SETTINGS[3]];
    if ai_factory::journal::require(home.data()).is_ok() {
        if chance.below(3) == 0 {
            let moment = Moment::choose(chance);
            let (more, ended) = killed(home, &["resume"], &moment);
            println!("  resume: {moment:?}, {} records, {}", more.len(), ended.status);
            assert_kept(&seen, &more);
            seen = more;
        }
        let resumed = home.ran(&resume);
        let said = String::from_utf8_lossy(&resumed.stderr);
        assert!(matches!(resumed.status.code(), Some(0 | 1)), "{}: {said}", resumed.status);
        Account::of(home).assert_all_is_over();
    }
    // Whoever was not answered asks again: the keys make that safe (I-5).
    if chance.coin() {
        let again = home.started(&[&run[..], &SETTINGS[..]].concat()).ended();
        assert_eq!(again.status.code(), Some(1), "{}", again.said);
        assert_eq!(again.answers().len(), goals.len());
        let account = Account::of(home);
        for (goal, _) in &goals {
            let opened = account.sessions.values().filter_map(|session| session.opened.as_ref());
            assert_eq!(opened.filter(|it| it.goal == *goal).count(), 1, "{goal}");
        }
    }

    assert_sound(home, &seen);
    assert_kept(&seen, &home.records());
    let account = Account::of(home);
    account.assert_all_is_over();
    account.assert_marks_are_on_record(&marks(home));
    for session in account.sessions.values() {
        let (opened, concluded) =
            (session.opened.as_ref().unwrap(), session.concluded.as_ref().unwrap());
        if let Some((goal, status)) = goals.iter().find(|(goal, _)| *goal == opened.goal) {
            let end = (concluded.end, concluded.status);
            assert_eq!(end, (SessionEnd::Completed, *status), "{goal}: {:?}", concluded.reason);
        }
    }
    for answer in ended.answers() {
        let id = format!("session-{}", answer["session_id"].as_str().unwrap()).parse().unwrap();
        let concluded = account.sessions[&id].concluded.as_ref().unwrap();
        assert_eq!(answer["status"], concluded.status.as_str(), "an answer was taken back");
    }
    let rows = home.json(&["sessions", "-n", "200"]);
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), account.sessions.len());
    assert!(rows.iter().all(|row| !row["end"].is_null()), "{rows:?}");
    home.assert_nothing_is_left("in the end");
    ended.status.signal().is_some()
}

/// Says what has to be set to see it again.
struct SeedReport(u64);

impl Drop for SeedReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the seed of this test is {}", self.0);
        }
    }
}

fn rounds(seed: u64) {
    let added = std::env::var("AI_FACTORY_TEST_SEED").map_or(0, |it| it.parse().unwrap());
    let seed = seed + added;
    let _seed_report = SeedReport(seed);
    let mut chance = Chance::new(seed);
    let home = TestHome::new();
    let (mut kills, mut number) = (0, 0);
    while kills < KILLS {
        kills += u64::from(round(&home, number, &mut chance));
        number += 1;
        assert!(number < 3 * KILLS, "the moments come too late: {kills} kills in {number} rounds");
    }
    let repetitions = Account::of(&home).repetitions();
    println!("{kills} kills in {number} rounds, {repetitions} runs were repeated");
}

#[test]
fn killed_at_any_moment_nothing_is_lost_or_done_twice_in_secret_1() {
    rounds(1);
}

#[test]
fn killed_at_any_moment_nothing_is_lost_or_done_twice_in_secret_2() {
    rounds(2);
}

#[test]
fn killed_at_any_moment_nothing_is_lost_or_done_twice_in_secret_3() {
    rounds(3);
}

#[test]
fn killed_at_any_moment_nothing_is_lost_or_done_twice_in_secret_4() {
    rounds(4);
}

#[test]
fn killed_at_any_moment_nothing_is_lost_or_done_twice_in_secret_5() {
    rounds(5);
}
