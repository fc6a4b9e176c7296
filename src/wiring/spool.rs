//! The spool of uploads in the data directory.

use std::sync::Arc;

use ai_factory_ports::clock::Clock;

use super::error::OpenFactoryError;
use crate::{config::Settings, spool::Spool};

/// The name of its directory below the data directory.
pub(super) const SPOOL: &str = "spool";

/// The spool of the data directory.
pub(super) fn open(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Spool>, OpenFactoryError> {
    let path = settings.data_dir.join(SPOOL);
    let shown = path.display().to_string();
    Spool::open(path, Arc::clone(clock))
        .map_err(|error| OpenFactoryError::Spool { path: shown, reason: error.to_string() })
}
