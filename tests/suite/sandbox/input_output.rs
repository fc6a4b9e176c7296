//! What a program is given, and what is heard of it.

use super::*;

#[tokio::test]
async fn a_program_is_run_and_heard() {
    let ran =
        TestSandbox::new().run("import sys\nprint('hello')\nprint('oh', file=sys.stderr)").await;
    assert_eq!((ran.exit_code, ran.signal, ran.ended_by), (0, None, EndedBy::Exit));
    assert_eq!((ran.stdout.text.as_str(), ran.stdout.bytes_total), ("hello\n", 6));
    assert_eq!((ran.stderr.text.as_str(), ran.stderr.bytes_total), ("oh\n", 3));
    assert!(ran.duration > Duration::ZERO);
}

#[tokio::test]
async fn the_exit_code_is_the_programs_own() {
    let fixture = TestSandbox::new();
    for (source, exit_code) in [
        ("", 0),
        ("import sys; sys.exit(3)", 3),
        ("import os; os._exit(255)", 255),
        ("import sys; sys.exit('no')", 1),
        ("import sys; sys.exit(137)", 137),
    ] {
        let ran = fixture.run(source).await;
        assert_eq!((ran.exit_code, ran.ended_by), (exit_code, EndedBy::Exit), "{source}");
    }
    let ran = fixture.run("1 / 0").await;
    assert_eq!(ran.exit_code, 1);
    assert!(ran.stderr.text.ends_with("ZeroDivisionError: division by zero\n"), "{ran:?}");
    let ran = fixture.run("print(").await;
    assert!(ran.stderr.text.contains("SyntaxError"), "{ran:?}");
}

#[tokio::test]
async fn a_program_whose_time_is_over_ends_with_124_and_is_heard_until_then() {
    let fixture = TestSandbox::new();
    let source = "import signal\n\
        for n in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(n, signal.SIG_IGN)\n\
        print('before')\n\
        while True: pass";
    let wall_max = Duration::from_millis(1500);
    let ran = fixture.try_run(source, wall_max).await.unwrap();
    assert_eq!((ran.exit_code, ran.signal, ran.ended_by), (124, None, EndedBy::Wall));
    assert_eq!(ran.stdout.text, "before\n");
    assert_eq!((ran.stderr.text.as_str(), ran.stderr.bytes_total), ("TimeoutExpired", 0));
    assert!(ran.duration >= wall_max);
}

#[tokio::test]
async fn a_signal_is_named_and_is_the_exit_code() {
    let fixture = TestSandbox::new();
    for (signal, name) in [(9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM"), (6, "SIGABRT")] {
        let source = format!("import os\nos.write(2, b'end')\nos.kill(os.getpid(), {signal})");
        let ran = fixture.run(&source).await;
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
    let ran = TestSandbox::new().run(source).await;
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
    let ran = TestSandbox::new().try_run(source, Duration::from_millis(800)).await.unwrap();
    assert_eq!(ran.ended_by, EndedBy::Wall);
    assert!(ran.stdout.text.ends_with("bytes kept]"));
}

#[tokio::test]
async fn invalid_utf_8_is_shown_with_replacement_characters() {
    let ran = TestSandbox::new().run(r"import os; os.write(1, b'a\xff\xfeb\x00\xe2\x82')").await;
    assert_eq!(ran.stdout.text, "a\u{fffd}\u{fffd}b\0\u{fffd}");
    assert_eq!(ran.stdout.bytes_total, 7);
    let ran = TestSandbox::new().run("print('\u{e4}\u{1f600}')").await;
    assert_eq!(ran.stdout.text, "\u{e4}\u{1f600}\n");
}

#[tokio::test]
async fn stdin_is_empty_and_there_is_no_terminal() {
    let source = "import sys\nprint(repr(sys.stdin.read()))\n\
        try: open('/dev/tty')\n\
        except OSError: print('no terminal')";
    assert_eq!(TestSandbox::new().run(source).await.stdout.text, "''\nno terminal\n");
}

#[test]
fn the_environment_holds_nothing_of_the_factory() {
    const TEST: &str = "the_environment_holds_nothing_of_the_factory";
    if std::env::var_os(ALONE).is_none() {
        let mut command = alone(module_path!(), TEST, "yes");
        command.env("AI_FACTORY_SECRET", "hunter2");
        assert_passes(command);
        return;
    }
    let source = "import os\nprint(*sorted(os.environ))\n\
        print(os.environ['HOME'] == os.environ['TMPDIR'] == os.getcwd())\n\
        print(open(f'/proc/{os.getppid()}/environ', 'rb').read())\n\
        print(*(fd for fd in os.listdir('/proc/self/fd') if os.path.lexists('/proc/self/fd/' + fd)))";
    let inherited = descriptors_handed_down();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ran = runtime.block_on(async { TestSandbox::new().run(source).await });
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
        let fixture = TestSandbox::new();
        let program =
            Program { traceparent: Some(given.to_owned()), ..program("python", source, AMPLE) };
        let ran = fixture.sandbox.run(program).await.unwrap();
        assert_eq!(ran.stdout.text, format!("{seen}\n"));
    }
}

#[tokio::test]
async fn a_program_finds_modules_that_it_writes() {
    let source = "open('mine.py', 'w').write('x = 42')\nimport mine\nprint(mine.x)";
    assert_eq!(TestSandbox::new().run(source).await.stdout.text, "42\n");
}

#[tokio::test]
async fn a_module_of_pythons_own_is_none_that_the_program_writes() {
    let source = "for name in ('json', 'csv', 'sitecustomize'):\n\
        \x20   open(name + '.py', 'w').write('print(__name__)')\n\
        import json, csv, sys\n\
        print(sys.flags.isolated)";
    assert_eq!(TestSandbox::new().run(source).await.stdout.text, "1\n");
    // A Python that the program starts is an ordinary one.
    let source = "import subprocess, sys\nopen('csv.py', 'w').write('print(42)')\n\
        open('other.py', 'w').write('import csv')\n\
        subprocess.run([sys.executable, 'other.py'])";
    assert_eq!(TestSandbox::new().run(source).await.stdout.text, "42\n");
}

#[tokio::test]
async fn files_and_input_are_refused_before_anything_runs() {
    let fixture = TestSandbox::new();
    let file = ProgramFile { name: "a".into(), bytes: Vec::new() };
    for program in [
        Program { files: vec![file], ..program("python", "", AMPLE) },
        Program { stdin: Some(String::new()), ..program("python", "", AMPLE) },
        Program { return_files: vec!["a".into()], ..program("python", "", AMPLE) },
    ] {
        let refused = fixture.sandbox.check(&program).unwrap_err();
        assert!(refused.to_string().contains("use `full`"), "{refused}");
    }
    assert_eq!(fixture.sandbox.check(&program("python", "", AMPLE)), Ok(()));
}

#[tokio::test]
async fn a_program_that_closes_its_streams_is_waited_for() {
    let source = "import os, time\nos.close(1); os.close(2); time.sleep(0.3); os._exit(5)";
    assert_eq!(TestSandbox::new().run(source).await.exit_code, 5);
}

#[tokio::test]
async fn a_source_may_be_huge_up_to_its_limit_and_hold_anything() {
    let fixture = TestSandbox::with(|mut settings| {
        settings.limits.code_bytes = 4 << 20;
        settings
    });
    let end = "\nprint('end')";
    let huge = format!("#{}{end}", "x".repeat((4 << 20) - 1 - end.len()));
    assert_eq!(fixture.run(&huge).await.stdout.text, "end\n");
    let refused = fixture.try_run(&format!("{huge}\n"), AMPLE).await;
    let expected = "a program of 4194305 bytes is too large: at most 4194304";
    assert_eq!(refused, Err(SandboxError::Refused(expected.into())));
    let ran = fixture.run("print('a\0b')").await;
    assert_eq!(ran.exit_code, 1);
    assert!(ran.stderr.text.contains("null byte"), "{ran:?}");
}

#[tokio::test]
async fn a_missing_interpreter_and_an_unknown_language_are_told_apart() {
    let fixture = TestSandbox::with(|settings| SandboxSettings {
        search_path: Some("/nonexistent".into()),
        ..settings
    });
    let missing = fixture.try_run("", AMPLE).await;
    assert!(matches!(missing, Err(SandboxError::MissingInterpreter(_))), "{missing:?}");
    let program = program("cobol", "", AMPLE);
    let unknown = fixture.sandbox.run(program).await.unwrap_err();
    assert_eq!(unknown, SandboxError::UnsupportedLanguage("cobol".into()));
    assert_eq!(unknown.to_string(), "Unsupported language: cobol");
}

#[tokio::test]
async fn a_guardian_that_cannot_work_is_said_to_be_broken() {
    let fixture = TestSandbox::with(|settings| SandboxSettings {
        guardian: "/nonexistent/guardian".into(),
        ..settings
    });
    assert!(matches!(fixture.try_run("", AMPLE).await, Err(SandboxError::Broken { .. })));
    let fixture =
        TestSandbox::with(|settings| SandboxSettings { guardian: "/bin/true".into(), ..settings });
    assert!(matches!(fixture.try_run("", AMPLE).await, Err(SandboxError::Broken { .. })));
    let fixture = TestSandbox::with(|settings| SandboxSettings {
        tmp_dir: "/proc/nowhere".into(),
        ..settings
    });
    assert!(matches!(fixture.try_run("", AMPLE).await, Err(SandboxError::Broken { .. })));
}

#[tokio::test]
async fn the_isolation_says_what_it_is_not() {
    let isolation = TestSandbox::new().sandbox.isolation();
    assert_eq!(isolation.level, IsolationLevel::Process);
    assert!(isolation.missing.contains(&"network".to_owned()));
}
