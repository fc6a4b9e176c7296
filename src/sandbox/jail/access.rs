//! Landlock: a kernel-enforced list of what the program may read, write and connect to, independent
//! of the file tree.

use std::{io, path::Path};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::{
    super::layer::IsolationLayer,
    message::{JailFailure, RunUser, Setup},
    root::{DEVICES, SYSTEM, WRITABLE},
};

/// The newest ABI that this code uses; an older kernel applies the part it supports.
const KNOWN: ABI = ABI::V6;
/// The oldest ABI that is accepted.
const NEEDED: ABI = ABI::V1;
/// Readable in a private root, in addition to [`SYSTEM`] and the interpreter's directories.
const READABLE: [&str; 3] = ["/etc", "/proc", "/dev"];
/// Readable on the machine's own root, in addition to them: library and program look-up, time zone,
/// trusted certificates. Some programs do not start without them.
const READABLE_OF_MACHINE: [&str; 6] = [
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs",
];
/// The directory of a run without a root of its own, as a relative path: the run's user may be
/// unable to traverse the absolute one.
const HERE: &str = ".";

/// Confines this process and all its descendants.
pub(super) fn confine(setup: &Setup) -> Result<(), JailFailure> {
    let status = restrict(setup).map_err(|error| {
        JailFailure::of(IsolationLayer::Landlock, "confining", io::Error::other(error))
    })?;
    if status == RulesetStatus::NotEnforced {
        let message = "this kernel has no Landlock, or it is off".to_owned();
        return Err(JailFailure { layer: Some(IsolationLayer::Landlock), message });
    }
    Ok(())
}

/// The readable paths, except the interpreter's directories, and the writable ones.
fn readable_and_writable(setup: &Setup) -> (Vec<&'static Path>, Vec<&'static Path>) {
    let system = SYSTEM.iter();
    if setup.directory.is_some() {
        (system.chain(&READABLE_OF_MACHINE).map(Path::new).collect(), vec![Path::new(HERE)])
    } else {
        let writable = WRITABLE.iter().map(Path::new);
        (system.chain(&READABLE).map(Path::new).collect(), writable.collect())
    }
}

fn restrict(setup: &Setup) -> Result<RulesetStatus, landlock::RulesetError> {
    let read = AccessFs::from_read(KNOWN);
    let all = AccessFs::from_all(KNOWN);
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        // TCP is handled without any rule: every bind and connect is refused.
        .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
        // Only this keeps a program that runs as the factory's user from signalling that user's
        // other processes. Since ABI 6.
        .set_compatibility(match setup.identity {
            RunUser::Same { .. } => CompatLevel::HardRequirement,
            RunUser::Own { .. } | RunUser::Mapped { .. } => CompatLevel::BestEffort,
        })
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    let prefixes = setup.interpreter.prefixes.iter().map(|prefix| (prefix.as_path(), read));
    let (readable, writable) = readable_and_writable(setup);
    // A private root may be listed, so that its content can be found.
    let root = setup.directory.is_none().then(|| (Path::new("/"), AccessFs::ReadDir.into()));
    let paths = readable
        .into_iter()
        .map(|path| (path, read))
        .chain(root)
        .chain(prefixes)
        .chain(DEVICES.iter().map(|path| (Path::new(path), device)))
        .chain(writable.into_iter().map(|path| (path, all)));
    for (path, access) in paths {
        rules = allow(rules, path, access)?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// A missing path needs no rule.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    // Files have no right to be listed.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    match PathFd::new(path) {
        Ok(held) => rules.add_rule(PathBeneath::new(held, access)),
        Err(_) => Ok(rules),
    }
}
