//! A stream that is filled from a journal: acknowledged, in order, each message once.
//!
//! *Promises.* It goes on behind the last event of the journal that the stream has. A stream that was made anew, because
//! the server lost its store, is filled from the beginning; what its limits have removed is not published again.
//!
//! *Limits.* Events larger than the server or the stream takes are left out: who needs one reads it from the journal by
//! its position.

use std::sync::Arc;

use ai_factory_actors::ports::bus::Message;
use async_nats::jetstream::stream::Config;

use super::{
    Trouble, context, ensure,
    link::Link,
    pipeline::{Broken, Pipeline},
    place::{JournalMark, last_position},
};
use crate::bus::nats::NatsBus;

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
    /// An event that the stream does not take.
    left_out: Option<u64>,
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
        Self { link: Link::new(bus), wanted, setting, about, pipeline, left_out: None }
    }

    /// Waits for a connection, finds or makes the stream, and looks where to go on. `None` where there is no JetStream.
    pub async fn resume(&mut self, known: &Known) -> Result<Option<Resumed>, Broken> {
        let found = if self.link.up().await? { self.find(known).await } else { Ok(None) };
        let found = match found {
            Err(Trouble::NoJetStream) => Ok(None),
            found => found.map_err(|trouble| Broken::Failed(trouble.to_string())),
        };
        let unfit = found.as_ref().err().map(ToString::to_string);
        self.link.bus.note_trouble(self.about, unfit);
        found
    }

    async fn find(&mut self, known: &Known) -> Result<Option<Resumed>, Trouble> {
        let context = context(&self.link.bus.client);
        let stream = ensure(&context, self.wanted.clone(), self.setting).await?;
        self.pipeline.restart(context);
        let made_ns = stream.cached_info().created.unix_timestamp_nanos();
        let made_ns = u64::try_from(made_ns).unwrap_or_default();
        let last = match &known.journal {
            Some(journal) => last_position(&stream, journal).await?,
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
        Ok(Some(Resumed { position, made_ns }))
    }

    /// Whether more may be sent now.
    pub fn has_room(&self) -> bool {
        self.pipeline.has_room()
    }

    /// Sends the event of a position, and does not wait for it to arrive. Positions come in order.
    pub async fn send(&mut self, position: u64, message: Message) -> Result<(), Broken> {
        self.link.must_be_up()?;
        let sent = if self.left_out == Some(position) {
            Err(Broken::TooLarge(position))
        } else {
            self.pipeline.send(position, message).await
        };
        match sent {
            Err(error @ Broken::TooLarge(_)) => {
                tracing::error!(%error, "an event was not published");
                self.pipeline.skip(position);
                Ok(())
            }
            sent => sent,
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
        if let Err(Broken::TooLarge(position)) = arrived {
            self.left_out = Some(position);
            return Err(Broken::Anew);
        }
        arrived
    }
}
