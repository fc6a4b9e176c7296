//! Rebuilding: all projections dropped and folded again from the journal's beginning, and a digest
//! that proves equality.

use std::{fmt, ops::ControlFlow, sync::Arc};

use ai_factory_ports::views::ViewError;

use super::{
    Access, Projections, index_error,
    rows::{RowError, RowTable, ScanOrder},
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

impl Projections {
    /// Drops rows and index, folds them again from the journal and flushes them. Concurrent queries
    /// wait for it. Checkpoints of other components stay, and so do those vectors of a remote model
    /// that pass their integrity check.
    pub async fn rebuild(&self) -> Result<Rebuilt, ViewError> {
        if self.access == Access::Read {
            return Err(ViewError::Storage("they are opened for reading only".to_owned()));
        }
        let mut folding = self.folding.lock().await;
        self.drop_all().await?;
        self.drop_shadow()?;
        let head = self.journal.head().position;
        self.fold(&mut folding, head).await?;
        let _flushing = Arc::clone(&self.flushing).lock_owned().await;
        self.flush_rows().await?;
        self.flush_index().await?;
        drop(folding);
        let mut counts = self.count_rows()?;
        counts.events = self.rows.applied().position;
        self.index.export(&mut |_| counts.documents += 1).map_err(index_error)?;
        Ok(counts)
    }

    /// Digest of all rows and documents, up to the last acknowledged event. Reads everything.
    pub async fn digest(&self) -> Result<Digest, ViewError> {
        let (hasher, mut counts) = self
            .ask(|view| {
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
        let mut hasher = hasher;
        counts.events = self.rows.applied().position;
        self.index
            .export(&mut |document| {
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
            })
            .map_err(index_error)?;
        Ok(Digest { counts, hash: *hasher.finalize().as_bytes() })
    }

    fn count_rows(&self) -> Result<Rebuilt, ViewError> {
        let mut counts = Rebuilt::default();
        self.try_ask(|view| {
            let count = |table| -> Result<u64, RowError> {
                let mut rows = 0;
                view.rows().scan(table, (&[], &[0xFF; 9]), ScanOrder::OldestFirst, |_, _| {
                    rows += 1;
                    Ok(ControlFlow::Continue(()))
                })?;
                Ok(rows)
            };
            Ok((count(RowTable::Logs)?, count(RowTable::Runs)?, count(RowTable::Sessions)?))
        })?
        .into_iter()
        .for_each(|(logs, runs, sessions)| {
            counts = Rebuilt { logs, runs, sessions, ..Rebuilt::default() };
        });
        Ok(counts)
    }
}

fn add(hasher: &mut blake3::Hasher, part: &[u8]) {
    hasher.update(&(part.len() as u64).to_be_bytes());
    hasher.update(part);
}
