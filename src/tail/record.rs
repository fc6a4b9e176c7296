//! A record that its readers share, decoded when the first of them looks into it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use ai_factory_ports::journal::RawRecord;
use ai_factory_schemas::envelope::{DecodeError, Recorded, Routing};
use bytes::Bytes;

/// A record of the journal. Cloning it is cheap, and a clone shares what was decoded.
#[derive(Clone)]
pub struct TailRecord(Arc<SharedRecord>);

struct SharedRecord {
    raw: RawRecord,
    routing: OnceLock<Result<Routing, DecodeError>>,
    event: OnceLock<Result<Recorded, DecodeError>>,
}

impl TailRecord {
    /// Its position.
    pub fn position(&self) -> u64 {
        self.0.raw.position
    }

    /// The stored bytes: the CloudEvents envelope.
    pub fn bytes(&self) -> &Bytes {
        &self.0.raw.bytes
    }

    /// The parts that publishing needs.
    pub fn routing(&self) -> Result<&Routing, &DecodeError> {
        self.0.routing.get_or_init(|| Routing::decode(&self.0.raw.bytes)).as_ref()
    }

    /// The whole event. Dearer than [`Self::routing`].
    pub fn event(&self) -> Result<&Recorded, &DecodeError> {
        self.0.event.get_or_init(|| Recorded::decode(&self.0.raw.bytes)).as_ref()
    }
}

impl From<RawRecord> for TailRecord {
    fn from(raw: RawRecord) -> Self {
        let (routing, event) = (OnceLock::new(), OnceLock::new());
        Self(Arc::new(SharedRecord { raw, routing, event }))
    }
}

impl fmt::Debug for TailRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TailRecord").field(&self.position()).finish()
    }
}
