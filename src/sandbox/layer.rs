//! The layers of isolation, by name: what each prevents, and how to enable it where it is off.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One layer. The order is that of the set-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IsolationLayer {
    /// No descriptor of the factory reaches the program.
    Descriptors,
    /// An ordinary user gets privileges over the new namespaces only.
    UserNamespace,
    /// Other processes can be neither seen nor signalled; the end of the first process ends all.
    PidNamespace,
    /// Mounts of the run's own.
    MountNamespace,
    /// No network, not even this machine's loopback interface.
    NetworkNamespace,
    /// No shared memory or message queues of other processes.
    IpcNamespace,
    /// A host name of its own.
    UtsNamespace,
    /// The control groups of the machine cannot be seen.
    CgroupNamespace,
    /// A private file tree: read-only system, no home, no data of the factory.
    PrivateRoot,
    /// A user of its own, in no group.
    User,
    /// No capability, also for programs started later.
    Capabilities,
    /// Its memory cannot be read through `/proc`, and it dumps no core.
    NotDumpable,
    /// Per-process limits of the system.
    ResourceLimits,
    /// No program can grant more privileges than its caller has.
    NoNewPrivileges,
    /// A kernel-enforced list of what may be read, written and connected to.
    Landlock,
    /// Only system calls that ordinary programs need.
    Seccomp,
    /// Memory of all processes together, limited by the kernel.
    MemoryCgroup,
}

impl IsolationLayer {
    /// Every layer, in order.
    pub const ALL: [Self; 17] = [
        Self::Descriptors,
        Self::UserNamespace,
        Self::PidNamespace,
        Self::MountNamespace,
        Self::NetworkNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::CgroupNamespace,
        Self::PrivateRoot,
        Self::User,
        Self::Capabilities,
        Self::NotDumpable,
        Self::ResourceLimits,
        Self::NoNewPrivileges,
        Self::Landlock,
        Self::Seccomp,
        Self::MemoryCgroup,
    ];

    /// Whether it needs neither namespaces nor mounts; such layers form level `reduced`.
    pub const fn is_in_reduced(self) -> bool {
        matches!(
            self,
            Self::Descriptors
                | Self::User
                | Self::Capabilities
                | Self::NotDumpable
                | Self::ResourceLimits
                | Self::NoNewPrivileges
                | Self::Landlock
                | Self::Seccomp
                | Self::MemoryCgroup
        )
    }

    /// The name in records and settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::UserNamespace => "user-namespace",
            Self::PidNamespace => "pid-namespace",
            Self::MountNamespace => "mount-namespace",
            Self::NetworkNamespace => "network-namespace",
            Self::IpcNamespace => "ipc-namespace",
            Self::UtsNamespace => "uts-namespace",
            Self::CgroupNamespace => "cgroup-namespace",
            Self::PrivateRoot => "private-root",
            Self::User => "user",
            Self::Capabilities => "capabilities",
            Self::NotDumpable => "not-dumpable",
            Self::ResourceLimits => "resource-limits",
            Self::NoNewPrivileges => "no-new-privileges",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::MemoryCgroup => "memory-cgroup",
        }
    }

    /// How to enable it where the system refuses it: a kernel setting or a container option.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::UserNamespace
            | Self::PidNamespace
            | Self::MountNamespace
            | Self::NetworkNamespace
            | Self::IpcNamespace
            | Self::UtsNamespace
            | Self::CgroupNamespace => {
                "on the machine: `sysctl user.max_user_namespaces=15000`, on Debian before 11 \
                 `sysctl kernel.unprivileged_userns_clone=1`, on Ubuntu from 23.10 \
                 `sysctl kernel.apparmor_restrict_unprivileged_userns=0` or an AppArmor profile with `userns,`; in a \
                 container: run it with `--cap-add SYS_ADMIN --security-opt apparmor=unconfined`, or with \
                 `--security-opt seccomp=unconfined` as an ordinary user"
            }
            Self::PrivateRoot => {
                "in a container: `--cap-add SYS_ADMIN --security-opt apparmor=unconfined`, and for an ordinary user \
                 also `--security-opt systempaths=unconfined`; a machine that runs from its initial RAM disk has to \
                 switch to a root of its own first"
            }
            Self::User | Self::Capabilities => {
                "in a container: `--cap-add SETUID --cap-add SETGID --cap-add SETPCAP`, or run the factory as an \
                 ordinary user"
            }
            Self::Landlock => {
                "a kernel from 5.13 with `CONFIG_SECURITY_LANDLOCK=y` and `landlock` in the boot option `lsm=`; in a \
                 container, a seccomp profile that allows the `landlock_*` calls (Docker from 23)"
            }
            Self::Seccomp => "a kernel with `CONFIG_SECCOMP_FILTER=y`, on x86-64, ARM64 or RISC-V",
            Self::MemoryCgroup => {
                "run the factory as root where `/sys/fs/cgroup` can be written to, or as a systemd service with \
                 `Delegate=memory pids`; without, the memory of a run is summed every 25 ms and limited for each \
                 process"
            }
            Self::Descriptors
            | Self::NotDumpable
            | Self::ResourceLimits
            | Self::NoNewPrivileges => {
                "nothing on an ordinary Linux: the message says what the system refused"
            }
        }
    }
}

impl fmt::Display for IsolationLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_layer_is_the_same_everywhere() {
        for layer in IsolationLayer::ALL {
            assert_eq!(serde_json::to_value(layer).unwrap(), layer.name());
        }
        assert!(IsolationLayer::ALL.is_sorted());
    }
}
