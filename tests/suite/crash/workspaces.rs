//! Sessions with files and a check, killed while a program works on the files: what comes out is
//! what comes out undisturbed.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::mpsc,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, FileType, Mode, mknodat},
};
use serde_json::{Value, json};

use super::account::Account;
use crate::support::process::{PATIENCE, Running, TestHome};

/// Where the programs can be held, in the order in which they come there.
const GATES: [&str; 4] = ["before", "one", "two", "after"];
/// A level at which programs have a workspace, and limits for a machine that is busy.
const SETTINGS: [&str; 3] = ["sandbox=reduced", "run_wall_ms_max=60000", "session_resumes_max=10"];
/// What goes in.
const FILES: [(&str, &str); 5] =
    [("value", "1\n"), ("old", "x\n"), ("log", ""), ("pkg/kept", "k\n"), ("tests/expected", "2\n")];

/// A place with the files, and gates in a directory that programs in a jail can read.
struct Place {
    home: TestHome,
    gates: PathBuf,
}

impl Place {
    /// A program that reads a closed gate waits there.
    fn new(closed: &[&str]) -> Self {
        let home = TestHome::new();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let gates = home.path().join("node_modules");
        fs::create_dir(&gates).unwrap();
        let place = Self { home, gates };
        for gate in GATES {
            if closed.contains(&gate) {
                let path = place.gates.join(gate);
                let mode = Mode::from_raw_mode(0o666);
                mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
            } else {
                place.open(gate);
            }
        }
        for (path, content) in FILES {
            let path = place.home.path().join("top").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        place
    }

    /// Lets every program pass that comes from now on.
    fn open(&self, gate: &str) {
        let aside = self.gates.join("aside");
        fs::write(&aside, "").unwrap();
        fs::rename(&aside, self.gates.join(gate)).unwrap();
    }

    fn settings(&self) -> Vec<String> {
        let modules = format!("node_modules={}", self.gates.display());
        let all = SETTINGS.map(str::to_owned).into_iter().chain([modules]);
        all.flat_map(|setting| ["--set".to_owned(), setting]).collect()
    }

    /// The command that begins the session: its steps change, add and delete files, before their
    /// gates and behind them; the first one tampers with a protected file.
    fn run(&self) -> Vec<String> {
        let gate = |name: &str| format!("cat {}", self.gates.join(name).display());
        let first = format!(
            "echo 1 > tests/expected; echo a >> log; {}; echo b >> log; echo 2 > value; \
             mkdir new; echo hi > new/run; chmod +x new/run; rm old",
            gate("one")
        );
        let second = format!(
            "rm pkg/kept; echo c >> log; {}; echo d >> log; echo late > late; cat value",
            gate("two")
        );
        let check = format!(
            "echo x >> log; touch litter; if [ -e late ]; then {}; else {}; fi; diff value tests/expected",
            gate("after"),
            gate("before")
        );
        let goal = format!("Do it:\n```bash\n{first}\n```\nthen\n```bash\n{second}\n```\n");
        let run = ["run", &goal, "--with", "top", "--check", &check, "--protect", "tests"];
        run.map(str::to_owned).into_iter().chain(self.settings()).collect()
    }

    fn resume(&self) -> Vec<String> {
        [vec!["resume".to_owned()], self.settings()].concat()
    }

    fn started(&self, arguments: &[String]) -> Running {
        self.home.started(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Lets a command come to a closed gate, kills it there, opens the gate.
    fn killed_at(&self, gate: &str, arguments: &[String]) {
        let mut running = self.started(arguments);
        let (sender, reached) = mpsc::channel();
        let path = self.gates.join(gate);
        // Opening it for writing waits for a reader.
        std::thread::spawn(move || sender.send(File::options().write(true).open(path)));
        let held = reached.recv_timeout(PATIENCE).unwrap().unwrap();
        assert!(!running.has_ended(), "{gate}");
        running.killed();
        // An error is told once there is no reader any more.
        let mut asked = [PollFd::new(&held, PollFlags::empty())];
        let gone = poll(&mut asked, Some(&Timespec::try_from(PATIENCE).unwrap())).unwrap();
        assert_eq!(gone, 1, "{gate}: the program of a killed factory lives on");
        self.open(gate);
    }

    /// Lets a command come to its end, with success.
    fn finished(&self, arguments: &[String]) {
        let ended = self.started(arguments).ended();
        assert_eq!(ended.status.code(), Some(0), "{}{}", ended.said, ended.printed);
    }

    /// The files of the only session as `files` tells them, and what its row and its answer tell.
    fn outcome(&self) -> Value {
        let rows = self.home.json(&["sessions"]);
        assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
        let id = rows[0]["session_id"].as_str().unwrap().to_owned();
        let mut files = self.home.json(&["files", &id]);
        files.as_object_mut().unwrap().remove("session_id");
        let story = self.home.json(&["show", &id]);
        json!({
            "files": files,
            "status": rows[0]["status"],
            "end": rows[0]["end"],
            "result": story["result"],
            "changed": story["changed_files"],
            "exit_code": story["check"]["exit_code"],
        })
    }

    /// Everything is over, sound and cleared away, and `repetitions` attempts are on record.
    fn assert_settled(&self, repetitions: usize, what: &str) {
        self.home.printed(0, &["verify"]);
        let account = Account::of(&self.home);
        account.assert_all_is_over();
        assert_eq!(account.repetitions(), repetitions, "{what}");
        self.home.assert_nothing_is_left(what);
    }
}

#[test]
fn a_session_killed_in_a_step_or_a_check_has_the_files_of_one_that_was_not() {
    let place = Place::new(&[]);
    place.finished(&place.run());
    place.assert_settled(0, "undisturbed");
    let expected = place.outcome();
    let paths: Vec<_> = expected["files"]["files"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["late", "log", "new/run", "tests/expected", "value"], "{expected}");
    assert_eq!(expected["status"], "success", "{expected}");

    for gate in GATES {
        let place = Place::new(&[gate]);
        place.killed_at(gate, &place.run());
        place.finished(&place.resume());
        place.assert_settled(1, gate);
        assert_eq!(place.outcome(), expected, "killed at {gate}");
    }

    let place = Place::new(&GATES);
    for (number, gate) in GATES.iter().enumerate() {
        place.killed_at(gate, &if number == 0 { place.run() } else { place.resume() });
    }
    place.finished(&place.resume());
    place.assert_settled(GATES.len(), "killed everywhere");
    assert_eq!(place.outcome(), expected, "killed everywhere");
}
