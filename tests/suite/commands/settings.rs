//! Settings as other people's directories and shells have them.

use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt as _, path::Path};

use super::setting;
use crate::support::process::TestHome;

/// A named pipe that nobody writes to.
fn pipe(path: &Path) {
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

#[test]
fn the_env_file_of_another_project_disturbs_nothing() {
    let place = TestHome::new();
    let path = place.path().join(".env");
    for others in [
        "GREETING=hello to all of you\n",
        "MOTD=it's fine\nQUOTE=\"never closed\n",
        "KEY=\"-----BEGIN\nabc\n-----END\"\n",
        "DJANGO_SECRET=a$(b`c${\n[section]\nkey: value\n",
        "A=1\r\nB=two words\r\n",
    ] {
        fs::write(&path, format!("{others}AI_FACTORY_NODE=east\n{others}")).unwrap();
        let settings = place.json(&["config"]);
        assert_eq!(setting(&settings, "node"), ("east".to_owned(), ".env".to_owned()), "{others}");
    }
    fs::write(&path, b"NAME=M\xfcller\nexport AI_FACTORY_NODE=\"west\" # ours\n\xff\xfe\n")
        .unwrap();
    assert_eq!(setting(&place.json(&["config"]), "node").0, "west");
    let huge = format!("{}AI_FACTORY_NODE=south\n", "OTHER=two words\n".repeat(1 << 20));
    fs::write(&path, huge).unwrap();
    assert_eq!(setting(&place.json(&["config"]), "node").0, "south");
    for (others, ours) in
        [("A=two words\n\n", "AI_FACTORY_NODE=two words"), ("", "AI_FACTORY_PORT=x")]
    {
        fs::write(&path, format!("{others}{ours}\n")).unwrap();
        let (_, said) = place.printed(2, &["config"]);
        let line = if others.is_empty() { ".env, line 1" } else { ".env, line 3" };
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn what_is_no_file_is_no_env_file() {
    let place = TestHome::new();
    place.printed(0, &["run", "Greet"]);
    let path = place.path().join(".env");
    fs::create_dir(&path).unwrap();
    let (_, said) = place.printed(0, &["sessions"]);
    assert!(!said.contains(".env"), "a directory of that name is common: {said}");
    let found = String::from_utf8(place.ran(&["doctor"]).stdout).unwrap();
    assert!(found.contains(".env (it is a directory)"), "{found}");
    fs::remove_dir(&path).unwrap();

    pipe(&path);
    let (_, said) = place.printed(0, &["sessions"]);
    assert!(said.contains(".env are not used: it is a named pipe"), "{said}");
    let (_, said) = place.printed(0, &["sessions", "--quiet"]);
    assert_eq!(said, "");
    fs::remove_file(&path).unwrap();

    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    let (_, said) = place.printed(0, &["config"]);
    assert_eq!(said, "");
}

#[test]
fn a_variable_that_is_not_utf_8_makes_no_other_directory() {
    let place = TestHome::new();
    let mut command = crate::cli::program(place.path());
    command.args(["remember", "a note"]);
    let value = OsString::from_vec(b"d\xe4ta".to_vec());
    let output = command.env("AI_FACTORY_DATA_DIR", value).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("`AI_FACTORY_DATA_DIR`") && said.contains("UTF-8"), "{said}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing is made");

    let mut command = crate::cli::program(place.path());
    command.env(OsString::from_vec(b"OTHER\xff".to_vec()), OsString::from_vec(b"\xff".to_vec()));
    assert_eq!(command.arg("config").output().unwrap().status.code(), Some(0));
}
