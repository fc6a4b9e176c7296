//! Records of the journal, as they are folded.

use ai_factory_ports::journal::{Journal, ReadError};
use ai_factory_schemas::envelope::{Recorded, unseal};

use super::mark::Mark;

/// Records read and folded at once. Small, because a record can be a megabyte.
pub const FOLD_EVENTS_MAX: usize = 128;

/// At most `limit` events behind a position, and no more than [`FOLD_EVENTS_MAX`].
pub async fn read_events(
    journal: &dyn Journal,
    after: u64,
    limit: u64,
) -> Result<Vec<Recorded>, ReadError> {
    let limit = usize::try_from(limit).map_or(FOLD_EVENTS_MAX, |limit| limit.min(FOLD_EVENTS_MAX));
    let records = journal.read(after, limit).await?;
    records
        .iter()
        .map(|raw| {
            Recorded::decode(&raw.bytes).map_err(|error| ReadError::Undecodable {
                position: raw.position,
                reason: error.to_string(),
            })
        })
        .collect()
}

/// Whether a mark is of this journal: the record at its position has its hash.
pub async fn is_of_journal(journal: &dyn Journal, mark: Mark) -> Result<bool, ReadError> {
    let Some(before) = mark.position.checked_sub(1) else { return Ok(true) };
    let records = journal.read(before, 1).await?;
    let Some(record) = records.first() else { return Ok(false) };
    let hash = unseal(&record.bytes).map(|(_, hash)| hash);
    Ok(record.position == mark.position && hash == Some(mark.hash))
}
