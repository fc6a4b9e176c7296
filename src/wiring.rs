//! Where adapters and actors meet.

use std::{sync::Arc, time::Duration};

use ai_factory_actors::ports::{
    bus::{Bus, Headers},
    journal::{Head, Journal},
    views::Views,
    world::World,
};
use ai_factory_schemas::{
    problem::Problem,
    subject::{Operation, Subjects},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::config::Settings;

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not written yet.
    #[error("the data directory {0} cannot be used: this build has no journal yet")]
    NotWired(String),
}

impl OpenError {
    /// The exit code of a command that fails for this.
    pub fn exit_code(&self) -> u8 {
        3
    }
}

/// For reading, beside another process that has the journal open for writing.
pub struct Reader {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The read side.
    pub views: Arc<dyn Views>,
}

impl Reader {
    /// Opens the data directory for reading.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        Err(OpenError::NotWired(settings.data_dir.display().to_string()))
    }
}

/// The whole factory.
pub struct Factory {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The read side.
    pub views: Arc<dyn Views>,
    /// The subjects.
    pub subjects: Subjects,
    /// Clock and ids.
    pub world: Arc<dyn World>,
}

impl Factory {
    /// Opens for writing, starts the actors, takes up unfinished sessions.
    #[expect(clippy::unused_async, reason = "a stub")]
    pub async fn start(settings: &Settings) -> Result<Self, OpenError> {
        Err(OpenError::NotWired(settings.data_dir.display().to_string()))
    }

    /// Resolves with the reason when the supervision tree gave up.
    pub async fn stopped(&self) -> String {
        std::future::pending().await
    }

    /// Ends orderly.
    #[expect(clippy::unused_async, reason = "a stub")]
    pub async fn shutdown(self) -> Result<(), String> {
        Ok(())
    }

    /// Asks for an operation over the bus.
    #[expect(clippy::unused_async, reason = "a stub")]
    pub async fn call<T: DeserializeOwned>(
        &self,
        operation: Operation,
        _body: &(impl Serialize + Sync),
        _headers: Headers,
        _timeout: Duration,
    ) -> Result<T, Problem> {
        Err(Problem::unavailable(format!("{operation} is not wired")))
    }
}

/// What a verification found.
#[derive(Clone, Copy, Debug)]
pub struct VerifyReport {
    /// The end of the verified journal.
    pub head: Head,
}

/// What is wrong with the journal.
#[derive(Debug, thiserror::Error)]
#[error("{explanation}")]
pub struct VerifyFault {
    /// The first position that is not as it was written, where one can be named.
    pub position: Option<u64>,
    /// What is wrong, as a sentence.
    pub explanation: String,
    /// 1 for a fault of the journal, 3 where it could not be opened.
    pub exit_code: u8,
}

/// Checks the whole journal against its chain, and against a head noted earlier.
pub fn verify(
    settings: &Settings,
    _expected: Option<(u64, String)>,
) -> Result<VerifyReport, VerifyFault> {
    let explanation = OpenError::NotWired(settings.data_dir.display().to_string()).to_string();
    Err(VerifyFault { position: None, explanation, exit_code: 3 })
}

/// What a rebuild did.
#[derive(Clone, Copy, Debug)]
pub struct RebuildReport {
    /// How many events were read.
    pub events: u64,
}

/// Makes the projections anew from the journal.
pub fn rebuild(settings: &Settings) -> Result<RebuildReport, OpenError> {
    Err(OpenError::NotWired(settings.data_dir.display().to_string()))
}

/// Which process has the journal open for writing, if one does: a text for people.
pub fn holder(_settings: &Settings) -> Option<String> {
    None
}
