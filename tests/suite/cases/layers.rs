//! Each layer turned off: a program must then be able to do what it cannot do otherwise. What
//! cannot be shown this way is what nothing would miss.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ai_factory::sandbox::{JailSandbox, SandboxSettings, layer::IsolationLayer};
use ai_factory_ports::sandbox::{Program, ProgramOutcome, Sandbox as _, SandboxError};

use super::inside::{self, Who};

/// Far more than any of these takes.
const AMPLE: Duration = Duration::from_mins(1);

/// A layer, and what shows it.
struct Probe {
    layer: IsolationLayer,
    /// Layers that hide the same, and are off both times.
    beside: &'static [IsolationLayer],
    /// A program that prints `shut` or `open`.
    code: String,
}

fn probe(layer: IsolationLayer, code: impl Into<String>) -> Probe {
    Probe { layer, beside: &[], code: code.into() }
}

/// Prints `open` where the jail is in a namespace of the factory's.
fn shares(layer: IsolationLayer, name: &str) -> Probe {
    let ours = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
    let code = format!(
        "import os\nprint('open' if os.readlink('/proc/self/ns/{name}')=={:?} else 'shut')",
        ours.to_str().unwrap()
    );
    probe(layer, code)
}

/// Prints `open` where a line of `/proc/self/status` does not begin with `shut`.
fn status(layer: IsolationLayer, shut: &str) -> Probe {
    let code = format!(
        "print('shut' if any(l.startswith({shut:?}) for l in open('/proc/self/status')) else 'open')"
    );
    probe(layer, code)
}

fn probes(who: Who) -> Vec<Probe> {
    let mut probes = vec![
        shares(IsolationLayer::NetworkNamespace, "net"),
        shares(IsolationLayer::IpcNamespace, "ipc"),
        shares(IsolationLayer::UtsNamespace, "uts"),
        shares(IsolationLayer::CgroupNamespace, "cgroup"),
        // What every machine has and no run needs.
        probe(
            IsolationLayer::PrivateRoot,
            "import os\nprint('open' if os.path.exists('/var') else 'shut')",
        ),
        probe(
            IsolationLayer::ResourceLimits,
            "import resource as r\nn=r.getrlimit(r.RLIMIT_NOFILE)[1]\nprint('shut' if n==256 else 'open')",
        ),
        status(IsolationLayer::Seccomp, "Seccomp:\t2"),
        // These two need it, and set it where nobody has.
        Probe {
            beside: &[IsolationLayer::Seccomp, IsolationLayer::Landlock],
            ..status(IsolationLayer::NoNewPrivileges, "NoNewPrivs:\t1")
        },
        // Without network, whoever may connect hears that there is none; who may not is refused
        // before.
        probe(
            IsolationLayer::Landlock,
            "import socket\ntry: socket.create_connection(('127.0.0.1',9),1); print('open')\n\
             except PermissionError: print('shut')\nexcept OSError: print('open')",
        ),
    ];
    match who {
        // Whoever becomes another user cannot be read anyway.
        Who::User => probes.push(probe(
            IsolationLayer::NotDumpable,
            "try: print('open' if open('/proc/1/environ') else '')\nexcept PermissionError: print('shut')",
        )),
        // A user without a process namespace may not mount a `/proc`, and runs nothing.
        Who::Root => probes.push(probe(
            IsolationLayer::PidNamespace,
            "import os\nprint('shut' if os.getpid()==2 else 'open')",
        )),
    }
    if who == Who::Root {
        // A root without capabilities may not write where the run's own user does.
        probes.push(Probe {
            beside: &[IsolationLayer::Capabilities],
            ..probe(
                IsolationLayer::User,
                "import os\nprint('shut' if os.getuid()>1000 else 'open')",
            )
        });
        probes.push(status(IsolationLayer::Capabilities, "CapBnd:\t0000000000000000"));
    }
    probes
}

fn without(layers: impl IntoIterator<Item = IsolationLayer>) -> Arc<JailSandbox> {
    // Without a private root, a run finds no interpreter in somebody's home.
    let system = PathBuf::from("/usr/bin/python3");
    JailSandbox::full(SandboxSettings {
        interpreters: system.exists().then_some(("python", system)).into_iter().collect(),
        guardian: std::env::var_os(crate::cli::PROGRAM).unwrap().into(),
        pool_members: 0,
        without: layers.into_iter().collect::<BTreeSet<_>>(),
        ..SandboxSettings::new("/nonexistent")
    })
}

fn program(language: &str, source: &str) -> Program {
    Program {
        language: language.to_owned(),
        source: source.to_owned(),
        stdin: None,
        files: Vec::new(),
        return_files: Vec::new(),
        wall_max: AMPLE,
        traceparent: None,
        cpu_max: None,
        workspace: None,
    }
}

fn assert_each_is_missed(who: Who) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut faults = Vec::new();
    for Probe { layer, beside, code } in probes(who) {
        for (off, wanted) in [(None, "shut"), (Some(layer), "open")] {
            let sandbox = without(beside.iter().copied().chain(off));
            let ran = runtime.block_on(sandbox.run(program("python", &code)));
            runtime.block_on(sandbox.drained());
            let said = ran.as_ref().map_or("", |ran| ran.stdout.text.trim());
            let is_listed = |ran: &ProgramOutcome| {
                let isolation = ran.isolation.as_ref().expect("what was in force");
                isolation.active.iter().any(|name| name == layer.name())
            };
            let listed = ran.as_ref().is_ok_and(is_listed);
            if said != wanted || listed == off.is_some() {
                faults.push(format!("{layer}, off: {}: listed {listed}, {ran:?}", off.is_some()));
            }
        }
    }
    assert!(faults.is_empty(), "{who:?}:\n{}", faults.join("\n"));
}

#[test]
fn every_layer_is_missed_when_it_is_off_as_root() {
    let test = concat!(module_path!(), "::every_layer_is_missed_when_it_is_off_as_root");
    inside::run(test, Who::Root, |_| assert_each_is_missed(Who::Root));
}

#[test]
fn every_layer_is_missed_when_it_is_off_as_a_user() {
    let test = concat!(module_path!(), "::every_layer_is_missed_when_it_is_off_as_a_user");
    inside::run(test, Who::User, |_| assert_each_is_missed(Who::User));
}

/// Without these there is no run at all, which is as good as missing them.
fn assert_no_run_without(layers: &[IsolationLayer]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for layer in layers {
        let sandbox = without([*layer]);
        let ran = runtime.block_on(sandbox.run(program("python", "print('open')")));
        runtime.block_on(sandbox.drained());
        assert!(matches!(&ran, Err(SandboxError::Broken { .. })), "{layer}: {ran:?}");
    }
}

#[test]
fn some_layers_cannot_be_done_without_as_root() {
    let test = concat!(module_path!(), "::some_layers_cannot_be_done_without_as_root");
    inside::run(test, Who::Root, |_| assert_no_run_without(&[IsolationLayer::MountNamespace]));
}

#[test]
fn some_layers_cannot_be_done_without_as_a_user() {
    let test = concat!(module_path!(), "::some_layers_cannot_be_done_without_as_a_user");
    let needed = [
        IsolationLayer::UserNamespace,
        IsolationLayer::PidNamespace,
        IsolationLayer::MountNamespace,
    ];
    inside::run(test, Who::User, |_| assert_no_run_without(&needed));
}

/// A file that the factory has open and that every program which it starts would inherit, but for
/// the layer.
fn assert_descriptors_are_closed(dir: &Path) {
    use rustix::io::{FdFlags, fcntl_setfd};
    let open = fs::File::create(dir.join("left-open")).unwrap();
    fcntl_setfd(&open, FdFlags::empty()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let look = "import os\nfor f in os.listdir('/proc/self/fd'):\n    \
                try: print(os.readlink('/proc/self/fd/'+f))\n    except OSError: pass";
    let seen = |layers: &[IsolationLayer]| {
        let sandbox = without(layers.iter().copied());
        let ran = runtime.block_on(sandbox.run(program("python", look))).unwrap();
        runtime.block_on(sandbox.drained());
        assert_eq!(ran.exit_code, 0, "{ran:?}");
        ran.stdout.text.contains("left-open")
    };
    assert!(!seen(&[]));
    assert!(seen(&[IsolationLayer::Descriptors]));
}

#[test]
fn open_files_reach_a_program_only_without_their_layer_as_root() {
    let test =
        concat!(module_path!(), "::open_files_reach_a_program_only_without_their_layer_as_root");
    inside::run(test, Who::Root, assert_descriptors_are_closed);
}

#[test]
fn open_files_reach_a_program_only_without_their_layer_as_a_user() {
    let test =
        concat!(module_path!(), "::open_files_reach_a_program_only_without_their_layer_as_a_user");
    inside::run(test, Who::User, assert_descriptors_are_closed);
}

/// How many runs may leave nothing.
const RUNS: usize = 1_000;
/// How many of them at once.
const AT_ONCE: usize = 8;

/// What there is of each kind of thing that a run could leave.
#[derive(Debug, PartialEq, Eq)]
struct Things {
    processes: usize,
    descriptors: usize,
    mounts: usize,
    groups: usize,
    files: usize,
}

impl Things {
    fn counted(dir: &Path) -> Self {
        let entries = |path: &Path| fs::read_dir(path).map_or(0, Iterator::count);
        let is_process =
            |name: &std::ffi::OsStr| name.to_str().is_some_and(|it| it.parse::<u32>().is_ok());
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
        Self {
            processes: processes.filter(|entry| is_process(&entry.file_name())).count(),
            descriptors: entries(Path::new("/proc/self/fd")),
            mounts: fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(),
            groups: entries(Path::new("/sys/fs/cgroup")),
            files: entries(dir) + entries(dir.parent().unwrap()),
        }
    }
}

fn assert_runs_leave_nothing(dir: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let run_all = |runs: usize| {
        let sandbox = without([]);
        runtime.block_on(async {
            use futures_util::{StreamExt as _, stream};
            let all = stream::iter(0..runs).map(|number| {
                let sandbox = Arc::clone(&sandbox);
                // One in twenty leaves a daemon behind, or tries to.
                let code = if number % 20 == 0 {
                    "(sleep 1000 &) ; echo $((2+2))"
                } else {
                    "echo $((2+2))"
                };
                async move { sandbox.run(program("bash", code)).await }
            });
            all.buffer_unordered(AT_ONCE)
                .for_each(async |ran| assert_eq!(ran.unwrap().stdout.text, "4\n"))
                .await;
            sandbox.drained().await;
        });
    };
    run_all(AT_ONCE * 2);
    let before = Things::counted(dir);
    run_all(RUNS);
    assert_eq!(Things::counted(dir), before);
}

#[test]
fn a_thousand_runs_leave_nothing_as_root() {
    let test = concat!(module_path!(), "::a_thousand_runs_leave_nothing_as_root");
    inside::run(test, Who::Root, assert_runs_leave_nothing);
}

#[test]
fn a_thousand_runs_leave_nothing_as_a_user() {
    let test = concat!(module_path!(), "::a_thousand_runs_leave_nothing_as_a_user");
    inside::run(test, Who::User, assert_runs_leave_nothing);
}
