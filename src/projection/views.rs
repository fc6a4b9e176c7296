//! The answers of the read side.

use std::ops::ControlFlow;

use ai_factory_ports::views::{
    CallDay, ExpiredRange, OpenCall, OpenRun, RetentionPolicy, SearchOutcome, SearchQuery,
    SessionFilter, ViewError, Views,
};
use ai_factory_schemas::{
    answer::{FoundRun, HistoryRow, LogRow, RebuildAnswer, RunRow, SessionRow, SnapshotAnswer},
    id::{MemoryId, RunId, SessionId},
    limit::SNIPPET_CHARS_MAX,
    text::Text,
};

use super::{
    Projections,
    calls::OpenAttempt,
    file_recovery::{ask, recover},
    rows::{LayeredRows, RowError, RowTable, ScanOrder, decode, position_key, position_of},
    runs::{RunFacts, RunOutputs, session_run_key},
    sessions::{SessionFacts, SessionState, beginning, chosen, session_at},
    snapshot,
    store::RowsView,
};

/// Runs loaded at once while searching through their texts.
const SEARCH_RUNS_AT_ONCE: usize = 64;
/// Above every position.
const NO_POSITION: u64 = u64::MAX;
/// Above every id, and every date.
const NO_KEY: [u8; 17] = [0xFF; 17];

#[async_trait::async_trait]
impl Views for Projections {
    fn revision(&self) -> Option<u64> {
        let revision = self.fold.search.revision() + self.shadow_rebuild.replaced();
        let is_settled = self.search_problem().is_none() && !self.fold.search.lacks_vectors();
        is_settled.then_some(revision)
    }

    async fn logs(&self, limit: usize) -> Result<Vec<LogRow>, ViewError> {
        self.ask(|view| newest(&view.rows(), RowTable::Logs, NO_POSITION, limit, |_, row| Ok(row)))
            .await
    }

    async fn search_with_mode(&self, query: &SearchQuery) -> Result<SearchOutcome, ViewError> {
        let (fold, epoch) = (&self.fold, self.fold.drops().now());
        fold.metrics.searches.inc();
        match self.try_search(query).await {
            Ok(found) if !fold.drops().has_begun_since(epoch) => Ok(found),
            Ok(_) => self.try_search(query).await,
            Err(error) => {
                recover(fold, error, epoch).await?;
                self.try_search(query).await
            }
        }
    }

    async fn memory(&self, id: MemoryId) -> Result<Option<u64>, ViewError> {
        let epoch = self.fold.drops().now();
        match self.try_memory(id).await {
            Err(error) => {
                recover(&self.fold, error, epoch).await?;
                self.try_memory(id).await
            }
            found => found,
        }
    }

    async fn expired_range(
        &self,
        policy: &RetentionPolicy,
        limit: u64,
    ) -> Result<Option<ExpiredRange>, ViewError> {
        self.catch_up().await?;
        self.fold.search.expired_range(*policy, limit).await
    }

    async fn start_rebuild(&self) -> Result<RebuildAnswer, ViewError> {
        self.shadow_rebuild.request(&self.fold)
    }

    async fn snapshot(&self, limit: usize) -> Result<SnapshotAnswer, ViewError> {
        let (directory, stamp) = (self.data_dir.join("snapshots"), self.clock.now().stamp());
        snapshot::write(&self.fold, directory, stamp, limit).await
    }

    async fn runs(&self, limit: usize) -> Result<Vec<RunRow>, ViewError> {
        self.ask(|view| {
            let rows = view.rows();
            newest(&rows, RowTable::Runs, NO_POSITION, limit, |id, facts: RunFacts| {
                Ok(facts.row(id, rows.value(RowTable::RunEnds, &position_key(id))?))
            })
        })
        .await
    }

    async fn search_runs(&self, text: &str, limit: usize) -> Result<Vec<FoundRun>, ViewError> {
        let needle = text.to_ascii_lowercase();
        let mut found = Vec::new();
        let mut below = NO_POSITION;
        while found.len() < limit {
            let some = self
                .ask(|view| {
                    let rows = view.rows();
                    newest(&rows, RowTable::Runs, below, SEARCH_RUNS_AT_ONCE, |id, facts| {
                        candidate(&rows, id, facts)
                    })
                })
                .await?;
            let Some(oldest) = some.last() else { break };
            below = oldest.row.id;
            for run in some {
                if found.len() < limit && self.contains(&run, &needle).await? {
                    found.push(run.into_answer());
                }
            }
        }
        Ok(found)
    }

    async fn open_runs(&self) -> Result<Vec<OpenRun>, ViewError> {
        let open: Vec<(RunId, Option<SessionId>)> = self
            .ask(|view| oldest_first(&view.rows(), RowTable::OpenRuns, &[], &[0xFF; 9]))
            .await?;
        Ok(open.into_iter().map(|(run_id, session_id)| OpenRun { run_id, session_id }).collect())
    }

    async fn open_calls(&self) -> Result<Vec<OpenCall>, ViewError> {
        let open: Vec<OpenAttempt> =
            self.ask(|view| oldest_first(&view.rows(), RowTable::OpenCalls, &[], &NO_KEY)).await?;
        let open = open.into_iter();
        Ok(open
            .map(|OpenAttempt { call_id, session_id, .. }| OpenCall { call_id, session_id })
            .collect())
    }

    async fn newest_call_day(&self) -> Result<Option<CallDay>, ViewError> {
        self.ask(|view| {
            let mut newest = None;
            let all: (&[u8], &[u8]) = (&[], &NO_KEY);
            view.rows().scan(RowTable::CallDays, all, ScanOrder::NewestFirst, |_, row| {
                newest = Some(decode(RowTable::CallDays, row)?);
                Ok(ControlFlow::Break(()))
            })?;
            Ok(newest)
        })
        .await
    }

    async fn sessions_where(
        &self,
        filter: &SessionFilter,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ViewError> {
        self.newest_sessions(filter, limit, SessionFacts::row).await
    }

    async fn history_where(
        &self,
        filter: &SessionFilter,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, ViewError> {
        self.newest_sessions(filter, limit, SessionFacts::history).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, ViewError> {
        self.ask(|view| {
            let rows = view.rows();
            let Some(key) = rows.get(RowTable::SessionIds, id.0.as_bytes())? else {
                return Ok(None);
            };
            session_at(&rows, position_of(RowTable::SessionIds, &key)?, SessionFacts::row)
        })
        .await
    }

    async fn sessions_beginning(
        &self,
        text: &str,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ViewError> {
        self.ask(|view| {
            let rows = view.rows();
            beginning(&rows, text, limit)?
                .into_iter()
                .filter_map(|position| session_at(&rows, position, SessionFacts::row).transpose())
                .collect()
        })
        .await
    }

    async fn runs_of_session(&self, id: SessionId) -> Result<Vec<RunId>, ViewError> {
        let (from, to) = (session_run_key(id, 0), session_run_key(id, u64::MAX));
        self.ask(|view| oldest_first(&view.rows(), RowTable::SessionRuns, &from, &to)).await
    }

    async fn open_sessions(&self) -> Result<Vec<SessionId>, ViewError> {
        self.ask(|view| oldest_first(&view.rows(), RowTable::OpenSessions, &[], &[0xFF; 9])).await
    }
}

impl Projections {
    /// Answers a question about the rows after folding every acknowledged event.
    async fn ask<T: Send>(
        &self,
        question: impl Fn(&RowsView<'_>) -> Result<T, RowError> + Send + Sync,
    ) -> Result<T, ViewError> {
        ask(&self.fold, question).await
    }

    /// Position of the memory with this id.
    async fn try_memory(&self, id: MemoryId) -> Result<Option<u64>, ViewError> {
        self.catch_up().await?;
        self.fold.search.position(id.to_string()).await
    }

    async fn try_search(&self, query: &SearchQuery) -> Result<SearchOutcome, ViewError> {
        self.fold.catch_up_for_search().await?;
        self.fold.search.search(query).await
    }

    async fn newest_sessions<T: Send>(
        &self,
        filter: &SessionFilter,
        limit: usize,
        row: fn(SessionFacts, u64, SessionState) -> T,
    ) -> Result<Vec<T>, ViewError> {
        self.ask(|view| {
            let rows = view.rows();
            if let Some(positions) = chosen(&rows, filter, limit)? {
                let found = positions.into_iter().map(|position| session_at(&rows, position, row));
                return found.filter_map(Result::transpose).collect();
            }
            newest(&rows, RowTable::Sessions, NO_POSITION, limit, |id, facts| {
                let state = rows.value(RowTable::SessionStates, &position_key(id))?;
                Ok(row(facts, id, state.unwrap_or_default()))
            })
        })
        .await
    }

    /// Whether code or outputs contain `needle`, which is in lower case. ASCII letters match in
    /// either case; every character stands for itself.
    async fn contains(&self, run: &RunCandidate, needle: &str) -> Result<bool, ViewError> {
        let has = |text: &str| text.to_ascii_lowercase().contains(needle);
        let outputs = [&run.outputs.stdout, &run.outputs.stderr];
        if has(&run.code) || outputs.iter().any(|output| has(output.head())) {
            return Ok(true);
        }
        for blob in outputs.iter().filter_map(|output| output.blob()) {
            let bytes = self.fold.journal.blob(blob).await?.unwrap_or_default();
            if has(&String::from_utf8_lossy(&bytes)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A run that may match.
struct RunCandidate {
    row: RunRow,
    code: String,
    outputs: RunOutputs,
}

impl RunCandidate {
    fn into_answer(self) -> FoundRun {
        let shown = [self.outputs.stdout.head(), self.outputs.stderr.head(), &self.code];
        let shown = shown.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        FoundRun {
            id: self.row.id,
            request_id: self.row.request_id,
            language: self.row.language,
            status: self.row.status,
            snippet: shown.chars().take(SNIPPET_CHARS_MAX).collect(),
        }
    }
}

fn candidate(rows: &LayeredRows<'_>, id: u64, facts: RunFacts) -> Result<RunCandidate, RowError> {
    let key = position_key(id);
    let outputs = rows
        .value(RowTable::RunOutputs, &key)?
        .unwrap_or_else(|| RunOutputs { stdout: Text::default(), stderr: Text::default() });
    Ok(RunCandidate {
        row: facts.row(id, rows.value(RowTable::RunEnds, &key)?),
        code: rows.value(RowTable::RunCodes, &key)?.unwrap_or_default(),
        outputs,
    })
}

/// The newest rows below a position, newest first, each converted by `make`.
fn newest<V: serde::de::DeserializeOwned, T>(
    rows: &LayeredRows<'_>,
    table: RowTable,
    below: u64,
    limit: usize,
    mut make: impl FnMut(u64, V) -> Result<T, RowError>,
) -> Result<Vec<T>, RowError> {
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    let to = below.to_be_bytes();
    rows.scan(table, (&[], &to), ScanOrder::NewestFirst, |key, value| {
        found.push(make(position_of(table, key)?, decode(table, value)?)?);
        Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(found)
}

fn oldest_first<V: serde::de::DeserializeOwned>(
    rows: &LayeredRows<'_>,
    table: RowTable,
    from: &[u8],
    to: &[u8],
) -> Result<Vec<V>, RowError> {
    let mut found = Vec::new();
    rows.scan(table, (from, to), ScanOrder::OldestFirst, |_, value| {
        found.push(decode(table, value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}
