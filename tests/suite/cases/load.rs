//! Many programs at once, and the end of the factory in the middle of one.

use std::{path::Path, time::Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{
    fixture::running_here,
    inside::{self, Who},
};
use crate::{cli::program, ingress::Up, support::process::PATIENCE};

/// How many are asked for at once: more than run at once, and as many as may wait.
const AT_ONCE: usize = 100;

fn up(dir: &Path, settings: &[&str]) -> Up {
    let mut command = program(dir);
    command.arg("--data-dir").arg(dir.join("data")).args(["up", "--port", "0"]);
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    Up::launch(command)
}

fn hundred_at_once(dir: &Path) {
    let up = up(dir, &["run_wall_ms_max=60000"]);
    let answers: Vec<(usize, u16, Value)> = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let http = up.http.clone();
            scope.spawn(move || {
                let asked = json!({ "code": format!("print({number} * 2)") });
                let (status, answer) = http.post_plain("/debugger/run", &asked).unwrap();
                (number, status, answer)
            })
        };
        let asked: Vec<_> = (0..AT_ONCE).map(ask).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    for (number, status, answer) in answers {
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["stdout"], format!("{}\n", number * 2), "{answer}");
        assert_eq!(answer["isolation"]["level"], "full", "{answer}");
    }
    up.terminate();
    assert!(running_here().is_empty(), "left running: {:?}", running_here());
}

#[test]
fn a_hundred_programs_at_once_each_get_their_own_answer_as_root() {
    let test =
        concat!(module_path!(), "::a_hundred_programs_at_once_each_get_their_own_answer_as_root");
    inside::run(test, Who::Root, hundred_at_once);
}

#[test]
fn a_hundred_programs_at_once_each_get_their_own_answer_as_a_user() {
    let test =
        concat!(module_path!(), "::a_hundred_programs_at_once_each_get_their_own_answer_as_a_user");
    inside::run(test, Who::User, hundred_at_once);
}

fn endless_loops_hold_nobody_up(dir: &Path) {
    let up = up(dir, &["run_wall_ms_max=300", "runs_waiting_max=100"]);
    std::thread::scope(|scope| {
        let ask = |_| {
            let http = up.http.clone();
            let asked = json!({ "code": "while True: pass" });
            scope.spawn(move || http.post_plain("/debugger/run", &asked).unwrap())
        };
        let loops: Vec<_> = (0..AT_ONCE).map(ask).collect();
        // As long as any of them runs, others are served.
        let mut served = 0;
        while !loops.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            assert_eq!(up.http.get("/healthcheck")["status"], "ok");
            served += 1;
        }
        assert!(served > loops.len(), "only {served} answers");
        for ended in loops {
            let (status, answer) = ended.join().unwrap();
            assert_eq!((status, &answer["status"]), (200, &"timeout".into()), "{answer}");
        }
    });
    up.terminate();
}

#[test]
fn a_hundred_endless_loops_hold_nobody_up() {
    let test = concat!(module_path!(), "::a_hundred_endless_loops_hold_nobody_up");
    inside::run(test, Who::User, endless_loops_hold_nobody_up);
}

fn loops_without_time(dir: &Path) {
    let up = up(dir, &["run_wall_ms_max=60000", "run_cpu_s_max=1"]);
    // One that waits for others uses none itself.
    let waits = "import os\nfor _ in range(3):\n    if os.fork() == 0:\n        while True: pass\nos.wait()";
    for code in ["while True: pass", waits] {
        let (status, answer) =
            up.http.post_plain("/debugger/run", &json!({ "code": code })).unwrap();
        assert_eq!((status, &answer["ended_by"]), (200, &"cpu".into()), "{code}: {answer}");
        assert_eq!(answer["exit_code"], 152, "{code}: {answer}");
    }
    up.terminate();
    assert!(running_here().is_empty(), "left running: {:?}", running_here());
}

#[test]
fn processor_time_is_limited_for_all_processes_of_a_run_together_as_root() {
    let test = concat!(
        module_path!(),
        "::processor_time_is_limited_for_all_processes_of_a_run_together_as_root"
    );
    inside::run(test, Who::Root, loops_without_time);
}

#[test]
fn processor_time_is_limited_for_all_processes_of_a_run_together_as_a_user() {
    let test = concat!(
        module_path!(),
        "::processor_time_is_limited_for_all_processes_of_a_run_together_as_a_user"
    );
    inside::run(test, Who::User, loops_without_time);
}

/// Waits until a question finds something.
fn awaited<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        std::thread::yield_now();
    }
}

fn killed_in_the_middle(dir: &Path) {
    let first = up(dir, &["run_wall_ms_max=60000"]);
    // The program and its daemon would run for ever.
    let code = "import subprocess\nsubprocess.Popen(['setsid','sleep','100000'])\nwhile True: pass";
    let goal = json!({ "goal": format!("Loop:\n```python\n{code}\n```") });
    let (status, accepted) = first.http.post_plain("/supervisor/submit", &goal).unwrap();
    assert_eq!(status, 202, "{accepted}");
    awaited("the daemon", || running_here().into_iter().find(|it| it.contains("sleep\u{0}100000")));
    let pid = Pid::from_raw(i32::try_from(first.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    awaited("the end of all its processes", || running_here().is_empty().then_some(()));
    drop(first);

    // Its step's end is unknown, so it is run again, and now it has less time.
    let second = up(dir, &["run_wall_ms_max=1000"]);
    let id = accepted["session_id"].as_str().unwrap();
    let session = awaited("the session's end", || {
        let row = second.http.get(&format!("/supervisor/sessions/{id}"));
        row["end"].as_str().map(|_| row.clone())
    });
    assert_eq!(session["status"], "error", "{session}");
    let timeline = session["timeline"].as_array().unwrap();
    let events: Vec<_> = timeline.iter().filter_map(|entry| entry["event"].as_str()).collect();
    assert!(events.contains(&"session.resumed"), "{events:?}");
    let rows = second.http.get("/debugger/logs");
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    second.terminate();
    assert!(running_here().is_empty(), "left running: {:?}", running_here());
}

#[test]
fn a_killed_factory_leaves_no_process_and_its_session_goes_on_as_root() {
    let test = concat!(
        module_path!(),
        "::a_killed_factory_leaves_no_process_and_its_session_goes_on_as_root"
    );
    inside::run(test, Who::Root, killed_in_the_middle);
}

#[test]
fn a_killed_factory_leaves_no_process_and_its_session_goes_on_as_a_user() {
    let test = concat!(
        module_path!(),
        "::a_killed_factory_leaves_no_process_and_its_session_goes_on_as_a_user"
    );
    inside::run(test, Who::User, killed_in_the_middle);
}
