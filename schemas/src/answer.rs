//! What the actors answer: one type per operation, the JSON body of its reply.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    file::RunFile,
    id::{MemoryId, RequestId, RunId, SessionId},
    memory::{MemoryKind, SearchMode},
    plan::{Plan, TaskType},
    problem::Detail,
    run::{EndedBy, FileLeftOut, Isolation, RunStatus},
    session::{SessionEnd, SessionStatus, Submitter},
    time::Timestamp,
};

/// `planner.dispatch`, `planner.propose`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dispatched {
    /// The request.
    pub request_id: RequestId,
    /// When it was planned.
    pub created_at: Timestamp,
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
}

/// One row of `memory.logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogRow {
    /// Grows.
    pub id: u64,
    /// The request.
    pub request_id: RequestId,
    /// What kind of work was asked for.
    pub task_type: TaskType,
    /// What was asked.
    pub prompt: String,
    /// When.
    pub timestamp: Timestamp,
}

/// How well a memory answers a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// From 0 to 1: what the order is by, and 1 less the distance.
    pub total: f64,
    /// By words: BM25, from 0 on.
    pub keyword: f64,
    /// By meaning: the cosine of the two vectors, from -1 to 1; 0 where there is no vector.
    pub semantic: f64,
}

/// One result of `memory.search`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// What it is about: a session, a run, a plan or a note.
    pub id: String,
    /// Its text.
    pub text: String,
    /// 0 = identical, grows.
    pub distance: f64,
    /// What it is about.
    pub kind: MemoryKind,
    /// The request that it belongs to.
    pub request_id: RequestId,
    /// When it was remembered.
    pub timestamp: Timestamp,
    /// How well it answers.
    pub score: Score,
    /// The part of the text that answers best, with `**` around the words that were looked for.
    pub snippet: String,
}

/// `memory.search`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchAnswer {
    /// As asked.
    pub query: String,
    /// Best first.
    pub results: Vec<Found>,
    /// By what was searched, where it is not what was asked for: `keyword`, where there is no vector of the query at the moment
    /// or at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SearchMode>,
}

/// `memory.snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotAnswer {
    /// `ok`.
    pub status: String,
    /// The file that was written.
    pub snapshot: String,
}

/// One line of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotLine {
    /// The position of the event.
    pub id: u64,
    /// The request that the event belongs to.
    pub request_id: RequestId,
    /// When.
    pub timestamp: Timestamp,
    /// The kind of work, or the kind of record where there is none.
    pub task_type: String,
    /// What was asked: prompt, goal, code or note.
    pub prompt: String,
    /// What came of it, as JSON.
    pub response: serde_json::Value,
}

/// `memory.remember`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remembered {
    /// The request.
    pub request_id: RequestId,
    /// The note.
    pub id: MemoryId,
}

/// `memory.import`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    /// The request.
    pub request_id: RequestId,
    /// What became of each note, in their order.
    pub notes: Vec<ImportedNote>,
}

/// What became of one note of many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ImportedNote {
    /// It is kept.
    Kept {
        /// The note.
        id: MemoryId,
    },
    /// It is not.
    Refused {
        /// As the status of an answer would be.
        status: u16,
        /// Why.
        detail: Detail,
    },
}

/// `memory.forget`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forgotten {
    /// The request.
    pub request_id: RequestId,
    /// The memory.
    pub id: MemoryId,
}

/// `memory.rebuild`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RebuildBegun {
    /// Whether it was begun for this request.
    pub status: RebuildStatus,
    /// How many events it is made from, and those that come meanwhile.
    pub events: u64,
}

/// Whether a rebuild was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RebuildStatus {
    /// Yes.
    Begun,
    /// One was under way already.
    UnderWay,
}

/// `debugger.run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunAnswer {
    /// The request.
    pub request_id: RequestId,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote.
    pub stderr: String,
    /// All that it wrote to standard output, in bytes, kept or not.
    pub stdout_bytes: u64,
    /// All that it wrote to standard error, in bytes, kept or not.
    pub stderr_bytes: u64,
    /// 128 + N for signal N, 124 for the wall limit.
    pub exit_code: i32,
    /// How it ended.
    pub status: RunStatus,
    /// The run's id.
    pub run_id: RunId,
    /// What ended it.
    pub ended_by: EndedBy,
    /// How often it was begun; above 1, an earlier attempt's end is unknown.
    pub attempts: u32,
    /// What protected everything else.
    pub isolation: Isolation,
    /// From the program's start to its end, in milliseconds.
    pub duration_ms: u64,
    /// Those of the files asked for that it left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<RunFile>,
    /// Those that it did not leave, or that could not be taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files_left_out: Vec<FileLeftOut>,
    /// Why it never started, where its language is not known here: which languages there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One row of `debugger.logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunRow {
    /// Grows.
    pub id: u64,
    /// The request.
    pub request_id: RequestId,
    /// When it was handed in.
    pub timestamp: Timestamp,
    /// As asked.
    pub language: String,
    /// `success`, `error`, `timeout`; `running` until then, `abandoned` where the end is unknown.
    pub status: String,
    /// The run's id.
    pub run_id: RunId,
}

/// One result of `debugger.search`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundRun {
    /// As in `debugger.logs`.
    pub id: u64,
    /// The request.
    pub request_id: RequestId,
    /// As asked.
    pub language: String,
    /// As in `debugger.logs`.
    pub status: String,
    /// The first characters of stdout, else stderr, else code.
    pub snippet: String,
}

/// `debugger.search`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunSearchAnswer {
    /// As asked.
    pub query: String,
    /// Newest first.
    pub results: Vec<FoundRun>,
}

/// `debugger.cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunCancelled {
    /// The run.
    pub run_id: RunId,
    /// Whether it was under way here.
    pub was_running: bool,
}

/// `supervisor.run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionAnswer {
    /// The request.
    pub request_id: RequestId,
    /// The goal.
    pub goal: String,
    /// The plan, as from the planner.
    pub plan: Dispatched,
    /// The recalled texts.
    pub context: Vec<String>,
    /// The steps' outputs as `[step N] stdout:` and `[step N] stderr:` blocks, or `no-op`.
    pub result: String,
    /// How it went.
    pub status: SessionStatus,
    /// The session's id.
    pub session_id: SessionId,
    /// The result in short.
    pub summary: String,
    /// Why it is over.
    pub end: SessionEnd,
    /// What to know about an end that was not a completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `supervisor.submit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Submitted {
    /// The request.
    pub request_id: RequestId,
    /// The session.
    pub session_id: SessionId,
}

/// `supervisor.cancel`, `supervisor.resolve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionTold {
    /// The session.
    pub session_id: SessionId,
    /// Its state now, as in [`SessionRow::status`].
    pub status: String,
}

/// One row of `supervisor.status` and `supervisor.sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionRow {
    /// Grows.
    pub id: u64,
    /// The request.
    pub request_id: RequestId,
    /// The goal.
    pub goal: String,
    /// `success`, `partial`, `error`; `running` or `waiting` until then.
    pub status: String,
    /// When it was opened.
    pub timestamp: Timestamp,
    /// The session's id.
    pub session_id: SessionId,
    /// Why it is over, once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<SessionEnd>,
}

/// One row of `supervisor.history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryRow {
    /// Grows.
    pub id: u64,
    /// The request.
    pub request_id: RequestId,
    /// The goal.
    pub goal: String,
    /// As in `supervisor.status`.
    pub status: String,
    /// The result in short.
    pub summary: String,
    /// The session's id.
    pub session_id: SessionId,
}

/// One event of a timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineEntry {
    /// Its place in the journal.
    pub position: u64,
    /// When.
    pub time: Timestamp,
    /// Which stream.
    pub stream: String,
    /// What: `session.opened`.
    pub event: String,
    /// The payload.
    pub data: serde_json::Value,
}

/// `supervisor.session`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionStory {
    /// Its row.
    #[serde(flatten)]
    pub row: SessionRow,
    /// Who submitted the goal; nothing where that was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<Submitter>,
    /// The plan, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The recalled texts.
    pub context: Vec<String>,
    /// The steps' outputs so far.
    pub result: String,
    /// The result in short, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What to know about an end that was not a completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Every event of the session and of its runs, in journal order.
    pub timeline: Vec<TimelineEntry>,
}
