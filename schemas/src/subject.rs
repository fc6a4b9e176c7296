//! Subjects: the addresses on the bus, and the filters that match them (NATS ADR-6).

use std::{fmt, str::FromStr};

use crate::{
    id::{SessionId, StreamId},
    quote::quoted,
};

/// The longest subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// The prefix of every subject, unless the settings have another one.
pub const DEFAULT_PREFIX: &str = "factory";

/// A text that is not a subject, or not a filter.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseSubjectError {
    /// An empty token.
    #[error("`{0}` has an empty token: write tokens separated by single dots")]
    EmptyToken(String),
    /// White space, a control character, or a misplaced wildcard.
    #[error("`{0}` may hold no white space, control character, or misplaced `*` or `>`")]
    BadCharacter(String),
    /// Longer than [`SUBJECT_BYTES_MAX`].
    #[error("a subject of {0} bytes is too long: at most {SUBJECT_BYTES_MAX}")]
    TooLong(usize),
}

fn check(text: &str, wildcards: bool) -> Result<(), ParseSubjectError> {
    if text.len() > SUBJECT_BYTES_MAX {
        return Err(ParseSubjectError::TooLong(text.len()));
    }
    if is_plain(text) {
        return Ok(());
    }
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() {
            return Err(ParseSubjectError::EmptyToken(quoted(text)));
        }
        let wild = wildcards && (token == "*" || (token == ">" && tokens.peek().is_none()));
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '>';
        if !wild && token.contains(odd) {
            return Err(ParseSubjectError::BadCharacter(quoted(text)));
        }
    }
    Ok(())
}

/// Whether a text is a subject of printable ASCII only, as nearly all are: checked for every
/// message.
fn is_plain(text: &str) -> bool {
    let mut previous = b'.';
    let is_plain = text.bytes().all(|byte| {
        let before = std::mem::replace(&mut previous, byte);
        byte.is_ascii_graphic() && byte != b'*' && byte != b'>' && !(byte == b'.' && before == b'.')
    });
    is_plain && previous != b'.'
}

/// An address without wildcards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(std::sync::Arc<str>);

impl Subject {
    /// The subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Subject {
    type Err = ParseSubjectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check(text, false)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern for subjects: `*` stands for one token, a final `>` for one or more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectFilter(std::sync::Arc<str>);

impl SubjectFilter {
    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `subject` matches.
    pub fn matches(&self, subject: &str) -> bool {
        let mut tokens = subject.split('.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

impl From<&Subject> for SubjectFilter {
    fn from(subject: &Subject) -> Self {
        Self(std::sync::Arc::clone(&subject.0))
    }
}

impl FromStr for SubjectFilter {
    type Err = ParseSubjectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check(text, true)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SubjectFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An operation of an actor: `planner.dispatch`. The last two tokens of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// The actor that serves it.
    pub actor: &'static str,
    /// The verb.
    pub verb: &'static str,
}

/// All operations.
pub mod operation {
    use super::Operation;

    macro_rules! operations {
        ($($(#[doc = $doc:literal])* $name:ident = $actor:literal, $verb:literal;)*) => {
            $($(#[doc = $doc])* pub const $name: Operation = Operation { actor: $actor, verb: $verb };)*
            /// All operations.
            pub const ALL: &[Operation] = &[$($name),*];

            /// The purpose of an operation in one sentence; empty for an unknown operation.
            pub fn about(operation: Operation) -> &'static str {
                match (operation.actor, operation.verb) {
                    $(($actor, $verb) => concat!($($doc),*).trim(),)*
                    _ => "",
                }
            }
        };
    }

    operations! {
        /// Plan a prompt and record it.
        PLANNER_DISPATCH = "planner", "dispatch";
        /// Plan a prompt without recording it: for sessions, which record the plan themselves.
        PLANNER_PROPOSE = "planner", "propose";
        /// The newest planner dispatches.
        MEMORY_LOGS = "memory", "logs";
        /// Search all memories.
        MEMORY_SEARCH = "memory", "search";
        /// Write the newest events to a file.
        MEMORY_SNAPSHOT = "memory", "snapshot";
        /// Store a note.
        MEMORY_REMEMBER = "memory", "remember";
        /// Store many notes; each is checked on its own.
        MEMORY_IMPORT = "memory", "import";
        /// Forget a memory: searches do not find it any longer.
        MEMORY_FORGET = "memory", "forget";
        /// Rebuild lists and search from the journal; the present ones serve meanwhile.
        MEMORY_REBUILD = "memory", "rebuild";
        /// Run code.
        DEBUGGER_RUN = "debugger", "run";
        /// Cancel a run.
        DEBUGGER_CANCEL = "debugger", "cancel";
        /// The newest runs.
        DEBUGGER_LOGS = "debugger", "logs";
        /// Search the code and outputs of runs.
        DEBUGGER_SEARCH = "debugger", "search";
        /// Run a goal and answer when its session is over.
        SUPERVISOR_RUN = "supervisor", "run";
        /// Run a goal and answer as soon as it is on disk.
        SUPERVISOR_SUBMIT = "supervisor", "submit";
        /// Accept a goal as published to the subject for goals; an unreadable one is recorded as
        /// rejected.
        SUPERVISOR_ACCEPT = "supervisor", "accept";
        /// One session with its timeline.
        SUPERVISOR_SESSION = "supervisor", "session";
        /// The newest sessions: all, or those that a request or a key opened.
        SUPERVISOR_SESSIONS = "supervisor", "sessions";
        /// The files of a session's workspace, and what differs from those that came in.
        SUPERVISOR_FILES = "supervisor", "files";
        /// A part of a file of a session's workspace.
        SUPERVISOR_FILE = "supervisor", "file";
        /// Which contents of files the factory lacks.
        SUPERVISOR_MISSING = "supervisor", "missing";
        /// Store a part of a file's content for goals to come.
        SUPERVISOR_UPLOAD = "supervisor", "upload";
        /// Cancel a session.
        SUPERVISOR_CANCEL = "supervisor", "cancel";
        /// Decide what to do with a step whose end is unknown.
        SUPERVISOR_RESOLVE = "supervisor", "resolve";
        /// Answer the question that a session waits with.
        SUPERVISOR_ANSWER = "supervisor", "answer";
        /// Change what a session with a model may spend.
        SUPERVISOR_BUDGET = "supervisor", "budget";
        /// The model calls of a session.
        SUPERVISOR_CALLS = "supervisor", "calls";
        /// Wait until a session is over, or waits for somebody.
        SUPERVISOR_WAIT = "supervisor", "wait";
        /// The newest sessions.
        SUPERVISOR_STATUS = "supervisor", "status";
        /// The newest sessions with their summaries.
        SUPERVISOR_HISTORY = "supervisor", "history";
    }
}

/// Ask the model once. For sessions, on the local bus only: it is no member of
/// [`operation::ALL`], and nobody outside can ask for it.
pub const MODEL_COMPLETE: Operation = Operation { actor: "model", verb: "complete" };
/// End a model call: nobody waits for it any longer. On the local bus only, as [`MODEL_COMPLETE`].
pub const MODEL_CANCEL: Operation = Operation { actor: "model", verb: "cancel" };

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.actor, self.verb)
    }
}

/// The subjects under one prefix.
#[derive(Clone, Debug)]
pub struct Subjects {
    prefix: Subject,
}

impl Subjects {
    /// The subjects under `prefix` (one or more tokens).
    pub fn new(prefix: Subject) -> Self {
        Self { prefix }
    }

    /// The first tokens of every subject.
    pub fn prefix(&self) -> &Subject {
        &self.prefix
    }

    /// The subject of an operation: `factory.planner.dispatch`.
    pub fn operation(&self, operation: Operation) -> Subject {
        Subject(format!("{}.{operation}", self.prefix).into())
    }

    /// All operations of one actor: `factory.planner.*`.
    pub fn actor(&self, actor: &str) -> SubjectFilter {
        SubjectFilter(format!("{}.{actor}.*", self.prefix).into())
    }

    /// The subject of an event: `factory.events.plan.<uuid>.proposed`.
    pub fn event(&self, stream: StreamId, verb: &str) -> Subject {
        Subject(format!("{}.events.{}.{}.{verb}", self.prefix, stream.category, stream.id).into())
    }

    /// The subject for goals: `factory.goals`.
    pub fn goals(&self) -> Subject {
        Subject(format!("{}.goals", self.prefix).into())
    }

    /// The subject of dead letters: `factory.dead.goals`.
    pub fn dead(&self) -> Subject {
        Subject(format!("{}.dead.goals", self.prefix).into())
    }

    /// What a session's model says while it says it: `factory.stream.<session>`.
    pub fn stream(&self, session: SessionId) -> Subject {
        Subject(format!("{}.stream.{session}", self.prefix).into())
    }

    /// What the models of all sessions say: `factory.stream.*`.
    pub fn streams(&self) -> SubjectFilter {
        SubjectFilter(format!("{}.stream.*", self.prefix).into())
    }

    /// All events: `factory.events.>`.
    pub fn events(&self) -> SubjectFilter {
        SubjectFilter(format!("{}.events.>", self.prefix).into())
    }
}

impl Default for Subjects {
    fn default() -> Self {
        Self::new(Subject(DEFAULT_PREFIX.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_nats_says() {
        for (filter, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b.>", "a.b.c", true),
            ("*.b.>", "a.c.c", false),
        ] {
            let parsed: SubjectFilter = filter.parse().unwrap();
            assert_eq!(parsed.matches(subject), expected, "{filter} {subject}");
        }
    }

    #[test]
    fn what_is_no_subject_is_refused() {
        for text in ["a", "a.b", "$SRV.PING", "_INBOX.x.7", "é.ü", "a.b-c_d"] {
            assert!(text.parse::<Subject>().is_ok(), "{text:?}");
        }
        for text in
            ["", ".", ".a", "a.", "é..ü", "a..b", "a b", "a.*", "a.>", "a\n", &"x".repeat(256)]
        {
            assert!(text.parse::<Subject>().is_err(), "{text:?}");
        }
        for text in ["", "a.>.b", "a*", "*a.b", "a..>", "a\t.b"] {
            assert!(text.parse::<SubjectFilter>().is_err(), "{text:?}");
        }
    }
}
