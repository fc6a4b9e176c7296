//! A stream filled from a journal: acknowledged, in order, each message once.
//!
//! *Promises.* It continues after the journal's last event in the stream. A stream that was created
//! again, because the server lost its store, is filled from the beginning; what its limits removed
//! is not published again.
//!
//! *Limits.* Events that the server or the stream can never accept, because they are too large or
//! the stream is full for their subject, are left out, logged and counted in the health report;
//! they can be read from the journal by position. Up to `LEFT_OUT_MAX` of their positions are kept
//! in memory, and found again after a start.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ai_factory_ports::bus::Message;
use async_nats::jetstream::stream::Config;
use tokio::time::Instant;

use super::{
    context::context,
    ensure::{Trouble, ensure},
    link::Link,
    pipeline::{Bounds, Pipeline, StreamError},
    resume_point::{JournalMark, last_position},
};
use crate::bus::NatsBus;

/// Positions of left-out events that are kept. A forgotten one is tried once more.
const LEFT_OUT_MAX: usize = 65_536;

/// Maximum age of the cached stream limits when they leave an event out: the stream's owner may
/// change them.
const BOUNDS_AGE_MAX: Duration = Duration::from_secs(5);

/// The point from which publication continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// The stream has everything up to this position.
    pub position: u64,
    /// The stream's creation time, in nanoseconds since 1970: it identifies the stream.
    pub made_ns: u64,
}

/// The state known at a resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPosition {
    /// The journal; `None` while it is empty.
    pub journal: Option<JournalMark>,
    /// The journal's last position.
    pub head: u64,
    /// The recorded position up to which the stream had everything.
    pub checkpoint: u64,
    /// [`ResumePoint::made_ns`] of that stream.
    pub made_ns: u64,
}

/// A stream filled from a journal, over a connection that may be lost.
pub struct JournalStream {
    link: Link,
    wanted: Config,
    setting: &'static str,
    about: &'static str,
    pipeline: Pipeline,
    /// Positions of the events that the stream does not accept.
    left_out: BTreeSet<u64>,
    /// The stream of the last look-up: creation time and limits.
    found: (u64, Bounds),
    /// The time of that look-up.
    found_at: Instant,
    /// Whether an event was left out since the last call of [`Self::has_taken`].
    has_left_out: bool,
}

impl JournalStream {
    /// The stream that `wanted` describes and `setting` names; `about` names its content. Sends
    /// nothing to the server yet.
    pub(super) fn new(
        bus: Arc<NatsBus>,
        wanted: Config,
        setting: &'static str,
        about: &'static str,
    ) -> Self {
        let pipeline = Pipeline::new(context(&bus.client));
        Self {
            link: Link::new(bus),
            wanted,
            setting,
            about,
            pipeline,
            left_out: BTreeSet::new(),
            found: (0, Bounds::default()),
            found_at: Instant::now(),
            has_left_out: false,
        }
    }

    /// Waits for a connection, finds or creates the stream, and determines where to continue.
    /// `None` without JetStream.
    pub async fn resume(
        &mut self,
        known: &KnownPosition,
    ) -> Result<Option<ResumePoint>, StreamError> {
        let found = if self.link.up().await? { self.find(known).await } else { Ok(None) };
        match found {
            Err(Trouble::NoJetStream) => Ok(None),
            found => found.map_err(|trouble| StreamError::Failed(trouble.to_string())),
        }
    }

    async fn find(&mut self, known: &KnownPosition) -> Result<Option<ResumePoint>, Trouble> {
        let context = context(&self.link.bus.client);
        let stream = ensure(&context, self.wanted.clone(), self.setting).await?;
        self.pipeline.restart(context.clone());
        let made_ns = stream.cached_info().created.unix_timestamp_nanos();
        let made_ns = u64::try_from(made_ns).unwrap_or_default();
        let last = match &known.journal {
            Some(journal) => last_position(&context, &stream, journal).await?,
            None => None,
        };
        let position = match last {
            Some(last) if last > known.head => {
                tracing::error!(
                    stream = self.wanted.name,
                    last,
                    head = known.head,
                    "the stream has more events of this journal than the journal itself: the journal was restored from an older copy"
                );
                known.head
            }
            Some(last) => last,
            // The same stream as before: its events were removed, by its limits or by hand.
            None if made_ns == known.made_ns => known.checkpoint,
            None => 0,
        };
        if position < known.checkpoint {
            let (checkpoint, stream) = (known.checkpoint, &self.wanted.name);
            tracing::info!(
                stream,
                position,
                checkpoint,
                "continuing after the last message of this journal in the stream"
            );
        }
        self.has_found(made_ns, Bounds::of(&stream.cached_info().config), position);
        Ok(Some(ResumePoint { position, made_ns }))
    }

    /// Records the stream that was found. Another stream may accept what this one left out, and so
    /// may the same one with other limits, for positions still ahead.
    fn has_found(&mut self, made_ns: u64, bounds: Bounds, position: u64) {
        let health = &self.link.bus.health;
        self.found_at = Instant::now();
        if self.found.0 != made_ns {
            self.left_out.clear();
            health.tried_again(self.about, u64::MAX);
        } else if self.found.1 != bounds {
            let ahead = self.left_out.split_off(&(position + 1));
            health.tried_again(self.about, ahead.len() as u64);
        }
        self.found = (made_ns, bounds);
    }

    /// How many messages may be sent at the moment.
    pub fn room(&self) -> usize {
        self.pipeline.room()
    }

    /// Whether the stream accepted an event, or an event was left out, since the last call.
    pub fn has_taken(&mut self) -> bool {
        self.pipeline.has_taken() | std::mem::take(&mut self.has_left_out)
    }

    /// Sets the reason why events wait; `None` if they do not.
    pub fn report(&self, trouble: Option<&str>) {
        self.link.bus.note_trouble(self.about, trouble.map(str::to_owned));
    }

    /// The name of the stream's content.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// Sends the event of a position without waiting for the acknowledgement. Positions are in
    /// order.
    pub async fn send(&mut self, position: u64, message: Message) -> Result<(), StreamError> {
        self.link.ensure_up()?;
        if self.left_out.contains(&position) {
            self.pipeline.skip(position);
            return Ok(());
        }
        let sent = match self.found.1.refuse(&message) {
            Some(_) if self.found_at.elapsed() > BOUNDS_AGE_MAX => {
                return Err(StreamError::Restart);
            }
            Some(reason) => Err(StreamError::Refused { position, reason }),
            None => self.pipeline.send(position, message).await,
        };
        match sent {
            Err(StreamError::Refused { position, reason }) => {
                self.leave_out(position, &reason);
                self.pipeline.skip(position);
                Ok(())
            }
            sent => sent,
        }
    }

    fn leave_out(&mut self, position: u64, reason: &str) {
        if self.left_out.len() >= LEFT_OUT_MAX {
            self.left_out.pop_first();
        }
        if self.left_out.insert(position) {
            self.has_left_out = true;
            self.link.bus.health.left_out(self.about, position, reason);
        }
    }

    /// Waits for another connection, which may lead to another server. Cancel safe.
    pub async fn reconnected(&mut self) {
        self.link.changed().await;
    }

    /// Records that the next position needs no message.
    pub fn skip(&mut self, position: u64) {
        self.pipeline.skip(position);
    }

    /// Waits for further acknowledgements and returns the position up to which everything has
    /// arrived. Cancel safe.
    pub async fn arrived(&mut self) -> Result<u64, StreamError> {
        let arrived = tokio::select! {
            biased;
            arrived = self.pipeline.arrived() => arrived,
            // Another server may have another stream, or none.
            () = self.link.changed() => Err(StreamError::Restart),
        };
        if let Err(StreamError::Refused { position, reason }) = &arrived {
            self.leave_out(*position, reason);
            return Err(StreamError::Restart);
        }
        arrived
    }
}
