//! The program's credentials: a user of its own, no groups, no capabilities at present or in
//! future.

use std::io;

use rustix::{
    io::Errno,
    process::{DumpableBehavior, set_dumpable_behavior},
    thread::{
        CapabilitySet, CapabilitySets, Gid, Uid, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};

use super::{
    super::layer::IsolationLayer,
    message::{JailFailure, RunUser, Setup},
};

/// Drops the user and all privileges, in an order that leaves each step its required privilege.
pub(super) fn give_up(setup: &Setup) -> Result<(), JailFailure> {
    let of = |layer, what: &'static str| move |error: Errno| JailFailure::of(layer, what, error);
    if setup.has(IsolationLayer::Capabilities) {
        bound().map_err(of(IsolationLayer::Capabilities, "emptying the bounding set"))?;
    }
    if let (RunUser::Own { id }, true) = (setup.identity, setup.has(IsolationLayer::User)) {
        become_user(id).map_err(of(IsolationLayer::User, "becoming the run's own user"))?;
    }
    if setup.has(IsolationLayer::Capabilities) {
        clear_ambient_capability_set()
            .map_err(of(IsolationLayer::Capabilities, "emptying the ambient set"))?;
        let none = CapabilitySet::empty();
        set_capabilities(
            None,
            CapabilitySets { effective: none, permitted: none, inheritable: none },
        )
        .map_err(of(IsolationLayer::Capabilities, "dropping all capabilities"))?;
    }
    if setup.has(IsolationLayer::NotDumpable) {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(of(IsolationLayer::NotDumpable, "forbidding dumps"))?;
    }
    Ok(())
}

/// Empties the bounding set: no program that is started later can gain a capability. Capabilities
/// unknown to this kernel do not exist.
fn bound() -> Result<(), Errno> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn become_user(id: u32) -> Result<(), Errno> {
    set_thread_groups(&[])?;
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

/// The privileges of a process, from `/proc/<pid>/status`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rights {
    /// The one id of real, effective, saved and file system user; `None` if they differ.
    pub(super) uid: Option<u32>,
    /// Whether permitted, effective, inheritable, ambient and bounding set are empty.
    pub(super) has_no_capabilities: bool,
    pub(super) has_no_new_privileges: bool,
    /// Whether a system call filter is in force.
    pub(super) is_filtered: bool,
}

impl Rights {
    /// Reads those of a process, given by id or as `self`.
    pub(super) fn read(process: &str) -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string(format!("/proc/{process}/status"))?))
    }

    fn parse(status: &str) -> Self {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim()
        };
        let one = |name| {
            let mut numbers = field(name).split_ascii_whitespace();
            let first = numbers.next()?;
            numbers.all(|number| number == first).then(|| first.parse().ok()).flatten()
        };
        let is_empty = |name| u64::from_str_radix(field(name), 16) == Ok(0);
        Self {
            uid: one("Uid").filter(|uid| one("Gid") == Some(*uid)),
            has_no_capabilities: ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
                .into_iter()
                .all(is_empty),
            has_no_new_privileges: field("NoNewPrivs") == "1",
            is_filtered: field("Seccomp") == "2",
        }
    }

    /// The layers that these privileges prove. Fails if a layer is required, is not in `later`, and
    /// is not proved.
    pub(super) fn verify(
        &self,
        setup: &Setup,
        later: Option<IsolationLayer>,
    ) -> Result<Vec<IsolationLayer>, JailFailure> {
        let is_own = !matches!(setup.identity, RunUser::Same { .. });
        let proofs = [
            (IsolationLayer::User, is_own && self.uid == Some(setup.identity.id())),
            (IsolationLayer::Capabilities, self.has_no_capabilities),
            (IsolationLayer::NoNewPrivileges, self.has_no_new_privileges),
            (IsolationLayer::Seccomp, self.is_filtered),
        ];
        let mut active = Vec::new();
        for (layer, is_proved) in proofs {
            if is_proved {
                active.push(layer);
            } else if setup.has(layer) && later != Some(layer) {
                let message = format!("it was set up and is not in force: {self:?}");
                return Err(JailFailure { layer: Some(layer), message });
            }
        }
        Ok(active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t7\t7\t7\t7\nGid:\t7\t7\t7\t7\nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
        CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t2\n";

    #[test]
    fn rights_are_read_from_what_the_kernel_says() {
        let rights = Rights::parse(STATUS);
        assert_eq!(
            rights,
            Rights {
                uid: Some(7),
                has_no_capabilities: true,
                has_no_new_privileges: true,
                is_filtered: true
            }
        );
        let bounding = STATUS.replace("CapBnd:\t0000000000000000", "CapBnd:\t0000000000200000");
        assert!(!Rights::parse(&bounding).has_no_capabilities);
        assert_eq!(Rights::parse(&STATUS.replace("Uid:\t7\t7", "Uid:\t7\t0")).uid, None);
        assert!(!Rights::parse("").has_no_capabilities && !Rights::parse("").is_filtered);
    }
}
