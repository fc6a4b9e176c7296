//! Limits that the system enforces for each process.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::limits::RunLimits;

/// The address space of one process, as a multiple of the memory limit: threads and allocators
/// reserve far more than they use. It bounds shared mappings, which [`Resource::Data`] does not
/// count.
const ADDRESS_SPACE_TIMES: u64 = 4;
/// The stack of a thread, in bytes.
const STACK_BYTES: u64 = 8 * 1024 * 1024;
/// Memory that cannot be swapped out, in bytes.
const LOCKED_BYTES: u64 = 64 * 1024;
/// Init counts as one process.
const OWN_PROCESSES: u64 = 1;

impl RunLimits {
    /// The limits for each process. `reserves_memory`: the interpreter reserves far more than it
    /// uses, and limits itself; `beside`: processes that its user already has.
    fn per_process_limits(&self, reserves_memory: bool, beside: u64) -> Vec<(Resource, u64)> {
        let mut limits = vec![
            // One second above the limit for all processes together, so that the two can be told
            // apart.
            (Resource::Cpu, self.cpu_s.saturating_add(1)),
            (Resource::Fsize, self.file_bytes.max(self.code_bytes).max(self.files_bytes)),
            (Resource::Nproc, self.processes.saturating_add(OWN_PROCESSES + beside)),
            (Resource::Nofile, self.open_files),
            (Resource::Stack, STACK_BYTES),
            (Resource::Memlock, LOCKED_BYTES),
            (Resource::Core, 0),
            (Resource::Msgqueue, 0),
            (Resource::Nice, 0),
            (Resource::Rtprio, 0),
        ];
        if !reserves_memory {
            limits.push((Resource::Data, self.memory_bytes));
            limits.push((Resource::As, self.memory_bytes.saturating_mul(ADDRESS_SPACE_TIMES)));
        }
        limits
    }

    /// Sets them permanently for this process and its descendants, and verifies them.
    pub(super) fn enforce(&self, reserves_memory: bool, beside: u64) -> io::Result<()> {
        for (resource, limit) in self.per_process_limits(reserves_memory, beside) {
            // A hard limit that was set earlier cannot be raised.
            let limit = getrlimit(resource).maximum.map_or(limit, |maximum| maximum.min(limit));
            let both = Rlimit { current: Some(limit), maximum: Some(limit) };
            setrlimit(resource, both)?;
            if getrlimit(resource) != both {
                return Err(io::Error::other(format!(
                    "{resource:?} is not {limit} after being set"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_limited_for_each_process_that_does_not_limit_itself() {
        let has = |reserves, which| {
            let limits = RunLimits::default().per_process_limits(reserves, 0);
            limits.iter().any(|(resource, _)| *resource == which)
        };
        assert!(has(false, Resource::Data) && has(false, Resource::As));
        assert!(!has(true, Resource::Data) && !has(true, Resource::As));
    }
}
