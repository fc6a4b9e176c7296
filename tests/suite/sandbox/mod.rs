//! Running code: real programs, real processes, and what is left of them (nothing).
//!
//! Needs `python3` on PATH; without it every test here fails with a sentence that says how to get
//! it.

mod cleanup;
mod input_output;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use ai_factory::sandbox::{ProcessSandbox, SandboxSettings};
use ai_factory_ports::sandbox::{Program, ProgramFile, ProgramOutcome, Sandbox, SandboxError};
use ai_factory_schemas::run::{EndedBy, IsolationLevel};
use tempfile::TempDir;

/// How long anything may take before the test is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// A wall limit that no program of a test is to reach.
const AMPLE: Duration = Duration::from_secs(40);

/// A sandbox with its files in a place of its own.
struct TestSandbox {
    tmp: TempDir,
    sandbox: Arc<ProcessSandbox>,
}

fn settings(tmp: &Path) -> SandboxSettings {
    SandboxSettings {
        guardian: env!("CARGO_BIN_EXE_ai-factory").into(),
        ..SandboxSettings::new(tmp.join("runs"))
    }
}

fn program(language: &str, source: &str, wall_max: Duration) -> Program {
    Program {
        language: language.into(),
        source: source.into(),
        stdin: None,
        files: Vec::new(),
        return_files: Vec::new(),
        wall_max,
        traceparent: None,
        cpu_max: None,
        workspace: None,
    }
}

impl TestSandbox {
    fn new() -> Self {
        Self::with(|settings| settings)
    }

    fn with(change: impl FnOnce(SandboxSettings) -> SandboxSettings) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let sandbox = ProcessSandbox::new(change(settings(tmp.path())));
        Self { tmp, sandbox }
    }

    async fn try_run(
        &self,
        source: &str,
        wall_max: Duration,
    ) -> Result<ProgramOutcome, SandboxError> {
        let program = program("python", source, wall_max);
        let ran = tokio::time::timeout(PATIENCE, self.sandbox.run(program)).await;
        let ran = ran.expect("the run never ended");
        self.assert_nothing_is_left();
        ran
    }

    async fn run(&self, source: &str) -> ProgramOutcome {
        self.try_run(source, AMPLE).await.unwrap()
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(run_directories(self.tmp.path()), Vec::<PathBuf>::new());
        let path = self.tmp.path().to_str().unwrap();
        assert_eq!(processes_with(path), Vec::<i32>::new());
    }
}

fn run_directories(tmp: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(tmp.join("runs")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The living processes (and zombies have no command line) whose command line holds `text`.
fn processes_with(text: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let entry = entry.unwrap();
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let command_line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command_line).contains(text) {
            found.push(pid);
        }
    }
    found
}

fn children_of_this_process() -> Vec<String> {
    let me = std::process::id().to_string();
    let entries = fs::read_dir("/proc").unwrap();
    let stats = entries.filter_map(|it| fs::read_to_string(it.unwrap().path().join("stat")).ok());
    let is_child = |stat: &String| {
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().nth(1) == Some(&me)
    };
    stats.filter(is_child).collect()
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The descriptors of this process above the standard ones that every program it starts gets, too.
fn descriptors_handed_down() -> BTreeSet<i32> {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        let entry = entry.unwrap();
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        let Ok(info) = fs::read_to_string(entry.path()) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        if number > 2 && u32::from_str_radix(flags.trim(), 8).unwrap() & CLOSE_ON_EXEC == 0 {
            found.insert(number);
        }
    }
    found
}

/// Looks again and again, without a pause, until it is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: never so");
        tokio::task::yield_now().await;
    }
}

/// The environment variable that tells a test that it is in a process of its own.
const ALONE: &str = "FACTORY_TEST_ALONE";

/// The command that runs a test once more, in a process of its own; `module` is what `module_path!`
/// says there.
fn alone(module: &str, test: &str, value: &str) -> Command {
    let (_, module) = module.split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("{module}::{test}"), "--exact", "--nocapture"]).env(ALONE, value);
    command.stdout(Stdio::null());
    command
}

/// Runs such a command, and expects that there is such a test and that it passes.
fn assert_passes(mut command: Command) {
    let ended = command.stdout(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}
