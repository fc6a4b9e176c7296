//! Files and a check: what goes in, what comes out, and what is never touched.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use ai_factory_schemas::text::BlobHash;
use serde_json::{Value, json};

use super::refused;
use crate::{ingress::Up, support::process::TestHome};

/// A level at which programs have a workspace.
const LEVEL: &str = "sandbox=reduced";

/// A goal whose bash code this is.
fn bash(code: &str) -> String {
    format!("Do it:\n```bash\n{code}\n```\n")
}

/// A folder beside the data with these files.
fn folder(place: &TestHome, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let top = place.path().join(name);
    for (path, content) in files {
        let path = top.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    top
}

/// All files below a folder.
fn below(top: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

fn files(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn wrong_flags_are_refused_before_anything_is_made() {
    let place = TestHome::new();
    let top = folder(&place, "top", &[("a", "1"), (".env", "TOKEN=1"), ("deep/a", "2")]);
    let (top, deep) = (top.to_str().unwrap(), top.join("deep/a"));
    let deep = deep.to_str().unwrap();
    let out = place.path().join("out");
    let out = out.to_str().unwrap();
    for (arguments, parts) in [
        (&["--with", top][..], &["secrets", ".env", "--with-secrets"][..]),
        (&["--with", top, "--with", deep, "--with-secrets"], &["both have the path `a`", deep]),
        (&["--with", "absent"], &["absent cannot be read"]),
        (&["--check", " "], &["the check is blank"]),
        (&["--protect", "tests/**"], &["--check"]),
        (&["--with-secrets"], &["--with"]),
        (&["--out", out, "--check", "true", "Another"], &["`--out` goes with one goal"]),
        (&["--out", out, "--with", "absent"], &["absent cannot be read"]),
        (&["--out", deep], &["deep/a is not a folder"]),
    ] {
        refused(&place, &[&["run", "Greet"], arguments].concat(), parts);
    }
    assert!(!Path::new(out).exists() && !place.data().exists());
    refused(&place, &["submit", "Greet", "--with", top], &[".env"]);
}

#[test]
fn changed_files_come_out_where_they_are_wanted_and_nowhere_else() {
    let place = TestHome::new();
    let before = [("a", "1\n"), ("old", "x\n"), ("pkg/b", "2\n"), (".gitignore", "*.log\n")];
    let top = folder(&place, "top", &before);
    fs::write(top.join("noise.log"), "").unwrap();
    let code = "echo more >> a; rm old; mkdir new; echo hi > new/c; chmod +x new/c; ls";
    let (top_name, goal) = (top.to_str().unwrap(), bash(code));
    let run = ["run", &goal, "--with", top_name, "--set", LEVEL];
    let (printed, _) = place.printed(0, &run);
    for line in ["M a", "D old", "A new/c"] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
    assert!(!printed.contains("noise.log"), "{printed}");
    assert_eq!(below(&top).len(), 5, "nothing is written without --out");

    let out = place.path().join("results/first");
    place.printed(0, &[&run[..], &["--out", out.to_str().unwrap()]].concat());
    assert_eq!(below(&out), files(&[("a", "1\nmore\n"), ("new/c", "hi\n")]));
    let mode = fs::metadata(out.join("new/c")).unwrap().permissions().mode();
    assert_ne!(mode & 0o111, 0);

    let (_, said) = place.printed(0, &[&run[..], &["--out", top_name]].concat());
    assert!(!said.contains("ignored"), "{said}");
    let after = files(&[
        ("a", "1\nmore\n"),
        ("new/c", "hi\n"),
        ("pkg/b", "2\n"),
        (".gitignore", "*.log\n"),
        ("noise.log", ""),
    ]);
    assert_eq!(below(&top), after);
}

#[test]
fn a_file_that_differs_from_what_went_in_is_named_and_the_rest_is_written() {
    let place = TestHome::new();
    let top = folder(&place, "top", &[("a", "1\n"), ("b", "2\n"), ("c", "3\n")]);
    let out = folder(&place, "out", &[("a", "mine\n"), ("c", "mine\n"), ("new", "mine\n")]);
    let goal = bash("echo x > a; echo y > b; rm c; echo z > new");
    let (with, to) = (top.to_str().unwrap(), out.to_str().unwrap());
    let run = ["run", &goal, "--with", with, "--out", to, "--set", LEVEL];
    let (_, said) = place.printed(1, &run);
    for name in ["a", "c", "new"] {
        let named = format!("{}: ", out.join(name).display());
        assert!(said.contains(&named), "{said}");
    }
    let kept = files(&[("a", "mine\n"), ("b", "y\n"), ("c", "mine\n"), ("new", "mine\n")]);
    assert_eq!(below(&out), kept);
}

#[test]
fn the_data_directory_neither_goes_in_nor_is_written_to() {
    let place = TestHome::new();
    place.printed(0, &["run", super::GOAL]);
    let top = place.path();
    fs::write(top.join("a"), "1\n").unwrap();
    let with = top.to_str().unwrap();
    let goal = bash("find . -type f; mkdir data; echo x > data/planted; echo y > b");
    let run = ["run", &goal, "--with", with, "--set", LEVEL];
    let (printed, said) = place.printed(1, &[&run[..], &["--out", with]].concat());
    assert!(printed.contains("./a\n") && !printed.contains("./data/"), "{printed}");
    let data = place.data().display().to_string();
    assert!(said.contains(&format!("{data} stays out: it is the factory's own")), "{said}");
    assert!(said.contains(&format!("not written: {data}/planted: ")), "{said}");
    assert!(!place.data().join("planted").exists() && top.join("b").exists());
    refused(&place, &["run", "Greet", "--with", &data], &["data directory, which never goes in"]);
}

#[test]
fn a_workspace_may_begin_without_any_file() {
    let place = TestHome::new();
    let empty = place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let (goal, with) = (bash("pwd; echo hi > new"), empty.to_str().unwrap());
    for (name, more) in [("one", &["--with", with][..]), ("two", &[])] {
        let out = place.path().join("out").join(name);
        let run = ["run", &goal, "--set", LEVEL, "--out", out.to_str().unwrap()];
        let (printed, _) = place.printed(0, &[&run[..], more].concat());
        assert!(printed.contains("A new"), "{printed}");
        assert_eq!(below(&out), files(&[("new", "hi\n")]));
    }
    let untouched = place.path().join("untouched");
    let run = ["run", &bash("true"), "--set", LEVEL, "--out", untouched.to_str().unwrap()];
    place.printed(0, &run);
    assert!(!untouched.exists());
}

#[test]
fn what_a_session_adds_against_the_ignore_rules_is_counted_and_not_written() {
    let place = TestHome::new();
    let top = folder(&place, "top", &[("a", "1\n"), (".gitignore", "*.o\nbuild/\n")]);
    let with = top.to_str().unwrap();
    let goal = bash("mkdir build; echo x > build/y; echo z > a.o; echo 2 > a");
    let run = ["run", &goal, "--with", with, "--out", with, "--set", LEVEL];
    let (_, said) = place.printed(0, &run);
    assert!(said.contains("2 ignored files are not written"), "{said}");
    assert_eq!(below(&top), files(&[("a", "2\n"), (".gitignore", "*.o\nbuild/\n")]));
}

#[test]
fn what_stays_out_and_why_nothing_is_decided_is_told() {
    let place = TestHome::new();
    let top = folder(&place, "top", &[("a", "1\n"), ("two\nlines", "")]);
    let with = top.to_str().unwrap();
    let code = "for n in $(seq 25); do ln -s a link$n; done; echo x > tests; seq 60 | xargs touch";
    let goal = bash(code);
    let check = ["--check", "true # decides", "--protect", "tests", "--set", LEVEL];
    let run = [&["run", &goal, "--with", with][..], &check].concat();
    let (printed, said) = place.printed(0, &run);
    assert!(said.contains("two\\nlines stays out: its name has control characters"), "{said}");
    assert_eq!(said.matches("left out: link").count(), 20, "{said}");
    assert!(said.contains("left out: 5 more"), "{said}");
    assert!(printed.contains("and 10 more changed files: `ai-factory files "), "{printed}");
    let id = place.json(&["sessions"])[0]["session_id"].as_str().unwrap().to_owned();
    let (shown, _) = place.printed(0, &["show", &id]);
    for part in [
        "    true # decides",
        "  protect  tests",
        "restored before the check: D tests",
        "left out: link1, ",
        "left out: 5 more",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let unable = ["run", "--quiet", &goal, "--with", with, "--check", "absent", "--set", LEVEL];
    let (_, said) = place.printed(1, &unable);
    assert!(said.starts_with("error: the check cannot be run"), "{said}");
}

#[test]
fn the_check_decides_and_is_told() {
    let place = TestHome::new();
    let top = folder(&place, "top", &[("value", "1\n"), ("tests/expected", "2\n")]);
    let with = top.to_str().unwrap();
    let check = ["--check", "diff value tests/expected", "--set", LEVEL];
    let run = |code: &str, exit: i32, more: &[&str]| {
        let goal = bash(code);
        place.printed(exit, &[&["run", &goal, "--with", with], &check[..], more].concat())
    };
    let (printed, said) = run("echo 2 > value", 0, &[]);
    assert!(printed.contains("check after the steps: passed"), "{printed}");
    assert!(said.contains("check before the steps: error, exit code 1"), "{said}");
    assert!(said.contains("check after the steps: success"), "{said}");

    let (printed, _) = run("echo 3 > value", 1, &[]);
    assert!(printed.contains("check after the steps: failed, exit code 1"), "{printed}");
    let id = place.json(&["sessions"])[0]["session_id"].as_str().unwrap().to_owned();
    let (shown, _) = place.printed(0, &["show", &id]);
    for part in ["Check before the steps", "Check after the steps", "Changed files", "M value"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let cheat = "echo 1 > tests/expected";
    run(cheat, 0, &[]);
    let (_, said) = run(cheat, 1, &["--protect", "tests/**"]);
    assert!(said.contains("1 file restored"), "{said}");
    let (printed, _) = run("echo 2 > value", 0, &["--json"]);
    let answer: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(answer["check"]["exit_code"], 0);
    assert_eq!(answer["changed_files"][0]["path"], "value");
}

#[test]
fn files_of_a_session_are_listed_and_written_by_the_same_rule() {
    let place = TestHome::new();
    let top = folder(&place, "top", &[("a", "1\n"), ("b", "2\n"), ("c", "3\n")]);
    let goal = bash("echo x >> a; rm b; echo new > d");
    place.printed(0, &["run", &goal, "--with", top.to_str().unwrap(), "--set", LEVEL]);
    let id = place.json(&["sessions"])[0]["session_id"].as_str().unwrap().to_owned();
    let (printed, _) = place.printed(0, &["files", &id[..13]]);
    let rows: Vec<Vec<_>> =
        printed.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let expected =
        [["4", "changed", "a"], ["-", "deleted", "b"], ["2", "-", "c"], ["4", "added", "d"]];
    assert_eq!(rows, expected, "{printed}");
    let listed = place.json(&["files", &id]);
    assert_eq!(listed["before"].as_object().unwrap().keys().collect::<Vec<_>>(), ["a", "b"]);

    let out = place.path().join("out");
    let to = out.to_str().unwrap();
    for _ in 0..2 {
        place.printed(0, &["files", &id, "--out", to]);
        assert_eq!(below(&out), files(&[("a", "1\nx\n"), ("c", "3\n"), ("d", "new\n")]));
    }
    fs::write(out.join("c"), "mine\n").unwrap();
    fs::remove_file(out.join("d")).unwrap();
    let (_, said) = place.printed(1, &["files", &id, "--out", to]);
    let kept = format!("{}: it differs from what went in", out.join("c").display());
    assert!(said.contains(&kept), "{said}");
    assert_eq!(below(&out), files(&[("a", "1\nx\n"), ("c", "mine\n"), ("d", "new\n")]));
    place.printed(0, &["files", &id, "--out", top.to_str().unwrap()]);
    assert_eq!(below(&top), files(&[("a", "1\nx\n"), ("c", "3\n"), ("d", "new\n")]));
    refused(&place, &["files", "ffffffff"], &["no session"]);
}

/// Which of these contents a factory lacks.
fn missing(up: &Up, contents: &[&[u8]]) -> usize {
    let hashes: Vec<_> = contents.iter().map(|content| BlobHash::of(content).to_string()).collect();
    let (status, answer) =
        up.http.post("/files/missing", "m", &json!({ "hashes": hashes })).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer["missing"].as_array().unwrap().len()
}

#[test]
fn a_large_set_goes_to_a_running_factory_once_and_a_broken_upload_is_continued() {
    let place = TestHome::new();
    let up = Up::start(&place, &["--set", LEVEL]);
    let (one, two) = ("1".repeat(2_500_000), "2".repeat(300_000));
    let top = folder(&place, "top", &[("one", &one), ("two", &two), ("empty", "")]);
    assert_eq!(missing(&up, &[one.as_bytes(), two.as_bytes()]), 2);

    // The beginning of an upload that broke off.
    let hash = BlobHash::of(one.as_bytes());
    let url = format!("{}/files/{hash}?bytes={}&offset=0", up.http.base, one.len());
    let part = up.http.client.put(&url).header("content-type", "application/octet-stream");
    let sent = part.body(one[..1_000_000].to_owned()).send().unwrap();
    assert!(sent.status().is_success(), "{sent:?}");
    let received: Value = sent.json().unwrap();
    assert_eq!(received["received"], 1_000_000);

    let goal = bash("wc -c one two empty; echo 3 >> two");
    let submit = ["submit", "--wait", &goal, "--with", top.to_str().unwrap()];
    for _ in 0..2 {
        let (printed, said) =
            place.printed(0, &[&submit[..], &["--server", &up.http.base]].concat());
        assert!(printed.contains("2500000 one") && printed.contains("M two"), "{printed}");
        assert!(said.contains("--out DIR` writes them"), "{said}");
        assert_eq!(missing(&up, &[one.as_bytes(), two.as_bytes()]), 0);
    }
    let id = place.json(&["sessions"])[0]["session_id"].as_str().unwrap().to_owned();
    let out = place.path().join("out");
    let arguments = ["files", &id, "--server", &up.http.base, "--out", out.to_str().unwrap()];
    place.printed(0, &arguments);
    assert_eq!(below(&out), files(&[("one", &one), ("two", &format!("{two}3\n")), ("empty", "")]));
    let arguments = ["files", &id, "--server", &up.http.base, "--out", top.to_str().unwrap()];
    place.printed(0, &arguments);
    assert_eq!(below(&top), below(&out));
    up.terminate();
}

#[test]
fn a_large_set_goes_to_the_factory_of_the_command_itself() {
    let place = TestHome::new();
    let one = "1".repeat(1_500_000);
    let top = folder(&place, "top", &[("one", &one), ("two", &one)]);
    let goal = bash("cmp one two && wc -c one");
    let run = ["run", &goal, "--with", top.to_str().unwrap(), "--set", LEVEL];
    for _ in 0..2 {
        let (printed, _) = place.printed(0, &run);
        assert!(printed.contains("1500000 one"), "{printed}");
    }
}
