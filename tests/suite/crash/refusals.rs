//! A disk that takes no more, another process on the same journal, a newer format, no permission.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use ai_factory_schemas::envelope::Recorded;
use redb::{Builder, ConcurrencyMode, TableDefinition};

use super::account::Account;
use crate::support::process::{Bell, Running, TestHome, started_by};

const NOTE: &str = "print('noted')";

fn goal(text: &str) -> String {
    format!("Do it:\n```python\n{text}\n```\n")
}

/// Runs goals until the disk takes no more, gives it room, and looks what is there. `disk` makes a
/// command one of a narrow disk, `widen` is called when it was full.
fn fill(home: &TestHome, disk: impl Fn(Command) -> Command, widen: impl FnOnce()) {
    home.printed(0, &["run", &goal(NOTE)]);
    let before = home.records();
    let goal_of = |n| format!("{n} {}", "much to say ".repeat(4_000));
    let goals = (0..GOALS).map(goal_of).collect::<Vec<_>>().join("\n");
    fs::write(home.path().join("goals"), goals).unwrap();
    let ended = Running::start(disk(home.command(&["run", "--file", "goals", "--json"]))).ended();
    assert_eq!(ended.status.code(), Some(4), "{}: {}", ended.status, ended.said);
    assert!(ended.said.contains("the factory stopped itself: "), "{}", ended.said);
    assert!(ended.said.contains("ai-factory resume"), "{}", ended.said);
    widen();

    home.printed(0, &["verify"]);
    let after = home.records();
    assert!(after.len() >= before.len());
    for (was, is) in before.iter().zip(&after) {
        assert_eq!(was.bytes, is.bytes);
    }
    let answers = ended.answers();
    let resumed = home.ran(&["resume"]);
    assert!(matches!(resumed.status.code(), Some(0 | 1)), "{resumed:?}");
    let account = Account::of(home);
    account.assert_all_is_over();
    assert!(account.sessions.len() <= GOALS, "the disk was wide enough");
    for answer in answers {
        let id = format!("session-{}", answer["session_id"].as_str().unwrap()).parse().unwrap();
        assert!(account.sessions.contains_key(&id), "an answer without a session: {answer}");
    }
    home.printed(0, &["run", &goal(NOTE)]);
    home.assert_nothing_is_left("after the disk was full");
}

/// How many goals are more than a narrow disk takes.
const GOALS: usize = 48;
/// How large a file on a narrow disk may be, in bytes: a tenth of what those goals need.
const FILE_BYTES_MAX: u64 = 512 * 1024;

/// The command with a limit on the size of its files. POSIX counts them in blocks of 512 bytes.
fn limited(inner: &Command) -> Command {
    let blocks = FILE_BYTES_MAX / 512;
    let starter = ["/bin/sh", "-c", "ulimit -f \"$0\"; exec \"$@\"", &blocks.to_string()];
    let mut command = started_by(&starter.map(str::to_owned), inner);
    command.arg(inner.get_program()).args(inner.get_args());
    command
}

#[test]
fn a_file_that_may_not_grow_stops_the_factory_and_loses_nothing() {
    fill(&TestHome::new(), |command| limited(&command), || {});
}

/// A small file system of its own, as long as the process lives that has it.
struct SmallDisk(Child);

impl SmallDisk {
    /// `None` where this user may not mount anything, not even for himself.
    fn mounted(at: &Path) -> Option<Self> {
        let namespace = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
        let script = "mount -t tmpfs -o size=3m none \"$0\" && echo mounted && read line \
                      && mount -o remount,size=64m \"$0\" && echo wider && read line";
        let mut command = Command::new("unshare");
        command.args([namespace, "sh", "-c", script]).arg(at);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut disk = Self(command.spawn().ok()?);
        (disk.line() == "mounted\n").then_some(disk)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let mut byte = [0];
        let stdout = self.0.stdout.as_mut().unwrap();
        while !line.ends_with('\n') && stdout.read(&mut byte).unwrap() == 1 {
            line.push(char::from(byte[0]));
        }
        line
    }

    fn widen(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(self.line(), "wider\n");
    }

    /// A place on it. Processes enter its namespace; this one looks in from outside.
    fn home(&self, at: &Path) -> TestHome {
        let pid = self.0.id();
        let mut starter = vec!["nsenter".to_owned(), format!("--target={pid}"), "--mount".into()];
        if !rustix::process::geteuid().is_root() {
            starter.extend(["--user", "--preserve-credentials"].map(str::to_owned));
        }
        starter.push("--wd=.".into());
        let inside = at.join("data");
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let outside = root.join(inside.strip_prefix("/").unwrap());
        TestHome::started_by(starter, inside, outside)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_full_disk_stops_the_factory_and_loses_nothing() {
    let at = tempfile::tempdir().unwrap();
    let Some(mut disk) = SmallDisk::mounted(at.path()) else {
        // Without a disk to fill, a limit on files is the nearest thing.
        return fill(&TestHome::new(), |command| limited(&command), || {});
    };
    let home = disk.home(at.path());
    fill(&home, |command| command, || disk.widen());
}

#[test]
fn a_second_writer_is_told_who_is_first_and_readers_are_not_disturbed() {
    let home = TestHome::new();
    let bell = Bell::new(&home);
    let run = home.started(&["run", &bell.goal(), "--set", "run_wall_ms_max=60000"]);
    let ring = bell.rung();
    for second in [&["run", "another"][..], &["resume"], &["remember", "a note"], &["rebuild"]] {
        let (_, said) = home.printed(3, second);
        assert!(said.contains(&run.pid().to_string()), "{second:?}: {said}");
    }
    let id = home.json(&["sessions"])[0]["session_id"].as_str().unwrap().to_owned();
    for reading in [
        &["show", &id][..],
        &["tail"],
        &["head"],
        &["verify"],
        &["logs"],
        &["runs"],
        &["search", "ring"],
        &["config"],
    ] {
        home.printed(0, reading);
    }
    drop(ring);
    let ended = run.ended();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    home.assert_nothing_is_left("after two");
}

#[test]
fn who_follows_a_journal_does_not_keep_a_killed_factory_from_coming_back() {
    let home = TestHome::new();
    let bell = Bell::new(&home);
    home.printed(0, &["run", &goal(NOTE)]);
    let run = home.started(&["run", &bell.goal(), "--set", "run_wall_ms_max=60000"]);
    let ring = bell.rung();
    let follower = home.started(&["tail", "--from", "1", "--follow", "--json"]);
    run.killed();
    ring.assert_gone();
    let resume = home.started(&["resume", "--set", "run_wall_ms_max=60000"]);
    drop(bell.rung());
    let resumed = resume.ended();
    assert_eq!(resumed.status.code(), Some(0), "{}", resumed.said);
    let seen = follower.killed();
    assert_eq!(seen.said, "");
    for (answer, at) in seen.answers().iter().zip(1..) {
        assert_eq!(answer["position"], at);
    }
}

#[test]
fn a_journal_from_a_newer_version_is_refused_by_every_command() {
    let home = TestHome::new();
    home.printed(0, &["run", &goal(NOTE)]);
    let path = home.data().join("journal.redb");
    let db = Builder::new().set_concurrency_mode(ConcurrencyMode::SingleWriter).open(path).unwrap();
    let txn = db.begin_write().unwrap();
    let meta: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
    txn.open_table(meta).unwrap().insert("format", 2_u64.to_be_bytes().as_slice()).unwrap();
    txn.commit().unwrap();
    db.close().unwrap();
    for command in [
        &["run", "a goal"][..],
        &["resume"],
        &["sessions"],
        &["tail"],
        &["head"],
        &["verify"],
        &["rebuild"],
    ] {
        let (_, said) = home.printed(3, command);
        assert!(said.contains("use a newer ai-factory"), "{command:?}: {said}");
    }
}

#[test]
fn without_permission_a_command_says_which_file() {
    let home = TestHome::new();
    home.printed(0, &["run", &goal(NOTE)]);
    let kept = home.records();
    let mode = |mode| fs::Permissions::from_mode(mode);
    // Root may do anything, so as root it is somebody else who asks. Where the program lies he may
    // not look.
    let stranger = rustix::process::geteuid().is_root();
    let program = home.path().join("ai-factory");
    if fs::hard_link(env!("CARGO_BIN_EXE_ai-factory"), &program).is_err() {
        fs::copy(env!("CARGO_BIN_EXE_ai-factory"), &program).unwrap();
    }
    fs::set_permissions(home.path(), mode(0o755)).unwrap();
    fs::set_permissions(home.data(), mode(if stranger { 0o700 } else { 0o000 })).unwrap();
    let mut refused = Vec::new();
    for arguments in [&["run", "a goal"][..], &["sessions"], &["verify"], &["tail"]] {
        let inner = home.command(arguments);
        let mut command = if stranger {
            // Of util-linux; without it this fails and names what is missing.
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
            command
        } else {
            Command::new(&program)
        };
        let output = command
            .args(inner.get_args())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .output()
            .expect("`setpriv` (of util-linux) must be there to test permissions as root");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        refused.push((arguments, output.status.code(), said));
    }
    fs::set_permissions(home.data(), mode(0o700)).unwrap();
    for (arguments, code, said) in refused {
        assert_eq!(code, Some(3), "{arguments:?}: {said}");
        assert!(said.contains("no permission for "), "{arguments:?}: {said}");
    }
    let now = home.records();
    assert_eq!(now.len(), kept.len());
    assert!(Recorded::decode(&now[0].bytes).is_ok());
}
