//! Answers of the actors: one type per operation, the JSON body of its reply.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    call::{CallAnswered, CallFailed},
    chat::StopReason,
    check::CheckMoment,
    diagnosis::Diagnosis,
    file::RunFile,
    id::{CallId, MemoryId, RequestId, RunId, SessionId, ToolCallId},
    memory::{MemoryKind, SearchMode},
    model::{Charge, Reservation, TokenUsage},
    plan::{Plan, TaskType},
    problem::Detail,
    run::{EndedBy, FileLeftOut, Isolation, RunStatus},
    session::{SessionEnd, SessionPhase, SessionStatus, Submitter},
    text::BlobHash,
    time::Timestamp,
    workspace::{FileChange, WorkspaceFile, WorkspaceManifest},
};

/// `planner.dispatch`, `planner.propose`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dispatched {
    /// The request's id.
    pub request_id: RequestId,
    /// The time of planning.
    pub created_at: Timestamp,
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
}

/// One row of `memory.logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogRow {
    /// Row number; newer rows have higher ones.
    pub id: u64,
    /// The request's id.
    pub request_id: RequestId,
    /// The kind of work.
    pub task_type: TaskType,
    /// The prompt.
    pub prompt: String,
    /// The time of the plan.
    pub timestamp: Timestamp,
}

/// Relevance of a memory for a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// From 0 to 1: the order of results, and 1 minus the distance.
    pub total: f64,
    /// Keyword score: BM25, from 0 upwards.
    pub keyword: f64,
    /// Vector score: the cosine of the two vectors, from -1 to 1; 0 without a vector.
    pub semantic: f64,
}

/// One result of `memory.search`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FoundMemory {
    /// The memory's id: that of a session, a run, a plan or a note.
    pub id: String,
    /// The text.
    pub text: String,
    /// 0 for identical; grows with difference.
    pub distance: f64,
    /// The kind of memory.
    pub kind: MemoryKind,
    /// The id of the request that it belongs to.
    pub request_id: RequestId,
    /// The time at which it was remembered.
    pub timestamp: Timestamp,
    /// The scores.
    pub score: Score,
    /// The best matching part of the text, with `**` around the query's words.
    pub snippet: String,
}

/// `memory.search`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchAnswer {
    /// The query.
    pub query: String,
    /// Best first.
    pub results: Vec<FoundMemory>,
    /// The mode used, if it is not the requested one: `keyword` if the query has no vector, at the
    /// moment or at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SearchMode>,
}

/// `memory.snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotAnswer {
    /// `ok`.
    pub status: String,
    /// The path of the file.
    pub snapshot: String,
}

/// One line of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotLine {
    /// The position of the event.
    pub id: u64,
    /// The id of the request that the event belongs to.
    pub request_id: RequestId,
    /// The time of the event.
    pub timestamp: Timestamp,
    /// The kind of work, or the kind of record if there is none.
    pub task_type: String,
    /// Prompt, goal, code or note.
    pub prompt: String,
    /// The outcome, as JSON.
    pub response: serde_json::Value,
}

/// `memory.remember`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remembered {
    /// The request's id.
    pub request_id: RequestId,
    /// The note's id.
    pub id: MemoryId,
}

/// `memory.import`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    /// The request's id.
    pub request_id: RequestId,
    /// The outcome of each note, in order.
    pub notes: Vec<NoteOutcome>,
}

/// The outcome of one note of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum NoteOutcome {
    /// The note was stored.
    Kept {
        /// The note's id.
        id: MemoryId,
    },
    /// The note was refused.
    Refused {
        /// The status, as of an answer.
        status: u16,
        /// The reason.
        detail: Detail,
    },
}

/// `memory.forget`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forgotten {
    /// The request's id.
    pub request_id: RequestId,
    /// The memory's id.
    pub id: MemoryId,
}

/// `memory.rebuild`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RebuildAnswer {
    /// Whether the rebuild began with this request.
    pub status: RebuildStatus,
    /// The number of events to read; events that arrive meanwhile are read too.
    pub events: u64,
}

/// Whether a rebuild was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RebuildStatus {
    /// It began with this request.
    Begun,
    /// It was already under way.
    UnderWay,
}

/// `debugger.run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunAnswer {
    /// The request's id.
    pub request_id: RequestId,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Bytes written to standard output, kept or not.
    pub stdout_bytes: u64,
    /// Bytes written to standard error, kept or not.
    pub stderr_bytes: u64,
    /// The exit code; 128 + N for signal N, 124 for the wall time limit.
    pub exit_code: i32,
    /// The result of the run.
    pub status: RunStatus,
    /// The run's id.
    pub run_id: RunId,
    /// What ended it.
    pub ended_by: EndedBy,
    /// The number of attempts; above 1, the end of an earlier one is unknown.
    pub attempts: u32,
    /// The isolation in force.
    pub isolation: Isolation,
    /// From the program's start to its end, in milliseconds.
    pub duration_ms: u64,
    /// The requested files that the program left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<RunFile>,
    /// The requested files that were not there, or could not be taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files_left_out: Vec<FileLeftOut>,
    /// Why the run never started, for an unsupported language: the languages that are supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
}

/// One row of `debugger.logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunRow {
    /// Row number; newer rows have higher ones.
    pub id: u64,
    /// The request's id.
    pub request_id: RequestId,
    /// The time of the request.
    pub timestamp: Timestamp,
    /// The language, as requested.
    pub language: String,
    /// `success`, `error`, `timeout`; `running` until then, `abandoned` if the end is unknown.
    pub status: String,
    /// The run's id.
    pub run_id: RunId,
}

/// One result of `debugger.search`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundRun {
    /// As in `debugger.logs`.
    pub id: u64,
    /// The request's id.
    pub request_id: RequestId,
    /// The language, as requested.
    pub language: String,
    /// As in `debugger.logs`.
    pub status: String,
    /// The first characters of stdout, else stderr, else code.
    pub snippet: String,
}

/// `debugger.search`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunSearchAnswer {
    /// The query.
    pub query: String,
    /// Newest first.
    pub results: Vec<FoundRun>,
}

/// `debugger.cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunCancelAnswer {
    /// The run's id.
    pub run_id: RunId,
    /// Whether it was under way.
    pub was_running: bool,
}

/// `supervisor.run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionAnswer {
    /// The request's id.
    pub request_id: RequestId,
    /// The goal.
    pub goal: String,
    /// The plan, as the planner answers it.
    pub plan: Dispatched,
    /// The texts of the recalled memories.
    pub context: Vec<String>,
    /// The steps' outputs as `[step N] stdout:` and `[step N] stderr:` blocks, or `no-op`; a block
    /// `[step N] workspace:` says why no change of a step was taken.
    pub result: String,
    /// How the session went.
    pub status: SessionStatus,
    /// The session's id.
    pub session_id: SessionId,
    /// The beginning of the result.
    pub summary: String,
    /// Why the session is over.
    pub end: SessionEnd,
    /// The reason of an end other than completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The outcome of the last check, if the session has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckOutcome>,
    /// The files that differ from those that came in, if the session has a workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_files: Option<Vec<FileChange>>,
    /// What the model took, if the session has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelUse>,
}

/// `supervisor.run`, `supervisor.wait`: the session is over, or waits for somebody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum GoalAnswer {
    /// It is over.
    Concluded(Box<SessionAnswer>),
    /// It goes on: 202 over HTTP. Only sessions with a model are answered so.
    Pending(Box<SessionPending>),
}

/// A session that goes on, or waits for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionPending {
    /// The request's id.
    pub request_id: RequestId,
    /// The session's id.
    pub session_id: SessionId,
    /// `running`, `waiting: question`, `waiting: budget`, `waiting: decision`.
    pub status: SessionPhase,
    /// What it waits for, and what to do.
    pub waits_for: String,
    /// The question that it waits with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<OpenQuestion>,
    /// What the model took so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelUse>,
}

/// A question that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenQuestion {
    /// Its id.
    pub question_id: ToolCallId,
    /// The question.
    pub question: String,
    /// When nobody answers any more.
    pub expires: Timestamp,
}

/// What may be spent, and what is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetUse {
    /// Tokens spent.
    pub tokens_spent: u64,
    /// Tokens set aside for calls under way.
    pub tokens_reserved: u64,
    /// The most tokens.
    pub tokens_max: u64,
    /// Cost, in millionths of the prices' currency; absent without prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros_spent: Option<u64>,
    /// Cost set aside for calls under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros_reserved: Option<u64>,
    /// The most that it may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros_max: Option<u64>,
}

/// What the model of a session took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelUse {
    /// Provider and name.
    pub model: String,
    /// The host that was asked.
    pub host: String,
    /// Turns begun.
    pub turns: u32,
    /// Attempts of calls, failed ones too.
    pub attempts: u32,
    /// Tokens as reported.
    pub usage: TokenUsage,
    /// Input that had been sent in an earlier call, in tokens; part of the usage.
    pub resent_tokens: u64,
    /// The budget.
    pub budget: BudgetUse,
}

/// `supervisor.budget`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetAnswer {
    /// The session's id.
    pub session_id: SessionId,
    /// Its status.
    pub status: SessionPhase,
    /// The budget after the change.
    #[serde(flatten)]
    pub budget: BudgetUse,
}

/// `supervisor.calls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionCalls {
    /// The session's id.
    pub session_id: SessionId,
    /// Every attempt of every call, in order.
    pub calls: Vec<CallRow>,
}

/// One attempt of a model call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallRow {
    /// The call.
    pub call_id: CallId,
    /// The turn, from 1.
    pub turn: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it was requested.
    pub timestamp: Timestamp,
    /// `running`, `answered`, `abandoned`, or the class of its failure.
    pub status: String,
    /// Provider and name of the model.
    pub model: String,
    /// The host that was asked.
    pub host: String,
    /// The hash of the request.
    pub request: BlobHash,
    /// The answer, a blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<BlobHash>,
    /// How the answer ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopReason>,
    /// The tools that it calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// What was set aside.
    pub reserved: Reservation,
    /// What the provider says that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
    /// What is charged, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<Charge>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// To the first token, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// To the end, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// `model.complete`: the attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// How long it waited for its place among the calls under way, in milliseconds.
    pub waited_ms: u64,
    /// Its end, as recorded.
    pub end: CallEnd,
}

/// `model.cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCancelAnswer {
    /// The call.
    pub call_id: CallId,
    /// Whether it was under way, or waited for its place.
    pub was_running: bool,
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallEnd {
    /// It was answered.
    Answered(Box<CallAnswered>),
    /// It failed.
    Failed(CallFailed),
}

/// What a model says while it says it. Lossy: the record has the whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamPart {
    /// The call.
    pub call: CallId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The part, from 0.
    pub seq: u64,
    /// The text that is new.
    pub text: String,
    /// Set on the last part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<StreamEnd>,
}

/// How a stream of parts ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamEnd {
    /// The answer is complete and recorded.
    End,
    /// The attempt failed: what was said does not count.
    Void,
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckOutcome {
    /// Before the steps or after them.
    pub moment: CheckMoment,
    /// The result of its run.
    pub status: RunStatus,
    /// Its exit code.
    pub exit_code: i32,
    /// The beginning of its outputs.
    pub output: String,
    /// Test files that the steps changed and that are not protected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_tests: Vec<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
}

/// `supervisor.files`: the workspace of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionFiles {
    /// The session's id.
    pub session_id: SessionId,
    /// Its files now, by path.
    pub files: WorkspaceManifest,
    /// What differs from what came in, by path.
    pub changes: Vec<FileChange>,
    /// The changed and deleted files as they came in, by path; a change without one was added.
    #[serde(default)]
    pub before: WorkspaceManifest,
}

impl SessionFiles {
    /// The answer about a session with these files, in place of those that came in.
    pub fn new(session_id: SessionId, came_in: &WorkspaceManifest, now: WorkspaceManifest) -> Self {
        let changes = came_in.changes_to(&now);
        let was = |change: &FileChange| {
            let file = came_in.files.get(&change.path)?;
            Some((change.path.clone(), *file))
        };
        let before = WorkspaceManifest { files: changes.iter().filter_map(was).collect() };
        Self { session_id, changes, files: now, before }
    }
}

/// `supervisor.file`: a part of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionFilePart {
    /// The file.
    #[serde(flatten)]
    pub file: WorkspaceFile,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// The part in base64, at most [`crate::limit::FILE_PART_BYTES_MAX`] decoded.
    pub content_base64: String,
}

/// `supervisor.missing`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingFilesAnswer {
    /// The contents that the factory lacks, in the order asked.
    pub missing: Vec<BlobHash>,
}

/// `supervisor.upload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Uploaded {
    /// The hash of the complete content.
    pub hash: BlobHash,
    /// The bytes received so far: where the next part begins.
    pub received: u64,
    /// Whether the content is complete.
    pub complete: bool,
}

/// `supervisor.submit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Submitted {
    /// The request's id.
    pub request_id: RequestId,
    /// The session's id.
    pub session_id: SessionId,
}

/// `supervisor.cancel`, `supervisor.resolve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionStatusAnswer {
    /// The session's id.
    pub session_id: SessionId,
    /// Its status, as in [`SessionRow::status`].
    pub status: SessionPhase,
}

/// One row of `supervisor.status` and `supervisor.sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionRow {
    /// Row number; newer rows have higher ones.
    pub id: u64,
    /// The request's id.
    pub request_id: RequestId,
    /// The goal.
    pub goal: String,
    /// `success`, `partial`, `error`; until then `running`, or `waiting:` and for what.
    pub status: SessionPhase,
    /// The time of its opening.
    pub timestamp: Timestamp,
    /// The session's id.
    pub session_id: SessionId,
    /// Why it is over, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<SessionEnd>,
    /// What its model may spend and did, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetUse>,
}

/// One row of `supervisor.history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryRow {
    /// Row number; newer rows have higher ones.
    pub id: u64,
    /// The request's id.
    pub request_id: RequestId,
    /// The goal.
    pub goal: String,
    /// As in `supervisor.status`.
    pub status: SessionPhase,
    /// The beginning of the result.
    pub summary: String,
    /// The session's id.
    pub session_id: SessionId,
}

/// One event of a session's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineEntry {
    /// Its position in the journal.
    pub position: u64,
    /// Its time.
    pub time: Timestamp,
    /// Its stream.
    pub stream: String,
    /// Its name, such as `session.opened`.
    pub event: String,
    /// Its payload.
    pub data: serde_json::Value,
}

/// `supervisor.session`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionStory {
    /// The session's row.
    #[serde(flatten)]
    pub row: SessionRow,
    /// The submitter; absent if none was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<Submitter>,
    /// The plan, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The texts of the recalled memories.
    pub context: Vec<String>,
    /// The outputs of the steps so far.
    pub result: String,
    /// The beginning of the result, once the session is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The reason of an end other than completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The outcome of the last check that ended, if the session has a check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckOutcome>,
    /// The files that differ from those that came in, if the session has a workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_files: Option<Vec<FileChange>>,
    /// What the model took, if the session has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelUse>,
    /// What it waits for, and what to do, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// The question that it waits with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<OpenQuestion>,
    /// Every event of the session, of its runs and its calls, in journal order.
    pub timeline: Vec<TimelineEntry>,
}
