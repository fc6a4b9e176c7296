//! What is asked of the actors: one type per operation, the JSON body of its message.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    file::RunFile,
    id::{CommandId, MemoryId, RequestId, RunId, SessionId, SessionRef},
    memory::{MemoryKind, SearchMode},
    plan::TaskType,
    session::Resolution,
    time::Timestamp,
};

/// `planner.dispatch` and `planner.propose`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dispatch {
    /// Non-blank, at most [`crate::limit::GOAL_BYTES_MAX`].
    pub prompt: String,
    /// What kind of work it is.
    #[serde(default, deserialize_with = "null_is_default")]
    pub task_type: TaskType,
}

/// `memory.logs`, `debugger.logs`, `memory.snapshot`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Newest {
    /// How many; each operation has its own default and bounds.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// `supervisor.sessions`, `supervisor.status`, `supervisor.history`: the newest sessions, of those that all of it holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListSessions {
    /// How many: 1 to 100, 10 where nothing is said.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Sessions that the request of this id opened only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The session that was opened under this key only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CommandId>,
}

/// `memory.search`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SearchMemory {
    /// At least 1 character. `"words in a row"` must stand in the text so, `-word` must not stand in it; whatever
    /// else it says are words to look for.
    pub q: String,
    /// How many: 1 to 20, 3 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// Memories of this kind only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MemoryKind>,
    /// Memories from this time on only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Memories before this time only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Notes with this tag only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// By words, by meaning, or by both.
    #[serde(default, deserialize_with = "null_is_default")]
    pub mode: SearchMode,
    /// Nothing that belongs to this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<SessionId>,
    /// Of memories that say nearly the same, the best only.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub fold: bool,
    /// `q` was not written for a search: quotes and `-` in it are text.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub plain: bool,
}

/// `debugger.search`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Search {
    /// At least 1 character.
    pub q: String,
    /// How many; each operation has its own default and bounds.
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
    pub notes: Vec<ImportedNote>,
}

/// One note of many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportedNote {
    /// As in [`Remember`].
    pub text: String,
    /// As in [`Remember`].
    #[serde(default, deserialize_with = "null_is_default")]
    pub tags: Vec<String>,
    /// The key under which it is kept at most once. Where it has none and the request has, its place in the list under
    /// the request's key is its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CommandId>,
}

/// `memory.forget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forget {
    /// Which memory, as a search names it.
    pub id: MemoryId,
}

/// `memory.rebuild`: nothing is to be said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rebuild {}

/// `debugger.run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Non-empty, at most [`crate::limit::CODE_BYTES_MAX`].
    #[serde(default, deserialize_with = "null_is_default")]
    pub code: String,
    /// `python` (`py`), `javascript` (`node`), `bash` (`sh`): what there is, `ai-factory doctor` tells.
    #[serde(default = "python", deserialize_with = "null_is_python")]
    pub language: String,
    /// Its standard input, at most [`crate::limit::STDIN_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Files to put into its working directory, at most [`crate::limit::FILES_MAX`] and
    /// [`crate::limit::FILES_BYTES_MAX`].
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<RunFile>,
    /// Patterns of names of files that are to come back: `*` and `?` match within one part of a path, `**` any number
    /// of parts. At most [`crate::limit::FILES_MAX`] patterns and files, [`crate::limit::FILES_BYTES_MAX`] in all.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub return_files: Vec<String>,
    /// Given by a session: the run to take up, new or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Given by a session: whose step it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
}

/// The value, or its default where it is `null`: the same as if nothing had been said.
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
    /// Which run.
    pub run_id: RunId,
}

/// `supervisor.run`, `supervisor.submit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Goal {
    /// Non-blank, at most [`crate::limit::GOAL_BYTES_MAX`].
    #[serde(default, deserialize_with = "null_is_default")]
    pub goal: String,
    /// What kind of work it is.
    #[serde(default, deserialize_with = "null_is_default")]
    pub task_type: TaskType,
}

/// `supervisor.session`, `supervisor.cancel`: which session, by one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhichSession {
    /// Its id; where no session has that, the id of the request or the key that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<SessionRef>,
    /// The id of the request that opened it; of several sessions the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The key of the command that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CommandId>,
}

impl WhichSession {
    /// The session of that id.
    pub fn id(id: SessionId) -> Self {
        Self { id: Some(id.into()), ..Self::default() }
    }

    /// The session that was opened under that key.
    pub fn key(key: CommandId) -> Self {
        Self { key: Some(key), ..Self::default() }
    }
}

/// `supervisor.resolve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resolve {
    /// Which session: its id, or else the id of the request or the key that opened it.
    pub id: SessionRef,
    /// Run the unknown step again, or go on without it.
    pub resolution: Resolution,
}
