//! A test that starts itself again in a process namespace of its own, as root or as an ordinary
//! user.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

/// Users and groups that nobody has. Each test process takes another: the kernel counts the
/// processes of a user across namespaces.
const NOBODIES: std::ops::Range<u32> = 61_234..62_234;
/// Set inside: the directory of the service.
const DIRECTORY: &str = "AI_FACTORY_CASES_DIRECTORY";

/// Process 1 of the namespace, which ignores signals: it makes all but the test's own directory
/// read-only, in case there is a hole, and then does nothing but wait.
const KEEPER: &str = r#"
if [ "$(id -u)" = 0 ]; then mount --bind "$0" "$0"; mount -o remount,ro,bind /; fi
cd "$0"
"$@" && exit 0
exit 1
"#;

/// Who the factory runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Root, without a user namespace.
    Root,
    /// A user without any rights.
    User,
}

/// Calls `body` in a process namespace of its own, with a directory that belongs to `who`: by
/// starting `test`, the full name of the calling test, again there.
pub(super) fn run(test: &str, who: Who, body: impl FnOnce(&Path)) {
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        return body(Path::new(&dir));
    }
    let is_root = rustix::process::getuid().is_root();
    if who == Who::Root && !is_root {
        println!("left out: only root can try this as root");
        return;
    }
    // Below the directory of temporary files, where everybody may look.
    let dir = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir();
    let dir = dir.unwrap();
    let service = dir.path().join("service");
    fs::create_dir(&service).unwrap();
    super::own::make_programs(&service.join("pub"));
    let programs = [
        (std::env::current_exe().unwrap(), dir.path().join("suite")),
        (PathBuf::from(env!("CARGO_BIN_EXE_ai-factory")), dir.path().join("ai-factory")),
    ];
    for (program, here) in &programs {
        if fs::hard_link(program, here).is_err() {
            fs::copy(program, here).unwrap();
        }
    }
    let [(_, suite), (_, program)] = &programs;
    let mut arguments: Vec<OsString> =
        ["--pid", "--fork", "--mount-proc", "--kill-child"].map(OsString::from).into();
    if !is_root {
        arguments.extend(["--user", "--map-current-user"].map(OsString::from));
    }
    arguments.extend(["sh", "-e", "-c", KEEPER].map(OsString::from));
    arguments.push(dir.path().into());
    if is_root && who == Who::User {
        let nobody = NOBODIES.start + std::process::id() % (NOBODIES.end - NOBODIES.start);
        chown(&service, Some(nobody), Some(nobody)).unwrap();
        let user = [format!("--reuid={nobody}"), format!("--regid={nobody}")];
        arguments.push("setpriv".into());
        arguments.extend(user.map(OsString::from));
        arguments.push("--clear-groups".into());
    }
    arguments.push(suite.into());
    let (_, test) = test.split_once("::").expect("a path below the crate");
    arguments.extend(["--exact", test, "--nocapture"].map(OsString::from));
    let output = Command::new("unshare")
        .args(arguments)
        .current_dir(dir.path())
        .env(DIRECTORY, &service)
        // Nothing else can be written to.
        .env("TMPDIR", &service)
        .env(crate::cli::PROGRAM, program)
        .env_remove("NEXTEST")
        .output()
        .unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}: {}", output.status, said.join("\n"));
    assert!(said[0].contains("1 passed"), "{test} did not run: {}", said.join("\n"));
}
