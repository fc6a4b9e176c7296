//! Verification of the journal, and rebuilding of the projections.

use std::sync::Arc;

use ai_factory_ports::{
    clock::Clock,
    journal::{Head, Journal},
    views::ViewError,
};
use ai_factory_schemas::{envelope::ChainHash, text::BlobHash};
use ai_factory_tail::Tail;

use super::{
    adapters::{journal_settings, projections},
    data_dir::{self, require_journal},
    embedding,
    error::OpenFactoryError,
};
use crate::{
    clock::SystemClock,
    config::Settings,
    journal::{self, RedbJournal},
    projection::{Access, Projections, Rebuilt},
};

/// The result of a verification.
#[derive(Clone, Copy, Debug)]
pub struct VerifyReport {
    /// The end of the verified journal.
    pub head: Head,
}

/// A failed verification.
#[derive(Debug, thiserror::Error)]
#[error("{explanation}")]
pub struct VerifyFault {
    /// The first altered position, if known.
    pub position: Option<u64>,
    /// What is wrong, as a sentence.
    pub explanation: String,
    /// 1 for a fault of the journal, 2 if there is none, 3 if it could not be opened.
    pub exit_code: u8,
}

/// Verifies the whole journal against its hash chain, and against a head recorded earlier.
pub fn verify(
    settings: &Settings,
    expected: Option<(u64, String)>,
) -> Result<VerifyReport, VerifyFault> {
    let expected = match expected {
        None => None,
        Some((position, hash)) => {
            let BlobHash(hash) = hash.parse().map_err(|_| VerifyFault {
                position: None,
                explanation: format!("`{hash}` is not a hash: 64 hexadecimal digits, as `ai-factory head` prints them"),
                exit_code: 2,
            })?;
            Some(Head { position, hash: ChainHash(hash) })
        }
    };
    match journal::verify(&settings.data_dir, expected) {
        Ok(verified) => Ok(VerifyReport { head: verified.head }),
        Err(error) => {
            let (position, exit_code) = match &error {
                journal::VerifyError::Fault(fault) => (Some(fault.position), 1),
                journal::VerifyError::Open(journal::OpenJournalError::Missing(_)) => (None, 2),
                journal::VerifyError::Open(_) => (None, 3),
            };
            Err(VerifyFault { position, explanation: error.to_string(), exit_code })
        }
    }
}

/// The result of a rebuild.
#[derive(Clone, Copy, Debug)]
pub struct RebuildReport {
    /// The number of events read.
    pub events: u64,
}

/// Rebuilds the projections from the journal. Creates nothing if there is no journal.
pub fn rebuild(settings: &Settings) -> Result<RebuildReport, OpenFactoryError> {
    let models = embedding::models(settings)?;
    require_journal(settings)?;
    let journal = RedbJournal::open(journal_settings(settings))?;
    data_dir::tighten(settings);
    let tail = Tail::new(Arc::clone(&journal) as Arc<dyn Journal>);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let projections = Projections::open(projections(settings), tail, clock, models, Access::Write)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let rebuilt: Result<Rebuilt, OpenFactoryError> = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let rebuilt = projections.rebuild().await?;
            projections.close().await?;
            Ok(rebuilt)
        }),
        Err(error) => Err(ViewError::Storage(error.to_string()).into()),
    };
    journal.close();
    Ok(RebuildReport { events: rebuilt?.events })
}
