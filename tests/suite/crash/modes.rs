//! Who may read what the program keeps, whatever the umask is and was.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use crate::support::process::{TestHome, started_by};

const GOAL: &str = "Say it:\n```python\nprint('said ' * 20000)\n```\n";

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Calls `visit` for everything at and below a path.
fn walk(path: &Path, visit: &mut impl FnMut(&Path)) {
    visit(path);
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), visit);
        }
    }
}

fn assert_modes(data: &Path, file: u32, directory: u32, what: &str) {
    let mut files = 0;
    walk(data, &mut |path| {
        let expected = match path.is_dir() {
            // Nobody but the owner needs what waits for a goal.
            true if path.ends_with("spool") => 0o700,
            true => directory,
            false => file,
        };
        files += u32::from(path.is_file());
        assert_eq!(mode(path), expected, "{what}: {} {:04o}", path.display(), mode(path));
    });
    assert!(files > 6, "{what}: only {files} files");
}

/// The command under a umask.
fn under(umask: &str, inner: &Command) -> Command {
    let starter = ["/bin/sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"];
    let mut command = started_by(&starter.map(str::to_owned), inner);
    command.arg(inner.get_program()).args(inner.get_args());
    command
}

/// Makes something of everything that is kept.
fn use_all(home: &TestHome, umask: &str, more: &[&str]) {
    for arguments in [
        &["run", GOAL, "--set", "segment_events_max=8"][..],
        &["remember", "a note"],
        &["snapshot"],
        &["rebuild"],
        &["sessions"],
    ] {
        let output = under(umask, &home.command(&[arguments, more].concat())).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?} {umask}: {said}");
    }
}

#[test]
fn nobody_else_can_read_what_is_kept_whatever_the_umask_is() {
    for umask in ["000", "022", "077", "277", "777"] {
        let home = TestHome::new();
        use_all(&home, umask, &[]);
        assert_modes(home.data(), 0o600, 0o700, umask);
    }
}

#[test]
fn the_group_can_read_it_if_the_setting_says_so() {
    for umask in ["000", "077"] {
        let home = TestHome::new();
        use_all(&home, umask, &["--set", "data_mode=group"]);
        assert_modes(home.data(), 0o640, 0o750, umask);
    }
}

#[test]
fn what_was_wider_is_tightened_at_the_next_start_and_follows_the_setting() {
    let home = TestHome::new();
    set_mode(home.path(), 0o755);
    use_all(&home, "022", &[]);
    walk(home.data(), &mut |path| set_mode(path, if path.is_dir() { 0o777 } else { 0o666 }));
    let (_, said) = home.printed(0, &["remember", "another"]);
    assert!(said.contains("`data_mode`"), "{said}");
    assert_modes(home.data(), 0o600, 0o700, "tightened");
    home.printed(0, &["remember", "a third", "--set", "data_mode=group"]);
    assert_modes(home.data(), 0o640, 0o750, "for the group");
    let (_, said) = home.printed(0, &["remember", "a fourth", "--set", "data_mode=group"]);
    assert_eq!(said, "");
    home.printed(0, &["remember", "a fifth"]);
    assert_modes(home.data(), 0o600, 0o700, "private again");
    assert_eq!(mode(home.path()), 0o755, "the directory above is not ours");
}

#[test]
fn a_directory_that_was_there_is_closed_if_it_is_empty_and_left_alone_if_others_use_it() {
    let home = TestHome::new();
    fs::create_dir(home.data()).unwrap();
    set_mode(home.data(), 0o2775);
    home.printed(0, &["remember", "a note"]);
    assert_eq!(mode(home.data()), 0o2700);

    let shared = TestHome::new();
    fs::create_dir(shared.data()).unwrap();
    fs::write(shared.data().join("diary"), "mine").unwrap();
    set_mode(shared.data(), 0o755);
    set_mode(&shared.data().join("diary"), 0o644);
    let (_, said) = shared.printed(0, &["remember", "a note"]);
    assert_eq!(said, "");
    let log = fs::read_to_string(shared.data().join("logs/app.log")).unwrap();
    assert!(log.contains("also holds `diary`"), "{log}");
    assert_eq!((mode(shared.data()), mode(&shared.data().join("diary"))), (0o755, 0o644));
    assert_eq!(mode(&shared.data().join("journal.redb")), 0o600);
    assert_eq!(mode(&shared.data().join("segments")), 0o700);
}

#[test]
fn code_from_a_goal_has_the_usual_umask() {
    let home = TestHome::new();
    let goal = "Ask:\n```python\nimport os\nprint('umask %03o' % os.umask(0))\n```\n";
    for umask in ["077", "022"] {
        let command = under(umask, &home.command(&["run", goal]));
        let output = { command }.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(printed.contains("umask 022"), "{umask}: {printed}");
    }
}
