//! Landlock: the kernel's own list of what the program may read, write and connect to, whatever the file tree holds.

use std::{io, path::Path};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::{
    super::layer::Layer,
    message::{Failure, Identity, Setup},
    root::{DEVICES, SYSTEM, WRITABLE},
};

/// What this code knows of Landlock; an older kernel does as much of it as it can.
const KNOWN: ABI = ABI::V6;
/// Without this much a kernel is refused.
const NEEDED: ABI = ABI::V1;
/// What may be read of a private root beside [`SYSTEM`] and the interpreter's own directories.
const READABLE: [&str; 3] = ["/etc", "/proc", "/dev"];
/// What may be read of the machine's own root beside them: how libraries and programs are found, the time zone, and
/// whom TLS trusts, without which some programs do not start.
const READABLE_OF_MACHINE: [&str; 6] = [
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs",
];
/// The directory of the run, where it has no root of its own: whoever leads there may be closed to its user.
const HERE: &str = ".";

/// Confines this process and all that it starts.
pub(super) fn confine(setup: &Setup) -> Result<(), Failure> {
    let status = restrict(setup)
        .map_err(|error| Failure::of(Layer::Landlock, "confining", io::Error::other(error)))?;
    if status == RulesetStatus::NotEnforced {
        let message = "this kernel has no Landlock, or it is off".to_owned();
        return Err(Failure { layer: Some(Layer::Landlock), message });
    }
    Ok(())
}

/// What may be read, but for the interpreter's own directories, and what may be written to.
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
        // Nothing is allowed of either: there is nobody to connect to, and nobody else's business.
        .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
        // Nothing else keeps the factory's own user from signalling its other processes. Since ABI 6.
        .set_compatibility(match setup.identity {
            Identity::Same { .. } => CompatLevel::HardRequirement,
            Identity::Own { .. } | Identity::Mapped { .. } => CompatLevel::BestEffort,
        })
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    let prefixes = setup.interpreter.prefixes.iter().map(|prefix| (prefix.as_path(), read));
    let (readable, writable) = readable_and_writable(setup);
    // A root of its own may be listed, and what it holds be found.
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

/// What is not there needs no rule.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    // A file cannot be listed.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    match PathFd::new(path) {
        Ok(held) => rules.add_rule(PathBeneath::new(held, access)),
        Err(_) => Ok(rules),
    }
}
