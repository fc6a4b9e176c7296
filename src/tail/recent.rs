//! The last records of the journal, shared by those who follow closely.
//!
//! *Promises.* The records are neighbours: each position is one above the position before it. They
//! only move forward: a read of old records leaves them alone.

use std::collections::VecDeque;

use super::record::TailRecord;

/// The size of the shared part of the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailLimits {
    /// Shared records.
    pub records_max: usize,
    /// Stored bytes of the shared records.
    pub bytes_max: usize,
}

impl Default for TailLimits {
    /// A few commits of a busy factory: who reads at each commit is never further behind.
    fn default() -> Self {
        Self { records_max: 512, bytes_max: 1024 * 1024 }
    }
}

/// The shared records: see the module.
#[derive(Debug, Default)]
pub(crate) struct RecentRecords {
    records: VecDeque<TailRecord>,
    /// Stored bytes of the records.
    bytes: usize,
}

impl RecentRecords {
    /// The shared record at a position.
    pub(crate) fn get(&self, position: u64) -> Option<&TailRecord> {
        let first = self.records.front()?.position();
        self.records.get(usize::try_from(position.checked_sub(first)?).ok()?)
    }

    /// Up to `limit` records after a position; `None` unless the first of them is here.
    pub(crate) fn after(&self, position: u64, limit: usize) -> Option<Vec<TailRecord>> {
        let next = position.checked_add(1)?;
        self.get(next)?;
        let skipped = usize::try_from(next - self.records.front()?.position()).ok()?;
        Some(self.records.iter().skip(skipped).take(limit).cloned().collect())
    }

    /// Takes in records that were read from the journal, which ended at `head`, and puts those that
    /// are already here in their place.
    pub(crate) fn share(&mut self, read: &mut [TailRecord], head: u64, limits: TailLimits) {
        for record in read {
            if let Some(shared) = self.get(record.position()) {
                *record = shared.clone();
            } else {
                self.push(record, head, limits);
            }
        }
    }

    /// Adds a record, unless it is older than the others, or too far from the journal's end for
    /// anybody who follows closely.
    fn push(&mut self, record: &TailRecord, head: u64, limits: TailLimits) {
        let position = record.position();
        let last = self.records.back().map(TailRecord::position);
        if last.is_some_and(|last| position <= last)
            || head.saturating_sub(position) >= limits.records_max as u64
        {
            return;
        }
        // Nobody read the records between: those before them will not be asked for.
        if last.is_some_and(|last| position != last + 1) {
            self.records.clear();
            self.bytes = 0;
        }
        self.bytes += record.bytes().len();
        self.records.push_back(record.clone());
        while self.records.len() > limits.records_max || self.bytes > limits.bytes_max {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.bytes().len();
        }
    }

    /// The numbers of records and of their stored bytes.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        let counted: usize = self.records.iter().map(|record| record.bytes().len()).sum();
        assert_eq!(counted, self.bytes);
        (self.records.len(), self.bytes)
    }
}
