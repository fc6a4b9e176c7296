//! Ending process trees for good, and only those.
//!
//! A guardian is a *child subreaper*: whoever among its descendants loses its parent becomes its child, so
//! `wait` saying that there are no children means that there are no descendants, whatever they did to get away.
//! Before a process is signalled it is held by a pidfd and seen once more to be the one that was meant, so that a
//! process number that was given anew hits nobody.
//!
//! *Limits.* Only Linux has subreapers, pidfds and this `/proc`; elsewhere only process groups are ended.

use std::{
    io,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, WaitStatus},
};

/// How long killed processes may take to be gone, in milliseconds. Only the kernel can make it longer than a
/// few: a process in the middle of disk or network I/O.
const END_MS_MAX: u64 = 10_000;
/// How long the members of the process group may take to be gone before others are looked for.
const GROUP_END: Duration = Duration::from_millis(2);
/// The pauses between two looks.
const PAUSE_MIN: Duration = Duration::from_micros(100);
const PAUSE_MAX: Duration = Duration::from_millis(5);

/// Ends a child that leads a process group, the group, and every other descendant of this process. Answers how the
/// child ended. The child must not have been waited for yet.
pub(super) fn end_all(leader: Pid) -> io::Result<WaitStatus> {
    // One system call that no fork can outrun. The leader is not waited for, so its number is still its own.
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

    /// How often running descendants are looked for and stopped before all are killed. A stopped process cannot
    /// fork, so each round leaves fewer. A round takes well below a millisecond, and one or two do, but for
    /// processes that flee by forking: those may need hundreds.
    const STOP_ROUNDS_MAX: usize = 2_000;
    /// How often processes that carry a mark are looked for and killed.
    const MARKED_ROUNDS_MAX: usize = 64;

    /// What becomes readable once the process has ended; `None` where there is no such thing.
    pub(in super::super) fn end_of(pid: Pid) -> Option<OwnedFd> {
        pidfd_open(pid, PidfdFlags::empty()).ok()
    }

    /// Makes this process the parent of all its descendants that lose theirs.
    pub(in super::super) fn adopt_orphans() -> io::Result<()> {
        Ok(rustix::process::set_child_subreaper(Some(getpid()))?)
    }

    /// What `/proc/<pid>/stat` shows of a process.
    struct Stat {
        parent: Pid,
        state: u8,
    }

    impl Stat {
        fn read(pid: Pid) -> Option<Self> {
            let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
            // The command's name comes second, in parentheses, and may hold anything.
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

    /// The children of a process, of all its threads. Fails where the kernel does not list them.
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

    /// Shows every descendant of this process, together with its parent, as soon as it is found: who flees by
    /// forking is gone a moment later.
    fn each_descendant(see: &mut impl FnMut(Pid, Pid)) {
        let Ok(mine) = children(getpid()) else { return each_descendant_of_all(see) };
        let mut found: Vec<(Pid, Pid)> = mine.into_iter().map(|child| (child, getpid())).collect();
        while let Some((pid, parent)) = found.pop() {
            see(pid, parent);
            // Where it is gone its children are ours now, and found the next time.
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

    /// The same where the kernel does not list children: slower, from the parents of all processes.
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

    /// Signals a process if, once it is held, `is_meant` still says so. Answers whether it did.
    fn signal(pid: Pid, signal: Signal, is_meant: impl Fn() -> bool) -> bool {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(held) if is_meant() => pidfd_send_signal(held, signal).is_ok(),
            // A kernel before 5.3, or an imitation of one.
            Err(Errno::NOSYS) if is_meant() => rustix::process::kill_process(pid, signal).is_ok(),
            Ok(_) | Err(_) => false,
        }
    }

    /// Signals all descendants that `is_wanted` picks; answers how many there were.
    fn signal_descendants(which: Signal, is_wanted: impl Fn(&Stat) -> bool) -> usize {
        let mut count = 0;
        each_descendant(&mut |pid, parent| {
            let is_meant =
                || Stat::read(pid).is_some_and(|it| it.parent == parent && is_wanted(&it));
            count += usize::from(signal(pid, which, is_meant));
        });
        count
    }

    /// Stops all descendants, so that no new ones come, then kills them.
    pub(super) fn kill_descendants(leader: Pid) {
        for _ in 0..STOP_ROUNDS_MAX {
            if signal_descendants(Signal::STOP, Stat::is_running) == 0 {
                break;
            }
            // Each that fled leaves a zombie, and they make every look longer.
            reap_orphans(leader);
        }
        signal_descendants(Signal::KILL, |it| !it.is_zombie());
    }

    /// Waits for adopted children that have ended, but for `leader`: they would collect as zombies.
    pub(in super::super) fn reap_orphans(leader: Pid) {
        let is_zombie =
            |pid: &Pid| Stat::read(*pid).is_some_and(|it| it.parent == getpid() && it.is_zombie());
        // A child stays one until it is waited for, so to wait for any of them can hit nobody else.
        let mine = children(getpid()).unwrap_or_else(|_| all_pids().filter(is_zombie).collect());
        for pid in mine.into_iter().filter(|pid| *pid != leader) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }

    /// Kills the processes whose temporary directory is `directory`: those of a run whose guardian is gone. A
    /// program can take that mark off; then it is not found.
    pub(in super::super) fn end_marked(directory: &Path) {
        let mark = [b"TMPDIR=", directory.as_os_str().as_encoded_bytes()].concat();
        let is_marked = |pid: Pid| {
            let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
            environment.is_ok_and(|it| it.split(|byte| *byte == 0).any(|line| line == mark))
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
