//! The program from outside, as far as no journal is needed: help, settings, exit codes, colours,
//! pipes.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// Names the program under test where it lies elsewhere than where it was built.
pub const PROGRAM: &str = "AI_FACTORY_TEST_PROGRAM";

/// The program in a directory of its own, with an environment that holds nothing of ours.
pub fn program(directory: &Path) -> Command {
    let built = || env!("CARGO_BIN_EXE_ai-factory").into();
    let mut command = Command::new(std::env::var_os(PROGRAM).unwrap_or_else(built));
    command.current_dir(directory).env_clear().stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn ran(directory: &TempDir, arguments: &[&str]) -> Output {
    program(directory.path()).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_shows_an_example_first_and_documents_the_exit_codes() {
    let output = ran(&directory(), &["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(text.starts_with("Examples:\n  ai-factory run "), "{text}");
    assert!(text.contains("Exit codes:") && text.contains("130"), "{text}");
    assert!(output.stderr.is_empty());
}

#[test]
fn nonsense_is_used_wrongly_and_says_so_on_standard_error() {
    let blank_goal = ["run", "  "];
    let bad_key = ["run", "goal", "--key", ""];
    let two_goals_one_key = ["run", "a", "b", "--key", "k"];
    let bad_task = ["run", "goal", "--task-type", "cooking"];
    let bad_head = ["verify", "--head", "7"];
    for arguments in [
        &["nonsense"][..],
        &["run"],
        &["--sett", "x"],
        &["sessions", "-n", "many"],
        &blank_goal,
        &bad_key,
        &two_goals_one_key,
        &bad_task,
        &bad_head,
        &["run", "--file", "absent.txt"],
        &["--set", "nonsense=1", "config"],
    ] {
        let output = ran(&directory(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(stderr(&output).starts_with("error: "), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn config_shows_values_and_their_sources() {
    let directory = directory();
    fs::write(directory.path().join("ai-factory.toml"), "port = 9000\n").unwrap();
    fs::write(directory.path().join(".env"), "AI_FACTORY_NODE=east\nSECRET=s3cret\n").unwrap();
    let output = program(directory.path())
        .args(["config", "--json", "--set", "runs_max=3", "--data-dir", "d"])
        .env("AI_FACTORY_HOST", "::1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let shown = |name: &str| {
        let key = all.iter().find(|key| key["key"] == name).unwrap();
        (key["value"].clone(), key["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(shown("port"), (9000.into(), "ai-factory.toml".to_owned()));
    assert_eq!(shown("node"), ("east".into(), ".env".to_owned()));
    assert_eq!(shown("host"), ("::1".into(), "the environment".to_owned()));
    assert_eq!(shown("runs_max"), (3.into(), "--set".to_owned()));
    assert_eq!(shown("data_dir"), ("d".into(), "--data-dir".to_owned()));
    assert_eq!(shown("log_level"), ("INFO".into(), "default".to_owned()));
    assert!(!stdout(&output).contains("s3cret"));
}

#[test]
fn an_unknown_setting_names_the_nearest_known_one() {
    let output = program(directory().path())
        .arg("config")
        .env("AI_FACTORY_LOGLEVEL", "INFO")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`AI_FACTORY_LOG_LEVEL`"), "{}", stderr(&output));
}

#[test]
fn completions_work_whatever_the_settings_say() {
    let directory = directory();
    fs::write(directory.path().join("ai-factory.toml"), "broken").unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = ran(&directory, &["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("ai-factory"), "{shell}");
    }
}

#[test]
fn a_pipe_gets_no_colours_unless_they_are_asked_for() {
    let directory = directory();
    assert!(!stdout(&ran(&directory, &["config"])).contains('\u{1b}'));
    assert!(stdout(&ran(&directory, &["config", "--color", "always"])).contains('\u{1b}'));
    let output = program(directory.path()).arg("config").env("NO_COLOR", "1").output().unwrap();
    assert!(!stdout(&output).contains('\u{1b}'));
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    for arguments in [&["config"][..], &["completions", "bash"], &["settings-page"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let directory = directory();
        let output = program(directory.path()).args(arguments).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
}

#[test]
fn reading_commands_leave_no_trace() {
    let directory = directory();
    for arguments in
        [&["sessions"][..], &["tail"], &["head"], &["verify"], &["doctor"], &["config"]]
    {
        ran(&directory, arguments);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{arguments:?}");
    }
}

#[test]
fn where_there_is_no_journal_a_command_that_needs_one_says_so_and_makes_nothing() {
    const ID: &str = "019a0000-0000-7000-8000-000000000002";
    let directory = directory();
    fs::create_dir(directory.path().join("empty")).unwrap();
    fs::create_dir(directory.path().join("other")).unwrap();
    fs::write(directory.path().join("other/diary"), "mine").unwrap();
    for arguments in [
        &["rebuild"][..],
        &["verify"],
        &["head"],
        &["tail"],
        &["tail", "--from", "1", "--follow"],
        &["sessions"],
        &["show", ID],
        &["search", "a text"],
        &["logs"],
        &["runs"],
        &["runs", "--search", "a text"],
        &["snapshot"],
        &["resume"],
        &["resolve", ID, "skip"],
        &["cancel", ID],
        &["forget", ID],
    ] {
        for (place, entries) in [("mistyped", None), ("empty", Some(0)), ("other", Some(1))] {
            let output = ran(&directory, &[&["--data-dir", place][..], arguments].concat());
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{arguments:?} {place}: {said}");
            assert!(
                said.contains(&format!("there is no journal in {place}"))
                    && said.contains("--data-dir")
                    && said.contains("ai-factory run GOAL"),
                "{arguments:?} {place}: {said}"
            );
            let left = fs::read_dir(directory.path().join(place)).ok().map(Iterator::count);
            assert_eq!(left, entries, "{arguments:?} {place}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "{arguments:?}");
    }
    for place in ["mistyped", "empty", "other"] {
        let output = ran(&directory, &["--data-dir", place, "doctor", "--json"]);
        let found: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let journal = found.iter().find(|finding| finding["what"] == "journal").unwrap();
        assert_eq!((&journal["state"], &journal["found"]), (&"ok".into(), &"none yet".into()));
    }
}

#[test]
fn doctor_tells_of_a_data_directory_that_cannot_be_one() {
    let directory = directory();
    fs::write(directory.path().join("data"), "a file").unwrap();
    let output = ran(&directory, &["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |what: &str| found.iter().find(|finding| finding["what"] == what).unwrap();
    assert_eq!(of("data directory")["state"], "failed");
    assert!(of("isolation")["found"].as_str().unwrap().contains("level `full`"));
}

#[test]
fn doctor_looks_at_nats_and_misses_nothing_that_is_not_wanted() {
    let directory = directory();
    let found = |arguments: &[&str], path: &str| {
        let all = [&["doctor", "--json"][..], arguments].concat();
        let output = program(directory.path()).args(all).env("PATH", path).output().unwrap();
        let found: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let of = |what: &str| {
            let finding = found.iter().find(|finding| finding["what"] == what).unwrap();
            let text = |member: &str| finding[member].as_str().unwrap().to_owned();
            (text("state"), text("found"))
        };
        (of("nats-server"), of("nats"))
    };
    let ((server, said), (nats, _)) = found(&[], "/nowhere");
    assert_eq!((&*server, &*nats), ("ok", "ok"), "{said}");
    assert!(said.contains("--start-nats"), "{said}");
    let ((server, said), _) = found(&["--set", "nats_server=/nowhere/nats-server"], "/nowhere");
    assert!(server == "failed" && said.contains("install"), "{server} {said}");

    let path = std::env::var("PATH").unwrap_or_default();
    let running = crate::support::nats::TestServer::start();
    let ((server, version), (nats, said)) =
        found(&["--set", &format!("nats={}", running.url())], &path);
    assert!(server == "ok" && version.contains("nats-server: v"), "{server} {version}");
    assert!(nats == "ok" && said.contains("with JetStream"), "{nats} {said}");
    let guarded = crate::support::nats::TestServer::guarded();
    for (url, state) in [
        (guarded.url(), "failed"),
        (guarded.url().replace("nats://", "nats://user:secret@"), "ok"),
        (format!("nats://{}", crate::support::nats::free_address()), "warning"),
        ("foo".to_owned(), "failed"),
    ] {
        let (_, (nats, said)) = found(&["--set", &format!("nats={url}")], &path);
        assert_eq!(nats, state, "{url}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn the_page_of_settings_is_fresh() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
    let committed = fs::read_to_string(page).unwrap_or_default();
    assert!(
        committed == ai_factory::config::reference_page(),
        "docs/settings.md is out of date: `cargo run -- settings-page > docs/settings.md`"
    );
}
