//! The limits of a run, with their units.

use std::collections::{BTreeMap, BTreeSet};

use ai_factory_ports::sandbox::{Program, SandboxError};
use ai_factory_schemas::{
    file::{check_name, check_names, directories},
    limit::{
        CODE_BYTES_MAX, FILES_BYTES_MAX, FILES_MAX, STDIN_BYTES_MAX, WORKSPACE_BYTES_MAX,
        WORKSPACE_FILE_BYTES_MAX, WORKSPACE_FILES_MAX,
    },
};
use serde::{Deserialize, Serialize};

const MIB: u64 = 1024 * 1024;

/// The limits of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLimits {
    /// Processor time of all processes together, in seconds.
    pub cpu_s: u64,
    /// Memory of all processes together, in bytes. Files in `/box` and `/tmp` count extra.
    pub memory_bytes: u64,
    /// Concurrent processes and threads.
    pub processes: u64,
    /// Open descriptors per process.
    pub open_files: u64,
    /// Size of a file, in bytes.
    pub file_bytes: u64,
    /// Capacity of `/box`, in bytes.
    pub box_bytes: u64,
    /// Number of files and directories in `/box`.
    pub box_inodes: u64,
    /// Capacity of `/tmp`, in bytes; `/dev/shm` has the same.
    pub tmp_bytes: u64,
    /// Number of files and directories in `/tmp`.
    pub tmp_inodes: u64,
    /// Kept bytes of each output stream.
    pub output_bytes: u64,
    /// Size of the program text, in bytes.
    pub code_bytes: u64,
    /// Size of the input, in bytes.
    pub stdin_bytes: u64,
    /// Number of files sent in, and of files returned.
    pub files: u64,
    /// Total size of the files sent in, and of those returned, in bytes.
    pub files_bytes: u64,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            cpu_s: 10,
            memory_bytes: 512 * MIB,
            processes: 64,
            open_files: 256,
            file_bytes: 64 * MIB,
            box_bytes: 64 * MIB,
            box_inodes: 4096,
            tmp_bytes: 64 * MIB,
            tmp_inodes: 4096,
            output_bytes: MIB,
            // The contract's limits: larger requests are refused earlier.
            code_bytes: CODE_BYTES_MAX as u64,
            stdin_bytes: STDIN_BYTES_MAX as u64,
            files: FILES_MAX as u64,
            files_bytes: FILES_BYTES_MAX as u64,
        }
    }
}

/// A program whose output exceeds this multiple of the kept bytes of a stream is ended: it does
/// nothing else any more.
const OUTPUT_TIMES_MAX: u64 = 64;
/// The program's file.
const OWN_INODES: u64 = 1;
/// The directory of the workspace.
const WORKSPACE_INODES: u64 = 1;
/// Files and directories for each file of a workspace: on average one lies in each directory.
const INODES_PER_FILE: u64 = 2;
/// The processor time of each process where only that of all together is limited, in seconds.
const CPU_S_UNLIMITED: u64 = 365 * 24 * 60 * 60;

impl RunLimits {
    /// Bytes a stream may write before the run is ended.
    pub(super) fn output_total_bytes(&self) -> u64 {
        self.output_bytes.saturating_mul(OUTPUT_TIMES_MAX)
    }

    /// These limits with room for a workspace beside what a run may have anyway. The processor
    /// time of each process is unlimited: the run's own limit is measured.
    pub(super) fn enlarged(&self) -> Self {
        let files = WORKSPACE_FILES_MAX as u64;
        let bytes = WORKSPACE_BYTES_MAX + files * rustix::param::page_size() as u64;
        Self {
            cpu_s: CPU_S_UNLIMITED,
            file_bytes: self.file_bytes.max(WORKSPACE_FILE_BYTES_MAX),
            box_bytes: self.box_bytes.saturating_add(bytes),
            box_inodes: self.box_inodes.saturating_add(files * INODES_PER_FILE + WORKSPACE_INODES),
            ..self.clone()
        }
    }

    /// Refuses a program whose text, input, files or workspace exceed the limits.
    pub(super) fn check(&self, program: &Program) -> Result<(), SandboxError> {
        let refused = |what: String| Err(SandboxError::Refused(what));
        let (bytes, bytes_max) = (program.source.len() as u64, self.code_bytes);
        if bytes > bytes_max {
            return refused(format!(
                "a program of {bytes} bytes is too large: at most {bytes_max}"
            ));
        }
        let (bytes, bytes_max) = (program.stdin.as_ref().map_or(0, String::len), self.stdin_bytes);
        if bytes as u64 > bytes_max {
            return refused(format!("an input of {bytes} bytes is too large: at most {bytes_max}"));
        }
        let (files, files_max) = (program.files.len() as u64, self.files);
        if files.max(program.return_files.len() as u64) > files_max {
            return refused(format!("{files} files are too many: at most {files_max}"));
        }
        let bytes: u64 = program.files.iter().map(|file| file.bytes.len() as u64).sum();
        if bytes > self.files_bytes {
            let bytes_max = self.files_bytes;
            return refused(format!("files of {bytes} bytes are too large: at most {bytes_max}"));
        }
        let names = program.files.iter().map(|file| &file.name).chain(&program.return_files);
        for name in names {
            if let Err(wrong) = check_name(name) {
                return refused(format!("the file name {name:?} {wrong}"));
            }
        }
        check_names(program.files.iter().map(|file| file.name.as_str()))
            .or_else(|wrong| refused(format!("`files` {wrong}")))?;
        let Some(workspace) = &program.workspace else { return Ok(()) };
        if !program.files.is_empty() {
            let message =
                "a program with a workspace takes no `files`: put them into the workspace";
            return refused(message.to_owned());
        }
        let checked = workspace.files.check(&workspace.limits);
        checked.or_else(|wrong| refused(format!("the workspace {wrong}")))
    }

    /// Refuses files that exceed the capacity of a private root's working directory.
    pub(super) fn check_box(&self, program: &Program) -> Result<(), SandboxError> {
        let sent = program.files.iter().map(|file| (file.name.as_str(), file.bytes.len() as u64));
        let workspace = program.workspace.iter().flat_map(|workspace| &workspace.files.files);
        let workspace = workspace.map(|(path, file)| (path.as_str(), file.bytes));
        let files: Vec<_> = sent.chain(workspace).collect();
        let what = if program.workspace.is_some() { "the workspace's files" } else { "`files`" };
        let directories: BTreeSet<_> =
            files.iter().flat_map(|(name, _)| directories(name)).collect();
        let inodes = OWN_INODES + (files.len() + directories.len()) as u64;
        if inodes > self.box_inodes {
            return Err(SandboxError::Refused(format!(
                "{what} are {inodes} files and directories, with the program: at most {} \
                 (`run_box_inodes_max`)",
                self.box_inodes
            )));
        }
        let page = rustix::param::page_size() as u64;
        let contents = files.iter().map(|(_, bytes)| *bytes);
        let bytes: u64 = contents
            .chain([program.source.len() as u64])
            .map(|bytes| bytes.next_multiple_of(page))
            .sum();
        if bytes > self.box_bytes {
            return Err(SandboxError::Refused(format!(
                "{what} take {bytes} bytes, with the program, in pages of {page}: at most {} \
                 (`run_box_bytes_max`)",
                self.box_bytes
            )));
        }
        Ok(())
    }

    /// Names of the limits that only a private root enforces.
    pub(super) const OF_PRIVATE_ROOT: [&str; 4] =
        ["box_bytes", "box_inodes", "tmp_bytes", "tmp_inodes"];

    /// The limits under their names in records.
    pub(super) fn by_name(&self) -> BTreeMap<String, u64> {
        let named = [
            ("cpu_s", self.cpu_s),
            ("memory_bytes", self.memory_bytes),
            ("processes", self.processes),
            ("open_files", self.open_files),
            ("file_bytes", self.file_bytes),
            ("box_bytes", self.box_bytes),
            ("box_inodes", self.box_inodes),
            ("tmp_bytes", self.tmp_bytes),
            ("tmp_inodes", self.tmp_inodes),
            ("output_bytes", self.output_bytes),
            ("code_bytes", self.code_bytes),
        ];
        named.into_iter().map(|(name, limit)| (name.to_owned(), limit)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ai_factory_ports::sandbox::ProgramFile;

    use super::*;

    fn program(names: &[&str], bytes: usize) -> Program {
        let file = |name: &&str| ProgramFile { name: (*name).to_owned(), bytes: vec![b'x'; bytes] };
        Program {
            language: "python".to_owned(),
            source: "1".to_owned(),
            stdin: None,
            files: names.iter().map(file).collect(),
            return_files: Vec::new(),
            wall_max: Duration::ZERO,
            traceparent: None,
            cpu_max: None,
            workspace: None,
        }
    }

    #[test]
    fn files_fit_into_a_working_directory_with_their_directories_in_whole_pages_or_are_refused() {
        let limits = RunLimits { box_inodes: 5, box_bytes: 1 << 16, ..RunLimits::default() };
        assert_eq!(limits.check_box(&program(&["a", "b/c", "b/d"], 1)), Ok(()));
        let refused = limits
            .check_box(&program(&["a", "b/c/d"], 1))
            .and_then(|()| limits.check_box(&program(&["a", "b/c/d", "e"], 1)));
        assert!(refused.unwrap_err().to_string().contains("6 files and directories"));
        let page = rustix::param::page_size();
        let pages = (1 << 16) / page - 1;
        assert_eq!(limits.check_box(&program(&["a"], pages * page)), Ok(()));
        let refused = limits.check_box(&program(&["a"], pages * page + 1));
        assert!(refused.unwrap_err().to_string().contains("`run_box_bytes_max`"));
    }

    #[test]
    fn files_that_cannot_be_beside_each_other_are_refused() {
        let refused = RunLimits::default().check(&program(&["a", "a/b"], 0)).unwrap_err();
        assert!(refused.to_string().contains("\"a\" and \"a/b\""), "{refused}");
    }
}
