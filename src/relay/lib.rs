//! The relay: publishes the journal's events after commit, in order, at least once (I-7).
//!
//! *Promises.* The only publisher of events. The payload is the stored bytes; `Nats-Msg-Id` is the
//! event's id, so that a bus with deduplication drops repeats. The checkpoint advances only behind
//! what has arrived, so events in doubt are published again.
//!
//! *Limits.* `CHUNK_EVENTS_MAX` records are read at once, and only when the sink has room. A
//! failing sink is retried for ever, with pauses between `PAUSE_FIRST` and `PAUSE_MAX`: events
//! wait in the journal, not in memory. A sink that restarts more than `RESTARTS_MAX` times
//! without accepting an event counts as failed. The log has one line when events begin to wait and
//! one when they continue; the sink gets the reason, for the health report.
//!
//! *Not here.* Delivery to the destination: that is an [`Sink`]'s part. [`BusSink`] is the one for
//! any bus.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

mod bus_sink;
mod messages;

use std::{sync::Arc, time::Duration};

use ai_factory_ports::{
    bus::Bus,
    journal::{Journal, RawRecord},
};
use ai_factory_retry::Retry;
use ai_factory_schemas::subject::Subjects;

pub use self::{bus_sink::BusSink, messages::EventMessages};

/// Records read from the journal at once.
const CHUNK_EVENTS_MAX: usize = 128;
/// The pause after the first failure; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Consecutive immediate restarts of a sink that accepted nothing. Publishers that share a
/// stream halve their window at each restart, and reach one message after ten.
const RESTARTS_MAX: u32 = 16;

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
    async fn send(&mut self, records: Vec<RawRecord>) -> Result<(), Interruption>;

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

/// Publishes the journal. Runs until its task is aborted.
pub struct Relay<O> {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The destination.
    pub sink: O,
    /// The checkpoint.
    pub checkpoint: Arc<dyn Checkpoint>,
}

impl Relay<BusSink> {
    /// A relay to a bus.
    pub fn to_bus(
        journal: Arc<dyn Journal>,
        bus: Arc<dyn Bus>,
        subjects: Subjects,
        checkpoint: Arc<dyn Checkpoint>,
    ) -> Self {
        let messages = EventMessages::new(Arc::clone(&journal), subjects);
        Self { journal, sink: BusSink::new(bus, messages), checkpoint }
    }
}

impl<O: Sink> Relay<O> {
    /// Publishes existing and new events.
    pub async fn run(mut self) {
        let mut retry = Retry::new(PAUSE_FIRST, PAUSE_MAX);
        let mut restarts = 0;
        let mut position = self.checkpoint.load();
        loop {
            let reason = match self.publish(&mut position, &mut retry, &mut restarts).await {
                Ok(()) => return,
                Err(Interruption::Restart) if self.sink.has_taken() => {
                    restarts = 0;
                    continue;
                }
                Err(Interruption::Restart) if restarts < RESTARTS_MAX => {
                    restarts += 1;
                    continue;
                }
                Err(Interruption::Restart) => {
                    format!("nothing was accepted after {RESTARTS_MAX} restarts in a row")
                }
                Err(Interruption::Failed(reason)) => reason,
            };
            let (about, failure) = (self.sink.about(), retry.failed(&reason));
            if failure.is_news {
                tracing::warn!(reason, position, "{about} wait to be published");
            } else {
                tracing::debug!(reason, position, "{about} wait to be published");
            }
            self.sink.report(Some(&reason));
            tokio::time::sleep(failure.pause).await;
        }
    }

    /// Publishes until the journal is closed or the sink is interrupted.
    async fn publish(
        &mut self,
        position: &mut u64,
        retry: &mut Retry,
        restarts: &mut u32,
    ) -> Result<(), Interruption> {
        let Self { journal, sink, checkpoint } = self;
        let mut heads = journal.watch();
        *position = sink.resume(*position).await?;
        checkpoint.note(*position);
        let mut sent = *position;
        // The sink works and has no destination: nothing waits.
        if retry.is_failing() && sink.room() == 0 {
            went_on(sink, retry, *position);
        }
        loop {
            let head = heads.borrow().position;
            if retry.is_failing() && *position >= head {
                went_on(sink, retry, *position);
            }
            // Limited to what exists: small reads are faster.
            let due = usize::try_from(head.saturating_sub(sent)).unwrap_or(usize::MAX);
            let due = due.min(CHUNK_EVENTS_MAX).min(sink.room());
            if due > 0 {
                let records = journal.read(sent, due).await;
                let records = records.map_err(|error| Interruption::Failed(error.to_string()))?;
                if let Some(last) = records.last().map(|record| record.position) {
                    sink.send(records).await?;
                    sent = last;
                    continue;
                }
            }
            let has_room = sink.room() > 0;
            tokio::select! {
                arrived = sink.arrived() => {
                    *position = arrived?;
                    checkpoint.note(*position);
                    if sink.has_taken() {
                        *restarts = 0;
                        if retry.is_failing() {
                            went_on(sink, retry, *position);
                        }
                    }
                }
                changed = heads.changed(), if has_room => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

fn went_on(sink: &mut impl Sink, retry: &mut Retry, position: u64) {
    if retry.went_on() {
        tracing::info!(position, "{} are published again", sink.about());
    }
    sink.report(None);
}

#[cfg(test)]
mod tests;
