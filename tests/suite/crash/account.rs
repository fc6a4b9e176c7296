//! What must be true of a journal when nothing is under way any more, whatever happened before.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
};

use ai_factory_schemas::{
    envelope::Recorded,
    event::Event,
    id::StreamId,
    run::{RunEvent, RunFinished},
    session::{SessionConcluded, SessionEvent, SessionOpened, StepDispatched},
};

use crate::support::process::TestHome;

/// Before each mark in a program's text and in the file of marks.
pub const MARK: &str = "mark-";

/// A session, as its stream tells.
#[derive(Default)]
pub struct Session {
    pub opened: Option<SessionOpened>,
    pub concluded: Option<SessionConcluded>,
    /// The attempts of each step, in order.
    attempts: BTreeMap<u32, Vec<u32>>,
}

/// A run, as its stream tells.
#[derive(Default)]
struct Run {
    code: String,
    attempts: Vec<u32>,
    finished: Option<RunFinished>,
    is_over: bool,
}

/// All sessions and runs of a place.
pub struct Account {
    pub sessions: HashMap<StreamId, Session>,
    runs: HashMap<StreamId, Run>,
}

impl Account {
    /// Reads the journal. What no stream may ever do fails here.
    pub fn of(home: &TestHome) -> Self {
        let mut account = Self { sessions: HashMap::new(), runs: HashMap::new() };
        let mut versions: HashMap<StreamId, u64> = HashMap::new();
        for (position, recorded) in (1..).zip(home.events()) {
            assert_eq!(recorded.position, position, "I-6: positions have no gaps");
            let version = versions.entry(recorded.stream).or_default();
            *version += 1;
            assert_eq!(recorded.version, *version, "I-6: {:?}", recorded.stream);
            account.note(recorded);
        }
        account
    }

    fn note(&mut self, recorded: Recorded) {
        let stream = recorded.stream;
        match recorded.event {
            Event::Session(event) => {
                let session = self.sessions.entry(stream).or_default();
                assert!(session.concluded.is_none(), "{event:?} after the end of {stream:?}");
                match event {
                    SessionEvent::Opened(opened) => session.opened = Some(opened),
                    SessionEvent::StepDispatched(StepDispatched { step, attempt, .. }) => {
                        session.attempts.entry(step).or_default().push(attempt);
                    }
                    SessionEvent::Concluded(concluded) => session.concluded = Some(concluded),
                    _ => {}
                }
            }
            Event::Run(event) => {
                let run = self.runs.entry(stream).or_default();
                assert!(!run.is_over, "{event:?} after the end of {stream:?}");
                match event {
                    RunEvent::Requested(requested) => run.code = requested.code,
                    RunEvent::Dispatched(dispatched) => run.attempts.push(dispatched.attempt),
                    RunEvent::Finished(finished) => {
                        run.finished = Some(finished);
                        run.is_over = true;
                    }
                    RunEvent::Abandoned(_) => run.is_over = true,
                }
            }
            Event::Plan(_) | Event::Memory(_) | Event::Goal(_) | Event::Call(_) => {}
        }
    }

    /// Every session and every run has its end, and attempts count from 1 without a gap.
    pub fn assert_all_is_over(&self) {
        let gapless = |attempts: &[u32]| attempts.iter().zip(1..).all(|(found, n)| *found == n);
        for (id, session) in &self.sessions {
            assert!(session.opened.is_some(), "{id:?} has no beginning");
            assert!(session.concluded.is_some(), "{id:?} was never finished");
            assert!(session.attempts.values().all(|it| gapless(it)), "{:?}", session.attempts);
        }
        for (id, run) in &self.runs {
            assert!(run.is_over, "run {id:?} was never finished");
            assert!(gapless(&run.attempts), "run {id:?}: {:?}", run.attempts);
        }
    }

    /// Compares what programs left outside with the attempts on record: no program ran more often
    /// than that.
    pub fn assert_marks_are_on_record(&self, marks: &str) {
        let mut made: HashMap<&str, usize> = HashMap::new();
        for mark in marks.lines() {
            *made.entry(mark).or_default() += 1;
        }
        for run in self.runs.values() {
            let Some(mark) = mark_of(&run.code) else { continue };
            let times = made.remove(mark).unwrap_or_default();
            let attempts = run.attempts.len();
            assert!(times <= attempts, "{mark}: ran {times} times, {attempts} on record");
            if run.finished.as_ref().is_some_and(|finished| finished.end.exit_code == 0) {
                assert!(times > 0, "{mark}: finished, and never ran");
            }
        }
        assert!(made.is_empty(), "ran without any record: {made:?}");
    }

    /// How many attempts there were beyond the first ones.
    pub fn repetitions(&self) -> usize {
        self.runs.values().map(|run| run.attempts.len().saturating_sub(1)).sum()
    }
}

/// The mark that a program leaves, if it leaves one.
fn mark_of(code: &str) -> Option<&str> {
    let start = code.find(MARK)?;
    let rest = &code[start..];
    Some(&rest[..rest.find('\\').unwrap_or(rest.len())])
}

/// What programs left outside so far.
pub fn marks(home: &TestHome) -> String {
    fs::read_to_string(home.path().join("marks")).unwrap_or_default()
}
