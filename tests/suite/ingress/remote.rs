//! The commands that reach a running factory: `submit` and `tail`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Up, Watcher};
use crate::support::{
    nats::{TestServer, free_address},
    process::{Running, TestHome},
};

const TOKEN: &str = "a-token-of-the-tests";

/// What a command prints that must succeed, asked from a place that has no journal.
fn printed(arguments: &[&str]) -> String {
    let home = TestHome::new();
    let printed = home.printed(0, arguments).0;
    assert!(!home.data().exists(), "a command for another factory leaves nothing here");
    printed
}

#[test]
fn a_goal_is_submitted_over_http_and_nats() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    for way in [["--server", &up.http.base], ["--nats", &server.url()]] {
        let id = printed(&["submit", "Greet", way[0], way[1]]);
        watcher.sessions_end(1);
        assert_eq!(home.json(&["show", id.trim()])["goal"], "Greet");
        let goal = "Print:\n```python\nprint(6 * 7)\n```\n";
        let result = printed(&["submit", "--wait", goal, way[0], way[1]]);
        assert!(result.contains("42"), "{result}");
        let failing = "Fail:\n```python\nraise SystemExit(3)\n```\n";
        TestHome::new().printed(1, &["submit", "--wait", failing, way[0], way[1]]);
        // The same key gets the first answer, another goal is refused.
        let key = way[0].trim_start_matches('-');
        let keyed = |goal| ["submit", goal, "--key", key, "--json", way[0], way[1]];
        let first: Value = serde_json::from_str(&printed(&keyed("Greet once"))).unwrap();
        let again: Value = serde_json::from_str(&printed(&keyed("Greet once"))).unwrap();
        assert_eq!(first["session_id"], again["session_id"]);
        TestHome::new().printed(2, &keyed("Greet twice"));
        watcher.sessions_end(3);
    }
    TestHome::new().printed(2, &["submit", " ", "--server", &up.http.base]);
    up.terminate();
}

#[test]
fn a_running_factory_forgets_over_http_and_nats() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let up = Up::with(&home, &server);
    for way in [["--server", &up.http.base], ["--nats", &server.url()]] {
        let note = json!({ "text": "the kettle is blue" });
        let kept = up.http.post_plain("/memory/remember", &note).unwrap().1;
        let id = kept["id"].as_str().unwrap();
        let told = printed(&["forget", id, way[0], way[1]]);
        assert_eq!(told.trim(), id);
        TestHome::new().printed(2, &["forget", id, way[0], way[1]]);
        assert_eq!(up.http.get("/memory/search?q=kettle")["results"], json!([]));
    }
    up.terminate();
}

#[test]
fn a_file_of_notes_is_kept_by_a_running_factory_over_http_and_nats() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let up = Up::with(&home, &server);
    let path = home.path().join("notes.jsonl");
    let file = path.to_str().unwrap();
    for way in [["--server", &up.http.base], ["--nats", &server.url()]] {
        let long = "\u{1F600}".repeat(12_000);
        let lines: Vec<String> = (0..2_100)
            .map(|n| json!({ "text": format!("the kettle of {} {n}", way[0]) }).to_string())
            // More than one request has room for.
            .chain((0..40).map(|n| json!({ "text": format!("{n} {long}") }).to_string()))
            .collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let told = printed(&["remember", "--jsonl", file, way[0], way[1]]);
        assert_eq!(told.trim(), "2140 notes are kept");
        let text = format!("the kettle of {} 2099", way[0]);
        let found = up.http.get(&format!("/memory/search?n=1&q=%22{}%22", text.replace(' ', "+")));
        assert_eq!(found["results"][0]["text"], *text);
        std::fs::write(&path, "{\"text\": \"one more\"}\n{\"text\": \" \"}\n").unwrap();
        let (_, said) = TestHome::new().printed(2, &["remember", "--jsonl", file, way[0], way[1]]);
        assert!(said.contains("line 2") && said.contains("blank"), "{said}");
        assert!(said.contains("one note is kept"), "{said}");
        assert!(!printed(&["remember", "a note", way[0], way[1]]).is_empty());
    }
    up.terminate();
}

#[test]
fn a_file_with_a_line_that_is_refused_is_mended_and_handed_in_again_without_a_note_twice() {
    let home = TestHome::new();
    let path = home.path().join("notes.jsonl");
    let line =
        |n: usize| json!({ "text": format!("the saucer {n}"), "key": format!("saucer-{n}") });
    let mut lines: Vec<String> = (1..=5).map(|n| line(n).to_string()).collect();
    let command = ["remember", "--jsonl", path.to_str().unwrap()];
    for (spoilt, kept, why) in [
        ("{\"text\": \" \"}", "4 notes are kept: of the lines up to 5 all", "blank"),
        ("{\"text\": 7}", "4 notes are kept: of the lines up to 5 all", ": invalid type"),
    ] {
        spoilt.clone_into(&mut lines[2]);
        std::fs::write(&path, lines.join("\n")).unwrap();
        let (_, said) = home.printed(2, &command);
        assert!(said.contains("line 3: ") && said.contains(kept) && said.contains(why), "{said}");
    }
    lines[2] = line(3).to_string();
    std::fs::write(&path, lines.join("\n")).unwrap();
    assert_eq!(home.printed(0, &command).0.trim(), "5 notes are kept");
    let found = home.json(&["search", "-n", "20", "saucer"]);
    let texts: BTreeSet<_> =
        found["results"].as_array().unwrap().iter().map(|one| one["text"].to_string()).collect();
    assert_eq!(found["results"].as_array().unwrap().len(), 5, "{found}");
    assert_eq!(texts.len(), 5, "{found}");
}

#[test]
fn a_search_for_no_results_or_like_what_has_no_id_is_refused() {
    let home = TestHome::new();
    for wrong in [&["search", "-n", "0", "kettle"][..], &["search", "--similar", "kettle"]] {
        let (_, said) = home.printed(2, wrong);
        assert!(said.contains("invalid value"), "{said}");
    }
}

#[test]
fn a_factory_that_is_not_there_is_said() {
    let nobody = free_address().to_string();
    for way in ["--server", "--nats"] {
        for command in [&["submit", "Greet"][..], &["tail", "--from", "1"]] {
            let (_, said) = TestHome::new().printed(1, &[command, &[way, &nobody]].concat());
            assert!(said.contains(&nobody), "{said}");
        }
    }
}

#[test]
fn events_of_a_running_factory_are_followed_over_http_and_nats() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    up.http.post("/supervisor/run", "k", &json!({ "goal": "Greet" })).unwrap();
    watcher.sessions_end(1);
    let recorded = home.records();
    let all = recorded.len().to_string();
    let http = ["--server", &up.http.base];
    let told = printed(&["tail", "--from", "1", "-n", &all, "--json", http[0], http[1]]);
    let stored: Vec<_> =
        recorded.iter().map(|record| String::from_utf8_lossy(&record.bytes).into_owned()).collect();
    assert_eq!(told.lines().collect::<Vec<_>>(), stored, "the stored bytes, from the first on");
    let told =
        printed(&["tail", "session.*.concluded", "--from", "1", "-n", "1", http[0], http[1]]);
    assert!(told.contains(".concluded") && told.lines().count() == 1, "{told}");

    // Over NATS, what comes from now on: it is told again until somebody listens.
    let elsewhere = TestHome::new();
    let url = server.url();
    let mut listening =
        Running::start(elsewhere.command(&["tail", "session.*.opened", "-n", "1", "--nats", &url]));
    for number in 0.. {
        if listening.has_ended() {
            break;
        }
        let key = format!("again-{number}");
        up.http.post("/supervisor/run", &key, &json!({ "goal": "Greet again" })).unwrap();
    }
    let ended = listening.ended();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert!(ended.printed.contains("Greet again"), "{}", ended.printed);
    up.terminate();
}

#[test]
fn with_a_token_only_who_bears_it_is_served() {
    let home = TestHome::new();
    let up = Up::start_in(&home, &[], &[("AI_FACTORY_TOKEN", TOKEN)]);
    let without = up.http.client.get(format!("{}/supervisor/status", up.http.base));
    assert_eq!(without.send().unwrap().status().as_u16(), 401);
    let (_, said) = TestHome::new().printed(2, &["submit", "Greet", "--server", &up.http.base]);
    assert!(said.contains("token"), "{said}");
    let mut with = home.command(&["submit", "Greet", "--server", &up.http.base]);
    let output = with.env("AI_FACTORY_TOKEN", TOKEN).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = home.command(&["config"]).env("AI_FACTORY_TOKEN", TOKEN).output().unwrap();
    assert!(!String::from_utf8_lossy(&shown.stdout).contains(TOKEN), "a secret is not shown");
    up.terminate();
}

#[test]
fn goals_that_are_put_into_the_stream_wait_there_until_a_factory_takes_them() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let at = ["--nats", &server.url()];
    // Nobody has made the stream yet.
    let refused = TestHome::new().ran(&["goals", "ls", at[0], at[1]]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("ai-factory up --nats"), "{said}");
    Up::with(&home, &server).terminate();

    let put = ["goals", "pub", "Greet", "--key", "k-1", at[0], at[1]];
    assert_eq!(printed(&put).trim(), "1");
    assert!(printed(&put).contains("known already"));
    let waiting = printed(&["goals", "ls", "--json", at[0], at[1]]);
    let waiting: Value = serde_json::from_str(&waiting).unwrap();
    assert_eq!(waiting[0]["key"], "k-1", "{waiting}");
    assert!(waiting[0]["payload"].as_str().unwrap().contains("Greet"), "{waiting}");

    let mut watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    watcher.sessions_end(1);
    assert_eq!(printed(&["goals", "ls", "--json", at[0], at[1]]).trim(), "[]");
    up.terminate();
}

#[test]
fn the_past_is_told_over_nats_by_the_stream_of_events() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    let up = Up::with(&home, &server);
    let goal = "Fail:\n```python\nraise SystemExit(3)\n```\n";
    TestHome::new().printed(1, &["submit", "--wait", goal, "--nats", &server.url()]);
    watcher.sessions_end(1);
    let asked = |more: &[&str]| {
        let url = server.url();
        let arguments = [&["tail", "--nats", &url, "--json"][..], more].concat();
        let lines = printed(&arguments);
        let kinds = lines.lines().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["type"].as_str().unwrap().to_owned()
        });
        kinds.collect::<Vec<_>>()
    };
    let all = asked(&["--from", "1", "-n", "3"]);
    assert!(all[0].contains("session.opened"), "{all:?}");
    assert!(asked(&["--from", "2", "-n", "1"])[0] != all[0]);
    let failed = asked(&["--from", "2020-01-01", "--type", "run", "--status", "error", "-n", "1"]);
    assert!(failed[0].contains("run.finished"), "{failed:?}");
    up.terminate();
}
