//! The system's clock and the system's randomness: the only place that asks for either.

use std::sync::atomic::{AtomicI64, Ordering};

use ai_factory_actors::ports::world::World;
use ai_factory_schemas::time::Timestamp;
use uuid::Uuid;

/// The wall clock, held so that it never goes back within this process, and `UUIDv7` ids.
#[derive(Debug, Default)]
pub struct SystemWorld {
    latest_micros: AtomicI64,
}

impl World for SystemWorld {
    fn now(&self) -> Timestamp {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        // A clock that is set back keeps its last value until time has caught up.
        let before = self.latest_micros.fetch_max(micros, Ordering::Relaxed);
        Timestamp::from_micros(before.max(micros))
    }

    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}
