//! The storage beneath redb: files, with one sync per commit instead of redb's two.
//!
//! redb's single-writer mode commits in two phases: write the new slot, sync, make it the primary,
//! sync. The first sync's only purpose is that the primary slot may be trusted without checking its
//! checksums. The journal does check them, since a crash leaves one bounded segment to repair.
//! Within a *commit window* [`OneSyncBackend`] therefore does what redb's own one-phase commit
//! does: it skips the first of the two syncs and clears the header flag "was committed in two
//! phases", so that a repair verifies the checksums and falls back to the previous commit. See
//! `docs/decisions/0002-journal-segments.md`.
//!
//! *Promises.* After [`SyncWindow::settle`] everything written is synced. Outside a window nothing
//! is altered. Other processes see only synced commits: redb's flag for them is left alone.

use std::{
    io,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use ai_factory_overlay::Unlocked;
use parking_lot::Mutex;
use redb::{BackendError, StorageBackend, backends::FileBackend};

use super::{
    fail_points::{FailPoint, FailPoints},
    sync_window::SyncWindow,
};

/// Bytes of redb's header: 64 of its own and two commit slots of 128 (redb, `docs/design.md`).
const HEADER_BYTES: usize = 320;
/// Bytes of the file that are filled with zeros ahead of small commits.
const FILL_AHEAD_BYTES: u64 = 512 * 1024;
/// Bytes of file growth above which a commit is not small: it would outrun the filled part.
const FILL_GROWTH_BYTES_MAX: u64 = 128 * 1024;

/// How far the file's blocks are allocated.
///
/// Writing a page beyond the allocated blocks makes the sync write file system metadata too, which
/// doubles its duration. So space for about a hundred small commits is allocated at once. Only the
/// region beyond everything ever written is filled; it reads as zeros before and after.
#[derive(Debug)]
pub(super) struct Extent {
    /// Everything below is written or filled.
    filled: AtomicU64,
    /// Held while `filled` moves, so that no write lands where zeros are being written.
    moves: Mutex<()>,
    /// File growth since the last sync, in bytes.
    growth: AtomicU64,
}

impl Extent {
    /// Counts the existing file as filled.
    pub(super) fn new(storage: &dyn StorageBackend) -> io::Result<Self> {
        let filled = AtomicU64::new(storage.len()?);
        Ok(Self { filled, moves: Mutex::default(), growth: AtomicU64::new(0) })
    }

    fn write(&self, storage: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        if end <= self.filled.load(Ordering::Acquire) {
            return storage.write(offset, data);
        }
        let _moves = self.moves.lock();
        storage.write(offset, data)?;
        let filled = self.filled.fetch_max(end, Ordering::AcqRel);
        self.growth.fetch_add(end.saturating_sub(filled), Ordering::AcqRel);
        Ok(())
    }

    /// Fills ahead after little growth, before a sync that has to write file system metadata
    /// anyway.
    fn fill(&self, storage: &dyn StorageBackend) -> io::Result<()> {
        let growth = self.growth.swap(0, Ordering::AcqRel);
        if growth == 0 || growth > FILL_GROWTH_BYTES_MAX {
            return Ok(());
        }
        let _moves = self.moves.lock();
        let filled = self.filled.load(Ordering::Acquire);
        let end = storage.len()?.min(filled + FILL_AHEAD_BYTES);
        if let Some(length @ 1..) = end.checked_sub(filled) {
            let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
            storage.write(filled, &zeros)?;
            self.filled.store(end, Ordering::Release);
        }
        Ok(())
    }

    fn set_len(&self, storage: &dyn StorageBackend, len: u64) -> io::Result<()> {
        let _moves = self.moves.lock();
        storage.set_len(len)?;
        self.filled.fetch_min(len, Ordering::AcqRel);
        Ok(())
    }
}

/// A backend with one sync per commit: see the module.
pub(super) struct OneSyncBackend {
    pub(super) inner: Arc<dyn StorageBackend>,
    pub(super) window: Arc<SyncWindow>,
    pub(super) extent: Extent,
    pub(super) fail_points: Arc<dyn FailPoints>,
}

impl std::fmt::Debug for OneSyncBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OneSync").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl StorageBackend for OneSyncBackend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.extent.set_len(&*self.inner, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.window.is_open() {
            return self.inner.sync_data();
        }
        if self.window.skips_sync() {
            return Ok(());
        }
        self.extent.fill(&*self.inner)?;
        self.fail_points.at(FailPoint::BeforeSync);
        let began = Instant::now();
        self.inner.sync_data()?;
        self.window.synced(began.elapsed());
        self.fail_points.at(FailPoint::AfterSync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if !self.window.is_open() {
            return self.extent.write(&*self.inner, offset, data);
        }
        if offset == 0 && data.len() >= HEADER_BYTES {
            let header = self.window.header(data);
            return self.inner.write(0, &header);
        }
        self.window.wrote_pages();
        self.extent.write(&*self.inner, offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// A file that redb must not change.
#[derive(Debug)]
pub(super) struct ReadOnlyFile(FileBackend);

/// The byte that a living writer holds (redb, `docs/design.md`, "Lock bytes"). redb refuses to open
/// a file that was not closed cleanly unless it is held.
const CONSISTENT_BYTE: u64 = (1 << 62) + 4;

impl ReadOnlyFile {
    /// The file, read without locks, whatever state its last writer left it in.
    pub(super) fn unlocked(file: FileBackend) -> Unlocked<Self> {
        Unlocked::with_held_byte(Self(file), CONSISTENT_BYTE)
    }
}

impl StorageBackend for ReadOnlyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
