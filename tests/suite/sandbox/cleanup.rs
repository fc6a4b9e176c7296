//! What a run leaves: nothing, whatever its program, its guardian and the factory do.

use super::*;

#[tokio::test]
async fn a_daemon_does_not_survive_its_run() {
    // Two forks, a session of its own, another environment and other descriptors: all that daemons
    // do.
    let fixture = TestSandbox::new();
    let mark = fixture.tmp.path().display();
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
    let ran = fixture.run(&source).await;
    let daemon: i32 = ran.stdout.text.trim().parse().unwrap();
    assert!(!Path::new(&format!("/proc/{daemon}")).exists(), "{daemon} is still there");
}

#[tokio::test]
async fn a_grandchild_that_holds_the_streams_delays_nothing() {
    let source = "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)\n\
        subprocess.Popen(['sleep', '1000'])\nprint('done')";
    let ran = TestSandbox::new().run(source).await;
    assert_eq!((ran.ended_by, ran.stdout.text.as_str()), (EndedBy::Exit, "done\n"));
}

#[tokio::test]
async fn many_processes_in_sessions_of_their_own_are_all_ended() {
    let source = "import os, time\n\
        for _ in range(100):\n\
        \x20   if os.fork() == 0:\n\
        \x20       os.setsid(); os.fork(); time.sleep(1000)\n\
        time.sleep(1000)";
    let ran = TestSandbox::new().try_run(source, Duration::from_secs(2)).await.unwrap();
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
    let ran = TestSandbox::new().try_run(source, Duration::from_secs(1)).await;
    assert!(matches!(ran, Ok(ProgramOutcome { ended_by: EndedBy::Wall, .. })), "{ran:?}");
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
    assert_eq!(TestSandbox::new().run(source).await.stdout.text, "locked\n");
}

#[tokio::test]
async fn a_guardian_that_its_program_kills_is_noticed_and_nothing_is_left() {
    let source = "import os, signal, subprocess, time\n\
        subprocess.Popen(['sleep', '1000'], start_new_session=True)\n\
        os.kill(os.getppid(), signal.SIGKILL)\n\
        time.sleep(1000)";
    let ran = TestSandbox::new().try_run(source, AMPLE).await;
    assert!(
        matches!(&ran, Err(SandboxError::Broken { message, .. }) if message.contains("guardian")),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_guardian_that_its_program_stops_is_noticed_and_nothing_is_left() {
    let fixture = TestSandbox::with(|settings| SandboxSettings { guard_ms_max: 1000, ..settings });
    let source = "import os, signal, time\nos.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(1000)";
    let ran = fixture.try_run(source, Duration::from_millis(500)).await;
    assert!(matches!(ran, Err(SandboxError::Broken { .. })), "{ran:?}");
}

#[test]
fn two_hundred_runs_leave_no_process_no_zombie_and_no_descriptor() {
    const TEST: &str = "two_hundred_runs_leave_no_process_no_zombie_and_no_descriptor";
    if std::env::var_os(ALONE).is_none() {
        assert_passes(alone(module_path!(), TEST, "yes"));
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fixture = TestSandbox::new();
        fixture.run("").await;
        let before = open_descriptors();
        let fixture = Arc::new(fixture);
        for _ in 0..50 {
            let mut runs = tokio::task::JoinSet::new();
            for number in 0..4 {
                let fixture = fixture.clone();
                runs.spawn(async move {
                    let program = program("py", &format!("print({number})"), AMPLE);
                    let ran = fixture.sandbox.run(program).await.unwrap();
                    assert_eq!(ran.stdout.text, format!("{number}\n"));
                });
            }
            while let Some(run) = runs.join_next().await {
                run.unwrap();
            }
        }
        fixture.sandbox.drained().await;
        fixture.assert_nothing_is_left();
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
    let fixture = TestSandbox::new();
    let program = program("python3", &endless(fixture.tmp.path()), AMPLE);
    let sandbox = fixture.sandbox.clone();
    let run = tokio::spawn(async move { sandbox.run(program).await });
    let started = fixture.tmp.path().join("started");
    until("started", || started.exists()).await;
    assert_eq!(processes_with(fixture.tmp.path().to_str().unwrap()).len(), 2);
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    fixture.sandbox.drained().await;
    fixture.assert_nothing_is_left();
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
    let factory = alone(module_path!(), "killing_the_factory_leaves_nothing", path).spawn();
    let mut factory = Factory(factory.unwrap());
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
    const TEST: &str = "what_a_killed_factory_and_a_killed_guardian_left_is_swept";
    if let Some(tmp) = std::env::var_os(ALONE) {
        return be_a_factory(Path::new(&tmp)).await;
    }
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().to_str().unwrap();
    let factory = alone(module_path!(), TEST, path).spawn();
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
