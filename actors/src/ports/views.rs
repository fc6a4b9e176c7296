//! The read side: what the projections answer.
//!
//! Every answer contains all that the journal had acknowledged when the question was asked (I-13).

use ai_factory_schemas::{
    answer::{
        Found, FoundRun, HistoryRow, LogRow, RebuildBegun, RunRow, SessionRow, SnapshotAnswer,
    },
    id::{MemoryId, RequestId, RunId, SessionId},
    memory::{MemoryKind, SearchMode},
    time::Timestamp,
};

/// Why a view cannot answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ViewError {
    /// The journal could not be read.
    #[error(transparent)]
    Journal(#[from] super::journal::ReadError),
    /// The projection's own files failed.
    #[error(
        "the projections cannot be used: {0}; where the disk is sound and has room, `ai-factory rebuild` makes them anew from the journal"
    )]
    Storage(String),
    /// The snapshot's file was not written.
    #[error("the snapshot was not written: {0}")]
    Snapshot(String),
}

/// A run that was handed in and has not ended, dispatched or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRun {
    /// The run.
    pub run_id: RunId,
    /// The session that waits for it, if one does.
    pub session_id: Option<SessionId>,
}

/// Which sessions are listed: those that all of it holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Those that the request of this id opened.
    pub request_id: Option<RequestId>,
    /// This one.
    pub session_id: Option<SessionId>,
}

impl SessionFilter {
    /// The sessions that a request opened.
    pub fn of_request(id: RequestId) -> Self {
        Self { request_id: Some(id), session_id: None }
    }
}

/// Which memories are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Those that were completed from this time on.
    pub since: Option<Timestamp>,
    /// This many, the newest.
    pub memories_max: Option<u64>,
}

/// The oldest memories, which are to be kept no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlived {
    /// The position up to which every memory is one of them.
    pub upto: u64,
    /// How many there are.
    pub memories: u64,
}

/// What is looked for among memories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// The query, as a person wrote it.
    pub text: String,
    /// The id of a memory whose text is the query instead, and that is not to be among the results.
    pub similar_to: Option<String>,
    /// How many at most.
    pub limit: usize,
    /// Of memories that say nearly the same, only the best, as far as a few times `limit` of the best show.
    pub fold: bool,
    /// Whether quotes and `-` in the query are text.
    pub plain: bool,
    /// Of this kind only.
    pub kind: Option<MemoryKind>,
    /// From this time on only.
    pub since: Option<Timestamp>,
    /// Before this time only.
    pub until: Option<Timestamp>,
    /// Notes with this tag only.
    pub tag: Option<String>,
    /// Nothing that belongs to this session.
    pub without: Option<SessionId>,
    /// By words, by meaning, or by both.
    pub mode: SearchMode,
}

impl Sought {
    /// A text, among all memories.
    pub fn new(text: impl Into<String>, limit: usize) -> Self {
        Self { text: text.into(), limit, ..Self::default() }
    }
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Searched {
    /// Best first, newer ones first among equals.
    pub found: Vec<Found>,
    /// By what: the mode that was asked for, or words alone where there was no vector of the query.
    pub mode: SearchMode,
}

impl Searched {
    /// The mode, where it is not the one that was asked for.
    pub fn other_mode(&self, asked: SearchMode) -> Option<SearchMode> {
        Some(self.mode).filter(|mode| *mode != asked)
    }
}

/// The read side. See the module for what an implementation promises.
#[async_trait::async_trait]
pub trait Views: Send + Sync + 'static {
    /// A number that changes when an answer may be another one though nothing was recorded; `None` while a part of it is
    /// made anew and answers are not what they will be.
    fn revision(&self) -> Option<u64>;

    /// The newest planner dispatches, newest first.
    async fn logs(&self, limit: usize) -> Result<Vec<LogRow>, ViewError>;

    /// The memories nearest to what is sought, and by what they were found.
    async fn searched(&self, sought: &Sought) -> Result<Searched, ViewError>;

    /// The memories nearest to what is sought, best first, newer ones first among equals.
    async fn search(&self, sought: &Sought) -> Result<Vec<Found>, ViewError> {
        Ok(self.searched(sought).await?.found)
    }

    /// The position of the event that completed the memory of that id; `None` where there is no such memory.
    async fn memory(&self, id: MemoryId) -> Result<Option<u64>, ViewError>;

    /// The oldest memories beyond what is kept, at most `limit` of them; `None` where there are none.
    async fn outlived(&self, kept: &Kept, limit: u64) -> Result<Option<Outlived>, ViewError>;

    /// Has lists and search made anew from the journal while those that there are serve on; only in the process that
    /// follows it. Comes back at once.
    async fn remake(&self) -> Result<RebuildBegun, ViewError>;

    /// Writes the newest events to a file.
    async fn snapshot(&self, limit: usize) -> Result<SnapshotAnswer, ViewError>;

    /// The newest runs, newest first.
    async fn runs(&self, limit: usize) -> Result<Vec<RunRow>, ViewError>;

    /// Runs whose code or output contains `text`, newest first.
    async fn search_runs(&self, text: &str, limit: usize) -> Result<Vec<FoundRun>, ViewError>;

    /// The runs that were handed in and have not ended, oldest first.
    async fn open_runs(&self) -> Result<Vec<OpenRun>, ViewError>;

    /// The newest sessions that a filter lets through, newest first.
    async fn sessions_where(
        &self,
        filter: &SessionFilter,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ViewError>;

    /// The newest sessions, newest first.
    async fn sessions(&self, limit: usize) -> Result<Vec<SessionRow>, ViewError> {
        self.sessions_where(&SessionFilter::default(), limit).await
    }

    /// The newest sessions that a filter lets through with their summaries, newest first.
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

    /// Sessions whose id, or whose request's id, begins with this text: at most `limit`, in no
    /// order.
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
