//! The part of the tail that all followers share.

use std::sync::Arc;

use ai_factory_ports::journal::{Head, Journal, ReadError};
use parking_lot::Mutex;

use super::{
    recent::{RecentRecords, TailLimits},
    record::TailRecord,
};

/// The tail of one journal. One per process is enough.
pub struct Tail {
    journal: Arc<dyn Journal>,
    limits: TailLimits,
    /// Never locked across an await: a cursor that is not polled must not hold up the others.
    pub(crate) recent: Mutex<RecentRecords>,
}

impl Tail {
    /// The tail of this journal. Reads nothing until asked.
    pub fn new(journal: Arc<dyn Journal>) -> Arc<Self> {
        Self::with_limits(journal, TailLimits::default())
    }

    /// [`Self::new`] with other limits.
    pub fn with_limits(journal: Arc<dyn Journal>, limits: TailLimits) -> Arc<Self> {
        Arc::new(Self { journal, limits, recent: Mutex::default() })
    }

    /// The journal itself.
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// The journal's end.
    pub fn head(&self) -> Head {
        self.journal.head()
    }

    /// The records after a position, in order and without gaps: at least one if there is one, and
    /// at most `limit`.
    pub async fn read(&self, after: u64, limit: usize) -> Result<Vec<TailRecord>, ReadError> {
        let head = self.head().position;
        // Limited to what exists: small reads are faster.
        let due = usize::try_from(head.saturating_sub(after)).unwrap_or(usize::MAX).min(limit);
        if due == 0 {
            return Ok(Vec::new());
        }
        if let Some(records) = self.recent.lock().after(after, due) {
            return Ok(records);
        }
        let records = self.journal.read(after, due).await?;
        let mut records: Vec<_> = records.into_iter().map(TailRecord::from).collect();
        self.recent.lock().share(&mut records, head, self.limits);
        Ok(records)
    }
}
