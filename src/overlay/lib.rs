//! A read-only file with writes in memory, beneath redb: it lets a database left unclean by a crash
//! be repaired and read without writing to it.
//!
//! *Promises.* The file is opened for reading and never changed; no lock on it is requested or
//! held.
//!
//! *Limits.* Memory: the written pages, 4 KiB each. A repair writes few of them, whatever
//! the file's size.
//!
//! *Not here.* Excluding writers. Readers check [`Snapshot::is_current`] afterwards, and start
//! again if a writer interfered.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

mod unlocked;

use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
};

use parking_lot::Mutex;
use redb::StorageBackend;

pub use self::unlocked::Unlocked;

/// The unit of written data kept in memory, in bytes.
const PAGE_BYTES: usize = 4096;

/// A file with the pages written over it.
#[derive(Debug)]
pub struct FileOverlay {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes: u64,
    /// The file's bytes beyond this were truncated, and read as zeros when the length grows again.
    file_bytes: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
}

/// The state of a file when an [`FileOverlay`] over it was opened.
#[derive(Debug)]
pub struct Snapshot {
    file: File,
    seen: FileStamp,
}

/// File metadata that every write changes.
type FileStamp = (u64, i64, i64, i64, i64);

fn seen(file: &Metadata) -> FileStamp {
    (file.len(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec())
}

impl Snapshot {
    /// Whether the file was not written to since.
    pub fn is_current(&self) -> bool {
        self.file.metadata().is_ok_and(|now| seen(&now) == self.seen)
    }
}

impl FileOverlay {
    /// Opens the file for reading. The snapshot shows afterwards whether the reads are of one
    /// moment.
    pub fn open(path: &Path) -> io::Result<(Unlocked<Self>, Snapshot)> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let snapshot = Snapshot { file: file.try_clone()?, seen: seen(&metadata) };
        let bytes = metadata.len();
        let state = State { bytes, file_bytes: bytes, pages: BTreeMap::new() };
        Ok((Unlocked::new(Self { file, state: Mutex::new(state) }), snapshot))
    }
}

/// The parts of `offset .. offset + length`: page, offset in the page, offset in the range, length.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let rest = length.checked_sub(done).filter(|rest| *rest > 0)?;
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE_BYTES as u64).ok()?;
        let part = (at / PAGE_BYTES as u64, within, done, rest.min(PAGE_BYTES - within));
        done += part.3;
        Some(part)
    })
}

impl State {
    /// Reads from the file; beyond its end, zeros.
    fn read_file(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.file_bytes.saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
        let (from_file, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        file.read_exact_at(from_file, offset)
    }
}

impl StorageBackend for FileOverlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if state.pages.is_empty() {
            return state.read_file(&self.file, offset, out);
        }
        for (page, within, at, length) in parts(offset, out.len()) {
            let out = &mut out[at..at + length];
            match state.pages.get(&page) {
                Some(bytes) => out.copy_from_slice(&bytes[within..within + length]),
                None => state.read_file(&self.file, offset + at as u64, out)?,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if len < state.bytes {
            state.file_bytes = state.file_bytes.min(len);
            let page = len / PAGE_BYTES as u64;
            let kept = usize::try_from(len % PAGE_BYTES as u64).map_err(io::Error::other)?;
            state.pages.split_off(&(page + 1));
            if let Some(last) = state.pages.get_mut(&page) {
                last[kept..].fill(0);
            }
        }
        state.bytes = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        for (page, within, at, length) in parts(offset, data.len()) {
            if !state.pages.contains_key(&page) {
                let mut bytes = Box::new([0; PAGE_BYTES]);
                // A page written completely need not be read first.
                if length < PAGE_BYTES {
                    state.read_file(&self.file, page * PAGE_BYTES as u64, &mut bytes[..])?;
                }
                state.pages.insert(page, bytes);
            }
            if let Some(bytes) = state.pages.get_mut(&page) {
                bytes[within..within + length].copy_from_slice(&data[at..at + length]);
            }
        }
        state.bytes = state.bytes.max(offset + data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The overlay, and the expected content.
    struct Twin {
        overlay: Unlocked<FileOverlay>,
        plain: Vec<u8>,
    }

    impl Twin {
        fn write(&mut self, offset: usize, data: &[u8]) {
            self.overlay.write(offset as u64, data).unwrap();
            let end = offset + data.len();
            self.plain.resize(self.plain.len().max(end), 0);
            self.plain[offset..end].copy_from_slice(data);
        }

        fn set_len(&mut self, length: usize) {
            self.overlay.set_len(length as u64).unwrap();
            self.plain.resize(length, 0);
        }

        fn assert_same(&self) {
            assert_eq!(self.overlay.len().unwrap(), self.plain.len() as u64);
            let mut all = vec![9; self.plain.len()];
            self.overlay.read(0, &mut all).unwrap();
            assert!(all == self.plain);
            for (from, to) in [(1, 5), (4090, 4100), (5000, 13_000)] {
                if to <= self.plain.len() {
                    let mut part = vec![9; to - from];
                    self.overlay.read(from as u64, &mut part).unwrap();
                    assert_eq!(part, self.plain[from..to]);
                }
            }
            assert!(self.overlay.read(self.plain.len() as u64, &mut [0]).is_err());
        }
    }

    #[test]
    fn it_reads_as_a_file_would_that_was_written_to_and_leaves_the_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let plain: Vec<u8> = (0..=250).cycle().take(10_000).collect();
        std::fs::write(&path, &plain).unwrap();
        let (overlay, snapshot) = FileOverlay::open(&path).unwrap();
        let mut twin = Twin { overlay, plain: plain.clone() };
        twin.assert_same();
        twin.write(3, b"within a page");
        twin.write(4090, b"over the edge of two");
        twin.write(9_990, &[1; 9_000]);
        twin.assert_same();
        twin.set_len(5_000);
        twin.set_len(20_000);
        twin.assert_same();
        twin.set_len(4_100);
        twin.write(8_192, &[2; 4_096]);
        twin.assert_same();
        assert_eq!(std::fs::read(&path).unwrap(), plain);
        assert!(snapshot.is_current());
        std::fs::write(&path, "somebody else").unwrap();
        assert!(!snapshot.is_current());
    }
}
