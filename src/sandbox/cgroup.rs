//! Control groups: the kernel accounts and limits the memory of all processes of a run together,
//! where a group can be created.
//!
//! *Promises.* A group is removed soon after its run; groups of dead factories are removed at the
//! next start.
//!
//! *Limits.* Version 2 only, mounted at `/sys/fs/cgroup` as distributions do. Under version 1
//! entering a group takes a process some hundred milliseconds, longer than most programs run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{directory::unique, jail::message::CgroupFiles, limits::RunLimits};

/// Prefix of group names; the factory's process id follows.
const NAME_PREFIX: &str = "ai-factory-run-";
/// Memory of init and of kernel descriptors, in addition to the program's own, in bytes.
const OWN_BYTES: u64 = 8 * 1024 * 1024;

/// Where groups can be created.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// The parent of all groups of runs.
    base: PathBuf,
    /// `cgroup.procs` of the factory's own group: a process that leaves a run's group returns
    /// there.
    home: PathBuf,
    /// Groups whose removal failed because they were still in use.
    left: Mutex<Vec<PathBuf>>,
}

impl Cgroups {
    /// Looks for a place where groups can be created, and removes the groups of dead factories
    /// there. Blocks.
    pub(super) fn find() -> Option<Arc<Self>> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let found = Self::below(Path::new("/sys/fs/cgroup"), &own)?;
        found.sweep();
        Some(Arc::new(found))
    }

    /// `own` is the content of `/proc/self/cgroup`, `root` the mount point of the groups.
    fn below(root: &Path, own: &str) -> Option<Self> {
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let group = root.join(path);
        let above = group.parent().filter(|above| above.starts_with(root)).map(Path::to_path_buf);
        // A group with processes cannot have child groups, except the root: then try siblings.
        [Some(group.clone()), above].into_iter().flatten().find_map(|base| {
            let home = group.join("cgroup.procs");
            let found = Self { base, home, left: Mutex::default() };
            found.works().then_some(found)
        })
    }

    /// Whether a group can be created here and its memory limited.
    fn works(&self) -> bool {
        let controllers = fs::read_to_string(self.base.join("cgroup.subtree_control"));
        let watches_memory = controllers
            .is_ok_and(|names| names.split_ascii_whitespace().any(|name| name == "memory"));
        watches_memory && self.create(&RunLimits::default()).is_ok()
    }

    /// Creates a group for one run.
    pub(super) fn create(&self, limits: &RunLimits) -> io::Result<Cgroup> {
        self.retry();
        let name = format!("{NAME_PREFIX}{}-{}", std::process::id(), unique());
        let directory = self.base.join(name);
        fs::create_dir(&directory)?;
        let group = Cgroup { directory: directory.clone() };
        // Files on a tmpfs are charged to the group, too.
        let files = limits.box_bytes.saturating_add(limits.tmp_bytes.saturating_mul(2));
        let bytes = limits.memory_bytes.saturating_add(files).saturating_add(OWN_BYTES);
        let write = |file: &str, value: &str| fs::write(directory.join(file), value);
        let limited = write("memory.max", &bytes.to_string()).and_then(|()| {
            // No swap in addition to memory; the file is missing where there is no swap.
            let _ = write("memory.swap.max", "0");
            write("memory.oom.group", "1")
        });
        limited.map(|()| group)
    }

    /// The files of a group that its jail uses.
    pub(super) fn files(&self, group: &Cgroup) -> CgroupFiles {
        CgroupFiles {
            inside: group.directory.join("cgroup.procs"),
            outside: self.home.clone(),
            events: group.directory.join("memory.events"),
        }
    }

    /// Removes the group of a finished run. If the kernel still holds it, removal is retried later.
    pub(super) fn remove(&self, mut group: Cgroup) {
        let directory = std::mem::take(&mut group.directory);
        if fs::remove_dir(&directory).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            self.left.lock().push(directory);
        }
    }

    fn retry(&self) {
        let mut left = self.left.lock();
        left.retain(|directory| {
            fs::remove_dir(directory).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        });
    }

    /// Removes the groups of dead factories.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.base).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let owner = name.strip_prefix(NAME_PREFIX).and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// The group of one run; removed on drop, if possible.
#[derive(Debug)]
pub(super) struct Cgroup {
    directory: PathBuf,
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if !self.directory.as_os_str().is_empty() {
            let _ = fs::remove_dir(&self.directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories that look like groups to the code under test.
    fn groups(subtree_control: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("slice/service")).unwrap();
        fs::write(root.path().join("slice/cgroup.subtree_control"), subtree_control).unwrap();
        fs::write(root.path().join("slice/service/cgroup.subtree_control"), "").unwrap();
        root
    }

    #[test]
    fn a_group_is_made_where_memory_is_watched() {
        let root = groups("cpu memory pids\n");
        let found = Cgroups::below(root.path(), "0::/slice/service\n").unwrap();
        assert_eq!(found.base, root.path().join("slice"));
        assert_eq!(found.home, root.path().join("slice/service/cgroup.procs"));
        let group = found.create(&RunLimits::default()).unwrap();
        let max = fs::read_to_string(group.directory.join("memory.max")).unwrap();
        assert!(max.parse::<u64>().unwrap() > RunLimits::default().memory_bytes);
        assert_eq!(fs::read_to_string(group.directory.join("memory.oom.group")).unwrap(), "1");
        assert_eq!(found.files(&group).events, group.directory.join("memory.events"));
    }

    #[test]
    fn where_memory_is_not_watched_there_is_none() {
        let root = groups("cpu\n");
        assert!(Cgroups::below(root.path(), "0::/slice/service\n").is_none());
        assert!(Cgroups::below(root.path(), "").is_none());
        assert!(Cgroups::below(root.path(), "3:cpu:/\n0::/\n").is_none());
    }
}
