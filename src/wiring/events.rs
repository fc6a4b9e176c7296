//! Publication of events to NATS: into the stream if the server has JetStream, otherwise to current
//! subscribers.

use std::sync::Arc;

use ai_factory_ports::{bus::Bus, journal::Journal, trace::Traces};
use ai_factory_schemas::{envelope::Recorded, subject::Subjects};
use ai_factory_tail::TailRecord;

use crate::{
    bus::TracedBus,
    nats::{JournalMark, JournalStream, KnownPosition, NatsBus, StreamError, StreamsSettings},
    projection::Projections,
    relay::{BusSink, EventMessages, Interruption, Sink},
};

/// The name of the checkpoint of the relay to NATS.
pub(super) const RELAY_NATS: &str = "relay-nats";
/// The name under which the creation time of the stream of events is recorded.
const STREAM_MADE: &str = "relay-nats-made";

/// The sink for events to NATS.
pub(super) struct NatsEventSink {
    journal: Arc<dyn Journal>,
    projections: Arc<Projections>,
    messages: EventMessages,
    traced: Arc<TracedBus>,
    stream: JournalStream,
    core: BusSink,
    has_stream: bool,
}

impl NatsEventSink {
    pub(super) fn new(
        journal: &Arc<dyn Journal>,
        projections: &Arc<Projections>,
        nats: &Arc<NatsBus>,
        traces: &Arc<dyn Traces>,
        (subjects, settings): (&Subjects, &StreamsSettings),
    ) -> Self {
        let bus = Arc::new(TracedBus::new(Arc::clone(nats) as Arc<dyn Bus>, Arc::clone(traces)));
        let messages = || EventMessages::new(Arc::clone(journal), subjects.clone());
        let (stream, health) =
            (JournalStream::of_events(Arc::clone(nats), settings, subjects), Arc::clone(nats));
        let about = stream.about();
        Self {
            journal: Arc::clone(journal),
            projections: Arc::clone(projections),
            messages: messages(),
            core: BusSink::new(Arc::clone(&bus) as Arc<dyn Bus>, messages())
                .on_left_out(move |position, why| health.note_left_out(about, position, why)),
            traced: bus,
            stream,
            has_stream: false,
        }
    }
}

/// The journal's identity in a stream; `None` while it is empty.
pub(super) async fn mark(journal: &dyn Journal) -> Result<Option<JournalMark>, Interruption> {
    let failed = |error: String| Interruption::Failed(error);
    let first = journal.read(0, 1).await.map_err(|error| failed(error.to_string()))?;
    let Some(first) = first.first() else { return Ok(None) };
    let first = Recorded::decode(&first.bytes).map_err(|error| failed(error.to_string()))?;
    Ok(Some(JournalMark { id: first.id.to_string(), since_us: first.time.as_micros() }))
}

/// The known state of a journal in a stream; `made` is the name under which the stream's creation
/// time is recorded.
pub(super) async fn known_position(
    journal: &dyn Journal,
    projections: &Projections,
    made: &str,
    checkpoint: u64,
) -> Result<KnownPosition, Interruption> {
    Ok(KnownPosition {
        journal: mark(journal).await?,
        head: journal.head().position,
        checkpoint,
        made_ns: projections.checkpoint(made).unwrap_or_default(),
    })
}

pub(super) fn interruption(broken: StreamError) -> Interruption {
    match broken {
        StreamError::Restart => Interruption::Restart,
        broken => Interruption::Failed(broken.to_string()),
    }
}

#[async_trait::async_trait]
impl Sink for NatsEventSink {
    async fn resume(&mut self, checkpoint: u64) -> Result<u64, Interruption> {
        let known =
            known_position(&*self.journal, &self.projections, STREAM_MADE, checkpoint).await?;
        let Some(resumed) = self.stream.resume(&known).await.map_err(interruption)? else {
            self.has_stream = false;
            return self.core.resume(checkpoint).await;
        };
        self.has_stream = true;
        // In this order: a position in another stream must not be taken for one in this stream.
        self.projections.note_checkpoint(RELAY_NATS, resumed.position);
        self.projections.note_checkpoint(STREAM_MADE, resumed.made_ns);
        Ok(resumed.position)
    }

    fn room(&self) -> usize {
        if self.has_stream { self.stream.room() } else { self.core.room() }
    }

    fn has_taken(&mut self) -> bool {
        !self.has_stream || self.stream.has_taken()
    }

    fn report(&mut self, trouble: Option<&str>) {
        self.stream.report(trouble);
    }

    fn about(&self) -> &'static str {
        self.stream.about()
    }

    async fn send(&mut self, records: Vec<TailRecord>) -> Result<(), Interruption> {
        if !self.has_stream {
            return self.core.send(records).await;
        }
        let mut messages = self.messages.of(&records).await.map_err(Interruption::Failed)?;
        self.traced.trace_all(&mut messages);
        for (record, message) in records.iter().zip(messages) {
            self.stream.send(record.position(), message).await.map_err(interruption)?;
        }
        Ok(())
    }

    async fn arrived(&mut self) -> Result<u64, Interruption> {
        if self.has_stream {
            return self.stream.arrived().await.map_err(interruption);
        }
        tokio::select! {
            biased;
            arrived = self.core.arrived() => arrived,
            () = self.stream.reconnected() => Err(Interruption::Restart),
        }
    }
}
