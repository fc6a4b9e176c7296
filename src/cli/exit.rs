//! The end of a command: its exit code, and its error message.

use std::{fmt, io, process::ExitCode};

use ai_factory_ports::{journal::ReadError, views::ViewError};
use ai_factory_schemas::problem::Problem;

use super::flag_words;
use crate::{
    config::SettingsError, connections::IngressError, nats::ServerError, wiring::OpenFactoryError,
};

/// An exit code. The table is in `--help` and in `docs/cli.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(pub u8);

impl Exit {
    /// Done.
    pub(crate) const DONE: Self = Self(0);
    /// It ran and failed: a session that is partial or error, a file that `--out` leaves as it is,
    /// an altered journal.
    pub(crate) const FAILED: Self = Self(1);
    /// Wrong use: flags, settings, a blank goal, an unknown id.
    pub(crate) const USAGE: Self = Self(2);
    /// The data directory cannot be used.
    pub(crate) const DATA: Self = Self(3);
    /// The factory stopped itself: the disk failed while writing, the data directory was taken
    /// away, or its parts kept failing.
    pub(crate) const STOPPED: Self = Self(4);
    /// A session with a model waits for an answer or a larger budget.
    pub(crate) const WAITING: Self = Self(5);
    /// Interrupted from the keyboard.
    pub(crate) const INTERRUPTED: Self = Self(130);
    /// Terminated (SIGTERM, SIGHUP).
    pub(crate) const TERMINATED: Self = Self(143);

    /// The more significant of two: interruption over failure over success.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        if other.0 > self.0 { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// Why a command failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CommandError {
    /// With a message for people.
    Said {
        /// What was wrong and what to do.
        sentence: String,
        /// The exit code.
        exit: Exit,
    },
    /// The reader of the output is gone: not an error, and nobody to tell.
    ClosedPipe,
}

impl CommandError {
    /// It ran and failed.
    pub(crate) fn failed(sentence: impl fmt::Display) -> Self {
        Self::Said { sentence: sentence.to_string(), exit: Exit::FAILED }
    }

    /// Wrong use.
    pub(crate) fn usage(sentence: impl fmt::Display) -> Self {
        Self::Said { sentence: sentence.to_string(), exit: Exit::USAGE }
    }

    /// Another process has the journal open.
    pub(crate) fn in_use(sentence: impl fmt::Display) -> Self {
        Self::Said { sentence: sentence.to_string(), exit: Exit::DATA }
    }

    /// Interrupted from the keyboard.
    pub(crate) fn interrupted() -> Self {
        Self::Said { sentence: "interrupted".to_owned(), exit: Exit::INTERRUPTED }
    }

    /// The factory stopped itself.
    pub(crate) fn stopped(reason: impl fmt::Display) -> Self {
        let sentence = format!(
            "the factory stopped itself: {reason}; nothing was acknowledged after that, and \
             everything acknowledged earlier is in the journal: remove the cause, then run \
             `ai-factory resume`"
        );
        Self::Said { sentence, exit: Exit::STOPPED }
    }
}

impl From<io::Error> for CommandError {
    /// An error of writing to standard output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ClosedPipe
        } else {
            Self::failed(format_args!("standard output cannot be written: {error}"))
        }
    }
}

impl From<SettingsError> for CommandError {
    fn from(error: SettingsError) -> Self {
        Self::usage(error)
    }
}

impl From<OpenFactoryError> for CommandError {
    fn from(error: OpenFactoryError) -> Self {
        Self::Said { sentence: error.to_string(), exit: Exit(error.exit_code()) }
    }
}

impl From<IngressError> for CommandError {
    fn from(error: IngressError) -> Self {
        match error {
            IngressError::Server(ServerError::Directory { .. }) => {
                Self::Said { sentence: error.to_string(), exit: Exit::DATA }
            }
            error => Self::usage(error),
        }
    }
}

impl From<ViewError> for CommandError {
    fn from(error: ViewError) -> Self {
        Self::failed(error)
    }
}

impl From<ReadError> for CommandError {
    fn from(error: ReadError) -> Self {
        Self::failed(error)
    }
}

impl From<Problem> for CommandError {
    fn from(problem: Problem) -> Self {
        if (400..500).contains(&problem.status) {
            Self::usage(flag_words::sentence(&problem))
        } else {
            Self::failed(flag_words::sentence(&problem))
        }
    }
}
