//! A disk for tests that stops, fails or loses power at the n-th write.
//!
//! It counts what changes a file: writes, changes of length, syncs. It syncs nothing for real: what
//! a power failure would take, [`Flaky::lose_power`] takes, from what it has written down itself.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    ops::Bound,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ai_factory::journal::fail_points::Disk;
use redb::{BackendError, StorageBackend, backends::FileBackend};

const SECTOR: u64 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing happens any more from then on, as if the process had ended.
    Stops,
    /// One operation fails, the following ones do not.
    FailsOnce(io::ErrorKind),
}

#[derive(Debug)]
pub struct Flaky {
    mode: Mode,
    at: u64,
    done: AtomicU64,
    stopped: AtomicBool,
    files: Mutex<Vec<Arc<Unsynced>>>,
}

/// What one file has written since its last sync.
#[derive(Debug)]
struct Unsynced {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Each sector's contents in the order of writing, the synced one first.
    sectors: BTreeMap<u64, Vec<Vec<u8>>>,
    /// Each length, the synced one first.
    lengths: Vec<u64>,
}

impl Flaky {
    /// Fails at the operation `at`, counted from 1.
    pub fn new(mode: Mode, at: u64) -> Arc<Self> {
        let files = Mutex::default();
        Arc::new(Self { mode, at, done: AtomicU64::new(0), stopped: AtomicBool::new(false), files })
    }

    /// Whether the operation was reached.
    pub fn has_failed(&self) -> bool {
        self.done.load(Ordering::SeqCst) >= self.at
    }

    fn operate(&self) -> io::Result<()> {
        if self.stopped.load(Ordering::SeqCst) {
            return Err(io::Error::other("the machine is off"));
        }
        if self.done.fetch_add(1, Ordering::SeqCst) + 1 != self.at {
            return Ok(());
        }
        match self.mode {
            Mode::Stops => {
                self.stopped.store(true, Ordering::SeqCst);
                Err(io::Error::other("the machine goes off"))
            }
            Mode::FailsOnce(kind) => Err(kind.into()),
        }
    }

    /// Leaves of each unsynced sector any one of its contents, and any one of the unsynced lengths.
    pub fn lose_power(&self, seed: u64) {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut pick = move |count: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % count as u64).unwrap()
        };
        for unsynced in self.files.lock().unwrap().iter() {
            let state = unsynced.state.lock().unwrap();
            if let count @ 1.. = state.lengths.len() {
                unsynced.file.set_len(state.lengths[pick(count)]).unwrap();
            }
            let length = unsynced.file.metadata().unwrap().len();
            for (sector, contents) in &state.sectors {
                let content = &contents[pick(contents.len())];
                if sector * SECTOR + content.len() as u64 <= length {
                    unsynced.file.write_all_at(content, sector * SECTOR).unwrap();
                }
            }
        }
    }
}

/// As the journal takes it.
pub struct Mounted(pub Arc<Flaky>);

impl Disk for Mounted {
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn StorageBackend>> {
        let file =
            OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
        let unsynced = Arc::new(Unsynced {
            file: OpenOptions::new().read(true).write(true).open(path)?,
            state: Mutex::default(),
        });
        self.0.files.lock().unwrap().push(unsynced.clone());
        let inner = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Box::new(Backend { inner, disk: self.0.clone(), unsynced }))
    }
}

#[derive(Debug)]
struct Backend {
    inner: FileBackend,
    disk: Arc<Flaky>,
    unsynced: Arc<Unsynced>,
}

impl Backend {
    fn note_write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.unsynced.state.lock().unwrap();
        let length = self.inner.len()?;
        let last = (offset + data.len() as u64).div_ceil(SECTOR);
        for sector in offset / SECTOR..last {
            let from = sector * SECTOR;
            let size = usize::try_from(SECTOR.min(length.saturating_sub(from))).unwrap();
            let contents = state.sectors.entry(sector).or_default();
            if contents.is_empty() {
                let mut synced = vec![0; size];
                self.inner.read(from, &mut synced)?;
                contents.push(synced);
            }
            let mut next = contents[contents.len() - 1].clone();
            next.resize(size.max(next.len()), 0);
            for (at, byte) in next.iter_mut().enumerate() {
                let place = from + at as u64;
                if let Some(index) = place.checked_sub(offset)
                    && let Some(written) = data.get(usize::try_from(index).unwrap())
                {
                    *byte = *written;
                }
            }
            contents.push(next);
        }
        Ok(())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.operate()?;
        let mut state = self.unsynced.state.lock().unwrap();
        if state.lengths.is_empty() {
            state.lengths.push(self.inner.len()?);
        }
        state.lengths.push(len);
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.operate()?;
        *self.unsynced.state.lock().unwrap() = State::default();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.operate()?;
        self.note_write(offset, data)?;
        self.inner.write(offset, data)
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
