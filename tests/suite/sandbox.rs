//! Running code: real programs, real processes, and what is left of them (nothing).
//!
//! Needs `python3` on PATH; without it every test here fails with a sentence that says how to get it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use ai_factory::sandbox::{ProcessSandbox, SandboxSettings};
use ai_factory_actors::ports::sandbox::{Program, Ran, Sandbox, SandboxError};
use ai_factory_schemas::run::{EndedBy, IsolationLevel};
use tempfile::TempDir;

/// How long anything may take before the test is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// A wall limit that no program of a test is to reach.
const AMPLE: Duration = Duration::from_secs(40);

/// A sandbox with its files in a place of its own.
struct Place {
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
    }
}

impl Place {
    fn new() -> Self {
        Self::with(|settings| settings)
    }

    fn with(change: impl FnOnce(SandboxSettings) -> SandboxSettings) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let sandbox = ProcessSandbox::new(change(settings(tmp.path())));
        Self { tmp, sandbox }
    }

    async fn try_run(&self, source: &str, wall_max: Duration) -> Result<Ran, SandboxError> {
        let program = program("python", source, wall_max);
        let ran = tokio::time::timeout(PATIENCE, self.sandbox.run(program)).await;
        let ran = ran.expect("the run never ended");
        self.assert_nothing_is_left();
        ran
    }

    async fn run(&self, source: &str) -> Ran {
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

/// The command that runs the test `name` of this file once more, in a process of its own.
fn alone(name: &str, value: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("sandbox::{name}"), "--exact", "--nocapture"]).env(ALONE, value);
    command.stdout(Stdio::null());
    command
}

#[tokio::test]
async fn a_program_is_run_and_heard() {
    let ran = Place::new().run("import sys\nprint('hello')\nprint('oh', file=sys.stderr)").await;
    assert_eq!((ran.exit_code, ran.signal, ran.ended_by), (0, None, EndedBy::Exit));
    assert_eq!((ran.stdout.text.as_str(), ran.stdout.bytes_total), ("hello\n", 6));
    assert_eq!((ran.stderr.text.as_str(), ran.stderr.bytes_total), ("oh\n", 3));
    assert!(ran.duration > Duration::ZERO);
}

#[tokio::test]
async fn the_exit_code_is_the_programs_own() {
    let place = Place::new();
    for (source, exit_code) in [
        ("", 0),
        ("import sys; sys.exit(3)", 3),
        ("import os; os._exit(255)", 255),
        ("import sys; sys.exit('no')", 1),
        ("import sys; sys.exit(137)", 137),
    ] {
        let ran = place.run(source).await;
        assert_eq!((ran.exit_code, ran.ended_by), (exit_code, EndedBy::Exit), "{source}");
    }
    let ran = place.run("1 / 0").await;
    assert_eq!(ran.exit_code, 1);
    assert!(ran.stderr.text.ends_with("ZeroDivisionError: division by zero\n"), "{ran:?}");
    let ran = place.run("print(").await;
    assert!(ran.stderr.text.contains("SyntaxError"), "{ran:?}");
}

#[tokio::test]
async fn a_program_whose_time_is_over_ends_with_124_and_is_heard_until_then() {
    let place = Place::new();
    let source = "import signal\n\
        for n in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(n, signal.SIG_IGN)\n\
        print('before')\n\
        while True: pass";
    let wall_max = Duration::from_millis(1500);
    let ran = place.try_run(source, wall_max).await.unwrap();
    assert_eq!((ran.exit_code, ran.signal, ran.ended_by), (124, None, EndedBy::Wall));
    assert_eq!(ran.stdout.text, "before\n");
    assert_eq!((ran.stderr.text.as_str(), ran.stderr.bytes_total), ("TimeoutExpired", 0));
    assert!(ran.duration >= wall_max);
}

#[tokio::test]
async fn a_signal_is_named_and_is_the_exit_code() {
    let place = Place::new();
    for (signal, name) in [(9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM"), (6, "SIGABRT")] {
        let source = format!("import os\nos.write(2, b'end')\nos.kill(os.getpid(), {signal})");
        let ran = place.run(&source).await;
        assert_eq!((ran.exit_code, ran.signal), (128 + signal, Some(signal)));
        assert_eq!(ran.ended_by, EndedBy::Signal);
        assert_eq!(ran.stderr.text, format!("end\nKilled by signal {signal} ({name})"));
    }
}

#[tokio::test]
async fn both_streams_are_cut_at_their_limit_and_the_cut_is_said() {
    const WRITTEN: u64 = 10 * 1024 * 1024;
    let source = "import os, threading\n\
        def flood(fd):\n\
        \x20   with open(fd, 'wb') as file: file.write(b'x' * (10 * 1024 * 1024))\n\
        threads = [threading.Thread(target=flood, args=(fd,)) for fd in (1, 2)]\n\
        for thread in threads: thread.start()\n\
        for thread in threads: thread.join()\n\
        os._exit(7)";
    let ran = Place::new().run(source).await;
    assert_eq!(ran.exit_code, 7);
    let kept = 1024 * 1024;
    for (name, stream) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        assert_eq!(stream.bytes_total, WRITTEN, "{name}");
        let end = format!("\n[{name} cut: {kept} of {WRITTEN} bytes kept]");
        let text = stream.text.strip_suffix(&end).expect(name);
        let (head, tail) = text.split_once("\n[9437184 bytes left out]\n").expect(name);
        assert_eq!(head.len() + tail.len(), kept, "{name}");
    }
}

#[tokio::test]
async fn output_without_end_is_stopped_by_the_wall_limit() {
    let source = "import os\nwhile True: os.write(1, b'y' * 65536)";
    let ran = Place::new().try_run(source, Duration::from_millis(800)).await.unwrap();
    assert_eq!(ran.ended_by, EndedBy::Wall);
    assert!(ran.stdout.text.ends_with("bytes kept]"));
}

#[tokio::test]
async fn invalid_utf_8_is_shown_with_replacement_characters() {
    let ran = Place::new().run(r"import os; os.write(1, b'a\xff\xfeb\x00\xe2\x82')").await;
    assert_eq!(ran.stdout.text, "a\u{fffd}\u{fffd}b\0\u{fffd}");
    assert_eq!(ran.stdout.bytes_total, 7);
    let ran = Place::new().run("print('\u{e4}\u{1f600}')").await;
    assert_eq!(ran.stdout.text, "\u{e4}\u{1f600}\n");
}

#[tokio::test]
async fn stdin_is_empty_and_there_is_no_terminal() {
    let source = "import sys\nprint(repr(sys.stdin.read()))\n\
        try: open('/dev/tty')\n\
        except OSError: print('no terminal')";
    assert_eq!(Place::new().run(source).await.stdout.text, "''\nno terminal\n");
}

#[test]
fn the_environment_holds_nothing_of_the_factory() {
    const NAME: &str = "the_environment_holds_nothing_of_the_factory";
    if std::env::var_os(ALONE).is_none() {
        let mut command = alone(NAME, "yes");
        assert!(command.env("AI_FACTORY_SECRET", "hunter2").status().unwrap().success());
        return;
    }
    let source = "import os\nprint(*sorted(os.environ))\n\
        print(os.environ['HOME'] == os.environ['TMPDIR'] == os.getcwd())\n\
        print(open(f'/proc/{os.getppid()}/environ', 'rb').read())\n\
        print(*(fd for fd in os.listdir('/proc/self/fd') if os.path.lexists('/proc/self/fd/' + fd)))";
    let inherited = descriptors_handed_down();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ran = runtime.block_on(async { Place::new().run(source).await });
    let (text, descriptors) = ran.stdout.text.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(
        text,
        "HOME LANG PATH PYTHONDONTWRITEBYTECODE PYTHONUNBUFFERED PYTHONUTF8 TMPDIR\nTrue\nb''",
    );
    let mut descriptors: BTreeSet<i32> =
        descriptors.split(' ').map(|number| number.parse().unwrap()).collect();
    // What whoever started this process handed down to all its descendants is not the factory's.
    descriptors.retain(|number| !inherited.contains(number));
    assert_eq!(descriptors, BTreeSet::from([0, 1, 2]));
}

#[tokio::test]
async fn a_program_finds_the_trace_it_is_part_of_and_no_other_text() {
    let source = "import os\nprint(os.environ.get('TRACEPARENT'))";
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (given, seen) in [(trace, trace), ("00-a\0b", "None")] {
        let place = Place::new();
        let program =
            Program { traceparent: Some(given.to_owned()), ..program("python", source, AMPLE) };
        let ran = place.sandbox.run(program).await.unwrap();
        assert_eq!(ran.stdout.text, format!("{seen}\n"));
    }
}

#[tokio::test]
async fn a_program_finds_modules_that_it_writes() {
    let source = "open('mine.py', 'w').write('x = 42')\nimport mine\nprint(mine.x)";
    assert_eq!(Place::new().run(source).await.stdout.text, "42\n");
}

#[tokio::test]
async fn a_program_that_closes_its_streams_is_waited_for() {
    let source = "import os, time\nos.close(1); os.close(2); time.sleep(0.3); os._exit(5)";
    assert_eq!(Place::new().run(source).await.exit_code, 5);
}

#[tokio::test]
async fn a_daemon_does_not_survive_its_run() {
    // Two forks, a session of its own, another environment and other descriptors: all that daemons do.
    let place = Place::new();
    let mark = place.tmp.path().display();
    let source = format!(
        "import os\n\
         r, w = os.pipe()\n\
         if os.fork() == 0:\n\
         \x20   os.setsid()\n\
         \x20   if os.fork(): os._exit(0)\n\
         \x20   os.write(w, str(os.getpid()).encode())\n\
         \x20   os.closerange(0, 100)\n\
         \x20   os.chdir('/')\n\
         \x20   os.execve('/bin/sh', ['sh', '-c', 'trap : TERM HUP INT; sleep 1000; : {mark}'], {{}})\n\
         os.wait()\n\
         print(os.read(r, 100).decode())"
    );
    let ran = place.run(&source).await;
    let daemon: i32 = ran.stdout.text.trim().parse().unwrap();
    assert!(!Path::new(&format!("/proc/{daemon}")).exists(), "{daemon} is still there");
}

#[tokio::test]
async fn a_grandchild_that_holds_the_streams_delays_nothing() {
    let source = "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)\n\
        subprocess.Popen(['sleep', '1000'])\nprint('done')";
    let ran = Place::new().run(source).await;
    assert_eq!((ran.ended_by, ran.stdout.text.as_str()), (EndedBy::Exit, "done\n"));
}

#[tokio::test]
async fn many_processes_in_sessions_of_their_own_are_all_ended() {
    let source = "import os, time\n\
        for _ in range(100):\n\
        \x20   if os.fork() == 0:\n\
        \x20       os.setsid(); os.fork(); time.sleep(1000)\n\
        time.sleep(1000)";
    let ran = Place::new().try_run(source, Duration::from_secs(2)).await.unwrap();
    assert_eq!(ran.ended_by, EndedBy::Wall);
}

#[tokio::test]
async fn processes_that_flee_by_forking_are_caught() {
    // Each lives for one fork only, so whoever looks finds another one.
    // (They give up by themselves at last, lest a failure of this test be felt for ever.)
    let source = "import os, time\n\
        end = time.time() + 30\n\
        for _ in range(12):\n\
        \x20   if os.fork() == 0:\n\
        \x20       os.setsid()\n\
        \x20       while time.time() < end:\n\
        \x20           if os.fork(): os._exit(0)\n\
        \x20           os.setsid()\n\
        \x20       os._exit(0)\n\
        time.sleep(1000)";
    let ran = Place::new().try_run(source, Duration::from_secs(1)).await;
    assert!(matches!(ran, Ok(Ran { ended_by: EndedBy::Wall, .. })), "{ran:?}");
}

#[tokio::test]
async fn a_directory_that_resists_is_removed() {
    let source = "import os\n\
        top = os.getcwd()\n\
        os.makedirs('a/b/c')\n\
        open('a/b/c/file', 'w').close()\n\
        os.symlink('/', 'a/root')\n\
        for _ in range(3000):\n\
        \x20   os.mkdir('deep'); os.chdir('deep')\n\
        os.chdir(top)\n\
        for name in ('a/b/c', 'a/b', 'a', '.'): os.chmod(name, 0)\n\
        print('locked')";
    assert_eq!(Place::new().run(source).await.stdout.text, "locked\n");
}

#[tokio::test]
async fn a_guardian_that_its_program_kills_is_noticed_and_nothing_is_left() {
    let source = "import os, signal, subprocess, time\n\
        subprocess.Popen(['sleep', '1000'], start_new_session=True)\n\
        os.kill(os.getppid(), signal.SIGKILL)\n\
        time.sleep(1000)";
    let ran = Place::new().try_run(source, AMPLE).await;
    assert!(
        matches!(&ran, Err(SandboxError::Broken { message, .. }) if message.contains("guardian")),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_guardian_that_its_program_stops_is_noticed_and_nothing_is_left() {
    let place = Place::with(|settings| SandboxSettings { guard_ms_max: 1000, ..settings });
    let source = "import os, signal, time\nos.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(1000)";
    let ran = place.try_run(source, Duration::from_millis(500)).await;
    assert!(matches!(ran, Err(SandboxError::Broken { .. })), "{ran:?}");
}

#[test]
fn two_hundred_runs_leave_no_process_no_zombie_and_no_descriptor() {
    const NAME: &str = "two_hundred_runs_leave_no_process_no_zombie_and_no_descriptor";
    if std::env::var_os(ALONE).is_none() {
        assert!(alone(NAME, "yes").status().unwrap().success());
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let place = Place::new();
        place.run("").await;
        let before = open_descriptors();
        let place = Arc::new(place);
        for _ in 0..50 {
            let mut runs = tokio::task::JoinSet::new();
            for number in 0..4 {
                let place = place.clone();
                runs.spawn(async move {
                    let program = program("py", &format!("print({number})"), AMPLE);
                    let ran = place.sandbox.run(program).await.unwrap();
                    assert_eq!(ran.stdout.text, format!("{number}\n"));
                });
            }
            while let Some(run) = runs.join_next().await {
                run.unwrap();
            }
        }
        place.sandbox.drained().await;
        place.assert_nothing_is_left();
        assert_eq!(children_of_this_process(), Vec::<String>::new());
        assert_eq!(open_descriptors(), before);
    });
}

/// A program that starts a daemon, says so in the file `started`, and does not end.
fn endless(tmp: &Path) -> String {
    format!(
        "import os, time\n\
         tmp = {:?}\n\
         if os.fork() == 0:\n\
         \x20   os.setsid()\n\
         \x20   if os.fork(): os._exit(0)\n\
         \x20   open(tmp + '/daemon', 'w').close()\n\
         \x20   time.sleep(1000)\n\
         os.wait()\n\
         while not os.path.exists(tmp + '/daemon'): time.sleep(0.001)\n\
         open(tmp + '/started', 'w').close()\n\
         time.sleep(1000)",
        tmp.to_str().unwrap()
    )
}

#[tokio::test]
async fn dropping_the_future_ends_everything() {
    let place = Place::new();
    let program = program("python3", &endless(place.tmp.path()), AMPLE);
    let sandbox = place.sandbox.clone();
    let run = tokio::spawn(async move { sandbox.run(program).await });
    let started = place.tmp.path().join("started");
    until("started", || started.exists()).await;
    assert_eq!(processes_with(place.tmp.path().to_str().unwrap()).len(), 2);
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    place.sandbox.drained().await;
    place.assert_nothing_is_left();
}

/// The other side of the two tests that follow: a factory in the middle of a run.
async fn be_a_factory(tmp: &Path) {
    let sandbox = ProcessSandbox::new(settings(tmp));
    let program = program("py", &endless(tmp), AMPLE);
    let ran = sandbox.run(program).await;
    panic!("the run was to be interrupted: {ran:?}");
}

/// A factory in a process of its own; killed also when its test fails.
struct Factory(std::process::Child);

impl Factory {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Factory {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test]
async fn killing_the_factory_leaves_nothing() {
    if let Some(tmp) = std::env::var_os(ALONE) {
        return be_a_factory(Path::new(&tmp)).await;
    }
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().to_str().unwrap();
    let mut factory = Factory(alone("killing_the_factory_leaves_nothing", path).spawn().unwrap());
    let started = tmp.path().join("started");
    until("started", || started.exists()).await;
    let directory = run_directories(tmp.path()).pop().unwrap();
    let name = directory.file_name().unwrap().to_str().unwrap();
    assert_eq!(processes_with(name).len(), 3, "the guardian, the program and its daemon");
    factory.kill();
    until("no process", || processes_with(name).is_empty()).await;
    until("no directory", || run_directories(tmp.path()).is_empty()).await;
}

#[tokio::test]
async fn what_a_killed_factory_and_a_killed_guardian_left_is_swept() {
    if let Some(tmp) = std::env::var_os(ALONE) {
        return be_a_factory(Path::new(&tmp)).await;
    }
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().to_str().unwrap();
    let factory = alone("what_a_killed_factory_and_a_killed_guardian_left_is_swept", path).spawn();
    let mut factory = Factory(factory.unwrap());
    let started = tmp.path().join("started");
    until("started", || started.exists()).await;
    let runs = tmp.path().join("runs");
    assert_eq!(ProcessSandbox::sweep(&runs).unwrap(), 0, "its guardian lives");
    let directory = run_directories(tmp.path()).pop().unwrap();
    let name = directory.file_name().unwrap().to_str().unwrap();
    let programs = processes_with(path);
    let mut guardian = processes_with(name);
    guardian.retain(|pid| !programs.contains(pid));
    assert_eq!((guardian.len(), programs.len()), (1, 2));
    // The factory first: it would tidy up after its guardian.
    let stop = rustix::process::Signal::STOP;
    rustix::process::kill_process(pid(factory.0.id().try_into().unwrap()), stop).unwrap();
    rustix::process::kill_process(pid(guardian[0]), rustix::process::Signal::KILL).unwrap();
    factory.kill();
    let guardian = format!("/proc/{}", guardian[0]);
    until("no guardian", || !Path::new(&guardian).exists()).await;
    assert_eq!(processes_with(name), programs, "nobody ends them");
    assert_eq!(ProcessSandbox::sweep(&runs).unwrap(), 1);
    until("no process", || processes_with(name).is_empty()).await;
    assert!(run_directories(tmp.path()).is_empty());
}

fn pid(number: i32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(number).unwrap()
}

#[tokio::test]
async fn a_source_may_be_huge_up_to_its_limit_and_hold_anything() {
    let place = Place::with(|mut settings| {
        settings.limits.code_bytes = 4 << 20;
        settings
    });
    let end = "\nprint('end')";
    let huge = format!("#{}{end}", "x".repeat((4 << 20) - 1 - end.len()));
    assert_eq!(place.run(&huge).await.stdout.text, "end\n");
    let refused = place.try_run(&format!("{huge}\n"), AMPLE).await;
    let expected = "a program of 4194305 bytes is too large: at most 4194304";
    assert_eq!(refused, Err(SandboxError::Refused(expected.into())));
    let ran = place.run("print('a\0b')").await;
    assert_eq!(ran.exit_code, 1);
    assert!(ran.stderr.text.contains("null byte"), "{ran:?}");
}

#[tokio::test]
async fn a_missing_interpreter_and_an_unknown_language_are_told_apart() {
    let place = Place::with(|settings| SandboxSettings {
        search_path: Some("/nonexistent".into()),
        ..settings
    });
    let missing = place.try_run("", AMPLE).await;
    assert!(matches!(missing, Err(SandboxError::MissingInterpreter(_))), "{missing:?}");
    let program = program("cobol", "", AMPLE);
    let unknown = place.sandbox.run(program).await.unwrap_err();
    assert_eq!(unknown, SandboxError::UnsupportedLanguage("cobol".into()));
    assert_eq!(unknown.to_string(), "Unsupported language: cobol");
}

#[tokio::test]
async fn a_guardian_that_cannot_work_is_said_to_be_broken() {
    let place = Place::with(|settings| SandboxSettings {
        guardian: "/nonexistent/guardian".into(),
        ..settings
    });
    assert!(matches!(place.try_run("", AMPLE).await, Err(SandboxError::Broken { .. })));
    let place =
        Place::with(|settings| SandboxSettings { guardian: "/bin/true".into(), ..settings });
    assert!(matches!(place.try_run("", AMPLE).await, Err(SandboxError::Broken { .. })));
    let place =
        Place::with(|settings| SandboxSettings { tmp_dir: "/proc/nowhere".into(), ..settings });
    assert!(matches!(place.try_run("", AMPLE).await, Err(SandboxError::Broken { .. })));
}

#[tokio::test]
async fn the_isolation_says_what_it_is_not() {
    let isolation = Place::new().sandbox.isolation();
    assert_eq!(isolation.level, IsolationLevel::Process);
    assert!(isolation.missing.contains(&"network".to_owned()));
}
