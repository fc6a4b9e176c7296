//! The contents of a workspace as they went in: in memory that came with the order and that nobody
//! can change, so that what the program left is compared with them byte by byte.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
};

use ai_factory_schemas::workspace::WorkspaceManifest;

/// The most bytes that are copied or compared at once.
const STEP_BYTES: usize = 64 * 1024;

/// The contents, in the order of the paths.
pub(super) struct SealedContents {
    memory: File,
    /// Where each file begins.
    starts: HashMap<String, u64>,
}

/// Room for a step: of what went in, and of what is there.
pub(super) struct StepBuffers([Vec<u8>; 2]);

impl StepBuffers {
    pub(super) fn new() -> Self {
        Self([(); 2].map(|()| vec![0; STEP_BYTES]))
    }
}

impl SealedContents {
    /// # Errors
    /// If the memory has another size than the files.
    pub(super) fn new(memory: OwnedFd, files: &WorkspaceManifest) -> io::Result<Self> {
        let memory = File::from(memory);
        let mut next = 0;
        let mut starts = HashMap::with_capacity(files.files.len());
        for (path, file) in &files.files {
            starts.insert(path.clone(), next);
            next += file.bytes;
        }
        if memory.metadata()?.len() != next {
            return Err(io::Error::other("its contents do not have the size of its files"));
        }
        Ok(Self { memory, starts })
    }

    /// Writes the content of a file.
    pub(super) fn copy(
        &self,
        path: &str,
        bytes: u64,
        to: &mut File,
        buffers: &mut StepBuffers,
    ) -> io::Result<()> {
        let start = self.start(path)?;
        for (at, length) in steps(bytes) {
            let content = &mut buffers.0[0][..length];
            self.memory.read_exact_at(content, start + at)?;
            to.write_all(content)?;
        }
        Ok(())
    }

    /// Whether a file of `bytes` bytes has the content that went in, which has the same size.
    pub(super) fn is_in(
        &self,
        path: &str,
        bytes: u64,
        file: &File,
        buffers: &mut StepBuffers,
    ) -> io::Result<bool> {
        let start = self.start(path)?;
        for (at, length) in steps(bytes) {
            let [before, after] = buffers.0.each_mut().map(|buffer| &mut buffer[..length]);
            self.memory.read_exact_at(before, start + at)?;
            file.read_exact_at(after, at)?;
            if before != after {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn start(&self, path: &str) -> io::Result<u64> {
        self.starts.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// The places and lengths of the steps through a file.
fn steps(bytes: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..bytes).step_by(STEP_BYTES).map(move |at| {
        let left = usize::try_from(bytes - at).unwrap_or(STEP_BYTES);
        (at, left.min(STEP_BYTES))
    })
}
