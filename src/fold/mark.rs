//! Marks, which record how far files are folded, and what a process does with the files.

use ai_factory_schemas::envelope::ChainHash;

/// What a process does with the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Keeps them up to date; one process at a time.
    Write,
    /// Only reads them; folds in memory what they lack.
    Read,
}

/// A position in the journal, with the hash that identifies the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The position; 0 before the first record.
    pub position: u64,
    /// Hash of the record at this position.
    pub hash: ChainHash,
}

impl Mark {
    /// The stored form.
    pub fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..8].copy_from_slice(&self.position.to_be_bytes());
        bytes[8..].copy_from_slice(&self.hash.0);
        bytes
    }

    /// From the stored form; `None` if it is no mark.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (position, hash) = bytes.split_at_checked(8)?;
        Some(Self {
            position: u64::from_be_bytes(position.try_into().ok()?),
            hash: ChainHash(hash.try_into().ok()?),
        })
    }
}
