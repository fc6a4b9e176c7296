//! The relay: publishes what is in the journal, after commit, in order, at least once (I-7).
//!
//! *Promises.* Nothing else publishes events. The payload is the stored bytes; `Nats-Msg-Id` is the event's
//! id, so that a bus that knows ids drops repeats. The checkpoint moves only behind what has arrived, so what
//! is in doubt is published again.
//!
//! *Limits.* `CHUNK_EVENTS_MAX` records are read at once, and only when the outlet has room; an outlet that fails is
//! tried again for ever, with a pause between `PAUSE_FIRST` and `PAUSE_MAX`: events wait in the journal, not in memory.
//! One that begins anew more than `RESTARTS_MAX` times without having taken anything counts as failed. The log has one line
//! when events begin to wait and one when they go on; the outlet is told the reason, for the report of health.
//!
//! *Not here.* How events get to where they go: that is an [`Outlet`]'s. [`ToBus`] is the one to any bus.

mod messages;
mod to_bus;

use std::{sync::Arc, time::Duration};

use ai_factory_actors::ports::{
    bus::Bus,
    journal::{Journal, Raw},
};
use ai_factory_schemas::subject::Subjects;

use crate::retry::Retry;

pub use self::{messages::EventMessages, to_bus::ToBus};

/// Records read from the journal at once.
const CHUNK_EVENTS_MAX: usize = 128;
/// The first pause after a failure; each further one doubles it.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often in a row an outlet may begin anew at once without having taken anything. Publishers that share a stream halve
/// what they have under way each time, and are done with that after ten times.
const RESTARTS_MAX: u32 = 16;

/// Where the relay notes how far it has come.
pub trait Checkpoint: Send + Sync + 'static {
    /// The last position that has arrived.
    fn load(&self) -> u64;

    /// Notes that all up to `position` has arrived.
    fn note(&self, position: u64);
}

/// Why an outlet takes nothing more. What it had not told as arrived is sent again.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted {
    /// It begins anew in a moment: nothing is wrong.
    #[error("it begins anew")]
    Anew,
    /// It does not work at the moment.
    #[error("{0}")]
    Failed(String),
}

/// Where events go.
///
/// An outlet is used by one relay: [`Outlet::resume`] first and after each interruption, then the others.
#[async_trait::async_trait]
pub trait Outlet: Send + 'static {
    /// Begins, or begins anew. Answers up to which position everything is there, given what was noted.
    async fn resume(&mut self, checkpoint: u64) -> Result<u64, Interrupted>;

    /// How many records it takes now; about so many, where that is faster.
    fn room(&self) -> usize;

    /// Takes records in their order. They have arrived when [`Outlet::arrived`] says so.
    async fn send(&mut self, records: Vec<Raw>) -> Result<(), Interrupted>;

    /// Waits until more has arrived, and answers up to which position everything has; for ever where nothing is under
    /// way. May be dropped and called again.
    async fn arrived(&mut self) -> Result<u64, Interrupted>;

    /// Whether the far side has taken something since this was last asked. What arrives because there is nothing to send of
    /// it shows nothing.
    fn has_taken(&mut self) -> bool {
        true
    }

    /// Is told why what is due waits, and by `None` that it goes on.
    fn report(&mut self, _trouble: Option<&str>) {}

    /// What it carries, for people.
    fn about(&self) -> &'static str {
        "events"
    }
}

/// Publishes the journal. Runs until its task is ended.
pub struct Relay<O> {
    /// What is published.
    pub journal: Arc<dyn Journal>,
    /// Where it is published.
    pub outlet: O,
    /// How far it has come.
    pub checkpoint: Arc<dyn Checkpoint>,
}

impl Relay<ToBus> {
    /// A relay to a bus.
    pub fn to_bus(
        journal: Arc<dyn Journal>,
        bus: Arc<dyn Bus>,
        subjects: Subjects,
        checkpoint: Arc<dyn Checkpoint>,
    ) -> Self {
        let messages = EventMessages::new(Arc::clone(&journal), subjects);
        Self { journal, outlet: ToBus::new(bus, messages), checkpoint }
    }
}

impl<O: Outlet> Relay<O> {
    /// Publishes what is and what comes.
    pub async fn run(mut self) {
        let mut retry = Retry::new(PAUSE_FIRST, PAUSE_MAX);
        let mut restarts = 0;
        let mut position = self.checkpoint.load();
        loop {
            let reason = match self.publish(&mut position, &mut retry, &mut restarts).await {
                Ok(()) => return,
                Err(Interrupted::Anew) if self.outlet.has_taken() => {
                    restarts = 0;
                    continue;
                }
                Err(Interrupted::Anew) if restarts < RESTARTS_MAX => {
                    restarts += 1;
                    continue;
                }
                Err(Interrupted::Anew) => {
                    format!("nothing was taken after {RESTARTS_MAX} beginnings in a row")
                }
                Err(Interrupted::Failed(reason)) => reason,
            };
            let (about, failure) = (self.outlet.about(), retry.failed(&reason));
            if failure.is_news {
                tracing::warn!(reason, position, "{about} wait to be published");
            } else {
                tracing::debug!(reason, position, "{about} wait to be published");
            }
            self.outlet.report(Some(&reason));
            tokio::time::sleep(failure.pause).await;
        }
    }

    /// Publishes until the journal is closed, or the outlet is interrupted.
    async fn publish(
        &mut self,
        position: &mut u64,
        retry: &mut Retry,
        restarts: &mut u32,
    ) -> Result<(), Interrupted> {
        let Self { journal, outlet, checkpoint } = self;
        let mut heads = journal.watch();
        *position = outlet.resume(*position).await?;
        checkpoint.note(*position);
        let mut sent = *position;
        // It works, and has nowhere to put anything: nothing waits for it.
        if retry.is_failing() && outlet.room() == 0 {
            went_on(outlet, retry, *position);
        }
        loop {
            let head = heads.borrow().position;
            if retry.is_failing() && *position >= head {
                went_on(outlet, retry, *position);
            }
            // No more than there is: what is little is read faster.
            let due = usize::try_from(head.saturating_sub(sent)).unwrap_or(usize::MAX);
            let due = due.min(CHUNK_EVENTS_MAX).min(outlet.room());
            if due > 0 {
                let records = journal.read(sent, due).await;
                let records = records.map_err(|error| Interrupted::Failed(error.to_string()))?;
                if let Some(last) = records.last().map(|record| record.position) {
                    outlet.send(records).await?;
                    sent = last;
                    continue;
                }
            }
            let has_room = outlet.room() > 0;
            tokio::select! {
                arrived = outlet.arrived() => {
                    *position = arrived?;
                    checkpoint.note(*position);
                    if outlet.has_taken() {
                        *restarts = 0;
                        if retry.is_failing() {
                            went_on(outlet, retry, *position);
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

fn went_on(outlet: &mut impl Outlet, retry: &mut Retry, position: u64) {
    if retry.went_on() {
        tracing::info!(position, "{} are published again", outlet.about());
    }
    outlet.report(None);
}

#[cfg(test)]
mod tests;
