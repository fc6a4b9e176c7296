//! Byte order marks, and other encodings, in all that the command line reads.

use std::{
    fs,
    io::Write as _,
    process::{Output, Stdio},
};

use serde_json::Value;

use super::{refused, setting};
use crate::support::process::TestHome;

const MARK: &str = "\u{feff}";
const CODE: &str = "```python\nprint(6 * 7)\n```\n";

fn utf16(text: &str) -> Vec<u8> {
    format!("{MARK}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Runs a command that reads this from standard input.
fn fed(place: &TestHome, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = place.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_mark_before_goals_in_a_file_hides_neither_them_nor_their_keys() {
    let place = TestHome::new();
    let file = place.path().join("goals.jsonl");
    let goals = format!("{MARK}{{\"goal\": \"Greet\", \"key\": \"k1\"}}\r\n{MARK}Leave\r\n");
    fs::write(&file, goals).unwrap();
    for _ in 0..2 {
        place.printed(0, &["run", "--file", file.to_str().unwrap(), "--json"]);
    }
    let rows = place.json(&["sessions"]);
    let goals: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["goal"].clone()).collect();
    assert_eq!(goals.iter().filter(|goal| **goal == "Greet").count(), 1, "{goals:?}");
    assert_eq!(goals.iter().filter(|goal| **goal == "Leave").count(), 2, "{goals:?}");

    fs::write(&file, utf16("{\"goal\": \"Greet\"}")).unwrap();
    refused(&place, &["run", "--file", file.to_str().unwrap()], &["UTF-16", "save it as UTF-8"]);
    fs::write(&file, b"fine\nM\xfcller\n").unwrap();
    refused(&place, &["run", "--file", file.to_str().unwrap()], &["line 2 is not UTF-8"]);
}

#[test]
fn a_mark_on_standard_input_or_in_an_argument_is_no_part_of_the_text() {
    let place = TestHome::new();
    let marked = format!("{MARK}{CODE}");
    let output = fed(&place, &["run", "-"], marked.as_bytes());
    assert!(String::from_utf8_lossy(&output.stdout).contains("42"), "{output:?}");
    assert!(place.printed(0, &["run", &marked]).0.contains("42"));
    let output = fed(&place, &["run", "-"], &utf16(CODE));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("standard input") && said.contains("save it as UTF-8"), "{said}");

    let text = format!("{MARK}the kettle is blue");
    assert!(fed(&place, &["remember", "-"], text.as_bytes()).status.success());
    place.printed(0, &["remember", &text]);
    let found = place.json(&["search", "kettle", "--kind", "note"]);
    let texts: Vec<_> = found["results"].as_array().unwrap().iter().map(|it| &it["text"]).collect();
    assert_eq!(texts, ["the kettle is blue"; 2]);
    assert_eq!(fed(&place, &["remember", "-"], MARK.as_bytes()).status.code(), Some(2), "blank");
    assert_eq!(fed(&place, &["remember", "-"], &utf16("a")).status.code(), Some(2));
}

#[test]
fn a_mark_before_notes_in_a_file_is_passed_over() {
    let place = TestHome::new();
    let file = place.path().join("notes.jsonl");
    let notes = "\u{feff}{\"text\": \"the kettle is blue\", \"key\": \"a\"}\r\n\u{feff}\r\n\
                 \u{feff}{\"text\": \"the saucer is red\", \"key\": \"b\"}\r\n";
    fs::write(&file, notes).unwrap();
    for _ in 0..2 {
        let kept = place.json(&["remember", "--jsonl", file.to_str().unwrap()]);
        assert_eq!(kept["remembered"], 2);
    }
    let found: Value = place.json(&["search", "kettle saucer", "-n", "9"]);
    assert_eq!(found["results"].as_array().unwrap().len(), 2, "{found}");
    let command = ["remember", "--jsonl", file.to_str().unwrap()];
    fs::write(&file, utf16("{\"text\": \"x\"}")).unwrap();
    refused(&place, &command, &["UTF-16", "save it as UTF-8"]);
    fs::write(&file, b"{\"text\": \"x\"}\n{\"text\": \"\xfc\"}\n").unwrap();
    refused(&place, &command, &["line 2", "UTF-8", "one note is kept"]);
}

#[test]
fn a_mark_in_a_file_of_settings_is_passed_over() {
    let place = TestHome::new();
    let at = |name: &str| place.path().join(name);
    fs::write(at("ai-factory.toml"), "\u{feff}port = 9000\r\n").unwrap();
    fs::write(at(".env"), "\u{feff}AI_FACTORY_NODE=east\r\n").unwrap();
    fs::write(at("other.toml"), "\u{feff}port = 9001\r\n").unwrap();
    let settings = place.json(&["config"]);
    assert_eq!(setting(&settings, "port").0, "9000");
    assert_eq!(setting(&settings, "node").0, "east");
    assert_eq!(setting(&place.json(&["config", "--config", "other.toml"]), "port").0, "9001");
    fs::write(at("ai-factory.toml"), utf16("port = 9000")).unwrap();
    refused(&place, &["config"], &["ai-factory.toml", "UTF-16", "save it as UTF-8"]);
    fs::remove_file(at("ai-factory.toml")).unwrap();
    fs::write(at(".env"), utf16("OTHER=1\r\nAI_FACTORY_NODE=east\r\n")).unwrap();
    refused(&place, &["config"], &[".env, line 2", "UTF-16", "save it as UTF-8"]);
    fs::write(at(".env"), utf16("OTHER=1\r\n")).unwrap();
    assert_eq!(setting(&place.json(&["config"]), "node").0, "local");
    let context = "\u{feff}{\"url\": \"nats://127.0.0.1:1\"}";
    fs::write(at("context.json"), context).unwrap();
    // Read, and nobody is there.
    place.printed(1, &["goals", "ls", "--context", "./context.json"]);
}
