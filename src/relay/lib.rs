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
mod metrics;
mod sink;

use std::{sync::Arc, time::Duration};

use ai_factory_ports::bus::Bus;
use ai_factory_retry::Retry;
use ai_factory_schemas::subject::Subjects;
use ai_factory_tail::Tail;

pub use self::{
    bus_sink::BusSink,
    messages::EventMessages,
    metrics::{RelayCounters, RelayMetrics},
    sink::{Checkpoint, Interruption, Sink},
};

/// Records read from the journal at once.
const CHUNK_EVENTS_MAX: usize = 128;
/// The pause after the first failure; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Consecutive immediate restarts of a sink that accepted nothing. Publishers that share a
/// stream halve their window at each restart, and reach one message after ten.
const RESTARTS_MAX: u32 = 16;

/// Publishes the journal. Runs until its task is aborted.
pub struct Relay<O> {
    /// The journal's tail.
    pub tail: Arc<Tail>,
    /// The destination.
    pub sink: O,
    /// The checkpoint.
    pub checkpoint: Arc<dyn Checkpoint>,
}

impl Relay<BusSink> {
    /// A relay to a bus.
    pub fn to_bus(
        tail: Arc<Tail>,
        bus: Arc<dyn Bus>,
        subjects: Subjects,
        checkpoint: Arc<dyn Checkpoint>,
    ) -> Self {
        let messages = EventMessages::new(Arc::clone(tail.journal()), subjects);
        Self { tail, sink: BusSink::new(bus, messages), checkpoint }
    }
}

impl<O: Sink> Relay<O> {
    /// Publishes existing and new events.
    pub async fn run(self) {
        self.run_counting(RelayCounters::default()).await;
    }

    /// [`Self::run`], with the relay's counts.
    pub async fn run_counting(mut self, counters: RelayCounters) {
        let mut retry = Retry::counting(PAUSE_FIRST, PAUSE_MAX, counters.retry.clone());
        let mut restarts = 0;
        let mut position = self.checkpoint.load();
        loop {
            let reason =
                match self.publish(&mut position, &mut retry, &mut restarts, &counters).await {
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
        counters: &RelayCounters,
    ) -> Result<(), Interruption> {
        let Self { tail, sink, checkpoint } = self;
        *position = sink.resume(*position).await?;
        checkpoint.note(*position);
        counters.note(*position);
        let mut cursor = tail.cursor(*position);
        // The sink works and has no destination: nothing waits.
        if retry.is_failing() && sink.room() == 0 {
            went_on(sink, retry, *position);
        }
        loop {
            if retry.is_failing() && *position >= cursor.head() {
                went_on(sink, retry, *position);
            }
            let records = cursor.read(CHUNK_EVENTS_MAX.min(sink.room())).await;
            let records = records.map_err(|error| Interruption::Failed(error.to_string()))?;
            if !records.is_empty() {
                sink.send(records).await?;
                continue;
            }
            let has_room = sink.room() > 0;
            tokio::select! {
                arrived = sink.arrived() => {
                    *position = arrived?;
                    checkpoint.note(*position);
                    counters.note(*position);
                    if sink.has_taken() {
                        *restarts = 0;
                        if retry.is_failing() {
                            went_on(sink, retry, *position);
                        }
                    }
                }
                is_open = cursor.changed(), if has_room => {
                    if !is_open {
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
