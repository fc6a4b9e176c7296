//! Composition of adapters and actors: the whole factory, or only its read side.

mod adapters;
mod data_dir;
mod dead_letters;
mod embedding;
mod error;
mod events;
mod factory;
mod live_text;
mod metrics;
mod model;
mod nats_ingress;
mod relays;
mod sandbox;
mod sessions;
mod spool;
mod upkeep;

use std::sync::Arc;

use ai_factory_ports::{journal::Journal, views::Views};
use ai_factory_tail::Tail;

pub(crate) use self::adapters::streams;
pub use self::{
    data_dir::{confine_new_files, holder, require_journal},
    error::OpenFactoryError,
    factory::{Factory, UnfinishedSessions},
    model::{ModelReport, model_report},
    sandbox::{SandboxReport, sandbox_report},
    upkeep::{RebuildReport, VerifyFault, VerifyReport, rebuild, verify},
};
use crate::{
    clock::SystemClock,
    config::Settings,
    journal::JournalReader,
    projection::{Access, Projections},
};

/// The read side, beside another process that has the journal open for writing.
pub struct Reader {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The read side.
    pub views: Arc<dyn Views>,
}

impl Reader {
    /// Opens the data directory for reading.
    pub fn open(settings: &Settings) -> Result<Self, OpenFactoryError> {
        let models = embedding::models(settings)?;
        let journal: Arc<dyn Journal> = Arc::new(JournalReader::open(&settings.data_dir)?);
        let views = Projections::open(
            adapters::projections(settings),
            Tail::new(Arc::clone(&journal)),
            Arc::new(SystemClock::default()),
            models,
            Access::Read,
        )?;
        Ok(Self { journal, views })
    }
}
