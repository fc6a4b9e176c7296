//! Storage beneath redb without locks: each is granted, and none is taken.
//!
//! *Not here.* Excluding writers: use it for a file that no process writes to.

use std::{io, ops::Bound};

use redb::{BackendError, StorageBackend};

/// A backend whose locks are granted without being taken: see the module.
#[derive(Debug)]
pub struct Unlocked<S> {
    storage: S,
    held_byte: Option<u64>,
}

impl<S> Unlocked<S> {
    /// The storage, with no lock held by anybody.
    pub fn new(storage: S) -> Self {
        Self { storage, held_byte: None }
    }

    /// The storage, with the lock byte at this offset reported as held by another process.
    pub fn with_held_byte(storage: S, offset: u64) -> Self {
        Self { storage, held_byte: Some(offset) }
    }
}

impl<S: StorageBackend> StorageBackend for Unlocked<S> {
    fn len(&self) -> io::Result<u64> {
        self.storage.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.storage.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.storage.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.storage.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.storage.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.storage.close()
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, start: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(self.held_byte.is_some_and(|offset| start == Bound::Included(offset)))
    }
}
