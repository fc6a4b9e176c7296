//! What a relay publishes to: a sink of events, and a checkpoint of what has arrived there.

use ai_factory_tail::TailRecord;

/// The relay's checkpoint.
pub trait Checkpoint: Send + Sync + 'static {
    /// The last position known to have arrived.
    fn load(&self) -> u64;

    /// Records that everything up to `position` has arrived.
    fn note(&self, position: u64);
}

/// Why a sink accepts no more. Records not reported as arrived are sent again.
#[derive(Debug, thiserror::Error)]
pub enum Interruption {
    /// It restarts: there is no failure.
    #[error("it restarts")]
    Restart,
    /// A failure that may be temporary.
    #[error("{0}")]
    Failed(String),
}

/// A destination of events.
///
/// A sink is used by one relay: [`Sink::resume`] first and after each interruption, then the
/// other methods.
#[async_trait::async_trait]
pub trait Sink: Send + 'static {
    /// Starts or restarts. Returns the position up to which everything has arrived, given the
    /// recorded checkpoint.
    async fn resume(&mut self, checkpoint: u64) -> Result<u64, Interruption>;

    /// How many records it accepts at the moment; approximate if that is faster.
    fn room(&self) -> usize;

    /// Accepts records in their order. They have arrived when [`Sink::arrived`] says so.
    async fn send(&mut self, records: Vec<TailRecord>) -> Result<(), Interruption>;

    /// Waits for further arrivals and returns the position up to which everything has arrived;
    /// waits for ever if nothing is in flight. Cancel safe.
    async fn arrived(&mut self) -> Result<u64, Interruption>;

    /// Whether the destination accepted an event since the last call. Records that need no message
    /// do not count.
    fn has_taken(&mut self) -> bool {
        true
    }

    /// Receives the reason why events wait; `None` when they continue.
    fn report(&mut self, _trouble: Option<&str>) {}

    /// The name of its content, for people.
    fn about(&self) -> &'static str {
        "events"
    }
}
