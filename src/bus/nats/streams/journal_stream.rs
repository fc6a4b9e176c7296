//! A stream that is filled from a journal: acknowledged, in order, each message once.
//!
//! *Promises.* It goes on behind the last event of the journal that the stream has. A stream that was made anew, because
//! the server lost its store, is filled from the beginning; what its limits have removed is not published again.
//!
//! *Limits.* Events that the server or the stream can never take, for their size or because it is full for their subject, are
//! left out, named in the log and counted in the report of health: who needs one reads it from the journal by its position.
//! Which they are is kept in memory, for `LEFT_OUT_MAX` of them, and found out anew after a start.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ai_factory_actors::ports::bus::Message;
use async_nats::jetstream::stream::Config;
use tokio::time::Instant;

use super::{
    Trouble, context, ensure,
    link::Link,
    pipeline::{Bounds, Broken, Pipeline},
    place::{JournalMark, last_position},
};
use crate::bus::nats::NatsBus;

/// How many positions that were left out are kept. One that is forgotten is tried once more.
const LEFT_OUT_MAX: usize = 65_536;

/// For how long the bounds of a stream are believed where they leave something out: its owner may change them.
const BOUNDS_AGE_MAX: Duration = Duration::from_secs(5);

/// Where publication goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Up to this position everything is there.
    pub position: u64,
    /// When the stream was made, in nanoseconds since 1970: another one has another time.
    pub made_ns: u64,
}

/// What was known before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The journal; `None` while it is empty.
    pub journal: Option<JournalMark>,
    /// The end of the journal.
    pub head: u64,
    /// Up to which position the stream had everything, as was noted.
    pub checkpoint: u64,
    /// The [`Resumed::made_ns`] of that stream.
    pub made_ns: u64,
}

/// A stream that is filled from a journal, over a connection that may come and go.
pub struct JournalStream {
    link: Link,
    wanted: Config,
    setting: &'static str,
    about: &'static str,
    pipeline: Pipeline,
    /// The events that the stream does not take.
    left_out: BTreeSet<u64>,
    /// The stream that was found last: when it was made, and with which bounds.
    found: (u64, Bounds),
    /// When that was.
    found_at: Instant,
    /// Whether another one was left out since that was last asked.
    has_left_out: bool,
}

impl JournalStream {
    /// The stream that `wanted` describes and the setting names; `about` is what it has. Nothing is asked of the server yet.
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

    /// Waits for a connection, finds or makes the stream, and looks where to go on. `None` where there is no JetStream.
    pub async fn resume(&mut self, known: &Known) -> Result<Option<Resumed>, Broken> {
        let found = if self.link.up().await? { self.find(known).await } else { Ok(None) };
        match found {
            Err(Trouble::NoJetStream) => Ok(None),
            found => found.map_err(|trouble| Broken::Failed(trouble.to_string())),
        }
    }

    async fn find(&mut self, known: &Known) -> Result<Option<Resumed>, Trouble> {
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
                    "the stream has more events of this journal than the journal itself: an older copy of it was brought back"
                );
                known.head
            }
            Some(last) => last,
            // The same stream as before: what it had was removed by its limits, or by somebody.
            None if made_ns == known.made_ns => known.checkpoint,
            None => 0,
        };
        if position < known.checkpoint {
            let (checkpoint, stream) = (known.checkpoint, &self.wanted.name);
            tracing::info!(
                stream,
                position,
                checkpoint,
                "going on behind the last message of this journal in the stream"
            );
        }
        self.has_found(made_ns, Bounds::of(&stream.cached_info().config), position);
        Ok(Some(Resumed { position, made_ns }))
    }

    /// Notes which stream was found. Another one may take what this one left out, and so may the same one with other bounds,
    /// as far as that is still ahead.
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

    /// How many messages may be sent now.
    pub fn room(&self) -> usize {
        self.pipeline.room()
    }

    /// Whether the stream has taken something, or something was found to be left out, since this was last asked.
    pub fn has_taken(&mut self) -> bool {
        self.pipeline.has_taken() | std::mem::take(&mut self.has_left_out)
    }

    /// Notes why what is due waits, or that it goes on.
    pub fn report(&self, trouble: Option<&str>) {
        self.link.bus.note_trouble(self.about, trouble.map(str::to_owned));
    }

    /// What the stream has.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// Sends the event of a position, and does not wait for it to arrive. Positions come in order.
    pub async fn send(&mut self, position: u64, message: Message) -> Result<(), Broken> {
        self.link.must_be_up()?;
        if self.left_out.contains(&position) {
            self.pipeline.skip(position);
            return Ok(());
        }
        let sent = match self.found.1.refuse(&message) {
            Some(_) if self.found_at.elapsed() > BOUNDS_AGE_MAX => return Err(Broken::Anew),
            Some(reason) => Err(Broken::Refused { position, reason }),
            None => self.pipeline.send(position, message).await,
        };
        match sent {
            Err(Broken::Refused { position, reason }) => {
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

    /// Waits for another connection: it may lead to another server. May be dropped and called again.
    pub async fn reconnected(&mut self) {
        self.link.changed().await;
    }

    /// Notes that the next position needs no message.
    pub fn skip(&mut self, position: u64) {
        self.pipeline.skip(position);
    }

    /// Waits until more has arrived, and tells up to which position everything has. May be dropped and called again.
    pub async fn arrived(&mut self) -> Result<u64, Broken> {
        let arrived = tokio::select! {
            biased;
            arrived = self.pipeline.arrived() => arrived,
            // Another server may have another stream, or none.
            () = self.link.changed() => Err(Broken::Anew),
        };
        if let Err(Broken::Refused { position, reason }) = &arrived {
            self.leave_out(*position, reason);
            return Err(Broken::Anew);
        }
        arrived
    }
}
