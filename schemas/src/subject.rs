//! Subjects: the addresses on the bus, and the filters that match them (NATS ADR-6).

use std::{fmt, str::FromStr};

use crate::{id::StreamId, quote::quoted};

/// The longest subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// The prefix of every subject unless settings say otherwise.
pub const DEFAULT_PREFIX: &str = "factory";

/// A text that is no subject, or no filter.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseSubjectError {
    /// Nothing between two dots, or nothing at all.
    #[error("`{0}` has an empty token: write tokens separated by single dots")]
    EmptyToken(String),
    /// White space, a control character, or a wildcard where none may stand.
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

/// Whether a text is a subject of nothing but printable ASCII, as nearly all are: every message asks for it.
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

/// What a subscription listens to: `*` stands for one token, a final `>` for one or more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectFilter(std::sync::Arc<str>);

impl SubjectFilter {
    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `subject` is one of those it listens to.
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
    /// What is asked of it.
    pub verb: &'static str,
}

/// Every operation there is.
pub mod operation {
    use super::Operation;

    macro_rules! operations {
        ($($(#[doc = $doc:literal])* $name:ident = $actor:literal, $verb:literal;)*) => {
            $($(#[doc = $doc])* pub const $name: Operation = Operation { actor: $actor, verb: $verb };)*
            /// All operations.
            pub const ALL: &[Operation] = &[$($name),*];

            /// What an operation is for, as one sentence; nothing for one that is not here.
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
        /// Plan a prompt and record nothing: the asker does. What sessions use.
        PLANNER_PROPOSE = "planner", "propose";
        /// The newest planner dispatches.
        MEMORY_LOGS = "memory", "logs";
        /// Search all that was remembered.
        MEMORY_SEARCH = "memory", "search";
        /// Write the newest events to a file.
        MEMORY_SNAPSHOT = "memory", "snapshot";
        /// Keep a note.
        MEMORY_REMEMBER = "memory", "remember";
        /// Keep many notes; each is judged on its own.
        MEMORY_IMPORT = "memory", "import";
        /// Forget a memory: it is found no more.
        MEMORY_FORGET = "memory", "forget";
        /// Make lists and search anew from the journal; those that there are serve meanwhile.
        MEMORY_REBUILD = "memory", "rebuild";
        /// Run code.
        DEBUGGER_RUN = "debugger", "run";
        /// End a run.
        DEBUGGER_CANCEL = "debugger", "cancel";
        /// The newest runs.
        DEBUGGER_LOGS = "debugger", "logs";
        /// Search code and outputs of runs.
        DEBUGGER_SEARCH = "debugger", "search";
        /// Run a goal and answer when it ended.
        SUPERVISOR_RUN = "supervisor", "run";
        /// Run a goal and answer as soon as it is on disk.
        SUPERVISOR_SUBMIT = "supervisor", "submit";
        /// Take a goal in as it was published to the goals' subject; what cannot be read is recorded as rejected.
        SUPERVISOR_ACCEPT = "supervisor", "accept";
        /// One session with its timeline.
        SUPERVISOR_SESSION = "supervisor", "session";
        /// The newest sessions, all or those that a request or a key opened.
        SUPERVISOR_SESSIONS = "supervisor", "sessions";
        /// End a session.
        SUPERVISOR_CANCEL = "supervisor", "cancel";
        /// Decide what to do with a step whose end is unknown.
        SUPERVISOR_RESOLVE = "supervisor", "resolve";
        /// The newest sessions.
        SUPERVISOR_STATUS = "supervisor", "status";
        /// The newest sessions with their summaries.
        SUPERVISOR_HISTORY = "supervisor", "history";
    }
}

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

    /// Where an operation is asked for: `factory.planner.dispatch`.
    pub fn operation(&self, operation: Operation) -> Subject {
        Subject(format!("{}.{operation}", self.prefix).into())
    }

    /// All operations of one actor: `factory.planner.*`.
    pub fn actor(&self, actor: &str) -> SubjectFilter {
        SubjectFilter(format!("{}.{actor}.*", self.prefix).into())
    }

    /// Where an event is published: `factory.events.plan.<uuid>.proposed`.
    pub fn event(&self, stream: StreamId, verb: &str) -> Subject {
        Subject(format!("{}.events.{}.{}.{verb}", self.prefix, stream.category, stream.id).into())
    }

    /// Where goals are published: `factory.goals`.
    pub fn goals(&self) -> Subject {
        Subject(format!("{}.goals", self.prefix).into())
    }

    /// Where goals are kept that could not be done: `factory.dead.goals`.
    pub fn dead(&self) -> Subject {
        Subject(format!("{}.dead.goals", self.prefix).into())
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
