//! Finds the real interpreters, once per process.
//!
//! `python3` may be a shim: a script of a version manager that takes 100 ms at every start to find
//! the interpreter. A file that is no machine program is therefore asked once for the path of its
//! interpreter.

use std::{
    ffi::OsStr,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use ai_factory_ports::sandbox::SandboxError;
use tokio::process::Command;

use super::language::{FoundInterpreter, LanguageSpec};

/// Timeout for a shim to find its interpreter.
const SHIM_WAIT: Duration = Duration::from_secs(10);
/// Magic numbers of machine programs: ELF, then Mach-O (32 and 64 bits, both byte orders, and
/// universal).
const MACHINE_PROGRAMS: [[u8; 4]; 6] = [
    *b"\x7fELF",
    [0xfe, 0xed, 0xfa, 0xce],
    [0xfe, 0xed, 0xfa, 0xcf],
    [0xce, 0xfa, 0xed, 0xfe],
    [0xcf, 0xfa, 0xed, 0xfe],
    [0xca, 0xfe, 0xba, 0xbe],
];

/// The interpreter to use: the configured one, else the first on `search_path` that works.
pub(super) async fn find(
    spec: &LanguageSpec,
    named: Option<&Path>,
    search_path: Option<&OsStr>,
) -> Result<PathBuf, SandboxError> {
    let LanguageSpec { title, program, install, .. } = spec;
    if let Some(named) = named {
        return resolve(spec, &interpreter_in(named)).await.ok_or_else(|| {
            SandboxError::MissingInterpreter(format!(
                "The {title} interpreter `{}` that the settings name cannot be run: name another, or none to take \
                 `{program}` from PATH",
                named.display()
            ))
        });
    }
    for directory in std::env::split_paths(search_path.unwrap_or_default()) {
        if let Some(found) = resolve(spec, &directory.join(program)).await {
            return Ok(found);
        }
    }
    Err(SandboxError::MissingInterpreter(format!(
        "No {title} interpreter: `{program}` is not on PATH, or does not run. {install}, or name an interpreter in the \
         settings"
    )))
}

/// The interpreter in a named path: of a directory, the Python in its `bin`.
pub(super) fn interpreter_in(named: &Path) -> PathBuf {
    let programs = ["bin/python3", "bin/python"].map(|program| named.join(program));
    let of_directory = programs.into_iter().find(|path| named.is_dir() && path.exists());
    of_directory.unwrap_or_else(|| named.to_owned())
}

/// The interpreter that would run code, with its version and the directories it needs.
pub(super) async fn find_interpreter(
    spec: &LanguageSpec,
    named: Option<&Path>,
    search_path: Option<&OsStr>,
) -> Result<FoundInterpreter, SandboxError> {
    let path = find(spec, named, search_path).await?;
    let answers = ask(spec, &path).await.unwrap_or_default();
    let [_, version, prefixes @ ..] = &answers[..] else {
        return Err(SandboxError::MissingInterpreter(format!(
            "`{}` does not report its version: repair it, or name another {} interpreter in the \
             settings",
            path.display(),
            spec.title
        )));
    };
    let version = version.clone();
    let mut prefixes: Vec<_> = prefixes.iter().map(PathBuf::from).collect();
    prefixes.dedup();
    if let Some(wide) = prefixes.iter().find(|prefix| is_too_wide(prefix)) {
        return Err(SandboxError::MissingInterpreter(format!(
            "The {} interpreter `{}` is installed straight into `{}`, which programs would then read as a whole: install it \
             in a directory of its own, or name another one in the settings",
            spec.title,
            path.display(),
            wide.display()
        )));
    }
    Ok(FoundInterpreter { path, version, prefixes })
}

/// Whether a directory holds more than an interpreter: the root, a directory directly below it
/// other than those for system programs, or a home directory.
pub(super) fn is_too_wide(prefix: &Path) -> bool {
    let names: Vec<_> = prefix.components().skip(1).map(Component::as_os_str).collect();
    match &names[..] {
        _ if !prefix.is_absolute() => true,
        [] => true,
        [only] => !["usr", "opt", "nix"].iter().any(|known| only == known),
        [above, _] => *above == "home" || *above == "Users",
        _ => false,
    }
}

/// The interpreter behind a path; `None` if there is none. Links are not followed: an interpreter
/// finds its virtual environment by the path it was started with.
async fn resolve(spec: &LanguageSpec, path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let metadata = std::fs::metadata(&path).ok()?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return None;
    }
    if is_machine_program(&path) {
        return Some(path);
    }
    let path = PathBuf::from(ask(spec, &path).await?.into_iter().next()?);
    (path.is_absolute() && is_machine_program(&path)).then_some(path)
}

fn is_machine_program(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && MACHINE_PROGRAMS.contains(&magic)
}

/// The answer of an interpreter or a shim to the language's question, by lines. It runs in this
/// process's environment, because a shim finds its settings there.
async fn ask(spec: &LanguageSpec, whom: &Path) -> Option<Vec<String>> {
    let answer = Command::new(whom)
        .args(spec.question)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let answer = tokio::time::timeout(SHIM_WAIT, answer).await.ok()?.ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    answer.status.success().then(|| text.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::{super::language::LANGUAGES, *};

    const PYTHON: &LanguageSpec = &LANGUAGES[0];
    const NAME: &str = "python3";

    fn write(path: &Path, content: impl AsRef<[u8]>) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn a_shim_is_asked_and_a_broken_one_is_passed_over() {
        let tmp = tempfile::tempdir().unwrap();
        let [broken, shim] = ["broken", "shim"].map(|name| tmp.path().join(name));
        fs::create_dir_all(&broken).unwrap();
        fs::create_dir_all(&shim).unwrap();
        let real = tmp.path().join("python3.99");
        write(&real, b"\x7fELF...");
        write(&broken.join(NAME), "#!/bin/sh\necho no version set >&2\nexit 127\n");
        write(&shim.join(NAME), format!("#!/bin/sh\necho {}\n", real.display()));
        let path = std::env::join_paths([&tmp.path().join("missing"), &broken, &shim]).unwrap();
        assert_eq!(find(PYTHON, None, Some(&path)).await, Ok(real.clone()));

        let link = tmp.path().join("venv-python");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(find(PYTHON, Some(&link), None).await, Ok(link));
    }

    #[test]
    fn a_directory_that_holds_more_than_an_interpreter_is_none_of_its_own() {
        let home = |above: &str, rest: &str| format!("/{above}/somebody{rest}");
        let homes = ["home", "Users"].map(|above| home(above, ""));
        for wide in ["/", "/etc", "/var", "relative", ""]
            .into_iter()
            .chain(homes.each_ref().map(String::as_str))
        {
            assert!(is_too_wide(Path::new(wide)), "{wide}");
        }
        let own = [home("home", "/venv"), home("Users", "/python")];
        for own in ["/usr", "/usr/local", "/opt/python"]
            .into_iter()
            .chain(own.each_ref().map(String::as_str))
        {
            assert!(!is_too_wide(Path::new(own)), "{own}");
        }
    }

    #[tokio::test]
    async fn without_an_interpreter_the_message_says_how_to_get_one() {
        let missing = find(PYTHON, None, Some(OsStr::new("/nonexistent"))).await.unwrap_err();
        assert!(matches!(missing, SandboxError::MissingInterpreter(_)));
        assert!(missing.to_string().contains("Install Python 3"), "{missing}");
        let missing = find(PYTHON, Some(Path::new("/nonexistent/py")), None).await.unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/py"), "{missing}");
    }
}
