//! The program as a process that a test starts, watches and kills, and what is left of it
//! afterwards.
//!
//! Needs Linux: processes are looked for in `/proc`.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use ai_factory::journal::JournalReader;
use ai_factory_ports::journal::RawRecord;
use ai_factory_schemas::envelope::Recorded;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::program;

/// How long anything may take before the test is given up.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A directory with a data directory of its own, on which the program works.
pub struct TestHome {
    dir: TempDir,
    data: PathBuf,
    /// What the program is started by, with its arguments, and what the data directory is called
    /// there.
    starter: Option<(Vec<String>, PathBuf)>,
}

impl TestHome {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { data: dir.path().join("data"), dir, starter: None }
    }

    /// A place whose program is started by another, which sees the data directory under another
    /// name.
    pub fn started_by(starter: Vec<String>, inside: PathBuf, data: PathBuf) -> Self {
        Self { data, starter: Some((starter, inside)), ..Self::new() }
    }

    /// Where the program is started.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where its data are.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The program, with code run at level `process`: the programs of these tests leave marks in
    /// the place.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let plain = program(self.path());
        let (mut command, data) = match &self.starter {
            Some((starter, inside)) => {
                let mut command = started_by(starter, &plain);
                command.arg(plain.get_program());
                (command, inside)
            }
            None => (plain, &self.data),
        };
        command.env("AI_FACTORY_SANDBOX", "process");
        command.arg("--data-dir").arg(data).args(arguments);
        command
    }

    pub fn ran(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it, expects this exit code, answers what it printed and what it said.
    pub fn printed(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.ran(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}{printed}");
        (printed, said)
    }

    /// What a successful command prints as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        serde_json::from_str(&self.printed(0, &all).0).unwrap()
    }

    pub fn started(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments))
    }

    /// All that is recorded, as the bytes on disk; nothing where there is no journal yet.
    pub fn records(&self) -> Vec<RawRecord> {
        if ai_factory::journal::require(&self.data).is_err() {
            return Vec::new();
        }
        JournalReader::open(&self.data).unwrap().read_sync(0, usize::MAX).unwrap()
    }

    /// All that is recorded, decoded.
    pub fn events(&self) -> Vec<Recorded> {
        self.records().iter().map(|raw| Recorded::decode(&raw.bytes).unwrap()).collect()
    }

    /// Waits until no process works here and no file of a run is left; says what is there if that
    /// never happens.
    pub fn assert_nothing_is_left(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let processes = processes_at(self.path());
            let Some(one) = processes.first() else { break };
            assert!(Instant::now() < deadline, "{what}: left running: {processes:?}");
            // Its end is what is waited for; one that is gone already cannot be held.
            if let Ok(held) = pidfd_open(one.pid, PidfdFlags::empty()) {
                wait_readable(&held, deadline);
            }
        }
        let left = files_of_runs(&self.data);
        assert!(left.is_empty(), "{what}: left of runs: {left:?}");
    }
}

/// Another program with these arguments in the place of `inner`, with its environment and
/// directory.
pub fn started_by(starter: &[String], inner: &Command) -> Command {
    let mut command = Command::new(&starter[0]);
    command.args(&starter[1..]).stdin(Stdio::null()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(inner.get_current_dir().unwrap());
    command
}

/// What lies where runs have their files.
fn files_of_runs(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("tmp")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// A process, and how it was started.
#[derive(Debug)]
#[expect(dead_code, reason = "shown when it should not be there")]
struct Process {
    pid: Pid,
    command: String,
}

/// The living processes that were started in `home`, or that name it.
fn processes_at(home: &Path) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let entry = entry.unwrap();
        let Some(pid) =
            entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?))
        else {
            continue;
        };
        // A zombie has neither of these.
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let at = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        // A directory that was removed is shown with a word behind it.
        if at.starts_with(home) || command.contains(home.to_str().unwrap()) {
            found.push(Process { pid, command });
        }
    }
    found
}

/// Waits until it can be read or has ended; answers whether that was before the deadline.
fn wait_readable(what: &impl std::os::fd::AsFd, deadline: Instant) -> bool {
    let rest = deadline.saturating_duration_since(Instant::now());
    let mut asked = [PollFd::new(what, PollFlags::IN)];
    poll(&mut asked, Some(&Timespec::try_from(rest).unwrap())).unwrap() > 0
}

/// A running program that does not outlive its test. Both its streams are taken as they come.
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: String,
    printing: Option<JoinHandle<String>>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // Nobody who listens is no reason to let the program wait.
                let _ = sender.send(line);
            }
        });
        let printing = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stdout.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self { child, lines, said: String::new(), printing: Some(printing) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the next line on standard error; `None` once there are no more.
    pub fn line(&mut self) -> Option<String> {
        let line = match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it says nothing more:\n{}", self.said),
        };
        self.said.push_str(&line);
        self.said.push('\n');
        Some(line)
    }

    /// SIGKILL, to this process alone; answers how it ended and what it had printed and said.
    pub fn killed(mut self) -> Ended {
        self.child.kill().unwrap();
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Ended {
        while self.line().is_some() {}
        let status = self.child.wait().unwrap();
        let printed = self.printing.take().unwrap().join().unwrap();
        Ended { status, printed, said: std::mem::take(&mut self.said) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What became of a [`Running`].
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub printed: String,
    pub said: String,
}

impl Ended {
    /// The lines of JSON that were printed whole.
    pub fn answers(&self) -> Vec<Value> {
        let whole = self.printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Rung by a program that runs as a step, which then waits until the test lets it go.
pub struct Bell {
    path: PathBuf,
    listener: UnixListener,
}

impl Bell {
    pub fn new(home: &TestHome) -> Self {
        Self::named(home, "bell")
    }

    /// One of several of a place.
    pub fn named(home: &TestHome, name: &str) -> Self {
        let path = home.path().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        Self { path, listener }
    }

    /// A goal whose code rings and waits.
    pub fn goal(&self) -> String {
        format!(
            "Ring and wait:\n```python\nimport socket\n\
             bell = socket.socket(socket.AF_UNIX)\nbell.connect({:?})\nbell.recv(1)\n```\n",
            self.path.to_str().unwrap()
        )
    }

    /// Waits until it is rung. The program goes on when what is answered is dropped.
    pub fn rung(&self) -> Ring {
        let in_time = wait_readable(&self.listener, Instant::now() + PATIENCE);
        assert!(in_time, "the code was never run");
        Ring(self.listener.accept().unwrap().0)
    }
}

/// A program that waits.
pub struct Ring(UnixStream);

impl Ring {
    /// Waits until the program is gone without having been let go.
    pub fn assert_gone(mut self) {
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => panic!("the program of a killed factory lives on: {other:?}"),
        }
    }
}

/// Numbers that look random and are the same for the same seed (`SplitMix64`, Steele et al. 2014).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 to `end`, without it.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}
