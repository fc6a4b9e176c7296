//! Packages of this machine that programs may use: those of the named interpreters (also of a
//! virtual environment), and a `node_modules`.
//!
//! *Promises.* Programs read them and cannot change them. What the settings name is checked before
//! anything runs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tokio::sync::OnceCell;

use super::{
    interpreter::{self, interpreter_in, is_too_wide},
    language::{FoundInterpreter, LANGUAGES},
    settings::SandboxSettings,
};

/// The file that makes a directory a virtual environment.
const ENVIRONMENT_FILE: &str = "pyvenv.cfg";
/// The name that Node.js looks for.
const NODE_MODULES: &str = "node_modules";
/// The right of everybody to enter a directory.
const ENTER: u32 = 0o001;

/// What programs of every language see in addition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dependencies {
    /// Directories to make readable.
    pub(super) directories: Vec<PathBuf>,
    /// Directories for the beginning of `PATH`.
    pub(super) programs: Vec<PathBuf>,
    /// The directory of JavaScript packages.
    pub(super) node_modules: Option<PathBuf>,
}

/// Looks for them once.
#[derive(Debug, Default)]
pub(super) struct DependencyFinder {
    settings: Option<SandboxSettings>,
    found: OnceCell<Dependencies>,
}

impl DependencyFinder {
    /// For what the settings name.
    pub(super) fn new(settings: &SandboxSettings) -> Self {
        Self { settings: Some(settings.clone()), found: OnceCell::new() }
    }

    /// The dependencies. An interpreter that cannot be run has none: its own runs say why.
    pub(super) async fn get(&self) -> &Dependencies {
        self.found
            .get_or_init(|| async {
                match &self.settings {
                    Some(settings) => find(settings).await,
                    None => Dependencies::default(),
                }
            })
            .await
    }
}

async fn find(settings: &SandboxSettings) -> Dependencies {
    let mut found = Dependencies::default();
    for spec in &LANGUAGES {
        let Some(named) = settings.interpreters.get(spec.name) else { continue };
        let interpreter = interpreter::find_interpreter(spec, Some(named), None).await;
        let Ok(FoundInterpreter { path, prefixes, .. }) = interpreter else { continue };
        found.directories.extend(prefixes);
        found.programs.extend(path.parent().map(Path::to_path_buf));
    }
    if let Some(directory) = settings.node_modules.as_deref().and_then(absolute) {
        found.programs.push(directory.join(".bin"));
        found.directories.push(directory.clone());
        found.node_modules = Some(directory);
    }
    found.directories.sort();
    found.directories.dedup();
    found
}

/// Whether what the settings name can be used. `is_passed` says that programs run as a user of
/// their own on this machine's file tree, who must be able to enter the directories.
///
/// # Errors
/// A sentence with the setting, the path and what would be right.
pub(super) fn check(settings: &SandboxSettings, is_passed: bool) -> Result<(), String> {
    if let Some(named) = settings.interpreters.get("python") {
        check_python(named, is_passed)?;
    }
    if let Some(named) = &settings.node_modules {
        check_node_modules(named, is_passed)?;
    }
    Ok(())
}

fn check_python(named: &Path, is_passed: bool) -> Result<(), String> {
    let shown = named.display();
    if !named.exists() {
        return Err(format!(
            "the setting `python` names `{shown}`, which does not exist: name an interpreter, or the directory of a \
             virtual environment (`python3 -m venv DIRECTORY` makes one)"
        ));
    }
    let interpreter = interpreter_in(named);
    if interpreter.is_dir() {
        return Err(format!(
            "the setting `python` names the directory `{shown}`, which has no `bin/python`: name a virtual environment or \
             an interpreter"
        ));
    }
    let environment = interpreter.parent().and_then(Path::parent);
    let Some(environment) = environment.filter(|it| it.join(ENVIRONMENT_FILE).is_file()) else {
        return Ok(());
    };
    if let Some(home) = home(environment).filter(|home| !home.is_dir()) {
        return Err(format!(
            "the virtual environment `{}` of the setting `python` is made for a Python in `{}`, which does not exist: make \
             it again with `python3 -m venv`",
            environment.display(),
            home.display()
        ));
    }
    check_passable("python", environment, is_passed)?;
    check_interpreter(&interpreter, is_passed)
}

/// Whether a user without any rights can reach the interpreter behind all links.
///
/// # Errors
/// A sentence with the directory that is in the way.
pub(super) fn check_interpreter(interpreter: &Path, is_passed: bool) -> Result<(), String> {
    let Some(program) = absolute(interpreter).filter(|_| is_passed) else { return Ok(()) };
    match program.parent().and_then(shut_above) {
        Some(shut) => Err(format!(
            "`{}` is `{}`, which programs cannot reach at the sandbox level `reduced`: they run as a user of their own, who \
             may not enter `{}`; name an interpreter elsewhere (`/usr/bin`, `/opt`), or use `full`",
            interpreter.display(),
            program.display(),
            shut.display()
        )),
        None => Ok(()),
    }
}

/// The directory, or one above it, that a user without any rights may not enter.
fn shut_above(directory: &Path) -> Option<&Path> {
    let is_shut = |path: &&Path| {
        fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & ENTER == 0)
    };
    directory.ancestors().find(is_shut)
}

/// The directory of the Python that a virtual environment is made for.
fn home(environment: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(environment.join(ENVIRONMENT_FILE)).ok()?;
    let entries = text.lines().filter_map(|line| line.split_once('='));
    let mut homes = entries.filter(|(name, _)| name.trim() == "home");
    homes.next().map(|(_, value)| PathBuf::from(value.trim()))
}

fn check_node_modules(named: &Path, is_passed: bool) -> Result<(), String> {
    let shown = named.display();
    let Some(directory) = absolute(named).filter(|directory| directory.is_dir()) else {
        return Err(format!(
            "the setting `node_modules` names `{shown}`, which is no directory: name the `node_modules` of a project \
             (`npm install` makes one)"
        ));
    };
    if directory.file_name().is_none_or(|name| name != NODE_MODULES) {
        return Err(format!(
            "the setting `node_modules` names `{shown}`, but Node.js finds packages only in a directory called \
             `node_modules`: name that one"
        ));
    }
    if is_too_wide(&directory) && directory.components().count() < 3 {
        return Err(format!(
            "the setting `node_modules` names `{shown}`: put it below a directory of its own"
        ));
    }
    check_passable("node_modules", &directory, is_passed)
}

/// Whether a user without any rights can enter the directory.
fn check_passable(setting: &str, directory: &Path, is_passed: bool) -> Result<(), String> {
    let Some(directory) = absolute(directory).filter(|_| is_passed) else { return Ok(()) };
    match shut_above(&directory) {
        Some(shut) => Err(format!(
            "the setting `{setting}` names `{}`, which programs cannot reach at the sandbox level `reduced`: they run as a \
             user of their own, who may not enter `{}`; put it elsewhere (`/opt`), or use `full`",
            directory.display(),
            shut.display()
        )),
        None => Ok(()),
    }
}

/// The path without links; `None` if it does not exist.
fn absolute(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn python(path: &Path) -> SandboxSettings {
        let interpreters = [("python", path.to_owned())].into();
        SandboxSettings { interpreters, ..SandboxSettings::new("/nonexistent") }
    }

    fn node_modules(path: &Path) -> SandboxSettings {
        SandboxSettings {
            node_modules: Some(path.to_owned()),
            ..SandboxSettings::new("/nonexistent")
        }
    }

    fn refused(settings: &SandboxSettings, is_passed: bool) -> String {
        check(settings, is_passed).unwrap_err()
    }

    #[test]
    fn a_virtual_environment_is_named_by_its_directory_or_its_interpreter() {
        let tmp = tempfile::tempdir().unwrap();
        let environment = tmp.path().join("venv");
        let interpreter = environment.join("bin/python");
        fs::create_dir_all(environment.join("bin")).unwrap();
        assert!(refused(&python(&environment), false).contains("has no `bin/python`"));
        fs::write(&interpreter, "").unwrap();
        for named in [&environment, &interpreter] {
            assert_eq!(interpreter_in(named), interpreter);
            assert_eq!(check(&python(named), false), Ok(()));
        }
        fs::write(environment.join(ENVIRONMENT_FILE), "home = /nonexistent/bin\n").unwrap();
        for named in [&environment, &interpreter] {
            assert!(refused(&python(named), false).contains("`/nonexistent/bin`"));
        }
        assert!(refused(&python(Path::new("/nonexistent")), false).contains("does not exist"));
    }

    #[test]
    fn only_a_directory_called_node_modules_is_one() {
        let tmp = tempfile::tempdir().unwrap();
        let directory = tmp.path().join("project/node_modules");
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(check(&node_modules(&directory), false), Ok(()));
        let project = node_modules(&tmp.path().join("project"));
        assert!(refused(&project, false).contains("called `node_modules`"));
        let missing = node_modules(&tmp.path().join("missing"));
        assert!(refused(&missing, false).contains("no directory"));
    }

    #[test]
    fn a_directory_that_the_runs_user_cannot_enter_is_refused_with_its_name() {
        let tmp = tempfile::tempdir().unwrap();
        let shut = tmp.path().join("shut");
        let directory = shut.join("node_modules");
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(tmp.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&shut, Permissions::from_mode(0o700)).unwrap();
        let shown = fs::canonicalize(&shut).unwrap().display().to_string();
        assert!(refused(&node_modules(&directory), true).contains(&format!("enter `{shown}`")));
        assert_eq!(check(&node_modules(&directory), false), Ok(()));
    }

    #[test]
    fn an_interpreter_that_a_link_leads_to_must_be_reachable() {
        let tmp = tempfile::tempdir().unwrap();
        fs::set_permissions(tmp.path(), Permissions::from_mode(0o755)).unwrap();
        let (shut, environment) = (tmp.path().join("shut"), tmp.path().join("venv"));
        fs::create_dir_all(shut.join("bin")).unwrap();
        fs::create_dir_all(environment.join("bin")).unwrap();
        fs::write(shut.join("bin/python3"), "").unwrap();
        let home = format!("home = {}\n", shut.join("bin").display());
        fs::write(environment.join(ENVIRONMENT_FILE), home).unwrap();
        let interpreter = environment.join("bin/python3");
        std::os::unix::fs::symlink(shut.join("bin/python3"), &interpreter).unwrap();
        assert_eq!(check(&python(&environment), true), Ok(()));
        fs::set_permissions(&shut, Permissions::from_mode(0o700)).unwrap();
        let shown = fs::canonicalize(&shut).unwrap().display().to_string();
        assert!(refused(&python(&environment), true).contains(&format!("enter `{shown}`")));
        assert!(check_interpreter(&interpreter, true).is_err());
        assert_eq!(check(&python(&environment), false), Ok(()));
    }
}
