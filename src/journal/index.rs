//! The in-memory index of one segment: the positions of each stream, and the chunk of each command.
//!
//! *Limits.* About 100 bytes per stream and 30 per command of one segment.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

use ai_factory_schemas::id::StreamId;
use redb::ReadableTable;

use super::{
    chunk::{AppliedCommand, Chunk},
    error::StorageError,
    tables::SegmentTables,
};

/// A stream's last record in the segment.
#[derive(Clone, Copy)]
struct StreamTail {
    version: u64,
    /// The record's ordinal in the segment, from 1.
    at: u32,
}

/// The index of one segment: see the module.
#[derive(Default)]
pub(super) struct Index {
    first: u64,
    streams: HashMap<StreamId, StreamTail>,
    /// Per record the ordinal, from 1, of its predecessor in its stream; 0 for the stream's first
    /// here.
    before: Vec<u32>,
    /// The first position of a command's chunk, by the hash of the command's id.
    commands: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Index {
    /// An empty index of the segment that begins at `first`.
    pub(super) fn new(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// The index of all records in `tables`.
    pub(super) fn of(first: u64, tables: &SegmentTables) -> Result<Self, StorageError> {
        let mut index = Self::new(first);
        index.catch_up(tables)?;
        Ok(index)
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The next position.
    fn next(&self) -> u64 {
        self.first + self.before.len() as u64
    }

    /// Adds the records of `tables` that the index lacks.
    pub(super) fn catch_up(&mut self, tables: &SegmentTables) -> Result<(), StorageError> {
        for entry in tables.records.range(self.next()..)? {
            let (first, bytes) = entry?;
            let first = first.value();
            let unreadable =
                || StorageError::new(format!("the records from {first} on are unreadable"));
            let chunk = Chunk::parse(first, bytes.value()).ok_or_else(unreadable)?;
            if first != self.next() {
                return Err(StorageError::new(format!("record {} is missing", self.next())));
            }
            for place in chunk.stream_versions() {
                let (stream, version) = place.ok_or_else(unreadable)?;
                self.record(stream, version);
            }
            for effect in chunk.effects() {
                self.command(effect.ok_or_else(unreadable)?.0, first);
            }
        }
        Ok(())
    }

    /// Adds the next record.
    pub(super) fn record(&mut self, stream: StreamId, version: u64) {
        let at = u32::try_from(self.before.len() + 1).unwrap_or(u32::MAX);
        let earlier = self.streams.insert(stream, StreamTail { version, at });
        self.before.push(earlier.map_or(0, |last| last.at));
    }

    /// Adds a command of the chunk that begins at `chunk`.
    pub(super) fn command(&mut self, id: &str, chunk: u64) {
        self.commands.insert(self.hasher.hash_one(id), chunk);
    }

    pub(super) fn version(&self, stream: StreamId) -> Option<u64> {
        self.streams.get(&stream).map(|last| last.version)
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.streams.keys().copied()
    }

    /// The positions, up to `through`, of the stream's records with a version above `after`.
    pub(super) fn positions(&self, stream: StreamId, after: u64, through: u64) -> Vec<u64> {
        let Some(last) = self.streams.get(&stream) else { return Vec::new() };
        let (mut version, mut at) = (last.version, last.at);
        let mut positions = Vec::new();
        while at > 0 && version > after {
            let position = self.first + u64::from(at) - 1;
            if position <= through {
                positions.push(position);
            }
            version -= 1;
            at = self.before[at as usize - 1];
        }
        positions.reverse();
        positions
    }

    /// Whether the command may be in this segment, so that reading the file is worthwhile.
    pub(super) fn may_have(&self, id: &str) -> bool {
        self.commands.contains_key(&self.hasher.hash_one(id))
    }

    /// The command's effect, if it is in this segment.
    pub(super) fn effect(
        &self,
        tables: &SegmentTables,
        id: &str,
    ) -> Result<Option<AppliedCommand>, StorageError> {
        let Some(chunk) = self.commands.get(&self.hasher.hash_one(id)) else { return Ok(None) };
        if let Some(bytes) = tables.records.get(*chunk)?
            && let Some(effect) = find(*chunk, bytes.value(), id)
        {
            return Ok(Some(effect));
        }
        // Two ids with the same hash, which is rare: the noted chunk is the other one's.
        for entry in tables.records.iter()? {
            let (first, bytes) = entry?;
            if let Some(effect) = find(first.value(), bytes.value(), id) {
                return Ok(Some(effect));
            }
        }
        Ok(None)
    }
}

/// The effect of the command in a chunk.
fn find(first: u64, bytes: &[u8], id: &str) -> Option<AppliedCommand> {
    let chunk = Chunk::parse(first, bytes)?;
    chunk.effects().flatten().find(|(found, _)| *found == id).map(|(_, effect)| effect)
}
