//! A terminal that goes away, and `nohup`.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::GOAL;
use crate::{
    ingress::Up,
    support::process::{Bell, Running, TestHome},
};

const PATIENT: [&str; 2] = ["--set", "run_wall_ms_max=60000"];

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// How often the newest session was taken up after a crash, as its events tell; nothing where it
/// never was taken up.
fn resumed(place: &TestHome) -> Vec<u64> {
    let told = place.printed(0, &["tail", "session.*.resumed", "--from", "1", "--json"]).0;
    let count = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["data"]["count"].as_u64().unwrap()
    };
    told.lines().map(count).collect()
}

#[test]
fn a_terminal_that_goes_away_ends_a_run_in_order() {
    for signal in [Signal::HUP, Signal::TERM] {
        let place = TestHome::new();
        let bell = Bell::new(&place);
        let run = place.started(&[&["run", &bell.goal()][..], &PATIENT].concat());
        let ring = bell.rung();
        send(run.pid(), signal);
        let ended = run.ended();
        assert_eq!(ended.status.code(), Some(143), "{}", ended.said);
        assert!(ended.said.contains("ai-factory resume"), "{}", ended.said);
        ring.assert_gone();

        // `resume` is ended in the same way, and then left alone.
        for is_last in [false, true] {
            let resuming = place.started(&[&["resume"][..], &PATIENT].concat());
            let ring = bell.rung();
            if is_last {
                drop(ring);
                assert_eq!(resuming.ended().status.code(), Some(0));
            } else {
                send(resuming.pid(), signal);
                assert_eq!(resuming.ended().status.code(), Some(143));
                ring.assert_gone();
            }
        }
        assert_eq!(resumed(&place), [0, 0], "no end in order counts as a crash");
        assert_eq!(place.json(&["sessions"])[0]["status"], "success");
        place.assert_nothing_is_left("after a hang-up");
    }
}

#[test]
fn a_terminal_that_goes_away_ends_a_serving_factory_in_order() {
    let place = TestHome::new();
    let bell = Bell::new(&place);
    let up = Up::start(&place, &["--set", "shutdown_ms_max=500"]);
    up.http.post("/supervisor/submit", "k", &json!({ "goal": bell.goal() })).unwrap();
    let ring = bell.rung();
    up.ends_by(Signal::HUP);
    ring.assert_gone();
    let resuming = place.started(&[&["resume"][..], &PATIENT].concat());
    drop(bell.rung());
    assert_eq!(resuming.ended().status.code(), Some(0));
    assert_eq!(resumed(&place), [0]);
}

#[test]
fn who_follows_events_is_ended_in_order() {
    let place = TestHome::new();
    place.printed(0, &["run", "Greet"]);
    for signal in [Signal::HUP, Signal::TERM] {
        let mut command = place.command(&["tail", "--follow", "-n", "1"]);
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut child = command.stdout(writer).stderr(std::process::Stdio::null()).spawn().unwrap();
        drop(command);
        std::io::Read::read_exact(&mut reader, &mut [0]).unwrap();
        send(child.id(), signal);
        // Listening begins before the first line is printed.
        assert_eq!(child.wait().unwrap().code(), Some(143));
    }
}

/// The program as `nohup` starts it: deaf to the end of its terminal.
fn deaf(place: &TestHome, arguments: &[&str]) -> Running {
    let plain = place.command(arguments);
    let starter = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"].map(str::to_owned);
    let mut command = crate::support::process::started_by(&starter, &plain);
    command.arg(plain.get_program()).args(plain.get_args());
    Running::start(command)
}

#[test]
fn who_was_started_deaf_to_the_end_of_its_terminal_stays_so() {
    let place = TestHome::new();
    let bell = Bell::new(&place);
    let run = deaf(&place, &[&["run", &bell.goal()][..], &PATIENT].concat());
    let ring = bell.rung();
    send(run.pid(), Signal::HUP);
    drop(ring);
    let ended = run.ended();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert_eq!(place.json(&["sessions"])[0]["status"], "success");

    let mut up = deaf(&place, &["up", "--port", "0"]);
    while !up.line().expect("it serves").starts_with("listening on") {}
    send(up.pid(), Signal::HUP);
    assert!(!up.has_ended());
    // Had the first one been heard, it would end before it hears this.
    send(up.pid(), Signal::TERM);
    assert_eq!(up.ended().status.code(), Some(0));
    place.printed(0, &["run", GOAL]);
}
