//! Ends process trees completely, and only those.
//!
//! A guardian is a *child subreaper*: a descendant whose parent ends becomes the guardian's child.
//! If `wait` reports no children, there are no descendants, whatever they did to escape. Before a
//! process is signalled it is held by a pidfd and checked again, so that a reused process id hits
//! no other process.
//!
//! *Limits.* Only Linux has subreapers, pidfds and this `/proc`; elsewhere only process groups are
//! ended.

use std::{
    io,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, WaitStatus},
};

/// Timeout for the end of killed processes, in milliseconds. Only the kernel can delay it beyond a
/// few: a process in the middle of disk or network I/O.
const END_MS_MAX: u64 = 10_000;
/// Time for the members of the process group to end before other descendants are searched.
const GROUP_END: Duration = Duration::from_millis(2);
/// Pauses between two checks.
const PAUSE_MIN: Duration = Duration::from_micros(100);
const PAUSE_MAX: Duration = Duration::from_millis(5);

/// Ends a child that leads a process group, the group, and every other descendant of this process.
/// Returns the child's exit status. The child must not have been reaped.
pub(super) fn end_all(leader: Pid) -> io::Result<WaitStatus> {
    // One system call that no fork can outrun. The leader is not reaped, so its process id is still
    // its own.
    let _ = rustix::process::kill_process_group(leader, Signal::KILL);
    let begun = Instant::now();
    let mut pause = PAUSE_MIN;
    let mut leader_status = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if pid == leader {
                    leader_status = Some(status);
                }
                continue;
            }
            Ok(None) => {}
            Err(Errno::INTR) => continue,
            Err(Errno::CHILD) => {
                let unseen = || io::Error::other("the program's end was not seen");
                return leader_status.ok_or_else(unseen);
            }
            Err(error) => return Err(error.into()),
        }
        if begun.elapsed() > Duration::from_millis(END_MS_MAX) {
            let message =
                format!("processes of the run are still there {END_MS_MAX} ms after SIGKILL");
            return Err(io::Error::other(message));
        }
        if begun.elapsed() > GROUP_END {
            system::kill_descendants(leader);
        }
        std::thread::sleep(pause);
        pause = PAUSE_MAX.min(pause * 2);
    }
}

#[cfg(target_os = "linux")]
pub(super) use system::descendants;
pub(super) use system::{adopt_orphans, end_marked, end_of, reap_orphans};

#[cfg(target_os = "linux")]
mod system {
    use std::{collections::HashSet, fs, io, os::fd::OwnedFd, path::Path};

    use rustix::{
        io::Errno,
        process::{
            Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal, waitpid,
        },
    };

    /// Maximum number of rounds of stopping running descendants before all are killed. A stopped
    /// process cannot fork, so each round leaves fewer. A round takes well below a millisecond. One
    /// or two suffice, except for processes that escape by forking: those may need hundreds.
    const STOP_ROUNDS_MAX: usize = 2_000;
    /// Maximum number of rounds of finding and killing processes with a mark.
    const MARKED_ROUNDS_MAX: usize = 64;

    /// A descriptor that becomes readable once the process has ended; `None` where the system has
    /// none.
    pub(in super::super) fn end_of(pid: Pid) -> Option<OwnedFd> {
        pidfd_open(pid, PidfdFlags::empty()).ok()
    }

    /// Makes this process the parent of all descendants whose parent ends.
    pub(in super::super) fn adopt_orphans() -> io::Result<()> {
        Ok(rustix::process::set_child_subreaper(Some(getpid()))?)
    }

    /// Fields of `/proc/<pid>/stat`.
    struct Stat {
        parent: Pid,
        state: u8,
    }

    impl Stat {
        fn read(pid: Pid) -> Option<Self> {
            let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
            // The command's name is the second field, in parentheses, and may hold any character.
            let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
            let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
            let mut fields = fields.split_ascii_whitespace();
            let state = *fields.next()?.as_bytes().first()?;
            let parent = Pid::from_raw(fields.next()?.parse().ok()?)?;
            Some(Self { parent, state })
        }

        fn is_zombie(&self) -> bool {
            matches!(self.state, b'Z' | b'X')
        }

        fn is_running(&self) -> bool {
            !self.is_zombie() && !matches!(self.state, b'T' | b't')
        }
    }

    fn all_pids() -> impl Iterator<Item = Pid> {
        fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
            let name = entry.ok()?.file_name();
            Pid::from_raw(name.to_str()?.parse().ok()?)
        })
    }

    /// The children of a process, of all its threads. Fails if the kernel does not list them.
    fn children(pid: Pid) -> io::Result<Vec<Pid>> {
        let mut found = Vec::new();
        for thread in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
            let list = fs::read_to_string(thread?.path().join("children"))?;
            let pids =
                list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
            found.extend(pids);
        }
        Ok(found)
    }

    /// Passes every descendant of this process, with its parent, to `see` as soon as it is found: a
    /// process that escapes by forking is gone a moment later.
    fn each_descendant(see: &mut impl FnMut(Pid, Pid)) {
        let Ok(mine) = children(getpid()) else { return each_descendant_of_all(see) };
        let mut found: Vec<(Pid, Pid)> = mine.into_iter().map(|child| (child, getpid())).collect();
        while let Some((pid, parent)) = found.pop() {
            see(pid, parent);
            // If the process is gone, its children belong to this process and are found in the next
            // round.
            let below = children(pid).unwrap_or_default();
            found.extend(below.into_iter().map(|child| (child, pid)));
        }
    }

    /// Every descendant of this process.
    pub(in super::super) fn descendants() -> Vec<Pid> {
        let mut found = Vec::new();
        each_descendant(&mut |pid, _| found.push(pid));
        found
    }

    /// The same for kernels that do not list children: slower, from the parents of all processes.
    fn each_descendant_of_all(see: &mut impl FnMut(Pid, Pid)) {
        let parent = |pid| Some((pid, Stat::read(pid)?.parent));
        let mut others: Vec<(Pid, Pid)> = all_pids().filter_map(parent).collect();
        let mut family = HashSet::from([getpid()]);
        loop {
            let (found, rest): (Vec<_>, Vec<_>) =
                others.into_iter().partition(|(_, parent)| family.contains(parent));
            if found.is_empty() {
                return;
            }
            for (pid, parent) in found {
                see(pid, parent);
                family.insert(pid);
            }
            others = rest;
        }
    }

    /// Signals a process if `is_meant` still holds once it is held by a pidfd. Returns whether it
    /// did.
    fn signal(pid: Pid, signal: Signal, is_meant: impl Fn() -> bool) -> bool {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(held) if is_meant() => pidfd_send_signal(held, signal).is_ok(),
            // A kernel before 5.3, or an emulated one.
            Err(Errno::NOSYS) if is_meant() => rustix::process::kill_process(pid, signal).is_ok(),
            Ok(_) | Err(_) => false,
        }
    }

    /// Signals all descendants that `is_wanted` selects; returns their number.
    fn signal_descendants(which: Signal, is_wanted: impl Fn(&Stat) -> bool) -> usize {
        let mut count = 0;
        each_descendant(&mut |pid, parent| {
            let is_meant = || {
                Stat::read(pid)
                    .is_some_and(|process| process.parent == parent && is_wanted(&process))
            };
            count += usize::from(signal(pid, which, is_meant));
        });
        count
    }

    /// Stops all descendants, so that they create no new ones, then kills them.
    pub(super) fn kill_descendants(leader: Pid) {
        for _ in 0..STOP_ROUNDS_MAX {
            if signal_descendants(Signal::STOP, Stat::is_running) == 0 {
                break;
            }
            // Each escaped process leaves a zombie, and zombies slow every round down.
            reap_orphans(leader);
        }
        signal_descendants(Signal::KILL, |process| !process.is_zombie());
    }

    /// Reaps adopted children that have ended, except `leader`: otherwise they would accumulate as
    /// zombies.
    pub(in super::super) fn reap_orphans(leader: Pid) {
        let is_zombie = |pid: &Pid| {
            Stat::read(*pid)
                .is_some_and(|process| process.parent == getpid() && process.is_zombie())
        };
        // A child keeps its process id until it is reaped, so reaping a child can hit no other
        // process.
        let mine = children(getpid()).unwrap_or_else(|_| all_pids().filter(is_zombie).collect());
        for pid in mine.into_iter().filter(|pid| *pid != leader) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }

    /// Kills the processes whose temporary directory is `directory`: those of a run whose guardian
    /// is gone. A program can remove that mark; then it is not found.
    pub(in super::super) fn end_marked(directory: &Path) {
        let mark = [b"TMPDIR=", directory.as_os_str().as_encoded_bytes()].concat();
        let is_marked = |pid: Pid| {
            let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
            environment
                .is_ok_and(|process| process.split(|byte| *byte == 0).any(|line| line == mark))
        };
        for _ in 0..MARKED_ROUNDS_MAX {
            let marked: Vec<Pid> = all_pids().filter(|pid| is_marked(*pid)).collect();
            if marked.is_empty() {
                return;
            }
            for which in [Signal::STOP, Signal::KILL] {
                for pid in &marked {
                    signal(*pid, which, || is_marked(*pid));
                }
            }
            std::thread::yield_now();
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::{io, os::fd::OwnedFd, path::Path};

    use rustix::process::Pid;

    pub(in super::super) fn end_of(_pid: Pid) -> Option<OwnedFd> {
        None
    }

    #[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
    pub(in super::super) fn adopt_orphans() -> io::Result<()> {
        Ok(())
    }

    pub(super) fn kill_descendants(_leader: Pid) {}

    pub(in super::super) fn reap_orphans(_leader: Pid) {}

    pub(in super::super) fn end_marked(_directory: &Path) {}
}
