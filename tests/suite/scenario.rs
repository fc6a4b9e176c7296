//! Whole stories through the real program: a goal goes in, its session comes out and can be told
//! afterwards.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::program;

const FIBONACCI: &str = "Compute the 20th Fibonacci number:\n```python\n\
    a, b = 0, 1\nfor _ in range(20):\n    a, b = b, a + b\nprint(a)\n```\n";
const FAILING: &str = "Fail:\n```python\nraise SystemExit(3)\n```\n";
const SLOW: &str =
    "Wait:\n```python\nimport time\nprint('begun', flush=True)\ntime.sleep(60)\n```\n";

struct TestDir(TempDir);

impl TestDir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(self.0.path());
        command.args(arguments);
        command
    }

    fn ran(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it, expects this exit code, answers what it printed.
    fn printed(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.ran(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        serde_json::from_str(&self.printed(0, &all)).unwrap()
    }

    fn started(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }
}

/// A process that does not outlive its test.
struct Running(Child);

impl Running {
    /// Reads standard error up to a line that contains `text`.
    fn wait_for(&mut self, text: &str) -> BufReader<std::process::ChildStderr> {
        let mut lines = BufReader::new(self.0.stderr.take().unwrap());
        let mut seen = String::new();
        loop {
            let before = seen.len();
            assert!(lines.read_line(&mut seen).unwrap() > 0, "`{text}` was never said:\n{seen}");
            if seen[before..].contains(text) {
                return lines;
            }
        }
    }

    fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    fn ended(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_goal_with_code_prints_what_the_code_prints() {
    let dir = TestDir::new();
    let output = dir.ran(&["run", FIBONACCI]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("6765"));
    assert!(said.contains("begins") && said.contains("completed: success"), "{said}");
}

#[test]
fn quiet_leaves_results_only() {
    let output = TestDir::new().ran(&["run", FIBONACCI, "--quiet"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(String::from_utf8_lossy(&output.stdout).contains("6765"));
}

#[test]
fn a_failing_goal_is_exit_code_1_and_says_how_to_learn_more() {
    let output = TestDir::new().ran(&["run", FAILING]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ai-factory show "));
}

#[test]
fn several_goals_are_several_sessions_with_a_heading_each() {
    let dir = TestDir::new();
    let printed = dir.printed(1, &["run", FIBONACCI, FAILING]);
    assert_eq!(printed.lines().filter(|line| line.starts_with("== [")).count(), 2, "{printed}");
    assert_eq!(dir.json(&["sessions"]).as_array().unwrap().len(), 2);
}

#[test]
fn goals_of_a_file_and_of_standard_input_are_run() {
    let dir = TestDir::new();
    let goal = serde_json::json!({ "goal": FIBONACCI, "task_type": "coding" });
    fs::write(dir.0.path().join("goals"), format!("{goal}\n\njust words\n")).unwrap();
    let printed = dir.printed(0, &["run", "--file", "goals", "--json"]);
    let answers: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().any(|a| a["result"].as_str().unwrap().contains("6765")));

    let mut child = dir
        .command(&["run", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(FIBONACCI.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("6765"));
}

#[test]
fn the_same_key_takes_effect_once() {
    let dir = TestDir::new();
    let first = dir.json(&["run", FIBONACCI, "--key", "k1"]);
    let second = dir.json(&["run", FIBONACCI, "--key", "k1"]);
    assert_eq!(first["session_id"], second["session_id"]);
    assert_eq!(dir.json(&["sessions"]).as_array().unwrap().len(), 1);
    assert_eq!(dir.ran(&["run", FAILING, "--key", "k1"]).status.code(), Some(2));
}

#[test]
fn a_session_is_told_after_its_process_is_gone() {
    let dir = TestDir::new();
    let answer = dir.json(&["run", FIBONACCI]);
    let id = answer["session_id"].as_str().unwrap();
    let request = answer["request_id"].as_str().unwrap();
    for name in [id, &id[..30], request] {
        let told = dir.printed(0, &["show", name]);
        assert!(told.contains(id) && told.contains("6765") && told.contains("success"), "{told}");
    }
    let story = dir.json(&["show", id]);
    assert_eq!(story["result"], answer["result"]);
    assert!(story["timeline"].as_array().unwrap().iter().any(|e| e["event"] == "run.finished"));
    assert_eq!(dir.ran(&["show", "nothing-like-it"]).status.code(), Some(2));
}

#[test]
fn recorded_events_are_printed_as_they_were_recorded() {
    let dir = TestDir::new();
    dir.printed(0, &["run", FIBONACCI]);
    let all = dir.printed(0, &["tail", "--from", "1", "--json"]);
    let positions: Vec<u64> = all
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].as_u64().unwrap())
        .collect();
    assert_eq!(positions, (1..=positions.len() as u64).collect::<Vec<_>>());
    let now = dir.printed(0, &["tail", "--from", "2020-01-01", "--json"]);
    assert_eq!(now, all);
    assert_eq!(dir.printed(0, &["tail", "--from", "2999-01-01"]), "");
    assert_eq!(
        dir.printed(0, &["tail", "--type", "session.opened"]),
        dir.printed(0, &["tail", "session.*.opened"])
    );
    let opened = dir.printed(0, &["tail", "session.*.opened"]);
    assert_eq!(opened.lines().count(), 1, "{opened}");
    assert_eq!(dir.printed(0, &["tail", "-n", "2"]).lines().count(), 2);

    let head = dir.printed(0, &["head"]);
    assert!(head.starts_with(&format!("{}:", positions.len())));
    dir.printed(0, &["verify", "--head", head.trim()]);
}

#[test]
fn following_ends_quietly_when_its_reader_goes() {
    let dir = TestDir::new();
    dir.printed(0, &["run", FIBONACCI]);
    let mut tail = dir.started(&["tail", "--follow"]);
    let mut first = String::new();
    BufReader::new(tail.0.stdout.take().unwrap()).read_line(&mut first).unwrap();
    // The reader was dropped with the statement above: the pipe is closed now.
    assert!(!first.is_empty());
    assert_eq!(tail.ended(), Some(0));
    let mut said = String::new();
    tail.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn a_note_is_found_again() {
    let dir = TestDir::new();
    let id = dir.printed(0, &["remember", "the kettle is blue", "--tag", "kitchen"]);
    let found = dir.json(&["search", "kettle"]);
    assert!(found["results"][0]["text"].as_str().unwrap().contains("kettle"), "{id}: {found}");
    let like_it = dir.json(&["search", "--similar", id.trim()]);
    assert_eq!(like_it["results"], serde_json::json!([]), "there is no other");
}

#[test]
fn a_note_that_is_forgotten_is_found_no_more() {
    let dir = TestDir::new();
    let id = dir.printed(0, &["remember", "the kettle is blue"]);
    let id = id.trim();
    assert_eq!(dir.json(&["forget", id])["id"], *id);
    for rebuilt in [false, true] {
        if rebuilt {
            dir.printed(0, &["rebuild"]);
        }
        assert_eq!(dir.json(&["search", "kettle"])["results"], serde_json::json!([]));
        dir.printed(2, &["forget", id]);
        dir.printed(2, &["search", "--similar", id]);
    }
    dir.printed(2, &["forget", "no id"]);
    // The journal says both.
    let told = dir.printed(0, &["tail", "memory.>", "-n", "5"]);
    assert!(told.contains("the kettle is blue") && told.contains("forgot"), "{told}");
}

#[test]
fn a_file_of_notes_is_kept_but_for_the_lines_that_are_none() {
    let dir = TestDir::new();
    let path = dir.0.path().join("notes.jsonl");
    let lines: Vec<String> =
        (0..700).map(|n| format!("{{\"text\": \"the kettle of room {n} is blue\"}}")).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let file = path.to_str().unwrap();
    assert_eq!(dir.json(&["remember", "--jsonl", file, "--tag", "kettle"])["remembered"], 700);
    for room in [0, 255, 256, 699] {
        let text = format!("the kettle of room {room} is blue");
        let found = dir.json(&["search", &text, "--tag", "kettle"]);
        assert_eq!(found["results"][0]["text"], *text);
        assert_eq!(found["results"][0]["distance"], 0.0);
    }
    let lines = b"{\"text\": \"the saucer\"}\n\n{\"txt\": 1}\n{\"text\": \" \"}\n\xff\n\
        {\"text\": \"the spoon\"}\n{";
    std::fs::write(&path, lines).unwrap();
    let refused = dir.ran(&["remember", "--jsonl", file]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    for told in ["line 3: ", "line 4: ", "line 5: ", "line 7: ", "2 notes are kept"] {
        assert!(said.contains(told), "{told}: {said}");
    }
    for kept in ["the saucer", "the spoon"] {
        assert_eq!(dir.json(&["search", kept])["results"][0]["text"], *kept);
    }
    // Each line is told to programs as well, and where all are wrong too.
    std::fs::write(&path, "{\"text\": \" \"}\n{\"text\": \"x\", \"tags\": [\"\"]}\n").unwrap();
    let refused = dir.ran(&["remember", "--jsonl", file, "--json"]);
    let told: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((refused.status.code(), &told["remembered"]), (Some(2), &0.into()), "{told}");
    assert_eq!((&told["refused"][0]["line"], &told["refused"][1]["line"]), (&1.into(), &2.into()));
    assert!(told["refused"][1]["reason"].as_str().unwrap().contains("tag"), "{told}");
}

#[test]
fn a_session_is_shown_by_its_id_its_request_its_key_and_the_beginning_of_either_id() {
    let dir = TestDir::new();
    let first = dir.json(&["run", "Greet", "--key", "order 7"]);
    let second = dir.json(&["run", "Part"]);
    let id = |row: &Value| row["session_id"].as_str().unwrap().to_owned();
    let request = first["request_id"].as_str().unwrap();
    for name in
        [&*id(&first), &id(&first).to_uppercase(), request, "order 7", &format!(" {request} ")]
    {
        assert_eq!(dir.json(&["show", name])["goal"], "Greet", "{name}");
    }
    for (command, expected) in [
        (&["sessions", "--request", request][..], &[&first][..]),
        (&["sessions", "--key", "order 7"], &[&first]),
        (&["sessions", "--key", "order 7", "--request", request], &[&first]),
        (&["sessions"], &[&second, &first]),
        (&["sessions", "--key", "order 8"], &[]),
        (&["sessions", "--request", "order"], &[]),
        (&["sessions", "--key", "order 7", "--request", "other"], &[]),
    ] {
        let rows = dir.json(command);
        let rows: Vec<String> = rows.as_array().unwrap().iter().map(id).collect();
        assert_eq!(rows, expected.iter().map(|row| id(row)).collect::<Vec<_>>(), "{command:?}");
    }
    for nobody in ["order 8", "order", "ä", "0000", " "] {
        let said = dir.ran(&["show", nobody]);
        assert_eq!(said.status.code(), Some(2), "{nobody}");
    }
    let refused = dir.ran(&["show", "0"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("2 sessions begin with `0`"));
    assert_eq!(dir.ran(&["sessions", "--request", "a b"]).status.code(), Some(2));
    for command in [&["cancel", "order 7"][..], &["cancel", request]] {
        let said = String::from_utf8(dir.ran(command).stderr).unwrap();
        assert!(said.contains(&id(&first)) && said.contains("over already"), "{said}");
    }
}

#[test]
fn reading_commands_work_beside_a_run_and_ctrl_c_cancels_it() {
    let dir = TestDir::new();
    let mut run = dir.started(&["run", SLOW]);
    let rest = run.wait_for("begins");
    let rows = dir.json(&["sessions"]);
    assert_eq!(rows[0]["status"], "running", "{rows}");
    let id = rows[0]["session_id"].as_str().unwrap().to_owned();
    dir.printed(0, &["show", &id]);

    let refused = dir.ran(&["cancel", &id]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Ctrl-C"));

    run.interrupt();
    assert_eq!(run.ended(), Some(130));
    drop(rest);
    assert_eq!(dir.json(&["sessions"])[0]["end"], "cancelled");
    assert_eq!(dir.ran(&["cancel", &id]).status.code(), Some(1));
}

#[test]
fn what_a_kill_leaves_unfinished_is_resumed() {
    let dir = TestDir::new();
    let mut run = dir.started(&["run", SLOW, "--set", "run_wall_ms_max=60000"]);
    let rest = run.wait_for("begins");
    run.0.kill().unwrap();
    run.ended();
    drop(rest);
    // The repeated step ends at the wall limit, which is short now.
    let printed = dir.printed(1, &["resume", "--set", "run_wall_ms_max=300"]);
    assert!(printed.contains("error"), "{printed}");
    assert_eq!(dir.printed(0, &["resume"]), "");
}
