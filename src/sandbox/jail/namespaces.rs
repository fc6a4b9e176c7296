//! New namespaces, created one by one, so that a refusal names the one that was refused.

use std::{collections::BTreeMap, fs, io};

use nix::sched::{CloneFlags, unshare};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    set_capabilities,
};

use super::{
    super::layer::IsolationLayer,
    message::{JailFailure, RunUser, Setup},
};

/// The namespace layers, with the kernel's flag and the name below `/proc/self/ns`. The user
/// namespace comes first, because it owns the others. A process that sees its parent's process
/// namespace sees that of its children.
const NAMESPACES: [(IsolationLayer, CloneFlags, &str); 7] = [
    (IsolationLayer::UserNamespace, CloneFlags::CLONE_NEWUSER, "user"),
    (IsolationLayer::MountNamespace, CloneFlags::CLONE_NEWNS, "mnt"),
    (IsolationLayer::PidNamespace, CloneFlags::CLONE_NEWPID, "pid"),
    (IsolationLayer::NetworkNamespace, CloneFlags::CLONE_NEWNET, "net"),
    (IsolationLayer::IpcNamespace, CloneFlags::CLONE_NEWIPC, "ipc"),
    (IsolationLayer::UtsNamespace, CloneFlags::CLONE_NEWUTS, "uts"),
    (IsolationLayer::CgroupNamespace, CloneFlags::CLONE_NEWCGROUP, "cgroup"),
];
/// The host name in the jail.
const HOST_NAME: &str = "sandbox";

/// The namespaces of this process, by name.
pub(crate) fn current() -> io::Result<BTreeMap<String, String>> {
    NAMESPACES
        .iter()
        .map(|(.., name)| {
            let link = fs::read_link(format!("/proc/self/ns/{name}"))?;
            Ok(((*name).to_owned(), link.display().to_string()))
        })
        .collect()
}

/// Whether a layer is set up as a namespace: root needs no user namespace.
fn is_wanted(setup: &Setup, layer: IsolationLayer) -> bool {
    let needs_users = matches!(setup.identity, RunUser::Mapped { .. });
    setup.has(layer) && (layer != IsolationLayer::UserNamespace || needs_users)
}

/// Leaves the factory's namespaces. The process namespace takes effect with the next child.
pub(super) fn enter(setup: &Setup) -> Result<(), JailFailure> {
    for (layer, flag, name) in NAMESPACES {
        if is_wanted(setup, layer) {
            unshare(flag).map_err(|errno| {
                JailFailure::of(layer, format!("unshare of the {name} namespace"), errno)
            })?;
            if let (IsolationLayer::UserNamespace, RunUser::Mapped { outside_uid, outside_gid }) =
                (layer, setup.identity)
            {
                map_ids(setup.identity.id(), outside_uid, outside_gid).map_err(|error| {
                    JailFailure::of(layer, "mapping the user into its namespace", error)
                })?;
                keep_capabilities().map_err(|error| {
                    JailFailure::of(layer, "keeping the rights over the namespaces", error)
                })?;
            }
        }
    }
    if setup.has(IsolationLayer::UtsNamespace) {
        nix::unistd::sethostname(HOST_NAME).map_err(|errno| {
            JailFailure::of(IsolationLayer::UtsNamespace, "setting the host name", errno)
        })?;
    }
    Ok(())
}

fn map_ids(inside: u32, uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{inside} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{inside} {gid} 1"))
}

/// Makes the capabilities over a user namespace ambient: otherwise `exec` drops them for every user
/// but the namespace's root.
fn keep_capabilities() -> io::Result<()> {
    let held = capabilities(None)?;
    set_capabilities(None, CapabilitySets { inheritable: held.permitted, ..held })?;
    for capability in held.permitted & CapabilitySet::all() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Verifies the namespace layers of this process, the first of the jail.
pub(super) fn verify(setup: &Setup) -> Result<Vec<IsolationLayer>, JailFailure> {
    let current = current().map_err(|error| JailFailure::other("reading /proc/self/ns", error))?;
    let mut active = Vec::new();
    for (layer, _, name) in NAMESPACES {
        let is_own = current.get(name) != setup.namespaces_outside.get(name);
        if is_own {
            active.push(layer);
        } else if is_wanted(setup, layer) {
            let message = format!("the {name} namespace is still that of the factory");
            return Err(JailFailure { layer: Some(layer), message });
        }
    }
    if setup.has(IsolationLayer::PidNamespace) && std::process::id() != 1 {
        let message = "init is not process 1".to_owned();
        return Err(JailFailure { layer: Some(IsolationLayer::PidNamespace), message });
    }
    Ok(active)
}
