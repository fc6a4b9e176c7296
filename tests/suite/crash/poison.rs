//! A session that crashes the factory each time it is run, and the others that are there meanwhile.

use ai_factory_schemas::{event::Event, session::SessionEvent};

use crate::support::process::{Bell, TestHome};

/// How often a session is tried, unless settings say otherwise.
const TRIES: usize = 5;
/// Patient limits, for a machine that is busy.
const PATIENT: [&str; 2] = ["--set", "run_wall_ms_max=60000"];

/// The counts under which the session of this goal was taken up.
fn taken_up(home: &TestHome, goal: &str) -> Vec<u32> {
    let mut id = None;
    let mut counts = Vec::new();
    for recorded in home.events() {
        match recorded.event {
            Event::Session(SessionEvent::Opened(opened)) if opened.goal == goal => {
                id = Some(recorded.stream);
            }
            Event::Session(SessionEvent::Resumed(resumed)) if Some(recorded.stream) == id => {
                counts.push(resumed.count);
            }
            _ => {}
        }
    }
    counts
}

#[test]
fn a_goal_that_crashes_the_factory_each_time_is_given_up_after_five_tries_and_another_is_done() {
    let home = TestHome::new();
    let other_place = TestHome::new();
    let (poison, innocent) = (Bell::new(&home), Bell::new(&other_place));
    let (bad, good) = (poison.goal(), innocent.goal());
    let [first, second, resume] = [&["run", &bad][..], &["run", &good], &["resume"]]
        .map(|command| [command, &PATIENT].concat());
    let mut running = home.started(&first);
    for attempt in 1..=TRIES {
        let ring = poison.rung();
        // Under way together until both have been there at two crashes.
        let other = (2..=4).contains(&attempt).then(|| innocent.rung());
        running.killed();
        ring.assert_gone();
        if let Some(other) = other {
            other.assert_gone();
        }
        running = home.started(if attempt == 1 { &second } else { &resume });
    }
    drop(innocent.rung());
    let ended = running.ended();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
    let rows = home.json(&["sessions"]);
    let row = |goal: &str| {
        let goal = goal.trim_end();
        let rows = rows.as_array().unwrap();
        rows.iter().find(|row| row["goal"].as_str().unwrap().trim_end() == goal).unwrap().clone()
    };
    assert_eq!((&row(&bad)["end"], &row(&bad)["status"]), (&"failed".into(), &"error".into()));
    assert_eq!(row(&good)["status"], "success");
    assert_eq!(taken_up(&home, &bad), [1, 2, 3, 4]);
    assert_eq!(taken_up(&home, &good), [1, 2, 3], "not counted while it waits for its turn");
    home.assert_nothing_is_left("given up");
}

#[test]
fn a_factory_that_ends_in_order_counts_no_try() {
    let home = TestHome::new();
    let bell = Bell::new(&home);
    let goal = bell.goal();
    let once = ["--set", "session_resumes_max=1"];
    let [run, resume] =
        [&["run", &goal][..], &["resume"]].map(|command| [command, &once, &PATIENT].concat());
    let mut running = home.started(&run);
    for _ in 0..3 {
        let ring = bell.rung();
        let pid = rustix::process::Pid::from_raw(i32::try_from(running.pid()).unwrap());
        rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM).unwrap();
        let ended = running.ended();
        assert_eq!(ended.status.code(), Some(143), "{}", ended.said);
        ring.assert_gone();
        running = home.started(&resume);
    }
    // Looking after something else in between does not make a crash an end in order.
    let ring = bell.rung();
    running.killed();
    ring.assert_gone();
    home.printed(0, &["remember", "a note"]);
    running = home.started(&resume);
    let ring = bell.rung();
    running.killed();
    ring.assert_gone();
    home.printed(1, &resume);
    assert_eq!(taken_up(&home, &goal), [0, 0, 0, 1]);
    assert_eq!(home.json(&["sessions"])[0]["end"], "failed");
}
