//! Session states for watchers of the key-value bucket, folded from the journal.
//!
//! *Promises.* A key has the state after the session's last event that is in the bucket, and its
//! position; states are put in the order of positions. Of events that are read together only the
//! last state is put.
//!
//! *Limits.* `FOLDED_MAX` sessions are kept folded in memory; others are folded again from their
//! stream.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ai_factory_actors::{
    decider::Decider as _,
    session::state::{Session, StepState},
};
use ai_factory_ports::{
    bus::{Message, header},
    journal::Journal,
};
use ai_factory_schemas::{
    envelope::Recorded,
    event::Event,
    id::{Category, RequestId, SessionId, StreamId},
    plan::TaskType,
    session::{SessionEnd, SessionPhase},
    time::Timestamp,
};
use ai_factory_tail::TailRecord;
use serde::Serialize;

use super::events::{interruption, known_position, mark};
use crate::{
    nats::{JournalStream, SessionsBucket},
    projection::Projections,
    relay::{Interruption, Sink},
};

/// The name under which the bucket's creation time is recorded.
const BUCKET_MADE: &str = "relay-sessions-made";
/// The name of the checkpoint.
pub(super) const RELAY_SESSIONS: &str = "relay-sessions";
/// Sessions kept folded in memory.
const FOLDED_MAX: usize = 4_096;
/// Characters of goal and summary in a state, at most; the journal has the complete texts.
const TEXT_CHARS_MAX: usize = 1_024;

/// The value of a key in the bucket.
#[derive(Debug, Serialize)]
struct SessionSnapshot<'a> {
    session_id: SessionId,
    /// How far it has come.
    status: SessionPhase,
    /// The kind of end, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<SessionEnd>,
    goal: String,
    task_type: TaskType,
    request_id: &'a RequestId,
    opened_at: Timestamp,
    updated_at: Timestamp,
    /// The position of its last event.
    position: u64,
    /// The number of its events.
    version: u64,
    /// The number of steps in each state.
    steps: BTreeMap<&'static str, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// A session, folded up to a version.
#[derive(Default)]
struct CachedSession {
    session: Session,
    opened_at: Timestamp,
    version: u64,
}

/// The sink into the bucket.
pub(super) struct SessionBucketSink {
    journal: Arc<dyn Journal>,
    projections: Arc<Projections>,
    bucket: SessionsBucket,
    stream: JournalStream,
    has_stream: bool,
    folded: HashMap<StreamId, CachedSession>,
}

impl SessionBucketSink {
    pub(super) fn new(
        journal: &Arc<dyn Journal>,
        projections: &Arc<Projections>,
        stream: JournalStream,
        bucket: SessionsBucket,
    ) -> Self {
        Self {
            journal: Arc::clone(journal),
            projections: Arc::clone(projections),
            bucket,
            stream,
            has_stream: false,
            folded: HashMap::new(),
        }
    }

    /// Folds one more event; if the session is not folded up to it, from its stream.
    async fn fold(&mut self, recorded: &Recorded) -> Result<(), String> {
        let Event::Session(event) = &recorded.event else { return Ok(()) };
        let known = self.folded.get_mut(&recorded.stream);
        if let Some(folded) = known.filter(|folded| folded.version + 1 == recorded.version) {
            folded.session.evolve(event).map_err(|error| error.to_string())?;
            folded.version = recorded.version;
            return Ok(());
        }
        let journal = Arc::clone(&self.journal);
        let history = journal.load(recorded.stream, 0).await.map_err(|error| error.to_string())?;
        let mut folded = CachedSession { opened_at: recorded.time, ..CachedSession::default() };
        for earlier in history.iter().take_while(|earlier| earlier.version <= recorded.version) {
            if earlier.version == 1 {
                folded.opened_at = earlier.time;
            }
            if let Event::Session(event) = &earlier.event {
                folded.session.evolve(event).map_err(|error| error.to_string())?;
            }
        }
        folded.version = recorded.version;
        if self.folded.len() >= FOLDED_MAX {
            self.folded.clear();
        }
        self.folded.insert(recorded.stream, folded);
        Ok(())
    }

    /// The message with the state after a folded event.
    fn put(&mut self, last: &Recorded, journal_id: &str) -> Result<Message, String> {
        let id = SessionId(last.stream.id);
        let folded = self.folded.get(&last.stream).ok_or("the session is not folded")?;
        let state = state(id, folded, last).ok_or("the session was not opened")?;
        let payload = serde_json::to_vec(&state).map_err(|error| error.to_string())?;
        let is_over = state.end.is_some();
        if is_over {
            self.folded.remove(&last.stream);
        }
        let subject = self.bucket.subject(id).map_err(|error| error.to_string())?;
        let mut message = Message::new(subject, payload);
        message.headers.set(header::MESSAGE_ID, last.id.to_string());
        message.headers.set(header::POSITION, last.position.to_string());
        message.headers.set(header::JOURNAL, journal_id);
        Ok(message)
    }
}

fn state<'a>(
    id: SessionId,
    folded: &'a CachedSession,
    last: &Recorded,
) -> Option<SessionSnapshot<'a>> {
    let session = &folded.session;
    let opened = session.opened()?;
    let concluded = session.concluded();
    let mut steps = BTreeMap::new();
    for step in session.steps() {
        *steps.entry(word(step)).or_default() += 1;
    }
    let cut = |text: &str| text.chars().take(TEXT_CHARS_MAX).collect::<String>();
    Some(SessionSnapshot {
        session_id: id,
        status: session.phase(),
        end: concluded.map(|concluded| concluded.end),
        goal: cut(&opened.goal),
        task_type: opened.task_type,
        request_id: &opened.request_id,
        opened_at: folded.opened_at,
        updated_at: last.time,
        position: last.position,
        version: last.version,
        steps,
        summary: concluded.map(|concluded| cut(&concluded.summary)),
        reason: concluded.and_then(|concluded| concluded.reason.as_deref()),
    })
}

fn word(step: &StepState) -> &'static str {
    match step {
        StepState::Planned => "planned",
        StepState::Dispatched { .. } => "running",
        StepState::Unknown { .. } => "unknown",
        StepState::Finished(_) => "finished",
        StepState::Skipped(_) => "skipped",
        StepState::Failed(_) => "failed",
    }
}

/// The positions of session records; each with whether it is its session's last one here.
fn of_sessions(records: &[TailRecord]) -> Result<HashMap<u64, bool>, String> {
    let mut last = HashMap::new();
    let mut found = HashMap::new();
    for record in records {
        let routing = record.routing().map_err(ToString::to_string)?;
        if routing.stream.category != Category::Session {
            continue;
        }
        found.insert(record.position(), true);
        if let Some(earlier) = last.insert(routing.stream, record.position()) {
            found.insert(earlier, false);
        }
    }
    Ok(found)
}

#[async_trait::async_trait]
impl Sink for SessionBucketSink {
    async fn resume(&mut self, checkpoint: u64) -> Result<u64, Interruption> {
        self.folded.clear();
        let known =
            known_position(&*self.journal, &self.projections, BUCKET_MADE, checkpoint).await?;
        let resumed = self.stream.resume(&known).await.map_err(interruption)?;
        self.has_stream = resumed.is_some();
        let Some(resumed) = resumed else { return Ok(checkpoint) };
        self.projections.note_checkpoint(RELAY_SESSIONS, resumed.position);
        self.projections.note_checkpoint(BUCKET_MADE, resumed.made_ns);
        Ok(resumed.position)
    }

    fn room(&self) -> usize {
        if self.has_stream { self.stream.room() } else { 0 }
    }

    fn has_taken(&mut self) -> bool {
        self.stream.has_taken()
    }

    fn report(&mut self, trouble: Option<&str>) {
        self.stream.report(trouble);
    }

    fn about(&self) -> &'static str {
        self.stream.about()
    }

    async fn send(&mut self, records: Vec<TailRecord>) -> Result<(), Interruption> {
        let journal_id = mark(&*self.journal).await?.map(|mark| mark.id).unwrap_or_default();
        let of_sessions = of_sessions(&records).map_err(Interruption::Failed)?;
        for record in &records {
            let Some(is_last) = of_sessions.get(&record.position()) else {
                self.stream.skip(record.position());
                continue;
            };
            let recorded =
                record.event().map_err(|error| Interruption::Failed(error.to_string()))?;
            self.fold(recorded).await.map_err(Interruption::Failed)?;
            if *is_last {
                let message = self.put(recorded, &journal_id).map_err(Interruption::Failed)?;
                self.stream.send(record.position(), message).await.map_err(interruption)?;
            } else {
                self.stream.skip(record.position());
            }
        }
        Ok(())
    }

    async fn arrived(&mut self) -> Result<u64, Interruption> {
        if self.has_stream {
            return self.stream.arrived().await.map_err(interruption);
        }
        self.stream.reconnected().await;
        Err(Interruption::Restart)
    }
}
