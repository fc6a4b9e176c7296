//! Requests to the actors: one type per operation, the JSON body of its message.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    call::CallRequest,
    check::{CHECK_LANGUAGE, Check},
    file::RunFile,
    id::{CallId, CommandId, MemoryId, RequestId, RunId, SessionId, SessionRef, ToolCallId},
    memory::{MemoryKind, SearchMode},
    model::{ModelEndpoint, Reservation, TokenPrices},
    plan::TaskType,
    session::Resolution,
    text::BlobHash,
    time::Timestamp,
    workspace::RunWorkspace,
};

/// `planner.dispatch` and `planner.propose`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dispatch {
    /// Non-blank, at most [`crate::limit::GOAL_BYTES_MAX`].
    pub prompt: String,
    /// The kind of work.
    #[serde(default, deserialize_with = "null_is_default")]
    pub task_type: TaskType,
}

/// `memory.logs`, `debugger.logs`, `memory.snapshot`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Newest {
    /// The most results; each operation has its own default and bounds.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// `supervisor.sessions`, `supervisor.status`, `supervisor.history`: the newest sessions that match
/// every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListSessions {
    /// The most results: 1 to 100, by default 10.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Only sessions that the request with this id opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// Only the session that was opened under this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CommandId>,
}

/// `memory.search`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SearchMemory {
    /// The query, at least 1 character. `"words in a row"` must occur as written, `-word` must not
    /// occur; all other words are searched.
    pub q: String,
    /// The most results: 1 to 20, by default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// Only memories of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MemoryKind>,
    /// Only memories from this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only memories before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Only notes with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// By keywords, by vectors, or by both.
    #[serde(default, deserialize_with = "null_is_default")]
    pub mode: SearchMode,
    /// Excludes what belongs to this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<SessionId>,
    /// Of near duplicates only the best.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub fold: bool,
    /// Quotes and `-` in `q` are plain text.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub plain: bool,
}

/// `debugger.search`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SearchRuns {
    /// The text to find, at least 1 character.
    pub q: String,
    /// The most results; each operation has its own default and bounds.
    #[serde(default)]
    pub n: Option<u32>,
}

/// `memory.remember`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remember {
    /// Non-blank, at most [`crate::limit::NOTE_BYTES_MAX`].
    pub text: String,
    /// At most [`crate::limit::TAGS_MAX`].
    #[serde(default, deserialize_with = "null_is_default")]
    pub tags: Vec<String>,
}

/// `memory.import`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Import {
    /// 1 to [`crate::limit::NOTES_MAX`].
    pub notes: Vec<NoteInput>,
}

/// One note of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoteInput {
    /// As in [`Remember`].
    pub text: String,
    /// As in [`Remember`].
    #[serde(default, deserialize_with = "null_is_default")]
    pub tags: Vec<String>,
    /// The key under which it is stored at most once. Without one, its index under the request's
    /// key is its key, if the request has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CommandId>,
}

/// `memory.forget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forget {
    /// The memory's id, as in search results.
    pub id: MemoryId,
}

/// `memory.rebuild`: an empty object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rebuild {}

/// `debugger.run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunRequest {
    /// Non-empty, at most [`crate::limit::CODE_BYTES_MAX`].
    #[serde(default, deserialize_with = "null_is_default")]
    pub code: String,
    /// `python` (`py`), `javascript` (`node`), `bash` (`sh`); `ai-factory doctor` lists the
    /// installed ones.
    #[serde(default = "python", deserialize_with = "null_is_python")]
    pub language: String,
    /// Standard input, at most [`crate::limit::STDIN_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Files for the working directory, at most [`crate::limit::FILES_MAX`] and
    /// [`crate::limit::FILES_BYTES_MAX`].
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<RunFile>,
    /// Patterns of the files to return: `*` and `?` match within one part of a path, `**` any
    /// number of parts. At most [`crate::limit::FILES_MAX`] patterns and files,
    /// [`crate::limit::FILES_BYTES_MAX`] in all.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub return_files: Vec<String>,
    /// Set by a session: the id of the run, new or known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Set by a session: the session whose step it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Set by a session: its workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<RunWorkspace>,
    /// Set by a session: a wall time limit of its own, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms_max: Option<u64>,
}

/// The value, or its default for `null`, as if the field were missing.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn null_is_python<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(python))
}

fn python() -> String {
    "python".to_owned()
}

/// `debugger.cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelRun {
    /// The run's id.
    pub run_id: RunId,
}

/// `supervisor.run`, `supervisor.submit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Goal {
    /// Non-blank, at most [`crate::limit::GOAL_BYTES_MAX`].
    #[serde(default, deserialize_with = "null_is_default")]
    pub goal: String,
    /// The kind of work.
    #[serde(default, deserialize_with = "null_is_default")]
    pub task_type: TaskType,
    /// Files for the session's workspace.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<GoalFile>,
    /// Whether the session has a workspace although no file comes in and nothing is checked.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub workspace: bool,
    /// What decides whether the goal is done; a string is a line of bash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// Patterns of files that are restored before the check after the steps, at most
    /// [`crate::limit::PROTECT_PATTERNS_MAX`]: `*` and `?` (one byte) match within one part of a
    /// path, `**` any number of parts. A pattern that matches a directory covers everything below
    /// it. At most ten `*` and `?` each, where `**` counts once; no brackets, braces, backslashes.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub protect: Vec<String>,
    /// The model that does the work: provider and name, as configured; `none` for no model.
    /// Absent: the configured one, unless the goal carries code that can be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Less than the configured budget of a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<GoalBudget>,
    /// Less than the configured number of turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns_max: Option<u32>,
    /// Whether the model may ask a person.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub ask: bool,
}

/// What the work on a goal may cost, where that is less than the settings allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoalBudget {
    /// Tokens, as billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_max: Option<u64>,
    /// Cost in millionths of the prices' currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros_max: Option<u64>,
}

impl Goal {
    /// A goal without files and check, of the default kind.
    pub fn new(goal: impl Into<String>) -> Self {
        Self {
            goal: goal.into(),
            task_type: TaskType::default(),
            files: Vec::new(),
            workspace: false,
            check: None,
            protect: Vec::new(),
            model: None,
            budget: None,
            turns_max: None,
            ask: false,
        }
    }

    /// The goal with one more file.
    #[must_use]
    pub fn with_file(mut self, file: GoalFile) -> Self {
        self.files.push(file);
        self
    }

    /// The goal with a check, a line of bash.
    #[must_use]
    pub fn with_check(mut self, code: impl Into<String>) -> Self {
        self.check = Some(Check { language: CHECK_LANGUAGE.to_owned(), code: code.into() });
        self
    }

    /// The goal with one more pattern of files that are restored before the check after the steps.
    #[must_use]
    pub fn protecting(mut self, pattern: impl Into<String>) -> Self {
        self.protect.push(pattern.into());
        self
    }
}

impl<T: AsRef<str> + ?Sized> From<&T> for Goal {
    fn from(goal: &T) -> Self {
        Self::new(goal.as_ref())
    }
}

/// A file for a session's workspace. Its content is given in one of three ways.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoalFile {
    /// Its path below the working directory, with `/` between the parts; see
    /// [`crate::file::check_name`].
    pub name: String,
    /// The content as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The content in base64 with padding (RFC 4648, section 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_base64: Option<String>,
    /// The hash of a content that the factory has: uploaded before, or stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<BlobHash>,
    /// Whether it can be executed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

impl GoalFile {
    /// A file with this text.
    pub fn text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: Some(text.into()), ..Self::default() }
    }

    /// A file with these bytes.
    pub fn bytes(name: impl Into<String>, bytes: &[u8]) -> Self {
        let content_base64 = Some(BASE64_STANDARD.encode(bytes));
        Self { name: name.into(), content_base64, ..Self::default() }
    }

    /// A file whose content the factory has.
    pub fn stored(name: impl Into<String>, hash: BlobHash) -> Self {
        Self { name: name.into(), hash: Some(hash), ..Self::default() }
    }

    /// The file as one that can be executed.
    #[must_use]
    pub fn executable(mut self) -> Self {
        self.executable = true;
        self
    }
}

/// `supervisor.missing`: which of these contents the factory lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingFiles {
    /// Hashes of contents, at most [`crate::limit::WORKSPACE_FILES_MAX`].
    pub hashes: Vec<BlobHash>,
}

/// `supervisor.upload`: a part of a file's content, kept for goals to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UploadPart {
    /// The hash of the complete content.
    pub hash: BlobHash,
    /// The size of the complete content, in bytes.
    pub bytes: u64,
    /// Where the part begins in it, in bytes: behind what was received before.
    #[serde(default, deserialize_with = "null_is_default")]
    pub offset: u64,
    /// The part in base64 with padding, at most [`crate::limit::UPLOAD_PART_BYTES_MAX`] decoded.
    pub content_base64: String,
}

/// `supervisor.file`: a part of a file of a session's workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReadSessionFile {
    /// The session: its id, or the id of the request or the key that opened it.
    pub id: SessionRef,
    /// The path of the file.
    pub path: String,
    /// Where the part begins, in bytes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub offset: u64,
}

/// `supervisor.session`, `supervisor.cancel`: a session, named by one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionSelector {
    /// Its id; if no session has it, the id of the request or the key that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<SessionRef>,
    /// The id of the request that opened it; of several sessions the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The key of the command that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CommandId>,
}

impl SessionSelector {
    /// The session with this id.
    pub fn id(id: SessionId) -> Self {
        Self { id: Some(id.into()), ..Self::default() }
    }

    /// The session that was opened under this key.
    pub fn key(key: CommandId) -> Self {
        Self { key: Some(key), ..Self::default() }
    }
}

/// `supervisor.resolve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resolve {
    /// The session: its id, or the id of the request or the key that opened it.
    pub id: SessionRef,
    /// Run the unknown step again, or continue without it.
    pub resolution: Resolution,
}

/// `supervisor.answer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnswerQuestion {
    /// The session: its id, or the id of the request or the key that opened it.
    pub id: SessionRef,
    /// The question; absent for the one that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question_id: Option<ToolCallId>,
    /// The answer, non-blank, at most [`crate::limit::QUESTION_ANSWER_BYTES_MAX`].
    pub answer: String,
}

/// `supervisor.budget`. Without a change it answers what is spent. Raising is for the command line
/// and for HTTP on this machine or with the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeBudget {
    /// The session: its id, or the id of the request or the key that opened it.
    pub id: SessionRef,
    /// Tokens to add to the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_tokens: Option<u64>,
    /// Cost to add to the limit, in millionths of the prices' currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_cost_micros: Option<u64>,
    /// A lower limit of tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_max: Option<u64>,
    /// A lower limit of cost, in millionths of the prices' currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros_max: Option<u64>,
}

/// `model.cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelCall {
    /// The call.
    pub call_id: CallId,
}

/// `model.complete`: one attempt of a model call. Asked again with the same attempt, it is not made
/// again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// The call.
    pub call_id: CallId,
    /// The session; absent for a call without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The turn, from 1; 0 without a session.
    pub turn: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The model.
    pub endpoint: ModelEndpoint,
    /// The prices, if they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<TokenPrices>,
    /// The request.
    pub request: CallRequest,
    /// The call before it in the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<CallId>,
    /// How many of the first messages are those of the predecessor's request.
    #[serde(default)]
    pub kept: u32,
    /// What is set aside.
    pub reserved: Reservation,
}
