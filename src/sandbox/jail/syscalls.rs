//! Seccomp: an allow-list of the system calls that ordinary programs need.
//!
//! New or unforeseen calls are refused. Calls of other architectures (32 bits) end the process; x32
//! numbers are not on the list. Optional calls are answered as by a kernel without them, so that
//! programs use their fallback.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op,
    SeccompCondition as Condition, SeccompFilter, SeccompRule, apply_filter,
};

use super::{
    super::layer::IsolationLayer,
    message::{JailFailure, RunUser, Setup},
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Result<T> = std::result::Result<T, seccompiler::Error>;

/// On every architecture.
#[rustfmt::skip]
const ALLOWED: &[i64] = &[
    // Files.
    libc::SYS_openat, libc::SYS_close, libc::SYS_close_range, libc::SYS_read, libc::SYS_write, libc::SYS_readv,
    libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_preadv, libc::SYS_pwritev,
    libc::SYS_preadv2, libc::SYS_pwritev2, libc::SYS_lseek, libc::SYS_fstat, libc::SYS_newfstatat,
    libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_faccessat, libc::SYS_faccessat2,
    libc::SYS_getdents64, libc::SYS_readlinkat, libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat2,
    libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown,
    libc::SYS_fchownat, libc::SYS_utimensat, libc::SYS_truncate, libc::SYS_ftruncate, libc::SYS_fallocate,
    libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync, libc::SYS_syncfs, libc::SYS_sync_file_range,
    libc::SYS_fadvise64, libc::SYS_readahead, libc::SYS_flock, libc::SYS_fcntl, libc::SYS_dup, libc::SYS_dup3,
    libc::SYS_umask, libc::SYS_chdir, libc::SYS_fchdir, libc::SYS_getcwd, libc::SYS_sendfile, libc::SYS_splice,
    libc::SYS_tee, libc::SYS_copy_file_range, libc::SYS_getxattr, libc::SYS_lgetxattr, libc::SYS_fgetxattr,
    libc::SYS_listxattr, libc::SYS_llistxattr, libc::SYS_flistxattr, libc::SYS_mknodat, libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch,
    // Waiting.
    libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2, libc::SYS_eventfd2, libc::SYS_pipe2, libc::SYS_signalfd4, libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime,
    // Memory.
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise,
    libc::SYS_msync, libc::SYS_mincore, libc::SYS_mlock, libc::SYS_mlock2, libc::SYS_munlock, libc::SYS_membarrier,
    libc::SYS_pkey_alloc, libc::SYS_pkey_free, libc::SYS_pkey_mprotect,
    // Processes and threads.
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_wait4, libc::SYS_waitid,
    libc::SYS_getpid, libc::SYS_getppid, libc::SYS_gettid, libc::SYS_getpgid, libc::SYS_setpgid,
    libc::SYS_getsid, libc::SYS_setsid, libc::SYS_set_tid_address, libc::SYS_futex, libc::SYS_set_robust_list,
    libc::SYS_get_robust_list, libc::SYS_rseq, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal,
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity, libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler, libc::SYS_sched_get_priority_max, libc::SYS_sched_get_priority_min,
    libc::SYS_sched_rr_get_interval, libc::SYS_sched_getattr, libc::SYS_getpriority, libc::SYS_setpriority,
    libc::SYS_getrlimit, libc::SYS_setrlimit, libc::SYS_getrusage, libc::SYS_times, libc::SYS_getcpu,
    // Identity. Privileges cannot be gained: there are none to give.
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getresuid,
    libc::SYS_getresgid, libc::SYS_getgroups, libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setresuid,
    libc::SYS_setresgid, libc::SYS_setreuid, libc::SYS_setregid, libc::SYS_setgroups, libc::SYS_setfsuid,
    libc::SYS_setfsgid, libc::SYS_capget, libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getrandom,
    // Signals.
    libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn, libc::SYS_rt_sigpending, libc::SYS_rt_sigsuspend, libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo, libc::SYS_sigaltstack, libc::SYS_restart_syscall,
    // Time.
    libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_clock_gettime, libc::SYS_clock_getres,
    libc::SYS_gettimeofday, libc::SYS_getitimer, libc::SYS_setitimer, libc::SYS_timer_create,
    libc::SYS_timer_settime, libc::SYS_timer_gettime, libc::SYS_timer_getoverrun, libc::SYS_timer_delete,
    // Sockets; the rules below restrict their kinds.
    libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4, libc::SYS_connect, libc::SYS_shutdown,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_sendto,
    libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg,
];

/// Older forms that only x86-64 has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[i64] = &[
    libc::SYS_open, libc::SYS_creat, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink,
    libc::SYS_getdents, libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename, libc::SYS_renameat,
    libc::SYS_link, libc::SYS_symlink, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime,
    libc::SYS_utimes, libc::SYS_futimesat, libc::SYS_mknod, libc::SYS_dup2, libc::SYS_pipe, libc::SYS_poll,
    libc::SYS_select, libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_signalfd,
    libc::SYS_inotify_init, libc::SYS_fork, libc::SYS_vfork, libc::SYS_arch_prctl, libc::SYS_getpgrp,
    libc::SYS_alarm, libc::SYS_pause, libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[i64] = &[];

/// Answered as by a kernel without them: programs then use older calls, which other layers control.
#[rustfmt::skip]
const ABSENT: &[i64] = &[
    // Its operations bypass every filter.
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    // Its flags are in memory, which filters cannot inspect.
    libc::SYS_clone3,
    // Memory that no mapping shows.
    libc::SYS_memfd_create, libc::SYS_memfd_secret,
    libc::SYS_openat2, libc::SYS_futex_waitv, libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self, libc::SYS_mseal, libc::SYS_fchmodat2, libc::SYS_set_mempolicy_home_node,
    libc::SYS_process_mrelease, libc::SYS_userfaultfd,
    // Attributes and access lists: `sed -i` and `cp -p` then copy the permissions instead.
    libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr, libc::SYS_removexattr,
    libc::SYS_lremovexattr, libc::SYS_fremovexattr,
];

/// Refused where the program runs as the factory's user on the machine's own file tree: Landlock
/// does not cover ownership, times, permissions and watches.
#[rustfmt::skip]
const OF_THE_OWNER: &[i64] = &[
    libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_utimensat,
    libc::SYS_inotify_add_watch,
];
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OF_THE_OWNER_HERE: &[i64] = &[
    libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_THE_OWNER_HERE: &[i64] = &[];
/// Allowed there for the calling process only, which is 0 as the first argument.
#[rustfmt::skip]
const OF_ONESELF: [i64; 6] = [
    libc::SYS_sched_setaffinity, libc::SYS_sched_getaffinity, libc::SYS_sched_getparam, libc::SYS_sched_getscheduler,
    libc::SYS_sched_getattr, libc::SYS_sched_rr_get_interval,
];

/// Permitted socket families.
const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
/// Permitted socket kinds: no raw sockets.
const KINDS: [i32; 3] = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];
/// The bits of a socket's kind without the option flags.
const KIND_MASK: u64 = 0xf;
/// Every flag of `clone` that creates a namespace.
const NAMESPACE_FLAGS: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;
/// Terminal requests that inject input into the user's terminal.
const REFUSED_REQUESTS: [i32; 2] = [0x5412, 0x541c];
/// The one permitted operation of `seccomp`: adding a filter.
const SET_MODE_FILTER: i32 = 1;
/// What a process may change or query about itself.
#[rustfmt::skip]
const PROCESS_CONTROLS: [i32; 16] = [
    libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_PDEATHSIG, libc::PR_GET_PDEATHSIG, libc::PR_GET_DUMPABLE,
    libc::PR_SET_NO_NEW_PRIVS, libc::PR_GET_NO_NEW_PRIVS, libc::PR_CAPBSET_READ, libc::PR_SET_CHILD_SUBREAPER,
    libc::PR_GET_CHILD_SUBREAPER, libc::PR_SET_TIMERSLACK, libc::PR_GET_TIMERSLACK, libc::PR_SET_THP_DISABLE,
    libc::PR_GET_THP_DISABLE, libc::PR_GET_SECCOMP, libc::PR_SET_VMA,
];

/// Installs the filters for this process and its descendants. Also sets "no new privileges".
pub(super) fn filter(setup: &Setup) -> std::result::Result<(), JailFailure> {
    let of = |what: &'static str| {
        move |error: seccompiler::Error| {
            JailFailure::of(IsolationLayer::Seccomp, what, std::io::Error::other(error))
        }
    };
    let allowed = allowlist(setup).map_err(of("listing the system calls"))?;
    let allowed = compile(allowed, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)
        .map_err(of("compiling the list of system calls"))?;
    let absent = ABSENT.iter().map(|call| (*call, Vec::new())).collect();
    let absent = compile(absent, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))
        .map_err(of("compiling the list of absent system calls"))?;
    // If both filters refuse a call, the later one's answer counts.
    apply_filter(&allowed).map_err(of("putting the list of system calls in force"))?;
    apply_filter(&absent).map_err(of("putting the list of absent system calls in force"))
}

fn compile(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, otherwise, matched, arch)?;
    Ok(BpfProgram::try_from(filter)?)
}

fn allowlist(setup: &Setup) -> Result<Rules> {
    let plain = ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new()));
    let mut rules: Rules = plain.chain(conditional()?).collect();
    if !setup.has(IsolationLayer::NetworkNamespace) && setup.confines_program_alone() {
        // Landlock restricts TCP only. What remains are socket pairs, connected at creation.
        rules.remove(&libc::SYS_socket);
    }
    if matches!(setup.identity, RunUser::Same { .. }) {
        for call in OF_THE_OWNER.iter().chain(OF_THE_OWNER_HERE) {
            rules.remove(call);
        }
        let none = || Condition::new(0, Length::Dword, Op::Eq, 0);
        for call in OF_ONESELF {
            rules.insert(call, vec![SeccompRule::new(vec![none()?])?]);
        }
        let itself = Condition::new(1, Length::Dword, Op::Eq, 0)?;
        // For the process, not for all processes of its user.
        rules.insert(libc::SYS_setpriority, vec![SeccompRule::new(vec![none()?, itself])?]);
    }
    Ok(rules)
}

/// Calls that are allowed with certain arguments only.
fn conditional() -> Result<Rules> {
    // Families, kinds and requests are 32 bits wide: the kernel ignores the rest.
    let is = |index, op, value: i32| {
        Condition::new(index, Length::Dword, op, u64::from(value.cast_unsigned()))
    };
    let rule = |conditions: Vec<std::result::Result<Condition, BackendError>>| {
        let conditions: std::result::Result<Vec<_>, _> = conditions.into_iter().collect();
        conditions.and_then(SeccompRule::new)
    };
    let mut sockets = Vec::new();
    for family in FAMILIES {
        for kind in KINDS {
            sockets.push(rule(vec![is(0, Op::Eq, family), is(1, Op::MaskedEq(KIND_MASK), kind)])?);
        }
    }
    let pairs = rule(vec![is(0, Op::Eq, libc::AF_UNIX)])?;
    let requests = REFUSED_REQUESTS.iter().map(|request| is(1, Op::Ne, *request)).collect();
    let clone = rule(vec![is(0, Op::MaskedEq(u64::from(NAMESPACE_FLAGS.cast_unsigned())), 0)])?;
    let controls: std::result::Result<Vec<_>, _> =
        PROCESS_CONTROLS.iter().map(|control| rule(vec![is(0, Op::Eq, *control)])).collect();
    // Its own limits only; the kernel prevents raising them.
    let limits = rule(vec![is(0, Op::Eq, 0)])?;
    Ok([
        (libc::SYS_socket, sockets),
        (libc::SYS_socketpair, vec![pairs]),
        (libc::SYS_ioctl, vec![rule(requests)?]),
        (libc::SYS_clone, vec![clone]),
        (libc::SYS_prctl, controls?),
        (libc::SYS_prlimit64, vec![limits]),
        // The second filter, and filters that a program adds: a filter can only restrict further.
        (libc::SYS_seccomp, vec![rule(vec![is(0, Op::Eq, SET_MODE_FILTER)])?]),
    ]
    .into_iter()
    .collect())
}
