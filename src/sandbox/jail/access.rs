//! Landlock: the kernel's own list of what the program may read, write and connect to, whatever the file tree holds.

use std::{io, path::Path};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::{
    super::layer::Layer,
    message::{Failure, Setup},
    root::{DEVICES, SYSTEM, WRITABLE},
};

/// What this code knows of Landlock; an older kernel does as much of it as it can.
const KNOWN: ABI = ABI::V6;
/// Without this much a kernel is refused.
const NEEDED: ABI = ABI::V1;
/// What may be read beside [`SYSTEM`] and the interpreter's own directories.
const READABLE: [&str; 3] = ["/etc", "/proc", "/dev"];

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
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    let prefixes = setup.interpreter.prefixes.iter().map(|prefix| (prefix.as_path(), read));
    let paths = SYSTEM
        .iter()
        .chain(&READABLE)
        .map(|path| (Path::new(path), read))
        // The root may be listed, and what it holds be found.
        .chain([(Path::new("/"), AccessFs::ReadDir.into())])
        .chain(prefixes)
        .chain(DEVICES.iter().map(|path| (Path::new(path), device)))
        .chain(WRITABLE.iter().map(|path| (Path::new(path), all)));
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
    match PathFd::new(path) {
        Ok(held) => rules.add_rule(PathBeneath::new(held, access)),
        Err(_) => Ok(rules),
    }
}
