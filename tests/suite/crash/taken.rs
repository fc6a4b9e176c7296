//! The data directory is taken away while the program works: it notices, acknowledges nothing more,
//! and says why.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::process::{Bell, Running, TestHome};

/// What happens to the data directory, and what it is called then.
type Change = (&'static str, fn(&Path));

const TAKEN: [Change; 4] = [
    ("deleted", |data| fs::remove_dir_all(data).unwrap()),
    ("moved", |data| fs::rename(data, data.with_extension("moved")).unwrap()),
    ("deleted and made again empty", |data| {
        fs::remove_dir_all(data).unwrap();
        fs::create_dir(data).unwrap();
    }),
    ("replaced by a copy", |data| {
        let copy = data.with_extension("copy");
        let copied = Command::new("cp").arg("-a").args([data, copy.as_path()]).status().unwrap();
        assert!(copied.success());
        fs::rename(data, data.with_extension("moved")).unwrap();
        fs::rename(copy, data).unwrap();
    }),
];

/// How many things are in a directory; `None` where there is none.
fn entries(path: &Path) -> Option<usize> {
    fs::read_dir(path).ok().map(Iterator::count)
}

fn assert_stopped(running: Running, what: &str) {
    let ended = running.ended();
    assert_eq!(ended.status.code(), Some(4), "{what}: {} {}", ended.status, ended.said);
    assert!(ended.said.contains("was removed or changed"), "{what}: {}", ended.said);
}

#[test]
fn a_factory_whose_data_directory_is_taken_away_stops_by_itself_and_makes_no_other() {
    for (what, take) in TAKEN {
        let home = TestHome::new();
        home.printed(0, &["remember", "a note"]);
        let mut up = home.started(&["up", "--port", "0"]);
        while !up.line().unwrap().contains("listening on") {}
        let kept = entries(home.data()).unwrap();
        take(home.data());
        let left = entries(home.data());
        assert_stopped(up, what);
        assert!(left.is_none_or(|left| left == 0 || left == kept), "{what}");
        assert_eq!(entries(home.data()), left, "{what}: it made something");
    }
}

#[test]
fn a_run_whose_data_directory_is_taken_away_is_not_answered() {
    for (what, take) in TAKEN {
        let home = TestHome::new();
        let bell = Bell::new(&home);
        let run = home.started(&["run", &bell.goal(), "--set", "run_wall_ms_max=60000"]);
        let ring = bell.rung();
        take(home.data());
        drop(ring);
        let ended = run.ended();
        assert_eq!(ended.status.code(), Some(4), "{what}: {} {}", ended.status, ended.said);
        assert_eq!(ended.printed, "", "{what}");
    }
}

#[test]
fn a_mount_over_the_data_directory_is_noticed() {
    let at = tempfile::tempdir().unwrap();
    let namespace = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let mut mounts = Command::new("unshare");
    mounts.args([namespace, "mount", "-t", "tmpfs", "none"]).arg(at.path()).stderr(Stdio::null());
    let mounts = mounts.status();
    if !mounts.is_ok_and(|status| status.success()) {
        // Where nobody may mount anything, nothing can be mounted over it.
        return;
    }
    let home = TestHome::new();
    home.printed(0, &["remember", "a note"]);
    let plain = home.command(&["up", "--port", "0"]);
    let script = "\"$@\" & up=$!; read line; mount -t tmpfs none \"$0\"; wait $up";
    let mut command = Command::new("unshare");
    command.args([namespace, "sh", "-c", script]).arg(home.data());
    command.arg(plain.get_program()).args(plain.get_args()).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(home.path());
    let (stdin, go) = std::io::pipe().unwrap();
    command.stdin(stdin);
    let mut up = Running::start(command);
    while !up.line().unwrap().contains("listening on") {}
    drop(go);
    assert_stopped(up, "mounted over");
}
