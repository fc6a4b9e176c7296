//! Time and ids: the only sources of values that differ from run to run.

use ai_factory_schemas::time::Timestamp;
use uuid::Uuid;

/// Tells the time. Deciders never see it (I-9).
pub trait Clock: Send + Sync + 'static {
    /// The wall clock; never goes back within a process.
    fn now(&self) -> Timestamp;
}

/// Makes ids. Deciders never see it (I-9).
pub trait IdSource: Send + Sync + 'static {
    /// A new UUIDv7 (RFC 9562).
    fn new_id(&self) -> Uuid;
}
