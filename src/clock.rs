//! The system's clock and randomness: the only place that uses either.

use std::sync::atomic::{AtomicI64, Ordering};

use ai_factory_ports::clock::{Clock, IdSource};
use ai_factory_schemas::{id::CommandId, time::Timestamp};
use uuid::Uuid;

/// The wall clock, monotonic within this process.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest_micros: AtomicI64,
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the port's implementation")]
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        // If the clock is set back, the last value is kept until time has caught up.
        let before = self.latest_micros.fetch_max(micros, Ordering::Relaxed);
        Timestamp::from_micros(before.max(micros))
    }
}

/// `UUIDv7` ids from the system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

impl IdSource for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "the port's implementation")]
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// A key for a request without one: it makes a retry after a broken connection safe.
pub fn new_key() -> CommandId {
    SystemIds.new_id().into()
}
