//! Reading needs no right to write and no room: on a full or read-only file system, as another
//! user, and whatever a crash has left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
};

use crate::{
    journal::left::{Seen, files},
    support::process::{Bell, TestHome},
};

const GOAL: &str = "Say it:\n```python\nprint('marmalade')\n```\n";

/// A file system of its own, as long as the shell lives that has it.
struct Disk {
    shell: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    at: tempfile::TempDir,
}

impl Disk {
    /// `None` where this user may not mount anything, not even for himself.
    fn mounted() -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        let namespace = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
        let script = "while read line; do eval \"$line\"; echo $?; done";
        let mut command = Command::new("unshare");
        command.args([namespace, "sh", "-c", script]).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().ok()?;
        let orders = shell.stdin.take().unwrap();
        let answers = BufReader::new(shell.stdout.take().unwrap());
        let mut disk = Self { shell, orders, answers, at };
        disk.does("mount -t tmpfs -o size=24m none \"$AT\"").then_some(disk)
    }

    /// Whether an order of the shell succeeded. `$AT` is where the disk is mounted.
    fn does(&mut self, order: &str) -> bool {
        let at = self.at.path().display();
        if writeln!(self.orders, "AT={at}; {order}").is_err() {
            return false;
        }
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim() == "0"
    }

    /// A place on it. Processes enter its namespace; this one looks in from outside.
    fn home(&self) -> TestHome {
        let pid = self.shell.id();
        let mut starter = vec!["nsenter".to_owned(), format!("--target={pid}"), "--mount".into()];
        if !rustix::process::geteuid().is_root() {
            starter.extend(["--user", "--preserve-credentials"].map(str::to_owned));
        }
        starter.push("--wd=.".into());
        let inside = self.at.path().join("data");
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let outside = root.join(inside.strip_prefix("/").unwrap());
        TestHome::started_by(starter, inside, outside)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Leaves sessions, a run and a note, over several segments; at the end the program is killed, or
/// not.
fn fill(home: &TestHome, is_killed: bool) {
    let more = ["--set", "segment_events_max=8", "--set", "data_mode=group"];
    home.printed(0, &[&["run", GOAL][..], &more].concat());
    home.printed(0, &[&["remember", "the marmalade is on the shelf"][..], &more].concat());
    if is_killed {
        let bell = Bell::new(home);
        let wait = ["--set", "run_wall_ms_max=60000"];
        let run = home.started(&[&["run", &bell.goal()][..], &more, &wait].concat());
        let ring = bell.rung();
        run.killed();
        ring.assert_gone();
        // The run's directory outlives its program by a moment.
        home.assert_nothing_is_left("killed");
    }
}

/// Reads everything there is, each command by what `ran` runs it with.
fn assert_readable(ran: &dyn Fn(&[&str]) -> Output, is_killed: bool, what: &str) {
    let printed = |arguments: &[&str]| {
        let output = ran(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{what}: {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&printed(&[arguments, &["--json"]].concat())).unwrap()
    };
    let head = json(&["head"])["position"].as_u64().unwrap();
    assert!(head > 8, "{what}");
    assert_eq!(json(&["verify"])["position"], head, "{what}");
    let sessions = json(&["sessions"]);
    let sessions = sessions.as_array().unwrap();
    assert_eq!(sessions.len(), 1 + usize::from(is_killed), "{what}");
    let first = sessions.last().unwrap()["session_id"].as_str().unwrap().to_owned();
    assert!(printed(&["show", &first]).contains("marmalade"), "{what}");
    let found = json(&["search", "marmalade shelf"]);
    assert!(found.to_string().contains("the marmalade is on the shelf"), "{what}: {found}");
    let events = printed(&["tail", "--from", "1", "--json"]);
    assert_eq!(events.lines().count() as u64, head, "{what}");
    assert!(json(&["runs"]).to_string().contains("success"), "{what}");
    assert!(json(&["runs", "--search", "marmalade"]).to_string().contains("marmalade"), "{what}");
    assert!(!json(&["logs"]).as_array().unwrap().is_empty(), "{what}");
    printed(&["config"]);
    let doctor = ran(&["doctor", "--json"]);
    let findings = String::from_utf8_lossy(&doctor.stdout);
    assert!(findings.contains(&format!("{head} events")), "{what}: {findings}");
}

/// Nothing was written since.
fn assert_unchanged(home: &TestHome, before: &BTreeMap<PathBuf, Seen>, what: &str) {
    let after = files(home.data());
    let is_changed = |path: &&PathBuf| before.get(*path) != after.get(*path);
    let changed: BTreeSet<_> = before.keys().chain(after.keys()).filter(is_changed).collect();
    assert!(changed.is_empty(), "{what}: something was written: {changed:?}");
}

/// What is derived from the journal, in several states of neglect.
fn neglect(data: &Path, how: &str) {
    match how {
        "as it is" => {}
        "nothing derived" => {
            fs::remove_file(data.join("projections.redb")).unwrap();
            fs::remove_dir_all(data.join("index")).unwrap();
            let _ = fs::remove_file(data.join("segments/catalog.redb"));
            fs::remove_dir_all(data.join("logs")).unwrap();
        }
        "all of it rubbish" => {
            fs::write(data.join("projections.redb"), vec![7; 9000]).unwrap();
            fs::write(data.join("segments/catalog.redb"), "rubbish").unwrap();
            fs::write(data.join("index/words/meta.json"), "rubbish").unwrap();
        }
        _ => unreachable!("{how}"),
    }
}

const NEGLECT: [&str; 3] = ["as it is", "nothing derived", "all of it rubbish"];

#[test]
fn everything_can_be_read_on_a_disk_that_is_full_or_read_only() {
    for is_killed in [false, true] {
        for how in NEGLECT {
            let Some(mut disk) = Disk::mounted() else { return };
            let home = disk.home();
            fill(&home, is_killed);
            neglect(home.data(), how);
            let what = format!("killed: {is_killed}, {how}");
            assert!(disk.does("! cat /dev/zero > $AT/filler 2>/dev/null"));
            let before = files(home.data());
            assert_readable(&|arguments| home.ran(arguments), is_killed, &format!("full, {what}"));
            assert!(disk.does("mount -o remount,ro \"$AT\""));
            let what = format!("read-only, {what}");
            assert_readable(&|arguments| home.ran(arguments), is_killed, &what);
            let (_, said) = home.printed(3, &["remember", "no more"]);
            assert!(said.contains("read-only"), "{what}: {said}");
            assert_unchanged(&home, &before, &what);
            assert!(disk.does("mount -o remount,rw \"$AT\" && rm $AT/filler"));
            home.printed(0, &["remember", "again"]);
        }
    }
}

/// A command as somebody who may read what the group may read, and write nothing.
fn as_reader(home: &TestHome, program: &Path, arguments: &[&str]) -> Output {
    let inner = home.command(arguments);
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "0", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    let command = command.args(inner.get_args()).current_dir(home.path()).stdin(Stdio::null());
    command.output().expect("`setpriv` (of util-linux) must be there to test permissions as root")
}

#[test]
fn everything_can_be_read_by_who_may_only_read() {
    let mode = |mode| fs::Permissions::from_mode(mode);
    let is_root = rustix::process::geteuid().is_root();
    for is_killed in [false, true] {
        for how in NEGLECT {
            let home = TestHome::new();
            let program = home.path().join("ai-factory");
            if fs::hard_link(env!("CARGO_BIN_EXE_ai-factory"), &program).is_err() {
                fs::copy(env!("CARGO_BIN_EXE_ai-factory"), &program).unwrap();
            }
            fs::set_permissions(home.path(), mode(0o755)).unwrap();
            fill(&home, is_killed);
            neglect(home.data(), how);
            let what = format!("killed: {is_killed}, {how}");
            let everything: Vec<_> = files(home.data()).into_keys().collect();
            let set_modes = |file, directory| {
                for path in everything.iter().chain([&home.data().to_owned()]) {
                    let rights = if path.is_dir() { directory } else { file };
                    fs::set_permissions(path, mode(rights)).unwrap();
                }
            };
            // Root reads as a member of the group, others as an owner who has given up the right to
            // write.
            if !is_root {
                set_modes(0o400, 0o500);
            } else if how != "as it is" {
                // What was neglected was written by the test.
                set_modes(0o640, 0o750);
            }
            let before = files(home.data());
            assert_readable(&|arguments| as_reader(&home, &program, arguments), is_killed, &what);
            assert_unchanged(&home, &before, &what);
            let refused = as_reader(&home, &program, &["remember", "no more"]);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert_eq!(refused.status.code(), Some(3), "{what}: {said}");
            assert!(said.contains("no permission"), "{what}: {said}");
            set_modes(0o600, 0o700);
            home.printed(0, &["remember", "again"]);
        }
    }
}
