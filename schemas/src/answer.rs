//! Answers of the actors: one type per operation, the JSON body of its reply.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::model_answer::{
    BudgetAnswer, BudgetUse, CallCancelAnswer, CallEnd, CallRow, Completed, ModelUse, OpenQuestion,
    SessionCalls, SessionPending, StreamEnd, StreamPart,
};
pub use crate::session_files::SessionFiles;
use crate::{
    check::CheckMoment,
    diagnosis::Diagnosis,
    file::RunFile,
    id::{MemoryId, RequestId, RunId, SessionId},
    memory::{MemoryKind, SearchMode},
    plan::{Plan, TaskType},
    problem::Detail,
    run::{EndedBy, FileLeftOut, Isolation, RunStatus},
    session::{SessionEnd, SessionPhase, SessionStatus, Submitter},
    text::BlobHash,
    time::Timestamp,
    workspace::{FileChange, WorkspaceFile},
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
    /// The files that differ from those that came in, by path, if the session has a workspace: the
    /// first [`crate::limit::CHANGED_FILES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_files: Option<Vec<FileChange>>,
    /// The number of files that differ, if `changed_files` does not name them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_files_count: Option<u32>,
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
    /// The files that differ from those that came in, by path, if the session has a workspace: the
    /// first [`crate::limit::CHANGED_FILES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_files: Option<Vec<FileChange>>,
    /// The number of files that differ, if `changed_files` does not name them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_files_count: Option<u32>,
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
