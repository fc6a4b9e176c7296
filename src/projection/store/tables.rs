//! The tables of the row file beside the rows: marks and checkpoints.

use ai_factory_fold::Mark;
use redb::{ReadTransaction, TableDefinition};

use crate::rows::{RowError, storage};

/// Projection -> position and hash of the last record folded into its rows.
pub(super) const MARKS: TableDefinition<'static, &'static str, &'static [u8]> =
    TableDefinition::new("marks");
/// Checkpoints of other components, kept here so that they need no file of their own.
pub(super) const CHECKPOINTS: TableDefinition<'static, &'static str, u64> =
    TableDefinition::new("checkpoints");
/// The row projections, each with a checkpoint of its own.
pub(super) const PROJECTIONS: [&str; 4] = ["logs", "runs", "sessions", "calls"];

/// The position up to which all row projections are folded in this commit.
pub(super) fn mark_in(base: &ReadTransaction) -> Result<Mark, RowError> {
    let marks = base.open_table(MARKS).map_err(storage)?;
    let mut least: Option<Mark> = None;
    for projection in PROJECTIONS {
        let mark = match marks.get(projection).map_err(storage)? {
            Some(bytes) => Mark::from_bytes(bytes.value()).ok_or(RowError::Undecodable {
                table: "marks",
                reason: "a mark has 40 bytes".to_owned(),
            })?,
            None => Mark::default(),
        };
        if least.is_none_or(|least| mark.position < least.position) {
            least = Some(mark);
        }
    }
    Ok(least.unwrap_or_default())
}
