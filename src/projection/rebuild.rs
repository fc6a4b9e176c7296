//! Rebuilding: all projections dropped and folded again from the journal's beginning, and a digest
//! that proves equality.

use std::{fmt, ops::ControlFlow};

use ai_factory_fold::Access;
use ai_factory_ports::views::ViewError;

use super::{
    file_recovery::ask,
    journal_fold::JournalFold,
    rows::{RowError, RowTable, ScanOrder},
    shadow_rebuild::ShadowRebuild,
};

/// Result of a rebuild.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Events folded.
    pub events: u64,
    /// Rows of the list of plans.
    pub logs: u64,
    /// Runs.
    pub runs: u64,
    /// Sessions.
    pub sessions: u64,
    /// Documents in the search index.
    pub documents: u64,
}

/// Digest of all rows and documents: two projections with equal digests are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Number of rows and documents.
    pub counts: Rebuilt,
    /// BLAKE3 over every row of every table in order, then every document.
    pub hash: [u8; 32],
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        blake3::Hash::from_bytes(self.hash).to_hex().fmt(f)
    }
}

/// Drops rows and index, folds them again from the journal and flushes them.
pub(super) async fn rebuild(
    fold: &JournalFold,
    shadow: &ShadowRebuild,
) -> Result<Rebuilt, ViewError> {
    if fold.access == Access::Read {
        return Err(ViewError::Storage("they are opened for reading only".to_owned()));
    }
    let mut folding = fold.begin().await;
    folding.drop_files().await?;
    shadow.drop_files(fold)?;
    folding.fold_all().await?;
    fold.rows.flush().await?;
    fold.search.flush().await?;
    drop(folding);
    let mut counts = count_rows(fold)?;
    counts.events = fold.rows.applied().position;
    fold.search.export(&mut |_| counts.documents += 1)?;
    Ok(counts)
}

/// Digest of all rows and documents, up to the last acknowledged event. Reads everything.
pub(super) async fn digest(fold: &JournalFold) -> Result<Digest, ViewError> {
    let (mut hasher, mut counts) = ask(fold, |view| {
        let mut hasher = blake3::Hasher::new();
        let mut counts = Rebuilt::default();
        for &table in RowTable::ALL {
            let mut rows = 0;
            view.rows().scan(
                table,
                (&[], &[0xFF; 160]),
                ScanOrder::OldestFirst,
                |key, value| {
                    rows += 1;
                    for part in [table.name().as_bytes(), key, value] {
                        add(&mut hasher, part);
                    }
                    Ok(ControlFlow::Continue(()))
                },
            )?;
            match table {
                RowTable::Logs => counts.logs = rows,
                RowTable::Runs => counts.runs = rows,
                RowTable::Sessions => counts.sessions = rows,
                _ => {}
            }
        }
        Ok((hasher, counts))
    })
    .await?;
    counts.events = fold.rows.applied().position;
    fold.search.export(&mut |document| {
        counts.documents += 1;
        add(&mut hasher, &document.position.to_be_bytes());
        add(&mut hasher, &document.identity.to_be_bytes());
        add(&mut hasher, &document.time.as_micros().to_be_bytes());
        let session = document.session.map(|session| session.to_string());
        let parts = [document.kind.as_str(), document.request_id.as_str()];
        let parts = parts.into_iter().chain([&*document.id, &*document.text]);
        let parts = parts.chain(session.as_deref());
        for part in parts.chain(document.tags.iter().map(String::as_str)) {
            add(&mut hasher, part.as_bytes());
        }
    })?;
    Ok(Digest { counts, hash: *hasher.finalize().as_bytes() })
}

fn count_rows(fold: &JournalFold) -> Result<Rebuilt, ViewError> {
    let counts = fold.rows.answer(|view| {
        let count = |table| -> Result<u64, RowError> {
            let mut rows = 0;
            view.rows().scan(table, (&[], &[0xFF; 9]), ScanOrder::OldestFirst, |_, _| {
                rows += 1;
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(rows)
        };
        Ok(Rebuilt {
            logs: count(RowTable::Logs)?,
            runs: count(RowTable::Runs)?,
            sessions: count(RowTable::Sessions)?,
            ..Rebuilt::default()
        })
    })?;
    Ok(counts.unwrap_or_default())
}

fn add(hasher: &mut blake3::Hasher, part: &[u8]) {
    hasher.update(&(part.len() as u64).to_be_bytes());
    hasher.update(part);
}
