//! Usage of all processes of the jail together, measured from its `/proc`.

use std::{fs, io, os::unix::fs::MetadataExt};

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Pid, getpid},
};

use super::{
    super::processes,
    message::{RunUser, Setup},
};

/// The kilobyte of `/proc`, in bytes.
const KIB: u64 = 1024;

/// The processes of the jail except init: all of its process namespace, or without one the
/// descendants of init.
fn jail_pids() -> io::Result<Vec<Pid>> {
    let own = getpid();
    if !own.is_init() {
        return Ok(processes::descendants());
    }
    let listed = fs::read_dir("/proc")?
        .filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?));
    Ok(listed.filter(|pid| *pid != own).collect())
}

/// Number of other processes and threads of the program's user, since the kernel counts them
/// together. 0 for a user of the run's own.
pub(super) fn processes_beside(setup: &Setup) -> u64 {
    let RunUser::Same { uid } = setup.identity else { return 0 };
    let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = listed.filter(|entry| entry.metadata().is_ok_and(|found| found.uid() == uid));
    let threads =
        own.filter_map(|process| Some(fs::read_dir(process.path().join("task")).ok()?.count()));
    threads.sum::<usize>() as u64
}

/// Reads and caches the kernel's counting units: a locked-down process can no longer query them.
pub(super) fn learn_units() {
    let _ = (clock_ticks_per_second(), page_size());
}

/// Processor time in milliseconds: of living processes, and of those that they or init reaped.
pub(super) fn cpu_ms() -> io::Result<u64> {
    let own = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| ticks(&stat));
    // Of init itself only the time of its children.
    let mut total = own.map_or(0, |ticks| ticks.of_children);
    for pid in jail_pids()? {
        // If the process ended meanwhile, its parent has reaped it or will do so.
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        if let Some(ticks) = stat.ok().and_then(|stat| ticks(&stat)) {
            total += ticks.own + ticks.of_children;
        }
    }
    Ok(total.saturating_mul(1000) / clock_ticks_per_second())
}

#[derive(Debug, PartialEq, Eq)]
struct Ticks {
    own: u64,
    of_children: u64,
}

/// The times in a line of `/proc/<pid>/stat`.
fn ticks(stat: &str) -> Option<Ticks> {
    // The command's name is the second field, in parentheses, and may hold any character. The state
    // follows it.
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut times = after_name.split_ascii_whitespace().skip(11).map(|field| field.parse().ok());
    let mut next = || times.next().flatten();
    let (user, system): (u64, u64) = (next()?, next()?);
    let (children_user, children_system): (u64, u64) = (next()?, next()?);
    Some(Ticks { own: user + system, of_children: children_user + children_system })
}

/// Memory in bytes; a shared page counts once.
pub(super) fn memory_bytes() -> io::Result<u64> {
    let mut total = 0;
    for pid in jail_pids()? {
        let directory = format!("/proc/{}", pid.as_raw_nonzero());
        let shared_out = fs::read_to_string(format!("{directory}/smaps_rollup"))
            .ok()
            .and_then(|rollup| proportional(&rollup));
        // For a process that hides its mappings shared pages count in full.
        let resident = || {
            let statm = fs::read_to_string(format!("{directory}/statm")).ok()?;
            let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
            Some(pages.saturating_mul(page_size() as u64))
        };
        total += shared_out.or_else(resident).unwrap_or_default();
    }
    Ok(total)
}

fn proportional(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * KIB)
}

/// The number of processes that a control group killed for lack of memory, from its events file.
pub(super) fn oom_kills(events: &str) -> u64 {
    let line = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_shows_is_understood() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 5 6 7 8 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(Ticks { own: 11, of_children: 15 }));
        assert_eq!(ticks("nothing"), None);
        assert_eq!(
            proportional("Rss:  8 kB\nPss:             123 kB\nPss_Dirty: 5 kB\n"),
            Some(125_952)
        );
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 1\n"), 2);
        assert_eq!(oom_kills(""), 0);
    }
}
