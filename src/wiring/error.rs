//! Why a factory cannot be opened, and the exit code for it.

use ai_factory_actors::tree::StartError;
use ai_factory_ports::{bus::SubscribeError, views::ViewError};

use crate::{journal, projection::ProjectionError};

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenFactoryError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] journal::OpenJournalError),
    /// The projections cannot be opened.
    #[error(transparent)]
    Projections(#[from] ProjectionError),
    /// The projections failed after they were opened.
    #[error(transparent)]
    Views(#[from] ViewError),
    /// The embedding model's settings are unusable.
    #[error("{0}")]
    Embedding(String),
    /// The language model's settings are unusable.
    #[error("{0}")]
    Model(String),
    /// The directory for runs cannot be created.
    #[error("{path} cannot be used for the files of runs: {reason}")]
    Runs {
        /// The directory.
        path: String,
        /// The error.
        reason: String,
    },
    /// The directory for uploads cannot be created or read.
    #[error("{path} cannot be used for uploads: {reason}")]
    Spool {
        /// The directory.
        path: String,
        /// The error.
        reason: String,
    },
    /// The settings name an interpreter or packages that programs cannot use.
    #[error("{0}")]
    Packages(String),
    /// The actors did not start.
    #[error(transparent)]
    Actors(#[from] StartError),
    /// The services over NATS did not start.
    #[error("the operations cannot be served over NATS: {0}")]
    Services(#[from] SubscribeError),
}

impl OpenFactoryError {
    /// Whether there is no journal, usually because of a mistyped directory.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Journal(journal::OpenJournalError::Missing(_)))
    }

    /// The exit code of a command that fails with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            _ if self.is_missing() => 2,
            Self::Views(_) | Self::Actors(_) | Self::Services(_) => 4,
            Self::Journal(_) | Self::Projections(_) | Self::Runs { .. } | Self::Spool { .. } => 3,
            Self::Embedding(_) | Self::Model(_) | Self::Packages(_) => 2,
        }
    }
}
