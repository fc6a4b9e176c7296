//! The read side: queries answered from the projections.
//!
//! Every answer contains all that the journal had acknowledged before the query (I-13).

use ai_factory_schemas::{
    answer::{
        FoundMemory, FoundRun, HistoryRow, LogRow, RebuildAnswer, RunRow, SessionRow,
        SnapshotAnswer,
    },
    id::{CallId, MemoryId, RequestId, RunId, SessionId},
    memory::{MemoryKind, SearchMode},
    model::{Charge, Reservation},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Why a view cannot answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ViewError {
    /// The journal could not be read.
    #[error(transparent)]
    Journal(#[from] super::journal::ReadError),
    /// The projection's files failed.
    #[error(
        "the projections cannot be used: {0}; if the disk works and has room, `ai-factory rebuild` rebuilds them from the journal"
    )]
    Storage(String),
    /// The snapshot file was not written.
    #[error("the snapshot was not written: {0}")]
    Snapshot(String),
}

/// A run that was requested and has not ended, dispatched or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRun {
    /// The run.
    pub run_id: RunId,
    /// The session that waits for it, if there is one.
    pub session_id: Option<SessionId>,
}

/// A model call that was requested and has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenCall {
    /// The call.
    pub call_id: CallId,
    /// The session that waits for it, if there is one.
    pub session_id: Option<SessionId>,
}

/// What model calls took in one day, those under way with what is set aside for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallDay {
    /// The date in UTC, `2026-12-01`; empty before the first call.
    pub day: String,
    /// Tokens.
    pub tokens: u64,
    /// Cost in millionths of the prices' currency, as far as there were prices.
    pub cost_micros: u64,
}

impl CallDay {
    /// A day without calls.
    pub fn new(day: impl Into<String>) -> Self {
        Self { day: day.into(), ..Self::default() }
    }

    /// So much is set aside.
    pub fn reserve(&mut self, reserved: &Reservation) {
        self.tokens = self.tokens.saturating_add(reserved.tokens());
        self.cost_micros = self.cost_micros.saturating_add(reserved.cost_micros.unwrap_or(0));
    }

    /// A charge takes the place of what was set aside.
    pub fn settle(&mut self, reserved: &Reservation, charged: &Charge) {
        let tokens = self.tokens.saturating_sub(reserved.tokens());
        self.tokens = tokens.saturating_add(charged.tokens);
        let cost = self.cost_micros.saturating_sub(reserved.cost_micros.unwrap_or(0));
        self.cost_micros = cost.saturating_add(charged.cost_micros.unwrap_or(0));
    }
}

/// Filter for lists of sessions: every field given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Sessions that the request with this id opened.
    pub request_id: Option<RequestId>,
    /// The session with this id.
    pub session_id: Option<SessionId>,
}

impl SessionFilter {
    /// The sessions that a request opened.
    pub fn of_request(id: RequestId) -> Self {
        Self { request_id: Some(id), session_id: None }
    }
}

/// Retention of memories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Memories completed at or after this time are kept.
    pub since: Option<Timestamp>,
    /// This number of memories is kept, the newest.
    pub memories_max: Option<u64>,
}

/// The oldest memories, beyond the retention policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiredRange {
    /// Every memory up to this position is one of them.
    pub upto: u64,
    /// Their number.
    pub memories: u64,
}

/// A search query for memories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchQuery {
    /// The query, as a person wrote it.
    pub text: String,
    /// The id of a memory whose text is the query instead, and that is not to be among the results.
    pub similar_to: Option<String>,
    /// The most results.
    pub limit: usize,
    /// Of near duplicates only the best, among the best few times `limit` candidates.
    pub fold: bool,
    /// Whether quotes and `-` in the query are plain text.
    pub plain: bool,
    /// Only this kind.
    pub kind: Option<MemoryKind>,
    /// Only from this time on.
    pub since: Option<Timestamp>,
    /// Only before this time.
    pub until: Option<Timestamp>,
    /// Only notes with this tag.
    pub tag: Option<String>,
    /// Nothing that belongs to this session.
    pub without: Option<SessionId>,
    /// By keywords, by vectors, or by both.
    pub mode: SearchMode,
}

impl SearchQuery {
    /// A query for a text among all memories.
    pub fn new(text: impl Into<String>, limit: usize) -> Self {
        Self { text: text.into(), limit, ..Self::default() }
    }
}

/// The outcome of a search.
#[derive(Clone, Debug, Default)]
pub struct SearchOutcome {
    /// Best first, newer ones first among equals.
    pub found: Vec<FoundMemory>,
    /// The mode used: the requested one, or keywords alone if the query has no vector.
    pub mode: SearchMode,
}

impl SearchOutcome {
    /// The mode used, if it is not the requested one.
    pub fn other_mode(&self, asked: SearchMode) -> Option<SearchMode> {
        Some(self.mode).filter(|mode| *mode != asked)
    }
}

/// The read side. The module's documentation has the promises of an implementation.
#[async_trait::async_trait]
pub trait Views: Send + Sync + 'static {
    /// A number that changes when an answer may change although nothing was recorded; `None` while
    /// a part is being rebuilt and answers are incomplete.
    fn revision(&self) -> Option<u64>;

    /// The newest planner dispatches, newest first.
    async fn logs(&self, limit: usize) -> Result<Vec<LogRow>, ViewError>;

    /// The memories nearest to the query, and the search mode used.
    async fn search_with_mode(&self, query: &SearchQuery) -> Result<SearchOutcome, ViewError>;

    /// The memories nearest to the query, best first, newer ones first among equals.
    async fn search(&self, query: &SearchQuery) -> Result<Vec<FoundMemory>, ViewError> {
        Ok(self.search_with_mode(query).await?.found)
    }

    /// The position of the event that completed the memory with this id; `None` if there is no such
    /// memory.
    async fn memory(&self, id: MemoryId) -> Result<Option<u64>, ViewError>;

    /// The oldest memories beyond the retention policy, at most `limit` of them; `None` if there
    /// are none.
    async fn expired_range(
        &self,
        policy: &RetentionPolicy,
        limit: u64,
    ) -> Result<Option<ExpiredRange>, ViewError>;

    /// Rebuilds lists and search from the journal while the present ones keep serving; only in the
    /// process that follows the journal. Returns at once.
    async fn start_rebuild(&self) -> Result<RebuildAnswer, ViewError>;

    /// Writes the newest events to a file.
    async fn snapshot(&self, limit: usize) -> Result<SnapshotAnswer, ViewError>;

    /// The newest runs, newest first.
    async fn runs(&self, limit: usize) -> Result<Vec<RunRow>, ViewError>;

    /// Runs whose code or output contains `text`, newest first.
    async fn search_runs(&self, text: &str, limit: usize) -> Result<Vec<FoundRun>, ViewError>;

    /// The runs that were requested and have not ended, oldest first.
    async fn open_runs(&self) -> Result<Vec<OpenRun>, ViewError>;

    /// The model calls that were requested and have not ended.
    async fn open_calls(&self) -> Result<Vec<OpenCall>, ViewError>;

    /// The newest day on which a model call was requested; `None` if there was none.
    async fn newest_call_day(&self) -> Result<Option<CallDay>, ViewError>;

    /// The newest sessions that match a filter, newest first.
    async fn sessions_where(
        &self,
        filter: &SessionFilter,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ViewError>;

    /// The newest sessions, newest first.
    async fn sessions(&self, limit: usize) -> Result<Vec<SessionRow>, ViewError> {
        self.sessions_where(&SessionFilter::default(), limit).await
    }

    /// The newest sessions that match a filter with their summaries, newest first.
    async fn history_where(
        &self,
        filter: &SessionFilter,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, ViewError>;

    /// The newest sessions with their summaries, newest first.
    async fn history(&self, limit: usize) -> Result<Vec<HistoryRow>, ViewError> {
        self.history_where(&SessionFilter::default(), limit).await
    }

    /// One session's row.
    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, ViewError>;

    /// Sessions whose id, or whose request's id, begins with this text: at most `limit`, unordered.
    async fn sessions_beginning(
        &self,
        text: &str,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ViewError>;

    /// The runs of one session, oldest first.
    async fn runs_of_session(&self, id: SessionId) -> Result<Vec<RunId>, ViewError>;

    /// The sessions that have not ended, oldest first.
    async fn open_sessions(&self) -> Result<Vec<SessionId>, ViewError>;
}
